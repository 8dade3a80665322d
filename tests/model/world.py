"""Who may what, in dictionaries and sets, written from SPEC.md and not from the code: sections 6 to 11, and 20.

Nothing of `relay` is called, but for names of errors, events and kinds and the encoding that is hashed: what decides here
is written here, so that it can disagree.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from model.terms import (
    APART,
    DAY,
    NO_CODEWORD,
    NOBODY,
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
from relay.protocol.approval import Approval
from relay.protocol.entry import Event
from relay.protocol.errors import Conflict, LiaisonError, Refused, Unauthenticated, Unknown, Unverified
from relay.protocol.identity import Kind

MAILBOX = {Kind.OFFICER, Kind.SYSTEM}
STRANGER = Answer(Unauthenticated)


@dataclass
class World:
    """Who is who and what the rules are: SPEC.md, 6 to 11 and 20."""

    now: int
    offices: set[str] = field(default_factory=set)
    holders: dict[bytes, Holder] = field(default_factory=dict)
    revoked: set[bytes] = field(default_factory=set)
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
        """Rule 10: the addressees that this device is behind; none, if one of them is exempted."""
        found = mail.addressees.keys() & self.bases(holder)
        return set() if any(mail.addressees[each] == 3 for each in found) else found

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
        if mail.expires <= self.now:
            rules.add("handling")
        return rules

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

    # -- approvals -------------------------------------------------------------------------------------------------

    def takes(self, office: str, matter: str) -> int:
        """20.5: how many approvals; 0 where no list of the office has the matter."""
        needed = self.named[office].needed if office in self.named else {}
        return max(needed.values(), default=0) if matter == "approvers" else needed.get(matter, 0)

    def unapproved(
        self, office: str, matter: str, ref: bytes, own: str, given: tuple[Approval, ...]
    ) -> type[LiaisonError] | None:
        """20.6: why it does not hold."""
        if not (needed := self.takes(office, matter)):
            return None
        if not all(
            (each.matter, each.ref) == (matter, ref)
            and (each.address, each.device_id) in self.named[office].people
            and self.may_act(each.device_id)
            and each.address != own
            and self.now - 7 * DAY <= each.at <= self.now + APART
            for each in given
        ):
            return Unverified
        return Refused if len({each.address for each in given}) < needed else None

    def unnameable(self, office: str, listed: Named) -> type[LiaisonError] | None:
        """20.5: why such a list does not hold, whoever approves it."""
        before = self.named[office].version if office in self.named else 0
        holders = [(address, self.holders[device_id]) for address, device_id in listed.people]
        if listed.version != before + 1:
            return Conflict
        is_right = all(
            self.may_act(each.device_id) and (each.address, each.kind, each.office) == (address, Kind.OFFICER, office)
            for address, each in holders
        )
        return None if is_right else Refused

    # -- keys and the directory -----------------------------------------------------------------------------------

    def claim(self, caller: bytes, devices: tuple[bytes, ...], body: bytes) -> Answer:
        """7.3"""
        if not self.may_act(caller):
            return STRANGER
        if self.holders[caller].kind not in MAILBOX:
            return Answer(Refused, frozenset({"kind"}))
        self.note(Event.CLAIM, caller, detail=hashlib.sha256(body).hexdigest())
        return Answer(found=tuple(self.take(caller, each) for each in devices))

    def take(self, caller: bytes, device_id: bytes) -> bytes | None:
        offices = self.holders[caller].office, self.holders[device_id].office
        if not self.may_act(device_id) or (offices[0] != offices[1] and not self.valid_between(*offices)):
            return None
        stock = [
            (not each.one_time, each.until, ref)
            for ref, each in self.packages.items()
            if each.device_id == device_id and each.until > self.now and each.claimed_by is None
        ]
        if not stock:
            return None
        ref = min(stock)[2]
        if self.packages[ref].one_time:
            self.packages[ref] = replace(self.packages[ref], claimed_by=caller)
        return ref

    def stock(self, caller: bytes, packages: dict[bytes, Package]) -> Answer:
        """7.1, 7.3: a newer last-resort package takes the place of the others."""
        if not self.may_act(caller):
            return STRANGER
        if self.holders[caller].kind not in MAILBOX:
            return Answer(Refused, frozenset({"kind"}))
        for ref, each in self.packages.items():
            if each.device_id == caller and not each.one_time and each.claimed_by is None:
                self.packages[ref] = replace(each, claimed_by=caller)
        self.packages |= packages
        self.directory.append("key-batch")
        return Answer()

    def publish(self, caller: bytes, change: str, problem: type[LiaisonError] | None) -> Answer:
        """20.1: an entry of both logs; `problem` is why the change does not hold."""
        if not self.may_act(caller):
            return STRANGER
        if problem is not None:
            return Answer(problem)
        self.directory.append(change)
        self.note(Event.DIRECTORY, caller, detail=f"{change} {len(self.directory) - 1}")
        return Answer()

    def list_members(self, caller: bytes, version: int, members: frozenset[str]) -> Answer:
        """9.7"""
        if not self.may_act(caller):
            return STRANGER
        holder = self.holders[caller]
        if holder.kind not in MAILBOX:
            return Answer(Refused, frozenset({"kind"}))
        problem = Unverified if holder.address != self.manager else Conflict if version != self.roster[0] + 1 else None
        answer = self.publish(caller, "roster", problem)
        if answer.error is None:
            self.roster = version, members
        return answer

    def operate(self, change: str, office: str) -> Answer:
        if (office in self.offices) is (change == "office"):
            return Answer(Conflict if change == "office" else Unknown)
        self.offices ^= {office}
        self.directory.append(change)
        self.note(Event.OPERATOR, NOBODY, detail=f"{change} {len(self.directory) - 1}")
        return Answer()
