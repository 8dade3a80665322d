"""What takes M of N named people: the directory replays it, so neither an authority, an operator nor a relay skips it."""

from __future__ import annotations

import copy
import time
from dataclasses import replace

import pytest

from liaison.approving import read_asked
from liaison.keys import SigningKey
from relay.protocol.approval import APPROVAL, APPROVERS, Approval, Approvers, Matter, list_ref
from relay.protocol.armor import armor
from relay.protocol.canonical import encode
from relay.protocol.cose import parse_sign1
from relay.protocol.directory import Directory
from relay.protocol.entry import Change, parse_directory_entry
from relay.protocol.errors import Conflict, Malformed, Refused, Unverified
from relay.protocol.identity import CERTIFICATE, STATEMENT
from test_directory import NOW, PARIS, WARSAW, certificate, entry, office, redated, removal, revocation
from world import clearance

EWA, OLA, JAN, LUC, NEW, SPARE, LATE = (SigningKey.generate() for _ in range(7))
NAMES = {EWA: "ewa@lo-warsaw", OLA: "ola@lo-warsaw", JAN: "jan@lo-warsaw", LUC: "luc@lo-paris", NEW: "new@lo-warsaw"}
START = [
    office(WARSAW, "lo-warsaw"),
    office(PARIS, "lo-paris", "FRA"),
    *(certificate(WARSAW, key, NAMES[key]) for key in (EWA, OLA, JAN)),
    certificate(PARIS, LUC, NAMES[LUC]),
]


def listed(*people, version=1, of="lo-warsaw", **needed) -> Approvers:
    chosen = needed or {"enrolment": 2}
    rows = tuple(sorted((Matter(name), count) for name, count in chosen.items()))
    return Approvers(of, version, rows, tuple(sorted((NAMES[key], key.device_id) for key in people)), NOW)


def named(approvers, *approvals, signer=WARSAW):
    signed = signer.sign_object(APPROVERS, approvers.payload())
    return with_approvals(entry(Change.APPROVERS, signed), *approvals)


def with_approvals(encoded, *approvals):
    return replace(parse_directory_entry(encoded), approvals=approvals).encoded()


def yes(key, encoded, matter=Matter.ENROLMENT, **fields):
    """This key's approval of what an entry brings."""
    payload, change = parse_directory_entry(encoded).payload, parse_directory_entry(encoded).change
    typ = STATEMENT if change is Change.OFFICE else change.value
    ref = list_ref(payload) if change is Change.RELAY_APPROVERS else parse_sign1(payload, typ).ref
    stated = Approval(matter, ref, key.device_id, NAMES[key], NOW)
    return key.sign_object(APPROVAL, replace(stated, **fields).payload())


@pytest.fixture
def directory():
    made = Directory()
    for each in [*START, named(listed(EWA, OLA, JAN))]:
        made.apply(each)
    return made


OFFICER = certificate(WARSAW, NEW, "new@lo-warsaw", roles=("security",))


def test_a_security_officer_is_enrolled_with_two_approvals_of_three(directory):
    directory.apply(with_approvals(OFFICER, yes(EWA, OFFICER), yes(JAN, OFFICER)))
    assert directory.device(NEW.device_id, NOW).certificate.roles == ("security",)


def test_approvals_that_are_too_old_today_do_not_count_by_dating_their_entry_back(directory):
    directory.apply(redated(certificate(WARSAW, LATE, "late@lo-warsaw"), 8 * 86400 * 1000))
    approved = with_approvals(OFFICER, yes(EWA, OFFICER), yes(JAN, OFFICER))
    with pytest.raises(Unverified, match="dated before"):
        directory.apply(approved)
    assert directory.device(NEW.device_id, NOW) is None


def test_who_approves_sees_the_categories_of_a_clearance_and_when_it_holds(directory):
    secret = replace(clearance(["OPEN"], ["AMBER"], ["FRA", "POL"]), not_before=NOW - 99, not_after=NOW + 99 * 86400)
    short = replace(clearance(["SEALED"]), policy_name="OTHER", policy_oid="1.2.3", not_before=NOW, not_after=NOW + 99)
    encoded = certificate(WARSAW, NEW, "new@lo-warsaw", roles=("security",), clearances=(secret, short))
    asked = read_asked(armor(parse_directory_entry(encoded).payload, "CERTIFICATE").encode(), directory)
    day = time.strftime("%Y-%m-%d", time.gmtime(NOW + 99))
    told = f"TEST OPEN (Codeword AMBER; Releasable To FRA, POL); OTHER SEALED until {day}; certified until"
    assert f"cleared for {told}" in asked.lines[1]


