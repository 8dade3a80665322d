"""Information-sharing agreements: one payload, one signature per party, in force when every party has signed.

An agreement is also the only way by which one office comes to trust another's authority: it names every
party's authority key, and an office's authority signs it only after comparing those keys out of band.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from .canonical import encode, expect, expect_bytes, expect_texts, expect_time, expect_version, read_map
from .cose import Sign1
from .decision import Sharing
from .errors import Malformed
from .identity import check_nation, check_office
from .label import Category, category_rows, read_categories

AGREEMENT, WITHDRAWAL = "agreement", "withdrawal"


@dataclass(frozen=True, slots=True)
class Party:
    office: str
    nation: str
    authority_kid: bytes


@dataclass(frozen=True, slots=True)
class Agreement:
    """What the parties may exchange under one policy, up to which label, and how long."""

    title: str
    parties: tuple[Party, ...]
    policy_name: str
    policy_oid: str
    classifications: tuple[str, ...]  # the list that is shared; no hierarchy is implied
    categories: tuple[Category, ...]  # every restrictive value that is shared; permissive tags that must meet
    communities: tuple[str, ...]
    purposes: tuple[str, ...]
    onward_release: bool
    not_before: int
    not_after: int
    nonce: bytes
    mappings: tuple[tuple[bytes, bytes], ...] = ()  # digests of policy files: the first's table into the second holds
    agreement_id: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Once: every decision between offices names it.
        object.__setattr__(self, "agreement_id", hashlib.sha256(self.payload()).digest())

    def payload(self) -> bytes:
        return encode({
            1: 1, 2: self.title, 3: [[party.office, party.nation, party.authority_kid] for party in self.parties],
            4: [self.policy_name, self.policy_oid], 5: list(self.classifications),
            6: category_rows(self.categories), 7: list(self.communities),
            8: list(self.purposes), 9: self.onward_release, 10: self.not_before, 11: self.not_after, 12: self.nonce,
            13: [list(pair) for pair in self.mappings],
        })  # fmt: skip

    def party(self, office: str) -> Party | None:
        return next((party for party in self.parties if party.office == office), None)

    def sharing(self, *, in_force: bool) -> Sharing:
        """What `decide` needs to know of this agreement."""
        return Sharing(
            agreement_id=self.agreement_id.hex(),
            policy_name=self.policy_name,
            policy_oid=self.policy_oid,
            classifications=self.classifications,
            categories=self.categories,
            not_before=self.not_before,
            not_after=self.not_after,
            in_force=in_force,
            communities=self.communities,
            purposes=self.purposes,
        )


def read_agreement(payload: bytes) -> Agreement:
    """Read an agreement's payload; who has signed it is for the directory to say. Raises Malformed."""
    fields = read_map(payload, frozenset(range(1, 14)), frozenset(), "agreement")
    expect_version(fields[1], "agreement")
    policy = expect(fields[4], list, "agreement: policy")
    if len(policy) != 2 or not all(type(item) is str for item in policy) or not policy[0]:
        raise Malformed("agreement: policy is a name and an object identifier")
    agreement = Agreement(
        title=expect(fields[2], str, "agreement: title"),
        parties=_parties(fields[3]),
        policy_name=policy[0],
        policy_oid=policy[1],
        classifications=expect_texts(fields[5], "agreement: classifications"),
        categories=read_categories(fields[6], "agreement: categories"),
        communities=expect_texts(fields[7], "agreement: communities"),
        purposes=expect_texts(fields[8], "agreement: purposes"),
        onward_release=expect(fields[9], bool, "agreement: onward release"),
        not_before=expect_time(fields[10], "agreement: not before"),
        not_after=expect_time(fields[11], "agreement: not after"),
        nonce=expect_bytes(fields[12], 16, "agreement: nonce"),
        mappings=_mappings(fields[13]),
    )
    if not agreement.classifications:
        raise Malformed("agreement: no classification is shared", hint="list every classification, lowest to highest")
    if agreement.not_before >= agreement.not_after:
        raise Malformed("agreement: ends before it begins")
    return agreement


def _mappings(value: Any) -> tuple[tuple[bytes, bytes], ...]:
    pairs = []
    for item in expect(value, list, "agreement: mappings"):
        if type(item) is not list or len(item) != 2:
            raise Malformed("agreement: a mapping is two digests of policy files")
        pairs.append((expect_bytes(item[0], 32, "mapping: from"), expect_bytes(item[1], 32, "mapping: to")))
    if pairs != sorted(set(pairs)):
        raise Malformed("agreement: mappings not in ascending order without duplicates")
    return tuple(pairs)


def _parties(value: Any) -> tuple[Party, ...]:
    parties = []
    for item in expect(value, list, "agreement: parties"):
        if type(item) is not list or len(item) != 3:
            raise Malformed("agreement: a party is office, nation and authority key")
        office, nation, kid = item
        parties.append(Party(check_office(office), check_nation(nation), expect_bytes(kid, 32, "agreement: key")))
    if len(parties) < 2:
        raise Malformed("agreement: fewer than two parties")
    if any(left.office >= right.office for left, right in pairwise(parties)):
        raise Malformed("agreement: parties not in ascending order without duplicates")
    return tuple(parties)


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """One party's end of an agreement, effective at once for all."""

    agreement_id: bytes
    office: str
    reason: str
    at: int

    def payload(self) -> bytes:
        return encode({1: 1, 2: self.agreement_id, 3: self.office, 4: self.reason, 5: self.at})


def read_withdrawal(signed: Sign1) -> Withdrawal:
    """Read what was signed; raises Malformed for anything else."""
    fields = read_map(signed.payload, frozenset({1, 2, 3, 4, 5}), frozenset(), "withdrawal")
    expect_version(fields[1], "withdrawal")
    return Withdrawal(
        agreement_id=expect_bytes(fields[2], 32, "withdrawal: agreement"),
        office=check_office(fields[3]),
        reason=expect(fields[4], str, "withdrawal: reason"),
        at=expect_time(fields[5], "withdrawal: time"),
    )
