"""What a policy demands of a message as a whole: each rule failing alone, all together, and never an exception."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liaison.labels import LabelReader
from liaison.passing import derived_label
from liaison.render import SYSTEM_HIGH
from relay.protocol.canonical import decode, encode
from relay.protocol.cose import Sign1
from relay.protocol.directory import Device
from relay.protocol.endorsement import PassedOn
from relay.protocol.envelope import MESSAGE, Message
from relay.protocol.errors import Malformed, Refused
from relay.protocol.header import Addressee, AddresseeKind, Core, MessageHandling, Portion, Precedence
from relay.protocol.identity import Kind
from relay.protocol.label import Category, Label, Succession, TagType, label_bytes
from relay.protocol.obligations import Circumstances, failing_obligations, officers_needed
from relay.protocol.policy_extensions import parse_extensions
from relay.protocol.spif import read_spif
from relay.protocol.suite import suite_numbered
from world import TEST_SPIF

NOW = 1_790_000_000
DEMANDING = read_spif(
    TEST_SPIF,
    parse_extensions(
        b'two_person_release_from = "SEALED"\none_time_key_from = "CLOSED"\nrecovery_addressee = "safe@lo-warsaw"\n'
    ),
)[0]
STRONGER = read_spif(TEST_SPIF, parse_extensions(b"minimum_suite = 2\n"))[0]
HOME = read_spif(TEST_SPIF, parse_extensions(b'absent = { "Releasable To" = "owner_only" }\n'))[0]
LAX = read_spif(TEST_SPIF)[0]
JEAN = Addressee(AddresseeKind.ACTION, "jean@lo-paris")
SAFE = Addressee(AddresseeKind.INFO, "safe@lo-warsaw")
OFFICERS = [
    Device(bytes([n]) * 16, f"officer{n}@lo-warsaw", Kind.OFFICER, "lo-warsaw", "POL", b"", b"", b"", 0, 1 << 40, None)
    for n in range(2)
]


def label(classification="OPEN", codewords=(), nations=(), policy=LAX, **more) -> Label:
    rows = (("Codeword", 2, TagType.RESTRICTIVE, codewords), ("Releasable To", 3, TagType.PERMISSIVE, nations))
    kept = tuple(
        Category(name, f"1.3.6.1.4.1.99999.{oid}", kind, tuple(values)) for name, oid, kind, values in rows if values
    )
    return Label(policy.ref, classification, kept, **more)


def core(banner="OPEN", *portions, **changes) -> Core:
    """A header under this banner, whose portions have these labels; one of the banner's own if none is given."""
    banner = label(banner) if isinstance(banner, str) else banner
    labels = [label(each) if isinstance(each, str) else each for each in portions or (banner,)]
    made = Core(
        suite=suite_numbered(1),
        message_id=bytes(16),
        sender="anna@lo-warsaw",
        sender_device=bytes(16),
        sender_kid=bytes(32),
        created=NOW - 60,
        expires=NOW + 3600,
        label=label_bytes(banner),
        addressees=(JEAN, SAFE),
        portions=tuple(Portion(1, bytes(32), label_bytes(each)) for each in labels),
        seq=1,
        prev=bytes(32),
        directory=("relay.test/directory", 1, bytes(32)),
        handling=MessageHandling(Precedence.ROUTINE, Precedence.ROUTINE, NOW - NOW % 60),
    )
    return replace(made, **changes)


def passed_on(original: Core, signed: bytes = b"replaced") -> PassedOn:
    """An original with this header; `signed` stands for the bytes that were signed, which are its name."""
    sign1 = Sign1(MESSAGE, 0, b"", b"", b"", signed)
    return PassedOn(Message(sign1, original, bytes(32), 1, bytes(32), b""), ())


def failing(policy, message, *, officers=(), originals=(), one_time=True, now=NOW):
    return failing_obligations(policy, message, Circumstances(tuple(officers), tuple(originals), one_time), now)


def test_a_message_that_meets_every_demand_fails_nothing():
    assert failing(DEMANDING, core("SEALED"), officers=OFFICERS[:1]) == ()
    assert failing(DEMANDING, core("OPEN"), one_time=False) == ()
    assert failing(LAX, core("SEALED", addressees=(JEAN,)), one_time=False) == ()


