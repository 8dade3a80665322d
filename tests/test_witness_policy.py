"""C2SP tlog-policy: what a file says, what is no policy, and which cosignatures meet it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from relay.protocol.errors import Malformed, Unverified
from relay.protocol.note import parse_note, parse_vkey
from relay.protocol.witness import WitnessKeys
from relay.protocol.witness_policy import (
    WitnessPolicy,
    cosigned_at,
    parse_witness_policy,
    require_own_logs,
    verify_witnessed,
)
from witnesses import NOW, ORIGIN, OtherLog

HOUR = 3600
LOG = OtherLog().grow(5)
KEYS = list(map(parse_vkey, LOG.vkeys.split()))
LOG_ED, LOG_PQ = sorted(LOG.vkeys.split(), key=lambda vkey: parse_vkey(vkey).type)
WITNESSES = {
    name: WitnessKeys(f"{name}.example", Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())
    for name in ("oslo", "paris", "rome", "bern")
}
ED = {name: keys.vkeys()[0] for name, keys in WITNESSES.items()}
PQ = {name: keys.vkeys()[1] for name, keys in WITNESSES.items()}
LINES = "".join(f"witness {name} {vkey}\n" for name, vkey in ED.items())


def read(text: str) -> WitnessPolicy:
    return parse_witness_policy(text.encode())


def cosigned(*names, at=NOW, kinds=(0,), note=None):
    note = LOG.checkpoint() if note is None else note
    for name in names:
        lines = WITNESSES[name].cosign(note, at).splitlines(keepends=True)
        note += "".join(lines[kind] for kind in kinds).encode()
    return note


def test_a_file_with_everything_in_it_is_read():
    found = read(
        f"# partners\n\n \t \nlog {LOG.vkeys.split()[0]} https://log.example\nwitness\toslo  {ED['oslo']} https://w.example \n"
        f"witness π {PQ['paris']}\n group both  all oslo π\nquorum both\n"
    )
    assert [key.name for key in found.logs] == [ORIGIN]
    assert {name: each.url for name, each in found.witnesses.items()} == {"oslo": "https://w.example", "π": ""}
    assert (found.groups["both"].threshold, found.quorum) == (2, "both")


TWO_LEVELS = LINES + "group north 1 oslo bern\ngroup all2 all north rome\ngroup top any all2 paris\nquorum top\n"


@pytest.mark.parametrize(
    ("policy", "names", "met"),
    [
        ("quorum none\n", "", True),
        (LINES + "quorum oslo\n", "oslo", True),
        (LINES + "quorum oslo\n", "paris rome bern", False),
        (LINES + "group g 2 oslo paris rome\nquorum g\n", "oslo rome", True),
        (LINES + "group g 2 oslo paris rome\nquorum g\n", "oslo bern", False),
        (LINES + "group g any oslo paris\nquorum g\n", "paris", True),
        (LINES + "group g all oslo paris\nquorum g\n", "paris", False),
        (TWO_LEVELS, "bern rome", True),
        (TWO_LEVELS, "paris", True),
        (TWO_LEVELS, "bern oslo", False),
        (TWO_LEVELS, "rome", False),
    ],
)
def test_a_quorum_is_met_by_enough_and_by_no_fewer(policy, names, met):
    found = read(policy)
    assert found.is_met_by(names.split()) is met
    note, now = cosigned(*names.split()), NOW + HOUR
    if met:
        assert verify_witnessed(note, KEYS, found, now, HOUR).size == 5
    else:
        with pytest.raises(Unverified, match="does not meet the witness policy"):
            verify_witnessed(note, KEYS, found, now, HOUR)


@given(st.sets(st.sampled_from(sorted(WITNESSES))), st.sampled_from(sorted(WITNESSES)))
def test_one_more_witness_never_makes_a_quorum_fail(names, another):
    found = read(TWO_LEVELS)
    assert not found.is_met_by(names) or found.is_met_by(names | {another})


NO_POLICY = {
    "no quorum": LINES,
    "two quorums": LINES + "quorum oslo\nquorum oslo\n",
    "an empty file": "",
    "a last line without its end": LINES + "quorum oslo",
    "a carriage return": LINES + "quorum oslo\r\n",
    "a control character": LINES + "quorum oslo\x7f\n",
    "an unknown word": LINES + "threshold 2\nquorum oslo\n",
    "a quorum of nobody": "quorum oslo\n",
    "a quorum before its group": LINES + "quorum g\ngroup g any oslo\n",
    "a group of a later one": LINES + "group g any h\ngroup h any oslo\nquorum g\n",
    "a group without members": LINES + "group g any\nquorum g\n",
    "a group of none": LINES + "group g any none\nquorum g\n",
    "a member twice": LINES + "group g 2 oslo oslo\nquorum g\n",
    "a member of two groups": LINES + "group g any oslo\ngroup h any oslo\nquorum g\n",
    "a name twice": LINES + f"witness oslo {PQ['oslo']}\nquorum oslo\n",
    "a group named as a witness": LINES + "group oslo any paris\nquorum oslo\n",
    "a witness named none": f"witness none {ED['oslo']}\nquorum none\n",
    "a key twice": LINES + f"witness more {ED['oslo']}\nquorum more\n",
    "a threshold of none": LINES + "group g 0 oslo\nquorum g\n",
    "a threshold beyond its members": LINES + "group g 3 oslo paris\nquorum g\n",
    "a threshold with a leading zero": LINES + "group g 01 oslo\nquorum g\n",
    "a log's key as a witness": f"witness w {LOG_ED}\nquorum w\n",
    "a witness's key as a log": f"log {ED['oslo']}\nquorum none\n",
    "a log twice": f"log {LOG.vkeys.split()[0]}\nlog {LOG.vkeys.split()[0]}\nquorum none\n",
    "a key that is none": "witness w w.example+00000000+AAAA\nquorum w\n",
    "a word too many": LINES + "quorum oslo paris\n",
    "too many groups": LINES + "group g0 any oslo\n" + "".join(f"group g{n + 1} any g{n}\n" for n in range(64)) + "quorum g1\n",
}  # fmt: skip


@pytest.mark.parametrize("content", NO_POLICY.values(), ids=NO_POLICY)
def test_what_is_no_policy_is_refused(content):
    with pytest.raises(Malformed, match="witness policy: "):
        read(content)


@given(st.binary(max_size=200))
def test_any_octets_are_a_policy_or_malformed(content):
    with suppress(Malformed):
        assert parse_witness_policy(content).quorum


POLICY = read(LINES + "group g 2 oslo paris rome\nquorum g\n")


@pytest.mark.parametrize(
    ("at", "good"), [(NOW - HOUR, True), (NOW - HOUR - 1, False), (NOW + 300, True), (NOW + 301, False), (0, False)]
)
def test_a_cosignature_that_is_stale_or_ahead_of_time_does_not_count(at, good):
    note = cosigned("paris", at=at, note=cosigned("oslo"))
    if good:
        verify_witnessed(note, KEYS, POLICY, NOW, HOUR)
    else:
        with pytest.raises(Unverified, match=r"cosigned by oslo; the cosignatures of paris are older"):
            verify_witnessed(note, KEYS, POLICY, NOW, HOUR)


def test_both_kinds_of_key_can_be_asked_for_of_one_witness():
    policy = read(f"witness ed {ED['oslo']}\nwitness pq {PQ['oslo']}\ngroup g all ed pq\nquorum g\n")
    verify_witnessed(cosigned("oslo", kinds=(0, 1)), KEYS, policy, NOW, HOUR)
    for kind in (0, 1):
        with pytest.raises(Unverified, match="does not meet"):
            verify_witnessed(cosigned("oslo", kinds=(kind,)), KEYS, policy, NOW, HOUR)


def test_a_cosignature_that_does_not_verify_spoils_the_note():
    other = OtherLog(keys=LOG.keys).grow(5, "other")
    lines = WITNESSES["rome"].cosign(other.checkpoint(), NOW).splitlines(keepends=True)
    with pytest.raises(Unverified, match="rome"):
        verify_witnessed(cosigned("oslo", "paris") + lines[0].encode(), KEYS, POLICY, NOW, HOUR)


def test_cosignatures_do_not_stand_for_the_logs_own():
    text, lines = cosigned("oslo", "paris").decode().split("\n\n")
    without = f"{text}\n\n{''.join(lines.splitlines(keepends=True)[1:])}".encode()
    with pytest.raises(Unverified, match="not signed by log"):
        verify_witnessed(without, KEYS, POLICY, NOW, HOUR)


def test_a_good_quorum_for_another_log_is_refused():
    other = OtherLog("log.example/two", LOG.keys).grow(5)
    keys = list(map(parse_vkey, other.vkeys.split()))
    with pytest.raises(Unverified):
        verify_witnessed(cosigned("oslo", "paris"), keys, POLICY, NOW, HOUR)


def test_the_times_are_those_that_the_witnesses_signed():
    note = cosigned("oslo", "paris", at=NOW + 7)
    known = [each.verifier for each in POLICY.witnesses.values()]
    assert set(cosigned_at(note, known).values()) == {NOW + 7}
    assert len(parse_note(note).signatures) == 4


def test_a_policy_for_another_log_is_refused():
    policy = read(f"log {LOG.vkeys.split()[0]}\nquorum none\n")
    require_own_logs(policy, LOG.vkeys.split())
    with pytest.raises(Malformed, match="another log"):
        require_own_logs(policy, OtherLog("log.example/two").vkeys.split())


def test_a_log_is_not_its_own_witness():
    policy = read(f"witness w {LOG_PQ}\nquorum w\n")
    with pytest.raises(Malformed, match="the log itself"):
        require_own_logs(policy, LOG.vkeys.split())
    with pytest.raises(Unverified, match="own key"):
        verify_witnessed(LOG.checkpoint(), KEYS, policy, NOW, HOUR)
