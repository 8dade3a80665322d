"""The only file here that imports the HTTP client: signed requests out, bytes or a LiaisonError back.

Every request is signed by the device (RFC 9421). Requests are safe to repeat: a message has its id from the
sender, a receipt is one per state, a claim that went unanswered costs a key and nothing else. So what fails on
the way is tried again a few times, and so is what the relay has no room for now, after the time that it names; what
else it answers is final. An answer is read as it comes: no longer than MAX_ANSWER, no slower than any link that is
worth waiting for, and never unpacked, for half a megabyte unpacks to half a gigabyte.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from copy import copy
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Protocol, Self

import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.protocol.errors import (
    Conflict,
    LiaisonError,
    Malformed,
    Refused,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    Unknown,
    Unverified,
)
from relay.protocol.header import Precedence
from relay.protocol.httpsig import sign_request

CBOR = "application/cbor"
MAX_ANSWER = 64 * 1024 * 1024  # a page of 1000 of the longest log entries fits, and so does whatever a package can hold
_GIVEN = {200, 201}  # the status of what is no error
_MANY = 4096  # pieces of an answer
MAX_JSON = 64 * 1024  # octets of an event, a problem, or what a relay says of itself: read, it is thirty times as long
_PAUSES = (0.2, 1.0)  # seconds before the second and the third attempt
_PATIENCE, _SLOWEST = 300, 1024  # seconds for an answer of any length; from then on, octets a second on the whole
_SILENCE = 60  # seconds without an octet in a stream; where there is no mail, a relay says every 15 that it is there
_NOTICE = 10  # seconds for a receiver of webhooks to answer
_LONGEST_PAUSE = 30  # a person waits no longer for a relay that says when
_ERRORS: dict[str, type[LiaisonError]] = {
    error.code: error for error in (Malformed, Unauthenticated, Unknown, Conflict, TooLarge, Unavailable)
}


class Transport(Protocol):
    """What the client asks of a relay. The tests' lying relay speaks it too."""

    def get(self, path: str, **query: float) -> bytes: ...

    def post(self, path: str, body: bytes, seen: int = 0, precedence: Precedence = Precedence.ROUTINE) -> bytes: ...

    def put(self, path: str, body: bytes, digest: bytes | None = None) -> bytes: ...

    def events(self, after: int) -> Iterator[dict[str, Any]]: ...

    def once(self) -> Transport:
        """The same, but nothing is tried again: for what can wait on, where something else waits for it."""

    def close(self) -> None: ...


class HttpTransport:
    """One relay, one device."""

    def __init__(self, url: str, keyid: str, key: Ed25519PrivateKey | None, *, timeout: float = 90.0) -> None:
        self._url = str(httpx2.URL(url.lower())).rstrip("/")  # as it is sent: no port that goes without saying
        self._authority = self._url.partition("://")[2]
        self._keyid, self._key = keyid, key
        self._pauses: tuple[float, ...] = _PAUSES
        self._client = httpx2.Client(
            headers={"accept-encoding": "identity"},
            timeout=httpx2.Timeout(timeout, connect=5.0),
            follow_redirects=False,
        )

    def once(self) -> Self:
        impatient = copy(self)
        impatient._pauses = ()  # noqa: SLF001 - of a copy of ourselves
        return impatient

    def close(self) -> None:
        self._client.close()

    def get(self, path: str, **query: float) -> bytes:
        return self._request("GET", path + _query(query), None, {})

    def post(self, path: str, body: bytes, seen: int = 0, precedence: Precedence = Precedence.ROUTINE) -> bytes:
        return self._request("POST", path, body, {"relay-seen": str(seen), "relay-precedence": precedence.name})

    def put(self, path: str, body: bytes, digest: bytes | None = None) -> bytes:
        return self._request("PUT", path, body, {}, digest)

    def events(self, after: int) -> Iterator[dict[str, Any]]:
        """New mail as the relay tells of it, each with its cursor; ends when the stream does."""
        path = "/v1/events" + _query({"after": after})
        headers, timeout = self._signed("GET", path, None), httpx2.Timeout(_SILENCE, connect=5.0)
        try:
            with self._client.stream("GET", self._url + path, headers=headers, timeout=timeout) as response:
                if response.status_code != 200:
                    raise _error(response, _content(response))
                yield from _events(_pieces(response), after)
        except httpx2.RequestError as problem:
            raise _unreachable(self._url, problem) from problem

    def _request(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], digest: bytes | None = None
    ) -> bytes:
        for pause in self._pauses:
            try:
                return self._attempt(method, path, body, headers, digest)
            except Unavailable:
                time.sleep(pause)
            except TooMany as busy:
                if busy.retry_after > _LONGEST_PAUSE:
                    raise
                time.sleep(busy.retry_after)
        return self._attempt(method, path, body, headers, digest)

    def _attempt(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str], digest: bytes | None
    ) -> bytes:
        signed = self._signed(method, path, body, digest)  # anew for each attempt: a nonce is used once
        try:
            with self._client.stream(method, self._url + path, content=body, headers={**headers, **signed}) as response:
                content = _content(response)
        except httpx2.RequestError as problem:
            raise _unreachable(self._url, problem) from problem
        if response.status_code not in _GIVEN:
            raise _error(response, content)
        return content

    def _signed(self, method: str, path: str, body: bytes | None, digest: bytes | None = None) -> dict[str, str]:
        content_type = CBOR if body is not None else None
        headers = {"content-type": CBOR} if body is not None else {}
        if self._key is None:
            return headers
        fields = sign_request(
            self._key,
            self._keyid,
            method,
            self._authority,
            self._url + path,
            body,
            content_type,
            int(time.time()),
            os.urandom(16),
            body_digest=digest,
        )
        return {**headers, **fields}


