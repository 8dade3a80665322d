package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// An evidence package, verified from the specification's list. Only what the package and the given keys say is believed.

var memberName = regexp.MustCompile(`^(manifest\.cose|message\.cose|grants\.cbor|slot\.cbor|relay\.txt|` +
	`(access|directory)/(checkpoint|[0-9]{10}\.cbor)|receipts/[0-9a-f]{32}-(opened|acknowledged)\.cose|policy/[0-9a-f]{64})$`)

var recallDetail = regexp.MustCompile(`(?s)^(recall|spill)(-held)? [^ ]{64} .`)

var times = map[string][]int64{"office": {7}, "certificate": {11, 12}, "revocation": {5}, "policy": {8}, "agreement": {10, 11}}

type certified struct {
	address, kind       string
	office              string
	public              []byte
	notBefore, notAfter int64
	revokedAt           int64
	roles, clearances   any
}

type office struct{ kid, public []byte }

type published struct {
	office, name, oid string
	spif, extensions  []byte
	version           int64
}

type evidence struct {
	members    map[string][]byte
	manifest   []byte
	id, ref    []byte
	at         int64
	vkeys      map[string][]string
	offices    map[string]office
	devices    map[string]*certified // by device id
	keys       map[string]string     // key, or half of one → signature key of whose it is
	policies   []published
	agreements map[string]map[string]int64 // payload → when each office's signature was logged, in milliseconds
	entries    []map[int64]any
	accept     map[int64]any
	message    *message // nil where only its hash is shown
	exporter   []byte   // device id
	shownBy    string
	grants     map[string][]int64
}

type provenEvidence struct {
	MessageID string `json:"message_id"`
	Entries   int    `json:"entries"`
	HashOnly  bool   `json:"hash_only"`
	ShownBy   string `json:"shown_by"`
}

func must[T any](found T, err error) T {
	if err != nil {
		panic(err)
	}
	return found
}

// refuse ends the verification where something is wrong: verifyEvidence answers with the reason.
func refuse(wrong bool, reason string, about ...any) {
	if wrong {
		panic(fmt.Errorf(reason, about...))
	}
}

// same says whether two values are the same octets.
func same(left, right any) bool {
	a, ok := left.([]byte)
	b, both := right.([]byte)
	return ok && both && bytes.Equal(a, b)
}

// verifyEvidence refuses whatever fails, also by a panic: a value of another type than was expected.
func verifyEvidence(path string, trusted []string) (found any, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			found, err = nil, fmt.Errorf("%v", problem)
		}
	}()
	e := &evidence{
		members: map[string][]byte{}, vkeys: map[string][]string{}, offices: map[string]office{},
		devices: map[string]*certified{}, keys: map[string]string{},
		agreements: map[string]map[string]int64{}, grants: map[string][]int64{},
	}
	e.readFile(path)
	e.readManifest()
	e.readKeys(trusted)
	e.readDirectory()
	e.checkExporter()
	e.readEntries()
	e.checkMessage()
	if grants, whole := e.members["grants.cbor"]; whole {
		e.readGrants(grants)
	} else {
		e.readOwnGrant()
	}
	e.checkOpenings()
	e.checkReceipts()
	e.checkPolicy()
	e.checkAgreements()
	return provenEvidence{hex.EncodeToString(e.id), len(e.entries), e.message == nil, e.shownBy}, nil
}

func (e *evidence) readFile(path string) {
	archive := must(zip.OpenReader(path))
	defer archive.Close()
	refuse(len(archive.File) > 20_000 || archive.Comment != "", "package: too many members, or a comment")
	at, listing := int64(0), int64(22) // each member begins where the one before it ends, and then comes what lists them
	for _, file := range archive.File {
		refuse(!memberName.MatchString(file.Name) || file.Method != zip.Store || file.Flags != 0 ||
			file.CompressedSize64 != file.UncompressedSize64 || len(file.Extra) > 0 || file.Comment != "",
			"package: %q does not belong into one, or is not stored as it is", file.Name)
		_, twice := e.members[file.Name]
		refuse(twice, "package: %s is there twice", file.Name)
		refuse(must(file.DataOffset()) != at+30+int64(len(file.Name)), "package: octets that belong to no member")
		at += 30 + int64(len(file.Name)) + int64(file.UncompressedSize64)
		listing += 46 + int64(len(file.Name))
		refuse(at > 64<<20, "package: larger than 64 MiB")
		e.members[file.Name] = must(io.ReadAll(must(file.Open())))
	}
	refuse(at+listing != must(os.Stat(path)).Size(), "package: octets that belong to no member")
}

