"""What is kept of what others wrote, so that it need not be read again, has a bound in memory, whatever they wrote."""

from __future__ import annotations

import gc
import tracemalloc
from dataclasses import replace

import pytest

from policy_files import label, meridian
from relay.protocol.compiled import compile_label
from relay.protocol.cose import format_sign1, protected_header
from relay.protocol.envelope import MESSAGE, message_payload, parse_message
from relay.protocol.header import MAX_LABEL, Addressee, AddresseeKind, Core, MessageHandling, Portion, Precedence
from relay.protocol.label import Category, Label, PolicyRef, Succession, TagType, label_bytes, label_of, parse_label
from relay.protocol.memo import remember
from relay.protocol.obligations import _dominated
from relay.protocol.policy import Policy
from relay.protocol.policy_elements import Classification, Tag, TagSet, Value
from relay.protocol.suite import suite_numbered

REF = PolicyRef("P", "2.999", 1, bytes(32))
RANK = "C" * 250
MOST = 32 << 20


def policy(values, memberships=()):
    tag = Tag("T", TagType.PERMISSIVE, tuple(values))
    ranks, tag_sets = (Classification(RANK, "1", 1),), (TagSet("T", "2.1", (tag,)),)
    return Policy("P", "2.999", 1, bytes(32), ranks, tag_sets, memberships=memberships)


def under(value, number):
    return Label(REF, RANK, (Category("T", "2.1", TagType.PERMISSIVE, (value,)),), created=number)


def wide(number):
    """In its encoding. As large in memory as 16 KiB can be: short values, also of the successors."""
    values = tuple(chr(0x1F400 + each) for each in range(512))
    found = bare = Label(REF, RANK, (Category("T", "2.1", TagType.PERMISSIVE, values),), created=number)
    for at in range(1, 5):
        longer = replace(bare, succession=Succession(at, found))
        found = longer if len(label_bytes(longer)) <= MAX_LABEL else found
    return label_bytes(found)


def message(number):
    """One that refers to as many others as have room in it."""
    core = Core(
        suite=(suite := suite_numbered(1)),
        message_id=number.to_bytes(16, "big"),
        sender="a@lo-a",
        sender_device=bytes(16),
        sender_kid=bytes(32),
        created=1,
        expires=2,
        label=b"",
        addressees=(Addressee(AddresseeKind.ACTION, "a@lo-b"),),
        portions=(Portion(1, bytes(32), b""),),
        seq=1,
        prev=bytes(32),
        directory=("o", 1, bytes(32)),
        handling=MessageHandling(
            Precedence.ROUTINE, Precedence.ROUTINE, 60, references=tuple(each.to_bytes(16) for each in range(14_000))
        ),
    )
    protected = protected_header(suite.signature_alg, bytes(32), MESSAGE)
    return format_sign1(protected, message_payload(core.encoded(), 1, bytes(32)), b"")


def refusing():
    """Many values of one name, and none of them beside the one classification: a finding each."""
    name = "v" * 90 + "\N{RAM}"
    values = [Value(name, str(each), excluded_classes=frozenset({RANK.casefold()})) for each in range(8000)]
    return policy(values), name


def grouping():
    names = [f"v{each}" for each in range(8000)]
    return policy([Value(name, name) for name in names], (("v0", tuple(names)),)), "v0"


def labels_read():
    for number in range(100):
        label_of(wide(number))


def labels_compiled():
    for number in range(100):
        compile_label(meridian(), parse_label(wide(number)))


def findings():
    strict, name = refusing()
    for number in range(8):
        assert len(compile_label(strict, under(name, number)).findings) == 8000


def members():
    groups, name = grouping()
    for number in range(300):
        compile_label(groups, under(name, number))


def messages():
    for number in range(100):
        parse_message(message(number))


def joins():
    known = policy(Value(name, name) for name in parse_label(wide(0)).categories[0].values)
    for number in range(16):
        portions = tuple(parse_label(wide(8 * number + each)) for each in range(8))
        assert _dominated(known, portions[0], portions) is not None


@pytest.mark.parametrize("fill", [labels_read, labels_compiled, findings, members, messages, joins])
def test_what_one_office_writes_at_its_worst_is_not_kept_without_bound(fill):
    tracemalloc.start()
    try:
        fill()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] < MOST
    finally:
        tracemalloc.stop()


def test_the_small_labels_of_many_senders_are_kept():
    ours = [label(meridian(), "OPEN", created=number) for number in range(300)]
    encoded = [label_bytes(each) for each in ours]
    for _ in range(2):  # in the first all may be forgotten once, of what was before
        read, compiled = [label_of(each) for each in encoded], [compile_label(meridian(), each) for each in ours]
    assert all(label_of(each) is one for each, one in zip(encoded, read, strict=True))
    assert all(compile_label(meridian(), each) is one for each, one in zip(ours, compiled, strict=True))
    assert read[0] == parse_label(encoded[0])


def test_what_is_too_heavy_for_the_rest_is_kept_alone():
    calls = []

    @remember(10, lambda result, _given: result)
    def weighing(given):
        calls.append(given)
        return given

    for given in (4, 5, 4, 5, 11, 11, 4):
        assert weighing(given) == given
    assert calls == [4, 5, 11, 4]


def test_what_fails_is_not_kept():
    @remember(10, lambda *_: 1)
    def failing(given):
        raise ValueError(given)

    for _ in range(2):
        with pytest.raises(ValueError, match="4"):
            failing(4)
