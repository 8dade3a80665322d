"""Request signatures: held equal to an independent implementation of RFC 9421, then bent in every way."""

from __future__ import annotations

import json
import os
import time
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import http_message_signatures as other
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import (
    MLDSA44PublicKey,
    MLDSA65PublicKey,
    MLDSA87PublicKey,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.protocol.claim import settle
from relay.protocol.errors import Unauthenticated
from relay.protocol.httpsig import check_request, content_digest, parse_signature, sign_request

SHARED = Path(os.environ.get("LIAISON_SHARED", Path(__file__).parents[2] / "shared"))
VECTORS = Path(__file__).parent / "vectors" / "request"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
KEYID, NONCE, NOW = "c0ffee" * 10, bytes(range(16)), 1_800_000_000
POST = (
    "POST",
    "relay.example",
    "https://relay.example/v1/messages?draft=no",
    b"sealed octets",
    "application/cose",
)
GET = ("GET", "relay.example:8440", "https://relay.example:8440/v1/inbox", None, None)
COVERED = ("@method", "@authority", "@target-uri", "content-digest", "content-type")


def fields_of(request, **changes):
    return sign_request(KEY, KEYID, *request, changes.get("created", NOW), changes.get("nonce", NONCE))


def check(fields, request, *, now=NOW + 1, public=PUBLIC):
    signature = parse_signature(fields.get("signature-input"), fields.get("signature"))
    settle(check_request(public, signature, *request, fields.get("content-digest"), now))
    return signature


class Keys(other.HTTPSignatureKeyResolver):
    def resolve_public_key(self, key_id):
        return KEY.public_key()

    def resolve_private_key(self, key_id):
        return KEY


def theirs(request, fields):
    """The request as the other implementation takes it."""
    method, authority, target, body, content_type = request
    headers = {"Host": authority, **{name.title(): value for name, value in fields.items()}}
    if body:
        headers["Content-Type"] = content_type
    return SimpleNamespace(method=method, url=target, headers=headers, body=body)


def they_accept(request, fields):
    verifier = other.HTTPMessageVerifier(signature_algorithm=other.algorithms.ED25519, key_resolver=Keys())
    covered = COVERED if request[3] else COVERED[:3]
    try:
        results = verifier.verify(
            theirs(request, fields), expect_tag="relay-v1", require_components=covered, body=request[3]
        )
    except other.HTTPMessageSignaturesException:
        return False
    return len(results) == 1


def they_sign(request, created):
    body = request[3]
    message = theirs(request, {"content-digest": content_digest(body)} if body else {})
    signer = other.HTTPMessageSigner(signature_algorithm=other.algorithms.ED25519, key_resolver=Keys())
    signer.sign(
        message,
        key_id=KEYID,
        created=datetime.fromtimestamp(created, UTC),
        expires=datetime.fromtimestamp(created + 60, UTC),
        nonce=b64encode(NONCE).decode(),
        label="sig1",
        tag="relay-v1",
        covered_component_ids=COVERED if body else COVERED[:3],
        body=body,
        use_existing_digest=bool(body),
    )
    return {name.lower(): value for name, value in message.headers.items()}


@pytest.mark.parametrize("request_", [POST, GET], ids=["POST", "GET"])
def test_what_we_sign_we_verify(request_):
    signature = check(fields_of(request_), request_)
    assert (signature.keyid, signature.nonce) == (KEYID, NONCE)
    assert (signature.created, signature.expires) == (NOW, NOW + 60)


@pytest.mark.parametrize("request_", [POST, GET], ids=["POST", "GET"])
def test_what_we_sign_another_implementation_verifies(request_):
    fields = fields_of(request_, created=int(time.time()))
    assert they_accept(request_, fields)


@pytest.mark.parametrize("request_", [POST, GET], ids=["POST", "GET"])
def test_what_another_implementation_signs_we_verify(request_):
    check(they_sign(request_, NOW), request_)


@pytest.mark.parametrize("name", ["signed-get", "signed-post"])
def test_a_vector_says_every_octet_of_a_signed_request(name):
    vector = json.loads((VECTORS / f"{name}.json").read_text())
    body, key = bytes.fromhex(vector["body"]), Ed25519PrivateKey.from_private_bytes(bytes.fromhex(vector["seed"]))
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(vector["public"]))
    request = vector["method"], vector["authority"], vector["target"], body, vector["content_type"]
    made = sign_request(key, vector["keyid"], *request, vector["created"], bytes.fromhex(vector["nonce"]))
    assert made == vector["fields"]
    _, _, value = made["signature"].partition("=")
    public.verify(b64decode(value.strip(":")), vector["base"].encode())
    assert parse_signature(made["signature-input"], made["signature"]).keyid == vector["keyid"]


