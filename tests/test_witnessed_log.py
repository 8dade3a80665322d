"""A relay whose logs three witnesses cosign, and clients that hold it to two of them.

Real witnesses in processes of their own; a relay that lies stands in front of some clients. `caught` is exit 5; an
alarm is kept where the relay signed two histories, and not where witnesses are merely away.
"""

from __future__ import annotations

import asyncio
import io
import json
import logging
import shutil
import socket
import time
from base64 import b64decode, b64encode
from contextlib import contextmanager
from dataclasses import replace

import httpx2
import pytest

from acts import as_json, run
from answering import answering
from liaison.audit.pull import AuditPull
from liaison.trust import ACCESS, DIRECTORY
from liaison.witnessing import pin_policy, sync
from logcheck import read_checkpoint
from relay.cosigning import Cosigning
from relay.house import open_relay
from relay.observe import JsonLines
from relay.protocol.canonical import decode, encode
from relay.protocol.directory import Directory
from relay.protocol.entry import AccessEntry, Change, Event, parse_directory_entry
from relay.protocol.errors import LiaisonError, Malformed, Unverified
from relay.protocol.identity import Kind
from relay.protocol.merkle import MerkleTree, leaf_hash
from relay.protocol.note import parse_vkey
from relay.protocol.witness_policy import cosigned_at, parse_witness_policy, verify_witnessed
from relay.settings import Settings
from relay.store.log import Log
from simulator import Forger, directory_entry, double, lie_about_delivery, lying
from witnesses import policy, witnesses
from world import clearance, serving, world

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


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Three witnesses of a relay that has not served yet: (its folder, the witnesses)."""
    folder = tmp_path_factory.mktemp("witnessed")
    relay = open_relay(Settings(data=folder / "relay"))
    vkeys = "\n".join(relay.vkeys)
    relay.close()
    with witnesses(folder, vkeys, 3) as some:
        (folder / "policy").write_bytes(policy(some, 2))
        yield folder, some


@pytest.fixture(scope="module")
def offices(three):
    folder, _some = three
    with world(folder, witness_policy=folder / "policy") as built, cosigned_by(built):
        built.office("lo-warsaw", "POL")
        built.office("lo-paris", "FRA")
        built.agreement("lo-warsaw", "lo-paris")
        built.device(ANNA, clearances=[clearance(nations=["POL", "FRA"])])
        built.device(JEAN, clearances=[clearance(nations=["POL", "FRA"])])
        for office in ("lo-warsaw", "lo-paris"):
            built.device(f"audit@{office}", clearances=[], kind=Kind.AUDITOR)
        yield built


@pytest.fixture
def anna(offices):
    return offices.clients[ANNA]


@pytest.fixture
def held(offices, tmp_path):
    """Jean's profile once more, holding the relay to the policy; what it learns here it forgets afterwards."""
    offices.clients[JEAN].sync()
    with double(offices.clients[JEAN], tmp_path / "double") as copy:
        hold(copy, offices)
        yield copy


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


# -- the relay asks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("log", [DIRECTORY, ACCESS])
def test_the_newest_checkpoint_is_soon_served_with_its_cosignatures(offices, anna, log):
    anna.send([JEAN], label=LABEL, body="All quiet.")
    up_to_date(offices)
    note = cosigned(offices, log)
    verifiers = [key for key in map(parse_vkey, offices.relay.vkeys) if key.name.endswith(log)]
    found = verify_witnessed(note, verifiers, offices.relay.witness_policy, int(time.time()), 60)
    assert found == read_checkpoint(offices.relay.vkeys, note, log)


def test_an_unchanged_checkpoint_is_cosigned_anew(offices):
    up_to_date(offices)
    known = [each.verifier for each in offices.relay.witness_policy.witnesses.values()]
    before = max(cosigned_at(cosigned(offices), known).values())
    eventually(lambda: max(cosigned_at(cosigned(offices), known).values()) > before)


def test_a_dead_witness_delays_nothing_and_comes_back(offices, anna, three):
    _folder, some = three
    dead = some[2]
    dead.kill()
    anna.send([JEAN], label=LABEL, body="All quiet.")
    up_to_date(offices)
    assert b"witness.example/w2" not in cosigned(offices)
    dead.start()
    eventually(lambda: cosigned(offices).count(b"witness.example/w2") == 2)


