"""Making profiles: an office authority's, with its statement, and a device's, with its request to be enrolled.

Keys are made here and do not leave the profile; what the answer holds is public. Who asks again, in the same words and
with the same passphrase, gets it again from the profile that is there: what was to hold it may have been full.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from liaison.keys import SigningKey
from relay.protocol.errors import Malformed
from relay.protocol.identity import REQUEST, STATEMENT, EnrolmentRequest, Statement

from .profile import AUTHORITY, DEVICE, Pins, Profile, create_profile, has_profile, open_profile, read_public, taken


def found_authority(
    folder: Path, office: str, nation: str, relay_url: str, relay_keys: Sequence[str], passphrase: str
) -> bytes:
    """Make an authority's profile; the answer is its self-signed statement. Raises Conflict if there is another."""
    address, keys = f"authority@{office}", tuple(sorted(relay_keys))
    if (made := _made_before(folder, AUTHORITY, address, relay_url, passphrase)) is not None:
        if (made.statement.nation, made.statement.relay_keys) != (nation, keys):
            raise taken(folder)
        return made.pins.statement
    signing, request = SigningKey.generate(), Ed25519PrivateKey.generate()
    statement = Statement(
        office=office,
        nation=nation,
        suite=signing.suite.number,
        authority_public=signing.public,
        request_public=request.public_key().public_bytes_raw(),
        created=int(time.time()),
        relay_keys=keys,
    )
    signed = signing.sign_object(STATEMENT, statement.payload())
    pins = Pins(AUTHORITY, address, relay_url, signed, keys)
    create_profile(folder, pins, signing, request, passphrase)
    return signed


def found_device(
    folder: Path,
    address: str,
    relay_url: str,
    relay_keys: Sequence[str],
    statement: tuple[bytes, Statement],
    passphrase: str,
) -> bytes:
    """Make a device's profile; the answer is its signed enrolment request, for the authority of `statement`.

    `statement` is both as signed and as read. Raises Malformed for another office's address, Conflict if `folder` has
    another profile.
    """
    signed_statement, stated = statement
    if not address.endswith(f"@{stated.office}"):
        raise Malformed(
            f"{address} is not an address of {stated.office}", hint="the statement must be your own office's"
        )
    pins = Pins(DEVICE, address, relay_url, signed_statement, tuple(sorted(relay_keys)))
    if (made := _made_before(folder, DEVICE, address, relay_url, passphrase)) is None:
        signing, request = SigningKey.generate(), Ed25519PrivateKey.generate()
        create_profile(folder, pins, signing, request, passphrase)
    elif made.pins == pins:
        signing, request = made.signing, made.request
    else:
        raise taken(folder)
    wanted = EnrolmentRequest(
        address=address,
        suite=signing.suite.number,
        signature_public=signing.public,
        request_public=request.public_key().public_bytes_raw(),
        authority_kid=stated.kid,
        created=int(time.time()),
    )
    return signing.sign_object(REQUEST, wanted.payload())


def _made_before(folder: Path, kind: str, address: str, relay_url: str, passphrase: str) -> Profile | None:
    """The profile of these in `folder`, closed, or None if there is none. Raises Conflict if there is another."""
    if not has_profile(folder):
        return None
    if read_public(folder) != {"kind": kind, "address": address, "relay": relay_url}:
        raise taken(folder)
    with closing(open_profile(folder, passphrase)) as made:
        return made
