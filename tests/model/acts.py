"""What the model's people do: real keys, certificates, messages and requests, and how several of them meet in one commit.

Keys grow from words, so that they cost nothing twice. Nothing here decides whether what is asked for is permitted.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from forge import CBOR
from liaison.keys import SigningKey, make_key_package
from liaison.portions import PortionContent, PortionKind
from liaison.seal import Reader, seal
from model.terms import Answer, Label, Mail, Package
from relay.core import Relay
from relay.core.caller import Request
from relay.pipeline.batch import Job
from relay.protocol import label as wire
from relay.protocol.canonical import encode
from relay.protocol.claim import Checking, settle
from relay.protocol.envelope import parse_message
from relay.protocol.header import Addressee, AddresseeKind, Core, MessageHandling, Precedence, fresh_message_id
from relay.protocol.httpsig import sign_request
from relay.protocol.prekey import KEY_BATCH, KeyBatch, KeyPackage
from vector_world import seed
from world import POLICY_NAME, POLICY_OID, TEST_SPIF

SPIFS = {
    1: TEST_SPIF,
    2: TEST_SPIF.replace(b' version="1"', b' version="2"').replace(
        b'"FOX" lacv="1">', b'"FOX" lacv="1"><spif:excludedClass>CLOSED</spif:excludedClass>'
    ),
}
EXTENSIONS = {
    1: b'one_time_key_from = "SEALED"\ntwo_person_release_from = "SEALED"\nretention = { OPEN = 86400 }\n'
    b"entry_retention = { OPEN = 172800, SEALED = 3456000 }\n",
    2: b'one_time_key_from = "SEALED"\ntwo_person_release_from = "CLOSED"\n'
    b"retention = { OPEN = 259200 }\nentry_retention = { OPEN = 86400 }\n",
}
CODEWORD = wire.Category("Codeword", "1.3.6.1.4.1.99999.2", wire.TagType.RESTRICTIVE, ("FOX",))
RELEASE = wire.Category("Releasable To", "1.3.6.1.4.1.99999.3", wire.TagType.PERMISSIVE, ("POL",))
AUTHORITY = "relay.test"


@dataclass(frozen=True)
class Key:
    """A device's, or an authority's, keys."""

    word: str
    signing: SigningKey = field(repr=False)
    request: Ed25519PrivateKey = field(repr=False)
    device_id: bytes

    @property
    def request_public(self) -> bytes:
        return self.request.public_key().public_bytes_raw()

    def asks(self, now: int, body: bytes = b"") -> Request:
        """A request of this body, signed now."""
        target, kind = f"http://{AUTHORITY}/v1/", CBOR if body else None
        signed = sign_request(
            self.request, self.device_id.hex(), "POST", AUTHORITY, target, body or None, kind, now, os.urandom(16)
        )
        return Request(
            "POST", AUTHORITY, target, body, kind,
            signed.get("content-digest"), signed["signature-input"], signed["signature"],
        )  # fmt: skip


@cache
def key_of(word: str) -> Key:
    signing = SigningKey.from_seeds(seed(f"{word}, lattice") + seed(f"{word}, curve"))
    request = Ed25519PrivateKey.from_private_bytes(seed(f"{word}, requests"))
    return Key(word, signing, request, signing.device_id)


def categories(nations: frozenset[str], *, codeword: bool) -> tuple[wire.Category, ...]:
    released = (replace(RELEASE, values=tuple(nations)),) if nations else ()
    return (*((CODEWORD,) if codeword else ()), *released)


@cache
def label_bytes(label: Label) -> bytes:
    policy = wire.PolicyRef(POLICY_NAME, POLICY_OID, label.version, sha256(SPIFS[label.version]).digest())
    held = categories(label.nations, codeword=label.codeword)
    return wire.label_bytes(wire.Label(policy, label.level, held))


def fill(key: Key, now: int, lives: list[int], first: int, *, one_time: bool) -> dict[bytes, KeyPackage]:
    """Fresh packages of these lives in seconds, numbered from `first` on, by ref; no two end at once."""
    made = [
        make_key_package(key.device_id, number, now, life - number, one_time=one_time)[1]
        for number, life in enumerate(lives, first)
    ]
    return {package.ref: package for package in made}


def batch_of(key: Key, now: int, packages: dict[bytes, KeyPackage]) -> bytes:
    signed = key.signing.sign_object(KEY_BATCH, KeyBatch(key.device_id, now, tuple(sorted(packages))).payload())
    return encode([signed, [each.encoded() for each in packages.values()]])


def as_stocked(packages: dict[bytes, KeyPackage]) -> dict[bytes, Package]:
    return {ref: Package(each.device_id, each.one_time, each.not_after) for ref, each in packages.items()}


def sealed(sender: Key, address: str, mail: Mail, packages: dict[bytes, KeyPackage]) -> Mail:
    """The planned message with its bytes; under the id that it has, or a new one."""
    core = Core(
        suite=sender.signing.suite,
        message_id=mail.message_id or fresh_message_id(mail.created, os.urandom(12)),
        sender=address,
        sender_device=sender.device_id,
        sender_kid=sender.signing.kid,
        created=mail.created,
        expires=mail.expires,
        label=label_bytes(mail.banner),
        addressees=tuple(
            Addressee(AddresseeKind(kind), each)
            for kind, each in sorted((kind, each) for each, kind in mail.addressees.items())
        ),
        portions=(),
        seq=mail.seq,
        prev=bytes(32),
        directory=("relay.test/directory", mail.seen, bytes(32)),
        handling=MessageHandling(
            Precedence(mail.precedence),
            Precedence.DEFERRED,
            mail.created - mail.created % 60,
            originator_controlled=mail.is_controlled,
        ),
        passed_on=tuple(each.message for each in mail.originals),
        consents=mail.signed_consents,
    )
    readers = [
        Reader(device_id, packages[ref].device_id + bytes(16), packages[ref], mail.slots[device_id])
        for device_id, ref in mail.packages.items()
    ]
    portions = [PortionContent(PortionKind.BODY, label_bytes(each), b"Ferry at dawn.\n") for each in mail.labels]
    submission = seal(core, portions, readers, sender.signing)
    return replace(
        mail,
        message_id=core.message_id,
        ref=parse_message(submission.message).ref,
        body=submission.encoded(),
        message=submission.message,
        sealed_slots=dict(zip(sorted(mail.slots), submission.slots, strict=True)),
        parts=submission.parts,
    )


# -- what is asked of the relay, alone or in one commit with others ------------------------------------------------


@dataclass(frozen=True)
class Act:
    words: str  # for whoever reads of a failure
    ask: Callable[[Relay], Awaitable[Any]]
    expect: Callable[[], Answer]  # what the model says; it happens there too
    check: Callable[[Any, Answer], None] = lambda _got, _answer: None


class Slate:
    """Stands in for the line in front of a relay's committing thread: what comes while it is open is one commit."""

    def __init__(self, relay: Relay) -> None:
        self._committer = relay._committer
        self._jobs: list[tuple[Job, asyncio.Future[Any]]] = []
        self.is_open = False
        relay._writer.check = self.check  # type: ignore[method-assign]

    async def check(self, check: Checking[Job], _precedence: Precedence = Precedence.ROUTINE) -> Any:
        job, future = settle(check), asyncio.get_running_loop().create_future()
        self._jobs.append((job, future))
        if not self.is_open:
            self.commit()
        return await future

    @property
    def length(self) -> int:
        return len(self._jobs)

    def commit(self) -> None:
        jobs, self._jobs, self.is_open = self._jobs, [], False
        for (_job, future), outcome in zip(jobs, self._committer.commit([job for job, _ in jobs]), strict=True):
            if outcome.error is not None:
                future.set_exception(outcome.error)
            else:
                future.set_result(outcome.value)


