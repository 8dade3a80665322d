// Sumdb verifies a published log with golang.org/x/mod/sumdb, the code that checks Go's own checksum database:
// signed note, entries, tiles, inclusion and consistency proofs. The only code here is what feeds it files.
//
// It builds in GOPATH mode (GO111MODULE=off) against Debian's golang-golang-x-mod-dev.
package main

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type manifest struct {
	Vkeys     []string
	Cosigners []string
	Inclusion []struct {
		Index int64
		Proof []string
	}
	Consistency []struct {
		Old     int64
		OldRoot string `json:"old_root"`
		Proof   []string
	}
	Checkpoints []string // files with earlier ones
	Between     []struct {
		Old, New int // of those
		Proof    []string
	}
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: sumdb DIRECTORY")
		os.Exit(2)
	}
	tree, err := verify(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "sumdb:", err)
		os.Exit(5)
	}
	fmt.Printf("{\"size\": %d, \"root\": \"%x\"}\n", tree.N, tree.Hash[:])
}

func verify(directory string) (tlog.Tree, error) {
	var given manifest
	text, err := os.ReadFile(filepath.Join(directory, "manifest.json"))
	if err != nil {
		return tlog.Tree{}, err
	}
	if err := json.Unmarshal(text, &given); err != nil {
		return tlog.Tree{}, err
	}
	tree, err := openCheckpoint(filepath.Join(directory, "checkpoint"), given)
	if err != nil {
		return tree, err
	}
	reader := tlog.TileHashReader(tree, tiles(directory))
	if err := verifyEntries(directory, tree, reader); err != nil {
		return tree, err
	}
	if err := verifyProofs(given, tree, reader); err != nil {
		return tree, err
	}
	return tree, verifyBetween(directory, given, reader)
}

// verifyBetween verifies earlier checkpoints against the tiles, and consistency proofs between any two of them.
func verifyBetween(directory string, given manifest, reader tlog.HashReader) error {
	uncosigned := given
	uncosigned.Cosigners = nil
	var earlier []tlog.Tree
	for _, name := range given.Checkpoints {
		tree, err := openCheckpoint(filepath.Join(directory, name), uncosigned)
		if err != nil {
			return err
		}
		root, err := tlog.TreeHash(tree.N, reader)
		if err != nil || root != tree.Hash {
			return fmt.Errorf("the tiles do not make the root of the checkpoint of %d (%v)", tree.N, err)
		}
		earlier = append(earlier, tree)
	}
	for _, claim := range given.Between {
		proof, err := fromHex(claim.Proof)
		if err != nil {
			return err
		}
		old, new := earlier[claim.Old], earlier[claim.New]
		if err := tlog.CheckTree(tlog.TreeProof(proof), new.N, new.Hash, old.N, old.Hash); err != nil {
			return err
		}
	}
	return nil
}

// A cosigner is a witness's Ed25519 key, as the note package wants its verifiers.
type cosigner struct {
	name   string
	hash   uint32
	public ed25519.PublicKey
}

func (key cosigner) Name() string    { return key.name }
func (key cosigner) KeyHash() uint32 { return key.hash }

func (key cosigner) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(signature), text)
	return ed25519.Verify(key.public, []byte(message), signature[8:])
}

func newCosigner(vkey string) (cosigner, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return cosigner{}, fmt.Errorf("cosigner: not name+id+key")
	}
	hash, err := strconv.ParseUint(parts[1], 16, 32)
	if err != nil {
		return cosigner{}, err
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 1+ed25519.PublicKeySize || key[0] != 4 {
		return cosigner{}, fmt.Errorf("cosigner: not an Ed25519 cosigner's key")
	}
	return cosigner{parts[0], uint32(hash), key[1:]}, nil
}

