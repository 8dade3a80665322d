"""A large attachment: sealed, uploaded, downloaded, opened; each step beside the floor, in one run.

The floor is SHA-256 plus AES-256-GCM in pieces of 16 KiB over the same bytes, on one thread, in memory, no disk and
no network. `disk` is the same bytes written to the same disk and synced: no step that promises durability can beat it,
and `of_bound` is the share of the slower of both. `processor` is what client and relay together spent on a step: on two
cores, with both on one machine, a step takes at least half of it. The first round is not counted: a file's first pages
cost a virtual machine several times what they cost once its host has given it the memory.
A real relay serves in a process of its own; the steps are those of the client library.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import httpx2
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

from liaison.carriage import downloaded, upload  # noqa: E402
from liaison.meter import no_meter  # noqa: E402
from liaison.sealed import check_file, save, seal_file  # noqa: E402
from relay.protocol.header import Portion  # noqa: E402
from relay.settings import Settings  # noqa: E402
from world import World, clearance  # noqa: E402

from .processes import end, spawn  # noqa: E402

PIECE, ROUNDS = 16384, 3
ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-paris"


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds of a step by the clock, and of processors."""

    clock: float
    processor: float


def timed(work: Callable[[], object], *others: int) -> Spent:
    """What a step takes, this process and others together."""
    start, before = time.perf_counter(), _processor(others)
    work()
    return Spent(time.perf_counter() - start, _processor(others) - before)


def _processor(others: Iterable[int]) -> float:
    ticks = (Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in others)
    return time.process_time() + sum(int(each[11]) + int(each[12]) for each in ticks) / os.sysconf("SC_CLK_TCK")


def floor(content: bytes) -> None:
    hashlib.sha256(content).digest()
    aead, view = AESGCM(bytes(32)), memoryview(content)
    for at in range(0, len(content), PIECE):
        aead.encrypt(at.to_bytes(12, "big"), view[at : at + PIECE], None)


def synced(content: bytes, path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        file.write(content)
        os.fsync(file.fileno())


def started(folder: Path) -> tuple[subprocess.Popen[str], World]:
    command = [str(Path(sys.executable).parent / "relay"), "serve", "--data", str(folder / "relay"), "--port", "0"]
    process = spawn(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = next(word for word in process.stdout.readline().split() if word.startswith("http"))
    keys = json.loads(httpx2.get(f"{url}/v1/relay").content)["keys"]
    world = World(folder, Settings(data=folder / "relay"), SimpleNamespace(vkeys=tuple(keys)), url)  # type: ignore[arg-type]
    for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
        world.office(office, nation)
    world.agreement("lo-warsaw", "lo-paris")
    for address in (ANNA, JEAN):
        world.device(address, clearances=[clearance(nations=["FRA", "POL"])])
    return process, world


def peak(process: int, *, reset: bool = False) -> int:
    """The most memory that a process has had, in MiB; from now on, after a reset."""
    if reset:
        Path(f"/proc/{process}/clear_refs").write_text("5")
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) // 1024


class Bench:
    """Rounds of the same steps over one file. What a round has written is gone before the next begins."""

    def __init__(self, folder: Path, film: Path, world: World, relay: int) -> None:
        self._folder, self._film, self._content, self._relay = folder, film, film.read_bytes(), relay
        self._anna, self._jean = world.clients[ANNA], world.clients[JEAN]
        plan = self._anna.plan([JEAN], label="TEST SEALED RELEASABLE TO FRA, POL", body="Film.", attachments=[film])
        self._large = plan.draft.portions[1]
        sent = self._anna.release(plan).message_id
        record = self._anna.read(sent)
        self._core, self._key = record.message.core, record.portions[1].apart.key
        self._jean.sync()
        self._jean.transport.post(f"/v1/messages/{sent.hex()}/open", b"")
        self._chunks = folder / "relay" / "parts"
        self._kept = set(self._chunks.iterdir())

    def round(self) -> dict[str, Spent]:
        folder, disk = self._folder, self._folder / "disk.bin"
        seconds = {"floor": timed(lambda: floor(self._content)), "disk": timed(lambda: synced(self._content, disk))}
        disk.unlink()
        seconds |= self._there() | self._back(folder / "shelf", folder / "copy.bin")
        for path in set(self._chunks.iterdir()) - self._kept:
            shutil.rmtree(path)
        return seconds

    def _there(self) -> dict[str, Spent]:
        parts, kid = self._anna.profile.cabinet.parts, self._anna.profile.signing.kid
        sealed = []
        spent = timed(lambda: sealed.append(seal_file(parts, os.urandom(16), kid, 1, bytes(32), self._large, no_meter)))
        ((file, length),) = sealed
        lone = Portion(length, file.digest, self._large.label)
        sending = timed(lambda: upload(parts, lone, self._anna.transport, no_meter, file.chunks), self._relay)
        file.path.unlink()
        return {"seal": spent, "upload": sending}

    def _back(self, shelf: Path, copy: Path) -> dict[str, Spent]:
        shelved = downloaded(shelf, self._core, 1, self._jean.transport, no_meter)
        with ExitStack() as stack:
            seconds = {"download": timed(lambda: stack.enter_context(shelved), self._relay)}
        opened = []
        seconds["check"] = timed(lambda: opened.append(check_file(self._core, 1, self._key, shelf)))
        seconds["open"] = timed(lambda: save(opened[0], copy, no_meter))
        with self._film.open("rb") as before, copy.open("rb") as after:
            assert hashlib.file_digest(before, "sha256").digest() == hashlib.file_digest(after, "sha256").digest()
        shutil.rmtree(shelf)
        copy.unlink()
        return seconds


def measure(folder: Path, size: int) -> tuple[dict[str, Spent], dict[str, int]]:
    """Medians of ROUNDS, after one that is not counted; then the most memory that each side had."""
    film = folder / "film.bin"
    with film.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    process, world = started(folder)
    try:
        bench = Bench(folder, film, world, process.pid)
        memory = {"relay before": peak(process.pid), "client before": peak(os.getpid(), reset=True)}
        bench.round()
        rounds = [bench.round() for _ in range(ROUNDS)]
        memory |= {"relay": peak(process.pid), "client": peak(os.getpid())}
        world.close()
    finally:
        end(process)
    return {
        step: Spent(*(median(part) for part in zip(*(astuple(each[step]) for each in rounds), strict=True)))
        for step in rounds[0]
    }, memory


def section(size: int) -> dict[str, Any]:
    """The steps over `size` MiB: MiB/s, the share of the floor's speed, the most memory that each side had."""
    with tempfile.TemporaryDirectory() as folder:
        seconds, memory = measure(Path(folder), size << 20)
    bound = max(seconds["floor"].clock, seconds["disk"].clock)
    steps = {
        name: {
            "mib_s": round(size / spent.clock),
            "of_floor": round(seconds["floor"].clock / spent.clock, 3),
            "of_bound": round(bound / spent.clock, 3),
            "processor": round(spent.processor, 3),
        }
        for name, spent in seconds.items()
    }
    claims = [
        (f"{size} MiB {name} / SHA-256 and AES-256-GCM", steps[name]["of_floor"], 0.5, True)
        for name in ("seal", "upload", "download", "open")
    ]
    grown = [
        (
            f"{side}'s memory grown while {size} MiB passed, MiB",
            float(memory[side] - memory[f"{side} before"]),
            64.0,
            False,
        )
        for side in ("relay", "client")
    ]
    return {"size_mib": size, "steps": steps, "memory_mib": memory, "claims": [*claims, *grown]}
