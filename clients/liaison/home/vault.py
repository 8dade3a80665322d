"""The one secrets file of a profile: the long-term private keys and the state key, under a passphrase.

    file    = [bstr body, SHA-256(body)]
    body    = {1: bstr header, 2: nonce12, 3: wrapped state key, 4: nonce12, 5: sealed secrets}
    header  = ["liaison-vault/1", "argon2id", memory KiB, iterations, lanes, salt16]
    wrapped = AES-256-GCM(argon2id(passphrase), state_key,           header)
    sealed  = AES-256-GCM(HKDF(state_key),      [[name, secret] ...], header)

The digest is no protection, only a diagnosis: it tells a damaged file from a wrong passphrase. A changed
passphrase keeps the state key, so it does not shut out who holds the old file and the old passphrase.
Python cannot wipe memory: secrets stay in the process until it ends.
"""

from __future__ import annotations

import hashlib
import os
import threading
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from relay.protocol import canonical
from relay.protocol.errors import Conflict, Malformed, TooLarge, Unauthenticated, Unverified

from .private_file import create_private, folder_lock, read_private, replace_private

FORMAT = "liaison-vault/1"
MAX_FILE = 1 << 20

# The lanes of one derivation share OpenSSL's thread pool with those of another, and two at once wait for ever.
_ONE_AT_A_TIME = threading.Lock()


class Cost(NamedTuple):
    memory_kib: int
    iterations: int
    lanes: int


# RFC 9106 section 4, second recommended option. Nothing weaker was ever written, so nothing weaker is read;
# the ceiling keeps a planted file from taking the machine.
COST = Cost(64 * 1024, 3, 4)
MAX_COST = Cost(1024 * 1024, 16, 16)


class Lock(NamedTuple):
    """What the passphrase opens: the header with its cost and salt, and the state key wrapped under both."""

    header: bytes
    nonce: bytes
    wrapped: bytes


@dataclass(slots=True, repr=False)  # a representation would put secrets into tracebacks
class Vault:
    """An open secrets file. Change `secrets`, then `store()`; nothing is written before."""

    path: Path
    state_key: bytes
    secrets: dict[str, bytes]
    lock: Lock
    digest: bytes  # of the file as this process last read or wrote it

    def store(self) -> None:
        """Replace the file. Raises Conflict if another process has changed it since it was opened here."""
        self._replace(self.lock)

    def change_passphrase(self, passphrase: str) -> None:
        """Lock with another passphrase and store; the state key, and all that hangs on it, stays."""
        self._replace(_lock(self.state_key, passphrase))

    def _replace(self, lock: Lock) -> None:
        content = _format(self.state_key, self.secrets, lock)
        with folder_lock(self.path.parent):
            if _parse_file(read_private(self.path, MAX_FILE, "vault"))[1] != self.digest:
                raise Conflict(f"vault: another process has changed {self.path}", hint="run the command again")
            replace_private(self.path, content, "vault")
        self.lock, self.digest = lock, _parse_file(content)[1]


def create_vault(path: Path, passphrase: str, secrets: dict[str, bytes]) -> Vault:
    """Make a vault with a new random state key. Raises Conflict if `path` is taken."""
    state_key = os.urandom(32)
    lock = _lock(state_key, passphrase)
    content = _format(state_key, secrets, lock)
    create_private(path, content, "vault")
    return Vault(path, state_key, dict(secrets), lock, _parse_file(content)[1])


