"""Answering, passing on, and asking for leave to: what a new message owes to those that it comes from.

A reply and a forward carry at least the label of what they contain. A forward shows its originals' signed headers, and
goes to nobody whom one of them exempts; beyond the offices that an originator addressed, an originator-controlled
message goes only with the originator's signed consent, asked for and given by messages of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from relay.protocol.aggregate import Nobody, effective_label, join
from relay.protocol.canonical import encode, expect_bytes, read_array
from relay.protocol.directory import Directory
from relay.protocol.endorsement import CONSENT, Consent, verify_consent
from relay.protocol.envelope import parse_message
from relay.protocol.errors import LiaisonError, Refused
from relay.protocol.header import MAX_LIFETIME
from relay.protocol.identity import check_office
from relay.protocol.label import Label, label_of
from relay.protocol.obligations import is_always_at_least, moments
from relay.protocol.policy import Policy, static_findings

from .home.profile import Profile
from .portions import PortionContent, PortionKind
from .record import Record

TEXT = (PortionKind.BODY, PortionKind.PARAGRAPH)
PASSED_ON = (*TEXT, PortionKind.ATTACHMENT)


def derived_label(policy: Policy, parents: Sequence[Label], wanted: Label | None, now: int) -> Label:
    """The label of a message that contains `parents`: `wanted` if it is at least their join, their join if none is.

    So it is for as long as a message created now may last, where labels have successors too. Raises Refused with the
    rule if `wanted` is lower, or if nobody may read the join: no label is high enough then. Raises Malformed.
    """
    asked = moments([*parents, *([] if wanted is None else [wanted])], now, now + MAX_LIFETIME)
    joined = join(policy, [effective_label(parent, at) for at in asked for parent in parents])
    if isinstance(joined, Nobody):
        hint = "no label covers them all: answer or pass on a part with liaison send, under that part's label"
        raise Refused("together these may be read by nobody", rules=("derived-label",), hint=hint)
    if wanted is not None and not is_always_at_least(policy, wanted, parents, asked, now):
        raise Refused("the label is lower than what the message contains", rules=("derived-label",))
    if wanted is not None:
        return wanted
    current = replace(joined, policy=policy.ref)
    return joined if static_findings(policy, current) else current


def originals_of(record: Record) -> tuple[bytes, ...]:
    """The signed headers that a forward of this message shows: its own, and those that it passes on itself."""
    message = record.message
    return (message.encoded, *message.core.passed_on)


def forwarded_portions(record: Record) -> Iterator[PortionContent]:
    """What of a message may be passed on: all of it that this profile could read, each under its own label."""
    for portion in record.portions.values():
        if portion.kind in PASSED_ON:
            kind = PortionKind.PARAGRAPH if portion.kind is PortionKind.BODY else portion.kind
            yield PortionContent(kind, portion.label, portion.content, portion.name, portion.media_type, portion.apart)


def quoted_portions(record: Record) -> Iterator[PortionContent]:
    """A message's text for a reply to it, each portion under its own label: no mark of the reply's body covers it."""
    for portion in record.portions.values():
        if portion.kind in TEXT and portion.content:
            text = "".join(f"> {line}\n" for line in portion.text.splitlines())
            yield PortionContent(PortionKind.PARAGRAPH, portion.label, text.encode())


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """Somebody asks to pass a message of ours on to an office that we did not address."""

    message_ref: bytes
    office: str

    def encoded(self) -> bytes:
        return encode([self.message_ref, self.office])


def consent_request(record: Record, office: str) -> ConsentRequest:
    return ConsentRequest(record.message.ref, check_office(office))


def read_request(record: Record) -> ConsentRequest:
    """The request in a message. Raises Refused if there is none."""
    packed = _portion(record, PortionKind.CONSENT_REQUEST)
    if packed is None:
        raise Refused("this message asks for no consent", rules=("consent",))
    ref, office = read_array(packed.content, 2, "consent request")
    return ConsentRequest(expect_bytes(ref, 32, "consent request: message"), check_office(office))


def sign_consent(request: ConsentRequest, profile: Profile, not_after: int) -> bytes:
    """The originator's consent to exactly this, until `not_after`."""
    consent = Consent(request.message_ref, profile.signing.device_id, request.office, not_after)
    return profile.signing.sign_object(CONSENT, consent.payload())


def consents_for(
    directory: Directory, refs: set[bytes], records: Iterable[tuple[bytes, Record]], now: int
) -> tuple[bytes, ...]:
    """Consents among the messages of this profile that speak of these originals and are still good."""
    found = []
    for _message_id, record in records:
        packed = _portion(record, PortionKind.CONSENT)
        if packed is None:
            continue
        try:
            consent, _signer = verify_consent(directory, packed.content)
        except LiaisonError:  # its signer has been revoked since, say
            continue
        if consent.message_ref in refs and now < consent.not_after:
            found.append(packed.content)
    return tuple(found)


def refs_of(originals: Sequence[bytes]) -> set[bytes]:
    return {parse_message(each).ref for each in originals}


def readable_labels(record: Record) -> list[Label]:
    """The labels of everything in a message that this profile could read."""
    try:
        return [label_of(portion.label) for portion in record.portions.values()]
    except LiaisonError as problem:
        raise Refused("the message has a label that cannot be read", rules=("label-valid",)) from problem


def _portion(record: Record, kind: PortionKind) -> PortionContent | None:
    return next((each for each in record.portions.values() if each.kind is kind), None)
