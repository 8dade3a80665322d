"""Separation of duties: no address and no key both operates and audits; relay and clients refuse it alike."""

from __future__ import annotations

import copy
import time
from dataclasses import replace

import pytest

from acts import run
from liaison.home.founding import found_device
from liaison.keys import SigningKey
from relay.protocol.armor import armor
from relay.protocol.audit_scope import AUDIT_GRANT, AuditGrant
from relay.protocol.community import COMMUNITY, Community
from relay.protocol.cose import format_sign1, parse_sign1, protected_header
from relay.protocol.directory import Directory
from relay.protocol.duties import check_duty
from relay.protocol.entry import Change, parse_directory_entry
from relay.protocol.errors import Conflict, LiaisonError, Malformed, Unknown, Unverified
from relay.protocol.identity import CERTIFICATE, Kind, parse_statement, read_certificate
from test_directory import (
    ANNA,
    JEAN,
    NOW,
    OSLO,
    PARIS,
    START,
    WARSAW,
    _named,
    certificate,
    entry,
    office,
    refuses_unchanged,
    removal,
    request_key,
    revocation,
)
from world import PASSPHRASE, clearance, world

AUDITOR, OTHER = SigningKey.generate(), SigningKey.generate()
AUDIT = "audit@lo-warsaw"
KEYS = {"request_public": request_key(AUDITOR)}


def auditor(device=AUDITOR, address=AUDIT, authority=WARSAW, **fields):
    wanted = {"kind": Kind.AUDITOR, "roles": (), "clearances": (), **fields}
    return certificate(authority, device, address, **wanted)


def officer(device=OTHER, address="ewa@lo-warsaw", authority=WARSAW, **fields):
    return certificate(authority, device, address, **fields)


def community(manager):
    founded = Community("baltic@lo-warsaw", manager, "Baltic", NOW)
    return entry(Change.COMMUNITY, WARSAW.sign_object(COMMUNITY, founded.payload()))


def grant(authority=PARIS, name="lo-paris", device=AUDITOR.device_id, address=AUDIT, until=NOW + 60, at=NOW):
    stated = AuditGrant(name, device, address, until, at, authority.kid)
    return entry(Change.AUDIT_GRANT, authority.sign_object(AUDIT_GRANT, stated.payload()))


def half_of(victim: SigningKey, encoded: bytes, *, lattice: bool) -> bytes:
    """The certificate for a key of which one half is the victim's. No such key has signed a request: Warsaw lies."""
    made = read_certificate(parse_sign1(parse_directory_entry(encoded).payload, CERTIFICATE))
    own, other = made.signature_public, victim.public
    mixed = replace(made, signature_public=(other[:1952] + own[1952:]) if lattice else (own[:1952] + other[1952:]))
    mixed = replace(mixed, device_id=mixed.kid[:16])
    return entry(Change.CERTIFICATE, WARSAW.sign_object(CERTIFICATE, mixed.payload()))


@pytest.fixture
def directory():
    """Anna operates in Warsaw, Jean in Paris, and Warsaw has an auditor."""
    made = Directory()
    for each in (*START, auditor()):
        made.apply(each)
    return made


BOTH = {
    "an officer as auditor": (auditor(OTHER, "anna.nowak@lo-warsaw"), Conflict),
    "a role's address as auditor": (auditor(OTHER, "duty@lo-warsaw"), Conflict),
    "an auditor as officer": (officer(address=AUDIT), Conflict),
    "an auditor as system": (officer(address=AUDIT, kind=Kind.SYSTEM), Conflict),
    "an auditor's address as role": (officer(roles=("audit",)), Conflict),
    "an auditor with a role": (auditor(OTHER, "check@lo-warsaw", roles=("duty",)), Malformed),
    "an auditor with a clearance": (auditor(OTHER, "check@lo-warsaw", clearances=(clearance(),)), Malformed),
    "an officer's request key as an auditor's": (
        auditor(OTHER, "check@lo-warsaw", request_public=request_key(ANNA)),
        Conflict,
    ),
    "an auditor's request key as an officer's": (officer(**KEYS), Conflict),
    "an auditor's request key as an officer's elsewhere": (
        officer(address="luc@lo-paris", authority=PARIS, **KEYS),
        Conflict,
    ),
    "an officer's ML-DSA key as half of an auditor's": (
        half_of(ANNA, auditor(OTHER, "check@lo-warsaw"), lattice=True),
        Conflict,
    ),
    "an officer's Ed25519 key as half of an auditor's": (
        half_of(ANNA, auditor(OTHER, "check@lo-warsaw"), lattice=False),
        Conflict,
    ),
    "an authority's Ed25519 key as an auditor's request key": (
        auditor(OTHER, "check@lo-warsaw", request_public=PARIS.public[1952:]),
        Conflict,
    ),
    "an auditor's signature key as an office's": (office(AUDITOR, "lo-oslo", "NOR"), Conflict),
    "an auditor as manager of a community": (community(AUDIT), Conflict),
}


