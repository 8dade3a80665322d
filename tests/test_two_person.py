"""What takes two: release by a second officer over the exact bytes, and lowering a label by two others."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from acts import agree, gets_nothing, no_rules_at_the_relay, refuses, run, screen, slots_of
from forge import Forge, problem
from liaison import Attachment, Waiting
from liaison.drafting import circulate, circulate_plan, draft_downgrade, open_draft, pack_draft, release_draft
from liaison.portions import MAX_CONTENT
from liaison.record import DRAFTED
from liaison.seal import fresh_keys
from liaison.transport import HttpTransport
from relay.protocol.access import Circle
from relay.protocol.decision import Action
from relay.protocol.endorsement import ENDORSEMENT, Endorsement
from relay.protocol.envelope import Submission, parse_message, parse_submission
from relay.protocol.errors import LiaisonError, Refused, TooLarge, Unavailable, Unverified
from relay.protocol.header import Addressee, AddresseeKind, Precedence
from relay.protocol.identity import Kind
from relay.protocol.label import Succession, label_bytes
from simulator import lying
from world import TEST_SPIF, clearance, world

ANNA, PIOTR, OLGA, ADAM, JEAN, LUC = (
    "anna@lo-warsaw", "piotr@lo-warsaw", "olga@lo-warsaw", "adam@lo-warsaw", "jean@lo-paris", "luc@lo-paris",
)  # fmt: skip
TEXT = "Two have seen this."


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    """Piotr and Olga release for Warsaw, and Luc for Paris; Anna and Adam only write."""
    with world(tmp_path_factory.mktemp("two-person")) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
            authority = built.office(office, nation, policy=None)
            authority.publish_policy(TEST_SPIF, b'two_person_release_from = "SEALED"\n')
        agree(built, "lo-paris", "lo-warsaw")
        for address in (ANNA, ADAM, JEAN):
            built.device(address)
        for address in (PIOTR, OLGA, LUC):
            built.device(address, roles=["release"])
        for client in built.clients.values():
            client.sync()
        yield built


@pytest.fixture
def clients(offices):
    return offices.clients


def plan(clients, **more):
    return clients[ANNA].plan([JEAN], **{"label": "TEST SEALED", "subject": "Ferry", "body": TEXT, **more})


def drafted(clients, **more):
    return circulate_plan(clients[ANNA], plan(clients, **more))


def opened(client, message_id):
    return open_draft(client, message_id)


def endorsement(client, ref, *, at=None, address=None, device_id=None):
    stated = Endorsement(
        ref,
        device_id or client.profile.signing.device_id,
        address or client.profile.pins.address,
        int(time.time()) if at is None else at,
    )
    return client.profile.signing.sign_object(ENDORSEMENT, stated.payload())


def forged(clients, *endorsers, **changes):
    """A sealed submission by Anna, and what makes it one with endorsements."""
    forge = Forge(clients[ANNA]).prepare(JEAN, label="TEST SEALED", body=TEXT)
    submission = forge.seal(**changes)
    ref = parse_message(submission.message).ref
    signed = tuple(each(ref) if callable(each) else endorsement(each, ref) for each in endorsers)
    return forge, replace(submission, endorsements=signed)


def refused_by_relay_and_reader(clients, *endorsers, rule="second-signature"):
    forge, submission = forged(clients, *endorsers)
    answer = forge.post(submission.encoded())
    assert (answer.status_code, problem(answer)["rules"]) == (403, [rule])
    with no_rules_at_the_relay():
        assert forge.post(submission.encoded()).status_code == 201
        rules = (rule,) if rule == "two-person-release" else ()
        assert refuses(clients[JEAN], parse_message(submission.message).core.message_id, *rules)
    return True


# -- release ----------------------------------------------------------------------------------------------------------


def test_sending_alone_is_refused_and_the_command_says_what_to_do(clients):
    with pytest.raises(Refused) as told:
        clients[ANNA].release(plan(clients))
    assert (told.value.rules, told.value.hint) == (("two-person-release",), "use: liaison draft")
    result = run(clients[ANNA], "send", "--yes", "--to", JEAN, "--label", "TEST SEALED", body=TEXT)
    assert (result.exit_code, "liaison draft" in result.stderr) == (6, True)


def test_below_the_classification_one_person_is_enough(clients):
    sent = clients[ANNA].send([JEAN], label="TEST CLOSED", body=TEXT)
    assert clients[JEAN].read(sent.message_id).released_by == ()


def test_what_a_second_officer_releases_is_read_with_both_names(clients):
    draft = drafted(clients)
    needed, index = release_draft(clients[PIOTR], opened(clients[PIOTR], draft.sent.message_id))
    assert (needed, index > 0) == (0, True)
    record = clients[JEAN].read(draft.message_id)
    assert (record.message.core.sender, record.released_by, record.portions[0].text) == (ANNA, (PIOTR,), TEXT)


def test_a_draft_is_for_the_other_releasing_officers_of_the_office_and_nobody_else(offices, clients):
    draft = drafted(clients)
    assert set(draft.sent.released_to) == {"release@lo-warsaw"}
    held = {clients[each].profile.signing.device_id for each in (PIOTR, OLGA)}
    assert slots_of(offices, draft.sent.message_id).keys() == held
    for other in (ADAM, JEAN, LUC):
        assert gets_nothing(clients[other], draft.sent.message_id)
    assert gets_nothing(clients[JEAN], draft.message_id)  # nothing is there before it is released


def test_a_releasing_officer_who_drafts_gets_another_one(offices, clients):
    draft = circulate_plan(clients[PIOTR], clients[PIOTR].plan([JEAN], label="TEST SEALED", body=TEXT))
    assert slots_of(offices, draft.sent.message_id).keys() == {clients[OLGA].profile.signing.device_id}
    found = opened(clients[OLGA], draft.sent.message_id)
    with pytest.raises(Refused, match="takes two persons") as told:
        release_draft(clients[PIOTR], found)
    assert told.value.rules == ("two-person-release",)
    assert release_draft(clients[OLGA], found)[0] == 0


def test_an_officer_without_the_role_cannot_release(clients):
    found = opened(clients[PIOTR], drafted(clients).sent.message_id)
    for other in (ADAM, ANNA, JEAN, LUC):
        with pytest.raises(Refused) as told:
            release_draft(clients[other], found)
        assert told.value.rules == ("two-person-release",)


def test_the_relay_and_the_reader_ask_for_the_second_signature_themselves(clients):
    assert refused_by_relay_and_reader(clients, rule="two-person-release")


def test_a_drafter_who_was_revoked_is_released_by_nobody_and_what_waits_of_his_stands_in_nobodys_way(offices, clients):
    adela, piotr = offices.device("adela@lo-warsaw"), clients[PIOTR]
    early, late = (circulate_plan(adela, adela.plan([JEAN], label="TEST SEALED", body=TEXT)) for _ in range(2))
    released, found = (opened(piotr, each.sent.message_id) for each in (early, late))

    def unreachable(**_query):
        raise Unavailable("the relay cannot be reached")

    with lying(piotr) as relay:
        relay.invent("POST", r"^/v1/messages$", unreachable)
        with pytest.raises(Waiting) as told:
            release_draft(piotr, released)
    assert told.value.sent.message_id == early.message_id
    offices.authorities["lo-warsaw"].revoke("adela@lo-warsaw", "left")
    listed = run(piotr, "inbox")
    assert (listed.exit_code, piotr.profile.cabinet.outbox()) == (0, [])
    assert f"message {early.message_id.hex()} will not be posted again: " in listed.stderr
    with pytest.raises(Refused, match="no longer enrolled"):
        release_draft(piotr, found)
    assert piotr.profile.cabinet.outbox() == []


def test_a_released_draft_that_waits_is_withdrawn_by_its_releasing_officer_and_not_posted(clients):
    piotr, draft = clients[PIOTR], drafted(clients)

    def unreachable(**_query):
        raise Unavailable("the relay cannot be reached")

    found = opened(piotr, draft.sent.message_id)
    with lying(piotr) as relay:
        relay.invent("POST", r"^/v1/messages$", unreachable)
        with pytest.raises(Waiting):
            release_draft(piotr, found)
    # of its originator's office, but neither its originator nor a security officer: the relay tells him nothing
    refused = run(piotr, "recall", draft.message_id.hex()[:12], "--reason", "Wrong annex", "--yes")
    assert (refused.exit_code, piotr.profile.cabinet.outbox()) == (1, [])
    assert "it waited here and will not be posted any more" in refused.stderr
    assert f"should the relay have it already, {ANNA} can take it back" in refused.stderr
    piotr.sync()
    assert gets_nothing(clients[JEAN], draft.message_id)
    assert release_draft(piotr, found)[0] == 0  # on second thoughts


def test_a_draft_whose_carrier_waits_is_named_with_its_own_id_and_with_its_carriers(clients, monkeypatch):
    anna, piotr, honest = clients[ANNA], clients[PIOTR], HttpTransport.post

    def post(self, path, *given):
        if path == "/v1/messages":
            raise Unavailable("cut off")
        return honest(self, path, *given)

    monkeypatch.setattr(HttpTransport, "post", post)
    words = ("draft", "--yes", "--to", JEAN, "--label", "TEST SEALED")
    told, text = run(anna, *words, "--json", body=TEXT), run(anna, *words, body=TEXT)
    monkeypatch.undo()
    row = json.loads(told.stdout)
    assert (told.exit_code, row["to"], row["state"]) == (7, ["release@lo-warsaw"], "waiting")
    carrier, second = (message_id.hex() for message_id, _submission in anna.profile.cabinet.outbox())
    assert row["draft"] == carrier
    assert anna.read(bytes.fromhex(row["message_id"])).state == DRAFTED
    assert anna.read(bytes.fromhex(text.stdout.strip())).state == DRAFTED
    assert f"officer runs: liaison release {second[:12]}\n" in text.stderr
    assert f"liaison: error: cut off\nliaison: hint: message {second} is sealed and waits" in text.stderr
    anna.sync()
    screen(piotr, "release", carrier, "--yes", "--json")
    assert clients[JEAN].read(bytes.fromhex(row["message_id"])).portions[0].text == TEXT


def test_a_draft_that_is_too_large_once_it_is_sealed_uses_no_number_and_is_not_kept(clients):
    anna = clients[ANNA]
    made = plan(clients, attachments=[Attachment("film", bytes(MAX_CONTENT - 10_000))])
    chain, kept = anna.profile.cabinet.chain(), dict(anna.records())
    with pytest.raises(TooLarge, match="what two persons release"):
        circulate_plan(anna, made)
    assert (anna.profile.cabinet.chain(), dict(anna.records())) == (chain, kept)


def test_a_draft_that_nobody_could_release_is_not_sealed(clients):
    luc = clients[LUC]
    before = luc.profile.cabinet.chain(), len(list(luc.records()))
    with pytest.raises(Refused, match="nobody else in your office"):
        circulate_plan(luc, luc.plan([ANNA], label="TEST SEALED", body=TEXT))
    assert (luc.profile.cabinet.chain(), len(list(luc.records()))) == before


WRONG = {
    "the drafter's own": lambda clients: [clients[ANNA]],
    "of one officer twice": lambda clients: [clients[PIOTR], clients[PIOTR]],
    "of an officer without the role": lambda clients: [clients[ADAM]],
    "of another office's releasing officer": lambda clients: [clients[LUC]],
    "over other bytes": lambda clients: [lambda _ref: endorsement(clients[PIOTR], bytes(32))],
    "in another's name": lambda clients: [
        lambda ref: endorsement(
            clients[ADAM], ref, address=PIOTR, device_id=clients[PIOTR].profile.signing.device_id
        )
    ],
    "under another's address": lambda clients: [lambda ref: endorsement(clients[PIOTR], ref, address=OLGA)],
    "from before its signer was certified": lambda clients: [lambda ref: endorsement(clients[PIOTR], ref, at=0)],
    "good, beside one that is not": lambda clients: [clients[PIOTR], clients[ADAM]],
    "no signature at all": lambda _clients: [lambda _ref: b"signed: Piotr"],
}  # fmt: skip


@pytest.mark.parametrize("signature", WRONG)
def test_a_second_signature_that_is_none_is_refused_by_relay_and_reader(clients, signature):
    assert refused_by_relay_and_reader(clients, *WRONG[signature](clients))


def test_an_officer_revoked_before_posting_released_nothing_whatever_time_he_wrote(offices, clients):
    leaver = offices.device("lech@lo-warsaw", roles=["release"])
    earlier = int(time.time()) - 5
    forge, submission = forged(clients, lambda ref: endorsement(leaver, ref, at=earlier))
    offices.authorities["lo-warsaw"].revoke("lech@lo-warsaw", "left")
    answer = forge.post(submission.encoded())
    assert (answer.status_code, problem(answer)["rules"]) == (403, ["second-signature"])


def test_a_second_signature_from_before_the_message_is_none(clients):
    """Its signer was certified then; but what he signed cannot have been this."""
    now, piotr = int(time.time()), clients[PIOTR]
    for at, status in ((now - 5, 201), (now - 30, 403)):
        forge, submission = forged(clients, lambda ref, at=at: endorsement(piotr, ref, at=at), created=now + 290)
        assert forge.post(submission.encoded()).status_code == status


def test_a_draft_is_as_urgent_for_who_releases_it_as_its_message_and_an_exercise_as_that_is(clients):
    """A FLASH that takes two persons waited with the ROUTINE for the second of them."""
    waiting = drafted(clients, precedence=Precedence.FLASH, message_type="exercise").sent.message_id
    (item,) = (item for item in clients[PIOTR].inbox() if item.message_id == waiting)
    assert (item.precedence, item.message.core.handling.message_type) == (Precedence.FLASH, "exercise")


def test_somebody_else_cannot_post_in_the_drafters_place(clients):
    forge, submission = forged(clients, clients[PIOTR])
    other = replace(forge, client=clients[ADAM])
    assert problem(other.post(submission.encoded()))["rules"] == ["second-signature"]
    assert forge.post(submission.encoded()).status_code == 201


# -- a drafter who lies -----------------------------------------------------------------------------------------------


def circulated(clients, submission: Submission, keys):
    """A draft message as a dishonest drafter makes it."""
    message = parse_message(submission.message)
    packed = pack_draft(submission.encoded(), keys, message.core.label)
    of = plan(clients).draft
    return circulate(clients[ANNA], packed, of.label, of.handling, message.core.message_id).message_id


def sealed_draft(clients, body):
    """(submission, content keys) of a draft that says this."""
    made, keys = plan(clients, body=body), fresh_keys(1)
    outgoing = clients[ANNA].outgoing()
    sealed = outgoing.prepare(made, int(time.time()), clients[ANNA].keeper(made), keys)
    return parse_submission(sealed.submission), keys


def test_what_the_officer_is_shown_is_what_the_addressees_would_open(clients):
    honest, keys = sealed_draft(clients, "Nothing to see.")
    evil, evil_keys = sealed_draft(clients, "The fleet's position.")
    shown = opened(clients[PIOTR], circulated(clients, evil, evil_keys))
    assert shown.portions[0].text == "The fleet's position."
    for lie in (
        (evil, keys),  # the keys of another text
        (replace(evil, parts=honest.parts), keys),  # another text's parts, with their keys, under this header
        (evil, []),  # nothing to look at
        (evil, [*evil_keys, *keys]),
    ):
        with pytest.raises(LiaisonError):
            opened(clients[PIOTR], circulated(clients, *lie))


def test_a_signature_over_one_draft_releases_no_other(clients):
    honest, _keys = sealed_draft(clients, "Nothing to see.")
    evil, _evil_keys = sealed_draft(clients, "The fleet's position.")
    ref = parse_message(honest.message).ref
    swapped = replace(evil, endorsements=(endorsement(clients[PIOTR], ref),))
    answer = Forge(clients[ANNA]).post(swapped.encoded())
    assert (answer.status_code, problem(answer)["rules"]) == (403, ["second-signature"])


def test_a_draft_in_another_offices_name_is_none(clients):
    luc = clients[LUC]
    made, keys = luc.plan(["release@lo-paris", ANNA], label="TEST SEALED", body=TEXT), fresh_keys(1)
    sealed = luc.outgoing().prepare(made, int(time.time()), luc.keeper(made), keys)
    with pytest.raises(Unverified, match="another office"):
        opened(clients[PIOTR], circulated(clients, parse_submission(sealed.submission), keys))


# -- lowering a label -------------------------------------------------------------------------------------------------


def original(clients):
    draft = drafted(clients)
    release_draft(clients[PIOTR], opened(clients[PIOTR], draft.sent.message_id))
    return draft.message_id


def waiting(client, sender):
    """The newest draft from this colleague."""
    found = [item for item in client.inbox() if item.message.core.sender == sender and not item.problem]
    return max(found, key=lambda item: item.message.core.seq).message_id


def lower(clients, message_id, **more):
    terms = {"label": "TEST OPEN", "reason": "the ferry has sailed", "to": [], "body": None, **more}
    return draft_downgrade(clients[ANNA], message_id, **terms)


def test_a_label_is_lowered_by_two_others_into_a_new_message_linked_to_the_old(clients):
    old = original(clients)
    before = clients[JEAN].read(old).message.encoded
    draft = lower(clients, old)
    assert release_draft(clients[PIOTR], opened(clients[PIOTR], draft.sent.message_id)) == (1, -1)
    assert gets_nothing(clients[JEAN], draft.message_id)
    second = opened(clients[OLGA], waiting(clients[OLGA], PIOTR))
    assert release_draft(clients[OLGA], second)[0] == 0
    record = clients[JEAN].read(draft.message_id)
    core = record.message.core
    assert core.handling.supersedes == (parse_message(before).ref, "the ferry has sailed")
    assert clients[JEAN].labels.marking(clients[JEAN].labels.label_of(core.label)) == "TEST OPEN"
    assert TEXT in [portion.text for portion in record.portions.values()]
    assert record.released_by == (PIOTR, OLGA)
    assert clients[JEAN].read(old).message.encoded == before
    (told,) = [line for line in screen(clients[JEAN], "read", core.message_id.hex()) if line.startswith("Replaces:")]
    assert told.split(maxsplit=1)[1] == f"{parse_message(before).ref.hex()[:12]}: the ferry has sailed"


def test_who_had_a_message_for_information_has_the_lowered_one_for_information_too(clients):
    draft = drafted(clients, info=[ADAM], exempt=[LUC])
    release_draft(clients[PIOTR], opened(clients[PIOTR], draft.sent.message_id))
    before, lowered = (
        opened(clients[PIOTR], each.sent.message_id).message.core.addressees
        for each in (draft, lower(clients, draft.message_id))
    )
    assert [each.kind.name for each in lowered] == ["ACTION", "INFO", "EXEMPTED"]
    assert lowered == before
    only = lower(clients, draft.message_id, to=[JEAN])
    assert [each.address for each in opened(clients[PIOTR], only.sent.message_id).message.core.addressees] == [JEAN]


def test_one_officer_twice_or_the_one_who_asked_does_not_lower_a_label(clients):
    draft = lower(clients, original(clients))
    first = opened(clients[PIOTR], draft.sent.message_id)
    release_draft(clients[PIOTR], first)
    again = opened(clients[OLGA], waiting(clients[OLGA], PIOTR))
    for other in (PIOTR, ANNA, ADAM, LUC):
        with pytest.raises(Refused) as told:
            release_draft(clients[other], again)
        assert told.value.rules == ("two-person-release",)
    answer = Forge(clients[ANNA]).post(again.submission.encoded())
    assert (answer.status_code, problem(answer)["rules"]) == (403, ["two-person-release"])


def test_a_label_is_lowered_for_a_reason_and_by_the_office_that_gave_it(clients):
    old = original(clients)
    clients[JEAN].read(old)
    with pytest.raises(LiaisonError, match="without a reason"):
        lower(clients, old, reason=" ")
    with pytest.raises(Refused) as told:
        draft_downgrade(clients[JEAN], old, "TEST OPEN", "we would like to", [ANNA], None)
    assert told.value.rules == ("originator",)
    assert run(clients[ANNA], "downgrade", old.hex(), "--label", "TEST OPEN").exit_code == 2


def test_a_sanitised_message_holds_nothing_of_the_old_text(clients):
    draft = lower(clients, original(clients), body="A ship moved.")
    found = opened(clients[PIOTR], draft.sent.message_id)
    assert [portion.text for portion in found.portions.values()] == ["A ship moved."]


# -- the succession date ----------------------------------------------------------------------------------------------


def test_a_label_with_a_successor_decides_and_shows_as_the_successor_from_its_date_on(offices, clients):
    anna, day = clients[ANNA], 1_900_000_000
    high, low = anna.labels.read("TEST SEALED"), anna.labels.read("TEST OPEN")
    encoded = label_bytes(replace(high, succession=Succession(day, low)))
    reader = offices.device("iga@lo-warsaw", clearances=[replace(clearance(["OPEN"]), not_after=day + 60)], days=3650)
    anna.sync()
    device = anna.trust.directory.devices[reader.profile.signing.device_id]
    circle = Circle("lo-warsaw", (Addressee(AddresseeKind.ACTION, "iga@lo-warsaw"),), day + 60)
    assert anna.judge.judge(Action.READ, circle, encoded, device, day - 1).failing == ("classification",)
    assert anna.judge.judge(Action.READ, circle, encoded, device, day).permitted
    past = replace(high, succession=Succession(int(time.time()) - 1, low))
    assert anna.labels.marking(past) == "TEST OPEN"
    assert anna.labels.marking(replace(high, succession=Succession(day, low))) == "TEST SEALED"


def test_a_system_is_no_second_person(offices, clients):
    robot = offices.device("robot@lo-warsaw", roles=["release"], kind=Kind.SYSTEM)
    assert refused_by_relay_and_reader(clients, robot)