def test_without_enough_witnesses_messages_go_on_and_the_last_good_checkpoint_stays(offices, anna, three):
    _folder, some = three
    up_to_date(offices)
    for dead in some[1:]:
        dead.kill()
    eventually(lambda: b"witness.example/w0" in cosigned(offices))
    before = size_of(newest(offices))
    for _ in range(3):
        anna.send([JEAN], label=LABEL, body="All quiet.")
    assert size_of(newest(offices)) > before
    assert size_of(cosigned(offices)) < size_of(newest(offices))
    assert cosigned(offices).count("—".encode()) >= 2 + 4
    for dead in some[1:]:
        dead.start()
    up_to_date(offices)


@pytest.fixture
def said():
    """The lines that an operator would read, so far."""
    lines, relay = io.StringIO(), logging.getLogger("relay")
    handler = logging.StreamHandler(lines)
    handler.setFormatter(JsonLines())
    relay.addHandler(handler)
    yield lambda: [json.loads(line) for line in lines.getvalue().splitlines()]
    relay.removeHandler(handler)


def test_a_witness_that_never_answers_stops_nobody(offices, anna, three):
    """It takes the connection and says nothing: the others' cosignatures are served meanwhile."""
    _folder, some = three
    with socket.create_server(("127.0.0.1", 0)) as silent:
        lines = policy(some, 2).decode().replace(some[0].url, f"http://127.0.0.1:{silent.getsockname()[1]}")
        slow = parse_witness_policy(lines.encode())
        up_to_date(offices)
        size = size_of(newest(offices))
        cosigning = Cosigning(offices.relay, slow, interval=0.02)
        cosigning.start()
        anna.send([JEAN], label=LABEL, body="All quiet.")
        eventually(lambda: size_of(cosigned(offices)) > size)
        cosigning.close()


def test_a_round_that_fails_is_told_and_the_next_one_is_made(offices, anna, monkeypatch, caplog):
    keep, failed = offices.relay.keep_cosigned, []

    async def fail_once(log, note):
        if failed:
            return await keep(log, note)
        failed.append(log)
        raise ZeroDivisionError

    up_to_date(offices)
    monkeypatch.setattr(offices.relay, "keep_cosigned", fail_once)
    anna.send([JEAN], label=LABEL, body="All quiet.")
    up_to_date(offices)
    assert (len(failed), "cosigning failed" in caplog.text) == (1, True)


def test_a_log_that_went_back_is_told_to_the_operator_and_not_cosigned(tmp_path, said):
    relay = open_relay(Settings(data=tmp_path / "relay"))
    vkeys = relay.vkeys
    relay.close()
    shutil.copytree(tmp_path / "relay", tmp_path / "earlier")
    with witnesses(tmp_path, "\n".join(vkeys), 1) as (only,):
        (tmp_path / "policy").write_bytes(policy([only], 1))
        with world(tmp_path, witness_policy=tmp_path / "policy") as built, cosigned_by(built):
            built.office("lo-warsaw", "POL")
            up_to_date(built)
        shutil.rmtree(tmp_path / "relay")
        (tmp_path / "earlier").rename(tmp_path / "relay")
        with world(tmp_path, witness_policy=tmp_path / "policy") as built, cosigned_by(built):
            eventually(lambda: any("our directory log, which has 0" in line.get("reason", "") for line in said()))
            assert b"witness.example" not in cosigned(built, "directory")
        told = next(line for line in said() if "which has 0" in line.get("reason", ""))
        assert (told["level"], told["event"]) == ("error", "witness disagrees")
        assert told["reason"].startswith("witness 1 of the policy: ")


def test_a_witness_that_is_away_is_told_of_as_that(offices, anna, three, said):
    """Not as one that saw another history."""
    _folder, some = three
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        gone = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    away = parse_witness_policy(policy(some, 1).decode().replace(some[0].url, gone).encode())
    cosigning = Cosigning(offices.relay, away, interval=0.02)
    cosigning.start()
    eventually(lambda: [line["event"] for line in said() if "witness" in line["event"]] == ["witness away"] * 2)
    cosigning.close()


def test_a_witness_that_packs_its_answer_is_not_unpacked(offices, three, said):
    _folder, some = three
    with answering(b"nonsense", content_encoding="gzip") as packing:
        lines = policy(some, 1).decode().replace(some[0].url, packing.url)
        cosigning = Cosigning(offices.relay, parse_witness_policy(lines.encode()), interval=0.02)
        cosigning.start()
        eventually(lambda: any("witness 1" in line["reason"] for line in said() if line["event"] == "witness away"))
        cosigning.close()
    assert all("Malformed" in line["reason"] for line in said() if line["event"] == "witness away")
    assert {heard["accept-encoding"] for heard in packing.heard} == {"identity"}


