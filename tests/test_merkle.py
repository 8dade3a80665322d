"""RFC 6962 trees: against the definition itself, the upstream vectors, and every way to bend a proof."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.protocol.errors import LiaisonError, Unknown, Unverified
from relay.protocol.merkle import (
    EMPTY_ROOT,
    MerkleTree,
    consistency_proof,
    inclusion_proofs,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

VECTORS = Path(__file__).parent / "vectors" / "merkle"
LEAVES = [leaf_hash(b"entry %d" % number) for number in range(600)]
TREE = MerkleTree(LEAVES)


def defined_root(leaves):
    """MTH of RFC 6962 section 2.1, as written there."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + defined_root(leaves[:split]) + defined_root(leaves[split:])).digest()


def defined_path(index, leaves):
    """PATH of RFC 6962 section 2.1.1."""
    if len(leaves) == 1:
        return []
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if index < split:
        return [*defined_path(index, leaves[:split]), defined_root(leaves[split:])]
    return [*defined_path(index - split, leaves[split:]), defined_root(leaves[:split])]


def defined_proof(old, leaves, known=True):
    """SUBPROOF of RFC 6962 section 2.1.2."""
    if old == len(leaves):
        return [] if known else [defined_root(leaves)]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    if old <= split:
        return [*defined_proof(old, leaves[:split], known), defined_root(leaves[split:])]
    return [*defined_proof(old - split, leaves[split:], known=False), defined_root(leaves[:split])]


def read_vector(path):
    fields = {}
    for line in path.read_text().splitlines():
        name, _, value = line.partition(": ")
        fields.setdefault(name, []).append(value)
    return fields


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.txt")), ids=lambda path: path.stem)
def test_every_vector_ends_as_it_says(path):
    vector = read_vector(path)
    proof = [bytes.fromhex(step) for step in vector.get("proof", [])]
    one = {name: values[0] for name, values in vector.items()}
    try:
        if one["kind"] == "root":
            entries = [bytes.fromhex(entry) for entry in vector.get("entry", [])]
            assert root_of(map(leaf_hash, entries)).hex() == one["root"]
        elif one["kind"] == "inclusion":
            leaf, root = bytes.fromhex(one["leaf"]), bytes.fromhex(one["root"])
            verify_inclusion(leaf, int(one["index"]), int(one["size"]), proof, root)
        else:
            old_root, new_root = bytes.fromhex(one["old-root"]), bytes.fromhex(one["new-root"])
            verify_consistency(int(one["old-size"]), old_root, int(one["new-size"]), new_root, proof)
        outcome = "verified"
    except LiaisonError as problem:
        outcome = problem.code
    assert outcome == one["expect"]


def test_there_are_vectors_of_both_outcomes():
    outcomes = [read_vector(path)["expect"][0] for path in VECTORS.glob("*.txt")]
    assert outcomes.count("verified") >= 5
    assert outcomes.count("unverified") >= 8


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 32, 33])
def test_roots_and_proofs_are_those_of_the_definition(size):
    leaves = LEAVES[:size]
    assert TREE.root(size) == root_of(leaves) == defined_root(leaves)
    for index in range(size):
        assert TREE.inclusion_proof(index, size) == defined_path(index, leaves)
    for old in range(1, size + 1):
        assert TREE.consistency_proof(old, size) == defined_proof(old, leaves)


def test_every_leaf_of_every_small_tree_is_proved_and_at_no_other_place():
    for size in range(1, 20):
        root = TREE.root(size)
        for index in range(size):
            proof = TREE.inclusion_proof(index, size)
            verify_inclusion(LEAVES[index], index, size, proof, root)
            for other in range(size):
                if other != index:
                    with pytest.raises(Unverified):
                        verify_inclusion(LEAVES[index], other, size, proof, root)


@pytest.mark.parametrize("size", [*range(1, 70), 127, 128, 129, 255, 257, 500, 600])
def test_all_proofs_at_once_are_those_made_one_by_one(size):
    root, proofs = inclusion_proofs(LEAVES[:size])
    assert root == TREE.root(size)
    assert proofs == [b"".join(TREE.inclusion_proof(index, size)) for index in range(size)]


def test_no_leaves_have_the_empty_root_and_no_proofs():
    assert inclusion_proofs([]) == (EMPTY_ROOT, [])