SHARED = {
    "an officer's request key as another's": (officer(request_public=request_key(ANNA)), Conflict),
    "an officer's request key as another's elsewhere": (
        officer(address="luc@lo-paris", authority=PARIS, request_public=request_key(ANNA)),
        Conflict,
    ),
    "an auditor's request key as another's": (auditor(OTHER, "check@lo-warsaw", **KEYS), Conflict),
    "an officer's Ed25519 key as another's request key": (officer(request_public=ANNA.public[1952:]), Conflict),
    "an authority's request key as an officer's": (officer(request_public=request_key(PARIS)), Conflict),
    "an authority's request key as another office's": (
        office(OSLO, "lo-oslo", "NOR", request_public=request_key(PARIS)),
        Conflict,
    ),
    "an officer's ML-DSA key as half of another's": (half_of(ANNA, officer(), lattice=True), Conflict),
    "an officer's Ed25519 key as half of another's": (half_of(ANNA, officer(), lattice=False), Conflict),
    "an authority's Ed25519 key as half of an officer's": (half_of(PARIS, officer(), lattice=False), Conflict),
    "an officer's own Ed25519 key as request key": (officer(request_public=OTHER.public[1952:]), Malformed),
    "an auditor's own Ed25519 key as request key": (
        auditor(OTHER, "check@lo-warsaw", request_public=OTHER.public[1952:]),
        Malformed,
    ),
    "an authority's own Ed25519 key as request key": (
        office(OSLO, "lo-oslo", "NOR", request_public=OSLO.public[1952:]),
        Malformed,
    ),
}


@pytest.mark.parametrize("what", SHARED)
def test_no_key_is_anybody_elses_nor_both_of_ones_own(directory, what):
    refuses_unchanged(directory, *SHARED[what])


def test_a_key_of_who_was_revoked_or_removed_stays_his_and_the_same_office_comes_back_with_its_own(directory):
    directory.apply(revocation(WARSAW, ANNA))
    with pytest.raises(Conflict, match="another's already"):
        directory.apply(officer(request_public=request_key(ANNA)))
    directory.apply(removal("lo-paris"))
    with pytest.raises(Conflict, match="another's already"):
        directory.apply(office(OSLO, "lo-oslo", "NOR", request_public=request_key(PARIS)))
    directory.apply(office(PARIS, "lo-paris", "FRA"))


@pytest.mark.parametrize("what", BOTH)
def test_nobody_both_operates_and_audits(directory, what):
    refuses_unchanged(directory, *BOTH[what])


def test_a_second_auditor_and_a_second_officer_are_enrolled(directory):
    directory.apply(auditor(OTHER, "check@lo-warsaw"))
    directory.apply(officer(SigningKey.generate()))
    assert directory.audit_scope(OTHER.device_id, NOW) == {"lo-warsaw"}
    assert directory.audit_scope(ANNA.device_id, NOW) == frozenset()


def test_who_changes_sides_is_revoked_first_and_takes_no_key_along(directory):
    directory.apply(revocation(WARSAW, ANNA))
    with pytest.raises(Conflict, match="another's already"):
        directory.apply(auditor(OTHER, "anna.nowak@lo-warsaw", request_public=request_key(ANNA)))
    directory.apply(auditor(OTHER, "anna.nowak@lo-warsaw"))
    with pytest.raises(Conflict, match="nobody does both"):
        directory.apply(officer(SigningKey.generate(), "anna.nowak@lo-warsaw"))


def test_who_manages_a_community_gives_it_away_before_he_audits(directory):
    directory.apply(community("ewa@lo-warsaw"))
    with pytest.raises(Conflict, match="manages a community"):
        directory.apply(auditor(OTHER, "ewa@lo-warsaw"))
    directory.apply(community("anna.nowak@lo-warsaw"))
    directory.apply(auditor(OTHER, "ewa@lo-warsaw"))


def test_a_new_authority_of_the_name_is_not_bound_by_the_old_ones_people(directory):
    directory.apply(removal("lo-warsaw"))
    directory.apply(office(OSLO, "lo-warsaw"))
    directory.apply(auditor(OTHER, "anna.nowak@lo-warsaw", OSLO))


def test_roles_that_many_hold_are_not_walked_over_for_each_who_is_enrolled(directory):
    """An office chooses how many roles a certificate names and how many hold each: its enrolments keep others waiting."""
    roles, named = tuple(f"r{number:04}" for number in range(2000)), parse_directory_entry(officer()).payload
    for role in roles:
        directory.by_role[f"{role}@lo-warsaw"] = [ANNA.device_id] * 500
    enrolled = replace(read_certificate(parse_sign1(named, CERTIFICATE)), roles=roles)
    began = time.process_time()
    for _ in range(10):
        check_duty(directory, enrolled)
    assert time.process_time() - began < 2  # each look at all of them took half a second


