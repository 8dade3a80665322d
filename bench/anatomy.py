"""Where the time of one accept goes: the product's own functions, timed one by one on a real submission.

Nothing in the product is instrumented. A piece that has been renamed or taken apart is reported as not measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from relay.protocol.envelope import parse_message, parse_slot, parse_submission
from relay.protocol.httpsig import parse_signature, verify_request
from relay.protocol.label import label_of
from relay.protocol.merkle import leaf_hash
from relay.protocol.suite import suite_signing_with

from .world import CBOR, World

TIMES = 300


def microseconds(call: Callable[[], object], times: int = TIMES) -> float:
    """The median of single calls."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return median(taken) * 1e6


def measure(world: World, whole_us: float) -> dict[str, Any]:
    """Microseconds by piece; `whole_us` is the relay's processor time of one accept in the same run."""
    letter = world.letters(1)[0]
    pieces = {
        name: round(microseconds(call), 1) for name, call in _pieces(world, world.post(letter), letter.body).items()
    }
    signatures = pieces["request: Ed25519 alone"] + pieces["message: both signatures alone"]
    checkpoint = round(microseconds(_checkpoint(world), 60), 1)
    named = sum(cost for name, cost in pieces.items() if not name.endswith("alone"))
    return {
        "pieces_us": {**pieces, "checkpoint signatures, once per batch": checkpoint},
        "whole_us": round(whole_us, 1),
        "cryptography_us": round(signatures, 1),
        "rest_us": round(whole_us - named, 1),  # framework, decision, database, log, answer
        "rest_share": round(1 - named / whole_us, 3),
    }


def _pieces(world: World, raw: bytes, body: bytes) -> dict[str, Callable[[], object]]:
    head = raw.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    headers = dict(line.split(": ", 1) for line in head)
    authority, sender = world.server.authority, world.senders[0]
    key = sender.request.public_key().public_bytes_raw()
    signature = parse_signature(headers["signature-input"], headers["signature"])
    submission = parse_submission(body)
    message = parse_message(submission.message)
    scheme = suite_signing_with(message.signed.alg).signature
    public = sender.signing.public
    ed, octets = Ed25519PublicKey.from_public_bytes(key), bytes(400)
    ed_signature = sender.request.sign(octets)

    def verify() -> None:
        parsed = parse_signature(headers["signature-input"], headers["signature"])
        url = f"http://{authority}/v1/messages"
        now = signature.created
        verify_request(key, parsed, "POST", authority, url, body, CBOR, headers["content-digest"], now)

    return {
        "request: parse, digest, verify": verify,
        "request: Ed25519 alone": lambda: ed.verify(ed_signature, octets),
        "message: strict parse of submission, message, slot, label": lambda: _parse(body),
        "message: composite signature": lambda: scheme.verify(
            public, message.signed.to_be_signed, message.signed.signature
        ),
        "message: both signatures alone": lambda: scheme.verify(
            public, message.signed.to_be_signed, message.signed.signature
        ),
        "message: slot leaf": lambda: leaf_hash(submission.slots[0]),
    }


def _parse(body: bytes) -> None:
    submission = parse_submission(body)
    message = parse_message(submission.message)
    for each in submission.slots:
        parse_slot(each, message.core)
    for label in (message.core.label, *(portion.label for portion in message.core.portions)):
        label_of(label)


def _checkpoint(world: World) -> Callable[[], object]:
    from relay.logkeys import load_log_keys  # noqa: PLC0415 - the profile's one look into the relay's folder

    keys = load_log_keys(world.server.data / "log-keys.json")
    return lambda: keys.sign_checkpoint("bench/access", 12345, bytes(32), int(time.time()))
