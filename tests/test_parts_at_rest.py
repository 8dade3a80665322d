"""Large parts at rest: what was changed in a store is found, and the sweep takes what no message took up."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time

import pytest
from sqlalchemy import select, update

from large_parts import JEAN, LABEL, a_file, begun, put, run, sha256
from liaison.meter import no_meter
from liaison.sealed import save
from relay.core.uploads import ORPHAN_AFTER, ended
from relay.protocol.canonical import decode
from relay.protocol.envelope import parse_message
from relay.protocol.errors import Unverified
from relay.protocol.parts import CHUNK, part_digest
from relay.store.schema import part, upload


def test_a_download_that_was_damaged_after_it_was_whole_is_fetched_again(anna, jean, tmp_path):
    film = a_file(tmp_path, 5)
    sent = anna.send([JEAN], label=LABEL, body="Big.", attachments=[film]).message_id
    digest = parse_message(anna.read(sent).encoded).core.portions[1].digest
    path = jean.profile.cabinet.parts / digest.hex()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes((6 << 20) + 1))
    save(jean.read(sent).portions[1], tmp_path / "copy", no_meter)
    assert sha256(tmp_path / "copy") == sha256(film)


@pytest.mark.parametrize("where", [0, 30, CHUNK - 1])
def test_a_chunk_that_was_changed_in_the_store_is_found_by_the_reader_with_exit_5(two_offices, anna, tmp_path, where):
    sent = anna.send([JEAN], label=LABEL, body="Big.", attachments=[a_file(tmp_path, 5)]).message_id
    with two_offices.relay._readers.connect() as connection:
        found = select(part.c.upload_id).where(part.c.message_id == sent, part.c.idx == 1)
        folder = two_offices.settings.data / "parts" / connection.scalar(found).hex()
    content = bytearray((folder / "0").read_bytes())
    content[where] ^= 1
    (folder / "0").write_bytes(content)
    process = run(two_offices.folder / JEAN, "read", sent.hex(), "--out", tmp_path / "out")
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


def test_the_sweep_takes_what_no_message_took_up_and_nothing_else(two_offices, anna, jean, tmp_path):
    sent = anna.send([JEAN], label=LABEL, body="Kept.", attachments=[a_file(tmp_path, 5)]).message_id
    old, fresh = os.urandom(100), os.urandom(100)
    for sealed in (old, fresh):
        begun(anna, sealed)
        assert put(anna, sealed, 0).status_code == 200
    stray = (
        two_offices.settings.data / "parts" / os.urandom(16).hex()
    )  # of another database, or a newer state of this one
    stray.mkdir()
    (stray / "0").write_bytes(b"another's")
    foreign = stray.with_name("lost+found")
    foreign.mkdir()
    before = set((two_offices.settings.data / "parts").iterdir())
    long_ago = update(upload).values(begun=1).where(upload.c.digest != hashlib.sha256(fresh).digest())
    with two_offices.relay._committer._engine.begin() as connection:
        unbound = set(connection.scalars(select(upload.c.upload_id))) - set(
            connection.scalars(select(part.c.upload_id))
        )
        connection.execute(long_ago)
    asyncio.run(two_offices.relay.sweeper.sweep())
    gone = before - set((two_offices.settings.data / "parts").iterdir())
    assert {stray, foreign}.isdisjoint(gone)
    assert decode(begun(anna, old).content) == [0]
    assert decode(begun(anna, fresh).content) == []
    assert gone
    assert {path.name for path in gone} <= {upload_id.hex() for upload_id in unbound}
    assert jean.read(sent).portions[1].apart is not None


def test_the_row_of_an_upload_that_has_ended_goes_once_its_chunks_are_gone_for_long(two_offices, anna):
    begun(anna, sealed := os.urandom(100))
    assert put(anna, sealed, 0).status_code == 200
    with two_offices.relay._readers.connect() as connection:
        (upload_id,) = connection.scalars(select(upload.c.upload_id).where(upload.c.digest == part_digest(sealed)))
    late = two_offices.settings.data / "parts" / bytes(upload_id).hex()

    def swept(since: float) -> tuple[bool, bool]:
        with two_offices.relay._committer._engine.begin() as connection:
            connection.execute(update(upload).values(begun=int(since)).where(upload.c.upload_id == upload_id))
        asyncio.run(two_offices.relay.sweeper.sweep())
        with two_offices.relay._readers.connect() as connection:
            return bytes(upload_id) in ended(connection), late.exists()

    long_ago = time.time() - ORPHAN_AFTER - 5
    assert swept(long_ago) == (True, False)
    late.mkdir()
    (late / "0").write_bytes(b"was under way")
    assert swept(long_ago) == (True, False)
    assert swept(time.time()) == (True, False)
    assert swept(long_ago) == (False, False)
