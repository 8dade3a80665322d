"""Private keys: making them, signing with them. One row per suite, beside the rows of `relay.protocol.suite`.

A composite key is two 32-octet seeds, lattice half first; a KEM key is one seed, expanded as X-Wing does.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey

from relay.protocol.cose import format_sign1, protected_header, thumbprint, to_be_signed
from relay.protocol.prekey import KeyPackage
from relay.protocol.suite import SUITE_1, Suite


@dataclass(frozen=True, slots=True, repr=False)
class SigningKey:
    """A composite signing key. Its halves are never handed out."""

    suite: Suite
    seeds: bytes
    _lattice: MLDSA65PrivateKey
    _curve: Ed25519PrivateKey

    @classmethod
    def generate(cls) -> SigningKey:
        return cls.from_seeds(os.urandom(64))

    @classmethod
    def from_seeds(cls, seeds: bytes) -> SigningKey:
        lattice = MLDSA65PrivateKey.from_seed_bytes(seeds[:32])
        return cls(SUITE_1, seeds, lattice, Ed25519PrivateKey.from_private_bytes(seeds[32:]))

    @property
    def public(self) -> bytes:
        return self._lattice.public_key().public_bytes_raw() + self._curve.public_key().public_bytes_raw()

    @property
    def kid(self) -> bytes:
        return thumbprint(self.suite.signature_alg, self.public)

    @property
    def device_id(self) -> bytes:
        return self.kid[:16]

    def sign(self, message: bytes) -> bytes:
        """Both halves' signatures over the scheme's representative of `message`."""
        scheme = self.suite.signature
        representative = scheme.representative(message)
        return self._lattice.sign(representative, scheme.label) + self._curve.sign(representative)

    def sign_object(self, typ: str, payload: bytes) -> bytes:
        """A COSE_Sign1 of this type over `payload`."""
        protected = protected_header(self.suite.signature_alg, self.kid, typ)
        return format_sign1(protected, payload, self.sign(to_be_signed(protected, payload)))


def kem_private_key(seed: bytes) -> MLKEM768X25519PrivateKey:
    """The X-Wing private key of a 32-octet seed: SHAKE256(seed, 96) (draft-connolly-cfrg-xwing-kem)."""
    expanded = hashlib.shake_256(seed).digest(96)
    return MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])
    )


def kem_public_bytes(seed: bytes) -> bytes:
    """The public key of a seed: ML-KEM-768 encapsulation key, then X25519 public key."""
    expanded = hashlib.shake_256(seed).digest(96)
    lattice = MLKEM768PrivateKey.from_seed_bytes(expanded[:64]).public_key().public_bytes_raw()
    return lattice + X25519PrivateKey.from_private_bytes(expanded[64:]).public_key().public_bytes_raw()


def make_key_package(
    device_id: bytes, serial: int, now: int, lifetime: int, *, one_time: bool
) -> tuple[bytes, KeyPackage]:
    """A fresh seed and the package that publishes its public key; times in seconds."""
    seed = os.urandom(32)
    package = KeyPackage(
        device_id=device_id,
        kem_alg=SUITE_1.kem_alg,
        kem_public=kem_public_bytes(seed),
        not_before=now,
        not_after=now + lifetime,
        one_time=one_time,
        serial=serial,
    )
    return seed, package
