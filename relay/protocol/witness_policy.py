"""Whose cosignatures make a checkpoint good enough: C2SP tlog-policy, and asking it of a checkpoint.

    witness oslo  <vkey> https://witness.example       who may cosign, under a name that means nothing elsewhere
    witness paris <vkey>
    group partners 2 oslo paris                        all, any or a number of what was named before
    quorum partners                                    what a checkpoint needs; `none` asks for nothing

The rules:
  - a line that is not one of these, a second quorum, a name that is unknown, taken or listed twice, a public key
    that stands there twice, is Malformed: a policy that is not understood is not met;
  - a witness counts whose cosignature verifies and was made no longer ago than the caller allows;
  - a cosignature that fails under a key of the policy spoils the whole note, as in note.py.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from .errors import LiaisonError, Malformed, Unverified
from .note import ED25519, ED25519_COSIGNATURE, MLDSA44, NoteVerifier, format_vkey, parse_note, parse_vkey, verify_note
from .tlog import Checkpoint, parse_checkpoint_body

MAX_POLICY: Final = 256 * 1024
MAX_LINES: Final = 64  # of each kind; the specification asks for at least 32
CLOCK_SKEW: Final = 300  # seconds by which a witness's clock may be ahead
NONE: Final = "none"


@dataclass(frozen=True, slots=True)
class Witness:
    name: str
    verifier: NoteVerifier
    url: str  # where it takes checkpoints, or empty


@dataclass(frozen=True, slots=True)
class Group:
    threshold: int
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WitnessPolicy:
    logs: tuple[NoteVerifier, ...]
    witnesses: dict[str, Witness]
    groups: dict[str, Group]
    quorum: str

    def is_met_by(self, cosigned: Collection[str]) -> bool:
        """Whether these witnesses, by their names here, are enough."""
        return self.quorum == NONE or self._has_witnessed(self.quorum, cosigned)

    def _has_witnessed(self, name: str, cosigned: Collection[str]) -> bool:
        if name in self.witnesses:
            return name in cosigned
        group = self.groups[name]
        return sum(self._has_witnessed(member, cosigned) for member in group.members) >= group.threshold


def verify_witnessed(
    note: bytes, log: Sequence[NoteVerifier], policy: WitnessPolicy, now: int, max_age: int
) -> Checkpoint:
    """The checkpoint, if every key of `log` signed it and the policy is met by cosignatures of `max_age` seconds.

    Raises Malformed or Unverified.
    """
    by_key = {each.verifier: name for name, each in policy.witnesses.items()}
    if {key.public for key in log} & {key.public for key in by_key}:
        raise Unverified("the log's own key stands in the policy as a witness's")
    text = verify_note(note, [*log, *by_key], required=log)
    checkpoint = parse_checkpoint_body(text)
    if checkpoint.origin != log[0].name:
        raise Unverified(f"a checkpoint of {checkpoint.origin} where {log[0].name} was due")
    times = cosigned_at(note, list(by_key))
    fresh = {by_key[key] for key, at in times.items() if now - max_age <= at <= now + CLOCK_SKEW}
    if not policy.is_met_by(fresh):
        stale = sorted(by_key[key] for key in times if by_key[key] not in fresh)
        why = f"; the cosignatures of {', '.join(stale)} are older than {max_age} s, or ahead of time" if stale else ""
        counted = ", ".join(sorted(fresh)) or "nobody"
        raise Unverified(
            f"the checkpoint of {checkpoint.origin} at {checkpoint.size} entries does not meet the witness policy: "
            f"cosigned by {counted}{why}",
            hint="the relay or its witnesses may be away: try again, then ask the operator",
        )
    return checkpoint


def require_own_logs(policy: WitnessPolicy, vkeys: Collection[str]) -> None:
    """Raise Malformed if the policy names a log that these are not keys of, or one of these as a witness."""
    own = {parse_vkey(vkey).public for vkey in vkeys}
    if itself := [name for name, each in policy.witnesses.items() if each.verifier.public in own]:
        raise Malformed(f"witness policy: {itself[0]} is the log itself", hint="a witness is somebody else")
    if foreign := [key.name for key in policy.logs if format_vkey(key) not in vkeys]:
        raise Malformed(f"witness policy: it is for another log, {foreign[0]}", hint="take its log lines out")


def cosigned_at(note: bytes, verifiers: Collection[NoteVerifier]) -> dict[NoteVerifier, int]:
    """When each of these witnesses says that it cosigned, of those that did. Whoever calls has verified the note."""
    known = {(key.name, key.key_id): key for key in verifiers}
    return {
        known[line.name, line.key_id]: int.from_bytes(line.signature[:8], "big")
        for line in parse_note(note).signatures
        if (line.name, line.key_id) in known
    }


def parse_witness_policy(content: bytes) -> WitnessPolicy:
    """Read a policy file. Raises Malformed with the number of the line."""
    if len(content) > MAX_POLICY:
        raise Malformed(f"witness policy: more than {MAX_POLICY} octets")
    if any(octet < 0x20 and octet not in b"\t\n" for octet in content) or 0x7F in content:
        raise Malformed("witness policy: a control character")
    if content and not content.endswith(b"\n"):
        raise Malformed("witness policy: the last line does not end in a newline")
    draft = _Draft()
    for number, line in enumerate(content.decode(errors="surrogateescape").split("\n")[:-1], 1):
        words = [word for word in line.replace("\t", " ").split(" ") if word]
        if words and not words[0].startswith("#"):
            try:
                draft.read(words)
            except LiaisonError as problem:
                raise Malformed(f"witness policy: line {number}: {problem}") from problem
    if draft.quorum is None:
        raise Malformed("witness policy: no quorum line", hint="`quorum none` asks for no witness")
    return WitnessPolicy(tuple(draft.logs), draft.witnesses, draft.groups, draft.quorum)


@dataclass(slots=True)
class _Draft:
    """What the lines so far say."""

    logs: list[NoteVerifier] = field(default_factory=list)
    witnesses: dict[str, Witness] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    quorum: str | None = None
    members: set[str] = field(default_factory=set)

    def read(self, words: list[str]) -> None:
        match words:
            case ["log", vkey] | ["log", vkey, _]:
                self._log(parse_vkey(vkey))
            case ["witness", name, vkey]:
                self._witness(name, parse_vkey(vkey), "")
            case ["witness", name, vkey, url]:
                self._witness(name, parse_vkey(vkey), url)
            case ["group", name, threshold, *members] if members:
                self._group(name, threshold, members)
            case ["quorum", name]:
                self._set_quorum(name)
            case _:
                raise Malformed(f"{' '.join(words)!r:.60} is not a line of a policy")

    def _log(self, key: NoteVerifier) -> None:
        if key.type not in {ED25519, MLDSA44}:
            raise Malformed("a log's key is of type 0x01 or 0x06")
        if key.public in {each.public for each in self.logs}:
            raise Malformed("a second log with this public key")
        _require_room(self.logs)
        self.logs.append(key)

    def _witness(self, name: str, key: NoteVerifier, url: str) -> None:
        if key.type not in {ED25519_COSIGNATURE, MLDSA44}:
            raise Malformed("a witness's key is of type 0x04 or 0x06")
        if key.public in {each.verifier.public for each in self.witnesses.values()}:
            raise Malformed("a second witness with this public key")
        self._require_new(name)
        _require_room(self.witnesses)
        self.witnesses[name] = Witness(name, key, url)

    def _group(self, name: str, threshold: str, members: list[str]) -> None:
        self._require_new(name)
        _require_room(self.groups)
        for member in members:
            if member not in self.witnesses and member not in self.groups:
                raise Malformed(f"{member!r:.60} is not defined above")
            # Once in all groups: else one witness would count twice towards the quorum.
            if member in self.members:
                raise Malformed(f"{member!r:.60} is a member already")
            self.members.add(member)
        self.groups[name] = Group(_threshold(threshold, len(members)), tuple(members))

    def _set_quorum(self, name: str) -> None:
        if self.quorum is not None:
            raise Malformed("a second quorum line")
        if name != NONE and name not in self.witnesses and name not in self.groups:
            raise Malformed(f"{name!r:.60} is not defined above")
        self.quorum = name

    def _require_new(self, name: str) -> None:
        if name == NONE or name in self.witnesses or name in self.groups:
            raise Malformed(f"the name {name!r:.60} is taken")


def _require_room(lines: Collection[object]) -> None:
    if len(lines) >= MAX_LINES:
        raise Malformed(f"more than {MAX_LINES} lines of one kind")


def _threshold(text: str, members: int) -> int:
    if text in {"any", "all"}:
        return 1 if text == "any" else members
    if not (text.isascii() and text.isdigit()) or text[0] == "0" or len(text) > 3 or int(text) > members:
        raise Malformed(f"{text!r:.20} of {members} is no threshold: any, all, or a number up to that")
    return int(text)