def test_a_banner_below_one_of_its_portions_fails_and_nothing_else_does():
    assert failing(LAX, core("OPEN", "OPEN", "CLOSED")) == ("banner",)
    fox = label("CLOSED", codewords=["FOX"])
    assert failing(LAX, core("CLOSED", fox)) == ("banner",)
    assert failing(LAX, core("SEALED", label("SEALED", nations=["POL"]))) == ("banner",)  # wider than its portion
    assert failing(LAX, core(label("SEALED", nations=["POL"]), label("SEALED", nations=["POL", "FRA"]))) == ()


def test_portions_that_nobody_may_read_together_have_no_banner():
    apart = [label("OPEN", nations=["POL"]), label("OPEN", nations=["FRA"])]
    assert failing(LAX, core(label("SEALED", nations=["POL"]), *apart)) == ("banner",)


def test_a_banner_carries_a_release_only_if_every_portion_and_original_does():
    released, own = label("SEALED", nations=["FRA", "POL"]), label("SEALED")
    assert failing(HOME, core(released, released, own)) == ("banner",)
    assert failing(HOME, core(own, released, own)) == ()
    assert failing(HOME, core(own, label("OPEN", nations=["FRA"]), label("OPEN", nations=["POL"]))) == ()
    assert failing(HOME, core(released), originals=[passed_on(core(own))]) == ("derived-label",)
    assert failing(HOME, core(own), originals=[passed_on(core(released))]) == ()


def test_a_suite_below_the_policys_minimum_fails():
    assert failing(STRONGER, core("OPEN")) == ("minimum-suite",)


def test_a_last_resort_key_fails_from_the_named_classification_on():
    assert failing(DEMANDING, core("CLOSED"), one_time=False) == ("one-time-key",)
    assert failing(DEMANDING, core("OPEN"), one_time=False) == ()


def test_a_message_without_the_second_officer_fails():
    assert failing(DEMANDING, core("SEALED")) == ("two-person-release",)
    assert failing(DEMANDING, core("CLOSED")) == ()


def test_a_message_without_the_recovery_addressee_fails():
    assert failing(DEMANDING, core("OPEN", addressees=(JEAN,))) == ("recovery-addressee",)
    exempted = replace(SAFE, kind=AddresseeKind.EXEMPTED)
    assert failing(DEMANDING, core("OPEN", addressees=(JEAN, exempted))) == ("recovery-addressee",)


def test_a_recovery_addressee_who_is_not_given_all_of_it_is_none():
    for told, rules in ((lambda address: address != SAFE.address, ("recovery-addressee",)), (lambda _: True, ())):
        found = Circumstances((), (), one_time=True, given_all=told)
        assert failing_obligations(DEMANDING, core("OPEN", "OPEN"), found, NOW) == rules
        assert failing_obligations(LAX, core("OPEN", "OPEN"), found, NOW) == ()


def test_what_carries_a_draft_goes_to_the_releasing_officers_and_to_nobody_for_recovery():
    officers = Addressee(AddresseeKind.ACTION, "release@lo-warsaw")
    assert failing(DEMANDING, core("SEALED", addressees=(officers,))) == ()
    assert "recovery-addressee" in failing(DEMANDING, core("SEALED", addressees=(officers, JEAN)))


def test_a_message_below_what_it_passes_on_fails():
    assert failing(LAX, core("OPEN"), originals=[passed_on(core("CLOSED"))]) == ("derived-label",)
    assert failing(LAX, core("CLOSED"), originals=[passed_on(core("CLOSED"))]) == ()


def test_every_demand_that_is_not_met_is_named():
    policy = read_spif(
        TEST_SPIF,
        parse_extensions(
            b'two_person_release_from = "OPEN"\none_time_key_from = "OPEN"\nrecovery_addressee = "safe@lo-warsaw"\n'
            b'minimum_suite = 2\nforbidden_precedences = ["OVERRIDE"]\n'
        ),
    )[0]
    handling = MessageHandling(Precedence.OVERRIDE, Precedence.ROUTINE, NOW - NOW % 60)
    message = core("OPEN", "SEALED", addressees=(JEAN,), handling=handling)
    found = failing(policy, message, originals=[passed_on(core("CLOSED"))], one_time=False)
    assert found == (
        "banner", "minimum-suite", "one-time-key", "two-person-release", "recovery-addressee", "derived-label",
        "precedence",
    )  # fmt: skip


