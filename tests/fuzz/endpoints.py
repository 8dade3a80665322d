"""What reaches an endpoint: evidence packages, what is inside parts, answers of a relay, and what goes on to a screen."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from datetime import timedelta, timezone
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import httpx2

from liaison.alarming import read_rows
from liaison.approving import Asked, read_asked
from liaison.audit.export import FORMS
from liaison.audit.pulled import PulledEntry
from liaison.audit.tally import tally
from liaison.claiming import _read_claimed
from liaison.drafting import read_draft
from liaison.evidence.package import EVIDENCE, MANIFEST, MESSAGE_FILE, Package, read_package, write_package, zip_of
from liaison.evidence.verify import Evidence, verify_evidence
from liaison.home.vault import COST, FORMAT, MAX_COST, Cost, _parse_file, _parse_header, _parse_secrets
from liaison.inbox import _parse_page
from liaison.passing import read_request
from liaison.portions import PortionContent, PortionKind, pack, unpack
from liaison.record import Record
from liaison.safe_text import distinct_file_name, for_one_line, for_terminal, safe_file_name
from liaison.transport import _error, _events
from liaison.trust import _directory_page
from relay.protocol.alarm import ALARM
from relay.protocol.approval import APPROVERS
from relay.protocol.armor import armor
from relay.protocol.canonical import decode, encode, expect, expect_bytes, expect_items, expect_time, read_array
from relay.protocol.cose import Sign1, format_sign1, protected_header
from relay.protocol.entry import AccessEntry, parse_access_entry
from relay.protocol.errors import LiaisonError, Malformed
from relay.protocol.hold import HOLD
from relay.protocol.identity import CERTIFICATE, STATEMENT
from relay.protocol.label import readable_label
from relay.protocol.merkle import leaf_hash
from relay.protocol.prekey import KEY_BATCH, KeyBatch
from relay.protocol.suite import SUITE_1
from vector_world import ANNA, JEAN, KEYS, NOW, PACKAGE, Sender

from . import mutators, seeds
from .target import Property, Target, is_read, rewritten, spelled_once

ANNA_KEY, JEAN_KEY = KEYS[ANNA], KEYS[JEAN]


def _package_holds(found: tuple[Package, Sign1], octets: bytes) -> None:
    """Nothing is in the file but its members: written again it has the same length, and the same in it."""
    package, signed = found
    manifest = format_sign1(protected_header(signed.alg, signed.kid, signed.typ), signed.payload, signed.signature)
    again = zip_of({MANIFEST: manifest, **package.members})
    assert len(again) == len(octets)
    assert read_package(again)[0] == package
    for content in package.members.values():
        assert octets.count(content) >= 1
    spans = sum(len(content) for content in package.members.values())
    assert spans < len(octets)


def _members(octets: bytes) -> Evidence:
    """Evidence from [id, ref, time, who exported, [[name, content]...]]: digests and signatures are right, or taken so."""
    message_id, ref, at, kid, rows = read_array(octets, 5, "members")
    members = {}
    for row in expect(rows, list, "members"):
        name, content = expect_items(row, 2, "member")
        if not expect(name, str, "member: name").isascii() or len(name) > 200:
            raise Malformed("a name that no ZIP file is written with here")
        members[name] = expect(content, bytes, "member")
    package = Package(expect_bytes(message_id, 16, "id"), expect_bytes(ref, 32, "ref"), expect_time(at, "at"), members)
    protected = protected_header(SUITE_1.signature_alg, expect_bytes(kid, 32, "kid"), EVIDENCE)
    signed = format_sign1(protected, package.manifest(), b"")
    return verify_evidence(zip_of({MANIFEST: signed, **members}))


def _evidence_holds(found: Evidence, _octets: bytes) -> None:
    told = found.as_json()
    assert json.loads(json.dumps(told)) == told
    assert told["shown_by"] in {"originator", "auditor", "reader"}
    assert found.message is None or MESSAGE_FILE in found.package.members


def _safe_text_holds(text: str, _octets: bytes) -> None:
    for shown in (for_terminal(text), for_one_line(text)):
        for character in shown:
            assert character in "\n\t" or unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"}
            assert character not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff"
        shown.encode()
    assert "\n" not in for_one_line(text)
    name = safe_file_name(text)
    assert 0 < len(name.encode()) <= 200
    assert not set('/\\<>:"|?*\0\n') & set(name)
    assert name[0] not in ".-"
    assert name[-1] not in ". "
    other = distinct_file_name(text, {name.upper(), name})
    assert other.casefold() != name.casefold()
    assert len(other.encode()) <= 255


def _any_text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogatepass" if b"\xed" in octets else "replace")


def _text_of_anybody(octets: bytes) -> str:
    """With lone surrogates too, as JSON may bring them."""
    try:
        return _any_text(octets)
    except UnicodeDecodeError as problem:
        raise Malformed("no text") from problem


_LABELS = SimpleNamespace(label_of=readable_label, marking=lambda label: label.classification if label else "HIGH")
_SYSLOG = re.compile(
    r"<\d+>1 \S+ - liaison-relay - \S+ \[liaison@32473( [a-z_]+=\"([^\"\\\]]|\\[\"\\\]])*\")+\] [\w-]+: \w+\n"
)


def _exports_hold(entry: AccessEntry, octets: bytes) -> None:
    """One line for one entry, in every form."""
    pulled = PulledEntry(7, leaf_hash(octets), entry)
    client: Any = SimpleNamespace(labels=_LABELS)
    lines = {form: "".join(export([pulled], client)) for form, export in FORMS.items()}
    for form in ("jsonl", "ocsf"):
        assert lines[form].count("\n") == 1
        assert type(json.loads(lines[form])) is dict
    head, row = csv.reader(io.StringIO(lines["csv"]))
    assert len(head) == len(row)
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in row)
    assert _SYSLOG.fullmatch(lines["syslog"]), lines["syslog"]
    assert tally([pulled], timezone(timedelta(hours=14)), (8, 18)).entries == 1


def _record(kind: PortionKind, content: bytes) -> Record:
    portion = PortionContent(kind, b"", content)
    return Record("in", "open", seeds.delivery().message, {0: portion}, one_time=True, receipt_sent=True)


def _asked_holds(asked: Asked, _octets: bytes) -> None:
    assert len(asked.ref) == 32
    assert asked.lines


def _events_of(octets: bytes) -> list[dict[str, Any]]:
    pieces = [octets[at : at + 7] for at in range(0, len(octets), 7)] if len(octets) < 4096 else [octets]
    return list(_events(iter(pieces), 0))


def _told(octets: bytes) -> LiaisonError:
    return _error(httpx2.Response(429, headers=[(b"retry-after", octets[:5])]), octets)


def _error_holds(error: LiaisonError, _octets: bytes) -> None:
    for_terminal(f"{error} {error.hint}").encode()


def _claimed(octets: bytes) -> Any:
    trust: Any = SimpleNamespace(directory=seeds.directory(), sync=lambda _transport: None)
    return list(_read_claimed(octets, [JEAN_KEY.device_id], trust, None, NOW))  # type: ignore[arg-type]


def _packages() -> list[bytes]:
    keys = (ANNA_KEY, ANNA_KEY, JEAN_KEY, JEAN_KEY)
    return [write_package(each, key) for each, key in zip(seeds.packages(), keys, strict=True)]


def _evidence() -> list[bytes]:
    kids = (ANNA_KEY.kid, ANNA_KEY.kid, JEAN_KEY.kid, JEAN_KEY.kid)
    return [
        encode([each.message_id, each.message_ref, each.at, kid, [list(row) for row in each.members.items()]])
        for each, kid in zip(seeds.packages(), kids, strict=True)
    ]


def _texts() -> list[bytes]:
    names = [
        "../etc/passwd",
        "Lagebericht März.pdf",
        ".hidden",
        "con\u202efdp.exe",
        "a" * 300 + ".tar.gz",
        "x\ud800y",
        "é",
    ]
    lines = ["=1+1\t\x1b[2J\r\n", "\u0645\u06cc\u200c\u062e", "\u2028\u0600", "-" * 9]
    return [text.encode("utf-8", "surrogatepass") for text in names + lines]


def _inside() -> list[bytes]:
    sender = Sender(("relay.example/directory", 1, bytes(32)))
    draft = encode([seeds.submissions()[0].encoded(), sender.content_keys])
    return [*map(pack, sender.contents), draft, encode([bytes(32), "lo-paris"])]


def _to_approve() -> list[bytes]:
    kinds = {CERTIFICATE: "CERTIFICATE", HOLD: "HOLD", STATEMENT: "STATEMENT", APPROVERS: "APPROVERS"}
    found = [armor(seeds.of_kind(typ), kind).encode() for typ, kind in kinds.items()]
    return [*found, armor(decode(seeds.of_kind(APPROVERS))[2], "RELAY APPROVERS").encode()]


def _answers() -> list[bytes]:
    problem = {
        "type": "urn:liaison-relay:problem:refused",
        "status": 403,
        "detail": "no",
        "hint": "ask",
        "rules": ["a"],
    }
    batch = JEAN_KEY.sign_object(KEY_BATCH, KeyBatch(JEAN_KEY.device_id, NOW - 60, (PACKAGE.ref,)).payload())
    return [
        json.dumps(problem).encode(),
        b'id: 7\ndata: {"message_id": "00ff", "precedence": "flash"}\n\n: here\n\n',
        encode([7, [[7, seeds.delivery().message]]]),
        encode([[3, seeds.of_kind(ALARM)]]),
        encode([seeds.notes()[0], list(seeds.entries()[:2])]),
        encode([[JEAN_KEY.device_id, PACKAGE.encoded(), batch]]),
    ]


def _vaults() -> list[bytes]:
    """A file, the header and the secrets in it: a share of an authority comes from another's machine."""
    header, secrets = encode([FORMAT, "argon2id", *COST, bytes(16)]), encode([["pins", b"a"], ["share", b"b"]])
    body = encode({1: header, 2: bytes(12), 3: bytes(48), 4: bytes(12), 5: secrets})
    return [encode([body, sha256(body).digest()]), header, secrets]


