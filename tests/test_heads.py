"""The head of a request, as anybody who can reach the port may send it: endless, in pieces, slow, or never whole."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import uvicorn

from relay.core.limits import MAX_HEAD
from relay.http import heads
from relay.http.joined import JoiningProtocol

ASK = b"GET / HTTP/1.1\r\nhost: relay\r\n"
SECONDS = 0.5


async def application(scope, receive, send):
    """Reads the body, takes its time where it is asked to, and answers with the body's length, or its digest."""
    if scope["type"] != "http":
        return
    pieces, more = [], True
    while more:
        event = await receive()
        pieces.append(event.get("body", b""))
        more = event.get("more_body", False)
    if scope["path"] == "/slow":
        await asyncio.sleep(3 * SECONDS)
    body = b"".join(pieces)
    answer = hashlib.sha256(body).digest() if scope["path"] == "/digest" else b"%d" % len(body)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]})
    await send({"type": "http.response.body", "body": answer})


@pytest.fixture(scope="module", params=["asyncio", "uvloop"])
def address(request):
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(application, http=JoiningProtocol, loop=request.param, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield listening.getsockname()
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(heads, "HEAD_WAIT", SECONDS)


@contextmanager
def asking(address):
    with socket.create_connection(address, timeout=10) as connection:
        yield connection


def heard(connection) -> bytes:
    """All that the relay says until it closes, or resets, the connection."""
    told = b""
    try:
        while octets := connection.recv(65536):
            told += octets
    except ConnectionError:
        pass
    return told


def poured(connection, octets: bytes, most: int = 8 << 20) -> int:
    """How many octets went out, of the same again and again, before the connection was closed."""
    sent = 0
    try:
        while sent < most:
            connection.sendall(octets)
            sent += len(octets)
            time.sleep(0.001)
    except ConnectionError:
        pass
    return sent


@pytest.mark.parametrize(
    ("begun", "endless"),
    [
        (b"GET /", b"a" * 4096),
        (ASK + b"x: ", b"a" * 4096),
        (ASK, b"x: aaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 128),
        (ASK + b"\r\n" + ASK + b"x: ", b"a" * 4096),  # the second on its connection
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx: ", b"a" * 4096),  # a trailer
    ],
)
def test_an_endless_head_ends_its_connection(address, begun, endless):
    with asking(address) as connection:
        connection.sendall(begun)
        assert poured(connection, endless) < 40 * MAX_HEAD


def test_who_sends_too_long_a_head_is_told(address):
    with asking(address) as connection:
        connection.sendall(ASK + b"x: ")
        time.sleep(0.1)
        connection.sendall(b"a" * MAX_HEAD)
        assert heard(connection).startswith(b"HTTP/1.1 431 ")


def test_an_answer_under_way_is_not_mixed_with_that(address):
    with asking(address) as connection:
        connection.sendall(ASK.replace(b"/", b"/slow", 1) + b"\r\n")
        time.sleep(0.1)
        connection.sendall(ASK + b"x: " + b"a" * MAX_HEAD)
        assert heard(connection) == b""


def test_a_head_may_come_in_pieces_and_many_behind_each_other(address):
    whole = ASK + b"x: " + b"a" * (MAX_HEAD // 2) + b"\r\n\r\n"
    with asking(address) as connection:
        for start in range(0, len(whole), 1000):
            connection.sendall(whole[start : start + 1000])
            time.sleep(0.002)
        connection.sendall(whole * 5 + ASK + b"connection: close\r\n\r\n")
        assert heard(connection).count(b"HTTP/1.1 200 ") == 7


def test_a_long_body_is_no_head(address):
    length = 20 * MAX_HEAD
    with asking(address) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % length)
        connection.sendall(bytes(length))
        assert heard(connection).endswith(b"\r\n\r\n%d" % length)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("begun", [b"", b"G", ASK, ASK + b"\r\n" + ASK, ASK + b"\r\n\r\n"])
def test_a_head_that_is_never_whole_ends_its_connection(address, begun):
    with asking(address) as connection:
        if begun.startswith(ASK + b"\r\n"):
            connection.sendall(ASK + b"\r\n")
            assert connection.recv(65536).endswith(b"0")
            begun = begun.removeprefix(ASK + b"\r\n")
        began = time.monotonic()
        for octet in begun:  # a head of ten thousand such pieces would take as many seconds
            connection.sendall(bytes([octet]))
        assert heard(connection) == b""
        assert time.monotonic() - began < 3 * SECONDS


@pytest.mark.usefixtures("hurried")
def test_octets_now_and_then_buy_no_more_time(address):
    with asking(address) as connection:
        connection.sendall(ASK)
        began = time.monotonic()
        poured_until = poured(connection, b"x: a\r\n", most=6000)
        assert (poured_until < 6000, time.monotonic() - began < 4 * SECONDS) == (True, True)


@pytest.mark.usefixtures("hurried")
def test_neither_a_long_answer_nor_a_slow_body_counts_as_a_head(address):
    with asking(address) as connection:
        connection.sendall(b"POST /slow HTTP/1.1\r\nconnection: close\r\ncontent-length: 8\r\n\r\n")
        for _ in range(8):
            time.sleep(SECONDS / 4)
            connection.sendall(b"a")
        assert heard(connection).endswith(b"\r\n\r\n8")


def test_bodies_that_come_side_by_side_come_whole(address):
    """All connections are read into one buffer: what waits for its reader must not lie in it."""

    def answered(body: bytes) -> bytes:
        with asking(address) as connection:
            connection.sendall(
                ASK.replace(b"GET /", b"POST /digest", 1)
                + b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            )
            connection.sendall(body)
            return heard(connection)

    bodies = [os.urandom(3 << 20) for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for body, answer in zip(bodies, pool.map(answered, bodies), strict=True):
            assert answer.endswith(hashlib.sha256(body).digest())
