"""The evidence package: what an originator can show a court, verified offline by two programs that share no code.

Who may write one and who may not, what it tells, and what the commands show of it. Each class of bad package is refused by
both: `test_evidence_files.py`, `test_evidence_entries.py`.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from acts import as_json, run, screen
from evidence_packages import ANNA, AUDIT, BAS, LABEL, PETIT, SHOWN, members_of, resigned
from go_programs import GO, NO_GO
from liaison.approving import approve, read_asked
from liaison.audit.pull import AuditPull
from liaison.client import Client
from liaison.evidence.collect import collect
from liaison.evidence.verify import verify_evidence
from liaison.home.founding import found_device
from liaison.recalling import recall
from liaison.render import SYSTEM_HIGH, dtg
from relay.protocol.approval import Matter
from relay.protocol.armor import armor
from relay.protocol.canonical import decode, encode
from relay.protocol.cose import parse_sign1
from relay.protocol.envelope import RECEIPT, read_receipt
from relay.protocol.errors import LiaisonError, Malformed, Unverified
from relay.protocol.identity import Kind, parse_statement
from simulator import double, lying
from world import PASSPHRASE, clearance


def test_the_second_verifier_is_run():
    if GO is None:
        pytest.skip(NO_GO)


def test_both_believe_a_right_package_whole_and_by_hash_only(audited, recalled, right, verdict):
    keys = audited.clients[ANNA].profile.pins.relay_keys
    assert verdict(right)
    assert verdict(right, *keys)
    assert verdict(collect(audited.clients[ANNA], recalled, hash_only=True), *keys)


def test_a_receipt_dated_when_its_device_was_not_certified_is_left_out_and_said_to_be(
    audited, recalled, verdict, monkeypatch
):
    anna, jean, said = audited.clients[ANNA], audited.clients[PETIT].profile.signing, []
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
        octets = collect(anna, recalled)
    (line,) = said
    assert f"left out, with its log entry: a receipt of {PETIT} (acknowledged)" in line
    assert verdict(octets, *keys)
    assert "acknowledged" not in {entry.detail for _index, entry in verify_evidence(octets).entries}


def test_a_package_tells_what_became_of_the_message_and_what_was_taken_on_its_word(audited, recalled, right):
    told = verify_evidence(right).as_json()
    events = [(each["event"], each["address"]) for each in told["events"]]
    assert events == [
        ("accept", ANNA), ("open", PETIT), ("acknowledge", PETIT), ("acknowledge", PETIT), ("recall", ANNA),
    ]  # fmt: skip
    assert (told["message_id"], told["shown_by"], told["sender"]) == (recalled.hex(), "originator", ANNA)
    assert told["addressees"] == [PETIT, BAS]
    assert told["assumed"][:1] == ["the relay's log keys"]
    kids = [authority.profile.statement.kid for authority in audited.authorities.values()]
    trusted = verify_evidence(right, audited.clients[ANNA].profile.pins.relay_keys, kids)
    assert trusted.assumed == ["that there are no other entries, revocations or withdrawals than those shown"]
    with pytest.raises(LiaisonError, match="none that you trust"):
        verify_evidence(right, (), kids[:1])


def test_other_keys_of_the_relay_than_the_verifiers_are_refused(audited, right, verdict):
    keys = audited.clients[ANNA].profile.pins.relay_keys
    assert not verdict(right, *keys[1:])


def test_a_relay_that_leaves_an_entry_out_of_the_auditors_evidence_is_caught(audited, recalled, tmp_path):
    def without_the_last(answer):
        header, (note, grants, entries), receipts = decode(answer)
        return encode([header, [note, grants, entries[:-1]], receipts])

    with double(audited.clients[AUDIT], tmp_path / "twin") as twin, lying(twin) as relay:
        relay.lie("GET", r"/v1/audit/messages/[0-9a-f]+/evidence$", without_the_last)
        with pytest.raises(Unverified, match="leaves out"):
            collect(twin, recalled)


@pytest.mark.parametrize("row", [5, [], [b""], [b"", True, []], [b"", 0, [], 0]])
def test_evidence_that_is_not_even_the_format_is_the_relays_fault(audited, recalled, row):
    anna = audited.clients[ANNA]
    with lying(anna) as relay:
        relay.lie("GET", r"/evidence$", lambda honest: encode([*decode(honest)[:2], [row]]))
        with pytest.raises(Unverified, match="evidence: "):
            collect(anna, recalled)


def test_both_believe_a_package_of_a_sender_who_was_enrolled_with_approvals(audited, verdict, tmp_path):
    """Its directory entry has them as a sixth field; the list that asked for them is not in the package."""
    paris, statement = audited.authorities["lo-paris"], audited.statements["lo-paris"]
    paris.sync()
    paris.publish_approvers(paris.draft_approvers([PETIT], ((Matter.ENROLMENT, 1),)))
    folder, pins = tmp_path / "eva", audited.clients[PETIT].profile.pins
    signed_statement = (statement, parse_statement(statement))
    request = found_device(folder, "eva@lo-paris", audited.url, pins.relay_keys, signed_statement, PASSPHRASE)
    terms = {"kind": Kind.OFFICER, "scope": [], "valid_days": 30, "clearances": [clearance(nations=["FRA"])]}
    enrolled = paris.certify(request, roles=["security"], **terms)
    audited.clients[PETIT].sync()
    asked = read_asked(armor(enrolled, "CERTIFICATE").encode(), audited.clients[PETIT].trust.directory)
    paris.publish_certificate(enrolled, [approve(audited.clients[PETIT], asked)])
    with Client.open(folder, passphrase=PASSPHRASE) as eva:
        eva.sync()
        sent = eva.send([PETIT, ANNA], label=LABEL, body="Meet at ten.\n").message_id
        octets = collect(eva, sent)
    entries = [decode(content)[0] for name, content in members_of(octets).items() if name.startswith("directory/0")]
    assert [len(decode(each)) for each in entries].count(6) == 1
    assert verdict(octets)
    # of the same office, a reader of it, and not who sent it
    assert not verdict(resigned(audited, octets, lambda _members: None, by=PETIT))


def test_both_believe_a_package_with_the_recall_of_a_security_officer(audited, verdict):
    """Nothing was sealed to her, and the recall is hers: her certificate is there."""
    ewa = audited.device("ewa.lis@lo-warsaw", clearances=[], roles=["security"])
    anna = audited.clients[ANNA]
    sent = anna.send([PETIT], label=LABEL, body="Meet at eight.\n").message_id
    recall(ewa, sent, "Wrong annex", spill=False)
    anna.sync()
    octets = collect(anna, sent)
    assert verdict(octets)
    assert verify_evidence(octets).as_json()["events"][-1]["address"] == "ewa.lis@lo-warsaw"


def test_an_auditor_of_the_originators_office_writes_a_package_that_both_believe(audited, recalled, verdict, tmp_path):
    auditor = audited.clients[AUDIT]
    before = looks(auditor)
    octets = collect(auditor, recalled)
    assert verdict(octets, *auditor.profile.pins.relay_keys)
    assert (verify_evidence(octets).exporter.address, verify_evidence(octets).shown_by) == (AUDIT, "auditor")
    done = run(auditor, "evidence", recalled.hex(), "-o", str(tmp_path / "audited.zip"), "--hash-only")
    assert done.exit_code == 0, done.output
    assert verdict((tmp_path / "audited.zip").read_bytes())
    assert looks(auditor) == before + 2


def looks(auditor) -> int:
    """How often the log has it that he had evidence shown to him."""
    auditor.sync()
    pull = AuditPull(auditor)
    pull.pull()
    own = [each.entry.detail for each in pull.entries() if each.entry is not None and each.entry.address == AUDIT]
    return own.count("evidence")


def test_other_auditors_get_no_package(audited, recalled):
    assert run(audited.clients["audit@lo-paris"], "evidence", recalled.hex(), "-o", "never.zip").exit_code == 1


def test_grants_shown_by_neither_originator_nor_auditor_are_refused(audited, recalled, right, verdict):
    """Also if everything in the package is true."""
    assert not verdict(resigned(audited, right, lambda _members: None, by=PETIT))
    by_hash = collect(audited.clients[ANNA], recalled, hash_only=True)
    assert not verdict(resigned(audited, by_hash, lambda _members: None, by=PETIT))


def test_the_command_writes_a_package_and_verifies_it_without_profile_or_network(audited, recalled, tmp_path):
    file, anna = tmp_path / "package.zip", audited.clients[ANNA]
    assert run(anna, "evidence", recalled.hex()[:12], "-o", str(file)).exit_code == 0
    program = [sys.executable, "-c", "from liaison.cli import main; main()", "evidence", "verify", str(file), "--json"]
    told = subprocess.run(program, capture_output=True, text=True, check=True, env={}, cwd=tmp_path, timeout=60)
    assert json.loads(told.stdout)["verified"]
    assert json.loads(run(anna, "evidence", "verify", str(file), "--json").stdout)["label"] == {
        "policy": "TEST", "classification": "CLOSED",
        "categories": [{"tag": "Releasable To", "type": "PERMISSIVE", "values": ["FRA", "POL"]}],
    }  # fmt: skip
    for words in ((recalled.hex(), "-o", str(file)), ("verify", str(file))):
        shown = as_json(anna, "evidence", *words)
        assert (shown["marking"], shown["dtg"]) == (SHOWN, dtg(anna.read(recalled).message.core.handling.dtg))
    statement = Path(tmp_path / "warsaw.statement")
    statement.write_bytes(b"nothing")
    assert run(anna, "evidence", "verify", str(file), "--authority", str(statement)).exit_code == 1


def test_who_verifies_is_shown_first_whose_message_it_is_and_under_which_marking(
    audited, recalled, tmp_path, monkeypatch
):
    def unreadable(*_):
        raise Malformed("no policy")

    file, anna = tmp_path / "package.zip", audited.clients[ANNA]
    handling = anna.read(recalled).message.core.handling
    file.write_bytes(collect(anna, recalled))
    *shown, last = screen(anna, "evidence", "verify", str(file))
    assert shown[0] == last == SHOWN
    assert [re.split(r":\s+", line, maxsplit=1) for line in shown[1:6]] == [
        ["Message", recalled.hex()], ["From", ANNA], ["To", f"{PETIT}, {BAS}"],
        ["Precedence", "ROUTINE"], ["DTG", dtg(handling.dtg)],
    ]  # fmt: skip
    assert [line.partition(" ")[0] for line in shown[6:]] == ["entry"] * 5
    file.write_bytes(collect(anna, recalled, hash_only=True))
    shown = screen(anna, "evidence", "verify", str(file))
    assert [line.partition(":")[0] for line in shown[1:5]] == ["Message", "Posted by", "Precedence", "Header"]
    assert ANNA in shown[2]
    monkeypatch.setattr("liaison.evidence.shown.read_spif", unreadable)
    assert screen(anna, "evidence", "verify", str(file))[0] == SYSTEM_HIGH
