"""A profile: the folder with one device's, or one authority's, keys and state.

    profile.json    whose it is and which relay; no secret, only there to be read before the passphrase
    vault           the private keys and the pins, under the passphrase
    cabinet.sqlite  messages, one-time keys, the logs as verified so far, encrypted
    documents/      policy files by digest
    parts/          large parts, sealed; their content keys are in the cabinet
    gateway.secret  what callers of `liaison gateway` have to show
    unsent-*/       what a person wrote in an editor and has not sent: in clear, and the person's to remove

What is pinned (own authority, relay keys, relay address) is read from the vault, where nobody can edit it.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from platformdirs import user_data_path

from liaison.keys import SigningKey
from relay.protocol.canonical import encode, read_array
from relay.protocol.errors import Conflict, Malformed, Unauthenticated
from relay.protocol.identity import Statement, parse_statement

from .cabinet import Cabinet, create_cabinet
from .private_file import folder_lock, read_private, remove_beside, replace_private, sync_folder
from .vault import Vault, create_vault, open_vault

DEVICE, AUTHORITY = "device", "authority"
_FILES = ("profile.json", "vault", "cabinet.sqlite")
_BEGUN = "profile.json.begun"  # made before the others and renamed after them: while it is there, they are none


def home_folder() -> Path:
    """`LIAISON_HOME`, or the platform's place for it."""
    given = os.environ.get("LIAISON_HOME")
    return Path(given) if given else Path(user_data_path("liaison"))


@dataclass(frozen=True, slots=True)
class Pins:
    """What this profile was told once and holds everyone to."""

    kind: str
    address: str  # `authority@office` for an authority
    relay_url: str
    statement: bytes  # of the own office's authority
    relay_keys: tuple[str, ...]

    def encoded(self) -> bytes:
        return encode([self.kind, self.address, self.relay_url, self.statement, list(self.relay_keys)])


@dataclass(slots=True, repr=False)
class Profile:
    """An open profile."""

    folder: Path
    vault: Vault
    pins: Pins
    statement: Statement
    signing: SigningKey
    request: Ed25519PrivateKey
    cabinet: Cabinet

    @property
    def keyid(self) -> str:
        """Under which this profile's requests are signed."""
        return self.signing.device_id.hex()

    def close(self) -> None:
        self.cabinet.close()


def has_profile(folder: Path) -> bool:
    """Whether there is one, made to its end."""
    return (folder / "profile.json").exists()


def taken(folder: Path) -> Conflict:
    """What to raise where another profile is in the way."""
    return Conflict(f"there is a profile in {folder} already", hint="set LIAISON_HOME to another folder")


def create_profile(folder: Path, pins: Pins, signing: SigningKey, request: Ed25519PrivateKey, passphrase: str) -> None:
    """Make a new profile in `folder`, in the place of one whose making was cut off. Raises Conflict if there is one."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    with folder_lock(folder):
        _clear_begun(folder)
        if any((folder / name).exists() for name in _FILES):
            raise taken(folder)
        public = {"v": 1, "kind": pins.kind, "address": pins.address, "relay": pins.relay_url}
        begun = folder / _BEGUN
        replace_private(begun, json.dumps(public, indent=2).encode() + b"\n", "profile")
        secrets = {
            "signing": signing.seeds,
            "request": request.private_bytes_raw(),
            "pins": pins.encoded(),
        }
        vault = create_vault(folder / "vault", passphrase, secrets)
        create_cabinet(folder / "cabinet.sqlite", vault.state_key)
        (folder / "documents").mkdir(mode=0o700, exist_ok=True)
        begun.rename(folder / "profile.json")
        sync_folder(folder)


def _clear_begun(folder: Path) -> None:
    """Remove what a process left that was killed in `create_profile`: without its end, nobody has used those keys."""
    if has_profile(folder):
        return
    for name in (*_FILES, _BEGUN):
        remove_beside(folder / name)
        if (folder / _BEGUN).exists():
            (folder / name).unlink(missing_ok=True)


def read_public(folder: Path) -> dict[str, str]:
    """What profile.json says. Raises Unauthenticated where there is no profile, Malformed for a damaged one."""
    path = folder / "profile.json"
    if not has_profile(folder):
        raise Unauthenticated(
            f"there is no profile in {folder}",
            hint="make one with: liaison init ADDRESS --relay URL --authority FILE",
        )
    try:
        found = json.loads(read_private(path, 1 << 16, "profile"))
        return {name: str(found[name]) for name in ("kind", "address", "relay")}
    except (ValueError, KeyError, TypeError):
        raise Malformed(f"profile: {path} is damaged", hint="restore the profile from a backup") from None


def open_profile(folder: Path, passphrase: str) -> Profile:
    """Unlock a profile. Raises Unauthenticated for a wrong passphrase or no profile."""
    read_public(folder)
    vault = open_vault(folder / "vault", passphrase)
    kind, address, relay_url, statement, relay_keys = read_array(vault.secrets["pins"], 5, "pins")
    return Profile(
        folder=folder,
        vault=vault,
        pins=Pins(kind, address, relay_url, statement, tuple(relay_keys)),
        statement=parse_statement(statement),
        signing=SigningKey.from_seeds(vault.secrets["signing"]),
        request=Ed25519PrivateKey.from_private_bytes(vault.secrets["request"]),
        cabinet=Cabinet(folder / "cabinet.sqlite", vault.state_key),
    )
