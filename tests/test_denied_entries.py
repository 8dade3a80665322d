"""A denial inside one office: nobody may read the second of its entries, and it is destroyed with the first."""

from __future__ import annotations

import pytest

from relay.protocol.errors import Unknown
from retained import FULL, check, sweep, two_offices_with_periods
from test_retention import places_of, stored_entries, unread


def test_both_entries_of_a_denial_inside_one_office_are_destroyed_when_its_policy_lets_go(tmp_path):
    with two_offices_with_periods(tmp_path) as built:
        bea = built.device("bea.wilk@lo-warsaw", clearances=FULL)
        message_id = unread(built)
        with pytest.raises(Unknown):
            bea.read(message_id)
        about = places_of(built, message_id)
        assert len(about) == 3  # its acceptance, and two of the denial
        sweep(built, 1.9)
        assert None not in stored_entries(built, about)
        sweep(built, 2.1)
        assert stored_entries(built, about) == [None] * 3
        assert check(built) == []
