"""Exposure: what an auditor reads in the log is exactly what happened, held against a record kept beside it.

`LIAISON_GROUND_TRUTH=5000` runs the traffic at full length, by 20 devices; the suite runs a twentieth of it, by 8.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import time
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field

import pytest

from acts import as_json, run
from forge import CBOR, Forge
from liaison.audit.pull import AuditPull
from liaison.composing import Attachment
from liaison.exposure import complete, exposure, exposures
from liaison.recalling import recall, sign_recall
from relay.core.caller import Request
from relay.protocol.canonical import decode, encode
from relay.protocol.entry import Event, parse_logged_entry
from relay.protocol.envelope import RECEIPT, Receipt, parse_delivery, parse_message, parse_slot
from relay.protocol.errors import Malformed, Unknown, Unverified
from relay.protocol.grants import format_portions, parse_portions
from relay.protocol.header import Addressee, AddresseeKind, Precedence
from relay.protocol.httpsig import sign_request
from relay.protocol.identity import Kind
from relay.protocol.recall import parse_recalled
from simulator import double, lying
from world import clearance, world

OPERATIONS = int(os.environ.get("LIAISON_GROUND_TRUTH", "250"))
WHOLE = OPERATIONS >= 5000  # then by 20 devices
AT_ONCE = 16
LABEL = "TEST CLOSED RELEASABLE TO FRA, POL"
LOWER = "TEST OPEN RELEASABLE TO FRA, POL"
SENDERS = [f"sender{number}@lo-warsaw" for number in range(4 if WHOLE else 2)]
CLEARED = [f"reader{number}@lo-paris" for number in range(8 if WHOLE else 3)]
HALF = [f"half{number}@lo-paris" for number in range(7 if WHOLE else 2)]  # cleared for the open portion only
AUDITOR, SECURITY = "audit@lo-warsaw", "ewa.sowa@lo-warsaw"


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    with world(tmp_path_factory.mktemp("exposure")) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
            built.office(office, nation)
        built.agreement("lo-warsaw", "lo-paris")
        for address in SENDERS:
            built.device(address, clearances=[clearance(nations=["POL"])])
        for address in CLEARED:
            built.device(address, clearances=[clearance(nations=["FRA"])])
        for address in HALF:
            built.device(address, clearances=[clearance(["OPEN"], nations=["FRA"])])
        built.device(SECURITY, clearances=[clearance(nations=["POL"])], roles=["security"])
        built.device(AUDITOR, kind=Kind.AUDITOR, clearances=[])
        built.device("audit@lo-paris", kind=Kind.AUDITOR, clearances=[])
        yield built


# -- the record beside


@dataclass
class Truth:
    """What happened to one message, from the answers that the devices got."""

    granted: dict[bytes, tuple[int, ...]]
    openings: dict[bytes, list[tuple[int, tuple[int, ...]]]] = field(default_factory=dict)
    denied: Counter = field(default_factory=Counter)
    recalls: set[tuple[int, str]] = field(default_factory=set)
    receipts: Counter = field(default_factory=Counter)
    accepted: int = -1
    ref: bytes = b""


@dataclass
class Traffic:
    """Random operations by 20 devices, many at a time, straight into the relay; and what came of each."""

    built: object
    chance: random.Random
    truths: dict[bytes, Truth] = field(default_factory=dict)
    done: Counter = field(default_factory=Counter)

    def __post_init__(self):
        people = [self.built.clients[each] for each in (*CLEARED, *HALF)]
        self.readers = {each.profile.signing.device_id: each for each in people}
        self.forges = []
        for address in SENDERS:
            sender = self.built.clients[address]
            sender.sync()
            annex = Attachment("annex.txt", b"Open to all.", LOWER)
            forge = Forge(sender)
            forge.plan = sender.plan([*CLEARED, *HALF], label=LABEL, body="Closed.\n", attachments=[annex])
            forge.claim()
            forge.readers = forge.last_resort(self.built)  # sealing to them is as often as wanted
            self.forges.append(forge)

    def request(self, who, path: str, body: bytes) -> Request:
        url = who.profile.pins.relay_url
        authority, key, now = url.partition("://")[2], who.profile.request, int(time.time())
        kind = CBOR if body else None
        signed = sign_request(
            key, who.profile.keyid, "POST", authority, url + path, body or None, kind, now, os.urandom(16)
        )
        return Request(
            "POST", authority, url + path, body, kind,
            signed.get("content-digest"), signed["signature-input"], signed["signature"],
        )  # fmt: skip

    async def send(self) -> None:
        forge = self.chance.choice(self.forges)
        readers = self.chance.sample(forge.readers, self.chance.randint(1, len(forge.readers) // 2))
        addressed = sorted(self.readers[each.device_id].profile.pins.address for each in readers)
        addressees = tuple(Addressee(AddresseeKind.ACTION, address) for address in addressed)
        submission = forge.seal(readers=readers, addressees=addressees)
        message = parse_message(submission.message)
        slots = [parse_slot(each, message.core) for each in submission.slots]
        truth = Truth({each.device_id: each.granted for each in slots}, ref=message.ref)
        answer = await self.built.relay.accept(
            self.request(forge.client, "/v1/messages", submission.encoded()), 0, Precedence.ROUTINE
        )
        truth.accepted = parse_logged_entry(answer).index
        self.truths[message.core.message_id] = truth

    def pick(self):
        message_id = self.chance.choice(list(self.truths))
        return message_id, self.truths[message_id], f"/v1/messages/{message_id.hex()}"

    async def open(self) -> None:
        message_id, truth, path = self.pick()
        addressed = [self.readers[each] for each in truth.granted]
        who = self.chance.choice(addressed if self.chance.random() < 0.8 else list(self.readers.values()))
        own = who.profile.signing.device_id
        try:
            answer = await self.built.relay.open(
                self.request(who, f"{path}/open", b""), message_id, 0, Precedence.ROUTINE
            )
        except Unknown:
            truth.denied[own] += 1
            return
        delivery = parse_delivery(answer)
        granted = parse_slot(delivery.slot, parse_message(delivery.message).core).granted
        truth.openings.setdefault(own, []).append((delivery.release.index, granted))

    async def receipt(self) -> None:
        message_id, truth, path = self.pick()
        if not truth.openings:
            return
        own = self.chance.choice(list(truth.openings))
        state, key = self.chance.choice(["opened", "acknowledged"]), self.readers[own].profile.signing
        if (own, state) in truth.receipts:
            return
        truth.receipts[own, state] = 1
        signed = key.sign_object(RECEIPT, Receipt(message_id, truth.ref, own, state, int(time.time())).payload())
        await self.built.relay.acknowledge(self.request(self.readers[own], f"{path}/receipts", signed), message_id, 0)

    async def recall(self) -> None:
        message_id, truth, path = self.pick()
        who, spill = self.built.clients[SECURITY], self.chance.random() < 0.3
        body = encode([sign_recall(who, message_id, "drill", spill=spill)])
        answer = await self.built.relay.recall(self.request(who, f"{path}/recall", body), message_id, 0)
        truth.recalls.add((parse_recalled(answer).recall.index, "spill" if spill else "recall"))  # the same words: one

    async def run(self, operations: int) -> None:
        kinds = (self.send, self.open, self.receipt, self.recall)
        for each in [self.send] * 8:
            await each()
        while (left := operations - self.done.total()) > 0:
            chosen = self.chance.choices(kinds, (20, 55, 22, 3), k=min(AT_ONCE, left))
            self.done.update(each.__name__ for each in chosen)
            await asyncio.gather(*(each() for each in chosen))


@pytest.fixture(scope="module")
def traffic(setting):
    seed = int.from_bytes(os.urandom(4))
    traffic = Traffic(setting, random.Random(seed))
    print(f"seed {seed}")  # noqa: T201 - shown where a test fails
    asyncio.run(traffic.run(OPERATIONS))
    return traffic


@pytest.fixture(scope="module")
def pulled(setting, traffic):
    auditor = setting.clients[AUDITOR]
    auditor.sync()
    audited = AuditPull(auditor)
    audited.pull()
    return list(audited.entries())


def test_what_the_log_tells_of_every_message_is_what_happened(setting, traffic, pulled):
    auditor, told = setting.clients[AUDITOR], exposures(pulled, list(traffic.truths))
    assert len(told) == len(traffic.truths)
    for found in told:
        truth = traffic.truths[found.message_id]
        complete(auditor, found)
        assert [index for index, _entry in found.accepts] == [truth.accepted]
        assert dict(found.grants) == truth.granted
        openings = {
            device: [(index, parse_portions(entry.detail)) for index, entry in entries]
            for device, entries in found.openings.items()
        }
        assert openings == {device: sorted(entries) for device, entries in truth.openings.items()}
        assert {device for device, _granted in found.never} == truth.granted.keys() - truth.openings.keys()
        # a denial is an entry for each of the two offices; the auditor of one sees his
        assert Counter(entry.device_id for _index, entry in found.denials) == truth.denied
        assert [index for index, _entry in found.recalls] == sorted(index for index, _kind in truth.recalls)
        receipts = Counter((entry.device_id, entry.detail) for _index, entry in found.acknowledgements)
        assert receipts == truth.receipts


def test_nothing_is_in_the_pull_that_did_not_happen(traffic, pulled):
    """Every entry about a message is one of those in the record: none more, none less."""
    known = {truth.accepted for truth in traffic.truths.values()}
    for truth in traffic.truths.values():
        known |= {index for entries in truth.openings.values() for index, _granted in entries}
        known |= {index for index, _kind in truth.recalls}
    events = {Event.ACCEPT, Event.OPEN, Event.RECALL}
    logged = {each.index for each in pulled if each.entry is not None and each.entry.event in events}
    assert logged == known
    counted = Counter(each.entry.event for each in pulled if each.entry is not None)
    assert counted[Event.ACKNOWLEDGE] == sum(truth.receipts.total() for truth in traffic.truths.values())
    assert counted[Event.DENY] == sum(truth.denied.total() for truth in traffic.truths.values())


def test_portions_in_an_entry_have_one_way_to_be_written():
    for granted in ((0,), (0, 1), (0, 2, 3, 4, 9), tuple(range(256)), (255,)):
        assert parse_portions(format_portions(granted)) == granted
    for wrong in ("", "portions ", "0", "portions 1,0", "portions 0,1", "portions 1-1", "portions 3-1", "portions 0-999",
                  "portions ²", "portions 01", "portions 0-0-1"):  # fmt: skip
        with pytest.raises(Malformed, match="open entry"):
            parse_portions(wrong)


def test_portions_that_no_message_has_cost_a_reader_nothing():
    tracemalloc.start()
    try:
        with pytest.raises(Malformed, match="more portions than a message has"):
            parse_portions("portions 0-9999999")
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


# -- by the command, and against lies


@pytest.fixture(scope="module")
def opened(setting, traffic):
    """A message with one reader who opened it, one who did not, and then a recall."""
    anna = setting.clients[SENDERS[0]]
    message_id = anna.send(CLEARED[:2], label=LABEL, body="Meet at nine.\n").message_id
    setting.clients[CLEARED[0]].read(message_id)
    recall(anna, message_id, "Wrong annex", spill=False)
    return message_id


def test_the_command_says_who_held_keys_who_never_did_and_why_it_was_recalled(setting, opened):
    told = as_json(setting.clients[AUDITOR], "audit", "exposure", opened.hex())
    assert [(each["address"], each["portions"]) for each in told["held"]] == [(CLEARED[0], [0])]
    assert [(each["address"], each["portions"]) for each in told["never"]] == [(CLEARED[1], [0])]
    assert [(each["kind"], each["by"], each["reason"]) for each in told["recalls"]] == [
        ("recall", SENDERS[0], "Wrong annex")
    ]
    assert (told["complete"], told["addressed"]) == (True, sorted(CLEARED[:2]))
    assert json.dumps(told)


def test_an_auditor_of_a_readers_office_sees_its_own_and_is_told_that_it_is_not_all(setting, opened):
    told = as_json(setting.clients["audit@lo-paris"], "audit", "exposure", opened.hex())
    assert [each["address"] for each in told["held"]] == [CLEARED[0]]
    assert (told["complete"], told["never"], told["message_ref"]) == (False, [], None)


@pytest.mark.parametrize(("auditor", "is_all"), [(AUDITOR, True), ("audit@lo-paris", False)])
def test_the_same_in_words_ends_with_how_many_entries_it_is_from_and_whether_it_is_all(
    setting, opened, auditor, is_all
):
    told = run(setting.clients[auditor], "audit", "exposure", opened.hex())
    assert (told.exit_code, told.stdout.split()[:2]) == (0, ["held", CLEARED[0]]), told.output
    assert re.search(r"^liaison: from [1-9][0-9]* verified entries$", told.stderr, re.MULTILINE)
    assert ("not complete: the originator's office is not in your scope" in told.stderr) is not is_all


def test_of_a_message_that_is_not_there_there_is_no_exposure(setting):
    assert run(setting.clients[AUDITOR], "audit", "exposure", "00" * 16).exit_code == 1
    assert run(setting.clients[AUDITOR], "audit", "exposure", "00").exit_code == 2


def test_a_look_at_a_header_is_an_entry_and_only_for_the_originators_auditor(setting, opened):
    paris = setting.clients["audit@lo-paris"]
    with pytest.raises(Unknown, match="no such message"):
        paris.transport.get(f"/v1/audit/messages/{opened.hex()}")
    paris.sync()
    audited = AuditPull(paris)
    audited.pull()
    looks = [each.entry for each in audited.entries() if each.entry is not None and each.entry.event is Event.AUDIT]
    assert any((entry.detail, entry.message_id) == ("message", opened) for entry in looks)


def test_a_relay_that_hides_a_device_or_shows_another_header_is_caught(setting, opened, tmp_path):
    auditor, anna = setting.clients[AUDITOR], setting.clients[SENDERS[0]]
    second = anna.send(CLEARED[:1], label=LABEL, body="Another.\n").message_id
    with double(auditor, tmp_path / "audit") as twin:
        twin.sync()
        audited = AuditPull(twin)
        audited.pull()
        right, other = (decode(twin.transport.get(f"/v1/audit/messages/{each.hex()}")) for each in (opened, second))
        fewer = encode(decode(right[1])[1:])
        for answer in ([other[0], right[1]], [right[0], other[1]], [right[0], fewer], other):
            with lying(twin) as relay:
                relay.lie("GET", rf"/v1/audit/messages/{opened.hex()}$", lambda _honest, told=answer: encode(told))
                with pytest.raises(Unverified):
                    exposure(twin, audited.entries(), opened)
        assert exposure(twin, audited.entries(), opened).is_complete