def test_a_precedence_that_the_policy_forbids_fails_whoever_it_is_for():
    policy = read_spif(TEST_SPIF, parse_extensions(b'forbidden_precedences = ["DEFERRED", "OVERRIDE"]\n'))[0]
    for action, info, met in (
        (Precedence.FLASH, Precedence.FLASH, True),
        (Precedence.OVERRIDE, Precedence.ROUTINE, False),
        (Precedence.ROUTINE, Precedence.DEFERRED, False),
        (Precedence.DEFERRED, Precedence.DEFERRED, False),
    ):
        message = core("OPEN", handling=MessageHandling(action, info, NOW - NOW % 60))
        assert failing(policy, message) == (() if met else ("precedence",))
        assert failing(LAX, message) == ()


@pytest.mark.parametrize("named", [b'["LOUD"]', b'["FLASH"]', b'["override"]', b"[]", b'"OVERRIDE"'])
def test_a_policy_forbids_deferred_and_override_and_no_other_precedence(named):
    with pytest.raises(Malformed, match="forbidden_precedences: expected"):
        parse_extensions(b"forbidden_precedences = " + named + b"\n")


def test_a_policy_that_is_not_known_is_a_demand_that_is_not_met():
    assert failing(None, core("OPEN")) == ("policy-known",)


# -- lowering ---------------------------------------------------------------------------------------------------------

REPLACED = hashlib.sha256(b"replaced").digest()


def lowered(**changes) -> Core:
    handling = replace(core().handling, supersedes=(REPLACED, "no longer sensitive"))
    return core("OPEN", handling=handling, **changes)


@pytest.mark.parametrize(("officers", "rules"), [(0, ("two-person-release",)), (1, ("two-person-release",)), (2, ())])
def test_lowering_a_label_takes_two_officers_whatever_the_policy_says(officers, rules):
    original = passed_on(core("SEALED"))
    assert failing(LAX, lowered(), officers=OFFICERS[:officers], originals=[original]) == rules


def test_only_a_message_of_the_same_office_can_be_replaced_under_a_lower_label():
    foreign = passed_on(core("SEALED", sender="jean@lo-paris"))
    assert failing(LAX, lowered(), officers=OFFICERS, originals=[foreign]) == ("derived-label",)


def test_a_replacement_that_does_not_show_what_it_replaces_fails():
    assert failing(LAX, lowered(), officers=OFFICERS) == ("derived-label",)
    other = passed_on(core("OPEN"), b"another")
    assert failing(LAX, lowered(), officers=OFFICERS, originals=[other]) == ("derived-label",)


def test_what_the_replaced_message_passed_on_keeps_its_label():
    originals = [passed_on(core("SEALED")), passed_on(core("CLOSED", sender="jean@lo-paris"), b"another")]
    assert failing(LAX, lowered(), officers=OFFICERS, originals=originals) == ("derived-label",)


# -- drafts and successors --------------------------------------------------------------------------------------------


def test_a_draft_to_the_releasing_officers_alone_needs_no_second_officer():
    own = Addressee(AddresseeKind.ACTION, "release@lo-warsaw")
    assert officers_needed(DEMANDING, core("SEALED", addressees=(own,))) == 0
    exempted = Addressee(AddresseeKind.EXEMPTED, "anna@lo-warsaw")
    assert officers_needed(DEMANDING, core("SEALED", addressees=(own, exempted))) == 0


@pytest.mark.parametrize("more", [JEAN, SAFE, Addressee(AddresseeKind.INFO, "release@lo-paris")])
def test_a_draft_that_reaches_anybody_else_is_a_message(more):
    own = Addressee(AddresseeKind.ACTION, "release@lo-warsaw")
    assert officers_needed(DEMANDING, core("SEALED", addressees=(own, more))) == 1
    assert officers_needed(DEMANDING, core("SEALED", addressees=(replace(own, address="release@lo-paris"),))) == 1


def test_a_low_label_whose_higher_successor_is_in_force_already_does_not_escape_the_second_officer():
    disguised = label("OPEN", succession=Succession(NOW - 3600, label("SEALED")))
    assert failing(DEMANDING, core(disguised)) == ("two-person-release",)
    assert failing(LAX, core("OPEN", disguised)) == ("banner",)


FALLING = label("SEALED", succession=Succession(NOW + 60, label("OPEN")))  # while the message may be read
RISING = label("OPEN", succession=Succession(NOW + 60, label("SEALED")))


