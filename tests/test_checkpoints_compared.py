"""Checkpoints exchanged between auditors, and with officers: a relay that shows each his own history is found.

The relay's logs are cosigned by three witnesses; a relay that lies stands in front of some clients.
"""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from contextlib import contextmanager

import pytest

from acts import run
from liaison.audit.pull import AuditPull
from liaison.trust import ACCESS, DIRECTORY
from relay.protocol.canonical import encode
from relay.protocol.entry import AccessEntry, Event
from relay.protocol.errors import Unverified
from relay.protocol.merkle import MerkleTree, leaf_hash
from relay.store.log import Log
from simulator import Forger, double, lying
from witnessed import ANNA, JEAN, LABEL, caught, cosigned, hold, size_of, up_to_date


def auditors(witnessed):
    return [witnessed.clients[f"audit@{office}"] for office in ("lo-warsaw", "lo-paris")]


def exported(client, log=ACCESS):
    """`liaison status --checkpoint` as a file."""
    result = run(client, "status", "--checkpoint", log)
    assert result.exit_code == 0, result.output
    return result.stdout_bytes


def test_two_auditors_of_one_history_agree_whoever_has_seen_more(witnessed, tmp_path):
    warsaw, paris = auditors(witnessed)
    AuditPull(warsaw).pull()
    (tmp_path / "theirs").write_bytes(exported(warsaw))
    witnessed.clients[ANNA].send([JEAN], label=LABEL, body="All quiet.")
    assert run(paris, "audit", "verify", "--checkpoint", str(tmp_path / "theirs")).exit_code == 0
    (tmp_path / "ours").write_bytes(exported(paris))
    (tmp_path / "directory").write_bytes(exported(paris, DIRECTORY))
    told = run(warsaw, "status", "--compare", str(tmp_path / "ours"), "--compare", str(tmp_path / "directory"))
    assert told.exit_code == 0
    assert "one history" in told.output
    assert warsaw.profile.cabinet.alarms() == paris.profile.cabinet.alarms() == []


def false_history(witnessed, length):
    """An access log in which one entry says something else, and what is pulled of it by an auditor who sees all."""
    entries = Forger(witnessed).entries(Log.ACCESS)
    salted = AccessEntry(Event.OPERATOR, int(time.time() * 1000), bytes(16), bytes(16), "operator", "")
    entries[5] = salted.encoded()
    entries = entries[: length or len(entries)]
    return entries, Forger(witnessed).checkpoint(Log.ACCESS, MerkleTree(map(leaf_hash, entries)))


@contextmanager
def shown_another_history(client, witnessed, tmp_path, length=None):
    """An auditor who comes for the first time, and from whom the relay keeps one entry."""
    client.sync()
    with double(client, tmp_path / "shown another") as copy:
        for name in ("log", "entry"):
            copy.profile.cabinet._shelves[name].clear()
        entries, note = false_history(witnessed, length)
        with lying(copy) as relay:
            relay.invent("GET", "/log/access/checkpoint", lambda **_: note)
            relay.invent("GET", "/audit/entries", lambda after, count: encode(
                [len(entries), [[True, entry] for entry in entries[int(after) : int(after + count)]]]
            ))  # fmt: skip
            yield copy


@pytest.mark.parametrize("length", [None, 9])
def test_two_histories_shown_to_two_auditors_are_found_by_comparing(witnessed, tmp_path, length):
    """Each of the two holds by itself. Their checkpoints do not, and both are kept as evidence."""
    warsaw, paris = auditors(witnessed)
    AuditPull(warsaw).pull()
    with shown_another_history(paris, witnessed, tmp_path, length) as deceived:
        AuditPull(deceived).verify()  # nothing to see
        theirs, true = exported(deceived), exported(warsaw)
        with pytest.raises(Unverified, match=f"forked: others were shown {size_of(true)} entries, we"):
            AuditPull(deceived).verify([("theirs", true)])
        (alarm,) = deceived.profile.cabinet.alarms()
        assert theirs in alarm.evidence
        assert true in alarm.evidence
        assert run(deceived, "status", "--evidence", alarm.alarm_id).stdout_bytes == alarm.evidence
    with double(warsaw, tmp_path / "warsaw's") as copy:
        (tmp_path / "file").write_bytes(theirs)
        told = run(copy, "audit", "verify", "--checkpoint", str(tmp_path / "file"))
        assert told.exit_code == 5
        forked = f"error: {tmp_path / 'file'}: the access log was forked: others were shown {size_of(theirs)} entries"
        assert forked in told.output
        assert run(copy, "inbox").exit_code == 5  # and every command after it


