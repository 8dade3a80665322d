"""A small witness: it remembers the last tree that it cosigned of each log, and cosigns only what grew from it.

    witness.json    its name and its keys, which sign cosignatures and nothing else
    logs            the verifier keys of the logs that it witnesses, one a line, as `relay key` prints them
    witnessed.json  per log the last tree cosigned

The rules:
  - checking and remembering are one step, under a lock that all processes of this folder share; the memory is
    durable before a cosignature is made. Killed in between, the witness has remembered more than it signed;
  - a memory that is missing or not readable stops it: a witness that forgot would sign a second history;
  - what it refuses although the log signed it is kept in `refused/`, for it may prove that the log lies.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from relay.protocol.errors import Conflict, LiaisonError, Malformed, Refused, Unauthenticated, Unknown, Unverified
from relay.protocol.note import ED25519_COSIGNATURE, NoteVerifier, note_verifier
from relay.protocol.tlog import Checkpoint
from relay.protocol.witness import (
    MAX_ASKED,
    NO_TREE,
    PATH,
    SIZE_TYPE,
    AddCheckpoint,
    OldSize,
    TreeHead,
    WitnessKeys,
    check_growth,
    parse_add_checkpoint,
    parse_logs,
    verify_asked,
)

from .home.private_file import folder_lock, read_private, remove_beside, replace_private

_KEYS, _LOGS, _MEMORY, _REFUSED = "witness.json", "logs", "witnessed.json", "refused"
_NOTHING = b"{}"  # remembered
_LIMIT = 1 << 24
_MOST_REFUSED = 100
_STATUS: dict[type[LiaisonError], int] = {Malformed: 400, Refused: 403, Unknown: 404, Unverified: 422}


def create_witness(folder: Path, name: str, logs: str) -> WitnessKeys:
    """Make a witness in `folder`, in the place of one whose making was cut off: that has no keys yet.

    In the same words again, it is the one that is there. Raises Conflict if there is another, or what is left of one;
    Malformed for logs or a name that are none.
    """
    if not parse_logs(logs):
        raise Malformed("logs: no verifier key", hint="give what `relay key` prints")
    keys = WitnessKeys(name, Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())
    note_verifier(name, ED25519_COSIGNATURE, keys.ed25519.public_key().public_bytes_raw())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    secret = {"v": 1, "name": name, "ed25519": keys.ed25519.private_bytes_raw().hex()}
    secret["mldsa44"] = keys.mldsa44.private_bytes_raw().hex()
    with folder_lock(folder):
        memory = folder / _MEMORY
        if memory.exists() and (folder / _KEYS).exists():
            made = Witness.open(folder)
            if (made.keys.name, made.logs) == (name, parse_logs(logs)):
                return made.keys
        if (folder / _KEYS).exists() or (memory.exists() and memory.read_bytes() != _NOTHING):
            raise Conflict(f"there is a witness in {folder} already", hint="set LIAISON_HOME to another folder")
        for file, content in ((_LOGS, logs.encode()), (_MEMORY, _NOTHING), (_KEYS, json.dumps(secret).encode())):
            remove_beside(folder / file)
            replace_private(folder / file, content, "witness")
    return keys


@dataclass(frozen=True, slots=True)
class Witness:
    """An open witness. Any number of threads and processes may ask it at once."""

    folder: Path
    keys: WitnessKeys
    logs: dict[str, tuple[NoteVerifier, ...]]

    @classmethod
    def open(cls, folder: Path) -> Witness:
        """Raises Unauthenticated (none, or open to others), Malformed (not readable any more)."""
        if not (folder / _KEYS).exists():
            hint = "make one with: liaison witness init NAME --logs FILE"
            raise Unauthenticated(f"there is no witness in {folder}", hint=hint)
        secret = _parse(read_private(folder / _KEYS, _LIMIT, "witness"), "the keys")
        ed25519 = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret["ed25519"]))
        mldsa44 = MLDSA44PrivateKey.from_seed_bytes(bytes.fromhex(secret["mldsa44"]))
        logs = parse_logs(read_private(folder / _LOGS, _LIMIT, "witness").decode())
        witness = cls(folder, WitnessKeys(secret["name"], ed25519, mldsa44), logs)
        witness.memory()
        return witness

    def memory(self) -> dict[str, TreeHead]:
        """The last tree cosigned, by origin."""
        kept = _parse(read_private(self.folder / _MEMORY, _LIMIT, "witness"), "the memory")
        return {origin: TreeHead(each["size"], bytes.fromhex(each["root"])) for origin, each in kept.items()}

    def add_checkpoint(self, body: bytes, now: int) -> str:
        """The cosignatures. Raises what `relay.protocol.witness` says."""
        asked = parse_add_checkpoint(body)
        stated = verify_asked(asked, self.logs)
        try:
            with folder_lock(self.folder):
                self._remember(asked, stated)
        except (Unverified, OldSize) as problem:
            if not isinstance(problem, OldSize) or problem.size == asked.old_size:
                self._keep_refused(asked.note)
            raise
        return self.keys.cosign(asked.note, now)

    def _remember(self, asked: AddCheckpoint, stated: Checkpoint) -> None:
        memory = self.memory()
        check_growth(asked, stated, memory.get(stated.origin, NO_TREE))
        heads = memory | {stated.origin: TreeHead(stated.size, stated.root)}
        if heads != memory:
            kept = {origin: {"size": head.size, "root": head.root.hex()} for origin, head in heads.items()}
            replace_private(self.folder / _MEMORY, json.dumps(kept).encode(), "witness")

    def _keep_refused(self, note: bytes) -> None:
        """The log signed it, and it contradicts what the log signed before."""
        folder = self.folder / _REFUSED
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / hashlib.sha256(note).hexdigest()[:16]
        if not path.exists() and sum(1 for _ in folder.iterdir()) < _MOST_REFUSED:
            replace_private(path, note, "witness")


class _Asked(BaseHTTPRequestHandler):
    """One connection."""

    witness: ClassVar[Witness]
    protocol_version = "HTTP/1.1"  # kept alive: the same logs ask again and again
    timeout = 30

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or len(length) > 9 or int(length) > MAX_ASKED:
            self.close_connection = True  # what follows is not read
            self._answer(413, b"")
            return
        body = self.rfile.read(int(length))
        if self.path != PATH:
            self._answer(404, b"")
            return
        try:
            self._answer(200, self.witness.add_checkpoint(body, int(time.time())).encode())
        except OldSize as problem:
            self._answer(409, f"{problem.size}\n".encode(), SIZE_TYPE)
        except LiaisonError as problem:
            self._answer(_STATUS.get(type(problem), 500), f"{problem}\n".encode())

    def _answer(self, status: int, content: bytes, media_type: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        self.send_header("content-type", media_type)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def version_string(self) -> str:
        return "liaison-witness"

    def log_message(self, *_: object) -> None:
        """Requests are not written down; what a log signed and should not have is, in `refused`."""


def serve(witness: Witness, host: str, port: int) -> ThreadingHTTPServer:
    """A server that is bound; `serve_forever` runs it."""
    return ThreadingHTTPServer((host, port), type("Asked", (_Asked,), {"witness": witness}))


def _parse(content: bytes, what: str) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise LiaisonError(
            f"witness: {what} cannot be read",
            hint="a witness that forgot must not sign again: retire it, and make one with new keys",
        )
    return found