class Receiver:
    """Where somebody else wants to be told: no relay of ours, and nothing that it answers is read."""

    def __init__(self, url: str) -> None:
        """Raises Malformed."""
        try:
            parsed = httpx2.URL(url)
        except httpx2.InvalidURL as problem:
            raise Malformed(f"{url:.80} is no URL: {problem}") from None
        self.url = str(parsed if parsed.raw_path != b"/" else parsed.copy_with(path="/"))  # as it is sent
        self.authority = parsed.netloc.decode()
        self._client = httpx2.Client(
            timeout=_NOTICE,
            follow_redirects=False,
            trust_env=parsed.scheme == "https",  # what goes in clear is for this machine, and a proxy may be on another
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # none is taken
        )

    def post(self, body: bytes, headers: dict[str, str]) -> None:
        """Raises Unavailable unless it is answered with 2xx."""
        try:
            with self._client.stream("POST", self.url, content=body, headers=headers) as response:
                status = response.status_code
        except httpx2.RequestError as problem:
            raise Unavailable(f"{self.url} cannot be reached ({problem!s:.200})") from problem
        if status // 100 != 2:
            raise Unavailable(f"{self.url} answered {status}")


def _query(query: dict[str, int | float]) -> str:
    return "?" + "&".join(f"{name}={value}" for name, value in query.items()) if query else ""


def _unreachable(url: str, problem: Exception) -> Unavailable:
    return Unavailable(f"the relay at {url} cannot be reached ({problem!s:.200})", hint="nothing was lost; try again")


def _pieces(response: httpx2.Response) -> Iterator[bytes]:
    """The body as it comes. Raises Unverified for one that would have to be unpacked: nobody asked for that."""
    if (encoding := response.headers.get("content-encoding", "identity")) != "identity":
        raise Unverified(f"the relay's answer is packed ({encoding:.20})", hint="is there a proxy that packs answers?")
    return response.iter_raw()


def _content(response: httpx2.Response) -> bytes:
    """The whole body, or of an error's as much as any relay says.

    Raises Unverified for one longer than any honest relay's, Unavailable for one that crawls.
    """
    joined, last, length, began = list[bytes](), list[bytes](), 0, time.monotonic()
    for piece in _pieces(response):
        last.append(piece)
        length += len(piece)
        if length > MAX_JSON and response.status_code not in _GIVEN:
            break  # what gives a reason has done so
        if length > MAX_ANSWER:
            raise Unverified(f"the relay's answer is longer than {MAX_ANSWER} octets")
        taken = time.monotonic() - began
        if taken > _PATIENCE and length < taken * _SLOWEST:
            raise Unavailable(
                f"the relay's answer has come to {length} octets in {taken:.0f} s, and was given up",
                hint="the way to the relay is too slow, or somebody holds the answer back; try again",
            )
        if len(last) == _MANY:  # pieces of an octet each would take fifty times their length
            joined.append(b"".join(last))
            last.clear()
    return b"".join((*joined, *last))


def _error(response: httpx2.Response, content: bytes) -> LiaisonError:
    """The LiaisonError that a problem+json answer stands for."""
    try:
        problem = json.loads(content)
        code = str(problem["type"]).rpartition(":")[2]
        detail, hint = str(problem["detail"]), str(problem.get("hint", ""))
        rules = tuple(str(rule) for rule in problem.get("rules", []))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Unavailable(f"the relay answered {response.status_code} without a reason")
    if code == Refused.code:
        return Refused(f"relay: {detail}", hint=hint, rules=rules)
    if code == TooMany.code:
        stated = response.headers.get("retry-after", "")
        is_number = stated.isdecimal() and len(stated) < 10
        return TooMany(f"relay: {detail}", hint=hint, retry_after=int(stated) if is_number else 1)
    return _ERRORS.get(code, LiaisonError)(f"relay: {detail}", hint=hint)


def _events(pieces: Iterator[bytes], cursor: int) -> Iterator[dict[str, Any]]:
    """Server-sent events (WHATWG HTML 9.2.6), as far as ours use them; an event without an id keeps the last one's.

    Raises Unverified for what is no event of ours, or has no end.
    """
    told = rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in map(bytes.strip, lines):
            if line.startswith(b"id:"):
                cursor = _number(line[3:])
            elif line.startswith(b"data:"):
                told += line[5:].strip()
            elif not line and told:
                yield {**_event(told), "cursor": cursor}
                told = b""
        if len(told) + len(rest) > MAX_JSON:
            raise Unverified(f"the relay tells of an event of more than {MAX_JSON} octets")


def _number(told: bytes) -> int:
    if not told.strip().isdigit() or len(told) > 20:
        raise Unverified(f"the relay tells of an event {told!r:.40}, which is no number")
    return int(told)


def _event(told: bytes) -> dict[str, Any]:
    try:
        event = json.loads(told)
        return {**event, "message_id": bytes.fromhex(event["message_id"]).hex()}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Unverified(f"the relay tells of an event that is none of ours: {told!r:.80}") from None
