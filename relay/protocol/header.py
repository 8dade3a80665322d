"""The visible header of a message: everything on which its release depends, and nothing of its content.

    core = {1: suite, 2: message_id, 3: [address, device_id, kid], 4: created, 5: expires, 6: label,
            7: [[kind, address]...], 8: [[length, digest, label]...], 9: content_alg, 10: seq, 11: prev,
            12: [directory origin, size, root], 13: handling,
            14: [[label, alternative]...], 15: [passed-on Message...], 16: [Consent...]}

`alternative` is the sender's translation of a label into another policy; whoever relies on it repeats the
translation. A message that passes others on carries their signed headers, so that relay and readers see for
themselves whose they are and what their originators asked for; their content is in the parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from .canonical import encode, expect, expect_bytes, expect_fields, expect_items, expect_time, read_map
from .errors import Malformed
from .identity import office_of, parse_address
from .suite import Suite, suite_numbered
from .tlog import check_origin

MAX_ADDRESSEES, MAX_PORTIONS, MAX_PASSED_ON = 2000, 256, 16
MAX_LIFETIME = 366 * 86400  # seconds
MESSAGE_TYPES = ("operation", "exercise", "project", "drill")
MAX_LABEL = 16 * 1024  # octets: an entry that must be made, of a hold or a recall, has room for it and its warrant


def fresh_message_id(created: int, noise: bytes) -> bytes:
    """An id for a message created at this time (seconds since 1970): 4 octets of it, then 12 random ones, `noise`.

    Ids that begin with their time lie side by side in every index, so a message costs the same among a million others.
    """
    return (created & 0xFFFFFFFF).to_bytes(4, "big") + expect_bytes(noise, 12, "message id: noise")


class Precedence(IntEnum):
    """Values of MMHS; info precedence is never above action precedence."""

    DEFERRED = 0
    ROUTINE = 1
    PRIORITY = 2
    IMMEDIATE = 3
    FLASH = 4
    OVERRIDE = 5


class AddresseeKind(IntEnum):
    ACTION = 1
    INFO = 2
    EXEMPTED = 3


_PRECEDENCES, _KINDS = frozenset(map(int, Precedence)), frozenset(map(int, AddresseeKind))
_CORE_FIELDS, _HANDLING_FIELDS = frozenset(range(1, 17)), frozenset(range(1, 10))


@dataclass(frozen=True, slots=True)
class Addressee:
    kind: AddresseeKind
    address: str


@dataclass(frozen=True, slots=True)
class Portion:
    """One sealed part as the relay sees it."""

    length: int
    digest: bytes
    label: bytes


@dataclass(frozen=True, slots=True)
class MessageHandling:
    """What the relay and the readers must heed beside the label."""

    precedence: Precedence
    info_precedence: Precedence
    dtg: int  # unix seconds of a full minute; printed DDHHMMZ MON YY
    message_type: str = "operation"
    references: tuple[bytes, ...] = ()
    require_ack: bool = False
    originator_controlled: bool = False
    purpose: str = ""
    supersedes: tuple[bytes, str] | None = (
        None  # message_ref of the message that this replaces under a lower label, and why
    )

    def fields(self) -> dict[int, Any]:
        return {
            1: int(self.precedence), 2: int(self.info_precedence), 3: self.dtg, 4: self.message_type,
            5: list(self.references), 6: self.require_ack, 7: self.originator_controlled,
            8: self.purpose, 9: list(self.supersedes) if self.supersedes is not None else None,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Core:
    """The visible header. `encoded` is the truth; the other fields are read from it."""

    suite: Suite
    message_id: bytes
    sender: str
    sender_device: bytes
    sender_kid: bytes
    created: int
    expires: int
    label: bytes
    addressees: tuple[Addressee, ...]
    portions: tuple[Portion, ...]
    seq: int
    prev: bytes
    directory: tuple[str, int, bytes]  # origin, size and root of the directory log the sender saw
    handling: MessageHandling
    alternatives: tuple[tuple[bytes, bytes], ...] = ()
    passed_on: tuple[bytes, ...] = ()
    consents: tuple[bytes, ...] = ()

    @property
    def office(self) -> str:
        return office_of(self.sender)

    def addressed(self, kind: AddresseeKind) -> list[str]:
        """The addresses of one kind, ascending."""
        return [each.address for each in self.addressees if each.kind is kind]

    @property
    def reached(self) -> list[str]:
        """The addresses that it is for: all but the exempted."""
        return [each.address for each in self.addressees if each.kind is not AddresseeKind.EXEMPTED]

    def has_party(self, office: str) -> bool:
        """Whether the office is its originator's, or one that it is for."""
        return office == self.office or office in map(office_of, self.reached)

    def encoded(self) -> bytes:
        return encode({
            1: self.suite.number, 2: self.message_id, 3: [self.sender, self.sender_device, self.sender_kid],
            4: self.created, 5: self.expires, 6: self.label,
            7: [[int(addressee.kind), addressee.address] for addressee in self.addressees],
            8: [[portion.length, portion.digest, portion.label] for portion in self.portions],
            9: self.suite.content_alg, 10: self.seq, 11: self.prev, 12: list(self.directory),
            13: self.handling.fields(), 14: [list(pair) for pair in self.alternatives],
            15: list(self.passed_on), 16: list(self.consents),
        })  # fmt: skip


