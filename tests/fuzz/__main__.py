"""Fuzzing by hand: one target for some seconds, its faults as files; or files again."""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

from . import mutators

if TYPE_CHECKING:
    from .target import Target

_SLACK = 4.0  # times the limit: code that is watched is slower
_HANGS, _MEMORY = 30, 1024  # seconds; MiB, of which the fuzzer itself takes some hundred


def main() -> None:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("target", nargs="?")
    parser.add_argument("files", nargs="*", type=Path, help="run these inputs, without atheris")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--corpus", type=Path, help="a folder to go on with; else begun anew, and forgotten")
    parser.add_argument("--found", type=Path, default=Path("found"), help="a folder for inputs with faults")
    given = parser.parse_args()
    if given.target is None:
        _list()
    elif given.files:
        _replay(_named(given.target), given.files)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            _fuzz(given.target, given.seconds, given.corpus or Path(scratch), given.found)


def _list() -> None:
    from .targets import TARGETS  # noqa: PLC0415 - as below

    for name, target in TARGETS.items():
        print(f"{name:14} {len(target.seeds())} seeds, {len(target.properties)} properties")  # noqa: T201


def _named(name: str) -> Target:
    from .targets import TARGETS  # noqa: PLC0415 - after atheris, which looks at imports

    if name not in TARGETS:
        sys.exit(f"fuzz: there is no target {name}; without one they are listed")
    return TARGETS[name]


def _replay(target: Target, files: list[Path]) -> None:
    with target.ready():
        for file in files:
            print(f"{file}: read by {target.run_within_limits(file.read_bytes())}")  # noqa: T201


def _fuzz(name: str, seconds: int, corpus: Path, found: Path) -> None:
    """Until the time is over. libFuzzer ends the process."""
    import atheris  # noqa: PLC0415 - by hand only: not among the tests' requirements

    with atheris.instrument_imports(include=["relay", "liaison", "zipfile", "tomllib"]):
        target = _named(name)
    corpus.mkdir(parents=True, exist_ok=True)
    found.mkdir(parents=True, exist_ok=True)
    with target.ready():
        for number, seed in enumerate(target.seeds()):
            (corpus / f"seed-{number}").write_bytes(seed)
        options = {
            "max_total_time": seconds, "max_len": target.longest, "timeout": _HANGS, "rss_limit_mb": _MEMORY,
            "artifact_prefix": f"{found}/{name}-", "print_final_stats": 1, "verbosity": 1, "len_control": 0,
        }  # fmt: skip
        own = [sys.argv[0], str(corpus), *(f"-{option}={value}" for option, value in options.items())]
        atheris.Setup(own, _Watched(target, found), custom_mutator=_mutator(target))
        atheris.Fuzz()


def _mutator(target: Target) -> Callable[[bytes, int, int], bytes]:
    seeds = target.seeds()

    def mutate(octets: bytes, most: int, number: int) -> bytes:
        rng = Random(number)
        # What libFuzzer keeps is mostly refused early: a part of all begins with what is read to its end.
        changed = given = rng.choice(seeds) if rng.random() < 0.3 else octets
        for _ in range(rng.choice((1, 1, 2, 4))):
            changed = target.mutate(changed[:most], rng)
        return changed if len(changed) <= most else mutators.octets(given, rng)[:most]

    return mutate


class _Watched:
    """The target, which goes on after a fault: the first input of each is kept, and told."""

    def __init__(self, target: Target, found: Path) -> None:
        self.target, self.found, self.known = target, found, set[str]()

    def __call__(self, octets: bytes) -> None:
        try:
            self.target.run_within_limits(octets, _SLACK)
        except Exception as fault:  # noqa: BLE001 - every kind of it is one
            *_, last = traceback.extract_tb(fault.__traceback__)
            kind = f"{type(fault).__name__} {last.filename}:{last.lineno}"
            if kind not in self.known:
                self.known.add(kind)
                file = self.found / f"{self.target.name}-{hashlib.sha256(octets).hexdigest()[:8]}"
                file.write_bytes(octets)
                print(f"FAULT {file}: {kind}: {fault!s:.200}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