def test_an_officer_finds_a_fork_of_the_access_log_without_being_an_auditor(witnessed, tmp_path):
    anna = witnessed.clients[ANNA]
    anna.send([JEAN], label=LABEL, body="All quiet.")
    _entries, note = false_history(witnessed, None)
    (tmp_path / "file").write_bytes(note)
    with double(anna, tmp_path / "anna's") as copy:
        told = run(copy, "status", "--compare", str(tmp_path / "file"))
        assert told.exit_code == 5
        assert "the access log was forked" in told.output
        assert len(copy.profile.cabinet.alarms()) == 1


def test_a_checkpoint_that_the_relay_did_not_sign_is_refused_and_no_alarm(witnessed, tmp_path):
    """Else anybody could stop an office by a file."""
    anna = witnessed.clients[ANNA]
    size = size_of(exported(anna))
    for content in (
        exported(anna).replace(b"\n%d\n" % size, b"\n%d\n" % (size + 1)),
        exported(anna).replace(b"/access", b"/excess"),
    ):
        (tmp_path / "file").write_bytes(content)
        assert run(anna, "status", "--compare", str(tmp_path / "file")).exit_code == 5
        assert anna.profile.cabinet.alarms() == []


@pytest.mark.parametrize(
    ("true", "false", "code", "why"),
    [
        (b"\n", b"\r", 1, "note"),
        (b"/access", b"/excess", 5, "a checkpoint of "),
        (b"\xe2\x80\x94 ", b"\xe2\x80\x94 x", 5, "note: not signed by"),
    ],
)
def test_an_audit_names_the_checkpoint_file_that_it_refuses(witnessed, tmp_path, true, false, code, why):
    auditor = auditors(witnessed)[0]
    AuditPull(auditor).pull()
    own, theirs = tmp_path / "own", tmp_path / "theirs"
    own.write_bytes(exported(auditor))
    theirs.write_bytes(own.read_bytes().replace(true, false))
    told = run(auditor, "audit", "verify", "--checkpoint", str(own), "--checkpoint", str(theirs))
    assert told.exit_code == code, told.output
    assert f"error: {theirs}: {why}" in told.stderr


def test_an_auditor_with_a_policy_holds_the_pulled_log_to_the_witnesses(witnessed, tmp_path):
    warsaw, paris = auditors(witnessed)
    hold(warsaw, witnessed)
    up_to_date(witnessed)
    AuditPull(warsaw).verify()
    with shown_another_history(paris, witnessed, tmp_path) as deceived:
        hold(deceived, witnessed)
        true = cosigned(witnessed)
        deceived.transport.lies.clear()
        entries, false = false_history(witnessed, None)
        deceived.transport.invent("GET", "/log/access/checkpoint", lambda newest=0: false if newest else true)
        deceived.transport.invent("GET", "/audit/entries", lambda after, count: encode(
            [len(entries), [[True, entry] for entry in entries[int(after) : int(after + count)]]]
        ))  # fmt: skip
        with caught(deceived, "forked: the witnesses were shown", alarm=True):
            AuditPull(deceived).verify()


def test_a_cosignature_that_does_not_verify_dates_nothing_and_stops_nobody(witnessed, tmp_path):
    """A file from others, in which somebody has put another time into a witness's line."""
    up_to_date(witnessed)
    head, line = cosigned(witnessed).decode()[:-1].rsplit("\n", 1)
    dash, name, signature = line.split(" ")
    octets = bytearray(b64decode(signature))
    octets[4 + 5] ^= 1  # some hours
    forged = f"{head}\n{dash} {name} {b64encode(octets).decode()}\n".encode()
    with double(witnessed.clients["audit@lo-warsaw"], tmp_path / "double") as auditor:
        hold(auditor, witnessed)
        with pytest.raises(Unverified, match=f"signature of {name}"):
            AuditPull(auditor).verify([("theirs", forged)])
        assert auditor.profile.cabinet.alarms() == []
        AuditPull(auditor).verify([("theirs", cosigned(witnessed))])
