"""A relay whose logs three witnesses cosign, with two offices, and a client that is held to two of the three."""

from __future__ import annotations

import time
from contextlib import contextmanager

import httpx2
import pytest

from liaison.trust import ACCESS, DIRECTORY
from liaison.witnessing import pin_policy
from relay.cosigning import Cosigning
from relay.house import open_relay
from relay.protocol.errors import Unverified
from relay.protocol.identity import Kind
from relay.settings import Settings
from witnesses import policy, witnesses
from world import clearance, world

ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-paris"
LABEL = "TEST OPEN RELEASABLE TO FRA, POL"


@contextmanager
def cosigned_by(built, **pace):
    cosigning = Cosigning(built.relay, built.relay.witness_policy, **({"interval": 0.02, "refresh": 0.5} | pace))
    cosigning.start()
    try:
        yield
    finally:
        cosigning.close()


@contextmanager
def three_at_work(folder):
    """Of a relay that has not served yet; its policy asks for two of them."""
    relay = open_relay(Settings(data=folder / "relay"))
    vkeys = "\n".join(relay.vkeys)
    relay.close()
    with witnesses(folder, vkeys, 3) as some:
        (folder / "policy").write_bytes(policy(some, 2))
        yield some


@contextmanager
def two_witnessed_offices(folder):
    """Of the relay whose witnesses are at work in this folder."""
    with world(folder, witness_policy=folder / "policy") as built, cosigned_by(built):
        built.office("lo-warsaw", "POL")
        built.office("lo-paris", "FRA")
        built.agreement("lo-warsaw", "lo-paris")
        built.device(ANNA, clearances=[clearance(nations=["POL", "FRA"])])
        built.device(JEAN, clearances=[clearance(nations=["POL", "FRA"])])
        for office in ("lo-warsaw", "lo-paris"):
            built.device(f"audit@{office}", clearances=[], kind=Kind.AUDITOR)
        yield built


@contextmanager
def caught(client, words, *, alarm):
    with pytest.raises(Unverified, match=words):
        yield
    assert bool(client.profile.cabinet.alarms()) is alarm


def hold(client, offices, max_age=60, content=None):
    content = (offices.folder / "policy").read_bytes() if content is None else content
    return pin_policy(client.profile.cabinet, content, max_age, client.profile.pins.relay_keys)


def cosigned(offices, log="access"):
    return httpx2.get(f"{offices.url}/v1/log/{log}/checkpoint").content


def newest(offices, log="access"):
    return httpx2.get(f"{offices.url}/v1/log/{log}/checkpoint", params={"newest": True}).content


def eventually(check, seconds=20):
    until = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.02)
    return found


def up_to_date(offices):
    """The newest checkpoints of both logs are cosigned."""
    for log in (DIRECTORY, ACCESS):
        eventually(lambda log=log: size_of(cosigned(offices, log)) == size_of(newest(offices, log)))


def size_of(note):
    return int(note.split(b"\n")[1])
