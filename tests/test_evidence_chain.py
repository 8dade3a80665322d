"""The evidence chain: each addressee's positive and negative evidence, by rank, as far as somebody can prove it."""

from __future__ import annotations

import json
import time

import pytest

from acts import as_json, run, screen
from liaison.audit.pull import AuditPull
from liaison.chain import EvidenceKind, Limit, chain
from liaison.evidence.collect import collect
from liaison.exposure import exposure
from liaison.recalling import recall
from liaison.record import read_record
from liaison.tracking import evidence_chain, receipts_of
from relay.protocol.canonical import decode, encode
from relay.protocol.errors import Unverified
from relay.protocol.header import AddresseeKind
from relay.protocol.identity import Kind
from simulator import double, lying
from world import clearance, world

LABEL = "TEST CLOSED RELEASABLE TO FRA, POL"
ANNA, PETIT, BAS, DUTY, OLD = (
    "anna.nowak@lo-warsaw",
    "jean.petit@lo-paris",
    "luc.bas@lo-paris",
    "duty@lo-paris",
    "open@lo-paris",
)


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    with world(tmp_path_factory.mktemp("chain")) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
            built.office(office, nation)
        built.agreement("lo-warsaw", "lo-paris")
        built.device(ANNA, clearances=[clearance(nations=["POL"])])
        built.device(PETIT, clearances=[clearance(nations=["FRA"])])
        built.device(BAS, clearances=[clearance(nations=["FRA"])], roles=["duty"])
        built.device(OLD, clearances=[clearance(["OPEN"], nations=["FRA"])])
        built.device("audit@lo-warsaw", kind=Kind.AUDITOR, clearances=[])
        yield built


@pytest.fixture(scope="module")
def message_id(setting):
    """To one who acknowledges, to a role whose holder is silent, and to one who is not cleared."""
    anna = setting.clients[ANNA]
    sent = anna.send([PETIT, DUTY, OLD], label=LABEL, body="Meet at nine.\n", require_ack=True).message_id
    setting.clients[PETIT].read(sent)
    setting.clients[PETIT].acknowledge(sent)
    return sent


def kinds(rows: list[dict], address: str) -> list[tuple[int, str, str]]:
    return [(row["rank"], row["evidence"], row["proof"]) for row in rows if row["address"] == address]


def tracked(setting, message_id: bytes, *more: str) -> list[dict]:
    return [
        json.loads(line)
        for line in screen(setting.clients[ANNA], "track", message_id.hex(), "--evidence", "--json", *more)
    ]


def test_positive_evidence_is_backed_by_the_log_and_by_the_readers_own_signature(setting, message_id):
    rows = tracked(setting, message_id)
    assert kinds(rows, PETIT) == [
        (1, "SUBMISSION_ACCEPTANCE", "log"), (6, "DELIVERY", "log"), (8, "RETRIEVAL", "receipt"),
        (10, "ACKNOWLEDGEMENT", "receipt"),
    ]  # fmt: skip
    assert kinds(rows, DUTY) == [(1, "SUBMISSION_ACCEPTANCE", "log"), (6, "DELIVERY", "log")]
    assert kinds(rows, OLD) == [(2, "SUBMISSION_REJECTION", "rules")]
    assert [row["evidence"] for row in rows if row["stands"]] == ["DELIVERY", "ACKNOWLEDGEMENT", "SUBMISSION_REJECTION"]


def test_silence_after_the_limit_is_negative_evidence_for_the_sender_and_proven_for_the_auditor(setting, message_id):
    core = read_record(setting.clients[ANNA].profile.cabinet.message(message_id)).message.core
    while time.time() < core.created + 2:
        time.sleep(0.1)
    setting.clients[BAS].inbox()
    setting.clients[ANNA].send([PETIT], label=LABEL, body="Later.\n")  # a checkpoint after the limit
    negative = [(9, "NON_RETRIEVAL"), (11, "NON_ACKNOWLEDGEMENT")]
    sender = kinds(tracked(setting, message_id, "--within", "1s"), DUTY)
    assert sender[2:] == [(*each, "silence") for each in negative]
    told = as_json(setting.clients["audit@lo-warsaw"], "audit", "exposure", message_id.hex(), "--within", "1s")
    assert kinds(told["evidence"], DUTY)[2:] == [(*each, "log") for each in negative]
    assert kinds(tracked(setting, message_id, "--within", "9d"), DUTY)[2:] == []  # it is not over yet


