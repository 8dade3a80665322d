"""The relay's own keys: one pair, Ed25519 and ML-DSA-44, that signs the checkpoints of both logs.

They decrypt nothing. Whoever holds them can sign a false log, which is what proofs, witnesses and comparing
checkpoints are there to catch.
"""

from __future__ import annotations

import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from relay.protocol.errors import LiaisonError, Unverified
from relay.protocol.note import (
    ED25519,
    MLDSA44,
    format_note,
    format_vkey,
    note_verifier,
    parse_vkey,
    sign_ed25519,
    sign_mldsa44,
    signed_at,
    verify_note,
)
from relay.protocol.tlog import Checkpoint, format_checkpoint_body, parse_checkpoint_body


@dataclass(frozen=True, slots=True)
class LogKeys:
    ed25519: Ed25519PrivateKey
    mldsa44: MLDSA44PrivateKey

    def sign_checkpoint(self, origin: str, size: int, root: bytes, now: int) -> bytes:
        """The signed note for a tree; `now` in seconds."""
        text = format_checkpoint_body(origin, size, root)
        return format_note(
            text,
            sign_ed25519(origin, self.ed25519, text),
            sign_mldsa44(origin, self.mldsa44, origin, size, root, now),
        )

    def read_checkpoint(self, origin: str, note: bytes) -> Checkpoint:
        """A checkpoint that both of these keys signed for this origin. Raises Malformed or Unverified."""
        stated = parse_checkpoint_body(verify_note(note, [parse_vkey(vkey) for vkey in self.vkeys((origin,))]))
        if stated.origin != origin:
            raise Unverified(f"a checkpoint of {stated.origin} where {origin} was due")
        return stated

    def signed_at(self, origin: str, note: bytes) -> int:
        """When these keys signed it, as they said, in seconds since 1970. Raises Malformed or Unverified."""
        return signed_at(note, note_verifier(origin, MLDSA44, self.mldsa44.public_key().public_bytes_raw()))

    def vkeys(self, origins: tuple[str, ...]) -> tuple[str, ...]:
        """Verifier keys for these logs in text form, sorted."""
        publics = (
            (ED25519, self.ed25519.public_key().public_bytes_raw()),
            (MLDSA44, self.mldsa44.public_key().public_bytes_raw()),
        )
        return tuple(sorted(format_vkey(note_verifier(name, kind, key)) for name in origins for kind, key in publics))


def load_log_keys(path: Path) -> LogKeys:
    """Read the key file, or make it on first use; 0600, whole or not at all, and never in another's place.

    Raises LiaisonError for one that is damaged.
    """
    if not path.exists():
        fresh = {
            "ed25519": Ed25519PrivateKey.generate().private_bytes_raw().hex(),
            "mldsa44": MLDSA44PrivateKey.generate().private_bytes_raw().hex(),
        }
        temporary = path.with_name(f"{path.stem}.{secrets.token_hex(8)}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(fresh, file)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(temporary)
        temporary.unlink()
    try:
        seeds = json.loads(path.read_text())
        return LogKeys(
            ed25519=Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seeds["ed25519"])),
            mldsa44=MLDSA44PrivateKey.from_seed_bytes(bytes.fromhex(seeds["mldsa44"])),
        )
    except (ValueError, KeyError, TypeError):  # without its words: they may be of the key
        raise LiaisonError(f"{path} is damaged", hint="copy it anew from where it is kept; no other will do") from None
