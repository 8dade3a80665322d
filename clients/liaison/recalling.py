"""Taking a message back: sign, post, and believe of the answer what the log proves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from relay.protocol.actor import verify_actor, verify_concerns
from relay.protocol.canonical import encode
from relay.protocol.directory import Device
from relay.protocol.entry import AccessEntry, parse_access_entry
from relay.protocol.envelope import parse_message, parse_submission
from relay.protocol.errors import Unknown, Unverified
from relay.protocol.merkle import leaf_hash, verify_inclusion
from relay.protocol.recall import (
    RECALL,
    Recall,
    Recalled,
    RecallState,
    check_reason,
    may_recall,
    parse_recalled,
    read_recall_detail,
    verify_recalled,
)

from .client import Client
from .home.private_file import folder_lock
from .record import OUT, read_record
from .trust import ACCESS, relayed


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What the log proves of a recall: its entry, and every device's state with the entry of its opening."""

    index: int
    entry: AccessEntry
    states: tuple[tuple[RecallState, AccessEntry | None], ...]

    def as_json(self, client: Client) -> list[dict[str, Any]]:
        """A row per device."""
        devices = client.trust.directory.devices
        unread = "held unread" if read_recall_detail(self.entry.detail).held else "destroyed unread"
        return [
            {
                "address": devices[state.device_id].address,
                "device": state.device_id.hex(),
                "portions": list(state.granted),
                "state": unread if opened is None else "opened",
                "opened": {"index": state.opened, "time": opened.time} if opened is not None else None,
                "recalled": {"index": self.index, "time": self.entry.time},
            }
            for state, opened in self.states
        ]


def sign_recall(client: Client, message_id: bytes, reason: str, *, spill: bool) -> bytes:
    """The own signature under a recall: to be posted, or given to the officer who posts it."""
    device_id = client.profile.signing.device_id
    stated = Recall(message_id, device_id, spill, check_reason(reason), int(time.time()))
    return client.profile.signing.sign_object(RECALL, stated.payload())


def recall(
    client: Client, message_id: bytes, reason: str, *, spill: bool, beside: Sequence[bytes] = ()
) -> TakenBack | None:
    """Take the message back, with the signatures of others beside one's own. Raises Unknown if it is not ours to.

    A message that waits here is not posted first. The relay is asked all the same, since its receipt may have been
    lost; if it has no such message there is nothing to prove, and the message waits no more: None.
    """
    own = client.sync(but=message_id)
    signed = sign_recall(client, message_id, reason, spill=spill)
    path = f"/v1/messages/{message_id.hex()}/recall"
    with folder_lock(client.profile.folder):  # no process posts it between the relay's answer and the withdrawal
        try:
            answer = client.transport.post(path, encode([signed, *beside]), client.trust.seen())
        except Unknown as denied:
            _withdraw(client, message_id, own, denied, spill=spill, alone=not beside)
            return None
    asked = Recall(message_id, client.profile.signing.device_id, spill, reason, 0)
    with relayed():
        taken = _verified(client, parse_recalled(answer), asked)
    client.profile.cabinet.drop_outbox(message_id)
    return taken


def _withdraw(client: Client, message_id: bytes, own: Device, denied: Unknown, *, spill: bool, alone: bool) -> None:
    """Post no more what waits here. Raises Unknown unless that is known to be all that there was to take back.

    The relay says the same to who may not recall it (SPEC 18.5, step 4): our own message is left as it is then, for the
    originator can ask otherwise; one that we only released is withdrawn, for we cannot.
    """
    submission = dict(client.profile.cabinet.outbox()).get(message_id)
    if submission is None:
        if spill and alone and client.profile.cabinet.message(message_id) is not None:
            hint = "a spill takes a security officer, or two officers: one signs (--sign-only), one posts (--with)"
            raise Unknown(str(denied), hint=hint) from denied
        raise denied
    sender = parse_message(parse_submission(submission).message).core.sender
    certain = alone and may_recall([own], sender, spill=spill)
    if sender == own.address and not certain:
        hint = "without --spill and --with it is withdrawn, if the relay does not have it"
        raise Unknown(f"{denied}; it still waits here, and goes with your next command", hint=hint) from denied
    client.outgoing().give_up(message_id)
    if not certain:
        hint = f"should the relay have it already, {sender} can take it back"
        raise Unknown(f"{denied}; it waited here and will not be posted any more", hint=hint) from denied


def _verified(client: Client, answer: Recalled, asked: Recall) -> TakenBack:
    trust = client.trust
    # 1. the recall's own entry, under a checkpoint that extends every one seen
    entry = trust.verify_logged(answer.recall, client.transport)
    if entry.device_id != asked.device_id:
        raise Unverified("the relay logged another device's recall")
    # 2. the other entries under the same checkpoint
    checkpoint = trust.read_checkpoint(ACCESS, answer.recall.checkpoint)
    for each in answer.entries():
        verify_inclusion(leaf_hash(each.entry), each.index, checkpoint.size, each.proof, checkpoint.root)
    # 3. the states are whole, and are those that were logged
    verify_recalled(answer, asked)
    # 4. where the message is our own, it is that one
    kept = client.profile.cabinet.message(asked.message_id)
    record = read_record(kept) if kept is not None else None
    if record is not None and record.direction == OUT and record.message.ref != entry.message_ref:
        raise Unverified("the relay recalled another message under this id")
    if any(state.device_id not in trust.directory.devices for state in answer.states):
        raise Unverified("a state of a device that is not in the directory")
    # 5. each is its device's, and concerns the originator's office: whoever may take a message back is of it
    for logged in answer.entries():
        found = parse_access_entry(logged.entry)
        verify_actor(found, trust.directory)
        verify_concerns(found, entry.office)
    openings = [parse_access_entry(each.entry) if each is not None else None for each in answer.openings]
    return TakenBack(answer.recall.index, entry, tuple(zip(answer.states, openings, strict=True)))
