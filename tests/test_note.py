"""Signed notes: who must have signed a checkpoint, and everything that is not one."""

from __future__ import annotations

from base64 import b64decode, b64encode
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.protocol.errors import LiaisonError, Malformed, Unverified
from relay.protocol.merkle import EMPTY_ROOT
from relay.protocol.note import (
    ED25519,
    ED25519_COSIGNATURE,
    MLDSA44,
    format_note,
    format_vkey,
    note_key_id,
    note_verifier,
    parse_note,
    parse_vkey,
    sign_cosignature,
    sign_ed25519,
    sign_mldsa44,
    signed_at,
    verify_note,
)
from relay.protocol.tlog import format_checkpoint_body

VECTORS = Path(__file__).parent / "vectors" / "note"
ORIGIN, WITNESS, NOW = "relay.example/access", "witness.example/w1", 1_800_000_000
LOG = Ed25519PrivateKey.from_private_bytes(sha256(b"log").digest())
LOG_PQ = MLDSA44PrivateKey.from_seed_bytes(sha256(b"log").digest())
OBSERVER = Ed25519PrivateKey.from_private_bytes(sha256(b"witness").digest())
LOG_KEY = note_verifier(ORIGIN, ED25519, LOG.public_key().public_bytes_raw())
LOG_PQ_KEY = note_verifier(ORIGIN, MLDSA44, LOG_PQ.public_key().public_bytes_raw())
WITNESS_KEY = note_verifier(WITNESS, ED25519_COSIGNATURE, OBSERVER.public_key().public_bytes_raw())
BODY = format_checkpoint_body(ORIGIN, 0, EMPTY_ROOT)
LINE = sign_ed25519(ORIGIN, LOG, BODY)
LINE_PQ = sign_mldsa44(ORIGIN, LOG_PQ, ORIGIN, 0, EMPTY_ROOT, NOW)
LINE_WITNESS = sign_cosignature(WITNESS, OBSERVER, BODY, NOW + 1)
CHECKPOINT = format_note(BODY, LINE, LINE_PQ)


@pytest.mark.parametrize("path", sorted(VECTORS.glob("*.txt")), ids=lambda path: path.stem)
def test_every_vector_ends_as_it_says(path):
    header, _, note = path.read_bytes().partition(b"---\n")
    fields = [line.split(": ", 1) for line in header.decode().splitlines()]
    try:
        verify_note(note, [parse_vkey(value) for name, value in fields if name == "vkey"])
        outcome = "verified"
    except LiaisonError as problem:
        outcome = problem.code
    assert outcome == dict(fields)["expect"]


def test_there_are_vectors_of_every_outcome():
    outcomes = [path.read_bytes().split(b"\n")[0] for path in VECTORS.glob("*.txt")]
    assert {outcome: outcomes.count(outcome) >= 4 for outcome in outcomes} == {
        b"expect: verified": True, b"expect: unverified": True, b"expect: malformed": True,
    }  # fmt: skip


def test_a_checkpoint_needs_both_signatures_of_its_log():
    assert verify_note(CHECKPOINT, [LOG_KEY, LOG_PQ_KEY]) == BODY
    for line, missing in [(LINE, "0x06"), (LINE_PQ, "0x01")]:
        with pytest.raises(Unverified, match=f"not signed by {ORIGIN} .type {missing}"):
            verify_note(format_note(BODY, line), [LOG_KEY, LOG_PQ_KEY])


def test_a_missing_witness_is_forgiven_only_where_it_is_not_required():
    keys = [LOG_KEY, LOG_PQ_KEY, WITNESS_KEY]
    assert verify_note(CHECKPOINT, keys, required=keys[:2]) == BODY
    with pytest.raises(Unverified, match=f"not signed by {WITNESS}"):
        verify_note(CHECKPOINT, keys)
    assert verify_note(format_note(BODY, LINE, LINE_PQ, LINE_WITNESS), keys) == BODY


def test_a_witness_known_but_not_required_still_may_not_lie():
    lie = sign_cosignature(WITNESS, OBSERVER, BODY + "more\n", NOW)
    with pytest.raises(Unverified, match=f"the signature of {WITNESS}"):
        verify_note(
            format_note(BODY, LINE, LINE_PQ, lie),
            [LOG_KEY, LOG_PQ_KEY, WITNESS_KEY],
            required=[LOG_KEY, LOG_PQ_KEY],
        )


def test_to_require_nobody_is_to_verify_nothing():
    for verifiers, required in [([], None), ([LOG_KEY], []), ([], [LOG_KEY]), ([LOG_KEY], [WITNESS_KEY])]:
        with pytest.raises(Unverified):
            verify_note(CHECKPOINT, verifiers, required=required)