def open_vault(path: Path, passphrase: str) -> Vault:
    """Read and unlock.

    Raises Unauthenticated (no file, open to others, wrong passphrase), Malformed (damaged, or not a vault),
    Unverified (unlocked, but the secrets are not those that were sealed).
    """
    body, digest = _parse_file(read_private(path, MAX_FILE, "vault"))
    fields = canonical.read_map(body, frozenset({1, 2, 3, 4, 5}), frozenset(), "vault body")
    lock = Lock(
        canonical.expect(fields[1], bytes, "vault header"),
        canonical.expect_bytes(fields[2], 12, "vault key nonce"),
        canonical.expect_bytes(fields[3], 48, "vault wrapped key"),
    )
    nonce = canonical.expect_bytes(fields[4], 12, "vault secrets nonce")
    sealed = canonical.expect(fields[5], bytes, "vault secrets")
    key = _stretch(passphrase, *_parse_header(lock.header))
    try:
        state_key = AESGCM(key).decrypt(lock.nonce, lock.wrapped, lock.header)
    except InvalidTag:
        hint = "try again; it cannot be recovered, only replaced by enrolling a new device"
        raise Unauthenticated(f"vault: wrong passphrase for {path}", hint=hint) from None
    try:
        listed = AESGCM(_secrets_key(state_key)).decrypt(nonce, sealed, lock.header)
    except InvalidTag:
        raise Unverified(f"vault secrets: {path} was altered", hint="restore the profile from a backup") from None
    return Vault(path, state_key, _parse_secrets(listed), lock, digest)


def _lock(state_key: bytes, passphrase: str) -> Lock:
    salt, nonce = os.urandom(16), os.urandom(12)
    header = canonical.encode([FORMAT, "argon2id", *COST, salt])
    return Lock(header, nonce, AESGCM(_stretch(passphrase, COST, salt)).encrypt(nonce, state_key, header))


def _format(state_key: bytes, secrets: dict[str, bytes], lock: Lock) -> bytes:
    nonce = os.urandom(12)
    listed = canonical.encode([[name, secrets[name]] for name in sorted(secrets)])
    sealed = AESGCM(_secrets_key(state_key)).encrypt(nonce, listed, lock.header)
    body = canonical.encode({1: lock.header, 2: lock.nonce, 3: lock.wrapped, 4: nonce, 5: sealed})
    content = canonical.encode([body, hashlib.sha256(body).digest()])
    if len(content) > MAX_FILE:  # what could not be read back is not written
        raise TooLarge(f"vault: the secrets are longer than {MAX_FILE} octets")
    return content


def _parse_file(content: bytes) -> tuple[bytes, bytes]:
    body, digest = canonical.read_array(content, 2, "vault file")
    canonical.expect(body, bytes, "vault body")
    if hashlib.sha256(body).digest() != digest:
        raise Malformed("vault file: damaged, the digest does not match", hint="restore the profile from a backup")
    return body, digest


def _parse_header(header: bytes) -> tuple[Cost, bytes]:
    name, stretch, *numbers, salt = canonical.read_array(header, 6, "vault header")
    if (name, stretch) != (FORMAT, "argon2id"):
        raise Malformed("vault header: another format", hint="a newer program may have written it")
    for label, number, low, high in zip(Cost._fields, numbers, COST, MAX_COST, strict=True):
        if not low <= canonical.expect(number, int, f"vault header {label}") <= high:
            raise Malformed(f"vault header: {label} {number} is outside {low}..{high}")
    return Cost(*numbers), canonical.expect_bytes(salt, 16, "vault header salt")


def _parse_secrets(listed: bytes) -> dict[str, bytes]:
    secrets: dict[str, bytes] = {}
    for entry in canonical.expect(canonical.decode(listed, "vault secrets"), list, "vault secrets"):
        if type(entry) is not list or [type(item) for item in entry] != [str, bytes] or entry[0] in secrets:
            raise Malformed("vault secrets: expected distinct pairs of name and octets")
        secrets[entry[0]] = entry[1]
    return secrets


def _stretch(passphrase: str, cost: Cost, salt: bytes) -> bytes:
    # The same passphrase typed on two systems can arrive composed or decomposed (RFC 8265 section 4.2.2).
    octets = unicodedata.normalize("NFC", passphrase).encode()
    if not octets:
        raise Unauthenticated("vault: the passphrase is empty")
    argon = Argon2id(salt=salt, length=32, iterations=cost.iterations, lanes=cost.lanes, memory_cost=cost.memory_kib)
    with _ONE_AT_A_TIME:
        return argon.derive(octets)


def _secrets_key(state_key: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=b"liaison-vault/1 secrets").derive(state_key)
