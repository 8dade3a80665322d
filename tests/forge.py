"""Submissions and requests with one thing wrong: everything beside it is real, signed and sealed.

A `Forge` works for one sender. `seal` makes a submission that the relay accepts; `alter` changes one thing of it and
signs again, so that what is refused is refused for that one thing.
"""

from __future__ import annotations

import os
import ssl
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count

import httpx2
from sqlalchemy import func, select

from liaison.claiming import claim
from liaison.client import Client
from liaison.outgoing import _readers
from liaison.plan import Plan
from liaison.portions import PortionContent
from liaison.seal import Reader, seal
from liaison.trust import DIRECTORY
from relay.protocol.canonical import decode, encode
from relay.protocol.cose import parse_sign1
from relay.protocol.envelope import MESSAGE, Submission, message_payload, parse_message
from relay.protocol.header import Core, Precedence, fresh_message_id
from relay.protocol.httpsig import sign_request
from relay.protocol.label import label_bytes
from relay.protocol.merkle import leaf_hash, root_of
from relay.protocol.prekey import parse_key_package
from relay.store.log import Log
from relay.store.log_schema import log_entry
from relay.store.schema import key_package, message, part, slot

CBOR = "application/cbor"
SECRET = "TEST SEALED RELEASABLE TO FRA, POL"
_SEQS = count(1_000_000)  # far from where the clients' own chains are
_TLS = ssl.create_default_context()  # or each call would read all authorities of the world, to speak plain HTTP


@dataclass
class Forge:
    """Makes submissions of one sender, in a chain of its own."""

    client: Client
    readers: list[Reader] = field(default_factory=list)
    plan: Plan | None = None

    def prepare(self, *to: str, label: str = SECRET, body: str = "Forged.\n", info=()) -> Forge:
        """Plan and claim once; every `seal` after it is for these readers."""
        self.plan = self.client.plan(list(to), label=label, body=body, info=info)
        self.claim()
        return self

    def claim(self) -> list[Reader]:
        """Fresh key packages for the planned readers."""
        devices = {grant.device.device_id: grant.device for verdict in self.plan.released for grant in verdict.grants}
        claimed = claim(devices, self.client.trust, self.client.transport, int(time.time()))
        self.readers = _readers(self.plan.released, claimed)
        return self.readers

    def last_resort(self, world) -> list[Reader]:
        """The planned readers with their last-resort packages, which serve any number of messages."""
        found = []
        with world.relay._readers.connect() as connection:
            for reader in self.readers:
                wanted = select(key_package.c.encoded).where(
                    key_package.c.device_id == reader.device_id, key_package.c.one_time.is_(False)
                )
                package = parse_key_package(bytes(connection.scalars(wanted).first()))
                found.append(replace(reader, package=package))
        return found

    def core(self, **changes) -> Core:
        key, trust, draft = self.client.profile.signing, self.client.trust, self.plan.draft
        core = Core(
            suite=key.suite,
            message_id=fresh_message_id(int(time.time()), os.urandom(12)),
            sender=self.client.profile.pins.address,
            sender_device=key.device_id,
            sender_kid=key.kid,
            created=int(time.time()),
            expires=draft.expires,
            label=label_bytes(draft.label),
            addressees=draft.addressees,
            portions=(),
            seq=next(_SEQS),
            prev=bytes(32),
            directory=(trust.verifiers(DIRECTORY)[0].name, trust.tree.size, trust.tree.root()),
            handling=draft.handling,
        )
        return replace(core, **changes)

    def seal(self, *, readers=None, labels=None, **changes) -> Submission:
        """A sound submission; `changes` are fields of the core, `labels` those of the portions."""
        portions = self.plan.draft.portions
        if labels is not None:
            portions = tuple(
                PortionContent(p.kind, label, p.content, p.name) for p, label in zip(portions, labels, strict=True)
            )
        chosen = self.readers if readers is None else readers
        return seal(self.core(**changes), portions, chosen, self.client.profile.signing)

    def alter(self, submission: Submission, change=None, *, slots=None, parts=None, key=None) -> bytes:
        """The submission with its core's fields passed through `change` (in place), signed again by `key`."""
        signed = parse_message(submission.message)
        fields = decode(decode(signed.signed.payload)[0])
        if change is not None:
            change(fields)
        slots = submission.slots if slots is None else tuple(slots)
        payload = message_payload(encode(fields), len(slots), root_of(leaf_hash(each) for each in slots))
        again = (key or self.client.profile.signing).sign_object(MESSAGE, payload)
        return Submission(again, slots, submission.parts if parts is None else tuple(parts)).encoded()

    def post(self, body: bytes, *, seen: int = 0, precedence: Precedence | None = None) -> httpx2.Response:
        claimed = {"relay-precedence": precedence.name} if precedence is not None else {}
        return call(self.client, "POST", "/v1/messages", body, headers={"relay-seen": str(seen), **claimed})


def with_signature(submission: Submission, change) -> bytes:
    """The submission with its message's signature passed through `change`."""
    protected, header, payload, signature = decode(submission.message)
    parse_sign1(submission.message, MESSAGE)
    return replace(submission, message=encode([protected, header, payload, change(signature)])).encoded()


def signed_headers(
    who, method: str, path: str, body: bytes | None = None, *, authority=None, created=None, nonce=None, lifetime=60
) -> dict[str, str]:
    """Headers of a signed request of a Client or an Authority, with one thing of it changed."""
    url = who.profile.pins.relay_url
    own = url.partition("://")[2]
    fields = sign_request(
        who.profile.request,
        who.profile.keyid,
        method,
        authority or own,
        url.replace(own, authority or own) + path,
        body,
        CBOR if body is not None else None,
        created or int(time.time()),
        nonce or os.urandom(16),
        lifetime=lifetime,
    )
    return fields if body is None else {"content-type": CBOR, **fields}


def call(who, method: str, path: str, body: bytes | None = None, *, headers=None, timeout=20) -> httpx2.Response:
    """One signed request, tried once, its answer as it came."""
    signed = signed_headers(who, method, path, body)
    url = who.profile.pins.relay_url
    headers = {**signed, **(headers or {})}
    return httpx2.request(method, url + path, content=body, headers=headers, timeout=timeout, verify=_TLS)


def problem(response: httpx2.Response) -> dict:
    """The problem document of a refusal; every refusal has one, and it says what is wrong."""
    assert response.headers["content-type"] == "application/problem+json", response.content
    told = response.json()
    assert told["status"] == response.status_code
    assert told["detail"]
    assert told["type"].startswith("urn:liaison-relay:problem:")
    return told


def rows(world) -> dict[str, int]:
    """How much is stored."""
    with world.relay._readers.connect() as connection:
        counts = {
            table.name: connection.scalar(select(func.count()).select_from(table)) for table in (message, slot, part)
        }
        logged = select(func.count()).select_from(log_entry).where(log_entry.c.log == Log.ACCESS)
        return {**counts, "log_entry": connection.scalar(logged)}


@contextmanager
def stored(world, **more: int):
    """Inside, exactly this many rows more are stored, and nothing else."""
    before = rows(world)
    yield
    assert rows(world) == {name: before[name] + more.get(name, 0) for name in before}
