"""Signed objects: COSE_Sign1 (RFC 9052) with alg, kid (RFC 9679 thumbprint) and typ (RFC 9596).

    Sign1 = [bstr{1: alg, 4: kid, 16: typ}, {}, bstr payload, signature]
    TBS   = ["Signature1", protected, h'', payload]

The payload is signed, stored and handed on as the received bytes; nothing is ever re-encoded.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from .canonical import encode, expect, expect_bytes, read_array, read_map
from .claim import Checking, Claim, settle
from .errors import Malformed, Unverified
from .suite import suite_signing_with

_ALG, _KID, _TYP = 1, 4, 16
_TYP_PREFIX, _TYP_SUFFIX = "application/relay-", "+cose"


@dataclass(frozen=True, slots=True)
class Sign1:
    """A parsed COSE_Sign1; parsed is not verified."""

    typ: str
    alg: int
    kid: bytes
    payload: bytes
    signature: bytes
    to_be_signed: bytes

    @property
    def ref(self) -> bytes:
        """SHA-256 of the signed bytes: the object's name, whatever the (hedged) signature bytes are."""
        return hashlib.sha256(self.to_be_signed).digest()


# Every decision on a device asks for its authority's, and encoding 2 KiB costs more than the rule that asks.
@lru_cache(maxsize=4096)
def thumbprint(alg: int, public: bytes) -> bytes:
    """RFC 9679 thumbprint of an AKP key: SHA-256(CBOR{1: 7, 3: alg, -1: pub})."""
    return hashlib.sha256(encode({1: 7, 3: alg, -1: public})).digest()


def protected_header(alg: int, kid: bytes, typ: str) -> bytes:
    return encode({_ALG: alg, _KID: kid, _TYP: _TYP_PREFIX + typ + _TYP_SUFFIX})


def to_be_signed(protected: bytes, payload: bytes) -> bytes:
    """Sig_structure of RFC 9052 section 4.4 with empty external data."""
    return encode(["Signature1", protected, b"", payload])


def format_sign1(protected: bytes, payload: bytes, signature: bytes) -> bytes:
    return encode([protected, {}, payload, signature])


def parse_sign1(encoded: bytes, typ: str) -> Sign1:
    """Read a COSE_Sign1 of exactly this type. Raises Malformed; verifies nothing."""
    protected, unprotected, payload, signature = read_array(encoded, 4, typ)
    if unprotected != {}:
        raise Malformed(f"{typ}: unprotected headers are not permitted")
    expect(protected, bytes, f"{typ}: protected header")
    header = read_map(protected, frozenset({_ALG, _KID, _TYP}), frozenset(), f"{typ}: protected header")
    if header[_TYP] != _TYP_PREFIX + typ + _TYP_SUFFIX:
        raise Malformed(f"expected a {typ}, found {header[_TYP]!r:.60}")
    alg = expect(header[_ALG], int, f"{typ}: algorithm")
    suite_signing_with(alg)
    return Sign1(
        typ=typ,
        alg=alg,
        kid=expect_bytes(header[_KID], 32, f"{typ}: kid"),
        payload=expect(payload, bytes, f"{typ}: payload"),
        signature=expect(signature, bytes, f"{typ}: signature"),
        to_be_signed=to_be_signed(protected, payload),
    )


def check_sign1(signed: Sign1, public: bytes) -> Checking[None]:
    """Raise Unverified unless `public` is the key that `signed` names and its signature holds."""
    if thumbprint(signed.alg, public) != signed.kid:
        raise Unverified(f"the {signed.typ} names another key than its signer's")
    fault = yield Claim(signed.alg, public, signed.to_be_signed, signed.signature)
    if fault is not None:
        raise Unverified(f"{signed.typ}: {fault}")


def verify_sign1(signed: Sign1, public: bytes) -> None:
    """The same check, made here."""
    settle(check_sign1(signed, public))


_held: set[bytes] = set()  # digests of what was verified: a signature that held once holds for good
_MANY = 1 << 16


def verify_once(signed: Sign1, public: bytes) -> None:
    """The same for what comes again with each look at the message that carries it: verified the first time."""
    digest = hashlib.sha256(thumbprint(signed.alg, public) + signed.ref + signed.signature).digest()
    if digest in _held:
        return
    verify_sign1(signed, public)
    if len(_held) >= _MANY:
        _held.clear()
    _held.add(digest)
