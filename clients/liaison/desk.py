"""An officer's acts on top of `Client`: answer, forward, consent, copy blind, keep a roster."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from relay.protocol.community import ROSTER, Roster
from relay.protocol.envelope import parse_message
from relay.protocol.errors import Refused, Unknown
from relay.protocol.header import Addressee, AddresseeKind, Precedence
from relay.protocol.identity import SECURITY_ROLE, parse_address
from relay.protocol.label import Label, label_bytes, label_of

from .authority import DAY
from .client import Client
from .composing import NOTHING, Enclosed
from .passing import (
    consent_request,
    consents_for,
    derived_label,
    forwarded_portions,
    originals_of,
    quoted_portions,
    read_request,
    readable_labels,
    refs_of,
    sign_consent,
)
from .plan import Draft, Plan, plan_of
from .portions import PortionContent, PortionKind
from .record import IN, Record
from .waiting import Sent, Waiting


class Desk:
    """What `Client` can do, in the officer's words."""

    def __init__(self, client: Client) -> None:
        self.client = client

    # -- answering and passing on ---------------------------------------------------------------------------------

    def plan_reply(
        self, message_id: bytes, body: str, *, label: str | None, quote: bool, precedence: Precedence | None = None
    ) -> Plan:
        """A reply to the sender, under at least the label of what it answers, as urgent as that was here."""
        record = self._received(message_id)
        core = record.message.core
        head = record.portions.get(0)
        subject = f"Re: {head.name.removeprefix('Re: ')}" if head is not None and head.name else ""
        return self.client.plan(
            [core.sender],
            label=self._derived(record, label),
            body=body,
            subject=subject,
            references=[message_id],
            precedence=self.client.precedence_of(record) if precedence is None else precedence,
            purpose=core.handling.purpose,
            message_type=core.handling.message_type,
            enclosed=Enclosed(tuple(quoted_portions(record))) if quote else NOTHING,
        )

    def plan_forward(
        self,
        message_id: bytes,
        to: Sequence[str],
        note: str,
        *,
        label: str | None,
        precedence: Precedence | None = None,
    ) -> Plan:
        """A forward of everything readable, each portion under its own label, with the originals' signed headers."""
        record = self._received(message_id)
        originals = originals_of(record)
        directory, now = self.client.trust.directory, int(time.time())
        consents = consents_for(directory, refs_of(originals), self.client.records(), now)
        head = record.portions.get(0)
        banner = self._derived(record, label, [label_of(parse_message(each).core.label) for each in originals])
        return self.client.plan(
            to,
            label=banner,
            body=note,
            subject=f"Fwd: {head.name}" if head is not None and head.name else "",
            references=[message_id],
            precedence=self.client.precedence_of(record) if precedence is None else precedence,
            enclosed=Enclosed(tuple(forwarded_portions(record)), originals, consents),
            purpose=record.message.core.handling.purpose,
            message_type=record.message.core.handling.message_type,
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
            enclosed=Enclosed((packed,)),
            purpose=record.message.core.handling.purpose,
            message_type=record.message.core.handling.message_type,
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
            enclosed=Enclosed((packed,)),
            purpose=record.message.core.handling.purpose,
            message_type=record.message.core.handling.message_type,
        )
        return self.client.release(plan)

    def unmapped(self, plan: Plan) -> list[str]:
        """The refused offices with clearances under other policies only."""
        return sorted(set(_unmapped(self.client, plan)))

    def ask_for_mapping(self, plan: Plan) -> Sent | None:
        """A work item about these offices, by message to whoever holds the role `security` here; None if nobody does.

        Raises Refused.
        """
        client, offices = self.client, self.unmapped(plan)
        role = f"{SECURITY_ROLE}@{client.profile.statement.office}"
        if not offices or not client.trust.directory.devices_of(role, int(time.time())):
            return None
        marking = client.labels.marking(plan.draft.label)
        names = ", ".join(offices)
        text = (
            f"No table is agreed from {plan.draft.label.policy.name} into a policy of {names}.\nWanted for: {marking}\n"
        )
        asked = client.plan([role], label=plan.draft.label, body=text, subject=f"Mapping wanted: {names}")
        try:
            return client.release(asked)
        except Waiting as waits:
            return waits.sent

    def send_blind(self, plan: Plan, sent: Sent, address: str) -> Sent:
        """A separate copy for a blind addressee: the others' bytes hold no trace of it. Raises as `Client.release`."""
        references = (*plan.draft.handling.references, sent.message_id)
        handling = replace(plan.draft.handling, references=references)
        return self.client.release(self._plan_copy(replace(plan.draft, handling=handling), address))

    def plan_blind(self, plan: Plan, addresses: Sequence[str]) -> list[Plan]:
        """What the rules say of the blind copies while nothing has gone; a copy's first verdict is its reader's."""
        return [self._plan_copy(plan.draft, address) for address in addresses]

    def _plan_copy(self, draft: Draft, address: str) -> Plan:
        parse_address(address)
        alone = replace(draft, addressees=(Addressee(AddresseeKind.ACTION, address),))
        return plan_of(alone, self.client.profile, self.client.trust, self.client.judge, int(time.time()))

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


def _unmapped(client: Client, plan: Plan) -> Iterator[str]:
    """Offices that were refused because none of their addressed devices is cleared under the label's policy."""
    policy, now = plan.draft.label.policy, int(time.time())
    for verdict in plan.refused:
        devices = client.trust.directory.devices_of(verdict.addressee.address, now)
        held = [device.certificate.clearances for device in devices if device.certificate is not None]
        cleared = any(each.policy_oid == policy.oid for clearances in held for each in clearances)
        if any(held) and not cleared:
            yield devices[0].office
