package main

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Signed orders (sections 18, 18a, 20.5, 20.8): what is to be read from them, and the approvals that something takes.

const maxApprovals, maxApprovers, approvalAge, clocksApart = 8, 64, 7 * 86400, 300

var (
	addressForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?@[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	officeForm  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

// What a reader has. Octets are base64, but for `ref` and the names of the devices.
type orderFixture struct {
	Type      string
	Signed    []byte
	Public    []byte
	Payload   []byte
	Body      []byte
	Approvers []byte
	Matter    string
	Ref       string
	Own       string
	Approvals [][]byte
	Devices   map[string][]byte // that can act now, by device in hexadecimal
	Now       int64
}

type orderField struct {
	name string
	read func(value any) any // what is to be shown of it, octets as they are
}

var orderFields = map[string][]orderField{
	"recall": {{"message_id", octets(16)}, {"device_id", octets(16)}, {"spill", truth}, {"reason", line(500)},
		{"at", moment}},
	"hold": {{"action", oneOf("place", "lift")}, {"message_id", octets(16)}, {"device_id", octets(16)},
		{"address", address}, {"at", moment}, {"reason", line(200)}},
	"alarm": {{"device_id", octets(16)}, {"index", logIndex}, {"digest", octets(32)}, {"finding", line(500)},
		{"at", moment}},
	"approval": {{"matter", oneOf("enrolment", "hold", "admission", "approvers")}, {"ref", octets(32)},
		{"device_id", octets(16)}, {"address", address}, {"at", moment}},
}

// verifyOrder answers with what an order states, its octets in hexadecimal.
func verifyOrder(path string) (found any, err error) {
	var fixture orderFixture
	readJSON(path, &fixture)
	defer func() {
		if problem := recover(); problem != nil {
			found, err = nil, fmt.Errorf("%v", problem)
		}
	}()
	switch fixture.Type {
	case "approvers":
		payload, _, _, err := verifySign1(fixture.Signed, fixture.Public, coseType("approvers"))
		refuse(err != nil, "approvers: %v", err)
		found = readApprovers(payload).stated
	case "relay-approvers":
		found = readApprovers(fixture.Payload).stated
	case "hold-body":
		found = readHoldBody(fixture.Body)
	case "approvals":
		found = countApprovals(fixture)
	default:
		found, _ = readOrder(fixture.Type, fixture.Signed, fixture.Public)
	}
	return shown(found), nil
}

func coseType(typ string) string { return "application/relay-" + typ + "+cose" }

// readOrder reads an object that the device signed which it names, and has this key.
func readOrder(typ string, signed, public []byte) (stated map[string]any, ref hash) {
	payload, kid, ref, err := verifySign1(signed, public, coseType(typ))
	refuse(err != nil, "%s: %v", typ, err)
	stated = orderStates(typ, payload)
	refuse(!same(stated["device_id"], kid[:16]), "%s: signed by another device than it names", typ)
	return stated, ref
}

func orderStates(typ string, payload []byte) map[string]any {
	fields, known := orderFields[typ]
	refuse(!known, "%q is no order", typ)
	values := must(readArray(payload, len(fields)+1, typ))
	refuse(values[0] != int64(1), "%s: another version", typ)
	stated := map[string]any{}
	for i, field := range fields {
		stated[field.name] = field.read(values[i+1])
	}
	return stated
}

func octets(size int) func(any) any {
	return func(value any) any { return must(asBytes(value, size, "order")) }
}

func moment(value any) any { return must(asTime(value, "order")) }

func truth(value any) any {
	_, ok := value.(bool)
	refuse(!ok, "order: neither true nor false")
	return value
}

func logIndex(value any) any {
	index := must(asInt(value, "order"))
	refuse(index < 0 || index == 1<<63-1, "order: no log has an entry %d", index)
	return index
}

func oneOf(words ...string) func(any) any {
	return func(value any) any {
		word, ok := value.(string)
		refuse(!ok || !slices.Contains(words, word), "order: %v is none of %v", value, words)
		return word
	}
}

func address(value any) any {
	text, ok := value.(string)
	refuse(!ok || !addressForm.MatchString(text), "order: %v is no address", value)
	return text
}

func line(most int) func(any) any {
	return func(value any) any {
		text, ok := value.(string)
		unfit := func(char rune) bool { return !unicode.IsPrint(char) }
		refuse(!ok || strings.Trim(text, " ") == "" || strings.ContainsFunc(text, unfit) ||
			utf8.RuneCountInString(text) > most, "order: its text is not one line of at most %d characters", most)
		return text
	}
}

// readHoldBody tells the refs of the word and of the approvals with it; who signed them a directory would say.
func readHoldBody(body []byte) any {
	word, approvals := body, []any{}
	if items, ok := must(decode(body)).([]any); ok && len(items) == 2 {
		word = must(asBytes(items[0], -1, "hold"))
		approvals = must(asArray(items[1], -1, "approvals"))
		refuse(len(approvals) < 1 || len(approvals) > maxApprovals, "approvals: %d of them", len(approvals))
	}
	refs := []any{}
	for _, each := range approvals {
		refs = append(refs, unverifiedRef("approval", must(asBytes(each, -1, "approval"))))
	}
	return map[string]any{"hold": unverifiedRef("hold", word), "approvals": refs}
}

func unverifiedRef(typ string, signed []byte) []byte {
	protected, payload, _, err := splitSign1(signed)
	refuse(err != nil, "%s: %v", typ, err)
	header, _ := must(decode(protected)).(map[int64]any)
	refuse(len(header) != 3 || header[1] != algSignature || header[16] != coseType(typ), "%s: another type", typ)
	orderStates(typ, payload)
	return sum(encode([]any{"Signature1", protected, []byte{}, payload}))
}

type approverList struct {
	stated map[string]any
	needed map[string]int64
	people map[string]bool // address and device, as they stand in the list
}

func (l approverList) takes(matter string) (most int64) {
	if matter != "approvers" {
		return l.needed[matter]
	}
	for _, count := range l.needed {
		most = max(most, count)
	}
	return most
}

func readApprovers(payload []byte) approverList {
	fields, ok := must(decode(payload)).(map[int64]any)
	refuse(!ok || len(fields) != 6 || fields[1] != int64(1), "approvers: another version or other fields")
	office, ok := fields[2].(string)
	refuse(!ok || office != "" && !officeForm.MatchString(office), "approvers: office")
	list := approverList{needed: map[string]int64{}, people: map[string]bool{}}
	persons := list.readPeople(fields[5])
	governed := []string{"enrolment", "hold"}
	if office == "" {
		governed = []string{"admission"}
	}
	rows, last := must(asArray(fields[4], -1, "approvers: matters")), ""
	for _, row := range rows {
		pair := must(asArray(row, 2, "approvers: matter"))
		matter, count := oneOf(governed...)(pair[0]).(string), must(asInt(pair[1], "approvers: M"))
		refuse(matter <= last, "approvers: matters not ascending")
		refuse(count < 1 || count > int64(min(persons, maxApprovals)), "approvers: M of %d", count)
		list.needed[matter], last = count, matter
	}
	refuse(len(rows) == 0, "approvers: no matter")
	list.stated = map[string]any{
		"office": office, "version": must(asInt(fields[3], "approvers: version")), "needed": fields[4],
		"people": fields[5], "at": must(asTime(fields[6], "approvers: time")),
	}
	return list
}

// readPeople tells how many persons there are: one may have several devices.
func (l approverList) readPeople(value any) int {
	rows, addresses := must(asArray(value, -1, "approvers: people")), map[string]bool{}
	lastAddress, lastDevice := "", []byte{}
	for _, row := range rows {
		pair := must(asArray(row, 2, "approvers: person"))
		name, device := address(pair[0]).(string), must(asBytes(pair[1], 16, "approvers: device"))
		ascending := name > lastAddress || name == lastAddress && bytes.Compare(device, lastDevice) > 0
		refuse(!ascending, "approvers: people not ascending")
		lastAddress, lastDevice = name, device
		addresses[name], l.people[name+string(device)] = true, true
	}
	refuse(len(rows) == 0 || len(rows) > maxApprovers, "approvers: %d devices", len(rows))
	return len(addresses)
}

// countApprovals is 20.6: each approval holds, and enough persons give one.
func countApprovals(given orderFixture) any {
	list, agreed := readApprovers(given.Approvers), map[string]bool{}
	for _, signed := range given.Approvals {
		_, payload, _, err := splitSign1(signed)
		refuse(err != nil, "approval: %v", err)
		device := hex.EncodeToString(orderStates("approval", payload)["device_id"].([]byte))
		refuse(given.Devices[device] == nil, "approval: by a device that cannot act")
		stated, _ := readOrder("approval", signed, given.Devices[device])
		about := stated["matter"] == given.Matter && hex.EncodeToString(stated["ref"].([]byte)) == given.Ref
		refuse(!about, "approval: of something else")
		name, at := stated["address"].(string), stated["at"].(int64)
		refuse(!list.people[name+string(stated["device_id"].([]byte))], "approval: %s is not named with this device", name)
		refuse(name == given.Own, "approval: %s would approve what is his own", name)
		refuse(at < given.Now-approvalAge || at > given.Now+clocksApart, "approval: too old, or of the future")
		agreed[name] = true
	}
	refuse(int64(len(agreed)) < list.takes(given.Matter), "approvals: %d are too few", len(agreed))
	return list.stated
}

// shown has octets in hexadecimal.
func shown(value any) any {
	switch value := value.(type) {
	case []byte:
		return hex.EncodeToString(value)
	case []any:
		items := []any{}
		for _, item := range value {
			items = append(items, shown(item))
		}
		return items
	case map[string]any:
		fields := map[string]any{}
		for name, item := range value {
			fields[name] = shown(item)
		}
		return fields
	}
	return value
}
