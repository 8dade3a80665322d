"""What the relay does of what it is asked, over the dictionaries of `world.py` and `books.py`: SPEC.md, 15, 16, 18 and 18a.

The rules:
  - each method is one thing that a caller may ask for. It answers what he should hear, writes into `log` what the access
    log should say of it, and changes the state: all of it, or nothing of the three;
  - who asks is a device_id; that his signature holds goes without saying.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

from model.books import Books
from model.terms import (
    APART,
    DAY,
    DENIED,
    ENTRIES_KEPT,
    KEPT,
    NOBODY,
    Answer,
    Entry,
    Holder,
    Mail,
    Stored,
    Word,
    dominates,
)
from model.world import MAILBOX, STRANGER
from relay.protocol.approval import Approval
from relay.protocol.canonical import encode
from relay.protocol.entry import Event
from relay.protocol.errors import Conflict, Malformed, Refused
from relay.protocol.hold import Hold
from relay.protocol.identity import Kind

WORDS = ("deferred", "routine", "priority", "immediate", "flash", "override")
PAGE = 256  # entries that one record may name


@dataclass
class Model(Books):
    mails: dict[bytes, Stored] = field(default_factory=dict)
    said: set[bytes] = field(default_factory=set)  # words on holds, by ref

    # -- messages -------------------------------------------------------------------------------------------------

    def accept(self, caller: bytes, mail: Mail) -> Answer:
        """15"""
        if not self.may_act(caller) or not self.may_act(mail.sender):
            return STRANGER
        if self.holders[caller].office != mail.office:
            return STRANGER
        if not self.now - 7 * DAY <= mail.created <= self.now + APART:
            return Answer(Malformed)
        if (known := self.mails.get(mail.message_id)) is not None:
            return Answer(index=known.entry) if known.mail.body == mail.body else Answer(Conflict)
        if any((each.mail.sender, each.mail.seq) == (mail.sender, mail.seq) for each in self.mails.values()):
            return Answer(Conflict)
        if not all(self.is_his(device_id, ref, mail.sender) for device_id, ref in mail.packages.items()):
            return Answer(Conflict)
        if rules := self.refusing(caller, mail):
            self.note(Event.REFUSE, caller, mail, rules=frozenset(rules))
            return Answer(Refused, frozenset(rules))
        grants = [[device_id, list(granted)] for device_id, granted in sorted(mail.slots.items())]
        detail = f"{digest(grants)} {WORDS[mail.precedence]}"
        index = self.note(Event.ACCEPT, caller, mail, detail=detail)
        urgencies = {device_id: self.urgency(self.holders[device_id], mail) for device_id in mail.slots}
        self.mails[mail.message_id] = Stored(mail, index, urgencies)
        for ref in mail.packages.values():
            if self.packages[ref].one_time:
                self.packages[ref] = replace(self.packages[ref], used=True)
        return Answer(index=index)

    def is_his(self, device_id: bytes, ref: bytes, sender: bytes) -> bool:
        """15, step 5: the package is the device's, has not ended and, if one-time, is this sender's and unused."""
        package = self.packages.get(ref)
        if package is None or package.device_id != device_id or package.until <= self.now:
            return False
        return not package.one_time or (package.claimed_by == sender and not package.used)

    def refusing(self, caller: bytes, mail: Mail) -> set[str]:
        """15, steps 7 to 9: the rules of the first that has any."""
        if self.holders[mail.sender].kind not in MAILBOX:
            return {"sender:kind"}
        if mail.expires <= self.now:
            return {"handling"}
        if rules := self.against_sender(mail):
            return rules
        if not self.is_released_by(caller, mail):
            return {"second-signature"}
        is_one_time = all(self.packages[ref].one_time for ref in mail.packages.values())
        owed = {
            "banner": dominates(mail.banner, mail.labels),
            "one-time-key": is_one_time or mail.banner.level != "SEALED",
            "derived-label": dominates(mail.banner, (mail.banner, *(each.banner for each in mail.originals))),
            "two-person-release": len(mail.endorsed) >= self.officers_needed(mail),
        }
        if rules := {name for name, is_met in owed.items() if not is_met}:
            return rules
        return self.against_readers(mail)

    def against_readers(self, mail: Mail) -> set[str]:
        reached = set[str]()
        for device_id, granted in sorted(mail.slots.items()):
            holder = self.holders[device_id]
            if not self.may_act(device_id):
                return {"reader:unknown-device"}
            reached |= self.bases(holder)
            for portion in granted:
                if rules := self.denying(holder, mail, (portion,)):
                    return {f"{holder.address}:{rule}" for rule in rules}
        missing = sorted((mail.addressees[each], each) for each in mail.reached - reached)
        return {f"{missing[0][1]}:not-covered"} if missing else set()

    def open(self, caller: bytes, message_id: bytes, claimed: int) -> Answer:
        """16"""
        if not self.may_act(caller):
            return STRANGER
        stored, holder = self.mails.get(message_id), self.holders[caller]
        if stored is None:
            return self.deny(caller, message_id, None, {"no-slot"})
        mail, granted = stored.mail, stored.mail.slots.get(caller)
        if granted is None or not stored.has_slots:
            rules = {"no-slot"} | self.denying(holder, mail, tuple(range(len(mail.labels))))
            rules |= {"spill"} if stored.is_spilled else {"recalled"} if stored.recalls else set()
            return self.deny(caller, message_id, mail, rules)
        if rules := self.denying(holder, mail, granted):
            return self.deny(caller, message_id, mail, rules)
        if claimed > self.urgency(holder, mail):
            return Answer(Malformed)
        index = self.note(Event.OPEN, caller, mail, detail=f"portions {'-'.join(map(str, granted))}")
        stored.opened.setdefault(caller, index)
        return Answer(index=index)

    def deny(self, caller: bytes, message_id: bytes, mail: Mail | None, rules: set[str]) -> Answer:
        """16.1: one entry for the asker's auditors, one for the originator's."""
        holder = self.holders[caller]
        full = {"rules": frozenset(rules), "message_id": message_id}
        if mail is None or holder.office not in mail.parties:
            own = {"rules": frozenset({"no-slot"}), "message_id": message_id, "ref": None, "label": None}
        else:
            own = full
        self.note(Event.DENY, caller, mail, **own | {"concerns": ""})
        originator = mail.office if mail is not None and mail.office != holder.office else ""
        self.note(Event.DENY, caller, mail, **full | {"office": originator, "concerns": ""})
        return DENIED

    def acknowledge(self, caller: bytes, message_id: bytes, ref: bytes, state: str) -> Answer:
        """18.1"""
        if not self.may_act(caller):
            return STRANGER
        stored = self.mails.get(message_id)
        if stored is None or caller not in stored.opened:
            return DENIED
        if stored.mail.ref != ref:
            return Answer(Malformed)
        if (caller, state) not in stored.receipts:
            stored.receipts[caller, state] = self.note(Event.ACKNOWLEDGE, caller, stored.mail, detail=state)
        return Answer(index=stored.receipts[caller, state])

    # -- recall and hold ------------------------------------------------------------------------------------------

    def recall(self, signers: tuple[bytes, ...], message_id: bytes, at: int, reason: str, *, spill: bool) -> Answer:
        """18.5; the first of the signers posts it."""
        if not all(map(self.may_act, signers)):
            return STRANGER
        if not self.now - DAY <= at <= self.now + APART:
            return Answer(Malformed)
        stored = self.mails.get(message_id)
        if stored is None or not self.may_recall([self.holders[each] for each in signers], stored.mail, spill=spill):
            return self.deny(signers[0], message_id, stored.mail if stored is not None else None, {"recall"})
        words = (frozenset(signers), at, reason, spill)
        if words in stored.recalls:
            return Answer(index=stored.recalls[words])
        mail = stored.mail
        states = [[each, list(granted), stored.opened.get(each)] for each, granted in sorted(mail.slots.items())]
        kind = ("spill" if spill else "recall") + ("-held" if stored.is_held else "")
        detail = f"{kind} {digest(states)} {reason}"
        index = self.note(Event.RECALL, signers[0], mail, detail=detail)
        stored.is_kept = stored.is_held and (stored.has_slots or stored.is_kept)
        stored.recalls[words] = index
        stored.is_spilled |= spill
        stored.has_parts &= stored.is_held or not spill
        return Answer(index=index)

    def may_recall(self, signers: list[Holder], mail: Mail, *, spill: bool) -> bool:
        """18.5, step 4"""
        officers = {each.address for each in signers if each.kind is Kind.OFFICER}
        if any(each.office != mail.office for each in signers):
            return False
        if any("security" in each.roles and each.kind is Kind.OFFICER for each in signers):
            return True
        return len(officers) > 1 if spill else self.holders[mail.sender].address in {each.address for each in signers}

    def hold(self, caller: bytes, stated: Hold, ref: bytes, approvals: tuple[Approval, ...] = ()) -> Answer:
        """18a.4; `ref` is that of the signed word."""
        if not self.may_act(caller):
            return STRANGER
        if not self.now - (7 * DAY if approvals else APART) <= stated.at <= self.now + APART:
            return Answer(Malformed)
        holder, stored = self.holders[caller], self.mails.get(stated.message_id)
        if not is_security_officer(holder) or stored is None or holder.office not in stored.mail.parties:
            return DENIED
        word = stored.words.get(holder.office, Word())
        if word.stands is (stated.action == "place"):
            return Answer(Conflict)
        waits = word.waits if word.waits is not None and self.may_act(word.waits) else None
        needed = self.takes(holder.office, "hold")
        if needed and (error := self.unapproved(holder.office, "hold", ref, holder.address, approvals)):
            return Answer(error, frozenset({"approvals"} if error is Refused else ()))
        if not needed and approvals:
            return Answer(Malformed)
        is_own = waits is not None and self.holders[waits].address == holder.address
        if (is_own and not needed) or ref in self.said:
            return Answer(Conflict)
        self.said.add(ref)
        stored.words[holder.office] = word
        return Answer(index=self.take_word(caller, stated, word, needed + 1 if needed else 2, counts=needed or waits))

    def take_word(self, caller: bytes, stated: Hold, word: Word, needed: int, *, counts: object) -> int:
        stored = self.mails[stated.message_id]
        if not counts:
            word.waits = caller
            detail = f"{stated.action} 1 of {needed}: {stated.reason}"
            word.waiting_entry = self.note(Event.HOLD, caller, stored.mail, detail=detail)
            return word.waiting_entry
        word.stands, word.waits = stated.action == "place", None
        end = "" if stored.is_held or not self.destroy_kept(stored) else " destroyed"
        detail = f"{stated.action} {needed} of {needed}{end}: {stated.reason}"
        word.entry = self.note(Event.HOLD, caller, stored.mail, detail=detail)
        return word.entry

    def destroy_kept(self, stored: Stored) -> bool:
        """What a recall would have destroyed, but for the hold that has just ended; whether there was any."""
        found = stored.is_kept or (stored.is_spilled and stored.has_parts)
        stored.is_kept, stored.has_parts = False, stored.has_parts and not stored.is_spilled
        return found

    # -- what time takes ------------------------------------------------------------------------------------------

    def sweep(self) -> tuple[int, int]:
        """18a.1 to 18a.3: how many messages and entries go."""
        due = [each for each in self.mails.values() if not each.is_held and self.is_over(each.mail)]
        for each in due:
            offices = {self.holders[device_id].office for device_id in each.opened} | each.words.keys()
            for other in sorted(offices - {each.mail.office}) or [""]:
                self.note(Event.EXPIRE, NOBODY, each.mail, office=each.mail.office, concerns=other)
            del self.mails[each.mail.message_id]
        if due:
            self.note(Event.DESTROY, NOBODY, office="*")
        gone = [index for index, entry in enumerate(self.log) if self.is_entry_over(entry)]
        for _page in sorted({index // PAGE for index in gone}):
            self.note(Event.DESTROY, NOBODY, office="*")
        for index in gone:
            self.log[index].is_erased = True
        self.packages = {ref: each for ref, each in self.packages.items() if each.until > self.now}
        return len(due), len(gone)

    def is_over(self, mail: Mail) -> bool:
        return mail.expires + KEPT[self.version(mail.office)].get(mail.banner.level, 30 * DAY) <= self.now

    def is_entry_over(self, entry: Entry) -> bool:
        if entry.label is None or entry.is_erased or entry.message_id in self.mails:
            return False
        offices = {entry.office, entry.concerns} - {""} or {self.holders[entry.device_id].office}
        periods = [ENTRIES_KEPT[self.version(each)].get(entry.label.level) for each in offices]
        return all(each is not None and entry.time + each <= self.now for each in periods)


def is_security_officer(holder: Holder) -> bool:
    return holder.kind is Kind.OFFICER and "security" in holder.roles


def digest(value: object) -> str:
    return hashlib.sha256(encode(value)).hexdigest()