def test_a_signature_of_one_kind_does_not_pass_as_another():
    """The same Ed25519 key as log and as witness has two key ids, and signs two different messages."""
    as_witness = note_verifier(ORIGIN, ED25519_COSIGNATURE, LOG.public_key().public_bytes_raw())
    assert as_witness.key_id != LOG_KEY.key_id
    with pytest.raises(Unverified):
        verify_note(CHECKPOINT, [as_witness])
    signature = b64decode(LINE.rsplit(" ", 1)[1])[4:]
    forged = b64encode(as_witness.key_id + NOW.to_bytes(8, "big") + signature).decode()
    with pytest.raises(Unverified, match="does not verify"):
        verify_note(format_note(BODY, f"\u2014 {ORIGIN} {forged}\n"), [as_witness])


def test_the_post_quantum_line_binds_origin_size_root_and_signer():
    for origin, size, root in [
        ("other.example/log", 0, EMPTY_ROOT),
        (ORIGIN, 1, EMPTY_ROOT),
        (ORIGIN, 0, bytes(32)),
    ]:
        line = sign_mldsa44(ORIGIN, LOG_PQ, origin, size, root, NOW)
        with pytest.raises(Unverified, match="0x06"):
            verify_note(format_note(BODY, line), [LOG_PQ_KEY])
    signature = b64decode(LINE_PQ.rsplit(" ", 1)[1])[4:]
    renamed = note_verifier("other.example/log", MLDSA44, LOG_PQ_KEY.public)
    line = f"\u2014 other.example/log {b64encode(renamed.key_id + signature).decode()}\n"
    with pytest.raises(Unverified, match="0x06"):
        verify_note(format_note(BODY, line), [renamed])


def test_a_signature_tells_when_it_was_made():
    note = format_note(BODY, LINE, LINE_PQ, LINE_WITNESS)
    assert signed_at(note, LOG_PQ_KEY) == NOW
    assert signed_at(note, WITNESS_KEY) == NOW + 1
    with pytest.raises(Unverified, match="bear no time"):
        signed_at(note, LOG_KEY)
    with pytest.raises(Unverified, match="not signed by"):
        signed_at(CHECKPOINT, WITNESS_KEY)


@pytest.mark.parametrize("timestamp", [-1, 2**63])
def test_no_signature_is_made_at_an_impossible_time(timestamp):
    with pytest.raises(Malformed):
        sign_mldsa44(ORIGIN, LOG_PQ, ORIGIN, 0, EMPTY_ROOT, timestamp)
    with pytest.raises(Malformed):
        sign_cosignature(WITNESS, OBSERVER, BODY, timestamp)


@pytest.mark.parametrize("key", [LOG_KEY, LOG_PQ_KEY, WITNESS_KEY], ids=["ed25519", "ml-dsa-44", "witness"])
def test_a_verifier_key_reads_back(key):
    assert parse_vkey(format_vkey(key)) == key


@pytest.mark.parametrize(
    "vkey",
    ["", "name", "name+00000000", "name+00000000+", "name+00000000+AA==", "name+00000000+!!!!", "na me+00000000+AQ==",
     format_vkey(LOG_KEY).upper(), format_vkey(LOG_KEY) + "\n", format_vkey(LOG_KEY).replace(ORIGIN, "other.example")],
)  # fmt: skip
def test_any_other_verifier_key_is_malformed(vkey):
    with pytest.raises(Malformed):
        parse_vkey(vkey)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "a\x00b", "a\u2003b", "x" * 256])
def test_a_key_has_a_fit_name(name):
    with pytest.raises(Malformed):
        note_verifier(name, ED25519, bytes(32))


def test_the_key_id_is_that_of_the_specification():
    assert note_key_id("name", ED25519, bytes(32)) == sha256(b"name\n\x01" + bytes(32)).digest()[:4]


def test_a_note_is_bounded():
    with pytest.raises(Malformed, match="more than 32 signatures"):
        parse_note(format_note(BODY, *[f"\u2014 w{number} AAAAAAA=\n" for number in range(33)]))
    assert (
        len(parse_note(format_note(BODY, *[f"\u2014 w{number} AAAAAAA=\n" for number in range(16)])).signatures) == 16
    )
    with pytest.raises(Malformed, match="octets"):
        parse_note(format_note("x" * 131072 + "\n", LINE))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(CHECKPOINT) - 1), st.integers(1, 255))
def test_no_octet_of_a_checkpoint_can_be_changed(at, mask):
    changed = CHECKPOINT[:at] + bytes([CHECKPOINT[at] ^ mask]) + CHECKPOINT[at + 1 :]
    with pytest.raises((Malformed, Unverified)):
        verify_note(changed, [LOG_KEY, LOG_PQ_KEY])


@given(st.binary(max_size=200))
def test_noise_is_malformed_never_worse(noise):
    with suppress(Malformed):
        parse_note(noise)
    with suppress(Malformed):
        parse_vkey(noise.decode("latin-1"))
