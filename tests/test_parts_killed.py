"""Large parts when a client or the relay is ended by `kill -9` in the middle, and when two processes read one message."""

from __future__ import annotations

import re
import signal
import threading
from contextlib import closing
from dataclasses import replace

from large_parts import ANNA, JEAN, LABEL, a_file, chunks_of, newest, read_film, run, send_film, sha256, wait_until
from liaison import Attachment, Client
from liaison.portions import PlainFile
from processes import Serving
from relay.protocol.parts import CHUNK
from simulator import lying
from world import PASSPHRASE, clearance


def test_a_client_killed_while_uploading_goes_on_where_it_stopped(two_offices, anna, jean, tmp_path):
    film, before = a_file(tmp_path, 96), chunks_of(two_offices.settings.data)
    process = send_film(two_offices.folder / ANNA, film)
    wait_until(lambda: len(chunks_of(two_offices.settings.data)) >= len(before) + 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    arrived = chunks_of(two_offices.settings.data)
    assert len(arrived) < len(before) + 96 // 4
    anna.sync()  # what any command does first
    after = chunks_of(two_offices.settings.data)
    assert arrived.items() <= after.items()  # none of them was written again
    assert len(after) >= len(before) + 96 // 4
    assert sha256(read_film(two_offices.folder / JEAN, newest(jean), tmp_path / "out")) == sha256(film)


def test_a_client_killed_while_downloading_goes_on_where_it_stopped(two_offices, anna, jean, tmp_path):
    film = a_file(tmp_path, 96)
    sent = anna.send([JEAN], label=LABEL, body="Big.", attachments=[film]).message_id.hex()
    parts = two_offices.folder / JEAN / "parts"
    process = run(two_offices.folder / JEAN, "read", sent, "--json")
    partial = parts / f"{anna.read(bytes.fromhex(sent)).portions[1].apart.digest.hex()}.partial"
    wait_until(lambda: partial.exists() and partial.stat().st_size > 2 * CHUNK, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    there = partial.stat().st_size // CHUNK
    asked, honest = [], jean.transport.get
    jean.transport.get = lambda path, **query: asked.append(query.get("chunk")) or honest(path, **query)
    try:
        jean.read(bytes.fromhex(sent))
    finally:
        del jean.transport.get
    assert min(chunk for chunk in asked if chunk is not None) == there > 0
    assert sha256(read_film(two_offices.folder / JEAN, sent, tmp_path / "out")) == sha256(film)


def test_two_processes_that_read_one_message_do_not_write_into_one_another(two_offices, anna, jean, tmp_path):
    film = a_file(tmp_path, 9)
    plan = anna.plan([JEAN], label=LABEL, body="Big.", attachments=[film, Attachment("long", b"")])
    text = replace(plan.draft.portions[0], content=b"", apart=PlainFile(film, film.stat().st_size))
    portions = (plan.draft.portions[0], plan.draft.portions[1], text)
    sent = anna.release(replace(plan, draft=replace(plan.draft, portions=portions))).message_id
    read = []

    def second():
        with Client.open(two_offices.folder / JEAN, passphrase=PASSPHRASE) as client:
            read.append(client.read(sent))

    other = threading.Thread(target=second)

    def meanwhile(honest, chunk=None, **_query):
        if chunk == 1 and not other.ident:
            other.start()
            other.join(3)  # more than it needs, if nothing holds it up
        return honest()

    with lying(jean) as relay:
        relay.lies.append(("GET", re.compile("/parts/1"), meanwhile))
        read.append(jean.read(sent))
    other.join()
    assert [record.portions[2].content == film.read_bytes() for record in read] == [True, True]
    assert sha256(read_film(two_offices.folder / JEAN, sent.hex(), tmp_path / "out")) == sha256(film)


def test_a_relay_killed_in_the_middle_keeps_every_chunk_that_it_answered(tmp_path):
    serving = Serving(tmp_path / "relay")
    with serving:
        built = serving.world(tmp_path)
        built.office("lo-warsaw", "POL")
        built.office("lo-paris", "FRA")
        built.agreement("lo-warsaw", "lo-paris")
        for address in (ANNA, JEAN):
            built.device(address, clearances=[clearance(nations=["FRA", "POL"])])
        film = a_file(tmp_path, 96)
        process = send_film(tmp_path / ANNA, film)
        wait_until(lambda: len(chunks_of(serving.data)) >= 3, process)
    _told, said = process.communicate(timeout=60)
    assert process.returncode == 7, said
    arrived = chunks_of(serving.data)
    assert len(arrived) < 96 // 4
    with serving, closing(built):
        built.clients[ANNA].sync()
        assert arrived.items() <= chunks_of(serving.data).items()
        message_id = newest(built.clients[JEAN])
        assert sha256(read_film(tmp_path / JEAN, message_id, tmp_path / "out")) == sha256(film)
