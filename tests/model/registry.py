"""What changes the directory, and the stock of keys: each act beside what the model says of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

from model.acts import EXTENSIONS, SPIFS, Act, as_stocked, batch_of, categories, fill, key_of
from model.approving import HONEST, Way, approved
from model.cast import CAST, CLOCK, COMMUNITY_ADDRESS, MANAGER, NATIONS, SPARE, START, authority_of
from model.relay import Model
from model.terms import DAY, Answer, Clearance, Holder, Named, Terms
from relay.core.register import register_office, remove_office
from relay.protocol.agreement import AGREEMENT, WITHDRAWAL, Agreement, Party, Withdrawal
from relay.protocol.approval import APPROVERS, Approvers, Matter
from relay.protocol.canonical import encode
from relay.protocol.community import COMMUNITY, ROSTER, Community, Roster
from relay.protocol.cose import parse_sign1
from relay.protocol.entry import Change
from relay.protocol.errors import Conflict, LiaisonError, Unknown
from relay.protocol.identity import CERTIFICATE, REVOCATION, STATEMENT, Certificate, Kind, Revocation, Statement
from relay.protocol.label import Clearance as SignedClearance
from relay.protocol.prekey import KeyPackage
from relay.protocol.publication import POLICY, PublishedPolicy
from world import POLICY_NAME, POLICY_OID


@dataclass
class Registry:
    model: Model
    vkeys: tuple[str, ...]  # of the relay
    made: dict[bytes, KeyPackage] = field(default_factory=dict)  # by ref
    agreements: list[Agreement] = field(default_factory=list)

    def publish(
        self, office: str, change: Change, signed: bytes, effect: Callable[[], None], *,
        files: tuple[bytes, ...] = (), problem: Callable[[], type[LiaisonError] | None] = lambda: None, words: str = "",
        approvals: Sequence[bytes] = (),
    ) -> Act:  # fmt: skip
        """What an authority asks for, what it changes in the model, and why the directory would not take it."""
        key = authority_of(office)
        body = [change.value, signed, list(files), *([list(approvals)] if approvals else [])]
        request = key.asks(CLOCK.now, encode(body))

        def expect() -> Answer:
            answer = self.model.publish(key.device_id, change.value, problem())
            if answer.error is None:
                effect()
            return answer

        return Act(f"{office}: {change.value} {words}", lambda relay: relay.publish(request), expect)

    def admit(self, office: str) -> Act:
        key = authority_of(office)
        statement = Statement(
            office, NATIONS[office], 1, key.signing.public, key.request_public, START - 7200, self.vkeys
        )
        signed = key.signing.sign_object(STATEMENT, statement.payload())
        holder = Holder(
            key.device_id, f"authority@{office}", Kind.AUTHORITY, frozenset(), None, 0, START + 10_000 * DAY
        )
        self.model.holders[key.device_id] = holder
        return self.operate("office", office, partial(register_office, statement=signed))

    def remove(self, office: str) -> Act:
        return self.operate("office-removed", office, partial(remove_office, office=office))

    def operate(self, change: str, office: str, job: Callable[..., Any]) -> Act:
        return Act(
            f"the operator: {change} {office}",
            lambda relay: relay._writer.submit(job),
            lambda: self.model.operate(change, office),
        )

    def certify(self, word: str, way: Way = HONEST) -> Act:
        address, kind, roles, levels, codeword, clearance_days, days = {**CAST, **SPARE}[word]
        key, office, now = key_of(word), address.partition("@")[2], CLOCK.now
        nation, until = NATIONS[office], now + clearance_days * DAY
        held = SignedClearance(
            POLICY_NAME, POLICY_OID, tuple(levels) or ("OPEN",),
            categories(frozenset({nation}), codeword=codeword), now - 60, until,
        )  # fmt: skip
        certificate = Certificate(
            key.device_id, address, kind, tuple(sorted(roles)), (held,) if levels else (), (), 1, key.signing.public,
            key.request_public, now - 60, now + days * DAY, sha256(word.encode()).digest()[:16],
        )  # fmt: skip
        clearance = Clearance(levels, nation, codeword, now - 60, until) if levels else None
        holder = Holder(key.device_id, address, kind, frozenset(roles), clearance, now - 60, now + days * DAY)
        signed = authority_of(office).signing.sign_object(CERTIFICATE, certificate.payload())
        ref, is_governed = parse_sign1(signed, CERTIFICATE).ref, "security" in roles
        approvals, encoded = (
            approved(self.model, office, Matter.ENROLMENT, ref, address, way) if is_governed else ((), [])
        )

        def problem() -> type[LiaisonError] | None:
            if key.device_id in self.model.holders:
                return Conflict
            return self.model.unapproved(office, "enrolment", ref, address, approvals) if is_governed else None

        return self.publish(
            office, Change.CERTIFICATE, signed, lambda: self.model.holders.update({key.device_id: holder}), words=word,
            problem=problem, approvals=encoded,
        )  # fmt: skip

    def name(self, office: str, step: int, needed: dict[str, int], by: Sequence[bytes], way: Way = HONEST) -> Act:
        """A list of approvers, `step` versions after the one in force."""
        model, key = self.model, authority_of(office)
        version = step + (model.named[office].version if office in model.named else 0)
        people = frozenset((model.holders[each].address, each) for each in by)
        listed = Named(version, needed, people)
        stated = Approvers(
            office, version, tuple((Matter(each), needed[each]) for each in sorted(needed)), tuple(sorted(people)),
            CLOCK.now,
        )  # fmt: skip
        signed = key.signing.sign_object(APPROVERS, stated.payload())
        ref = parse_sign1(signed, APPROVERS).ref
        approvals, encoded = approved(model, office, Matter.APPROVERS, ref, "", way)
        return self.publish(
            office, Change.APPROVERS, signed, lambda: model.named.update({office: listed}), approvals=encoded,
            problem=lambda: model.unnameable(office, listed)
            or model.unapproved(office, "approvers", ref, "", approvals),
            words=f"{version} {needed}",
        )  # fmt: skip

    def revoke(self, word: str) -> Act:
        holder = self.model.holders[key_of(word).device_id]
        signed = Revocation(holder.device_id, holder.address, "lost", CLOCK.now)
        encoded = authority_of(holder.office).signing.sign_object(REVOCATION, signed.payload())
        return self.publish(
            holder.office,
            Change.REVOCATION,
            encoded,
            lambda: self.model.revoked.setdefault(holder.device_id, signed.at),
            words=word,
        )

    def adopt(self, office: str, version: int) -> Act:
        """A version of the policy."""
        files, model = (SPIFS[version], EXTENSIONS[version]), self.model
        digests = [sha256(each).digest() for each in files]
        published = PublishedPolicy(office, POLICY_NAME, POLICY_OID, version, digests[0], digests[1], CLOCK.now)
        signed = authority_of(office).signing.sign_object(POLICY, published.payload())
        known = model.versions.setdefault(office, [])
        return self.publish(
            office, Change.POLICY, signed, lambda: known.append((len(model.directory) - 1, model.now, version)),
            files=files, problem=lambda: Conflict if known and known[-1][2] > version else None, words=str(version),
        )  # fmt: skip

    def draft(
        self,
        offices: tuple[str, ...],
        levels: frozenset[str],
        *,
        codeword: bool,
        coi: bool,
        days: int,
        onward: bool = False,
    ) -> bytes:
        """An agreement that nobody has signed; its id."""
        now = CLOCK.now
        agreement = Agreement(
            " and ".join(offices),
            tuple(Party(each, NATIONS[each], authority_of(each).signing.kid) for each in sorted(offices)),
            POLICY_NAME, POLICY_OID, tuple(sorted(levels)), categories(frozenset(), codeword=codeword),
            (COMMUNITY_ADDRESS,) if coi else (), (), onward_release=onward, not_before=now - 60,
            not_after=now + days * DAY, nonce=sha256(str(len(self.agreements)).encode()).digest()[:16],
        )  # fmt: skip
        self.agreements.append(agreement)
        listed = frozenset({COMMUNITY_ADDRESS} if coi else ())
        terms = Terms(frozenset(offices), levels, codeword, listed, now - 60, now + days * DAY, may_go_on=onward)
        self.model.agreements[agreement.agreement_id] = terms
        return agreement.agreement_id

    def sign(self, agreement_id: bytes, office: str) -> Act:
        agreement = next(each for each in self.agreements if each.agreement_id == agreement_id)
        terms = self.model.agreements[agreement_id]
        signed = authority_of(office).signing.sign_object(AGREEMENT, agreement.payload())
        return self.publish(
            office, Change.AGREEMENT, signed, lambda: terms.signed.add(office), words=agreement_id.hex()[:8],
            problem=lambda: Conflict if terms.is_withdrawn or office in terms.signed else None,
        )  # fmt: skip

    def withdraw(self, agreement_id: bytes, office: str) -> Act:
        terms = self.model.agreements[agreement_id]
        stated = Withdrawal(agreement_id, office, "breached", CLOCK.now)
        return self.publish(
            office, Change.WITHDRAWAL, authority_of(office).signing.sign_object(WITHDRAWAL, stated.payload()),
            lambda: setattr(terms, "is_withdrawn", True), words=agreement_id.hex()[:8],
            problem=lambda: None if terms.signed else Unknown,
        )  # fmt: skip

    def found_community(self) -> Act:
        community = Community(COMMUNITY_ADDRESS, MANAGER, "Convoys", CLOCK.now)
        signed = authority_of("lo-warsaw").signing.sign_object(COMMUNITY, community.payload())
        self.model.community, self.model.manager = COMMUNITY_ADDRESS, MANAGER
        return self.publish("lo-warsaw", Change.COMMUNITY, signed, lambda: None)

    def list_members(self, word: str, version: int, members: frozenset[str]) -> Act:
        """A roster by this device, whether it is the manager's or not."""
        key, model = key_of(word), self.model
        roster = Roster(COMMUNITY_ADDRESS, version, tuple(sorted(members)), CLOCK.now)
        request = key.asks(CLOCK.now, key.signing.sign_object(ROSTER, roster.payload()))
        return Act(
            f"{word}: roster {version}",
            lambda relay: relay.publish_roster(request),
            lambda: model.list_members(key.device_id, version, members),
        )

    def restock(self, word: str, lives: list[int], last: int) -> Act:
        key = key_of(word)
        first = len(self.made)
        packages = fill(key, CLOCK.now, lives, first, one_time=True)
        packages |= fill(key, CLOCK.now, [last], first + len(lives), one_time=False)
        self.made |= packages
        request = key.asks(CLOCK.now, batch_of(key, CLOCK.now, packages))
        return Act(
            f"{word}: {len(packages)} keys",
            lambda relay: relay.publish_keys(request),
            lambda: self.model.stock(key.device_id, as_stocked(packages)),
        )
