"""The originator's own view of what became of a message: entries proven by the log, receipts by their signers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from relay.protocol.actor import verify_concerns
from relay.protocol.canonical import expect, expect_bytes, expect_items, read_array
from relay.protocol.cose import parse_sign1, verify_sign1
from relay.protocol.envelope import RECEIPT, RECEIPT_STATES, Receipt, decode_list, read_receipt
from relay.protocol.errors import Malformed, Unknown, Unverified
from relay.protocol.grants import accept_detail, parse_grants
from relay.protocol.header import AddresseeKind

from . import render
from .chain import ChainRow, EvidenceKind, Limit, Logged, chain
from .client import Client
from .exposure import Exposure, exposures
from .proven import proven
from .record import DRAFTED, FAILED, OUT, Record, read_record
from .trust import ACCESS, relayed

WAITS = "waiting"
_DELIVERED = (EvidenceKind.NON_DELIVERY, EvidenceKind.RETRIEVAL, EvidenceKind.NON_RETRIEVAL)


def receipts_of(client: Client, record: Record) -> Iterator[tuple[str, Receipt, int]]:
    """(address, receipt, index of its entry) of every receipt whose signature holds. Raises Unverified for others."""
    answer = client.transport.get(f"/v1/messages/{record.message.core.message_id.hex()}/receipts")
    with relayed():
        rows = receipt_rows(decode_list(answer, "receipts"))
    for device_id, _state, encoded, index in rows:
        device = client.trust.directory.devices.get(device_id)
        with relayed():
            signed = parse_sign1(encoded, RECEIPT)
            receipt = read_receipt(signed)
        if device is None or receipt.message_ref != record.message.ref or receipt.device_id != device_id:
            raise Unverified("the relay showed a receipt for another message or of an unknown device")
        verify_sign1(signed, device.signature_public)
        yield device.address, receipt, index


def receipt_rows(rows: list[object]) -> list[tuple[bytes, str, bytes, int]]:
    """(device, state, signed receipt, index of its entry) of each that the relay shows. Raises Malformed."""
    found = []
    for row in rows:
        device_id, state, encoded, index = expect_items(row, 4, "receipt")
        if expect(state, str, "receipt: state") not in RECEIPT_STATES:
            raise Malformed("receipt: state is unknown")
        expect_bytes(device_id, 16, "receipt: device")
        found.append((device_id, state, expect(encoded, bytes, "receipt"), expect(index, int, "receipt: index")))
    return found


def evidence_chain(client: Client, record: Record, within: int | None) -> list[ChainRow]:
    """The evidence of a message that was sent; negative evidence after `within` seconds, or after its expiry."""
    core = record.message.core
    with relayed():
        receipts = {(receipt.device_id, receipt.state) for _address, receipt, _index in receipts_of(client, record)}
        found, as_of = _proven(client, record)
    due = core.expires if within is None else min(core.expires, core.created + within)
    refused = dict(record.refused)
    return chain(found, core, client.trust.directory, Limit(due, as_of), receipts=receipts, refused=refused)


@dataclass(frozen=True, slots=True)
class Tracked:
    """What the log proves of a message that was sent: its acceptance, its first recall, each addressee's evidence."""

    accepted: Logged
    recalled: Logged | None
    rows: Sequence[ChainRow]

    def state_of(self, address: str) -> tuple[str, ChainRow]:
        """What became of a recalled message there, and the evidence of it, where no receipt says so."""
        *_, row = (row for row in self.rows if row.address == address and row.kind in _DELIVERED)
        return ("opened" if row.kind.value[1] else row.reason), row

    def count(self, kind: EvidenceKind) -> int:
        """How many of the addressees there is this evidence of."""
        return sum(row.kind is kind for row in self.rows)


def look_up(client: Client, record: Record) -> Tracked | None:
    """What became of a message that was sent; None where the relay has none, yet or any more. Raises Unverified."""
    try:
        with relayed():
            found, as_of = _proven(client, record)
    except Unknown:
        return None
    core = record.message.core
    rows = chain(found, core, client.trust.directory, Limit(core.expires, as_of))
    return Tracked(found.accepts[0], found.recalls[0] if found.recalls else None, rows)


def unposted(client: Client, record: Record) -> str:
    """Why the relay may have nothing of a message that was sealed here, in a word; empty if it has taken it."""
    if client.profile.cabinet.waits(record.message.core.message_id):
        return WAITS
    return record.state if record.state in {FAILED, DRAFTED} else ""


def sent_record(client: Client, message_id: bytes) -> Record:
    """Of a message that this profile sent. Raises Malformed."""
    kept = client.profile.cabinet.message(message_id)
    record = read_record(kept) if kept is not None else None
    if record is None or record.direction != OUT:
        raise Malformed("this is not a message that you sent", hint="tracking is the originator's; see: liaison track")
    return record


def track_rows(client: Client, record: Record, tracked: Tracked | None) -> Iterator[dict[str, Any]]:
    """A row per receipt whose signature holds, then a row per addressee of whom there is none."""
    core, heard = record.message.core, set[str]()
    here = unposted(client, record) if tracked is None else ""
    recalled = tracked.recalled if tracked is not None else None
    back = {"index": recalled[0], "time": recalled[1].time} if recalled is not None else None
    for address, receipt, index in receipts_of(client, record) if not here else ():
        heard.add(address)
        yield _row(address, receipt.state, receipt.at, index) | {"recalled": back}
    for addressee in core.addressees:
        if addressee.kind is AddresseeKind.EXEMPTED or addressee.address in heard:
            continue
        if tracked is None or recalled is None:
            yield _row(addressee.address, here or "released") | {"recalled": None}
        else:
            state, found = tracked.state_of(addressee.address)
            at = found.time // 1000 if found.time is not None else None
            yield _row(addressee.address, state, at, found.entry) | {"recalled": back}
    for address, rules in record.refused:
        yield _row(address, f"refused: {', '.join(rules)}") | {"recalled": None}


def _row(address: str, state: str, at: int | None = None, entry: int | None = None) -> dict[str, Any]:
    return {"address": address, "state": state, "time": "" if at is None else render.moment(at), "entry": entry}


def _proven(client: Client, record: Record) -> tuple[Exposure, int]:
    """What the relay proves of this message, and when the checkpoint over it was signed, in seconds."""
    core = record.message.core
    answer = client.transport.get(f"/v1/messages/{core.message_id.hex()}/evidence")
    given, listed, rows = read_array(answer, 3, "evidence")
    pulled, as_of = proven(client, given, rows)
    for each in pulled:
        if each.entry is not None:
            verify_concerns(each.entry, core.office)
    (found,) = exposures(pulled, [core.message_id])
    found.grants = parse_grants(expect(listed, bytes, "evidence: grants"))
    accepts = [(entry.message_ref, entry.detail) for _index, entry in found.accepts]
    if accepts != [(record.message.ref, accept_detail(found.grants, core.handling.precedence))]:
        raise Unverified("the relay shows another acceptance, or other devices, than this message's")
    return found, as_of


def audited_chain(client: Client, found: Exposure, within: int | None = None) -> list[ChainRow]:
    """The same from an auditor's whole and verified log, where silence is proven; nothing where it is not complete."""
    if found.message is None:
        return []
    state, core = client.trust.cabinet.log_state(ACCESS), found.message.core
    as_of = client.trust.signed_at(ACCESS, state.checkpoint) if state is not None else 0
    due = core.expires if within is None else min(core.expires, core.created + within)
    return chain(found, core, client.trust.directory, Limit(due, as_of))
