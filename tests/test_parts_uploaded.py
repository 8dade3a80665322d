"""Uploads of large parts: whose they are, what completes them, what spoils them, and the quota of an office."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from sqlalchemy import delete

from forge import CBOR, Forge, call, problem, signed_headers, stored
from large_parts import JEAN, LABEL, a_file, begun, put
from relay.core.uploads import Chunks, ended
from relay.protocol.canonical import decode, encode
from relay.protocol.envelope import parse_message
from relay.protocol.errors import TooLarge
from relay.protocol.parts import CHUNK, part_digest
from relay.store.schema import upload

QUOTA = 1 << 30


def test_another_office_can_neither_see_nor_fill_nor_use_an_upload(two_offices, anna, jean):
    sealed = os.urandom(CHUNK + 5)
    assert decode(begun(anna, sealed).content) == [0, 1]
    assert put(jean, sealed, 0).status_code == 404
    assert put(anna, sealed, 0).status_code == 200
    assert decode(begun(jean, sealed).content) == [0, 1]  # an upload of its own, which has nothing
    assert decode(begun(anna, sealed).content) == [1]
    assert put(anna, sealed, 1).status_code == 200
    assert decode(begun(anna, sealed).content) == []
    assert decode(begun(jean, sealed).content) == [0, 1]


def test_an_upload_that_is_not_what_it_said_is_refused_and_can_be_begun_again(two_offices, anna):
    sealed = os.urandom(CHUNK + 5)
    begun(anna, sealed)
    assert put(anna, sealed, 1, b"short").status_code == 200
    for chunk, content in ((0, b"short"), (2, b""), (7, bytes(5))):
        assert put(anna, sealed, chunk, content).status_code in {400, 422}, chunk
    response = put(anna, sealed, 0)
    assert (response.status_code, problem(response)["type"]) == (422, "urn:liaison-relay:problem:unverified")
    assert decode(begun(anna, sealed).content) == [0, 1]
    assert [put(anna, sealed, chunk).status_code for chunk in (1, 0)] == [200, 200]
    assert decode(begun(anna, sealed).content) == []


def test_what_another_process_remembers_of_an_upload_that_was_spoiled_completes_none(two_offices, anna, monkeypatch):
    here, sealed = two_offices.relay._chunks, os.urandom(2 * CHUNK + 5)
    there = Chunks(here._blobs)

    def put_at(chunks, *chunk):
        monkeypatch.setattr(two_offices.relay, "_chunks", chunks)
        return put(anna, sealed, *chunk).status_code

    begun(anna, sealed)
    assert [put_at(there, 0), put_at(here, 1, bytes(CHUNK)), put_at(here, 2), put_at(there, 1)] == [200, 200, 422, 404]
    assert decode(begun(anna, sealed).content) == [0, 1, 2]
    assert [put_at(there, 1), put_at(there, 2)] == [200, 200]
    assert decode(begun(anna, sealed).content) == [0]
    assert put_at(here, 0) == 200
    assert decode(begun(anna, sealed).content) == []


def test_a_chunk_that_was_under_way_when_its_upload_was_spoiled_completes_none(two_offices, anna, monkeypatch):
    here, sealed, held, go = two_offices.relay._chunks, os.urandom(CHUNK + 5), threading.Event(), threading.Event()
    keep = here._blobs.put

    def keep_slowly(upload_id, chunk, pieces):
        if b"".join(pieces) == sealed[CHUNK:]:
            held.set()
            assert go.wait(20)
        return keep(upload_id, chunk, pieces)

    begun(anna, sealed)
    assert put(anna, sealed, 1, b"wrong").status_code == 200
    monkeypatch.setattr(here._blobs, "put", keep_slowly)
    with ThreadPoolExecutor() as pool:
        late = pool.submit(put, anna, sealed, 1)
        assert held.wait(20)
        assert put(anna, sealed, 0).status_code == 422
        go.set()
        assert late.result().status_code == 404
    assert decode(begun(anna, sealed).content) == [0, 1]
    assert [put(anna, sealed, chunk).status_code for chunk in (0, 1)] == [200, 200]
    assert decode(begun(anna, sealed).content) == []
    asyncio.run(two_offices.relay.sweeper.sweep())
    with two_offices.relay._readers.connect() as connection:
        assert not here.stored() & ended(connection).keys()  # nothing is left of the late one


def test_a_chunk_that_is_not_the_one_that_was_signed_for_is_refused_and_not_kept(two_offices, anna):
    sealed = os.urandom(CHUNK + 5)
    begun(anna, sealed)
    path = f"/v1/parts/{part_digest(sealed).hex()}/1"
    signed = signed_headers(anna, "PUT", path, sealed[CHUNK:])
    for body in (b"other", b""):
        response = httpx2.put(two_offices.url + path, content=body, headers={**signed, "content-type": CBOR})
        assert (response.status_code, "request signature" in problem(response)["detail"]) == (401, True)
        signed = signed_headers(anna, "PUT", path, sealed[CHUNK:])
    assert decode(begun(anna, sealed).content) == [0, 1]


def test_a_part_that_is_not_there_or_another_messages_spoils_the_submission(two_offices, anna, tmp_path):
    forge = Forge(anna).prepare(JEAN, label=LABEL)
    sound = forge.seal()
    core = parse_message(sound.message).core
    left_out = encode([sound.message, list(sound.slots), [None] * len(sound.parts), []])
    with stored(two_offices):
        assert "was not uploaded" in problem(forge.post(left_out))["detail"]
    (sealed,) = sound.parts
    begun(anna, sealed)
    with stored(two_offices):
        assert "was not uploaded" in problem(forge.post(left_out))["detail"]
    assert put(anna, sealed, 0).status_code == 200
    assert forge.post(left_out).status_code == 201
    assert forge.post(left_out).status_code == 201  # the same again: the same receipt
    other = parse_message(forge.seal(readers=forge.claim()).message).core
    assert other.message_id != core.message_id
    again = forge.seal(readers=forge.claim())

    def with_that_part(fields):
        fields[8] = [[len(sealed), hashlib.sha256(sealed).digest(), fields[8][0][2]]]

    body = forge.alter(again, with_that_part, parts=[None])
    with stored(two_offices):
        assert "another message" in problem(forge.post(body))["detail"]


def test_beyond_the_quota_the_office_is_told_so_and_the_message_is_given_up(two_offices, anna, tmp_path, monkeypatch):
    monkeypatch.setattr(two_offices.relay._quota, "office_octets", QUOTA)
    response = call(anna, "POST", "/v1/parts", encode([bytes(32), QUOTA + 1]))
    assert (response.status_code, "quota" in problem(response)["detail"]) == (413, True)
    monkeypatch.setattr(two_offices.relay._quota, "office_octets", 1)
    with pytest.raises(TooLarge, match=r"lo-warsaw has \d+ octets of large parts here") as refused:
        anna.send([JEAN], label=LABEL, body="Big.", attachments=[a_file(tmp_path, 2)])
    assert refused.value.hint == "ask the relay's operator"
    assert anna.profile.cabinet.outbox() == []


def test_a_quota_of_none_takes_any_part(two_offices, anna, monkeypatch):
    monkeypatch.setattr(two_offices.relay._quota, "office_octets", 0)
    assert call(anna, "POST", "/v1/parts", encode([os.urandom(32), QUOTA + 1])).status_code == 200
    with two_offices.relay._readers.begin() as connection:
        connection.execute(delete(upload).where(upload.c.length == QUOTA + 1))
