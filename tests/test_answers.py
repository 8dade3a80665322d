"""Reply, forward, attach: a new message carries at least the label of what it contains, whoever writes it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from acts import agree, as_json, no_rules_at_the_relay, refuses, run, screen
from forge import Forge, problem
from liaison import Attachment
from liaison.desk import Desk
from liaison.passing import derived_label, originals_of
from relay.protocol.envelope import parse_message
from relay.protocol.errors import Refused
from relay.protocol.label import Succession
from world import clearance, world

ANNA, EWA, JEAN, LUC = "anna@lo-warsaw", "ewa@lo-warsaw", "jean@lo-paris", "luc@lo-paris"
BANNER = "TEST SEALED RELEASABLE TO POL, FRA"
ATTACHED = Attachment("map.txt", b"Here be the ferry.", "TEST CLOSED")


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    with world(tmp_path_factory.mktemp("answers")) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
            built.office(office, nation)
        agree(built, "lo-paris", "lo-warsaw", purposes=("", "rescue"))
        for address, nation in ((ANNA, "POL"), (EWA, "POL"), (JEAN, "FRA")):
            built.device(address, clearances=[clearance(nations=[nation])])
        built.device(LUC, clearances=[clearance(["OPEN"], nations=["FRA"])])
        for client in built.clients.values():
            client.sync()
        yield built


@pytest.fixture
def anna(offices):
    return offices.clients[ANNA]


@pytest.fixture
def jean(offices):
    return offices.clients[JEAN]


def received(anna, jean, **more):
    sent = anna.send([JEAN], **{"label": BANNER, "subject": "Ferry", "body": "When does it sail?", **more})
    jean.read(sent.message_id)
    return sent.message_id


def marking(client, plan):
    return client.labels.marking(plan.draft.label)


# -- reply ------------------------------------------------------------------------------------------------------------


def test_a_reply_goes_to_the_sender_under_the_label_of_what_it_answers(anna, jean):
    message_id = received(anna, jean)
    plan = Desk(jean).plan_reply(message_id, "At four.", label=None, quote=False)
    assert (marking(jean, plan), [each.addressee.address for each in plan.released]) == (BANNER, [ANNA])
    record = anna.read(jean.release(plan).message_id)
    assert record.message.core.handling.references == (message_id,)
    assert (record.portions[0].name, record.portions[0].text) == ("Re: Ferry", "At four.")


def test_a_reply_under_a_lower_label_is_refused_with_the_rule(anna, jean):
    message_id = received(anna, jean)
    for lower in (
        "TEST OPEN",
        "TEST CLOSED RELEASABLE TO FRA, POL",
        "TEST SEALED",
        "TEST SEALED RELEASABLE TO FRA, NOR, POL",
    ):
        with pytest.raises(Refused) as told:
            Desk(jean).plan_reply(message_id, "At four.", label=lower, quote=False)
        assert told.value.rules == ("derived-label",)
    result = run(jean, "reply", message_id.hex(), "--label", "TEST OPEN", "--yes", body="At four.")
    assert (result.exit_code, "derived-label" in result.stderr) == (6, True)


def test_a_reply_under_a_higher_label_is_the_writers_choice(anna, jean):
    message_id = received(anna, jean, label="TEST OPEN")
    plan = Desk(jean).plan_reply(message_id, "At four.", label="TEST SEALED", quote=False)
    assert (marking(jean, plan), len(plan.released)) == ("TEST SEALED", 1)


def test_a_quote_holds_what_the_reader_could_read_and_nothing_of_the_rest(offices, anna):
    luc = offices.clients[LUC]
    mark = anna.labels.portion_mark(anna.labels.read("TEST OPEN"))
    body = f"Secret.\n({mark}) Open to all.\n"
    sent = anna.send([LUC], label=BANNER, subject="Ferry", body=body)
    luc.read(sent.message_id)
    plan = Desk(luc).plan_reply(sent.message_id, "Thanks.", label=None, quote=True)
    assert marking(luc, plan) == "TEST OPEN"
    record = anna.read(luc.release(plan).message_id)
    assert [each.text for each in record.portions.values()] == ["Thanks.", "> Open to all.\n"]


def test_a_quote_stays_under_its_own_label_whatever_mark_the_reply_ends_under(offices, anna, jean):
    opened = anna.labels.portion_mark(anna.labels.read("TEST OPEN"))
    message_id = received(anna, jean, body=f"Agent X.\n({opened}) Fair weather.\n")
    plan = Desk(jean).plan_reply(message_id, f"({opened}) Received.\n", label=None, quote=True)
    portions = anna.read(jean.release(plan).message_id).portions.values()
    assert [(anna.labels.marking(anna.labels.label_of(each.label)), each.text) for each in portions] == [
        (BANNER, ""),
        ("TEST OPEN", "Received.\n"),
        (BANNER, "> Agent X.\n"),
        ("TEST OPEN", "> Fair weather.\n"),
    ]


def test_only_text_is_quoted_not_what_programs_say_to_each_other(anna, jean):
    message_id = received(anna, jean, originator_controlled=True, attachments=[ATTACHED])
    asked = Desk(jean).ask_consent(message_id, "lo-oslo", "Why.")
    anna.read(asked.message_id)
    for client, quoted in ((jean, message_id), (anna, asked.message_id)):
        plan = Desk(client).plan_reply(quoted, "Yes.", label=None, quote=True)
        text = client.read(quoted).portions[0].text
        assert [each.text for each in plan.draft.portions[1:]] == ["".join(f"> {each}\n" for each in text.splitlines())]


def test_an_exercise_is_called_one_to_its_readers_and_so_is_what_answers_it(anna, jean, tmp_path):
    (tmp_path / "body.txt").write_text("Exercise, exercise.")
    words = ("--to", JEAN, "--label", "TEST OPEN", "--type", "exercise", "--yes", str(tmp_path / "body.txt"))
    message_id = bytes.fromhex(as_json(anna, "send", *words)["message_id"])
    assert as_json(jean, "read", message_id.hex())["type"] == "exercise"
    assert ["Type:", "EXERCISE"] in [line.split() for line in screen(jean, "read", message_id.hex())]
    desk = Desk(jean)
    answers = (
        desk.plan_reply(message_id, "Seen.", label=None, quote=False),
        desk.plan_forward(message_id, [ANNA], "Look.", label=None),
    )
    assert [plan.draft.handling.message_type for plan in answers] == ["exercise", "exercise"]


def test_an_answer_keeps_the_purpose_for_which_the_message_was_shared(anna, jean):
    message_id = received(anna, jean, purpose="rescue")
    plan = Desk(jean).plan_reply(message_id, "At four.", label=None, quote=False)
    assert anna.read(jean.release(plan).message_id).message.core.handling.purpose == "rescue"


def test_after_the_succession_date_an_answer_may_have_the_successors_label(anna):
    high, low = anna.labels.read("TEST SEALED"), anna.labels.read("TEST OPEN")
    parent, policy = replace(high, succession=Succession(1_900_000_000, low)), anna.labels.policy_for(high)
    assert derived_label(policy, [parent], None, 1_900_000_000).classification == "OPEN"
    with pytest.raises(Refused):
        derived_label(policy, [parent], low, 1_899_999_999)


def test_where_nobody_may_read_all_of_it_no_label_is_promised_to_help(anna):
    parents = [anna.labels.read(f"TEST SEALED RELEASABLE TO {nation}") for nation in ("FRA", "POL")]
    policy = anna.labels.policy_for(parents[0])
    for wanted in (None, parents[0], anna.labels.read("TEST SEALED")):
        with pytest.raises(Refused, match="read by nobody") as told:
            derived_label(policy, parents, wanted, 0)
        assert "liaison send" in told.value.hint
        assert "--label" not in told.value.hint


# -- forward ----------------------------------------------------------------------------------------------------------


def test_a_forward_keeps_every_portion_under_its_own_label(offices, anna, jean):
    message_id = received(anna, jean, attachments=[ATTACHED])
    plan = Desk(jean).plan_forward(message_id, [EWA, ANNA], "See below.", label=None)
    assert marking(jean, plan) == BANNER
    record = offices.clients[EWA].read(jean.release(plan).message_id)
    shown = {
        offices.clients[EWA].labels.marking(offices.clients[EWA].labels.label_of(each.label)): each.name
        for each in record.portions.values()
    }
    assert shown["TEST CLOSED"] == "map.txt"
    assert [each.text for each in record.portions.values()] == [
        "See below.",
        "When does it sail?",
        "Here be the ferry.",
    ]


def test_a_forward_under_a_lower_label_is_refused_by_sender_relay_and_reader(offices, anna, jean):
    message_id = received(anna, jean)
    with pytest.raises(Refused) as told:
        Desk(jean).plan_forward(message_id, [EWA], "Below.", label="TEST OPEN")
    assert told.value.rules == ("derived-label",)
    forge = Forge(jean).prepare(EWA, label="TEST OPEN", body="Said by Warsaw: it sails at four.")
    submission = forge.seal(passed_on=originals_of(jean.read(message_id)))
    answer = forge.post(submission.encoded())
    assert (answer.status_code, problem(answer)["rules"]) == (403, ["derived-label"])
    with no_rules_at_the_relay():
        assert forge.post(submission.encoded()).status_code == 201
        assert refuses(offices.clients[EWA], parse_message(submission.message).core.message_id, "derived-label")


def test_what_was_withheld_from_the_forwarder_still_counts_for_the_label(offices, anna):
    luc = offices.clients[LUC]
    mark = anna.labels.portion_mark(anna.labels.read("TEST OPEN"))
    sent = anna.send([LUC], label=BANNER, body=f"Secret.\n({mark}) Open to all.\n")
    luc.read(sent.message_id)
    plan = Desk(luc).plan_forward(sent.message_id, [JEAN], "See.", label=None)
    assert marking(luc, plan) == BANNER
    with pytest.raises(Refused, match="not send under this label"):
        luc.release(plan)


def test_one_cannot_answer_oneself(anna):
    sent = anna.send([EWA], label="TEST OPEN", body="x")
    for act in (
        lambda: Desk(anna).plan_reply(sent.message_id, "y", label=None, quote=False),
        lambda: Desk(anna).plan_forward(sent.message_id, [JEAN], "y", label=None),
    ):
        with pytest.raises(Refused):
            act()


# -- attach -----------------------------------------------------------------------------------------------------------


def test_an_attachment_above_the_message_is_refused_with_the_rule(anna, tmp_path):
    file = tmp_path / "map.txt"
    file.write_text("Here be the ferry.")
    words = ("send", "--yes", "--to", JEAN, "--label", "TEST OPEN", "--attach", f"{file}:TEST CLOSED")
    result = run(anna, *words, body="See the map.")
    assert (result.exit_code, result.stdout, "banner" in result.stderr) == (6, "", True)
    told = as_json(anna, *(word if word != "TEST OPEN" else "TEST CLOSED" for word in words), body="See the map.")
    assert told["released_to"] == [JEAN]


# -- explain ----------------------------------------------------------------------------------------------------------


def test_explain_has_a_row_for_each_addressee_and_portion_with_every_rule_in_words(offices, anna, jean, tmp_path):
    file = tmp_path / "map.txt"
    file.write_text("Here be the ferry.")
    words = ("--to", JEAN, "--to", LUC, "--label", BANNER, "--attach", f"{file}:TEST OPEN")
    rows = [line.split("\t") for line in screen(anna, "send", "--dry-run", *words, body="Secret.")]
    assert rows[0] == rows[-1] == [BANNER]
    assert [row[:3] for row in rows[1:-1]] == [
        [JEAN, "text 0", "yes"], [JEAN, "map.txt", "yes"], [LUC, "text 0", "no"], [LUC, "map.txt", "yes"],
    ]  # fmt: skip
    assert rows[3][3].startswith("classification: ")


def test_to_an_outsider_every_refusal_is_the_same(offices, anna):
    """What Luc may not read, and what does not exist, differ in nothing that he is told."""
    luc = offices.clients[LUC]
    closed = anna.send([JEAN], label="TEST CLOSED", body="x").message_id
    answers = []
    for message_id in (closed, bytes(16)):
        result = run(luc, "read", message_id.hex())
        answers.append((result.exit_code, result.stdout, result.stderr.replace(message_id.hex(), "")))
    assert answers[0] == answers[1]
    assert "CLOSED" not in answers[0][2]
