"""Bodies of requests, as the relay checks them before it asks its database."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from hashlib import sha256
from typing import Any

from relay.core.acknowledge import check_receipt
from relay.core.alarm import check_alarm
from relay.core.caller import Caller
from relay.core.hold import check_hold
from relay.core.keyroom import check_batch
from relay.core.recall import check_recalls
from relay.core.register import read_publication
from relay.core.submission import check_submission
from relay.protocol.agreement import AGREEMENT
from relay.protocol.alarm import ALARM
from relay.protocol.approval import APPROVAL
from relay.protocol.canonical import encode
from relay.protocol.claim import Checking, settle
from relay.protocol.cose import format_sign1, parse_sign1, protected_header
from relay.protocol.envelope import RECEIPT
from relay.protocol.header import Precedence
from relay.protocol.hold import HOLD, hold_body, read_hold_body
from relay.protocol.identity import CERTIFICATE
from relay.protocol.prekey import KEY_BATCH, KeyBatch
from relay.protocol.publication import POLICY, read_published_policy
from relay.protocol.recall import RECALL
from relay.protocol.suite import SUITE_1
from vector_world import ANNA, JEAN, KEYS, NOW, PACKAGE, seed

from . import mutators, seeds
from .target import Property, Target, is_read, spelled_once

MESSAGE_ID = seed("message")[:16]


def _caller(address: str) -> Caller:
    return Caller(seeds.directory().devices[KEYS[address].device_id], bytes(16))


def _publication_holds(publication: Any, octets: bytes) -> None:
    fields = [publication.change.value, publication.payload, list(publication.files)]
    assert encode([*fields, list(publication.approvals)] if publication.approvals else fields) == octets


def _checked(check: Callable[..., Checking[Any]], *given: object) -> Property:
    """`check` of what is known and the octets, its signatures taken as given."""
    return Property(lambda octets: settle(check(*given, octets, NOW)), is_read)


def _posted() -> list[bytes]:
    policy, (spif, *_) = seeds.of_kind(POLICY), seeds.spifs()
    published = replace(read_published_policy(parse_sign1(policy, POLICY)), spif_digest=sha256(spif).digest())
    own = format_sign1(protected_header(SUITE_1.signature_alg, bytes(32), POLICY), published.payload(), b"")
    hold = seeds.of_kind(HOLD)
    return [
        encode([CERTIFICATE, seeds.of_kind(CERTIFICATE), []]),
        encode([AGREEMENT, seeds.of_kind(AGREEMENT), [], [seeds.of_kind(APPROVAL)]]),
        encode([POLICY, own, [spif]]),
        hold,
        hold_body(hold, [seeds.of_kind(APPROVAL)]),
    ]


def _of_devices() -> list[bytes]:
    jean = KEYS[JEAN]
    batch = jean.sign_object(KEY_BATCH, KeyBatch(jean.device_id, NOW - 60, (PACKAGE.ref,)).payload())
    recalls = encode([seeds.of_kind(RECALL)])
    sent = [each.encoded() for each in seeds.submissions()]
    return [encode([batch, [PACKAGE.encoded()]]), recalls, *sent, seeds.of_kind(RECEIPT), seeds.of_kind(ALARM)]


def _without_time(check: Callable[..., Checking[Any]]) -> Callable[..., Checking[Any]]:
    return lambda caller, message_id, body, _now: check(caller, message_id, body)


def _submission(caller: Caller, body: bytes, now: int) -> Checking[Any]:
    return check_submission(seeds.directory(), caller, body, now, Precedence.ROUTINE)


def _read_alarm(octets: bytes) -> Any:
    return check_alarm(_caller(ANNA), octets, NOW)


TARGETS = (
    Target(
        "posted",
        (
            Property(read_publication, _publication_holds),
            spelled_once(read_hold_body, lambda found: hold_body(*found)),
        ),
        _posted,
        mutators.cbor,
        behind=True,
    ),
    Target(
        "checked",
        (
            _checked(_submission, _caller(ANNA)),
            _checked(check_batch, _caller(JEAN)),
            _checked(partial(check_recalls, seeds.directory()), _caller(ANNA), MESSAGE_ID),
            _checked(check_hold, _caller(ANNA), MESSAGE_ID),
            _checked(_without_time(check_receipt), _caller(ANNA), MESSAGE_ID),
            Property(_read_alarm, is_read),
        ),
        lambda: [*_of_devices(), *_posted()],
        mutators.cbor,
        behind=True,
    ),
)
