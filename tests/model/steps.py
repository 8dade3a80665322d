"""What a step of a play may be, and how often each kind of it comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from model.cast import COMMUNITY_ADDRESS
from model.terms import Label

ANY = st.integers(0, 2**16 - 1)
OFTEN = st.sampled_from([True, True, True, False])
RARELY = st.sampled_from([False] * 7 + [True])
SOMETIMES = st.sampled_from([False, False, False, True])
SENDERS = ("anna", "anna", "anna's other", "ewa", "jean", "jean", "rene", "nils")
LABELS = st.builds(
    Label,
    st.sampled_from(["OPEN", "CLOSED", "SEALED"]),
    st.sampled_from(
        [frozenset(), frozenset({"FRA", "POL"}), frozenset({"FRA", "NOR", "POL"}), frozenset({"NOR", "POL"})]
    ),
    codeword=RARELY,
    version=st.sampled_from([1, 1, 1, 2]),
)
ADDRESSES = (
    "jean.petit@lo-paris", "duty@lo-paris", "luc.bas@lo-paris", "zoe.roux@lo-paris", "anna.nowak@lo-warsaw",
    "duty@lo-warsaw", "ewa.lis@lo-warsaw", "kari.lie@lo-oslo", "nils.dal@lo-oslo", COMMUNITY_ADDRESS, "release@lo-warsaw",
)  # fmt: skip
BY = st.lists(st.sampled_from(["anna", "anna's other", "ewa", "ola", "jean", "zoe", "luc"]), max_size=3, unique=True)
RELEASERS = st.lists(
    st.sampled_from(["ola", "ewa", "anna's other", "rene", "zoe", "anna", "feed"]), max_size=2, unique=True
)
TO = st.dictionaries(st.sampled_from(ADDRESSES), st.sampled_from([1, 1, 2, 3]), min_size=1, max_size=4)


@dataclass(frozen=True)
class Step:
    """Something that somebody does, and how."""

    act: Callable[..., None]
    how: dict[str, Any]

    def __repr__(self) -> str:
        return f"{self.act.__name__}({', '.join(f'{name}={value!r}' for name, value in self.how.items())})"


STEPS: list[st.SearchStrategy[Step]] = []


def often(times: int, **how: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """One of the steps, this many times as often as the rarest: rules would come, or stay away, all alike."""

    def listed(act: Callable[..., None]) -> Callable[..., None]:
        STEPS.extend([st.builds(Step, st.just(act), st.fixed_dictionaries(how))] * times)
        return act

    return listed
