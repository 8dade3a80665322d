"""Two-person release: the drafter seals and signs, another officer reads what was sealed and signs the same bytes.

The draft is an ordinary message to the office's own releasing officers and to nobody else. It carries the sealed
submission with its content keys, so that what a releasing officer reads is what the addressees will open, octet
for octet, and not a copy beside it. Who signs last posts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from relay.protocol.canonical import encode, expect, expect_bytes, read_array
from relay.protocol.endorsement import ENDORSEMENT, Endorsement, verify_endorsements
from relay.protocol.envelope import Message, Submission, parse_message, parse_submission
from relay.protocol.errors import LiaisonError, Refused, Unverified
from relay.protocol.identity import office_of
from relay.protocol.label import label_of
from relay.protocol.obligations import officers_needed

from .outgoing import TWO_PERSON, Outgoing
from .portions import PortionContent, PortionKind
from .profile import Profile
from .record import Record
from .seal import unseal_part


@dataclass(frozen=True, slots=True)
class SealedDraft:
    """What a releasing officer has before him: the submission, and its portions in the clear."""

    submission: Submission
    content_keys: tuple[bytes, ...]
    message: Message
    portions: dict[int, PortionContent]

    def encoded(self) -> bytes:
        return encode([self.submission.encoded(), list(self.content_keys)])


def pack_draft(submission: bytes, content_keys: list[bytes], label: bytes) -> PortionContent:
    """The portion that carries a draft."""
    return PortionContent(PortionKind.DRAFT, label, encode([submission, content_keys]), "draft", "application/cbor")


def open_draft(record: Record) -> SealedDraft:
    """The draft in a message, every part opened and checked. Raises Refused if there is none, Unverified."""
    packed = next((each for each in record.portions.values() if each.kind is PortionKind.DRAFT), None)
    if packed is None:
        raise Refused("this message is not a draft to be released", rules=("draft",))
    encoded, keys = read_array(packed.content, 2, "draft")
    submission = parse_submission(expect(encoded, bytes, "draft: submission"))
    content_keys = tuple(expect_bytes(key, 32, "draft: key") for key in expect(keys, list, "draft: keys"))
    message = parse_message(submission.message)
    if len(content_keys) != len(message.core.portions) or len(submission.parts) != len(content_keys):
        raise Unverified("draft: not a key and a part for each portion")
    if message.core.office != office_of(record.message.core.sender):
        raise Unverified("draft: of another office than its sender's")
    portions = {
        index: unseal_part(message.core, index, key, part or b"")  # none is uploaded: all of a draft is in it
        for index, (key, part) in enumerate(zip(content_keys, submission.parts, strict=True))
    }
    return SealedDraft(submission, content_keys, message, portions)


def endorse(draft: SealedDraft, profile: Profile) -> SealedDraft:
    """The draft with this officer's signature over the exact bytes of its message."""
    stated = Endorsement(draft.message.ref, profile.signing.device_id, profile.pins.address, int(time.time()))
    signed = profile.signing.sign_object(ENDORSEMENT, stated.payload())
    submission = replace(draft.submission, endorsements=(*draft.submission.endorsements, signed))
    return replace(draft, submission=submission)


def still_needed(draft: SealedDraft, outgoing: Outgoing) -> int:
    """How many more officers must sign. Raises Refused if those who have signed may not, or are the drafter."""
    core = draft.message.core
    label = label_of(core.label)
    policy = outgoing.judge.policy_of(core.office, label.policy)
    if policy is None:
        raise Refused("the policy of this draft is not known here", rules=("policy-known",))
    try:
        officers = verify_endorsements(outgoing.trust.directory, draft.message, draft.submission.endorsements)
    except LiaisonError as problem:
        raise Refused(str(problem), rules=(TWO_PERSON,)) from None
    return max(0, officers_needed(policy, core) - len(officers))
