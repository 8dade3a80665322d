"""The evidence package of a reader: what he can show a court, and that neither he nor the court learns of other readers.

Each class of bad package is refused by both verifiers, repaired as far as an operator and the reader together could.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial

import pytest

from acts import as_json, run
from evidence_packages import changed_entry, members_of, relogged, resigned
from liaison.composing import Attachment
from liaison.evidence.collect import collect
from liaison.evidence.verify import verify_evidence
from liaison.recalling import recall
from liaison.record import kept, read_record
from octets import flipped
from relay.protocol.canonical import decode, encode
from relay.protocol.cose import parse_sign1
from relay.protocol.entry import Change, Event, parse_access_entry, parse_directory_entry
from relay.protocol.envelope import RECEIPT, Receipt
from relay.protocol.errors import Malformed, Unknown, Unverified
from relay.protocol.identity import CERTIFICATE, read_certificate
from relay.store.log import Log
from simulator import Forger, double, lying
from world import clearance, world

LABEL = "TEST CLOSED RELEASABLE TO FRA, NOR, POL"
ANNA, PETIT, BAS, KARI = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "luc.bas@lo-paris", "kari.moe@lo-oslo"
NATIONS = {"lo-warsaw": "POL", "lo-paris": "FRA", "lo-oslo": "NOR"}
ON_ITS_WORD = "that the sender sealed to this reader what the log says was opened"


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    with world(tmp_path_factory.mktemp("reader")) as built:
        for office, nation in NATIONS.items():
            built.office(office, nation)
        built.agreement(*NATIONS)  # one, of all three
        for address in (ANNA, PETIT, BAS, KARI):
            nation = NATIONS[address.partition("@")[2]]
            built.device(
                address, clearances=[clearance(nations=[nation])], roles=["security"] if address == ANNA else []
            )
        yield built


def sent(setting) -> bytes:
    attached = [Attachment("one.txt", b"one"), Attachment("two.txt", b"two")]
    return (
        setting.clients[ANNA].send([PETIT, BAS, KARI], label=LABEL, body="At nine.\n", attachments=attached).message_id
    )


@pytest.fixture(scope="module")
def message_id(setting):
    """Opened and acknowledged by two, never by the third, then taken back with a spill."""
    found = sent(setting)
    for address in (KARI, PETIT):
        setting.clients[address].read(found)
        setting.clients[address].acknowledge(found)
    recall(setting.clients[ANNA], found, "Wrong annex", spill=True)
    return found


@pytest.fixture(scope="module")
def right(setting, message_id):
    return collect(setting.clients[PETIT], message_id)


@pytest.fixture(scope="module")
def by_hash(setting, message_id):
    return collect(setting.clients[PETIT], message_id, hash_only=True)


# -- what it shows


def test_both_believe_a_readers_package_whole_and_by_hash_only(setting, right, by_hash, verdict):
    keys = setting.clients[PETIT].profile.pins.relay_keys
    for octets in (right, by_hash):
        assert verdict(octets)
        assert verdict(octets, *keys)
        assert not verdict(octets, *keys[1:])


def test_it_shows_who_sent_what_when_and_what_the_reader_did_and_says_whose_view_it_is(
    setting, message_id, right, by_hash
):
    told, less = verify_evidence(right).as_json(), verify_evidence(by_hash).as_json()
    jean = setting.clients[PETIT].profile.signing.device_id
    assert (told["shown_by"], told["exporter"], told["sender"]) == ("reader", PETIT, ANNA)
    assert told["addressees"] == sorted([PETIT, BAS, KARI])
    events = [(each["event"], each["address"], each["detail"]) for each in told["events"][1:]]
    assert told["events"][0]["address"] == ANNA
    assert events == [
        ("open", PETIT, "portions 0-2"), ("acknowledge", PETIT, "opened"), ("acknowledge", PETIT, "acknowledged"),
    ]  # fmt: skip
    assert told["sealed_to"] == [{"address": PETIT, "device": jean.hex(), "portions": [0, 1, 2]}]
    assert (less["sealed_to"], less["events"]) == (told["sealed_to"], told["events"])
    assert (less["shown_by"], less["hash_only"], less["sender"], less["addressees"]) == ("reader", True, None, [])
    # the sender's signature shows the first what the second has on the relay's word
    assert ON_ITS_WORD not in told["assumed"]
    assert ON_ITS_WORD in less["assumed"]


def test_nothing_in_it_names_another_readers_device_or_what_became_of_it(setting, message_id, right):
    members = members_of(right)
    assert "grants.cbor" not in members
    for other in (BAS, KARI):
        device = setting.clients[other].profile.signing.device_id
        assert not [name for name, content in members.items() if device in content or device.hex() in name]
    assert not [name for name, content in members.items() if b"Wrong annex" in content]


def test_the_originators_package_of_the_same_message_is_believed_too(setting, message_id, verdict):
    """Its agreement is one of three offices, and so are the statements that it takes."""
    octets = collect(setting.clients[ANNA], message_id)
    assert verdict(octets)
    assert verify_evidence(octets).shown_by == "originator"


# -- what the relay tells


def asked(client, message_id: bytes, what: str) -> list:
    return decode(client.transport.get(f"/v1/messages/{message_id.hex()}/{what}"))


def test_the_relay_tells_a_reader_of_itself_only(setting, message_id):
    jean = setting.clients[PETIT]
    own = jean.profile.signing.device_id
    _note, grants, entries = asked(jean, message_id, "evidence")
    parsed = [parse_access_entry(row[0]) for row in entries]
    assert grants is None
    assert [each.event for each in parsed] == [Event.ACCEPT, Event.OPEN, Event.ACKNOWLEDGE, Event.ACKNOWLEDGE]
    assert {each.device_id for each in parsed[1:]} == {own}
    assert {bytes(row[0]) for row in asked(jean, message_id, "receipts")} == {own}
    assert len(asked(setting.clients[ANNA], message_id, "receipts")) == 4


def test_who_has_not_opened_it_is_told_what_everybody_is_told(setting, message_id):
    fresh = sent(setting)
    for what in ("evidence", "receipts"):
        refusals = set()
        for wanted in (message_id, fresh, os.urandom(16)):  # sealed to him, and taken back; waiting for him; none
            with pytest.raises(Unknown) as refused:
                asked(setting.clients[BAS], wanted, what)
            refusals.add((str(refused.value), refused.value.hint))
        assert len(refusals) == 1


def test_the_recall_changes_nothing_of_what_a_reader_is_told(setting):
    fresh, jean = sent(setting), setting.clients[PETIT]
    jean.read(fresh)
    before = [row[:2] for row in asked(jean, fresh, "evidence")[2]]
    setting.clients[KARI].read(fresh)
    recall(setting.clients[ANNA], fresh, "Wrong annex", spill=True)
    assert [row[:2] for row in asked(jean, fresh, "evidence")[2]] == before


# -- files


def test_a_file_altered_under_a_manifest_signed_anew_is_refused(setting, right, by_hash, verdict):
    for octets in (right, by_hash):
        for name, content in members_of(octets).items():
            if name != "manifest.cose":
                wrong = {name: flipped(content)}
                assert not verdict(resigned(setting, octets, lambda m, w=wrong: m.update(w), by=PETIT)), name


def test_a_file_dropped_under_a_manifest_signed_anew_is_refused_where_it_is_needed(setting, right, by_hash, verdict):
    """Without his slot it is on the relay's word that it was sealed to him, as by hash only; and it says so."""
    for octets, spared in ((right, {"slot.cbor"}), (by_hash, set())):
        for name in members_of(octets).keys() - {"manifest.cose"}:
            dropped = resigned(setting, octets, lambda members, name=name: members.pop(name), by=PETIT)
            assert verdict(dropped) is (name in spared), f"dropped {name}"
    assert ON_ITS_WORD in verify_evidence(resigned(setting, right, lambda m: m.pop("slot.cbor"), by=PETIT)).assumed


