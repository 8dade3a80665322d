"""One cabinet, several processes: they take turns, one is killed, one is slow."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from cabinets import ID, OTHER_ID, STATE_KEY, ref, seed, stock
from liaison.home import shelf
from liaison.home.cabinet import Cabinet, Prekey
from liaison.home.profile import Profile
from liaison.stock import _forget_expired
from liaison.transport import Transport
from liaison.trust import ACCESS, Trust
from relay.protocol import canonical
from relay.protocol.errors import Unavailable, Unverified
from relay.protocol.merkle import MerkleTree, leaf_hash
from relay.protocol.tlog import Checkpoint


def test_a_locked_cabinet_is_unavailable_and_not_damaged(
    cabinet_path: Path, cabinet: Cabinet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "LOCK_SECONDS", 0.05)
    with Cabinet(cabinet_path, STATE_KEY) as second, cabinet.transaction():
        with pytest.raises(Unavailable, match="locked"):
            second.put_message(ID, b"now")
        cabinet.put_message(OTHER_ID, b"mine")
    assert cabinet.messages() == [(OTHER_ID, b"mine")]


def test_two_processes_that_forget_expired_keys_do_not_get_into_each_others_way(
    cabinet_path: Path, cabinet: Cabinet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "LOCK_SECONDS", 0.05)
    cabinet.add_prekeys([(ref(1), seed(1), 1, True)])
    listed = Cabinet.prekeys

    def meanwhile(own: Cabinet) -> list[Prekey]:
        found = listed(own)
        with suppress(Unavailable), Cabinet(cabinet_path, STATE_KEY) as other:
            other.delete_prekey(ref(1))
        return found

    monkeypatch.setattr(Cabinet, "prekeys", meanwhile)
    _forget_expired(cast(Profile, SimpleNamespace(cabinet=cabinet)), 2**40)
    assert listed(cabinet) == []


TREE = MerkleTree(leaf_hash(bytes([leaf])) for leaf in range(6))
FORK = MerkleTree(leaf_hash(bytes([leaf, 1])) for leaf in range(6))


def head(size: int, tree: MerkleTree = TREE) -> Checkpoint:
    return Checkpoint("relay.example/access", size, tree.root(size))


@pytest.mark.parametrize(
    ("moved", "kept", "asked"), [(4, 5, [(2, 5), (4, 5)]), (5, 5, [(2, 5)]), (6, 6, [(2, 5), (5, 6)])]
)
def test_a_relay_that_takes_its_time_to_prove_that_the_log_grew_keeps_no_other_process_from_moving_its_head(
    cabinet_path: Path,
    cabinet: Cabinet,
    monkeypatch: pytest.MonkeyPatch,
    moved: int,
    kept: int,
    asked: list[tuple[int, int]],
) -> None:
    trust, heard = Trust(cabinet, b"", ()), []
    monkeypatch.setattr(shelf, "LOCK_SECONDS", 0.05)

    def proof(_path: str, *, old: int, new: int) -> bytes:
        heard.append((old, new))
        if len(heard) == 1:
            with Cabinet(cabinet_path, STATE_KEY) as other:
                Trust(other, b"", ()).advance(head(moved), b"", TREE.consistency_proof(2, moved), cast(Transport, None))
        return canonical.encode(list(TREE.consistency_proof(old, new)))

    slow = cast(Transport, SimpleNamespace(get=proof))
    trust.advance(head(2), b"", (), slow)
    trust.advance(head(5), b"", (), slow)
    assert (trust.seen(), heard) == (kept, asked)


@pytest.mark.parametrize("moved", [4, 5, 6])
def test_another_history_that_another_process_was_shown_meanwhile_is_still_found(
    cabinet_path: Path, cabinet: Cabinet, moved: int
) -> None:
    trust = Trust(cabinet, b"", ())

    def proof(_path: str, *, old: int, new: int) -> bytes:
        with Cabinet(cabinet_path, STATE_KEY) as other:
            other.put_log_state(ACCESS, moved, FORK.root(moved), b"")
        return canonical.encode(list(TREE.consistency_proof(old, new)))

    slow = cast(Transport, SimpleNamespace(get=proof))
    trust.advance(head(2), b"", (), slow)
    with pytest.raises(Unverified):
        trust.advance(head(5), b"", (), slow)
    assert trust.seen() == moved


WORKER = """
import sys
from pathlib import Path
from liaison.home.cabinet import Cabinet
with Cabinet(Path(sys.argv[1]), bytes.fromhex(sys.argv[2])) as cabinet:
    for _ in range(15):
        with cabinet.transaction():
            seq = cabinet.next_seq()
            cabinet.put_outbox(seq.to_bytes(16), sys.argv[3].encode())
            cabinet.advance_chain(seq, bytes(32))
"""


def test_two_processes_take_turns(cabinet_path: Path, cabinet: Cabinet) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(cabinet_path), STATE_KEY.hex(), name],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for name in ("a", "b")
    ]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
    assert cabinet.chain()[0] == 30
    assert len(cabinet.outbox()) == 30
    assert {who for _, who in cabinet.outbox()} == {b"a", b"b"}


def test_a_process_killed_inside_a_transaction_leaves_the_state_before(cabinet_path: Path, cabinet: Cabinet) -> None:
    stock(cabinet, 3)
    script = WORKER.partition("    for")[0] + (
        "    with cabinet.transaction():\n"
        "        cabinet.put_part(bytes(16), 0, bytes(9_000_000))\n"
        f"        cabinet.delete_prekey(bytes.fromhex('{ref(1).hex()}'))\n"
        "        import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    worker = subprocess.run(
        [sys.executable, "-c", script, str(cabinet_path), STATE_KEY.hex()],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert worker.returncode == -9
    assert cabinet.prekey(ref(1)) == seed(1)
    assert cabinet.part(bytes(16), 0) is None
