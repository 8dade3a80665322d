"""Two policies: what a signed table makes of a label, and nothing beyond it."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from acts import agree, as_json, drafted, gets_nothing, no_rules_at_the_relay, refuses, run, screen, sign
from forge import Forge, problem
from liaison.claiming import claim
from liaison.desk import Desk
from liaison.seal import Reader
from relay.protocol.access import Circle
from relay.protocol.decision import Action
from relay.protocol.envelope import parse_message
from relay.protocol.errors import Refused
from relay.protocol.label import Clearance, Succession, label_bytes, label_of
from world import TEST_SPIF, clearance, world

ANNA, KURT = "anna@lo-warsaw", "kurt@lo-berlin"
TEXT = "Der Sund ist frei."
BERLIN = (
    TEST_SPIF.replace(b'name="TEST"', b'name="HAUS"')
    .replace(b"99999.1", b"88888.1")
    .replace(b"99999.2", b"88888.2")
    .replace(b"99999.3", b"88888.3")
    .replace(b'name="OPEN"', b'name="OFFEN"')
    .replace(b'name="CLOSED"', b'name="VS"')
    .replace(b'name="SEALED"', b'name="GEHEIM"')
    .replace(b"<spif:excludedClass>OPEN</spif:excludedClass>", b"")
)
HAUS = "1.3.6.1.4.1.88888.1"


def mapped(source: bytes, *levels: str) -> bytes:
    """A policy with a table into Berlin's: the named classifications, each to the one of its own number."""
    for name, number, color in (("OPEN", 1, "green"), ("CLOSED", 2, "blue"), ("SEALED", 3, "red")):
        if name in levels:
            row = f'<spif:securityClassification name="{name}" lacv="{number}" hierarchy="{number}" color="{color}"'
            into = f'<spif:equivalentClassification applied="both" policyRef="HAUS" lacv="{number}"/>'
            source = source.replace(f"{row}/>".encode(), f"{row}>{into}</spif:securityClassification>".encode())
    link = f'<spif:equivalentPolicies><spif:equivalentPolicy name="HAUS" id="{HAUS}"/></spif:equivalentPolicies>'
    return source.replace(b"</spif:SPIF>", f"{link}</spif:SPIF>".encode())


WARSAW = mapped(TEST_SPIF, "OPEN", "CLOSED")
DIGESTS = tuple(hashlib.sha256(each).digest() for each in (WARSAW, BERLIN))


def german(*levels) -> Clearance:
    now = int(time.time())
    return Clearance("HAUS", HAUS, tuple(sorted(levels)), (), now - 60, now + 10**6)


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    """Warsaw's policy has a table for OPEN and CLOSED; the agreement names Warsaw's file and Berlin's."""
    with world(tmp_path_factory.mktemp("equivalence")) as built:
        built.office("lo-warsaw", "POL", policy=WARSAW)
        built.office("lo-berlin", "DEU", policy=BERLIN)
        agree(built, "lo-berlin", "lo-warsaw", mappings=(DIGESTS,))
        built.device(ANNA, clearances=[clearance()])
        built.device(KURT, clearances=[german("OFFEN", "VS", "GEHEIM")])
        built.device("lisa@lo-berlin", clearances=[german("OFFEN")])
        for client in built.clients.values():
            client.sync()
        yield built


@pytest.fixture
def anna(offices):
    return offices.clients[ANNA]


@pytest.fixture
def kurt(offices):
    return offices.clients[KURT]


def verdict(client, label="TEST CLOSED", to=KURT):
    return client.plan([to], label=label, body=TEXT).verdicts[0]


def forged(anna, kurt, label, alternative):
    """A message to Kurt whose header claims this alternative for its label, and which grants him its one portion."""
    forge = Forge(anna, plan=anna.plan([KURT], label=label, body=TEXT))
    device = anna.trust.directory.devices[kurt.profile.signing.device_id]
    package = claim({device.device_id: device}, anna.trust, anna.transport, int(time.time()))[device.device_id]
    reader = Reader(device.device_id, device.kid, package, (0,))
    encoded = label_bytes(label)
    return forge, forge.seal(readers=[reader], alternatives=((encoded, label_bytes(alternative)),))


def refused_by_relay_and_reader(forge, submission, reader):
    answer = forge.post(submission.encoded())
    told = problem(answer)["rules"]
    assert answer.status_code == 403
    assert told
    assert all(rule.startswith(f"{KURT}:") for rule in told)
    with no_rules_at_the_relay():
        assert forge.post(submission.encoded()).status_code == 201
        assert refuses(
            reader, parse_message(submission.message).core.message_id, *(rule[len(KURT) + 1 :] for rule in told)
        )
    return True


def test_a_reader_of_another_policy_reads_by_the_table_that_both_have_signed(anna, kurt):
    sent = anna.send([KURT], label="TEST CLOSED", body=TEXT)
    record = kurt.read(sent.message_id)
    assert record.portions[0].text == TEXT
    core = record.message.core
    assert parse_message(record.encoded).core.label == label_bytes(anna.labels.read("TEST CLOSED"))
    assert [
        (original, kurt.labels.marking(kurt.labels.label_of(alternative)))
        for original, alternative in core.alternatives
    ] == [(core.label, "HAUS VS")]


