"""After a key's deletion a thief who has the state key and every octet of the folder does not have its seed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cabinets import ID, STATE_KEY, everything_beside, ref, seed, stock
from liaison.home import shelf
from liaison.home.cabinet import Cabinet
from relay.protocol import canonical


def opened_with(key: bytes, aads: list[bytes], stolen: bytes, length: int) -> set[bytes]:
    """What some stretch of the stolen octets, taken as a box of this length, says under the key."""
    found, cipher = set(), AESGCM(key)
    for start in range(len(stolen) - length + 1):
        box = stolen[start : start + length]
        if box.count(0) > 20:  # no ciphertext
            continue
        for aad in aads:
            try:
                found.add(cipher.decrypt(box[:12], box[12:], aad))
            except InvalidTag:
                continue
    return found


class Thief:
    """Has the state key and knows the code: finds every seed that the stolen octets still give away."""

    def __init__(self, before: bytes) -> None:
        wrap, key = self._rows(before, "prekey_key"), self._rows(before, "prekey")
        self._wrap_aads, self._wrap_length = wrap
        self._seed_aads, self._seed_length = key

    @staticmethod
    def _rows(before: bytes, name: str) -> tuple[list[bytes], int]:
        connection = sqlite3.connect(":memory:")
        connection.deserialize(before)
        rows = connection.execute(f"SELECT place, box FROM {name}").fetchall()
        connection.close()
        assert len({len(box) for _, box in rows}) == 1
        return [canonical.encode([name, place]) for place, _ in rows], len(rows[0][1])

    def seeds(self, stolen: bytes) -> set[bytes]:
        wrap_key = shelf._derive(STATE_KEY, "prekey_key boxes")
        keys = opened_with(wrap_key, self._wrap_aads, stolen, self._wrap_length)
        assert keys
        plains = {
            plain
            for wrapped in keys
            for plain in opened_with(canonical.decode(wrapped)[1], self._seed_aads, stolen, self._seed_length)
        }
        return {canonical.decode(canonical.decode(plain)[1])[0] for plain in plains}


def test_after_deletion_the_state_key_and_the_folder_do_not_open_the_seed(cabinet_path: Path, cabinet: Cabinet) -> None:
    stock(cabinet, 4)
    before = everything_beside(cabinet_path)
    thief = Thief(before)
    assert thief.seeds(before) == {seed(i) for i in range(4)}

    with cabinet.transaction():
        cabinet.put_message(ID, b"a message")
        cabinet.delete_prekey(ref(2))

    after = everything_beside(cabinet_path)
    assert [file.name for file in cabinet_path.parent.iterdir()] == ["cabinet"]
    assert thief.seeds(after) == {seed(0), seed(1), seed(3)}
    old_boxes = sqlite_boxes(before, "prekey") | sqlite_boxes(before, "prekey_key")
    assert not [box for box in old_boxes if box in after or box[12:40] in after]


def sqlite_boxes(content: bytes, name: str) -> set[bytes]:
    connection = sqlite3.connect(":memory:")
    connection.deserialize(content)
    boxes = {box for (box,) in connection.execute(f"SELECT box FROM {name}")}
    connection.close()
    return boxes


def test_every_deletion_replaces_the_prekey_key_and_the_other_seeds_stay(cabinet: Cabinet) -> None:
    stock(cabinet, 3)
    cabinet.delete_prekey(ref(1))
    assert cabinet.prekey(ref(1)) is None
    assert [cabinet.prekey(ref(i)) for i in (0, 2)] == [seed(0), seed(2)]
    assert [(row.kp_ref, row.not_after, row.one_time) for row in cabinet.prekeys()] == [
        (ref(0), 1_900_000_000, False),
        (ref(2), 1_900_000_000, True),
    ]
    assert sorted(row.one_time for row in cabinet.prekeys()) == [False, True]
