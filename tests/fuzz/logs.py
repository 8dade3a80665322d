"""What logs and witnesses write as text: details of entries, notes, proofs, tiles, verifier keys, policies."""

from __future__ import annotations

from base64 import b64encode
from contextlib import suppress
from typing import Any

from relay.protocol.entry import parse_access_entry
from relay.protocol.errors import LiaisonError, Malformed
from relay.protocol.grants import accept_detail, format_portions, parse_portions, read_accept_detail
from relay.protocol.header import Precedence
from relay.protocol.merkle import EMPTY_ROOT, verify_consistency, verify_inclusion
from relay.protocol.note import Note, format_note, format_vkey, parse_note, parse_vkey, verify_note
from relay.protocol.recall import read_recall_detail, recall_detail
from relay.protocol.retention import parse_destruction
from relay.protocol.tiles import Tile, entry_bundle, parse_entry_bundle, parse_tile, parse_tile_path, tile_path
from relay.protocol.tlog import format_checkpoint_body, parse_base64, parse_checkpoint_body, parse_number
from relay.protocol.witness import (
    NO_TREE,
    TreeHead,
    check_growth,
    format_add_checkpoint,
    parse_add_checkpoint,
    parse_logs,
    parse_size,
    verified_cosignatures,
    verify_asked,
)
from relay.protocol.witness_policy import cosigned_at, parse_witness_policy, verify_witnessed
from vector_world import NOW, ORIGINS, vkeys

from . import mutators, seeds
from .target import Property, Target, is_read, rewritten, spelled_once

OWN = tuple(map(parse_vkey, vkeys()))
ACCESS = tuple(key for key in OWN if key.name == ORIGINS[0])


def said(octets: bytes) -> str:
    """As a text that came as UTF-8."""
    try:
        return octets.decode()
    except UnicodeDecodeError as problem:
        raise Malformed("not UTF-8") from problem


def _text(read: Any, write: Any) -> Property:
    return Property(lambda octets: read(said(octets)), rewritten(lambda value: write(value).encode()))


def _recall_told(told: Any, octets: bytes) -> None:
    like = recall_detail((), told.reason, spill=told.spill, held=told.held).split(" ", 2)
    assert " ".join((like[0], told.digest, told.reason)).encode() == octets


def _accepted(found: tuple[str, Precedence], octets: bytes) -> None:
    digest, precedence = found
    assert f"{digest} {precedence.name.lower()}".encode() == octets
    assert len(accept_detail((), precedence)) == len(octets)


def _written_note(note: Note) -> bytes:
    lines = (f"\u2014 {each.name} {b64encode(each.key_id + each.signature).decode()}\n" for each in note.signatures)
    return format_note(note.text, *lines)


def _verified(octets: bytes) -> str:
    return verify_note(octets, OWN, required=ACCESS[:1])


def _verified_note_holds(text: str, octets: bytes) -> None:
    assert octets.startswith(text.encode() + b"\n")
    with suppress(LiaisonError):
        checkpoint = parse_checkpoint_body(text)
        assert format_checkpoint_body(checkpoint.origin, checkpoint.size, checkpoint.root) == text
    cosigned_at(octets, OWN)
    with suppress(LiaisonError):
        verified_cosignatures(octets, octets.rpartition(b"\n\n")[2], OWN)


def _witnessed(octets: bytes) -> Any:
    policy, note = octets.partition(b"\n---\n")[::2]
    return verify_witnessed(note, ACCESS[:1], parse_witness_policy(policy + b"\n"), NOW, 3600)


def _asked_holds(asked: Any, octets: bytes) -> None:
    assert format_add_checkpoint(asked.old_size, asked.proof, asked.note) == octets
    logs = {ORIGINS[0]: ACCESS}
    with suppress(LiaisonError):
        stated = verify_asked(asked, logs)
        for last in (NO_TREE, TreeHead(asked.old_size, stated.root), TreeHead(3, bytes(32))):
            with suppress(LiaisonError):
                check_growth(asked, stated, last)


def _policy_holds(policy: Any, _octets: bytes) -> None:
    names = list(policy.witnesses)
    assert policy.is_met_by(names) or policy.quorum in policy.groups
    if policy.is_met_by(()):
        assert policy.quorum == "none"
    for group in policy.groups.values():
        assert 1 <= group.threshold <= len(group.members)


def _proof(octets: bytes) -> tuple[int, int, list[bytes]]:
    """Two sizes of a log, and hashes."""
    rest = octets[16:]
    hashes = [rest[at : at + 32] for at in range(0, len(rest), 32)]
    return int.from_bytes(octets[:8], signed=True), int.from_bytes(octets[8:16], signed=True), hashes


