"""What a caller asks of a gateway: a key, and a JSON object that says what is to be sent."""

from __future__ import annotations

import json
from typing import Any

from liaison.gateway.asked import plan_arguments, precedence_of, read_object
from liaison.gateway.keyed import read_key
from relay.protocol.header import Precedence

from . import mutators
from .target import Property, Target

_WHOLE: dict[str, Any] = {
    "to": ["anna.nowak@lo-warsaw"], "info": ["duty@lo-paris"], "exempted": [], "label": "TEST OPEN", "subject": "Track 4711",
    "body": "54.5N 018.6E", "precedence": "FLASH", "expires": "12h", "references": ["ab" * 16], "type": "exercise",
    "attachments": [{"name": "a.txt", "content": "YWJj", "label": "TEST OPEN"}], "purpose": "", "require_ack": True,
    "originator_controlled": False,
}  # fmt: skip


def _asked_holds(found: dict[str, Any], _octets: bytes) -> None:
    assert {"to", "label", "body"} <= found.keys()
    assert all(type(address) is str for address in found["to"])
    assert isinstance(found.get("precedence", Precedence.ROUTINE), Precedence)
    assert all(type(each.content) is bytes for each in found.get("attachments", ()))


def _key_holds(key: str, octets: bytes) -> None:
    assert 1 <= len(key) <= 128
    assert octets.decode() in {key, f'"{key}"'}


TARGETS = (
    Target(
        "gateway",
        (
            Property(lambda octets: plan_arguments(read_object(octets)), _asked_holds),
            Property(lambda octets: precedence_of(read_object(octets)), lambda found, _: Precedence(found)),
            Property(lambda octets: read_key(octets.decode(errors="replace")), _key_holds),
        ),
        lambda: [json.dumps(_WHOLE).encode(), b'{"to": ["a@b"], "label": "L", "body": ""}', b'"key-1"', b"key-1"],
        mutators.text,
    ),
)
