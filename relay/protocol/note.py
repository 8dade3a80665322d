"""Signed notes, the envelope of a checkpoint: C2SP signed-note v1.0.0 and tlog-cosignature v1.1.0.

The rules:
  - the text ends in a newline, then a blank line, then lines `— <name> base64(key id || signature)`;
  - three kinds of signature: Ed25519 over the text (0x01, the log), Ed25519 over time and text (0x04, a
    witness), ML-DSA-44 over time, origin, size and root (0x06, the log and witnesses);
  - a line of an unknown key is passed over; a malformed line, a second line of one key, or a known key whose
    signature does not verify makes the whole note worthless;
  - whoever verifies names the keys that must have signed; by default every key given must.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Collection
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from .errors import LiaisonError, Malformed, Unverified
from .tlog import check_origin, parse_base64, parse_checkpoint_body

ED25519: Final = 0x01
ED25519_COSIGNATURE: Final = 0x04
MLDSA44: Final = 0x06

_KEY_SIZE: Final = {ED25519: 32, ED25519_COSIGNATURE: 32, MLDSA44: 1312}
_SIGNATURE_SIZE: Final = {ED25519: 64, ED25519_COSIGNATURE: 8 + 64, MLDSA44: 8 + 2420}
MAX_SIGNATURES: Final = 32  # the specification asks for at least 16
MAX_NOTE: Final = 128 * 1024
MAX_TIMESTAMP: Final = (1 << 63) - 1

_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_NAME = re.compile(r"[^\s+]{1,255}")


@dataclass(frozen=True, slots=True)
class NoteVerifier:
    """A public key that signs notes, under the name and key id that find its line."""

    name: str
    key_id: bytes
    type: int
    public: bytes


@dataclass(frozen=True, slots=True)
class NoteSignature:
    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A note as received. Its text means nothing until `verify_note` returned it."""

    text: str
    signatures: tuple[NoteSignature, ...]


def note_key_id(name: str, kind: int, public: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + bytes([kind]) + public).digest()[:4]


def note_verifier(name: str, kind: int, public: bytes) -> NoteVerifier:
    """The verifier for a key. Raises Malformed for an unknown kind, a wrong size, an unfit name."""
    if _KEY_SIZE.get(kind) != len(public):
        raise Malformed(f"note key: {len(public)} octets do not make a key of type {kind:#04x}")
    return NoteVerifier(check_origin(name, "note key"), note_key_id(name, kind, public), kind, public)


def format_vkey(verifier: NoteVerifier) -> str:
    """`name+key id+base64(type || public key)`."""
    key = b64encode(bytes([verifier.type]) + verifier.public).decode()
    return f"{verifier.name}+{verifier.key_id.hex()}+{key}"


def parse_vkey(vkey: str) -> NoteVerifier:
    """Read what `format_vkey` writes. Raises Malformed for anything else, a wrong key id included."""
    parts = vkey.split("+", 2)
    if len(parts) != 3:
        raise Malformed("verifier key: expected name+id+key")
    key = parse_base64(parts[2], "verifier key")
    verifier = note_verifier(parts[0], key[0], key[1:])
    if format_vkey(verifier) != vkey:
        raise Malformed("verifier key: its id is not that of its name and key")
    return verifier


