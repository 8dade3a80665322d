"""Whatever answers at the relay's URL, the client ends with an error of its own, and soon: no traceback, no full memory."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from contextlib import closing

import pytest
from fastapi import sse

from answering import answering
from liaison import transport
from liaison.cli.people import relay_keys
from liaison.evidence.package import MAX_PACKAGE
from liaison.transport import MAX_ANSWER, HttpTransport
from relay.core.limits import AUDIT_PAGE, MAX_SUBMISSION
from relay.protocol.entry import MAX_ENTRY
from relay.protocol.errors import LiaisonError, Malformed, TooMany, Unavailable, Unverified

BUSY = json.dumps({"type": "urn:liaison-relay:problem:too-many", "detail": "busy"}).encode()
TOLD = {"message_id": "00" * 16, "precedence": "FLASH"}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(transport, "_PAUSES", ())


def get(url: str) -> bytes:
    with closing(HttpTransport(url, "", None)) as asking:
        return asking.get("/v1/relay")


def events(url: str) -> list[dict]:
    with closing(HttpTransport(url, "", None)) as asking:
        return list(asking.events(7))


@pytest.mark.parametrize(
    ("body", "status", "headers", "error"),
    [
        (gzip.compress(bytes(1 << 20)), 200, {"content_encoding": "gzip"}, Unverified),
        (b"nonsense", 200, {"content_encoding": "gzip"}, Unverified),
        (b"nonsense", 500, {"content_encoding": "br"}, Unverified),
        (b"short", 200, {"content_length": "6"}, Unavailable),
        (b"", 302, {"location": "http://[/"}, Unavailable),
        (b"[" * 200_000, 500, {}, Unavailable),
        (b"9" * 5000, 500, {}, Unavailable),
        (b'{"type": [], "detail": {}, "rules": 5}', 403, {}, Unavailable),
        (BUSY, 429, {"retry_after": "9" * 5000}, TooMany),
        (BUSY, 429, {"retry_after": "-1"}, TooMany),
    ],
)
def test_an_answer_that_no_relay_gives_is_an_error_of_ours(body, status, headers, error):
    with answering(body, status, **headers) as relay:
        for ask in (get, events):
            with pytest.raises(LiaisonError) as told:
                ask(relay.url)
            assert type(told.value) is error
        assert {heard["accept-encoding"] for heard in relay.heard} == {"identity"}


@pytest.mark.parametrize("body", [b"[" * 200_000, b"5", b'{"keys": 5}', b"{}"])
def test_what_says_nothing_of_its_keys_is_no_relay(body):
    with answering(body) as relay, pytest.raises(Malformed, match="not a relay"):
        relay_keys(relay.url, None)


def test_an_answer_without_end_is_not_read_to_its_end(monkeypatch):
    monkeypatch.setattr(transport, "MAX_ANSWER", 1 << 20)
    with answering(bytes(1 << 20)) as relay:
        assert get(relay.url) == relay.body
        relay.body += b"\0"
        with pytest.raises(Unverified, match="longer"):
            get(relay.url)


@pytest.mark.parametrize("status", [200, 404, 500])
def test_no_answer_becomes_many_times_its_length_in_memory(status):
    with answering(b"[" + b"{}," * (1 << 20) + b"{}]", status) as relay:
        tracemalloc.start()
        with pytest.raises(LiaisonError, match="not a relay" if status == 200 else "without a reason"):
            relay_keys(relay.url, None)
        _now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 16 << 20


def test_the_longest_answers_of_an_honest_relay_are_read():
    assert AUDIT_PAGE * (MAX_ENTRY + 16) < MAX_ANSWER
    assert max(MAX_SUBMISSION, MAX_PACKAGE) <= MAX_ANSWER


def test_an_answer_that_crawls_is_given_up_and_a_slow_one_is_not(monkeypatch):
    monkeypatch.setattr(transport, "_PATIENCE", 0.5)
    with answering(bytes(40)) as relay:
        relay.pause = 0.05
        with pytest.raises(Unavailable, match=r"has come to \d+ octets in \d+ s") as told:
            get(relay.url)
        assert "too slow" in told.value.hint
        monkeypatch.setattr(transport, "_SLOWEST", 5)
        assert get(relay.url) == relay.body


def test_a_stream_of_events_may_last_but_not_be_silent(monkeypatch):
    monkeypatch.setattr(transport, "_PATIENCE", 0.1)
    monkeypatch.setattr(transport, "_SILENCE", 0.5)
    line = b"data: " + json.dumps(TOLD).encode() + b"\n\n"
    with answering(b": ping\n\n" + line) as relay:
        relay.pause = 0.02
        assert events(relay.url) == [{**TOLD, "cursor": 7}]
        relay.pause = 2
        with pytest.raises(Unavailable, match="cannot be reached"):
            events(relay.url)


def test_a_relay_says_that_a_stream_lives_before_a_client_ends_it():
    assert 2 * sse._PING_INTERVAL < transport._SILENCE


@pytest.mark.parametrize(
    "told",
    [
        b"id: x\n",
        b"id: " + b"9" * 5000 + b"\n",
        b"data: {}\n\n",
        b"data: [1]\n\n",
        b"data: " + b"[" * 60_000 + b"\n\n",
        b'data: {"message_id": 5}\n\n',
        b'data: {"message_id": "x"}\n\n',
        b"x" * 300_000,
        b"data: x\n" * 300_000,
    ],
)
def test_an_event_that_no_relay_tells_of_is_the_relays_fault(told):
    with answering(told) as relay, pytest.raises(Unverified, match="tells of an event"):
        events(relay.url)


def test_events_are_read_whole_whatever_the_pieces_they_come_in():
    line = json.dumps(TOLD).encode()
    told = b": ping\r\n\r\nevent: message\r\nid: 9\r\ndata: " + line + b"\r\n\r\ndata: " + line + b"\n\ndata: {"
    for length in (1, 7, len(told)):
        pieces = (told[at : at + length] for at in range(0, len(told), length))
        assert list(transport._events(pieces, 7)) == [{**TOLD, "cursor": 9}] * 2
    with answering(b"data: " + line + b"\n\n") as relay:
        assert events(relay.url) == [{**TOLD, "cursor": 7}]