def test_what_was_recalled_unread_is_never_retrieved(setting):
    anna = setting.clients[ANNA]
    sent = anna.send([PETIT, BAS], label=LABEL, body="Meet at nine.\n").message_id
    setting.clients[PETIT].read(sent)
    recall(anna, sent, "Wrong annex", spill=False)
    rows = tracked(setting, sent)
    assert kinds(rows, BAS)[-1] == (9, "NON_RETRIEVAL", "log")
    assert kinds(rows, PETIT)[-1] == (8, "RETRIEVAL", "receipt")


def test_each_kind_occurs_once_and_the_highest_rank_stands(setting, message_id):
    auditor = setting.clients["audit@lo-warsaw"]
    auditor.sync()
    audited = AuditPull(auditor)
    audited.pull()
    found = exposure(auditor, audited.entries(), message_id)
    core = found.message.core
    for due in (core.created - 9, core.created + 1, core.expires):
        for as_of in (core.created, core.expires + 1):
            rows = chain(found, core, auditor.trust.directory, Limit(due, as_of))
            for addressee in (each.address for each in core.addressees if each.kind is not AddresseeKind.EXEMPTED):
                own = [row for row in rows if row.address == addressee]
                ranks = [row.kind.value[0] for row in own]
                assert ranks == sorted(set(ranks))
                assert [row.stands for row in own] == [False] * (len(own) - 1) + [True]
                assert (EvidenceKind.NON_RETRIEVAL in {row.kind for row in own}) <= (due <= as_of)
    # opened after the limit is both: not in time, and in the end
    late = [
        row.kind.name
        for row in chain(found, core, auditor.trust.directory, Limit(core.created - 9, core.expires))
        if row.address == PETIT
    ]
    assert late == [
        "SUBMISSION_ACCEPTANCE",
        "DELIVERY",
        "RETRIEVAL",
        "NON_RETRIEVAL",
        "ACKNOWLEDGEMENT",
        "NON_ACKNOWLEDGEMENT",
    ]


def test_a_relay_cannot_forge_any_of_it(setting, message_id, tmp_path):
    anna = setting.clients[ANNA]
    record = read_record(anna.profile.cabinet.message(message_id))
    other = anna.send([PETIT], label=LABEL, body="Another.\n").message_id
    with double(anna, tmp_path / "anna") as twin:
        twin.sync()
        right, others = (
            decode(anna.transport.get(f"/v1/messages/{each.hex()}/evidence")) for each in (message_id, other)
        )
        moved = [[entry, index + 1, proof] for entry, index, proof in right[2]]
        lies = (
            others,
            [right[0], others[1], right[2]],
            [right[0], right[1], moved],
            [right[0], right[1], right[2][1:]],
            [right[0], right[1], [right[2][0][:2]]],
        )
        for lie in lies:
            with lying(twin) as relay:
                relay.lie("GET", r"/evidence$", lambda _honest, told=lie: encode(told))
                with pytest.raises(Unverified):
                    evidence_chain(twin, record, None)
        receipts = decode(anna.transport.get(f"/v1/messages/{message_id.hex()}/receipts"))
        forged = [
            [device, state, encoded[:-1] + bytes([encoded[-1] ^ 1]), index]
            for device, state, encoded, index in receipts
        ]
        with lying(twin) as relay:
            relay.lie("GET", r"/receipts$", lambda _honest: encode(forged))
            with pytest.raises(Unverified):
                evidence_chain(twin, record, None)


@pytest.mark.parametrize(
    "told", [5, [5], [[1]], [[[], "opened", b"", 1]], [[bytes(16), "read", b"", 1]], [[bytes(16), "opened", b"", 1]]]
)
def test_receipts_that_are_not_even_the_format_are_the_relays_fault(setting, message_id, told):
    anna = setting.clients[ANNA]
    record = read_record(anna.profile.cabinet.message(message_id))
    acts = (lambda: list(receipts_of(anna, record)), lambda: evidence_chain(anna, record, None))
    with lying(anna) as relay:
        relay.lie("GET", r"/receipts$", lambda _honest: encode(told))
        for act in (*acts, lambda: collect(anna, message_id)):
            with pytest.raises(Unverified):
                act()


def test_a_duration_that_is_none_is_refused(setting, message_id):
    assert run(setting.clients[ANNA], "track", message_id.hex(), "--evidence", "--within", "soon").exit_code == 1
