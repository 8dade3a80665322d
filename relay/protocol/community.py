"""Communities of interest: an authority founds one and names its manager; the manager keeps the roster.

    Community = Sign1(authority; {1: 1, 2: address, 3: manager, 4: title, 5: created})
    Roster    = Sign1(manager's device; {1: 1, 2: address, 3: version, 4: [member...], 5: at})

A roster says who needs to know; it clears nobody. An empty roster is nobody. Members of another office are
reached only where an agreement names the community.
"""

from __future__ import annotations

from dataclasses import dataclass

from .canonical import encode, expect, expect_texts, expect_time, expect_version, read_map
from .cose import Sign1
from .errors import Malformed
from .identity import office_of, parse_address

COMMUNITY, ROSTER = "community", "roster"


@dataclass(frozen=True, slots=True)
class Community:
    address: str
    manager: str
    title: str
    created: int

    @property
    def office(self) -> str:
        return office_of(self.address)

    def payload(self) -> bytes:
        return encode({1: 1, 2: self.address, 3: self.manager, 4: self.title, 5: self.created})


def read_community(signed: Sign1) -> Community:
    """Read what was signed; raises Malformed, also for a manager of another office."""
    fields = read_map(signed.payload, frozenset(range(1, 6)), frozenset(), "community")
    expect_version(fields[1], "community")
    parse_address(fields[2])
    parse_address(fields[3])
    if office_of(fields[2]) != office_of(fields[3]):
        raise Malformed("community: its manager is of another office")
    title, created = expect(fields[4], str, "community: title"), expect_time(fields[5], "community: created")
    return Community(fields[2], fields[3], title, created)


@dataclass(frozen=True, slots=True)
class Roster:
    address: str
    version: int
    members: tuple[str, ...]
    at: int

    def payload(self) -> bytes:
        return encode({1: 1, 2: self.address, 3: self.version, 4: list(self.members), 5: self.at})


def read_roster(signed: Sign1) -> Roster:
    """Read what was signed; raises Malformed for anything else."""
    fields = read_map(signed.payload, frozenset(range(1, 6)), frozenset(), "roster")
    expect_version(fields[1], "roster")
    parse_address(fields[2])
    members = expect_texts(fields[4], "roster: members")
    for member in members:
        parse_address(member)
    version, at = expect(fields[3], int, "roster: version"), expect_time(fields[5], "roster: time")
    return Roster(fields[2], version, members, at)
