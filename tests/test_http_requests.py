"""Who is calling: every way in which a request can fail to say so, over real HTTP, ends at 401 with nothing done."""

from __future__ import annotations

import socket
import threading
import time
from base64 import b64encode

import httpx2
import pytest
import uvicorn

from forge import CBOR, Forge, call, problem, signed_headers, stored
from octets import flipped
from relay.core.limits import MAX_SMALL_BODY, MAX_SUBMISSION
from relay.http.app import create_app
from relay.protocol.canonical import encode
from relay.protocol.httpsig import content_digest
from served import Served

ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-paris"
PATH = "/v1/messages"


@pytest.fixture(scope="module")
def anna(two_offices):
    return two_offices.clients[ANNA]


@pytest.fixture(scope="module")
def body(anna):
    """A submission that would be accepted."""
    return Forge(anna).prepare(JEAN).seal().encoded()


def post(world, body, headers, path=PATH, *, method="POST"):
    return httpx2.request(method, world.url + path, content=body, headers=headers)


def unauthenticated(world, body, headers, path=PATH, **more):
    with stored(world):
        response = post(world, body, headers, path, **more)
    assert response.status_code == 401, response.text
    return problem(response)["detail"]


def test_a_request_that_nobody_signed_is_refused(two_offices, body):
    assert "there is none" in unauthenticated(two_offices, body, {"content-type": CBOR})


def test_a_nonce_is_used_once(two_offices, anna):
    headers = signed_headers(anna, "GET", "/v1/inbox")
    assert post(two_offices, None, headers, "/v1/inbox", method="GET").status_code == 200
    assert "nonce" in unauthenticated(two_offices, None, headers, "/v1/inbox", method="GET")


def test_a_nonce_is_not_spent_by_a_request_that_does_not_verify(two_offices, anna):
    headers = signed_headers(anna, "GET", "/v1/inbox")
    unauthenticated(two_offices, None, headers, "/v1/inbox?after=1", method="GET")
    assert post(two_offices, None, headers, "/v1/inbox", method="GET").status_code == 200


@pytest.mark.parametrize(("age", "why"), [(-200, "expired"), (200, "future"), (-100_000, "expired")])
def test_a_stale_or_early_request_is_refused(two_offices, anna, body, age, why):
    headers = signed_headers(anna, "POST", PATH, body, created=int(time.time()) + age)
    assert why in unauthenticated(two_offices, body, headers)


def test_a_request_from_before_the_relay_started_is_refused_since_its_nonce_is_not_remembered(two_offices, anna):
    doorkeeper = two_offices.relay.door._doorkeeper
    started, doorkeeper._started = doorkeeper._started, int(time.time()) + 60
    try:
        with stored(two_offices):
            answer = post(two_offices, None, signed_headers(anna, "GET", "/v1/inbox"), "/v1/inbox", method="GET")
        assert answer.status_code == 503  # the client signs again and goes on
        assert "before this relay started" in problem(answer)["detail"]
    finally:
        doorkeeper._started = started


def test_a_request_that_was_signed_ahead_of_the_relays_clock_is_used_once_though_the_relay_is_killed(tmp_path):
    served = Served(tmp_path / "relay").start()
    try:
        built = served.world(tmp_path)
        built.office("lo-warsaw", "POL")
        early, claim = built.device("anna.nowak@lo-warsaw"), encode([bytes(16)])
        asked = [("GET", "/v1/inbox", None), ("POST", "/v1/keys/claim", claim)]
        ahead = [(*each, signed_headers(early, *each, created=int(time.time()) + 25)) for each in asked]

        def answers():
            return [post(served, body, fields, path, method=method) for method, path, body, fields in ahead]

        assert [each.status_code for each in answers()] == [200, 200]
        served.kill()
        served.start()
        assert ["used before" in problem(each)["detail"] for each in answers()] == [True, True]
        assert call(early, "GET", "/v1/inbox").status_code == 200
        built.close()
    finally:
        served.kill()


def test_a_body_that_is_not_the_digested_one_is_refused(two_offices, anna, body):
    other = flipped(body, len(body) // 2)
    headers = signed_headers(anna, "POST", PATH, body)
    assert "Content-Digest" in unauthenticated(two_offices, other, headers)
    redigested = {**headers, "content-digest": content_digest(other)}
    assert "does not verify" in unauthenticated(two_offices, other, redigested)
    without = {name: value for name, value in headers.items() if name != "content-digest"}
    assert "Content-Digest" in unauthenticated(two_offices, body, without)


def test_a_body_that_the_signature_does_not_cover_is_refused(two_offices, anna, body):
    headers = {**signed_headers(anna, "POST", PATH), "content-type": CBOR, "content-digest": content_digest(body)}
    assert "covers" in unauthenticated(two_offices, body, headers)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"@authority" ', ""),
        ('"@target-uri" ', ""),
        ('"content-digest" ', ""),
        ('tag="relay-v1"', 'tag="relay-v2"'),
        ('alg="ed25519"', 'alg="hmac-sha256"'),
        ("sig1=", "sig2="),
        (";nonce=", ";nonce=;nonce="),
    ],
)
def test_a_signature_outside_the_one_profile_is_refused(two_offices, anna, body, old, new):
    headers = signed_headers(anna, "POST", PATH, body)
    assert old in headers["signature-input"]
    headers["signature-input"] = headers["signature-input"].replace(old, new)
    unauthenticated(two_offices, body, headers)