def test_the_originators_marking_stands_first_and_last_and_his_own_equivalent_beside_it(anna, kurt):
    sent = anna.send([KURT], label="TEST CLOSED", body=TEXT)
    shown = screen(kurt, "read", sent.message_id.hex())
    assert shown[0] == shown[-1] == "TEST CLOSED"
    assert "Equivalent:  HAUS VS" in shown
    told = as_json(kurt, "read", sent.message_id.hex())
    assert (told["marking"], told["equivalent"]) == ("TEST CLOSED", "HAUS VS")


def test_an_equivalent_that_only_the_sender_knows_is_not_shown(anna, kurt):
    forge = Forge(anna).prepare(KURT, label="TEST CLOSED", body=TEXT)
    ((label, right),) = forge.plan.alternatives
    lower = label_bytes(replace(label_of(right), classification="OFFEN"))
    claimed = tuple(sorted(((label, lower), (label, right))))
    submission = forge.seal(alternatives=claimed, seq=2_000_000)  # no neighbour of what other tests forge
    assert forge.post(submission.encoded()).status_code == 201
    told = as_json(kurt, "read", parse_message(submission.message).core.message_id.hex())
    assert told["equivalent"] == "HAUS VS"


def test_a_reader_of_the_same_policy_is_shown_no_equivalent(offices, anna):
    piotr = offices.device("piotr@lo-warsaw")
    sent = anna.send(["piotr@lo-warsaw"], label="TEST CLOSED", body=TEXT)
    assert not [line for line in screen(piotr, "read", sent.message_id.hex()) if line.startswith("Equivalent")]
    assert as_json(piotr, "read", sent.message_id.hex())["equivalent"] is None


def test_an_equivalent_clears_nobody_beyond_his_own_clearance(anna):
    assert verdict(anna, "TEST OPEN", "lisa@lo-berlin").is_released
    assert verdict(anna, "TEST CLOSED", "lisa@lo-berlin").rules == ("classification",)


def test_what_the_table_does_not_map_is_refused_with_the_rule(anna):
    refused = verdict(anna, "TEST SEALED")
    assert not refused.is_released
    assert {"policy-known", "same-policy"} <= set(refused.rules)
    with pytest.raises(Refused):
        anna.send([KURT], label="TEST SEALED", body=TEXT)
    assert not verdict(anna, "TEST CLOSED FOX").is_released


def test_an_alternative_that_the_table_does_not_give_is_refused_by_relay_and_reader(anna, kurt):
    lower = kurt.labels.read("HAUS OFFEN")
    for marking in ("TEST CLOSED", "TEST SEALED"):
        assert refused_by_relay_and_reader(*forged(anna, kurt, anna.labels.read(marking), lower), kurt)


def test_a_label_with_a_successor_is_not_translated(anna, kurt):
    changing = replace(anna.labels.read("TEST OPEN"), succession=Succession(1, anna.labels.read("TEST CLOSED")))
    assert not anna.plan([KURT], label=changing, body=TEXT).released
    assert refused_by_relay_and_reader(*forged(anna, kurt, changing, kurt.labels.read("HAUS OFFEN")), kurt)


