"""An evidence package whose forger chose thousands of agreements and of openings: its verifier is not kept busy."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from liaison.evidence.verify import _check_agreements
from relay.protocol.agreement import Agreement, Party
from relay.protocol.directory import Directory
from relay.protocol.directory_terms import AgreementState
from relay.protocol.entry import AccessEntry, Event
from relay.protocol.errors import Unverified
from relay.protocol.identity import Statement

MANY, OWN, OTHER, HOUR = 6000, "lo-warsaw", "lo-paris", 3600
OFFICES = {
    name: Statement(name, "POL", 1, bytes([number]) * 1984, bytes(32), 0, ())
    for number, name in enumerate((OWN, OTHER))
}
PARTIES = tuple(Party(name, "POL", OFFICES[name].kid) for name in sorted(OFFICES))
TERMS = Agreement("Many", PARTIES, "TEST", "1.2", ("OPEN",), (), (), (), False, 0, HOUR, bytes(16))


def evidence(agreements, times):
    """What is left to check of a package with these agreements, opened by Paris at these times, in seconds."""
    states = {each.agreement_id: AgreementState(each, dict.fromkeys(OFFICES, 0)) for each in agreements}
    shared = {frozenset(OFFICES): states}
    opened = [(at, AccessEntry(Event.OPEN, at * 1000, bytes(16), bytes(16), "luc@lo-paris", OTHER)) for at in times]
    return SimpleNamespace(
        accept=SimpleNamespace(office=OWN, time=0),
        directory=Directory(offices=dict(OFFICES), agreements=states, shared=shared),
        grants=(),
        entries=opened,
    )


def test_thousands_of_openings_under_thousands_of_agreements_take_no_minutes():
    """Each opening has an agreement of its own, the last that is looked at."""
    agreements = [
        replace(TERMS, nonce=at.to_bytes(16, "big"), not_before=at, not_after=at + 1) for at in range(MANY, 0, -1)
    ]
    found, began = evidence(agreements, range(1, MANY)), time.process_time()
    _check_agreements(found)
    assert time.process_time() - began < 5  # more than a minute, where each was held against each


@pytest.mark.parametrize(
    ("spans", "at", "holds"),
    [
        ([(10, 20)], 10, True),
        ([(10, 20)], 20, True),
        ([(10, 20)], 9, False),
        ([(10, 20)], 21, False),
        ([(10, 20), (12, 13)], 17, True),
        ([(12, 13), (10, 20), (30, 40)], 14, True),
        ([(10, 20), (30, 40)], 25, False),
        ([], 25, False),
    ],
)
def test_an_opening_stands_where_any_agreement_was_valid(spans, at, holds):
    agreements = [replace(TERMS, not_before=start, not_after=end) for start, end in spans]
    found = evidence(agreements, [at])
    if holds:
        _check_agreements(found)
    else:
        with pytest.raises(Unverified, match="lacks an agreement"):
            _check_agreements(found)


def test_every_opening_needs_one_and_an_agreement_that_one_has_not_signed_is_none():
    agreements = [replace(TERMS, not_before=start, not_after=end) for start, end in ((10, 20), (30, 40))]
    _check_agreements(evidence(agreements, [10, 20, 30, 40]))
    with pytest.raises(Unverified):
        _check_agreements(evidence(agreements, [10, 25, 40]))
    half = evidence(agreements, [10])
    for state in half.directory.agreements.values():
        del state.signed[OTHER]
    with pytest.raises(Unverified):
        _check_agreements(half)
