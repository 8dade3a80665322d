"""Receipts: a reader's signed word that a message was opened, or acknowledged by a person."""

from __future__ import annotations

import os

from sqlalchemy import LargeBinary, String, select

from relay.pipeline.batch import Answer, Batch, Lookup, Needs
from relay.protocol.claim import Checking
from relay.protocol.cose import check_sign1, parse_sign1
from relay.protocol.dating import CLOCKS_APART
from relay.protocol.entry import AccessEntry, Event
from relay.protocol.envelope import RECEIPT, Receipt, parse_message, read_receipt
from relay.protocol.errors import Malformed, Unauthenticated
from relay.store.prepared import Prepared, given
from relay.store.schema import receipt

from .accept import earlier_receipt
from .caller import Caller, current
from .open import ROWS, not_available

_STATED = given(message_id=LargeBinary(), device_id=LargeBinary(), state=String())
_EARLIER: Lookup[tuple[bytes, bytes, str], int] = Lookup(
    Prepared(
        select(receipt.c.message_id, receipt.c.device_id, receipt.c.state, receipt.c.entry).select_from(
            _STATED.join(
                receipt,
                (receipt.c.message_id == _STATED.c.message_id)
                & (receipt.c.device_id == _STATED.c.device_id)
                & (receipt.c.state == _STATED.c.state),
            )
        )
    ),
    key=lambda row: row[:3],
    value=lambda row: row[3],
)


def needs(stated: Receipt) -> Needs:
    """What `acknowledge` will look up."""
    return (
        (ROWS, ((stated.message_id, stated.device_id),)),
        (_EARLIER, ((stated.message_id, stated.device_id, stated.state),)),
    )


def check_receipt(caller: Caller, message_id: bytes, body: bytes) -> Checking[Receipt]:
    """A receipt by the caller, about this message, whose signature holds. Runs on any thread."""
    signed = parse_sign1(body, RECEIPT)
    stated = read_receipt(signed)
    if stated.device_id != caller.device.device_id or signed.kid != caller.device.kid:
        raise Unauthenticated("the receipt is not signed by the device that posts it")
    if stated.message_id != message_id:
        raise Malformed("the receipt is for another message")
    yield from check_sign1(signed, caller.device.signature_public)
    return stated


def acknowledge(batch: Batch, caller: Caller, stated: Receipt, encoded: bytes, seen: int) -> Answer:
    """Store the receipt with its log entry; a repeated receipt is answered as the first was."""
    current(batch.directory, caller.device.device_id, batch.now)
    device_id, key = stated.device_id, (stated.message_id, stated.device_id, stated.state)
    row = batch.find(ROWS, (stated.message_id, device_id))
    # Only a holder of the keys can say that a message was opened; to everyone else it does not exist.
    if row is None or row.released is None:
        raise not_available()
    if bytes(row.ref) != stated.message_ref:
        raise Malformed("receipt: for another message_ref than the message's")
    if (index := batch.find(_EARLIER, key)) is not None:
        return earlier_receipt(batch, index, seen)
    if stated.at > batch.now + CLOCKS_APART:  # late is no fault: readers are offline at times
        raise Malformed("receipt: signed in the future", hint="check the clock")
    core = parse_message(bytes(row.message)).core
    entry = AccessEntry(
        event=Event.ACKNOWLEDGE,
        time=batch.now_ms,
        salt=os.urandom(16),
        device_id=device_id,
        address=caller.device.address,
        office=caller.device.office,
        concerns=core.office if core.office != caller.device.office else "",
        message_id=stated.message_id,
        message_ref=stated.message_ref,
        label=core.label,
        request=caller.nonce,
        detail=stated.state,
    )
    index = batch.log(entry)
    batch.note(_EARLIER, key, index)
    batch.add(receipt, {
        "message_id": stated.message_id, "device_id": device_id, "state": stated.state,
        "encoded": encoded, "entry": index,
    })  # fmt: skip
    return lambda committed: committed.prove(index, seen).encoded()
