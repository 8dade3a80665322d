"""Content encryption: C2SP chunked-encryption@v1, "Cobblestone-256".

The rules:
  - ciphertext = salt (24) || commitment (32) || chunks; key, base nonce and commitment come from
    HKDF-Expand-SHA-512(content key, label || 0x00 || salt || context);
  - chunk j is AES-256-GCM under base nonce XOR j; every chunk but the last holds 16384 octets of plaintext,
    the last holds fewer, if need be none: so an end cut off at a chunk's border shows too;
  - the commitment is compared before anything is decrypted: one ciphertext opens under one key only;
  - a content key is used for one part; opening names the first failure: truncated, commitment or chunk.

`cryptography` ships this construction, but picks the salt itself, which vectors must fix, and has one word
for every failure; the tests hold the two equal in both directions.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hmac import compare_digest
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from relay.protocol.errors import Unverified

KEY_SIZE: Final = 32
SALT_SIZE: Final = 24
COMMITMENT_SIZE: Final = 32
HEADER_SIZE: Final = SALT_SIZE + COMMITMENT_SIZE
TAG_SIZE: Final = 16
CHUNK_SIZE: Final = 16384
SEALED_CHUNK_SIZE: Final = CHUNK_SIZE + TAG_SIZE

_NONCE_SIZE: Final = 12
_LABEL: Final = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"


def seal_part(key: bytes, context: bytes, plaintext: bytes, salt: Callable[[int], bytes] = os.urandom) -> bytes:
    """Encrypt a part at once. `key` has 32 octets and is used for nothing else."""
    sealer = PartSealer(key, context, salt)
    return b"".join([sealer.header, *sealer.seal_chunks(memoryview(plaintext)), sealer.finish()])


def open_part(key: bytes, context: bytes, ciphertext: bytes) -> bytes:
    """Decrypt a part at once, wholly or not at all. Raises Unverified: truncated, commitment or chunk n."""
    opener = PartOpener(key, context)
    return b"".join([*opener.open_chunks(memoryview(ciphertext)), opener.finish()])


def plaintext_size(sealed: int) -> int:
    """The length of the plaintext of a ciphertext of so many octets."""
    chunks = sealed - HEADER_SIZE
    return chunks - TAG_SIZE * (chunks // SEALED_CHUNK_SIZE + 1)


class PartSealer:
    """Encrypt as it comes: `header` first, then what `update` returns, then what `finish` returns."""

    def __init__(self, key: bytes, context: bytes, salt: Callable[[int], bytes] = os.urandom) -> None:
        fresh = salt(SALT_SIZE)
        if len(key) != KEY_SIZE or len(fresh) != SALT_SIZE:
            raise ValueError("a content key has 32 octets, a salt 24")
        self._chunks, commitment = _derive(key, context, fresh)
        self.header = fresh + commitment
        self._rest = bytearray()

    def update(self, plaintext: bytes) -> bytes:
        return b"".join(self.seal_chunks(memoryview(plaintext)))

    def seal_chunks(self, plaintext: memoryview) -> list[bytes]:
        return [self._chunks.seal(chunk) for chunk in _cut(self._rest, plaintext, CHUNK_SIZE)]

    def finish(self) -> bytes:
        """The last chunk, always shorter than a full one."""
        return self._chunks.seal(self._rest)


class PartOpener:
    """Decrypt as it comes. What `update` returns is genuine; only `finish` says that nothing is missing."""

    def __init__(self, key: bytes, context: bytes) -> None:
        if len(key) != KEY_SIZE:
            raise Unverified(f"part: the content key has {len(key)} octets, not {KEY_SIZE}")
        self._key = key
        self._context = context
        self._chunks: _Chunks | None = None
        self._rest = bytearray()

    def update(self, ciphertext: bytes) -> bytes:
        return b"".join(self.open_chunks(memoryview(ciphertext)))

    def open_chunks(self, ciphertext: memoryview) -> list[bytes]:
        if self._chunks is None:
            missing = HEADER_SIZE - len(self._rest)
            self._rest += ciphertext[:missing]
            ciphertext = ciphertext[missing:]
            if len(self._rest) < HEADER_SIZE:
                return []
            self._chunks = self._read_header(bytes(self._rest))
            self._rest.clear()
        return [self._chunks.open(chunk) for chunk in _cut(self._rest, ciphertext, SEALED_CHUNK_SIZE)]

    def finish(self) -> bytes:
        """The last chunk's plaintext. Raises Unverified if the ciphertext stops before its end."""
        if self._chunks is None:
            raise Unverified(f"part: truncated in its header, after {len(self._rest)} octets")
        if len(self._rest) < TAG_SIZE:
            raise Unverified(f"part: truncated, chunk {self._chunks.count} is missing or shorter than a tag")
        return self._chunks.open(self._rest)

    def _read_header(self, header: bytes) -> _Chunks:
        chunks, commitment = _derive(self._key, self._context, header[:SALT_SIZE])
        if not compare_digest(commitment, header[SALT_SIZE:]):
            raise Unverified("part: commitment does not match, so another key, context or salt made it")
        return chunks


class _Chunks:
    """The AEAD with its counter."""

    def __init__(self, key: bytes, base_nonce: bytes) -> None:
        self._aead = AESGCM(key)
        self._base = int.from_bytes(base_nonce, "big")
        self.count = 0

    def _nonce(self) -> bytes:
        nonce = (self._base ^ self.count).to_bytes(_NONCE_SIZE, "big")
        self.count += 1
        return nonce

    def seal(self, plaintext: memoryview | bytearray) -> bytes:
        return self._aead.encrypt(self._nonce(), plaintext, None)

    def open(self, sealed: memoryview | bytearray) -> bytes:
        try:
            return self._aead.decrypt(self._nonce(), sealed, None)
        except InvalidTag as problem:
            raise Unverified(f"part: chunk {self.count - 1} is not genuine") from problem


def _derive(key: bytes, context: bytes, salt: bytes) -> tuple[_Chunks, bytes]:
    size = KEY_SIZE + _NONCE_SIZE + COMMITMENT_SIZE
    okm = HKDFExpand(SHA512(), size, _LABEL + salt + context).derive(key)
    return _Chunks(okm[:KEY_SIZE], okm[KEY_SIZE : KEY_SIZE + _NONCE_SIZE]), okm[KEY_SIZE + _NONCE_SIZE :]


def _cut(rest: bytearray, arriving: memoryview, size: int) -> list[memoryview | bytearray]:
    """The full pieces of rest and arriving together; what is left over stays in rest."""
    pieces: list[memoryview | bytearray] = []
    if rest:
        missing = size - len(rest)
        rest += arriving[:missing]
        arriving = arriving[missing:]
        if len(rest) < size:
            return pieces
        pieces.append(bytearray(rest))
        rest.clear()
    full = len(arriving) // size * size
    pieces.extend(arriving[at : at + size] for at in range(0, full, size))
    rest += arriving[full:]
    return pieces
