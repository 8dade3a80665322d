"""One core for all threads of a process: the interpreter runs one of them at a time anyway.

On several cores each hand-over of the interpreter's lock wakes a thread elsewhere, with cold caches, while the one that
handed over still runs: SPEC.md, "One core for a worker's threads". What a process starts may use every core that the
process was given; so may everybody else, and the system moves them out of the way.
"""

from __future__ import annotations

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor

_given: set[int] = set()  # what this process was started with, once it keeps to one of them


def keep_to_one(number: int) -> None:
    """Have the threads that will be made keep to the core of this number, counted round those that we were given.

    Call it before there are threads. Nothing happens where the system cannot do it, or forbids it.
    """
    if not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.suppress(OSError):
        os.sched_setaffinity(0, {cores[number % len(cores)]})
        _given.update(cores)


def set_free(pid: int) -> None:
    """Let a process that this one has started, or the calling thread (0), use all the cores that this one was given."""
    if _given:
        with contextlib.suppress(OSError):  # it may have ended
            os.sched_setaffinity(pid, _given)


def bulk_threads(count: int) -> ThreadPoolExecutor:
    """Threads for what hardly needs the interpreter, such as hashing and the disk: each on whatever core is free."""
    return ThreadPoolExecutor(count, "bulk", initializer=set_free, initargs=(0,))
