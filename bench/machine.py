"""The machine that a run was made on."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from pathlib import Path
from statistics import median


def describe() -> dict[str, object]:
    """Cores, processor, memory, kernel, and how long the disk takes to make 4 KiB durable."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    kib = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cores": os.cpu_count(),
        "processor": cpu[0] if cpu else platform.machine(), "memory_gib": round(kib / 2**20, 1),
        "kernel": platform.release(), "python": platform.python_version(), "fsync_ms": round(fsync_ms(), 3),
        "load_before": os.getloadavg()[0],
    }  # fmt: skip


def fsync_ms(times: int = 100) -> float:
    taken = []
    with tempfile.NamedTemporaryFile() as file:
        for _ in range(times):
            file.write(bytes(4096))
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - began)
    return median(taken) * 1e3
