"""A relay in this process, one sender, and as many readers as wanted: real keys and signatures, no network.

Half of the readers are of the sender's office, half of a partner's, under an agreement. Their certificates and key
packages are signed as in life, but put into the relay by the operator's hand, without a profile and a passphrase for
each: a thousand readers take seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from liaison.authority import found_device
from liaison.client import Client
from liaison.keys import SigningKey, make_key_package
from liaison.profile import open_profile
from relay.committer import Batch
from relay.core import Relay
from relay.core.caller import Caller
from relay.core.register import register_office
from relay.house import commit_alone, open_relay
from relay.protocol.agreement import AGREEMENT, Agreement, Party
from relay.protocol.canonical import encode
from relay.protocol.cose import parse_sign1, thumbprint
from relay.protocol.entry import Change
from relay.protocol.identity import (
    CERTIFICATE,
    STATEMENT,
    Certificate,
    Kind,
    Statement,
    parse_request,
    parse_statement,
)
from relay.protocol.prekey import KEY_BATCH, KeyBatch, batch_digest
from relay.protocol.publication import POLICY, PublishedPolicy
from relay.settings import Settings
from relay.store.schema import document, key_batch, key_package

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from world import LEVELS, PASSPHRASE, POLICY_NAME, POLICY_OID, TEST_SPIF, clearance

URL = "http://127.0.0.1:1"  # nobody listens there; requests go through Hallway
OFFICES = {"lo-warsaw": "POL", "lo-paris": "FRA"}
LABEL = "TEST SEALED RELEASABLE TO FRA, POL"
BATCH = 65  # references in a key batch, as many as a device publishes at once


@dataclass
class Hallway:
    """The sender's transport: the relay's own methods, and how long they took."""

    relay: Relay
    loop: asyncio.AbstractEventLoop
    caller: Caller | None = None
    spent: dict[str, tuple[float, float]] = field(default_factory=dict)  # path → wall and processor seconds

    def get(self, path: str, **query: float) -> bytes:
        if path == "/v1/directory":
            return self._timed(path, self.relay.directory(self._caller, int(query["after"]), 1000))
        if path == "/v1/keys/stock":
            return self._timed(path, self.relay.stock(self._caller))
        return self._timed(path, self.relay.document(self._caller, bytes.fromhex(path.rpartition("/")[2])))

    def post(self, path: str, body: bytes, seen: int = 0, *_: object) -> bytes:
        if path == "/v1/messages":
            return self._timed(path, self.relay.accept(self._caller, body, seen))
        return self._timed(
            path,
            self.relay.claim_keys(self._caller, body)
            if path.endswith("/claim")
            else self.relay.publish_keys(self._caller, body),
        )

    def events(self, after: int) -> Iterator[dict[str, Any]]:
        raise NotImplementedError

    def close(self) -> None:
        self.loop.close()

    @property
    def _caller(self) -> Caller:
        return replace(self.caller, nonce=os.urandom(16))

    def _timed(self, path: str, asked: Coroutine[Any, Any, bytes]) -> bytes:
        wall, processor = time.perf_counter(), time.process_time()
        try:
            return self.loop.run_until_complete(asked)
        finally:
            before = self.spent.get(path, (0.0, 0.0))
            self.spent[path] = (
                before[0] + time.perf_counter() - wall,
                before[1] + time.process_time() - processor,
            )


@dataclass(frozen=True)
class Crowd:
    """The relay, the sender, the readers' addresses in the order in which they were given stock."""

    relay: Relay
    client: Client
    hallway: Hallway
    addresses: list[str]

    def close(self) -> None:
        self.client.close()
        self.relay.close()


