"""Keys, the directory, and who approves what is governed there: SPEC.md, 7 and 20."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from model.terms import APART, DAY, NOBODY, Answer, Named, Package
from model.world import MAILBOX, STRANGER, World
from relay.protocol.approval import Approval
from relay.protocol.entry import Event
from relay.protocol.errors import Conflict, LiaisonError, Refused, Unknown, Unverified
from relay.protocol.identity import Kind


@dataclass
class Books(World):
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
