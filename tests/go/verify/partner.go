package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hpke"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A partner system's device, in its first form written from the specification alone. It answers in JSON:
//
//	init ADDRESS RELAY STATEMENT      make keys; the request for STATEMENT's authority is ADDRESS.request
//	stock                             publish four key packages, one of them of last resort
//	send TO CLASSIFICATION TEXT       send a message under the categories of the agreement with TO's office
//	again                             post the last message once more
//	receive                           read what waits, and acknowledge it
//	logs                              hold the newest access log against the one seen before
//
// It replays the directory (of communities, audit grants and approvers nothing: it relies on none), verifies every proof
// and decides for itself. It refuses what it does not know: successors and alternatives of labels, forwards, groups,
// large parts. It does not read policy files: what a label may say, and obligations, it leaves to the relay.
type partner struct {
	Address, Relay string
	Statement      []byte
	Seeds          []byte // signature and request keys
	Entries        [][]byte
	Access         seenHead
	Packages       map[string][]byte // seeds by kp_ref
	Seen           map[string]bool   // message ids, and devices with sequence numbers
	Sequence, DTG  int64
	Previous, Last []byte // message_ref, submission

	key       deviceKey
	own       office
	vkeys     map[string][]string // by log
	head      checkpoint          // of the directory
	directory *evidence           // its replay
	withdrawn map[string]bool     // agreement ids
	batches   map[string]bool     // device_id and digest
}

type seenHead struct {
	Size int64
	Root []byte
}

func runPartner(folder string, words []string) (found any, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			found, err = nil, fmt.Errorf("%v", problem)
		}
	}()
	p := &partner{Packages: map[string][]byte{}, Seen: map[string]bool{}, Previous: make([]byte, 32)}
	file := filepath.Join(folder, "partner.json")
	if words[0] == "init" {
		p.Address, p.Relay, p.Statement, p.Seeds = words[1], words[2], dearmored(words[3]), random(96)
	} else {
		readJSON(file, p)
	}
	p.wake()
	switch words[0] {
	case "init":
		found = p.request(folder)
	case "stock":
		found = p.stock()
	case "send":
		found = p.send(words[1], words[2], words[3])
	case "again":
		found = p.post()
	case "receive":
		found = p.receive()
	case "logs":
		found = p.logs()
	}
	refuse(found == nil, "partner: %s", words[0])
	return found, os.WriteFile(file, must(json.Marshal(p)), 0o600)
}

func dearmored(path string) []byte {
	lines := strings.Split(strings.TrimSpace(string(must(os.ReadFile(path)))), "\n")
	return must(base64.StdEncoding.DecodeString(strings.Join(lines[1:len(lines)-1], "")))
}

// wake derives keys, and what the authority's statement says: its key, and those of the relay's logs.
func (p *partner) wake() {
	p.key, p.vkeys = keyFrom(p.Seeds), map[string][]string{}
	_, payload, _, err := splitSign1(p.Statement)
	refuse(err != nil, "statement: %v", err)
	stated := must(decode(payload)).(map[int64]any)
	p.own.public = must(asBytes(stated[5], 1984, "statement: key"))
	_, p.own.kid, _, err = verifySign1(p.Statement, p.own.public, "application/relay-statement+cose")
	refuse(err != nil, "statement: %v", err)
	for _, value := range must(asArray(stated[8], -1, "statement: keys")) {
		key := must(parseVkey(value.(string)))
		log := key.name[strings.LastIndex(key.name, "/")+1:]
		p.vkeys[log] = append(p.vkeys[log], value.(string))
	}
	refuse(len(p.vkeys["directory"]) != 2 || len(p.vkeys["access"]) != 2, "statement: not two keys of each log")
}

func (p *partner) request(folder string) any {
	request := p.key.sign("request", map[int64]any{1: 1, 2: p.Address, 3: 1, 4: p.key.public,
		5: []byte(p.key.request.Public().(ed25519.PublicKey)), 6: p.own.kid, 7: time.Now().Unix()})
	text, lines := base64.StdEncoding.EncodeToString(request), ""
	for part := range slices.Chunk([]byte(text), 64) {
		lines += string(part) + "\n"
	}
	text = "-----BEGIN LIAISON REQUEST-----\n" + lines + "-----END LIAISON REQUEST-----\n"
	must(0, os.WriteFile(filepath.Join(folder, p.Address+".request"), []byte(text), 0o644))
	return map[string]any{"device": hex.EncodeToString(p.key.device())}
}

func (p *partner) ask(method, path string, body []byte) []byte {
	return p.key.ask(p.Relay, method, path, body, p.Access.Size)
}

// opened verifies a checkpoint of one log, by both of its keys.
func (p *partner) opened(log string, note []byte) checkpoint {
	stated := must(openCheckpoint(note, p.vkeys[log]))
	refuse(stated.origin != must(parseVkey(p.vkeys[log][0])).name, "checkpoint: of another log")
	return stated
}

