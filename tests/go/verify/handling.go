package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// What a header says beside sender, label and portions, and the second signatures. Who the originals of a message
// that passes others on were signed by, and who consented, is for a directory to say: here they are only parsed.

const maxPassedOn, maxEndorsements = 16, 8

func checkCore(core map[int64]any) error {
	for key := range core {
		if key < 1 || key > 16 {
			return fmt.Errorf("core: field %d is unknown", key)
		}
	}
	for _, key := range []int64{4, 5} {
		if _, err := asTime(core[key], "core: created or expires"); err != nil {
			return err
		}
	}
	for _, step := range []func(map[int64]any) error{checkOrigin, checkHandling, checkAlternatives, checkPassedOn} {
		if err := step(core); err != nil {
			return err
		}
	}
	return nil
}

// The directory log that the sender saw has a name that can be shown.
func checkOrigin(core map[int64]any) error {
	directory, err := asArray(core[12], 3, "core: directory")
	if err != nil {
		return err
	}
	origin, ok := directory[0].(string)
	unfit := func(char rune) bool { return !unicode.IsPrint(char) || char == ' ' || char == '+' }
	if length := utf8.RuneCountInString(origin); !ok || length < 1 || length > 255 || strings.ContainsFunc(origin, unfit) {
		return fmt.Errorf("directory: origin")
	}
	return nil
}

func checkHandling(core map[int64]any) error {
	handling, ok := core[13].(map[int64]any)
	if !ok || len(handling) != 9 {
		return fmt.Errorf("core: handling has missing or unknown fields")
	}
	action, first := handling[1].(int64)
	info, second := handling[2].(int64)
	dtg, err := asTime(handling[3], "handling: DTG")
	if !first || !second || err != nil || info < 0 || info > action || action > 5 || dtg%60 != 0 {
		return fmt.Errorf("handling: precedence or DTG")
	}
	if kind, ok := handling[4].(string); !ok || !strings.Contains(" operation exercise project drill ", " "+kind+" ") {
		return fmt.Errorf("handling: type")
	}
	references, err := asArray(handling[5], -1, "handling: references")
	if err != nil {
		return err
	}
	for _, reference := range references {
		if _, err := asBytes(reference, 16, "handling: reference"); err != nil {
			return err
		}
	}
	_, acknowledge := handling[6].(bool)
	_, controlled := handling[7].(bool)
	_, purpose := handling[8].(string)
	if !acknowledge || !controlled || !purpose {
		return fmt.Errorf("handling: a field of another type")
	}
	if replaced, present := handling[9]; !present || replaced != nil {
		return checkSuperseded(replaced)
	}
	return nil
}

func checkSuperseded(value any) error {
	fields, err := asArray(value, 2, "handling: supersedes")
	if err != nil {
		return err
	}
	if reason, ok := fields[1].(string); !ok || strings.TrimSpace(reason) == "" {
		return fmt.Errorf("handling: a label is lowered without a reason")
	}
	_, err = asBytes(fields[0], 32, "handling: superseded message")
	return err
}

// Alternatives are pairs of labels, strictly ascending.
func checkAlternatives(core map[int64]any) error {
	pairs, err := asArray(core[14], -1, "core: alternatives")
	if err != nil {
		return err
	}
	var last [][]byte
	for _, item := range pairs {
		pair, err := asArray(item, 2, "core: alternative")
		if err != nil {
			return err
		}
		label, ok := pair[0].([]byte)
		alternative, also := pair[1].([]byte)
		if !ok || !also {
			return fmt.Errorf("core: an alternative is two labels")
		}
		if last != nil {
			order := bytes.Compare(last[0], label)
			if order > 0 || order == 0 && bytes.Compare(last[1], alternative) >= 0 {
				return fmt.Errorf("core: alternatives are not ascending")
			}
		}
		last = [][]byte{label, alternative}
	}
	return nil
}

func checkPassedOn(core map[int64]any) error {
	for _, field := range []struct {
		key int64
		typ string
	}{{15, typMessage}, {16, "application/relay-consent+cose"}} {
		items, err := asArray(core[field.key], -1, "core: passed-on messages and consents")
		if err != nil {
			return err
		}
		if len(items) > maxPassedOn {
			return fmt.Errorf("core: more than %d passed-on messages or consents", maxPassedOn)
		}
		for _, item := range items {
			encoded, err := asBytes(item, -1, "core: passed-on message or consent")
			if err != nil {
				return err
			}
			protected, _, _, err := splitSign1(encoded)
			if err != nil {
				return err
			}
			if header, err := decode(protected); err != nil || header.(map[int64]any)[16] != field.typ {
				return fmt.Errorf("core: passed on is not a %s", field.typ)
			}
		}
	}
	return nil
}

// verifyEndorsements checks second signatures over exactly this message, by persons of the sender's office who are
// neither the sender nor each other. That they hold the role of releasing officers is for a directory to say.
func verifyEndorsements(value any, received *message, sender string, publics [][]byte) error {
	endorsements, err := asArray(value, len(publics), "delivery: endorsements")
	if err != nil {
		return err
	}
	if len(endorsements) > maxEndorsements {
		return fmt.Errorf("delivery: more than %d endorsements", maxEndorsements)
	}
	_, office, _ := strings.Cut(sender, "@")
	persons := map[string]bool{sender: true}
	for i, item := range endorsements {
		address, err := verifyEndorsement(item, received, publics[i])
		if err != nil {
			return err
		}
		if persons[address] || !strings.HasSuffix(address, "@"+office) {
			return fmt.Errorf("endorsement: two-person release takes two persons of one office")
		}
		persons[address] = true
	}
	return nil
}

func verifyEndorsement(item any, received *message, public []byte) (string, error) {
	encoded, err := asBytes(item, -1, "endorsement")
	if err != nil {
		return "", err
	}
	payload, kid, _, err := verifySign1(encoded, public, typEndorse)
	if err != nil {
		return "", fmt.Errorf("endorsement: %w", err)
	}
	fields, err := readArray(payload, 5, "endorsement")
	if err != nil {
		return "", err
	}
	ref, _ := fields[1].([]byte)
	device, _ := fields[2].([]byte)
	address, ok := fields[3].(string)
	_, err = asTime(fields[4], "endorsement: time")
	if !ok || err != nil || fields[0] != int64(1) || !bytes.Equal(device, kid[:16]) {
		return "", fmt.Errorf("endorsement: not the format")
	}
	if !bytes.Equal(ref, received.ref[:]) {
		return "", fmt.Errorf("endorsement: of another message")
	}
	return address, nil
}

var precedences = []string{"deferred", "routine", "priority", "immediate", "flash", "override"}

// acceptDetail reads what an accept entry says: the grants' digest and the precedence; no digest where it says not both.
func acceptDetail(value any) (string, int64) {
	detail, _ := value.(string)
	digest, word, _ := strings.Cut(detail, " ")
	none := len(digest) != 64 || strings.Trim(digest, "0123456789abcdef") != ""
	if precedence := slices.Index(precedences, word); precedence >= 0 && !none {
		return digest, int64(precedence)
	}
	return "", -1
}
