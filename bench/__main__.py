"""python -m bench: see bench/__init__.py."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from . import anatomy, audit, chain, growth, machine, parts, precedence, recipients, report
from .claims import claims
from .floor import Floor
from .peers.nats import Nats
from .peers.rabbit import Rabbit
from .peers.synapse import Synapse
from .postgres import Cluster, Missing
from .server import Server
from .sidebyside import FloorSubject, RelaySubject, compare
from .world import World, build_world

HERE = Path(__file__).parent
SECTIONS = ("work", "floor", "peers", "recipients", "precedence", "profile", "chain", "parts", "audit", "growth")
USUAL = SECTIONS[:-2]  # the last two take longer than all the others


class Run:
    """One run: what is running, what was found, what could not be had."""

    def __init__(self, given: argparse.Namespace, stack: ExitStack) -> None:
        self.given, self._stack = given, stack
        self.folder = Path(tempfile.mkdtemp(prefix="bench-"))
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.skipped: list[str] = []
        self.worlds: dict[str, World] = {}

    def world(self, name: str, cluster: Cluster | None, workers: int = 1, crowd: int = 0) -> World:
        url = cluster.create(name) if cluster is not None else None
        server = Server(self.folder / name, url, cluster, workers)
        server.start()
        self._stack.callback(server.stop)
        self.worlds[name] = world = build_world(server, crowd=crowd)
        self._stack.callback(world.close)
        return world

    def subjects(self) -> dict[str, Any]:
        """Relays, floors and peers, as far as they are wanted and can be had."""
        wanted, crowd = self.given.sections, 0 if self.given.smallest else 100 if self.given.quick else 500
        lite = self.world("lite", None, crowd=crowd)
        if "work" not in wanted:  # what the others stand beside
            return {}
        found: dict[str, Any] = {"relay SQLite": RelaySubject(lite)}
        if "floor" in wanted:
            found["floor SQLite"] = FloorSubject(self._closing(Floor(self.folder, None)), lite)
        if "peers" in wanted:
            self._try(lambda: found.update(nats=Peer(self._closing(Nats(self.folder, HERE / "results" / "peers")))))
            if not self.given.smallest:
                rabbit = lambda: Rabbit(HERE / "results" / "peers")  # noqa: E731
                self._try(lambda: found.update(rabbit=Peer(self._closing(rabbit()))))
        if not self.given.smallest:
            self._try(lambda: self._on_postgres(found, floor="floor" in wanted))
        return found

    def _on_postgres(self, found: dict[str, Any], *, floor: bool) -> None:
        cluster = self._stack.enter_context(Cluster())
        if "peers" in self.given.sections:
            cache = HERE / "results" / "peers"
            self._try(lambda: found.update(synapse=Peer(self._closing(Synapse(self.folder, cache, cluster)))))
        found["relay PostgreSQL"] = RelaySubject(world := self.world("one", cluster))
        if floor:
            found["floor PostgreSQL"] = FloorSubject(self._closing(Floor(self.folder, cluster)), world)
        self._try(lambda: found.update({"relay PostgreSQL, 2 workers": RelaySubject(self.world("two", cluster, 2))}))

    def section(self, results: dict[str, Any], name: str, measured: Callable[[], dict[str, Any]]) -> None:
        """One that fails is named, and costs none of the others their figures."""
        if name in self.given.sections:
            try:
                results[name] = measured()
            except Exception as problem:  # noqa: BLE001 - said below and in the results
                traceback.print_exc()
                self.skipped.append(f"{name}: {problem!r:.200}")

    def _closing(self, opened: Any) -> Any:
        self._stack.callback(opened.close)
        return opened

    def _try(self, attempt: Any) -> None:
        try:
            attempt()
        except Missing as reason:
            self.skipped.append(" ".join(str(reason).split()))
            print(f"skipped: {self.skipped[-1]}", flush=True)


class Peer:
    """A peer as it is compared."""

    works = ("send", "send+fetch")

    def __init__(self, measured: Any) -> None:
        self.measure, self.share = measured.measure, getattr(measured, "share", 1.0)


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Every wanted section; the results as they are written."""
    results: dict[str, Any] = {"v": 1, "machine": machine.describe(), "rounds": given.rounds}
    with ExitStack() as stack:
        run = Run(given, stack)
        subjects = run.subjects()
        clients = (1, 4) if given.smallest else (1, 64) if given.quick else (1, 8, 64)
        results["side_by_side"] = compare(subjects, clients, given.rounds, given.count)
        lite = run.worlds["lite"]
        if not given.smallest:
            numbers = (1, 10, 100) if given.quick else (1, 10, 100, 500)
            run.section(
                results, "recipients", lambda: recipients.measure(lite, numbers, (1024, 4096, 1 << 20), given.rounds)
            )
            flashes = 20 if given.quick else 100
            run.section(results, "precedence", lambda: precedence.measure(lite, given.rounds, flashes, 4 * given.count))
            run.section(results, "chain", lambda: chain.measure(5 if given.quick else 20))
            run.section(results, "parts", lambda: parts.section(16 if given.quick else 100))
            tens = tuple(10**power for power in range(3, 5 if given.quick else 7))
            run.section(results, "audit", lambda: audit.measure(run.folder / "audited", tens))
            run.section(results, "growth", lambda: growth.measure(run.world("growing", None), tens, given.rounds, 40))
        run.section(
            results, "profile", lambda: anatomy.measure(lite, 1 if given.smallest else 4 if given.quick else 16)
        )
        results["skipped"] = run.skipped
    _workers(results)
    results["claims"] = [{**claim.fields(), "line": claim.line()} for claim in claims(results)]
    return results


