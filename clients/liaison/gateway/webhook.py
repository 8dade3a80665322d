"""Signed webhooks: a system that holds no stream open is rung up for each new message.

    POST URL                            {"v": 1, "message_id": "…", "precedence": "FLASH"}
    content-digest, signature-input, signature    RFC 9530, RFC 9421: the profile of `httpsig.py`, of its own tag

The rules:
  - nothing of the content, no label, no sender: what is read is asked for at the gateway, under its marking;
  - in the relay's order, the most urgent first; each until it is answered with 2xx, and the cursor moves only then:
    whoever listens is told of everything, perhaps twice, and knows a message by its id;
  - each attempt is signed anew, with its time and a nonce; no redirect is followed, no cookie taken, no answer read;
  - it has a thread and a connection of its own: a receiver that is away keeps nobody else waiting.
"""

from __future__ import annotations

import json
import os
import time
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from liaison.client import Client
from liaison.transport import Receiver, Transport
from relay.protocol.canonical import decode, encode
from relay.protocol.errors import LiaisonError, Malformed, Unavailable, Unverified
from relay.protocol.header import Precedence
from relay.protocol.httpsig import sign_request

from .turn import Turn

TAG = "relay-webhook-v1"
_MEDIA_TYPE = "application/json"
_KEY, _CURSOR = "webhook key", "webhook cursor"  # pins
_SHORTEST, _LONGEST = 1, 60  # seconds between two attempts
_MOST_TOLD = 4096  # messages remembered as told of ahead of the cursor
_HERE = frozenset({"127.0.0.1", "localhost", "::1"})


def check_url(url: str) -> None:
    """Raises Malformed for what is no URL to ring up."""
    try:
        parts = urlsplit(url)
        known = parts.hostname and parts.port != 0 and not parts.fragment and parts.username is None
    except ValueError:  # a port that is none
        known = False
    if not known or parts.scheme not in {"http", "https"} or not url.isascii() or not url.isprintable() or " " in url:
        raise Malformed(f"{url!r:.80} is no URL for a webhook", hint="such as https://host.example/mail")
    if parts.scheme == "http" and parts.hostname not in _HERE:
        raise Malformed(
            f"{url:.80} would tell everybody on the way when mail comes, and let them answer",
            hint="https, or http on this machine",
        )


@dataclass(frozen=True, slots=True)
class WebhookKey:
    """Signs webhooks and nothing else; it is made once, and kept in the profile under its passphrase."""

    private: Ed25519PrivateKey

    @classmethod
    def of(cls, client: Client) -> WebhookKey:
        cabinet = client.profile.cabinet
        with cabinet.transaction():
            if (seed := cabinet.pin(_KEY)) is None:
                cabinet.put_pin(_KEY, seed := os.urandom(32))
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    def as_jwk(self) -> dict[str, str]:
        """The public half (RFC 8037), its thumbprint (RFC 7638) as its name."""
        x = _base64url(self.private.public_key().public_bytes_raw())
        needed = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"))
        thumbprint = _base64url(sha256(needed.encode()).digest())
        return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": thumbprint, "alg": "EdDSA", "use": "sig"}

    def sign(self, receiver: Receiver, body: bytes) -> dict[str, str]:
        """The fields to add to a POST of this body, now."""
        return sign_request(
            self.private, self.as_jwk()["kid"], "POST", receiver.authority, receiver.url, body, _MEDIA_TYPE,
            int(time.time()), os.urandom(16), tag=TAG,
        )  # fmt: skip


@dataclass(slots=True)
class Webhook:
    """One receiver, and how far it has been told."""

    receiver: Receiver
    key: WebhookKey
    turn: Turn
    transport: Transport  # its own
    tell: Callable[[str], None]
    problem: str = ""  # of the receiver, since it last took something
    ahead: deque[str] = field(default_factory=lambda: deque(maxlen=_MOST_TOLD))

    def as_json(self) -> dict[str, Any]:
        return {"url": self.receiver.url, "problem": self.problem or None}

    def follow(self) -> None:
        """Tell of new mail as it comes, for ever."""
        pause, said = _SHORTEST, ""
        while True:
            try:
                cursor = self.turn.take(_cursor, Precedence.OVERRIDE)
                for event in self.transport.events(cursor):
                    self._ring(event["message_id"], _precedence_of(event))
                    if event["cursor"] != cursor:
                        cursor = event["cursor"]
                        self.turn.take(partial(_move, cursor=cursor), Precedence.OVERRIDE)
                    pause, said = _SHORTEST, ""
            except LiaisonError as problem:
                if str(problem) != said:
                    self.tell(f"webhook: {problem}; trying again")
                said = str(problem)
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST)
            else:
                time.sleep(_SHORTEST)

    def _ring(self, message_id: str, precedence: str) -> None:
        """Raises Unavailable unless the receiver has taken it."""
        if message_id in self.ahead:
            return
        body = json.dumps({"v": 1, "message_id": message_id, "precedence": precedence}).encode()
        fields = self.key.sign(self.receiver, body) | {"content-type": _MEDIA_TYPE}
        try:
            self.receiver.post(body, fields)
        except Unavailable as problem:
            self.problem = str(problem)
            raise
        if self.problem:
            self.tell(f"webhook: {self.receiver.url} answers again")
        self.problem = ""
        self.ahead.append(message_id)


def _precedence_of(event: dict[str, Any]) -> str:
    found = str(event.get("precedence"))
    if found not in Precedence.__members__:
        raise Unverified("the relay tells of a message of no known precedence")
    return found


def _cursor(client: Client) -> int:
    found = client.profile.cabinet.pin(_CURSOR)
    return 0 if found is None else int(decode(found, "cabinet: webhook cursor"))


def _move(client: Client, cursor: int) -> None:
    client.profile.cabinet.put_pin(_CURSOR, encode(cursor))


def _base64url(octets: bytes) -> str:
    return urlsafe_b64encode(octets).rstrip(b"=").decode()
