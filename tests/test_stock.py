"""The stock of keys: refilled when it is low, covered by the last-resort key, and what a relay may say of it."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

import liaison.stock
from liaison.stock import LOW, TARGET, refill, stock
from relay.protocol.canonical import LAST_SECOND, decode, encode
from relay.protocol.cose import parse_sign1
from relay.protocol.errors import Unverified
from relay.protocol.prekey import KEY_BATCH, read_key_batch
from simulator import lying

JEAN, LUC = "jean.petit@lo-paris", "luc.bas@lo-paris"
SEALED = "TEST SEALED RELEASABLE TO FRA, POL"
OPEN = "TEST OPEN RELEASABLE TO FRA, POL"
SECRET = "Ferry at dawn."


def claim(client, device, count):
    for _ in range(count):
        decode(client.transport.post("/v1/keys/claim", encode([device.profile.signing.device_id])))


def test_the_stock_of_keys_is_refilled_when_it_is_low(anna, jean):
    jean.sync()
    left = stock(jean.transport)[0]
    claim(anna, jean, left - LOW)
    jean.sync()
    assert stock(jean.transport)[0] == LOW  # not low yet
    claim(anna, jean, 1)
    jean.sync()
    assert stock(jean.transport)[0] == TARGET


@pytest.mark.parametrize("told", [5, [1], ["64", None], [[], 0], [-5000, 1 << 40], [-5000, 0], [1025, 0], [64, -1]])
def test_a_stock_that_there_cannot_be_is_the_relays_fault_and_makes_no_keys(anna, told):
    held = len(anna.profile.cabinet.prekeys())
    with lying(anna) as relay:
        relay.lie("GET", r"/keys/stock$", lambda _honest: encode(told))
        with pytest.raises(Unverified, match="stock"):
            anna.sync()
    assert len(anna.profile.cabinet.prekeys()) == held


def test_who_has_more_keys_than_wanted_publishes_none(anna):
    with lying(anna) as relay:
        relay.lie("GET", r"/keys/stock$", lambda _honest: encode([TARGET + 1, LAST_SECOND]))
        assert refill(anna.profile, relay, force=True) == 0


@pytest.mark.parametrize(("told", "full"), [([0, LAST_SECOND], TARGET), ([TARGET, 0], 1)], ids=["none", "no last"])
def test_a_relay_that_says_at_each_look_that_keys_are_gone_is_given_eight_stocks_a_day(
    two_offices, told, full, monkeypatch
):
    emil = two_offices.device(f"emil-{full}@lo-warsaw")  # who was given one at his enrolment
    with lying(emil) as relay:
        relay.lie("GET", r"/keys/stock$", lambda _honest: encode(told))
        assert [refill(emil.profile, relay) for _ in range(9)] == [full] * 7 + [0, 0]
        tomorrow = SimpleNamespace(time=lambda: time.time() + 86401)
        monkeypatch.setattr(liaison.stock, "time", tomorrow)
        monkeypatch.setattr("relay.core.relay.time", tomorrow)
        assert refill(emil.profile, relay) == full


def test_who_reads_much_in_a_day_is_not_held_to_it(two_offices):
    erik = two_offices.device("erik.vik@lo-warsaw")
    with lying(erik) as relay:
        relay.lie("GET", r"/keys/stock$", lambda _honest: encode([0, LAST_SECOND]))
        for _ in range(9):
            assert refill(erik.profile, relay) == TARGET
            with erik.profile.cabinet.transaction():
                for prekey in erik.profile.cabinet.prekeys()[:TARGET]:
                    erik.profile.cabinet.delete_prekey(prekey.kp_ref)


def test_what_was_published_is_in_the_directory_and_its_private_half_in_the_cabinet(anna, jean):
    (row,) = decode(anna.transport.post("/v1/keys/claim", encode([jean.profile.signing.device_id])))
    batch = read_key_batch(parse_sign1(row[2], KEY_BATCH))
    held = {prekey.kp_ref for prekey in jean.profile.cabinet.prekeys()}
    assert held & set(batch.refs)
    assert batch.device_id in anna.trust.directory.key_batches.values()


def test_an_empty_stock_is_covered_by_the_last_resort_key_and_says_so(two_offices, anna, jean):
    jean.sync()
    claim(anna, jean, stock(jean.transport)[0])
    first = anna.send([JEAN], label=SEALED, body=SECRET)
    second = anna.send([JEAN], label=SEALED, body=SECRET)
    assert first.last_resort == second.last_resort == (JEAN,)
    for sent in (first, second):
        record = jean.read(sent.message_id)
        assert (record.portions[0].text, record.one_time) == (SECRET, False)
    # Reading brought the stock up again.
    third = anna.send([JEAN], label=SEALED, body=SECRET)
    assert third.last_resort == ()
    assert jean.read(third.message_id).one_time is True


def test_the_last_resort_key_is_replaced_in_time_and_the_old_one_kept_until_nothing_can_arrive(
    anna, two_offices, monkeypatch
):
    luc = two_offices.clients[LUC]
    luc.sync()
    claim(anna, luc, stock(luc.transport)[0])
    sent = anna.send([LUC], label=OPEN, body=SECRET)
    assert sent.last_resort == (LUC,)
    (old,) = [prekey for prekey in luc.profile.cabinet.prekeys() if not prekey.one_time]
    now = old.not_after - 7 * 86400

    def at(days):
        later = SimpleNamespace(time=lambda: now + days * 86400)
        monkeypatch.setattr(liaison.stock, "time", later)
        monkeypatch.setattr("relay.core.relay.time", later)
        refill(luc.profile, luc.transport)
        return [prekey for prekey in luc.profile.cabinet.prekeys() if not prekey.one_time]

    assert at(3) == [old]
    assert len(at(4)) == 2
    assert stock(luc.transport)[1] == now + 11 * 86400
    monkeypatch.undo()
    assert luc.read(sent.message_id).portions[0].text == SECRET  # sealed to the old one
    assert old in at(44)  # a message that was posted late may have waited a month
    assert old not in at(48)
