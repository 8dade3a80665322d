"""Where the model plays: two relays on one database, as two processes are, on a clock that only the play moves.

What is founded is founded once, and copied for each play.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sqlalchemy import event, make_url

import relay.core.door
import relay.core.readingroom
import relay.core.relay
import relay.core.sweeper
import relay.house
import relay.pipeline.committer
from databases import administer, fresh_database
from model.acts import Act, Slate, together
from model.cast import ALL, CAST, CLOCK, OFFICES, START
from model.registry import Registry
from model.relay import Model
from model.terms import DAY, Answer
from postgres import postgres_url
from relay.core import Relay
from relay.core.quota import Quota
from relay.core.uploads import Chunks
from relay.house import limits, migrate, prepare_data
from relay.protocol.errors import Conflict, LiaisonError, Malformed, Unauthenticated, Unavailable
from relay.protocol.identity import Kind
from relay.settings import Settings
from relay.store.blobs import open_blobs
from relay.store.engine import is_shared, open_readers, open_writer

MODULES = (
    relay.pipeline.committer, relay.core.door, relay.core.readingroom, relay.core.relay, relay.core.sweeper, relay.house,
)  # fmt: skip


@contextmanager
def stopped_clock() -> Iterator[None]:
    """The relay's time is CLOCK's, in seconds."""
    real = relay.pipeline.committer.time
    clock = SimpleNamespace(
        time=lambda: float(CLOCK.now), time_ns=lambda: CLOCK.now * 10**9,
        monotonic=real.monotonic, perf_counter=real.perf_counter,
    )  # fmt: skip
    for module in MODULES:
        module.time = clock  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in MODULES:
            module.time = real  # type: ignore[attr-defined]


def opened(chosen: Settings) -> Relay:
    """As `open_relay` does, on a database that is migrated; and that SQLite's disk has it is not what is tested here."""
    writer, readers = open_writer(chosen.database_url), open_readers(chosen.database_url)
    if not is_shared(writer):
        event.listen(writer, "connect", lambda connection, _record: connection.execute("PRAGMA synchronous=OFF"))
    chunks = Chunks(open_blobs(chosen.parts_place))
    return Relay(writer, readers, prepare_data(chosen), "relay.test", chunks, Quota(limits(chosen)))


@dataclass
class Stage:
    settings: Settings
    model: Model
    registry: Registry | None = None  # None: of an empty directory
    waiting: list[Act] = field(default_factory=list)  # for one commit
    room: int = 1  # so many go into it
    fate: str = "kept"
    turn: int = 0  # how many commits there were
    is_sound: bool = True  # false where the model was left behind: what is seen then says nothing more
    told: Callable[[str], None] = lambda _words: None

    def __post_init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.relays = [opened(self.settings) for _ in range(2)]
        self.slates = [Slate(each) for each in self.relays]
        self.registry = self.registry or Registry(self.model, self.relays[0].vkeys)

    @property
    def relay(self) -> Relay:
        """That which has committed last."""
        return self.relays[self.turn % 2]

    def close(self) -> None:
        for each in self.relays:
            each.close()
        self.loop.close()

    def pass_time(self, seconds: int) -> None:
        self.commit()
        CLOCK.now += seconds
        self.model.now = CLOCK.now

    def restart(self) -> None:
        """One of the two processes ends, and another begins."""
        number = self.turn % 2
        self.relays[number].close()
        self.relays[number] = opened(self.settings)
        self.slates[number] = Slate(self.relays[number])

    def run(self, waits: Any) -> Any:
        return self.loop.run_until_complete(waits)

    def do(self, *acts: Act) -> None:
        """Each goes into the next commit; once it is full, it is made, and held against the model."""
        for act in acts:
            self.waiting.append(act)
            if len(self.waiting) >= self.room:
                self.commit()

    def alone(self, act: Act) -> None:
        """What lets somebody act who could not: he is recognised only after its commit."""
        self.commit()
        self.room, self.fate = 1, "kept"
        self.do(act)

    def commit(self) -> None:
        acts, fate, self.waiting, self.room, self.fate = self.waiting, self.fate, [], 1, "kept"
        if not acts:
            return
        self.turn += 1
        self.is_sound = False
        told = self.run(together(self.relay, self.slates[self.turn % 2], acts, fate))
        for act, got in zip(acts, told, strict=True):
            answer = Answer(Unavailable) if fate == "lost" else act.expect()
            said = f"{type(got).__name__} {got}" if isinstance(got, BaseException) else "done"
            self.told(f"{act.words}: {said}{'' if fate == 'kept' else f' ({fate})'}")
            if fate in {"lost", "unheard"}:
                assert isinstance(got, LiaisonError), act.words
            else:
                self.compare(act, got, answer, alone=len(acts) == 1)
        self.is_sound = True

    @staticmethod
    def compare(act: Act, got: Any, answer: Answer, *, alone: bool) -> None:
        if answer.error is None:
            if isinstance(got, BaseException):
                raise AssertionError(f"{act.words}: the model expects it done") from got
            act.check(got, answer)
        elif not isinstance(got, answer.error):
            # Of two reasons in one request, which is told depends on what else is in the commit, and on whether a
            # revocation by the other process is known before it.
            is_either = {answer.error, type(got)} <= {Unauthenticated, Malformed, *([] if alone else [Conflict])}
            assert is_either, f"{act.words}: {got!r}, the model expects {answer.error.__name__}"
        elif answer.rules:
            assert set(got.rules) == answer.rules, act.words


