"""Who is calling: a signed request, by a device that may act now, once.

A nonce is remembered until its request is stale. Requests created before this process started are refused, and those
that came early, by a clock that is ahead of ours, are in the database (door.py): so the memory of used nonces is
complete although it is only memory. A client signs again and goes on.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from relay.protocol.claim import Checking
from relay.protocol.directory import Device, Directory
from relay.protocol.entry import AccessEntry, Event
from relay.protocol.errors import Malformed, Refused, Unauthenticated, Unavailable
from relay.protocol.header import Precedence
from relay.protocol.httpsig import check_request, parse_signature
from relay.protocol.identity import Kind

_MAIL = frozenset({Kind.OFFICER, Kind.SYSTEM})
_DEVICE_ID = re.compile(r"[0-9a-f]{32}")


class UnknownDevice(Unauthenticated):
    """Nobody of that name may act, as far as this process has read."""


@dataclass(frozen=True, slots=True)
class Request:
    """What of an HTTP request is signed, already taken apart."""

    method: str
    authority: str
    target_uri: str
    body: bytes
    content_type: str | None
    content_digest: str | None
    signature_input: str | None
    signature: str | None
    follows: bool = False  # the body comes after this, and whoever takes it verifies it


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated device, the nonce that names this request, and the SHA-256 of what it sent."""

    device: Device
    nonce: bytes
    created: int = 0
    expires: int = 0
    digest: bytes = b""
    early: bool = False  # signed in a second that has not begun here


class Doorkeeper:
    """Authenticates requests; remembers nonces. Safe to call from any thread."""

    def __init__(self, started: int, used: Mapping[tuple[bytes, bytes], int] = MappingProxyType({})) -> None:
        self._started = started
        self._used = dict(used)
        self._sweep_at = started
        self._lock = threading.Lock()

    def authenticate(self, request: Request, directory: Directory, now: int) -> Checking[Caller]:
        """The caller, or Unauthenticated saying why not. `now` in seconds."""
        caller = yield from recognise(request, directory, now)
        self._use(caller, now)
        return caller

    def _use(self, caller: Caller, now: int) -> None:
        if caller.created < self._started:
            raise Unavailable("the request was signed before this relay started", hint="sign it again")
        with self._lock:
            if now >= self._sweep_at:
                self._used = {key: expires for key, expires in self._used.items() if expires > now - 60}
                self._sweep_at = now + 60
            key = (caller.device.device_id, caller.nonce)
            if key in self._used:
                raise Unauthenticated("the request's nonce was used before", hint="sign it again with a new nonce")
            self._used[key] = caller.expires


def recognise(request: Request, directory: Directory, now: int) -> Checking[Caller]:
    """Who signed this request; whether its nonce was used before is not asked. Raises Unauthenticated."""
    signature = parse_signature(request.signature_input, request.signature)
    device = _known_device(signature.keyid, directory, now)
    digest = yield from check_request(
        device.request_public,
        signature,
        request.method,
        request.authority,
        request.target_uri,
        request.body or None,
        request.content_type,
        request.content_digest,
        now,
        follows=request.follows,
    )
    return Caller(device, signature.nonce, signature.created, signature.expires, digest, signature.created > now)


def _known_device(keyid: str, directory: Directory, now: int) -> Device:
    if not _DEVICE_ID.fullmatch(keyid):
        raise Unauthenticated("request signature: keyid is not a device's id, 32 hexadecimal digits in lower case")
    device = directory.device(bytes.fromhex(keyid), now)
    if device is None:
        raise UnknownDevice(
            "this device is not enrolled, no longer valid, or revoked",
            hint="ask your security officer whether the enrolment request was signed",
        )
    return device


def require_mailbox(caller: Caller) -> None:
    """Raise Refused unless the caller is of a kind that sends and receives."""
    if caller.device.kind not in _MAIL:
        raise Refused(f"a device of kind {caller.device.kind} has no mailbox", rules=("kind",))


def refuse_overstated(claimed: Precedence, precedence: Precedence) -> None:
    """Raise Malformed for a place in line that was claimed above what the message has for the caller."""
    if claimed > precedence:
        raise Malformed(f"asked for as {claimed.name}, but the message is {precedence.name}")


def current(directory: Directory, device_id: bytes, now: int) -> Device:
    """The device as of now: a revocation may have been committed since its request was authenticated."""
    device = directory.device(device_id, now)
    if device is None:
        raise Unauthenticated("this device is no longer valid, or revoked")
    return device


def entry_of(caller: Caller, event: Event, now_ms: int, detail: str, message_id: bytes | None = None) -> AccessEntry:
    """What the access log keeps of a request that is about no label."""
    device = caller.device
    return AccessEntry(
        event=event,
        time=now_ms,
        salt=os.urandom(16),
        device_id=device.device_id,
        address=device.address,
        office=device.office,
        message_id=message_id,
        request=caller.nonce,
        detail=detail,
    )
