package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/mldsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
)

// Suite 1 of the protocol.
const (
	algSignature = int64(-70001) // ML-DSA-65 with Ed25519, composite
	algKEM       = int64(-70011) // HPKE base mode: MLKEM768-X25519, SHAKE256, AES-256-GCM
	algContent   = "Cobblestone-256"
	typMessage   = "application/relay-message+cose"
	typEndorse   = "application/relay-endorsement+cose"
)

// What the reader has: its own keys, and what the verified directory told it about the sender. Octets are base64.
type messageFixture struct {
	Delivery     []byte
	Parts        map[string][]byte // the sealed parts by portion
	SenderPublic []byte            `json:"sender_public"`
	DeviceID     []byte            `json:"device_id"`
	RecipientKid []byte            `json:"recipient_kid"`
	KemSeed      []byte            `json:"kem_seed"`
	LogVkeys     []string          `json:"log_vkeys"`
	Endorsers    [][]byte          `json:"endorser_publics"` // of the endorsements, in their order
}

type openedMessage struct {
	MessageID  string            `json:"message_id"`
	MessageRef string            `json:"message_ref"`
	Sender     string            `json:"sender"`
	Plaintexts map[string][]byte `json:"plaintexts"` // by portion
}

type slot struct {
	deviceID, kpRef, protected, enc, wrapped []byte
	granted                                  []int64
}

type message struct {
	ref        hash
	kid        []byte
	core       map[int64]any
	coreDigest hash
	slotCount  int64
	slotRoot   hash
}

func verifyMessage(path string) (any, error) {
	var fixture messageFixture
	readJSON(path, &fixture)
	return openDelivery(fixture)
}

func openDelivery(fixture messageFixture) (any, error) {
	delivery, err := readArray(fixture.Delivery, 6, "delivery")
	if err != nil {
		return nil, err
	}
	signed, err := asBytes(delivery[0], -1, "delivery: message")
	if err != nil {
		return nil, err
	}
	received, err := openSigned(signed, fixture.SenderPublic) // type, algorithm, sender, signature, core
	if err != nil {
		return nil, err
	}
	own, err := ownSlot(delivery, received, fixture.DeviceID)
	if err != nil {
		return nil, err
	}
	if err := verifyRelease(delivery[4], received, own, fixture); err != nil {
		return nil, err
	}
	keys, err := unwrap(own, received, fixture)
	if err != nil {
		return nil, err
	}
	plaintexts, err := openParts(own, received, keys, fixture.Parts)
	if err != nil {
		return nil, err
	}
	sender := received.core[3].([]any)[0].(string)
	if err := verifyEndorsements(delivery[5], received, sender, fixture.Endorsers); err != nil {
		return nil, err
	}
	return openedMessage{
		hex.EncodeToString(received.core[2].([]byte)), hex.EncodeToString(received.ref[:]), sender, plaintexts,
	}, nil
}

func openSigned(signed, public []byte) (*message, error) {
	payload, kid, ref, err := verifySign1(signed, public, typMessage)
	if err != nil {
		return nil, err
	}
	received := &message{ref: ref, kid: kid}
	return received, received.readPayload(payload)
}

// verifySign1 checks a COSE_Sign1 of this type under this key: its payload, kid and ref.
func verifySign1(signed, public []byte, typ string) (payload, kid []byte, ref hash, err error) {
	protected, payload, signature, err := splitSign1(signed)
	if err != nil {
		return nil, nil, hash{}, err
	}
	if kid, err = checkHeader(protected, public, typ); err != nil {
		return nil, nil, hash{}, err
	}
	tbs := encode([]any{"Signature1", protected, []byte{}, payload})
	return payload, kid, sha256.Sum256(tbs), verifyComposite(public, tbs, signature)
}

func splitSign1(signed []byte) (protected, payload, signature []byte, err error) {
	parts, err := readArray(signed, 4, "signed object")
	if err != nil {
		return nil, nil, nil, err
	}
	var octets [4][]byte
	for _, i := range []int{0, 2, 3} {
		if octets[i], err = asBytes(parts[i], -1, "signed object"); err != nil {
			return nil, nil, nil, err
		}
	}
	if unprotected, ok := parts[1].(map[int64]any); !ok || len(unprotected) != 0 {
		return nil, nil, nil, fmt.Errorf("signed object: unprotected headers")
	}
	return octets[0], octets[2], octets[3], nil
}

