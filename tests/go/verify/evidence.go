package main

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// An evidence package, verified from the specification's list. Only what the package and the given keys say is believed.

var memberName = regexp.MustCompile(`^(manifest\.cose|message\.cose|grants\.cbor|relay\.txt|` +
	`(access|directory)/(checkpoint|[0-9]{10}\.cbor)|receipts/[0-9a-f]{32}-(opened|acknowledged)\.cose|policy/[0-9a-f]{64})$`)

type certified struct {
	address, office     string
	public              []byte
	notBefore, notAfter int64
	revokedAt           int64
}

type office struct{ kid, public []byte }

type published struct {
	office, name, oid string
	spif, extensions  []byte
}

type evidence struct {
	members    map[string][]byte
	manifest   []byte
	id, ref    []byte
	at         int64
	vkeys      map[string][]string
	offices    map[string]office
	devices    map[string]*certified // by device id
	policies   []published
	agreements map[string]map[string]bool // payload → offices that signed
	entries    []map[int64]any
	accept     map[int64]any
	grants     map[string][]int64
}

type provenEvidence struct {
	MessageID string `json:"message_id"`
	Entries   int    `json:"entries"`
	HashOnly  bool   `json:"hash_only"`
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
		devices: map[string]*certified{}, agreements: map[string]map[string]bool{}, grants: map[string][]int64{},
	}
	steps := []func() error{
		func() error { return e.readFile(path) }, e.readManifest,
		func() error { return e.readKeys(trusted) }, e.readDirectory, e.checkExporter,
		e.readEntries, e.checkMessage, e.checkOpenings, e.checkReceipts, e.checkPolicy, e.checkAgreements,
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	_, whole := e.members["message.cose"]
	return provenEvidence{hex.EncodeToString(e.id), len(e.entries), !whole}, nil
}

func (e *evidence) readFile(path string) error {
	archive := must(zip.OpenReader(path))
	defer archive.Close()
	if len(archive.File) > 20_000 || archive.Comment != "" {
		return fmt.Errorf("package: too many members, or a comment")
	}
	var total uint64
	for _, file := range archive.File {
		if !memberName.MatchString(file.Name) || file.Method != zip.Store || file.Flags != 0 ||
			file.CompressedSize64 != file.UncompressedSize64 || len(file.Extra) > 0 || file.Comment != "" {
			return fmt.Errorf("package: %q does not belong into one, or is not stored as it is", file.Name)
		}
		if _, twice := e.members[file.Name]; twice {
			return fmt.Errorf("package: %s is there twice", file.Name)
		}
		if total += file.UncompressedSize64; total > 64<<20 {
			return fmt.Errorf("package: larger than 64 MiB")
		}
		reader := must(file.Open())
		content := must(io.ReadAll(reader))
		e.members[file.Name] = content
	}
	return nil
}

func (e *evidence) member(name string) ([]byte, error) {
	content, ok := e.members[name]
	if !ok {
		return nil, fmt.Errorf("package: lacks %s", name)
	}
	return content, nil
}

func (e *evidence) readManifest() error {
	signed := must(e.member("manifest.cose"))
	e.manifest = signed
	delete(e.members, "manifest.cose")
	_, payload, _, err := splitSign1(signed)
	if err != nil {
		return err
	}
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
	e.at = must(asInt(fields[3], "manifest: time"))
	if !bytes.Equal(payload, encode([]any{int64(1), e.id, e.ref, e.at, rows})) {
		return fmt.Errorf("package: not what its manifest lists")
	}
	return nil
}

func (e *evidence) readKeys(trusted []string) error {
	stated := must(e.member("relay.txt"))
	lines := strings.Split(strings.TrimSuffix(string(stated), "\n"), "\n")
	if len(trusted) > 0 && !slices.Equal(slices.Sorted(slices.Values(trusted)), slices.Sorted(slices.Values(lines))) {
		return fmt.Errorf("relay.txt: not the keys that are trusted")
	}
	for _, line := range lines {
		key := must(parseVkey(line))
		log := key.name[strings.LastIndex(key.name, "/")+1:]
		e.vkeys[log] = append(e.vkeys[log], line)
	}
	return nil
}

