"""The directory replays what authorities signed, and refuses everything else without changing."""

from __future__ import annotations

import copy
import hashlib
import time
from dataclasses import replace

import pytest

from liaison.keys import SigningKey
from relay.protocol.agreement import AGREEMENT, WITHDRAWAL, Agreement, Party, Withdrawal
from relay.protocol.canonical import encode
from relay.protocol.community import COMMUNITY, ROSTER, Community, Roster
from relay.protocol.cose import format_sign1, parse_sign1, protected_header
from relay.protocol.directory import Directory
from relay.protocol.entry import Change, DirectoryEntry, parse_directory_entry
from relay.protocol.errors import Conflict, LiaisonError, Malformed, Unknown, Unverified
from relay.protocol.identity import CERTIFICATE, REVOCATION, STATEMENT, Certificate, Kind, Revocation, Statement
from relay.protocol.publication import POLICY, PublishedPolicy
from world import POLICY_NAME, POLICY_OID, clearance

NOW = int(time.time())
WARSAW, PARIS, OSLO = (SigningKey.generate() for _ in range(3))
ANNA, JEAN, ROGUE = (SigningKey.generate() for _ in range(3))
ADDRESS = {ANNA.device_id: "anna.nowak@lo-warsaw", JEAN.device_id: "jean.petit@lo-paris"}


def entry(change, payload, at=0):
    return DirectoryEntry(change, NOW * 1000 + at, bytes(16), payload).encoded()


def request_key(device):
    return hashlib.sha256(device.public).digest()


def office(key, name, nation="POL", request_public=None):
    statement = Statement(name, nation, 1, key.public, request_public or request_key(key), NOW, ())
    return entry(Change.OFFICE, key.sign_object(STATEMENT, statement.payload()))


def certificate(authority, device, address, **fields):
    made = Certificate(
        device_id=device.device_id,
        address=address,
        kind=Kind.OFFICER,
        roles=("duty",),
        clearances=(clearance(),),
        scope=(),
        suite=1,
        signature_public=device.public,
        request_public=request_key(device),
        not_before=NOW - 60,
        not_after=NOW + 86400,
        serial=bytes(16),
    )
    return entry(Change.CERTIFICATE, authority.sign_object(CERTIFICATE, replace(made, **fields).payload()))


def revocation(authority, device, address=None):
    stated = Revocation(device.device_id, address or ADDRESS[device.device_id], "lost", NOW)
    return entry(Change.REVOCATION, authority.sign_object(REVOCATION, stated.payload()))


def policy(authority, name="lo-warsaw", version=1, digest=bytes(32)):
    published = PublishedPolicy(name, POLICY_NAME, POLICY_OID, version, digest, None, NOW)
    return entry(Change.POLICY, authority.sign_object(POLICY, published.payload()))


AGREED = Agreement(
    title="Warsaw and Paris",
    parties=(Party("lo-paris", "FRA", PARIS.kid), Party("lo-warsaw", "POL", WARSAW.kid)),
    policy_name=POLICY_NAME,
    policy_oid=POLICY_OID,
    classifications=("OPEN",),
    categories=(),
    communities=(),
    purposes=(),
    onward_release=False,
    not_before=NOW - 60,
    not_after=NOW + 86400,
    nonce=bytes(16),
)


def agreement(authority, agreed=AGREED):
    return entry(Change.AGREEMENT, authority.sign_object(AGREEMENT, agreed.payload()))


def withdrawal(authority, name, agreed=AGREED):
    stated = Withdrawal(agreed.agreement_id, name, "over", NOW)
    return entry(Change.WITHDRAWAL, authority.sign_object(WITHDRAWAL, stated.payload()))


def community(authority, name):
    founded = Community(name, "anna.nowak@lo-warsaw", "Convoys", NOW)
    return entry(Change.COMMUNITY, authority.sign_object(COMMUNITY, founded.payload()))


def roster(manager, name, version, members):
    return entry(Change.ROSTER, manager.sign_object(ROSTER, Roster(name, version, tuple(members), NOW).payload()))


def batch(device_id, digest=bytes(32)):
    return entry(Change.KEY_BATCH, encode([device_id, digest]))


