"""What the kernel says of a process and its children: processor time, memory."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")


def spawn(command: list[str], **given: Any) -> subprocess.Popen[Any]:
    """Start a program as the head of a group of its own; nothing of the group outlives this process."""
    process = subprocess.Popen(command, start_new_session=True, **given)
    atexit.register(end, process, 0.0)
    return process


def end(process: subprocess.Popen[Any], patience: float = 30.0) -> None:
    """Ask a program to end, then end whatever is left of its group."""
    if process.returncode is not None:  # it was waited for: its number may be another's by now
        return
    if patience:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def family(pid: int) -> list[int]:
    """A process and everything it has started that still runs."""
    found, waiting = [], [pid]
    while waiting:
        here = waiting.pop()
        found.append(here)
        try:
            threads = list(Path(f"/proc/{here}/task").iterdir())
            children = [int(child) for thread in threads for child in (thread / "children").read_text().split()]
        except OSError:  # it has ended
            continue
        waiting.extend(children)
    return found


def processor_seconds(pid: int) -> float:
    """Time spent by a process, its living children, and those that have ended and were waited for."""
    total = 0
    for each in family(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += sum(int(field) for field in fields[11:15])
    return total / _TICKS


def memory(pid: int) -> dict[str, float]:
    """MiB of a process and its children: its own, and with the pages of files it has mapped."""
    found = {"own_mib": 0.0, "resident_mib": 0.0}
    for each in family(pid):
        try:
            lines = Path(f"/proc/{each}/status").read_text().splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition(":")
            if name == "RssAnon":
                found["own_mib"] += int(value.split()[0]) / 1024
            elif name == "VmRSS":
                found["resident_mib"] += int(value.split()[0]) / 1024
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
