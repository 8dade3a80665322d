"""Python packages of a peer, from PyPI into a virtual environment of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.postgres import Missing


def python_with(folder: Path, modules: str, packages: Sequence[str]) -> Path:
    """The interpreter of the environment in `folder`, which imports `modules`. Missing if they cannot be had."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    if subprocess.run([str(python), "-c", f"import {modules}"], capture_output=True, check=False).returncode:
        wanted = [str(python), "-m", "pip", "install", "-q", *packages]
        if subprocess.run(wanted, capture_output=True, check=False).returncode:
            raise Missing(f"{', '.join(packages)} cannot be had from PyPI")
    return python