def test_a_cosigned_checkpoint_does_not_give_way_to_an_older_one(offices, anna):
    up_to_date(offices)
    older = cosigned(offices)
    anna.send([JEAN], label=LABEL, body="All quiet.")
    up_to_date(offices)
    asyncio.run(offices.relay.keep_cosigned(Log.ACCESS, older))
    assert size_of(cosigned(offices)) > size_of(older)


def test_a_policy_that_its_witnesses_cannot_meet_is_refused_at_the_start(offices, three):
    without = "\n".join(line.replace(f" {three[1][0].url}", "") for line in policy(three[1], 3).decode().split("\n"))
    with pytest.raises(LiaisonError, match="cannot be met"):
        Cosigning(offices.relay, parse_witness_policy(without.encode()))


# -- a client holds it to the policy ----------------------------------------------------------------------------------


def test_a_client_with_a_policy_sends_and_reads_as_before(offices, anna, held):
    hold(anna, offices)
    up_to_date(offices)
    message = anna.send([JEAN], label=LABEL, body="All quiet.")
    up_to_date(offices)
    assert held.read(message.message_id).portions[0].text == "All quiet."
    assert held.profile.cabinet.alarms() == []


@contextmanager
def caught(client, words, *, alarm):
    with pytest.raises(Unverified, match=words):
        yield
    assert bool(client.profile.cabinet.alarms()) is alarm


def without_cosignatures(note, keep=0):
    head, lines = note.decode().split("\n\n")
    lines = lines.splitlines(keepends=True)
    return (head + "\n\n" + "".join(lines[: 2 + keep])).encode()


@pytest.mark.parametrize("keep", [0, 1, 2, 3])
@pytest.mark.parametrize("log", [DIRECTORY, ACCESS])
def test_an_unwitnessed_checkpoint_is_refused_before_anything_else_is_asked(offices, held, log, keep):
    with lying(held) as relay, caught(held, "does not meet the witness policy", alarm=False):
        relay.lie("GET", f"/log/{log}/checkpoint", lambda note: without_cosignatures(note, keep))
        sync(held.trust, relay)
    assert not any("/v1/directory" in path for _method, path, _answer in relay.heard)


def stale(offices, three, log, age):
    """The newest checkpoint, as its witnesses cosigned it so many seconds ago."""
    note = without_cosignatures(newest(offices, log))
    return note + "".join(each.keys.cosign(note, int(time.time()) - age) for each in three[1]).encode()


@pytest.mark.parametrize(("age", "good"), [(0, True), (30, True), (61, False), (86400, False), (-400, False)])
def test_a_stale_checkpoint_is_refused(offices, held, three, age, good):
    with lying(held) as relay:
        for log in (DIRECTORY, ACCESS):
            note = stale(offices, three, log, age)
            relay.invent("GET", f"/log/{log}/checkpoint", lambda note=note, **_: note)
        if good:
            sync(held.trust, relay)
        else:
            with caught(held, "older than 60 s", alarm=False):
                sync(held.trust, relay)


def test_a_relay_that_holds_an_endpoint_at_an_old_directory_is_found(offices, held, anna):
    """Every entry that it shows is true and signed; it leaves out the newest, which witnesses have seen."""
    up_to_date(offices)
    shorter = Forger(offices).directory(lambda entries: entries[:-1])
    forget_logs(held)
    with lying(held) as relay, caught(held, "the rest is withheld", alarm=True):
        relay.invent("GET", r"/v1/directory$", shorter)
        sync(held.trust, relay)


def forget_logs(client):
    """As a profile that has seen nothing yet."""
    client.trust.directory, client.trust.tree = Directory(), MerkleTree()
    for name in ("log", "entry"):
        client.profile.cabinet._shelves[name].clear()


def test_another_directory_than_the_witnesses_saw_is_a_fork(offices, held):
    up_to_date(offices)
    forger = Forger(offices)
    forget_logs(held)
    with lying(held) as relay, caught(held, "the directory log was forked: the witnesses were shown", alarm=True):
        relay.invent("GET", r"/v1/directory$", forger.directory(lambda entries: [*entries[:-1], key_batch(entries)]))
        sync(held.trust, relay)


