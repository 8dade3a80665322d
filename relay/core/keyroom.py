"""Key packages at the relay: stocked by their device, claimed once each, atomically."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import (
    BigInteger,
    Connection,
    LargeBinary,
    ScalarSelect,
    Update,
    bindparam,
    delete,
    exists,
    func,
    select,
    update,
)

from relay.pipeline.batch import Answer, Batch, Lookup
from relay.protocol.canonical import encode, expect, expect_bytes, read_array
from relay.protocol.claim import Checking
from relay.protocol.cose import check_sign1, parse_sign1
from relay.protocol.entry import Change, Event
from relay.protocol.envelope import Slot, decode_list
from relay.protocol.errors import Conflict, Malformed, TooLarge
from relay.protocol.header import Core
from relay.protocol.prekey import KEY_BATCH, MAX_STOCK, KeyPackage, batch_digest, parse_key_package, read_key_batch
from relay.store.prepared import Prepared, given
from relay.store.schema import key_batch, key_package

from .caller import Caller, current, entry_of
from .limits import MAX_CLAIM
from .quota import Metered, Quota

_ENDED_AT_ONCE = 500  # packages forgotten in one transaction: others wait for it


def check_batch(caller: Caller, body: bytes, now: int) -> Checking[tuple[bytes, bytes, list[KeyPackage]]]:
    """[KeyBatch, [KeyPackage...]] by the caller, every package listed, no other, none of no use. Runs on any thread."""
    encoded, packages = read_array(body, 2, "keys")
    signed = parse_sign1(expect(encoded, bytes, "keys: batch"), KEY_BATCH)
    batch = read_key_batch(signed)
    if batch.device_id != caller.device.device_id:
        raise Malformed("keys: the batch is another device's")
    yield from check_sign1(signed, caller.device.signature_public)
    parsed = [parse_key_package(expect(item, bytes, "keys: package")) for item in expect(packages, list, "keys")]
    if sorted(package.ref for package in parsed) != list(batch.refs):
        raise Malformed("keys: not the packages that the batch lists")
    if any(package.device_id != batch.device_id for package in parsed):
        raise Malformed("keys: a package of another device")
    if fault := next(filter(None, (package.fault(now) for package in parsed)), None):
        raise Malformed(f"keys: a package that is {fault}")
    if sum(not package.one_time for package in parsed) > 1:
        raise Malformed("keys: more than one last-resort package")
    return batch_digest(signed), encoded, parsed


def publish(
    batch: Batch, caller: Caller, quota: Quota, digest: bytes, encoded: bytes, packages: Sequence[KeyPackage]
) -> Answer:
    """Put a batch into stock; its digest becomes an entry of the directory log."""
    current(batch.directory, caller.device.device_id, batch.now)
    connection, device_id = batch.connection, caller.device.device_id
    batch.flush()
    if connection.scalar(select(key_batch.c.digest).where(key_batch.c.digest == digest)) is not None:
        held = encode(stock_of(connection, device_id, batch.now))
        return lambda _committed: held
    quota.charge(batch, caller.device, Metered.KEYS, None)
    known = select(key_package.c.ref).where(key_package.c.ref.in_([package.ref for package in packages]))
    if connection.execute(known.limit(1)).first() is not None:
        raise Conflict("keys: a package was published before, in another batch", hint="make new keys")
    if stock_of(connection, device_id, batch.now)[0] + len(packages) > MAX_STOCK:
        raise TooLarge(f"a device may stock {MAX_STOCK} one-time keys here")
    batch.change(Change.KEY_BATCH, encode([device_id, digest]))
    batch.add(key_batch, {"digest": digest, "device_id": device_id, "encoded": encoded})
    if any(not package.one_time for package in packages):
        # A new last-resort key takes the old one's place for new senders; what was sealed to the old one still opens.
        connection.execute(_retire(device_id))
    for package in packages:
        batch.add(key_package, {
            "ref": package.ref, "device_id": device_id, "batch": digest, "encoded": package.encoded(),
            "one_time": package.one_time, "not_after": package.not_after, "claimed_by": None, "used_by": None,
        })  # fmt: skip
    batch.flush()
    stock = stock_of(connection, device_id, batch.now)
    return lambda _committed: encode(stock)


def _retire(device_id: bytes) -> Update:
    # In stock, or every package that there is would be looked at: the index has no others.
    in_stock = (key_package.c.device_id == device_id, key_package.c.claimed_by.is_(None))
    return update(key_package).where(*in_stock, ~key_package.c.one_time).values(claimed_by=device_id)


def claim(batch: Batch, caller: Caller, body: bytes, quota: Quota) -> Answer:
    """One key package for each device asked for, one-time while stock lasts, with the batch that vouches for it.

    The answer is [[device_id, package or null, batch or null]...] in the order asked.
    """
    current(batch.directory, caller.device.device_id, batch.now)
    devices = [expect_bytes(item, 16, "claim: device") for item in decode_list(body, "claim")]
    if not devices:
        raise Malformed("claim: names no device")
    if len(devices) > MAX_CLAIM:
        raise TooLarge(f"a claim names at most {MAX_CLAIM} devices")
    if len(set(devices)) != len(devices):
        raise Malformed("claim: a device named twice")
    quota.charge(batch, caller.device, Metered.CLAIM, None, len(devices))
    batch.flush()
    taken = _take(batch, caller, [each for each in devices if _may_claim(batch, caller, each)])
    found = [[each, *taken.get(each, (None, None))] for each in devices]
    batch.log(entry_of(caller, Event.CLAIM, batch.now_ms, hashlib.sha256(body).hexdigest()))
    answer = encode(found)
    return lambda _committed: answer


def _take(batch: Batch, caller: Caller, devices: Sequence[bytes]) -> dict[bytes, tuple[bytes, bytes]]:
    """By device (package, batch) of those that have any; two statements for all of them."""
    found = list(_NEXT_PACKAGES.rows_of(batch.connection, [(each, batch.now) for each in devices]))
    one_time = [ref for _, ref, is_one_time, _, _ in found if is_one_time]
    if one_time:
        # The writer holds the lock, so nobody claimed them since; the count says so anyway.
        claimed = update(key_package).where(key_package.c.ref.in_(one_time), key_package.c.claimed_by.is_(None))
        if batch.connection.execute(claimed.values(claimed_by=caller.device.device_id)).rowcount != len(one_time):
            raise Conflict("a key package was claimed twice")
        batch.forget(PACKAGES, set(one_time).__contains__)
    return {device_id: (package, signed) for device_id, _, _, package, signed in found}


_ASKED = given(device_id=LargeBinary(), now=BigInteger())


def _first(*, one_time: bool) -> ScalarSelect[bytes]:
    """Of the packages that an asked device has in stock, the one that ends first."""
    return (
        select(key_package.c.ref)
        .where(
            key_package.c.device_id == _ASKED.c.device_id,
            key_package.c.one_time if one_time else ~key_package.c.one_time,
            key_package.c.not_after > _ASKED.c.now,
            key_package.c.claimed_by.is_(None),
        )
        .order_by(key_package.c.not_after)
        .suffix_with("LIMIT 1")  # as `limit` it would be a parameter behind those of the rows
        .correlate(_ASKED)
        .scalar_subquery()
    )


# The last-resort one goes where no one-time one is left. One is in stock at most: a newer one has retired the others.
_NEXT = func.coalesce(_first(one_time=True), _first(one_time=False))
_NEXT_PACKAGES = Prepared(
    select(
        key_package.c.device_id, key_package.c.ref, key_package.c.one_time, key_package.c.encoded, key_batch.c.encoded
    )
    .select_from(_ASKED)
    .join(key_package, key_package.c.ref == _NEXT)
    .join(key_batch, key_batch.c.digest == key_package.c.batch)
)


def _may_claim(batch: Batch, caller: Caller, device_id: bytes) -> bool:
    """Keys run out: only an office that may send to this device at all can claim them."""
    device, own = batch.directory.device(device_id, batch.now), caller.device.office
    if device is None:
        return False
    states = batch.directory.agreements_between(own, device.office)
    return own == device.office or any(state.is_valid(batch.now) for state in states)


def drop_ended(batch: Batch) -> Answer:
    """Forget some of the packages that nothing can be sealed to any more; the answer is how many."""
    batch.flush()
    ended = select(key_package.c.ref, key_package.c.batch).where(key_package.c.not_after <= batch.now)
    rows = batch.connection.execute(ended.limit(_ENDED_AT_ONCE)).all()
    refs, batches = {bytes(row.ref) for row in rows}, {bytes(row.batch) for row in rows}
    batch.connection.execute(delete(key_package).where(key_package.c.ref.in_(refs)))
    left = exists().where(key_package.c.batch == key_batch.c.digest)
    batch.connection.execute(delete(key_batch).where(key_batch.c.digest.in_(batches), ~left))
    batch.forget(PACKAGES, refs.__contains__)
    return lambda _committed: len(refs)


def stock_of(connection: Connection, device_id: bytes, now: int) -> list[int]:
    """[one-time packages in stock, not_after of the current last-resort package or 0]."""
    ((count, last),) = _STOCK.rows(connection, device_id=device_id, now=now)
    return [count, last or 0]


_STOCK = Prepared(
    select(
        func.count().filter(key_package.c.one_time), func.max(key_package.c.not_after).filter(~key_package.c.one_time)
    ).where(
        key_package.c.device_id == bindparam("device_id"),
        key_package.c.not_after > bindparam("now"),
        key_package.c.claimed_by.is_(None),
    )
)


class Package(NamedTuple):
    """What the relay knows of a key package, beside its bytes."""

    device_id: bytes
    one_time: bool
    not_after: int
    claimed_by: bytes | None
    used_by: bytes | None


PACKAGES: Lookup[bytes, Package] = Lookup(
    Prepared(
        select(
            key_package.c.ref,
            key_package.c.device_id,
            key_package.c.one_time,
            key_package.c.not_after,
            key_package.c.claimed_by,
            key_package.c.used_by,
        ).where(key_package.c.ref.in_(bindparam("keys", expanding=True)))
    ),
    key=lambda row: row[0],
    value=lambda row: Package(*row[1:]),
)


def check_sealed_to(batch: Batch, core: Core, slots: Sequence[Slot]) -> bool:
    """Every slot is sealed to a key package of its device that this sender claimed, or to its last-resort one.

    The answer is whether all of them are one-time.
    """
    found = [batch.find(PACKAGES, each.kp_ref) for each in slots]
    for each, package in zip(slots, found, strict=True):
        if package is None or package.device_id != each.device_id or package.not_after <= batch.now:
            raise Conflict(
                f"slot for {each.device_id.hex()}: its key package is unknown or expired",
                hint="claim a new one",
            )
        if package.one_time and (package.claimed_by != core.sender_device or package.used_by is not None):
            raise Conflict(
                f"slot for {each.device_id.hex()}: its one-time key is not this sender's to use",
                hint="claim a new one",
            )
    return all(package is not None and bool(package.one_time) for package in found)


def use(batch: Batch, message_id: bytes, slots: Sequence[Slot]) -> None:
    """Mark the one-time packages of an accepted message as used up."""
    for each in slots:
        package = batch.find(PACKAGES, each.kp_ref)
        if package is not None and package.one_time:
            batch.note(PACKAGES, each.kp_ref, package._replace(used_by=message_id))
            batch.stage(_USE, {"package": each.kp_ref, "message": message_id})


_USED = given(package=LargeBinary(), message=LargeBinary())
_USE = Prepared(update(key_package).where(key_package.c.ref == _USED.c.package).values(used_by=_USED.c.message))
