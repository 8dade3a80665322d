"""Sending: from a plan to a receipt. Claim keys, seal, keep, post, check the receipt."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from relay.protocol.access import Judge
from relay.protocol.actor import verify_concerns
from relay.protocol.canonical import encode
from relay.protocol.entry import Event, parse_logged_entry
from relay.protocol.envelope import Submission, parse_message, parse_slot, parse_submission
from relay.protocol.errors import (
    Conflict,
    LiaisonError,
    Malformed,
    Refused,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    Unverified,
)
from relay.protocol.grants import accept_detail, grants_of
from relay.protocol.header import Addressee, AddresseeKind, Core, Portion, Precedence, fresh_message_id
from relay.protocol.obligations import demands_one_time
from relay.protocol.policy import Policy
from relay.protocol.prekey import KeyPackage

from .carriage import upload
from .claiming import claim
from .home.private_file import folder_lock
from .home.profile import Profile
from .meter import Meter, no_meter
from .plan import LAST_DTG, Draft, Plan
from .record import FAILED, SENT, change, read_record
from .release import KEYLESS, NO_KEYS, UNUSABLE_KEYS, Verdict
from .seal import Reader, fresh_keys, seal
from .sealed import SealedFile, seal_file
from .transport import Transport
from .trust import Trust, relayed
from .waiting import NOT_YET, Sent, Waiting

MANY = 10  # devices; sealing to fewer is done before anybody looks
FINAL = (Refused, Conflict, Malformed, TooLarge)  # answers to a message that asking again does not change
Chunks = Mapping[bytes, tuple[bytes, ...]]  # digests of the chunks of large parts, by their part's
_NOT_HASHED: Chunks = {}
Tell = Callable[[str], None]  # a line for the person whose messages they are
Refusals = Sequence[tuple[str, tuple[str, ...]]]  # addresses, each with the rules against it
Keep = Callable[[Submission, Refusals, Mapping[int, SealedFile]], None]


@dataclass(frozen=True, slots=True)
class SealedMessage:
    """A message sealed, signed and kept; nothing of it has left this machine."""

    core: Core
    submission: bytes
    verdicts: tuple[Verdict, ...]  # the plan's, less the devices that have left no key to seal to
    last_resort: tuple[str, ...]  # addresses whose one-time keys had run out
    chunks: Chunks


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The sending side of one profile."""

    profile: Profile
    trust: Trust
    judge: Judge
    transport: Transport
    meter: Meter = no_meter

    def release(self, plan: Plan, now: int, keep: Keep) -> Sent:
        """Seal to everyone the plan releases to, and post. Raises Refused if that is nobody, Waiting.

        `keep` writes the sender's own copy, in the transaction that fills the outbox; if it raises, nothing is kept.
        """
        plan.require_unaided()
        sealed = self.prepare(plan, now, keep)
        sent = Sent(
            message_id=sealed.core.message_id,
            dtg=sealed.core.handling.dtg,
            released_to=tuple(verdict.addressee.address for verdict in sealed.verdicts if verdict.is_released),
            refused=tuple(verdict for verdict in sealed.verdicts if not verdict.is_released),
            index=NOT_YET,
            last_resort=sealed.last_resort,
        )
        return self.post_kept(sent, sealed.submission, sealed.chunks)

    def prepare(self, plan: Plan, now: int, keep: Keep, content_keys: list[bytes] | None = None) -> SealedMessage:
        """Claim keys, seal, sign and keep. With `content_keys` it is a draft, which waits for release.

        Raises Refused if nobody is left to seal to, or not the policy's recovery addressee.
        """
        policy = self.judge.policy_of(self.profile.statement.office, plan.draft.label.policy)
        devices = {grant.device.device_id: grant.device for verdict in plan.released for grant in verdict.grants}
        claimed = claim(devices, self.trust, self.transport, now)
        unusable = {key for key, package in claimed.items() if package.fault(now) is not None}
        any_kind = policy is None or not demands_one_time(policy, plan.draft.label, now, plan.draft.expires)
        claimed = {key: each for key, each in claimed.items() if key not in unusable and (any_kind or each.one_time)}
        verdicts = tuple(_without_keys(verdict, claimed, unusable) for verdict in plan.verdicts)
        addressees, readers = _addressees(replace(plan, verdicts=verdicts)), _readers(verdicts, claimed)
        _require_recovery(policy, verdicts)
        key, cabinet = self.profile.signing, self.profile.cabinet
        message_id, keys = fresh_message_id(now, os.urandom(12)), content_keys or fresh_keys(len(plan.draft.portions))
        apart = self._seal_apart(plan.draft, message_id, keys)  # this takes long, and holds no lock
        with cabinet.transaction():
            # The submission is in the outbox, and the chain has moved, before anything is posted.
            core = plan.draft.header(addressees, self.profile, self.trust, now)
            core = replace(core, message_id=message_id, alternatives=plan.alternatives)
            stated = {index: portion for index, (_file, portion) in apart.items()}
            meter = self.meter if len(readers) >= MANY else no_meter
            with meter("sealing to", len(readers), counted="devices") as advance:
                submission = seal(core, plan.draft.portions, readers, key, keys, stated, advance)
            if content_keys is None:
                cabinet.put_outbox(core.message_id, submission.encoded())
            refused = [(each.addressee.address, each.rules) for each in verdicts if not each.is_released]
            keep(submission, refused, {index: file for index, (file, _portion) in apart.items()})
            self._drop_own_key(claimed)
            cabinet.put_pin(LAST_DTG, encode(core.handling.dtg))
            cabinet.advance_chain(core.seq, parse_message(submission.message).ref)
        last_resort = {devices[key].address for key, package in claimed.items() if not package.one_time}
        chunks = {file.digest: file.chunks for file, _portion in apart.values()}
        return SealedMessage(core, submission.encoded(), verdicts, tuple(sorted(last_resort)), chunks)

    def _drop_own_key(self, claimed: Mapping[bytes, KeyPackage]) -> None:
        """Who holds a role that he writes to reads his own copy: the key that it was sealed to will open nothing."""
        package, cabinet = claimed.get(self.profile.signing.device_id), self.profile.cabinet
        if package is not None and package.one_time and cabinet.prekey(package.ref) is not None:
            cabinet.delete_prekey(package.ref)

    def _seal_apart(
        self, draft: Draft, message_id: bytes, keys: Sequence[bytes]
    ) -> dict[int, tuple[SealedFile, Portion]]:
        """Every large content, sealed to a file of the profile: ready to be sent, and the sender's own copy."""
        found, kid, folder = {}, self.profile.signing.kid, self.profile.cabinet.parts
        for index, portion in enumerate(draft.portions):
            if portion.apart is not None:
                file, length = seal_file(folder, message_id, kid, index, keys[index], portion, self.meter)
                found[index] = file, Portion(length, file.digest, portion.label)
        return found

    def post_kept(self, sent: Sent, submission: bytes, chunks: Chunks = _NOT_HASHED) -> Sent:
        """Post what has just come into the outbox. Raises Waiting if it stays there for now, and what `post` raises."""
        try:
            return replace(sent, index=self.post(sent.message_id, submission, chunks))
        except (Unavailable, TooMany) as answer:
            raise Waiting(answer, sent) from answer

    def post_waiting(self, tell: Tell, but: bytes = b"") -> list[bytes]:
        """Post once more what got no receipt before, save message `but`: the most urgent first, then the oldest.

        Nothing of it stands in the way of what follows, and each is told of; the answer is what will not be posted
        again. Raises Unverified: the relay is lying.
        """
        cabinet, once, given_up = self.profile.cabinet, replace(self, transport=self.transport.once()), []
        for message_id, submission in sorted(cabinet.outbox(), key=lambda each: -_precedence(each[1])):
            if message_id == but or not cabinet.waits(message_id):  # another process may have been faster
                continue
            try:
                index = once.post(message_id, submission)
            except Unverified:
                raise
            except LiaisonError as answer:
                waits = cabinet.waits(message_id)
                given_up += [] if waits else [message_id]
                tell(f"message {message_id.hex()} {'waits' if waits else 'will not be posted again'}: {answer}")
            else:
                tell(f"message {message_id.hex()} waited and has gone; logged as entry {index}")
        return given_up

    def post(self, message_id: bytes, submission: bytes, chunks: Chunks = _NOT_HASHED) -> int:
        """Post what is in the outbox and check the receipt; the index of the accept entry. Safe to repeat.

        Large parts go first; `chunks` are the digests of theirs that are known already. An answer in FINAL takes the
        message out of the outbox and marks its record as failed. Raises what the relay answers, Unverified, Conflict
        for what another process of the profile has given up meanwhile.
        """
        try:
            posted = parse_submission(submission)
            message = parse_message(posted.message)
            for portion, part in zip(message.core.portions, posted.parts, strict=True):
                if part is None:
                    known = chunks.get(portion.digest, ())
                    upload(self.profile.cabinet.parts, portion, self.transport, self.meter, known)
            precedence = message.core.handling.precedence
            # a recall in another process waits until it is posted
            with folder_lock(self.profile.folder, shared=True), _overtaken(posted, message.core):
                self._require_wanted(message_id)
                answer = self.transport.post("/v1/messages", submission, self.trust.seen(), precedence)
        except FINAL:
            self.give_up(message_id)
            raise
        except Unauthenticated:
            # What another wrote and was released here: if he may not act any more, no relay takes it.
            if self.trust.directory.device(message.core.sender_device, int(time.time())) is None:
                self.give_up(message_id)
            raise
        with relayed():
            logged = parse_logged_entry(answer)
        entry = self.trust.verify_logged(logged, self.transport)
        detail = accept_detail(grants_of(parse_slot(each, message.core) for each in posted.slots), precedence)
        own = (Event.ACCEPT, self.profile.signing.device_id, message_id, message.ref, detail, True)
        said = (entry.event, entry.device_id, entry.message_id, entry.message_ref, entry.detail, entry.permitted)
        if said != own:
            raise Unverified("the receipt is for something else than was posted")
        verify_concerns(entry, message.core.office)
        self.profile.cabinet.drop_outbox(message_id)
        return logged.index

    def _require_wanted(self, message_id: bytes) -> None:
        """It waits, or is sent by another process of the profile, and gets the same receipt. Raises Conflict."""
        cabinet = self.profile.cabinet
        if not cabinet.waits(message_id):
            kept = cabinet.message(message_id)
            if kept is None or read_record(kept).state != SENT:
                raise Conflict("another process of this profile has taken it back, or has its answer")

    def give_up(self, message_id: bytes) -> None:
        """It is not posted again, and its record says that it failed."""
        cabinet = self.profile.cabinet
        with cabinet.transaction():
            cabinet.drop_outbox(message_id)
            change(cabinet, message_id, state=FAILED)