def test_a_slot_of_another_message_or_device_or_at_another_place_is_refused(setting, right, message_id, verdict):
    slot, index, proof = decode(members_of(right)["slot.cbor"])
    others, fresh = setting.clients[KARI], sent(setting)
    setting.clients[PETIT].read(fresh)
    changed = {
        "another reader's": kept(others.profile.cabinet, message_id).slot,
        "of another message": kept(setting.clients[PETIT].profile.cabinet, fresh).slot,
        "at another place": encode([slot, index ^ 1, proof]),
        "without its proof": encode([slot, index, []]),
        "of other portions": encode([encode([*decode(slot)[:2], [0], decode(slot)[3]]), index, proof]),
        "none": encode([]),
    }
    for what, wrong in changed.items():
        assert not verdict(resigned(setting, right, lambda m, w=wrong: m.update({"slot.cbor": w}), by=PETIT)), what


# -- entries, repaired as far as the operator could


def places(setting, message_id: bytes) -> dict[tuple[str, str], int]:
    """Where the log has what of this message: (event, address) → index, of the first."""
    found: dict[tuple[str, str], int] = {}
    for index, encoded in enumerate(Forger(setting).entries(Log.ACCESS)):
        entry = parse_access_entry(encoded)
        if entry.message_id == message_id:
            found.setdefault((entry.event.value, entry.address), index)
    return found