def removal(name):
    return entry(Change.OFFICE_REMOVED, encode([name]))


START = [
    office(WARSAW, "lo-warsaw"),
    office(PARIS, "lo-paris", "FRA"),
    certificate(WARSAW, ANNA, "anna.nowak@lo-warsaw"),
    certificate(PARIS, JEAN, "jean.petit@lo-paris"),
    policy(WARSAW, version=2),
    agreement(WARSAW),
]


@pytest.fixture
def directory():
    made = Directory()
    for each in START:
        made.apply(each)
    return made


def _named(named, signer, typ, encoded):
    """The entry's object signed by one key under the name of another."""
    payload = parse_sign1(parse_directory_entry(encoded).payload, typ).payload
    honest = parse_sign1(signer.sign_object(typ, payload), typ)
    lie = format_sign1(protected_header(honest.alg, named.kid, typ), payload, honest.signature)
    return replace(parse_directory_entry(encoded), payload=lie).encoded()


def redated(encoded, milliseconds):
    return replace(parse_directory_entry(encoded), time=NOW * 1000 + milliseconds).encoded()


DEVICE = SigningKey.generate()
REFUSED = {
    "an entry dated back": (redated(batch(ANNA.device_id), -60_001), Unverified),
    "an office twice": (office(WARSAW, "lo-warsaw"), Conflict),
    "an office under a name that is taken": (office(ROGUE, "lo-warsaw"), Conflict),
    "an office of a device's key": (office(ANNA, "lo-oslo", "NOR"), Conflict),
    "an office of another's key": (office(WARSAW, "lo-oslo", "NOR"), Conflict),
    "a statement by another key": (_named(OSLO, ROGUE, STATEMENT, office(OSLO, "lo-oslo")), Unverified),
    "the removal of nobody": (removal("lo-oslo"), Unknown),
    "a removal that is none": (entry(Change.OFFICE_REMOVED, encode(["LO OSLO"])), Malformed),
    "a certificate of an office that is not there": (certificate(OSLO, DEVICE, "olav@lo-oslo"), Unknown),
    "a certificate by another office": (certificate(PARIS, DEVICE, "ewa@lo-warsaw"), Unverified),
    "a certificate by nobody": (certificate(ROGUE, DEVICE, "ewa@lo-warsaw"), Unverified),
    "a certificate in another's name": (
        _named(WARSAW, ROGUE, CERTIFICATE, certificate(WARSAW, DEVICE, "ewa@lo-warsaw")),
        Unverified,
    ),
    "a device twice": (certificate(WARSAW, ANNA, "anna.nowak@lo-warsaw"), Conflict),
    "another's device under an own address": (certificate(WARSAW, JEAN, "jean@lo-warsaw"), Conflict),
    "a person at the authority's address": (certificate(WARSAW, DEVICE, "authority@lo-warsaw"), Malformed),
    "a person who is his own role": (certificate(WARSAW, DEVICE, "duty@lo-warsaw"), Malformed),
    "a revocation of nobody": (revocation(WARSAW, DEVICE, "ewa@lo-warsaw"), Unknown),
    "a revocation under another address": (revocation(WARSAW, ANNA, "ewa@lo-warsaw"), Unknown),
    "a revocation by another office": (revocation(PARIS, ANNA), Unverified),
    "a revocation in another's name": (_named(WARSAW, PARIS, REVOCATION, revocation(WARSAW, ANNA)), Unverified),
    "a revocation by the device itself": (revocation(ANNA, ANNA), Unverified),
    "a revocation of an authority": (revocation(WARSAW, WARSAW, "authority@lo-warsaw"), Unknown),
    "a policy for another office": (policy(PARIS, "lo-warsaw", 3), Unverified),
    "an older policy": (policy(WARSAW, version=1), Conflict),
    "another text under one version": (policy(WARSAW, version=2, digest=b"\1" * 32), Conflict),
    "a policy of an office that is not there": (policy(OSLO, "lo-oslo"), Unknown),
    "an agreement signed by none of its parties": (agreement(ROGUE), Unverified),
    "an agreement signed in a party's name": (_named(PARIS, ROGUE, AGREEMENT, agreement(PARIS)), Unverified),
    "an agreement that one party signs twice": (agreement(WARSAW), Conflict),
    "an agreement whose party has another key here": (
        agreement(ROGUE, replace(AGREED, parties=(AGREED.parties[0], Party("lo-warsaw", "POL", ROGUE.kid)))),
        Unverified,
    ),
    "an agreement of an office that is not there": (
        agreement(OSLO, replace(AGREED, parties=(Party("lo-oslo", "NOR", OSLO.kid), AGREED.parties[1]))),
        Unknown,
    ),
    "a withdrawal from nothing": (withdrawal(PARIS, "lo-paris", replace(AGREED, title="Other")), Unknown),
    "a withdrawal by an outsider": (withdrawal(OSLO, "lo-oslo"), Unknown),
    "a withdrawal for another party": (withdrawal(PARIS, "lo-warsaw"), Unverified),
    "a key batch of nobody": (batch(DEVICE.device_id), Unknown),
    "a key batch of another size": (batch(ANNA.device_id, bytes(31)), Malformed),
    "an object of another type": (
        entry(Change.CERTIFICATE, parse_directory_entry(revocation(WARSAW, ANNA)).payload),
        Malformed,
    ),
    "a change that is unknown": (encode([1, "promotion", 0, bytes(16), b""]), Malformed),
    "an entry of another version": (encode([2, "office", 0, bytes(16), b""]), Malformed),
    "a change that is a list": (encode([1, ["office"], 0, bytes(16), b""]), Malformed),
    "a version that is a truth value": (encode([True, "office", 0, bytes(16), b""]), Malformed),
    "an entry without salt": (encode([1, "office", 0, b"", b""]), Malformed),
    "no entry": (b"", Malformed),
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_directory_refuses_and_does_not_change_for(directory, what):
    refuses_unchanged(directory, *REFUSED[what])


def refuses_unchanged(directory, entry, problem):
    before = copy.deepcopy(directory)
    with pytest.raises(problem):
        directory.apply(entry)
    assert directory == before


def test_every_octet_of_an_entry_matters(directory):
    """No bit of a signed certificate can be changed; of the whole entry only the relay's own time and salt."""
    honest = certificate(WARSAW, DEVICE, "ewa@lo-warsaw")
    for place in range(60, len(honest), 97):
        changed = honest[:place] + bytes([honest[place] ^ 1]) + honest[place + 1 :]
        with pytest.raises(LiaisonError):
            copy.deepcopy(directory).apply(changed)
    directory.apply(honest)


def test_an_agreement_is_in_force_when_every_party_has_signed_and_ends_with_the_first_that_withdraws(directory):
    (state,) = directory.agreements_between("lo-warsaw", "lo-paris")
    assert not state.is_in_force
    directory.apply(agreement(PARIS))
    assert state.is_in_force
    directory.apply(withdrawal(PARIS, "lo-paris"))
    assert not state.is_in_force
    directory.apply(withdrawal(WARSAW, "lo-warsaw"))  # the other may say so too
    for again in (agreement(PARIS), agreement(WARSAW)):
        with pytest.raises(Conflict):
            directory.apply(again)


def test_trust_begins_with_the_own_authority_and_reaches_whom_it_has_signed_with(directory):
    assert directory.trusted_kids(WARSAW.kid) == {WARSAW.kid: "lo-warsaw", PARIS.kid: "lo-paris"}
    assert directory.trusted_kids(PARIS.kid) == {PARIS.kid: "lo-paris"}  # has not signed
    assert directory.trusted_kids(ROGUE.kid) == {}


def test_a_revoked_device_does_not_act_and_cannot_come_back(directory):
    assert directory.device(ANNA.device_id, NOW) is not None
    assert [each.device_id for each in directory.devices_of("duty@lo-warsaw", NOW)] == [ANNA.device_id]
    directory.apply(revocation(WARSAW, ANNA))
    directory.apply(revocation(WARSAW, ANNA))  # said twice is said once
    assert directory.device(ANNA.device_id, NOW) is None
    assert directory.devices_of("duty@lo-warsaw", NOW) == directory.devices_of("anna.nowak@lo-warsaw", NOW) == []
    with pytest.raises(Conflict):
        directory.apply(certificate(WARSAW, ANNA, "anna.nowak@lo-warsaw"))


@pytest.mark.parametrize(("offset", "may_act"), [(-61, False), (-60, True), (86399, True), (86400, False)])
def test_a_device_acts_within_its_certificate_only(directory, offset, may_act):
    assert (directory.device(ANNA.device_id, NOW + offset) is not None) is may_act


def test_a_removed_office_has_no_devices_and_a_new_authority_does_not_inherit_them(directory):
    directory.apply(agreement(PARIS))
    directory.apply(removal("lo-warsaw"))
    assert directory.device(ANNA.device_id, NOW) is None
    assert directory.device(WARSAW.device_id, NOW) is None
    assert directory.agreements_between("lo-warsaw", "lo-paris") == []
    directory.apply(office(ROGUE, "lo-warsaw"))
    assert directory.device(ANNA.device_id, NOW) is None
    assert directory.agreements_between("lo-warsaw", "lo-paris") == []  # it names another key
    assert directory.trusted_kids(PARIS.kid) == {PARIS.kid: "lo-paris", WARSAW.kid: "lo-warsaw"}
    with pytest.raises(LiaisonError):  # nor can it speak for the old one's devices
        directory.apply(revocation(ROGUE, ANNA))


def test_a_policy_is_found_by_name_and_identifier_together(directory):
    assert directory.policy_of("lo-warsaw", POLICY_NAME, POLICY_OID).version == 2
    assert directory.policy_of("lo-warsaw", "OTHER", POLICY_OID) is None
    assert directory.policy_of("lo-paris", POLICY_NAME, POLICY_OID) is None
    directory.apply(policy(WARSAW, version=3))
    assert directory.policy_of("lo-warsaw", POLICY_NAME, POLICY_OID).version == 3


def test_replaying_the_entries_gives_the_same_directory(directory):
    again = Directory()
    for each in START:
        again.apply(each)
    assert again == directory
    assert again.size == len(START)


def test_of_what_a_third_office_drafts_two_others_find_nothing_until_one_of_them_has_signed(directory):
    directory.apply(office(OSLO, "lo-oslo", "NOR"))
    three = replace(AGREED, parties=(Party("lo-oslo", "NOR", OSLO.kid), *AGREED.parties))

    def found(*offices):
        return [state.agreement for state in directory.agreements_between(*offices)]

    directory.apply(agreement(OSLO, three))
    assert found("lo-warsaw", "lo-paris") == [AGREED]
    assert found("lo-oslo", "lo-paris") == [three]
    directory.apply(agreement(PARIS, three))
    assert found("lo-warsaw", "lo-paris") == [AGREED, three]
    directory.apply(withdrawal(WARSAW, "lo-warsaw", three))  # before all had signed: it never held
    assert (found("lo-warsaw", "lo-paris"), found("lo-oslo", "lo-paris")) == ([AGREED], [])


def test_what_held_once_is_found_for_ever(directory):
    directory.apply(agreement(PARIS))
    directory.apply(withdrawal(PARIS, "lo-paris"))
    assert [state.agreement for state in directory.agreements_between("lo-paris", "lo-warsaw")] == [AGREED]


def test_whose_roster_names_an_address_is_found_among_the_named_the_oldest_first(directory):
    names = ["b@lo-warsaw", "a@lo-warsaw", "c@lo-warsaw"]
    for name in (*names, names[0]):  # the last once more, with another manager or title
        directory.apply(community(WARSAW, name))
    for version, members in ((1, ["jean.petit@lo-paris"]), (2, ["anna.nowak@lo-warsaw", "jean.petit@lo-paris"])):
        for name in names:
            directory.apply(roster(ANNA, name, version, members))
    directory.apply(roster(ANNA, "c@lo-warsaw", 3, ["anna.nowak@lo-warsaw"]))
    assert directory.communities_of("jean.petit@lo-paris", {*names}) == names[:2]
    assert directory.communities_of("anna.nowak@lo-warsaw", {*names[1:], "d@lo-warsaw"}) == names[1:]
    assert directory.communities_of("nobody@lo-paris", {*names}) == []