func checkHeader(protected, public []byte, typ string) ([]byte, error) {
	value, err := decode(protected)
	if err != nil {
		return nil, err
	}
	header, ok := value.(map[int64]any)
	if !ok || len(header) != 3 || header[1] != algSignature || header[16] != typ {
		return nil, fmt.Errorf("signed object: another type or algorithm")
	}
	kid, err := asBytes(header[4], 32, "signed object: kid")
	if err != nil {
		return nil, err
	}
	if sum := thumbprint(algSignature, public); !bytes.Equal(sum[:], kid) {
		return nil, fmt.Errorf("signed object: signed by another key than the sender's or the endorser's")
	}
	return kid, nil
}

// thumbprint is SHA-256 over {1: 7, 3: alg, -1: pub} (RFC 9679).
func thumbprint(alg int64, public []byte) hash {
	key := append([]byte{0xa3, 0x01, 0x07, 0x03}, encode(alg)...)
	return sha256.Sum256(append(append(key, 0x20), encode(public)...))
}

func verifyComposite(public, tbs, signature []byte) error {
	const label = "COMPSIG-MLDSA65-Ed25519-SHA512"
	if len(public) != 1952+32 || len(signature) != 3309+64 {
		return fmt.Errorf("signature: wrong sizes")
	}
	digest := sha512.Sum512(tbs)
	representative := append([]byte("CompositeAlgorithmSignatures2025"+label+"\x00"), digest[:]...)
	lattice, err := mldsa.NewPublicKey(mldsa.MLDSA65(), public[:1952])
	if err != nil {
		return err
	}
	if err := mldsa.Verify(lattice, representative, signature[:3309], &mldsa.Options{Context: label}); err != nil {
		return fmt.Errorf("signature: ML-DSA-65 half: %w", err)
	}
	if !ed25519.Verify(public[1952:], representative, signature[3309:]) {
		return fmt.Errorf("signature: Ed25519 half does not verify")
	}
	return nil
}

func (m *message) readPayload(payload []byte) error {
	fields, err := readArray(payload, 3, "message payload")
	if err != nil {
		return err
	}
	encoded, err := asBytes(fields[0], -1, "core")
	if err != nil {
		return err
	}
	m.coreDigest = sha256.Sum256(encoded)
	if m.slotCount, err = asInt(fields[1], "slots"); err != nil {
		return err
	}
	root, err := asBytes(fields[2], 32, "slot root")
	if err != nil {
		return err
	}
	m.slotRoot = hash(root)
	value, err := decode(encoded)
	if err != nil {
		return err
	}
	core, ok := value.(map[int64]any)
	if !ok || len(core) != 16 || core[1] != int64(1) || core[9] != algContent {
		return fmt.Errorf("core: another suite or version")
	}
	if _, err := asBytes(core[2], 16, "core: message id"); err != nil {
		return err
	}
	sender, err := asArray(core[3], 3, "core: sender")
	if err != nil {
		return err
	}
	if kid, ok := sender[2].([]byte); !ok || !bytes.Equal(kid, m.kid) {
		return fmt.Errorf("core: names another sender than its signature")
	}
	if _, ok := sender[0].(string); !ok {
		return fmt.Errorf("core: sender")
	}
	m.core = core
	return checkCore(core)
}

func ownSlot(delivery []any, received *message, deviceID []byte) (*slot, error) {
	index, err := asInt(delivery[1], "delivery: index")
	if err != nil {
		return nil, err
	}
	leaf, err := asBytes(delivery[2], -1, "delivery: slot")
	if err != nil {
		return nil, err
	}
	proof, err := asHashes(delivery[3], "delivery: proof")
	if err != nil {
		return nil, err
	}
	if err := verifyInclusion(leafHash(leaf), index, received.slotCount, proof, received.slotRoot); err != nil {
		return nil, fmt.Errorf("slot: %w", err)
	}
	own, err := readSlot(leaf)
	if err == nil && !bytes.Equal(own.deviceID, deviceID) {
		err = fmt.Errorf("slot: another device's")
	}
	return own, err
}

