"""HTTP on the loopback address: who is let in, and with what.

The rules:
  - 127.0.0.1 and no other address, on any machine;
  - the field Host names this address: a browser that was led here by a foreign name (DNS rebinding) does not, and one
    that runs a page's script says so in the field Origin. Neither is answered, nor a head that can be read in two ways;
  - whoever asks has the secret, from a file that only its owner may read; it is compared in constant time;
  - nothing is read of a body before that, nor more than `MAX_BODY`, nor for longer than `PATIENCE`;
  - one request a connection, and `MOST` connections.
"""

from __future__ import annotations

import hmac
import json
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedReader
from pathlib import Path
from threading import BoundedSemaphore, Timer
from traceback import extract_tb
from typing import Any

from liaison.home.private_file import create_private, read_private
from relay.protocol.errors import Conflict, LiaisonError, Malformed, Refused, TooLarge, Unauthenticated
from relay.protocol.problem import MEDIA_TYPE, problem_of, retry_after, status_of

from .keyed import ToNobody

ADDRESS = "127.0.0.1"
MAX_BODY = 16 * 1024 * 1024  # octets: in JSON and base64, several times as many in memory
MOST = 16  # connections at once
PATIENCE = 20  # seconds for a whole request
_SILENCE = 30  # seconds for an answer to be taken
_UNREAD = 1024 * 1024  # octets of a refused body that are still taken, so that the refusal arrives
_SHORTEST_SECRET = 32


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was let in."""

    method: str
    target: str
    key: str  # empty if there is none
    body: bytes


def shared_secret(path: Path) -> str:
    """What callers have to show, made at the first time. Raises Unauthenticated for a file that others may read."""
    if not path.exists():
        with suppress(Conflict):  # another gateway of this profile was faster
            create_private(path, secrets.token_urlsafe(32).encode() + b"\n", "gateway")
    secret = read_private(path, 1024, "gateway").decode("ascii", "replace").strip()
    if len(secret) < _SHORTEST_SECRET or not secret.isprintable() or not secret.isascii() or " " in secret:
        hint = "remove it, and a new one is made at the next start"
        raise Malformed(f"{path} has not at least {_SHORTEST_SECRET} visible ASCII characters", hint=hint)
    return secret


class Door(ThreadingHTTPServer):
    """Bound when it is made; `serve_forever` lets in."""

    daemon_threads = True

    def __init__(
        self, port: int, secret: str, answer: Callable[[Asked], tuple[int, dict[str, Any]]], tell: Callable[[str], None]
    ) -> None:
        self.expected, self.answer, self.tell = f"Bearer {secret}".encode(), answer, tell
        self._free = BoundedSemaphore(MOST)
        super().__init__((ADDRESS, port), _Visit)
        self.port = int(self.server_address[1])
        self.hosts = own_names(self.port)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            with suppress(OSError):
                request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n")
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread has begun, which would give its place back
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller who has hung up: nobody is there to be told."""


def own_names(port: int) -> set[str]:
    """What a caller's Host may be."""
    names = {ADDRESS, "localhost"}
    return {f"{name}:{port}" for name in names} | (names if port == 80 else set())  # which goes without saying


class _Lines(BufferedReader):
    """Lines that have an end: where a connection ends, the standard library takes the head for ended too."""

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        if not line.endswith(b"\n") and len(line) != size:
            raise ConnectionAbortedError
        return line


