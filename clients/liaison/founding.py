"""Making profiles: an office authority's, with its statement, and a device's, with its request to be enrolled.

Keys are made here and do not leave the profile; what the answer holds is public.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.protocol.errors import Malformed
from relay.protocol.identity import REQUEST, STATEMENT, EnrolmentRequest, Statement

from .keys import SigningKey
from .profile import AUTHORITY, DEVICE, Pins, create_profile


def found_authority(
    folder: Path, office: str, nation: str, relay_url: str, relay_keys: Sequence[str], passphrase: str
) -> bytes:
    """Make an authority's profile; the answer is its self-signed statement. Raises Conflict if there is one."""
    signing, request = SigningKey.generate(), Ed25519PrivateKey.generate()
    statement = Statement(
        office=office,
        nation=nation,
        suite=signing.suite.number,
        authority_public=signing.public,
        request_public=request.public_key().public_bytes_raw(),
        created=int(time.time()),
        relay_keys=tuple(sorted(relay_keys)),
    )
    signed = signing.sign_object(STATEMENT, statement.payload())
    pins = Pins(AUTHORITY, f"authority@{office}", relay_url, signed, tuple(sorted(relay_keys)))
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

    `statement` is both as signed and as read. Raises Malformed for another office's address, Conflict if `folder` has a
    profile.
    """
    signed_statement, stated = statement
    if not address.endswith(f"@{stated.office}"):
        raise Malformed(
            f"{address} is not an address of {stated.office}", hint="the statement must be your own office's"
        )
    signing, request = SigningKey.generate(), Ed25519PrivateKey.generate()
    wanted = EnrolmentRequest(
        address=address,
        suite=signing.suite.number,
        signature_public=signing.public,
        request_public=request.public_key().public_bytes_raw(),
        authority_kid=stated.kid,
        created=int(time.time()),
    )
    pins = Pins(DEVICE, address, relay_url, signed_statement, tuple(sorted(relay_keys)))
    create_profile(folder, pins, signing, request, passphrase)
    return signing.sign_object(REQUEST, wanted.payload())
