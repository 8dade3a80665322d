"""The primitives that we did not write, and our use of them, against the vectors of those who specified them.

Read from LIAISON_SHARED (by default ../shared beside the repository), never copied.
"""

from __future__ import annotations

import hmac
import json
import os
from base64 import b64decode
from hashlib import shake_256
from pathlib import Path

import cbor2
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.bindings._rust import openssl as library
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import (
    MLKEM768PrivateKey,
    MLKEM768PublicKey,
    MLKEM1024PrivateKey,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PublicKey,
    MLKEM1024P384PrivateKey,
    Suite,
)

from liaison.seal import kem_private_key
from octets import flipped
from relay.protocol.cose import thumbprint
from relay.protocol.errors import Malformed, Unverified
from relay.protocol.signature import Composite, verify_composite

SHARED = Path(os.environ.get("LIAISON_SHARED", Path(__file__).parents[2] / "shared")) / "vectors"

KEMS = {
    0x0010: KEM.P256, 0x0011: KEM.P384, 0x0041: KEM.MLKEM768, 0x0042: KEM.MLKEM1024,
    0x0051: KEM.MLKEM1024_P384, 0x647A: KEM.MLKEM768_X25519,
}  # fmt: skip
KDFS = {1: KDF.HKDF_SHA256, 2: KDF.HKDF_SHA384, 3: KDF.HKDF_SHA512, 0x10: KDF.SHAKE128, 0x11: KDF.SHAKE256}
AEADS = {1: AEAD.AES_128_GCM, 2: AEAD.AES_256_GCM, 3: AEAD.CHACHA20_POLY1305}


def vectors(name):
    path = SHARED / name
    return json.loads(path.read_text()) if path.exists() else None


def cases(name, label, keep=lambda _: True):
    """One case per vector, or one that is skipped with its reason."""
    found = vectors(name)
    if found is None:
        return [pytest.param(None, marks=pytest.mark.skip(f"LIAISON_SHARED has no vectors/{name}"), id=name)]
    return [pytest.param(vector, id=label(vector)) for vector in found if keep(vector)]


def private_key(kem, serialized):
    """The KEM's private key from its serialised form in draft-ietf-hpke-pq."""
    if kem is KEM.MLKEM768_X25519:
        return kem_private_key(serialized)
    if kem is KEM.MLKEM768:
        return MLKEM768PrivateKey.from_seed_bytes(serialized)
    if kem is KEM.MLKEM1024:
        return MLKEM1024PrivateKey.from_seed_bytes(serialized)
    if kem is KEM.MLKEM1024_P384:
        # The 48 octets after the lattice's seed are the scalar, but for one seed in 2**190.
        expanded = shake_256(serialized).digest(64 + 48)
        scalar = int.from_bytes(expanded[64:], "big")
        lattice = MLKEM1024PrivateKey.from_seed_bytes(expanded[:64])
        return MLKEM1024P384PrivateKey(lattice, ec.derive_private_key(scalar, ec.SECP384R1()))
    curve = ec.SECP256R1() if kem is KEM.P256 else ec.SECP384R1()
    return ec.derive_private_key(int.from_bytes(serialized, "big"), curve)


def is_supported(vector):
    return vector["kem_id"] in KEMS and vector["kdf_id"] in KDFS


@pytest.mark.parametrize(
    "vector",
    cases("hpke-pq.json", lambda v: f"{v['kem_id']:#06x}-{v['kdf_id']:#06x}-{v['aead_id']:#06x}", is_supported),
)
def test_hpke_opens_the_draft_s_ciphertexts_and_no_altered_one(vector):
    kem = KEMS[vector["kem_id"]]
    suite = Suite(kem, KDFS[vector["kdf_id"]], AEADS[vector["aead_id"]])
    private = private_key(kem, bytes.fromhex(vector["skRm"]))
    first = vector["encryptions"][0]
    enc, sealed, info, aad, plaintext = (
        bytes.fromhex(text) for text in (vector["enc"], first["ct"], vector["info"], first["aad"], first["pt"])
    )
    decrypt = library.hpke._decrypt_with_aad  # the vectors have associated data, which Suite does not offer
    assert decrypt(suite, enc + sealed, private, info, aad) == plaintext
    altered = [(flipped(enc, -40), sealed, info), (enc, flipped(sealed), info), (enc, sealed, flipped(info))]
    for other_enc, other_sealed, other_info in altered:
        with pytest.raises(InvalidTag):
            decrypt(suite, other_enc + other_sealed, private, other_info, aad)


def test_the_draft_has_vectors_for_seven_suites_that_the_library_knows():
    found = vectors("hpke-pq.json")
    if found is None:
        pytest.skip("LIAISON_SHARED has no vectors/hpke-pq.json")
    assert sum(map(is_supported, found)) == 7


