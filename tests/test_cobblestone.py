"""Content encryption against Wycheproof's vectors, against `cryptography`'s own, and against damage of every kind."""

from __future__ import annotations

import json
import os
import zlib
from hashlib import sha512
from pathlib import Path

import pytest
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from hypothesis import given, settings
from hypothesis import strategies as st

from liaison.cobblestone import PartOpener, PartSealer, open_part, plaintext_size, seal_part
from relay.protocol.errors import Unverified

SHARED = Path(os.environ.get("LIAISON_SHARED", Path(__file__).parents[2] / "shared"))
WYCHEPROOF = SHARED / "vectors" / "c2sp-chunked-encryption-aes-256-gcm.json"
KEY, CONTEXT = bytes(range(32)), b"relay-part/1"
EDGES = [0, 1, 16383, 16384, 16385, 32767, 32768, 49153]


def wycheproof():
    if not WYCHEPROOF.exists():
        return [pytest.param(None, marks=pytest.mark.skip("LIAISON_SHARED has no Cobblestone-256 vectors"))]
    groups = json.loads(WYCHEPROOF.read_text())["testGroups"]
    return [pytest.param(test, id=f"{test['tcId']} {test['comment']}") for group in groups for test in group["tests"]]


def in_pieces(octets, size):
    return [octets[at : at + size] for at in range(0, len(octets), size)]


def expected_failure(test):
    """What the message must name, from the vector's own flags."""
    flags = set(test["flags"])
    if "InvalidKeySize" in flags:
        return "the content key has 3[13] octets"
    if "HeaderFailure" in flags:
        return "truncated in its header" if "Truncation" in flags else "commitment"
    first_bad = test.get("msgLength", 0) // 16384  # what a streaming reader may have had before the failure
    return (
        f"(truncated, )?chunk {first_bad} is"
        if flags & {"Truncation", "TrailingData"}
        else f"chunk {first_bad} is not genuine"
    )


@pytest.mark.parametrize("test", wycheproof())
def test_wycheproof(test):
    key, context, sealed = (bytes.fromhex(test[name]) for name in ("key", "ctx", "ct"))
    sealed = zlib.decompress(sealed)
    for open_all in (open_part, open_slowly):
        if test["result"] == "valid":
            plaintext = open_all(key, context, sealed)
            assert (len(plaintext), sha512(plaintext).hexdigest()) == (test["msgLength"], test["msgSha512"])
            assert seal_part(key, context, plaintext, salt=lambda size: sealed[:size]) == sealed
        else:
            with pytest.raises(Unverified, match=expected_failure(test)):
                open_all(key, context, sealed)


def released_early(case):
    test = case.values[0]
    return test is None or "PartialPlaintext" in test["flags"]


@pytest.mark.parametrize("test", [*filter(released_early, wycheproof())])
def test_a_stream_gives_out_only_what_is_genuine_before_it_fails(test):
    key, context, sealed = (bytes.fromhex(test[name]) for name in ("key", "ctx", "ct"))
    opener, released = PartOpener(key, context), []
    with pytest.raises(Unverified):  # noqa: PT012 - at which of the two is the vector's affair
        released.extend(map(opener.update, in_pieces(zlib.decompress(sealed), 16400)))
        opener.finish()
    plaintext = b"".join(released)
    assert (len(plaintext), sha512(plaintext).hexdigest()) == (test["msgLength"], test["msgSha512"])


def open_slowly(key, context, sealed):
    opener = PartOpener(key, context)
    return b"".join([*map(opener.update, in_pieces(sealed, 5000)), opener.finish()])


@pytest.mark.parametrize("size", EDGES)
def test_a_part_opens_to_what_was_sealed_and_has_the_stated_size(size):
    plaintext = os.urandom(size)
    sealed = seal_part(KEY, CONTEXT, plaintext)
    assert plaintext_size(len(sealed)) == size
    assert open_part(KEY, CONTEXT, sealed) == open_slowly(KEY, CONTEXT, sealed) == plaintext


