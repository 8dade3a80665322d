"""What somebody claims to have signed, taken apart: whether it holds can be asked anywhere, and of many at once."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, NamedTuple, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from .errors import LiaisonError
from .suite import suite_signing_with

ED25519: Final = -19  # fully specified, RFC 9864; of requests, which no suite signs

T = TypeVar("T")


class Claim(NamedTuple):
    """That the holder of `public` signed `message`, under a COSE algorithm: a suite's, or ED25519."""

    alg: int
    public: bytes
    message: bytes
    signature: bytes

    def fault(self) -> str | None:
        """Why the claim does not hold, or None if it does."""
        try:
            if self.alg == ED25519:
                Ed25519PublicKey.from_public_bytes(self.public).verify(self.signature, self.message)
            else:
                suite_signing_with(self.alg).signature.verify(self.public, self.message, self.signature)
        except (InvalidSignature, ValueError):
            return "the signature does not verify"
        except LiaisonError as problem:
            return str(problem)
        return None


# A check that hands out each claim that it depends on, goes on with that claim's fault, and returns what it has made
# of it all. It reads as if it verified in place; who runs it decides where, and together with which others.
Checking = Generator[Claim, str | None, T]


def settle(checking: Checking[T]) -> T:
    """Run a check to its end here, claim by claim; raises what it raises."""
    fault = None
    while True:
        try:
            claim = checking.send(fault)
        except StopIteration as end:
            made: T = end.value
            return made
        fault = claim.fault()
