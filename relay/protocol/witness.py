"""What a witness is asked and what it checks: C2SP tlog-witness, `POST <prefix>/add-checkpoint`.

    old 20852014                        size of the tree that the witness cosigned last
    PlRNCrwHpqhGrupue0L7gxbjbMiK...     consistency proof from there, a hash a line

    example.com/behind-the-sofa         the checkpoint, with its signatures
    ...

The rules, in this order, each with its HTTP status:
  - what is not this format is Malformed (400);
  - an origin that the witness does not know is Unknown (404); a checkpoint that not every key it trusts for the
    origin has signed is Refused (403);
  - an old size beyond the checkpoint's is Malformed (400); one that is not that of the last tree cosigned, or the
    same size with another root, is OldSize (409, with that size);
  - a consistency proof that does not hold is Unverified (422);
  - the new tree is remembered, durably, *before* the cosignature exists. Remembering and checking are one step.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from .errors import Conflict, Malformed, Refused, Unknown, Unverified
from .merkle import EMPTY_ROOT, HASH_SIZE, verify_consistency
from .note import (
    ED25519,
    ED25519_COSIGNATURE,
    MAX_NOTE,
    MLDSA44,
    NoteVerifier,
    format_note,
    format_vkey,
    note_verifier,
    parse_note,
    parse_vkey,
    sign_cosignature,
    sign_mldsa44,
    verify_note,
    verify_note_signature,
)
from .tlog import Checkpoint, parse_base64, parse_checkpoint_body, parse_number

PATH: Final = "/add-checkpoint"
SIZE_TYPE: Final = "text/x.tlog.size"
MAX_ASKED: Final = MAX_NOTE + 4096
_MAX_PROOF: Final = 63  # hashes

Logs = Mapping[str, Sequence[NoteVerifier]]  # origin → every key that must have signed


class TreeHead(NamedTuple):
    """A tree that was cosigned."""

    size: int
    root: bytes


NO_TREE: Final = TreeHead(0, EMPTY_ROOT)


class OldSize(Conflict):
    """The witness cosigned another tree last than the asker thinks; `size` is that tree's."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request as received; nothing in it is verified yet."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes


def format_add_checkpoint(old_size: int, proof: Sequence[bytes], note: bytes) -> bytes:
    hashes = "".join(f"{b64encode(digest).decode()}\n" for digest in proof)
    return f"old {old_size}\n{hashes}\n".encode() + note


def parse_add_checkpoint(body: bytes) -> AddCheckpoint:
    """Read what `format_add_checkpoint` writes. Raises Malformed."""
    if len(body) > MAX_ASKED:
        raise Malformed(f"add-checkpoint: more than {MAX_ASKED} octets")
    head, blank, note = body.partition(b"\n\n")
    if not blank:
        raise Malformed("add-checkpoint: no empty line with a checkpoint after it")
    try:
        first, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as problem:
        raise Malformed("add-checkpoint: not ASCII above its checkpoint") from problem
    if len(lines) > _MAX_PROOF:
        raise Malformed(f"add-checkpoint: more than {_MAX_PROOF} hashes")
    return AddCheckpoint(_old_size(first), tuple(_hash(line) for line in lines), note)


def verify_asked(asked: AddCheckpoint, logs: Logs) -> Checkpoint:
    """The checkpoint that is to be cosigned, if its log is one of `logs` and signed it. What needs no memory."""
    stated = parse_checkpoint_body(parse_note(asked.note).text)
    keys = logs.get(stated.origin)
    if not keys:
        raise Unknown(f"add-checkpoint: {stated.origin!r:.80} is not a log that is witnessed here")
    try:
        verify_note(asked.note, keys)
    except Unverified as problem:
        raise Refused(f"add-checkpoint: {problem}", rules=("log-key",)) from problem
    if asked.old_size > stated.size:
        raise Malformed(f"add-checkpoint: the old size, {asked.old_size}, is beyond the checkpoint's, {stated.size}")
    return stated