// look fetches what is new of the directory and replays all of it.
func (p *partner) look() {
	for more := true; more; more = int64(len(p.Entries)) < p.head.size {
		answer := must(readArray(p.ask("GET", fmt.Sprintf("/v1/directory?after=%d", len(p.Entries)), nil), 2, "directory"))
		p.head = p.opened("directory", must(asBytes(answer[0], -1, "checkpoint")))
		for _, entry := range must(asArray(answer[1], -1, "entries")) {
			p.Entries = append(p.Entries, must(asBytes(entry, -1, "entry")))
		}
	}
	refuse(int64(len(p.Entries)) != p.head.size || p.rootAt(p.head.size) != p.head.root, "directory: not the signed one")
	p.directory = &evidence{
		offices: map[string]office{}, devices: map[string]*certified{}, keys: map[string]string{},
		agreements: map[string]map[string]int64{},
	}
	p.withdrawn, p.batches = map[string]bool{}, map[string]bool{}
	dated := &dating{log: "directory", signedAt: p.head.signedAt}
	for _, entry := range p.Entries {
		fields := must(readArray(entry, -1, "directory entry"))
		refuse(len(fields) != 5 && len(fields) != 6, "directory entry: not an array of 5 or 6")
		dated.take(fields[2])
		p.apply(fields[1].(string), entryTime(fields[2]), must(asBytes(fields[4], -1, "payload")))
	}
	self := p.directory.devices[string(p.key.device())]
	refuse(self == nil || self.address != p.Address || !self.couldSign(time.Now().Unix()), "not enrolled")
	refuse(!bytes.Equal(p.directory.offices[self.office].kid, p.own.kid), "our office has another authority")
}

func (p *partner) rootAt(size int64) hash {
	leaves := []hash{}
	for _, entry := range p.Entries[:size] {
		leaves = append(leaves, leafHash(entry))
	}
	return treeRoot(leaves)
}

func (p *partner) apply(change string, at int64, payload []byte) {
	switch change {
	case "office-removed":
		delete(p.directory.offices, must(readArray(payload, 1, change))[0].(string))
	case "key-batch":
		batch := must(readArray(payload, 2, change))
		p.batches[string(batch[0].([]byte))+string(batch[1].([]byte))] = true
	case "withdrawal":
		_, inner, _, err := splitSign1(payload)
		refuse(err != nil, "withdrawal: %v", err)
		fields := must(decode(inner)).(map[int64]any)
		_, _, _, err = verifySign1(payload, p.directory.offices[fields[3].(string)].public, "application/relay-withdrawal+cose")
		refuse(err != nil, "withdrawal: %v", err)
		p.withdrawn[string(fields[2].([]byte))] = true
	case "community", "roster", "audit-grant", "approvers", "relay-approvers":
	default:
		err := p.directory.apply(change, at, payload)
		refuse(err != nil, "directory entry, %s: %v", change, err)
	}
}

func (p *partner) stock() any {
	p.look()
	now, packages, refs := time.Now().Unix(), []any{}, [][]byte{}
	for serial, days := range []int64{60, 60, 60, 7} {
		seed := random(32)
		public := must(hpke.MLKEM768X25519().NewPrivateKey(seed)).PublicKey().Bytes()
		encoded := encode([]any{1, p.key.device(), algKEM, public, now, now + days*86400, days == 60, serial})
		p.Packages[hex.EncodeToString(sum(encoded))] = seed
		packages, refs = append(packages, encoded), append(refs, sum(encoded))
	}
	slices.SortFunc(refs, bytes.Compare)
	listed := []any{}
	for _, ref := range refs {
		listed = append(listed, ref)
	}
	batch := p.key.sign("keybatch", []any{1, p.key.device(), now, listed})
	answer := must(readArray(p.ask("POST", "/v1/keys", encode([]any{batch, packages})), 2, "stock"))
	return map[string]any{"stock": answer[0]}
}

func (p *partner) logs() any {
	before, stated := p.Access, p.opened("access", p.ask("GET", "/v1/log/access/checkpoint?newest=true", nil))
	proof := []byte{0x80}
	if before.Size > 0 {
		proof = p.ask("GET", fmt.Sprintf("/v1/log/access/consistency?old=%d&new=%d", before.Size, stated.size), nil)
	}
	p.advance(stated, must(decode(proof)))
	return map[string]any{"before": before.Size, "now": stated.size}
}

// advance holds a checkpoint of the access log against the newest one seen, whichever of the two is older.
func (p *partner) advance(stated checkpoint, proof any) {
	hashes, shown := must(asHashes(proof, "consistency")), seenHead{stated.size, stated.root[:]}
	old, new := p.Access, shown
	if shown.Size < p.Access.Size {
		old, new = shown, p.Access
	} else {
		p.Access = shown
	}
	if old.Size == 0 {
		return
	}
	err := verifyConsistency(old.Size, hash(old.Root), new.Size, hash(new.Root), hashes)
	refuse(err != nil, "access log: %v", err)
}
