"""What is a public key of suite 1's key encapsulation, MLKEM768-X25519. Nothing here takes a private one."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey

_LATTICE = 1184  # octets of the ML-KEM half, which comes first
_PRIME = 2**255 - 19
# Of small order: with these X25519 gives every private key the same secret, zeros (RFC 7748, section 6.1).
_WEAK = (
    0,
    1,
    _PRIME - 1,
    0x00B8495F16056286FDB1329CEB8D09DA6AC49FF1FAE35616AEB8413B7C7AEBE0,
    0x57119FD0DD4E22D8868E1C58C45C44045BEF839C55B1D0B1248C50A3BC959C5F,
)


def is_mlkem768_x25519(public: bytes) -> bool:
    """Whether something can be sealed to it: its lattice half is a key, its curve half gives a secret."""
    try:
        MLKEM768PublicKey.from_public_bytes(public[:_LATTICE])
    except ValueError:
        return False
    u = int.from_bytes(public[_LATTICE:], "little") & (1 << 255) - 1  # as X25519 reads it
    return u % _PRIME not in _WEAK