GRANTS = {
    "by another office": (grant(WARSAW), Unverified),
    "in another's name": (_named(PARIS, WARSAW, AUDIT_GRANT, grant()), Unverified),
    "by an office that is not there": (grant(OSLO, "lo-oslo"), Unknown),
    "to an officer": (grant(device=JEAN.device_id, address="jean.petit@lo-paris"), Unknown),
    "to an authority": (grant(device=WARSAW.device_id, address="authority@lo-warsaw"), Unknown),
    "to a device that is not there": (grant(device=bytes(16)), Unknown),
    "to a device under another address": (grant(address="check@lo-warsaw"), Unknown),
    "to no address": (grant(address="audit"), Malformed),
}


@pytest.mark.parametrize("what", GRANTS)
def test_a_grant_does_not_hold(directory, what):
    refuses_unchanged(directory, *GRANTS[what])


def test_a_grant_alone_is_nothing_and_neither_is_a_term(directory):
    directory.apply(grant())
    assert directory.audit_scope(AUDITOR.device_id, NOW) == {"lo-warsaw"}  # the certificate asks for nothing more
    directory.apply(auditor(OTHER, "check@lo-warsaw", scope=("lo-paris",)))
    assert directory.audit_scope(OTHER.device_id, NOW) == {"lo-warsaw"}
    directory.apply(grant(device=OTHER.device_id, address="check@lo-warsaw"))
    assert directory.audit_scope(OTHER.device_id, NOW) == {"lo-paris", "lo-warsaw"}


@pytest.mark.parametrize(
    ("scope", "nation", "covered"),
    [
        (("lo-paris",), "FRA", True),
        (("nation:FRA",), "FRA", True),
        (("*",), "FRA", True),
        (("*", "lo-oslo", "nation:NOR"), "FRA", True),
        (("lo-pari",), "FRA", False),
        (("nation:FR",), "FRA", False),
        (("nation:FRA",), "FR", False),
        (("nation:POL",), "FRA", False),
    ],
)
def test_a_term_covers_an_office_its_nation_or_all(scope, nation, covered):
    made = Directory()
    for each in (office(WARSAW, "lo-warsaw"), office(PARIS, "lo-paris", nation), auditor(scope=scope), grant()):
        made.apply(each)
    assert ("lo-paris" in made.audit_scope(AUDITOR.device_id, NOW)) is covered


@pytest.mark.parametrize("term", ["nation:", "nation:pol", "nation:*", "**", "", "POL", "*:lo-paris", "Nation:POL"])
def test_an_unknown_term_is_malformed(term):
    with pytest.raises(Malformed):
        Directory().apply(auditor(scope=(term,)))


def test_a_grant_lapses_at_its_end_with_the_device_and_with_either_authority(directory):
    directory.apply(auditor(OTHER, "check@lo-warsaw", scope=("*",)))
    directory.apply(grant(device=OTHER.device_id, address="check@lo-warsaw"))
    assert directory.audit_scope(OTHER.device_id, NOW + 59) == {"lo-paris", "lo-warsaw"}
    assert directory.audit_scope(OTHER.device_id, NOW + 60) == {"lo-warsaw"}
    for end in (removal("lo-paris"), removal("lo-warsaw"), revocation(WARSAW, OTHER, "check@lo-warsaw")):
        ended = copy.deepcopy(directory)
        ended.apply(end)
        assert "lo-paris" not in ended.audit_scope(OTHER.device_id, NOW)
    directory.apply(removal("lo-paris"))
    directory.apply(office(OSLO, "lo-paris", "FRA"))  # another key has granted nothing
    assert directory.audit_scope(OTHER.device_id, NOW) == {"lo-warsaw"}


def test_the_relay_refuses_what_the_directory_refuses(tmp_path):
    with world(tmp_path) as built:
        built.office("lo-warsaw", "POL")
        built.device("anna.nowak@lo-warsaw")
        with pytest.raises(LiaisonError, match="nobody does both"):
            built.device("anna.nowak@lo-warsaw", kind=Kind.AUDITOR, clearances=[], name="second")
        statement = (built.statements["lo-warsaw"], parse_statement(built.statements["lo-warsaw"]))
        request = found_device(tmp_path / "third", AUDIT, built.url, built.relay.vkeys, statement, PASSPHRASE)
        (tmp_path / "third.request").write_text(armor(request, "REQUEST"))
        words = ("authority", "enrol", str(tmp_path / "third.request"), "--kind", "auditor")
        refused = run(built.authorities["lo-warsaw"], *words, "--role", "security")
        assert (refused.exit_code, "neither a role nor a clearance" in refused.output) == (1, True)
        assert run(built.authorities["lo-warsaw"], *words).exit_code == 0


def test_a_lying_signature_is_still_the_first_thing_that_is_refused(directory):
    """Duty is judged of what the authority signed: an unsigned certificate marks no key as anybody's."""
    honest = parse_sign1(parse_directory_entry(auditor(OTHER, "check@lo-warsaw")).payload, CERTIFICATE)
    forged = format_sign1(protected_header(honest.alg, honest.kid, CERTIFICATE), honest.payload, bytes(3373))
    before = copy.deepcopy(directory)
    with pytest.raises(Unverified):
        directory.apply(entry(Change.CERTIFICATE, forged))
    assert directory == before