@pytest.mark.parametrize("size", EDGES)
def test_another_implementation_opens_ours_and_we_open_its(size):
    plaintext = os.urandom(size)
    decryptor = Cobblestone256Decryptor(KEY, CONTEXT)
    assert decryptor.update(seal_part(KEY, CONTEXT, plaintext)) + decryptor.finalize() == plaintext
    encryptor = Cobblestone256Encryptor(KEY, CONTEXT)
    assert open_part(KEY, CONTEXT, encryptor.update(plaintext) + encryptor.finalize()) == plaintext


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(EDGES), st.lists(st.integers(0, 40000), max_size=6))
def test_the_pieces_in_which_it_comes_do_not_matter(size, cuts):
    plaintext = (b"liaison " * 7000)[:size]
    whole = seal_part(KEY, CONTEXT, plaintext, salt=bytes)
    sealer = PartSealer(KEY, CONTEXT, salt=bytes)
    places = sorted(cut for cut in cuts if cut < size)
    pieces = [plaintext[first:last] for first, last in zip([0, *places], [*places, size], strict=True)]
    assert sealer.header + b"".join(map(sealer.update, pieces)) + sealer.finish() == whole
    opener = PartOpener(KEY, CONTEXT)
    pieces = [whole[first:last] for first, last in zip([0, *places], [*places, len(whole)], strict=True)]
    assert b"".join([*map(opener.update, pieces), opener.finish()]) == plaintext


def test_a_stream_keeps_at_most_one_chunk():
    sealer, opener = PartSealer(KEY, CONTEXT), PartOpener(KEY, CONTEXT)
    opener.update(sealer.header)
    for _ in range(100):
        opener.update(sealer.update(bytes(50_000)))
        assert len(sealer._rest) < 16384
        assert len(opener._rest) < 16400


SEALED = seal_part(KEY, CONTEXT, bytes(40000), salt=bytes)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_no_octet_of_a_part_can_be_changed(at, mask):
    changed = bytearray(SEALED)
    changed[at] ^= mask
    with pytest.raises(Unverified, match="commitment" if at < 56 else f"chunk {(at - 56) // 16400} is not genuine"):
        open_part(KEY, CONTEXT, bytes(changed))


@settings(max_examples=60, deadline=None)
@given(st.one_of(st.integers(0, len(SEALED) - 1), st.sampled_from([0, 55, 56, 57, 71, 72, 56 + 16400, 56 + 2 * 16400])))
def test_a_part_cut_off_anywhere_does_not_open(length):
    with pytest.raises(Unverified, match=r"truncated|chunk"):
        open_part(KEY, CONTEXT, SEALED[:length])


def test_a_part_cut_off_at_the_border_of_a_chunk_is_called_truncated():
    with pytest.raises(Unverified, match="truncated, chunk 2 is missing"):
        open_part(KEY, CONTEXT, SEALED[: 56 + 2 * 16400])


def test_chunks_cannot_change_places():
    head, first, second, rest = SEALED[:56], SEALED[56:16456], SEALED[16456:32856], SEALED[32856:]
    with pytest.raises(Unverified, match="chunk 0 is not genuine"):
        open_part(KEY, CONTEXT, head + second + first + rest)


@pytest.mark.parametrize(("key", "context"), [(bytes(32), CONTEXT), (KEY, b"relay-part/2"), (KEY, b"")])
def test_another_key_or_context_fails_at_the_commitment(key, context):
    with pytest.raises(Unverified, match="commitment"):
        open_part(key, context, SEALED)


def test_sealing_twice_gives_two_ciphertexts():
    assert seal_part(KEY, CONTEXT, b"again") != seal_part(KEY, CONTEXT, b"again")


@pytest.mark.parametrize(("key", "salt"), [(bytes(31), bytes), (bytes(33), bytes), (KEY, lambda size: bytes(size - 1))])
def test_nothing_is_sealed_with_a_key_or_salt_of_another_length(key, salt):
    with pytest.raises(ValueError, match="32 octets"):
        seal_part(key, CONTEXT, b"", salt=salt)
