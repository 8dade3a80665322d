"""What a sender asks for: what is refused before anything is sent, and what is sent as it was kept."""

from __future__ import annotations

import pytest

from acts import waiting
from forge import rows
from relay.protocol.envelope import parse_message, parse_submission
from relay.protocol.errors import Malformed, Refused

JEAN, LUC = "jean.petit@lo-paris", "luc.bas@lo-paris"
SEALED = "TEST SEALED RELEASABLE TO FRA, POL"
OPEN = "TEST OPEN RELEASABLE TO FRA, POL"
SECRET = "Ferry at dawn."


@pytest.mark.parametrize("label", ["TEST", "TEST SEALD", "NATO SECRET", "SEALED TEST", "TEST OPEN FOX"])
def test_a_label_that_cannot_be_read_is_refused_with_a_hint(anna, label):
    with pytest.raises(Malformed) as refused:
        anna.send([JEAN], label=label, body=SECRET)
    assert refused.value.hint
    assert waiting(anna) == []


@pytest.mark.parametrize("mark", ["TEST SEALD", "SECRET", "TEST SEALED FOXX"])
def test_a_mistyped_portion_mark_is_refused_and_does_not_fall_under_the_mark_before_it(anna, mark):
    body = f"Top.\n(TEST OPEN RELEASABLE TO FRA, POL) For many.\n({mark}) {SECRET}\n"
    with pytest.raises(Malformed, match="is not a portion mark") as refused:
        anna.send([JEAN, LUC], label=SEALED, body=body)
    assert refused.value.hint


@pytest.mark.parametrize("bracket", ["1", "a", "ii", "see annex", "Paris"])
def test_a_bracket_that_is_no_mark_is_text(anna, jean, bracket):
    body = f"Points:\n({bracket}) first\n"
    sent = anna.send([JEAN], label=SEALED, body=body)
    assert jean.read(sent.message_id).portions[0].text == body


def test_no_addressee_means_nobody_and_is_refused(anna):
    for to, exempt in ([], []), ([], [JEAN]), ([JEAN], [JEAN]):
        with pytest.raises(Malformed, match="no addressee"):
            anna.send(to, exempt=exempt, label=SEALED, body=SECRET)


def test_everybody_refused_is_a_refusal_and_nothing_is_sent(two_offices, anna):
    before = rows(two_offices)["message"]
    with pytest.raises(Refused) as refused:
        anna.send([LUC, "nobody@lo-paris"], label=SEALED, body=SECRET)
    assert set(refused.value.rules) == {"classification", "unknown-address"}
    assert rows(two_offices)["message"] == before
    assert waiting(anna) == []


def test_every_message_of_an_originator_has_a_dtg_of_its_own(anna):
    dtgs = [anna.send([JEAN], label=SEALED, body=SECRET).dtg for _ in range(3)]
    assert len(set(dtgs)) == 3
    assert all(dtg % 60 == 0 for dtg in dtgs)


def test_plans_that_are_released_in_another_order_than_they_were_made_have_a_dtg_each(anna):
    early, late = (anna.plan([JEAN], label=SEALED, body=SECRET) for _ in range(2))
    between = [anna.send([JEAN], label=SEALED, body=SECRET).dtg for _ in range(3)]
    dtgs = [*between, anna.release(late).dtg, anna.release(early).dtg, anna.release(early).dtg]
    assert dtgs == sorted(set(dtgs))


def test_what_is_posted_is_what_was_kept(anna):
    """The sender's own copy, the outbox and the relay have the same signed bytes."""
    posted = []

    class Watching:
        def __init__(self, honest):
            self.honest = honest

        def __getattr__(self, name):
            return getattr(self.honest, name)

        def post(self, path, body, seen=0, precedence=None):
            posted.append((path, body))
            return self.honest.post(path, body, seen)

    honest = anna.transport
    anna.transport = Watching(honest)
    try:
        sent = anna.send([JEAN], label=SEALED, body=SECRET)
    finally:
        anna.transport = honest
    (body,) = [body for path, body in posted if path == "/v1/messages"]
    assert parse_submission(body).message == anna.read(sent.message_id).encoded
    assert parse_message(parse_submission(body).message).core.message_id == sent.message_id
