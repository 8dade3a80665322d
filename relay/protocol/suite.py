"""The table of suites. A second suite is a second row here and in `liaison.keys`, not a second code path.

The algorithm identifiers are COSE private-use integers (below -65536): the registrations that the drafts ask
for are not assigned yet, and a thumbprint that changes with a registry would be no name for a key. The suite
is inside every signature (protected header), every thumbprint and every key derivation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .errors import Malformed
from .kem import is_mlkem768_x25519
from .signature import MLDSA65_ED25519, Composite


@dataclass(frozen=True, slots=True)
class Suite:
    number: int
    signature_alg: int
    signature: Composite
    kem_alg: int
    kem_public: int  # octets
    is_kem_public: Callable[[bytes], bool]
    kem_ciphertext: int  # octets of `enc`
    content_alg: str


SUITE_1 = Suite(
    number=1,
    signature_alg=-70001,  # id-MLDSA65-Ed25519-SHA512
    signature=MLDSA65_ED25519,
    kem_alg=-70011,  # HPKE base mode, MLKEM768-X25519, SHAKE256, AES-256-GCM ("HPKE-9-KE")
    kem_public=1216,
    is_kem_public=is_mlkem768_x25519,
    kem_ciphertext=1120,
    content_alg="Cobblestone-256",
)

SUITES = {suite.number: suite for suite in (SUITE_1,)}
_BY_SIGNATURE = {suite.signature_alg: suite for suite in SUITES.values()}
_BY_KEM = {suite.kem_alg: suite for suite in SUITES.values()}


def suite_numbered(number: int) -> Suite:
    return _row(SUITES, number, "suite")


def suite_signing_with(alg: int) -> Suite:
    return _row(_BY_SIGNATURE, alg, "signature algorithm")


def suite_sealing_with(alg: int) -> Suite:
    return _row(_BY_KEM, alg, "key encapsulation algorithm")


def _row(table: dict[int, Suite], key: int, what: str) -> Suite:
    if type(key) is not int or key not in table:  # True equals 1, and is no number
        raise Malformed(f"{what} {key!r:.40} is unknown")
    return table[key]
