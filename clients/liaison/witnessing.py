"""What others saw of the logs, held against what we were shown: witnesses' cosignatures, and checkpoints exchanged.

The rules:
  - a witness policy is pinned in the cabinet, with the age that a cosignature may have. Where one is pinned, every
    look at the relay begins with its cosigned checkpoints of both logs; without good ones nothing else is asked;
  - what witnesses or others were shown, and the relay signed, must lie on the history that we were shown, and must
    not be longer than it. Else it is an alarm, with both checkpoints as evidence;
  - a policy that is not met raises no alarm: witnesses may be away, and come back. It stops what was asked for.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from relay.protocol.canonical import encode, read_array
from relay.protocol.errors import Unverified
from relay.protocol.note import parse_note
from relay.protocol.tlog import Checkpoint, parse_checkpoint_body
from relay.protocol.witness_policy import WitnessPolicy, parse_witness_policy, require_own_logs, verify_witnessed

from .home.cabinet import Cabinet
from .transport import Transport
from .trust import ACCESS, DIRECTORY, Trust

MAX_AGE = 3600  # seconds; witnesses are asked anew every minute
_PIN = "witness-policy"


@dataclass(frozen=True, slots=True)
class PinnedPolicy:
    policy: WitnessPolicy
    max_age: int  # seconds that a cosignature may be old

    def __str__(self) -> str:
        return f"quorum {self.policy.quorum} of {len(self.policy.witnesses)} witnesses, within {self.max_age} s"


def pin_policy(cabinet: Cabinet, content: bytes, max_age: int, relay_keys: tuple[str, ...]) -> PinnedPolicy:
    """Hold the relay to this policy from now on. Raises Malformed if it is none, or is for another log."""
    policy = parse_witness_policy(content)
    require_own_logs(policy, relay_keys)
    cabinet.put_pin(_PIN, encode([content, max_age]))
    return PinnedPolicy(policy, max_age)


def pinned_policy(cabinet: Cabinet) -> PinnedPolicy | None:
    """The witness policy that this profile is held to, or None."""
    found = cabinet.pin(_PIN)
    if found is None:
        return None
    content, max_age = read_array(found, 2, "cabinet pin")
    return PinnedPolicy(parse_witness_policy(content), max_age)


def sync(trust: Trust, transport: Transport) -> None:
    """Bring the directory up to date, under the witness policy where one is pinned. Raises Unverified."""
    trust.require_no_alarm()
    pinned = pinned_policy(trust.cabinet)
    cosigned = {} if pinned is None else {log: fetch(trust, transport, log, pinned) for log in (DIRECTORY, ACCESS)}
    trust.sync(transport)  # after them, so that what we are shown is not shorter
    for log, note in cosigned.items():
        compare(trust, transport, log, note, "the witnesses")


def fetch(trust: Trust, transport: Transport, log: str, pinned: PinnedPolicy) -> bytes:
    """The relay's cosigned checkpoint of a log, which meets the policy now."""
    note = transport.get(f"/v1/log/{log}/checkpoint")
    trust.alarmed(note, lambda: trust.read_checkpoint(log, note))
    verify_witnessed(note, trust.verifiers(log), pinned.policy, int(time.time()), pinned.max_age)
    return note


def compare(trust: Trust, transport: Transport, log: str, note: bytes, whose: str) -> Checkpoint:
    """Hold what the relay signed for others against our own view. Raises Unverified; an alarm if they differ."""
    theirs = trust.read_checkpoint(log, note)
    state = trust.cabinet.log_state(log)
    ours = state.checkpoint if state is not None else b""
    trust.alarmed(ours + b"\n" + note, lambda: _verify_one_history(trust, transport, log, theirs, note, whose))
    return theirs


def _verify_one_history(
    trust: Trust, transport: Transport, log: str, theirs: Checkpoint, note: bytes, whose: str
) -> None:
    held = trust.seen(log)
    try:
        if log == ACCESS:
            trust.advance(theirs, note, (), transport)
        else:
            _verify_directory(trust, theirs)
    except Unverified as problem:
        raise Unverified(
            f"the {log} log was forked: {whose} were shown {theirs.size} entries, we {held}: {problem}"
        ) from problem


def _verify_directory(trust: Trust, theirs: Checkpoint) -> None:
    if theirs.size > trust.tree.size:
        raise Unverified("the rest is withheld from us")
    if trust.tree.root(theirs.size) != theirs.root:
        raise Unverified(f"another history at {theirs.size} entries")


def log_of(trust: Trust, note: bytes) -> str:
    """Which of the relay's logs a checkpoint file is of. Raises Unverified."""
    origin = parse_checkpoint_body(parse_note(note).text).origin
    for log in (DIRECTORY, ACCESS):
        if trust.verifiers(log)[0].name == origin:
            return log
    raise Unverified(f"a checkpoint of {origin:.80}, which is none of this relay's logs")
