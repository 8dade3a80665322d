"""What a connection brings to the relay before anybody is known: a request's head, and the signature in it."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import Any

import uvicorn
from uvicorn.server import ServerState

from relay.core.limits import MAX_HEAD
from relay.http.heads import BoundedHeads
from relay.protocol.claim import settle
from relay.protocol.errors import LiaisonError
from relay.protocol.httpsig import (
    RequestSignature,
    _signature_base,
    check_request,
    parse_signature,
    sign_request,
)
from test_httpsig import GET, KEY, KEYID, NONCE, NOW, POST

from . import mutators
from .target import Property, Target


def _fields(octets: bytes) -> list[str]:
    """signature-input, signature, method, authority, target, content-type, digest: a line each."""
    lines = octets.decode("latin-1").split("\n")
    return (lines + [""] * 7)[:7]


def _signature(octets: bytes) -> tuple[RequestSignature, list[str]]:
    stated, signature, *rest = _fields(octets)
    return parse_signature(stated, signature), rest


def _signature_holds(found: tuple[RequestSignature, list[str]], octets: bytes) -> None:
    sig, (method, authority, target, content_type, digest) = found
    stated = _fields(octets)[0]
    assert stated == f"sig1={sig.base_params}"
    for name in ("created", "expires", "nonce", "keyid", "alg", "tag"):
        assert sig.base_params.count(f";{name}=") >= 1
    assert len(sig.nonce) == 16
    assert len(sig.signature) == 64
    covered = digest if sig.covers_body else None
    try:
        base = _signature_base(method, authority, target, covered, content_type, sig.base_params)
    except LiaisonError:
        return
    names = ["@method", "@authority", "@target-uri"] + ["content-digest", "content-type"] * sig.covers_body
    lines = base.decode().split("\n")
    assert [line.partition(":")[0] for line in lines] == [f'"{name}"' for name in (*names, "@signature-params")]
    _is_taken(sig, method, authority, target, content_type, digest)


def _is_taken(sig: RequestSignature, method: str, authority: str, target: str, content_type: str, digest: str) -> None:
    given = digest if sig.covers_body else None
    try:
        asked = check_request(
            bytes(32), sig, method, authority, target, None, content_type, given, NOW, follows=sig.covers_body
        )
        assert len(settle(asked)) == 32
    except LiaisonError:
        return


class Loop:
    """Runs nothing, and remembers the timers."""

    def call_later(self, _seconds: float, _call: Any, *_given: object) -> Timer:
        return Timer()

    def create_task(self, task: Coroutine[Any, Any, Any], **_given: object) -> Timer:
        task.close()
        return Timer()


class Timer:
    def cancel(self) -> None: ...
    def add_done_callback(self, _call: object) -> None: ...


class Transport:
    """A connection to nobody."""

    closed = False

    def get_extra_info(self, _name: str, default: object = None) -> object:
        return default

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def write(self, _octets: bytes) -> None:
        assert not self.closed, "written to a connection that is closed"

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def set_protocol(self, _protocol: object) -> None: ...


async def _application(_scope: object, _receive: object, _send: object) -> None: ...


_SILENT = logging.getLogger("fuzz")
_SILENT.disabled = True
_CONFIG = uvicorn.Config(_application, log_config=None, lifespan="off", ws="none")  # as it is served


def _received(octets: bytes) -> int:
    """In pieces of the size that the first octet says; what the protocol keeps at the most of a head that is not whole."""
    piece = 1 + 16 * octets[0] if octets else 1
    transport, most = Transport(), 0
    protocol = BoundedHeads(_CONFIG, ServerState(), {}, Loop())
    protocol.logger = _SILENT
    protocol.connection_made(transport)
    for at in range(1, len(octets), piece):
        if transport.closed:
            break
        protocol.data_received(octets[at : at + piece])
        if not transport.closed:
            assert (protocol._late is not None) or not protocol._unread, "it may go on for ever"
            most = max(most, protocol._unread)
    protocol.connection_lost(None)
    assert protocol._late is None
    return most


def _is_bounded(most: int, _octets: bytes) -> None:
    assert most <= MAX_HEAD


def _signatures() -> list[bytes]:
    found = []
    for method, authority, target, body, content_type in (GET, POST):
        fields = sign_request(KEY, KEYID, method, authority, target, body, content_type, NOW, NONCE)
        lines = [fields["signature-input"], fields["signature"], method, authority, target]
        found.append("\n".join((*lines, content_type or "", fields.get("content-digest", ""))).encode())
    return found


def _heads() -> list[bytes]:
    head = b"POST /v1/messages?x=%20 HTTP/1.1\r\nhost: relay\r\ncontent-type: application/cbor\r\n"
    return [
        b"\x01GET / HTTP/1.1\r\nhost: relay\r\n\r\n" * 3,
        b"\xff" + head + b"content-length: 5\r\n\r\nabcde" + head + b"connection: close\r\ncontent-length: 0\r\n\r\n",
        b"\x03" + head + b"transfer-encoding: chunked\r\n\r\n5;ext=1\r\nabcde\r\n0\r\ntrailer: 1\r\n\r\n",
        b"\xff" + head + b"expect: 100-continue\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
        b"\xff" + head + b"x: " + b"y" * (MAX_HEAD + 1),
    ]


TARGETS = (
    Target("signature", (Property(_signature, _signature_holds),), _signatures, mutators.text, behind=True),
    Target("head", (Property(_received, _is_bounded),), _heads, mutators.octets, longest=1 << 17),
)
