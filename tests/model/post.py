"""What people do with messages, each act beside what the model says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from logcheck import verify_receipt
from model.acts import Act, key_of, sealed
from model.cast import CLOCK, WORDS, keys_of, word_of
from model.releasing import endorsed, officers
from model.stage import Stage
from model.terms import DAY, Answer, Label, Mail
from relay.protocol.canonical import decode, encode
from relay.protocol.endorsement import CONSENT, Consent
from relay.protocol.entry import LoggedEntry, parse_logged_entry
from relay.protocol.envelope import RECEIPT, Receipt, parse_delivery
from relay.protocol.header import Precedence
from relay.protocol.merkle import root_of, verify_consistency
from relay.protocol.recall import RECALL, Recall, parse_recalled


class Post:
    """All mail that was ever sealed, and the acts that are about it."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.model = stage, stage.model
        self.sealed: list[Mail] = []
        self.spoken_for = set[bytes]()  # packages that something was sealed to
        self.heads = {0: root_of([])}  # of the access log, by size, as receipts have shown them
        self.answers: dict[tuple[object, ...], bytes] = {}  # what is answered the same whenever it is asked again

    @property
    def devices(self) -> list[bytes]:
        """All that were ever certified; an authority's are not."""
        return [each for word in WORDS if (each := key_of(word).device_id) in self.model.holders]

    # -- sending

    def plan(
        self, who: str, banner: Label, labels: list[Label], to: dict[str, int], life: int, precedence: int
    ) -> Mail:
        key = key_of(who)
        return Mail(
            key.device_id, self.model.holders[key.device_id].office, len(self.sealed) + 1, CLOCK.now,
            len(self.model.directory), CLOCK.now + life, precedence, banner, tuple(labels), to,
        )  # fmt: skip

    def send(
        self, who: str, banner: Label, labels: list[Label], to: dict[str, int], life: int, precedence: int, *,
        honest: bool = True, later: bool = False, odd_key: bool = False, by: list[str] | None = None, age: int = 0,
        **carried: Any,
    ) -> None:  # fmt: skip
        """Claim keys, seal and post; `honest` leaves out whom the rules leave out, as a client does.

        `carried` is what else the message says.
        """
        if key_of(who).device_id not in self.model.holders or 1 not in to.values():
            return
        mail = replace(self.plan(who, banner, labels, to, life, precedence), **carried)
        grants = self.granted(mail, honest=honest)
        if honest:
            behind = set().union(*(self.model.bases(self.model.holders[each]) for each in grants), set())
            mail = replace(mail, addressees={each: kind for each, kind in to.items() if kind == 3 or each in behind})
        if not mail.reached or not grants:
            return
        self.claim(who, sorted(grants))
        packages = {
            each: ref for each in grants if (ref := self.package_for(mail.sender, each, odd=odd_key)) is not None
        }
        if not packages:
            return
        self.spoken_for |= set(packages.values())
        planned = replace(mail, slots={each: grants[each] for each in sorted(packages)}, packages=packages)
        self.seal(who, planned, later=later, by=by, age=age)

    def forward(
        self, which: int, who: str, to: dict[str, int], *, label: Label | None, consenting: tuple[str, str, int] | None,
        leaves_out: bool, **how: Any,
    ) -> None:  # fmt: skip
        """Pass a message on, with those that it carries itself, under its label or another one.

        Who consents: a word, for an office, for so many seconds.
        """
        if not self.sealed:
            return
        original = self.sealed[which % len(self.sealed)]
        originals, consents = (original, *(() if leaves_out else original.originals)), ()
        if consenting is not None and (device_id := key_of(consenting[0]).device_id) in self.model.holders:
            consents = (Consent(original.ref, device_id, consenting[1], CLOCK.now + consenting[2]),)
        signed = tuple(keys_of(each.device_id).signing.sign_object(CONSENT, each.payload()) for each in consents)
        banner = label or original.banner
        self.send(
            who, banner, [banner], to, 9 * DAY, 2, originals=originals, consents=consents, signed_consents=signed, **how
        )

    def seal(self, who: str, planned: Mail, *, later: bool = False, by: list[str] | None = None, age: int = 0) -> None:
        """Seal, have it released by whom it takes or by these, and post it; who endorses last posts it, or does not."""
        mail = sealed(key_of(who), self.model.holders[planned.sender].address, planned, self.stage.registry.made)
        self.sealed.append(self.released(mail, by, age))
        if not later:
            posters = [planned.sender, *(each.device_id for each in self.sealed[-1].endorsed)]
            self.accept(self.sealed[-1], posters[-(len(self.sealed) % 2)])

    def released(self, mail: Mail, by: list[str] | None, age: int) -> Mail:
        chosen = officers(self.model, mail) if by is None else tuple(key_of(each).device_id for each in by)
        return endorsed(self.model, mail, (each for each in chosen if each in self.model.holders), age)

    def release_again(self, which: int, by: list[str], who: str) -> None:
        """Others release what was sealed once, and one of the office posts it."""
        if self.sealed:
            self.sealed.append(self.released(self.sealed[which % len(self.sealed)], by, 0))
            self.post_again(-1, who)

    def granted(self, mail: Mail, *, honest: bool) -> dict[bytes, tuple[int, ...]]:
        """To whom which portions: to all who are addressed, or all of it to somebody more."""
        found, every = {}, range(len(mail.labels))
        for device_id in self.devices:
            if self.model.needs(holder := self.model.holders[device_id], mail):
                found[device_id] = tuple(
                    each for each in every if not honest or not self.model.denying(holder, mail, (each,))
                )
        if not honest:
            found[self.devices[len(self.sealed) % len(self.devices)]] = tuple(every)
        return {device_id: portions for device_id, portions in found.items() if portions}

    def package_for(self, sender: bytes, device_id: bytes, *, odd: bool) -> bytes | None:
        """One claimed for this, else the last-resort one; an `odd` one is any of the device's."""
        own = [(ref, each) for ref, each in self.model.packages.items() if each.device_id == device_id]
        if odd and own:
            return own[len(self.sealed) % len(own)][0]
        claimed = [ref for ref, each in own if each.one_time and each.claimed_by == sender]
        last = [ref for ref, each in own if not each.one_time and each.claimed_by is None]
        return next((ref for ref in (*claimed, *last) if ref not in self.spoken_for or ref in last), None)

    def accept(self, mail: Mail, caller: bytes) -> None:
        request, seen = keys_of(caller).asks(CLOCK.now, mail.body), max(self.heads)

        def check(got: bytes, answer: Answer) -> None:
            self.check_same(("receipt", mail.ref), self.checked(parse_logged_entry(got), answer, seen))

        self.stage.do(
            Act(
                f"{word_of(caller)} posts {mail.message_id.hex()[-6:]}",
                lambda relay: relay.accept(request, seen, Precedence(mail.precedence)),
                lambda: self.model.accept(caller, mail),
                check,
            )
        )

    def post_again(self, which: int, who: str | None) -> None:
        if self.sealed:
            mail = self.sealed[which % len(self.sealed)]
            self.accept(mail, mail.sender if who is None else key_of(who).device_id)

    def twin(self, which: int, same: str) -> None:
        """Another message under the id or the number of an earlier one."""
        if self.sealed:
            mail = self.sealed[which % len(self.sealed)]
            seq = mail.seq if same == "number" else len(self.sealed) + 1
            kept = mail.message_id if same == "id" else b""
            self.seal(
                word_of(mail.sender),
                replace(mail, seq=seq, message_id=kept, created=CLOCK.now, expires=CLOCK.now + 3600),
            )

    # -- reading

    def pick(self, which: int, who: int, *, addressed: bool) -> tuple[Mail | None, bytes]:
        """A message, and a device: one that it was sealed to, or any. Sometimes there is no such message."""
        devices = self.devices
        if not self.sealed or which % 16 == 15:
            return None, devices[who % len(devices)]
        mail = self.sealed[which % len(self.sealed)]
        chosen = sorted(mail.slots) if addressed else devices
        return mail, chosen[who % len(chosen)]

    def open(self, which: int, who: int, *, addressed: bool, claimed: int) -> None:
        mail, caller = self.pick(which, who, addressed=addressed)
        message_id = mail.message_id if mail is not None else bytes(16)
        request, seen = keys_of(caller).asks(CLOCK.now), max(self.heads)

        def check(got: bytes, answer: Answer) -> None:
            delivery, stored = parse_delivery(got), self.model.mails[message_id].mail
            self.checked(delivery.release, answer, seen)
            assert (delivery.message, delivery.slot) == (stored.message, stored.sealed_slots[caller])
            assert delivery.endorsements == stored.endorsements
            assert delivery.index == sorted(stored.slots).index(caller)
            self.check_same(("slot", stored.ref, caller), encode(delivery.proven_slot()))

        self.stage.do(
            Act(
                f"{word_of(caller)} opens {message_id.hex()[-6:]}",
                lambda relay: relay.open(request, message_id, seen, Precedence(claimed)),
                lambda: self.model.open(caller, message_id, claimed),
                check,
            )
        )

    def acknowledge(self, which: int, who: int, state: str, *, addressed: bool, other: bool) -> None:
        mail, caller = self.pick(which, who, addressed=addressed)
        if mail is None:
            return
        ref, key = bytes(32) if other else mail.ref, keys_of(caller)
        stated = Receipt(mail.message_id, ref, caller, state, CLOCK.now)
        request, seen = key.asks(CLOCK.now, key.signing.sign_object(RECEIPT, stated.payload())), max(self.heads)

        def check(got: bytes, answer: Answer) -> None:
            self.check_same((mail.ref, caller, state), self.checked(parse_logged_entry(got), answer, seen))

        self.stage.do(
            Act(
                f"{key.word} acknowledges {mail.message_id.hex()[-6:]}: {state}",
                lambda relay: relay.acknowledge(request, mail.message_id, seen),
                lambda: self.model.acknowledge(caller, mail.message_id, ref, state),
                check,
            )
        )

    # -- taking back and keeping

    def recall(self, which: int, who: str | None, second: str | None, *, spill: bool) -> None:
        if not self.sealed:
            return
        mail = self.sealed[which % len(self.sealed)]
        first = mail.sender if who is None else key_of(who).device_id
        known = [each for each in (first, key_of(second).device_id if second else first) if each in self.model.holders]
        signers, at, reason = tuple(dict.fromkeys(known)), CLOCK.now, "drill"
        if not signers:
            return
        words = [
            keys_of(each).signing.sign_object(RECALL, Recall(mail.message_id, each, spill, reason, at).payload())
            for each in signers
        ]
        request, seen = keys_of(signers[0]).asks(CLOCK.now, encode(words)), max(self.heads)

        def check(got: bytes, answer: Answer) -> None:
            recalled, stored = parse_recalled(got), self.model.mails[mail.message_id]
            self.checked(recalled.recall, answer, seen)
            assert recalled.accept.index == stored.entry
            told = {state.device_id: (state.granted, state.opened) for state in recalled.states}
            assert told == {each: (granted, stored.opened.get(each)) for each, granted in stored.mail.slots.items()}

        self.stage.do(
            Act(
                f"{' and '.join(map(word_of, signers))} recall {mail.message_id.hex()[-6:]}, spill {spill}",
                lambda relay: relay.recall(request, mail.message_id, seen),
                lambda: self.model.recall(signers, mail.message_id, at, reason, spill=spill),
                check,
            )
        )

    def sweep(self) -> None:
        self.stage.commit()
        self.stage.turn += 1
        assert tuple(self.stage.run(self.stage.relay.sweeper.sweep(trust_clock=True))) == self.model.sweep()

    # -- keys

    def claim(self, who: str, whom: list[str] | list[bytes]) -> None:
        wanted = [key_of(each).device_id if isinstance(each, str) else each for each in whom]
        devices = tuple(each for each in wanted if each in self.model.holders)
        if not devices or key_of(who).device_id not in self.model.holders:
            return
        body, caller = encode(list(devices)), key_of(who).device_id
        request = key_of(who).asks(CLOCK.now, body)

        def check(got: bytes, answer: Answer) -> None:
            told = [(bytes(row[0]), row[1]) for row in decode(got)]
            refs = [self.stage.registry.made[ref].encoded() if ref is not None else None for ref in answer.found]
            assert told == list(zip(devices, refs, strict=True))

        self.stage.do(
            Act(
                f"{who} claims keys of {', '.join(map(word_of, devices))}",
                lambda relay: relay.claim_keys(request),
                lambda: self.model.claim(caller, devices, body),
                check,
            )
        )

    # -- what is answered

    def checked(self, logged: LoggedEntry, answer: Answer, seen: int) -> bytes:
        """The entry that the model says, proven, under a head of one history with what was seen; without that proof."""
        assert logged.index == answer.index
        head = verify_receipt(self.stage.relay.vkeys, logged)
        assert self.heads.setdefault(head.size, head.root) == head.root
        old, new = sorted([(seen, self.heads[seen]), (head.size, head.root)])
        if 0 < old[0] < new[0]:
            verify_consistency(*old, *new, logged.consistency)
        return replace(logged, consistency=()).encoded()

    def check_same(self, what: tuple[object, ...], got: bytes) -> None:
        assert self.answers.setdefault(what, got) == got
