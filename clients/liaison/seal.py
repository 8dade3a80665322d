"""Sealing and unsealing: the only file where plaintext and private keys meet.

Sealing: one fresh key per portion, each portion sealed once; per device one slot with the keys of the portions
it was granted and no others; the slots' root and the header signed together.
Unsealing: the steps of SPEC.md, "The reader opens", that need keys, in their order.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PublicKey
from cryptography.hazmat.primitives.hpke import Suite as Hpke

from relay.protocol.envelope import (
    MESSAGE,
    Message,
    Slot,
    Submission,
    format_slot,
    message_payload,
    part_context,
    slot_info,
    wrap_header,
)
from relay.protocol.errors import Malformed, Unverified
from relay.protocol.header import Core, Portion
from relay.protocol.merkle import leaf_hash, root_of
from relay.protocol.parts import part_digest
from relay.protocol.prekey import KeyPackage

from .cobblestone import open_part, seal_part
from .keys import SigningKey, kem_private_key
from .meter import Advance
from .portions import PortionContent, pack, unpack

_HPKE = Hpke(KEM.MLKEM768_X25519, KDF.SHAKE256, AEAD.AES_256_GCM)  # suite 1


@dataclass(frozen=True, slots=True)
class Reader:
    """A device to seal to: its identity, the key package claimed for it, the portions it is granted."""

    device_id: bytes
    kid: bytes
    package: KeyPackage
    granted: tuple[int, ...]


def fresh_keys(count: int) -> list[bytes]:
    """One new content key per portion."""
    return [os.urandom(32) for _ in range(count)]


def seal(
    core: Core,
    portions: Sequence[PortionContent],
    readers: Sequence[Reader],
    key: SigningKey,
    content_keys: Sequence[bytes] | None = None,
    apart: Mapping[int, Portion] = MappingProxyType({}),
    advance: Advance = lambda _slots: None,
) -> Submission:
    """Seal and sign. `core` comes without portions; lengths and digests are filled in here.

    `content_keys` are given only where somebody beside the readers must check the sealed parts: by a drafter,
    for the releasing officers. The portions `apart` were sealed before, with their content keys, each to a file.
    `advance` is told of every slot.
    """
    content_keys = fresh_keys(len(portions)) if content_keys is None else content_keys
    parts = tuple(
        None
        if index in apart
        else seal_part(content_key, part_context(core.message_id, core.sender_kid, index), pack(portion))
        for index, (content_key, portion) in enumerate(zip(content_keys, portions, strict=True))
    )
    sealed = tuple(
        apart[index] if part is None else Portion(len(part), part_digest(part), portion.label)
        for index, (part, portion) in enumerate(zip(parts, portions, strict=True))
    )
    core = replace(core, portions=sealed)
    encoded = core.encoded()
    digest = hashlib.sha256(encoded).digest()
    ordered = sorted(readers, key=lambda reader: reader.device_id)
    slots = []
    for reader in ordered:
        slots.append(seal_slot(core, digest, reader, content_keys))
        advance(1)
    payload = message_payload(encoded, len(slots), root_of(leaf_hash(slot) for slot in slots))
    return Submission(key.sign_object(MESSAGE, payload), tuple(slots), parts)


def seal_slot(core: Core, core_digest: bytes, reader: Reader, content_keys: Sequence[bytes]) -> bytes:
    """The slot of one device: the keys of its granted portions, in their order, under its key package."""
    ref = reader.package.ref
    protected = wrap_header(core.suite, ref)
    info = slot_info(core, core_digest, reader.device_id, reader.kid, reader.granted, protected)
    granted = b"".join(content_keys[index] for index in reader.granted)
    sealed = _HPKE.encrypt(granted, _public_key(reader.package.kem_public), info)
    return format_slot(reader.device_id, ref, reader.granted, protected, sealed, core.suite)


def unseal_slot(message: Message, slot: Slot, seed: bytes, own_kid: bytes) -> dict[int, bytes]:
    """The content keys of the granted portions, by portion. Raises Unverified if the slot is not ours to open."""
    core = message.core
    info = slot_info(core, message.core_digest, slot.device_id, own_kid, slot.granted, slot.protected)
    try:
        keys = _HPKE.decrypt(slot.enc + slot.wrapped, kem_private_key(seed), info)
    except (InvalidTag, ValueError):
        raise Unverified("slot: it does not open; it was sealed for another message, sender or device") from None
    return {index: keys[32 * place : 32 * place + 32] for place, index in enumerate(slot.granted)}


def unseal_part(core: Core, index: int, content_key: bytes, sealed: bytes) -> PortionContent:
    """A portion in the clear: digest, commitment, chunks, inner label, in this order. Raises Unverified, Malformed."""
    portion = core.portions[index]
    if len(sealed) != portion.length or part_digest(sealed) != portion.digest:
        raise Unverified(f"part {index}: not the one that was signed")
    plaintext = open_part(content_key, part_context(core.message_id, core.sender_kid, index), sealed)
    content = unpack(plaintext)
    if content.label != portion.label:
        raise Unverified(f"part {index}: the label inside is not the label outside")
    return content


def _public_key(raw: bytes) -> MLKEM768X25519PublicKey:
    try:
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(raw[:1184]), X25519PublicKey.from_public_bytes(raw[1184:])
        )
    except ValueError as problem:
        raise Malformed("key package: not a public key") from problem
