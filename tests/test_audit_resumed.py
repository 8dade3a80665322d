"""A pull that is cut off goes on where it was, and nothing of it counts before it is verified; when entries are misdated."""

from __future__ import annotations

import json

import pytest

from acts import run, screen
from liaison.audit.export import FORMS
from liaison.audit.pull import AuditPull
from liaison.trust import ACCESS
from octets import flipped
from relay.protocol.canonical import decode, encode
from relay.protocol.dating import TOLERANCE, Dating, Mark
from relay.protocol.errors import Unavailable, Unverified
from relay.protocol.identity import Kind
from relay.protocol.merkle import Edge, MerkleTree, leaf_hash
from relay.protocol.retention import Erased
from simulator import lying
from world import clearance, world

ANNA, EWA = "anna.nowak@lo-warsaw", "ewa.lis@lo-warsaw"
LABEL = "TEST SEALED RELEASABLE TO FRA, POL"
PAGE = 5


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    with world(tmp_path_factory.mktemp("resumed")) as built:
        built.office("lo-warsaw", "POL")
        built.device(ANNA, clearances=[clearance(nations=["FRA", "POL"])])
        built.device(EWA, clearances=[clearance(nations=["FRA", "POL"])])
        for _ in range(3):
            sent = built.clients[ANNA].send([EWA], label=LABEL, body="Ferry at dawn.")
            built.clients[EWA].read(sent.message_id)
        yield built


@pytest.fixture
def auditor(office, request, monkeypatch):
    monkeypatch.setattr("liaison.audit.pull._PAGE", PAGE)
    name = f"audit-{abs(hash(request.node.name)) % 10**9}"
    return office.device(f"{name}@lo-warsaw", clearances=[], kind=Kind.AUDITOR, name=name)


def cut_off(client, pages, change=lambda answer: answer):
    """A pull whose line breaks after so many pages."""
    told = 0

    def page(answer):
        nonlocal told
        if told == pages:
            raise Unavailable("the line is down")
        told += 1
        return change(answer)

    with lying(client) as relay:
        relay.lie("GET", r"/audit/entries", page)
        with pytest.raises(Unavailable):
            AuditPull(client).pull()


def asked_of(client):
    """Where the pages that the next pull asks for begin."""
    asked = []
    with lying(client) as relay:
        honest = relay.honest
        relay.invent(
            "GET", r"/audit/entries", lambda **q: asked.append(q["after"]) or honest.get("/v1/audit/entries", **q)
        )
        AuditPull(client).pull()
    return asked


def test_a_pull_that_was_cut_off_goes_on_where_it_was(auditor):
    cut_off(auditor, 2)
    pull = AuditPull(auditor)
    assert (pull.count(), pull.left_over()) == (0, 2 * PAGE)
    asked = asked_of(auditor)
    assert asked == list(range(2 * PAGE, asked[-1] + 1, PAGE))
    assert pull.left_over() == 0
    assert [each.index for each in pull.entries()] == list(range(pull.count()))
    pull.verify()


def test_nothing_of_a_pull_that_was_cut_off_is_shown(auditor):
    AuditPull(auditor).pull()
    size = AuditPull(auditor).count()
    cut_off(auditor, 0)
    cut_off(auditor, 1)
    pull = AuditPull(auditor)
    assert pull.left_over() == PAGE
    assert len(list(pull.entries())) == size


def test_what_a_pull_left_is_checked_again_and_the_false_entry_in_it_is_named(auditor):
    def edited(answer):
        size, rows = decode(answer)
        rows[3] = [True, flipped(rows[3][1], -2)] if rows[3][0] else [False, flipped(rows[3][1], 0)]
        return encode([size, rows])

    cut_off(auditor, 1, edited)
    with pytest.raises(Unverified, match=r"^entry 3 of the access log does not hold"):
        AuditPull(auditor).pull()
    assert AuditPull(auditor).left_over() == auditor.profile.cabinet.count_entries(ACCESS) == 0
    (alarm,) = auditor.profile.cabinet.alarms()
    auditor.profile.cabinet.resolve_alarm(alarm.alarm_id)
    AuditPull(auditor).pull()


def test_an_entry_that_was_erased_in_what_a_pull_left_must_have_its_record(auditor):
    def erased(answer):
        size, rows = decode(answer)
        rows[3] = [None, leaf_hash(rows[3][1]) if rows[3][0] else rows[3][1]]
        return encode([size, rows])

    cut_off(auditor, 1, erased)
    with pytest.raises(Unverified, match=r"^entry 3 of the access log was erased, and no record says so"):
        AuditPull(auditor).pull()


