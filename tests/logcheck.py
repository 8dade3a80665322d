"""Checking the relay's logs with nothing but relay.protocol and what anyone may fetch."""

from __future__ import annotations

from itertools import pairwise

import httpx2

from relay.protocol.canonical import decode
from relay.protocol.entry import LoggedEntry
from relay.protocol.merkle import leaf_hash, verify_consistency, verify_inclusion
from relay.protocol.note import parse_vkey, verify_note
from relay.protocol.tlog import Checkpoint, parse_checkpoint_body


def read_checkpoint(vkeys, note: bytes, log: str = "access") -> Checkpoint:
    """The checkpoint of this log, signed by both keys of the relay."""
    verifiers = [key for key in map(parse_vkey, vkeys) if key.name.endswith(f"/{log}")]
    assert len(verifiers) == 2
    checkpoint = parse_checkpoint_body(verify_note(note, verifiers))
    assert checkpoint.origin == verifiers[0].name
    return checkpoint


def verify_receipt(vkeys, logged: LoggedEntry) -> Checkpoint:
    checkpoint = read_checkpoint(vkeys, logged.checkpoint)
    verify_inclusion(leaf_hash(logged.entry), logged.index, checkpoint.size, logged.proof, checkpoint.root)
    return checkpoint


def fetch(url: str, path: str) -> bytes:
    response = httpx2.get(url + path)
    assert response.status_code == 200, (path, response.text)
    return response.content


def verify_all_consistent(url: str, vkeys, checkpoints, log: str = "access") -> Checkpoint:
    """Every checkpoint lies on one history that leads to the newest one; the newest."""
    newest = read_checkpoint(vkeys, fetch(url, f"/v1/log/{log}/checkpoint"), log)
    by_size: dict[int, bytes] = {}
    for each in [*checkpoints, newest]:
        assert by_size.setdefault(each.size, each.root) == each.root
    steps = sorted((size, root) for size, root in by_size.items() if size)
    for old, new in pairwise(steps):
        proof = decode(fetch(url, f"/v1/log/{log}/consistency?old={old[0]}&new={new[0]}"))
        verify_consistency(*old, *new, proof)
    assert steps[-1] == (newest.size, newest.root)
    return newest
