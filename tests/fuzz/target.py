"""What is fuzzed: readers, the properties of what they read, the seeds and how they are changed."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from liaison.evidence import logs, sealed_to
from relay.protocol import note
from relay.protocol.claim import Claim
from relay.protocol.errors import LiaisonError

LONGEST = 1.0  # seconds of processor time for one input
MOST = 200 << 20  # octets of memory for one input

Mutate = Callable[[bytes, Random], bytes]


class Slow(AssertionError):
    """An input within its limit of size that took longer than LONGEST."""


@dataclass(frozen=True)
class Property:
    """`read` may raise LiaisonError; `holds`, of what it returned and the octets, may raise nothing."""

    read: Callable[[bytes], Any]
    holds: Callable[[Any, bytes], None]


@dataclass(frozen=True)
class Target:
    name: str
    properties: tuple[Property, ...]
    seeds: Callable[[], list[bytes]]
    mutate: Mutate
    longest: int = 1 << 16  # octets of an input
    behind: bool = False  # signatures, digests and proofs are taken as given

    def run(self, octets: bytes) -> int:
        """Every property of these octets; how many of the readers read them."""
        found = 0
        for each in self.properties:
            try:
                value = each.read(octets)
            except LiaisonError:
                continue
            found += 1
            each.holds(value, octets)
        return found

    def run_within_limits(self, octets: bytes, slack: float = 1.0) -> int:
        """The same, and its time and memory; `slack` times the limit of time."""
        before, began = _most_used(), time.process_time()
        found = self.run(octets)
        if (taken := time.process_time() - began) > LONGEST * slack:
            raise Slow(f"{self.name}: {len(octets)} octets took {taken:.1f} s")
        assert _most_used() - before < MOST, f"{self.name}: {len(octets)} octets took too much memory"
        return found

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Inside, what it takes as given is taken as given."""
        with pytest.MonkeyPatch.context() as patched:
            if self.behind:
                patched.setattr(Claim, "fault", lambda _claim: None)
                patched.setattr(note, "verify_note_signature", lambda *_: None)
                for module in (logs, sealed_to):
                    patched.setattr(module, "verify_inclusion", lambda *_: None)
            yield


def _most_used() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def rewritten(write: Callable[[Any], bytes]) -> Callable[[Any, bytes], None]:
    """The property of having one spelling."""

    def holds(value: Any, octets: bytes) -> None:
        assert write(value) == octets

    return holds


def spelled_once(
    read: Callable[[bytes], Any], write: Callable[[Any], bytes] = lambda value: value.encoded()
) -> Property:
    return Property(read, rewritten(write))


def is_read(_value: Any, _octets: bytes) -> None:
    """No property but that it was read."""
