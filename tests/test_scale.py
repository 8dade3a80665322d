"""Both logs of a real relay with a million entries, fetched over HTTP and verified by Go programs that are not ours.

Not in the default run, some minutes: `pytest -n0 -m scale -o faulthandler_timeout=3600 tests/test_scale.py`.
LIAISON_SCALE is the number of entries that are filled into each log: of the access log what auditors are shown, of the
directory log batches of keys, beside the certificates and batches that some hundred real enrolments have put there.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import httpx2
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.audit import fill, fill_directory
from bench.server import Server
from bench.world import MARKING, World, build_world, publish_keys
from go_programs import needs_go, run_go, write
from liaison.transport import HttpTransport
from octets import flip
from relay.house import open_relay
from relay.protocol.canonical import decode
from relay.protocol.label import label_bytes
from relay.protocol.marking_reader import parse_marking
from relay.protocol.tiles import TILE_WIDTH, entry_bundle, tile_path, tiles_between
from relay.protocol.tiletree import TileTree
from relay.protocol.tlog import parse_checkpoint_body
from relay.settings import Settings
from relay.store import log as log_rows
from relay.store.engine import open_readers
from relay.store.log import Log
from witnesses import policy, witnesses

SCALE = int(os.environ.get("LIAISON_SCALE", "1000000"))
STAGES = 4

pytestmark = [pytest.mark.scale, needs_go]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Folders of the two logs as a stranger with an auditor's entries holds them, fetched from a relay that serves."""
    folder = tmp_path_factory.mktemp("scale")
    server = Server(folder)
    server.folder.mkdir(exist_ok=True)
    unserved = open_relay(Settings(data=server.data))
    vkeys = unserved.vkeys
    unserved.close()
    with pytest.MonkeyPatch.context() as patch, witnesses(folder, "\n".join(vkeys), 2) as some:
        (folder / "policy").write_bytes(policy(some, 2))
        patch.setenv("RELAY_WITNESS_POLICY", str(folder / "policy"))
        server.start()
        try:
            yield fetched(server, folder, vkeys, [vkey for each in some for vkey in each.keys.vkeys()])
        finally:
            server.stop()


