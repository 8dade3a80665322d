"""The vectors of tests/vectors/message, by our own code and, where Go is installed, by a program that shares none of it."""

from __future__ import annotations

import json
from base64 import b64decode
from functools import cache
from pathlib import Path

import pytest

from go_programs import needs_go, run_go
from liaison.keys import SigningKey, kem_public_bytes
from liaison.portions import pack, unpack
from liaison.seal import unseal_part, unseal_slot
from relay.protocol.cose import parse_sign1, verify_sign1
from relay.protocol.directory import Directory
from relay.protocol.endorsement import CONSENT, ENDORSEMENT, read_consent, verify_endorsements, verify_passed_on
from relay.protocol.entry import Event, parse_access_entry
from relay.protocol.envelope import (
    RECEIPT,
    parse_delivery,
    parse_message,
    parse_slot,
    part_context,
    read_receipt,
    slot_info,
)
from relay.protocol.errors import LiaisonError, Unverified
from relay.protocol.grants import format_portions
from relay.protocol.identity import REQUEST, parse_request
from relay.protocol.merkle import leaf_hash, root_of, verify_inclusion
from relay.protocol.note import parse_vkey, verify_note
from relay.protocol.prekey import KEY_BATCH, batch_digest, parse_key_package, read_key_batch
from relay.protocol.tlog import parse_checkpoint_body

FOLDER = Path(__file__).parent / "vectors" / "message"
REFUSED = sorted(FOLDER.glob("refused-*.json"))