def test_two_signatures_are_refused_in_one_header_or_in_two(two_offices, anna, body):
    first, second = signed_headers(anna, "POST", PATH, body), signed_headers(anna, "POST", PATH, body)
    names = ("signature-input", "signature")
    joined = {**first, **{name: f"{first[name]}, {second[name].replace('sig1', 'sig2')}" for name in names}}
    unauthenticated(two_offices, body, joined)
    twice = [*first.items(), *((name, second[name]) for name in names)]
    assert "more than one" in unauthenticated(two_offices, body, twice)
    for name in ("content-digest", "content-type"):
        assert "more than one" in unauthenticated(two_offices, body, [*first.items(), (name, first[name])])


def test_a_signature_for_another_method_path_query_or_relay_is_refused(two_offices, anna, body):
    unauthenticated(two_offices, body, signed_headers(anna, "PUT", PATH, body))
    unauthenticated(two_offices, body, signed_headers(anna, "POST", "/v1/keys", body))
    unauthenticated(two_offices, body, signed_headers(anna, "POST", PATH, body), PATH + "?x=1")
    elsewhere = signed_headers(anna, "POST", PATH, body, authority="relay.example")
    unauthenticated(two_offices, body, elsewhere)


def test_a_signature_by_another_key_or_by_nobody_known_is_refused(two_offices, anna, body):
    headers = signed_headers(anna, "POST", PATH, body)
    octets = b64encode(bytes(64)).decode()
    assert "does not verify" in unauthenticated(two_offices, body, {**headers, "signature": f"sig1=:{octets}:"})
    jean = two_offices.clients[JEAN].profile.keyid
    borrowed = headers["signature-input"].replace(anna.profile.keyid, jean)
    unauthenticated(two_offices, body, {**headers, "signature-input": borrowed})
    for keyid, why in (("00" * 16, "not enrolled"), ("anna", "keyid"), (anna.profile.keyid.upper(), "keyid")):
        named = headers["signature-input"].replace(anna.profile.keyid, keyid)
        assert why in unauthenticated(two_offices, body, {**headers, "signature-input": named})


def test_who_signed_something_else_is_told_what_the_relay_was_asked_and_which_form_a_signature_has(
    two_offices, anna, body
):
    headers = signed_headers(anna, "POST", "/v1/keys", body)
    hint = problem(post(two_offices, body, headers))["hint"]
    assert hint == f"held against POST, authority {two_offices.url[7:]}, target {two_offices.url}{PATH}"
    first = headers["signature-input"].replace('"@method" ', "")
    assert '("@method"' in problem(post(two_offices, body, {**headers, "signature-input": first}))["hint"]


def test_a_relay_with_a_public_address_answers_under_no_other(two_offices, anna):
    app = create_app(two_offices.relay, scheme="http", authorities=frozenset({"relay.example"}))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/directory"
    try:
        named = {**signed_headers(anna, "GET", "/v1/directory", authority="relay.example"), "host": "relay.example"}
        assert httpx2.get(url, headers=named).status_code == 200
        own = url.split("/")[2]
        unnamed = httpx2.get(url, headers=signed_headers(anna, "GET", "/v1/directory", authority=own))
        assert (unnamed.status_code, "under that name" in problem(unnamed)["detail"]) == (401, True)
    finally:
        server.should_exit = True
        thread.join(10)


def test_every_route_has_a_limit_and_no_body_comes_without_its_length(two_offices, anna):
    with stored(two_offices):
        assert call(anna, "POST", PATH, bytes(MAX_SUBMISSION + 1)).status_code == 413
        assert call(anna, "POST", "/v1/keys", bytes(MAX_SMALL_BODY + 1)).status_code == 413
        chunked = httpx2.post(two_offices.url + PATH, content=iter([b"abc"]), headers={"content-type": CBOR})
    assert (chunked.status_code, "length" in problem(chunked)["detail"]) == (400, True)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/inbox?after=-1", 400),
        ("GET", "/v1/inbox?after=99999999999999999999", 400),
        ("GET", "/v1/inbox?wait=nan", 400),
        ("GET", "/v1/inbox?wait=61", 400),
        ("POST", "/v1/messages/xyz/open", 400),
        ("GET", "/v1/messages/00000000000000000000000000000000/parts/256", 400),
        ("GET", "/v1/messages/00000000000000000000000000000000/parts/-1", 400),
        ("GET", "/v1/messages/00000000000000000000000000000000/parts/0?chunk=1024", 400),
        ("GET", "/v1/messages/00000000000000000000000000000000/parts/0?chunk=", 400),
        ("GET", "/v1/nothing", 404),
        ("DELETE", "/v1/messages", 405),
        ("GET", "/v1/directory?count=0", 400),
        ("GET", "/v1/documents/00", 400),
    ],
)
def test_a_parameter_out_of_bounds_is_a_problem_and_never_a_crash(anna, method, path, status):
    response = call(anna, method, path)
    assert (response.status_code, problem(response)["status"]) == (status, status)


def test_a_bad_last_event_id_is_refused_before_the_stream_begins(anna):
    for value in ("abc", "-1", "9" * 30, "9" * 5000):
        response = call(anna, "GET", "/v1/events", headers={"last-event-id": value})
        assert problem(response)["status"] == 400
