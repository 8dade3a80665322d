"""What the model speaks of: people, agreements, keys, messages, entries; and what its policy says."""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.protocol.endorsement import Consent, Endorsement
from relay.protocol.entry import Event
from relay.protocol.errors import LiaisonError, Unknown
from relay.protocol.identity import Kind

DAY = 86400
APART = 300  # seconds that clocks may differ
ORDER = ("OPEN", "CLOSED", "SEALED")
NOBODY = bytes(16)
# What the two versions of the policy say: where the codeword may not stand, for how long things are kept, and from what
# on a second officer releases.
NO_CODEWORD = {1: {"OPEN"}, 2: {"OPEN", "CLOSED"}}
KEPT = {1: {"OPEN": DAY}, 2: {"OPEN": 3 * DAY}}
TWO_PERSONS_FROM = {1: "SEALED", 2: "CLOSED"}
ENTRIES_KEPT = {1: {"OPEN": 2 * DAY, "SEALED": 40 * DAY}, 2: {"OPEN": DAY}}


@dataclass(frozen=True)
class Label:
    level: str
    nations: frozenset[str] = frozenset()  # releasable to; none: no such tag
    codeword: bool = False
    version: int = 1


@dataclass(frozen=True)
class Clearance:
    levels: frozenset[str]
    nation: str
    codeword: bool
    since: int
    until: int  # included


@dataclass(frozen=True)
class Holder:
    """A device as its certificate has it."""

    device_id: bytes
    address: str
    kind: Kind
    roles: frozenset[str]
    clearance: Clearance | None
    since: int
    until: int

    @property
    def office(self) -> str:
        return self.address.partition("@")[2]


@dataclass
class Terms:
    """An agreement."""

    offices: frozenset[str]
    levels: frozenset[str]
    codeword: bool
    communities: frozenset[str]
    since: int
    until: int
    signed: set[str] = field(default_factory=set)
    is_withdrawn: bool = False
    may_go_on: bool = False  # to others


@dataclass(frozen=True)
class Named:
    """An office's list of approvers: how many each matter takes, and of whom."""

    version: int
    needed: dict[str, int]
    people: frozenset[tuple[str, bytes]]  # address, device


@dataclass(frozen=True)
class Package:
    device_id: bytes
    one_time: bool
    until: int
    claimed_by: bytes | None = None
    used: bool = False


@dataclass(frozen=True)
class Mail:
    """A message, as planned or as sealed."""

    sender: bytes
    office: str
    seq: int
    created: int
    seen: int  # entries of the directory log
    expires: int
    precedence: int
    banner: Label
    labels: tuple[Label, ...]  # of the portions
    addressees: dict[str, int]  # by address: 1 action, 2 info, 3 exempted
    slots: dict[bytes, tuple[int, ...]] = field(default_factory=dict)  # by device, the portions
    packages: dict[bytes, bytes] = field(default_factory=dict)  # by device, the ref of what it is sealed to
    # once it is sealed
    message_id: bytes = b""
    ref: bytes = b""
    body: bytes = b""  # the submission; of it:
    message: bytes = b""
    parts: tuple[bytes | None, ...] = ()
    sealed_slots: dict[bytes, bytes] = field(default_factory=dict)
    # of what it passes on
    originals: tuple[Mail, ...] = ()
    consents: tuple[Consent, ...] = ()
    signed_consents: tuple[bytes, ...] = ()
    is_controlled: bool = False  # by its originator
    # once it is endorsed, by whom, and as signed
    endorsed: tuple[Endorsement, ...] = ()
    endorsements: tuple[bytes, ...] = ()

    @property
    def reached(self) -> set[str]:
        return {address for address, kind in self.addressees.items() if kind != 3}

    @property
    def parties(self) -> set[str]:
        return {self.office, *(address.partition("@")[2] for address in self.reached)}


@dataclass
class Word:
    """An office's hold on a message: whether it stands, and whose word waits for a second."""

    stands: bool = False
    waits: bytes | None = None
    entry: int = -1  # of the word that counted last
    waiting_entry: int = -1

    @property
    def listed(self) -> list[int]:
        """18a.6: the entries that the office's security officers are shown."""
        return [self.entry] * self.stands + [self.waiting_entry] * (self.waits is not None)


@dataclass
class Stored:
    mail: Mail
    entry: int
    urgencies: dict[bytes, int]  # by device, as it was accepted
    opened: dict[bytes, int] = field(default_factory=dict)  # by device, its first entry
    receipts: dict[tuple[bytes, str], int] = field(default_factory=dict)
    recalls: dict[tuple[object, ...], int] = field(default_factory=dict)
    is_spilled: bool = False
    is_kept: bool = False  # slots that a recall would have destroyed, for a hold
    has_parts: bool = True
    words: dict[str, Word] = field(default_factory=dict)  # by office

    @property
    def is_held(self) -> bool:
        return any(word.stands for word in self.words.values())

    @property
    def has_slots(self) -> bool:
        return not self.recalls


@dataclass
class Entry:
    """What the access log should say."""

    event: Event
    device_id: bytes
    office: str
    concerns: str = ""
    message_id: bytes | None = None
    ref: bytes | None = None
    rules: frozenset[str] = frozenset()
    detail: str | None = None  # None: not foretold
    label: Label | None = None
    time: int = 0
    is_erased: bool = False


@dataclass(frozen=True)
class Answer:
    """What the caller hears: an error, or the entry that was made for him."""

    error: type[LiaisonError] | None = None
    rules: frozenset[str] = frozenset()
    index: int | None = None
    found: tuple[bytes | None, ...] = ()  # of a claim


DENIED = Answer(Unknown)  # whatever the reason


def dominates(banner: Label, labels: tuple[Label, ...]) -> bool:
    """10.4"""
    released = [each.nations for each in labels if each.nations]
    if released and not (banner.nations and banner.nations <= frozenset.intersection(*released)):
        return False
    rank = ORDER.index(banner.level)
    return all(ORDER.index(each.level) <= rank and each.codeword <= banner.codeword for each in labels)
