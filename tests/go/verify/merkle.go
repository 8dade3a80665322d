package main

import (
	"crypto/sha256"
	"fmt"
	"math/bits"
)

// RFC 6962 trees, in the recursive form of the definition.

type hash [32]byte

func leafHash(entry []byte) hash {
	return sha256.Sum256(append([]byte{0}, entry...))
}

func nodeHash(left, right hash) hash {
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}

// split is the largest power of two below size.
func split(size int64) int64 {
	return 1 << (bits.Len64(uint64(size-1)) - 1)
}

func treeRoot(leaves []hash) hash {
	switch len(leaves) {
	case 0:
		return sha256.Sum256(nil)
	case 1:
		return leaves[0]
	}
	k := split(int64(len(leaves)))
	return nodeHash(treeRoot(leaves[:k]), treeRoot(leaves[k:]))
}

func verifyInclusion(leaf hash, index, size int64, proof []hash, root hash) error {
	if index < 0 || index >= size {
		return fmt.Errorf("inclusion proof: no leaf %d in a tree of %d", index, size)
	}
	found, err := pathRoot(leaf, index, size, proof)
	if err != nil {
		return err
	}
	if found != root {
		return fmt.Errorf("inclusion proof: leaf %d is not under this root", index)
	}
	return nil
}

func pathRoot(leaf hash, index, size int64, proof []hash) (hash, error) {
	if size == 1 {
		if len(proof) != 0 {
			return hash{}, fmt.Errorf("inclusion proof: too long")
		}
		return leaf, nil
	}
	if len(proof) == 0 {
		return hash{}, fmt.Errorf("inclusion proof: too short")
	}
	sibling, rest := proof[len(proof)-1], proof[:len(proof)-1]
	if k := split(size); index < k {
		left, err := pathRoot(leaf, index, k, rest)
		return nodeHash(left, sibling), err
	} else {
		right, err := pathRoot(leaf, index-k, size-k, rest)
		return nodeHash(sibling, right), err
	}
}

func verifyConsistency(oldSize int64, oldRoot hash, newSize int64, newRoot hash, proof []hash) error {
	if oldSize < 1 || oldSize > newSize {
		return fmt.Errorf("consistency proof: from %d to %d", oldSize, newSize)
	}
	foundOld, foundNew, err := consistentRoots(oldSize, newSize, proof, oldRoot, true)
	if err != nil {
		return err
	}
	if foundOld != oldRoot || foundNew != newRoot {
		return fmt.Errorf("consistency proof: does not lead from %d to %d", oldSize, newSize)
	}
	return nil
}

func consistentRoots(old, size int64, proof []hash, oldRoot hash, whole bool) (hash, hash, error) {
	if old == size {
		if whole {
			if len(proof) != 0 {
				return hash{}, hash{}, fmt.Errorf("consistency proof: too long")
			}
			return oldRoot, oldRoot, nil
		}
		if len(proof) != 1 {
			return hash{}, hash{}, fmt.Errorf("consistency proof: wrong length")
		}
		return proof[0], proof[0], nil
	}
	if len(proof) == 0 {
		return hash{}, hash{}, fmt.Errorf("consistency proof: too short")
	}
	sibling, rest := proof[len(proof)-1], proof[:len(proof)-1]
	if k := split(size); old <= k {
		foundOld, foundNew, err := consistentRoots(old, k, rest, oldRoot, whole)
		return foundOld, nodeHash(foundNew, sibling), err
	} else {
		foundOld, foundNew, err := consistentRoots(old-k, size-k, rest, oldRoot, false)
		return nodeHash(sibling, foundOld), nodeHash(sibling, foundNew), err
	}
}
