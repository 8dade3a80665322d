// Sumdb verifies a published log with golang.org/x/mod/sumdb, the code that checks Go's own checksum database:
// signed note, entries, tiles, inclusion and consistency proofs. The only code here is what feeds it files.
//
// It builds in GOPATH mode (GO111MODULE=off) against Debian's golang-golang-x-mod-dev.
package main

import (
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
	Inclusion []struct {
		Index int64
		Proof []string
	}
	Consistency []struct {
		Old     int64
		OldRoot string `json:"old_root"`
		Proof   []string
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
	tree, err := openCheckpoint(filepath.Join(directory, "checkpoint"), given.Vkeys)
	if err != nil {
		return tree, err
	}
	reader := tlog.TileHashReader(tree, tiles(directory))
	if err := verifyEntries(directory, tree, reader); err != nil {
		return tree, err
	}
	return tree, verifyProofs(given, tree, reader)
}

// openCheckpoint verifies the Ed25519 signature; this package knows no other kind and passes over the rest.
func openCheckpoint(path string, vkeys []string) (tlog.Tree, error) {
	signed, err := os.ReadFile(path)
	if err != nil {
		return tlog.Tree{}, err
	}
	verifier, err := note.NewVerifier(vkeys[0])
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open(signed, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
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
		bundle, err := os.ReadFile(pathOf(directory, tlog.Tile{H: 8, L: -1, N: first / 256, W: width}))
		if err != nil {
			return err
		}
		indexes := make([]int64, width)
		for place := range indexes {
			indexes[place] = tlog.StoredHashIndex(0, first+int64(place))
		}
		hashes, err := reader.ReadHashes(indexes)
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
