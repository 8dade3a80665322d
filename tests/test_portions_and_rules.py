"""A message of five portions at three labels to four offices of three nations: records, bytes and screens."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from sqlalchemy import select

from acts import as_json, gets_nothing, no_rules_at_the_relay, refuses, run, screen, slots_of, stored_message
from forge import Forge, problem, stored
from liaison import Attachment
from liaison.desk import Desk
from liaison.marks import paragraphs
from liaison.seal import unseal_part, unseal_slot
from relay.protocol.envelope import parse_message
from relay.protocol.errors import LiaisonError, Malformed, Refused
from relay.protocol.marking_reader import parse_marking
from relay.protocol.spif import read_spif
from relay.store.schema import part
from world import TEST_SPIF, clearance, world

ANNA, PIOTR, OLA, JEAN, KARI = "anna@lo-warsaw", "piotr@lo-warsaw", "ola@lo-gdansk", "jean@lo-paris", "kari@lo-oslo"
READERS = (PIOTR, OLA, JEAN, KARI)
MARKS = b'portion_marks = { OPEN = "O", CLOSED = "C", SEALED = "S" }\nportion_prefixes = { "Releasable To" = "REL " }\n'
BANNER = "TEST SEALED RELEASABLE TO POL"
FOR_TWO = "TEST CLOSED RELEASABLE TO FRA, POL"
BODY = "Plan at 0400.\n(O) Weather is fair.\n(C REL FRA, POL) The ferry sails.\n"
MAP, MENU = Attachment("map.txt", b"Here be the ferry.", FOR_TWO), Attachment("menu.txt", b"Herring.", "TEST OPEN")
TEXTS = {0: "Plan at 0400.\n", 1: "Weather is fair.\n", 2: "The ferry sails.\n", 3: MAP.content.decode(), 4: "Herring."}
MAY_READ = {PIOTR: (0, 1, 2, 3, 4), OLA: (1, 2, 3, 4), JEAN: (1, 2, 3, 4), KARI: (1, 4)}


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    """Gdansk shares with Warsaw up to CLOSED only; what the others may not read, their clearances say."""
    with world(tmp_path_factory.mktemp("portions")) as built:
        nations = {"lo-warsaw": "POL", "lo-gdansk": "POL", "lo-paris": "FRA", "lo-oslo": "NOR"}
        for office, nation in nations.items():
            built.office(office, nation, policy=None).publish_policy(TEST_SPIF, MARKS)
        built.agreement("lo-warsaw", "lo-gdansk", levels=["OPEN", "CLOSED"])
        built.agreement("lo-warsaw", "lo-paris")
        built.agreement("lo-warsaw", "lo-oslo")
        for address in (ANNA, *READERS):
            built.device(address, clearances=[clearance(nations=[nations[address.partition("@")[2]]])])
        yield built


@pytest.fixture(scope="module")
def sent(offices):
    return offices.clients[ANNA].send(READERS, label=BANNER, subject="Plan", body=BODY, attachments=[MAP, MENU])


@pytest.fixture(scope="module")
def seeds(offices, sent):
    """Every reader's private keys as they were before anything was opened; opening deletes them."""
    return {
        reader: {key.kp_ref: key.seed for key in offices.clients[reader].profile.cabinet.prekeys()}
        for reader in READERS
    }


def test_the_sender_is_told_which_portion_goes_to_whom_and_which_rule_says_no(offices):
    plan = offices.clients[ANNA].plan(READERS, label=BANNER, subject="Plan", body=BODY, attachments=[MAP, MENU])
    for verdict in plan.verdicts:
        assert verdict.grants[0].granted == MAY_READ[verdict.addressee.address]
    against = {verdict.addressee.address: verdict.decisions[0].failing for verdict in plan.verdicts}
    assert against == {PIOTR: (), OLA: ("agreement",), JEAN: ("permissive",), KARI: ("permissive",)}


