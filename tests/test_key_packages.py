"""Key packages that nothing can be sealed to: no relay takes them, and no sender's message fails by one."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from forge import call, problem
from liaison.cli.receipt import show_sent
from liaison.keys import make_key_package
from relay.core import keyroom
from relay.core.caller import Caller
from relay.core.quota import Limits, Quota
from relay.house import commit_alone
from relay.protocol.canonical import decode, encode
from relay.protocol.cose import parse_sign1
from relay.protocol.errors import Refused, Unverified
from relay.protocol.prekey import KEY_BATCH, MAX_LIFE, KeyBatch, batch_digest, parse_key_package
from simulator import lying
from world import clearance

ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-paris"
UNLIMITED = Quota(Limits({}, {}, 0))
OPEN = "TEST OPEN RELEASABLE TO FRA, POL"
SMALL_ORDER = 0x00B8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0
CURVES = {
    "zero": bytes(32),
    "one, and the bit that is not read": b"\1" + bytes(30) + b"\x80",
    "the prime": (2**255 - 19).to_bytes(32, "little"),
    "of order eight": SMALL_ORDER.to_bytes(32, "little"),
}
USELESS = {
    **{name: lambda p, curve=curve: {"kem_public": p.kem_public[:1184] + curve} for name, curve in CURVES.items()},
    "no lattice key": lambda p: {"kem_public": b"\xff" * 1184 + p.kem_public[1184:]},
    "not valid yet": lambda p: {"not_before": p.not_before + 3600},
    "valid for ever": lambda p: {"not_after": p.not_before + MAX_LIFE + 3600},
}


def made(client, *, lifetime=1800, one_time=True):
    return make_key_package(client.profile.signing.device_id, 0, int(time.time()), lifetime, one_time=one_time)[1]


def batch_of(client, *packages):
    """A batch as it is posted, and what it is stored as."""
    key, refs = client.profile.signing, sorted(package.ref for package in packages)
    signed = key.sign_object(KEY_BATCH, KeyBatch(key.device_id, int(time.time()), tuple(refs)).payload())
    digest = batch_digest(parse_sign1(signed, KEY_BATCH))
    return encode([signed, [each.encoded() for each in packages]]), (digest, signed)


def publish(client, *packages):
    return call(client, "POST", "/v1/keys", batch_of(client, *packages)[0])


@pytest.mark.parametrize("what", [*USELESS, "ended"])
def test_the_relay_takes_no_package_that_nothing_can_be_sealed_to(two_offices, what):
    anna = two_offices.clients[ANNA]
    package = made(anna, lifetime=0) if what == "ended" else made(anna)
    refused = publish(anna, made(anna), replace(package, **USELESS.get(what, lambda _: {})(package)))
    assert (refused.status_code, problem(refused)["detail"][:24]) == (400, "keys: a package that is ")
    assert publish(anna, made(anna), package if what != "ended" else made(anna)).status_code == 200


def test_a_batch_has_one_last_resort_package_at_most(two_offices):
    anna = two_offices.clients[ANNA]
    assert publish(anna, made(anna), made(anna, one_time=False)).status_code == 200
    refused = publish(anna, made(anna, one_time=False), made(anna, one_time=False))
    assert (refused.status_code, "last-resort" in problem(refused)["detail"]) == (400, True)


def test_of_last_resort_packages_the_newest_is_handed_out_whichever_ends_first(two_offices):
    nina = two_offices.device("nina.roy@lo-paris")
    device_id, (left, _end) = nina.profile.signing.device_id, decode(call(nina, "GET", "/v1/keys/stock").content)
    claimed = [decode(call(nina, "POST", "/v1/keys/claim", encode([device_id])).content) for _ in range(left)]
    assert all(parse_key_package(row[1]).one_time for (row,) in claimed)
    for lifetime in (1800, 3600, 900):
        newest = made(nina, lifetime=lifetime, one_time=False)
        assert publish(nina, newest).status_code == 200
        ((_device, package, _batch),) = decode(call(nina, "POST", "/v1/keys/claim", encode([device_id])).content)
        assert package == newest.encoded()


def smuggle(offices, client, package):
    """Into the stock of a relay that does not look."""
    stored = batch_of(client, package)[1]
    device = client.trust.directory.devices[client.profile.signing.device_id]
    caller = Caller(device, os.urandom(16))
    commit_alone(offices.settings, lambda batch: keyroom.publish(batch, caller, UNLIMITED, *stored, [package]))


@pytest.mark.parametrize("what", ["zero", "no lattice key", "not valid yet"])
def test_a_reader_whose_key_is_of_no_use_is_refused_by_name_and_the_others_get_the_message(two_offices, what, capsys):
    address = f"{what.replace(' ', '-')}@lo-paris"
    evil = two_offices.device(address, clearances=[clearance(nations=["FRA"])])
    anna, package = two_offices.clients[ANNA], made(evil)
    for _ in range(2):
        smuggle(two_offices, evil, replace(package, **USELESS[what](package)))
        package = replace(package, serial=1)
    sent = anna.send([address, JEAN], label=OPEN, body="Ferry at dawn.")
    assert sent.released_to == (JEAN,)
    assert [(each.addressee.address, each.rules) for each in sent.refused] == [(address, ("unusable-keys",))]
    assert two_offices.clients[JEAN].read(sent.message_id).portions[0].text == "Ferry at dawn."
    show_sent(sent, as_json=False)
    assert f"not released to {address}: unusable-keys: its device has signed a key" in capsys.readouterr().err
    with pytest.raises(Refused, match=f"{address}: its device has signed a key that nothing can be sealed to"):
        anna.send([address], label=OPEN, body="Ferry at dawn.")


def test_only_of_a_package_that_has_ended_is_the_relay_to_blame(two_offices):
    luc, anna = two_offices.clients["luc.bas@lo-paris"], two_offices.clients[ANNA]
    package = made(luc, lifetime=-60)
    smuggle(two_offices, luc, package)
    row = [luc.profile.signing.device_id, package.encoded(), batch_of(luc, package)[1][1]]
    with lying(anna) as relay:
        relay.invent("POST", r"/claim$", lambda **_: encode([row]))
        with pytest.raises(
            Unverified, match="the relay handed out another device's key package, or one that has ended"
        ):
            anna.send(["luc.bas@lo-paris"], label=OPEN, body="Ferry at dawn.")
