"""An access log that grows from 10³ to 10⁶ entries, and what it costs to append, to prove, to pull and to verify.

The filling is synthetic: entries of kinds that refer to no other row go in as operator's jobs through the relay's own
committer, so that log, tiles and checkpoints are right; each has a label, and 350 octets. What is measured is real: a
relay in its process, the auditor's `liaison` and the operator's `relay check` in theirs, a new profile for each size.
Memory is the peak of the whole process as the kernel counts it; of the relay its own, without mapped files.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from math import log2
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

from relay.house import commit_alone  # noqa: E402
from relay.pipeline.batch import Batch  # noqa: E402
from relay.protocol.canonical import decode, encode  # noqa: E402
from relay.protocol.entry import NO_DEVICE, AccessEntry, Change, Event  # noqa: E402
from relay.protocol.entry import RELAY as OF_THE_RELAY  # noqa: E402
from relay.protocol.identity import Kind  # noqa: E402
from relay.protocol.label import label_bytes  # noqa: E402
from relay.protocol.tiletree import TileTree  # noqa: E402
from relay.settings import Settings  # noqa: E402
from relay.store import log as log_rows  # noqa: E402
from relay.store.engine import open_snapshot  # noqa: E402
from relay.store.log import Log  # noqa: E402
from world import PASSPHRASE, World  # noqa: E402

from .figures import Claim  # noqa: E402
from .processes import memory  # noqa: E402
from .server import RELAY, Server  # noqa: E402

STEP = 50_000
LOOKS = 30
LIAISON = str(Path(sys.executable).with_name("liaison"))
LABEL = "TEST SEALED RELEASABLE TO FRA, POL"
PROGRAMS = ("pull", "verify", "report", "check")


def measure(folder: Path, sizes: Sequence[int]) -> dict[str, Any]:
    """Figures by entries of the access log."""
    server = Server(folder)
    server.start()
    try:
        keys = SimpleNamespace(vkeys=server.log_keys())
        world = World(folder, Settings(data=server.data), keys, server.url)  # type: ignore[arg-type]
        (folder / "passphrase").write_text(PASSPHRASE)
        world.office("lo-warsaw", "POL")
        for size in sizes:
            world.device(f"a{size}@lo-warsaw", clearances=[], kind=Kind.AUDITOR)
        label = label_bytes(next(iter(world.clients.values())).labels.read(LABEL))
        found = {str(size): _at(server, world, label, size) for size in sizes}
        world.close()
    finally:
        server.stop()
    return {"sizes": found, "filling": "synthetic entries, 350 octets", "claims": _claims(found)}


def _at(server: Server, world: World, label: bytes, size: int) -> dict[str, float]:
    began, missing = time.perf_counter(), size - server.log_size()
    fill(world.settings, label, missing)
    filled = time.perf_counter() - began
    client = world.clients[f"a{size}@lo-warsaw"]
    get, reached = client.transport.get, server.log_size()  # the first look has the relay catch up
    get("/v1/audit/entries", after=reached - 1, count=1)
    appends, proofs, steps = list[float](), list[float](), list[int]()
    for _ in range(LOOKS):
        at = time.perf_counter()
        get("/v1/audit/entries", after=reached - 1, count=1)  # a look is an entry: one commit, one checkpoint
        appends.append(time.perf_counter() - at)
        old, at = random.randrange(1, reached), time.perf_counter()
        steps.append(len(decode(get("/v1/log/access/consistency", old=old, new=reached))))
        proofs.append(time.perf_counter() - at)
    return {
        "fill_rate": missing / filled,
        "append_ms": median(appends) * 1e3,
        "consistency_ms": median(proofs) * 1e3,
        "consistency_hashes": max(steps),
        **_prove(world.settings, reached),
        **_run(world, client.profile.folder),
        "relay_mib": memory(server.pid)["own_mib"],
    }


def fill(settings: Settings, label: bytes, number: int, concerns: str = "") -> None:
    """So many entries more."""
    for done in range(0, number, STEP):
        count = min(STEP, number - done)
        commit_alone(settings, lambda batch, count=count: _stage(batch, label, count, concerns))


def fill_directory(settings: Settings, devices: Sequence[bytes], number: int) -> None:
    """So many entries more of the directory log: batches of keys by devices that are in it, each another digest."""

    def stage(batch: Batch) -> Any:
        for place in range(number):
            batch.change(Change.KEY_BATCH, encode([devices[place % len(devices)], os.urandom(32)]))
        return lambda _committed: None

    commit_alone(settings, stage)  # at once: every operator's job replays the whole directory first


def _stage(batch: Batch, label: bytes, number: int, concerns: str) -> Any:
    crowd = [(each.device_id, each.address) for each in batch.directory.devices.values() if each.office == "lo-warsaw"]
    for place in range(number):
        device_id, address = crowd[place % len(crowd)] if place % 2 else (NO_DEVICE, OF_THE_RELAY)
        batch.log(
            AccessEntry(
                event=Event.REFUSE if place % 2 else Event.EXPIRE, time=batch.now_ms, salt=os.urandom(16),
                device_id=device_id, address=address, office="lo-warsaw",
                concerns=concerns, message_id=os.urandom(16), message_ref=os.urandom(32), label=label,
                permitted=not place % 2, rules=("classification",) if place % 2 else (), request=os.urandom(16),
            )
        )  # fmt: skip
    return lambda _committed: None


def _prove(settings: Settings, size: int) -> dict[str, float]:
    """Proofs of one entry, each by a tree that was just restored: hashes, tiles read, time."""
    engine, read = open_snapshot(settings.database_url), list[int]()
    hashes, times, tiles = list[int](), list[float](), 0
    with engine.connect() as connection:

        def load(level: int, index: int, width: int) -> Sequence[bytes]:
            read.append(level)
            return log_rows.hashes(connection, Log.ACCESS, level, index * 256, width)

        for _ in range(LOOKS):
            tree = TileTree(load, size)
            restored, began = len(read), time.perf_counter()
            hashes.append(len(tree.inclusion_proof(random.randrange(size), size)))
            times.append(time.perf_counter() - began)
            tiles += len(read) - restored
    engine.dispose()
    return {"proof_ms": median(times) * 1e3, "proof_hashes": max(hashes), "proof_tiles": tiles / LOOKS}


def _run(world: World, profile: Path) -> dict[str, float]:
    """Each program once: seconds and MiB at its peak."""
    given = {"LIAISON_HOME": str(profile), "LIAISON_PASSPHRASE_FILE": str(world.folder / "passphrase")}
    commands = {
        "pull": [LIAISON, "audit", "pull", "--out", str(world.folder / "log.jsonl")],
        "verify": [LIAISON, "audit", "verify"],
        "report": [LIAISON, "audit", "report", "-o", str(world.folder / "report.html")],
        "check": [RELAY, "check", "--data", str(world.settings.data)],
    }
    found = dict[str, float]()
    for name, command in commands.items():
        began, peak = time.perf_counter(), 0.0
        process = subprocess.Popen(command, env=os.environ | given, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while process.poll() is None:
            peak = max(peak, _high_water(process.pid))
            time.sleep(0.02)
        _out, said = process.communicate()
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}: {said.decode()[-500:]}")
        found |= {f"{name}_s": time.perf_counter() - began, f"{name}_mib": peak}
    return found


def _high_water(pid: int) -> float:
    """MiB that a process had at its peak so far. (What `wait4` tells counts from before it was this program.)"""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0  # it has ended, and is not waited for yet


def _claims(sizes: dict[str, dict[str, float]]) -> list[tuple[str, float, float, bool]]:
    least, most = min(sizes, key=int), max(sizes, key=int)
    few, many, words = sizes[least], sizes[most], f"at {int(most):,} entries / at {int(least):,}"
    growth = log2(int(most)) / log2(int(least))  # of the tree's height
    claims = [
        (f"proof of one, hashes {words}", many["proof_hashes"] / few["proof_hashes"], round(growth, 2) + 0.1, False),
        (f"consistency proof, hashes, at {int(most):,} entries / 2 log2 of them",
         many["consistency_hashes"] / (2 * log2(int(most))), 1.0, False),
        (f"proof of one, time {words}", many["proof_ms"] / few["proof_ms"], 5.0, False),
        (f"proof of one, tiles read at {int(most):,} entries / log256 of them",
         many["proof_tiles"] / (log2(int(most)) / 8), 1.0, False),
        (f"consistency proof over HTTP {words}", many["consistency_ms"] / few["consistency_ms"], 2.0, False),
        (f"append of one over HTTP {words}", many["append_ms"] / few["append_ms"], 1.5, False),
    ]  # fmt: skip
    if "10000" in sizes and most != "10000":
        for what in ("relay", *PROGRAMS):
            name = {"relay": "the relay", "check": "relay check"}.get(what, f"audit {what}")
            ratio = many[f"{what}_mib"] / sizes["10000"][f"{what}_mib"]
            claims.append((f"memory of {name} at {int(most):,} entries / at 10,000", ratio, 1.2, False))
    return claims


def table(found: dict[str, Any]) -> list[str]:
    """Markdown: the growth curves, a row per size."""
    lines = [
        "| access log | filled, entries/s | append ms | proof ms (hashes, tiles) | consistency ms (hashes) "
        "| pull s · MiB | verify s · MiB | report s · MiB | relay check s · MiB | relay MiB |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for size, at in found["sizes"].items():
        ran = " | ".join(f"{at[f'{name}_s']:.1f} · {at[f'{name}_mib']:.0f}" for name in PROGRAMS)
        lines.append(
            f"| {int(size):,} | {at['fill_rate']:,.0f} | {at['append_ms']:.2f} "
            f"| {at['proof_ms']:.2f} ({at['proof_hashes']:.0f}, {at['proof_tiles']:.1f}) "
            f"| {at['consistency_ms']:.2f} ({at['consistency_hashes']:.0f}) | {ran} | {at['relay_mib']:.0f} |"
        )
    return lines


def main() -> None:
    """Run this section alone: `python -m bench.audit FOLDER [SIZE...]`."""
    folder, *sizes = sys.argv[1:]
    found = measure(Path(folder), tuple(map(int, sizes)) or (1000, 10_000, 100_000, 1_000_000))
    print("\n".join(table(found)))
    for words, ratio, bound, at_least in found["claims"]:
        print(Claim(words, ratio, bound, at_least=at_least).line())


if __name__ == "__main__":
    main()