def same(_index: int, entry: bytes) -> bytes:
    return entry


def with_entries(setting, octets: bytes, log: Log, indexes, rewrite=same, by: str = PETIT) -> bytes:
    """The package with these entries besides, over a log signed anew."""
    named = {f"{log.name.lower()}/{index:010}.cbor": b"" for index in indexes}
    return relogged(setting, resigned(setting, octets, lambda m: m.update(named), by=by), log, rewrite, by=by)


def certificates(setting, *addresses: str) -> list[int]:
    """Where the directory has their certificates."""
    parsed = [(i, parse_directory_entry(each)) for i, each in enumerate(Forger(setting).entries(Log.DIRECTORY))]
    held = [(i, each.payload) for i, each in parsed if each.change is Change.CERTIFICATE]
    return [i for i, each in held if read_certificate(parse_sign1(each, CERTIFICATE)).address in addresses]


def test_an_honest_log_signed_again_with_others_certificates_besides_is_believed(setting, right, by_hash, verdict):
    """So what the next tests refuse is refused for the one thing that they change."""
    for octets in (right, by_hash):
        assert verdict(relogged(setting, octets, Log.ACCESS, same, by=PETIT))
        assert verdict(with_entries(setting, octets, Log.DIRECTORY, certificates(setting, KARI, BAS)))


def test_what_is_not_the_readers_to_show_is_refused_though_true(setting, right, by_hash, message_id, verdict):
    at, grants = places(setting, message_id), asked(setting.clients[ANNA], message_id, "evidence")[1]
    kari = setting.clients[KARI].profile.signing.device_id
    theirs = {
        f"receipts/{bytes(row[0]).hex()}-{row[1]}.cose": row[2]
        for row in asked(setting.clients[ANNA], message_id, "receipts")
    }
    opened = f"receipts/{kari.hex()}-opened.cose"
    for octets in (right, by_hash):
        certified = with_entries(setting, octets, Log.DIRECTORY, certificates(setting, KARI, BAS))
        more = partial(with_entries, setting, certified, Log.ACCESS)
        receipt = resigned(setting, certified, lambda m: m.update({opened: theirs[opened]}), by=PETIT)
        with_grants = resigned(setting, certified, lambda m: m.update({"grants.cbor": grants}), by=PETIT)
        bad = {
            "another's opening": more([at["open", KARI]]),
            "another's receipt, logged": more([at["acknowledge", KARI]]),
            "the same with its file": with_entries(setting, receipt, Log.ACCESS, [at["acknowledge", KARI]]),
            "all of it": with_entries(setting, receipt, Log.ACCESS, [at["open", KARI], at["acknowledge", KARI]]),
            "another's receipt, not logged": receipt,
            "the recall": more([at["recall", ANNA]]),
            "a denial": more([at["deny", BAS]] if ("deny", BAS) in at else [0]),
            "the grants": with_grants,
            "the grants without his slot": resigned(setting, with_grants, lambda m: m.pop("slot.cbor", None), by=PETIT),
        }
        for what, octets_of in bad.items():
            assert not verdict(octets_of), what


def test_the_originators_package_without_its_grants_is_nobodys(setting, message_id, verdict):
    for octets in (collect(setting.clients[ANNA], message_id, hash_only=short) for short in (False, True)):
        recalls = [
            n for n in members_of(octets) if n == f"access/{places(setting, message_id)['recall', ANNA]:010}.cbor"
        ]
        for names in (["grants.cbor"], ["grants.cbor", *recalls]):
            for by in (ANNA, PETIT, BAS):
                stripped = resigned(setting, octets, lambda m, names=names: [m.pop(name) for name in names], by=by)
                assert not verdict(stripped), (names, by)


