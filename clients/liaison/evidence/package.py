"""The evidence package as a file: a ZIP of stored members, and a signed manifest that lists every one of them.

    manifest.cose            Sign1(exporter's device; [1, message_id, message_ref, at, [[name, length, SHA-256]...]])
    message.cose             the signed message; left out where only its hash is shown
    grants.cbor              which device was sealed which portions; not in a reader's package
    slot.cbor                in a reader's: [its own slot, index, [inclusion proof...]] under the message's slot_root
    relay.txt                the verifier keys of the relay's logs, a line each
    access/checkpoint        directory/checkpoint
    access/<index>.cbor      directory/<index>.cbor        [entry, index, [inclusion proof...]], index in ten digits
    receipts/<device>-<state>.cose
    policy/<SHA-256>         policy files

Members are stored, not compressed, so a package is never larger than its file; a name that is none of these, a name
twice, a comment, or an octet that belongs to no member is refused.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from dataclasses import dataclass, field
from io import BytesIO

from liaison.keys import SigningKey
from relay.protocol.canonical import encode, expect, expect_bytes, expect_time, expect_version, read_array
from relay.protocol.cose import Sign1, parse_sign1
from relay.protocol.errors import Malformed, TooLarge, Unverified

EVIDENCE = "evidence"
MANIFEST, MESSAGE_FILE, RELAY_FILE = "manifest.cose", "message.cose", "relay.txt"
GRANTS_FILE, SLOT_FILE = "grants.cbor", "slot.cbor"
MAX_PACKAGE, MAX_MEMBERS = 64 * 1024 * 1024, 20_000
_NAME = re.compile(
    r"manifest\.cose|message\.cose|grants\.cbor|slot\.cbor|relay\.txt|(?:access|directory)/(?:checkpoint|[0-9]{10}\.cbor)"
    r"|receipts/[0-9a-f]{32}-(?:opened|acknowledged)\.cose|policy/[0-9a-f]{64}"
)
_LOCAL, _CENTRAL, _END = 30, 46, 22  # octets of ZIP's records, less names


@dataclass(slots=True)
class Package:
    """What is inside, by name, the manifest apart."""

    message_id: bytes
    message_ref: bytes
    at: int
    members: dict[str, bytes] = field(default_factory=dict)

    def manifest(self) -> bytes:
        rows = [[name, len(self.members[name]), _digest(self.members[name])] for name in sorted(self.members)]
        return encode([1, self.message_id, self.message_ref, self.at, rows])


def write_package(package: Package, key: SigningKey) -> bytes:
    """The file, its manifest signed by `key`."""
    members = {MANIFEST: key.sign_object(EVIDENCE, package.manifest()), **package.members}
    return zip_of(members)


def zip_of(members: dict[str, bytes]) -> bytes:
    """Stored members in this order, every date the same."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def read_package(octets: bytes) -> tuple[Package, Sign1]:
    """What is in the file, every member as its manifest says. Whose the signature is, is for the caller to verify.

    Raises Malformed, TooLarge, Unverified.
    """
    members = _members(octets)
    if MANIFEST not in members:
        raise Malformed("evidence package: there is no manifest")
    signed = parse_sign1(members.pop(MANIFEST), EVIDENCE)
    version, message_id, ref, at, rows = read_array(signed.payload, 5, "manifest")
    expect_version(version, "manifest")
    package = Package(
        expect_bytes(message_id, 16, "manifest: message id"),
        expect_bytes(ref, 32, "manifest: message ref"),
        expect_time(at, "manifest: time"),
        members,
    )
    if package.manifest() != signed.payload:
        stated = {row[0]: row[1:] for row in expect(rows, list, "manifest") if type(row) is list and len(row) == 3}
        found = {name: [len(content), _digest(content)] for name, content in members.items()}
        wrong = sorted(name for name in stated.keys() | found.keys() if stated.get(name) != found.get(name))
        raise Unverified(f"evidence package: not what its manifest lists: {', '.join(wrong[:5]) or 'their order'}")
    return package, signed


def _members(octets: bytes) -> dict[str, bytes]:
    if len(octets) > MAX_PACKAGE:
        raise TooLarge(f"an evidence package of {len(octets)} octets; the limit is {MAX_PACKAGE}")
    if octets[-_END:][:4] != b"PK\5\6" or octets[-2:] != b"\0\0":
        raise Malformed("evidence package: not a ZIP file without a comment")
    try:
        with zipfile.ZipFile(BytesIO(octets)) as archive:
            listed = archive.infolist()
            _check_listed(listed, octets)
            return {each.filename: archive.read(each) for each in listed}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as problem:
        raise Malformed(f"evidence package: not a sound ZIP file: {problem}") from problem


def _check_listed(listed: list[zipfile.ZipInfo], octets: bytes) -> None:
    """Before anything is read: no more members, and no other octets, than a package of ours has."""
    names = [each.filename for each in listed]
    if len(names) > MAX_MEMBERS or len(set(names)) != len(names):
        raise Malformed("evidence package: too many members, or one twice")
    at, listing = 0, _END  # each member begins where the one before it ends, and then comes what lists them
    for each in listed:
        if not _NAME.fullmatch(each.filename) or each.orig_filename != each.filename:
            raise Malformed(f"evidence package: {each.filename!r:.80} does not belong into one")
        if each.compress_type != zipfile.ZIP_STORED or each.compress_size != each.file_size or each.flag_bits:
            raise Malformed(f"evidence package: {each.filename} is not stored as it is")
        if each.extra or each.comment:
            raise Malformed(f"evidence package: {each.filename} has an extra field or a comment")
        if each.header_offset != at or any(octets[at + _LOCAL - 2 : at + _LOCAL]):
            raise Malformed(f"evidence package: {each.filename} is not where the member before it ends")
        at += _LOCAL + len(each.filename) + each.file_size
        listing += _CENTRAL + len(each.filename)
    if at + listing != len(octets):
        raise Malformed("evidence package: octets that belong to no member")


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()