@contextmanager
def _overtaken(posted: Submission, core: Core) -> Iterator[None]:
    """Say of a draft what stands in its way at the relay: another officer was faster, or its keys did not wait."""
    try:
        yield
    except Conflict as answer:
        if posted.endorsements and core.message_id.hex() in str(answer):  # it names only what it has
            raise Conflict(
                "another officer has released this draft already: nothing goes twice",
                hint=f"by whom and when, {core.sender} sees: liaison track {core.message_id.hex()[:12]}",
            ) from answer
        if posted.endorsements and "slot for" in str(answer):
            raise Conflict(
                f"this draft has waited too long, nothing was sent ({answer})",
                hint=f"keys that it was sealed to have lapsed or are used: {core.sender} drafts it anew",
            ) from answer
        raise


def _precedence(submission: bytes) -> Precedence:
    try:
        return parse_message(parse_submission(submission).message).core.handling.precedence
    except Malformed:  # of an older format, perhaps: `post` gives it up
        return Precedence.ROUTINE


def _without_keys(verdict: Verdict, claimed: dict[bytes, KeyPackage], unusable: set[bytes]) -> Verdict:
    """The verdict, less the devices that have left no key, or one that is unusable."""
    grants = tuple(grant for grant in verdict.grants if grant.device.device_id in claimed)
    if verdict.is_released and not grants:
        obstacle = UNUSABLE_KEYS if any(each.device.device_id in unusable for each in verdict.grants) else NO_KEYS
        return Verdict(verdict.addressee, (), verdict.decisions, obstacle)
    return Verdict(verdict.addressee, grants, verdict.decisions, verdict.obstacle)