def gather(folder: Path, stocks: list[int]) -> Crowd:
    """A crowd with one reader for each number, which is how many one-time keys that reader stocks."""
    settings = Settings(data=folder / "relay", name="bench")
    relay = open_relay(settings)  # makes the keys that the statements name
    authorities = {office: SigningKey.generate() for office in OFFICES}
    statements = {office: _statement(office, key, relay.vkeys) for office, key in authorities.items()}
    request = found_device(
        folder / "sender", "anna.nowak@lo-warsaw", URL, relay.vkeys,
        (statements["lo-warsaw"], parse_statement(statements["lo-warsaw"])), PASSPHRASE,
    )  # fmt: skip
    addresses = [f"reader{number:04}@{('lo-warsaw', 'lo-paris')[number % 2]}" for number in range(len(stocks))]

    def furnish(batch: Batch) -> Any:
        for statement in statements.values():
            register_office(batch, statement)
        _share(batch, authorities, statements)
        asked = parse_request(request)
        _certify(batch, authorities["lo-warsaw"], asked.address, asked.signature_public, asked.request_public)
        for address, stock in zip(addresses, stocks, strict=True):
            _enrol(batch, authorities[address.partition("@")[2]], address, stock)
        return lambda _committed: None

    relay.close()
    commit_alone(settings, furnish)
    relay = open_relay(settings)
    relay.start()
    hallway = Hallway(relay, asyncio.new_event_loop())
    client = Client(open_profile(folder / "sender", PASSPHRASE), hallway)
    hallway.caller = Caller(relay.judge().directory.devices[client.profile.signing.device_id], b"")
    client.sync()
    return Crowd(relay, client, hallway, addresses)


def _statement(office: str, key: SigningKey, relay_keys: tuple[str, ...]) -> bytes:
    public = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    stated = Statement(
        office, OFFICES[office], key.suite.number, key.public, public, int(time.time()), tuple(sorted(relay_keys))
    )
    return key.sign_object(STATEMENT, stated.payload())


def _share(batch: Batch, authorities: dict[str, SigningKey], statements: dict[str, bytes]) -> None:
    """The policy of every office, and an agreement between all of them."""
    now, digest = batch.now, hashlib.sha256(TEST_SPIF).digest()
    batch.add(document, {"digest": digest, "content": TEST_SPIF})
    parties = tuple(
        Party(office, OFFICES[office], parse_statement(statements[office]).kid) for office in sorted(OFFICES)
    )
    agreement = Agreement(
        "bench", parties, POLICY_NAME, POLICY_OID, LEVELS, (), (), (), False, now - 60, now + 86400, os.urandom(16)
    )  # fmt: skip
    for office, key in authorities.items():
        published = PublishedPolicy(office, POLICY_NAME, POLICY_OID, 1, digest, None, now)
        batch.change(Change.POLICY, key.sign_object(POLICY, published.payload()))
        batch.change(Change.AGREEMENT, key.sign_object(AGREEMENT, agreement.payload()))


def _certify(batch: Batch, authority: SigningKey, address: str, signature_public: bytes, request_public: bytes) -> None:
    kid = thumbprint(authority.suite.signature_alg, signature_public)
    certificate = Certificate(
        kid[:16], address, Kind.OFFICER, (), (clearance(nations=("FRA", "POL")),), (), authority.suite.number,
        signature_public, request_public, batch.now - 60, batch.now + 86400, os.urandom(16),
    )  # fmt: skip
    batch.change(Change.CERTIFICATE, authority.sign_object(CERTIFICATE, certificate.payload()))


def _enrol(batch: Batch, authority: SigningKey, address: str, stock: int) -> None:
    """A certified device with a signed batch of keys; the batch is filled up to its usual length with other names."""
    device, request = SigningKey.generate(), Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    _certify(batch, authority, address, device.public, request)
    packages = [
        make_key_package(device.device_id, serial, batch.now, 86400, one_time=serial > 0)[1]
        for serial in range(stock + 1)
    ]
    refs = {package.ref for package in packages} | {os.urandom(32) for _ in range(BATCH - len(packages))}
    signed = device.sign_object(KEY_BATCH, KeyBatch(device.device_id, batch.now, tuple(sorted(refs))).payload())
    digest = batch_digest(parse_sign1(signed, KEY_BATCH))
    batch.change(Change.KEY_BATCH, encode([device.device_id, digest]))
    batch.add(key_batch, {"digest": digest, "device_id": device.device_id, "encoded": signed})
    for package in packages:
        batch.add(key_package, {
            "ref": package.ref, "device_id": device.device_id, "batch": digest, "encoded": package.encoded(),
            "one_time": package.one_time, "not_after": package.not_after, "claimed_by": None, "used_by": None,
        })  # fmt: skip
