"""A large attachment: sealed, uploaded, downloaded, opened; each step beside the floor, in one run.

The floor is SHA-256 plus AES-256-GCM in pieces of 16 KiB over the same bytes, on one thread, in memory, no disk and
no network. `disk` is the same bytes written to the same disk and synced: no step that promises durability can beat it.
A real relay serves in a process of its own; the steps are those of the client library.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

from liaison.carriage import download, upload  # noqa: E402
from liaison.meter import no_meter  # noqa: E402
from liaison.sealed import check_file, save, seal_file  # noqa: E402
from relay.protocol.header import Portion  # noqa: E402
from relay.settings import Settings  # noqa: E402
from world import World, clearance  # noqa: E402

from .processes import end, spawn  # noqa: E402

PIECE, ANNA, JEAN = 16384, "anna.nowak@lo-warsaw", "jean.petit@lo-paris"


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


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


def floors(folder: Path, film: Path) -> dict[str, float]:
    content = film.read_bytes()
    return {"floor": timed(lambda: floor(content)), "disk": timed(lambda: synced(content, folder / "disk.bin"))}


def measure(folder: Path, size: int) -> tuple[dict[str, float], dict[str, int]]:
    film = folder / "film.bin"
    with film.open("wb") as file:
        for _ in range(size >> 20):
            file.write(os.urandom(1 << 20))
    seconds = floors(folder, film)
    process, world = started(folder)
    memory = {"relay before": peak(process.pid), "client before": peak(os.getpid(), reset=True)}
    try:
        anna, jean = world.clients[ANNA], world.clients[JEAN]
        plan = anna.plan([JEAN], label="TEST SEALED RELEASABLE TO FRA, POL", body="Film.", attachments=[film])
        parts, kid = anna.profile.cabinet.parts, anna.profile.signing.kid
        large = plan.draft.portions[1]
        start = time.perf_counter()
        file, length = seal_file(parts, bytes(16), kid, 1, bytes(32), large, no_meter)
        seconds["seal"] = time.perf_counter() - start
        lone = Portion(length, file.digest, large.label)
        sent = anna.release(plan).message_id  # its own sealing and upload are not counted; what follows uses its part
        core = anna.read(sent).message.core
        seconds["upload"] = timed(lambda: upload(parts, lone, anna.transport, no_meter))
        jean.sync()
        jean.transport.post(f"/v1/messages/{sent.hex()}/open", b"")
        shelf = folder / "shelf"
        seconds["download"] = timed(lambda: download(shelf, core, 1, jean.transport, no_meter))
        key = anna.read(sent).portions[1].apart.key
        seconds["check"] = timed(lambda: check_file(core, 1, key, shelf))
        opened = check_file(core, 1, key, shelf)
        seconds["open"] = timed(lambda: save(opened, folder / "copy.bin", no_meter))
        memory |= {"relay": peak(process.pid), "client": peak(os.getpid())}
        with film.open("rb") as before, (folder / "copy.bin").open("rb") as after:
            assert hashlib.file_digest(before, "sha256").digest() == hashlib.file_digest(after, "sha256").digest()
        world.close()
    finally:
        end(process)
    return seconds, memory


def section(size: int) -> dict[str, Any]:
    """The steps over `size` MiB: MiB/s, the share of the floor's speed, the most memory that each side had."""
    with tempfile.TemporaryDirectory() as folder:
        seconds, memory = measure(Path(folder), size << 20)
    steps = {
        name: {"mib_s": round(size / spent), "of_floor": round(seconds["floor"] / spent, 3)}
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
