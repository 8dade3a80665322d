"""Whatever waits is served by precedence, and nobody starves."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from dataclasses import replace

import pytest

from forge import Forge, call, problem, signed_headers
from relay.core.reading import InboxPage, Listed
from relay.http.messages import resumable
from relay.pipeline.line import Line
from relay.protocol.canonical import decode
from relay.protocol.envelope import parse_message
from relay.protocol.errors import Unavailable
from relay.protocol.header import Precedence
from test_relay_waiting import event, stream
from world import clearance

ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-paris"
FLASH, ROUTINE = Precedence.FLASH, Precedence.ROUTINE


def test_a_line_serves_the_highest_first_and_the_lowest_in_its_turn():
    line = Line()
    for number in range(20):
        line.put(f"routine {number}", ROUTINE)
    for number in range(20):
        line.put(f"flash {number}", FLASH)
    order = [line.take(1, 1)[0] for _ in range(40)]
    assert order[:7] == [f"flash {number}" for number in range(7)]
    assert order.index("routine 0") == 7  # every eighth place is the lowest's
    assert sorted(order) == sorted([f"{kind} {n}" for kind in ("flash", "routine") for n in range(20)])
    for kind in ("flash", "routine"):
        assert [each for each in order if each.startswith(kind)] == [f"{kind} {n}" for n in range(20)]


def test_an_urgent_one_makes_the_turn_short():
    line = Line()
    for number in range(10):
        line.put(number, ROUTINE)
    assert len(line.take(8, 2)) == 8
    line.put("flash", FLASH)
    assert line.take(8, 2) == ["flash"]
    for number in range(3):
        line.put(f"flash {number}", FLASH)
    assert line.take(8, 2) == ["flash 0", "flash 1"]


def test_who_does_not_want_to_wait_takes_enough_or_nobody():
    line = Line()
    assert line.take(9, 9, now=1) == []
    for number in range(3):
        line.put(number, ROUTINE)
    assert [line.take(9, 9, now=4), line.take(9, 9, now=3)] == [[], [0, 1, 2]]


def test_a_full_line_turns_routine_away_and_takes_flash():
    line = Line()
    for number in range(512):
        line.put(number, ROUTINE)
    with pytest.raises(Unavailable, match="overloaded"):
        line.put("one more", ROUTINE)
    line.put("flash", FLASH)
    assert line.take(1, 1) == ["flash"]


def test_what_is_put_back_goes_next_and_in_its_order():
    line = Line()
    for number in range(5):
        line.put(number, ROUTINE)
    taken = line.take(4, 4)
    line.put("flash", FLASH)
    line.put_back([(number, ROUTINE) for number in taken[1:]])
    assert line.is_urgent()
    assert line.take(9, 9) == ["flash"]
    assert not line.is_urgent()
    assert line.take(9, 9) == [1, 2, 3, 4]


def test_a_batch_of_the_patient_is_cut_short_by_a_flash_and_nothing_of_it_is_lost(two_offices):
    writer, began, may_end, order = two_offices.relay._writer, threading.Event(), threading.Event(), []

    def job(name):
        def run(_batch):
            order.append(name)
            if name == 0:
                began.set()
                may_end.wait(20)
            return lambda _committed: name

        return run

    def until_urgent():
        while not writer._commits.is_urgent():
            time.sleep(0.01)

    async def post() -> list[object]:
        first = asyncio.create_task(writer.submit(lambda _batch: time.sleep(0.3) or (lambda _committed: "before")))
        await asyncio.sleep(0.05)
        patient = [asyncio.create_task(writer.submit(job(number))) for number in range(6)]
        await asyncio.to_thread(began.wait, 20)
        flash = asyncio.create_task(writer.submit(job("flash"), precedence=FLASH))
        await asyncio.to_thread(until_urgent)
        may_end.set()
        return await asyncio.gather(first, *patient, flash)

    assert asyncio.run(post()) == ["before", 0, 1, 2, 3, 4, 5, "flash"]
    assert order == [0, "flash", 1, 2, 3, 4, 5]


def test_an_ended_line_serves_who_waits_and_then_nobody():
    line = Line()
    line.put(1, ROUTINE)
    line.end()
    assert [line.take(5, 5), line.take(5, 5)] == [[1], []]


@pytest.fixture
def reader(two_offices):
    return two_offices.device(JEAN, clearances=[clearance(nations=["FRA"])], name=f"reader-{len(two_offices.clients)}")


def posted(two_offices, reader, *precedences) -> list[str]:
    """Messages of these precedences for one device, in this order."""
    forge, found = Forge(two_offices.clients[ANNA]).prepare(JEAN, label="TEST OPEN"), []
    device = reader.profile.signing.device_id
    sealed_to = [each for each in forge.last_resort(two_offices) if each.device_id == device]
    for precedence in precedences:
        handling = replace(forge.plan.draft.handling, precedence=precedence, info_precedence=ROUTINE)
        submission = forge.seal(readers=sealed_to, handling=handling)
        assert forge.post(submission.encoded()).status_code == 201
        found.append(parse_message(submission.message).core.message_id.hex())
    return found


def listed(answer: bytes) -> list[str]:
    return [parse_message(each).core.message_id.hex() for _, each in decode(answer)[1]]


def test_a_flash_behind_a_full_page_is_on_the_first_page_and_again_in_its_turn(two_offices, reader, monkeypatch):
    monkeypatch.setattr("relay.core.reading.INBOX_PAGE", 3)
    *routine, flash = posted(two_offices, reader, *[ROUTINE] * 7, FLASH)
    first = reader.transport.get("/v1/inbox", after=0)
    assert listed(first) == [flash, *routine[:3]]
    rest, cursor = [], decode(first)[0]
    while page := decode(answer := reader.transport.get("/v1/inbox", after=cursor))[1]:
        rest += listed(answer)
        cursor = page and decode(answer)[0]
    assert set(rest) == {*routine[3:], flash}


def test_a_stream_tells_of_a_flash_first_and_once_and_loses_nothing_on_resuming(two_offices, reader, monkeypatch):
    monkeypatch.setattr("relay.core.reading.INBOX_PAGE", 3)
    *routine, flash = posted(two_offices, reader, *[ROUTINE] * 7, FLASH)
    with stream(reader) as lines:
        told = [event(lines) for _ in range(8)]
        with stream(reader, last_event_id=told[1]["id"]) as resumed:
            again = [json.loads(event(resumed)["data"])["message_id"] for _ in range(7)]
            two_offices.authorities["lo-paris"].revoke(reader.profile.signing.device_id.hex(), "ends the streams")
    assert [json.loads(each["data"])["message_id"] for each in told] == [flash, *routine]
    assert "id" not in told[0]
    assert set(again) == {*routine[1:], flash}


def test_the_cursor_of_a_page_never_passes_what_was_not_told():
    page = InboxPage(4, [Listed(number, b"", ROUTINE) for number in (3, 9, 1, 2, 4)])
    told = [(item.cursor, reached) for item, reached in resumable(page)]
    assert told == [(3, None), (9, None), (1, "1"), (2, "3"), (4, "4")]


def test_who_claims_more_than_the_message_has_is_refused(two_offices):
    forge = Forge(two_offices.clients[ANNA]).prepare(JEAN, label="TEST OPEN")
    body = forge.seal(readers=forge.last_resort(two_offices)).encoded()
    response = forge.post(body, precedence=FLASH)
    assert problem(response)["status"] == 400
    assert "ROUTINE" in problem(response)["detail"]
    assert forge.post(body, precedence=ROUTINE).status_code == 201


def test_who_is_not_known_here_yet_is_looked_for_at_once_if_he_is_urgent(two_offices, monkeypatch):
    writer, looked = two_offices.relay._writer, []
    submit = writer.submit

    def noting(run, needs=(), precedence=ROUTINE):
        looked.append(precedence)
        return submit(run, needs, precedence)

    monkeypatch.setattr(writer, "submit", noting)
    jean, path = two_offices.clients[JEAN], f"/v1/messages/{bytes(16).hex()}/open"
    headers = signed_headers(jean, "POST", path)
    headers["signature-input"] = headers["signature-input"].replace(jean.profile.keyid, bytes(16).hex())
    assert call(jean, "POST", path, headers={**headers, "relay-precedence": "FLASH"}).status_code == 401
    assert looked == [FLASH]


def test_who_opens_as_more_than_the_message_has_is_refused_and_who_may_not_open_it_learns_nothing(two_offices, reader):
    (message_id,) = posted(two_offices, reader, ROUTINE)
    path, as_flash = f"/v1/messages/{message_id}/open", {"relay-precedence": "FLASH"}
    refused = call(reader, "POST", path, headers=as_flash)
    assert (refused.status_code, "ROUTINE" in problem(refused)["detail"]) == (400, True)
    stranger = two_offices.clients[ANNA]
    answers = [call(stranger, "POST", path, headers=headers) for headers in (as_flash, {})]
    assert [each.status_code for each in answers] == [404, 404]
    assert answers[0].content == answers[1].content
    assert call(reader, "POST", path).status_code == 200


def test_a_client_that_has_seen_the_header_opens_a_message_in_its_turn(two_offices, reader, monkeypatch):
    send, to = two_offices.clients[ANNA].send, [reader.profile.pins.address]
    flash, routine = (
        send(to, label="TEST OPEN", body="Ferry.", precedence=each).message_id for each in (FLASH, ROUTINE)
    )
    asked, post = {}, reader.transport.post

    def noting(path, body, seen=0, precedence=ROUTINE):
        asked[path] = precedence
        return post(path, body, seen, precedence)

    monkeypatch.setattr(reader.transport, "post", noting)
    reader.inbox()
    for message_id, precedence in ((flash, FLASH), (routine, ROUTINE)):
        reader.read(message_id)
        assert asked[f"/v1/messages/{message_id.hex()}/open"] == precedence