# -- founded once, copied for each example ---------------------------------------------------------------------------


def found(stage: Stage) -> None:
    """Everybody is enrolled and has keys; Warsaw has an agreement with each of the others."""
    registry = stage.registry
    for office in OFFICES:
        stage.do(registry.admit(office), registry.adopt(office, 1))
    for word in CAST:
        stage.do(registry.certify(word))
        if CAST[word][1] is not Kind.AUDITOR:
            stage.do(registry.restock(word, [60 * DAY] * 6, 7 * DAY))
    stage.do(registry.found_community())
    stage.do(registry.list_members("ewa", 1, frozenset({"ola.zak@lo-warsaw", "jean.petit@lo-paris"})))
    wide = registry.draft(("lo-warsaw", "lo-paris"), ALL, codeword=True, coi=True, days=60, onward=True)
    narrow = registry.draft(("lo-warsaw", "lo-oslo"), frozenset({"OPEN", "CLOSED"}), codeword=False, coi=False, days=30)
    stage.do(*(registry.sign(wide, each) for each in ("lo-warsaw", "lo-paris")))
    stage.do(*(registry.sign(narrow, each) for each in ("lo-warsaw", "lo-oslo")))


@dataclass
class Template:
    """A founded stage at rest, and how to make another of it."""

    kind: str
    url: str
    folder: Path
    model: Model
    registry: Registry  # over that model
    count: int = 0

    @contextmanager
    def copied(self) -> Iterator[Stage]:
        self.count += 1
        CLOCK.now = START
        with self._database() as url:
            stage = Stage(Settings(data=self.folder / "relay", database=url), *deepcopy((self.model, self.registry)))
            try:
                yield stage
            finally:
                stage.close()

    @contextmanager
    def _database(self) -> Iterator[str]:
        if self.kind == "sqlite":
            path = self.folder / f"{self.count}.sqlite"
            shutil.copyfile(make_url(self.url).database or "", path)
            yield f"sqlite:///{path}"
            path.unlink()
            return
        name, url = f"relay_model_{self.folder.name[-8:]}_{self.count}".replace("-", "_"), make_url(self.url)
        administer(postgres_url()[0], f'CREATE DATABASE "{name}" TEMPLATE "{url.database}"')
        try:
            yield url.set(database=name).render_as_string(hide_password=False)
        finally:
            administer(postgres_url()[0], f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def template(kind: str, folder: Path) -> Iterator[Template]:
    with stopped_clock(), fresh_database(kind, folder / "template") as url:
        CLOCK.now = START
        settings = Settings(data=folder / "relay", database=url, name="relay.test")
        migrate(settings)
        stage = Stage(settings, Model(START))
        try:
            found(stage)
        finally:
            stage.close()
        yield Template(kind, url, folder, stage.model, stage.registry)
