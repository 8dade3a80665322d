"""The threads between requests and database: every request gets its own answer, whatever becomes of its neighbours."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import asynccontextmanager
from itertools import groupby

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.pipeline import writer as threads
from relay.pipeline.batch import Job
from relay.pipeline.committer import Outcome
from relay.pipeline.verifier import Verifier
from relay.pipeline.writer import Writer
from relay.protocol.claim import ED25519, Claim
from relay.protocol.errors import Unverified
from relay.protocol.header import Precedence

KEY = Ed25519PrivateKey.generate()


class Unwritten:
    """A committer without a database: each job's answer is what it returns."""

    def commit(self, jobs, _is_pressed, more):
        return [Outcome(value=job.run(None)) for job in (*jobs, *more())]


def signed(message, *, well=True):
    return Claim(ED25519, KEY.public_key().public_bytes_raw(), message, KEY.sign(message if well else b"another"))


def request(number):
    """Two signatures, as an accept has; every fifth has a false one, every seventh meets a fault of ours."""
    for step in (b"request", b"message"):
        if (fault := (yield signed(step, well=number % 5 != 0 or step == b"request"))) is not None:
            raise Unverified(fault)
    if number % 7 == 0:
        raise ZeroDivisionError
    return Job(lambda _batch: number)


async def answers(checks):
    """What becomes of all of them, if all wait before the threads begin."""
    writer = Writer(Unwritten())
    asked = [asyncio.ensure_future(writer.check(each)) for each in checks]
    await asyncio.sleep(0)
    writer.start()
    try:
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 30)
    finally:
        await asyncio.to_thread(writer.close)


def test_each_of_many_is_answered_for_itself():
    for number, answer in enumerate(asyncio.run(answers([request(number) for number in range(200)]))):
        if number % 5 == 0:
            assert isinstance(answer, Unverified)
        elif number % 7 == 0:
            assert isinstance(answer, ZeroDivisionError)
        else:
            assert answer == number


def test_between_the_answers_of_a_batch_the_event_loop_turns_to_others():
    happened = []

    async def ask(writer):
        await writer.submit(lambda _batch: None)
        happened.append("answer")

    async def run():
        writer, loop = Writer(Unwritten()), asyncio.get_running_loop()

        def turn():
            happened.append("turn")
            loop.call_soon(turn)

        asked = asyncio.gather(*(ask(writer) for _ in range(20)))
        await asyncio.sleep(0)
        turn()
        writer.start()
        await asyncio.wait_for(asked, 30)
        await asyncio.to_thread(writer.close)

    asyncio.run(run())
    runs = [len(list(each)) for what, each in groupby(happened) if what == "answer"]
    assert sum(runs) == 20
    assert max(runs) == 4


@pytest.fixture
def told(monkeypatch):
    """What the checking thread does with its verifier, in order."""
    done = []

    class Told(Verifier):
        def ask(self, claims):
            done.append(f"ask {len(claims)}")
            super().ask(claims)

        def answer(self):
            done.append("answer")
            return super().answer()

    monkeypatch.setattr(threads, "Verifier", Told)
    monkeypatch.setattr(threads, "_GROUP", 10)
    return done


FULL = "ask 10, ask 10, answer, ask 10, answer, ask 10, answer, "


@pytest.mark.parametrize(
    ("waiting", "then"),
    [
        (28, "ask 8, answer, answer, ask 8, answer"),
        (27, "answer, ask 7, answer, ask 7, answer"),  # too few to begin beside another group
    ],
)
def test_while_the_signatures_of_one_group_are_verified_the_next_is_parsed_if_it_is_worth_it(told, waiting, then):
    assert len(asyncio.run(answers([request(number) for number in range(1, waiting + 1)]))) == waiting
    assert ", ".join(told) == FULL + then


def test_a_verifier_that_raises_fails_its_group_and_no_other(told, monkeypatch):
    monkeypatch.setattr("relay.pipeline.verifier._WORTH_SENDING", 1000)  # verified here
    fault, broken = Claim.fault, iter([MemoryError])

    def once_broken(claim):
        if error := next(broken, None):
            raise error
        return fault(claim)

    monkeypatch.setattr(Claim, "fault", once_broken)
    made = asyncio.run(answers([request(number) for number in range(1, 25)]))
    assert [isinstance(each, MemoryError) for each in made] == [True] * 10 + [False] * 14
    assert made[10] == 11