@pytest.mark.parametrize("now", [NOW, NOW + 7200])
def test_a_label_that_changes_later_meets_every_demand_before_and_after_whenever_it_is_asked(now):
    assert failing(LAX, core(FALLING, "SEALED"), now=now) == ("banner",)
    assert failing(LAX, core("OPEN", RISING), now=now) == ("banner",)
    assert failing(LAX, core(FALLING, FALLING, "OPEN"), now=now) == ()
    assert failing(DEMANDING, core(RISING), one_time=False, now=now) == ("one-time-key", "two-person-release")
    assert failing(DEMANDING, core(FALLING), one_time=False, now=now) == ("one-time-key", "two-person-release")


def test_a_forward_whose_label_falls_before_its_originals_fails_and_one_that_falls_with_it_does_not():
    sealed, until = passed_on(core("SEALED")), passed_on(core(FALLING))
    assert failing(LAX, core(FALLING), originals=[sealed]) == ("derived-label",)
    assert failing(LAX, core(FALLING), originals=[until]) == ()
    assert failing(LAX, core("OPEN"), originals=[passed_on(core(RISING))]) == ("derived-label",)


def test_what_changes_when_the_message_has_expired_is_not_asked():
    after = label("SEALED", succession=Succession(NOW + 3600, label("OPEN")))
    assert failing(LAX, core(after, "SEALED")) == ()


def test_a_message_whose_labels_change_more_often_than_anybody_can_follow_fails():
    changing = [label("SEALED", succession=Succession(NOW + n, label("OPEN"))) for n in range(9)]
    assert failing(LAX, core("SEALED", *changing[:7])) == ()
    assert failing(LAX, core("SEALED", *changing)) == ("obligations",)


def test_an_answer_is_never_lower_than_what_it_contains():
    sealed, open_ = label("SEALED"), label("OPEN")
    for parent, wanted in ((sealed, FALLING), (RISING, open_)):
        with pytest.raises(Refused) as told:
            derived_label(LAX, [parent], wanted, NOW)
        assert told.value.rules == ("derived-label",)
    assert derived_label(LAX, [FALLING], FALLING, NOW) == FALLING
    assert derived_label(LAX, [RISING], None, NOW).classification == "SEALED"


def test_a_page_is_headed_by_its_highest_portion_whatever_the_banner_has_become(monkeypatch):
    documents = SimpleNamespace(policy_of=lambda *_: LAX)
    labels = LabelReader(documents, SimpleNamespace(directory=None), "lo-warsaw")  # type: ignore[arg-type]
    message = core(FALLING, "OPEN", label("SEALED", codewords=["FOX"]))
    monkeypatch.setattr("time.time", lambda: NOW + 7200)
    assert labels.marking(labels.heading(message)) == "TEST SEALED FOX"
    assert labels.marking(labels.heading(core(FALLING, "OPEN"))) == "TEST OPEN"
    apart = [label("OPEN", nations=["POL"]), label("OPEN", nations=["FRA"])]
    assert labels.marking(labels.heading(core("OPEN", *apart))) == SYSTEM_HIGH


# -- junk -------------------------------------------------------------------------------------------------------------

_NAMES = st.sampled_from(["OPEN", "CLOSED", "SEALED", "COSMIC", "FOX", "POL", "Codeword", "Releasable To", ""])
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(1 << 63), 1 << 63), st.binary(max_size=8), _NAMES),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.integers(0, 23), inner, max_size=4)),
    max_leaves=8,
)
_GOOD = decode(label_bytes(label("CLOSED", codewords=["FOX"], nations=["POL"])))
_JUNK = st.one_of(
    st.binary(max_size=60),
    _VALUES.map(encode),
    st.dictionaries(st.integers(1, 8), _VALUES, max_size=3).map(lambda changes: encode(_GOOD | changes)),
    st.just(encode(_GOOD)),
)


@given(banner=_JUNK, portions=st.lists(_JUNK, min_size=1, max_size=3), original=_JUNK)
def test_junk_for_labels_is_a_demand_that_is_not_met_and_never_an_exception(banner, portions, original):
    junk = core("OPEN", label=banner, portions=tuple(Portion(1, bytes(32), each) for each in portions))
    found = failing(DEMANDING, junk, originals=[passed_on(core("OPEN", label=original))])
    assert isinstance(found, tuple)
    if found == ():
        assert banner == encode(_GOOD)