@pytest.mark.parametrize("part", range(5), ids=["method", "authority", "target", "body", "content type"])
def test_a_changed_request_is_refused_by_both(part):
    fields = fields_of(POST, created=int(time.time()))
    changed = list(POST)
    changed[part] = [
        "PUT",
        "relay.example.org",
        "https://relay.example/v1/other",
        b"other octets",
        "text/plain",
    ][part]
    if part == 1:
        changed[2] = changed[2].replace("relay.example", "relay.example.org")
    with pytest.raises(Unauthenticated):
        check(fields, changed, now=int(time.time()))
    assert not they_accept(changed, fields)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_changed_field_is_refused_by_both(data):
    fields = fields_of(POST, created=int(time.time()))
    name = data.draw(st.sampled_from(sorted(fields)))
    text = fields[name]
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from('AZaz09+/=:;"() '))
    changed = text[:at] + letter + text[at + 1 :]
    if changed == text:
        return
    with pytest.raises(Unauthenticated):
        check(fields | {name: changed}, POST, now=int(time.time()))
    if (name, at) != (
        "signature",
        len(text) - 4,
    ):  # where base64 has bits to spare, of which only ours takes note
        assert not they_accept(POST, fields | {name: changed})


def test_another_key_does_not_verify():
    stranger = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw()
    for public in (stranger, b"", bytes(31)):
        with pytest.raises(Unauthenticated, match="does not verify"):
            check(fields_of(POST), POST, public=public)


@pytest.mark.parametrize(
    ("now", "why"),
    [(NOW - 31, "in the future"), (NOW - 30, None), (NOW, None), (NOW + 90, None), (NOW + 91, "expired")],
)
def test_a_request_counts_for_its_minute_and_the_skew(now, why):
    if why is None:
        check(fields_of(POST), POST, now=now)
    else:
        with pytest.raises(Unauthenticated, match=why):
            check(fields_of(POST), POST, now=now)


def resigned(parameters):
    """A genuine signature over other parameters than the profile's."""
    base = "".join(f'"{name}": {value}\n' for name, value in zip(COVERED[:3], GET[:3], strict=True))
    signature = KEY.sign(f'{base}"@signature-params": {parameters}'.encode())
    return {"signature-input": f"sig1={parameters}", "signature": f"sig1=:{b64encode(signature).decode()}:"}


GENUINE = fields_of(GET)["signature-input"].removeprefix("sig1=")