def parse_core(encoded: bytes) -> Core:
    """Read a core strictly; labels inside are parsed by whoever decides on them. Raises Malformed."""
    fields = read_map(encoded, _CORE_FIELDS, frozenset(), "message core")
    suite = suite_numbered(fields[1])
    if fields[9] != suite.content_alg:
        raise Malformed("message core: content algorithm is not the suite's")
    address, device_id, kid = expect_items(fields[3], 3, "message core: sender")
    parse_address(address)
    origin, size, root = expect_items(fields[12], 3, "message core: directory")
    core = Core(
        suite=suite,
        message_id=expect_bytes(fields[2], 16, "message core: message id"),
        sender=address,
        sender_device=expect_bytes(device_id, 16, "message core: device"),
        sender_kid=expect_bytes(kid, 32, "message core: kid"),
        created=expect_time(fields[4], "message core: created"),
        expires=expect_time(fields[5], "message core: expires"),
        label=_label(fields[6], "label"),
        addressees=_addressees(fields[7]),
        portions=_portions(fields[8]),
        seq=expect(fields[10], int, "message core: seq"),
        prev=expect_bytes(fields[11], 32, "message core: prev"),
        directory=(_origin(origin), expect(size, int, "size"), expect_bytes(root, 32, "root")),
        handling=_handling(fields[13]),
        alternatives=_alternatives(fields[14]),
        passed_on=_byte_strings(fields[15], MAX_PASSED_ON, "passed-on messages"),
        consents=_byte_strings(fields[16], MAX_PASSED_ON, "consents"),
    )
    if core.sender_kid[:16] != core.sender_device:
        raise Malformed("message core: the sender's device is not named by its key")
    if core.seq < 1 or (core.seq == 1 and core.prev != bytes(32)):
        raise Malformed("message core: seq counts from 1, and nothing is before the first")
    if size < 1:
        raise Malformed("message core: a directory of no entry, which names nobody")
    if not core.created < core.expires <= core.created + MAX_LIFETIME:
        raise Malformed("message core: expires before it is created, or more than a year after")
    return core


def _label(value: Any, what: str) -> bytes:
    label: bytes = expect(value, bytes, f"message core: {what}")
    if len(label) > MAX_LABEL:
        raise Malformed(f"message core: {what} of more than {MAX_LABEL} octets")
    return label


def _origin(value: Any) -> str:
    return check_origin(expect(value, str, "directory: origin"), "directory: origin")


