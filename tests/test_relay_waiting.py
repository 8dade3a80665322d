"""Waiting for mail: a long poll and a stream learn of it at once, resume where they were, and end with the right."""

from __future__ import annotations

import asyncio
import json
import queue
import threading
import time
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import httpx2
import pytest

from forge import Forge, call, problem, signed_headers
from relay.core import reading, register
from relay.core.caller import Caller
from relay.protocol.access import Judge
from relay.protocol.canonical import decode
from relay.protocol.directory import Directory
from relay.protocol.envelope import parse_message
from relay.protocol.label import label_bytes
from test_relay_revocation import revoke_elsewhere
from world import TEST_SPIF, clearance, world

ANNA = "anna.nowak@lo-warsaw"
WAIT = 30  # what is asked for; that an answer comes long before it is the point of these tests


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    with world(tmp_path_factory.mktemp("waiting")) as built:
        built.office("lo-warsaw", "POL")
        built.device(ANNA)
        yield built


@pytest.fixture
def reader(offices, request):
    """A fresh officer of the sender's own office."""
    address = f"r{abs(hash(request.node.name)) % 10**8}@lo-warsaw"
    client = offices.device(address, clearances=[clearance()])
    offices.clients[ANNA].sync()
    return client


def post(offices, reader) -> str:
    forge = Forge(offices.clients[ANNA]).prepare(reader.profile.pins.address, label="TEST CLOSED")
    submission = forge.seal()
    assert forge.post(submission.encoded()).status_code == 201
    return parse_message(submission.message).core.message_id.hex()


def listened(offices, reader):
    """Until the relay has this reader on its bell: only then is he waiting."""
    device = reader.profile.signing.device_id
    while device not in offices.relay._bell._waiting:
        time.sleep(0.01)


class Answer(threading.Thread):
    """One request in a thread of its own; `result` is its response and how long it took."""

    def __init__(self, reader, path):
        super().__init__(daemon=True)
        self.reader, self.path = reader, path

    def run(self):
        started = time.monotonic()
        self.response = call(self.reader, "GET", self.path, timeout=WAIT + 10)
        self.took = time.monotonic() - started

    def result(self):
        self.join(WAIT + 10)
        return self.response