class Locked:
    """A committer whose database's lock is another's until the event is set; then it may fail."""

    def __init__(self, problem=None):
        self.is_waiting, self.lock, self.batches, self._problem = threading.Event(), threading.Event(), [], problem

    def commit(self, jobs, _is_pressed, more):
        self.is_waiting.set()
        assert self.lock.wait(20)
        every = (*jobs, *more())
        self.batches.append([job.run(None) for job in every])
        if self._problem is not None:
            raise self._problem
        return [Outcome(value=answer) for answer in self.batches[-1]]


def until(holds):
    deadline = time.monotonic() + 20
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.01)


async def behind_the_lock(committer, first, then):
    """What becomes of requests of which one waits for the lock when the others are checked."""
    writer = Writer(committer)
    writer.start()

    def post(name, precedence):
        return asyncio.ensure_future(writer.submit(lambda _batch: name, precedence=precedence))

    try:
        asked = [post(first.name, first)]
        assert await asyncio.to_thread(committer.is_waiting.wait, 20)
        asked += [post(each.name, each) for each in then]
        await asyncio.to_thread(until, lambda: writer._commits._waiting == len(then))
        committer.lock.set()
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 20)
    finally:
        committer.lock.set()
        await asyncio.to_thread(writer.close)


def test_who_is_checked_while_the_lock_is_anothers_goes_along():
    committer = Locked()
    answers = asyncio.run(behind_the_lock(committer, Precedence.ROUTINE, [Precedence.ROUTINE, Precedence.PRIORITY]))
    assert answers == ["ROUTINE", "ROUTINE", "PRIORITY"]
    assert committer.batches == [["ROUTINE", "PRIORITY", "ROUTINE"]]


def test_nobody_joins_the_urgent_nor_goes_along_while_one_of_them_waits():
    committer = Locked()
    asyncio.run(behind_the_lock(committer, Precedence.FLASH, [Precedence.ROUTINE]))
    assert committer.batches == [["FLASH"], ["ROUTINE"]]
    committer = Locked()
    asyncio.run(behind_the_lock(committer, Precedence.ROUTINE, [Precedence.ROUTINE, Precedence.FLASH]))
    assert committer.batches == [["ROUTINE"], ["FLASH"], ["ROUTINE"]]


def test_who_went_along_with_a_batch_that_failed_is_told():
    committer = Locked(problem=MemoryError())
    answers = asyncio.run(behind_the_lock(committer, Precedence.ROUTINE, [Precedence.ROUTINE] * 2))
    assert [type(each) for each in answers] == [MemoryError] * 3
    assert len(committer.batches) == 1


@asynccontextmanager
async def beside_a_flash():
    """A writer that is checking a FLASH, whose answer comes when the event is set."""
    writer, is_held, may_end = Writer(Unwritten()), threading.Event(), threading.Event()

    def flash():
        is_held.set()
        may_end.wait(20)
        return Job(lambda _batch: "flash")
        yield

    writer.start()
    try:
        yield writer, lambda: asyncio.ensure_future(writer.check(flash(), Precedence.FLASH)), is_held, may_end
    finally:
        may_end.set()
        await asyncio.to_thread(writer.close)


@pytest.mark.parametrize("step", ["check", "answer"])
def test_who_checks_or_answers_the_patient_gives_way_to_the_urgent(monkeypatch, step):
    monkeypatch.setattr("relay.pipeline.way._PATIENCE", 20)
    begun, may_go_on = threading.Event(), threading.Event()

    def patient():
        begun.set()
        return Job(lambda _batch: "patient")
        yield

    def committed(_batch):
        begun.set()
        may_go_on.wait(20)
        return "patient"

    async def ask():
        async with beside_a_flash() as (writer, post_flash, is_held, may_end):
            if step == "answer":  # it is on its way to the database when the FLASH comes
                asked = asyncio.ensure_future(writer.submit(committed))
                await asyncio.to_thread(begun.wait, 20)
            flash = post_flash()
            assert await asyncio.to_thread(is_held.wait, 10)
            if step == "check":
                asked = asyncio.ensure_future(writer.check(patient()))
            may_go_on.set()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(asked), 0.3)
            gave_way = step == "answer" or not begun.is_set()
            may_end.set()
            return gave_way, await asyncio.wait_for(flash, 10), await asyncio.wait_for(asked, 10)

    assert asyncio.run(ask()) == (True, "flash", "patient")


def test_the_patient_do_not_give_way_for_ever():
    async def ask():
        async with beside_a_flash() as (writer, post_flash, is_held, may_end):
            flash = post_flash()
            assert await asyncio.to_thread(is_held.wait, 10)
            asked = [writer.check(request(number)) for number in (1, 2, 3)]
            answered = await asyncio.wait_for(asyncio.gather(*asked), 10)
            may_end.set()
            return answered, await flash

    assert asyncio.run(ask()) == ([1, 2, 3], "flash")
