"""How long the access decision takes: a typical NATO label and clearance, with and without an agreement.

    python bench/decide.py [--json] [--rounds N] [--policy SPIF.xml]

Beside it stands the call of a function that does nothing with the same arguments: the floor of any function in
Python. Every figure is the median of several rounds in one run. Without --policy the NATO example policy is read
from $LIAISON_SHARED/examples, or from ../shared/examples beside the repository. Nothing here asserts a time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import timeit
from collections.abc import Callable
from pathlib import Path
from statistics import median

from relay.protocol.decision import SAME_OFFICE, Action, NeedToKnow, Sharing, decide
from relay.protocol.label import Category, Clearance, Label, label_bytes, label_of
from relay.protocol.marking_reader import parse_marking
from relay.protocol.policy import Policy
from relay.protocol.spif import read_spif

NOW = 1_790_000_000
DAY = 86400
MARKING = "NATO SECRET RELEASABLE TO SWE"
NUMBER = 20_000  # calls in a round
SHARED = Path(os.environ.get("LIAISON_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def empty(*_arguments: object) -> None:
    """The floor."""


def clearance_for(policy: Policy, label: Label) -> Clearance:
    """A clearance for every classification and every category of the label."""
    names = tuple(sorted(each.name for each in policy.classifications))
    return Clearance(policy.name, policy.oid, names, label.categories, NOW - DAY, NOW + DAY)


def agreement_for(policy: Policy, label: Label) -> Sharing:
    """An agreement that covers the label."""
    names = tuple(sorted(each.name for each in policy.classifications))
    shared: tuple[Category, ...] = label.categories
    return Sharing("a" * 64, policy.name, policy.oid, names, shared, NOW - DAY, NOW + DAY, in_force=True)


def cases(policy: Policy) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    label = parse_marking(policy, MARKING, NOW)
    encoded = label_bytes(label)
    need = NeedToKnow("addressee", "anna.nowak@lo-warsaw")
    holder, sharing = clearance_for(policy, label), agreement_for(policy, label)
    low = Clearance(policy.name, policy.oid, ("UNCLASSIFIED",), (), NOW - DAY, NOW + DAY)
    return {
        "empty function call": lambda: empty(Action.OPEN, label, holder, SAME_OFFICE, need, policy, NOW),
        "permit inside one office": lambda: decide(Action.OPEN, label, holder, SAME_OFFICE, need, policy, NOW),
        "permit under an agreement": lambda: decide(Action.OPEN, label, holder, sharing, need, policy, NOW),
        "deny for want of clearance": lambda: decide(Action.OPEN, label, low, sharing, need, policy, NOW),
        "permit, label as encoded": lambda: decide(Action.OPEN, label_of(encoded), holder, sharing, need, policy, NOW),
    }


def measure(timed: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median microseconds per call; the rounds of the cases alternate, so that a slow moment meets all of them."""
    taken: dict[str, list[float]] = {name: [] for name in timed}
    for call in timed.values():
        timeit.timeit(call, number=NUMBER // 10)
    for _ in range(rounds):
        for name, call in timed.items():
            taken[name].append(timeit.timeit(call, number=NUMBER) / NUMBER * 1e6)
    return {name: median(each) for name, each in taken.items()}


def main() -> int:
    arguments = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    arguments.add_argument("--json", action="store_true", help="one JSON object")
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--policy", type=Path, default=SHARED / "examples" / "nato-policy.xml")
    given = arguments.parse_args()
    if not given.policy.exists():
        print(f"{given.policy} is not at hand: give --policy, or set LIAISON_SHARED", file=sys.stderr)
        return 1
    found = measure(cases(read_spif(given.policy.read_bytes())[0]), given.rounds)
    floor = found["empty function call"]
    if given.json:
        rows = {
            name: {"microseconds": round(each, 3), "floors": round(each / floor, 1)} for name, each in found.items()
        }
        print(json.dumps({"v": 1, "label": MARKING, "rounds": given.rounds, "calls": NUMBER, "results": rows}))
        return 0
    for name, each in found.items():
        print(f"{name:<28}{each:>9.3f} µs{each / floor:>9.1f} times an empty call")
    return 0


if __name__ == "__main__":
    sys.exit(main())