@contextmanager
def stream(reader, *, after=0, last_event_id=None):
    """Lines of the event stream, as they come, in a queue that ends with None."""
    path, lines = f"/v1/events?after={after}", queue.Queue()
    url = reader.profile.pins.relay_url + path
    headers = signed_headers(reader, "GET", path)
    if last_event_id is not None:
        headers["last-event-id"] = str(last_event_id)

    def read(response):
        for line in response.iter_lines():
            lines.put(line)
        lines.put(None)

    with httpx2.Client(timeout=httpx2.Timeout(WAIT)) as client, client.stream("GET", url, headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        thread = threading.Thread(target=read, args=(response,), daemon=True)
        thread.start()
        try:
            yield lines
        finally:
            while thread.is_alive():  # the reader thread owns the response: it ends with the next line or the stream
                if lines.get(timeout=WAIT) is None:
                    break


def event(lines) -> dict[str, str]:
    found = {}
    while line := lines.get(timeout=WAIT):
        name, _, value = line.partition(": ")
        if name:
            found[name] = value
    return found


def test_a_long_poll_is_answered_when_the_mail_comes_and_not_when_its_time_is_over(offices, reader):
    waiting = Answer(reader, f"/v1/inbox?wait={WAIT}")
    waiting.start()
    listened(offices, reader)
    message_id = post(offices, reader)
    cursor, items = decode(waiting.result().content)
    assert [parse_message(encoded).core.message_id.hex() for _, encoded in items] == [message_id]
    assert [place for place, _ in items] == [cursor]
    assert waiting.took < WAIT / 2


def test_mail_for_another_wakes_nobody(offices, reader):
    waiting = Answer(reader, "/v1/inbox?wait=0.5")
    waiting.start()
    listened(offices, reader)
    post(offices, offices.clients[ANNA])
    assert decode(waiting.result().content) == [0, []]


@pytest.mark.parametrize("foreign", [False, True], ids=["by the authority", "by another process"])
def test_a_long_poll_of_a_device_that_is_revoked_meanwhile_ends_in_401(offices, reader, foreign, monkeypatch):
    monkeypatch.setattr("relay.core.readingroom._POLL", 0.2)
    waiting = Answer(reader, f"/v1/inbox?wait={WAIT}")
    waiting.start()
    listened(offices, reader)
    revoke(offices, reader, foreign)
    assert problem(waiting.result())["status"] == 401
    assert waiting.took < WAIT / 2


def revoke(offices, reader, foreign):
    if foreign:
        revoke_elsewhere(offices, reader)
    else:
        offices.authorities["lo-warsaw"].revoke(reader.profile.pins.address, "lost")


def test_a_stream_tells_of_each_message_once_and_resumes_after_the_last_id(offices, reader):
    first, second = post(offices, reader), post(offices, reader)
    with stream(reader) as lines:
        told = [event(lines), event(lines)]
        third = post(offices, reader)
        told.append(event(lines))
        revoked_later = told[0]["id"]
        with stream(reader, last_event_id=revoked_later) as resumed:
            again = [event(resumed), event(resumed)]
            offices.authorities["lo-warsaw"].revoke(reader.profile.pins.address, "lost")
    assert [each["event"] for each in told] == ["message"] * 3
    assert [json.loads(each["data"])["message_id"] for each in told] == [first, second, third]
    assert json.loads(told[0]["data"]) == {"v": 1, "message_id": first, "precedence": "ROUTINE"}
    assert again == told[1:]


@pytest.mark.parametrize("foreign", [False, True], ids=["by the authority", "by another process"])
def test_a_stream_of_a_device_that_is_revoked_ends_and_tells_of_nothing_more(offices, reader, foreign, monkeypatch):
    monkeypatch.setattr("relay.core.readingroom._POLL", 0.2)
    post(offices, reader)
    forge = Forge(offices.clients[ANNA]).prepare(reader.profile.pins.address, label="TEST CLOSED")
    with stream(reader) as lines:
        event(lines)
        revoke(offices, reader, foreign)
        forge.post(forge.seal().encoded())
        rest = []
        while (line := lines.get(timeout=WAIT)) is not None:
            rest.append(line)
        lines.put(None)
    assert not [line for line in rest if line.startswith(("data:", "id:"))]


@contextmanager
def within(monkeypatch, look):
    """Publications to the directory, each with a look at what it has staged before it is committed."""
    publish = register.publish

    def staged(*args):
        answer = publish(*args)
        look()
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(register, "publish", staged)
        yield


def test_a_policys_new_version_hides_no_mail_while_it_is_committed(offices, reader, monkeypatch):
    message_id, found, judged = post(offices, reader), [], []
    own, now = reader.sync(), int(time.time())
    label = label_bytes(reader.labels.read("TEST CLOSED"))

    def look():
        found.append(decode(call(reader, "GET", "/v1/inbox").content)[1])
        judged.append(offices.relay.judge().judge_sender(label, own, now).permitted)

    newer = TEST_SPIF.replace(b'version="1" creationDate', b'version="2" creationDate')
    with within(monkeypatch, look):
        offices.authorities["lo-warsaw"].publish_policy(newer)
    ((_cursor, message),) = found[0]
    assert parse_message(message).core.message_id.hex() == message_id
    assert judged == [True]


def test_a_look_during_which_a_commit_failed_is_made_again(offices, reader):
    """What a failed commit leaves is a directory that knows nobody, and by it an inbox would be empty."""
    relay, known = offices.relay, []

    def look(_connection):
        known.append(relay.judge().directory.size)
        if len(known) == 1:
            relay._committer.directory = Directory()
        return len(known)

    assert asyncio.run(relay.room.look(look)) == 2
    assert known[0] == known[1] > 0


def test_a_device_looks_at_one_thing_at_a_time_and_keeps_nobody_else_waiting(offices, reader):
    relay, told = offices.relay, []
    his, hers = (
        Caller(relay.judge().directory.devices[client.profile.signing.device_id], bytes(16))
        for client in (reader, offices.clients[ANNA])
    )
    begins, may_end = threading.Event(), threading.Event()

    def look(name, _connection):
        if name == "his first":
            begins.set()
            assert may_end.wait(20)
        elif name == "hers":
            assert begins.wait(20)
            time.sleep(0.3)  # in which his second would begin
            may_end.set()
        told.append((name, may_end.is_set()))

    async def together():
        names = {"his first": his, "his second": his, "hers": hers}
        await asyncio.gather(*(relay.room.look(partial(look, name), caller) for name, caller in names.items()))

    asyncio.run(together())
    assert sorted(told) == [("hers", True), ("his first", True), ("his second", True)]


def test_of_a_message_that_is_not_listed_no_more_is_asked_than_takes_to_know_it(offices, reader, monkeypatch):
    post(offices, reader)
    judged = []
    denial = SimpleNamespace(failing=("need-to-know", "agreement"))
    monkeypatch.setattr(Judge, "judge", lambda *given: judged.append(given) or denial)
    monkeypatch.setattr(reading, "parse_slot", lambda *_: SimpleNamespace(granted=(0, 0, 0)))
    assert decode(call(reader, "GET", "/v1/inbox").content)[1] == []
    assert len(judged) == 1
