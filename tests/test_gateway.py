"""The gateway for systems that cannot seal: who is let in, that a message goes once, that it is read under its marking.

A relay, a gateway and a partner system's web server as real processes and servers; every request is real HTTP.
"""

from __future__ import annotations

import json
import os
import signal
import time
from base64 import b64decode, b64encode, urlsafe_b64decode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import http_message_signatures as other
import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import liaison.gateway.turn as turns
from gateways import Gateway, Line, Listening
from liaison import Attachment, Waiting
from relay.protocol.header import Precedence
from relay.protocol.identity import Kind
from relay.settings import Settings
from served import Served
from world import World, clearance

FEED, ANNA, LUC = "cop-feed@lo-paris", "anna.nowak@lo-warsaw", "luc.bas@lo-paris"
LABEL = "TEST SEALED RELEASABLE TO POL, FRA"
MESSAGE = {"to": [ANNA], "label": LABEL, "subject": "Track 4711", "body": "54.5N 018.6E"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Warsaw with Anna, Paris with a partner system and Luc, who is cleared for OPEN; the gateway is the system's."""
    folder, line = tmp_path_factory.mktemp("gateway"), Line()
    relay = Served(folder / "relay", public_url=line.url).start()
    line.to = relay.port
    keys = json.loads(httpx2.get(f"{relay.url}/v1/relay").content)["keys"]
    world = World(folder, Settings(data=relay.data), SimpleNamespace(vkeys=tuple(keys)), line.url)
    for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
        world.office(office, nation)
    world.agreement("lo-warsaw", "lo-paris")
    anna = world.device(ANNA, clearances=[clearance(nations=["POL"])])
    world.device(LUC, clearances=[clearance(levels=["OPEN"], nations=["FRA"])])
    world.device(FEED, kind=Kind.SYSTEM, clearances=[clearance(nations=["FRA"])]).close()
    del world.clients[FEED]
    gateway, listening = Gateway(folder / FEED), Listening()
    listening.start()
    told = gateway.start("--webhook", listening.url)
    yield SimpleNamespace(
        folder=folder, relay=relay, line=line, anna=anna, gateway=gateway, listening=listening, told=told
    )
    gateway.kill()
    listening.stop()
    world.close()
    relay.kill()


@pytest.fixture
def gateway(place):
    return place.gateway


def received(place, subject: str) -> list:
    """What has come to Anna under this subject, opened by every check of hers."""
    records = [place.anna.read(item.message_id) for item in place.anna.inbox()]
    return [record for record in records if record.portions[0].name == subject]


def test_what_is_sent_arrives_and_opens(place, gateway):
    attached = {"name": "track.kml", "content": b64encode(b"<kml/>").decode(), "label": "TEST OPEN"}
    asked = MESSAGE | {"subject": "First", "precedence": "FLASH", "expires": "2h", "attachments": [attached]}
    answer = gateway.ask("POST", "/v1/messages", asked, key="first")
    assert answer.status_code == 200, answer.text
    receipt = answer.json()
    assert receipt.keys() == {"v", "message_id", "dtg", "released_to", "refused"}
    assert (receipt["v"], receipt["released_to"], receipt["refused"]) == (1, [ANNA], [])
    (record,) = received(place, "First")
    core = record.message.core
    assert (core.message_id.hex(), core.sender, core.handling.precedence) == (receipt["message_id"], FEED, 4)
    assert core.expires - core.created in range(7195, 7201)
    assert [record.portions[index].content for index in (0, 1)] == [b"54.5N 018.6E", b"<kml/>"]
    assert answer.headers["cache-control"] == "no-store"


def test_refused_addressees_are_named_with_their_rules(place, gateway):
    answer = gateway.ask("POST", "/v1/messages", MESSAGE | {"subject": "Two", "info": [LUC]}, key="two").json()
    refused = {"address": LUC, "rules": ["classification"]}
    assert (answer["released_to"], answer["refused"]) == ([ANNA], [refused])
    assert len(received(place, "Two")) == 1
    alone = gateway.ask("POST", "/v1/messages", MESSAGE | {"to": [LUC]}, key="alone")
    problem = alone.json()
    assert (alone.status_code, alone.headers["content-type"]) == (403, "application/problem+json")
    assert (problem["type"], problem["status"]) == ("urn:liaison-relay:problem:refused", 403)
    assert (problem["rules"], problem["refused"]) == (["classification"], [refused])


@pytest.mark.parametrize(
    "wrong",
    [
        {"to": []}, {"to": ANNA}, {"to": ["nobody"]}, {"label": "TEST COSMIC"}, {"label": "/etc/label.xml"}, {"body": 4},
        {"body": "\ud800"}, {"precedence": "flash"}, {"expires": "soon"}, {"colour": "red"}, {"references": ["4711"]},
        {"attachments": [{"name": "a", "content": "?"}]}, {"require_ack": 1}, {"type": "party"},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_message_is_refused_and_its_key_stays_free(gateway, wrong):
    answer = gateway.ask("POST", "/v1/messages", MESSAGE | wrong, key="malformed")
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:liaison-relay:problem:malformed"), answer.text


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"to": 1, "to": 2}', b'{"a": NaN}', b"\xff", b"[" * 99999])
def test_what_is_no_json_object_is_refused(gateway, body):
    assert gateway.ask("POST", "/v1/messages", body, key="malformed").status_code == 400


# --- The process


def test_the_secret_is_in_a_file_of_its_owners_and_nowhere_else(place, gateway):
    path = Path(place.told["secret_file"])
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(gateway.secret) == 43
    assert gateway.secret.encode() not in Path(f"/proc/{gateway.process.pid}/cmdline").read_bytes()
    assert gateway.secret not in json.dumps(place.told)
    beside = Gateway(gateway.profile)
    beside.start("--webhook", "http://host.example/mail", code=1)
    path.chmod(0o640)
    beside.start(code=4)
    path.chmod(0o600)
    assert "open to others" in beside.said.read_text()
    assert gateway.ask("GET", "/health", authorization="Bearer guess").status_code == 401


def test_only_the_loopback_address_is_bound(gateway):
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    port = f"{gateway.port:04X}"
    assert {each[1] for each in listening if each[1].endswith(f":{port}") and each[3] == "0A"} == {f"0100007F:{port}"}


# --- Once


def test_a_message_without_a_key_is_refused(gateway):
    for key in (None, "", '"', "a b", "x" * 129, "ü"):
        answer = gateway.ask("POST", "/v1/messages", MESSAGE, key=key and key.encode("latin-1"))
        assert (answer.status_code, "Idempotency-Key" in answer.json()["detail"]) == (400, True)


def test_a_key_that_is_repeated_sends_once_and_gets_the_same_receipt(place, gateway):
    asked = MESSAGE | {"subject": "Once", "info": [LUC]}
    first = gateway.ask("POST", "/v1/messages", asked, key="once")
    again = gateway.ask("POST", "/v1/messages", dict(reversed(asked.items())), key='"once"')
    assert (first.status_code, again.status_code, first.json()) == (200, 200, again.json())
    with ThreadPoolExecutor(4) as pool:
        asks = [pool.submit(gateway.ask, "POST", "/v1/messages", asked, key=f"at-once-{i % 2}") for i in range(4)]
        assert len({ask.result().json()["message_id"] for ask in asks}) == 2
    assert len(received(place, "Once")) == 3
    changed = gateway.ask("POST", "/v1/messages", asked | {"body": "other"}, key="once")
    assert (changed.status_code, changed.json()["type"]) == (409, "urn:liaison-relay:problem:conflict")


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_between_sealing_and_answering_it_sends_once(place, gateway, when):
    asked, key = MESSAGE | {"subject": f"Killed {when}"}, f"killed-{when}"
    setattr(place.line, when, lambda: os.kill(gateway.process.pid, signal.SIGKILL))
    with pytest.raises(httpx2.HTTPError):
        gateway.ask("POST", "/v1/messages", asked, key=key)
    setattr(place.line, when, None)
    gateway.kill()
    assert len(received(place, f"Killed {when}")) == (when == "after")
    gateway.start("--webhook", place.listening.url)
    assert len(received(place, f"Killed {when}")) == 1  # it has gone before anybody asked again
    receipts = [gateway.ask("POST", "/v1/messages", asked, key=key) for _ in range(2)]
    assert [each.status_code for each in receipts] == [200, 200]
    (record,) = received(place, f"Killed {when}")
    assert {each.json()["message_id"] for each in receipts} == {record.message.core.message_id.hex()}


def test_what_the_relay_does_not_take_yet_waits_and_goes_once(place, gateway):
    asked = MESSAGE | {"subject": "Waits"}
    place.line.before = lambda: None
    answer = gateway.ask("POST", "/v1/messages", asked, key="waits")
    place.line.before = None
    assert (answer.status_code, answer.json()["state"]) == (202, "waiting")
    again = gateway.ask("POST", "/v1/messages", asked, key="waits")
    assert again.status_code == 200
    assert again.json() | {"state": "waiting"} == answer.json()
    assert len(received(place, "Waits")) == 1


def test_what_waits_goes_while_nobody_asks(place, monkeypatch):
    monkeypatch.setattr(turns, "_IDLE", 0.05)
    place.line.before = lambda: None
    with pytest.raises(Waiting):
        place.anna.send([FEED], label=LABEL, body="In time.")
    place.line.before = None

    def end_when_gone(line: str) -> None:
        if "has gone" in line:
            raise SystemExit

    monkeypatch.setattr(place.anna, "tell", end_when_gone)
    with pytest.raises(SystemExit):
        turns.Turn(place.anna).serve()
    assert not place.anna.profile.cabinet.outbox()


# --- Reading


def test_a_message_is_listed_read_and_acknowledged_under_its_marking(place, gateway):
    attached = [Attachment("a.bin", bytes(range(256)), "TEST OPEN")]
    sent = place.anna.send([FEED], label=LABEL, subject="For you", body="Ferry.", attachments=attached)
    one = f"/v1/messages/{sent.message_id.hex()}"
    assert gateway.ask("GET", f"{one}/attachments/2").status_code == 404
    (line,) = listed(gateway, sent, "?state=unread")
    assert (line["from"], line["marking"], line["state"], line["precedence"]) == (ANNA, LABEL, "unread", "ROUTINE")
    read = gateway.ask("POST", f"{one}/open").json()
    assert (read["v"], read["marking"], read["subject"], read["from"]) == (1, LABEL, "For you", ANNA)
    assert [(each["text"], each["marking"]) for each in read["portions"]] == [("Ferry.", LABEL)]
    (row,) = read["attachments"]
    file = gateway.ask("GET", f"{one}/attachments/{row['index']}").json()
    assert (file["marking"], file["name"], b64decode(file["content"])) == ("TEST OPEN", "a.bin", bytes(range(256)))
    assert gateway.ask("POST", f"{one}/acknowledge").json()["state"] == "handled"
    (line,) = listed(gateway, sent, "?state=handled")
    assert line["state"] == "handled"
    assert gateway.ask("POST", f"{one}/open").json() == read


def listed(gateway, sent, query: str) -> list[dict]:
    found = gateway.ask("GET", f"/v1/messages{query}").json()["messages"]
    return [each for each in found if each["message_id"] == sent.message_id.hex()]


def test_what_became_of_a_message_is_told(place, gateway):
    sent = gateway.ask("POST", "/v1/messages", MESSAGE | {"subject": "Tracked", "info": [LUC]}, key="tracked").json()
    track = f"/v1/messages/{sent['message_id']}/track"
    rows = {row["address"]: row["state"] for row in gateway.ask("GET", track).json()["rows"]}
    assert rows == {ANNA: "released", LUC: "refused: classification"}
    received(place, "Tracked")
    assert {"address", "state", "time", "entry", "recalled"} == gateway.ask("GET", track).json()["rows"][0].keys()
    assert gateway.ask("GET", track).json()["rows"][0]["state"] == "opened"


def test_what_is_not_there_is_said_as_everywhere(gateway):
    nothing = bytes(16).hex()
    for method, path in (
        ("POST", f"/v1/messages/{nothing}/open"), ("GET", "/v1/nothing"), ("GET", f"/v1/messages/{nothing}/open"),
        ("GET", f"/v1/messages/{nothing[1:]}/track"),
    ):  # fmt: skip
        answer = gateway.ask(method, path)
        assert (answer.status_code, answer.json()["type"]) == (404, "urn:liaison-relay:problem:unknown"), path
    for path in ("/v1/status?x=1", "/v1/messages?state=all", "/v1/messages?state=open&state=open"):
        assert gateway.ask("GET", path).status_code == 400


def test_status_and_health(place, gateway):
    status = gateway.ask("GET", "/v1/status").json()
    assert (status["address"], status["enrolled"], status["alarms"]) == (FEED, True, [])
    health = gateway.ask("GET", "/health").json()
    assert health == {"v": 1, "address": FEED, "webhook": {"url": place.listening.url, "problem": None}}


# --- Webhooks


def key_of(gateway) -> tuple[str, Ed25519PublicKey]:
    (jwk,) = gateway.ask("GET", "/v1/webhook-keys").json()["keys"]
    return jwk["kid"], Ed25519PublicKey.from_public_bytes(urlsafe_b64decode(jwk["x"] + "="))


def verify(heard, kid: str, key: Ed25519PublicKey) -> str:
    """By another implementation of RFC 9421; the nonce."""

    class Keys(other.HTTPSignatureKeyResolver):
        def resolve_public_key(self, key_id):
            assert key_id == kid
            return key

    verifier = other.HTTPMessageVerifier(signature_algorithm=other.algorithms.ED25519, key_resolver=Keys())
    covered = ("@method", "@authority", "@target-uri", "content-digest", "content-type")
    (found,) = verifier.verify(heard, expect_tag="relay-webhook-v1", require_components=covered, body=heard.body)
    assert 0 < found.parameters["expires"] - found.parameters["created"] <= 60
    return found.parameters["nonce"]


def test_new_mail_rings_signed_and_says_nothing_of_itself(place, gateway):
    sent = place.anna.send([FEED], label=LABEL, subject="Quiet", body="x", precedence=Precedence.FLASH)
    place.listening.wait_for(sent.message_id)
    kid, key = key_of(gateway)
    assert place.told["webhook_key"]["kid"] == kid  # also after it was killed
    heard = [each for each in place.listening.heard if sent.message_id.hex() in each.body.decode()]
    assert json.loads(heard[0].body) == {"v": 1, "message_id": sent.message_id.hex(), "precedence": "FLASH"}
    assert heard[0].url == place.listening.url
    assert verify(heard[0], kid, key)
    assert len({verify(each, kid, key) for each in place.listening.heard}) == len(place.listening.heard)
    for change in ({"body": heard[0].body + b" "}, {"url": heard[0].url + "x"}, {"method": "PUT"}):
        with pytest.raises(other.HTTPMessageSignaturesException):
            verify(SimpleNamespace(**(vars(heard[0]) | change)), kid, key)


def test_a_receiver_that_is_away_misses_nothing_and_keeps_nobody_waiting(place, gateway):
    place.listening.stop()
    ids = [place.anna.send([FEED], label=LABEL, body=str(number)).message_id for number in range(2)]
    until = time.monotonic() + 10
    while gateway.ask("GET", "/health").json()["webhook"]["problem"] is None:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert gateway.ask("POST", "/v1/messages", MESSAGE | {"subject": "Meanwhile"}, key="meanwhile").status_code == 200
    gateway.kill()
    ids.append(place.anna.send([FEED], label=LABEL, body="2").message_id)
    place.listening.status = 302
    heard = len(place.listening.heard)
    place.listening.start()
    gateway.start("--webhook", place.listening.url)
    place.listening.wait_for(ids[0])  # asked, and answered with a redirect that is not followed
    place.listening.status = 204
    place.listening.wait_for(*ids)
    told = place.listening.told()[heard:]
    assert list(dict.fromkeys(told)) == [each.hex() for each in ids]  # in order, and nothing of before
    assert all(each.url == place.listening.url for each in place.listening.heard)


# --- Last, for it takes the relay away


def test_a_relay_that_is_away_is_503_and_nothing_is_lost(place, gateway):
    place.relay.kill()
    asked = MESSAGE | {"subject": "Away"}
    for method, path, body, key in (
        ("POST", "/v1/messages", asked, "away"), ("GET", "/v1/messages", None, None), ("GET", "/v1/status", None, None)
    ):  # fmt: skip
        answer = gateway.ask(method, path, body, key=key)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["type"] == "urn:liaison-relay:problem:unavailable"
    assert gateway.ask("GET", "/health").status_code == 200
    place.relay.start()
    assert gateway.ask("POST", "/v1/messages", asked, key="away").status_code == 200
    assert len(received(place, "Away")) == 1
    sent = place.anna.send([FEED], label=LABEL, body="after")
    place.listening.wait_for(sent.message_id)
