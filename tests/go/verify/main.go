// Verify is a second implementation of what a reader and an auditor check, written from the specification
// on Go's standard library alone. It shares no code with the first one, and is not for production.
//
//	verify message FIXTURE.json   verify and decrypt one delivery; the plaintexts go to stdout as JSON
//	verify order FIXTURE.json     verify one signed order, or the approvals that something takes; what it states goes to stdout
//	verify log DIRECTORY          verify a published log: checkpoint, entries, tiles, proofs
//	verify evidence FILE.zip [VKEY...]   verify an evidence package, under these keys of the relay if any are given
//	verify partner FOLDER COMMAND...     a partner system's device, with its keys in FOLDER: see partner.go
//
// Exit 0 if every check held, 5 if one failed (it is named on stderr), 2 for anything else.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 3 || len(os.Args) > 3 && os.Args[1] != "evidence" && os.Args[1] != "partner" {
		fmt.Fprintln(os.Stderr, "usage: verify message FIXTURE.json | order FIXTURE.json | log DIRECTORY | evidence FILE.zip [VKEY...] |",
			"partner FOLDER COMMAND...")
		os.Exit(2)
	}
	var found any
	var err error
	switch os.Args[1] {
	case "message":
		found, err = verifyMessage(os.Args[2])
	case "order":
		found, err = verifyOrder(os.Args[2])
	case "log":
		found, err = verifyLog(os.Args[2])
	case "evidence":
		found, err = verifyEvidence(os.Args[2], os.Args[3:])
	case "partner":
		found, err = runPartner(os.Args[2], os.Args[3:])
	default:
		fmt.Fprintln(os.Stderr, "verify: message, order, log, evidence or partner")
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "verify:", err)
		os.Exit(5)
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		os.Exit(2)
	}
}

// readJSON reads a fixture. A fixture that cannot be read is no failed check: it exits 2.
func readJSON(path string, into any) {
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "verify:", err)
		os.Exit(2)
	}
}
