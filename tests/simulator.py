"""A relay that lies: it stands between a client and an honest one, and tells one lie at a time.

`LyingRelay` is a `Transport`: what no lie is told about goes through to the honest relay. `Forger` is what a
dishonest operator has besides: the keys that sign the logs' checkpoints, and every entry. With them it can
make false logs that are correctly signed; it has no device's and no authority's key.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from liaison.client import Client
from liaison.keys import SigningKey
from relay.logkeys import LogKeys, load_log_keys
from relay.protocol.canonical import encode
from relay.protocol.cose import format_sign1, protected_header
from relay.protocol.entry import AccessEntry, Change, DirectoryEntry, LoggedEntry
from relay.protocol.envelope import MESSAGE, Delivery, Message, message_payload, parse_delivery, parse_message
from relay.protocol.header import Core, Precedence
from relay.protocol.merkle import MerkleTree, leaf_hash
from relay.store import log as log_rows
from relay.store.log import Log
from world import PASSPHRASE, World

Answer = Callable[[bytes], bytes]
SALT = bytes(16)


@dataclass
class LyingRelay:
    """In front of `honest`. `lies` are (method, pattern of the path, what becomes of the answer); the first match tells."""

    honest: Any
    lies: list[tuple[str, re.Pattern[str], Callable[..., bytes]]] = field(default_factory=list)
    heard: list[tuple[str, str, bytes]] = field(default_factory=list)  # (method, path, what the honest relay said)

    def lie(self, method: str, pattern: str, answer: Answer) -> LyingRelay:
        """Change what the honest relay answers."""
        self.lies.append((method, re.compile(pattern), lambda honest, **_query: answer(honest())))
        return self

    def invent(self, method: str, pattern: str, answer: Callable[..., bytes]) -> LyingRelay:
        """Answer without asking the honest relay; `answer` gets the query."""
        self.lies.append((method, re.compile(pattern), lambda _honest, **query: answer(**query)))
        return self

    def get(self, path: str, **query: float) -> bytes:
        return self._tell("GET", path, lambda: self._hear("GET", path, self.honest.get(path, **query)), **query)

    def post(self, path: str, body: bytes, seen: int = 0, precedence: Precedence = Precedence.ROUTINE) -> bytes:
        return self._tell(
            "POST", path, lambda: self._hear("POST", path, self.honest.post(path, body, seen, precedence))
        )

    def put(self, path: str, body: bytes, digest: bytes | None = None) -> bytes:
        return self._tell("PUT", path, lambda: self._hear("PUT", path, self.honest.put(path, body, digest)))

    def events(self, after: int) -> Iterator[dict[str, Any]]:
        return self.honest.events(after)

    def once(self) -> LyingRelay:
        return self

    def close(self) -> None:
        self.honest.close()

    def _tell(self, method: str, path: str, honest: Callable[[], bytes], **query: float) -> bytes:
        for wanted, pattern, answer in self.lies:
            if wanted == method and pattern.search(path):
                return answer(honest, **query)
        return honest()

    def _hear(self, method: str, path: str, answer: bytes) -> bytes:
        self.heard.append((method, path, answer))
        return answer


@contextmanager
def lying(client: Client) -> Iterator[LyingRelay]:
    """Put a lying relay in front of this client's, for a while."""
    honest = client.transport
    relay = LyingRelay(honest)
    client.transport = client.documents.transport = relay
    try:
        yield relay
    finally:
        client.transport = client.documents.transport = honest


def lie_about_delivery(client_relay: LyingRelay, change: Callable[[Delivery], Delivery]) -> None:
    client_relay.lie("POST", r"/open$", lambda answer: change(parse_delivery(answer)).encoded())


def rewritten(encoded: bytes, change: Callable[[Core], Core]) -> bytes:
    """The message with another core under the old signature."""
    message = parse_message(encoded)
    protected = protected_header(message.signed.alg, message.signed.kid, MESSAGE)
    payload = message_payload(change(message.core).encoded(), message.slot_count, message.slot_root)
    return format_sign1(protected, payload, message.signed.signature)


def signed_anew(message: Message, key: SigningKey, change: Callable[[Core], Core] = lambda core: core) -> bytes:
    """The message with another core, signed by `key`: slots and parts stay as they are."""
    payload = message_payload(change(message.core).encoded(), message.slot_count, message.slot_root)
    return key.sign_object(MESSAGE, payload)


def with_signature(encoded: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The message with another signature."""
    signed = parse_message(encoded).signed
    protected = protected_header(signed.alg, signed.kid, MESSAGE)
    return format_sign1(protected, signed.payload, change(signed.signature))


@dataclass
class Forger:
    """A dishonest operator."""

    world: World

    @property
    def keys(self) -> LogKeys:
        return load_log_keys(self.world.settings.data / "log-keys.json")

    def entries(self, log: Log) -> list[bytes]:
        """Every entry of a log, as the honest relay holds it."""
        with self.world.relay._readers.connect() as connection:
            size = log_rows.sizes(connection)[log]
            return [bytes(row[1]) for row in log_rows.entries(connection, log, 0, size)]

    def checkpoint(self, log: Log, tree: MerkleTree, keys: LogKeys | None = None) -> bytes:
        signing = keys or self.keys
        return signing.sign_checkpoint(self.world.relay.origins[log], tree.size, tree.root(), int(time.time()))

    def logged(self, entries: Sequence[bytes], index: int, seen: int = 0, keys: LogKeys | None = None) -> LoggedEntry:
        """Entry `index` of an access log that consists of these entries, correctly proven and signed."""
        tree = MerkleTree(leaf_hash(entry) for entry in entries)
        return LoggedEntry(
            entry=entries[index],
            index=index,
            proof=tuple(tree.inclusion_proof(index, tree.size)),
            checkpoint=self.checkpoint(Log.ACCESS, tree, keys),
            consistency=tuple(tree.consistency_proof(seen, tree.size)) if 0 < seen < tree.size else (),
        )

    def directory(self, change: Callable[[list[bytes]], list[bytes]]) -> Callable[..., bytes]:
        """GET /v1/directory of a directory log with other entries, correctly signed."""
        entries = change(self.entries(Log.DIRECTORY))
        note = self.checkpoint(Log.DIRECTORY, MerkleTree(leaf_hash(entry) for entry in entries))
        return lambda after=0, **_query: encode([note, entries[int(after) :]])


def directory_entry(change: Change, payload: bytes) -> bytes:
    return DirectoryEntry(change, int(time.time() * 1000), SALT, payload).encoded()


def altered(entry: AccessEntry, **fields: object) -> bytes:
    return replace(entry, **fields).encoded()


def double(client: Client, folder: Path) -> Client:
    """The same profile once more, in another folder: for lies that it would rightly remember for ever."""
    shutil.copytree(client.profile.folder, folder)
    return Client.open(folder, passphrase=PASSPHRASE)


def fresh_log_keys(folder: Path) -> LogKeys:
    """Keys that nobody has pinned."""
    path = folder / "other-log-keys.json"
    keys = load_log_keys(path)
    assert json.loads(path.read_text())
    return keys
