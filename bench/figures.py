"""What a round has measured, the middle of several rounds, and what is claimed of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Measured:
    """One round: `count` units of work done by some clients in `seconds`."""

    count: int
    seconds: float
    latencies: tuple[float, ...]  # seconds, ascending, one per unit
    generator: float = 0.0  # processor seconds of whoever made the load
    server: float = 0.0  # of the measured system, its children included
    database: float = 0.0  # of the database server, where there is one

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    def figures(self) -> dict[str, float]:
        """As it stands in the results: per second, milliseconds, microseconds of processor per unit."""
        return {
            "rate": self.rate,
            "p50_ms": quantile(self.latencies, 0.50) * 1e3,
            "p99_ms": quantile(self.latencies, 0.99) * 1e3,
            "server_us": self.server / self.count * 1e6,
            "database_us": self.database / self.count * 1e6,
            "generator_us": self.generator / self.count * 1e6,
            "generator_share": self.generator / self.seconds,
        }


def quantile(ascending: Sequence[float], share: float) -> float:
    """The value below which `share` of these lie: the nearest rank."""
    if not ascending:
        raise ValueError("no values")
    return ascending[min(len(ascending) - 1, int(len(ascending) * share))]


def middle(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    """The median of every figure over the rounds."""
    return {name: round(median(each[name] for each in rounds), 4) for name in rounds[0]}


@dataclass(frozen=True, slots=True)
class Claim:
    """A ratio that must not fall below, or rise above, a bound."""

    words: str
    ratio: float
    bound: float
    at_least: bool

    @property
    def holds(self) -> bool:
        return self.ratio >= self.bound if self.at_least else self.ratio <= self.bound

    def line(self) -> str:
        sign = "≥" if self.at_least else "≤"
        verdict = "holds" if self.holds else "does not hold"
        return f"{self.words} · {self.ratio:.2f} ({sign} {self.bound:g}) · {verdict}"

    def fields(self) -> dict[str, Any]:
        return {
            "claim": self.words, "ratio": round(self.ratio, 4), "bound": self.bound,
            "at_least": self.at_least, "holds": self.holds,
        }  # fmt: skip


def line_fit(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """(fixed part, slope, largest deviation from the line as a share of it) of the least relative squares."""
    weights = [1 / y**2 for _, y in points]
    total = sum(weights)
    mean_x = sum(w * x for w, (x, _) in zip(weights, points, strict=True)) / total
    mean_y = sum(w * y for w, (_, y) in zip(weights, points, strict=True)) / total
    spread = sum(w * (x - mean_x) ** 2 for w, (x, _) in zip(weights, points, strict=True))
    slope = sum(w * (x - mean_x) * (y - mean_y) for w, (x, y) in zip(weights, points, strict=True)) / spread
    fixed = mean_y - slope * mean_x
    return fixed, slope, max(abs(y / (fixed + slope * x) - 1) for x, y in points)