func readSlot(leaf []byte) (*slot, error) {
	fields, err := readArray(leaf, 4, "slot")
	if err != nil {
		return nil, err
	}
	granted, err := asArray(fields[2], -1, "slot: granted")
	if err != nil || len(granted) == 0 {
		return nil, fmt.Errorf("slot: grants nothing")
	}
	wrap, err := asArray(fields[3], 3, "slot: wrap")
	if err != nil {
		return nil, err
	}
	header, ok := wrap[1].(map[int64]any)
	if !ok || len(header) != 1 {
		return nil, fmt.Errorf("slot: headers")
	}
	own := &slot{}
	for _, field := range []struct {
		into   *[]byte
		value  any
		length int
	}{
		{&own.deviceID, fields[0], 16}, {&own.kpRef, fields[1], 32}, {&own.protected, wrap[0], -1},
		{&own.enc, header[-4], 1120}, {&own.wrapped, wrap[2], 32*len(granted) + 16},
	} {
		if *field.into, err = asBytes(field.value, field.length, "slot"); err != nil {
			return nil, err
		}
	}
	for i, item := range granted {
		portion, err := asInt(item, "slot: granted")
		if err != nil || portion < 0 || i > 0 && portion <= own.granted[i-1] {
			return nil, fmt.Errorf("slot: granted portions are not ascending")
		}
		own.granted = append(own.granted, portion)
	}
	return own, nil
}

// verifyRelease checks that the access log says: this message was opened by this device, permitted.
func verifyRelease(value any, received *message, own *slot, fixture messageFixture) error {
	fields, err := asArray(value, 5, "release")
	if err != nil {
		return err
	}
	encoded, err := asBytes(fields[0], -1, "release: entry")
	if err != nil {
		return err
	}
	index, err := asInt(fields[1], "release: index")
	if err != nil {
		return err
	}
	proof, err := asHashes(fields[2], "release: proof")
	if err != nil {
		return err
	}
	note, err := asBytes(fields[3], -1, "release: checkpoint")
	if err != nil {
		return err
	}
	stated, err := openCheckpoint(note, fixture.LogVkeys)
	if err != nil {
		return err
	}
	if err := verifyInclusion(leafHash(encoded), index, stated.size, proof, stated.root); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	entry, err := decode(encoded)
	if err != nil {
		return err
	}
	said, ok := entry.(map[int64]any)
	if !ok || said[2] != "open" || said[12] != true {
		return fmt.Errorf("release: the log entry is not a permitted opening")
	}
	device, _ := said[5].([]byte)
	ref, _ := said[10].([]byte)
	if !bytes.Equal(device, fixture.DeviceID) || !bytes.Equal(ref, received.ref[:]) {
		return fmt.Errorf("release: the log entry is of another device or message")
	}
	if said[16] != namePortions(own.granted) {
		return fmt.Errorf("release: the log entry names other portions than the slot grants")
	}
	sender, err := asArray(received.core[3], 3, "core: sender")
	if err != nil {
		return err
	}
	address, _ := sender[0].(string)
	originator := officeOf(address)
	if said[7] == originator {
		originator = ""
	}
	if said[8] != originator {
		return fmt.Errorf("release: the log entry does not concern the originator's office")
	}
	return nil
}

// namePortions writes ascending portions as an open entry does: "portions 0-3,5".
func namePortions(granted []int64) string {
	named := "portions "
	for i := 0; i < len(granted); i++ {
		first := i
		for i+1 < len(granted) && granted[i+1] == granted[i]+1 {
			i++
		}
		if first > 0 {
			named += ","
		}
		named += strconv.FormatInt(granted[first], 10)
		if i > first {
			named += "-" + strconv.FormatInt(granted[i], 10)
		}
	}
	return named
}

func unwrap(own *slot, received *message, fixture messageFixture) ([]byte, error) {
	protected := append([]byte{0xa2, 0x01}, encode(algKEM)...)
	protected = append(append(protected, 0x04), encode(own.kpRef)...)
	if !bytes.Equal(protected, own.protected) {
		return nil, fmt.Errorf("slot: another algorithm or key package")
	}
	granted := make([]any, len(own.granted))
	for i, portion := range own.granted {
		granted[i] = portion
	}
	context := encode([]any{
		"relay-msg/1", received.coreDigest[:], received.kid, own.deviceID, fixture.RecipientKid, granted,
	})
	info := encode([]any{"HPKE Recipient", algContent, own.protected, context})
	private, err := hpke.MLKEM768X25519().NewPrivateKey(fixture.KemSeed)
	if err != nil {
		return nil, err
	}
	sealed := append(bytes.Clone(own.enc), own.wrapped...)
	keys, err := hpke.Open(private, hpke.SHAKE256(), hpke.AES256GCM(), info, sealed)
	if err != nil {
		return nil, fmt.Errorf("slot: %w", err)
	}
	if len(keys) != 32*len(own.granted) {
		return nil, fmt.Errorf("slot: %d octets of keys", len(keys))
	}
	return keys, nil
}

