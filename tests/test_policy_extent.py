"""How much a policy may hold: everybody who meets a label of it, the relay's checking thread too, pays for it."""

from __future__ import annotations

import pytest

from policy_files import VECTORS
from relay.protocol import policy as policy_module
from relay.protocol.errors import Malformed
from relay.protocol.policy import parse_extensions
from relay.protocol.policy_index import MAX_MEMBERS, MAX_VALUES
from relay.protocol.spif import read_spif
from relay.protocol.spif_lint import MAX_REQUIRED

SOURCE = (VECTORS / "label" / "meridian.spif.xml").read_text()
BIRCH = '<spif:tagCategory name="BIRCH" lacv="002">'
ALL_RELEASES = '<spif:categoryGroup tagSetRef="Release" tagType="enumerated" enumType="permissive"'


def with_values(count):
    more = "".join(f'<spif:tagCategory name="V{each}" lacv="{each + 100}"/>' for each in range(count))
    return SOURCE.replace(BIRCH, more + BIRCH, 1)


def test_more_values_than_any_policy_has_are_refused():
    read_spif(with_values(MAX_VALUES - 100).encode())
    with pytest.raises(Malformed, match=f"more than {MAX_VALUES} tags and values"):
        read_spif(with_values(MAX_VALUES).encode())


def test_groups_within_groups_do_not_multiply_without_end():
    spif, length = with_values(1000).encode(), 1000
    chain = "".join(f'V{each} = ["V{each + 1}"]\n' for each in range(length - 1))
    assert length * length // 2 > MAX_MEMBERS
    with pytest.raises(Malformed, match=f"more than {MAX_MEMBERS} members"):
        read_spif(spif, parse_extensions(b"[memberships]\n" + chain.encode()))


def test_requirements_do_not_multiply_with_the_values_that_they_name():
    every = f"{ALL_RELEASES}/>"
    start = SOURCE.index(ALL_RELEASES)
    spif = with_values(1000)
    spif = spif.replace(SOURCE[start : SOURCE.index("/>", start) + 2], every * (MAX_REQUIRED // 1000 + 1), 1)
    with pytest.raises(Malformed, match=f"more than {MAX_REQUIRED} values"):
        read_spif(spif.encode())


def test_what_extensions_name_is_looked_up_and_not_searched_for(monkeypatch):
    names = [f"V{each}" for each in range(1000)]
    besides = f"[[single_choices]]\ntag_set = 'Release'\nbesides = {names}\n".encode()
    folded = []
    fold = policy_module.fold
    monkeypatch.setattr(policy_module, "fold", lambda name: folded.append(name) or fold(name))
    read_spif(with_values(1000).encode(), parse_extensions(besides))
    assert len(folded) < 10 * len(names)
