"""What issue 4 wants shown, computed from one run's results and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .figures import Claim


def claims(results: dict[str, Any]) -> list[Claim]:
    """Every ratio whose two sides were measured."""
    side = results.get("side_by_side", {})
    relays = [name for name in side if name.startswith("relay")]
    return [
        *(claim for name in relays for claim in _beside_peers(side, name)),
        *(claim for name in relays for claim in _beside_floor(side, name)),
        *_extra(results),
    ]


def _most(side: dict[str, Any], name: str, work: str, figure: str = "rate") -> float | None:
    """A figure at the largest number of clients that was measured."""
    by_clients = side.get(name, {}).get(work)
    return None if not by_clients else float(by_clients[max(by_clients, key=int)][figure])


def _beside_peers(side: dict[str, Any], name: str) -> Iterator[Claim]:
    for work, peer, theirs, bound in (
        ("accept", "synapse", "send", 20.0),
        ("accept", "nats", "send", 0.35),
        ("accept+open", "nats", "send+fetch", 0.7),
        ("accept+open+acknowledge", "synapse", "send+fetch", 10.0),
    ):
        ours, other = _most(side, name, work), _most(side, peer, theirs)
        if ours and other:
            yield Claim(f"{name} {work} / {peer} {theirs}", ours / other, bound, at_least=True)


def _beside_floor(side: dict[str, Any], name: str) -> Iterator[Claim]:
    floor = f"floor {name.split()[1]}"
    ours, bare = side[name].get("accept", {}).get("1"), side.get(floor, {}).get("accept", {}).get("1")
    if ours and bare:
        ratio = ours["p50_ms"] / bare["p50_ms"]
        yield Claim(f"{name} accept p50, one client / {floor}", ratio, 3.0, at_least=False)
    spent = [
        sum(_most(side, each, "accept", figure) or 0.0 for figure in ("server_us", "database_us"))
        for each in (name, floor)
    ]
    if all(spent):
        words = f"{name} processor time of an accept / {floor}"
        yield Claim(words, spent[0] / spent[1], 2.5, at_least=False)


def _extra(results: dict[str, Any]) -> Iterator[Claim]:
    """Claims that a section has computed as (words, ratio, bound, at least)."""
    for section in ("recipients", "precedence", "workers", "profile", "parts", "audit", "growth"):
        for words, ratio, bound, at_least in results.get(section, {}).get("claims", []):
            yield Claim(words, ratio, bound, at_least=at_least)