def _proof_has_an_answer(found: tuple[int, int, list[bytes]], _octets: bytes) -> None:
    first, second, hashes = found
    for root in (EMPTY_ROOT, *hashes[:2]):
        with suppress(LiaisonError):
            verify_inclusion(bytes(32), first, second, hashes, root)
        with suppress(LiaisonError):
            verify_consistency(first, root, second, EMPTY_ROOT, hashes)


def _details() -> list[bytes]:
    told = [b"portions 0-3,5", b"portions 255", b"12345", b"AAECAwQ="]
    destroyed = [b"messages=2 entries=5-9,12 policies=", f"messages=0 entries= policies={'0f' * 32}".encode()]
    details = (parse_access_entry(entry).detail.encode() for entry in seeds.access_entries())
    return [*told, *destroyed, *details, recall_detail((), "a", spill=True, held=True).encode()]


def _logs() -> list[bytes]:
    note, proof = seeds.logged_entries()[0].checkpoint, [bytes(32)] * 3
    lines = "".join(f"{key}\n" for key in vkeys()).encode()
    witness = seeds.witness().vkeys()
    policy = f"# ours\nwitness a {witness[0]} https://w.example\nwitness b {witness[1]}\ngroup g any a b\nquorum g\n"
    cosigned = seeds.witness().cosign(note, NOW).encode()
    asked = [format_add_checkpoint(0, (), note), format_add_checkpoint(3, proof, note)]
    alone = [lines, policy.encode(), b"7\n", vkeys()[0].encode(), vkeys()[1].encode()]
    return [*asked, *alone, policy.encode() + b"---\n" + note + cosigned]


def _checkpoints() -> list[bytes]:
    bodies = [note.partition(b"\n\n")[0] + b"\n" for note in seeds.notes()]
    return [*seeds.notes(), *bodies, seeds.logged_entries()[0].checkpoint]


def _tiles() -> list[bytes]:
    paths = [tile_path(0, 1234067, 256), tile_path("entries", 0, 7), tile_path(3, 999, 1)]
    bundle = entry_bundle([b"one", b"", b"three"])
    return [*(path.encode() for path in paths), bytes(64), bundle, (7).to_bytes(8) + (9).to_bytes(8) + bytes(96)]


def _bundle(octets: bytes) -> list[bytes]:
    width = len(octets) - sum(map(len, _lenient(octets)))
    return parse_entry_bundle(octets, width // 2)


def _lenient(octets: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(octets):
        end = at + 2 + int.from_bytes(octets[at : at + 2])
        found.append(octets[at + 2 : end])
        at = end
    return found


def _path(tile: Tile) -> bytes:
    return tile_path(tile.level, tile.index, tile.width).encode()


TARGETS = (
    Target(
        "details",
        (
            _text(parse_portions, format_portions),
            _text(parse_destruction, lambda found: found.detail()),
            Property(lambda octets: read_accept_detail(said(octets)), _accepted),
            Property(lambda octets: read_recall_detail(said(octets)), _recall_told),
            _text(lambda text: parse_number(text, "number"), str),
            Property(lambda octets: parse_base64(said(octets), "base64"), is_read),
        ),
        _details,
        mutators.text,
        longest=1 << 12,
    ),
    Target(
        "note",
        (
            spelled_once(parse_note, _written_note),
            Property(_verified, _verified_note_holds),
            _text(parse_checkpoint_body, lambda body: format_checkpoint_body(body.origin, body.size, body.root)),
        ),
        _checkpoints,
        mutators.text,
        longest=1 << 15,
        behind=True,
    ),
    Target(
        "witness",
        (
            Property(parse_add_checkpoint, _asked_holds),
            Property(parse_witness_policy, _policy_holds),
            Property(_witnessed, is_read),
            Property(lambda octets: parse_logs(said(octets)), is_read),
            _text(parse_vkey, format_vkey),
            Property(parse_size, is_read),
        ),
        _logs,
        mutators.text,
        longest=1 << 15,
        behind=True,
    ),
    Target(
        "tiles",
        (
            Property(lambda octets: parse_tile_path(said(octets)), rewritten(_path)),
            spelled_once(lambda octets: parse_tile(octets, len(octets) // 32), b"".join),
            spelled_once(_bundle, entry_bundle),
            Property(_proof, _proof_has_an_answer),
        ),
        _tiles,
        mutators.octets,
    ),
)
