"""Every time in a signed object is one that a calendar has, and what is shown of times is shown of any."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta, timezone
from types import SimpleNamespace

import pytest

from liaison import render
from liaison.audit.pulled import PulledEntry
from liaison.audit.tally import tally
from liaison.keys import SigningKey
from relay.protocol.agreement import Agreement, Party, Withdrawal, read_agreement, read_withdrawal
from relay.protocol.alarm import Alarm, read_alarm
from relay.protocol.approval import Approval, Approvers, Matter, read_approval, read_approvers
from relay.protocol.audit_scope import AuditGrant, read_audit_grant
from relay.protocol.canonical import LAST_SECOND
from relay.protocol.community import Community, Roster, read_community, read_roster
from relay.protocol.endorsement import Consent, Endorsement, read_consent, read_endorsement
from relay.protocol.entry import AccessEntry, Event
from relay.protocol.envelope import Receipt, read_receipt
from relay.protocol.errors import Malformed
from relay.protocol.hold import Action, Hold, read_hold
from relay.protocol.identity import (
    REQUEST,
    STATEMENT,
    Certificate,
    EnrolmentRequest,
    Kind,
    Revocation,
    Statement,
    parse_request,
    parse_statement,
    read_certificate,
    read_revocation,
)
from relay.protocol.label import Clearance
from relay.protocol.prekey import KeyBatch, KeyPackage, parse_key_package, read_key_batch
from relay.protocol.publication import PublishedPolicy, read_published_policy
from relay.protocol.recall import Recall, read_recall
from relay.protocol.suite import SUITE_1

KEY = SigningKey.generate()
ANNA, OFFICE, ID, REF = "anna.nowak@lo-warsaw", "lo-warsaw", bytes(16), bytes(32)
PARTIES = (Party("lo-paris", "FRA", REF), Party(OFFICE, "POL", REF))


def signed(read):
    return lambda made: read(SimpleNamespace(payload=made.payload(), typ="object", kid=KEY.kid))


# How it is read, one that is right, and its times.
OBJECTS = {
    "statement": (lambda made: parse_statement(KEY.sign_object(STATEMENT, made.payload())), Statement(OFFICE, "POL", 1, KEY.public, REF, 1, ()), ["created"]),
    "request": (lambda made: parse_request(KEY.sign_object(REQUEST, made.payload())), EnrolmentRequest(ANNA, 1, KEY.public, REF, REF, 1), ["created"]),
    "certificate": (signed(read_certificate), Certificate(KEY.device_id, ANNA, Kind.OFFICER, (), (), (), 1, KEY.public, REF, 1, 2, ID), ["not_before", "not_after"]),
    "revocation": (signed(read_revocation), Revocation(ID, ANNA, "lost", 1), ["at"]),
    "grant": (signed(read_audit_grant), AuditGrant(OFFICE, ID, ANNA, 2, 1, KEY.kid), ["not_after", "at"]),
    "key package": (lambda made: parse_key_package(made.encoded()), KeyPackage(ID, SUITE_1.kem_alg, bytes(SUITE_1.kem_public), 1, 2, True, 1), ["not_before", "not_after"]),
    "key batch": (signed(read_key_batch), KeyBatch(KEY.device_id, 1, (REF,)), ["created"]),
    "policy": (signed(read_published_policy), PublishedPolicy(OFFICE, "TEST", "1.2", 1, REF, None, 1), ["published"]),
    "agreement": (lambda made: read_agreement(made.payload()), Agreement("", PARTIES, "TEST", "1.2", ("OPEN",), (), (), (), False, 1, 2, ID), ["not_before", "not_after"]),
    "withdrawal": (signed(read_withdrawal), Withdrawal(REF, OFFICE, "over", 1), ["at"]),
    "community": (signed(read_community), Community(f"convoys@{OFFICE}", ANNA, "", 1), ["created"]),
    "roster": (signed(read_roster), Roster(f"convoys@{OFFICE}", 1, (), 1), ["at"]),
    "endorsement": (signed(read_endorsement), Endorsement(REF, ID, ANNA, 1), ["at"]),
    "consent": (signed(read_consent), Consent(REF, ID, OFFICE, 1), ["not_after"]),
    "receipt": (signed(read_receipt), Receipt(ID, REF, ID, "opened", 1), ["at"]),
    "recall": (signed(read_recall), Recall(ID, ID, False, "wrong label", 1), ["at"]),
    "hold": (signed(read_hold), Hold(Action.PLACE, ID, ID, ANNA, 1, "inquiry"), ["at"]),
    "alarm": (signed(read_alarm), Alarm(ID, 1, REF, "another device", 1), ["at"]),
    "approvers": (lambda made: read_approvers(made.payload()), Approvers(OFFICE, 1, ((Matter.HOLD, 1),), ((ANNA, ID),), 1), ["at"]),
    "approval": (lambda made: read_approval(made.payload()), Approval(Matter.HOLD, REF, ID, ANNA, 1), ["at"]),
}  # fmt: skip
TIMES = [(name, field) for name, (_read, _right, fields) in OBJECTS.items() for field in fields]


@pytest.mark.parametrize(("name", "field"), TIMES)
def test_a_time_that_no_calendar_has_makes_the_object_malformed(name, field):
    read, right, _fields = OBJECTS[name]
    assert read(right) == right
    for beyond in (-1, LAST_SECOND + 1, 1 << 60):
        with pytest.raises(Malformed, match="no time"):
            read(replace(right, **{field: beyond}))


def test_a_clearance_ends_in_a_year_that_a_calendar_has():
    with pytest.raises(Malformed, match="no time"):
        Clearance("TEST", "1.2", ("OPEN",), (), 0, LAST_SECOND + 1)


def test_a_time_beyond_every_calendar_is_shown_as_its_number():
    assert (render.dtg(LAST_SECOND), render.moment(LAST_SECOND)) == ("312359Z DEC 99", "9999-12-31 23:59Z")
    for beyond in (-1, LAST_SECOND + 1, 1 << 60, 1 << 80):
        assert render.dtg(beyond) == render.moment(beyond) == str(beyond)


def test_the_last_second_is_shown_in_every_zone():
    entry = AccessEntry(Event.OPEN, LAST_SECOND * 1000 + 999, ID, ID, ANNA, OFFICE)
    for hours in (-12, 0, 1, 14):
        sums = tally([PulledEntry(0, REF, entry)], timezone(timedelta(hours=hours)), (8, 18))
        assert [day.isoformat() for day in sums.permitted_days] == ["9999-12-31"]
