"""What a caller asks to be sent: a JSON object, read strictly, as the arguments of `Client.plan`.

    {"to": ["anna.nowak@lo-warsaw"], "label": "NATO RESTRICTED", "body": "54.5N 018.6E",
     "info": […], "exempted": […], "subject": "…", "precedence": "FLASH", "info_precedence": "PRIORITY",
     "expires": "12h", "references": [ID…],
     "attachments": [{"name": "…", "content": BASE64, "label": "…"}], "type": "exercise", "purpose": "…",
     "require_ack": true, "originator_controlled": true}

The names are those of `read --json`; only the first three must be there.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from collections.abc import Callable
from typing import Any, NoReturn

from liaison.composing import Attachment
from liaison.durations import lifetime
from relay.protocol.errors import Malformed
from relay.protocol.header import MESSAGE_TYPES, Precedence

_NEEDED = frozenset({"to", "label", "body"})


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object (RFC 8259) that a body is. Raises Malformed."""
    try:
        found = json.loads(body.decode(), object_pairs_hook=_each_once, parse_constant=_no_constant)
    except UnicodeDecodeError as problem:
        raise Malformed(f"the body is not UTF-8 (octet {problem.start})") from None
    except (ValueError, RecursionError) as problem:
        raise Malformed(f"the body is not JSON: {problem}") from None
    if type(found) is not dict:
        raise Malformed("the body is not a JSON object")
    return found


def plan_arguments(asked: dict[str, Any]) -> dict[str, Any]:
    """The arguments of `Client.plan`. Raises Malformed, naming the member."""
    if missing := sorted(_NEEDED - asked.keys()):
        raise Malformed(f"{missing[0]} is missing")
    found = {}
    for name, value in asked.items():
        if name not in _MEMBERS:
            raise Malformed(f"{name!r:.40} is not a member of a message", hint=f"there are {', '.join(_MEMBERS)}")
        argument, read = _MEMBERS[name]
        found[argument] = read(value, name)
    return found


def precedence_of(asked: dict[str, Any]) -> Precedence:
    """Raises Malformed."""
    return _precedence(asked.get("precedence", "ROUTINE"), "precedence")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Malformed("the body names a member twice")
    return found


def _no_constant(text: str) -> NoReturn:
    raise Malformed(f"the body is not JSON: {text}")


def _text(value: Any, name: str) -> str:
    if type(value) is not str or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise Malformed(f"{name} is not a text")
    return value


def _texts(value: Any, name: str) -> list[str]:
    if type(value) is not list:
        raise Malformed(f"{name} is not a list of texts")
    return [_text(each, name) for each in value]


def _flag(value: Any, name: str) -> bool:
    if type(value) is not bool:
        raise Malformed(f"{name} is not true or false")
    return value


def _label(value: Any, name: str) -> str:
    if _text(value, name).lower().endswith(".xml"):  # a caller must not have us read files
        raise Malformed(f"{name} is the name of a file", hint="a label is given as its marking here")
    return str(value)


def _precedence(value: Any, name: str) -> Precedence:
    try:
        return Precedence[_text(value, name)]
    except KeyError:
        raise Malformed(f"{name} is not one of {', '.join(each.name for each in Precedence)}") from None


def _type(value: Any, name: str) -> str:
    if value not in MESSAGE_TYPES:
        raise Malformed(f"{name} is not one of {', '.join(MESSAGE_TYPES)}")
    return str(value)


def _lifetime(value: Any, name: str) -> int:
    return lifetime(_text(value, name), name)


def _ids(value: Any, name: str) -> list[bytes]:
    try:
        found = [bytes.fromhex(each) for each in _texts(value, name)]
    except ValueError:
        found = [b""]
    if any(len(each) != 16 for each in found):
        raise Malformed(f"{name} is not a list of message ids, each of 32 hexadecimal digits")
    return found


def _attachments(value: Any, name: str) -> list[Attachment]:
    if type(value) is not list:
        raise Malformed(f"{name} is not a list")
    return [_attachment(each, f"{name}[{index}]") for index, each in enumerate(value)]


def _attachment(value: Any, name: str) -> Attachment:
    if type(value) is not dict or not {"name", "content"} <= value.keys() <= {"name", "content", "label"}:
        raise Malformed(f"{name} has name, content and perhaps label, and nothing else")
    try:
        content = b64decode(_text(value["content"], f"{name}.content"), validate=True)
    except (binascii.Error, ValueError):
        raise Malformed(f"{name}.content is not base64 (RFC 4648, section 4)") from None
    label = _label(value["label"], f"{name}.label") if "label" in value else None
    return Attachment(_text(value["name"], f"{name}.name"), content, label)


_MEMBERS: dict[str, tuple[str, Callable[[Any, str], Any]]] = {
    "to": ("to", _texts),
    "info": ("info", _texts),
    "exempted": ("exempt", _texts),
    "label": ("label", _label),
    "subject": ("subject", _text),
    "body": ("body", _text),
    "precedence": ("precedence", _precedence),
    "info_precedence": ("info_precedence", _precedence),
    "expires": ("expires_in", _lifetime),
    "references": ("references", _ids),
    "attachments": ("attachments", _attachments),
    "type": ("message_type", _type),
    "purpose": ("purpose", _text),
    "require_ack": ("require_ack", _flag),
    "originator_controlled": ("originator_controlled", _flag),
}