def _header_holds(found: tuple[Cost, bytes], octets: bytes) -> None:
    cost, salt = found
    assert encode([FORMAT, "argon2id", *cost, salt]) == octets
    assert all(number <= most for number, most in zip(cost, MAX_COST, strict=True))


TARGETS = (
    Target(
        "vault",
        (
            spelled_once(_parse_file, encode),
            Property(_parse_header, _header_holds),
            spelled_once(_parse_secrets, lambda secrets: encode(list(secrets.items()))),
        ),
        _vaults,
        mutators.cbor,
    ),
    Target("package", (Property(read_package, _package_holds),), _packages, mutators.package, longest=1 << 18),
    Target("evidence", (Property(_members, _evidence_holds),), _evidence, mutators.cbor, behind=True, longest=1 << 18),
    Target("safe-text", (Property(_text_of_anybody, _safe_text_holds),), _texts, mutators.text, longest=1 << 12),
    Target(
        "exports",
        (Property(parse_access_entry, _exports_hold),),
        lambda: list(seeds.access_entries()),
        mutators.cbor,
    ),
    Target(
        "inside",
        (
            Property(unpack, rewritten(pack)),
            Property(lambda octets: read_draft(_record(PortionKind.DRAFT, octets)), is_read),
            Property(
                lambda octets: read_request(_record(PortionKind.CONSENT_REQUEST, octets)),
                rewritten(lambda asked: asked.encoded()),
            ),
        ),
        _inside,
        mutators.cbor,
    ),
    Target(
        "to-approve",
        (Property(lambda octets: read_asked(octets, seeds.directory()), _asked_holds),),
        _to_approve,
        mutators.text,
        behind=True,
    ),
    Target(
        "relay-answers",
        (
            Property(_told, _error_holds),
            Property(_events_of, is_read),
            Property(_parse_page, is_read),
            Property(read_rows, is_read),
            Property(_directory_page, is_read),
            Property(_claimed, is_read),
        ),
        _answers,
        mutators.text,
        behind=True,
    ),
)
