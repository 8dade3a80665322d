package main

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A published log in a directory: checkpoint, tile/..., and manifest.json with its keys and some proofs.

type logFixture struct {
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
	Checkpoints []string // files with earlier ones
	Between     []struct {
		Old, New int // of those
		Proof    []string
	}
}

func verifyLog(directory string) (any, error) {
	var fixture logFixture
	readJSON(filepath.Join(directory, "manifest.json"), &fixture)
	note, err := os.ReadFile(filepath.Join(directory, "checkpoint"))
	if err != nil {
		return nil, err
	}
	stated, err := openCheckpoint(note, fixture.Vkeys)
	if err != nil {
		return nil, err
	}
	leaves, err := readLeaves(directory, stated.size)
	if err != nil {
		return nil, err
	}
	if treeRoot(leaves) != stated.root {
		return nil, fmt.Errorf("the entries do not make the root of the checkpoint")
	}
	tiles, err := verifyTiles(directory, leaves)
	if err != nil {
		return nil, err
	}
	if err := verifyProofs(fixture, leaves, stated); err != nil {
		return nil, err
	}
	if err := verifyBetween(directory, fixture, leaves); err != nil {
		return nil, err
	}
	return map[string]any{"size": stated.size, "root": hex.EncodeToString(stated.root[:]), "tiles": tiles}, nil
}

func verifyProofs(fixture logFixture, leaves []hash, stated checkpoint) error {
	for _, given := range fixture.Inclusion {
		proof, err := fromHex(given.Proof)
		if err != nil {
			return err
		}
		if given.Index < 0 || given.Index >= stated.size {
			return fmt.Errorf("no leaf %d", given.Index)
		}
		if err := verifyInclusion(leaves[given.Index], given.Index, stated.size, proof, stated.root); err != nil {
			return err
		}
	}
	for _, given := range fixture.Consistency {
		proof, err := fromHex(append(given.Proof, given.OldRoot))
		if err != nil {
			return err
		}
		oldRoot := proof[len(proof)-1]
		if treeRoot(leaves[:given.Old]) != oldRoot {
			return fmt.Errorf("consistency proof: another root at size %d", given.Old)
		}
		err = verifyConsistency(given.Old, oldRoot, stated.size, stated.root, proof[:len(proof)-1])
		if err != nil {
			return err
		}
	}
	return nil
}

// verifyBetween verifies earlier checkpoints against the leaves, and consistency proofs between any two of them.
func verifyBetween(directory string, fixture logFixture, leaves []hash) error {
	var own []string // an earlier one need not be cosigned
	for _, vkey := range fixture.Vkeys {
		if strings.HasPrefix(vkey, strings.SplitN(fixture.Vkeys[0], "+", 2)[0]+"+") {
			own = append(own, vkey)
		}
	}
	var earlier []checkpoint
	for _, name := range fixture.Checkpoints {
		note, err := os.ReadFile(filepath.Join(directory, name))
		if err != nil {
			return err
		}
		stated, err := openCheckpoint(note, own)
		if err != nil {
			return err
		}
		if stated.size > int64(len(leaves)) || treeRoot(leaves[:stated.size]) != stated.root {
			return fmt.Errorf("the entries do not make the root of the checkpoint of %d", stated.size)
		}
		earlier = append(earlier, stated)
	}
	for _, given := range fixture.Between {
		old, new := earlier[given.Old], earlier[given.New]
		proof, err := fromHex(given.Proof)
		if err != nil {
			return err
		}
		if err := verifyConsistency(old.size, old.root, new.size, new.root, proof); err != nil {
			return err
		}
	}
	return nil
}

func tilePath(directory, level string, index, width int64) string {
	path := fmt.Sprintf("%03d", index%1000)
	for index /= 1000; index > 0; index /= 1000 {
		path = fmt.Sprintf("x%03d/%s", index%1000, path)
	}
	if width < 256 {
		path = fmt.Sprintf("%s.p/%d", path, width)
	}
	return filepath.Join(directory, "tile", level, path)
}

func readLeaves(directory string, size int64) ([]hash, error) {
	var leaves []hash
	for first := int64(0); first < size; first += 256 {
		width := min(256, size-first)
		bundle, err := os.ReadFile(tilePath(directory, "entries", first/256, width))
		if os.IsNotExist(err) {
			// Contents are for auditors, or erased after their retention; the hashes stand for them.
			tile, err := os.ReadFile(tilePath(directory, "0", first/256, width))
			if err != nil {
				return nil, err
			}
			if int64(len(tile)) != 32*width {
				return nil, fmt.Errorf("hash tile %d is not of %d hashes", first/256, width)
			}
			for at := 0; at < len(tile); at += 32 {
				leaves = append(leaves, hash(tile[at:at+32]))
			}
			continue
		}
		if err != nil {
			return nil, err
		}
		for range width {
			if len(bundle) < 2 || len(bundle) < 2+int(bundle[0])<<8+int(bundle[1]) {
				return nil, fmt.Errorf("entry bundle %d is cut off", first/256)
			}
			end := 2 + int(bundle[0])<<8 + int(bundle[1])
			leaves = append(leaves, leafHash(bundle[2:end]))
			bundle = bundle[end:]
		}
		if len(bundle) != 0 {
			return nil, fmt.Errorf("entry bundle %d is too long", first/256)
		}
	}
	return leaves, nil
}

// verifyTiles compares every published tile with the hashes computed from the entries; full tiles only go up.
func verifyTiles(directory string, hashes []hash) (int, error) {
	count := 0
	for level := 0; len(hashes) > 0; level++ {
		var above []hash
		for first := 0; first < len(hashes); first += 256 {
			width := min(256, len(hashes)-first)
			tile, err := os.ReadFile(tilePath(directory, fmt.Sprint(level), int64(first/256), int64(width)))
			if err != nil {
				return 0, err
			}
			if len(tile) != 32*width {
				return 0, fmt.Errorf("tile %d/%d has %d octets", level, first/256, len(tile))
			}
			for place := range width {
				if hash(tile[32*place:32*place+32]) != hashes[first+place] {
					return 0, fmt.Errorf("tile %d/%d: hash %d is wrong", level, first/256, place)
				}
			}
			if width == 256 {
				above = append(above, treeRoot(hashes[first:first+256]))
			}
			count++
		}
		hashes = above
	}
	return count, nil
}

func fromHex(texts []string) ([]hash, error) {
	hashes := make([]hash, len(texts))
	for i, text := range texts {
		octets, err := hex.DecodeString(text)
		if err != nil || len(octets) != 32 {
			return nil, fmt.Errorf("proof: %q is not a hash", text)
		}
		hashes[i] = hash(octets)
	}
	return hashes, nil
}