def _workers(results: dict[str, Any]) -> None:
    """Two workers beside one: by rate, and by processor time, which tells more where no processor is free."""
    side = results["side_by_side"]
    if not (found := side.get("relay PostgreSQL, 2 workers")):
        return
    one, two = side["relay PostgreSQL"]["accept"], found["accept"]
    most = max(one, key=int)
    spent = [each[most]["server_us"] + each[most]["database_us"] + each[most]["generator_us"] for each in (one, two)]
    cores, busy = results["machine"]["cores"] or 1, spent[0] * one[most]["rate"] / 1e6  # while one worker served
    free = f"{max(cores - busy, 0):.1f} processors were free beside one worker, room for {cores / busy:.2f}"
    words = f"2 workers / 1 worker on PostgreSQL, accept ({free})"
    own = spent[1] / spent[0]
    results["workers"] = {
        "claims": [
            (words, two[most]["rate"] / one[most]["rate"], 1.6, True),
            ("2 workers / 1 worker, processor time of an accept, generator included", own, 1.25, False),
        ]
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Ratios of one run on this machine.")
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []], help=f"default: {', '.join(USUAL)}")
    parser.add_argument("--quick", action="store_true", help="a few minutes, smaller numbers")
    parser.add_argument("--smallest", action="store_true", help="seconds: only to see that it works")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--readme", type=Path, help="a file between whose markers the table goes")
    given = parser.parse_args()
    given.sections = given.sections or list(USUAL)
    given.rounds = given.rounds or (1 if given.smallest or given.quick else 3)
    given.count = 8 if given.smallest else 384 if given.quick else 768
    return given


def main() -> int:
    given = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # told to end, it ends what it has started, too
    try:
        results = measure(given)
    except Missing as reason:
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    encoded = json.dumps(results, indent=1) + "\n"
    report.write(results, given.out, encoded)
    if given.readme:
        given.readme.write_text(report.put_between(given.readme.read_text(), report.table(results, crowded=True)))
    for claim in results["claims"]:
        print(claim["line"])
    print(f"written: {given.out}/latest.json, latest.svg, latest.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
