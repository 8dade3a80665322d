package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Signed notes and checkpoints: C2SP signed-note, tlog-checkpoint, tlog-cosignature.

const (
	typeEd25519     = 0x01
	typeCosignature = 0x04
	typeMLDSA44     = 0x06
)

type noteKey struct {
	name   string
	id     []byte
	kind   byte
	public []byte
}

type checkpoint struct {
	origin   string
	size     int64
	root     hash
	signedAt int64 // by the last ML-DSA-44 key given, in seconds
}

func parseVkey(vkey string) (noteKey, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return noteKey{}, fmt.Errorf("verifier key: not name+id+key")
	}
	id, err := hex.DecodeString(parts[1])
	if err != nil {
		return noteKey{}, err
	}
	key, err := base64.StdEncoding.Strict().DecodeString(parts[2])
	if err != nil || len(key) < 2 {
		return noteKey{}, fmt.Errorf("verifier key: not base64")
	}
	sum := sha256.Sum256(append([]byte(parts[0]+"\n"), key...))
	if !bytes.Equal(sum[:4], id) {
		return noteKey{}, fmt.Errorf("verifier key: wrong id")
	}
	return noteKey{parts[0], id, key[0], key[1:]}, nil
}

// openCheckpoint requires a valid signature of every key given.
func openCheckpoint(note []byte, vkeys []string) (checkpoint, error) {
	at := bytes.LastIndex(note, []byte("\n\n"))
	if at < 0 || len(vkeys) == 0 || !bytes.HasSuffix(note, []byte("\n")) {
		return checkpoint{}, fmt.Errorf("checkpoint: not a note, or no keys")
	}
	text := note[:at+1]
	stated, err := parseCheckpoint(string(text))
	if err != nil {
		return checkpoint{}, err
	}
	lines := strings.Split(strings.TrimSuffix(string(note[at+2:]), "\n"), "\n")
	for _, vkey := range vkeys {
		key, err := parseVkey(vkey)
		if err != nil {
			return checkpoint{}, err
		}
		signature, err := findSignature(lines, key)
		if err != nil {
			return checkpoint{}, err
		}
		if err := key.verify(text, stated, signature); err != nil {
			return checkpoint{}, fmt.Errorf("checkpoint: %s, type %#02x: %w", key.name, key.kind, err)
		}
		if key.kind == typeMLDSA44 {
			stated.signedAt = int64(binary.BigEndian.Uint64(signature))
		}
	}
	return stated, nil
}

func parseCheckpoint(text string) (checkpoint, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[0] == "" || lines[3] != "" {
		return checkpoint{}, fmt.Errorf("checkpoint: not three lines")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return checkpoint{}, fmt.Errorf("checkpoint: size %q", lines[1])
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[2])
	if err != nil || len(root) != 32 {
		return checkpoint{}, fmt.Errorf("checkpoint: root %q", lines[2])
	}
	return checkpoint{origin: lines[0], size: size, root: hash(root)}, nil
}

func findSignature(lines []string, key noteKey) ([]byte, error) {
	for _, line := range lines {
		parts := strings.Split(line, " ")
		if len(parts) != 3 || parts[0] != "\u2014" {
			return nil, fmt.Errorf("checkpoint: malformed signature line")
		}
		signature, err := base64.StdEncoding.Strict().DecodeString(parts[2])
		if err != nil || len(signature) < 5 {
			return nil, fmt.Errorf("checkpoint: malformed signature")
		}
		if parts[1] == key.name && bytes.Equal(signature[:4], key.id) {
			return signature[4:], nil
		}
	}
	return nil, fmt.Errorf("checkpoint: not signed by %s, type %#02x", key.name, key.kind)
}

func (key noteKey) verify(text []byte, stated checkpoint, signature []byte) error {
	switch key.kind {
	case typeEd25519:
		if len(key.public) != ed25519.PublicKeySize || !ed25519.Verify(key.public, text, signature) {
			return fmt.Errorf("signature does not verify")
		}
		return nil
	case typeCosignature:
		if len(key.public) != ed25519.PublicKeySize || len(signature) != 8+ed25519.SignatureSize {
			return fmt.Errorf("key or signature has a wrong length")
		}
		message := fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(signature), text)
		if !ed25519.Verify(key.public, message, signature[8:]) {
			return fmt.Errorf("cosignature does not verify")
		}
		return nil
	case typeMLDSA44:
		if len(signature) != 8+2420 {
			return fmt.Errorf("signature has %d octets", len(signature))
		}
		public, err := mldsa.NewPublicKey(mldsa.MLDSA44(), key.public)
		if err != nil {
			return err
		}
		message := []byte("subtree/v1\n\x00")
		message = append(append(message, byte(len(key.name))), key.name...)
		message = append(message, signature[:8]...)
		message = append(append(message, byte(len(stated.origin))), stated.origin...)
		message = binary.BigEndian.AppendUint64(message, 0)
		message = binary.BigEndian.AppendUint64(message, uint64(stated.size))
		message = append(message, stated.root[:]...)
		return mldsa.Verify(public, message, signature[8:], nil)
	}
	return fmt.Errorf("a type of key that is not used here")
}
