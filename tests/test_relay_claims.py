"""Claims of many key packages: one each, in order, never the same twice; on both databases."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
from sqlalchemy import insert, select

from databases import BOTH, fresh_database
from liaison.claiming import _verify_all
from liaison.keys import SigningKey
from relay.core.keyroom import PACKAGES, _take
from relay.pipeline.batch import Batch
from relay.protocol.cose import parse_sign1
from relay.protocol.directory import Directory
from relay.protocol.errors import Unverified
from relay.protocol.prekey import KEY_BATCH, KeyBatch
from relay.store.engine import open_writer
from relay.store.log import Log
from relay.store.schema import key_batch, key_package, metadata

NOW = 1_790_000_000
CALLER = SimpleNamespace(device=SimpleNamespace(device_id=b"c" * 16))


@pytest.fixture(params=BOTH)
def connection(request, tmp_path):
    with fresh_database(request.param, tmp_path) as url:
        engine = open_writer(url)
        metadata.create_all(engine)
        with engine.begin() as opened:
            yield opened
        engine.dispose()


def stock(connection, *packages):
    """A device with these packages, each (name, one-time, end, claimed by)."""
    device, digest = os.urandom(16), os.urandom(32)
    connection.execute(insert(key_batch), [{"digest": digest, "device_id": device, "encoded": b"batch " + device}])
    rows = [
        {
            "ref": os.urandom(32), "device_id": device, "batch": digest, "encoded": name, "one_time": one_time,
            "not_after": NOW + end, "claimed_by": claimed_by, "used_by": None,
        }
        for name, one_time, end, claimed_by in packages
    ]  # fmt: skip
    if rows:
        connection.execute(insert(key_package), rows)
    return device


def a_batch(connection):
    return Batch(connection, Directory(), NOW * 1000, dict.fromkeys(Log, 0))


def take(connection, *devices):
    found = _take(a_batch(connection), CALLER, devices)
    return [found.get(device, (None, None))[0] for device in devices]


def test_a_claim_takes_of_each_device_the_one_time_key_that_ends_first_and_never_one_twice(connection):
    rich = stock(connection, (b"late", True, 90, None), (b"early", True, 10, None), (b"last", False, 5, None))
    poor = stock(connection, (b"gone", True, 90, b"x" * 16), (b"over", True, 0, None), (b"resort", False, 50, None))
    empty = stock(connection)
    retired = stock(connection, (b"retired", False, 50, b"x" * 16))
    unknown = os.urandom(16)

    assert take(connection, rich, poor, empty, retired, unknown) == [b"early", b"resort", None, None, None]
    assert take(connection, unknown, poor, rich) == [None, b"resort", b"late"]
    assert take(connection, rich) == [b"last"]
    assert take(connection, rich) == [b"last"]


def test_a_thousand_devices_are_served_in_one_claim_each_with_its_own_package_and_batch(connection):
    devices = [stock(connection, (b"%d" % number, True, 9, None)) for number in range(1000)]
    found = _take(a_batch(connection), CALLER, devices)
    assert [found[device] for device in devices] == [
        (b"%d" % number, b"batch " + device) for number, device in enumerate(devices)
    ]
    assert _take(a_batch(connection), CALLER, devices) == {}


def test_a_key_that_was_looked_up_before_its_claim_is_its_claimants_for_whoever_comes_later_in_the_commit(connection):
    device, batch = stock(connection, (b"one", True, 90, None)), a_batch(connection)
    ref = connection.scalar(select(key_package.c.ref).where(key_package.c.device_id == device))
    assert batch.find(PACKAGES, ref).claimed_by is None
    _take(batch, CALLER, [device])
    assert batch.find(PACKAGES, ref).claimed_by == CALLER.device.device_id


def test_a_claim_of_nobody_asks_nothing(connection):
    assert take(connection) == []


@pytest.mark.parametrize("bad", [0, 7, 39])
def test_among_many_key_batches_the_one_that_was_forged_is_found(bad):
    keys = [SigningKey.generate() for _ in range(40)]
    signed = [
        (
            parse_sign1(key.sign_object(KEY_BATCH, KeyBatch(key.device_id, NOW, (bytes(32),)).payload()), KEY_BATCH),
            key.public,
        )
        for key in keys
    ]
    _verify_all(signed)
    _verify_all([])
    signed[bad] = (signed[bad][0], signed[bad - 1][1])
    with pytest.raises(Unverified):
        _verify_all(signed)
