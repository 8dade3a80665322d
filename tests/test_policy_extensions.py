"""The extensions of a policy are read strictly, and name nothing that the policy does not have."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policy_files import meridian
from relay.protocol.errors import Malformed
from relay.protocol.label import TagType
from relay.protocol.policy import parse_extensions

OID = "2.999.1.1"


def test_extensions_are_read_strictly():
    text = b"""
mandatory = ["Release"]
minimum_suite = 2
one_time_key_from = "GUARDED"
retention = 86400
absent = { "Release" = "owner_only" }
memberships = { GARDEN = ["BIRCH"] }
[[single_choices]]
tag_set = "Release"
besides = ["ASTER"]
"""
    extensions = parse_extensions(text)
    assert extensions.memberships == (("GARDEN", ("BIRCH",)),)
    assert replace(meridian(), extensions=extensions).index.members[(OID, TagType.PERMISSIVE)] == {
        "garden": {"aster", "birch"}
    }


@pytest.mark.parametrize(
    "text",
    [
        b"unheard_of = 1",
        b"mandatory = 'Release'",
        b"mandatory = []",
        b"minimum_suite = true",
        b"minimum_suite = 0",
        b"absent = { Release = 'whatever' }",
        b"withhold = 'quietly'",
        b"owners = [{ tag_set = 'Release' }]",
        b"companions = [{ tag_set = 'a', partner_set = 'b', partner_value = 'c', more = 'd' }]",
        b"retention = 1.5",
        b"retention = { SECRET = 0 }",
        b"entry_retention = ['SECRET']",
        b"\xff",
        b"mandatory = ",
    ],
)
def test_extensions_with_anything_unknown_are_malformed(text):
    with pytest.raises(Malformed):
        parse_extensions(text)


@pytest.mark.parametrize(
    "text",
    [
        b"mandatory = ['Nothing']",
        b"one_time_key_from = 'NOTHING'",
        b"retention = { NOTHING = 1 }",
        b"companions = [{ tag_set = 'Release', partner_set = 'Codeword', partner_value = 'IRISS' }]",
        b"single_choices = [{ tag_set = 'Release', besides = ['ASTER', 'ASTERR'] }]",
        b"owners = [{ tag_set = 'Release', value = 'ASTERR', owner_set = 'Codeword', owner_value = 'IRIS' }]",
        b"owners = [{ tag_set = 'Release', value = 'ASTER', owner_set = 'Codeword', owner_value = 'IRISS' }]",
        b"memberships = { GARDEN = ['BIRCH', 'BIRCHH'] }",
        b"memberships = { GARDENN = ['BIRCH'] }",
        b"memberships = { GARDEN = ['IRIS'] }",
        b"memberships = { IRIS = ['LOTUS'] }",
        b"absent = { Codeword = 'owner_only' }",
    ],
)
def test_extensions_that_name_nothing_of_the_policy_are_malformed(text):
    with pytest.raises(Malformed):
        replace(meridian(), extensions=parse_extensions(text))
