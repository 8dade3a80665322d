"""The relay against a model of it in dictionaries: random acts of three offices, and after each everything is compared.

What is asked, answered, logged and stored is what `model_relay.py` says of it, which is written from SPEC.md: on SQLite
and on PostgreSQL, by two relays on one database, several acts in one commit, commits that fail among them. The default
run is the same each time. `LIAISON_MODEL=500` plays so many examples, other ones each time, and shortens what it finds:

    LIAISON_MODEL=500 .venv/bin/pytest -n0 -o faulthandler_timeout=7200 tests/test_model.py
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from databases import BOTH
from model.acts import key_of
from model.approving import HONEST, Way
from model.cast import ALL, CAST, OFFICES, SPARE, WORDS, word_of
from model.holding import Holding
from model.post import Post
from model.sight import Sight
from model.stage import template
from model.steps import ADDRESSES, ANY, BY, LABELS, OFTEN, RARELY, RELEASERS, SENDERS, SOMETIMES, STEPS, TO, often
from model.terms import DAY, Label
from relay.protocol.identity import Kind

EXAMPLES = int(os.environ.get("LIAISON_MODEL", "0"))


class Play(RuleBasedStateMachine):
    """A play of so many steps; `template` is where it begins."""

    template = None

    def __init__(self) -> None:
        super().__init__()
        self._opened = self.template.copied()
        self.stage = self._opened.__enter__()
        self.stage.told, self.registry = note, self.stage.registry
        self.post, self.sight, self.seen = Post(self.stage), Sight(self.stage), -1
        self.holding = Holding(self.post)

    def teardown(self) -> None:
        try:
            if self.stage.is_sound:
                self.stage.commit()
                self.sight.check_state()
                self.sight.check_all()
        finally:
            self._opened.__exit__(None, None, None)

    @rule(step=st.deferred(lambda: st.sampled_from(STEPS).flatmap(lambda step: step)))
    def next(self, step):
        step.act(self, **step.how)

    @invariant()
    def everything_is_as_the_model_says(self) -> None:
        if self.stage.turn != self.seen:  # else nothing has happened yet
            self.seen = self.stage.turn
            self.sight.check_state()

    # -- messages

    @initialize(label=LABELS)
    def there_is_mail(self, label):
        label = replace(label, codeword=False, version=1, nations=frozenset({"FRA", "NOR", "POL"}))
        self.post.send("anna", label, [label], {"jean.petit@lo-paris": 1, "duty@lo-warsaw": 2}, 9 * DAY, 2)

    @often(
        5, who=st.sampled_from([*SENDERS, *WORDS]), label=LABELS, others=st.lists(LABELS, max_size=1), to=TO, precedence=st.integers(0, 5),
        life=st.sampled_from([60, 3600, DAY, 9 * DAY, 100 * DAY]), honest=OFTEN, later=RARELY, odd_key=RARELY,
        by=st.none() | st.none() | RELEASERS,
    )  # fmt: skip
    def send(self, who, label, others, to, precedence, life, honest, later, odd_key, by):
        labels = [label, *others] if honest else [*others, label]
        self.post.send(who, label, labels, to, life, precedence, honest=honest, later=later, odd_key=odd_key, by=by)

    @often(
        6, who=st.sampled_from(["anna", "anna", "anna's other", "ewa", "jean"]), level=st.sampled_from(["CLOSED", "SEALED", "SEALED"]),
        draft=RARELY, by=st.none() | RELEASERS, age=st.sampled_from([0, 30, 30, 200, 400]), poster=st.none() | st.sampled_from(WORDS),
        meanwhile=st.sampled_from(["nothing", "nothing", "revoke", "revoke", "adopt", "wait"]), others=st.none() | RELEASERS,
    )  # fmt: skip
    def release(self, who, level, draft, by, age, poster, meanwhile, others):
        """A message that a second officer releases; something happens between that and its posting."""
        to = {"release@lo-warsaw": 1} if draft else {"jean.petit@lo-paris": 1, "ewa.lis@lo-warsaw": 1}
        count = len(self.post.sealed)
        self.post.send(who, Label(level), [Label(level)], to, 9 * DAY, 2, later=True, by=by, age=age)
        if len(self.post.sealed) == count:
            return
        mail = self.post.sealed[-1]
        if meanwhile == "revoke" and mail.endorsed:
            self.stage.do(self.registry.revoke(word_of(mail.endorsed[-1].device_id)))
        elif meanwhile == "adopt":
            self.stage.do(self.registry.adopt(mail.office, 2))
        elif meanwhile == "wait":
            self.stage.pass_time(DAY)
        self.post.post_again(-1, word_of(mail.endorsed[-1].device_id) if poster is None and mail.endorsed else poster)
        if others is not None:
            self.post.release_again(-1, others, who)

    @often(
        8, who=st.sampled_from(SENDERS), level=st.sampled_from(["OPEN", "OPEN", "CLOSED", "SEALED"]), to=TO, late=RARELY
    )
    def send_what_is_likely_to_go(self, who, level, to, late):
        self.post.send(who, Label(level), [Label(level), Label("OPEN")], to, 60 if late else 9 * DAY, 2)

    @often(5, who=st.sampled_from(SENDERS), codeword=RARELY)
    def send_to_whom_it_is_likely_to_reach(self, who, codeword):
        to = {"jean.petit@lo-paris": 1, "duty@lo-warsaw": 1, "rene.roy@lo-paris": 2, "ewa.lis@lo-warsaw": 2}
        label = Label("CLOSED", frozenset({"FRA", "POL"}), codeword)
        self.post.send(who, label, [label], to, 30 * DAY, 4)

    @often(
        6, back=st.integers(1, 5), who=st.sampled_from(["anna", "anna", "ewa", "jean", "nils"]), label=st.none() | st.none() | LABELS,
        to=TO, by=st.sampled_from(["jean", "jean", "anna", "ewa", "feed", "nils"]), to_office=st.sampled_from(["lo-oslo", "lo-oslo", "lo-paris"]),
        lasts=st.sampled_from([3600, 5 * DAY]), consented=SOMETIMES, leaves_out=RARELY, honest=OFTEN, controlled=SOMETIMES,
    )  # fmt: skip
    def pass_on(self, back, who, label, to, by, to_office, lasts, consented, leaves_out, honest, controlled):
        self.post.forward(
            len(self.post.sealed) - back, who, to, label=label, consenting=(by, to_office, lasts) if consented else None,
            leaves_out=leaves_out, honest=honest, is_controlled=controlled,
        )  # fmt: skip

    @often(
        4, level=st.sampled_from(["OPEN", "CLOSED"]), controlled=OFTEN, by=st.sampled_from([None, *["jean"] * 4, "luc", "feed"]),
        lasts=st.sampled_from([60, 60, 5 * DAY]), exempted=RARELY, then=st.sampled_from(["nothing", "revoke", "withdraw", "wait", "wait"]), who=ANY,
    )  # fmt: skip
    def pass_on_to_a_third_office(self, level, controlled, by, lasts, exempted, then, who):
        """Paris writes to Warsaw, which passes it on to Oslo; before that is opened something happens."""
        to = {"anna.nowak@lo-warsaw": 1} | ({"nils.dal@lo-oslo": 3} if exempted else {})
        count = len(self.post.sealed)
        self.post.send("jean", Label(level), [Label(level)], to, 9 * DAY, 2, is_controlled=controlled)
        self.post.forward(
            -1, "anna", {"nils.dal@lo-oslo": 1, "kari.lie@lo-oslo": 1}, label=None,
            consenting=by and (by, "lo-oslo", lasts), leaves_out=False,
        )  # fmt: skip
        if then == "revoke" and by:
            self.revoke(by)
        elif then == "withdraw":
            self.sign_or_withdraw(0, who, True)
        elif then == "wait":
            self.stage.pass_time(3600)
        if len(self.post.sealed) > count:
            self.post.open(len(self.post.sealed) - 1, who, addressed=True, claimed=0)

    @often(4, which=ANY, who=st.sampled_from(WORDS), own=SOMETIMES)
    def post_again(self, which, who, own):
        self.post.post_again(which, None if own else who)

    @often(2, which=ANY, same=st.sampled_from(["id", "number"]))
    def post_another_under_the_same(self, which, same):
        self.post.twin(which, same)

    @often(6, which=ANY, who=ANY, addressed=OFTEN, claimed=st.sampled_from([0, 1, 1, 3]))
    def open(self, which, who, addressed, claimed):
        self.post.open(which, who, addressed=addressed, claimed=claimed)

    @often(8, which=ANY, who=ANY)
    def open_one_s_own(self, which, who):
        self.post.open(which, who, addressed=True, claimed=0)

    @often(12, back=st.integers(1, 3), who=ANY)
    def open_what_has_just_come(self, back, who):
        self.post.open(len(self.post.sealed) - back, who, addressed=True, claimed=0)

    @often(8, which=ANY, who=ANY, addressed=OFTEN, state=st.sampled_from(["opened", "acknowledged"]), other=RARELY)
    def acknowledge(self, which, who, addressed, state, other):
        self.post.acknowledge(which, who, state, addressed=addressed, other=other)

    @often(
        3, which=ANY, who=st.sampled_from(WORDS), second=st.none() | st.sampled_from(WORDS), own=OFTEN, spill=SOMETIMES,
    )  # fmt: skip
    def recall(self, which, who, second, own, spill):
        self.post.recall(which, None if own else who, second, spill=spill)

    @often(3, which=ANY, who=st.sampled_from(["ewa", "ola", "zoe", "rene", "anna's third", "luc"]), lift=OFTEN)
    def say_of_a_hold(self, which, who, lift):
        self.holding.hold(which, who, None if lift else "place")

    @often(
        3, which=ANY, who=st.sampled_from(["ewa", "ola", "zoe", "rene", "anna"]), by=st.none() | BY, late=RARELY, stray=RARELY,
        age=st.sampled_from([0, 0, 3600, 8 * DAY]),
    )  # fmt: skip
    def say_of_a_hold_with_approvals(self, which, who, by, late, stray, age):
        way = Way(by and tuple(key_of(each).device_id for each in by), 8 * DAY if late else 60, stray)
        self.holding.hold(which, who, None, way, age)

    @often(2, which=ANY)
    def say_the_very_same_of_a_hold(self, which):
        self.holding.say(which)

    @often(
        6, back=st.integers(1, 4), who=st.sampled_from(["ewa", "ola"]), early=SOMETIMES, lost=SOMETIMES, recalled=SOMETIMES,
        by=st.sampled_from([None, None, None, ("anna", "anna's other"), ("anna", "ewa"), ("ola", "ewa"), ("jean", "anna")]),
        age=st.sampled_from([0, 0, 0, 8 * DAY]), lifted=OFTEN, again=OFTEN, fate=st.sampled_from(["kept", "kept", "unheard"]),
    )  # fmt: skip
    def hold_by_approvals(self, back, who, early, lost, recalled, by, age, lifted, again, fate):
        """A list of approvers, one word that counts at once, the word that ends it; the first is said again."""
        which, other = len(self.post.sealed) - back, "ola" if who == "ewa" else "ewa"
        if early:
            self.holding.hold(which, "ola", "place")
        if not self.stage.model.takes("lo-warsaw", "hold"):
            self.name_approvers("lo-warsaw", 1, {"hold": 2}, None, ["anna", "anna's other", "ewa", "ola"])
        self.the_next_ones_come_together(2, fate)
        if lost:
            self.revoke("anna's other")
            by = ("anna's other", other)
        self.holding.hold(which, who, "place", Way(by and tuple(key_of(each).device_id for each in by), age))
        first = len(self.holding.signed) - 1
        if recalled:
            self.post.recall(which, "ewa", None, spill=False)
        if lifted:
            self.holding.hold(which, who, "lift")
        if again:
            self.holding.say(first)
        self.stage.commit()
        self.sight.check_mailbox(who, None)

    @often(
        5,
        which=ANY,
        office=st.sampled_from([("ewa", "ola"), ("ola", "ewa"), ("zoe", "rene"), ("rene", "zoe")]),
        lost=SOMETIMES,
    )
    def place_or_lift_a_hold(self, which, office, lost):
        """The first of them may be lost before the second speaks: his word is, too."""
        for who in office:
            self.holding.hold(which, who, None)
            if lost:
                self.revoke(who)
                lost = False

    @often(6, back=st.integers(1, 4), who=ANY, at_once=OFTEN)
    def read_and_acknowledge(self, back, who, at_once):
        if at_once:
            self.the_next_ones_come_together(2, "kept")
        self.post.open(len(self.post.sealed) - back, who, addressed=True, claimed=0)
        self.post.acknowledge(len(self.post.sealed) - back, who, "acknowledged", addressed=True, other=False)

    @often(
        8, back=st.integers(1, 4), office=st.sampled_from([("ewa", "ola"), ("ewa", "ola"), ("zoe", "rene")]),
        held=OFTEN, spill=st.sampled_from([None, False, False, True]), swept=st.sampled_from([0, 0, 45 * DAY]), lifted=OFTEN,
        who=ANY,
    )  # fmt: skip
    def keep_what_is_taken_back(self, back, office, held, spill, swept, lifted, who):
        """A hold, a recall, a sweep, the end of the hold; any of them may be left out. Somebody had opened it."""
        which = len(self.post.sealed) - back
        self.post.open(which, who, addressed=True, claimed=0)
        for officer in office if held else ():
            self.holding.hold(which, officer, "place")
        if spill is not None:
            self.post.recall(which, "ewa" if spill else None, None, spill=spill)
        mail, reader = self.post.pick(which, who, addressed=True)
        self.stage.commit()
        self.sight.check_mailbox(word_of(reader), mail)
        if swept:
            self.sweep(swept)
        for officer in office if lifted else ():
            self.holding.hold(which, officer, "lift")

    @often(
        6, back=st.integers(1, 4), who=ANY, end=st.sampled_from(["revoke", "withdraw", "withdraw", "remove", "recall", "recall", "recall"]),
        fate=st.sampled_from(["kept", "kept", "lost", "unheard", "beside a fault"]),
    )  # fmt: skip
    def an_end_and_an_opening_in_one_commit(self, back, who, end, fate):
        which = len(self.post.sealed) - back
        _mail, caller = self.post.pick(which, who, addressed=True)
        self.the_next_ones_come_together(2, fate)
        if end == "recall":
            self.post.recall(which, None, None, spill=False)
        elif end == "withdraw":
            self.sign_or_withdraw(which, who, True)
        else:
            office = self.stage.model.holders[caller].office
            self.stage.do(self.registry.revoke(word_of(caller)) if end == "revoke" else self.registry.remove(office))
        self.post.open(which, who, addressed=True, claimed=0)
        self.post.open(which, who, addressed=True, claimed=0)

    # -- keys and the directory

    @often(2, who=st.sampled_from(WORDS), whom=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3, unique=True))
    def claim(self, who, whom):
        self.post.claim(who, whom)

    @often(2, who=st.sampled_from(WORDS), life=st.sampled_from([3600, DAY, 60 * DAY]))
    def restock(self, who, life):
        if key_of(who).device_id in self.stage.model.holders:
            self.stage.do(self.registry.restock(who, [life] * 2, 7 * DAY))

    @often(1, who=st.sampled_from(WORDS))
    def revoke(self, who):
        if key_of(who).device_id in self.stage.model.holders:
            self.stage.do(self.registry.revoke(who))

    @often(2, who=st.sampled_from([*SPARE, *SPARE, "anna"]), approved=OFTEN)
    def enrol(self, who, approved):
        self.stage.alone(self.registry.certify(who, HONEST if approved else Way(())))

    @often(
        2, office=st.sampled_from(["lo-warsaw", "lo-paris"]), step=st.sampled_from([1, 1, 1, 1, 0, 2]), by=st.none() | BY,
        needed=st.sampled_from([{"hold": 1}, {"hold": 2}, {"enrolment": 1}, {"enrolment": 1, "hold": 2}]),
        named=st.none() | st.lists(st.sampled_from(WORDS), min_size=2, max_size=4, unique=True),
    )  # fmt: skip
    def name_approvers(self, office, step, needed, by, named):
        """Who may approve; `by` says who approves of that."""
        people = named or [each for each in CAST if CAST[each][0].endswith(office) and CAST[each][1] is Kind.OFFICER]
        devices = [each for word in people if (each := key_of(word).device_id) in self.stage.model.holders]
        if len({self.stage.model.holders[each].address for each in devices}) >= max(needed.values()):
            way = Way(by and tuple(key_of(each).device_id for each in by))
            self.stage.do(self.registry.name(office, step, needed, devices, way))

    @often(
        2, offices=st.lists(st.sampled_from(OFFICES), min_size=2, max_size=3, unique=True), by=ANY, codeword=RARELY,
        levels=st.sampled_from([ALL, frozenset({"OPEN"})]), coi=RARELY, days=st.sampled_from([1, 100]), all_sign=OFTEN,
        onward=SOMETIMES,
    )  # fmt: skip
    def agree(self, offices, by, codeword, levels, coi, days, all_sign, onward):
        made = self.registry.draft(tuple(offices), levels, codeword=codeword, coi=coi, days=days, onward=onward)
        for office in offices if all_sign else [offices[by % len(offices)]]:
            self.stage.do(self.registry.sign(made, office))

    @often(2, which=ANY, by=ANY, withdraw=RARELY)
    def sign_or_withdraw(self, which, by, withdraw):
        agreement = self.registry.agreements[which % len(self.registry.agreements)]
        office = agreement.parties[by % len(agreement.parties)].office
        self.stage.do((self.registry.withdraw if withdraw else self.registry.sign)(agreement.agreement_id, office))

    @often(2, office=st.sampled_from(OFFICES), version=st.sampled_from([2, 2, 1]))
    def adopt_a_policy(self, office, version):
        self.stage.do(self.registry.adopt(office, version))

    @often(
        2, who=st.sampled_from(["ewa", "ewa", "ewa", "anna", "jean"]), step=st.sampled_from([1, 1, 1, 0, 2]),
        members=st.frozensets(st.sampled_from([each for each in ADDRESSES if "." in each.partition("@")[0]]), max_size=4),
    )  # fmt: skip
    def list_members(self, who, step, members):
        self.stage.do(self.registry.list_members(who, self.stage.model.roster[0] + step, members))

    @often(1, office=st.sampled_from(OFFICES))
    def remove_an_office(self, office):
        self.stage.do(self.registry.remove(office))

    @often(2, office=st.sampled_from(OFFICES), really=RARELY)
    def admit_an_office(self, office, really):
        if really or office not in self.stage.model.offices:
            self.stage.alone(self.registry.admit(office))

    # -- what happens to all of them

    @often(4, seconds=st.sampled_from([1, 61, 3600, DAY, 3 * DAY, 8 * DAY]))
    def time_passes(self, seconds):
        self.stage.pass_time(seconds)

    @often(3, seconds=st.sampled_from([0, 0, 0, 2 * DAY, 11 * DAY, 45 * DAY]))
    def sweep(self, seconds):
        self.stage.pass_time(seconds)
        self.everything_is_as_the_model_says()  # of what has just been logged something may go
        self.post.sweep()

    @often(1)
    def a_process_ends_and_another_begins(self):
        self.stage.commit()
        self.stage.restart()

    @often(
        4,
        room=st.integers(2, 6),
        fate=st.sampled_from(["kept", "kept", "kept", "lost", "unheard", "beside a fault"]),
    )
    def the_next_ones_come_together(self, room, fate):
        self.stage.commit()
        self.stage.room, self.stage.fate = room, fate

    @often(6, who=st.sampled_from(WORDS), which=ANY)
    def look(self, who, which):
        self.stage.commit()
        sealed = self.post.sealed
        self.sight.check_mailbox(who, sealed[which % len(sealed)] if sealed else None)


@pytest.mark.parametrize("kind", BOTH)
def test_whatever_people_do_the_relay_does_what_the_model_says(tmp_path_factory, kind):
    with template(kind, tmp_path_factory.mktemp("model")) as founded:
        chosen = settings(
            max_examples=EXAMPLES or 15,
            stateful_step_count=60,
            derandomize=not EXAMPLES,
            deadline=None,
            database=None,
            print_blob=bool(EXAMPLES),
            phases=[Phase.generate, Phase.shrink] if EXAMPLES else [Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(type("Played", (Play,), {"template": founded}), settings=chosen)
