"""Approvals: who gives them, and how they are signed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from model.cast import CLOCK, keys_of
from model.relay import Model
from relay.protocol.approval import APPROVAL, Approval, Matter


@dataclass(frozen=True)
class Way:
    """How approvals are asked for: of whom, and what is odd about them."""

    by: tuple[bytes, ...] | None = None  # None: of as many as it takes, of the right ones
    age: int = 0  # seconds
    stray: bool = False  # the last is of something else


HONEST = Way()


def approved(
    model: Model, office: str, matter: Matter, ref: bytes, own: str, way: Way
) -> tuple[tuple[Approval, ...], list[bytes]]:
    """What they say, and the same as signed."""
    by = way.by if way.by is not None else fit(model, office, matter, own)
    given = [
        Approval(matter, ref, each, model.holders[each].address, CLOCK.now - way.age)
        for each in by if each in model.holders
    ]  # fmt: skip
    if way.stray and given:
        last = given[-1]
        given[-1] = Approval(last.matter, bytes(32), last.device_id, last.address, last.at)
    return tuple(given), [keys_of(each.device_id).signing.sign_object(APPROVAL, each.payload()) for each in given]


def fit(model: Model, office: str, matter: Matter, own: str) -> Iterable[bytes]:
    """Devices of as many people as the matter takes, as far as there are so many."""
    people = model.named[office].people if office in model.named else frozenset()
    able = {address: each for address, each in sorted(people) if address != own and model.may_act(each)}
    return list(able.values())[: model.takes(office, matter)]
