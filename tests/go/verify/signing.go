package main

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/bits"
	"net"
	"slices"
	"strings"
	"time"
)

// What a device makes: signed objects, signed requests, sealed parts.

type deviceKey struct {
	lattice     *mldsa.PrivateKey
	curve       ed25519.PrivateKey
	request     ed25519.PrivateKey
	public, kid []byte
}

func sum(parts ...[]byte) []byte {
	digest := sha256.Sum256(bytes.Join(parts, nil))
	return digest[:]
}

func random(size int) []byte {
	octets := make([]byte, size)
	rand.Read(octets)
	return octets
}

// keyFrom makes the keys from three seeds of 32 octets.
func keyFrom(seeds []byte) deviceKey {
	lattice := must(mldsa.NewPrivateKey(mldsa.MLDSA65(), seeds[:32]))
	key := deviceKey{lattice, ed25519.NewKeyFromSeed(seeds[32:64]), ed25519.NewKeyFromSeed(seeds[64:]), nil, nil}
	key.public = append(lattice.PublicKey().Bytes(), key.curve.Public().(ed25519.PublicKey)...)
	kid := thumbprint(algSignature, key.public)
	key.kid = kid[:]
	return key
}

func (key deviceKey) device() []byte { return key.kid[:16] }

func (key deviceKey) sign(typ string, payload any) []byte {
	const label = "COMPSIG-MLDSA65-Ed25519-SHA512"
	protected := encode(map[int64]any{1: algSignature, 4: key.kid, 16: "application/relay-" + typ + "+cose"})
	body := encode(payload)
	digest := sha512.Sum512(encode([]any{"Signature1", protected, []byte{}, body}))
	representative := append([]byte("CompositeAlgorithmSignatures2025"+label+"\x00"), digest[:]...)
	signature := must(key.lattice.Sign(nil, representative, &mldsa.Options{Context: label}))
	signature = append(signature, ed25519.Sign(key.curve, representative)...)
	return encode([]any{protected, map[int64]any{}, body, signature})
}

// ask sends a signed request (section 21) to the relay at this address and refuses every answer but a success.
func (key deviceKey) ask(relay, method, path string, body []byte, seen int64) []byte {
	host := strings.TrimPrefix(relay, "http://")
	covered, fields := []string{"@method", "@authority", "@target-uri"}, ""
	values := map[string]string{"@method": method, "@authority": host, "@target-uri": relay + path}
	if len(body) > 0 {
		covered = append(covered, "content-digest", "content-type")
		values["content-digest"] = "sha-256=:" + base64.StdEncoding.EncodeToString(sum(body)) + ":"
		values["content-type"] = "application/cbor"
	}
	now, base := time.Now().Unix(), ""
	parameters := fmt.Sprintf(`("%s");created=%d;expires=%d;nonce="%s";keyid="%s";alg="ed25519";tag="relay-v1"`,
		strings.Join(covered, `" "`), now, now+60, base64.StdEncoding.EncodeToString(random(16)),
		hex.EncodeToString(key.device()))
	for _, name := range covered {
		base += fmt.Sprintf("%q: %s\n", name, values[name])
		if name[0] != '@' {
			fields += name + ": " + values[name] + "\r\n"
		}
	}
	signature := ed25519.Sign(key.request, []byte(base+`"@signature-params": `+parameters))
	fields += fmt.Sprintf("signature-input: sig1=%s\r\nsignature: sig1=:%s:\r\nrelay-seen: %d\r\n",
		parameters, base64.StdEncoding.EncodeToString(signature), seen)
	status, answer := exchange(host, method, path, fields, body)
	refuse(status >= 300, "%s %s: %s", method, path, answer)
	return answer
}

// exchange is HTTP/1.1 with a connection for each request: net/http would take as long to build as all the rest.
func exchange(host, method, path, fields string, body []byte) (status int, answer []byte) {
	connection := must(net.Dial("tcp", host))
	defer connection.Close()
	must(fmt.Fprintf(connection, "%s %s HTTP/1.1\r\nhost: %s\r\nconnection: close\r\naccept-encoding: identity\r\n"+
		"content-length: %d\r\n%s\r\n%s", method, path, host, len(body), fields, body))
	said := must(io.ReadAll(io.LimitReader(connection, 64<<20)))
	head, answer, _ := bytes.Cut(said, []byte("\r\n\r\n"))
	must(fmt.Sscanf(string(head), "HTTP/1.1 %d", &status))
	length := fmt.Sprintf("content-length: %d\r\n", len(answer))
	refuse(!strings.Contains(strings.ToLower(string(head))+"\r\n", length), "%s %s: cut off", method, path)
	return status, answer
}

// sealPart makes the inverse of openParts: header, content and padding under a content key.
func sealPart(key, context []byte, header map[int64]any, content []byte) []byte {
	plaintext := binary.BigEndian.AppendUint32(nil, uint32(len(encode(header))))
	plaintext = slices.Concat(plaintext, encode(header), content)
	plaintext = append(plaintext, make([]byte, padded(len(plaintext))-len(plaintext))...)
	salt := random(24)
	info := "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00" + string(salt) + string(context)
	derived := must(hkdf.Expand(sha512.New, key, info, 32+12+32))
	aead := must(cipher.NewGCM(must(aes.NewCipher(derived[:32]))))
	sealed := append(salt, derived[44:]...)
	for chunk := 0; chunk*16384 <= len(plaintext); chunk++ {
		nonce := bytes.Clone(derived[32:44])
		binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^uint64(chunk))
		sealed = aead.Seal(sealed, nonce, plaintext[chunk*16384:min(len(plaintext), (chunk+1)*16384)], nil)
	}
	return sealed
}

// padded is Padmé, 256 at least.
func padded(length int) int {
	exponent := bits.Len(uint(length)) - 1
	mask := 1<<(exponent-bits.Len(uint(exponent))) - 1
	return max(256, (length+mask)&^mask)
}
