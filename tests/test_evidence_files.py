"""Files of an evidence package, altered, dropped, added or swapped, also under a manifest signed anew; and what is no
plain ZIP file. Both verifiers refuse each.
"""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from dataclasses import replace
from itertools import pairwise

import pytest

from acts import run
from evidence_packages import ANNA, members_of, resigned
from liaison.evidence.package import MANIFEST, read_package, write_package, zip_of
from octets import flipped
from relay.protocol.canonical import decode
from relay.protocol.entry import Event, parse_access_entry
from relay.protocol.errors import Malformed


def test_every_file_altered_dropped_added_or_swapped_is_refused(audited, right, verdict):
    members = members_of(right)
    for name in members:
        assert not verdict(zip_of({**members, name: flipped(members[name])})), f"altered {name}"
        assert not verdict(zip_of({each: members[each] for each in members if each != name})), f"dropped {name}"
    assert not verdict(zip_of({**members, "access/0000000999.cbor": b"\x80"}))
    names = [name for name in members if name != MANIFEST]
    for first, second in pairwise(names):
        assert not verdict(zip_of({**members, first: members[second], second: members[first]})), f"swapped {first}"


def test_a_file_altered_under_a_manifest_signed_anew_is_refused(audited, right, verdict):
    """But for what the exporter may leave out: the message itself, and that says so."""
    for name in read_package(right)[0].members:
        altered = resigned(audited, right, lambda members, name=name: members.update({name: flipped(members[name])}))
        assert not verdict(altered), f"altered {name}"
    assert verdict(resigned(audited, right, lambda _members: None))


def test_a_file_dropped_under_a_manifest_signed_anew_is_refused_where_it_is_needed(audited, right, verdict):
    spared = {"message.cose"}
    spared |= {
        name for name in members_of(right) if name.startswith("access/") and event_of(right, name) is Event.RECALL
    }
    for name in read_package(right)[0].members:
        dropped = resigned(audited, right, lambda members, name=name: members.pop(name))
        assert verdict(dropped) is (name in spared), f"dropped {name}"


def event_of(octets: bytes, name: str) -> Event | None:
    if name.endswith("checkpoint"):
        return None
    return parse_access_entry(decode(members_of(octets)[name])[0]).event


def test_a_manifest_by_somebody_who_is_not_certified_is_refused(audited, right, verdict):
    package = read_package(right)[0]
    assert not verdict(write_package(package, audited.authorities["lo-warsaw"].profile.signing))
    assert not verdict(
        write_package(replace(package, at=package.at + 366 * 86400), audited.clients[ANNA].profile.signing)
    )


def test_a_file_that_is_no_plain_package_is_refused_unread(right, verdict):
    members = members_of(right)
    bomb, twice, comment = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("message.cose", bytes(100_000_000))
    with zipfile.ZipFile(twice, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's writer says so itself
        for name, content in (*members.items(), *members.items()):
            archive.writestr(zipfile.ZipInfo(name), content)
    with zipfile.ZipFile(comment, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
        archive.comment = b"hello"
    for octets in (bomb.getvalue(), twice.getvalue(), comment.getvalue(), b"", right[:-1], right[: len(right) // 2]):
        assert not verdict(octets)
    for name in ("../message.cose", "/message.cose", "access/../message.cose", "MESSAGE.COSE", "policy/" + "0" * 63):
        assert not verdict(zip_of({**members, name: b""}))


def test_octets_that_belong_to_no_member_are_refused_wherever_they_hide(right, verdict):
    start = int.from_bytes(right[-6:-2], "little")  # of what lists the members
    for moved in (start - 1, start + 1):
        assert not verdict(right[:-6] + moved.to_bytes(4, "little") + right[-2:])
    assert not verdict(right[:start] + b"hidden" + right[start:-6] + (start + 6).to_bytes(4, "little") + right[-2:])
    with pytest.raises(Malformed, match="where the member before it ends"):
        read_package(nested())


def nested() -> bytes:
    """One member inside another's content, and as many octets hidden behind both as it has."""
    inner, outer = zip_of({"relay.txt": b"key"}), "policy/" + "0" * 64
    size = inner.index(b"PK\1\2")
    around = zip_of({outer: inner[:size]})
    at = around.index(b"PK\1\2")
    listed = around[at:-22] + inner[size : size + 42] + (30 + len(outer)).to_bytes(4, "little") + inner[size + 46 : -22]
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2, 2, len(listed), at + size, 0)
    octets = around[:at] + bytes(size) + listed + end
    with zipfile.ZipFile(io.BytesIO(octets)) as archive:
        assert archive.read("relay.txt") == b"key"
    return octets


@pytest.mark.parametrize("part", [0, 2, 100, 0.5, -30, -1, "flipped", "text"])
def test_a_damaged_package_is_one_that_does_not_verify(audited, right, tmp_path, part):
    file = tmp_path / "package.zip"
    cut = part if isinstance(part, int) else len(right) // 2
    file.write_bytes({"flipped": flipped(right), "text": b"Dear court,\n"}.get(part, right[:cut]))
    told = run(audited.clients[ANNA], "evidence", "verify", str(file))
    assert (told.exit_code, told.stdout) == (5, "")
    assert "not a package, or a damaged one: " in told.stderr
    assert run(audited.clients[ANNA], "evidence", "verify", str(file), "--json").stdout == ""