def _addressees(value: Any) -> tuple[Addressee, ...]:
    found = []
    for item in expect(value, list, "message core: addressees"):
        kind, address = expect_items(item, 2, "message core: addressee")
        if type(kind) is not int or kind not in _KINDS:
            raise Malformed(f"message core: addressee kind {kind!r:.20} is unknown")
        parse_address(address)
        found.append(Addressee(AddresseeKind(kind), address))
    if len(found) > MAX_ADDRESSEES:
        raise Malformed(f"message core: more than {MAX_ADDRESSEES} addressees")
    if not any(addressee.kind is not AddresseeKind.EXEMPTED for addressee in found):
        raise Malformed("message core: no addressee", hint="an empty list never means everyone")
    keys = [(addressee.kind, addressee.address) for addressee in found]
    if keys != sorted(set(keys)) or len({address for _, address in keys}) != len(keys):
        raise Malformed("message core: addressees not in ascending order, or named twice")
    return tuple(found)


def _portions(value: Any) -> tuple[Portion, ...]:
    items = expect(value, list, "message core: portions")
    if not 0 < len(items) <= MAX_PORTIONS:
        raise Malformed(f"message core: expected 1 to {MAX_PORTIONS} portions")
    found = []
    for item in items:
        length, digest, label = expect_items(item, 3, "message core: portion")
        if expect(length, int, "portion: length") <= 0:
            raise Malformed("message core: portion of no length")
        found.append(Portion(length, expect_bytes(digest, 32, "portion: digest"), _label(label, "portion label")))
    return tuple(found)


def _handling(value: Any) -> MessageHandling:
    fields = expect_fields(value, _HANDLING_FIELDS, frozenset(), "message core: handling")
    for key in (1, 2):
        if type(fields[key]) is not int or fields[key] not in _PRECEDENCES:
            raise Malformed("message core: precedence is unknown")
    if fields[2] > fields[1]:
        raise Malformed("message core: info precedence is above action precedence")
    if expect_time(fields[3], "handling: DTG") % 60:
        raise Malformed("message core: a DTG is a full minute")
    references = tuple(expect_bytes(item, 16, "reference") for item in expect(fields[5], list, "references"))
    return MessageHandling(
        precedence=Precedence(fields[1]),
        info_precedence=Precedence(fields[2]),
        dtg=fields[3],
        message_type=_message_type(fields[4]),
        references=references,
        require_ack=expect(fields[6], bool, "handling: acknowledgement"),
        originator_controlled=expect(fields[7], bool, "handling: originator control"),
        purpose=expect(fields[8], str, "handling: purpose"),
        supersedes=None if fields[9] is None else _supersedes(fields[9]),
    )


def _supersedes(value: Any) -> tuple[bytes, str]:
    ref, reason = expect_items(value, 2, "message core: handling: supersedes")
    if not expect(reason, str, "handling: reason").strip():
        raise Malformed("message core: a label is lowered without a reason")
    return expect_bytes(ref, 32, "handling: superseded message"), reason


def _alternatives(value: Any) -> tuple[tuple[bytes, bytes], ...]:
    pairs = []
    for item in expect(value, list, "message core: alternatives"):
        label, alternative = expect_items(item, 2, "message core: alternative label")
        pairs.append((_label(label, "label with an alternative"), _label(alternative, "alternative label")))
    if pairs != sorted(set(pairs)):
        raise Malformed("message core: alternative labels not in ascending order, or twice")
    return tuple(pairs)


def _byte_strings(value: Any, limit: int, what: str) -> tuple[bytes, ...]:
    items = expect(value, list, f"message core: {what}")
    if len(items) > limit:
        raise Malformed(f"message core: more than {limit} {what}")
    return tuple(expect(item, bytes, f"message core: {what}") for item in items)


def _message_type(value: Any) -> str:
    if expect(value, str, "handling: type") not in MESSAGE_TYPES:
        raise Malformed(f"message core: type {value!r:.40} is unknown", hint="operation, exercise, project or drill")
    return str(value)
