"""What an auditor learns of other offices: hashes and counts."""

from __future__ import annotations

import sqlite3

from relay.protocol.canonical import decode, encode
from relay.protocol.entry import parse_access_entry
from relay.protocol.identity import Kind
from world import clearance, world


def answers(folder, officers, label, body):
    """What the auditor of Paris is sent of an access log that also has the work of Oslo; and Oslo's secrets in it."""
    with world(folder) as built:
        built.office("lo-paris", "FRA")
        built.office("lo-oslo", "NOR")
        cleared = [clearance(nations=["NOR"])]
        sender, reader = (built.device(f"{name}@lo-oslo", clearances=cleared) for name in officers)
        auditor = built.device("audit@lo-paris", clearances=[], kind=Kind.AUDITOR)
        sent = sender.send([f"{officers[1]}@lo-oslo"], label=label, body=body)
        reader.read(sent.message_id)
        reader.acknowledge(sent.message_id)
        get = auditor.transport.get
        size = int(get("/v1/log/access/checkpoint", newest=1).split(b"\n")[1])
        raw = [
            get("/v1/audit/entries", after=0, count=1000),
            get(f"/v1/log/access/tile/0/000.p/{size}"),
            get("/v1/log/access/consistency", old=size // 2, new=size),
            get("/v1/log/access/checkpoint", newest=1),
        ]
        # With the CBOR heads before them: three letters alone stand in some salt or hash of one run in a hundred.
        secrets = [
            sent.message_id,
            b"lo-oslo",
            encode("TEST"),
            encode(["NOR"]),
            *(encode(f"{name}@lo-oslo") for name in officers),
        ]
        secrets += [client.profile.signing.device_id for client in (sender, reader)]
        connection = sqlite3.connect(built.settings.data / "relay.sqlite")
        stored = connection.execute("SELECT entry, leaf_hash FROM log_entry WHERE log = 2 ORDER BY idx").fetchall()
        connection.close()
    return raw, secrets, stored


def test_an_auditor_learns_nothing_of_other_offices_but_hashes_and_counts(tmp_path):
    """Two worlds, in which another office does as much of something else: the answers differ in no octet but hashes."""
    quiet = answers(tmp_path / "quiet", ("odd.ek", "liv.berg"), "TEST OPEN RELEASABLE TO NOR", "Ferry.")
    loud = answers(tmp_path / "loud", ("kari.nordmann-hansen", "ola"), "TEST SEALED RELEASABLE TO NOR", "Go." * 900)
    shapes = []
    for raw, secrets, stored in (quiet, loud):
        for secret in secrets:
            assert not any(secret in answer for answer in raw), secret
        assert all(any(secret in entry for entry, _leaf in stored) for secret in secrets)
        size, rows = decode(raw[0])
        for (entry, leaf), (shown, content) in zip(stored, rows, strict=False):
            parsed = parse_access_entry(entry)
            assert shown is ("lo-paris" in {parsed.office, parsed.concerns})
            assert content == (entry if shown else leaf)
            assert shown or len(content) == 32
        shapes.append((size, [shown or len(content) for shown, content in rows], [len(answer) for answer in raw[:3]]))
    assert shapes[0] == shapes[1]
    assert 32 in shapes[0][1]
    assert True in shapes[0][1]
