"""Key packages for many readers: claimed in a few requests, every one verified before it is sealed to.

A package counts only if it is in a batch that its device signed and that the directory log holds. The signatures,
one a batch, are most of the work and release the interpreter's lock: they are checked on all processors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from relay.protocol.canonical import encode, expect
from relay.protocol.cose import Sign1, parse_sign1, verify_sign1
from relay.protocol.directory import Device
from relay.protocol.envelope import decode_list
from relay.protocol.errors import Unverified
from relay.protocol.prekey import KEY_BATCH, KeyPackage, batch_digest, parse_key_package, read_key_batch

from .stock import check_package
from .transport import Transport
from .trust import Trust, relayed

_AT_ONCE = 500  # devices in one claim; a relay takes 1000


def claim(devices: Mapping[bytes, Device], trust: Trust, transport: Transport, now: int) -> dict[bytes, KeyPackage]:
    """The package of each of these devices that has any, as its device signed it. Raises Unverified if it did not."""
    found: dict[bytes, KeyPackage] = {}
    ids = list(devices)
    for start in range(0, len(ids), _AT_ONCE):
        asked = ids[start : start + _AT_ONCE]
        answer = transport.post("/v1/keys/claim", encode(asked))
        with relayed():
            read = list(_read_claimed(answer, asked, trust, transport, now))
            _verify_all([(signed, devices[package.device_id].signature_public) for package, signed in read])
        found |= {package.device_id: package for package, _ in read}
    return found


def _read_claimed(
    answer: bytes, asked: Sequence[bytes], trust: Trust, transport: Transport, now: int
) -> Iterator[tuple[KeyPackage, Sign1]]:
    """Each package with the batch that lists it, everything checked but the batch's signature."""
    rows = decode_list(answer, "claimed keys")
    if [row[0] if type(row) is list and len(row) == 3 else None for row in rows] != list(asked):
        raise Unverified("the relay answered for other devices than were asked for")
    for device_id, package, batch in rows:
        if package is not None:
            parsed = parse_key_package(expect(package, bytes, "key package"))
            check_package(parsed, device_id, now)
            signed = parse_sign1(expect(batch, bytes, "key batch"), KEY_BATCH)
            _check_listed(parsed, signed, trust, transport)
            yield parsed, signed


def _check_listed(package: KeyPackage, signed: Sign1, trust: Trust, transport: Transport) -> None:
    batch, digest = read_key_batch(signed), batch_digest(signed)
    if trust.directory.key_batches.get(digest) != package.device_id:
        trust.sync(transport)  # the device may have stocked up since
    if trust.directory.key_batches.get(digest) != package.device_id:
        raise Unverified("a key batch that is not in the directory log: this key was swapped in")
    if batch.device_id != package.device_id or package.ref not in batch.refs:
        raise Unverified("a key package that its device's batch does not list: this key was swapped in")


def _verify_all(signed: Sequence[tuple[Sign1, bytes]]) -> None:
    """Raise Unverified if one of these does not hold under the key beside it."""
    shares = min(len(signed), os.cpu_count() or 1)
    if shares < 2:
        _verify_each(signed)
        return
    with ThreadPoolExecutor(shares) as pool:
        for checked in [pool.submit(_verify_each, signed[share::shares]) for share in range(shares)]:
            checked.result()


def _verify_each(signed: Sequence[tuple[Sign1, bytes]]) -> None:
    for each, public in signed:
        verify_sign1(each, public)
