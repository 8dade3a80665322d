"""Passing on: what an originator controls goes no further than it said, unless it signs that it may."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from acts import agree, gets_nothing, no_rules_at_the_relay, refuses, run
from forge import Forge, problem
from liaison.composing import Enclosed
from liaison.desk import Desk
from liaison.passing import forwarded_portions, originals_of
from relay.protocol import cose, decision
from relay.protocol.canonical import decode, encode
from relay.protocol.endorsement import CONSENT, Consent, verify_passed_on
from relay.protocol.envelope import parse_message
from relay.protocol.errors import Refused, Unverified
from simulator import rewritten
from world import clearance, world

ANNA, JEAN, KARI, DITA = "anna@lo-warsaw", "jean@lo-paris", "kari@lo-oslo", "dita@lo-riga"
EWA, OPS, DUTY = "ewa@lo-warsaw", "ops@lo-paris", "duty@lo-paris"
OFFICES = {"lo-warsaw": "POL", "lo-paris": "FRA", "lo-oslo": "NOR", "lo-riga": "LVA"}
LABEL, TEXT = "TEST CLOSED", "For Paris alone."


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    """Everybody has an agreement with everybody; only Paris and Riga let what they share go on to others."""
    with world(tmp_path_factory.mktemp("originators")) as built:
        for office, nation in OFFICES.items():
            built.office(office, nation)
        built.agreement("lo-oslo", "lo-paris", "lo-riga", "lo-warsaw")
        for address in (ANNA, EWA, JEAN, OPS, KARI, DITA):
            built.device(address, clearances=[clearance()], roles=("duty",) if address == OPS else ())
        yield built


@pytest.fixture
def anna(offices):
    return offices.clients[ANNA]


@pytest.fixture
def jean(offices):
    return offices.clients[JEAN]


@pytest.fixture
def kari(offices):
    return offices.clients[KARI]


def controlled(anna, jean, **more):
    """A message that Jean has read; its originator controls where it goes."""
    sent = anna.send([JEAN], **{"label": LABEL, "body": TEXT, "originator_controlled": True, **more})
    jean.read(sent.message_id)
    return sent.message_id


def signed_consent(client, ref, office="lo-oslo", not_after=None, device_id=None):
    consent = Consent(ref, device_id or client.profile.signing.device_id, office, not_after or int(time.time()) + 3600)
    return client.profile.signing.sign_object(CONSENT, consent.payload())


def forwarding(client, message_id, to, *consents):
    """The plan of a forward with these consents, whatever the desk would have found."""
    record = client.read(message_id)
    originals = originals_of(record)
    return client.plan(
        [to],
        label=LABEL,
        body="fyi",
        enclosed=Enclosed(tuple(forwarded_portions(record)), originals, consents),
    )


def against(plan):
    (verdict,) = plan.verdicts
    return verdict.rules


def submission_of(client, plan, to):
    """What a forwarder who does not ask the rules would post for a reader of another office."""
    forge = Forge(client).prepare(to, label=LABEL)  # of a plain message, for the readers' keys
    forge.plan = replace(plan, draft=replace(plan.draft, addressees=forge.plan.draft.addressees))
    every = tuple(range(len(plan.draft.portions)))
    readers = [replace(reader, granted=every) for reader in forge.readers]
    return forge, forge.seal(readers=readers, passed_on=plan.draft.passed_on, consents=plan.draft.consents)


def refused_by_relay_and_reader(client, plan, reader, relay_rule, *reader_rules):
    address = reader.profile.pins.address
    forge, submission = submission_of(client, plan, address)
    answer = forge.post(submission.encoded())
    assert (answer.status_code, problem(answer)["rules"]) == (403, [relay_rule])
    with no_rules_at_the_relay():
        assert forge.post(submission.encoded()).status_code == 201
        assert refuses(reader, parse_message(submission.message).core.message_id, *reader_rules)
    return True


# -- asked, given, forwarded ------------------------------------------------------------------------------------------


def test_a_forward_is_refused_consent_is_asked_and_given_and_the_forward_accepted(anna, jean, kari):
    message_id = controlled(anna, jean)
    refused = Desk(jean).plan_forward(message_id, [KARI], "fyi", label=None)
    assert against(refused) == ("handling",)
    assert "originator" in refused.verdicts[0].reasons[0][1]
    with pytest.raises(Refused):
        jean.release(refused)

    asked = Desk(jean).ask_consent(message_id, "lo-oslo", "Oslo holds the strait.")
    assert "Oslo holds the strait." in anna.read(asked.message_id).portions[0].text
    given = Desk(anna).give_consent(asked.message_id, 3)
    jean.read(given.message_id)

    forwarded = jean.release(Desk(jean).plan_forward(message_id, [KARI], "fyi", label=None))
    record = kari.read(forwarded.message_id)
    assert TEXT in [portion.text for portion in record.portions.values()]
    assert parse_message(record.message.core.passed_on[0]).core.sender == ANNA


def test_inside_the_offices_that_the_originator_addressed_no_consent_is_asked(offices, anna, jean):
    message_id = controlled(anna, jean)
    plan = Desk(jean).plan_forward(message_id, [OPS, EWA], "fyi", label=None)
    assert [verdict.rules for verdict in plan.verdicts] == [(), ()]
    offices.clients[OPS].read(jean.release(plan).message_id)


def test_an_office_that_was_only_exempted_was_not_addressed(anna, jean, kari):
    message_id = controlled(anna, jean, exempt=["duty@lo-oslo"])
    plan = Desk(jean).plan_forward(message_id, [KARI], "fyi", label=None)
    assert against(plan) == ("handling",)
    assert refused_by_relay_and_reader(jean, plan, kari, f"{KARI}:handling", "handling")


@pytest.mark.parametrize(("exempted", "reader"), [(EWA, EWA), (OPS, OPS), (DUTY, OPS), (KARI, KARI)])
def test_whom_an_original_exempts_no_forward_of_it_reaches(offices, anna, jean, exempted, reader):
    message_id = controlled(anna, jean, exempt=[exempted])
    consent = signed_consent(anna, jean.read(message_id).message.ref)  # for Oslo, which names nobody there
    plan = forwarding(jean, message_id, reader, consent)
    assert against(plan) == ("need-to-know",)
    client = offices.clients[reader]
    assert refused_by_relay_and_reader(jean, plan, client, f"{reader}:need-to-know", "need-to-know")


def test_an_exempted_one_is_not_reached_by_way_of_a_role_a_second_hop_or_his_own_office(offices, anna, jean):
    ops, ewa = offices.clients[OPS], offices.clients[EWA]
    message_id = controlled(anna, jean, exempt=[OPS])
    assert against(forwarding(jean, message_id, DUTY)) == ("need-to-know",)

    message_id = controlled(anna, jean, exempt=[EWA])
    hop = jean.release(Desk(jean).plan_forward(message_id, [OPS], "fyi", label=None)).message_id
    ops.read(hop)
    plan = Desk(ops).plan_forward(hop, [EWA], "fyi", label=None)
    assert against(plan) == ("need-to-know",)
    assert refused_by_relay_and_reader(ops, plan, ewa, f"{EWA}:need-to-know", "need-to-know")

    sent = anna.send([EWA], exempt=[JEAN], label=LABEL, body=TEXT)
    assert against(Desk(ewa).plan_forward(sent.message_id, [JEAN], "fyi", label=None)) == ("need-to-know",)


# -- consents that are none -------------------------------------------------------------------------------------------


def test_a_consent_counts_for_one_message_one_office_and_its_time_only(anna, jean, kari):
    message_id, other = controlled(anna, jean), controlled(anna, jean)
    ref, now = jean.read(message_id).message.ref, int(time.time())
    assert against(forwarding(jean, message_id, KARI, signed_consent(anna, ref))) == ()
    for consent in (
        signed_consent(anna, jean.read(other).message.ref),
        signed_consent(anna, ref, office="lo-riga"),
        signed_consent(anna, ref, not_after=now - 1),
    ):
        plan = forwarding(jean, message_id, KARI, consent)
        assert against(plan) == ("handling",)
        assert refused_by_relay_and_reader(jean, plan, kari, f"{KARI}:handling", "handling")


def test_nobody_but_the_originating_office_consents(anna, jean, kari):
    message_id = controlled(anna, jean)
    ref = jean.read(message_id).message.ref
    for own in (signed_consent(jean, ref), signed_consent(kari, ref)):
        plan = forwarding(jean, message_id, KARI, own)
        assert against(plan) == ("handling",)
        assert refused_by_relay_and_reader(jean, plan, kari, f"{KARI}:handling", "handling")


def test_a_consent_in_another_ones_name_does_not_verify(anna, jean, kari):
    message_id = controlled(anna, jean)
    ref = jean.read(message_id).message.ref
    honest = forwarding(jean, message_id, KARI)
    forged = signed_consent(jean, ref, device_id=anna.profile.signing.device_id)
    plan = replace(honest, draft=replace(honest.draft, consents=(forged,)))
    assert refused_by_relay_and_reader(jean, plan, kari, "second-signature")


def test_a_consent_of_a_device_revoked_since_is_none_and_hides_no_other(offices, anna, jean, kari):
    lost = offices.device("olek@lo-warsaw", clearances=[clearance()])
    message_id = controlled(anna, jean)
    ref = jean.read(message_id).message.ref
    stale, honest = signed_consent(lost, ref), forwarding(jean, message_id, KARI)
    asked = Desk(jean).ask_consent(message_id, "lo-oslo", "please")
    jean.read(Desk(anna).give_consent(asked.message_id, 3).message_id)
    offices.authorities["lo-warsaw"].revoke("olek@lo-warsaw", "lost")
    jean.sync()
    kari.sync()
    plan = replace(honest, draft=replace(honest.draft, consents=(stale,)))
    assert refused_by_relay_and_reader(jean, plan, kari, "second-signature")
    assert against(Desk(jean).plan_forward(message_id, [KARI], "fyi", label=None)) == ()


def test_only_the_office_that_sent_it_can_answer_a_request(offices, anna, jean, kari):
    message_id = controlled(anna, jean)
    asked = Desk(jean).ask_consent(message_id, "lo-oslo", "please")
    anna.read(asked.message_id)
    with pytest.raises(Refused, match="asks for no consent"):
        Desk(jean).give_consent(message_id, 3)
    assert run(jean, "consent", "give", message_id.hex()).exit_code == 6


# -- forwards that hide whose words they pass on ----------------------------------------------------------------------


def test_a_second_hop_does_not_launder_what_the_first_originator_controls(offices, anna, jean, kari):
    message_id = controlled(anna, jean)
    ref = jean.read(message_id).message.ref
    plan = forwarding(jean, message_id, KARI, signed_consent(anna, ref))
    forwarded = jean.release(plan).message_id
    kari.read(forwarded)
    assert against(Desk(kari).plan_forward(forwarded, [DITA], "fyi", label=None)) == ("handling",)
    # only Paris's message is shown, which itself shows that it passes on Warsaw's
    hop = kari.read(forwarded).message
    hidden = forwarding(kari, forwarded, DITA)
    hidden = replace(hidden, draft=replace(hidden.draft, passed_on=(hop.encoded,)))
    assert refused_by_relay_and_reader(kari, hidden, offices.clients[DITA], "second-signature")
    # Paris's consent is not Warsaw's
    by_paris = signed_consent(jean, hop.ref, "lo-riga")
    assert against(forwarding(kari, forwarded, DITA, by_paris)) == ("handling",)
    both = (by_paris, signed_consent(anna, ref, "lo-riga"))
    assert against(forwarding(kari, forwarded, DITA, *both)) == ()


def test_a_changed_header_is_not_the_originators(anna, jean, kari):
    message_id = controlled(anna, jean)
    plan = forwarding(jean, message_id, KARI)
    freed = rewritten(
        plan.draft.passed_on[0],
        lambda core: replace(core, handling=replace(core.handling, originator_controlled=False)),
    )
    plan = replace(plan, draft=replace(plan.draft, passed_on=(freed,)))
    assert refused_by_relay_and_reader(jean, plan, kari, "second-signature")


# -- onward release ---------------------------------------------------------------------------------------------------


def test_without_an_agreement_that_lets_it_go_on_even_an_uncontrolled_message_stays(offices, anna, jean, kari):
    message_id = controlled(anna, jean, originator_controlled=False)
    plan = Desk(jean).plan_forward(message_id, [KARI], "fyi", label=None)
    assert against(plan) == ("handling",)
    assert refused_by_relay_and_reader(jean, plan, kari, f"{KARI}:handling", "handling")


def unreadable_for(wrong):
    """`compile_ceiling` with a fault that only an agreement on these classifications meets."""
    right = decision.compile_ceiling

    def compile_ceiling(classifications, categories):
        return right(classifications if classifications != wrong else None, categories)

    return compile_ceiling


def test_an_agreement_lets_go_on_what_it_covers_and_nothing_above(offices, anna, jean, kari, monkeypatch):
    low = controlled(anna, jean, originator_controlled=False, label="TEST OPEN")
    high = controlled(anna, jean, originator_controlled=False)
    onward = agree(offices, "lo-paris", "lo-warsaw", classifications=("OPEN",), onward_release=True)
    jean.sync()
    assert against(Desk(jean).plan_forward(low, [KARI], "fyi", label=None)) == ()
    assert against(Desk(jean).plan_forward(high, [KARI], "fyi", label=None)) == ("handling",)
    forwarded = jean.release(Desk(jean).plan_forward(low, [KARI], "fyi", label=None))
    with monkeypatch.context() as patched:
        patched.setattr(decision, "compile_ceiling", unreadable_for(("OPEN",)))
        assert against(Desk(jean).plan_forward(low, [KARI], "fyi", label=None)) == ("handling",)
    offices.authorities["lo-warsaw"].withdraw(onward.agreement_id, "no longer")
    assert gets_nothing(kari, forwarded.message_id)


def test_what_a_message_passes_on_is_verified_once_and_every_other_signature_each_time(anna, jean, monkeypatch):
    record = jean.read(controlled(anna, jean))
    (original,) = originals_of(record)
    ref = parse_message(original).ref
    consents = (signed_consent(anna, ref), with_broken_end(signed_consent(anna, ref)))
    core = replace(record.message.core, passed_on=(original,), consents=consents[:1])
    directory, verified, verify = jean.trust.directory, [], cose.verify_sign1
    monkeypatch.setattr(cose, "verify_sign1", lambda *given: verified.append(given) or verify(*given))
    for _ in range(3):
        verify_passed_on(directory, core)
    assert len(verified) == 2
    for _ in range(2):
        with pytest.raises(Unverified):
            verify_passed_on(directory, replace(core, consents=consents))
    assert len(verified) == 4


def with_broken_end(encoded):
    protected, header, payload, signature = decode(encoded)
    return encode([protected, header, payload, signature[:-1] + bytes([signature[-1] ^ 1])])
