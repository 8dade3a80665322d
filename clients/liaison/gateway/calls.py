"""What can be asked at the door, and what `Client` is asked for it."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

from liaison.as_json import acknowledged_json, inbox_json, message_json
from liaison.client import Client
from liaison.inbox import STATES, urgent_first
from liaison.portions import PortionKind
from liaison.record import kept
from liaison.standing import listed_json, logs_json, online_json, own_json
from liaison.tracking import look_up, sent_record, track_rows
from relay.protocol.errors import Malformed, TooLarge, Unknown

from .asked import precedence_of, read_object
from .door import MAX_BODY, Asked
from .keyed import read_key, send_once
from .turn import Turn
from .webhook import Webhook

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Calls:
    """Everything that is answered; `webhook` if there is one."""

    turn: Turn
    address: str
    webhook: Webhook | None

    def answer(self, asked: Asked) -> tuple[int, Answer]:
        """Status and JSON object. Raises what `Client` raises, Unknown for what cannot be asked."""
        parts = urlsplit(asked.target)
        if (asked.method, parts.path) == ("POST", "/v1/messages"):
            return self._send(asked)
        if asked.body:
            raise Malformed("this takes no body")
        if (asked.method, parts.path) == ("GET", "/v1/messages"):
            return 200, self.turn.take(partial(_inbox, state=_state(parts.query)))
        if parts.query:
            raise Malformed("this takes no query")
        if (asked.method, parts.path) == ("GET", "/health"):
            return 200, {"address": self.address, "webhook": self.webhook and self.webhook.as_json()}
        if (asked.method, parts.path) == ("GET", "/v1/webhook-keys"):
            return 200, {"keys": [self.webhook.key.as_jwk()] if self.webhook is not None else []}
        for method, path, work in _CALLS:
            if asked.method == method and (found := path.fullmatch(parts.path)):
                return 200, self.turn.take(partial(work, **found.groupdict()))
        raise Unknown("there is nothing here, or nothing for this method")

    def _send(self, asked: Asked) -> tuple[int, Answer]:
        key, wanted = read_key(asked.key), read_object(asked.body)
        receipt = self.turn.take(partial(send_once, key=key, asked=wanted), precedence_of(wanted))
        return 202 if "state" in receipt else 200, receipt


def _state(query: str) -> str | None:
    if not query:
        return None
    stated = parse_qs(query, keep_blank_values=True)
    state = stated.get("state", [""])[0]
    if query != f"state={state}" or state not in STATES:
        raise Malformed(f"the inbox is asked with nothing, or ?state= and one of {', '.join(STATES)}")
    return state


def _inbox(client: Client, state: str | None) -> Answer:
    items = [item for item in client.inbox() if state in {None, item.state}]
    return {"messages": [inbox_json(client, item) for item in urgent_first(items)]}


def _open(client: Client, message_id: str) -> Answer:
    return message_json(client, client.read(bytes.fromhex(message_id)), {})


def _attachment(client: Client, message_id: str, index: str) -> Answer:
    record = kept(client.profile.cabinet, bytes.fromhex(message_id))
    if record is None:
        raise Unknown("this message has not been opened here", hint=f"POST /v1/messages/{message_id}/open")
    portion = record.portions.get(int(index))
    if portion is None or portion.kind is not PortionKind.ATTACHMENT:
        raise Unknown(f"portion {index} is no attachment, or not for this reader")
    if portion.size > MAX_BODY:
        raise TooLarge(f"it has {portion.size} octets", hint=f"liaison read {message_id} --out DIR")
    client.trust.load()
    (row,) = (row for row in message_json(client, record, {})["attachments"] if row["index"] == int(index))
    return {**row, "content": b64encode(b"".join(portion.blocks())).decode()}


def _acknowledge(client: Client, message_id: str) -> Answer:
    found = bytes.fromhex(message_id)
    return acknowledged_json(found, client.acknowledge(found))


def _track(client: Client, message_id: str) -> Answer:
    client.sync()
    record = sent_record(client, bytes.fromhex(message_id))
    return {"rows": list(track_rows(client, record, look_up(client, record)))}


def _status(client: Client) -> Answer:
    known = own_json(client.profile) | online_json(client)
    return known | {"warnings": listed_json(client.profile.cabinet.warnings())} | logs_json(client)


_ONE = "/v1/messages/(?P<message_id>[0-9a-f]{32})"
_CALLS: tuple[tuple[str, re.Pattern[str], Callable[..., Answer]], ...] = (
    ("POST", re.compile(f"{_ONE}/open"), _open),
    ("GET", re.compile(f"{_ONE}/attachments/(?P<index>0|[1-9][0-9]{{0,2}})"), _attachment),
    ("POST", re.compile(f"{_ONE}/acknowledge"), _acknowledge),
    ("GET", re.compile(f"{_ONE}/track"), _track),
    ("GET", re.compile("/v1/status"), _status),
)
