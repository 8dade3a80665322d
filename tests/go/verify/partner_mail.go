package main

import (
	"bytes"
	"crypto/hpke"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// What the partner sends and reads.

func (p *partner) send(to, classification, text string) any {
	p.look()
	now := time.Now().Unix()
	readers := p.readersOf(to, now)
	refuse(len(readers) == 0, "%s: nobody", to)
	label := p.labelFor(p.directory.devices[readers[0]].office, classification, now)
	for _, id := range append(readers, string(p.key.device())) {
		p.mayRead(label, "", p.directory.devices[string(p.key.device())], p.directory.devices[id], now)
	}
	id, key := binary.BigEndian.AppendUint32(nil, uint32(now)), random(32)
	id = append(id, random(12)...)
	context := encode([]any{"relay-part/1", id, p.key.kid, 0})
	header := map[int64]any{1: 1, 2: label, 3: len(text), 4: "From a partner", 5: "text/plain; charset=utf-8"}
	part := sealPart(key, context, header, []byte(text))
	p.Sequence, p.DTG = p.Sequence+1, max(now-now%60, p.DTG+60)
	core := encode(map[int64]any{
		1: 1, 2: id, 3: []any{p.Address, p.key.device(), p.key.kid}, 4: now, 5: now + 86400, 6: label,
		7: []any{[]any{1, to}}, 8: []any{[]any{len(part), sum(part), label}}, 9: algContent, 10: p.Sequence, 11: p.Previous,
		12: []any{p.head.origin, p.head.size, p.head.root[:]},
		13: map[int64]any{1: 1, 2: 1, 3: p.DTG, 4: "operation", 5: []any{}, 6: true, 7: false, 8: "", 9: nil},
		14: []any{}, 15: []any{}, 16: []any{},
	})
	slots, leaves := []any{}, []hash{}
	for i, claimed := range p.claim(readers) {
		slot := p.sealSlot(core, readers[i], claimed, key)
		slots, leaves = append(slots, slot), append(leaves, leafHash(slot))
	}
	root := treeRoot(leaves)
	p.Last = encode([]any{p.key.sign("message", []any{core, len(slots), root[:]}), slots, []any{part}, []any{}})
	return p.post()
}

// post sends the last submission and verifies the receipt: of this message, with exactly these grants.
func (p *partner) post() any {
	parts := must(readArray(p.Last, 4, "submission"))
	message := parts[0].([]byte)
	received := must(openSigned(message, p.key.public))
	grants := []any{}
	for _, slot := range must(asArray(parts[1], -1, "slots")) {
		own := must(readSlot(slot.([]byte)))
		grants = append(grants, []any{own.deviceID, []any{own.granted[0]}})
	}
	entry := p.logged(must(decode(p.ask("POST", "/v1/messages", p.Last))), "accept", received)
	refuse(entry[16] != hex.EncodeToString(sum(encode(grants)))+" routine", "receipt: other grants than were posted")
	p.Previous = received.ref[:]
	return map[string]any{"message_id": hex.EncodeToString(received.core[2].([]byte)), "accepted": entry[3]}
}

type claimed struct{ ref, public []byte }

// claim takes a key package for each device, and refuses what is not in a logged and signed batch or is of no use.
func (p *partner) claim(devices []string) []claimed {
	asked, found := []any{}, []claimed{}
	for _, id := range devices {
		asked = append(asked, []byte(id))
	}
	rows := must(readArray(p.ask("POST", "/v1/keys/claim", encode(asked)), len(devices), "claim"))
	p.look() // the batch may have been logged since
	for i, value := range rows {
		row, now := must(asArray(value, 3, "claim")), time.Now().Unix()
		encoded := must(asBytes(row[1], -1, "no-keys"))
		fields := must(readArray(encoded, 8, "key package"))
		batch, public := must(asBytes(row[2], -1, "batch")), p.directory.devices[devices[i]].public
		payload, _, _, err := verifySign1(batch, public, "application/relay-keybatch+cose")
		refuse(err != nil, "key batch: %v", err)
		terms := must(readArray(payload, 4, "key batch"))
		own := func(ref any) bool { return same(ref, sum(encoded)) }
		listed := slices.ContainsFunc(must(asArray(terms[3], -1, "refs")), own)
		refuse(!listed || !same(fields[1], []byte(devices[i])) || fields[2] != algKEM, "key package: not of this batch")
		refuse(!p.batches[devices[i]+string(sum(payload))], "key batch: not in the log")
		from, until := must(asTime(fields[4], "from")), must(asTime(fields[5], "until"))
		refuse(from-300 > now || now >= until || until > now+400*86400, "unusable-keys")
		found = append(found, claimed{sum(encoded), must(asBytes(fields[3], 1216, "key"))})
	}
	return found
}

func (p *partner) sealSlot(core []byte, device string, to claimed, key []byte) []byte {
	kid := thumbprint(algSignature, p.directory.devices[device].public)
	protected := encode(map[int64]any{1: algKEM, 4: to.ref})
	info := encode([]any{"HPKE Recipient", algContent, protected,
		encode([]any{"relay-msg/1", sum(core), p.key.kid, []byte(device), kid[:], []any{0}})})
	public := must(hpke.MLKEM768X25519().NewPublicKey(to.public))
	sealed := must(hpke.Seal(public, hpke.SHAKE256(), hpke.AES256GCM(), info, key))
	wrap := []any{protected, map[int64]any{-4: sealed[:1120]}, sealed[1120:]}
	return encode([]any{[]byte(device), to.ref, []any{0}, wrap})
}

// logged verifies a LoggedEntry: included, in the one history, of this event, our own, of this message, permitted.
func (p *partner) logged(value any, event string, about *message) map[int64]any {
	row := must(asArray(value, 5, "logged entry"))
	encoded, index := must(asBytes(row[0], -1, "entry")), must(asInt(row[1], "index"))
	stated := p.opened("access", must(asBytes(row[3], -1, "checkpoint")))
	err := verifyInclusion(leafHash(encoded), index, stated.size, must(asHashes(row[2], "proof")), stated.root)
	refuse(err != nil, "logged entry: %v", err)
	p.advance(stated, row[4])
	entry := must(decode(encoded)).(map[int64]any)
	refuse(len(entry) != 16 || entry[1] != int64(1), "logged entry: another form")
	refuse(entry[2] != event || entry[12] != true, "logged entry: not a permitted %s", event)
	own := same(entry[5], p.key.device()) && entry[6] == p.Address && entry[7] == officeOf(p.Address)
	refuse(!own, "logged entry: another's")
	this := same(entry[9], about.core[2]) && same(entry[10], about.ref[:]) && same(entry[11], about.core[6])
	refuse(!this, "logged entry: of another message")
	return entry
}

func (p *partner) receive() any {
	p.look()
	texts := []string{}
	inbox := must(readArray(p.ask("GET", "/v1/inbox?after=0", nil), 2, "inbox"))
	for _, row := range must(asArray(inbox[1], -1, "inbox")) {
		received, _ := p.header(must(asArray(row, 2, "inbox"))[1].([]byte))
		if id := hex.EncodeToString(received.core[2].([]byte)); !p.Seen[id] {
			texts = append(texts, p.open(id)...)
		}
	}
	return map[string]any{"texts": texts}
}

// header is steps 1 to 4 of section 17.
func (p *partner) header(encoded []byte) (*message, *certified) {
	_, _, sender, err := p.directory.signedBy(encoded, "message")
	refuse(err != nil, "message: %v", err)
	received := must(openSigned(encoded, sender.public))
	core, now := received.core, time.Now().Unix()
	created, expires := must(asTime(core[4], "created")), must(asTime(core[5], "expires"))
	named := core[3].([]any)[0] == sender.address && p.trusts(sender.office) && sender.couldSign(created)
	refuse(!named, "message: not from %s", sender.address)
	view := must(asArray(core[12], 3, "directory"))
	size := must(asInt(view[1], "directory: size"))
	refuse(view[0] != p.head.origin || size < 1 || size > p.head.size, "message: of another directory, or a newer one")
	root := p.rootAt(size)
	refuse(!same(view[2], root[:]), "message: its sender saw another directory")
	refuse(now >= expires || expires > created+366*86400 || created > now+300, "message: expired, or not of this time")
	return received, sender
}

// open is the rest of section 17: the slot, the entry that released it, keys, parts, rules; then both receipts.
func (p *partner) open(id string) []string {
	path := "/v1/messages/" + id
	answer := p.ask("POST", path+"/open", nil)
	delivery := must(readArray(answer, 6, "delivery"))
	received, sender := p.header(delivery[0].([]byte))
	core := received.core
	refuse(hex.EncodeToString(core[2].([]byte)) != id, "delivery: another message than was asked for")
	for _, key := range []int64{14, 15, 16} {
		refuse(len(must(asArray(core[key], -1, "core"))) > 0, "message: alternatives or a forward, which are not read here")
	}
	sequence := fmt.Sprintf("%x %d", core[3].([]any)[1], core[10])
	refuse(p.Seen[id] || p.Seen[sequence], "message: opened before")
	own := must(ownSlot(delivery, received, p.key.device()))
	p.logged(delivery[4], "open", received)
	ref := hex.EncodeToString(own.kpRef)
	fixture := messageFixture{
		Delivery: answer, Parts: map[string][]byte{}, SenderPublic: sender.public, DeviceID: p.key.device(),
		RecipientKid: p.key.kid, KemSeed: p.Packages[ref], LogVkeys: p.vkeys["access"],
	}
	refuse(fixture.KemSeed == nil, "slot: sealed to a key that is not here")
	handling := core[13].(map[int64]any)
	for _, portion := range own.granted {
		name := strconv.FormatInt(portion, 10)
		fixture.Parts[name] = p.ask("GET", path+"/parts/"+name, nil)
		label := must(asArray(core[8], -1, "portions"))[portion].([]any)[2].([]byte)
		self := p.directory.devices[string(p.key.device())]
		p.mayRead(label, handling[8].(string), sender, self, time.Now().Unix())
		p.mayRead(label, "", sender, sender, core[4].(int64))
		refuse(!isAddressed(core[7], self), "message: not addressed to us")
	}
	found := must(openDelivery(fixture)).(openedMessage)
	p.Seen[id], p.Seen[sequence] = true, true
	delete(p.Packages, ref)
	texts := []string{}
	for _, portion := range own.granted {
		texts = append(texts, string(bytes.TrimSpace(found.Plaintexts[strconv.FormatInt(portion, 10)])))
	}
	for _, state := range []string{"opened", "acknowledged"} {
		receipt := p.key.sign("receipt", []any{1, core[2], received.ref[:], p.key.device(), state, time.Now().Unix()})
		entry := p.logged(must(decode(p.ask("POST", path+"/receipts", receipt))), "acknowledge", received)
		refuse(entry[16] != state, "receipt: another was logged")
	}
	return texts
}
