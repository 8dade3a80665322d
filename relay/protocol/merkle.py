"""Merkle trees of RFC 6962: roots, inclusion proofs, consistency proofs, and their verification.

The rules:
  - a leaf is SHA-256(0x00 || entry), a node SHA-256(0x01 || left || right), the empty root SHA-256("");
  - an inclusion proof runs from the leaf's sibling to the root's child (RFC 6962 section 2.1.1);
  - making a proof needs only a NodeReader, so trees in memory, in tiles and behind a network are one case;
  - verification follows RFC 9162 sections 2.1.3.2 and 2.1.4.2; a proof has one length, a hash 32 octets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

from .errors import Unknown, Unverified

HASH_SIZE = 32
EMPTY_ROOT = sha256(b"").digest()

NodeReader = Callable[[int, int], bytes]
"""(level, index) -> the hash over leaves index * 2**level up to, not including, (index + 1) * 2**level."""


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


class Edge:
    """The right edge of a growing tree: enough for its root, and for nothing before it. One hash a level."""

    __slots__ = ("_peaks", "size")

    def __init__(self) -> None:
        self._peaks: list[tuple[int, bytes]] = []
        self.size = 0

    def append(self, leaf_hash: bytes) -> None:
        level, subtree = 0, leaf_hash
        while self._peaks and self._peaks[-1][0] == level:
            subtree = node_hash(self._peaks.pop()[1], subtree)
            level += 1
        self._peaks.append((level, subtree))
        self.size += 1

    def root(self) -> bytes:
        return _fold([subtree for _, subtree in self._peaks])


def root_of(leaf_hashes: Iterable[bytes]) -> bytes:
    """The root over these leaf hashes, in this order, keeping nothing."""
    edge = Edge()
    for leaf in leaf_hashes:
        edge.append(leaf)
    return edge.root()


def _fold(peaks: list[bytes]) -> bytes:
    if not peaks:
        return EMPTY_ROOT
    subtree = peaks[-1]
    for left in reversed(peaks[:-1]):
        subtree = node_hash(left, subtree)
    return subtree


def _span(first: int, end: int, node: NodeReader) -> bytes:
    # Every span asked for here starts at a multiple of the power of two that covers it, so its
    # complete subtrees are the binary digits of its length, largest first.
    peaks = []
    while first < end:
        level = (end - first).bit_length() - 1
        peaks.append(node(level, first >> level))
        first += 1 << level
    return _fold(peaks)


def root(size: int, node: NodeReader) -> bytes:
    """The root of the tree's first `size` leaves."""
    return _span(0, size, node)


def inclusion_proof(index: int, size: int, node: NodeReader) -> list[bytes]:
    """The siblings of leaf `index` in the tree of `size` leaves, leaf to root; Unknown if it is not there."""
    if not 0 <= index < size:
        raise Unknown(f"no leaf {index} in a tree of {size}")
    proof = []
    level, here, last = 0, index, size - 1
    while last:
        if here & 1:
            proof.append(node(level, here - 1))
        elif here + 1 < last:
            proof.append(node(level, here + 1))
        elif here + 1 == last:  # the right sibling is the tree's ragged edge
            proof.append(_span(last << level, size, node))
        level, here, last = level + 1, here >> 1, last >> 1
    return proof