def test_the_order_of_parameters_is_free():
    covered, *parameters = GENUINE.split(";")
    check(resigned(";".join([covered, *reversed(parameters)])), GET)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f";expires={NOW + 60}", f";expires={NOW + 61}"),
        (f";expires={NOW + 60}", f";expires={NOW}"),
        (f";expires={NOW + 60}", ""),
        (f";created={NOW}", ""),
        (f";created={NOW}", f";created={NOW};created={NOW}"),
        (f";created={NOW}", f';created="{NOW}"'),
        (f";created={NOW}", f";created=0{NOW}"),
        (f";created={NOW}", f"; created={NOW}"),
        (f";created={NOW}", f";created={NOW}.0"),
        (';alg="ed25519"', ""),
        (';alg="ed25519"', ';alg="hmac-sha256"'),
        (';alg="ed25519"', ';alg="ed25519";extra="1"'),
        (';tag="relay-v1"', ""),
        (';tag="relay-v1"', ';tag="other"'),
        (';nonce="AAECAwQFBgcICQoLDA0ODw=="', ""),
        (';nonce="AAECAwQFBgcICQoLDA0ODw=="', ';nonce=""'),
        (';nonce="AAECAwQFBgcICQoLDA0ODw=="', ';nonce="AAECAwQFBgcICQoLDA0ODx=="'),
        (';nonce="AAECAwQFBgcICQoLDA0ODw=="', ';nonce="AAECAwQFBgcICQoLDA0ODxAR"'),
        (f';keyid="{KEYID}"', ';keyid=""'),
        (f';keyid="{KEYID}"', ';keyid="a\\"b"'),
        (f';keyid="{KEYID}"', ";keyid=12"),
        (' "@target-uri"', ""),
        ('"@method" "@authority"', '"@authority" "@method"'),
        ('"@target-uri"', '"@target-uri" "content-digest"'),
        ('"@target-uri"', '"@target-uri" "host"'),
        ('"@method"', '"@method";req'),
        ("(", "( "),
    ],
)
def test_outside_the_profile_even_a_genuine_signature_is_refused(old, new):
    assert old in GENUINE
    with pytest.raises(Unauthenticated):
        check(resigned(GENUINE.replace(old, new)), GET)


SEVERAL_OR_MISSING = {
    "no input": lambda fields: {"signature-input": None},
    "no signature": lambda fields: {"signature": None},
    "empty signature": lambda fields: {"signature": ""},
    "input doubled": lambda fields: {"signature-input": f"{fields['signature-input']}, {fields['signature-input']}"},
    "second input": lambda fields: {"signature-input": f"{fields['signature-input']}, sig2={GENUINE}"},
    "second signature": lambda fields: {"signature": f"{fields['signature']}, sig2=:AAAA:"},
    "another label": lambda fields: {"signature": fields["signature"].replace("sig1", "sig2")},
    "trailing newline": lambda fields: {"signature": fields["signature"] + "\n"},
    "no digest": lambda fields: {"content-digest": None},
    "digest doubled": lambda fields: {"content-digest": fields["content-digest"] + ", " + fields["content-digest"]},
    "another hash": lambda fields: {"content-digest": fields["content-digest"].replace("sha-256", "sha-512")},
    "another body's digest": lambda fields: {"content-digest": content_digest(b"other")},
}


@pytest.mark.parametrize("change", SEVERAL_OR_MISSING.values(), ids=SEVERAL_OR_MISSING)
def test_several_or_missing_fields_are_refused(change):
    fields = fields_of(POST)
    with pytest.raises(Unauthenticated):
        check(fields | change(fields), POST)


def test_a_body_that_is_not_covered_is_refused():
    smuggled = (*GET[:3], b"smuggled", "text/plain")
    with pytest.raises(Unauthenticated, match="covers a body that is not there"):
        check(fields_of(GET) | {"content-digest": content_digest(b"smuggled")}, smuggled)


def test_a_body_that_went_missing_is_refused():
    with pytest.raises(Unauthenticated):
        check(fields_of(POST), (*POST[:3], None, POST[4]))


def test_a_digest_without_a_body_is_refused():
    with pytest.raises(Unauthenticated, match="without a body"):
        check(fields_of(GET) | {"content-digest": content_digest(b"")}, GET)


def test_an_empty_body_is_no_body():
    assert fields_of((*POST[:3], b"", POST[4])).keys() == {"signature-input", "signature"}
    check(fields_of((*POST[:3], b"", POST[4])), (*POST[:3], None, None))