async def _turn() -> None:
    """Let the others go on."""
    await asyncio.sleep(0)


async def together(relay: Relay, slate: Slate, acts: list[Act], fate: str) -> list[Any]:
    """What each is told: an answer or an exception. They stand in one commit in this order, which has this fate."""
    if not relay._committer.directory.size:  # after a lost commit it knows nobody, and looks again in one of its own
        await relay._writer.catch_up()
    slate.is_open, tasks = True, []
    for act in acts:
        tasks.append(asyncio.ensure_future(act.ask(relay)))
        while slate.length + sum(each.done() for each in tasks) < len(tasks):
            await _turn()
    if fate == "beside a fault":
        fault = asyncio.ensure_future(relay._writer.submit(lambda _batch: 1 // 0))
        await _turn()
        await _turn()
    with _struck(relay, fate):
        slate.commit()
        told = await asyncio.gather(*tasks, return_exceptions=True)
    if fate == "beside a fault":
        assert isinstance((await asyncio.gather(fault, return_exceptions=True))[0], ZeroDivisionError)
    return told


@contextmanager
def _struck(relay: Relay, fate: str) -> Iterator[None]:
    """The database's line breaks at the commit: before it is done, or just after."""
    dialect = relay._committer._engine.dialect

    def strike(connection: Any) -> None:
        if fate == "unheard":
            connection.commit()
        connection.rollback()  # as SQLite does itself where a commit fails, and PostgreSQL where nobody is left
        raise dialect.loaded_dbapi.OperationalError("the line is dead")

    if fate in {"lost", "unheard"}:
        dialect.do_commit = strike
    try:
        yield
    finally:
        dialect.__dict__.pop("do_commit", None)
