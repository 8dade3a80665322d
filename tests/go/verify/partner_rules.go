package main

import (
	"crypto/sha256"
	"slices"
)

// Who may read what: the rules of section 11 that need no policy file.

// readersOf are the devices behind an address or a role that may act now, ascending.
func (p *partner) readersOf(address string, now int64) []string {
	found := []string{}
	for id, device := range p.directory.devices {
		_, stands := p.directory.offices[device.office]
		if stands && device.couldSign(now) && isAddressed([]any{[]any{int64(1), address}}, device) {
			found = append(found, id)
		}
	}
	slices.Sort(found)
	return found
}

func isAddressed(addressees any, device *certified) (found bool) {
	names := []any{device.address}
	for _, role := range must(asArray(device.roles, -1, "roles")) {
		names = append(names, role.(string)+"@"+device.office)
	}
	for _, row := range must(asArray(addressees, -1, "addressees")) {
		addressee := must(asArray(row, 2, "addressee"))
		if slices.Contains(names, addressee[1]) {
			if addressee[0] == int64(3) {
				return false
			}
			found = true
		}
	}
	return found
}

// agreed are the agreements in force and valid at this time between two offices.
func (p *partner) agreed(one, other string, now int64) (found []map[int64]any) {
	for payload, signed := range p.directory.agreements {
		id := sha256.Sum256([]byte(payload))
		terms := must(decode([]byte(payload))).(map[int64]any)
		parties := must(asArray(terms[3], -1, "parties"))
		from, until := must(asTime(terms[10], "from")), must(asTime(terms[11], "until"))
		valid := len(signed) == len(parties) && from <= now && now <= until && !p.withdrawn[string(id[:])]
		named := 0
		for _, value := range parties {
			party := must(asArray(value, 3, "party"))
			if party[0] == one || party[0] == other {
				named++
				valid = valid && same(party[2], p.directory.offices[party[0].(string)].kid)
			}
		}
		if valid && named == 2 {
			found = append(found, terms)
		}
	}
	return found
}

// trusts: our own authority, and the parties of agreements that it has signed.
func (p *partner) trusts(name string) bool {
	trusted := name == officeOf(p.Address)
	for payload, signed := range p.directory.agreements {
		_, ours := signed[officeOf(p.Address)]
		terms := must(decode([]byte(payload))).(map[int64]any)
		for _, value := range must(asArray(terms[3], -1, "parties")) {
			party := must(asArray(value, 3, "party"))
			trusted = trusted || ours && party[0] == name && same(party[2], p.directory.offices[name].kid)
		}
	}
	return trusted
}

// labelFor is a label of the policy, and with the categories, of an agreement with that office.
func (p *partner) labelFor(other, classification string, now int64) []byte {
	agreements := p.agreed(officeOf(p.Address), other, now)
	refuse(len(agreements) == 0, "no agreement with %s", other)
	terms := agreements[0]
	named := must(asArray(terms[4], 2, "policy"))
	policy := p.policyOf(officeOf(p.Address), named[0], named[1])
	return encode(map[int64]any{1: []any{policy.name, policy.oid, policy.version, policy.spif}, 2: classification, 3: terms[6]})
}

// policyOf is the newest that the office has published under that name and oid.
func (p *partner) policyOf(name string, policy, oid any) published {
	for _, found := range slices.Backward(p.directory.policies) {
		if found.office == name && found.name == policy && found.oid == oid {
			return found
		}
	}
	panic("policy-known: " + name)
}

// mayRead refuses unless the rules let this device have this label of the sender's.
func (p *partner) mayRead(encoded []byte, purpose string, sender, reader *certified, now int64) {
	label := must(decode(encoded)).(map[int64]any)
	refuse(label[8] != nil, "label: with a successor, which is not read here")
	pinned := must(asArray(label[1], 4, "label: policy"))
	policy, least := p.policyOf(reader.office, pinned[0], pinned[1]), must(asInt(pinned[2], "label: version"))
	refuse(policy.version < least || policy.version == least && !same(pinned[3], policy.spif), "policy-known: another file")
	cleared := false
	for _, value := range must(asArray(reader.clearances, -1, "clearances")) {
		terms := must(decode(value.([]byte))).(map[int64]any)
		valid := must(asTime(terms[5], "from")) <= now && now <= must(asTime(terms[6], "until"))
		if terms[1] == pinned[0] && terms[2] == pinned[1] {
			cleared = valid && lists(terms[3], label[2]) && covers(label[3], terms[4])
		}
	}
	refuse(!cleared, "%s is not cleared", reader.address)
	agreed := sender.office == reader.office
	for _, terms := range p.agreed(sender.office, reader.office, now) {
		purposes := must(asArray(terms[8], -1, "purposes"))
		agreed = agreed || must(asArray(terms[4], 2, "policy"))[1] == pinned[1] && lists(terms[5], label[2]) &&
			covers(restrictive(label[3]), terms[6]) && covers(permissive(terms[6]), label[3]) &&
			(len(purposes) == 0 || slices.Contains(purposes, any(purpose)))
	}
	refuse(!agreed, "agreement: none covers this label for %s", reader.office)
}

func lists(values, wanted any) bool {
	return slices.Contains(must(asArray(values, -1, "list")), wanted)
}

func restrictive(categories any) any { return ofType(categories, 1) }
func permissive(categories any) any  { return ofType(categories, 2) }

func ofType(categories any, kind int64) []any {
	kept := []any{}
	for _, category := range must(asArray(categories, -1, "categories")) {
		if must(asArray(category, 4, "category"))[2] == kind {
			kept = append(kept, category)
		}
	}
	return kept
}

// covers: every restrictive value is held, and of every permissive tag one.
func covers(categories, held any) bool {
	for _, category := range must(asArray(categories, -1, "categories")) {
		row, common := must(asArray(category, 4, "category")), 0
		values := must(asArray(row[3], -1, "values"))
		for _, other := range must(asArray(held, -1, "categories")) {
			has := must(asArray(other, 4, "category"))
			for _, value := range values {
				if has[1] == row[1] && has[2] == row[2] && lists(has[3], value) {
					common++
				}
			}
		}
		if row[2] == int64(1) && common < len(values) || row[2] == int64(2) && common == 0 {
			return false
		}
	}
	return true
}