def test_anybody_else_is_enrolled_by_the_authority_alone(directory):
    directory.apply(certificate(WARSAW, NEW, "new@lo-warsaw"))


def _by_somebody_else(encoded):
    """Jan's statement, signed with another key."""
    stated = Approval(Matter.ENROLMENT, b"", JAN.device_id, NAMES[JAN], NOW)
    ref = parse_sign1(parse_directory_entry(encoded).payload, CERTIFICATE).ref
    return SPARE.sign_object(APPROVAL, replace(stated, ref=ref).payload())


OTHER = certificate(WARSAW, NEW, "new@lo-warsaw", roles=("security",), serial=b"\1" * 16)
SECOND = certificate(WARSAW, NEW, NAMES[EWA], roles=("security",))
NOT_ENOUGH = {
    "no approval": (OFFICER, [], Refused),
    "one": (OFFICER, [yes(EWA, OFFICER)], Refused),
    "one person twice": (OFFICER, [yes(EWA, OFFICER), yes(EWA, OFFICER, at=NOW - 1)], Refused),
    "an approval of another certificate": (OFFICER, [yes(EWA, OFFICER), yes(JAN, OTHER)], Unverified),
    "an approval for another matter": (OFFICER, [yes(EWA, OFFICER), yes(JAN, OFFICER, matter=Matter.HOLD)], Unverified),
    "a person whom nobody named": (OFFICER, [yes(EWA, OFFICER), yes(LUC, OFFICER)], Unverified),
    "a name without its device": (OFFICER, [yes(EWA, OFFICER), yes(LUC, OFFICER, address=NAMES[JAN])], Unverified),
    "another's signature": (OFFICER, [yes(EWA, OFFICER), _by_somebody_else(OFFICER)], Unverified),
    "an approval of eight days ago": (OFFICER, [yes(EWA, OFFICER), yes(JAN, OFFICER, at=NOW - 8 * 86400)], Unverified),
    "an approval of tomorrow": (OFFICER, [yes(EWA, OFFICER), yes(JAN, OFFICER, at=NOW + 86400)], Unverified),
    "one of one's own": (SECOND, [yes(EWA, SECOND), yes(JAN, SECOND)], Unverified),
}


@pytest.mark.parametrize("what", NOT_ENOUGH)
def test_a_security_officer_is_not_enrolled_with(directory, what):
    enrolled, approvals, problem_ = NOT_ENOUGH[what]
    before = copy.deepcopy(directory)
    with pytest.raises(problem_):
        directory.apply(with_approvals(enrolled, *approvals))
    assert directory == before


def test_the_approval_of_one_who_was_revoked_does_not_count(directory):
    approvals = [yes(EWA, OFFICER), yes(JAN, OFFICER)]
    directory.apply(revocation(WARSAW, JAN, NAMES[JAN]))
    with pytest.raises(Unverified, match="no longer valid"):
        directory.apply(with_approvals(OFFICER, *approvals))


def test_an_authority_cannot_certify_itself_a_quorum(directory):
    """Whoever holds the authority's key makes devices under the approvers' names; the list names other devices."""
    for key, name in ((SPARE, NAMES[OLA]), (NEW, NAMES[JAN])):
        directory.apply(certificate(WARSAW, key, name))
    officer = certificate(WARSAW, SigningKey.generate(), "mole@lo-warsaw", roles=("security",))
    ref = parse_sign1(parse_directory_entry(officer).payload, CERTIFICATE).ref
    forged = [
        key.sign_object(APPROVAL, Approval(Matter.ENROLMENT, ref, key.device_id, name, NOW).payload())
        for key, name in ((SPARE, NAMES[OLA]), (NEW, NAMES[JAN]))
    ]
    with pytest.raises(Unverified, match="not named"):
        directory.apply(with_approvals(officer, *forged))


