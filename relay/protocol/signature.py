"""Composite signatures: both halves must verify, and neither half's key is ever used alone.

draft-ietf-lamps-pq-composite-sigs-19: M' = prefix || label || len(ctx) || ctx || SHA-512(M); the ML-DSA half
signs M' with the label as its context, the Ed25519 half signs M' itself. Signing is the endpoints' business
(`liaison.keys`); here stand the shape of the scheme and its verification.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey

from .errors import Malformed, Unverified

_PREFIX = b"CompositeAlgorithmSignatures2025"


@dataclass(frozen=True, slots=True)
class Composite:
    """One composite scheme: a lattice half, an elliptic-curve half and the label that ties them together."""

    label: bytes
    read_mldsa: Callable[[bytes], MLDSA65PublicKey]
    mldsa_public: int
    mldsa_signature: int
    ed_public: int = 32
    ed_signature: int = 64

    @property
    def public_size(self) -> int:
        return self.mldsa_public + self.ed_public

    @property
    def signature_size(self) -> int:
        return self.mldsa_signature + self.ed_signature

    def representative(self, message: bytes, context: bytes = b"") -> bytes:
        """M', what both halves sign."""
        return _PREFIX + self.label + bytes([len(context)]) + context + hashlib.sha512(message).digest()

    def verify(self, public: bytes, message: bytes, signature: bytes, context: bytes = b"") -> None:
        """Raise Unverified unless both halves of `signature` hold, Malformed for a key that is none."""
        if len(signature) != self.signature_size:
            raise Unverified(f"signature of {len(signature)} octets, expected {self.signature_size}")
        lattice, curve = _public_halves(self, public)
        representative, half = self.representative(message, context), "Ed25519"
        try:
            curve.verify(signature[self.mldsa_signature :], representative)
            half = "ML-DSA"
            lattice.verify(signature[: self.mldsa_signature], representative, self.label)
        except InvalidSignature:
            raise Unverified(f"the signature does not verify: its {half} half") from None


# Parsing the lattice key costs a good part of verifying with it, and the same few devices sign again and again.
@lru_cache(maxsize=4096)
def _public_halves(scheme: Composite, public: bytes) -> tuple[MLDSA65PublicKey, Ed25519PublicKey]:
    if len(public) != scheme.public_size:
        raise Malformed(f"signature key of {len(public)} octets, expected {scheme.public_size}")
    try:
        lattice = scheme.read_mldsa(public[: scheme.mldsa_public])
        return lattice, Ed25519PublicKey.from_public_bytes(public[scheme.mldsa_public :])
    except ValueError as problem:
        raise Malformed("not a signature key") from problem


MLDSA65_ED25519 = Composite(
    label=b"COMPSIG-MLDSA65-Ed25519-SHA512",
    read_mldsa=MLDSA65PublicKey.from_public_bytes,
    mldsa_public=1952,
    mldsa_signature=3309,
)


def verify_composite(public: bytes, message: bytes, signature: bytes, context: bytes = b"") -> None:
    """Verify with suite 1's scheme, id-MLDSA65-Ed25519-SHA512."""
    MLDSA65_ED25519.verify(public, message, signature, context)