def _addressees(plan: Plan) -> list[Addressee]:
    """Who the header names: those the message is released to, and those who shall not have it. Raises Refused."""
    plan.require_reader("liaison explain says why")
    released = {verdict.addressee for verdict in plan.released}
    return [each for each in plan.draft.addressees if each in released or each.kind is AddresseeKind.EXEMPTED]


def _require_recovery(policy: Policy | None, verdicts: Sequence[Verdict]) -> None:
    """Raise Refused where lack of keys keeps the message from whom the policy demands: no relay takes it."""
    wanted = policy.extensions.recovery_addressee if policy is not None else None
    for verdict in verdicts:
        if verdict.addressee.address == wanted and verdict.obstacle in KEYLESS:
            raise Refused(
                f"the policy demands that {wanted} gets this message, for recovery: {verdict.reasons[0][1]}",
                rules=(verdict.obstacle,),
                hint="its holder makes keys with any command, such as: liaison status",
            )


def _readers(verdicts: Sequence[Verdict], claimed: dict[bytes, KeyPackage]) -> list[Reader]:
    """One reader per device, also where a device stands behind two addresses."""
    readers = {}
    for verdict in verdicts:
        for grant in verdict.grants:
            device = grant.device
            readers[device.device_id] = Reader(device.device_id, device.kid, claimed[device.device_id], grant.granted)
    return list(readers.values())
