"""Plays of the model that are as short as they can be: what long ones have found, and what they meet too rarely."""

from __future__ import annotations

import pytest

from model.acts import key_of
from model.approving import Way
from model.cast import WORDS
from model.holding import Holding
from model.post import Post
from model.sight import Sight
from model.stage import template
from model.terms import DAY, Label


@pytest.fixture(scope="module")
def founded(tmp_path_factory):
    with template("sqlite", tmp_path_factory.mktemp("plays")) as made:
        yield made


@pytest.fixture
def stage(founded):
    with founded.copied() as copied:
        yield copied


def test_a_denial_says_of_a_message_what_stands_before_it_in_the_same_commit(stage):
    post, sight = Post(stage), Sight(stage)
    stage.room = 3  # a claim, the message, the denial
    post.send("anna", Label("CLOSED"), [Label("CLOSED")], {"jean.petit@lo-paris": 1}, DAY, 2)
    post.open(0, WORDS.index("luc"), addressed=False, claimed=0)
    sight.check_state()


def test_a_denial_in_the_commit_of_a_recall_says_that_it_was_recalled(stage):
    post, sight = Post(stage), Sight(stage)
    post.send("anna", Label("CLOSED"), [Label("CLOSED")], {"jean.petit@lo-paris": 1}, DAY, 2)
    stage.room = 2
    post.recall(0, None, None, spill=False)
    post.open(0, 0, addressed=True, claimed=0)
    sight.check_state()


def test_what_was_claimed_or_accepted_in_front_of_it_holds_for_whoever_comes_later_in_the_commit(stage):
    post, sight = Post(stage), Sight(stage)
    stage.room = 3
    post.send("anna", Label("CLOSED"), [Label("CLOSED")], {"jean.petit@lo-paris": 1}, DAY, 2, odd_key=True)
    post.open(0, 0, addressed=True, claimed=0)
    sight.check_state()


def sent(stage, **how):
    post = Post(stage)
    post.send("anna", Label("CLOSED"), [Label("CLOSED")], {"jean.petit@lo-paris": 1}, DAY, 2, **how)
    return post


def last(stage):
    """What the access log says last."""
    return stage.model.log[-1]


def test_a_word_on_a_hold_lapses_with_its_device(stage):
    holding, sight = Holding(sent(stage)), Sight(stage)
    holding.hold(0, "ewa", "place")
    stage.do(stage.registry.revoke("ewa"))
    holding.hold(0, "ola", "place")
    assert last(stage).detail == "place 1 of 2: inquiry"
    sight.check_state()
    sight.check_mailbox("ola", None)


@pytest.mark.parametrize("fault", ["none", "own", "old", "revoked", "one person"])
def test_a_hold_stands_by_the_approvals_of_two_other_people_who_are_named_for_it(stage, fault):
    holding, sight = Holding(sent(stage)), Sight(stage)
    named = [key_of(each).device_id for each in ("anna", "anna's other", "ewa", "ola")]
    stage.do(stage.registry.name("lo-warsaw", 1, {"hold": 2}, named))
    by = {"own": ("anna", "ola", "ewa"), "one person": ("anna", "anna's other")}.get(fault, ("anna", "ola"))
    if fault == "revoked":
        stage.do(stage.registry.revoke("ola"))
    holding.hold(0, "ewa", "place", Way(tuple(key_of(each).device_id for each in by), 8 * DAY if fault == "old" else 0))
    assert (last(stage).detail == "place 3 of 3: inquiry") is (fault == "none")
    sight.check_state()
    sight.check_mailbox("ewa", None)
    sight.check_mailbox("zoe", None)  # of another office


@pytest.mark.parametrize("fault", ["none", "lost", "same person"])
def test_who_has_released_a_message_is_somebody_else_and_can_act_when_it_is_posted(stage, fault):
    by = "anna's other" if fault == "same person" else "ola"
    post, sight = sent(stage, by=[by], age=30, later=True), Sight(stage)
    if fault == "lost":
        stage.do(stage.registry.revoke("ola"))
    post.post_again(0, None)
    assert last(stage).rules == (frozenset() if fault == "none" else {"second-signature"})
    sight.check_state()


@pytest.mark.parametrize("end", ["none", "time", "revoked"])
def test_what_goes_to_a_third_office_by_a_consent_goes_for_as_long_as_that_holds(stage, end):
    post, sight, oslo = Post(stage), Sight(stage), {"nils.dal@lo-oslo": 1}
    post.send("jean", Label("OPEN"), [Label("OPEN")], {"anna.nowak@lo-warsaw": 1}, DAY, 2, is_controlled=True)
    post.forward(0, "anna", oslo, label=None, consenting=("jean", "lo-oslo", 60), leaves_out=False)
    if end == "time":
        stage.pass_time(61)
    elif end == "revoked":
        stage.pass_time(1)  # or he had not been able to sign the original either
        stage.do(stage.registry.revoke("jean"))
    post.open(1, 0, addressed=True, claimed=0)
    assert last(stage).rules == {"none": frozenset(), "time": {"handling"}, "revoked": {"second-signature"}}[end]
    sight.check_state()


def test_whom_an_original_exempts_gets_nothing_of_it(stage):
    post, sight, oslo = Post(stage), Sight(stage), {"nils.dal@lo-oslo": 1, "kari.lie@lo-oslo": 1}
    to = {"anna.nowak@lo-warsaw": 1, "nils.dal@lo-oslo": 3}
    post.send("jean", Label("OPEN"), [Label("OPEN")], to, DAY, 2)
    while key_of("nils").device_id not in post.sealed[-1].slots:  # each goes to one who is not to have it, in turn
        post.forward(0, "anna", oslo, label=None, consenting=("jean", "lo-oslo", 60), leaves_out=False, honest=False)
    assert last(stage).rules == {"nils.dal@lo-oslo:need-to-know"}
    sight.check_state()
