"""A client that holds a relay to its witnesses: what it refuses, and how it is told to.

`caught` is exit 5; an alarm is kept where the relay signed two histories, and not where witnesses are merely away.
"""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from acts import as_json, run
from liaison.trust import ACCESS, DIRECTORY
from liaison.witnessing import sync
from relay.protocol.canonical import decode, encode
from relay.protocol.directory import Directory
from relay.protocol.entry import Change, parse_directory_entry
from relay.protocol.errors import Malformed
from relay.protocol.merkle import MerkleTree
from relay.store.log import Log
from simulator import Forger, directory_entry, double, lie_about_delivery, lying
from witnessed import ANNA, JEAN, LABEL, caught, hold, newest, up_to_date


@pytest.fixture
def anna(witnessed):
    return witnessed.clients[ANNA]


@pytest.fixture
def held(witnessed, tmp_path):
    """Jean's profile once more, holding the relay to the policy; what it learns here it forgets afterwards."""
    witnessed.clients[JEAN].sync()
    with double(witnessed.clients[JEAN], tmp_path / "double") as copy:
        hold(copy, witnessed)
        yield copy


def test_a_client_with_a_policy_sends_and_reads_as_before(witnessed, anna, held):
    hold(anna, witnessed)
    up_to_date(witnessed)
    message = anna.send([JEAN], label=LABEL, body="All quiet.")
    up_to_date(witnessed)
    assert held.read(message.message_id).portions[0].text == "All quiet."
    assert held.profile.cabinet.alarms() == []


def without_cosignatures(note, keep=0):
    head, lines = note.decode().split("\n\n")
    lines = lines.splitlines(keepends=True)
    return (head + "\n\n" + "".join(lines[: 2 + keep])).encode()


@pytest.mark.parametrize("keep", [0, 1, 2, 3])
@pytest.mark.parametrize("log", [DIRECTORY, ACCESS])
def test_an_unwitnessed_checkpoint_is_refused_before_anything_else_is_asked(witnessed, held, log, keep):
    with lying(held) as relay, caught(held, "does not meet the witness policy", alarm=False):
        relay.lie("GET", f"/log/{log}/checkpoint", lambda note: without_cosignatures(note, keep))
        sync(held.trust, relay)
    assert not any("/v1/directory" in path for _method, path, _answer in relay.heard)


def stale(witnessed, three_witnesses, log, age):
    """The newest checkpoint, as its witnesses cosigned it so many seconds ago."""
    note = without_cosignatures(newest(witnessed, log))
    return note + "".join(each.keys.cosign(note, int(time.time()) - age) for each in three_witnesses[1]).encode()


@pytest.mark.parametrize(("age", "good"), [(0, True), (30, True), (61, False), (86400, False), (-400, False)])
def test_a_stale_checkpoint_is_refused(witnessed, held, three_witnesses, age, good):
    with lying(held) as relay:
        for log in (DIRECTORY, ACCESS):
            note = stale(witnessed, three_witnesses, log, age)
            relay.invent("GET", f"/log/{log}/checkpoint", lambda note=note, **_: note)
        if good:
            sync(held.trust, relay)
        else:
            with caught(held, "older than 60 s", alarm=False):
                sync(held.trust, relay)


def test_a_relay_that_holds_an_endpoint_at_an_old_directory_is_found(witnessed, held, anna):
    """Every entry that it shows is true and signed; it leaves out the newest, which witnesses have seen."""
    up_to_date(witnessed)
    shorter = Forger(witnessed).directory(lambda entries: entries[:-1])
    forget_logs(held)
    with lying(held) as relay, caught(held, "the rest is withheld", alarm=True):
        relay.invent("GET", r"/v1/directory$", shorter)
        sync(held.trust, relay)


def forget_logs(client):
    """As a profile that has seen nothing yet."""
    client.trust.directory, client.trust.tree = Directory(), MerkleTree()
    for name in ("log", "entry"):
        client.profile.cabinet._shelves[name].clear()


def test_another_directory_than_the_witnesses_saw_is_a_fork(witnessed, held):
    up_to_date(witnessed)
    forger = Forger(witnessed)
    forget_logs(held)
    with lying(held) as relay, caught(held, "the directory log was forked: the witnesses were shown", alarm=True):
        relay.invent("GET", r"/v1/directory$", forger.directory(lambda entries: [*entries[:-1], key_batch(entries)]))
        sync(held.trust, relay)


def key_batch(entries):
    """An entry that anybody may believe: a key batch of a known device."""
    known = (parse_directory_entry(each) for each in entries)
    device_id = next(decode(each.payload)[0] for each in known if each.change is Change.KEY_BATCH)
    return directory_entry(Change.KEY_BATCH, encode([device_id, bytes(32)]))


def test_another_access_log_than_the_witnesses_saw_is_a_fork(witnessed, held, anna):
    """The delivery's entry is in a log of the forger's own, correctly signed and proven."""
    message = anna.send([JEAN], label=LABEL, body="All quiet.")
    up_to_date(witnessed)
    forget_logs(held)
    with lying(held) as relay, caught(held, "consistency proof", alarm=True):
        lie_about_delivery(relay, lambda delivery: released_elsewhere(witnessed, delivery))
        held.read(message.message_id)
    assert held.profile.cabinet.message(message.message_id) is None


def released_elsewhere(witnessed, delivery):
    entries = [*Forger(witnessed).entries(Log.ACCESS)[1:4], delivery.release.entry]
    return replace(delivery, release=Forger(witnessed).logged(entries, len(entries) - 1))


def test_a_policy_is_pinned_by_a_command_and_shown(witnessed, tmp_path):
    anna = witnessed.clients[ANNA]
    with double(anna, tmp_path / "anna's") as copy:
        up_to_date(witnessed)
        as_json(copy, "status", "--witness-policy", str(witnessed.folder / "policy"), "--max-age", "120")
        assert as_json(copy, "status")["witness_policy"] == "quorum partners of 6 witnesses, within 120 s"
        assert run(copy, "status", "--max-age", "60").exit_code == 2
        (tmp_path / "none").write_text("quorum none\n")
        assert run(copy, "status", "--witness-policy", str(tmp_path / "none")).exit_code == 0


@pytest.mark.parametrize("content", [b"", b"quorum nobody\n"])
def test_what_is_no_policy_is_not_pinned(witnessed, tmp_path, content):
    with double(witnessed.clients[ANNA], tmp_path / "anna's") as copy, pytest.raises(Malformed):
        hold(copy, witnessed, content=content)