def test_a_slot_in_the_originators_package_is_refused(setting, message_id, right, verdict):
    slot = {"slot.cbor": members_of(right)["slot.cbor"]}
    assert not verdict(
        resigned(setting, collect(setting.clients[ANNA], message_id), lambda members: members.update(slot))
    )


def test_entries_that_an_operator_rewrote_are_refused_though_log_and_manifest_hold(
    setting, right, by_hash, message_id, verdict
):
    at, stored = places(setting, message_id), Forger(setting).entries(Log.ACCESS)
    accepted = parse_access_entry(stored[at["accept", ANNA]])
    luc = setting.clients[BAS].profile.signing.device_id
    changes = {
        "another opener": (Event.OPEN, {"device_id": luc}),
        "another's receipts": (Event.ACKNOWLEDGE, {"device_id": luc}),
        "opened long before it was accepted": (Event.OPEN, {"time": accepted.time - 61_000}),
        "no portions": (Event.OPEN, {"detail": "portions "}),
        "portions twice": (Event.OPEN, {"detail": "portions 0,0"}),
        "portions that no message has": (Event.OPEN, {"detail": "portions 256"}),
        "a denial": (Event.OPEN, {"permitted": False}),
        "another message": (Event.OPEN, {"message_ref": bytes(32)}),
        "a receipt of another state": (Event.ACKNOWLEDGE, {"detail": "opened"}),
        "no grants' digest": (Event.ACCEPT, {"detail": "routine"}),
        "a digest that is none": (Event.ACCEPT, {"detail": accepted.detail[1:]}),
        "a digest in capitals": (Event.ACCEPT, {"detail": accepted.detail[:64].upper() + accepted.detail[64:]}),
        "a precedence that is none": (Event.ACCEPT, {"detail": accepted.detail.replace("routine", "soon")}),
        "another office": (Event.ACCEPT, {"office": "lo-oslo"}),
    }
    for octets in (right, by_hash):
        for what, (event, fields) in changes.items():
            rewrite = changed_entry(message_id, event, **fields)
            assert not verdict(relogged(setting, octets, Log.ACCESS, rewrite, by=PETIT)), what
        first, own = at["accept", ANNA], at["open", PETIT]
        swapped = {first: stored[own], own: stored[first]}
        before = relogged(setting, octets, Log.ACCESS, swapped.get, by=PETIT)
        assert not verdict(before), "opened in front of its acceptance"
        again = {at["open", KARI]: replace(accepted, salt=os.urandom(16)).encoded()}
        twice = with_entries(setting, octets, Log.ACCESS, again, again.get)
        assert not verdict(twice), "accepted twice"


def test_portions_that_an_operator_rewrote_are_the_senders_word_against_his_where_there_is_the_slot(
    setting, right, by_hash, message_id, verdict
):
    fewer = changed_entry(message_id, Event.OPEN, detail="portions 0")
    more = changed_entry(message_id, Event.OPEN, detail="portions 0-3")
    without = resigned(setting, right, lambda members: members.pop("slot.cbor"), by=PETIT)
    for octets, believed in ((right, ()), (without, (fewer,)), (by_hash, (fewer, more))):
        for rewrite in (fewer, more):
            told = relogged(setting, octets, Log.ACCESS, rewrite, by=PETIT)
            assert verdict(told) is (rewrite in believed)
            if rewrite in believed:
                assert ON_ITS_WORD in verify_evidence(told).assumed


def test_a_readers_package_signed_by_anybody_else_is_refused(setting, right, by_hash, verdict):
    for octets in (right, by_hash):
        for other in (BAS, KARI, ANNA):
            certified = with_entries(setting, octets, Log.DIRECTORY, certificates(setting, BAS, KARI))
            assert not verdict(resigned(setting, certified, lambda _members: None, by=other)), other


def test_a_receipt_by_another_key_or_for_another_message_is_refused(setting, right, message_id, verdict):
    jean, luc = (setting.clients[each].profile.signing for each in (PETIT, BAS))
    certified = with_entries(setting, right, Log.DIRECTORY, certificates(setting, BAS))
    ref = verify_evidence(right).package.message_ref
    good = Receipt(message_id, ref, jean.device_id, "opened", verify_evidence(right).package.at)
    name = f"receipts/{jean.device_id.hex()}-opened.cose"
    for key, stated, holds in (
        (jean, good, True), (luc, good, False), (luc, replace(good, device_id=luc.device_id), False),
        (jean, replace(good, message_ref=bytes(32)), False), (jean, replace(good, state="acknowledged"), False),
    ):  # fmt: skip
        receipt = key.sign_object(RECEIPT, stated.payload())
        assert verdict(resigned(setting, certified, lambda m, r=receipt: m.update({name: r}), by=PETIT)) is holds