def test_a_list_is_changed_by_its_own_people_and_nobody_else(directory):
    fresh = listed(OLA, version=2, enrolment=1)
    for approvals in ([], [yes(OLA, named(fresh), Matter.APPROVERS)]):
        with pytest.raises(Refused, match="takes the approval of 2"):
            directory.apply(named(fresh, *approvals))
    directory.apply(named(fresh, *(yes(key, named(fresh), Matter.APPROVERS) for key in (EWA, JAN))))
    directory.apply(with_approvals(OFFICER, yes(OLA, OFFICER)))


def test_a_change_of_the_list_takes_what_its_hardest_matter_takes():
    directory = Directory()
    for each in [*START, named(listed(EWA, OLA, JAN, enrolment=1, hold=3))]:
        directory.apply(each)
    fresh = named(listed(EWA, version=2, enrolment=1))
    with pytest.raises(Refused, match="takes the approval of 3"):
        directory.apply(named(listed(EWA, version=2, enrolment=1), yes(EWA, fresh, Matter.APPROVERS)))


BAD_LISTS = {
    "of another office's people": (named(listed(EWA, LUC)), Refused),
    "signed by another authority": (named(listed(EWA, OLA), signer=PARIS), Unverified),
    "signed by one of its people": (named(listed(EWA, OLA), signer=EWA), Unverified),
    "of more approvals than people": (named(listed(EWA, OLA, enrolment=3)), Malformed),
    "of no approval": (named(listed(EWA, OLA, enrolment=0)), Malformed),
    "of nobody": (named(listed()), Malformed),
    "with a matter twice": (named(replace(listed(EWA, OLA), needed=((Matter.HOLD, 1), (Matter.HOLD, 2)))), Malformed),
    "for the relay's matter": (named(listed(EWA, OLA, admission=2)), Malformed),
    "that skips a version": (named(listed(EWA, OLA, version=2)), Conflict),
    "of a device that is not there": (named(replace(listed(EWA), people=((NAMES[EWA], NEW.device_id),), needed=((Matter.HOLD, 1),))), Refused),
    "brought by the relay": (entry(Change.RELAY_APPROVERS, listed(EWA, OLA).payload()), Unverified),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_LISTS)
def test_no_list_holds(what):
    directory = Directory()
    for each in START:
        directory.apply(each)
    before = copy.deepcopy(directory)
    refused, problem_ = BAD_LISTS[what]
    with pytest.raises(problem_):
        directory.apply(refused)
    assert directory == before


def test_a_list_outlives_the_removal_of_its_office_under_the_same_authority(directory):
    directory.apply(removal("lo-warsaw"))
    directory.apply(office(WARSAW, "lo-warsaw"))
    with pytest.raises(Refused, match="has 0"):
        directory.apply(OFFICER)


def admission_list(*people, version=1, needed=2):
    return entry(Change.RELAY_APPROVERS, listed(*people, of="", version=version, admission=needed).payload())


def test_once_the_relay_has_approvers_its_operator_admits_nobody_alone_and_changes_no_list_alone(directory):
    directory.apply(admission_list(EWA, LUC))
    oslo = office(NEW, "lo-oslo", "NOR")
    for approvals in ([], [yes(EWA, oslo, Matter.ADMISSION)]):
        with pytest.raises(Refused, match="has"):
            directory.apply(with_approvals(oslo, *approvals))
    fresh = admission_list(EWA, version=2, needed=1)
    with pytest.raises(Refused):
        directory.apply(fresh)
    directory.apply(with_approvals(oslo, yes(EWA, oslo, Matter.ADMISSION), yes(LUC, oslo, Matter.ADMISSION)))
    directory.apply(with_approvals(fresh, *(yes(key, fresh, Matter.APPROVERS) for key in (EWA, LUC))))
    assert "lo-oslo" in directory.offices
    assert directory.approvers_of("").version == 2


def test_an_empty_list_of_approvals_is_another_spelling_and_refused(directory):
    fields = parse_directory_entry(OFFICER)
    spelled = encode([1, fields.change.value, fields.time, fields.salt, fields.payload, []])
    with pytest.raises(Malformed, match="expected 1 to 8"):
        directory.apply(spelled)
