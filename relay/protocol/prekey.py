"""Key packages: what a sender seals to when the reader is not there.

A device makes its packages in batches and signs the batch, not each package: the signed batch lists the
references, and the batch's digest is an entry of the directory log. So a package is authentic if and only if
it hashes to a line of a logged batch, a stolen key cannot publish packages unseen, and a sender to 500 devices
checks 500 hashes instead of 500 signatures.

    KeyPackage = [1, device_id, kem_alg, kem_pub, not_before, not_after, one_time, serial]   ref = SHA-256
    KeyBatch   = Sign1(device; [1, device_id, created, [ref...]])                            digest = SHA-256(payload)
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from .canonical import encode, expect, expect_bytes, expect_time, expect_version, read_array
from .cose import Sign1
from .dating import CLOCKS_APART
from .errors import Malformed, Unverified
from .suite import suite_sealing_with

KEY_BATCH = "keybatch"
MAX_BATCH = 512
MAX_STOCK = 1024  # one-time key packages a device may hold at the relay
MAX_LIFE = 400 * 86400  # still to come


@dataclass(frozen=True, slots=True)
class KeyPackage:
    device_id: bytes
    kem_alg: int
    kem_public: bytes
    not_before: int
    not_after: int
    one_time: bool
    serial: int

    def encoded(self) -> bytes:
        return encode([
            1, self.device_id, self.kem_alg, self.kem_public, self.not_before, self.not_after, self.one_time,
            self.serial,
        ])  # fmt: skip

    @property
    def ref(self) -> bytes:
        return hashlib.sha256(self.encoded()).digest()

    def fault(self, now: int) -> str | None:
        """Why nobody is to seal to it at `now`, in seconds, or None. It is its device's fault: the device signed it."""
        if not self.not_before - CLOCKS_APART <= now < self.not_after:
            return "not valid now"
        if self.not_after > now + MAX_LIFE:
            return f"valid for more than {MAX_LIFE // 86400} days"
        return None if suite_sealing_with(self.kem_alg).is_kem_public(self.kem_public) else "not a key to seal to"


def parse_key_package(encoded: bytes) -> KeyPackage:
    """Read a key package. That it is authentic is for its batch to say."""
    version, device_id, alg, public, not_before, not_after, one_time, serial = read_array(encoded, 8, "key package")
    expect_version(version, "key package")
    return KeyPackage(
        device_id=expect_bytes(device_id, 16, "key package: device"),
        kem_alg=expect(alg, int, "key package: algorithm"),
        kem_public=expect_bytes(public, suite_sealing_with(alg).kem_public, "key package: key"),
        not_before=expect_time(not_before, "key package: not before"),
        not_after=expect_time(not_after, "key package: not after"),
        one_time=expect(one_time, bool, "key package: one-time"),
        serial=expect(serial, int, "key package: serial"),
    )


@dataclass(frozen=True, slots=True)
class KeyBatch:
    device_id: bytes
    created: int
    refs: tuple[bytes, ...]

    def payload(self) -> bytes:
        return encode([1, self.device_id, self.created, list(self.refs)])


def read_key_batch(signed: Sign1) -> KeyBatch:
    """The content of a batch whose signature the caller verifies with the device's key."""
    version, device_id, created, refs = read_array(signed.payload, 4, "key batch")
    expect_version(version, "key batch")
    if type(refs) is not list or not 0 < len(refs) <= MAX_BATCH:
        raise Malformed(f"key batch: expected 1 to {MAX_BATCH} packages")
    expect_bytes(device_id, 16, "key batch: device")
    if signed.kid[:16] != device_id:
        raise Unverified("key batch: signed by another device")
    if any(type(ref) is not bytes or len(ref) != 32 for ref in refs) or sorted(set(refs)) != refs:
        raise Malformed("key batch: references not in ascending order without duplicates")
    return KeyBatch(device_id=device_id, created=expect_time(created, "key batch: created"), refs=tuple(refs))


def batch_digest(signed: Sign1) -> bytes:
    return hashlib.sha256(signed.payload).digest()