def test_a_copy_that_is_not_the_one_that_was_verified_is_not_gone_on_from(auditor):
    pull, cabinet = AuditPull(auditor), auditor.profile.cabinet
    pull.pull()
    kept = list(cabinet.entries(ACCESS))
    for changed in (kept[:-1], [*kept[:-1], kept[0]]):
        cabinet.drop_entries(ACCESS, 0)
        cabinet.append_entries(ACCESS, 0, changed)
        with pytest.raises(Unverified, match="is not the one that was verified"):
            pull.pull()
        assert cabinet.alarms() == []  # the relay is not to blame


def test_the_owner_is_told_that_a_pull_goes_on(auditor):
    cut_off(auditor, 2)
    assert f"its {2 * PAGE} entries are checked again" in run(auditor, "audit", "pull").stderr
    assert "interrupted" not in run(auditor, "audit", "pull").stderr


def test_an_export_that_fails_leaves_the_file_that_was_there(auditor, tmp_path, monkeypatch):
    out = tmp_path / "log.jsonl"
    assert run(auditor, "audit", "pull", "--out", str(out)).exit_code == 0
    before = out.read_text()
    assert before.count("\n") == AuditPull(auditor).count()

    def broken(entries, _client):
        yield str(next(entries))
        raise OSError("no space left on device")

    monkeypatch.setitem(FORMS, "jsonl", broken)
    assert run(auditor, "audit", "pull", "--out", str(out)).exit_code != 0
    assert out.read_text() == before


def test_lines_are_written_to_what_is_no_file(auditor):
    assert run(auditor, "audit", "pull", "--out", "/dev/null").exit_code == 0
    assert screen(auditor, "audit", "pull", "--since-last")


def test_what_no_pull_has_written_whole_is_what_the_last_pull_did_not_show(auditor, tmp_path):
    def shown():
        return [json.loads(line)["index"] for line in screen(auditor, "audit", "pull", "--since-last")]

    begin = shown()[-1] + 1
    for others in (
        [["verify"]],
        [["report", "-o", str(tmp_path / "report.html")]],
        [["pull", "--since-last", "--out", str(file)] for file in (tmp_path / "nowhere" / "log", "/dev/full")],
    ):
        for other in others:
            run(auditor, "audit", *other)
        found = shown()
        assert found == list(range(begin, found[-1] + 1))
        begin = found[-1] + 1


# -- dates ------------------------------------------------------------------------------------------------------------

NOW = 1_800_000_000


def misdated(times, marks, latest=0):
    """What is found of entries dated so many seconds after NOW."""
    dating = Dating([Mark(size, NOW + time) for size, time in marks], latest)
    for index, time in enumerate(times):
        dating.take(index, (NOW + time) * 1000)
    return dating.misdated


def test_an_entry_dated_before_the_signature_of_a_tree_without_it_is_found():
    late = TOLERANCE // 1000 + 1
    assert misdated([0, 0, 500], [(2, 500), (3, 500)]) is None
    assert misdated([0, 0, 500 - late], [(2, 500), (3, 500)]) == (
        "entry 2 of the access log is dated before a tree of 2 entries, without it, was signed"
    )
    assert misdated([0, 0, 500 - late + 1], [(2, 500), (3, 500)]) is None  # clocks differ


def test_an_entry_dated_after_a_signature_over_it_is_found():
    early = TOLERANCE // 1000 + 1
    assert misdated([0, early, 0], [(1, 0), (3, 0)]) == (
        "entry 1 of the access log is dated after a tree of 3 entries, with it, was signed"
    )
    assert misdated([0, early - 1, 0], [(1, 0), (3, 0)]) is None
    assert misdated([0, early, early], [(1, 0)]) is None  # nothing signed says otherwise


def test_the_strictest_of_several_signatures_counts():
    assert "tree of 4 entries" in misdated([0, 0, 900], [(4, 100), (6, 950)])
    assert "tree of 2 entries" in misdated([0, 0, 900], [(1, -50), (2, 1500), (2, 0)])


def test_the_first_entry_that_is_misdated_is_named():
    assert misdated([0, 500, 0, 900, 0], [(5, 100)]).startswith("entry 1 ")


# -- what a walk keeps ------------------------------------------------------------------------------------------------


def test_the_edge_of_a_tree_has_the_root_of_the_whole_at_every_size():
    edge, tree = Edge(), MerkleTree()
    for number in range(600):
        assert (edge.size, edge.root()) == (number, tree.root())
        leaf = leaf_hash(b"%d" % number)
        edge.append(leaf)
        tree.append(leaf)


def test_an_erased_entry_stays_until_a_record_names_it():
    erased = Erased()
    assert erased.first() is None
    for index in (7, 8, 1000):
        erased.add(index)
    assert list(erased.left()) == [7, 8, 1000]
    for index, left in ((7, 8), (999, 8), (8, 1000), (5000, 1000), (1000, None)):
        erased.account(index)
        assert erased.first() == left
