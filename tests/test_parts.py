"""Large parts: streamed, resumed after kill -9 of either side, swept, within a quota, nobody else's business."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
from sqlalchemy import delete, select, update

from forge import CBOR, Forge, call, problem, signed_headers, stored
from liaison import Attachment, Client
from liaison.composing import Enclosed
from liaison.desk import Desk
from liaison.meter import no_meter
from liaison.portions import PlainFile, PortionContent, PortionKind
from liaison.sealed import save
from relay.core.uploads import ORPHAN_AFTER, Chunks, ended
from relay.protocol.canonical import decode, encode
from relay.protocol.envelope import parse_message
from relay.protocol.errors import TooLarge, Unverified
from relay.protocol.label import label_bytes
from relay.protocol.parts import CHUNK, PartDigest, part_digest
from relay.settings import Settings
from relay.store.schema import part, upload
from simulator import lying
from test_crash import Victim
from world import PASSPHRASE, World, clearance, world

ANNA, JEAN, LUC = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "luc.bas@lo-paris"
LABEL = "TEST SEALED RELEASABLE TO FRA, POL"
QUOTA = 1 << 30


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    with world(tmp_path_factory.mktemp("parts"), quota_office_octets=QUOTA) as built:
        people(built)
        yield built


def people(built) -> None:
    built.office("lo-warsaw", "POL")
    built.office("lo-paris", "FRA")
    built.agreement("lo-warsaw", "lo-paris")
    for address in (ANNA, JEAN, LUC):
        built.device(address, clearances=[clearance(nations=["FRA", "POL"])])


@pytest.fixture
def anna(offices):
    return offices.clients[ANNA]


@pytest.fixture
def jean(offices):
    return offices.clients[JEAN]


def a_file(folder: Path, mebibytes: int) -> Path:
    path = folder / "film.bin"
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(1 << 20))
        file.write(b"the end")
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def chunks_of(relay_folder: Path) -> dict[Path, int]:
    """Every chunk that is stored, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in relay_folder.glob("parts/*/[0-9]*")}