def key_batch(entries):
    """An entry that anybody may believe: a key batch of a known device."""
    known = (parse_directory_entry(each) for each in entries)
    device_id = next(decode(each.payload)[0] for each in known if each.change is Change.KEY_BATCH)
    return directory_entry(Change.KEY_BATCH, encode([device_id, bytes(32)]))


def test_another_access_log_than_the_witnesses_saw_is_a_fork(offices, held, anna):
    """The delivery's entry is in a log of the forger's own, correctly signed and proven."""
    message = anna.send([JEAN], label=LABEL, body="All quiet.")
    up_to_date(offices)
    forget_logs(held)
    with lying(held) as relay, caught(held, "consistency proof", alarm=True):
        lie_about_delivery(relay, lambda delivery: released_elsewhere(offices, delivery))
        held.read(message.message_id)
    assert held.profile.cabinet.message(message.message_id) is None


def released_elsewhere(offices, delivery):
    entries = [*Forger(offices).entries(Log.ACCESS)[1:4], delivery.release.entry]
    return replace(delivery, release=Forger(offices).logged(entries, len(entries) - 1))


# -- checkpoints exchanged --------------------------------------------------------------------------------------------


def auditors(offices):
    return [offices.clients[f"audit@{office}"] for office in ("lo-warsaw", "lo-paris")]


def exported(client, log=ACCESS):
    """`liaison status --checkpoint` as a file."""
    result = run(client, "status", "--checkpoint", log)
    assert result.exit_code == 0, result.output
    return result.stdout_bytes


def test_two_auditors_of_one_history_agree_whoever_has_seen_more(offices, tmp_path):
    warsaw, paris = auditors(offices)
    AuditPull(warsaw).pull()
    (tmp_path / "theirs").write_bytes(exported(warsaw))
    offices.clients[ANNA].send([JEAN], label=LABEL, body="All quiet.")
    assert run(paris, "audit", "verify", "--checkpoint", str(tmp_path / "theirs")).exit_code == 0
    (tmp_path / "ours").write_bytes(exported(paris))
    (tmp_path / "directory").write_bytes(exported(paris, DIRECTORY))
    told = run(warsaw, "status", "--compare", str(tmp_path / "ours"), "--compare", str(tmp_path / "directory"))
    assert told.exit_code == 0
    assert "one history" in told.output
    assert warsaw.profile.cabinet.alarms() == paris.profile.cabinet.alarms() == []


def false_history(offices, length):
    """An access log in which one entry says something else, and what is pulled of it by an auditor who sees all."""
    entries = Forger(offices).entries(Log.ACCESS)
    salted = AccessEntry(Event.OPERATOR, int(time.time() * 1000), bytes(16), bytes(16), "operator", "")
    entries[5] = salted.encoded()
    entries = entries[: length or len(entries)]
    return entries, Forger(offices).checkpoint(Log.ACCESS, MerkleTree(map(leaf_hash, entries)))


@contextmanager
def shown_another_history(client, offices, tmp_path, length=None):
    """An auditor who comes for the first time, and from whom the relay keeps one entry."""
    client.sync()
    with double(client, tmp_path / "shown another") as copy:
        for name in ("log", "entry"):
            copy.profile.cabinet._shelves[name].clear()
        entries, note = false_history(offices, length)
        with lying(copy) as relay:
            relay.invent("GET", "/log/access/checkpoint", lambda **_: note)
            relay.invent("GET", "/audit/entries", lambda after, count: encode(
                [len(entries), [[True, entry] for entry in entries[int(after) : int(after + count)]]]
            ))  # fmt: skip
            yield copy


@pytest.mark.parametrize("length", [None, 9])
def test_two_histories_shown_to_two_auditors_are_found_by_comparing(offices, tmp_path, length):
    """Each of the two holds by itself. Their checkpoints do not, and both are kept as evidence."""
    warsaw, paris = auditors(offices)
    AuditPull(warsaw).pull()
    with shown_another_history(paris, offices, tmp_path, length) as deceived:
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


def test_an_officer_finds_a_fork_of_the_access_log_without_being_an_auditor(offices, tmp_path):
    anna = offices.clients[ANNA]
    anna.send([JEAN], label=LABEL, body="All quiet.")
    _entries, note = false_history(offices, None)
    (tmp_path / "file").write_bytes(note)
    with double(anna, tmp_path / "anna's") as copy:
        told = run(copy, "status", "--compare", str(tmp_path / "file"))
        assert told.exit_code == 5
        assert "the access log was forked" in told.output
        assert len(copy.profile.cabinet.alarms()) == 1