# -- collecting


def test_a_relay_that_leaves_out_what_the_reader_did_or_shows_what_others_got_is_caught(setting, message_id, tmp_path):
    grants = asked(setting.clients[ANNA], message_id, "evidence")[1]
    lies = {
        "leaves out a receipt": ("receipts", lambda rows: rows[:-1]),
        "what others were sealed": ("evidence", lambda answer: [answer[0], grants, answer[2]]),
        "neither grants.cbor nor an opening": (
            "evidence",
            lambda a: [*a[:2], [row for row in a[2] if b"portions" not in row[0]]],
        ),
        "lacks a receipt that was logged|not logged": ("evidence", lambda answer: [*answer[:2], answer[2][:-1]]),
    }
    with double(setting.clients[PETIT], tmp_path / "twin") as twin:
        for reason, (what, lie) in lies.items():
            with lying(twin) as relay:
                relay.lie(
                    "GET", rf"/v1/messages/[0-9a-f]+/{what}$", lambda answer, lie=lie: encode(lie(decode(answer)))
                )
                with pytest.raises(Unverified, match=reason):
                    collect(twin, message_id)


def test_a_message_that_an_older_program_opened_has_no_slot_and_its_package_says_so(
    setting, message_id, tmp_path, verdict
):
    with double(setting.clients[PETIT], tmp_path / "twin") as twin:
        cabinet = twin.profile.cabinet
        cabinet.put_message(message_id, encode(decode(cabinet.message(message_id))[:-1]))
        assert read_record(cabinet.message(message_id)).slot == b""
        octets = collect(twin, message_id)
    assert "slot.cbor" not in members_of(octets)
    assert verdict(octets)
    assert ON_ITS_WORD in verify_evidence(octets).assumed


def test_what_a_device_has_neither_sent_nor_opened_it_cannot_show_and_is_told_what_to_do(setting, tmp_path):
    fresh, file = sent(setting), tmp_path / "package.zip"
    for which in (fresh, os.urandom(16)):
        result = run(setting.clients[PETIT], "evidence", which.hex(), "-o", str(file))
        assert (result.exit_code, "neither sent nor opened" in result.output) == (1, True)
        assert "liaison read" in result.output
        assert not file.exists()
    with pytest.raises(Malformed):
        collect(setting.clients[PETIT], fresh)


def test_the_command_writes_a_readers_package_and_says_whose_it_is(setting, message_id, tmp_path, verdict):
    file, jean = tmp_path / "package.zip", setting.clients[PETIT]
    assert as_json(jean, "evidence", message_id.hex()[:12], "-o", str(file))["shown_by"] == "reader"
    assert verdict(file.read_bytes())
    result = run(jean, "evidence", "verify", str(file))
    assert result.exit_code == 0
    assert f"shown by its reader {PETIT}" in result.output
    assert as_json(jean, "evidence", "verify", str(file))["shown_by"] == "reader"
    piped = run(jean, "evidence", message_id.hex().upper(), "-o", "-").stdout_bytes
    assert verify_evidence(piped).package.message_id == message_id
    assert run(jean, "evidence", message_id.hex(), "-o", "-", "--json").exit_code == 2
    assert run(jean, "evidence", "verify", "-", body=piped).exit_code == 0
    assert run(jean, "evidence", message_id.hex(), "-o", str(file), "--hash-only").exit_code == 0
    assert "message.cose" not in members_of(file.read_bytes())


def test_a_package_may_be_written_before_the_reader_has_acknowledged_and_says_so(setting, tmp_path, verdict):
    fresh, jean = sent(setting), setting.clients[PETIT]
    jean.read(fresh)
    octets, file = collect(jean, fresh), tmp_path / "package.zip"
    assert verdict(octets)
    assert [each["event"] for each in verify_evidence(octets).as_json()["events"]] == ["accept", "open", "acknowledge"]
    file.write_bytes(octets)
    told = run(jean, "evidence", "verify", str(file)).output
    assert f" receipt: opened {PETIT}" in told
    assert "acknowledge" not in told