func (e *evidence) member(name string) []byte {
	content, ok := e.members[name]
	refuse(!ok, "package: lacks %s", name)
	return content
}

func (e *evidence) readManifest() {
	e.manifest = e.member("manifest.cose")
	delete(e.members, "manifest.cose")
	_, payload, _, err := splitSign1(e.manifest)
	refuse(err != nil, "manifest: %v", err)
	names := make([]string, 0, len(e.members))
	for name := range e.members {
		names = append(names, name)
	}
	sort.Strings(names)
	rows := []any{}
	for _, name := range names {
		sum := sha256.Sum256(e.members[name])
		rows = append(rows, []any{name, int64(len(e.members[name])), sum[:]})
	}
	fields := must(readArray(payload, 5, "manifest"))
	e.id = must(asBytes(fields[1], 16, "manifest: id"))
	e.ref = must(asBytes(fields[2], 32, "manifest: ref"))
	e.at = must(asTime(fields[3], "manifest: time"))
	listed := encode([]any{int64(1), e.id, e.ref, e.at, rows})
	refuse(!bytes.Equal(payload, listed), "package: not what its manifest lists")
}

func (e *evidence) readKeys(trusted []string) {
	stated := e.member("relay.txt")
	lines := strings.Split(strings.TrimSuffix(string(stated), "\n"), "\n")
	agreed := slices.Equal(slices.Sorted(slices.Values(trusted)), slices.Sorted(slices.Values(lines)))
	refuse(len(trusted) > 0 && !agreed, "relay.txt: not the keys that are trusted")
	for _, line := range lines {
		key := must(parseVkey(line))
		log := key.name[strings.LastIndex(key.name, "/")+1:]
		e.vkeys[log] = append(e.vkeys[log], line)
	}
}

// dating refuses an entry that is dated over 60 s before one in front of it, or after the tree with it was signed.
type dating struct {
	log      string
	signedAt int64 // seconds
	latest   int64 // milliseconds
}

func (d *dating) take(value any) {
	at := entryTime(value)
	refuse(at < d.latest-60_000, "%s entry: dated before one in front of it", d.log)
	refuse(at > 60_000 && (at-60_001)/1000 >= d.signedAt, "%s entry: dated after its tree was signed", d.log)
	d.latest = max(d.latest, at)
}