def test_a_checkpoint_that_the_relay_did_not_sign_is_refused_and_no_alarm(offices, tmp_path):
    """Else anybody could stop an office by a file."""
    anna = offices.clients[ANNA]
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
def test_an_audit_names_the_checkpoint_file_that_it_refuses(offices, tmp_path, true, false, code, why):
    auditor = auditors(offices)[0]
    AuditPull(auditor).pull()
    own, theirs = tmp_path / "own", tmp_path / "theirs"
    own.write_bytes(exported(auditor))
    theirs.write_bytes(own.read_bytes().replace(true, false))
    told = run(auditor, "audit", "verify", "--checkpoint", str(own), "--checkpoint", str(theirs))
    assert told.exit_code == code, told.output
    assert f"error: {theirs}: {why}" in told.stderr


def test_an_auditor_with_a_policy_holds_the_pulled_log_to_the_witnesses(offices, tmp_path):
    warsaw, paris = auditors(offices)
    hold(warsaw, offices)
    up_to_date(offices)
    AuditPull(warsaw).verify()
    with shown_another_history(paris, offices, tmp_path) as deceived:
        hold(deceived, offices)
        true = cosigned(offices)
        deceived.transport.lies.clear()
        entries, false = false_history(offices, None)
        deceived.transport.invent("GET", "/log/access/checkpoint", lambda newest=0: false if newest else true)
        deceived.transport.invent("GET", "/audit/entries", lambda after, count: encode(
            [len(entries), [[True, entry] for entry in entries[int(after) : int(after + count)]]]
        ))  # fmt: skip
        with caught(deceived, "forked: the witnesses were shown", alarm=True):
            AuditPull(deceived).verify()


# -- pinning ----------------------------------------------------------------------------------------------------------


def test_a_policy_is_pinned_by_a_command_and_shown(offices, tmp_path):
    anna = offices.clients[ANNA]
    with double(anna, tmp_path / "anna's") as copy:
        up_to_date(offices)
        as_json(copy, "status", "--witness-policy", str(offices.folder / "policy"), "--max-age", "120")
        assert as_json(copy, "status")["witness_policy"] == "quorum partners of 6 witnesses, within 120 s"
        assert run(copy, "status", "--max-age", "60").exit_code == 2
        (tmp_path / "none").write_text("quorum none\n")
        assert run(copy, "status", "--witness-policy", str(tmp_path / "none")).exit_code == 0


@pytest.mark.parametrize("content", [b"", b"quorum nobody\n"])
def test_what_is_no_policy_is_not_pinned(offices, tmp_path, content):
    with double(offices.clients[ANNA], tmp_path / "anna's") as copy, pytest.raises(Malformed):
        hold(copy, offices, content=content)


def test_a_restarted_relay_serves_the_cosigned_checkpoint_that_it_kept(offices, tmp_path):
    up_to_date(offices)
    shutil.copytree(offices.settings.data, tmp_path / "relay")
    settings = Settings(data=tmp_path / "relay", witness_policy=offices.folder / "policy")
    with serving(settings) as (_relay, url):
        assert b"witness.example" in httpx2.get(f"{url}/v1/log/access/checkpoint").content
    with serving(Settings(data=tmp_path / "relay")) as (_relay, url):  # without witnesses, none is promised
        assert b"witness.example" not in httpx2.get(f"{url}/v1/log/access/checkpoint").content


def test_a_cosignature_that_does_not_verify_dates_nothing_and_stops_nobody(offices, tmp_path):
    """A file from others, in which somebody has put another time into a witness's line."""
    up_to_date(offices)
    head, line = cosigned(offices).decode()[:-1].rsplit("\n", 1)
    dash, name, signature = line.split(" ")
    octets = bytearray(b64decode(signature))
    octets[4 + 5] ^= 1  # some hours
    forged = f"{head}\n{dash} {name} {b64encode(octets).decode()}\n".encode()
    with double(offices.clients["audit@lo-warsaw"], tmp_path / "double") as auditor:
        hold(auditor, offices)
        with pytest.raises(Unverified, match=f"signature of {name}"):
            AuditPull(auditor).verify([("theirs", forged)])
        assert auditor.profile.cabinet.alarms() == []
        AuditPull(auditor).verify([("theirs", cosigned(offices))])
