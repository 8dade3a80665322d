"""The door of a gateway: who is let in, with what, how fast, and how many. Real sockets; behind it is nothing."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import contextmanager

import httpx2
import pytest

import liaison.gateway.door as doors
from gateways import ask
from relay.protocol.errors import Malformed, Unauthenticated

SECRET = "s" * 43


@contextmanager
def opened():
    bound = doors.bind(0, SECRET, lambda asked: (200, {"octets": len(asked.body)}), print)
    thread = threading.Thread(target=bound.serve_forever, args=(0.02,))
    thread.start()
    yield bound
    bound.shutdown()
    thread.join()
    bound.server_close()


@pytest.fixture(scope="module")
def door():
    with opened() as bound:
        yield bound


def url(door, path: str = "/v1/messages") -> str:
    return f"http://127.0.0.1:{door.port}{path}"


@pytest.mark.parametrize("given", [None, "", "Bearer", "Bearer guess", "Basic {}", "Bearer {}x", "bearer {}"])
def test_without_the_secret_nobody_is_answered(door, given):
    for method, path in (("GET", "/health"), ("GET", "/v1/messages"), ("POST", "/v1/messages"), ("GET", "/nothing")):
        answer = ask(url(door, path), SECRET, method, authorization=given and given.format(SECRET))
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "urn:liaison-relay:problem:unauthenticated"


def test_with_the_secret_one_is_answered_under_either_name_of_this_machine(door):
    for host in (f"127.0.0.1:{door.port}", f"LocalHost:{door.port}"):
        answer = ask(url(door), SECRET, "POST", {"a": 1}, host=host)
        assert (answer.status_code, answer.json()) == (200, {"v": 1, "octets": 8})


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{}", "127.0.0.1", "127.0.0.1.evil.example:{}", "[::1]:{}", ""]
)
def test_a_foreign_host_is_refused_even_with_the_secret(door, host):
    answer = ask(url(door), SECRET, "GET", host=host.format(door.port))
    assert (answer.status_code, answer.json()["rules"]) == (403, ["host"])


def test_at_the_port_that_goes_without_saying_no_client_says_it():
    assert doors.own_names(80) == {"127.0.0.1:80", "localhost:80", "127.0.0.1", "localhost"}
    assert doors.own_names(8442) == {"127.0.0.1:8442", "localhost:8442"}


def test_a_browser_is_refused_even_with_the_secret(door):
    for origin in ("https://evil.example", url(door, ""), "null"):
        answer = ask(url(door), SECRET, "POST", {}, origin=origin)
        assert (answer.status_code, answer.json()["rules"]) == (403, ["origin"])
        assert "access-control-allow-origin" not in answer.headers
    assert ask(url(door), SECRET, "OPTIONS", origin="https://evil.example").status_code == 501


@pytest.mark.parametrize(
    "change",
    [
        ("Host: ", "Host: evil.example\r\nHost: "),
        ("Authorization: ", "Authorization: Bearer guess\r\nAuthorization: "),
        ("Content-Length: ", "Content-Length: 2\r\nContent-Length: "),
        ("Content-Length: ", "Idempotency-Key: a\r\nIdempotency-Key: b\r\nContent-Length: "),
        ("Content-Type: ", "Content-Type: text/plain\r\nContent-Type: "),
        ("Content-Length: ", "Content-Type: text/plain\r\nContent-Length: "),
        ("Content-Length: ", "Expect: 100-continue\r\nExpect: nothing\r\nContent-Length: "),
        ("Content-Type: ", "no field\r\nOrigin: https://evil.example\r\nContent-Type: "),
        ("POST /v1", "POST http://evil.example/v1"),
        ("POST /v1", "POST http://[/v1"),
    ],
    ids=str,
)
def test_a_head_that_two_may_read_differently_is_refused(door, change):
    found, put = (each.encode() for each in change)
    assert spoken(door, head(door, 2).replace(found, put) + b"{}").startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("without", [2, 3, 20])
def test_a_head_that_ends_early_is_no_request(door, without):
    """All that is asked has come, as of one that opens or acknowledges, and the connection ends before the empty line."""
    with socket.create_connection(("127.0.0.1", door.port)) as connection:
        connection.sendall(head(door, 0)[:-without])
        connection.shutdown(socket.SHUT_WR)
        assert answer_of(connection) == b""


def test_white_space_around_what_a_field_says_is_none_of_it(door):
    said = head(door, 2).replace(b": ", b":\t ").replace(b"\r\n", b" \t\r\n", 4)
    assert b'"octets": 2' in spoken(door, said.replace(b"HTTP/1.1 \t", b"HTTP/1.1") + b"{}")


def test_to_head_only_a_head_is_answered(door):
    assert spoken(door, head(door, 0).replace(b"POST", b"HEAD")).endswith(b"\r\n\r\n")


def spoken(door, octets: bytes) -> bytes:
    """What is answered to these."""
    with socket.create_connection(("127.0.0.1", door.port)) as connection:
        connection.sendall(octets)
        return answer_of(connection)


def test_bodies_that_are_too_large_or_of_unknown_length_or_kind_are_refused(door):
    large = ask(url(door), SECRET, "POST", b" " * (doors.MAX_BODY + 1))
    assert (large.status_code, large.json()["type"]) == (413, "urn:liaison-relay:problem:too-large")
    assert ask(url(door), SECRET, "POST", b" " * doors.MAX_BODY).json()["octets"] == doors.MAX_BODY
    assert ask(url(door), SECRET, "POST", {}, content_type="text/plain").status_code == 400
    headers = {"authorization": f"Bearer {SECRET}", "content-type": "application/json"}
    assert httpx2.post(url(door), content=iter([b"{}"]), headers=headers).status_code == 400


def test_who_may_not_come_in_is_not_asked_for_a_body(door):
    """A caller that waits for 100 (Continue), as curl does with a large body."""
    for secret, first in ((SECRET, b"HTTP/1.1 100 "), ("x" * 43, b"HTTP/1.1 401 ")):
        with socket.create_connection(("127.0.0.1", door.port)) as connection:
            connection.sendall(head(door, 2, secret).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"))
            assert connection.recv(4096).startswith(first)
            connection.sendall(b"{}")
            assert (b'"octets": 2' in answer_of(connection)) is (secret == SECRET)


def head(door, length: int, secret: str = SECRET) -> bytes:
    fields = f"Host: 127.0.0.1:{door.port}\r\nAuthorization: Bearer {secret}\r\nContent-Type: application/json\r\n"
    return f"POST /v1/messages HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n".encode()


def answer_of(connection: socket.socket) -> bytes:
    octets = b""
    while piece := connection.recv(4096):
        octets += piece
    return octets


@pytest.mark.parametrize("part", ["line", "head", "body"])
def test_who_is_slow_is_given_up_however_steadily_octets_come(monkeypatch, part):
    monkeypatch.setattr(doors, "PATIENCE", 0.3)
    with opened() as door, socket.create_connection(("127.0.0.1", door.port)) as connection:
        connection.sendall({"line": b"POST /", "head": b"POST / HTTP/1.1\r\nA: ", "body": head(door, 1000)}[part])
        with pytest.raises(ConnectionError):
            drip(connection)


def drip(connection: socket.socket) -> None:
    for _ in range(200):
        connection.sendall(b"x")
        time.sleep(0.05)


def test_a_body_that_ends_early_is_refused(door):
    with socket.create_connection(("127.0.0.1", door.port)) as connection:
        connection.sendall(head(door, 1000) + b"{}")
        connection.shutdown(socket.SHUT_WR)
        assert answer_of(connection).startswith(b"HTTP/1.1 400 ")


def test_a_caller_that_hangs_up_is_no_fault_of_ours(capsys):
    with opened() as door, socket.create_connection(("127.0.0.1", door.port)) as connection:
        connection.sendall(head(door, 1000))
        time.sleep(0.2)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed with a reset
        connection.close()
        time.sleep(0.2)
        assert spoken(door, head(door, 2) + b"{}").startswith(b"HTTP/1.1 200 ")
    assert "fault" not in capsys.readouterr().out


def test_a_visit_that_could_not_begin_leaves_its_place_free(monkeypatch):
    monkeypatch.setattr(doors, "MOST", 1)

    def begin_nothing(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with opened() as door:
        with monkeypatch.context() as patched:
            patched.setattr(doors.ThreadingHTTPServer, "process_request", begin_nothing)
            assert spoken(door, b"") == b""
        assert spoken(door, head(door, 2) + b"{}").startswith(b"HTTP/1.1 200 ")


def test_more_than_a_few_at_once_are_turned_away_and_may_come_back(monkeypatch):
    monkeypatch.setattr(doors, "MOST", 2)
    with opened() as door:
        held = [socket.create_connection(("127.0.0.1", door.port)) for _ in range(2)]
        with socket.create_connection(("127.0.0.1", door.port)) as third:
            assert answer_of(third).startswith(b"HTTP/1.1 503 ")
        for each in held:
            each.close()
        until, octets = time.monotonic() + 10, b""
        while b'"octets": 2' not in octets:
            assert time.monotonic() < until
            with socket.create_connection(("127.0.0.1", door.port)) as again:
                again.sendall(head(door, 2) + b"{}")
                try:
                    octets = answer_of(again)
                except ConnectionError:  # turned away before it was heard
                    time.sleep(0.05)


def test_a_secret_that_others_may_read_or_that_is_none_is_refused(tmp_path):
    path = tmp_path / "gateway.secret"
    secret = doors.shared_secret(path)
    assert (len(secret), path.stat().st_mode & 0o777) == (43, 0o600)
    assert doors.shared_secret(path) == secret
    for content in (b"", b"short\n", b"two words of some length, but two words\n", b"\xff" * 64):
        path.write_bytes(content)
        with pytest.raises(Malformed):
            doors.shared_secret(path)
    path.write_text(secret)
    path.chmod(0o640)
    with pytest.raises(Unauthenticated):
        doors.shared_secret(path)