def test_each_slot_holds_the_keys_of_exactly_the_permitted_portions(offices, sent, seeds):
    held = parse_message(stored_message(offices, sent.message_id))
    with offices.relay._readers.connect() as connection:
        rows = connection.scalars(
            select(part.c.sealed).where(part.c.message_id == sent.message_id).order_by(part.c.idx)
        )
        parts = [bytes(row) for row in rows]
    slots = slots_of(offices, sent.message_id)
    assert len(slots) == len(READERS)
    for reader in READERS:
        key = offices.clients[reader].profile.signing
        keys = unseal_slot(held, slots[key.device_id], seeds[reader][slots[key.device_id].kp_ref], key.kid)
        assert tuple(keys) == slots[key.device_id].granted == MAY_READ[reader]
        assert len(slots[key.device_id].wrapped) == 32 * len(keys) + 16  # room for no other key
        opened = {
            index for index, content_key in product(range(5), keys.values()) if opens(held, index, content_key, parts)
        }
        assert opened == set(MAY_READ[reader])


def opens(held, index, content_key, parts) -> bool:
    try:
        unseal_part(held.core, index, content_key, parts[index])
    except LiaisonError:
        return False
    return True


@pytest.mark.parametrize("reader", READERS)
def test_each_reader_reads_what_the_rules_allow_and_nothing_else(offices, sent, seeds, reader):
    client = offices.clients[reader]
    record = client.read(sent.message_id)
    assert {index: portion.text for index, portion in record.portions.items()} == {
        index: TEXTS[index] for index in MAY_READ[reader]
    }


@pytest.mark.parametrize("reader", READERS)
def test_each_screen_names_what_is_withheld_and_nothing_of_it(offices, sent, seeds, reader):
    shown = screen(offices.clients[reader], "read", sent.message_id.hex())
    assert shown[0] == shown[-1] == BANNER
    withheld = [line for line in shown if line.startswith("[withheld: ")]
    marks = {0: "S REL POL", 1: "O", 2: "C REL POL, FRA", 3: "C REL POL, FRA", 4: "O"}
    assert withheld == [f"[withheld: {marks[index]}]" for index in range(5) if index not in MAY_READ[reader]]
    told = "\n".join(shown)
    for index, text in TEXTS.items():
        if index < 3:
            assert (text.strip() in told) is (index in MAY_READ[reader])
    assert ("map.txt" in told) is (3 in MAY_READ[reader])
    assert ("Subject:     Plan" in shown) is (0 in MAY_READ[reader])


def test_scripts_are_told_the_same(offices, sent, seeds):
    told = as_json(offices.clients[KARI], "read", sent.message_id.hex())
    assert told["subject"] is None
    assert [(each["index"], each["text"], each["withheld"]) for each in told["portions"]] == [
        (0, None, True), (1, TEXTS[1], False), (2, None, True), (3, None, True),
    ]  # fmt: skip
    assert [each["index"] for each in told["attachments"]] == [4]


def test_explain_says_for_each_addressee_and_portion_which_rule_says_no(offices, sent):
    rows = [line.split("\t") for line in screen(offices.clients[ANNA], "explain", sent.message_id.hex())[1:-1]]
    told = {(address, name.split()[0]): (answer, why) for address, name, answer, *why in rows}
    assert len(told) == len(READERS) * 5
    for reader, index in product(READERS, range(5)):
        answer, why = told[reader, str(index)]
        assert answer == ("yes" if index in MAY_READ[reader] else "no")
        assert bool(why) is (answer == "no")
    assert told[OLA, "0"][1][0].startswith("agreement: ")
    assert told[KARI, "2"][1][0].startswith("permissive: ")


# -- a slot that grants too much --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forge(offices):
    return Forge(offices.clients[ANNA]).prepare(KARI, label=BANNER, body=BODY)


def granting(forge, *portions):
    return forge.seal(readers=[replace(reader, granted=portions) for reader in forge.claim()])


def test_the_relay_refuses_a_slot_that_grants_more_than_its_reader_may_have(offices, forge):
    assert forge.post(granting(forge, 1).encoded()).status_code == 201
    for portions in ((0, 1), (1, 2), (2,)):
        body = granting(forge, *portions).encoded()
        with stored(offices, log_entry=1):
            answer = forge.post(body)
        assert (answer.status_code, problem(answer)["rules"]) == (403, [f"{KARI}:permissive"])


def test_the_reader_refuses_a_slot_that_grants_more_than_he_may_have(offices, forge):
    kari, submission = offices.clients[KARI], granting(forge, 0, 1)
    message_id = parse_message(submission.message).core.message_id
    with no_rules_at_the_relay():
        assert forge.post(submission.encoded()).status_code == 201
        assert refuses(kari, message_id, "permissive")


# -- entitlements that end between sending and opening ----------------------------------------------------------------


