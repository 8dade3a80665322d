"""Two-person release: the drafter seals and signs, another officer reads what was sealed and signs the same bytes.

The draft is an ordinary message to the office's own releasing officers and to nobody else. It carries the sealed
submission with its content keys, so that what a releasing officer reads is what the addressees will open, octet
for octet, and not a copy beside it. Who signs last posts.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from relay.protocol.canonical import encode
from relay.protocol.cose import parse_sign1
from relay.protocol.endorsement import (
    ENDORSEMENT,
    RELEASING_ROLE,
    Endorsement,
    read_endorsement,
    verify_endorsements,
)
from relay.protocol.envelope import Message, Submission, parse_message
from relay.protocol.errors import LiaisonError, Refused, TooLarge, Unverified
from relay.protocol.header import AddresseeKind, MessageHandling
from relay.protocol.identity import office_of
from relay.protocol.label import Label, label_bytes, label_of
from relay.protocol.obligations import officers_needed

from .client import Client
from .composing import Enclosed
from .drafted import carriers_of, unpack
from .home.profile import Profile
from .outgoing import Refusals
from .passing import forwarded_portions, originals_of
from .plan import TWO_PERSON, Plan
from .portions import MAX_CONTENT, PortionContent, PortionKind
from .record import DRAFTED, IN, Record
from .seal import fresh_keys, unseal_part
from .sealed import SealedFile
from .waiting import NOT_YET, Sent, Waiting

_LONGEST = MAX_CONTENT - 64 * 1024  # octets of a submission, so that its keys and more signatures fit beside it
_NOBODY = f"your security officer enrols another officer with the role {RELEASING_ROLE}"


@dataclass(frozen=True, slots=True)
class SealedDraft:
    """What a releasing officer has before him: the submission, and its portions in the clear."""

    submission: Submission
    content_keys: tuple[bytes, ...]
    message: Message
    portions: dict[int, PortionContent]

    def packed(self) -> PortionContent:
        """The portion that carries it to the next officer."""
        return pack_draft(self.submission.encoded(), self.content_keys, self.message.core.label)


def pack_draft(submission: bytes, content_keys: Sequence[bytes], label: bytes) -> PortionContent:
    """The portion that carries a draft."""
    return PortionContent(
        PortionKind.DRAFT, label, encode([submission, list(content_keys)]), "draft", "application/cbor"
    )


def read_draft(record: Record) -> SealedDraft:
    """The draft in a message, every part opened and checked. Raises Refused if there is none, Unverified."""
    submission, content_keys = unpack(record)
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


def signed_at(draft: SealedDraft, profile: Profile) -> int | None:
    """When this officer signed the draft, in seconds; None if he has not."""
    signed = profile.cabinet.pin(_signature(draft))
    return read_endorsement(parse_sign1(signed, ENDORSEMENT)).at if signed is not None else None


def endorse(draft: SealedDraft, profile: Profile) -> SealedDraft:
    """The draft with this officer's signature over the exact bytes of its message: the first one that he gave it."""
    signed = profile.cabinet.pin(_signature(draft))
    if signed is None:
        stated = Endorsement(draft.message.ref, profile.signing.device_id, profile.pins.address, int(time.time()))
        signed = profile.signing.sign_object(ENDORSEMENT, stated.payload())
    submission = replace(draft.submission, endorsements=(*draft.submission.endorsements, signed))
    return replace(draft, submission=submission)


def _signature(draft: SealedDraft) -> str:
    return f"endorsed {draft.message.ref.hex()}"


def still_needed(draft: SealedDraft, client: Client) -> int:
    """How many more officers must sign.

    Raises Refused if those who have signed may not or are the drafter, or the drafter no longer may.
    """
    core = draft.message.core
    if client.trust.directory.device(core.sender_device, int(time.time())) is None:
        raise Refused(f"{core.sender}, who drafted this, is no longer enrolled with that device", rules=("sender",))
    label = label_of(core.label)
    policy = client.judge.policy_of(core.office, label.policy)
    if policy is None:
        raise Refused("the policy of this draft is not known here", rules=("policy-known",))
    try:
        officers = verify_endorsements(client.trust.directory, draft.message, draft.submission.endorsements)
    except LiaisonError as problem:
        raise Refused(str(problem), rules=(TWO_PERSON,)) from None
    return max(0, officers_needed(policy, core) - len(officers))


# --- What officers do


@dataclass(frozen=True, slots=True)
class Drafted:
    """A message that waits for another officer: its id to be, and the draft's own."""

    message_id: bytes
    sent: Sent


class DraftWaiting(Waiting):
    """The draft is sealed, and so is the message that carries it to the releasing officers, which waits."""

    def __init__(self, waits: Waiting, message_id: bytes) -> None:
        super().__init__(waits, waits.sent)
        self.drafted = Drafted(message_id, waits.sent)


