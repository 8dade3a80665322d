"""Every reader of what somebody else wrote, over what the tests' builders make and some hundred changes of that.

Fuzzing with coverage is by hand (CONTRIBUTING.md); this keeps its targets alive, and the list of them whole.
"""

from __future__ import annotations

import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from random import Random
from types import CodeType, FrameType

import pytest

import liaison
import relay.core
import relay.protocol
from fuzz import mutators
from fuzz.target import Property, Slow, Target
from fuzz.targets import TARGETS
from relay.protocol.canonical import encode
from relay.protocol.cose import format_sign1, protected_header
from relay.protocol.errors import Malformed
from relay.protocol.hold import HOLD
from relay.protocol.memo import remember
from relay.protocol.suite import SUITE_1

CHANGES = 120
READS = re.compile(r"_?(?:parse|read|decode|unpack|dearmor)(?:_\w+)?")
OWN = {
    "liaison.home.kept_entries._read": "of the profile's own shelf",
    "liaison.home.kept_entries.read_entries": "of the profile's own shelf",
    "liaison.home.private_file.read_private": "any octets of a file of one's own",
    "liaison.home.profile.read_public": "of one's own profile",
    "liaison.record.read_record": "of the profile's own encrypted store",
    "liaison.witness._parse": "of the witness's own folder",
}  # what no stranger writes


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_what_is_read_has_its_properties_and_what_is_not_raises_one_kind_of_error(target):
    rng, given = Random(f"liaison {target.name}"), target.seeds()
    with target.ready():
        for octets in given:
            assert len(octets) <= target.longest
            target.run_within_limits(octets)
        for _ in range(CHANGES):
            target.run_within_limits(target.mutate(rng.choice(given), rng)[: target.longest])


def readers() -> dict[CodeType, str]:
    """Every function that reads something, by its name, of the modules that meet what others wrote."""
    found = {}
    for package in (relay.protocol, relay.core, liaison):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.startswith("liaison.cli"):  # which reads what the person at the keyboard wrote
                continue
            for name, function in inspect.getmembers(import_module(module.name), inspect.isfunction):
                if function.__module__ == module.name and (READS.fullmatch(name) or _checks_a_body(function)):
                    found[inspect.unwrap(function).__code__] = f"{module.name}.{name}"
    return found


def _checks_a_body(function: Callable[..., object]) -> bool:
    """Whether it is the relay's and takes what was posted, before the database is asked."""
    taken = inspect.signature(function).parameters.keys()
    return function.__module__.startswith("relay.core.") and "body" in taken and "batch" not in taken


@contextmanager
def finished() -> Iterator[set[CodeType]]:
    """The functions that returned something inside."""
    seen, kept = set[CodeType](), remember(0, lambda *_: 0)(len).__code__

    def watch(frame: FrameType, event: str, value: object) -> None:
        if event == "return" and value is not None:
            asked = frame.f_locals["function"] if frame.f_code is kept else None  # remembered: it was not called again
            seen.add(frame.f_code if asked is None else asked.__code__)

    sys.setprofile(watch)
    try:
        yield seen
    finally:
        sys.setprofile(None)


def test_no_reader_is_left_out():
    given = {name: target.seeds() for name, target in TARGETS.items()}
    with finished() as seen:
        for name, target in TARGETS.items():
            with target.ready():
                for octets in given[name]:
                    target.run(octets)
    left_out = {name for code, name in readers().items() if code not in seen}
    assert left_out == OWN.keys()


def test_the_harness_sees_what_is_wrong():
    def wrong(octets: bytes) -> bytes:
        if octets == b"index":
            raise IndexError
        if octets == b"refused":
            raise Malformed("refused")
        return octets[:3]

    def same(value: bytes, octets: bytes) -> None:
        assert value == octets

    target = Target("wrong", (Property(wrong, same),), list, mutators.octets)
    assert target.run(b"abc") == 1
    assert target.run(b"refused") == 0
    with pytest.raises(IndexError):
        target.run(b"index")
    with pytest.raises(AssertionError):
        target.run(b"abcd")
    slow = Target("slow", (Property(lambda _: sum(range(1 << 20)), lambda *_: None),), list, mutators.octets)
    with pytest.raises(Slow):
        slow.run_within_limits(b"", 1e-9)


def signed(typ: str, payload: object) -> bytes:
    """An object that nobody signed; targets take that as given."""
    return format_sign1(protected_header(SUITE_1.signature_alg, bytes(32), typ), encode(payload), b"")


LOGGED = [b"", 0, [], b"", []]
RUNS = ",".join(f"{run}000-{run}255" for run in range(1, 2000))
FOUND = {
    "a hold whose action is no text": ("signed", signed(HOLD, [1, [], bytes(16), bytes(16), "a@b", 1, "Inquiry"])),
    "recalls of which one is a number": ("checked", encode([5])),
    "a recall whose portions are no numbers": ("entries", encode([LOGGED, LOGGED[:3], [[bytes(16), [b"0"], None]]])),
    "a destruction record with an entry twice": ("details", b"messages=0 entries=3,3 policies="),
    "a destruction record of thousands of entries": ("details", f"messages=0 entries={RUNS} policies=".encode()),
    "a key of TOML with thousands of parts": ("extensions", b"a." * 20_000 + b"a = 1\n"),
}


@pytest.mark.parametrize("found", FOUND)
def test_what_fuzzing_found_stays_mended(found):
    name, octets = FOUND[found]
    with TARGETS[name].ready():
        assert TARGETS[name].run_within_limits(octets) == 0
