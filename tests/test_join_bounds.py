"""Who may read a join may read all that went in: every label and every clearance of two public policies."""

from __future__ import annotations

from itertools import chain, combinations, product

from hypothesis import given, settings
from hypothesis import strategies as st

from policy_files import NOW, acme, chosen, clearance, label, may_read, nato
from relay.protocol.aggregate import NOBODY, clearance_gaps, dominates, join
from relay.protocol.policy import validate


def subsets(values):
    return [list(each) for each in chain.from_iterable(combinations(values, n) for n in range(len(values) + 1))]


def test_the_join_of_acme_labels_bounds_them_for_every_clearance_without_gaps():
    policy = acme()
    every = [
        label(policy, rank, chosen(Releasable_To=release, Sensitive=codewords))
        for rank, release, codewords in product(
            ["PUBLIC", "CONFIDENTIAL", "INTERNAL"], subsets(["MOCK", "PHONY"]), subsets(["RED", "BLUE"])
        )
    ]
    labels = [each for each in every if validate(policy, each, NOW) == ()]
    assert len(labels) == 8
    grants = [
        clearance(policy, ranks, chosen(Releasable_To=release, Sensitive=codewords))
        for ranks, release, codewords in product(
            (["PUBLIC"], ["PUBLIC", "CONFIDENTIAL"], ["PUBLIC", "CONFIDENTIAL", "INTERNAL"]),
            subsets(["MOCK", "PHONY"]),
            subsets(["RED", "BLUE"]),
        )
    ]
    triples = over = 0
    for (left, right), grant in product(combinations(labels, 2), grants):
        both = may_read(policy, left, grant) and may_read(policy, right, grant)
        joined = join(policy, [left, right])
        permitted = joined is not NOBODY and may_read(policy, joined, grant)
        assert both or not permitted
        triples, over = triples + 1, over + (both and not permitted)
    assert (triples, over) == (1344, 8)  # the counts of reference/labels.md section 3.6


def test_a_clearance_with_a_gap_is_told_apart():
    policy = acme()
    assert clearance_gaps(policy, clearance(policy, ["PUBLIC", "CONFIDENTIAL"])) == ()
    (gap,) = clearance_gaps(policy, clearance(policy, ["PUBLIC", "INTERNAL"]))
    assert "CONFIDENTIAL" in gap.why


CONTEXTS = ["NATO", "KFOR", "EAPC", "Releasable"]
RELEASE = ["NATO", "SWE", "FIN", "KFOR"]
NATO_RANKS = ["UNCLASSIFIED", "RESTRICTED", "CONFIDENTIAL", "SECRET", "TOP SECRET"]
rows = st.tuples(
    st.sampled_from(range(5)),
    st.sets(st.sampled_from(CONTEXTS)),
    st.sets(st.sampled_from(RELEASE)),
    st.sets(st.sampled_from(["ATOMAL", "BOHEMIA"])),
    st.sets(st.sampled_from(["STAFF", "MEDICAL"])),
)


def nato_label(row):
    rank, context, release, codewords, office = row
    return label(
        nato(),
        NATO_RANKS[rank],
        chosen(
            Context=sorted(context),
            Releasable_To=sorted(release),
            Additional_Sensitivity=sorted(codewords),
            Administrative=sorted(office),
        ),
    )


def nato_clearance(row):
    rank, context, release, codewords, _ = row
    if "NATO" in context:
        release = release | {"NATO"}
    found = clearance(
        nato(),
        NATO_RANKS[: rank + 1],
        chosen(Context=sorted(context), Releasable_To=sorted(release), Additional_Sensitivity=sorted(codewords)),
    )
    assert clearance_gaps(nato(), found) == ()
    return found


@settings(max_examples=400)
@given(st.lists(rows, min_size=1, max_size=3), rows)
def test_the_join_of_nato_labels_bounds_them_for_every_clearance_without_gaps(several, held):
    labels, grant = [nato_label(row) for row in several], nato_clearance(held)
    joined = join(nato(), labels)
    if joined is NOBODY:
        return
    for one in labels:
        assert dominates(nato(), joined, one)
        assert may_read(nato(), one, grant) or not may_read(nato(), joined, grant)


@settings(max_examples=400)
@given(rows, rows, rows)
def test_who_may_read_a_dominating_label_may_read_the_dominated(one, other, held):
    high, low, grant = nato_label(one), nato_label(other), nato_clearance(held)
    if dominates(nato(), high, low):
        assert may_read(nato(), low, grant) or not may_read(nato(), high, grant)


def test_the_join_of_nato_labels_bounds_them_for_every_clearance_by_exhaustion_over_representatives():
    """Every valid label and every clearance over all ranks and three values of each tag set that decides.

    The rules treat the values of a tag set alike, group members and the owner NATO excepted, and these are among
    the values; so what holds for every combination of these holds for the policy's two hundred others.
    """
    policy = nato()
    rows_of = [
        (rank, set(context), set(release), set(codewords), set())
        for rank, context, release, codewords in product(
            range(5), subsets(CONTEXTS), subsets(["NATO", "SWE", "KFOR"]), subsets(["ATOMAL", "BOHEMIA"])
        )
    ]
    labels = [each for row in rows_of if validate(policy, each := nato_label(row), NOW) == ()]
    grants = list(dict.fromkeys(nato_clearance(row) for row in rows_of))
    readers: dict = {}

    def who_may_read(one):
        if one not in readers:
            readers[one] = sum(1 << place for place, grant in enumerate(grants) if may_read(policy, one, grant))
        return readers[one]

    pairs = 0
    for left, right in combinations(labels, 2):
        joined, pairs = join(policy, [left, right]), pairs + 1
        if joined is not NOBODY:
            assert who_may_read(joined) & ~(who_may_read(left) & who_may_read(right)) == 0, (left, right)
    assert (len(labels), len(grants), pairs) == (268, 1920, 35778)
