"""Policies, and labels in every form that people and other systems write: XML, JSON, markings, portion marks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from functools import cache, partial
from hashlib import sha256

import pytest
from lxml import etree

from liaison.marks import paragraphs
from policy_files import NOW, POLICIES, clearance
from relay.protocol.aggregate import dominates, join
from relay.protocol.armor import armor, dearmor, kinds_in
from relay.protocol.banner import format_marking
from relay.protocol.errors import LiaisonError, Malformed
from relay.protocol.label import Clearance, Label, clearance_bytes, label_bytes, parse_clearance, parse_label
from relay.protocol.label_json import label_ocl_json, read_label_ocl_json
from relay.protocol.label_xml import (
    binding_data_object,
    read_clearance_xml,
    read_label_xml,
    write_clearance_xml,
    write_label_xml,
)
from relay.protocol.marking import parse_marking, parse_portion_mark, portion_mark
from relay.protocol.policy import Finding, Policy, validate
from relay.protocol.policy_extensions import PolicyExtensions, parse_extensions
from relay.protocol.spif import MAX_SPIF, read_spif
from relay.protocol.xml import parse_xml

from . import mutators, seeds
from .target import Property, Target


@cache
def _policies() -> tuple[Policy, ...]:
    """Those kept here, and the public ones that are at hand."""
    found = []
    for read in POLICIES.values():
        with suppress(pytest.skip.Exception):
            found.append(read())
    return tuple(found)


MERIDIAN = POLICIES["meridian"]()


def _document(octets: bytes) -> etree._Element:
    return parse_xml(octets, "document")


def _is_plain(root: etree._Element, octets: bytes) -> None:
    about = root.getroottree().docinfo
    assert (about.encoding or "UTF-8").upper() in {"UTF-8", "US-ASCII", "ASCII"}
    assert not about.doctype
    assert not any(isinstance(each, etree._Entity) for each in root.iter())
    assert b"\0" not in octets


def _spif_holds(found: tuple[Policy, tuple[Finding, ...]], octets: bytes) -> None:
    policy, _findings = found
    assert policy.digest == sha256(octets).digest()
    for rank in policy.classifications[:20]:
        label = Label(policy.ref, rank.name)
        validate(policy, label, NOW)
        _shown(policy, label)
    if len(octets) < 1 << 15:
        again, _ = read_spif(etree.tostring(etree.fromstring(octets), encoding="UTF-8"))
        assert _plain(replace(again, digest=policy.digest)) == _plain(policy)


def _plain(value: object) -> object:
    """For comparing: parts of policies are compared by identity."""
    if is_dataclass(value):
        return [_plain(getattr(value, each.name)) for each in fields(value) if each.repr]
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return sorted(value) if isinstance(value, frozenset) else value


def _shown(policy: Policy, label: Label) -> None:
    """Its markings: a short one says exactly this label, a long one that is typed again is read no wider."""
    marking, mark = format_marking(policy, label), portion_mark(policy, label)
    if validate(policy, label, NOW):
        return
    if mark != marking:
        found = parse_portion_mark(policy, mark, NOW)
        assert (found.classification, found.categories) == (label.classification, label.categories)
    with suppress(LiaisonError):
        found = parse_marking(policy, marking, NOW)
        assert dominates(policy, found, label), f"{marking!r}, typed again, is wider"


def _extensions_hold(extensions: PolicyExtensions, _octets: bytes) -> None:
    spif = seeds.spifs()[0]
    with suppress(LiaisonError):
        policy, _ = read_spif(spif, extensions)
        for rank in policy.classifications:
            validate(policy, Label(policy.ref, rank.name), NOW)
            _shown(policy, Label(policy.ref, rank.name))
    assert extensions.beside(extensions) == replace(
        extensions,
        mandatory=tuple(dict.fromkeys(extensions.mandatory)),
        companions=tuple(dict.fromkeys(extensions.companions)),
        single_choices=tuple(dict.fromkeys(extensions.single_choices)),
        owners=tuple(dict.fromkeys(extensions.owners)),
    )


def _label_holds(policy: Policy, label: Label, _octets: bytes) -> None:
    """It has its other forms, each of which says the same."""
    assert parse_label(label_bytes(label)) == label
    if label.created is not None:
        assert read_label_xml(write_label_xml(label), policy) == label
        _is_plain(parse_xml(bound := binding_data_object(label, "urn:uuid:1", "text/plain"), "binding"), bound)
    if not validate(policy, label, NOW):
        plain = Label(label.policy, label.classification, label.categories, created=label.created)
        assert read_label_ocl_json(label_ocl_json(label), policy) == plain
        assert dominates(policy, label, label)
        bound_label = join(policy, [label, label])
        assert not isinstance(bound_label, Label) or bound_label.classification == label.classification
        _shown(policy, label)


def _clearance_holds(policy: Policy, found: Clearance, _octets: bytes) -> None:
    assert parse_clearance(clearance_bytes(found)) == found
    assert _clearance_of(policy, write_clearance_xml(found)) == found


def _clearance_of(policy: Policy, octets: bytes) -> Clearance:
    return read_clearance_xml(octets, policy, not_before=0, not_after=NOW)


def _typed(read: Callable[[Policy, str, int], Label], policy: Policy, octets: bytes) -> Label:
    """As a person types it at a command line."""
    return read(policy, octets.decode(errors="surrogateescape"), NOW)


def _marked_holds(policy: Policy, label: Label, octets: bytes) -> None:
    assert validate(policy, label, NOW) == ()
    _label_holds(policy, label, octets)


def _armored(octets: bytes) -> tuple[str, bytes]:
    kinds = kinds_in(octets)
    if not kinds:
        raise Malformed("nothing begins")
    return kinds[0], dearmor(octets, kinds[0])


def _armor_holds(found: tuple[str, bytes], _octets: bytes) -> None:
    kind, inside = found
    assert dearmor(armor(inside, kind).encode(), kind) == inside


def _per_policy(read: Callable[..., Label], holds: Callable[..., None]) -> tuple[Property, ...]:
    return tuple(Property(partial(read, policy), partial(holds, policy)) for policy in _policies())


def _documents() -> list[bytes]:
    own = write_clearance_xml(clearance(MERIDIAN, ["OPEN", "GUARDED"], {"Codeword": ["IRIS"], "Release": ["BIRCH"]}))
    return [*seeds.label_documents(), own]


def _json() -> list[bytes]:
    found = []
    for document in seeds.label_documents():
        with suppress(LiaisonError):
            found.append(label_ocl_json(read_label_xml(document, MERIDIAN)))
    return found


def _toml() -> list[bytes]:
    release = '[[companions]]\ntag_set = "Release"\npartner_set = "Desk"\npartner_value = "NORTH"\n'
    kept = "mandatory = ['Release']\nabsent = {Release = 'invalid'}\nretention = {OPEN = 86400}\nentry_retention = 5\n"
    marks = "portion_marks = {OPEN = 'O'}\nportion_prefixes = {Release = 'REL '}\nwithhold = 'silent'\n"
    more = "memberships = {GARDEN = ['ASTER']}\nrecovery_addressee = 'a@b'\ntwo_person_release_from = 'BURIED'\n"
    return [text.encode() for text in (release, kept, marks, more, kept + marks + more + release)]


def _markings() -> list[bytes]:
    found = [
        b"MERIDIAN OPEN",
        b"NATO SECRET Releasable to Finland, Sweden",
        b"(NS REL FIN)",
        b"COSMIC TOP SECRET ATOMAL",
    ]
    for document in seeds.label_documents():
        with suppress(LiaisonError):
            label = read_label_xml(document, MERIDIAN)
            found += [format_marking(MERIDIAN, label, lang).encode() for lang in ("", "fr")]
            found.append(f"({portion_mark(MERIDIAN, label)})".encode())
    return found


def _armors() -> list[bytes]:
    return [armor(seeds.signed()[0][:200], "MESSAGE").encode(), b"Dear all,\r\n" + armor(b"", "HOLD").encode()]


def _bodies() -> list[bytes]:
    lines = ["(O) One.\n", "(O REL BIRCH) Two (see (a) above).\r\n\n", "  1. (G) Three\n", "Four. (G) Five (\n"]
    return ["".join(lines).encode(), *(line.encode() for line in lines)]


def _paragraphs(octets: bytes) -> list[tuple[Label, str]]:
    body = octets.decode("utf-8", "replace")
    return list(paragraphs(MERIDIAN, body, Label(MERIDIAN.ref, "GUARDED"), NOW))


def _paragraphs_hold(found: list[tuple[Label, str]], octets: bytes) -> None:
    for label, text in found:
        assert label.policy == MERIDIAN.ref
        assert text.strip() in octets.decode("utf-8", "replace")


TARGETS = (
    Target("spif", (Property(read_spif, _spif_holds),), seeds.spifs, mutators.xml, longest=MAX_SPIF),
    Target("extensions", (Property(parse_extensions, _extensions_hold),), _toml, mutators.text, longest=1 << 14),
    Target(
        "label-xml",
        (
            Property(_document, _is_plain),
            Property(lambda octets: read_label_xml(octets, MERIDIAN), partial(_label_holds, MERIDIAN)),
            Property(partial(_clearance_of, MERIDIAN), partial(_clearance_holds, MERIDIAN)),
        ),
        _documents,
        mutators.xml,
        longest=1 << 20,
    ),
    Target(
        "label-json",
        (Property(lambda octets: read_label_ocl_json(octets, MERIDIAN), partial(_label_holds, MERIDIAN)),),
        _json,
        mutators.text,
        longest=1 << 14,
    ),
    Target(
        "marking", _per_policy(partial(_typed, parse_marking), _marked_holds), _markings, mutators.text, longest=2000
    ),
    Target(
        "portion-mark",
        _per_policy(partial(_typed, parse_portion_mark), _marked_holds),
        _markings,
        mutators.text,
        longest=2000,
    ),
    Target("paragraphs", (Property(_paragraphs, _paragraphs_hold),), _bodies, mutators.text),
    Target("armor", (Property(_armored, _armor_holds),), _armors, mutators.text),
)
