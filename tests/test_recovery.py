"""A policy that names a recovery addressee: nothing leaves the office without it, and no command fails for lack of it."""

from __future__ import annotations

import pytest

from acts import agree, as_json, no_rules_at_the_relay, refuses, run
from forge import Forge, problem
from liaison.client import Client
from liaison.composing import Attachment
from liaison.desk import Desk
from liaison.drafting import circulate_plan, draft_downgrade, open_draft, release_draft
from relay.protocol.canonical import decode, encode
from relay.protocol.envelope import parse_message
from relay.protocol.errors import Refused
from relay.protocol.header import AddresseeKind
from simulator import lying
from world import TEST_SPIF, clearance, world

ANNA, PIOTR, SAFE, JEAN, LUC = (
    "anna@lo-warsaw", "piotr@lo-warsaw", "safe@lo-warsaw", "jean@lo-paris", "luc@lo-paris",
)  # fmt: skip
RULE = "recovery-addressee"


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    """Safe is cleared for all but codewords, Luc for OPEN only. Piotr releases."""
    with world(tmp_path_factory.mktemp("recovery")) as built:
        demands = b'recovery_addressee = "safe@lo-warsaw"\ntwo_person_release_from = "SEALED"\n'
        built.office("lo-warsaw", "POL", policy=None).publish_policy(TEST_SPIF, demands)
        built.office("lo-paris", "FRA")
        agree(built, "lo-paris", "lo-warsaw")
        for address in (ANNA, JEAN):
            built.device(address, clearances=[clearance(codewords=["FOX"])])
        built.device(PIOTR, roles=["release"])
        built.device(SAFE)
        built.device(LUC, clearances=[clearance(["OPEN"])])
        for client in built.clients.values():
            client.sync()
        yield built.clients


def readers(client, message_id):
    return [(each.kind, each.address) for each in client.read(message_id).message.core.addressees]


def test_the_policys_addressee_is_added_named_and_given_it(clients):
    sent = run(clients[ANNA], "send", "--yes", "--to", JEAN, "--label", "TEST CLOSED", body="x")
    assert "liaison: the policy demands that safe@lo-warsaw gets it too, for recovery" in sent.stderr.splitlines()
    message_id = bytes.fromhex(sent.stdout.strip())
    assert clients[SAFE].read(message_id).portions[0].text == "x"
    assert readers(clients[JEAN], message_id) == [(AddresseeKind.ACTION, JEAN), (AddresseeKind.INFO, SAFE)]


def test_one_who_is_exempted_is_not_reached_and_sender_relay_and_reader_refuse(clients):
    plan = clients[ANNA].plan([JEAN], exempt=[SAFE], label="TEST CLOSED", body="x")
    with pytest.raises(Refused) as told:
        clients[ANNA].release(plan)
    assert told.value.rules == (RULE,)
    forge = Forge(clients[ANNA], plan=plan)
    submission = forge.seal(readers=forge.claim())
    assert problem(forge.post(submission.encoded()))["rules"] == [RULE]
    with no_rules_at_the_relay():
        assert forge.post(submission.encoded()).status_code == 201
        assert refuses(clients[JEAN], parse_message(submission.message).core.message_id, RULE)


def test_what_may_not_be_kept_for_recovery_is_refused_before_it_is_sealed(clients):
    plan = clients[ANNA].plan([JEAN], label="TEST CLOSED FOX", body="x")
    assert plan.obligations == (RULE,)


@pytest.mark.parametrize("act", [Client.release, circulate_plan])
@pytest.mark.parametrize("to", [[JEAN], [JEAN, SAFE]])
def test_one_who_has_left_no_keys_is_named_before_anything_is_sealed(clients, act, to):
    anna, before = clients[ANNA], clients[ANNA].profile.cabinet.chain()
    plan = anna.plan(to, label="TEST CLOSED", body="x")
    with lying(anna) as relay:
        relay.lie(
            "POST", r"^/v1/keys/claim$", lambda answer: encode([_without(row, clients) for row in decode(answer)])
        )
        with pytest.raises(Refused, match=f"demands that {SAFE} gets this message, for recovery: .* no keys") as told:
            act(anna, plan)
    assert told.value.rules == ("no-keys",)
    assert anna.profile.cabinet.chain() == before


def _without(row, clients):
    return [row[0], None, None] if row[0] == clients[SAFE].profile.signing.device_id else row


def test_a_cover_sheet_is_not_what_is_kept_for_recovery_and_sender_and_relay_refuse(clients):
    attached = [Attachment("cover.txt", b"x", "TEST OPEN"), Attachment("matter.txt", b"x", "TEST CLOSED FOX")]
    plan = clients[ANNA].plan([JEAN], label="TEST CLOSED FOX", body="", attachments=attached)
    assert plan.obligations == (RULE,)
    forge = Forge(clients[ANNA], plan=plan)
    assert problem(forge.post(forge.seal(readers=forge.claim()).encoded()))["rules"] == [RULE]


def test_nothing_goes_to_recovery_alone(clients):
    with pytest.raises(Refused, match="nobody may be given this message"):
        clients[ANNA].send([LUC], label="TEST CLOSED", body="x")
    assert clients[ANNA].send([SAFE], label="TEST CLOSED", body="x").released_to == (SAFE,)


def test_drafts_downgrades_answers_and_consents_are_not_refused_for_lack_of_it(clients):
    anna, jean, piotr = clients[ANNA], clients[JEAN], clients[PIOTR]
    draft = circulate_plan(anna, anna.plan([JEAN], label="TEST SEALED", body="x"))
    assert draft.sent.released_to == ("release@lo-warsaw",)
    assert release_draft(piotr, open_draft(piotr, draft.sent.message_id))[0] == 0
    assert (AddresseeKind.INFO, SAFE) in readers(jean, draft.message_id)
    asked = jean.send([ANNA], label="TEST CLOSED", body="Where?")
    reply = Desk(anna).plan_reply(asked.message_id, "x", label=None, quote=False)
    assert anna.release(reply).released_to == (JEAN, SAFE)
    own = anna.send([JEAN], label="TEST CLOSED", body="x", originator_controlled=True)
    request = Desk(jean).ask_consent(own.message_id, "lo-oslo", "why")
    assert Desk(anna).give_consent(request.message_id, 30).released_to == (JEAN, SAFE)
    assert draft_downgrade(anna, own.message_id, "TEST OPEN", "old", [], None).sent.released_to == (
        "release@lo-warsaw",
    )


def test_a_blind_copy_goes_there_too(clients):
    words = ("send", "--yes", "--to", JEAN, "--blind", PIOTR, "--label", "TEST CLOSED")
    sent = as_json(clients[ANNA], *words, body="x")
    message_id = bytes.fromhex(sent["message_id"])
    (copy,) = [each for each in clients[PIOTR].inbox() if message_id in each.message.core.handling.references]
    assert readers(clients[PIOTR], copy.message_id) == [(AddresseeKind.ACTION, PIOTR), (AddresseeKind.INFO, SAFE)]


def test_a_blind_copy_that_two_must_release_stops_the_message_before_it_goes(clients):
    words = ("send", "--yes", "--to", "release@lo-warsaw", "--blind", JEAN, "--label", "TEST SEALED")
    sent = run(clients[ANNA], *words, body="x")
    assert (sent.exit_code, sent.stdout, "two-person-release" in sent.stderr) == (6, "", True)
