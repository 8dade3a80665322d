"""Taking turns: a Client is for one thread, and so is its database; the most urgent goes first."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from queue import Empty, PriorityQueue
from typing import Any, NoReturn, TypeVar

from liaison.client import Client
from relay.protocol.errors import LiaisonError, Unavailable
from relay.protocol.header import Precedence

PATIENCE = 60  # seconds until a turn has come, or nothing was done
_IDLE = 15  # seconds without a caller, after which what waits is tried again

Found = TypeVar("Found")


class Turn:
    """Lets other threads use the client of the thread that calls `serve`."""

    def __init__(self, client: Client) -> None:
        self._client, self._number = client, count()
        self._waiting: PriorityQueue[tuple[int, int, Future[Any], Callable[[Client], Any]]] = PriorityQueue()

    def take(self, work: Callable[[Client], Found], precedence: Precedence = Precedence.ROUTINE) -> Found:
        """What `work` returns or raises; Unavailable if its turn does not come, and then it never does."""
        asked: Future[Found] = Future()
        self._waiting.put((-precedence, next(self._number), asked, work))
        try:
            return asked.result(PATIENCE)
        except TimeoutError:
            if asked.cancel():
                raise Unavailable("others are served; nothing was done", hint="try again") from None
            return asked.result()  # begun: what is sealed must not be called undone

    def serve(self) -> NoReturn:
        """Do one after the other what is asked, and post what waits while nobody asks."""
        while True:
            try:
                _precedence, _number, asked, work = self._waiting.get(timeout=_IDLE)
            except Empty:
                self._post_waiting()
                continue
            if asked.set_running_or_notify_cancel():
                try:
                    asked.set_result(work(self._client))
                except Exception as problem:  # noqa: BLE001 - it is raised where it was asked for
                    asked.set_exception(problem)

    def _post_waiting(self) -> None:
        try:
            if self._client.profile.cabinet.outbox():
                self._client.sync()
        except LiaisonError as problem:
            self._client.tell(str(problem))