def inclusion_proofs(leaf_hashes: Iterable[bytes]) -> tuple[bytes, list[bytes]]:
    """The root over these leaf hashes, and each leaf's inclusion proof as its hashes joined; all in one pass.

    Level by level: a last hash without a sibling is carried up as it is, and its leaves' proofs skip that level.
    """
    level = list(leaf_hashes)
    proofs = [b""] * len(level)
    width = 1  # leaves below one hash of this level
    while len(level) > 1:
        paired = len(level) & ~1
        for index in range(min(len(proofs), paired * width)):
            proofs[index] += level[(index // width) ^ 1]
        above = [node_hash(level[place], level[place + 1]) for place in range(0, paired, 2)]
        level, width = above + level[paired:], width * 2
    return (level[0] if level else EMPTY_ROOT), proofs


def consistency_proof(old: int, new: int, node: NodeReader) -> list[bytes]:
    """That the tree of `new` leaves begins with the tree of `old` (RFC 6962 section 2.1.2).

    Empty where nothing is to be proved: for an old size of 0, and of `new`.
    """
    if not 0 <= old <= new:
        raise Unknown(f"no tree of {old} within a tree of {new}")
    if old in (0, new):
        return []
    proof: list[bytes] = []
    first, end, known = 0, new, True  # known: the verifier has this subtree's hash already, as the old root
    while old != end:
        split = first + (1 << (end - first - 1).bit_length() - 1)
        if old <= split:
            proof.append(_span(split, end, node))
            end = split
        else:
            proof.append(_span(first, split, node))
            first, known = split, False
    if not known:
        proof.append(_span(first, end, node))
    return proof[::-1]


def verify_inclusion(leaf_hash: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """RFC 9162 section 2.1.3.2. Raises Unverified unless the whole proof leads from the leaf to the root."""
    if not 0 <= index < size:
        raise Unverified(f"inclusion proof: no leaf {index} in a tree of {size}")
    _require_hashes("inclusion proof", leaf_hash, root, *proof)
    here, last, subtree = index, size - 1, leaf_hash
    for sibling in proof:
        if last == 0:
            raise Unverified("inclusion proof: longer than the tree is high")
        if here & 1 or here == last:
            subtree = node_hash(sibling, subtree)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            subtree = node_hash(subtree, sibling)
        here, last = here >> 1, last >> 1
    if last:
        raise Unverified("inclusion proof: shorter than the tree is high")
    if subtree != root:
        raise Unverified(f"inclusion proof: leaf {index} is not in the tree of {size} with this root")


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> None:
    """RFC 9162 section 2.1.4.2. Raises Unverified unless the new tree is the old one with leaves appended.

    The empty tree is the beginning of every tree, and a tree of itself; both with an empty proof.
    """
    _require_hashes("consistency proof", old_root, new_root, *proof)
    if not 0 <= old_size <= new_size:
        raise Unverified(f"consistency proof: the log shrank from {old_size} to {new_size}")
    if old_size in (0, new_size):
        if proof:
            raise Unverified("consistency proof: nothing to prove, yet not empty")
        if old_root != (new_root if old_size == new_size else EMPTY_ROOT):
            raise Unverified(f"consistency proof: two different roots at size {old_size}")
        if new_size == 0 and new_root != EMPTY_ROOT:
            raise Unverified("consistency proof: the empty tree has another root")
        return
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not path:
        raise Unverified("consistency proof: empty")
    _climb(old_size, old_root, new_size, new_root, path)


def _climb(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: list[bytes]) -> None:
    here, last = old_size - 1, new_size - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise Unverified("consistency proof: longer than the tree is high")
        if here & 1 or here == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not here & 1 and here:
                here, last = here >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        here, last = here >> 1, last >> 1
    if last:
        raise Unverified("consistency proof: shorter than the tree is high")
    if old != old_root:
        raise Unverified(f"consistency proof: does not lead to the root at size {old_size}")
    if new != new_root:
        raise Unverified(f"consistency proof: does not lead to the root at size {new_size}")


def _require_hashes(what: str, *hashes: bytes) -> None:
    for digest in hashes:
        if type(digest) is not bytes or len(digest) != HASH_SIZE:
            raise Unverified(f"{what}: a hash is not {HASH_SIZE} octets")


class MerkleTree:
    """An append-only tree in memory, every complete subtree's hash kept: 64 octets a leaf."""

    __slots__ = ("_levels",)

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        self._levels: list[bytearray] = [bytearray()]
        for leaf in leaf_hashes:
            self.append(leaf)

    @property
    def size(self) -> int:
        return len(self._levels[0]) // HASH_SIZE

    def append(self, leaf_hash: bytes) -> int:
        """Append one leaf; the answer is its index."""
        if len(leaf_hash) != HASH_SIZE:
            raise ValueError("a leaf hash has 32 octets")
        index = here = self.size
        subtree, level = leaf_hash, 0
        self._levels[0] += subtree
        while here & 1:
            nodes = self._levels[level]
            subtree = sha256(b"\x01" + nodes[-2 * HASH_SIZE :]).digest()
            here, level = here >> 1, level + 1
            if level == len(self._levels):
                self._levels.append(bytearray())
            self._levels[level] += subtree
        return index

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree. Raises Unknown if the tree has no such subtree yet."""
        nodes = self._levels[level] if 0 <= level < len(self._levels) else b""
        digest = bytes(nodes[index * HASH_SIZE : (index + 1) * HASH_SIZE]) if index >= 0 else b""
        if not digest:
            raise Unknown(f"no complete subtree ({level}, {index}) in a tree of {self.size}")
        return digest

    def root(self, size: int | None = None) -> bytes:
        """The root now, or as it was at `size` leaves."""
        return root(self.size if size is None else size, self.node)

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        return inclusion_proof(index, size, self.node)

    def consistency_proof(self, old: int, new: int) -> list[bytes]:
        return consistency_proof(old, new, self.node)
