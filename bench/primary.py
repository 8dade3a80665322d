"""What one PostgreSQL primary carries: octets, write-ahead log and commits of each step, and what a year comes to.

    python -m bench.primary [--stored 1000 100000] [--count 2048] [--out FOLDER]

Letters of 4 KiB to one recipient through a real `relay serve`; sizes are PostgreSQL's own, of a table with its
indexes and what it keeps out of line, after VACUUM; the log is read at its insert position. `--stored` fills with
synthetic rows as bench/growth.py does, and measures real messages again at each size.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from . import growth, machine
from .figures import middle
from .postgres import Cluster, Missing
from .server import Server
from .sidebyside import deliver
from .world import World, build_world

STEPS = ("accept", "open", "acknowledge")
DAILY = (10_000, 100_000, 1_000_000)  # messages
SIZES = """
SELECT root.relname, sum(pg_table_size(leaf)), sum(pg_indexes_size(leaf)), sum(pg_stat_get_live_tuples(leaf))
FROM pg_class root LEFT JOIN LATERAL pg_partition_tree(root.oid) tree ON tree.isleaf,
    LATERAL coalesce(tree.relid::oid, root.oid) leaf
WHERE root.relnamespace = 'public'::regnamespace AND root.relkind IN ('r', 'p') AND NOT root.relispartition
GROUP BY root.relname
"""
WAL = """
SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn, (SELECT wal_fpi FROM pg_stat_wal),
    (SELECT count(*) FROM checkpoint WHERE log = 2)
"""


class Primary:
    """The relay's database, looked at from beside it."""

    def __init__(self, url: str) -> None:
        import psycopg  # noqa: PLC0415 - an extra

        self._connection = psycopg.connect(url, autocommit=True)

    def close(self) -> None:
        self._connection.close()

    def sizes(self) -> dict[str, tuple[int, int, int]]:
        """By table: octets of it, octets of its indexes, rows."""
        self._connection.execute("VACUUM ANALYZE")
        found = self._connection.execute(SIZES)
        return {name: (int(own), int(indexes), int(rows)) for name, own, indexes, rows in found}

    def wal(self) -> tuple[int, int, int]:
        """Octets written to the log so far, whole pages among them, and batches that were committed."""
        octets, pages, batches = self._connection.execute(WAL).fetchone() or (0, 0, 0)
        return int(octets), int(pages), int(batches)

    def checkpoint(self) -> None:
        """From here on, each page that is touched goes to the log whole, once."""
        self._connection.execute("CHECKPOINT")

    def commits_per_second(self, seconds: float = 3.0) -> float:
        """One row changed and made durable, again and again on one connection: what no batch can be faster than."""
        self._connection.execute("CREATE TABLE IF NOT EXISTS bench_commit (n bigint)")
        self._connection.execute("INSERT INTO bench_commit VALUES (0)")
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            self._connection.execute("UPDATE bench_commit SET n = n + 1")
            count += 1
        rate = count / (time.perf_counter() - began)
        self._connection.execute("DROP TABLE bench_commit")
        return rate


def steps(world: World, primary: Primary, count: int, clients: int) -> dict[str, dict[str, float]]:
    """Each step of `count` letters by itself, with what it wrote to the log."""
    found: dict[str, dict[str, float]] = {}
    letters = world.letters(count)
    for step in STEPS:
        primary.checkpoint()
        before = primary.wal()
        measured, _load = deliver(world, letters, step, clients)
        octets, pages, batches = (after - earlier for after, earlier in zip(primary.wal(), before, strict=True))
        figures = measured.figures()
        found[step] = {
            "rate": figures["rate"], "p50_ms": figures["p50_ms"], "server_us": figures["server_us"],
            "database_us": figures["database_us"], "wal_octets": octets / count, "wal_whole_pages": pages / count,
            "per_commit": count / max(batches, 1), "commits_per_second": figures["rate"] * batches / count,
        }  # fmt: skip
    return found


