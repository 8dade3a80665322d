"""An officer's acts on top of `Client`: answer, forward, consent, draft for release, release, lower a label."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from relay.protocol.community import ROSTER, Roster
from relay.protocol.endorsement import RELEASING_ROLE
from relay.protocol.envelope import parse_message
from relay.protocol.errors import Refused, TooLarge, Unknown
from relay.protocol.header import Addressee, AddresseeKind, Precedence
from relay.protocol.identity import parse_address
from relay.protocol.label import Label, label_bytes, label_of

from .authority import DAY
from .client import Client
from .composing import MAX_CONTENT
from .drafting import SealedDraft, endorse, open_draft, pack_draft, still_needed
from .outgoing import TWO_PERSON, Draft, Plan, Sent
from .passing import (
    consent_request,
    consents_for,
    derived_label,
    forwarded_portions,
    originals_of,
    read_request,
    readable_labels,
    refs_of,
    sign_consent,
)
from .portions import PortionContent, PortionKind
from .record import DRAFTED, IN, Record
from .seal import fresh_keys

SECURITY_ROLE = "security"


@dataclass(frozen=True, slots=True)
class Drafted:
    """A message that waits for another officer: its id to be, and the draft's own."""

    message_id: bytes
    sent: Sent


class Desk:
    """What `Client` can do, in the officer's words."""

    def __init__(self, client: Client) -> None:
        self.client = client

    # -- answering and passing on ---------------------------------------------------------------------------------

    def plan_reply(
        self, message_id: bytes, body: str, *, label: str | None, quote: bool, precedence: Precedence | None = None
    ) -> Plan:
        """A reply to the sender, under at least the label of what it answers."""
        record = self._received(message_id)
        core = record.message.core
        head = record.portions.get(0)
        if quote:
            texts = [each.text for each in record.portions.values() if each.kind is not PortionKind.ATTACHMENT]
            body += "\n" + "".join(f"> {line}\n" for text in texts for line in text.splitlines())
        subject = f"Re: {head.name.removeprefix('Re: ')}" if head is not None and head.name else ""
        return self.client.plan(
            [core.sender],
            label=self._derived(record, label),
            body=body,
            subject=subject,
            references=[message_id],
            precedence=core.handling.precedence if precedence is None else precedence,
            purpose=core.handling.purpose,
        )

    def plan_forward(self, message_id: bytes, to: Sequence[str], note: str, *, label: str | None) -> Plan:
        """A forward of everything readable, each portion under its own label, with the originals' signed headers."""
        record = self._received(message_id)
        originals = originals_of(record)
        now = int(time.time())
        head = record.portions.get(0)
        banner = self._derived(record, label, [label_of(parse_message(each).core.label) for each in originals])
        return self.client.plan(
            to,
            label=banner,
            body=note,
            subject=f"Fwd: {head.name}" if head is not None and head.name else "",
            references=[message_id],
            more=list(forwarded_portions(record)),
            passed_on=originals,
            consents=consents_for(self.client.trust.directory, refs_of(originals), self.client.records(), now),
            purpose=record.message.core.handling.purpose,
        )

    def ask_consent(self, message_id: bytes, office: str, reason: str) -> Sent:
        """Ask the originator's leave to pass its message on to another office, by a message of its own."""
        record = self._received(message_id)
        request = consent_request(record, office)
        banner = self._derived(record, None)
        packed = PortionContent(PortionKind.CONSENT_REQUEST, label_bytes(banner), request.encoded(), "consent request")
        text = f"Request to pass message {message_id.hex()} on to {request.office}.\n{reason}\n"
        plan = self.client.plan(
            [record.message.core.sender],
            label=banner,
            body=text,
            subject="Request for consent",
            references=[message_id],
            more=[packed],
            purpose=record.message.core.handling.purpose,
        )
        return self.client.release(plan)

    def give_consent(self, request_id: bytes, days: int) -> Sent:
        """Grant what a message of request asks for, for so many days. Only for a message that this office sent."""
        record = self._received(request_id)
        request = read_request(record)
        own = [each for _, each in self.client.records() if each.message.ref == request.message_ref]
        office = self.client.profile.statement.office
        if not own or own[0].message.core.office != office:
            raise Refused("the request is about a message that is not ours", rules=("consent",))
        signed = sign_consent(request, self.client.profile, int(time.time()) + days * DAY)
        banner = self._derived(record, None)
        packed = PortionContent(PortionKind.CONSENT, label_bytes(banner), signed, "consent")
        plan = self.client.plan(
            [record.message.core.sender],
            label=banner,
            body=f"Consent to pass the message on to {request.office}, for {days} days.\n",
            subject="Consent",
            references=[request_id],
            more=[packed],
            purpose=record.message.core.handling.purpose,
        )
        return self.client.release(plan)

    def ask_for_mapping(self, plan: Plan) -> list[str]:
        """A work item for the security officer, for each refused office with clearances under other policies only.

        It goes by message to whoever holds the role `security` here; the offices it names are the answer, also
        where nobody holds that role.
        """
        client = self.client
        offices = sorted(set(_unmapped(client, plan)))
        role = f"{SECURITY_ROLE}@{client.profile.statement.office}"
        if not offices or not client.trust.directory.devices_of(role, int(time.time())):
            return offices
        marking = client.labels.marking(plan.draft.label)
        names = ", ".join(offices)
        text = (
            f"No table is agreed from {plan.draft.label.policy.name} into a policy of {names}.\nWanted for: {marking}\n"
        )
        asked = client.plan([role], label=plan.draft.label, body=text, subject=f"Mapping wanted: {names}")
        if asked.released:
            client.release(asked)
        return offices

    def send_blind(self, plan: Plan, sent: Sent, addresses: Sequence[str]) -> list[Sent]:
        """A separate copy for each blind addressee: the others' bytes hold no trace of it."""
        references = (*plan.draft.handling.references, sent.message_id)
        handling = replace(plan.draft.handling, references=references)
        draft = replace(plan.draft, handling=handling)
        return [self.client.release(self._plan_copy(draft, address)) for address in addresses]

    def check_blind(self, plan: Plan, addresses: Sequence[str]) -> None:
        """Ask the rules about the blind copies while nothing has gone yet. Raises Refused, naming the addressee."""
        for address in addresses:
            for verdict in self._plan_copy(plan.draft, address).refused:
                raise Refused(f"{address} may not be given a blind copy", rules=verdict.rules)

    def _plan_copy(self, draft: Draft, address: str) -> Plan:
        parse_address(address)
        alone = replace(draft, addressees=(Addressee(AddresseeKind.ACTION, address),))
        return self.client.outgoing().plan(alone, int(time.time()))

    def keep_roster(self, address: str, members: Sequence[str]) -> int:
        """As its manager, say who belongs to a community; the roster's version."""
        client = self.client
        client.sync()
        state = client.trust.directory.communities.get(address)
        if state is None:
            raise Unknown(f"there is no community {address}", hint="your security officer founds it")
        roster = Roster(address, state.version + 1, tuple(sorted(set(members))), int(time.time()))
        signed = client.profile.signing.sign_object(ROSTER, roster.payload())
        client.transport.post("/v1/rosters", signed)
        client.sync()
        return roster.version

    # -- two-person release ---------------------------------------------------------------------------------------

    def draft(self, plan: Plan) -> Drafted:
        """Seal and sign a plan, and send it to the office's releasing officers instead of posting it."""
        plan.require_permitted()
        plan = replace(plan, draft=replace(plan.draft, portions=_all_in_memory(plan.draft.portions)))
        keys = fresh_keys(len(plan.draft.portions))
        keep = self.client.keeper(plan, DRAFTED)
        core, submission, _claimed, _verdicts = self.client.outgoing().prepare(plan, int(time.time()), keep, keys)
        packed = pack_draft(submission, keys, label_bytes(plan.draft.label))
        return Drafted(core.message_id, self._circulate(packed, plan.draft.label, core.message_id))

    def _circulate(self, packed: PortionContent, label: Label, message_id: bytes) -> Sent:
        office = self.client.profile.statement.office
        plan = self.client.plan(
            [f"{RELEASING_ROLE}@{office}"],
            exempt=[self.client.profile.pins.address],
            label=label,
            body="A draft for release.\n",
            subject=f"Draft {message_id.hex()[:12]}",
            more=[packed],
        )
        return self.client.release(plan)

    def open_draft(self, message_id: bytes) -> SealedDraft:
        """The draft in a message received, as its addressees would open it."""
        record = self.client.read(message_id)
        if record.direction != IN:
            raise Refused(
                "you drafted or signed this yourself: two-person release takes two persons", rules=(TWO_PERSON,)
            )
        return open_draft(record)

    def release_draft(self, draft: SealedDraft) -> tuple[int, int]:
        """Sign the draft; post it if that was the last signature needed, else send it on to the other officers.

        The answer is (signatures still needed, index of the accept entry or -1).
        """
        self.client.sync()
        signed = endorse(draft, self.client.profile)
        outgoing = self.client.outgoing()
        core = draft.message.core
        needed = still_needed(signed, outgoing)
        if needed:
            packed = PortionContent(PortionKind.DRAFT, core.label, signed.encoded(), "draft", "application/cbor")
            self._circulate(packed, label_of(core.label), core.message_id)
            return needed, -1
        self.client.profile.cabinet.put_outbox(core.message_id, signed.submission.encoded())
        return 0, outgoing.post(core.message_id, signed.submission.encoded())

    # -- lowering a label -----------------------------------------------------------------------------------------

    def draft_downgrade(
        self, message_id: bytes, label: str, reason: str, to: Sequence[str], body: str | None
    ) -> Drafted:
        """A new message that replaces one of our own under a lower label, for two other officers to release.

        With `body` it is sanitised: the new text takes the place of all content.
        """
        record = self.client.read(message_id)
        core = record.message.core
        if core.office != self.client.profile.statement.office:
            raise Refused("only the originating office lowers a label", rules=("originator",))
        banner = self.client.labels.read(label)
        encoded = label_bytes(banner)
        head = record.portions.get(0)
        kept = [] if body is not None else [replace(each, label=encoded) for each in forwarded_portions(record)]
        plan = self.client.plan(
            list(to) or [each.address for each in core.addressees if each.kind is not AddresseeKind.EXEMPTED],
            label=banner,
            body=body if body is not None else f"Replaces message {message_id.hex()[:12]}: {reason}\n",
            subject=head.name if head is not None else "",
            references=[message_id],
            more=kept,
            passed_on=originals_of(record),
            supersedes=(record.message.ref, reason),
            originator_controlled=core.handling.originator_controlled,
            purpose=core.handling.purpose,
        )
        return self.draft(plan)

    # -- in common ------------------------------------------------------------------------------------------------

    def _received(self, message_id: bytes) -> Record:
        record = self.client.read(message_id)
        if record.direction != IN:
            raise Refused("you sent this message yourself", rules=("direction",))
        return record

    def _derived(self, record: Record, wanted: str | None, parents: Sequence[Label] = ()) -> Label:
        labels = self.client.labels
        contained = [*readable_labels(record), *parents]
        chosen = labels.read(wanted) if wanted is not None else None
        policy = labels.policy_for(contained[0])
        if policy is None:
            raise Refused("the message's policy is not known here", rules=("policy-known",))
        return derived_label(policy, contained, chosen, int(time.time()))


def _all_in_memory(portions: Sequence[PortionContent]) -> tuple[PortionContent, ...]:
    """A draft carries the whole submission, for another officer to read: it has no large parts. Raises TooLarge."""
    if sum(portion.size for portion in portions) > MAX_CONTENT:
        hint = "send large files in a message that one person may release, or in several"
        raise TooLarge(f"what two persons release has at most {MAX_CONTENT // (1 << 20)} MiB of content", hint=hint)
    return tuple(replace(each, content=b"".join(each.blocks()), apart=None) for each in portions)


def _unmapped(client: Client, plan: Plan) -> Iterator[str]:
    """Offices that were refused because none of their addressed devices is cleared under the label's policy."""
    policy, now = plan.draft.label.policy, int(time.time())
    for verdict in plan.refused:
        devices = client.trust.directory.devices_of(verdict.addressee.address, now)
        held = [device.certificate.clearances for device in devices if device.certificate is not None]
        cleared = any(each.policy_oid == policy.oid for clearances in held for each in clearances)
        if any(held) and not cleared:
            yield devices[0].office