def test_a_reply_in_the_originators_policy_is_refused_clearly(anna, kurt):
    sent = anna.send([KURT], label="TEST CLOSED", body=TEXT)
    kurt.read(sent.message_id)
    with pytest.raises(Refused, match="policy is not known here") as told:
        Desk(kurt).plan_reply(sent.message_id, "Danke", label=None, quote=False)
    assert told.value.rules == ("policy-known",)


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """Either office has published both policies; Warsaw's own ends in an hour."""
    end = datetime.fromtimestamp(time.time() + 3600, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    ending = WARSAW.replace(b'version="1" creationDate', f'version="1" notAfter="{end}" creationDate'.encode())
    with world(tmp_path_factory.mktemp("both")) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-berlin", "DEU")):
            built.office(office, nation, policy=ending).publish_policy(BERLIN)
        agree(built, "lo-berlin", "lo-warsaw", mappings=((hashlib.sha256(ending).digest(), DIGESTS[1]),))
        built.device(ANNA)
        built.device("piotr@lo-warsaw", clearances=[german("OFFEN", "VS")])
        built.device("karl@lo-berlin", clearances=[clearance(["OPEN"])])
        built.device(KURT, clearances=[german("OFFEN", "VS")])
        built.clients[ANNA].sync()
        yield built


@pytest.mark.parametrize("reader", ["piotr@lo-warsaw", KURT])
def test_an_equivalent_outlives_no_policy_that_has_ended_inside_the_office_as_outside(both, reader):
    anna, device_id = both.clients[ANNA], both.clients[reader].profile.signing.device_id
    plan = anna.plan([reader], label="TEST CLOSED", body=TEXT)
    assert plan.released
    circle = Circle("lo-warsaw", plan.draft.addressees, plan.draft.expires, alternatives=plan.alternatives)
    device, now = anna.trust.directory.devices[device_id], int(time.time())
    later = anna.judge.judge(Action.OPEN, circle, label_bytes(plan.draft.label), device, now + 7200)
    assert "policy-known" in later.failing


def test_a_denial_names_what_is_missing_under_the_label_that_is_nearest(both):
    assert verdict(both.clients[ANNA], to="karl@lo-berlin").rules == ("classification",)


# -- tables that are not the signed one -------------------------------------------------------------------------------


def exchange(folder, agreed, *, warsaw=WARSAW, extensions=None, **terms):
    """Whether a CLOSED message can go from Warsaw to Berlin under such an agreement; and how it fails."""
    with world(folder) as built:
        built.office("lo-warsaw", "POL", policy=None).publish_policy(warsaw, extensions)
        built.office("lo-berlin", "DEU", policy=BERLIN)
        agree(built, "lo-berlin", "lo-warsaw", classifications=("CLOSED", "OPEN"))
        if agreed is not None:
            agree(built, "lo-berlin", "lo-warsaw", mappings=(agreed,), **terms)
        anna = built.device(ANNA)
        kurt = built.device(KURT, clearances=[german("OFFEN", "VS", "GEHEIM")])
        anna.sync()
        assert not verdict(anna).is_released
        return refused_by_relay_and_reader(
            *forged(anna, kurt, anna.labels.read("TEST CLOSED"), kurt.labels.read("HAUS VS")), kurt
        )


@pytest.mark.parametrize(
    ("agreed", "terms"),
    [
        ((DIGESTS[0], bytes(32)), {}),
        ((DIGESTS[1], DIGESTS[0]), {}),
        (DIGESTS, {"not_before": 1, "not_after": int(time.time()) - 1}),
    ],
    ids=["another file", "the wrong way round", "an expired agreement's"],
)
def test_a_table_that_is_not_pinned_by_an_agreement_in_force_maps_nothing(tmp_path, agreed, terms):
    assert exchange(tmp_path, agreed, **terms)


def test_a_policy_that_keeps_unmarked_labels_to_its_owner_does_not_lend_them_to_others_by_a_table(tmp_path):
    assert exchange(tmp_path, DIGESTS, extensions=b'absent = { "Releasable To" = "owner_only" }\n')


def test_a_table_changed_after_it_was_signed_maps_nothing_and_what_was_sent_is_closed(offices, anna, kurt):
    """Last, because it changes Warsaw's policy."""
    sent = anna.send([KURT], label="TEST CLOSED", body=TEXT)
    changed = mapped(TEST_SPIF, "OPEN", "CLOSED", "SEALED").replace(
        b' version="1" creationDate', b' version="2" creationDate'
    )
    offices.authorities["lo-warsaw"].publish_policy(changed)
    anna.sync()
    assert not verdict(anna).is_released
    assert not verdict(anna, "TEST SEALED").is_released
    assert gets_nothing(kurt, sent.message_id)


def test_who_signs_for_a_table_that_lowers_is_told_so_first(offices, tmp_path):
    lowering = WARSAW.replace(b'name="TEST"', b'name="FJORD"').replace(b"99999", b"77777")
    lowering = lowering.replace(b'policyRef="HAUS" lacv="1"', b'policyRef="HAUS" lacv="3"')
    oslo = offices.office("lo-oslo", "NOR", policy=lowering)
    terms = tmp_path / "terms.toml"
    terms.write_text(
        'policy = "FJORD"\noffices = ["lo-berlin", "lo-oslo"]\nceiling = "OPEN"\nequivalent_to = ["HAUS"]\n'
    )
    told = "liaison: FJORD: mapping-lowers: CLOSED maps below what a lower one maps to"
    made = run(oslo, "agreement", "draft", str(terms), "--yes")
    assert (made.exit_code, made.stderr.splitlines()[0]) == (0, told)
    signed = run(offices.authorities["lo-berlin"], "agreement", "sign", made.stdout.strip(), "--yes")
    assert (signed.exit_code, told in signed.stderr.splitlines()) == (0, True)
    berlin = DIGESTS[1]
    two = drafted(
        offices, "lo-berlin", "lo-oslo", mappings=((hashlib.sha256(lowering).digest(), berlin), (berlin, berlin))
    )
    oslo.sync()
    assert [policy for policy, _finding in oslo.mapping_findings(two)] == ["FJORD"]


def test_who_is_asked_to_sign_for_a_policy_file_that_nobody_published_does_not(offices):
    unknown = drafted(offices, "lo-berlin", "lo-warsaw", mappings=((DIGESTS[0], bytes(32)),))
    sign(offices, unknown, "lo-warsaw")
    signed = run(offices.authorities["lo-berlin"], "agreement", "sign", unknown.agreement_id.hex(), "--yes")
    assert signed.exit_code == 1
    assert "is not published" in signed.stderr
