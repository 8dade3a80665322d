"""Who is who: round trips, and everything that a statement, request, certificate or revocation may not be."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liaison.keys import SigningKey
from relay.protocol.armor import armor, dearmor
from relay.protocol.canonical import LAST_SECOND, decode, encode
from relay.protocol.cose import format_sign1, parse_sign1, protected_header, verify_sign1
from relay.protocol.errors import Malformed, Refused, Unverified
from relay.protocol.identity import (
    CERTIFICATE,
    REQUEST,
    REVOCATION,
    STATEMENT,
    Certificate,
    EnrolmentRequest,
    Kind,
    Revocation,
    Statement,
    check_nation,
    check_office,
    parse_address,
    parse_request,
    parse_statement,
    read_certificate,
    read_revocation,
)
from world import clearance

KEY, OTHER = SigningKey.generate(), SigningKey.generate()
LOCALS = st.from_regex(r"[a-z0-9](?:[a-z0-9._-]{0,20}[a-z0-9])?", fullmatch=True)
OFFICES = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
ASCENDING = st.sets(OFFICES, max_size=4).map(lambda names: tuple(sorted(names)))
TIMES = st.integers(0, LAST_SECOND)


@given(LOCALS, OFFICES)
def test_an_address_is_its_two_halves(local, office):
    assert parse_address(f"{local}@{office}") == (local, office)


@pytest.mark.parametrize(
    "wrong",
    [
        "", "anna", "anna@", "@lo-warsaw", "anna@lo@warsaw", "Anna@lo-warsaw", "anna@LO", "anna nowak@lo-warsaw",
        "anna@lo-warsaw\n", "anna@lo_warsaw", ".anna@lo-warsaw", "anna-@lo-warsaw", "anna@-lo", "\u0430nna@lo-warsaw",
        "a" * 65 + "@lo", "a@" + "b" * 64, None, b"anna@lo-warsaw", 7,
    ],
)  # fmt: skip
def test_what_is_not_an_address_is_malformed(wrong):
    with pytest.raises(Malformed):
        parse_address(wrong)


@pytest.mark.parametrize("wrong", ["", "pol", "P", "POL ", "POL\n", "P" * 17, None])
def test_what_is_not_a_nation_is_malformed(wrong):
    with pytest.raises(Malformed):
        check_nation(wrong)


@pytest.mark.parametrize("wrong", ["", "LO", "lo.warsaw", "lo-", None])
def test_what_is_not_an_office_is_malformed(wrong):
    with pytest.raises(Malformed):
        check_office(wrong)


def _statement(**fields):
    return replace(Statement("lo-warsaw", "POL", 1, KEY.public, bytes(32), 7, ()), **fields)


def _request(**fields):
    return replace(EnrolmentRequest("anna@lo-warsaw", 1, KEY.public, bytes(32), bytes(32), 7), **fields)


def _certificate(**fields):
    made = Certificate(
        device_id=KEY.device_id,
        address="anna@lo-warsaw",
        kind=Kind.OFFICER,
        roles=("duty",),
        clearances=(clearance(nations=["POL"]),),
        scope=(),
        suite=1,
        signature_public=KEY.public,
        request_public=bytes(32),
        not_before=1,
        not_after=2,
        serial=bytes(16),
    )
    return replace(made, **fields)


@settings(max_examples=20, deadline=None)
@given(OFFICES, TIMES, ASCENDING)
def test_a_statement_reads_back(office, created, relay_keys):
    statement = _statement(office=office, created=created, relay_keys=relay_keys)
    assert parse_statement(KEY.sign_object(STATEMENT, statement.payload())) == statement


def test_a_request_for_half_of_its_own_key_is_malformed():
    half = _request(request_public=KEY.public[1952:])
    with pytest.raises(Malformed, match="half of the signature key"):
        parse_request(KEY.sign_object(REQUEST, half.payload()))


@settings(max_examples=20, deadline=None)
@given(LOCALS, OFFICES, TIMES)
def test_a_request_reads_back(local, office, created):
    request = _request(address=f"{local}@{office}", created=created)
    assert parse_request(KEY.sign_object(REQUEST, request.payload())) == request
    assert request.device_id == KEY.device_id


@settings(max_examples=20, deadline=None)
@given(LOCALS, ASCENDING, ASCENDING, TIMES, st.binary(min_size=16, max_size=16))
def test_a_certificate_reads_back(local, roles, scope, not_after, serial):
    certificate = _certificate(
        address=f"{local}@lo-warsaw", kind=Kind.AUDITOR, roles=roles, scope=scope, not_after=not_after, serial=serial
    )
    signed = parse_sign1(OTHER.sign_object(CERTIFICATE, certificate.payload()), CERTIFICATE)
    assert read_certificate(signed) == certificate
    verify_sign1(signed, OTHER.public)


@settings(max_examples=20, deadline=None)
@given(st.text(max_size=50), TIMES)
def test_a_revocation_reads_back(reason, at):
    revocation = Revocation(KEY.device_id, "anna@lo-warsaw", reason, at)
    assert read_revocation(parse_sign1(KEY.sign_object(REVOCATION, revocation.payload()), REVOCATION)) == revocation


@pytest.mark.parametrize("damage", ["\u00a0", "\u00ad", "\u200b", "\ufffd", "=", "!"])
def test_what_mail_has_damaged_is_malformed_and_to_be_copied_again(damage):
    text = armor(bytes(200), "STATEMENT")
    assert dearmor(text.encode(), "STATEMENT") == bytes(200)
    with pytest.raises(Malformed, match="damaged text"):
        dearmor(text.replace("AAAA", "AA" + damage + "AA", 1).encode(), "STATEMENT")


def test_an_octet_that_is_no_utf_8_is_damage_too():
    with pytest.raises(Malformed, match="damaged text"):
        dearmor(armor(bytes(200), "STATEMENT").encode().replace(b"AAAA", b"AA\xa0AA", 1), "STATEMENT")


WRONG_FIELDS = {
    "another version": {1: 2},
    "a version that is a truth value": {1: True},
    "a kind that is a list": {4: ["officer"]},
    "an unknown field": {20: 1},
    "a device of another size": {2: bytes(15)},
    "an address that is none": {3: "anna"},
    "a kind that is never certified": {4: "authority"},
    "a kind that is unknown": {4: "admin"},
    "roles out of order": {5: ["watch", "duty"]},
    "a role twice": {5: ["duty", "duty"]},
    "a role that is no local part": {5: ["Duty Officer"]},
    "a clearance that is none": {6: [b"\x00"]},
    "a scope for an officer": {7: ["lo-paris"]},
    "a scope that is no office": {7: ["LO PARIS"]},
    "an unknown suite": {8: 2},
    "a request key of another size": {10: bytes(31)},
    "a time that is text": {11: "now"},
    "a time that is a truth value": {12: True},
    "a serial of another size": {13: bytes(15)},
}


@pytest.mark.parametrize("why", WRONG_FIELDS)
def test_a_certificate_is_malformed_with(why):
    fields = decode(_certificate().payload()) | WRONG_FIELDS[why]
    with pytest.raises(Malformed):
        read_certificate(parse_sign1(KEY.sign_object(CERTIFICATE, encode(fields)), CERTIFICATE))


def test_a_certificate_with_two_clearances_under_one_policy_is_malformed():
    fields = decode(_certificate().payload())
    twice = encode(fields | {6: fields[6] * 2})
    with pytest.raises(Malformed, match="two clearances"):
        read_certificate(parse_sign1(KEY.sign_object(CERTIFICATE, twice), CERTIFICATE))


def test_a_device_is_named_by_its_key_and_by_no_other():
    payload = _certificate(device_id=OTHER.device_id).payload()
    with pytest.raises(Unverified, match="name is not its key's"):
        read_certificate(parse_sign1(KEY.sign_object(CERTIFICATE, payload), CERTIFICATE))


@pytest.mark.parametrize("key", range(1, 14))
def test_no_field_of_a_certificate_is_optional(key):
    fields = decode(_certificate().payload())
    del fields[key]
    with pytest.raises(Malformed):
        read_certificate(parse_sign1(KEY.sign_object(CERTIFICATE, encode(fields)), CERTIFICATE))


@pytest.mark.parametrize(
    ("typ", "stated", "parse"), [(STATEMENT, _statement(), parse_statement), (REQUEST, _request(), parse_request)]
)
def test_whoever_introduces_himself_proves_that_he_has_the_key(typ, stated, parse):
    for forged in (OTHER.sign_object(typ, stated.payload()), _named(KEY, OTHER, typ, stated.payload())):
        with pytest.raises(Unverified):
            parse(forged)


def _named(named, signer, typ, payload):
    honest = parse_sign1(signer.sign_object(typ, payload), typ)
    return format_sign1(protected_header(honest.alg, named.kid, typ), payload, honest.signature)


def test_an_object_of_one_type_is_not_taken_for_another():
    """A signed request is no certificate, whatever its payload says."""
    signed = KEY.sign_object(REQUEST, _certificate().payload())
    with pytest.raises(Malformed, match="expected a certificate"):
        parse_sign1(signed, CERTIFICATE)


SIGNED = decode(KEY.sign_object(STATEMENT, _statement().payload()))
HEADER = decode(SIGNED[0])
WRONG_OBJECTS = {
    "too few items": SIGNED[:3],
    "too many items": [*SIGNED, b""],
    "an unprotected header": [SIGNED[0], {4: b""}, *SIGNED[2:]],
    "an unknown algorithm": [encode(HEADER | {1: -8}), *SIGNED[1:]],
    "an unknown header": [encode(HEADER | {5: b""}), *SIGNED[1:]],
    "no kid": [encode({1: HEADER[1], 16: HEADER[16]}), *SIGNED[1:]],
    "a short kid": [encode(HEADER | {4: bytes(31)}), *SIGNED[1:]],
    "a header that is no map": [encode([]), *SIGNED[1:]],
    "a payload that is no octets": [*SIGNED[:2], "payload", SIGNED[3]],
    "a signature that is no octets": [*SIGNED[:3], None],
}


@pytest.mark.parametrize("why", WRONG_OBJECTS)
def test_a_signed_object_is_malformed_with(why):
    assert parse_sign1(encode(SIGNED), STATEMENT).payload == SIGNED[2]
    with pytest.raises(Malformed):
        parse_sign1(encode(WRONG_OBJECTS[why]), STATEMENT)


def test_the_reference_of_an_object_does_not_depend_on_its_signature():
    """Signatures are hedged: signing twice gives other bytes, and the same name."""
    one, two = (parse_sign1(KEY.sign_object(STATEMENT, SIGNED[2]), STATEMENT) for _ in range(2))
    assert one.signature != two.signature
    assert one.ref == two.ref


def test_an_authority_certifies_no_address_of_another_office_and_says_so_itself(two_offices):
    paris, key = two_offices.authorities["lo-paris"], SigningKey.generate()
    asked = EnrolmentRequest(
        "anna@lo-warsaw", key.suite.number, key.public, bytes(32), paris.profile.statement.kid, int(time.time())
    )
    with pytest.raises(Refused, match="anna@lo-warsaw is no address of lo-paris"):
        paris.certify(
            key.sign_object(REQUEST, asked.payload()),
            kind=Kind.OFFICER, roles=(), clearances=(), scope=(), valid_days=30,
        )  # fmt: skip
