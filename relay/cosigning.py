"""Asking witnesses to cosign our newest checkpoints, beside the committing path: nobody waits for a witness.

The rules:
  - per log the newest checkpoint is asked for, and only that: what was signed meanwhile is not caught up on;
  - it is kept, and served, once the policy is met; until then the one that met it before stays;
  - a witness that does not answer is asked again after a pause that doubles; the others go on without it;
  - unchanged checkpoints are cosigned anew now and then: the time in a cosignature is what shows them to be fresh;
  - what a witness answers counts where its signature verifies. One that knows a larger tree of ours, or another
    one, is told to the operator: then this relay's log went back, or its keys are in other hands.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import httpx2

from relay.core import Relay
from relay.observe import DISAGREED, going_on, name_of, tell
from relay.pipeline.batch import checkpoint_size
from relay.protocol.canonical import decode
from relay.protocol.errors import LiaisonError, Malformed, Unavailable, Unverified
from relay.protocol.note import MAX_NOTE, MAX_SIGNATURES, NoteVerifier
from relay.protocol.witness import PATH, format_add_checkpoint, parse_size, verified_cosignatures
from relay.protocol.witness_policy import WitnessPolicy
from relay.store.log import Log

_TIMEOUT = 5.0  # seconds for one answer
_GRACE = 0.5  # seconds for the others, once there are enough
_LONGEST_PAUSE = 60.0


@dataclass(slots=True)
class Asked:
    """One witness, about one log; its number is that of its first line in the policy."""

    number: int
    url: str
    names: dict[NoteVerifier, str]
    size: int = 0  # of the tree that it cosigned last, as far as we know
    pause: float = 0.0
    due: float = 0.0  # monotonic; not to be asked before


@dataclass(slots=True)
class Kept:
    """What met the policy last, and when."""

    note: bytes = b""
    at: float = 0.0


class Cosigning:
    """A thread with an event loop of its own; `interval` and `refresh` in seconds."""

    def __init__(self, relay: Relay, policy: WitnessPolicy, *, interval: float = 1.0, refresh: float = 60.0) -> None:
        reachable = {name: each for name, each in policy.witnesses.items() if each.url}
        if not policy.is_met_by(reachable):
            raise LiaisonError("the witness policy cannot be met by the witnesses that have a URL in it")
        if len(reachable) > MAX_SIGNATURES - 2:
            raise LiaisonError(f"the witness policy has more than {MAX_SIGNATURES - 2} witnesses with a URL")
        self._relay, self._policy = relay, policy
        self._interval, self._refresh = interval, refresh
        by_url: dict[str, dict[NoteVerifier, str]] = {}
        numbers: dict[str, int] = {}
        for number, (name, each) in enumerate(policy.witnesses.items(), 1):
            if name in reachable:
                by_url.setdefault(url := each.url.rstrip("/"), {})[each.verifier] = name
                numbers.setdefault(url, number)
        self._asked = {log: [Asked(numbers[url], url, names) for url, names in by_url.items()] for log in Log}
        self._kept = {log: Kept() for log in Log}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="relay-cosigning", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    async def _run(self) -> None:
        headers = {"accept-encoding": "identity"}
        async with httpx2.AsyncClient(headers=headers, timeout=_TIMEOUT, follow_redirects=False) as client:
            while not self._ended.is_set():
                for log in Log:
                    # Unavailable: the database is away; so is whatever there was to cosign.
                    with going_on("cosigning failed"), suppress(Unavailable):
                        await self._round(client, log)
                await asyncio.to_thread(self._ended.wait, self._interval)

    async def _round(self, client: httpx2.AsyncClient, log: Log) -> None:
        note, kept, now = await self._relay.checkpoint(log, newest=True), self._kept[log], time.monotonic()
        if note == kept.note and now < kept.at + self._refresh:
            return
        due = [asked for asked in self._asked[log] if asked.due <= now]
        if not self._policy.is_met_by({name for asked in due for name in asked.names.values()}):
            return
        lines, served = dict[str, str](), dict[str, str]()
        waiting = {asyncio.ensure_future(self._ask(client, asked, log, note)) for asked in due}
        while waiting:
            grace = _GRACE if self._policy.is_met_by(lines) else None
            done, waiting = await asyncio.wait(waiting, timeout=grace, return_when=asyncio.FIRST_COMPLETED)
            for answer in done:
                lines |= answer.result()
            # Enough is enough, but somebody's policy may ask for one who is a little later.
            if (not done or not waiting) and lines != served and self._policy.is_met_by(lines):
                await self._relay.keep_cosigned(log, self._cosigned(note, lines))
                self._kept[log], served = Kept(note, now), lines.copy()

    def _cosigned(self, note: bytes, lines: Mapping[str, str]) -> bytes:
        return note + "".join(lines[name] for name in self._policy.witnesses if name in lines).encode()

    async def _ask(self, client: httpx2.AsyncClient, asked: Asked, log: Log, note: bytes) -> dict[str, str]:
        """The lines of one witness by its names in the policy; none if it does not cosign now."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                found = await self._cosignatures(client, asked, log, note)
        except (LiaisonError, httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as problem:
            _tell_of(asked, problem)
            asked.pause = min(max(2 * asked.pause, self._interval), _LONGEST_PAUSE)
            asked.due = time.monotonic() + asked.pause
            return {}
        asked.pause = 0.0
        return {asked.names[verifier]: line for verifier, line in found.items()}

    async def _cosignatures(
        self, client: httpx2.AsyncClient, asked: Asked, log: Log, note: bytes
    ) -> dict[NoteVerifier, str]:
        size = checkpoint_size(note)
        for _ in range(2):  # once more where it remembers another size than we do
            status, answer = await self._post(client, asked, log, note)
            if status != 409:
                break
            told = parse_size(answer)
            if told == asked.size == size:
                raise Unverified(f"it has cosigned another tree of {size} entries of our {log.name.lower()} log")
            if told > size:
                raise Unverified(f"it has seen {told} entries of our {log.name.lower()} log, which has {size}")
            asked.size = told
        if status != 200:
            raise Unavailable(f"answered {status}: {answer[:200].decode(errors='replace').strip()!r}")
        asked.size = size
        return verified_cosignatures(note, answer, asked.names)

    async def _post(self, client: httpx2.AsyncClient, asked: Asked, log: Log, note: bytes) -> tuple[int, bytes]:
        size, proof = checkpoint_size(note), list[bytes]()
        if 0 < asked.size < size:
            proof = list(decode(await self._relay.room.consistency(log, asked.size, size), "consistency"))
        body, answer = format_add_checkpoint(min(asked.size, size), proof, note), b""
        async with client.stream("POST", asked.url + PATH, content=body) as response:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise Malformed("its answer is packed")
            async for piece in response.aiter_raw():
                answer += piece
                if len(answer) > MAX_NOTE:
                    raise Malformed("its answer is too long")
        return response.status_code, answer


def _tell_of(asked: Asked, problem: Exception) -> None:
    """A witness that is away is told of once; one that saw another history, each time."""
    which = f"witness {asked.number} of the policy"
    if isinstance(problem, Unverified):
        DISAGREED.inc()
        tell(logging.ERROR, "witness disagrees", reason=f"{which}: {problem}")
    elif not asked.pause:
        tell(logging.WARNING, "witness away", reason=f"{which}: {name_of(problem)}")