def sealed_with(shared_secret, plaintext):
    """What HPKE base mode (RFC 9180 section 5.1) with HKDF-SHA256 and AES-128-GCM makes of a KEM's shared secret."""
    suite = b"HPKE" + bytes.fromhex("647a00010001")

    def extract(salt, label, ikm):
        return hmac.digest(salt or bytes(32), b"HPKE-v1" + suite + label + ikm, "sha256")

    def expand(prk, label, context, size):
        return hmac.digest(prk, size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + context + b"\x01", "sha256")[
            :size
        ]

    context = b"\x00" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", b"")
    secret = extract(shared_secret, b"secret", b"")
    key, nonce = expand(secret, b"key", context, 16), expand(secret, b"base_nonce", context, 12)
    return AESGCM(key).encrypt(nonce, plaintext, None)


@pytest.mark.parametrize("vector", cases("xwing.json", lambda v: v["seed"][:8]))
def test_x_wing_keys_grow_from_their_seed_and_find_the_shared_secret_of_the_draft(vector):
    seed, public, enc, secret = (bytes.fromhex(vector[name]) for name in ("seed", "pk", "ct", "ss"))
    private = kem_private_key(seed)
    suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_128_GCM)
    assert suite.decrypt(enc + sealed_with(secret, b"word"), private, b"") == b"word"
    with pytest.raises(InvalidTag):
        suite.decrypt(flipped(enc) + sealed_with(secret, b"word"), private, b"")
    lattice, curve = (
        MLKEM768PublicKey.from_public_bytes(public[:1184]),
        X25519PublicKey.from_public_bytes(public[1184:]),
    )
    assert suite.decrypt(suite.encrypt(b"word", MLKEM768X25519PublicKey(lattice, curve), b""), private, b"") == b"word"


MLDSA44_ED25519 = Composite(
    label=b"COMPSIG-MLDSA44-Ed25519-SHA512",
    read_mldsa=MLDSA44PublicKey.from_public_bytes,
    mldsa_public=1312,
    mldsa_signature=2420,
)
VERIFY = {"id-MLDSA65-Ed25519-SHA512": verify_composite, "id-MLDSA44-Ed25519-SHA512": MLDSA44_ED25519.verify}


@pytest.mark.parametrize("name", VERIFY)
def test_composite_signatures_of_the_lamps_draft_verify_whole_or_not_at_all(name):
    found = vectors("lamps-composite.json")
    if found is None:
        pytest.skip("LIAISON_SHARED has no vectors/lamps-composite.json")
    vector = next(test for test in found["tests"] if test["tcId"] == name)
    verify, message, context = VERIFY[name], b64decode(found["m"]), b64decode(found["ctx"])
    public, plain, bound = (b64decode(vector[field]) for field in ("pk", "s", "sWithContext"))
    verify(public, message, plain)
    verify(public, message, bound, context)
    wrong = [
        (message, plain, context), (message, bound, b""), (message, bound, context[:-1]), (flipped(message), plain, b""),
        (message, flipped(plain), b""),  # the Ed25519 half
        (message, flipped(plain, 0), b""),  # the ML-DSA half
        (message, plain[:-64] + bound[-64:], b""), (message, bound[:-64] + plain[-64:], b""),  # halves of two signatures
        (message, plain[:-1], b""), (message, b"", b""),
    ]  # fmt: skip
    for other_message, signature, other_context in wrong:
        with pytest.raises(Unverified):
            verify(public, other_message, signature, other_context)
    for key in (flipped(public), flipped(public, 100), public[:-1]):
        with pytest.raises((Unverified, Malformed)):
            verify(key, message, plain)


COSE = {
    "HPKE-9-KE": KEM.MLKEM768_X25519,
    "HPKE-10-KE": KEM.MLKEM1024_P384,
    "HPKE-12-KE": KEM.MLKEM768,
    "HPKE-13-KE": KEM.MLKEM1024,
}


@pytest.mark.parametrize("vector", cases("cose-hpke-pq.json", lambda v: v["alg"], lambda v: v["alg"] in COSE))
def test_a_recipient_of_the_cose_draft_opens_and_its_kid_is_our_thumbprint(vector):
    key = cbor2.loads(bytes.fromhex(vector["key"]))
    protected, headers, wrapped = cbor2.loads(bytes.fromhex(vector["hex"])).value[3][0]
    header = cbor2.loads(protected)
    assert thumbprint(key[3], key[-1]) == key[2] == header[4]
    suite = Suite(COSE[vector["alg"]], KDF.SHAKE256, AEAD.AES_256_GCM)
    private = private_key(COSE[vector["alg"]], key[-2])
    a256gcm = 3  # the algorithm of the layer above
    info = cbor2.dumps(["HPKE Recipient", a256gcm, protected, b""], canonical=True)
    assert len(suite.decrypt(headers[-4] + wrapped, private, info)) == 32
    for other in (
        cbor2.dumps(["HPKE Recipient", 1, protected, b""], canonical=True),
        cbor2.dumps(["HPKE Recipient", a256gcm, protected, b"relay-msg/1"], canonical=True),
    ):
        with pytest.raises(InvalidTag):
            suite.decrypt(headers[-4] + wrapped, private, other)