def vector(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


@cache
def replayed():
    directory = Directory()
    for entry in vector("directory")["entries"]:
        directory.apply(bytes.fromhex(entry))
    return directory


class Reading:
    """Steps 1, 3 and 6 to 9 of "The reader opens", and of 10 the second signatures; the others need a clock, a memory or policies."""

    step = 0

    def open(self, given):
        octets = {name: b64decode(given[name]) for name in ("delivery", "sender_public", "device_id", "recipient_kid", "kem_seed")}  # fmt: skip
        self.step = 1
        delivery = parse_delivery(octets["delivery"])
        message = parse_message(delivery.message)
        self.step = 3
        verify_sign1(message.signed, octets["sender_public"])
        self.step = 6
        verify_inclusion(
            leaf_hash(delivery.slot), delivery.index, message.slot_count, delivery.proof, message.slot_root
        )
        slot = parse_slot(delivery.slot, message.core)
        if slot.device_id != octets["device_id"]:
            raise Unverified("another device's slot")
        self.step = 7
        self.check_release(delivery.release, message, slot, given["log_vkeys"])
        self.step = 8
        keys = unseal_slot(message, slot, octets["kem_seed"], octets["recipient_kid"])
        self.step = 9
        parts = {int(index): b64decode(part) for index, part in given["parts"].items()}
        portions = {index: unseal_part(message.core, index, key, parts[index]) for index, key in keys.items()}
        self.step = 10
        self.officers = verify_endorsements(replayed(), message, delivery.endorsements)
        self.originals = verify_passed_on(replayed(), message.core)
        return message, portions

    def check_release(self, release, message, slot, vkeys):
        stated = parse_checkpoint_body(verify_note(release.checkpoint, [parse_vkey(key) for key in vkeys]))
        verify_inclusion(leaf_hash(release.entry), release.index, stated.size, release.proof, stated.root)
        entry = parse_access_entry(release.entry)
        said = (entry.event, entry.device_id, entry.message_id, entry.message_ref, entry.permitted)
        if said != (Event.OPEN, slot.device_id, message.core.message_id, message.ref, True):
            raise Unverified("not the entry of this release")
        if entry.detail != format_portions(slot.granted):
            raise Unverified("not the portions of this release")


def test_the_message_opens_and_every_value_on_the_way_is_the_one_written_down():
    given = vector("opened")
    message, portions = Reading().open(given)
    detail = given["detail"]
    reader, core = SigningKey.from_seeds(bytes.fromhex(detail["reader"]["seeds"])), message.core
    slot = parse_slot(parse_delivery(b64decode(given["delivery"])).slot, core)
    found = {
        "core": core.encoded(), "core_digest": message.core_digest, "message_ref": message.ref, "slot_root": message.slot_root,
        "to_be_signed": message.signed.to_be_signed, "slot": slot.encoded, "kp_ref": slot.kp_ref, "label": core.label,
        "info": slot_info(core, message.core_digest, reader.device_id, reader.kid, slot.granted, slot.protected),
        "kem_public": kem_public_bytes(b64decode(given["kem_seed"])),
    }  # fmt: skip
    assert {name: octets.hex() for name, octets in found.items()} == {name: detail[name] for name in found}
    assert parse_key_package(bytes.fromhex(detail["key_package"])).ref == slot.kp_ref
    assert part_context(core.message_id, core.sender_kid, 0).hex() == detail["part_contexts"]["0"]
    assert {str(index): portion.content.hex() for index, portion in portions.items()} == detail["plaintexts"]
    assert pack(portions[0]).hex() == detail["padded"]["0"]
    assert unpack(bytes.fromhex(detail["padded"]["0"])) == portions[0]
    assert (reader.kid.hex(), reader.device_id.hex()) == (detail["reader"]["kid"], detail["reader"]["device_id"])


@pytest.mark.parametrize("path", REFUSED, ids=[path.stem for path in REFUSED])
def test_a_reader_refuses_at_the_step_that_is_written_down(path):
    given, reading = json.loads(path.read_text()), Reading()
    with pytest.raises(LiaisonError) as refusal:
        reading.open(given)
    assert (refusal.value.code, reading.step) == (given["expect"], given["step"])


def test_every_step_that_needs_no_clock_memory_or_policy_has_a_vector():
    assert {json.loads(path.read_text())["step"] for path in REFUSED} == {1, 3, 6, 7, 8, 9, 10}


def test_an_endorsed_message_names_its_releasing_officer():
    reading = Reading()
    reading.open(vector("opened-endorsed"))
    assert [officer.address for officer in reading.officers] == ["marek.zawada@lo-warsaw"]


def test_a_message_that_is_passed_on_shows_its_originator_and_the_consent():
    reading = Reading()
    message, _ = reading.open(vector("opened-passed-on"))
    (original,) = reading.originals
    assert (original.message.core.sender, message.core.sender) == ("kari.lie@lo-oslo", "anna.nowak@lo-warsaw")
    assert original.message.core.handling.originator_controlled
    assert not original.reaches("lo-paris")
    assert original.is_consented("lo-paris", message.core.created)
    assert not original.is_consented("lo-rome", message.core.created)


def test_the_directory_log_replays_to_the_root_that_the_message_speaks_of():
    log, directory = vector("directory"), Directory()
    entries = [bytes.fromhex(entry) for entry in log["entries"]]
    for entry in entries:
        directory.apply(entry)
    checkpoint = parse_checkpoint_body(
        verify_note(bytes.fromhex(log["checkpoint"]), [parse_vkey(key) for key in log["vkeys"]])
    )
    assert checkpoint.root == root_of(map(leaf_hash, entries)) == bytes.fromhex(log["root"])
    message, _ = Reading().open(vector("opened"))
    assert message.core.directory == (log["origin"], len(entries), checkpoint.root)
    sender = directory.device(message.core.sender_device, message.core.created)
    assert (sender.address, sender.kid) == (message.core.sender, message.core.sender_kid)
    (state,) = directory.agreements_between("lo-warsaw", "lo-paris")
    assert state.is_in_force
    assert directory.communities_of("jean.petit@lo-paris", {"convoys@lo-warsaw", "ports@lo-warsaw"}) == [
        "convoys@lo-warsaw"
    ]


def test_objects_outside_the_logs_verify():
    found = {
        typ: {name: bytes.fromhex(text) for name, text in each.items()}
        for typ, each in vector("objects")["objects"].items()
    }
    assert parse_request(found[REQUEST]["signed"]).address == "jean.petit@lo-paris"
    batch, receipt = parse_sign1(found[KEY_BATCH]["signed"], KEY_BATCH), parse_sign1(found[RECEIPT]["signed"], RECEIPT)
    verify_sign1(batch, found[KEY_BATCH]["public"])
    verify_sign1(receipt, found[RECEIPT]["public"])
    detail = vector("opened")["detail"]
    assert [ref.hex() for ref in read_key_batch(batch).refs] == [detail["kp_ref"]]
    assert read_receipt(receipt).message_ref.hex() == detail["message_ref"]
    assert replayed().key_batches[batch_digest(batch)] == read_key_batch(batch).device_id
    endorsement, consent = (parse_sign1(found[typ]["signed"], typ) for typ in (ENDORSEMENT, CONSENT))
    verify_sign1(endorsement, found[ENDORSEMENT]["public"])
    verify_sign1(consent, found[CONSENT]["public"])
    assert (read_consent(consent).office, read_consent(consent).message_ref.hex()) == (
        "lo-paris",
        detail["message_ref"],
    )


# Go has no directory: whose signature an original or a consent bears, it cannot tell.
NOT_GO = {"refused-original-changed", "refused-consent-changed"}


@needs_go
def test_go_opens_the_messages_and_refuses_every_other(verify):
    for name in ("opened", "opened-endorsed", "opened-passed-on"):
        found, failure = run_go(verify, "message", FOLDER / f"{name}.json")
        assert not failure
        plaintexts = {index: b64decode(text).hex() for index, text in found["plaintexts"].items()}
        assert plaintexts == vector("opened")["detail"]["plaintexts"]
    opened = {path.stem for path in REFUSED if run_go(verify, "message", path)[0] is not None}
    assert opened == NOT_GO


def test_the_worked_example_of_the_specification_is_this_message():
    text, detail = (
        (Path(__file__).parents[1] / "relay" / "protocol" / "SPEC.md").read_text(),
        vector("opened")["detail"],
    )
    example = text.partition("## 1.")[0]
    assert [name for name in ("core_digest", "slot_root", "message_ref") if detail[name] not in example] == []
    shown = {"kid": detail["sender"]["kid"], "reader": detail["reader"]["device_id"], "kp_ref": detail["kp_ref"]}
    assert [name for name, octets in shown.items() if f"{octets[:8]}…{octets[-6:]}" not in example] == []
