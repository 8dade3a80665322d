"""A worker's threads on one core, what it starts on all of them; read from the kernel, of real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from processes import Serving

pytestmark = pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="this system gives us one core"
)


def cores_of_threads(pid):
    return {frozenset(os.sched_getaffinity(int(thread.name))) for thread in Path(f"/proc/{pid}/task").iterdir()}


def test_the_threads_of_a_relay_keep_to_one_core_of_those_it_was_given(tmp_path):
    with Serving(tmp_path / "relay") as relay:
        (cores,) = cores_of_threads(relay.process.pid)
    assert len(cores) == 1
    assert cores < os.sched_getaffinity(0)


def test_an_operator_can_have_it_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("RELAY_ONE_CORE", "false")
    with Serving(tmp_path / "relay") as relay:
        assert cores_of_threads(relay.process.pid) == {frozenset(os.sched_getaffinity(0))}


def run(script):
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def test_workers_take_the_cores_in_turn():
    script = (
        "import os, sys; from relay.pipeline.cores import keep_to_one; keep_to_one({}); print(*os.sched_getaffinity(0))"
    )
    given = sorted(os.sched_getaffinity(0))
    turns = [run(script.format(7 + number)) for number in range(len(given) + 1)]
    assert sorted(int(core) for (core,) in turns[:-1]) == given
    assert turns[-1] == turns[0]


def test_what_verifies_signatures_may_use_every_core():
    given, once_ready = os.sched_getaffinity(0), "v = Verifier()\nwhile not v._is_ready(): time.sleep(0.01)\n"
    shown = run(
        "import os, time; from relay.pipeline.cores import keep_to_one; from relay.pipeline.verifier import Verifier; keep_to_one(0)\n"
        + once_ready
        + "print(*os.sched_getaffinity(v._process.pid)); v.close()"
    )
    assert set(map(int, shown)) == given


def test_what_hashes_and_stores_chunks_may_use_every_core():
    shown = run(
        "import os; from relay.pipeline.cores import bulk_threads, keep_to_one; keep_to_one(0)\n"
        "print(*bulk_threads(1).submit(os.sched_getaffinity, 0).result()); print(*os.sched_getaffinity(0))"
    )
    given = os.sched_getaffinity(0)
    assert set(map(int, shown[:-1])) == given
    assert len(shown) == len(given) + 1  # the others keep to theirs


def test_where_the_system_forbids_it_the_relay_has_all_its_cores():
    shown = run(
        "import errno, os; from relay.pipeline import cores\n"
        "def forbidden(*_): raise PermissionError(errno.EPERM, 'Operation not permitted')\n"
        "os.sched_setaffinity = forbidden\n"
        "cores.keep_to_one(1); cores.set_free(os.getpid()); print(*os.sched_getaffinity(0))"
    )
    assert set(map(int, shown)) == os.sched_getaffinity(0)