func openParts(own *slot, received *message, keys []byte, parts map[string][]byte) (map[string][]byte, error) {
	portions, err := asArray(received.core[8], -1, "core: portions")
	if err != nil {
		return nil, err
	}
	plaintexts := map[string][]byte{}
	for i, portion := range own.granted {
		if portion >= int64(len(portions)) {
			return nil, fmt.Errorf("slot: portion %d does not exist", portion)
		}
		name := strconv.FormatInt(portion, 10)
		sealed, ok := parts[name]
		if !ok {
			return nil, fmt.Errorf("part %s is missing", name)
		}
		stated, err := asArray(portions[portion], 3, "core: portion")
		if err != nil {
			return nil, err
		}
		digest := partDigest(sealed)
		if said, _ := stated[1].([]byte); stated[0] != int64(len(sealed)) || !bytes.Equal(said, digest[:]) {
			return nil, fmt.Errorf("part %s is not the one that was signed", name)
		}
		context := encode([]any{"relay-part/1", received.core[2], received.kid, portion})
		padded, err := openCobblestone(keys[32*i:32*i+32], context, sealed)
		if err != nil {
			return nil, fmt.Errorf("part %s: %w", name, err)
		}
		if plaintexts[name], err = unpack(padded, stated[2]); err != nil {
			return nil, fmt.Errorf("part %s: %w", name, err)
		}
	}
	return plaintexts, nil
}

// partDigest is SHA-256, of a part longer than a chunk over the SHA-256 of each of its chunks.
func partDigest(sealed []byte) [32]byte {
	const chunk = 4 << 20
	if len(sealed) <= chunk {
		return sha256.Sum256(sealed)
	}
	digests := []byte{}
	for at := 0; at < len(sealed); at += chunk {
		digest := sha256.Sum256(sealed[at:min(at+chunk, len(sealed))])
		digests = append(digests, digest[:]...)
	}
	return sha256.Sum256(digests)
}

// unpack takes the content out of a part: u32 length of the header, header, content, zeros.
func unpack(padded []byte, outside any) ([]byte, error) {
	if len(padded) < 4 || uint64(binary.BigEndian.Uint32(padded)) > uint64(len(padded)-4) {
		return nil, fmt.Errorf("its header does not fit")
	}
	end := 4 + int64(binary.BigEndian.Uint32(padded))
	value, err := decode(padded[4:end])
	if err != nil {
		return nil, err
	}
	header, ok := value.(map[int64]any)
	if !ok || len(header) != 5 {
		return nil, fmt.Errorf("not a part header")
	}
	inside, _ := header[2].([]byte)
	if label, ok := outside.([]byte); !ok || !bytes.Equal(inside, label) {
		return nil, fmt.Errorf("the label inside is not the label outside")
	}
	length, err := asInt(header[3], "part header: length")
	if err != nil || length < 0 || length > int64(len(padded))-end {
		return nil, fmt.Errorf("another length than its header says")
	}
	if len(bytes.Trim(padded[end+length:], "\x00")) != 0 {
		return nil, fmt.Errorf("padding that is not zero")
	}
	return padded[end : end+length], nil
}

// openCobblestone is C2SP chunked-encryption@v1 with AES-256-GCM.
func openCobblestone(key, context, sealed []byte) ([]byte, error) {
	if len(sealed) < 24+32+16 {
		return nil, fmt.Errorf("truncated")
	}
	info := "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00" + string(sealed[:24]) + string(context)
	derived, err := hkdf.Expand(sha512.New, key, info, 32+12+32)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(derived[44:], sealed[24:56]) {
		return nil, fmt.Errorf("commitment does not match")
	}
	block, err := aes.NewCipher(derived[:32])
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	var plaintext []byte
	rest := sealed[56:]
	for chunk := uint64(0); ; chunk++ {
		nonce := bytes.Clone(derived[32:44])
		counter := binary.BigEndian.Uint64(nonce[4:]) ^ chunk
		binary.BigEndian.PutUint64(nonce[4:], counter)
		size := min(len(rest), 16384+16)
		if size < 16 {
			return nil, fmt.Errorf("truncated at chunk %d", chunk)
		}
		if plaintext, err = aead.Open(plaintext, nonce, rest[:size], nil); err != nil {
			return nil, fmt.Errorf("chunk %d: %w", chunk, err)
		}
		if rest = rest[size:]; size < 16384+16 {
			return plaintext, nil // a short chunk is read only at the end of the input, so nothing follows it
		}
	}
}
