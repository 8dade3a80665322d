"""Entries of the access log that the relay proves under one checkpoint: [entry, index, proof] each."""

from __future__ import annotations

from relay.protocol.actor import verify_actor
from relay.protocol.canonical import expect, expect_bytes, expect_items
from relay.protocol.entry import parse_access_entry
from relay.protocol.merkle import leaf_hash, verify_inclusion

from .audit.pulled import PulledEntry
from .client import Client
from .trust import ACCESS


def proven(client: Client, given: object, rows: object) -> tuple[list[PulledEntry], int]:
    """The entries, each its device's, and when the checkpoint over them was signed, in seconds.

    That checkpoint must be of one history with every one seen. Raises Malformed, Unverified.
    """
    trust, note = client.trust, expect(given, bytes, "evidence: checkpoint")
    checkpoint = trust.read_checkpoint(ACCESS, note)
    trust.alarmed(note, lambda: trust.advance(checkpoint, note, (), client.transport))
    found = []
    for row in expect(rows, list, "evidence: entries"):
        encoded, index, proof = expect_items(row, 3, "evidence: entry")
        steps = tuple(expect_bytes(step, 32, "evidence: proof") for step in expect(proof, list, "evidence: proof"))
        leaf = leaf_hash(expect(encoded, bytes, "evidence: entry"))
        verify_inclusion(leaf, expect(index, int, "evidence: index"), checkpoint.size, steps, checkpoint.root)
        found.append(PulledEntry(index, leaf, entry := parse_access_entry(encoded)))
        verify_actor(entry, trust.directory)
    return found, trust.signed_at(ACCESS, note)
