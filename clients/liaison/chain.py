"""The evidence chain: per addressee, signed positive and negative evidence in ranks, as ETSI REM and e-CODEX have it.

The rules:
  - each kind occurs once for an addressee; of all of them the one of the highest rank stands;
  - positive evidence is a verified log entry, `receipt` where the reader's own signature backs it: no relay makes that;
  - negative evidence is silence: a checkpoint signed later than the limit, and no entry up to the limit. It is `log`
    where the whole log was verified, `silence` where the relay was asked and could have kept an entry back;
  - the limit is the message's expiry, or what is asked for; the time of a checkpoint is its signer's word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum
from typing import Any

from relay.protocol.directory import Directory
from relay.protocol.entry import AccessEntry
from relay.protocol.header import AddresseeKind, Core
from relay.protocol.recall import read_recall_detail

from .exposure import Exposure

Logged = tuple[int, AccessEntry]


class EvidenceKind(Enum):
    """Name, rank, and whether it is positive. The relaying kinds of REM, ranks 3 to 5, have no place with one relay."""

    SUBMISSION_ACCEPTANCE = (1, True)
    SUBMISSION_REJECTION = (2, False)
    DELIVERY = (6, True)
    NON_DELIVERY = (7, False)
    RETRIEVAL = (8, True)
    NON_RETRIEVAL = (9, False)
    ACKNOWLEDGEMENT = (10, True)
    NON_ACKNOWLEDGEMENT = (11, False)


@dataclass(frozen=True, slots=True)
class ChainRow:
    """One piece of evidence for one addressee."""

    address: str
    kind: EvidenceKind
    proof: str  # receipt, log, silence; rules where the sender's own client refused
    entry: int | None = None
    time: int | None = None  # milliseconds; of a negative one the limit
    reason: str = ""
    stands: bool = False

    def as_json(self) -> dict[str, Any]:
        rank, positive = self.kind.value
        return {
            "address": self.address, "evidence": self.kind.name, "rank": rank, "positive": positive,
            "proof": self.proof, "entry": self.entry, "time": self.time, "reason": self.reason, "stands": self.stands,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limit:
    """Until when something was due, and until when the log is known. Seconds."""

    due: int
    as_of: int

    @property
    def is_over(self) -> bool:
        return self.due <= self.as_of


def chain(
    found: Exposure,
    core: Core,
    directory: Directory,
    limit: Limit,
    *,
    receipts: AbstractSet[tuple[bytes, str]] = frozenset(),
    refused: Mapping[str, Sequence[str]] | None = None,
) -> list[ChainRow]:
    """Every addressee's evidence by rank. `receipts` are (device, state) whose signature was verified."""
    rows = list[ChainRow]()
    for addressee in core.addressees:
        if addressee.kind is not AddresseeKind.EXEMPTED:
            devices = _reached(directory, addressee.address, found)
            rows += _standing(_of_one(addressee.address, devices, found, core, limit, receipts))
    for address, rules in (refused or {}).items():
        rows += _standing([ChainRow(address, EvidenceKind.SUBMISSION_REJECTION, "rules", reason=", ".join(rules))])
    return rows


def _reached(directory: Directory, address: str, found: Exposure) -> frozenset[bytes]:
    """The devices, of those that were sealed to, that stand behind an address, valid now or not."""
    sealed, ids = {device for device, _granted in found.grants}, set(directory.by_address.get(address, []))
    ids |= set(directory.by_role.get(address, []))
    if (community := directory.communities.get(address)) is not None:
        ids |= {device for member in community.members for device in directory.by_address.get(member, [])}
    return frozenset(sealed & ids)


def _of_one(
    address: str,
    devices: AbstractSet[bytes],
    found: Exposure,
    core: Core,
    limit: Limit,
    receipts: AbstractSet[tuple[bytes, str]],
) -> Iterator[ChainRow]:
    silence, due = "log" if found.is_complete else "silence", limit.due * 1000
    ((index, accept),) = found.accepts
    yield ChainRow(address, EvidenceKind.SUBMISSION_ACCEPTANCE, "log", index, accept.time)
    if not devices:
        yield ChainRow(address, EvidenceKind.NON_DELIVERY, "log", index, accept.time, "no device was sealed to")
        return
    yield ChainRow(address, EvidenceKind.DELIVERY, "log", index, accept.time)
    opened = _first([each for device in devices for each in found.openings.get(device, [])])
    if opened is not None:
        proof = "receipt" if (opened[1].device_id, "opened") in receipts else "log"
        yield ChainRow(address, EvidenceKind.RETRIEVAL, proof, opened[0], opened[1].time)
    elif found.recalls:
        index, recall = found.recalls[0]
        what = "recalled unread, and held" if read_recall_detail(recall.detail).held else "recalled, destroyed unread"
        yield ChainRow(address, EvidenceKind.NON_RETRIEVAL, "log", index, recall.time, what)
    if limit.is_over and (opened is None or opened[1].time > due) and not found.recalls:
        yield ChainRow(address, EvidenceKind.NON_RETRIEVAL, silence, None, due, "not opened in time")
    said = [
        each for each in found.acknowledgements if each[1].device_id in devices and each[1].detail == "acknowledged"
    ]
    acknowledged = _first(said)
    if acknowledged is not None:
        proof = "receipt" if (acknowledged[1].device_id, "acknowledged") in receipts else "log"
        yield ChainRow(address, EvidenceKind.ACKNOWLEDGEMENT, proof, acknowledged[0], acknowledged[1].time)
    if core.handling.require_ack and limit.is_over and (acknowledged is None or acknowledged[1].time > due):
        yield ChainRow(address, EvidenceKind.NON_ACKNOWLEDGEMENT, silence, None, due, "not acknowledged in time")


def _first(logged: Sequence[Logged]) -> Logged | None:
    return min(logged, key=lambda each: each[0], default=None)


def _standing(rows: Iterator[ChainRow] | list[ChainRow]) -> list[ChainRow]:
    """By rank, the highest marked as the one that stands."""
    *lower, last = sorted(rows, key=lambda row: row.kind.value[0])
    return [*lower, ChainRow(last.address, last.kind, last.proof, last.entry, last.time, last.reason, stands=True)]