@pytest.mark.parametrize(
    "request_",
    [
        ("GET\n", *GET[1:]), ("get", *GET[1:]), ("GET", "relay.example\nx", *GET[2:]), ("GET", "", *GET[2:]),
        (*GET[:2], 'https://relay.example/\n"@signature-params": ()', None, None), (*GET[:2], "https://relay.example/a b", None, None),
        (*POST[:4], None), (*POST[:4], ""), (*POST[:4], "text/plain\nx: y"), (*POST[:4], " text/plain"),
    ],
)  # fmt: skip
def test_no_value_can_forge_a_line_of_the_signed_text(request_):
    with pytest.raises(Unauthenticated):
        fields_of(request_)
    good = POST if request_[3] else GET
    with pytest.raises(Unauthenticated):
        check(fields_of(good), request_)


def test_the_host_is_compared_in_lower_case():
    check(fields_of(GET), (GET[0], GET[1].upper(), *GET[2:]))


@pytest.mark.parametrize("change", [{"nonce": b"short"}, {"nonce": bytes(17)}])
def test_no_signature_is_made_without_a_whole_nonce(change):
    with pytest.raises(Unauthenticated):
        fields_of(GET, **change)


@pytest.mark.parametrize(("keyid", "lifetime"), [("", 60), ('a"b', 60), ("a", 61), ("a", 0)])
def test_no_signature_is_made_outside_the_profile(keyid, lifetime):
    with pytest.raises(Unauthenticated):
        sign_request(KEY, keyid, *GET, NOW, NONCE, lifetime=lifetime)


@given(st.text(max_size=200), st.text(max_size=120))
def test_noise_is_refused_never_worse(signature_input, signature):
    with pytest.raises(Unauthenticated):
        parse_signature(signature_input, signature)
    with pytest.raises(Unauthenticated):
        parse_signature("sig1=" + signature_input, "sig1=:" + signature + ":")


def test_content_digest_is_that_of_rfc_9530():
    """RFC 9530 appendix D gives this digest for its example body, a JSON object and a newline."""
    assert content_digest(b'{"hello": "world"}\n') == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"


def test_the_key_and_example_of_rfc_9421_verify():
    """RFC 9421 sections B.1.4 and B.2.6: its key, its signature base, its signature. Not our profile, so refused by it."""
    public = Ed25519PublicKey.from_public_bytes(b64decode("JrQLj5P/89iXES9+vFgrIy29clF9CC/oPPsw3c5D0bs="))
    parameters = '("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519"'
    base = (
        '"date": Tue, 20 Apr 2021 02:07:55 GMT\n"@method": POST\n"@path": /foo\n"@authority": example.com\n'
        f'"content-type": application/json\n"content-length": 18\n"@signature-params": {parameters}'
    )
    signature = "wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw=="
    public.verify(b64decode(signature), base.encode())
    with pytest.raises(InvalidSignature):
        public.verify(b64decode(signature), base.replace("18", "19").encode())
    with pytest.raises(Unauthenticated):
        parse_signature(f"sig1={parameters}", f"sig1=:{signature}:")


def test_the_post_quantum_vectors_of_c2sp_verify_and_are_not_our_profile():
    path = SHARED / "vectors" / "c2sp-httpsig-pq.json"
    if not path.exists():
        pytest.skip("LIAISON_SHARED has no vectors/c2sp-httpsig-pq.json")
    kinds = {"ml-dsa-44": MLDSA44PublicKey, "ml-dsa-65": MLDSA65PublicKey, "ml-dsa-87": MLDSA87PublicKey}
    vectors = json.loads(path.read_text())["vectors"]
    assert {vector["algorithm"] for vector in vectors} == set(kinds)
    for vector in vectors:
        base = b64decode(vector["signature_base_base64"])
        stated = vector["serialized_signature_input"].removeprefix("Signature-Input: sig1=")
        assert base.endswith(b'"@signature-params": ' + stated.encode())  # the line our own base ends with
        public = kinds[vector["algorithm"]].from_public_bytes(b64decode(vector["public_key_base64"]))
        signature = b64decode(vector["deterministic_signature_base64"])
        public.verify(signature, base)
        with pytest.raises(InvalidSignature):
            public.verify(signature, base + b" ")
        with pytest.raises(Unauthenticated):
            parse_signature(f"sig1={stated}", f"sig1=:{b64encode(signature).decode()}:")