def circulate_plan(client: Client, plan: Plan) -> Drafted:
    """Seal and sign a plan, and send it to the office's releasing officers instead of posting it.

    Raises Refused for what stands against the message beside the second signature, TooLarge, DraftWaiting.
    """
    plan.require_permitted()
    officers = _for_release(client, plan.draft.label, plan.draft.handling, "")
    if not officers.released:  # before anything is sealed and a number of the chain is used
        rules = tuple(dict.fromkeys(rule for verdict in officers.verdicts for rule in verdict.rules))
        raise Refused("nobody else in your office may release this", rules=rules, hint=_NOBODY)
    plan = replace(plan, draft=replace(plan.draft, portions=_all_in_memory(plan.draft.portions)))
    keys, store = fresh_keys(len(plan.draft.portions)), client.keeper(plan, DRAFTED)

    def keep(submission: Submission, refused: Refusals, apart: Mapping[int, SealedFile]) -> None:
        if len(submission.encoded()) > _LONGEST:  # its slots and padding come to more than any content tells
            raise _too_large()
        store(submission, refused, apart)

    sealed = client.outgoing().prepare(plan, int(time.time()), keep, keys)
    packed = pack_draft(sealed.submission, keys, label_bytes(plan.draft.label))
    carrier = circulate(client, packed, plan.draft.label, plan.draft.handling, sealed.core.message_id)
    return Drafted(sealed.core.message_id, carrier)


def circulate(
    client: Client, packed: PortionContent, label: Label, handling: MessageHandling, message_id: bytes
) -> Sent:
    """Send a packed draft of this message to every releasing officer of the office but oneself. Raises DraftWaiting."""
    try:
        return client.release(_for_release(client, label, handling, f"Draft {message_id.hex()[:12]}", packed))
    except Waiting as waits:
        raise DraftWaiting(waits, message_id) from waits


def _for_release(
    client: Client, label: Label, handling: MessageHandling, subject: str, *packed: PortionContent
) -> Plan:
    return client.plan(
        [f"{RELEASING_ROLE}@{client.profile.statement.office}"],
        exempt=[client.profile.pins.address],
        label=label,
        body="A draft for release.\n",
        subject=subject,
        precedence=handling.precedence,
        message_type=handling.message_type,
        enclosed=Enclosed(packed),
    )


def open_draft(client: Client, message_id: bytes) -> SealedDraft:
    """The draft in a message received, as its addressees would open it. Raises Refused, Unverified."""
    record = client.read(message_id)
    if record.direction != IN:
        raise Refused("you drafted or signed this yourself: two-person release takes two persons", rules=(TWO_PERSON,))
    return read_draft(record)


def release_draft(client: Client, draft: SealedDraft) -> tuple[int, int]:
    """Sign the draft; post it if that was the last signature needed, else send it on to the other officers.

    The answer is (signatures still needed, index of the accept entry or -1). Safe to repeat: the same bytes are posted
    again, for the receipt of the first time, and nothing goes on twice. Raises Waiting as `Client.release` does,
    DraftWaiting where it goes on to others, Conflict where another officer was faster.
    """
    client.sync()
    signed, core, cabinet = endorse(draft, client.profile), draft.message.core, client.profile.cabinet
    needed, submission = still_needed(signed, client), signed.submission.encoded()
    with cabinet.transaction():
        cabinet.put_pin(_signature(draft), signed.submission.endorsements[-1])
        if not needed:
            cabinet.put_outbox(core.message_id, submission)
    if needed:
        if not any(carriers_of(client, core.message_id)):
            circulate(client, signed.packed(), label_of(core.label), core.handling, core.message_id)
        return needed, -1
    to = tuple(core.reached)
    sent = Sent(core.message_id, core.handling.dtg, to, (), NOT_YET, ())
    return 0, client.outgoing().post_kept(sent, submission).index


def draft_downgrade(
    client: Client, message_id: bytes, label: str, reason: str, to: Sequence[str], body: str | None
) -> Drafted:
    """A new message that replaces one of our own under a lower label, for two other officers to release.

    With `body` it is sanitised: the new text takes the place of all content. Raises Refused.
    """
    record = client.read(message_id)
    core = record.message.core
    if core.office != client.profile.statement.office:
        raise Refused("only the originating office lowers a label", rules=("originator",))
    banner = client.labels.read(label)
    encoded = label_bytes(banner)
    head = record.portions.get(0)
    kept = [] if body is not None else [replace(each, label=encoded) for each in forwarded_portions(record)]
    plan = client.plan(
        to or core.addressed(AddresseeKind.ACTION),
        info=() if to else core.addressed(AddresseeKind.INFO),
        exempt=() if to else core.addressed(AddresseeKind.EXEMPTED),
        label=banner,
        body=body if body is not None else f"Replaces message {message_id.hex()[:12]}: {reason}\n",
        subject=head.name if head is not None else "",
        references=[message_id],
        enclosed=Enclosed(tuple(kept), originals_of(record)),
        supersedes=(record.message.ref, reason),
        originator_controlled=core.handling.originator_controlled,
        purpose=core.handling.purpose,
        message_type=core.handling.message_type,
    )
    return circulate_plan(client, plan)


def _all_in_memory(portions: Sequence[PortionContent]) -> tuple[PortionContent, ...]:
    """A draft carries the whole submission, for another officer to read: it has no large parts. Raises TooLarge."""
    if sum(portion.size for portion in portions) > _LONGEST:
        raise _too_large()
    return tuple(replace(each, content=b"".join(each.blocks()), apart=None) for each in portions)


def _too_large() -> TooLarge:
    hint = "send large files in a message that one person may release, or in several"
    return TooLarge(f"what two persons release has, sealed, less than {MAX_CONTENT // (1 << 20)} MiB", hint=hint)