def test_a_reader_whose_clearance_was_lowered_before_he_opens_gets_nothing(offices):
    luc = offices.device("luc@lo-paris", clearances=[clearance(nations=["FRA"])])
    low = offices.device("luc@lo-paris", clearances=[clearance(["OPEN"], nations=["FRA"])], name="luc lowered")
    sent = offices.clients[ANNA].send(["luc@lo-paris"], label=FOR_TWO, body="For now.")
    assert low.profile.signing.device_id not in slots_of(offices, sent.message_id)
    offices.authorities["lo-paris"].revoke(luc.profile.signing.device_id.hex(), "clearance lowered")
    with pytest.raises(LiaisonError):
        luc.read(sent.message_id)
    assert luc.profile.cabinet.message(sent.message_id) is None
    assert gets_nothing(low, sent.message_id)


def test_an_agreement_withdrawn_before_he_opens_leaves_him_nothing_at_once(offices):
    kari, anna = offices.clients[KARI], offices.clients[ANNA]
    agreement = offices.agreement("lo-warsaw", "lo-oslo", levels=["OPEN"])
    for state in list(offices.authorities["lo-oslo"].trust.directory.agreements.values()):
        if state.agreement.party("lo-oslo") and state.agreement.agreement_id != agreement.agreement_id:
            offices.authorities["lo-oslo"].withdraw(state.agreement.agreement_id, "replaced by a lower one")
    sent = anna.send([KARI], label="TEST OPEN", body="Still shared.")
    assert {item.message_id for item in kari.inbox()} >= {sent.message_id}
    with no_rules_at_the_relay():
        offices.authorities["lo-oslo"].withdraw(agreement.agreement_id, "no longer")
        assert refuses(kari, sent.message_id, "agreement")
    assert gets_nothing(kari, sent.message_id)
    with pytest.raises(Refused) as told:
        anna.send([KARI], label="TEST OPEN", body="Any more?")
    assert told.value.rules == ("agreement",)
    offices.agreement("lo-warsaw", "lo-oslo")


# -- what a policy says of withheld portions, and what marks cannot do --------------------------------------------------


def test_a_portion_mark_that_the_policy_does_not_have_is_an_error(offices):
    with pytest.raises(Malformed, match="not a portion mark"):
        offices.clients[ANNA].plan([JEAN], label=BANNER, body="(C REL FRN) mistyped\n")


def cut(offices, body):
    labels = offices.clients[ANNA].labels
    return [(labels.portion_mark(label), text) for label, text in labels.paragraphs(body, labels.read("TEST SEALED"))]


@pytest.mark.parametrize(
    "before", ["  ", "\t", "\u00a0", "\ufeff", "\u200b ", "2. ", "2.1 ", "a) ", "(1) ", "IV. ", "- ", " • "]
)
def test_blanks_what_is_invisible_and_a_lists_number_may_stand_before_a_portion_mark(offices, before):
    kept = before.strip("\ufeff\u200b").lstrip()
    body = f"(O) Fair weather.\n{before}(S) Agent X.\n"
    assert cut(offices, body) == [("S", ""), ("O", "Fair weather.\n"), ("S", f"{kept}Agent X.\n")]


LOOK_ALIKES = ["(Seald)", "2. (Seald)", "(s)", "[S]", "{Sealed}", "（S）", "> (S)", '"(S)"', "**[S]**", "(see annex)"]  # noqa: RUF001
LONG = "(Test Seald releasable to Poland, France, Norway, Sweden, Finland, Denmark)"


@pytest.mark.parametrize("bracket", [*LOOK_ALIKES, LONG, LONG.upper()])
def test_what_looks_like_a_portion_mark_is_refused_and_never_left_under_the_mark_before_it(offices, bracket):
    for body in (f"(O) Fair weather.\n\n{bracket} Agent X.\n", f"Top.\n\n{bracket} Agent X.\n(O) Fair weather.\n"):
        with pytest.raises(Malformed, match=r"^line 3: .* is not a portion mark") as told:
            cut(offices, body)
        assert told.value.hint


def test_a_lists_numbers_and_a_long_remark_are_text_also_after_a_portion_mark(offices):
    text = "Points:\n(1) one\n(a) two\n(ii) three\n(10:30) four\n(as was agreed with our friends on Friday last) five\n"
    assert cut(offices, f"(O) {text}")[1:] == [("O", text)]