def grown(
    before: dict[str, tuple[int, int, int]], after: dict[str, tuple[int, int, int]], count: int
) -> dict[str, Any]:
    """Per message by table: octets of it, octets of its indexes, rows."""
    tables = {}
    for name, now in after.items():
        own, indexes, rows = (each - was for each, was in zip(now, before.get(name, (0, 0, 0)), strict=True))
        if own + indexes > 0:
            tables[name] = {"octets": own / count, "index_octets": indexes / count, "rows": rows / count}
    return tables


def year(tables: dict[str, Any], taken: dict[str, dict[str, float]], daily: int) -> dict[str, float]:
    """GiB after a year of so many messages a day, nothing destroyed, and the log's GiB a day.

    A commit has one checkpoint, so how much there is of those goes by how many steps share one. Nonces come and go.
    """
    lasting = {name: each for name, each in tables.items() if name not in {"nonce", "checkpoint"}}
    checkpoint, commits = tables["checkpoint"], sum(1 / step["per_commit"] for step in taken.values())
    found = {}
    for what in ("octets", "index_octets"):
        octets = sum(each[what] for each in lasting.values()) + commits * checkpoint[what] / checkpoint["rows"]
        found[f"{what}_a_message"] = octets
        found[what.replace("octets", "gib")] = daily * 365 * octets / 2**30
    wal = sum(step["wal_octets"] for step in taken.values())
    return {**found, "wal_octets_a_message": wal, "wal_gib_a_day": daily * wal / 2**30}


def measure(given: argparse.Namespace, stack: ExitStack) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    cluster = stack.enter_context(Cluster())
    server = Server(folder / "primary", cluster.create("carried"), cluster)
    server.start()
    stack.callback(server.stop)
    world = build_world(server)
    stack.callback(world.close)
    primary = Primary(cluster.url("carried"))
    stack.callback(primary.close)
    found: dict[str, Any] = {
        "v": 1,
        "machine": machine.describe(),
        "bare_commits_per_second": primary.commits_per_second(),
    }
    steps(world, primary, 128, 64)  # warm
    before = primary.sizes()
    found["steps"] = {
        str(clients): steps(world, primary, count, clients) for clients, count in ((64, given.count), (1, 128))
    }
    per_message = found["per_message"] = grown(before, primary.sizes(), given.count + 128)
    found["a_year"] = {
        f"{daily}, {clients} clients": year(per_message, taken, daily)
        for clients, taken in found["steps"].items()
        for daily in DAILY
    }
    stored = 0
    for size in given.stored:
        growth._fill(world, stored, size)
        stored = size
        found.setdefault("stored", {})[str(size)] = _look(world, primary, given.rounds)
    return found


def _look(world: World, primary: Primary, rounds: int) -> dict[str, Any]:
    """Sizes with so much stored, and real messages one by one."""
    sizes = primary.sizes()
    taken = [steps(world, primary, 256, 1) for _ in range(rounds)]
    (place, place_index, _rows), columns = sizes["message_place"], list(zip(*sizes.values(), strict=True))
    mib = {"tables": columns[0], "indexes": columns[1], "places": [place], "places_indexes": [place_index]}
    return {
        **{f"{what}_mib": sum(octets) / 2**20 for what, octets in mib.items()},
        **{step: middle([each[step] for each in taken]) for step in STEPS},
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.primary", description="What one PostgreSQL primary carries.")
    parser.add_argument("--stored", type=int, nargs="*", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--count", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # told to end, it ends what it has started, too
    try:
        with ExitStack() as stack:
            found = measure(given, stack)
    except Missing as reason:
        print(f"bench: {reason}", file=sys.stderr)
        return 1
    given.out.mkdir(parents=True, exist_ok=True)
    encoded = json.dumps(found, indent=1) + "\n"
    (given.out / "primary.json").write_text(encoded)
    print(encoded, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
