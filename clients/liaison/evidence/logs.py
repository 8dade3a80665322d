"""What of an evidence package its logs bear out: keys, checkpoints, entries under them, the directory they add up to.

A part of verifying a package (verify.py).
"""

from __future__ import annotations

from relay.protocol.canonical import expect, read_array
from relay.protocol.dating import Dating, Mark
from relay.protocol.directory import Device, Directory
from relay.protocol.errors import LiaisonError, Malformed, Unverified
from relay.protocol.merkle import leaf_hash, verify_inclusion
from relay.protocol.note import ED25519, MLDSA44, NoteVerifier, parse_vkey, signed_at, verify_note
from relay.protocol.tlog import Checkpoint, parse_checkpoint_body

from .package import RELAY_FILE, Package


def member(package: Package, name: str) -> bytes:
    if name not in package.members:
        raise Unverified(f"the package lacks {name}")
    return package.members[name]


def relay_keys_of(package: Package, given: list[str], assumed: list[str]) -> list[NoteVerifier]:
    *stated, last = member(package, RELAY_FILE).decode("ascii", "replace").split("\n")
    if last or not stated:
        raise Malformed("relay.txt: not one key a line")
    if given:
        if sorted(given) != sorted(stated):
            raise Unverified("the relay's keys in the package are not those that you trust")
    else:
        assumed.append("the relay's log keys")
    return [parse_vkey(line) for line in stated]


def _checkpoint(package: Package, log: str, vkeys: list[NoteVerifier]) -> Checkpoint:
    verifiers = [key for key in vkeys if key.name.rpartition("/")[2] == log]
    if sorted(key.type for key in verifiers) != sorted((ED25519, MLDSA44)):
        raise Unverified(f"not one Ed25519 and one ML-DSA-44 key of the relay's {log} log")
    checkpoint = parse_checkpoint_body(verify_note(member(package, f"{log}/checkpoint"), verifiers))
    if any(key.name != checkpoint.origin for key in verifiers):
        raise Unverified(f"{log}/checkpoint is of another log")
    return checkpoint


def logged(package: Package, log: str, vkeys: list[NoteVerifier]) -> tuple[list[tuple[int, bytes]], Dating]:
    """(index, entry) of a log's members, each included under its checkpoint, in the log's order; what dates them."""
    checkpoint, found = _checkpoint(package, log, vkeys), []
    timed = next(key for key in vkeys if (key.name, key.type) == (checkpoint.origin, MLDSA44))
    mark = Mark(checkpoint.size, signed_at(member(package, f"{log}/checkpoint"), timed))
    for name in sorted(name for name in package.members if name.startswith(f"{log}/") and name.endswith(".cbor")):
        entry, index, proof = read_array(package.members[name], 3, name)
        if name != f"{log}/{expect(index, int, name):010}.cbor":
            raise Unverified(f"{name}: is entry {index}")
        steps = tuple(expect(step, bytes, name) for step in expect(proof, list, name))
        try:
            verify_inclusion(leaf_hash(expect(entry, bytes, name)), index, checkpoint.size, steps, checkpoint.root)
        except LiaisonError as problem:
            raise Unverified(f"{name}: {problem}") from problem
        found.append((index, entry))
    return found, Dating([mark], log=log)


def directory_of(package: Package, vkeys: list[NoteVerifier]) -> Directory:
    directory = Directory()
    entries, dating = logged(package, "directory", vkeys)
    for index, entry in entries:
        try:
            dating.take(index, directory.apply(entry).time)
        except LiaisonError as problem:
            raise Unverified(f"directory entry {index} does not hold: {problem}") from problem
    if dating.misdated is not None:
        raise Unverified(dating.misdated)
    return directory


def check_authorities(directory: Directory, trusted: frozenset[bytes], assumed: list[str]) -> None:
    for statement in directory.statements.values():
        if not trusted:
            assumed.append(f"the authority key of {statement.office}")
        elif statement.kid not in trusted:
            raise Unverified(f"the authority of {statement.office} is none that you trust")


def signer_at(directory: Directory, device_id: bytes, at: int, what: str) -> Device:
    """The device, as it was then. Raises Unverified if it was not certified, or revoked, at that time."""
    device = directory.devices.get(device_id)
    if device is None or device.certificate is None or not device.not_before <= at < device.not_after:
        raise Unverified(f"{what}: signed by a device that was not certified at that time")
    revocation = directory.revoked.get(device_id)
    if revocation is not None and revocation.at <= at:
        raise Unverified(f"{what}: signed by a device that was revoked at that time")
    return device