@pytest.mark.parametrize(
    "text", ["(see annex) x\n", "[OK] x\n", "[NATO](x)\n", "a (small) boat\n", "(Seald) x\n", "()\n"]
)
def test_without_portion_marks_what_is_in_brackets_is_text_under_the_messages_own_label(offices, text):
    assert cut(offices, text) == [("S", text)]


def test_a_portion_mark_may_be_as_long_as_a_marking_and_have_brackets_inside():
    name = f"FOX ({'B' * 220})"
    policy = read_spif(TEST_SPIF.replace(b'"FOX"', f'"{name}"'.encode()))[0]
    banner = parse_marking(policy, "TEST OPEN", 0)
    (_, top), (label, text) = paragraphs(policy, f"Top.\n(TEST SEALED {name}) Agent X.\n", banner, 0)
    assert (top, label.categories[0].values, text) == ("Top.\n", (name,), "Agent X.\n")


def test_a_banner_below_its_portions_is_refused_before_anything_leaves(offices):
    plan = offices.clients[ANNA].plan([JEAN], label="TEST OPEN", body="x\n(S) secret\n")
    with pytest.raises(Refused, match="policy does not permit") as told:
        offices.clients[ANNA].release(plan)
    assert told.value.rules == ("banner",)


def test_where_what_is_not_released_stays_in_the_office_no_answer_or_forward_carries_it_out(tmp_path):
    with world(tmp_path) as built:
        extensions = MARKS + b'absent = { "Releasable To" = "owner_only" }\n'
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
            built.office(office, nation, policy=None).publish_policy(TEST_SPIF, extensions)
        built.agreement("lo-warsaw", "lo-paris")
        anna, piotr, jean = (
            built.device(address, clearances=[clearance(nations=[nation])])
            for address, nation in ((ANNA, "POL"), (PIOTR, "POL"), (JEAN, "FRA"))
        )
        released, body = "TEST SEALED RELEASABLE TO POL, FRA", "(S REL POL, FRA) Ferry.\n(S) Agent X.\n"
        with pytest.raises(Refused) as told:
            anna.send([PIOTR, JEAN], label=released, body=body)
        assert told.value.rules == ("banner",)
        sent = anna.send([PIOTR, JEAN], label="TEST SEALED", body=body)
        assert [each.text for each in jean.read(sent.message_id).portions.values()] == ["Ferry.\n"]
        portions = piotr.read(sent.message_id).portions.values()
        assert piotr.labels.highest(piotr.labels.label_of(each.label) for each in portions) == "TEST SEALED"
        desk = Desk(piotr)
        for plan in (
            desk.plan_reply(sent.message_id, "Seen.", label=None, quote=True),
            desk.plan_forward(sent.message_id, [JEAN], "See.", label=None),
        ):
            assert piotr.labels.marking(plan.draft.label) == "TEST SEALED"
        with pytest.raises(Refused) as told:
            desk.plan_reply(sent.message_id, "Seen.", label=released, quote=True)
        assert told.value.rules == ("derived-label",)


def test_where_the_policy_withholds_silently_a_reader_is_not_told_that_there_was_more(tmp_path):
    with world(tmp_path) as built:
        built.office("lo-warsaw", "POL", policy=None).publish_policy(TEST_SPIF, MARKS + b'withhold = "silent"\n')
        anna = built.device(ANNA)
        luc = built.device("luc@lo-warsaw", clearances=[clearance(["OPEN"])])
        sent = anna.send(["luc@lo-warsaw"], label="TEST SEALED", subject="Plan", body="Secret.\n(O) Open.\n")
        shown = screen(luc, "read", sent.message_id.hex())
        assert "(O) Open." in shown
        assert "withheld" not in "\n".join(shown)
        told = as_json(luc, "read", sent.message_id.hex())
        assert [(each["index"], each["text"]) for each in told["portions"]] == [(1, "Open.\n")]


def test_two_commands_one_answer(offices):
    """`explain` by address and label says what `send --dry-run` says."""
    anna = offices.clients[ANNA]
    by_label = screen(anna, "explain", "--to", KARI, "--label", BANNER)
    dry = run(anna, "send", "--dry-run", "--to", KARI, "--label", BANNER, body="x").stdout.splitlines()
    assert by_label == dry
    assert run(anna, "send", "--yes", "--to", KARI, "--label", BANNER, body="x").exit_code == 6