// openCheckpoint verifies the Ed25519 signatures of the log and of every cosigner; others are passed over.
func openCheckpoint(path string, given manifest) (tlog.Tree, error) {
	signed, err := os.ReadFile(path)
	if err != nil {
		return tlog.Tree{}, err
	}
	verifier, err := note.NewVerifier(given.Vkeys[0])
	if err != nil {
		return tlog.Tree{}, err
	}
	known := []note.Verifier{verifier}
	for _, vkey := range given.Cosigners {
		witness, err := newCosigner(vkey)
		if err != nil {
			return tlog.Tree{}, err
		}
		known = append(known, witness)
	}
	opened, err := note.Open(signed, note.VerifierList(known...))
	if err != nil {
		return tlog.Tree{}, err
	}
	if len(opened.Sigs) != len(known) {
		return tlog.Tree{}, fmt.Errorf("checkpoint: signed by %d of %d known keys", len(opened.Sigs), len(known))
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return tlog.Tree{}, fmt.Errorf("checkpoint of another log")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := tlog.ParseHash(lines[2])
	return tlog.Tree{N: size, Hash: root}, err
}

// tiles reads tiles from the paths of tlog-tiles, which leave out the height that this package puts first.
type tiles string

func (directory tiles) Height() int { return 8 }

func (directory tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	contents := make([][]byte, len(wanted))
	for i, tile := range wanted {
		content, err := os.ReadFile(pathOf(string(directory), tile))
		if err != nil {
			return nil, err
		}
		contents[i] = content
	}
	return contents, nil
}

func (directory tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func pathOf(directory string, tile tlog.Tile) string {
	path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
	return filepath.Join(directory, strings.Replace(path, "tile/data/", "tile/entries/", 1))
}

func verifyEntries(directory string, tree tlog.Tree, reader tlog.HashReader) error {
	for first := int64(0); first < tree.N; first += 256 {
		width := int(min(256, tree.N-first))
		indexes := make([]int64, width)
		for place := range indexes {
			indexes[place] = tlog.StoredHashIndex(0, first+int64(place))
		}
		hashes, err := reader.ReadHashes(indexes)
		if err != nil {
			return err
		}
		bundle, err := os.ReadFile(pathOf(directory, tlog.Tile{H: 8, L: -1, N: first / 256, W: width}))
		if os.IsNotExist(err) {
			continue // contents are for auditors; the hashes, just verified under the root, stand for them
		}
		if err != nil {
			return err
		}
		for place := range indexes {
			if len(bundle) < 2 || len(bundle) < 2+int(bundle[0])<<8+int(bundle[1]) {
				return fmt.Errorf("entry bundle %d is cut off", first/256)
			}
			end := 2 + int(bundle[0])<<8 + int(bundle[1])
			if tlog.RecordHash(bundle[2:end]) != hashes[place] {
				return fmt.Errorf("entry %d is not the one in the tree", first+int64(place))
			}
			bundle = bundle[end:]
		}
		if len(bundle) != 0 {
			return fmt.Errorf("entry bundle %d is too long", first/256)
		}
	}
	return nil
}

func verifyProofs(given manifest, tree tlog.Tree, reader tlog.HashReader) error {
	for _, claim := range given.Inclusion {
		proof, err := fromHex(claim.Proof)
		if err != nil {
			return err
		}
		leaf, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, claim.Index)})
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(tlog.RecordProof(proof), tree.N, tree.Hash, claim.Index, leaf[0]); err != nil {
			return err
		}
		made, err := tlog.ProveRecord(tree.N, claim.Index, reader)
		if err != nil || !slices.Equal([]tlog.Hash(made), proof) {
			return fmt.Errorf("leaf %d: another proof than ours (%v)", claim.Index, err)
		}
	}
	for _, claim := range given.Consistency {
		proof, err := fromHex(append(slices.Clone(claim.Proof), claim.OldRoot))
		if err != nil {
			return err
		}
		oldRoot, steps := proof[len(proof)-1], proof[:len(proof)-1]
		if err := tlog.CheckTree(tlog.TreeProof(steps), tree.N, tree.Hash, claim.Old, oldRoot); err != nil {
			return err
		}
	}
	return nil
}

func fromHex(texts []string) ([]tlog.Hash, error) {
	hashes := make([]tlog.Hash, len(texts))
	for i, text := range texts {
		octets, err := hex.DecodeString(text)
		if err != nil || len(octets) != tlog.HashSize {
			return nil, fmt.Errorf("proof: %q is not a hash", text)
		}
		hashes[i] = tlog.Hash(octets)
	}
	return hashes, nil
}
