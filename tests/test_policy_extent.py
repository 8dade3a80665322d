"""How much a policy may hold: everybody who meets a label of it, the relay's checking thread too, pays for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from policy_files import VECTORS, label, meridian, tidewater
from relay.protocol import canonical, marking_words, policy_extensions
from relay.protocol import policy as policy_module
from relay.protocol.aggregate import join
from relay.protocol.equivalence import Direction, translate
from relay.protocol.errors import Malformed
from relay.protocol.label import MAX_CATEGORIES, Category, Label, TagType, label_bytes, parse_label
from relay.protocol.label import MAX_VALUES as MAX_LABEL_VALUES
from relay.protocol.policy import parse_extensions, static_findings
from relay.protocol.policy_index import MAX_MEMBERS, MAX_VALUES
from relay.protocol.spif import read_spif
from relay.protocol.spif_lint import MAX_LANGUAGES, MAX_REQUIRED

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


def test_a_key_of_thousands_of_parts_is_refused_unread(monkeypatch):
    monkeypatch.setattr(policy_extensions.tomllib, "loads", lambda _: pytest.fail("read"))  # for minutes
    with pytest.raises(Malformed, match="full stops"):
        parse_extensions(b"a." * 100_000 + b"a = 1\n")


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
    fold = policy_extensions.fold
    monkeypatch.setattr(policy_extensions, "fold", lambda name: folded.append(name) or fold(name))
    read_spif(with_values(1000).encode(), parse_extensions(besides))
    assert len(folded) < 10 * len(names)


class Counted:
    """How often a function was called since."""

    def __init__(self, monkeypatch, module, name):
        self.calls, self.real = 0, getattr(module, name)
        monkeypatch.setattr(module, name, self)

    def __call__(self, *given):
        self.calls += 1
        return self.real(*given)


def wide(count):
    """A policy with that many releases more, and a label that has all of them."""
    policy = read_spif(with_values(count).encode())[0]
    return policy, label(policy, "OPEN", {"Release": [f"V{each}" for each in range(count)]})


def test_what_a_label_selects_is_gathered_once_and_not_for_each_value(monkeypatch):
    policy, one = wide(100)
    gathered = Counted(monkeypatch, policy_module, "_selected")
    assert static_findings(policy, one) == ()
    assert gathered.calls == 1


def test_what_a_policy_requires_is_gathered_once_and_not_for_each_label(monkeypatch):
    policy, _ = wide(100)
    expanded = Counted(monkeypatch, policy_module, "expand_group")
    static_findings(policy, label(policy, "BURIED", {"Release": ["V1"], "Codeword": ["IRIS"]}, created=1))
    first = expanded.calls
    static_findings(policy, label(policy, "BURIED", {"Release": ["V1"], "Codeword": ["IRIS"]}, created=2))
    assert expanded.calls == first > 0


def test_a_join_of_wide_labels_does_not_hold_each_value_against_each():
    policy, one = wide(400)
    looked = []

    class Groups(dict):
        def get(self, name, default):
            looked.append(name)
            return super().get(name, default)

    for key, groups in policy.index.members.items():
        policy.index.members[key] = Groups(groups)
    assert join(policy, [one, replace(one, created=1)]).categories == one.categories
    assert len(looked) < 10 * 400


def test_a_label_is_judged_once_for_all_devices_that_it_is_translated_for(monkeypatch):
    judged = Counted(monkeypatch, policy_module, "_content_findings")
    one = label(meridian(), "OPEN", created=4711)
    for _ in range(3):
        translate(one, meridian(), tidewater(), Direction.ENCRYPT)
    assert judged.calls == 2


def test_a_label_has_no_more_values_than_a_policy_in_use_has():
    ref = meridian().ref
    most = Category("Release", "2.999.1", TagType.PERMISSIVE, tuple(f"V{each}" for each in range(MAX_LABEL_VALUES)))
    fits = Label(ref, "OPEN", (most,))
    assert parse_label(label_bytes(fits)) == fits
    one_more = Category("Bird", "2.999.2", TagType.PERMISSIVE, ("IRIS",))
    with pytest.raises(Malformed, match="values"):
        Label(ref, "OPEN", (most, one_more))
    fields = canonical.decode(label_bytes(fits))
    fields[3][0][3] = sorted((*fields[3][0][3], "W"))
    with pytest.raises(Malformed, match="values"):
        parse_label(canonical.encode(fields))
    tags = [Category(f"T{each}", f"2.999.{each}", TagType.RESTRICTIVE, ("A",)) for each in range(MAX_CATEGORIES + 1)]
    with pytest.raises(Malformed, match="categories"):
        Label(ref, "OPEN", tuple(tags))


def in_languages(count, spif=SOURCE):
    phrases = "".join(f'<spif:markingData xml:lang="x{each}" phrase="O"/>' for each in range(count))
    start = spif.index("<spif:securityClassification ")
    end = spif.index(">", start) + 1
    return spif[:end] + phrases + spif[end:]


def test_more_languages_than_anybody_speaks_are_refused():
    read_spif(in_languages(MAX_LANGUAGES - 5).encode())
    with pytest.raises(Malformed, match=f"more than {MAX_LANGUAGES} languages"):
        read_spif(in_languages(MAX_LANGUAGES + 1).encode())
    prefix = '<spif:qualifier markingQualifier="FOR " qualifierCode="prefix"/>'
    prefixes = "".join(prefix.replace(" m", f' xml:lang="x-{each}" m') for each in range(MAX_LANGUAGES + 1))
    with pytest.raises(Malformed, match=f"more than {MAX_LANGUAGES} languages"):
        read_spif(SOURCE.replace(prefix, prefixes, 1).encode())


def test_what_a_value_is_called_is_asked_in_its_own_languages_only(monkeypatch):
    policy = read_spif(in_languages(50, with_values(500)).encode())[0]
    asked = Counted(monkeypatch, marking_words, "shown")
    words = marking_words.vocabulary(policy)
    assert [(text, name) for text, (_, _, name) in words.segments[0].spellings["v1"]] == [("v1", "V1")]
    assert asked.calls < 4 * 500