def run(home: Path, *command: object) -> subprocess.Popen:
    passphrase = home.parent / "passphrase"
    passphrase.touch(0o600)
    passphrase.write_text(PASSPHRASE)
    settings = {"LIAISON_HOME": str(home), "LIAISON_PASSPHRASE_FILE": str(passphrase), "HOME": str(home)}
    program = [Path(sys.executable).parent / "liaison", *map(str, command)]
    return subprocess.Popen(
        program,
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_until(condition, process) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def send_film(home: Path, film: Path) -> subprocess.Popen:
    body = home.parent / "body.txt"
    body.write_text("A film.\n")
    return run(home, "send", "--to", JEAN, "--label", LABEL, "--attach", film, "--yes", "--json", body)


def read_film(home: Path, message_id: str, out: Path) -> Path:
    process = run(home, "read", message_id, "--out", out, "--json")
    told, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    (attachment,) = json.loads(told)["attachments"]
    return Path(attachment["saved"])


def newest(client) -> str:
    return max(client.inbox(), key=lambda item: item.message.core.seq).message_id.hex()


# -- there and back ---------------------------------------------------------------------------------------------------


def test_a_large_file_arrives_bit_exact_by_the_command_line_and_lies_sealed_in_both_profiles(offices, tmp_path):
    film = a_file(tmp_path, 9)
    process = send_film(offices.folder / ANNA, film)
    told, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    saved = read_film(offices.folder / JEAN, json.loads(told)["message_id"], tmp_path / "out")
    assert sha256(saved) == sha256(film)
    assert list((tmp_path / "out").iterdir()) == [saved]  # no half-written file beside it
    needle = film.read_bytes()[5_000_000:5_000_032]
    for home in (offices.folder / ANNA, offices.folder / JEAN, offices.settings.data):
        assert not [path for path in home.rglob("*") if path.is_file() and needle in path.read_bytes()]


def test_memory_stays_flat_whatever_the_size(anna, jean, tmp_path):
    """64 MiB sealed, uploaded, accepted, downloaded, opened and written, client and relay in this one process."""
    film = a_file(tmp_path, 64)
    tracemalloc.start()
    try:
        sent = anna.send([JEAN], label=LABEL, body="Big.", attachments=[film])
        record = jean.read(sent.message_id)
        save(record.portions[1], tmp_path / "copy", no_meter)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sha256(tmp_path / "copy") == sha256(film)
    assert peak < 60 << 20  # a few chunks at either end, and not the file


def test_a_forward_passes_a_large_file_on(offices, anna, jean, tmp_path):
    film = a_file(tmp_path, 5)
    sent = anna.send([JEAN], label=LABEL, body="Look.", attachments=[film])
    forwarded = jean.release(Desk(jean).plan_forward(sent.message_id, [LUC], "As announced.", label=None))
    portions = offices.clients[LUC].read(forwarded.message_id).portions.values()
    (attached,) = [portion for portion in portions if portion.apart is not None]
    save(attached, tmp_path / "copy", no_meter)
    assert sha256(tmp_path / "copy") == sha256(film)


def test_more_text_than_any_sender_writes_is_refused_and_neither_held_in_memory_nor_kept(
    anna, jean, tmp_path, monkeypatch
):
    monkeypatch.setattr("liaison.incoming.MAX_CONTENT", 3 << 20)
    film = a_file(tmp_path, 2)
    plan = anna.plan([JEAN], label=LABEL, body="Long.", attachments=[Attachment("short", b"")])
    text = replace(plan.draft.portions[0], content=b"", apart=PlainFile(film, film.stat().st_size))

    def send(*portions):
        return anna.release(replace(plan, draft=replace(plan.draft, portions=portions))).message_id

    before, sent = set(jean.profile.cabinet.parts.glob("*")), send(text, replace(text, kind=PortionKind.CONSENT))
    with pytest.raises(TooLarge, match="more text than is read here"):
        jean.read(sent)
    assert jean.profile.cabinet.message(sent) is None
    assert set(jean.profile.cabinet.parts.glob("*")) == before
    assert jean.read(send(text, plan.draft.portions[1])).portions[0].content == film.read_bytes()


def test_many_small_parts_are_no_way_round_that(anna, jean, monkeypatch):
    paragraphs = [PortionContent(PortionKind.PARAGRAPH, label_bytes(anna.labels.read(LABEL)), b"x" * 60_000)] * 5
    within, beyond = (
        anna.send([JEAN], label=LABEL, body="Long.", enclosed=Enclosed(tuple(paragraphs[:count]))).message_id
        for count in (4, 5)
    )
    monkeypatch.setattr("liaison.incoming.MAX_CONTENT", 250_000)
    with pytest.raises(TooLarge, match="more text than is read here"):
        jean.read(beyond)
    assert jean.profile.cabinet.message(beyond) is None
    assert len(jean.read(within).portions) == 5


# -- kill -9 ----------------------------------------------------------------------------------------------------------


def test_a_client_killed_while_uploading_goes_on_where_it_stopped(offices, anna, jean, tmp_path):
    film, before = a_file(tmp_path, 96), chunks_of(offices.settings.data)
    process = send_film(offices.folder / ANNA, film)
    wait_until(lambda: len(chunks_of(offices.settings.data)) >= len(before) + 3, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    arrived = chunks_of(offices.settings.data)
    assert len(arrived) < len(before) + 96 // 4
    anna.sync()  # what any command does first
    after = chunks_of(offices.settings.data)
    assert arrived.items() <= after.items()  # none of them was written again
    assert len(after) >= len(before) + 96 // 4
    assert sha256(read_film(offices.folder / JEAN, newest(jean), tmp_path / "out")) == sha256(film)


def test_a_client_killed_while_downloading_goes_on_where_it_stopped(offices, anna, jean, tmp_path):
    film = a_file(tmp_path, 96)
    sent = anna.send([JEAN], label=LABEL, body="Big.", attachments=[film]).message_id.hex()
    parts = offices.folder / JEAN / "parts"
    process = run(offices.folder / JEAN, "read", sent, "--json")
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
    assert sha256(read_film(offices.folder / JEAN, sent, tmp_path / "out")) == sha256(film)


def test_two_processes_that_read_one_message_do_not_write_into_one_another(offices, anna, jean, tmp_path):
    film = a_file(tmp_path, 9)
    plan = anna.plan([JEAN], label=LABEL, body="Big.", attachments=[film, Attachment("long", b"")])
    text = replace(plan.draft.portions[0], content=b"", apart=PlainFile(film, film.stat().st_size))
    portions = (plan.draft.portions[0], plan.draft.portions[1], text)
    sent = anna.release(replace(plan, draft=replace(plan.draft, portions=portions))).message_id
    read = []

    def second():
        with Client.open(offices.folder / JEAN, passphrase=PASSPHRASE) as client:
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
    assert sha256(read_film(offices.folder / JEAN, sent.hex(), tmp_path / "out")) == sha256(film)


def test_a_download_that_was_damaged_after_it_was_whole_is_fetched_again(anna, jean, tmp_path):
    film = a_file(tmp_path, 5)
    sent = anna.send([JEAN], label=LABEL, body="Big.", attachments=[film]).message_id
    digest = parse_message(anna.read(sent).encoded).core.portions[1].digest
    path = jean.profile.cabinet.parts / digest.hex()
    path.write_bytes(bytes((6 << 20) + 1))
    save(jean.read(sent).portions[1], tmp_path / "copy", no_meter)
    assert sha256(tmp_path / "copy") == sha256(film)


def test_a_relay_killed_in_the_middle_keeps_every_chunk_that_it_answered(tmp_path):
    victim = Victim(tmp_path)
    victim.start()
    try:
        keys = json.loads(httpx2.get(f"{victim.url}/v1/relay").content)["keys"]
        built = World(tmp_path, Settings(data=victim.data), SimpleNamespace(vkeys=tuple(keys)), victim.url)
        people(built)
        film = a_file(tmp_path, 96)
        process = send_film(tmp_path / ANNA, film)
        wait_until(lambda: len(chunks_of(victim.data)) >= 3, process)
        victim.kill()
        _told, said = process.communicate(timeout=60)
        assert process.returncode == 7, said
        arrived = chunks_of(victim.data)
        assert len(arrived) < 96 // 4
        victim.start()
        built.clients[ANNA].sync()
        assert arrived.items() <= chunks_of(victim.data).items()
        message_id = newest(built.clients[JEAN])
        assert sha256(read_film(tmp_path / JEAN, message_id, tmp_path / "out")) == sha256(film)
        built.close()
    finally:
        victim.kill()


# -- who may ----------------------------------------------------------------------------------------------------------


def begun(who, sealed: bytes):
    return call(who, "POST", "/v1/parts", encode([part_digest(sealed), len(sealed)]))


def put(who, sealed: bytes, chunk: int, content: bytes | None = None):
    content = sealed[chunk * CHUNK : (chunk + 1) * CHUNK] if content is None else content
    return call(who, "PUT", f"/v1/parts/{part_digest(sealed).hex()}/{chunk}", content)


def test_another_office_can_neither_see_nor_fill_nor_use_an_upload(offices, anna, jean):
    sealed = os.urandom(CHUNK + 5)
    assert decode(begun(anna, sealed).content) == [0, 1]
    assert put(jean, sealed, 0).status_code == 404
    assert put(anna, sealed, 0).status_code == 200
    assert decode(begun(jean, sealed).content) == [0, 1]  # an upload of its own, which has nothing
    assert decode(begun(anna, sealed).content) == [1]
    assert put(anna, sealed, 1).status_code == 200
    assert decode(begun(anna, sealed).content) == []
    assert decode(begun(jean, sealed).content) == [0, 1]


def test_a_large_part_is_read_by_the_holder_of_a_released_slot_only_chunk_by_chunk(offices, anna, jean, tmp_path):
    sent = anna.send([JEAN], label=LABEL, body="Big.", attachments=[a_file(tmp_path, 5)]).message_id.hex()
    paths = [f"/v1/messages/{sent}/parts/1{query}" for query in ("", "?chunk=0", "?chunk=1", "?chunk=2")]
    luc = offices.clients[LUC]
    assert [call(who, "GET", path).status_code for who in (anna, jean, luc) for path in paths] == [404] * 12
    jean.read(bytes.fromhex(sent))
    assert [call(jean, "GET", path).status_code for path in paths] == [200, 200, 200, 404]
    assert [call(luc, "GET", path).status_code for path in paths] == [404] * 4


def test_an_upload_that_is_not_what_it_said_is_refused_and_can_be_begun_again(offices, anna):
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


def test_what_another_process_remembers_of_an_upload_that_was_spoiled_completes_none(offices, anna, monkeypatch):
    here, sealed = offices.relay._chunks, os.urandom(2 * CHUNK + 5)
    there = Chunks(here._blobs)

    def put_at(chunks, *chunk):
        monkeypatch.setattr(offices.relay, "_chunks", chunks)
        return put(anna, sealed, *chunk).status_code

    begun(anna, sealed)
    assert [put_at(there, 0), put_at(here, 1, bytes(CHUNK)), put_at(here, 2), put_at(there, 1)] == [200, 200, 422, 404]
    assert decode(begun(anna, sealed).content) == [0, 1, 2]
    assert [put_at(there, 1), put_at(there, 2)] == [200, 200]
    assert decode(begun(anna, sealed).content) == [0]
    assert put_at(here, 0) == 200
    assert decode(begun(anna, sealed).content) == []


def test_a_chunk_that_was_under_way_when_its_upload_was_spoiled_completes_none(offices, anna, monkeypatch):
    here, sealed, held, go = offices.relay._chunks, os.urandom(CHUNK + 5), threading.Event(), threading.Event()
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
    asyncio.run(offices.relay.sweeper.sweep())
    with offices.relay._readers.connect() as connection:
        assert not here.stored() & ended(connection).keys()  # nothing is left of the late one


def test_a_chunk_that_is_not_the_one_that_was_signed_for_is_refused_and_not_kept(offices, anna):
    sealed = os.urandom(CHUNK + 5)
    begun(anna, sealed)
    path = f"/v1/parts/{part_digest(sealed).hex()}/1"
    signed = signed_headers(anna, "PUT", path, sealed[CHUNK:])
    for body in (b"other", b""):
        response = httpx2.put(offices.url + path, content=body, headers={**signed, "content-type": CBOR})
        assert (response.status_code, "request signature" in problem(response)["detail"]) == (401, True)
        signed = signed_headers(anna, "PUT", path, sealed[CHUNK:])
    assert decode(begun(anna, sealed).content) == [0, 1]


def test_the_digest_of_a_part_is_over_those_of_its_chunks():
    """SPEC.md, 14: written out here once more, with another cutting than the code's."""
    for length in (0, 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 77):
        sealed = os.urandom(length)
        chunks = [hashlib.sha256(sealed[at : at + CHUNK]).digest() for at in range(0, length, CHUNK)]
        expected = hashlib.sha256(b"".join(chunks) if length > CHUNK else sealed).digest()
        as_it_comes = PartDigest()
        for at in range(0, length, 1_000_003):
            as_it_comes.update(sealed[at : at + 1_000_003])
        assert part_digest(sealed) == as_it_comes.digest() == expected


def test_a_part_that_is_not_there_or_another_messages_spoils_the_submission(offices, anna, tmp_path):
    forge = Forge(anna).prepare(JEAN, label=LABEL)
    sound = forge.seal()
    core = parse_message(sound.message).core
    left_out = encode([sound.message, list(sound.slots), [None] * len(sound.parts), []])
    with stored(offices):
        assert "was not uploaded" in problem(forge.post(left_out))["detail"]
    (sealed,) = sound.parts
    begun(anna, sealed)
    with stored(offices):
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
    with stored(offices):
        assert "another message" in problem(forge.post(body))["detail"]


def test_beyond_the_quota_the_office_is_told_so_and_the_message_is_given_up(offices, anna, tmp_path):
    response = call(anna, "POST", "/v1/parts", encode([bytes(32), QUOTA + 1]))
    assert (response.status_code, "quota" in problem(response)["detail"]) == (413, True)
    offices.relay._quota.office_octets = 1
    try:
        with pytest.raises(TooLarge, match=r"lo-warsaw has \d+ octets of large parts here") as refused:
            anna.send([JEAN], label=LABEL, body="Big.", attachments=[a_file(tmp_path, 2)])
    finally:
        offices.relay._quota.office_octets = QUOTA
    assert refused.value.hint == "ask the relay's operator"
    assert anna.profile.cabinet.outbox() == []


def test_a_quota_of_none_takes_any_part(offices, anna):
    offices.relay._quota.office_octets = 0
    try:
        assert call(anna, "POST", "/v1/parts", encode([os.urandom(32), QUOTA + 1])).status_code == 200
    finally:
        offices.relay._quota.office_octets = QUOTA
        with offices.relay._readers.begin() as connection:
            connection.execute(delete(upload).where(upload.c.length == QUOTA + 1))


# -- at rest ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [0, 30, CHUNK - 1])
def test_a_chunk_that_was_changed_in_the_store_is_found_by_the_reader_with_exit_5(offices, anna, tmp_path, where):
    sent = anna.send([JEAN], label=LABEL, body="Big.", attachments=[a_file(tmp_path, 5)]).message_id
    with offices.relay._readers.connect() as connection:
        found = select(part.c.upload_id).where(part.c.message_id == sent, part.c.idx == 1)
        folder = offices.settings.data / "parts" / connection.scalar(found).hex()
    content = bytearray((folder / "0").read_bytes())
    content[where] ^= 1
    (folder / "0").write_bytes(content)
    process = run(offices.folder / JEAN, "read", sent.hex(), "--out", tmp_path / "out")
    _told, said = process.communicate(timeout=60)
    assert (process.returncode, b"not the one that was signed" in said) == (5, True)
    assert not list((tmp_path / "out").glob("*"))


def test_a_sealed_file_changed_in_the_profile_is_found_and_no_file_is_left(jean, anna, tmp_path):
    sent = anna.send([JEAN], label=LABEL, body="Big.", attachments=[a_file(tmp_path, 5)]).message_id
    record = jean.read(sent)
    path = record.portions[1].apart.path
    for spoil in (lambda octets: octets[:-1] + bytes([octets[-1] ^ 1]), lambda octets: octets[: 56 + 16400 * 3]):
        path.write_bytes(spoil(path.read_bytes()))
        with pytest.raises(Unverified):
            save(record.portions[1], tmp_path / "out.bin", no_meter)
        assert not (tmp_path / "out.bin").exists()


def test_the_sweep_takes_what_no_message_took_up_and_nothing_else(offices, anna, jean, tmp_path):
    sent = anna.send([JEAN], label=LABEL, body="Kept.", attachments=[a_file(tmp_path, 5)]).message_id
    old, fresh = os.urandom(100), os.urandom(100)
    for sealed in (old, fresh):
        begun(anna, sealed)
        assert put(anna, sealed, 0).status_code == 200
    stray = offices.settings.data / "parts" / os.urandom(16).hex()  # of another database, or a newer state of this one
    stray.mkdir()
    (stray / "0").write_bytes(b"another's")
    foreign = stray.with_name("lost+found")
    foreign.mkdir()
    before = set((offices.settings.data / "parts").iterdir())
    long_ago = update(upload).values(begun=1).where(upload.c.digest != hashlib.sha256(fresh).digest())
    with offices.relay._committer._engine.begin() as connection:
        unbound = set(connection.scalars(select(upload.c.upload_id))) - set(
            connection.scalars(select(part.c.upload_id))
        )
        connection.execute(long_ago)
    asyncio.run(offices.relay.sweeper.sweep())
    gone = before - set((offices.settings.data / "parts").iterdir())
    assert {stray, foreign}.isdisjoint(gone)
    assert decode(begun(anna, old).content) == [0]
    assert decode(begun(anna, fresh).content) == []
    assert gone
    assert {path.name for path in gone} <= {upload_id.hex() for upload_id in unbound}
    assert jean.read(sent).portions[1].apart is not None


def test_the_row_of_an_upload_that_has_ended_goes_once_its_chunks_are_gone_for_long(offices, anna):
    begun(anna, sealed := os.urandom(100))
    assert put(anna, sealed, 0).status_code == 200
    with offices.relay._readers.connect() as connection:
        (upload_id,) = connection.scalars(select(upload.c.upload_id).where(upload.c.digest == part_digest(sealed)))
    late = offices.settings.data / "parts" / bytes(upload_id).hex()

    def swept(since: float) -> tuple[bool, bool]:
        with offices.relay._committer._engine.begin() as connection:
            connection.execute(update(upload).values(begun=int(since)).where(upload.c.upload_id == upload_id))
        asyncio.run(offices.relay.sweeper.sweep())
        with offices.relay._readers.connect() as connection:
            return bytes(upload_id) in ended(connection), late.exists()

    long_ago = time.time() - ORPHAN_AFTER - 5
    assert swept(long_ago) == (True, False)
    late.mkdir()
    (late / "0").write_bytes(b"was under way")
    assert swept(long_ago) == (True, False)
    assert swept(time.time()) == (True, False)
    assert swept(long_ago) == (False, False)


def test_an_attachment_of_bytes_still_travels_inside_the_submission(anna, jean):
    content = os.urandom(3 << 20)
    sent = anna.send([JEAN], label=LABEL, body="In memory.", attachments=[Attachment("x.bin", content)])
    assert b"".join(jean.read(sent.message_id).portions[1].blocks()) == content
