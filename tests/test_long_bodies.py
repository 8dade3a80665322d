"""Long bodies: whoever is nobody is refused before one is read, and a nonce is good for one request all the same."""

from __future__ import annotations

import os
import socket
import time

import pytest

from forge import Forge, call, problem, signed_headers, stored
from relay.core.limits import MAX_SMALL_BODY, MAX_SUBMISSION, MAX_UNSIGNED
from relay.protocol.httpsig import content_digest
from relay.protocol.witness import PATH as ADD_CHECKPOINT

ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-paris"
POST = [("/v1/messages", MAX_SUBMISSION), ("/v1/keys", MAX_SMALL_BODY), ("/v1/parts", MAX_SMALL_BODY)]


@pytest.fixture(scope="module")
def anna(two_offices):
    return two_offices.clients[ANNA]


@pytest.fixture(scope="module")
def long_body(anna):
    """A submission that would be accepted."""
    body = Forge(anna).prepare(JEAN, body="long " * 100_000).seal().encoded()
    assert len(body) > MAX_UNSIGNED
    return body


def answered_without_body(world, path, length, headers) -> bytes:
    """The answer to a request of which nothing but the head is sent."""
    host, _, port = world.url.partition("://")[2].partition(":")
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with socket.create_connection((host, int(port)), timeout=5) as asking:
        asking.sendall(
            f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-length: {length}\r\n{head}\r\n".encode()
        )
        return asking.recv(65536)


@pytest.mark.parametrize(("path", "length"), POST)
def test_a_long_body_that_nobody_signed_is_refused_before_it_is_read(two_offices, path, length):
    with stored(two_offices):
        assert answered_without_body(two_offices, path, length, {}).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("change", ["signature", "key", "age", "digest", "device"])
def test_so_is_one_whose_signature_does_not_hold(two_offices, anna, long_body, change):
    created = int(time.time()) - (1000 if change == "age" else 0)
    headers = signed_headers(anna, "POST", "/v1/messages", long_body, created=created)
    match change:
        case "signature":
            del headers["signature"]
        case "key":
            other = two_offices.clients[JEAN]
            stated = other.profile.keyid, anna.profile.keyid
            signed = signed_headers(other, "POST", "/v1/messages", long_body)
            headers = {**signed, "signature-input": signed["signature-input"].replace(*stated)}
        case "digest":
            headers["content-digest"] = content_digest(b"another")
        case "device":
            headers["signature-input"] = headers["signature-input"].replace(anna.profile.keyid, "00" * 16)
    with stored(two_offices):
        answer = answered_without_body(two_offices, "/v1/messages", len(long_body), headers)
    assert answer.startswith(b"HTTP/1.1 401 ")


def test_a_witness_reads_no_more_than_a_checkpoint_can_have(two_offices):
    assert answered_without_body(two_offices, ADD_CHECKPOINT, MAX_UNSIGNED, {}).startswith(b"HTTP/1.1 413 ")


def test_a_long_body_of_a_device_is_taken_once_under_one_nonce(two_offices, anna, long_body):
    nonce = os.urandom(16)
    headers = signed_headers(anna, "POST", "/v1/messages", long_body, nonce=nonce)
    with stored(two_offices, message=1, slot=1, part=1, log_entry=1):
        assert call(anna, "POST", "/v1/messages", long_body, headers=headers).status_code == 201
        again = call(anna, "POST", "/v1/messages", long_body, headers=headers)
    assert (again.status_code, "nonce" in problem(again)["detail"]) == (401, True)


def test_a_long_body_is_still_held_against_the_digest_that_was_signed(two_offices, anna, long_body):
    headers = signed_headers(anna, "POST", "/v1/messages", long_body)
    with stored(two_offices):
        other = call(anna, "POST", "/v1/messages", b"x" * len(long_body), headers=headers)
    assert (other.status_code, "not that of the body" in problem(other)["detail"]) == (401, True)