def parse_note(note: bytes) -> Note:
    """Split a note into its text and its signature lines."""
    if len(note) > MAX_NOTE:
        raise Malformed(f"note: more than {MAX_NOTE} octets")
    try:
        text = note.decode()
    except UnicodeDecodeError as problem:
        raise Malformed("note: not UTF-8") from problem
    if _CONTROL.search(text):
        raise Malformed("note: a control character")
    body, blank, tail = text.rpartition("\n\n")
    if not blank or not tail.endswith("\n"):
        raise Malformed("note: no signature lines after a blank line")
    lines = tail[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise Malformed(f"note: more than {MAX_SIGNATURES} signatures")
    signatures = tuple(_parse_line(line) for line in lines)
    if len({(line.name, line.key_id) for line in signatures}) != len(signatures):
        raise Malformed("note: two signatures of one key")
    return Note(body + "\n", signatures)


def format_note(text: str, *lines: str) -> bytes:
    """The note from its text and signature lines, each with its newline."""
    return (text + "\n" + "".join(lines)).encode()


def verify_note(
    note: bytes, verifiers: Collection[NoteVerifier], *, required: Collection[NoteVerifier] | None = None
) -> str:
    """The text, if every required key signed it and no known key's signature fails.

    `required` defaults to all of `verifiers`; naming fewer is for witnesses, of whom some may be missing.
    Raises Malformed or Unverified.
    """
    must = verifiers if required is None else required
    if not must or not set(must) <= set(verifiers):
        raise Unverified("note: no key is required to have signed it, or one that is not known")
    parsed = parse_note(note)
    known = {(verifier.name, verifier.key_id): verifier for verifier in verifiers}
    signed = set()
    for line in parsed.signatures:
        if verifier := known.get((line.name, line.key_id)):
            verify_note_signature(parsed.text, line, verifier)
            signed.add(verifier)
    if missing := [verifier for verifier in must if verifier not in signed]:
        raise Unverified(f"note: not signed by {missing[0].name} (type {missing[0].type:#04x})")
    return parsed.text


def verify_note_signature(text: str, line: NoteSignature, verifier: NoteVerifier) -> None:
    """One line under one key. Raises Unverified."""
    signature = line.signature
    place = f"note: the signature of {verifier.name} (type {verifier.type:#04x})"
    if len(signature) != _SIGNATURE_SIZE[verifier.type]:
        raise Unverified(f"{place} has a wrong length")
    try:
        if verifier.type == ED25519:
            Ed25519PublicKey.from_public_bytes(verifier.public).verify(signature, text.encode())
            return
        timestamp = int.from_bytes(signature[:8], "big")
        if verifier.type == ED25519_COSIGNATURE:
            message = _cosignature_message(text, timestamp)
            Ed25519PublicKey.from_public_bytes(verifier.public).verify(signature[8:], message)
            return
        stated = parse_checkpoint_body(text)
        message = _subtree_message(verifier.name, stated.origin, stated.size, stated.root, timestamp)
        MLDSA44PublicKey.from_public_bytes(verifier.public).verify(signature[8:], message)
    except (InvalidSignature, ValueError, LiaisonError) as problem:
        raise Unverified(f"{place} does not verify") from problem


def signed_at(note: bytes, verifier: NoteVerifier) -> int:
    """When this key signed, as it says itself, in seconds since 1970. Unverified if it did not sign."""
    if verifier.type == ED25519:
        raise Unverified(f"note: signatures of type {ED25519:#04x} bear no time")
    verify_note(note, [verifier])
    key = (verifier.name, verifier.key_id)
    line = next(line for line in parse_note(note).signatures if (line.name, line.key_id) == key)
    return int.from_bytes(line.signature[:8], "big")


def sign_ed25519(name: str, private: Ed25519PrivateKey, text: str) -> str:
    """The log's signature line over a note text (type 0x01)."""
    verifier = note_verifier(name, ED25519, private.public_key().public_bytes_raw())
    return _format_line(verifier, private.sign(text.encode()))


def sign_cosignature(name: str, private: Ed25519PrivateKey, text: str, timestamp: int) -> str:
    """A witness's line (type 0x04): at `timestamp`, seconds since 1970, this was the largest tree it knew."""
    verifier = note_verifier(name, ED25519_COSIGNATURE, private.public_key().public_bytes_raw())
    signature = private.sign(_cosignature_message(text, timestamp))
    return _format_line(verifier, timestamp.to_bytes(8, "big") + signature)


def sign_mldsa44(name: str, private: MLDSA44PrivateKey, origin: str, size: int, root: bytes, timestamp: int) -> str:
    """A log's or a witness's post-quantum line (type 0x06) over a checkpoint, at `timestamp` as above."""
    verifier = note_verifier(name, MLDSA44, private.public_key().public_bytes_raw())
    signature = private.sign(_subtree_message(name, origin, size, root, timestamp))
    return _format_line(verifier, timestamp.to_bytes(8, "big") + signature)


def _cosignature_message(text: str, timestamp: int) -> bytes:
    if not 0 <= timestamp <= MAX_TIMESTAMP:
        raise Malformed("cosignature: its time is beyond 63 bits")
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def _subtree_message(name: str, origin: str, size: int, root: bytes, timestamp: int) -> bytes:
    if not 0 <= timestamp <= MAX_TIMESTAMP:
        raise Malformed("cosignature: its time is beyond 63 bits")
    signer, log = name.encode(), origin.encode()
    if not 0 < len(signer) < 256 or not 0 < len(log) < 256:
        raise Malformed("cosignature: a name has 1 to 255 octets")
    return b"".join((
        b"subtree/v1\n\x00",
        bytes([len(signer)]), signer,
        timestamp.to_bytes(8, "big"),
        bytes([len(log)]), log,
        bytes(8),  # the subtree starts at leaf 0: it is a checkpoint
        size.to_bytes(8, "big"),
        root,
    ))  # fmt: skip


def _format_line(verifier: NoteVerifier, signature: bytes) -> str:
    return f"\u2014 {verifier.name} {b64encode(verifier.key_id + signature).decode()}\n"


def _parse_line(line: str) -> NoteSignature:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != "\u2014" or not _NAME.fullmatch(parts[1]):
        raise Malformed("note: a signature line is not dash, name, signature")
    signed = parse_base64(parts[2], "note signature")
    if len(signed) < 5:
        raise Malformed("note signature: no more than a key id")
    return NoteSignature(parts[1], signed[:4], signed[4:])
