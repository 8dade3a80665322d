"""Who may what, in dictionaries and sets, written from SPEC.md and not from the code: sections 6 to 12.

Nothing of `relay` is called, but for names of errors, events and kinds and the encoding that is hashed: what decides here
is written here, so that it can disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from model.terms import (
    APART,
    NO_CODEWORD,
    NOBODY,
    ORDER,
    TWO_PERSONS_FROM,
    Answer,
    Clearance,
    Entry,
    Holder,
    Label,
    Mail,
    Named,
    Package,
    Terms,
)
from relay.protocol.entry import Event
from relay.protocol.errors import Unauthenticated
from relay.protocol.identity import Kind

MAILBOX = {Kind.OFFICER, Kind.SYSTEM}
STRANGER = Answer(Unauthenticated)


@dataclass
class World:
    """Who is who and what the rules are: SPEC.md, 6 to 12."""

    now: int
    offices: set[str] = field(default_factory=set)
    holders: dict[bytes, Holder] = field(default_factory=dict)
    revoked: dict[bytes, int] = field(default_factory=dict)  # by device, since when
    versions: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)  # index, time, version
    agreements: dict[bytes, Terms] = field(default_factory=dict)
    named: dict[str, Named] = field(default_factory=dict)  # who approves, by office
    manager: str = ""
    community: str = ""
    roster: tuple[int, frozenset[str]] = (0, frozenset())  # version, members
    packages: dict[bytes, Package] = field(default_factory=dict)  # by ref
    directory: list[str] = field(default_factory=list)  # the changes, in order
    log: list[Entry] = field(default_factory=list)

    def note(self, event: Event, device_id: bytes, about: Mail | None = None, **more: object) -> int:
        """One more entry; its index."""
        own = self.holders[device_id].office if device_id != NOBODY else ""
        entry = Entry(event, device_id, own, time=self.now)
        if about is not None:
            concerns = about.office if about.office != own else ""
            entry = replace(entry, concerns=concerns, message_id=about.message_id, ref=about.ref, label=about.banner)
        self.log.append(replace(entry, **more))  # type: ignore[arg-type]
        return len(self.log) - 1

    def may_act(self, device_id: bytes) -> bool:
        """20.2"""
        holder = self.holders.get(device_id)
        if holder is None or device_id in self.revoked or holder.office not in self.offices:
            return False
        return holder.since <= self.now < holder.until

    def version(self, office: str) -> int:
        return self.versions[office][-1][2]

    def version_then(self, mail: Mail) -> int:
        """8.3: the last that the sender had seen, or that stood there for as long as clocks differ."""
        known = [
            v for index, time, v in self.versions[mail.office] if index < mail.seen or time + APART <= mail.created
        ]
        return known[-1]

    def valid_between(self, left: str, right: str) -> list[Terms]:
        """9.1"""
        return [
            each
            for each in self.agreements.values()
            if {left, right} <= each.offices <= each.signed
            and not each.is_withdrawn
            and {left, right} <= self.offices
            and each.since <= self.now <= each.until
        ]

    def bases(self, holder: Holder) -> set[str]:
        """The addresses that reach this device: its holder's, its roles', the community's."""
        roles = {f"{role}@{holder.office}" for role in holder.roles}
        return {holder.address, *roles, *([self.community] if holder.address in self.roster[1] else [])}

    def needs(self, holder: Holder, mail: Mail) -> set[str]:
        """Rule 10: the addressees that this device is behind; none, if it is exempted, by an original too."""
        named = (row for each in (mail, *mail.originals) for row in each.addressees.items())
        exempted = {address for address, kind in named if kind == 3}
        return set() if exempted & self.bases(holder) else mail.addressees.keys() & self.bases(holder)

    def urgency(self, holder: Holder, mail: Mail) -> int:
        """12.4: the precedence for this reader; everybody's info precedence is deferred here."""
        kinds = {mail.addressees[each] for each in mail.addressees.keys() & self.bases(holder)}
        return 0 if 2 in kinds and 1 not in kinds else mail.precedence

    def lacking(self, label: Label, clearance: Clearance | None, version: int, at: int) -> set[str]:
        """Rules 2 to 8."""
        rules = set[str]()
        if version < label.version:  # such a label is not valid under it either
            rules |= {"policy-known", "label-valid"}
        if label.codeword and label.level in NO_CODEWORD[version]:
            rules.add("label-valid")
        if clearance is None:
            return rules | {"clearance-valid", "same-policy", "classification", "restrictive", "permissive"}
        if not clearance.since <= at <= clearance.until:
            rules.add("clearance-valid")
        if label.level not in clearance.levels:
            rules.add("classification")
        if label.codeword and not clearance.codeword:
            rules.add("restrictive")
        if label.nations and clearance.nation not in label.nations:
            rules.add("permissive")
        return rules

    def denying(self, holder: Holder, mail: Mail, portions: tuple[int, ...]) -> set[str]:
        """Every rule of section 11 that keeps this device from any of these portions, now."""
        if not self.is_passed_on_rightly(mail):
            return {"second-signature"}
        return set().union(*(self.denying_label(holder, mail, mail.labels[each]) for each in portions))

    def denying_label(self, holder: Holder, mail: Mail, label: Label) -> set[str]:
        clearance = holder.clearance if self.may_act(holder.device_id) else None
        rules = self.lacking(label, clearance, self.version(holder.office), self.now)
        needs = self.needs(holder, mail)
        if not needs:
            rules.add("need-to-know")
        if mail.office != holder.office and not any(
            self.covers(each, label, needs) for each in self.valid_between(mail.office, holder.office)
        ):
            rules.add("agreement")
        if mail.expires <= self.now or not all(self.may_pass(each, mail, holder.office) for each in mail.originals):
            rules.add("handling")
        return rules

    def is_passed_on_rightly(self, mail: Mail) -> bool:
        """12.9, 12.10"""
        carried = {each.ref for each in mail.originals}
        return all(
            self.could_sign(each) and {inner.ref for inner in each.originals} <= carried for each in mail.originals
        ) and all(
            self.holders[each.device_id].kind is Kind.OFFICER
            and each.device_id not in self.revoked
            and self.holders[each.device_id].office in self.offices
            for each in mail.consents
        )

    def could_sign(self, mail: Mail) -> bool:
        sender = self.holders[mail.sender]
        return sender.since <= mail.created < min(sender.until, self.revoked.get(mail.sender, sender.until))

    def may_pass(self, original: Mail, mail: Mail, office: str) -> bool:
        """11.4: whether the original may go to this office."""
        if original.office == mail.office or office in original.parties:
            return True
        for each in mail.consents:
            signer = self.holders[each.device_id]
            is_for_this = (each.message_ref, each.office, signer.office) == (original.ref, office, original.office)
            if is_for_this and self.now < min(each.not_after, signer.until):
                return True
        return not original.is_controlled and any(
            each.may_go_on and self.covers(each, original.banner, set())
            for each in self.valid_between(original.office, mail.office)
        )

    def covers(self, terms: Terms, label: Label, needs: set[str]) -> bool:
        """9.4, 9.5"""
        if label.level not in terms.levels or (label.codeword and not terms.codeword):
            return False
        return needs != {self.community} or self.community in terms.communities

    def against_sender(self, mail: Mail) -> set[str]:
        """15, step 7: of the first label that is denied him, now or when he created the message."""
        sender = self.holders[mail.sender]
        certified = sender.clearance if sender.since <= mail.created < sender.until else None
        for label in (mail.banner, *mail.labels):
            for clearance, version, at in (
                (sender.clearance, self.version(mail.office), self.now),
                (certified, self.version_then(mail), mail.created),
            ):
                if rules := self.lacking(label, clearance, version, at):
                    return {f"sender:{rule}" for rule in rules}
        return set()

    def is_released_by(self, caller: bytes, mail: Mail) -> bool:
        """12.11, and 15, step 8"""
        if not self.is_passed_on_rightly(mail):
            return False
        people = {each.address for each in mail.endorsed}
        return (
            len(people) == len(mail.endorsed)
            and all(
                (each.message_ref, each.address) == (mail.ref, self.holders[each.device_id].address)
                and self.may_release(each.device_id, mail)
                and self.holders[each.device_id].since <= each.at < self.holders[each.device_id].until
                and each.at >= mail.created - APART
                for each in mail.endorsed
            )
            and caller in {mail.sender, *(each.device_id for each in mail.endorsed)}
        )

    def may_release(self, device_id: bytes, mail: Mail) -> bool:
        holder = self.holders[device_id]
        is_officer = holder.kind is Kind.OFFICER and "release" in holder.roles and holder.office == mail.office
        return is_officer and holder.address != self.holders[mail.sender].address and self.may_act(device_id)

    def officers_needed(self, mail: Mail) -> int:
        """12.12, by the version as of then and by that of today: a draft (12.13) needs nobody."""
        if mail.reached == {f"release@{mail.office}"}:
            return 0
        versions = self.version_then(mail), self.version(mail.office)
        return int(any(ORDER.index(mail.banner.level) >= ORDER.index(TWO_PERSONS_FROM[each]) for each in versions))
