"""A newer version of a policy: what was sent before it stays readable, what is sent after it meets it."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from acts import gets_nothing, no_rules_at_the_relay
from forge import Forge, problem
from liaison.labels import LabelReader
from liaison.passing import derived_label
from liaison.render import SYSTEM_HIGH
from relay.protocol.access import Judge
from relay.protocol.aggregate import join
from relay.protocol.envelope import parse_message
from relay.protocol.errors import Refused
from relay.protocol.label import Category, Label, PolicyRef, TagType
from relay.protocol.spif import read_spif
from world import POLICY_NAME, POLICY_OID, TEST_SPIF, clearance, world

RELEASED = "TEST CLOSED RELEASABLE TO FRA"
V2 = TEST_SPIF.replace(b' version="1"', b' version="2"')
FRA = b'name="FRA" lacv="2"'
OBSOLETE = V2.replace(FRA, FRA + b' obsolete="true"')
TWO_PERSONS = b'two_person_release_from = "CLOSED"\n'


def from_now(spif: bytes) -> bytes:
    began = datetime.fromtimestamp(time.time() - 1, UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
    return spif.replace(b' version="2"', b' version="2" notBefore="' + began + b'"')


@pytest.fixture
def office(tmp_path):
    """Its authority, Anna who sends and Jean who reads."""
    with world(tmp_path) as built:
        authority = built.office("lo-warsaw", "POL")
        for name in ("anna", "jean"):
            built.device(f"{name}@lo-warsaw", clearances=[clearance(nations=["POL", "FRA"])])
        for client in built.clients.values():
            client.sync()
        yield authority, *built.clients.values()


def later(spif: bytes, begins_now: bool) -> bytes:
    if begins_now:
        time.sleep(2.1)  # or it would begin before what was sent
    return from_now(spif) if begins_now else spif


@pytest.mark.parametrize(
    ("spif", "extensions", "begins_now"),
    [
        (OBSOLETE, None, False),
        (V2, None, True),
        (TEST_SPIF, TWO_PERSONS, False),
        (V2, b'recovery_addressee = "safe@lo-warsaw"\n', False),
    ],
    ids=["obsolete", "begins now", "two persons", "recovery"],
)
def test_what_was_sent_before_a_stricter_version_is_read(office, spif, extensions, begins_now):
    authority, anna, jean = office
    sent = anna.send(["jean@lo-warsaw"], label=RELEASED, body="x")
    authority.publish_policy(later(spif, begins_now), extensions)
    assert jean.read(sent.message_id).portions[0].text == "x"


def test_a_version_under_which_the_label_is_none_ends_reading_at_the_relay_and_nothing_is_logged_as_opened(office):
    authority, anna, jean = office
    sent = anna.send(["jean@lo-warsaw"], label="TEST CLOSED", body="x")
    authority.publish_policy(V2, b'absent = { "Releasable To" = "invalid" }\n')
    assert gets_nothing(jean, sent.message_id)


def test_what_is_sealed_under_one_version_and_posted_under_another_meets_both(office):
    authority, anna, _jean = office
    forge = Forge(anna).prepare("jean@lo-warsaw", label="TEST CLOSED")
    before, anew = forge.seal(readers=forge.claim()), forge.claim()
    authority.publish_policy(TEST_SPIF, TWO_PERSONS)
    assert problem(forge.post(before.encoded()))["rules"] == ["two-person-release"]
    anna.sync()
    strict = forge.seal(readers=anew)
    authority.publish_policy(TEST_SPIF)
    assert problem(forge.post(strict.encoded()))["rules"] == ["two-person-release"]


def test_a_reader_asks_for_what_the_sender_must_have_seen(office):
    """With the relay on no side: a sender who says that he had not seen the version of an hour ago is judged by it."""
    authority, anna, jean = office
    forge = Forge(anna).prepare("jean@lo-warsaw", label="TEST CLOSED")
    unseen = anna.trust.tree.size
    authority.publish_policy(TEST_SPIF, TWO_PERSONS)
    anna.sync()
    with no_rules_at_the_relay():
        submission = forge.seal(readers=forge.claim())
        assert forge.post(submission.encoded()).status_code == 201
        with pytest.raises(Refused) as told:
            jean.read(parse_message(submission.message).core.message_id)
        assert told.value.rules == ("two-person-release",)
    policies = jean.trust.directory
    now = policies.policy_of("lo-warsaw", POLICY_NAME, POLICY_OID).published
    for at, is_found in ((now, False), (now + 299, False), (now + 3600, True)):
        then = policies.policy_then("lo-warsaw", POLICY_NAME, POLICY_OID, unseen, at)
        assert (then.extensions_digest is not None) is is_found
    assert policies.policy_then("lo-warsaw", "OTHER", POLICY_OID, unseen, now) is None
    assert policies.policy_then("lo-warsaw", POLICY_NAME, POLICY_OID, 1, now) is None


def test_a_sender_is_judged_by_the_version_of_then_and_by_his_right_of_then(office):
    _authority, anna, jean = office
    sent = anna.send(["jean@lo-warsaw"], label=RELEASED, body="x")
    core, judge = jean.read(sent.message_id).message.core, jean.judge
    device = judge.directory.devices[core.sender_device]
    assert judge.judge_sender_then(core, core.label, device).permitted
    early = replace(core, created=device.not_before - 1)
    assert "clearance-valid" in judge.judge_sender_then(early, core.label, device).failing
    blind = Judge(judge.directory, lambda _published: None)
    assert "policy-known" in blind.judge_sender_then(core, core.label, device).failing


def test_an_older_copy_of_our_own_does_not_say_what_a_label_is_called():
    words = b'<spif:markingData phrase="OFFICE USE"><spif:code>pageTopBottom</spif:code></spif:markingData>'
    row = b'name="CLOSED" lacv="2" hierarchy="2" color="blue"'
    other = TEST_SPIF.replace(row + b"/>", row + b">" + words + b"</spif:securityClassification>")
    first, second, third = (read_spif(each)[0] for each in (other, V2, other.replace(b' version="1"', b' version="3"')))
    label = Label(second.ref, "CLOSED")
    directory = SimpleNamespace(trusted_kids=lambda _own: {bytes(32): "lo-warsaw"})

    def marking(**published) -> str:
        documents = SimpleNamespace(policy_of=lambda _directory, office, _ref: published.get(office[3:]))
        trust = SimpleNamespace(directory=directory, own_kid=bytes(32))
        labels = LabelReader(documents, trust, "lo-berlin")  # type: ignore[arg-type]
        return labels.marking(label)

    assert marking(berlin=first, warsaw=second) == marking(berlin=second) == marking(warsaw=second) == "TEST CLOSED"
    assert marking(berlin=first) == marking(berlin=first, warsaw=third) == SYSTEM_HIGH
    assert marking(berlin=third, warsaw=second) == "TEST OFFICE USE"


def test_a_join_pins_the_oldest_version_and_a_new_label_the_newest_that_can():
    first, second = read_spif(TEST_SPIF)[0], read_spif(OBSOLETE)[0]

    def label(pinned: PolicyRef, nation: str) -> Label:
        released = Category("Releasable To", "1.3.6.1.4.1.99999.3", TagType.PERMISSIVE, (nation,))
        return Label(pinned, "CLOSED", (released,))

    old = label(first.ref, "FRA")
    assert join(second, [old, old]) == old
    assert derived_label(second, [old], None, 0).policy == first.ref
    assert derived_label(second, [label(first.ref, "POL")], None, 0).policy == second.ref
