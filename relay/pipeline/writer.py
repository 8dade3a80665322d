"""Threads between the requests and the database: one checks, one commits what many requests want, together.

    request → line → checking (parsing and signatures, no database) → line → committing (one transaction) → answer

Batches adapt to load by themselves: a thread takes whatever waits when it is done with the last. An idle relay
commits a lone request at once; a busy one shares each fsync among all that arrived meanwhile. Lines go by precedence,
what is checked does not pile up in front of the database, and the urgent are checked by a thread of their own, to which
those who check or answer the patient give way, so that a FLASH message overtakes.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from relay.observe import QUEUE
from relay.protocol.claim import Checking
from relay.protocol.errors import Unavailable
from relay.protocol.header import Precedence

from .batch import Answer, Batch, Job, Needs
from .checking import CheckingTogether, check_together, in_place
from .committer import Committer, Outcome
from .line import URGENT, Line
from .verifier import Verifier
from .way import Patience, Way

_MAX_BATCH = 64  # jobs in a transaction, a group at least; it is also what a newcomer may have to wait for
_GROUP = 24  # requests that are checked together
_UNDER_WAY = 2  # groups: while the signatures of one are verified, the next is parsed
_WORTH_PARSING = 8  # requests then: each small group would be a transaction of its own
_URGENT_BATCH = 4  # while somebody of IMMEDIATE or above waits
_MOMENT = 0.002  # seconds until answers that give way look again
_ANSWERS = 4  # in a turn of the event loop: it reads who comes meanwhile before it goes on
_FREE = Way()  # of the urgent, who give way to nobody


class Waiting(NamedTuple):
    """What somebody wants, and who waits for it."""

    check: Checking[Job]
    precedence: Precedence
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class _Group(NamedTuple):
    taken: Sequence[Waiting]
    checks: CheckingTogether[Job]


class Writer:
    """Give it work from event loops; each future resolves after the commit that holds its job."""

    def __init__(self, committer: Committer) -> None:
        self.committer = committer
        self._checks, self._urgent = Line[Waiting](), Line[Waiting]()
        self._commits: Line[tuple[Job, Waiting]] = Line()
        self._room = threading.Semaphore(_MAX_BATCH)
        self._way = Way()
        self._threads = (
            (self._urgent, _thread("relay-urgent", partial(self._check, self._urgent, _FREE))),
            (self._checks, _thread("relay-checker", partial(self._check, self._checks, self._way))),
            (self._commits, _thread("relay-writer", self._commit)),
        )
        self._closed = False

    def start(self) -> None:
        for _line, thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Check and commit what waits, then stop."""
        self._closed = True
        for line, thread in self._threads:
            line.end()
            if thread.ident is not None:  # it was started
                thread.join()

    async def submit(
        self, run: Callable[[Batch], Answer], needs: Needs = (), precedence: Precedence = Precedence.ROUTINE
    ) -> Any:
        """Run a job in the next batch; return its answer or raise its error."""
        return await self.check(in_place(lambda: Job(run, needs)), precedence)

    async def catch_up(self, precedence: Precedence = Precedence.ROUTINE) -> None:
        """Take in what other processes have changed: every batch begins with that."""
        await self.submit(lambda _batch: lambda _committed: None, precedence=precedence)

    async def check(self, check: Checking[Job], precedence: Precedence = Precedence.ROUTINE) -> Any:
        """The same for a job that comes out of a check, made where its signatures stop nobody."""
        if self._closed:
            raise Unavailable("the relay is shutting down", hint="try again in a moment")
        loop = asyncio.get_running_loop()
        waiting = Waiting(check, precedence, loop, loop.create_future())
        (self._urgent if precedence >= URGENT else self._checks).put(waiting, precedence)
        QUEUE.inc()
        if precedence < URGENT:
            return await waiting.future
        with self._way.taken():
            return await waiting.future

    def _check(self, line: Line[Waiting], way: Way) -> None:
        verifier, under_way = Verifier(), deque[_Group]()

        def go_on(group: _Group, *, is_answered: bool) -> None:
            try:
                verifier.ask(group.checks.send(verifier.answer() if is_answered else None))
                under_way.append(group)
            except StopIteration as end:
                self._pass_on(group.taken, end.value)
            except Exception as problem:  # noqa: BLE001 - a checking thread must outlive whatever happens to a group
                self._pass_on(group.taken, [problem for _ in group.taken])

        while True:
            now = _WORTH_PARSING if under_way else 0
            taken = line.take(_GROUP, _GROUP, now=now) if len(under_way) < _UNDER_WAY else []
            if taken:
                checks = [waiting.check for waiting in taken]
                go_on(_Group(taken, check_together(checks, Patience(way).give_way)), is_answered=False)
            elif under_way:
                go_on(under_way.popleft(), is_answered=True)
            else:
                break  # the line has ended
        verifier.close()

    def _pass_on(self, taken: Sequence[Waiting], made: Sequence[Job | Exception]) -> None:
        pairs = list(zip(taken, made, strict=True))
        _tell([(waiting, Outcome(error=each)) for waiting, each in pairs if isinstance(each, Exception)], _FREE)
        passed = [(each, waiting) for waiting, each in pairs if not isinstance(each, Exception)]
        for _job, waiting in passed:
            if waiting.precedence < URGENT:
                self._room.acquire()  # what is checked does not pile up: who comes now may be more urgent
        self._commits.put_together([(each, each[1].precedence) for each in passed])

    def _commit(self) -> None:
        while taken := self._commits.take(_MAX_BATCH, _URGENT_BATCH):
            # The patient's batch is cut short by whoever is urgent, and its answers give way. The urgent finish theirs.
            is_patient = all(waiting.precedence < URGENT for _job, waiting in taken)
            outcomes = self._outcomes(taken, is_patient=is_patient)
            done, rest = taken[: len(outcomes)], taken[len(outcomes) :]
            self._commits.put_back([(each, each[1].precedence) for each in rest])
            if patient := sum(waiting.precedence < URGENT for _job, waiting in done):
                self._room.release(patient)
            told = [(waiting, outcome) for (_job, waiting), outcome in zip(done, outcomes, strict=True)]
            _tell(told, self._way if is_patient else _FREE)

    def _outcomes(self, taken: list[tuple[Job, Waiting]], *, is_patient: bool) -> list[Outcome]:
        """Commit them, and with the patient whoever else was checked while the database's lock was another's."""

        def more() -> list[Job]:
            joining = self._commits.take_more(_MAX_BATCH - len(taken)) if is_patient else []
            taken.extend(joining)
            return [job for job, _waiting in joining]

        try:
            return self.committer.commit(
                [job for job, _waiting in taken], self._commits.is_urgent if is_patient else _no, more
            )
        except Exception as problem:  # noqa: BLE001 - the one writer must outlive whatever happens to a batch
            return [Outcome(error=problem) for _ in taken]


def _no() -> bool:
    return False


def _thread(name: str, target: Callable[[], None]) -> threading.Thread:
    return threading.Thread(target=target, name=name, daemon=True)


def _tell(told: Sequence[tuple[Waiting, Outcome]], way: Way) -> None:
    QUEUE.dec(len(told))
    loops: dict[asyncio.AbstractEventLoop, list[tuple[Waiting, Outcome]]] = {}
    for waiting, outcome in told:
        loops.setdefault(waiting.loop, []).append((waiting, outcome))
    for loop, pairs in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there any more
            loop.call_soon_threadsafe(_resolve, pairs, Patience(way))


def _resolve(pairs: Sequence[tuple[Waiting, Outcome]], patience: Patience) -> None:
    if patience.left():
        asyncio.get_running_loop().call_later(_MOMENT, _resolve, pairs, patience)
        return
    if rest := pairs[_ANSWERS:]:
        asyncio.get_running_loop().call_soon(_resolve, rest, patience)
    for waiting, outcome in pairs[:_ANSWERS]:
        if waiting.future.cancelled():
            continue
        if outcome.error is not None:
            waiting.future.set_exception(outcome.error)
        else:
            waiting.future.set_result(outcome.value)
