"""Who sends this request: HTTP Message Signatures (RFC 9421) in one fixed profile.

The rules:
  - one signature, labelled `sig1`, of Ed25519, tag "relay-v1", nothing else in either field;
  - with a body it covers ("@method" "@authority" "@target-uri" "content-digest" "content-type"), without one
    ("@method" "@authority" "@target-uri"), in this order; an empty body is no body;
  - created, expires (1 to 60 seconds later), nonce (16 octets), keyid, alg and tag, each once, in any order,
    in their canonical spelling: what cannot be serialised back to the same bytes is refused;
  - Content-Digest is one SHA-256 (RFC 9530), and is held against the body: here, or by whoever takes one that follows;
  - whether the nonce was used before is the caller's memory to ask, once the signature has verified.

The profile is fixed so that the text to be signed is written down directly; no structured-field parser runs.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from .claim import ED25519, Checking, Claim
from .errors import Unauthenticated

LIFETIME: Final = 60
SKEW: Final = 30
NONCE_SIZE: Final = 16
TAG: Final = "relay-v1"

_BARE: Final = '("@method" "@authority" "@target-uri")'
_WITH_BODY: Final = '("@method" "@authority" "@target-uri" "content-digest" "content-type")'
_INPUT = re.compile(
    r'sig1=(\("@method" "@authority" "@target-uri"(?P<body> "content-digest" "content-type")?\)'
    r'(?P<parameters>(?:;[a-z]{1,8}=(?:[0-9]{1,15}|"[!#-\[\]-~]{1,128}")){6}))'
)
_SIGNATURE = re.compile(r"sig1=:([A-Za-z0-9+/]{85}[AQgw]==):")
_DIGEST = re.compile(r"sha-256=:[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=:")
_NONCE = re.compile(r"[A-Za-z0-9+/]{21}[AQgw]==")
_NUMBER = re.compile(r"[1-9][0-9]{0,14}")
_METHOD = re.compile(r"[A-Z]{1,16}")
_VISIBLE = re.compile(r"[!-~]{1,8192}")
_KEYID = re.compile(r"[!#-\[\]-~]{1,128}")
_FIELD = re.compile(r"[!-~](?:[ -~]{0,254}[!-~])?")
_PARAMETERS: Final = frozenset({"created", "expires", "nonce", "keyid", "alg", "tag"})


@dataclass(frozen=True, slots=True)
class RequestSignature:
    """What the two fields say. `base_params` is the text of @signature-params, signed as received."""

    keyid: str
    created: int
    expires: int
    nonce: bytes
    covers_body: bool
    base_params: str
    signature: bytes


def content_digest(body: bytes) -> str:
    """The Content-Digest field of RFC 9530."""
    return digest_field(sha256(body).digest())


def digest_field(digest: bytes) -> str:
    """The same field for a body of this SHA-256."""
    return f"sha-256=:{b64encode(digest).decode()}:"


def sign_request(  # noqa: PLR0913, PLR0917 - what a request consists of, and what makes this signature unique
    private_key: Ed25519PrivateKey,
    keyid: str,
    method: str,
    authority: str,
    target_uri: str,
    body: bytes | None,
    content_type: str | None,
    created: int,
    nonce: bytes,
    *,
    lifetime: int = LIFETIME,
    body_digest: bytes | None = None,
    tag: str = TAG,
) -> dict[str, str]:
    """The fields to add: signature-input, signature, and content-digest if there is a body.

    `created` and `lifetime` are seconds, `nonce` 16 fresh random octets; `body_digest` is the body's SHA-256 where it
    is known, `tag` what the signature is for: no relay takes another than `TAG`. Raises Unauthenticated for what the
    other side would refuse.
    """
    if len(nonce) != NONCE_SIZE or not 0 < lifetime <= LIFETIME or not _KEYID.fullmatch(keyid):
        raise Unauthenticated("request signature: nonce, lifetime or keyid is outside the profile")
    digest = digest_field(body_digest or sha256(body).digest()) if body else None
    params = (
        f"{_WITH_BODY if body else _BARE};created={created};expires={created + lifetime}"
        f';nonce="{b64encode(nonce).decode()}";keyid="{keyid}";alg="ed25519";tag="{tag}"'
    )
    base = _signature_base(method, authority, target_uri, digest, content_type, params)
    fields = {
        "signature-input": f"sig1={params}",
        "signature": f"sig1=:{b64encode(private_key.sign(base)).decode()}:",
    }
    return fields if digest is None else {"content-digest": digest, **fields}


def parse_signature(signature_input: str | None, signature: str | None) -> RequestSignature:
    """Read the two fields, each as the one line received. Unauthenticated if they leave the profile."""
    if signature_input is None or signature is None:
        raise Unauthenticated("request signature: there is none", hint="sign it with the device's request key")
    stated, signed = _INPUT.fullmatch(signature_input), _SIGNATURE.fullmatch(signature)
    if stated is None:
        raise Unauthenticated(
            "request signature: Signature-Input is not the one signature of this profile",
            hint=f"sig1={_BARE} or, with a body, sig1={_WITH_BODY}, then six parameters: SPEC.md, 21.1",
        )
    if signed is None:
        raise Unauthenticated("request signature: Signature is not one Ed25519 signature labelled sig1")
    parameters = _read_parameters(stated["parameters"])
    return RequestSignature(
        keyid=_text(parameters, "keyid", _KEYID),
        created=_number(parameters, "created"),
        expires=_number(parameters, "expires"),
        nonce=b64decode(_text(parameters, "nonce", _NONCE)),
        covers_body=stated["body"] is not None,
        base_params=stated[1],
        signature=b64decode(signed[1]),
    )


def _read_parameters(text: str) -> Mapping[str, str]:
    # A quoted value may itself contain ";" and "=": only a key that follows an end of value counts.
    # There are six pairs already, so six different names are each of them once.
    parameters = dict(re.findall(r';([a-z]+)=([0-9]+|"[^"]*")', text))
    if parameters.keys() != _PARAMETERS:
        raise Unauthenticated("request signature: not exactly created, expires, nonce, keyid, alg and tag")
    if parameters["alg"] != '"ed25519"' or parameters["tag"] != f'"{TAG}"':
        raise Unauthenticated("request signature: another algorithm, or made for another application")
    return parameters


def _number(parameters: Mapping[str, str], name: str) -> int:
    if not _NUMBER.fullmatch(parameters[name]):
        raise Unauthenticated(f"request signature: {name} is not a time in seconds")
    return int(parameters[name])


def _text(parameters: Mapping[str, str], name: str, pattern: re.Pattern[str]) -> str:
    value = parameters[name][1:-1]
    if parameters[name][0] != '"' or not pattern.fullmatch(value):
        raise Unauthenticated(f"request signature: {name} is not in its one form")
    return value


def check_request(  # noqa: PLR0913, PLR0917 - what a request consists of, and the time
    public_key: bytes,
    sig: RequestSignature,
    method: str,
    authority: str,
    target_uri: str,
    body: bytes | None,
    content_type: str | None,
    digest_header: str | None,
    now: int,
    *,
    skew: int = SKEW,
    follows: bool = False,
) -> Checking[bytes]:
    """Raises Unauthenticated unless the holder of this key sent exactly this request, just now.

    Where the body `follows`, all but the body is verified, and `verify_body` is for whoever takes it. `authority` and
    `target_uri` are what the relay is reached under, not what the request claims; `now` and `skew` are seconds. The
    nonce is not looked at. Returns the body's SHA-256, as signed.
    """
    verify_time(sig, now, skew=skew)
    has_body = follows or bool(body)
    if sig.covers_body is not has_body:
        raise Unauthenticated("request signature: covers a body that is not there, or not the one that is")
    if has_body:
        if digest_header is None or not _DIGEST.fullmatch(digest_header):
            raise Unauthenticated("request signature: Content-Digest is not one SHA-256")
        if body:
            verify_body(digest_header, sha256(body).digest())
    elif digest_header is not None:
        raise Unauthenticated("request signature: Content-Digest without a body")
    digest = digest_header if has_body else None
    base = _signature_base(method, authority, target_uri, digest, content_type, sig.base_params)
    if (yield Claim(ED25519, public_key, base, sig.signature)) is not None:
        raise Unauthenticated(
            "request signature: does not verify under this device's request key",
            hint=f"held against {method}, authority {authority.lower()}, target {target_uri}",
        )
    return b64decode(digest[9:-1]) if digest is not None else sha256().digest()


def verify_body(digest_header: str | None, digest: bytes) -> None:
    """Raises Unauthenticated unless a body of this SHA-256 is the one that was signed."""
    if digest_header != digest_field(digest):
        raise Unauthenticated("request signature: Content-Digest is not that of the body")


def verify_time(sig: RequestSignature, now: int, *, skew: int = SKEW) -> None:
    """The first half of `check_request`, for refusing the stale before looking for the key."""
    if not 0 < sig.expires - sig.created <= LIFETIME:
        raise Unauthenticated(f"request signature: expires must follow created by 1 to {LIFETIME} seconds")
    if sig.created > now + skew:
        raise Unauthenticated("request signature: made in the future", hint="compare the clocks of both machines")
    if sig.expires < now - skew:
        raise Unauthenticated("request signature: expired", hint="compare the clocks of both machines")


def _signature_base(
    method: str, authority: str, target_uri: str, digest: str | None, content_type: str | None, params: str
) -> bytes:
    # A line break in a value would let one request be read as another: only visible characters pass.
    if not (_METHOD.fullmatch(method) and _VISIBLE.fullmatch(authority) and _VISIBLE.fullmatch(target_uri)):
        raise Unauthenticated("request signature: method, authority or target holds unfit characters")
    base = f'"@method": {method}\n"@authority": {authority.lower()}\n"@target-uri": {target_uri}\n'
    if digest is not None:
        if content_type is None or not _FIELD.fullmatch(content_type):
            raise Unauthenticated("request signature: a body without a fit Content-Type")
        base += f'"content-digest": {digest}\n"content-type": {content_type}\n'
    return f'{base}"@signature-params": {params}'.encode()