// logged returns a log's members in order, each included under the log's checkpoint.
func (e *evidence) logged(log string) ([][]byte, error) {
	note := must(e.member(log + "/checkpoint"))
	kinds := map[byte]bool{}
	for _, line := range e.vkeys[log] {
		key, _ := parseVkey(line)
		kinds[key.kind] = true
	}
	if len(e.vkeys[log]) != 2 || !kinds[typeEd25519] || !kinds[typeMLDSA44] {
		return nil, fmt.Errorf("%s: not one key of each type", log)
	}
	stated := must(openCheckpoint(note, e.vkeys[log]))
	if key, _ := parseVkey(e.vkeys[log][0]); key.name != stated.origin {
		return nil, fmt.Errorf("%s: a checkpoint of another log", log)
	}
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
		index, err := asInt(fields[1], name)
		if err != nil || name != fmt.Sprintf("%s/%010d.cbor", log, index) {
			return nil, fmt.Errorf("%s: another index than its name says", name)
		}
		proof := must(asHashes(fields[2], name))
		if err := verifyInclusion(leafHash(entry), index, stated.size, proof, stated.root); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

func (e *evidence) readDirectory() error {
	entries := must(e.logged("directory"))
	for _, entry := range entries {
		fields := must(readArray(entry, -1, "directory entry"))
		// a sixth field is approvals: whether a change needed them is for the whole directory to say
		if len(fields) != 5 && len(fields) != 6 {
			return fmt.Errorf("directory entry: not an array of 5 or 6")
		}
		change, _ := fields[1].(string)
		payload, err := asBytes(fields[4], -1, "directory entry: payload")
		if err == nil {
			err = e.apply(change, payload)
		}
		if err != nil {
			return fmt.Errorf("directory entry, %s: %w", change, err)
		}
	}
	return nil
}

// apply believes a payload once its signature by the right authority holds.
func (e *evidence) apply(change string, encoded []byte) error {
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
	by := func(name string) error {
		_, _, _, err := verifySign1(encoded, e.offices[name].public, "application/relay-"+change+"+cose")
		return err
	}
	switch change {
	case "office":
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
		e.devices[string(octets(2))] = &certified{text(3), name, octets(9), number(11), number(12), 1 << 62}
		return by(name)
	case "revocation":
		device := e.devices[string(octets(2))]
		if device == nil || device.address != text(3) {
			return fmt.Errorf("of an unknown device")
		}
		device.revokedAt = min(device.revokedAt, number(5))
		return by(device.office)
	case "policy":
		e.policies = append(e.policies, published{text(2), text(3), text(4), octets(6), octets(7)})
		return by(text(2))
	case "agreement":
		parties := must(asArray(fields[3], -1, "parties"))
		for _, party := range parties {
			row := must(asArray(party, 3, "party"))
			name, _ := row[0].(string)
			if kid, ok := row[2].([]byte); ok && bytes.Equal(kid, e.offices[name].kid) && by(name) == nil {
				if e.agreements[string(payload)] == nil {
					e.agreements[string(payload)] = map[string]bool{}
				}
				e.agreements[string(payload)][name] = true
				return nil
			}
		}
		return fmt.Errorf("signed by none of its parties")
	}
	return fmt.Errorf("a change that is no evidence")
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

func (e *evidence) checkExporter() error {
	_, _, by, err := e.signedBy(e.manifest, "evidence")
	if err == nil && !by.couldSign(e.at) {
		err = fmt.Errorf("its signer was not certified, or revoked, at that time")
	}
	if err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	return nil
}

func (e *evidence) readEntries() error {
	entries := must(e.logged("access"))
	for i, encoded := range entries {
		value, err := decode(encoded)
		entry, ok := value.(map[int64]any)
		if err != nil || !ok || len(entry) != 16 || entry[12] != true {
			return fmt.Errorf("access entry: not one of something permitted")
		}
		if !same(entry[9], e.id) || !same(entry[10], e.ref) {
			return fmt.Errorf("access entry: of another message")
		}
		if (i == 0) != (entry[2] == "accept") {
			return fmt.Errorf("access entries: not one acceptance, first")
		}
		if !slices.Contains([]any{"accept", "open", "acknowledge", "recall"}, entry[2]) {
			return fmt.Errorf("access entry: %v is no evidence", entry[2])
		}
		e.entries = append(e.entries, entry)
		if !same(entry[11], e.entries[0][11]) {
			return fmt.Errorf("access entries: different labels")
		}
	}
	if len(e.entries) == 0 {
		return fmt.Errorf("access entries: none")
	}
	e.accept = e.entries[0]
	return nil
}

func (e *evidence) checkMessage() error {
	encoded, ok := e.members["message.cose"]
	if !ok {
		return nil
	}
	_, _, by, err := e.signedBy(encoded, "message")
	if err != nil {
		return fmt.Errorf("message: %w", err)
	}
	received := must(openSigned(encoded, by.public))
	core := received.core
	sender := must(asArray(core[3], 3, "core: sender"))
	if !by.couldSign(must(asInt(core[4], "core: created"))) || sender[0] != by.address {
		return fmt.Errorf("message: its sender is not its signer, or was not certified then")
	}
	if _, precedence := acceptDetail(e.accept[16]); core[13].(map[int64]any)[1] != any(precedence) {
		return fmt.Errorf("message: it was accepted under another precedence")
	}
	if !bytes.Equal(received.ref[:], e.ref) || !same(core[2], e.id) || !same(core[6], e.accept[11]) {
		return fmt.Errorf("message: another message, or label, than was accepted")
	}
	return nil
}

func (e *evidence) checkOpenings() error {
	encoded := must(e.member("grants.cbor"))
	digest, _ := acceptDetail(e.accept[16])
	if sum := sha256.Sum256(encoded); digest != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("grants.cbor: not what was accepted")
	}
	rows := must(readArray(encoded, -1, "grants"))
	for _, row := range rows {
		pair := must(asArray(row, 2, "grants"))
		device, err := asBytes(pair[0], 16, "grants: device")
		if err != nil || e.devices[string(device)] == nil {
			return fmt.Errorf("grants: a device without a certificate here")
		}
		portions := must(asArray(pair[1], -1, "grants: portions"))
		for _, portion := range portions {
			number := must(asInt(portion, "grants: portion"))
			e.grants[string(device)] = append(e.grants[string(device)], number)
		}
	}
	recalled := false
	for _, entry := range e.entries {
		device, _ := entry[5].([]byte)
		switch entry[2] {
		case "recall":
			recalled = true
		case "open":
			if recalled || entry[16] != namePortions(e.grants[string(device)]) {
				return fmt.Errorf("an opening after a recall, or of other portions than were sealed")
			}
		}
	}
	return nil
}

func (e *evidence) checkReceipts() error {
	logged, opened := map[string]bool{}, map[string]bool{}
	for _, entry := range e.entries {
		device, _ := entry[5].([]byte)
		if entry[2] == "open" {
			opened[hex.EncodeToString(device)] = true
		} else if state, _ := entry[16].(string); entry[2] == "acknowledge" {
			logged[hex.EncodeToString(device)+"-"+state] = true
		}
	}
	for name, encoded := range e.members {
		stated, is := strings.CutPrefix(strings.TrimSuffix(name, ".cose"), "receipts/")
		if !is {
			continue
		}
		payload, _, signer, err := e.signedBy(encoded, "receipt")
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fields := must(readArray(payload, 6, name))
		by := hex.EncodeToString(fields[3].([]byte))
		if by+"-"+fields[4].(string) != stated || !same(fields[1], e.id) || !same(fields[2], e.ref) {
			return fmt.Errorf("%s: for another message, or of another device", name)
		}
		if !logged[stated] || !opened[by] || e.devices[string(fields[3].([]byte))] != signer || !signer.couldSign(fields[5].(int64)) {
			return fmt.Errorf("%s: not logged, or of one who had not opened, or could not sign", name)
		}
		delete(logged, stated)
	}
	if len(logged) > 0 {
		return fmt.Errorf("package: lacks %s receipts that were logged", strconv.Itoa(len(logged)))
	}
	return nil
}

func (e *evidence) checkPolicy() error {
	encoded, _ := e.accept[11].([]byte)
	value, err := decode(encoded)
	label, ok := value.(map[int64]any)
	if err != nil || !ok {
		return fmt.Errorf("label: malformed")
	}
	pin := must(asArray(label[1], 4, "label: policy"))
	var newest *published
	for i, each := range e.policies {
		if each.office == e.accept[7] && each.name == pin[0] && (each.oid == pin[1] || pin[1] == "") {
			newest = &e.policies[i]
		}
	}
	digest, _ := pin[3].([]byte)
	if newest == nil || !bytes.Equal(newest.spif, digest) {
		return fmt.Errorf("policy: the one that the label pins was not published")
	}
	wanted := map[string]bool{hex.EncodeToString(newest.spif): true}
	if newest.extensions != nil {
		wanted[hex.EncodeToString(newest.extensions)] = true
	}
	for name, content := range e.members {
		if stated, is := strings.CutPrefix(name, "policy/"); is {
			if sum := sha256.Sum256(content); !wanted[stated] || hex.EncodeToString(sum[:]) != stated {
				return fmt.Errorf("%s: not what was published", name)
			}
			delete(wanted, stated)
		}
	}
	if len(wanted) > 0 {
		return fmt.Errorf("policy: a file is missing")
	}
	return nil
}

func (e *evidence) checkAgreements() error {
	own, _ := e.accept[7].(string)
	for device := range e.grants {
		other, found := e.devices[device].office, false
		for payload, signed := range e.agreements {
			value, _ := decode([]byte(payload))
			parties, _ := value.(map[int64]any)[3].([]any)
			found = found || signed[own] && signed[other] && len(signed) == len(parties)
		}
		if other != own && !found {
			return fmt.Errorf("agreement: none that %s and %s have signed", own, other)
		}
	}
	return nil
}
