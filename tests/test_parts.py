"""Large parts: there and back bit-exact, in flat memory, read by nobody else."""

from __future__ import annotations

import hashlib
import json
import os
import tracemalloc
from dataclasses import replace

import pytest

from forge import call
from large_parts import ANNA, JEAN, LABEL, LUC, a_file, read_film, send_film, sha256
from liaison import Attachment
from liaison.composing import Enclosed
from liaison.desk import Desk
from liaison.meter import no_meter
from liaison.portions import PlainFile, PortionContent, PortionKind
from liaison.sealed import save
from relay.protocol.errors import TooLarge
from relay.protocol.label import label_bytes
from relay.protocol.parts import CHUNK, PartDigest, part_digest

OPEN = "TEST OPEN RELEASABLE TO FRA, POL"


def test_a_large_file_arrives_bit_exact_by_the_command_line_and_lies_sealed_in_both_profiles(two_offices, tmp_path):
    film = a_file(tmp_path, 9)
    process = send_film(two_offices.folder / ANNA, film)
    told, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    saved = read_film(two_offices.folder / JEAN, json.loads(told)["message_id"], tmp_path / "out")
    assert sha256(saved) == sha256(film)
    assert list((tmp_path / "out").iterdir()) == [saved]  # no half-written file beside it
    needle = film.read_bytes()[5_000_000:5_000_032]
    for home in (two_offices.folder / ANNA, two_offices.folder / JEAN, two_offices.settings.data):
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


def test_a_forward_passes_a_large_file_on(two_offices, anna, jean, tmp_path):
    film = a_file(tmp_path, 5)
    sent = anna.send([JEAN], label=OPEN, body="Look.", attachments=[film])
    forwarded = jean.release(Desk(jean).plan_forward(sent.message_id, [LUC], "As announced.", label=None))
    portions = two_offices.clients[LUC].read(forwarded.message_id).portions.values()
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


def test_a_large_part_is_read_by_the_holder_of_a_released_slot_only_chunk_by_chunk(two_offices, anna, jean, tmp_path):
    sent = anna.send([JEAN], label=LABEL, body="Big.", attachments=[a_file(tmp_path, 5)]).message_id.hex()
    paths = [f"/v1/messages/{sent}/parts/1{query}" for query in ("", "?chunk=0", "?chunk=1", "?chunk=2")]
    luc = two_offices.clients[LUC]
    assert [call(who, "GET", path).status_code for who in (anna, jean, luc) for path in paths] == [404] * 12
    jean.read(bytes.fromhex(sent))
    assert [call(jean, "GET", path).status_code for path in paths] == [200, 200, 200, 404]
    assert [call(luc, "GET", path).status_code for path in paths] == [404] * 4


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


def test_an_attachment_of_bytes_still_travels_inside_the_submission(anna, jean):
    content = os.urandom(3 << 20)
    sent = anna.send([JEAN], label=LABEL, body="In memory.", attachments=[Attachment("x.bin", content)])
    assert b"".join(jean.read(sent.message_id).portions[1].blocks()) == content