// logged returns a log's members in order, each included under the log's checkpoint, and what dates them.
func (e *evidence) logged(log string) ([][]byte, *dating) {
	note := e.member(log + "/checkpoint")
	kinds := map[byte]bool{}
	for _, line := range e.vkeys[log] {
		key, _ := parseVkey(line)
		kinds[key.kind] = true
	}
	refuse(len(e.vkeys[log]) != 2 || !kinds[typeEd25519] || !kinds[typeMLDSA44], "%s: not one key of each type", log)
	stated := must(openCheckpoint(note, e.vkeys[log]))
	key, _ := parseVkey(e.vkeys[log][0])
	refuse(key.name != stated.origin, "%s: a checkpoint of another log", log)
	names := []string{}
	for name := range e.members {
		if strings.HasPrefix(name, log+"/") && strings.HasSuffix(name, ".cbor") {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	entries := [][]byte{}
	for _, name := range names {
		fields := must(readArray(e.members[name], 3, name))
		entry := must(asBytes(fields[0], -1, name))
		index := must(asInt(fields[1], name))
		refuse(name != fmt.Sprintf("%s/%010d.cbor", log, index), "%s: another index than its name says", name)
		err := verifyInclusion(leafHash(entry), index, stated.size, must(asHashes(fields[2], name)), stated.root)
		refuse(err != nil, "%s: %v", name, err)
		entries = append(entries, entry)
	}
	return entries, &dating{log: log, signedAt: stated.signedAt}
}

// entryTime reads the time of a log entry: milliseconds, from 1970 to the end of the year 9999.
func entryTime(value any) int64 {
	at := must(asInt(value, "entry: time"))
	refuse(at < 0 || at > 253_402_300_799_999, "entry: %d is no time", at)
	return at
}

func (e *evidence) readDirectory() {
	entries, dated := e.logged("directory")
	for _, entry := range entries {
		fields := must(readArray(entry, -1, "directory entry"))
		// a sixth field is approvals: whether a change needed them is for the whole directory to say
		refuse(len(fields) != 5 && len(fields) != 6, "directory entry: not an array of 5 or 6")
		dated.take(fields[2])
		change, _ := fields[1].(string)
		err := e.apply(change, entryTime(fields[2]), must(asBytes(fields[4], -1, "directory entry: payload")))
		refuse(err != nil, "directory entry, %s: %v", change, err)
	}
}

// apply believes a payload, logged at that time in milliseconds, once its signature by the right authority holds.
func (e *evidence) apply(change string, at int64, encoded []byte) error {
	_, payload, _, err := splitSign1(encoded)
	if err != nil {
		return err
	}
	value, err := decode(payload)
	fields, ok := value.(map[int64]any)
	if err != nil || !ok {
		return fmt.Errorf("no map: %v", err)
	}
	text := func(key int64) string { found, _ := fields[key].(string); return found }
	octets := func(key int64) []byte { found, _ := fields[key].([]byte); return found }
	number := func(key int64) int64 { found, _ := fields[key].(int64); return found }
	for _, key := range times[change] {
		must(asTime(fields[key], change))
	}
	by := func(name string) error {
		_, _, _, err := verifySign1(encoded, e.offices[name].public, "application/relay-"+change+"+cose")
		return err
	}
	switch change {
	case "office":
		if err := e.takeKeys(octets(5), octets(6)); err != nil {
			return err
		}
		_, kid, _, err := verifySign1(encoded, octets(5), "application/relay-statement+cose")
		if _, taken := e.offices[text(2)]; err != nil || taken {
			return fmt.Errorf("statement: registered already, or %v", err)
		}
		e.offices[text(2)] = office{kid, octets(5)}
		return nil
	case "certificate":
		name := officeOf(text(3))
		kid := thumbprint(algSignature, octets(9))
		if e.devices[string(octets(2))] != nil || !bytes.Equal(kid[:16], octets(2)) {
			return fmt.Errorf("the device is known, or not named by its key")
		}
		if err := e.takeKeys(octets(9), octets(10)); err != nil {
			return err
		}
		e.devices[string(octets(2))] = &certified{
			text(3), text(4), name, octets(9), number(11), number(12), 1 << 62, fields[5], fields[6],
		}
		return by(name)
	case "revocation":
		device := e.devices[string(octets(2))]
		if device == nil || device.address != text(3) {
			return fmt.Errorf("of an unknown device")
		}
		device.revokedAt = min(device.revokedAt, number(5))
		return by(device.office)
	case "policy":
		e.policies = append(e.policies, published{text(2), text(3), text(4), octets(6), octets(7), number(5)})
		return by(text(2))
	case "agreement":
		parties := must(asArray(fields[3], -1, "parties"))
		for _, party := range parties {
			row := must(asArray(party, 3, "party"))
			name, _ := row[0].(string)
			if kid, ok := row[2].([]byte); ok && bytes.Equal(kid, e.offices[name].kid) && by(name) == nil {
				if e.agreements[string(payload)] == nil {
					e.agreements[string(payload)] = map[string]int64{}
				}
				e.agreements[string(payload)][name] = at
				return nil
			}
		}
		return fmt.Errorf("signed by none of its parties")
	}
	return fmt.Errorf("a change that is no evidence")
}

// takeKeys notes whose these keys are. No key, nor half of one, is anybody else's, or does two things.
func (e *evidence) takeKeys(public, request []byte) error {
	half := min(len(public), 1952)
	if bytes.Equal(public[half:], request) {
		return fmt.Errorf("the request key is half of the signature key")
	}
	for _, key := range [][]byte{public[:half], public[half:], request} {
		if holder, taken := e.keys[string(key)]; taken && holder != string(public) {
			return fmt.Errorf("a key of this is another's already")
		}
		e.keys[string(key)] = string(public)
	}
	return nil
}

func officeOf(address string) string {
	_, name, _ := strings.Cut(address, "@")
	return name
}

// signedBy verifies a signed object by a device whose certificate is here.
func (e *evidence) signedBy(encoded []byte, typ string) (payload []byte, ref hash, by *certified, err error) {
	protected, _, _, err := splitSign1(encoded)
	if err != nil {
		return nil, hash{}, nil, err
	}
	kid := must(asBytes(must(decode(protected)).(map[int64]any)[4], 32, "signed object: kid"))
	if by = e.devices[string(kid[:16])]; by == nil {
		return nil, hash{}, nil, fmt.Errorf("signed by a device without a certificate here")
	}
	payload, _, ref, err = verifySign1(encoded, by.public, "application/relay-"+typ+"+cose")
	return payload, ref, by, err
}

func (c *certified) couldSign(at int64) bool {
	return c.notBefore <= at && at < c.notAfter && at < c.revokedAt
}

func (e *evidence) checkExporter() {
	_, _, by, err := e.signedBy(e.manifest, "evidence")
	refuse(err != nil, "manifest: %v", err)
	refuse(!by.couldSign(e.at), "manifest: its signer was not certified, or revoked, at that time")
	kid := thumbprint(algSignature, by.public)
	e.exporter = kid[:16]
}

func (e *evidence) readEntries() {
	entries, dated := e.logged("access")
	for i, encoded := range entries {
		entry, ok := must(decode(encoded)).(map[int64]any)
		_, warranted := entry[17]
		refuse(!ok || entry[12] != true || warranted != (entry[2] == "recall"), "access entry: not one of something permitted")
		refuse(!same(entry[9], e.id) || !same(entry[10], e.ref), "access entry: of another message")
		refuse((i == 0) != (entry[2] == "accept"), "access entries: not one acceptance, first")
		about := []any{"accept", "open", "acknowledge", "recall"}
		refuse(!slices.Contains(about, entry[2]), "access entry: %v is no evidence", entry[2])
		dated.take(entry[3])
		e.entries = append(e.entries, entry)
		e.checkActor(entry)
		refuse(!same(entry[11], e.entries[0][11]), "access entries: different labels")
	}
	refuse(len(e.entries) == 0, "access entries: none")
	e.accept = e.entries[0]
}

// checkActor compares an entry with the certificate of its device, and with the office whose message it is about.
func (e *evidence) checkActor(entry map[int64]any) {
	device, _ := entry[5].([]byte)
	by := e.devices[string(device)]
	refuse(by == nil || entry[6] != by.address || entry[7] != by.office, "access entry: not as its device is certified")
	concerns := e.entries[0][7]
	if concerns == entry[7] {
		concerns = ""
	}
	refuse(entry[8] != concerns, "access entry: does not concern the originator's office")
}

func (e *evidence) checkMessage() {
	encoded, ok := e.members["message.cose"]
	if !ok {
		return
	}
	_, _, by, err := e.signedBy(encoded, "message")
	refuse(err != nil, "message: %v", err)
	e.message = must(openSigned(encoded, by.public))
	core := e.message.core
	sender := must(asArray(core[3], 3, "core: sender"))
	refuse(!by.couldSign(must(asTime(core[4], "core: created"))) || sender[0] != by.address,
		"message: its sender is not its signer, or was not certified then")
	_, precedence := acceptDetail(e.accept[16])
	refuse(core[13].(map[int64]any)[1] != any(precedence), "message: it was accepted under another precedence")
	refuse(!bytes.Equal(e.message.ref[:], e.ref) || !same(core[2], e.id) || !same(core[6], e.accept[11]),
		"message: another message, or label, than was accepted")
}

// readGrants reads what every device was sealed: the accept entry has the digest. Sender and auditors are given it.
func (e *evidence) readGrants(encoded []byte) {
	by := e.devices[string(e.exporter)]
	sent := by.office == e.accept[7] && (e.message == nil || same(e.message.core[3].([]any)[1], e.exporter))
	refuse(by.kind != "auditor" && !sent, "manifest: signed by neither the originator nor an auditor")
	e.shownBy = "originator"
	if by.kind == "auditor" {
		e.shownBy = by.kind
	}
	digest, _ := acceptDetail(e.accept[16])
	sum := sha256.Sum256(encoded)
	refuse(digest != hex.EncodeToString(sum[:]), "grants.cbor: not what was accepted")
	_, both := e.members["slot.cbor"]
	refuse(both, "slot.cbor: not in a package with grants.cbor")
	for _, row := range must(readArray(encoded, -1, "grants")) {
		pair := must(asArray(row, 2, "grants"))
		device := must(asBytes(pair[0], 16, "grants: device"))
		refuse(e.devices[string(device)] == nil, "grants: a device without a certificate here")
		for _, portion := range must(asArray(pair[1], -1, "grants: portions")) {
			number := must(asInt(portion, "grants: portion"))
			e.grants[string(device)] = append(e.grants[string(device)], number)
		}
	}
}

// readOwnGrant reads what a reader's package shows: what its exporter was sealed, by its slot, else by its opening.
func (e *evidence) readOwnGrant() {
	e.shownBy = "reader"
	_, precedence := acceptDetail(e.accept[16])
	refuse(precedence < 0, "access entry: no grants' digest and precedence")
	opened := slices.IndexFunc(e.entries, func(entry map[int64]any) bool {
		return entry[2] == "open" && same(entry[5], e.exporter)
	})
	refuse(opened < 0, "package: neither grants.cbor nor an opening by its exporter")
	granted := readPortions(e.entries[opened][16])
	if encoded, ok := e.members["slot.cbor"]; ok {
		refuse(e.message == nil, "slot.cbor: no message that it is a slot of")
		fields := must(readArray(encoded, 3, "slot.cbor"))
		granted = must(ownSlot([]any{nil, fields[1], fields[0], fields[2]}, e.message, e.exporter)).granted
	}
	if e.message != nil {
		portions := must(asArray(e.message.core[8], -1, "core: portions"))
		refuse(granted[len(granted)-1] >= int64(len(portions)), "portions that the message does not have")
	}
	e.grants[string(e.exporter)] = granted
}

func (e *evidence) checkOpenings() {
	recalled := false
	for _, entry := range e.entries {
		device, _ := entry[5].([]byte)
		granted, sealed := e.grants[string(device)]
		switch entry[2] {
		case "recall":
			_, whole := e.members["grants.cbor"]
			detail, _ := entry[16].(string)
			refuse(!whole || !recallDetail.MatchString(detail), "access entry: no recall, or not a reader's to show")
			recalled = true
		case "open":
			refuse(recalled || !sealed || entry[16] != namePortions(granted),
				"access entry: an opening after a recall, or of other portions than were sealed")
		}
	}
}

func (e *evidence) checkReceipts() {
	logged, opened := map[string]bool{}, map[string]bool{}
	for _, entry := range e.entries {
		device, _ := entry[5].([]byte)
		if entry[2] == "open" {
			opened[hex.EncodeToString(device)] = true
		} else if state, _ := entry[16].(string); entry[2] == "acknowledge" {
			refuse(!opened[hex.EncodeToString(device)], "access entry: an acknowledgement by a device that had not opened")
			logged[hex.EncodeToString(device)+"-"+state] = true
		}
	}
	for name, encoded := range e.members {
		stated, is := strings.CutPrefix(strings.TrimSuffix(name, ".cose"), "receipts/")
		if !is {
			continue
		}
		payload, _, signer, err := e.signedBy(encoded, "receipt")
		refuse(err != nil, "%s: %v", name, err)
		fields := must(readArray(payload, 6, name))
		device := fields[3].([]byte)
		by := hex.EncodeToString(device)
		refuse(by+"-"+fields[4].(string) != stated || !same(fields[1], e.id) || !same(fields[2], e.ref),
			"%s: for another message, or of another device", name)
		could := e.devices[string(device)] == signer && signer.couldSign(must(asTime(fields[5], name)))
		refuse(!logged[stated] || !could, "%s: not logged, or of one who could not sign", name)
		delete(logged, stated)
	}
	refuse(len(logged) > 0, "package: lacks %d receipts that were logged", len(logged))
}

func (e *evidence) checkPolicy() {
	encoded, _ := e.accept[11].([]byte)
	label, ok := must(decode(encoded)).(map[int64]any)
	refuse(!ok, "label: malformed")
	pin := must(asArray(label[1], 4, "label: policy"))
	var newest *published
	for i, each := range e.policies {
		if each.office == e.accept[7] && each.name == pin[0] && (each.oid == pin[1] || pin[1] == "") {
			newest = &e.policies[i]
		}
	}
	digest, _ := pin[3].([]byte)
	refuse(newest == nil || !bytes.Equal(newest.spif, digest), "policy: the one that the label pins was not published")
	wanted := map[string]bool{hex.EncodeToString(newest.spif): true}
	if newest.extensions != nil {
		wanted[hex.EncodeToString(newest.extensions)] = true
	}
	for name, content := range e.members {
		if stated, is := strings.CutPrefix(name, "policy/"); is {
			sum := sha256.Sum256(content)
			refuse(!wanted[stated] || hex.EncodeToString(sum[:]) != stated, "%s: not what was published", name)
			delete(wanted, stated)
		}
	}
	refuse(len(wanted) > 0, "policy: a file is missing")
}

// checkAgreements asks for one at each time that the rules were asked: at the acceptance, and at every opening.
func (e *evidence) checkAgreements() {
	own, _ := e.accept[7].(string)
	joined := e.joined(own)
	check := func(other string, at int64) {
		valid := func(each window) bool { return each.from <= at && at < each.until }
		refuse(other != own && !slices.ContainsFunc(joined[other], valid),
			"agreement: none that %s and %s had signed, valid then", own, other)
	}
	for device := range e.grants {
		check(e.devices[device].office, entryTime(e.accept[3]))
	}
	for _, entry := range e.entries {
		if entry[2] == "open" {
			check(entry[7].(string), entryTime(entry[3]))
		}
	}
}

type window struct{ from, until int64 } // in milliseconds, the end not included

// joined reads each agreement once: by office, when one that all its parties had signed joined it with this one.
func (e *evidence) joined(own string) map[string][]window {
	found := map[string][]window{}
	for payload, signed := range e.agreements {
		terms := must(decode([]byte(payload))).(map[int64]any)
		from, until := must(asTime(terms[10], "not before")), must(asTime(terms[11], "not after"))
		_, ours := signed[own]
		if !ours || len(signed) != len(must(asArray(terms[3], -1, "parties"))) {
			continue
		}
		from *= 1000
		for _, logged := range signed {
			from = max(from, logged-60_000)
		}
		for name := range signed {
			found[name] = append(found[name], window{from, (until + 1) * 1000})
		}
	}
	return found
}

// readPortions reads what namePortions writes, with which the caller compares it.
func readPortions(detail any) (granted []int64) {
	text, _ := detail.(string)
	for _, run := range strings.Split(strings.TrimPrefix(text, "portions "), ",") {
		first, last, several := strings.Cut(run, "-")
		if !several {
			last = first
		}
		for i, end := must(strconv.ParseInt(first, 10, 32)), must(strconv.ParseInt(last, 10, 32)); i <= end; i++ {
			refuse(i >= 256 || len(granted) > 0 && i <= granted[len(granted)-1], "an opening of no portions: %s", text)
			granted = append(granted, i)
		}
	}
	refuse(len(granted) == 0, "an opening of no portions: %s", text)
	return granted
}
