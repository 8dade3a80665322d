"""Where the time of one accept goes: the product's own functions in this process, each with its own processor time.

The functions are wrapped while a few batches of real submissions run through them, one thread doing what the relay's
threads do; a piece's time is without that of the pieces inside it. The framework is the product's HTTP application
with a stub behind it, as a server of its own. Whatever no piece claims is our own Python.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

from sqlalchemy.engine.base import Transaction

from relay.core import accept, submission
from relay.core.caller import Request
from relay.core.submission import check_submission
from relay.house import open_relay
from relay.logkeys import LogKeys
from relay.pipeline.batch import Batch, Committed, Job
from relay.pipeline.committer import Committer
from relay.protocol.claim import ED25519, Claim, settle
from relay.protocol.header import Precedence
from relay.settings import Settings
from relay.store import log as log_rows

from . import generator
from .processes import end, free_port, processor_seconds, spawn
from .world import CBOR, Letter, World

BATCH = 64
CRYPTOGRAPHY = ("request signature", "message signature", "checkpoint signatures")
DATABASE = ("database statements", "database commit")
PIECES: tuple[tuple[Any, str, str], ...] = (
    (submission, "parse_submission", "parse"),
    (submission, "parse_message", "parse"),
    (submission, "parse_slot", "parse"),
    (accept, "_failing", "decision"),
    (Batch, "read", "database statements"),
    (Batch, "flush", "database statements"),
    (log_rows, "lock_sizes", "database statements"),
    (log_rows, "add_entries", "database statements"),
    (log_rows, "add_nodes", "database statements"),
    (log_rows, "set_size", "database statements"),
    (log_rows, "add_checkpoint", "database statements"),
    (Transaction, "commit", "database commit"),
    (LogKeys, "sign_checkpoint", "checkpoint signatures"),
    (Committer, "_append", "log: leaves and tree"),
    (Committed, "prove", "answer: proof"),
)


class Clock:
    """Processor seconds by piece, each without what runs inside it."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._inside, self._at = ["everything else of ours"], time.thread_time()

    @contextmanager
    def of(self, piece: str) -> Iterator[None]:
        self._turn()
        self._inside.append(piece)
        try:
            yield
        finally:
            self._turn()
            self._inside.pop()

    def wrapped(self, call: Callable[..., Any], piece: str) -> Callable[..., Any]:
        @wraps(call)
        def timed(*given: Any, **named: Any) -> Any:
            with self.of(piece):
                return call(*given, **named)

        return timed

    def _turn(self) -> None:
        now = time.thread_time()
        self.spent[self._inside[-1]] += now - self._at
        self._at = now


def measure(world: World, batches: int) -> dict[str, Any]:
    """Microseconds of one accept by piece. The world's relay must be SQLite's and is stopped for it."""
    framework = _framework(world, world.letters(BATCH * batches))
    letters = world.letters(BATCH * (batches + 1))
    world.server.stop()
    try:
        pieces = _pieces(world, letters)
    finally:
        world.server.start()
    pieces = {"framework and server": framework, **pieces}
    whole = sum(pieces.values())
    named = sum(pieces[name] for name in (*CRYPTOGRAPHY, *DATABASE)) + framework
    own = 1 - named / whole
    told = {name: round(cost, 1) for name, cost in sorted(pieces.items(), key=lambda each: -each[1])}
    return {"pieces_us": told, "whole_us": round(whole, 1), "own_python_share": round(own, 3)}


def _pieces(world: World, letters: Sequence[Letter]) -> dict[str, float]:
    relay = open_relay(Settings(data=world.server.data, quota_messages=0, quota_office_messages=0))
    try:
        _accept(relay, [_request(world, letter) for letter in letters[:BATCH]])  # warm
        with ExitStack() as stack:
            clock = Clock()
            fault = Claim.fault

            def timed(claim: Claim) -> str | None:
                with clock.of("request signature" if claim.alg == ED25519 else "message signature"):
                    return fault(claim)

            stack.enter_context(patch.object(Claim, "fault", timed))
            for owner, name, piece in PIECES:
                stack.enter_context(patch.object(owner, name, clock.wrapped(getattr(owner, name), piece)))
            for start in range(BATCH, len(letters), BATCH):
                with clock.of("making the requests, not counted"):
                    requests = [_request(world, letter) for letter in letters[start : start + BATCH]]
                _accept(relay, requests)
            with clock.of("end"):
                pass
    finally:
        relay.close()
    return {
        piece: spent / (len(letters) - BATCH) * 1e6
        for piece, spent in clock.spent.items()
        if piece not in {"making the requests, not counted", "end"}
    }


def _accept(relay: Any, requests: Sequence[Request]) -> None:
    now, directory, jobs = int(time.time()), relay._committer.directory, []
    for request in requests:
        who = settle(relay.door.check(request))
        submitted = settle(check_submission(directory, who, request.body, now, Precedence.ROUTINE))
        run = lambda batch, who=who, submitted=submitted: accept.accept(  # noqa: E731
            batch, relay.judge(), who, submitted, 0, relay._quota
        )
        jobs.append(Job(run, accept.needs(submitted)))
    for outcome in relay._committer.commit(jobs):
        if outcome.error is not None:
            raise outcome.error


def _request(world: World, letter: Letter) -> Request:
    raw = world.post(letter).partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    headers = dict(line.split(": ", 1) for line in raw)
    authority = world.server.authority
    return Request(
        "POST", authority, f"http://{authority}/v1/messages", letter.body, CBOR,
        headers["content-digest"], headers["signature-input"], headers["signature"],
    )  # fmt: skip


def _framework(world: World, letters: Sequence[Letter]) -> float:
    """Processor microseconds of one request through uvicorn, Starlette and FastAPI, 64 clients."""
    port = free_port()
    process = spawn([sys.executable, "-m", "bench.stub", str(port)])
    try:
        units = [(world.post(letter),) for letter in letters]
        for _ in range(100):
            try:
                generator.run(units[:BATCH], (201,), port, 1)
                break
            except OSError:
                time.sleep(0.1)
        before = processor_seconds(process.pid)
        generator.run(units, (201,), port, BATCH)
        return (processor_seconds(process.pid) - before) / len(units) * 1e6
    finally:
        end(process)
