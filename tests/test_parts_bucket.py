"""Large parts in an S3-compatible store, over HTTP to a server of the tests' own: the same story as with files."""

from __future__ import annotations

import os

import pytest

from buckets import s3_bucket
from liaison.meter import no_meter
from liaison.sealed import save
from relay.protocol.errors import Unavailable
from relay.store.blobs import open_blobs
from relay.store.bucket import Bucket
from world import clearance, world


@pytest.fixture(scope="module")
def bucket():
    with s3_bucket() as url:
        yield url


def test_a_bucket_keeps_chunks_as_files_do_and_never_replaces_one(bucket, tmp_path):
    for blobs in (open_blobs(bucket), open_blobs(str(tmp_path / "parts"))):
        upload = os.urandom(16)
        assert (blobs.get(upload, 0), blobs.chunks(upload)) == (None, set())
        assert [blobs.put(upload, chunk, [content]) for chunk, content in ((0, b"a"), (3, b"b"), (0, b"other"))] == [
            True,
            True,
            False,
        ]
        assert (blobs.get(upload, 0), blobs.chunks(upload), upload in blobs.uploads()) == (b"a", {0, 3}, True)
        blobs.remove(upload)
        assert (blobs.get(upload, 0), blobs.chunks(upload), upload in blobs.uploads()) == (None, set(), False)


def test_a_large_file_goes_through_a_bucket(bucket, tmp_path):
    with world(tmp_path, parts=bucket) as built:
        built.office("lo-warsaw", "POL")
        anna = built.device("anna.nowak@lo-warsaw", clearances=[clearance(nations=["POL"])])
        piotr = built.device("piotr.lis@lo-warsaw", clearances=[clearance(nations=["POL"])])
        film = tmp_path / "film.bin"
        film.write_bytes(os.urandom(9 << 20))
        sent = anna.send(["piotr.lis@lo-warsaw"], label="TEST OPEN", body="Film.", attachments=[film])
        save(piotr.read(sent.message_id).portions[1], tmp_path / "copy", no_meter)
        assert (tmp_path / "copy").read_bytes() == film.read_bytes()
        assert len(Bucket(bucket).uploads()) == 1
        assert not (built.settings.data / "parts").exists()


def test_a_bucket_that_is_not_there_is_unavailable(bucket):
    with pytest.raises(Unavailable, match="store of large parts"):
        Bucket("s3://nowhere/parts").put(bytes(16), 0, [b"x"])


def test_a_bucket_that_goes_away_before_chunks_are_removed_is_unavailable(bucket, monkeypatch):
    blobs = Bucket("s3://nowhere/parts")
    monkeypatch.setattr(blobs, "_paths", lambda _prefix: [f"{bytes(16).hex()}/0"])  # they were still listed
    with pytest.raises(Unavailable, match="store of large parts"):
        blobs.remove(bytes(16))