class _Visit(BaseHTTPRequestHandler):
    """One connection, one request."""

    server: Door
    protocol_version = "HTTP/1.1"
    timeout = _SILENCE

    def setup(self) -> None:
        super().setup()
        self.rfile = _Lines(self.rfile.detach())
        self._is_read = False
        self._late = Timer(PATIENCE, self._end_reading)  # the socket's own timeout starts anew with each octet
        self._late.daemon = True
        self._late.start()

    def finish(self) -> None:
        self._late.cancel()
        super().finish()

    def _end_reading(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RD)

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def _serve(self) -> None:
        try:
            self._admit()
            body = self._body()
            self._is_read = True
            self._late.cancel()
            key = self._field("idempotency-key")
            status, content = self.server.answer(Asked(self.command, self.path, key, body))
        except LiaisonError as problem:
            self._refuse(problem)
        except Exception as fault:  # noqa: BLE001 - a caller gets an answer, and its owner the place
            place = extract_tb(fault.__traceback__)[-1]
            self.server.tell(f"fault: {type(fault).__name__} at {place.filename}:{place.lineno}")
            self._refuse(LiaisonError("the gateway could not do this; it has said where on its standard error"))
        else:
            self._put(status, "application/json", {"v": 1, **content})

    def _admit(self) -> None:
        """Raises Malformed, Refused, Unauthenticated."""
        if self.headers.defects or not self.path.startswith("/"):
            raise Malformed("a head is a method, a path and fields")
        if self._field("host").lower() not in self.server.hosts:
            raise Refused(f"this gateway is http://{ADDRESS}:{self.server.port} and has no other name", rules=("host",))
        if "origin" in self.headers:
            raise Refused("no page in a browser is answered", rules=("origin",))
        given = self._field("authorization")
        if not hmac.compare_digest(given.encode("latin-1", "replace"), self.server.expected):
            raise Unauthenticated(
                "this is not the secret", hint="Authorization: Bearer, and what is in the secret file"
            )

    def _field(self, name: str, unsaid: str = "") -> str:
        """What a field says, less the white space around it (RFC 9110, 5.5). Raises Malformed if it is there twice."""
        said = self.headers.get_all(name, [unsaid])
        if len(said) != 1:
            raise Malformed(f"the field {name} is there {len(said)} times")
        return str(said[0]).strip(" \t")

    def _body(self) -> bytes:
        """Raises Malformed, TooLarge."""
        stated = self._field("content-length", "0")
        if "transfer-encoding" in self.headers or not stated.isdecimal():
            raise Malformed("a body has one Content-Length, and no Transfer-Encoding")
        if len(stated) > 10 or (length := int(stated)) > MAX_BODY:
            raise TooLarge(f"a body has {MAX_BODY} octets at most", hint="large files go with: liaison send --attach")
        kind, expected = self._field("content-type"), self._field("expect")
        if length and kind.partition(";")[0].strip().lower() != "application/json":
            raise Malformed("a body is application/json")
        if expected.lower() == "100-continue":
            self.send_response_only(HTTPStatus.CONTINUE)
            self.end_headers()
        body = b""
        with suppress(ConnectionError):  # a caller that hangs up has ended early
            body = self.rfile.read(length)
        if len(body) < length:
            raise Malformed(f"the body ended before its stated length, or took more than {PATIENCE} s")
        return body

    def handle_expect_100(self) -> bool:
        return True  # `_body` says it, to whom may send one

    def _refuse(self, problem: LiaisonError) -> None:
        status = status_of(problem)
        content = problem_of(problem, status)
        if isinstance(problem, ToNobody):
            content["refused"] = problem.refused
        fields = {} if (pause := retry_after(problem)) is None else {"retry-after": str(pause)}
        if isinstance(problem, Unauthenticated):
            fields["www-authenticate"] = "Bearer"
        self._put(status, MEDIA_TYPE, content, fields)
        if not self._is_read:
            self._take_rest()

    def _take_rest(self) -> None:
        # Closed with octets unread, the system resets the connection, and the refusal may be lost on the way.
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            taken = 0
            while taken < _UNREAD and (octets := self.connection.recv(65536)):
                taken += len(octets)

    def _put(self, status: int, media_type: str, content: dict[str, Any], fields: dict[str, str] | None = None) -> None:
        self.close_connection = True
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        given = {"content-type": media_type, "content-length": str(len(body)), "cache-control": "no-store"}
        for name, value in (given | {"connection": "close"} | (fields or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """What the standard library refuses: a head that is none, a method that nobody has."""
        problem = Malformed(message or HTTPStatus(code).phrase)
        self._put(code, MEDIA_TYPE, problem_of(problem, code))

    def version_string(self) -> str:
        return "liaison-gateway"

    def log_message(self, *_: object) -> None:
        """Requests are not written down."""


def bind(
    port: int, secret: str, answer: Callable[[Asked], tuple[int, dict[str, Any]]], tell: Callable[[str], None]
) -> Door:
    """Raises LiaisonError for a port that is taken."""
    try:
        return Door(port, secret, answer, tell)
    except OSError as problem:
        hint = "is another gateway running? try --port 0"
        raise LiaisonError(f"cannot bind {ADDRESS}:{port}: {problem.strerror}", hint=hint) from problem