def fetched(server, folder, vkeys, cosigners):
    world, earlier = build_world(server, senders=2, readers=2, crowd=300), {"access": [], "directory": []}
    label = label_bytes(parse_marking(world.policy, MARKING, int(time.time())))
    devices = [each.device_id for each in world.crowd]
    with httpx2.Client(base_url=server.url) as public:
        for stage in range(STAGES):
            fill(Settings(data=server.data), label, SCALE // STAGES, concerns="lo-paris")
            fill_directory(Settings(data=server.data), devices, SCALE // STAGES)
            publish_keys(server, [(each, 0, True) for each in world.crowd[stage * 20 : stage * 20 + 20]])
            for log, notes in earlier.items():
                notes.append(public.get(f"/v1/log/{log}/checkpoint", params={"newest": True}).content)
        for log, notes in earlier.items():
            own = sorted((key for key in vkeys if f"/{log}+" in key), key=len)  # Ed25519 first: sumdb knows no other
            Fetched(folder / log, log, server, public, world).write(notes, own, cosigners)
    world.close()
    return folder


@dataclass
class Fetched:
    """One log on its way into a folder."""

    folder: Path
    log: str
    server: Server
    public: httpx2.Client
    world: World

    def write(self, earlier, own, cosigners):
        note = self.cosigned(size_of(earlier[-1]))
        size = size_of(note)
        write(self.folder / "checkpoint", note)
        for tile in tiles_between(0, size):
            self.get(tile_path(tile.level, tile.index, tile.width))
        with self.signed() as transport:
            self.bundles(transport, size)
        for place, each in enumerate(earlier):
            write(self.folder / f"checkpoint-{place}", each)
        proofs = {
            "between": [
                {"old": old, "new": new, "proof": self.consistency(size_of(earlier[old]), size_of(earlier[new]))}
                for old, new in combinations(range(len(earlier)), 2)
            ],
            "inclusion": [], "consistency": [],
        }  # fmt: skip
        with stored_tree(self.server, self.log) as tree:  # proofs of one entry go out with receipts only
            for at in sorted({0, 1, 255, 256, 257, size // 3, size // 2, size - 2, size - 1}):
                proofs["inclusion"].append({"index": at, "proof": hexed(tree.inclusion_proof(at, size))})
                old = at + 1
                proofs["consistency"].append(
                    {"old": old, "old_root": tree.root(old).hex(), "proof": self.consistency(old, size)}
                )
        keys = {"vkeys": [*own, *cosigners], "cosigners": [key for key in cosigners if len(key) < 200]}
        names = {"checkpoints": [f"checkpoint-{place}" for place in range(len(earlier))]}
        write(self.folder / "manifest.json", json.dumps(keys | names | proofs).encode())

    def get(self, path):
        write(self.folder / path, self.public.get(f"/v1/log/{self.log}/{path}").raise_for_status().content)

    @contextmanager
    def signed(self):
        device = self.world.auditor if self.log == "access" else self.world.senders[0]
        transport = HttpTransport(self.server.url, device.device_id.hex(), device.request)
        yield transport
        transport.close()

    def bundles(self, transport, size):
        """Of the directory as they are served; of the access log from what the auditor is shown."""
        for first in range(0, size, TILE_WIDTH):
            count = min(TILE_WIDTH, size - first)
            path = tile_path("entries", first // TILE_WIDTH, count)
            if self.log == "directory":
                write(self.folder / path, transport.get(f"/v1/log/directory/{path}"))
                continue
            _size, rows = decode(transport.get("/v1/audit/entries", after=first, count=count))
            if all(shown for shown, _content in rows):  # else the hash tile stands for them
                write(self.folder / path, entry_bundle([content for _shown, content in rows]))

    def cosigned(self, size):
        """The checkpoint with its cosignatures, once the witnesses have seen one of this size."""
        until = time.monotonic() + 60
        while size_of(note := self.public.get(f"/v1/log/{self.log}/checkpoint").content) < size:
            assert time.monotonic() < until, "the witnesses never cosigned it"
            time.sleep(0.1)
        return note

    def consistency(self, old, new):
        asked = self.public.get(f"/v1/log/{self.log}/consistency", params={"old": old, "new": new})
        return hexed(decode(asked.raise_for_status().content))


@contextmanager
def stored_tree(server, log):
    """The relay's tree, on the database that it serves."""
    engine, which = open_readers(Settings(data=server.data).database_url), Log[log.upper()]
    with engine.connect() as connection:
        size = log_rows.sizes(connection)[which]
        yield TileTree(
            lambda level, index, width: log_rows.hashes(connection, which, level, index * TILE_WIDTH, width), size
        )
    engine.dispose()


def hexed(proof):
    return [step.hex() for step in proof]


def size_of(note):
    return parse_checkpoint_body(note.decode().partition("\n\n")[0] + "\n").size


@pytest.mark.parametrize("log", ["access", "directory"])
def test_go_verifies_the_log_of_a_relay(verify, published, log):
    found, failure = run_go(verify, "log", published / log)
    assert not failure
    assert found["size"] > SCALE


@pytest.mark.parametrize("log", ["access", "directory"])
def test_sumdb_verifies_the_log_of_a_relay(sumdb, published, log):
    found, failure = run_go(sumdb, published / log)
    assert not failure
    assert found["size"] > SCALE


def test_neither_verifies_it_with_one_bit_of_a_tile_an_entry_or_a_proof_changed(verify, sumdb, published):
    size = size_of((published / "access/checkpoint").read_bytes())
    middle = size // 2 // TILE_WIDTH
    for path in (tile_path(0, middle, TILE_WIDTH), tile_path("entries", middle, TILE_WIDTH), "checkpoint-1"):
        changed = published / "access" / path
        at = changed.read_bytes().index(b"\n") - 1 if path == "checkpoint-1" else 700
        flip(changed, at)
        assert run_go(verify, "log", published / "access")[1]
        assert run_go(sumdb, published / "access")[1]
        flip(changed, at)