def test_every_small_tree_grows_consistently_into_every_larger_one():
    for new in range(20):
        for old in range(new + 1):
            verify_consistency(old, TREE.root(old), new, TREE.root(new), TREE.consistency_proof(old, new))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_bent_inclusion_proof_proves_nothing(data):
    size = data.draw(st.integers(2, 600))
    index = data.draw(st.integers(0, size - 1))
    root, proof = TREE.root(size), TREE.inclusion_proof(index, size)
    verify_inclusion(LEAVES[index], index, size, proof, root)
    bent = data.draw(st.sampled_from(["flip", "drop", "double", "append", "short", "leaf", "root"]))
    leaf, at = LEAVES[index], data.draw(st.integers(0, len(proof) - 1))
    flipped = bytes([proof[at][0] ^ 1]) + proof[at][1:]
    match bent:
        case "flip":
            proof[at] = flipped
        case "drop":
            del proof[at]
        case "double":
            proof.insert(at, proof[at])
        case "append":
            proof.append(EMPTY_ROOT)
        case "short":
            proof[at] = proof[at][:-1]
        case "leaf":
            leaf = flipped
        case "root":
            root = flipped
    with pytest.raises(Unverified):
        verify_inclusion(leaf, index, size, proof, root)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_bent_consistency_proof_proves_nothing(data):
    new = data.draw(st.integers(2, 600))
    old = data.draw(st.integers(1, new - 1))
    old_root, new_root, proof = TREE.root(old), TREE.root(new), TREE.consistency_proof(old, new)
    verify_consistency(old, old_root, new, new_root, proof)
    at = data.draw(st.integers(0, len(proof) - 1))
    flipped = bytes([proof[at][0] ^ 1]) + proof[at][1:]
    match data.draw(st.sampled_from(["flip", "drop", "double", "append", "old", "new", "swap"])):
        case "flip":
            proof[at] = flipped
        case "drop":
            del proof[at]
        case "double":
            proof.insert(at, proof[at])
        case "append":
            proof.append(EMPTY_ROOT)
        case "old":
            old_root = flipped
        case "new":
            new_root = flipped
        case "swap":
            old_root, new_root = new_root, old_root
    with pytest.raises(Unverified):
        verify_consistency(old, old_root, new, new_root, proof)


def test_a_log_that_rewrote_an_entry_is_not_consistent_with_itself():
    forked = MerkleTree([*LEAVES[:40], leaf_hash(b"another story"), *LEAVES[41:100]])
    for old in range(41, 100):
        with pytest.raises(Unverified):
            verify_consistency(old, TREE.root(old), 100, forked.root(), forked.consistency_proof(old, 100))


def test_a_log_that_shrank_is_refused():
    with pytest.raises(Unverified, match="shrank from 7 to 6"):
        verify_consistency(7, TREE.root(7), 6, TREE.root(6), TREE.consistency_proof(6, 7))


def test_two_roots_at_one_size_are_a_fork():
    with pytest.raises(Unverified, match="two different roots at size 9"):
        verify_consistency(9, TREE.root(9), 9, TREE.root(8), [])


def test_the_empty_tree_has_one_root_and_begins_every_tree():
    verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    verify_consistency(0, EMPTY_ROOT, 5, TREE.root(5), [])
    for old, old_root, new, new_root, proof in [
        (0, TREE.root(1), 5, TREE.root(5), []),
        (0, TREE.root(1), 0, TREE.root(1), []),
        (0, EMPTY_ROOT, 5, TREE.root(5), [EMPTY_ROOT]),
        (5, TREE.root(5), 5, TREE.root(5), [EMPTY_ROOT]),
    ]:
        with pytest.raises(Unverified):
            verify_consistency(old, old_root, new, new_root, proof)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (6, 5), (-1, 5)])
def test_no_proof_is_made_or_accepted_for_a_leaf_that_is_not_there(index, size):
    with pytest.raises(Unknown):
        TREE.inclusion_proof(index, size)
    with pytest.raises(Unverified):
        verify_inclusion(LEAVES[0], index, size, [], TREE.root(size))


def test_no_proof_is_made_beyond_the_tree():
    for ask in (
        lambda: TREE.inclusion_proof(3, 601),
        lambda: TREE.consistency_proof(5, 601),
        lambda: TREE.root(601),
    ):
        with pytest.raises(Unknown):
            ask()
    with pytest.raises(Unknown):
        consistency_proof(6, 5, TREE.node)
    with pytest.raises(Unknown):
        TREE.node(0, -1)


def test_an_entry_cannot_pose_as_a_node():
    """The domain prefixes: without them, two leaves' hashes would be an entry with their parent's hash."""
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != TREE.root(2)


def test_a_leaf_hash_of_another_length_is_not_appended():
    with pytest.raises(ValueError, match="32 octets"):
        MerkleTree([b"short"])