def check_growth(asked: AddCheckpoint, stated: Checkpoint, last: TreeHead) -> None:
    """Raise OldSize or Unverified unless the checkpoint's tree is that of `last`, or grew from it."""
    if asked.old_size != last.size:
        raise OldSize(f"add-checkpoint: the last tree cosigned has {last.size} entries", last.size)
    if stated.size == last.size and stated.root != last.root:
        raise OldSize(f"add-checkpoint: another tree of {last.size} entries was cosigned before", last.size)
    verify_consistency(*last, stated.size, stated.root, asked.proof)


@dataclass(frozen=True, slots=True)
class WitnessKeys:
    """A witness's name and keys. Its keys are its own: they sign nothing but cosignatures."""

    name: str
    ed25519: Ed25519PrivateKey
    mldsa44: MLDSA44PrivateKey

    def verifiers(self) -> tuple[NoteVerifier, NoteVerifier]:
        return (
            note_verifier(self.name, ED25519_COSIGNATURE, self.ed25519.public_key().public_bytes_raw()),
            note_verifier(self.name, MLDSA44, self.mldsa44.public_key().public_bytes_raw()),
        )

    def vkeys(self) -> tuple[str, ...]:
        return tuple(map(format_vkey, self.verifiers()))

    def cosign(self, note: bytes, now: int) -> str:
        """Both signature lines. Whoever calls has made the tree durable that they speak of."""
        text = parse_note(note).text
        stated = parse_checkpoint_body(text)
        pq = sign_mldsa44(self.name, self.mldsa44, stated.origin, stated.size, stated.root, now)
        return sign_cosignature(self.name, self.ed25519, text, now) + pq


def parse_logs(content: str) -> dict[str, tuple[NoteVerifier, ...]]:
    """The logs to witness, from their verifier keys, one a line, as `relay key` prints them. Raises Malformed."""
    lines = [line.strip() for line in content.splitlines()]
    found: dict[str, tuple[NoteVerifier, ...]] = {}
    for key in [parse_vkey(line) for line in lines if line and not line.startswith("#")]:
        if key.type not in {ED25519, MLDSA44}:
            raise Malformed(f"logs: the key of {key.name} is not a log's, of type 0x01 or 0x06")
        if key in found.get(key.name, ()):
            raise Malformed(f"logs: a key of {key.name} stands there twice")
        found[key.name] = (*found.get(key.name, ()), key)
    return found


def verified_cosignatures(note: bytes, answer: bytes, verifiers: Collection[NoteVerifier]) -> dict[NoteVerifier, str]:
    """The lines of a witness's answer that verify over `note`, by their key. Lines of other keys are passed over."""
    text = parse_note(note).text
    try:
        raw = answer.decode().split("\n")
    except UnicodeDecodeError as problem:
        raise Malformed("cosignatures: not UTF-8") from problem
    if len(answer) > MAX_NOTE or raw.pop() or not raw:
        raise Malformed("cosignatures: expected signature lines, each with its newline")
    known = {(key.name, key.key_id): key for key in verifiers}
    found = {}
    for line in raw:
        (signature,) = parse_note(format_note(text, f"{line}\n")).signatures
        if key := known.get((signature.name, signature.key_id)):
            verify_note_signature(text, signature, key)
            found[key] = f"{line}\n"
    return found


def parse_size(answer: bytes) -> int:
    """The body of a 409: a size and a newline."""
    return parse_number(answer.decode("ascii", "replace").removesuffix("\n"), "add-checkpoint: the witness's size")


def _old_size(line: str) -> int:
    word, space, number = line.partition(" ")
    if word != "old" or not space:
        raise Malformed("add-checkpoint: the first line is not `old` and a size")
    return parse_number(number, "add-checkpoint: old size")


def _hash(line: str) -> bytes:
    digest = parse_base64(line, "add-checkpoint: proof")
    if len(digest) != HASH_SIZE:
        raise Malformed("add-checkpoint: a hash of the proof is not 32 octets")
    return digest
