"""The warrant of an entry: the signed words of those on whose order a hold or a recall was logged, in the entry itself.

    of a hold      [Hold of who posted, Hold of the second officer] or [Hold, Approval...]; a first word stands alone
    of a recall    [Recall...] as posted

The rules:
  - an entry says what its warrant says, and no more: a relay that counts a word which nobody gave is found by replay;
  - whoever signed must have been valid, and the approvers in force, in the directory as it was when the entry was made;
  - a word is logged once, by `spent_by`, and soon after it was signed: an old one orders nothing anew;
  - a message that an office holds, by the words that count, is not destroyed;
  - that these persons may order it for this message is judged by its header, which the entry does not have: for a
    recall `judge_recall` says it, for a hold, that the office is a party of the message, whoever holds the header.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from . import approval, recall
from .approval import Matter, Question, verify_approvals
from .cose import Sign1, parse_sign1, verify_sign1
from .dating import CLOCKS_APART
from .directory import Device, Directory
from .entry import AccessEntry, Event
from .errors import LiaisonError, Malformed, Unverified
from .hold import HOLD, WORDS_NEEDED, Hold, is_holder, read_hold
from .recall import RECALL, may_recall, read_recall, read_recall_detail

_LATE = 60  # seconds that a request may take from its check to its commit
_HOLD_DETAIL = re.compile(r"(place|lift) ([1-9]) of ([1-9])( destroyed)?: (.+)")


def verify_warrant(entry: AccessEntry, directory: Directory) -> None:
    """Raise Unverified unless those who signed its warrant order what the entry says.

    `directory` is as it was at the entry's time.
    """
    try:
        if entry.event is Event.HOLD:
            _verify_hold(entry, directory)
        else:
            _verify_recall(entry, directory)
    except Unverified:
        raise
    except LiaisonError as problem:
        raise Unverified(str(problem)) from problem


def _verify_hold(entry: AccessEntry, directory: Directory) -> None:
    detail = _HOLD_DETAIL.fullmatch(entry.detail)
    if detail is None:
        raise Unverified("hold: its entry does not say what was ordered")
    action, word, of, _destroyed, reason = detail.groups()
    signed, device = _signed(entry.warrant[0], HOLD, directory, entry)
    stated = read_hold(signed)
    told = (stated.action.value, stated.message_id, stated.device_id, stated.address, stated.reason)
    if told != (action, entry.message_id, device.device_id, device.address, reason):
        raise Unverified("hold: the officer's signed word says something else")
    if (entry.device_id, entry.address) != (device.device_id, device.address):
        raise Unverified("hold: the word is not that of the officer who is said to have posted it")
    _check_officer(entry, device)
    approvers, others = directory.approvers_of(entry.office), entry.warrant[1:]
    if approvers is not None and (needed := approvers.threshold(Matter.HOLD)):
        _check_age(entry, stated.at, approval.MAX_AGE)
        now = entry.time // 1000
        question = Question(Matter.HOLD, signed.ref, entry.address)
        verify_approvals(approvers, question, others, lambda each: directory.device(each, now), now)
        ordered = (needed + 1, needed + 1)
    else:
        _check_age(entry, stated.at, CLOCKS_APART)
        ordered = (1 + _seconded(entry, stated, others, directory), WORDS_NEEDED)
    if (int(word), int(of)) != ordered:
        raise Unverified(f"hold: logged as word {word} of {of}, and signed as {ordered[0]} of {ordered[1]}")


def _seconded(entry: AccessEntry, stated: Hold, others: Sequence[bytes], directory: Directory) -> int:
    """1 if a second officer has said the same of this message, 0 if nobody has yet."""
    if len(others) >= WORDS_NEEDED:
        raise Unverified("hold: more words than it takes")
    for each in others:
        signed, device = _signed(each, HOLD, directory, entry)
        first = read_hold(signed)
        _check_officer(entry, device)
        same = (first.action, first.message_id, first.device_id, first.address)
        if same != (stated.action, stated.message_id, device.device_id, device.address):
            raise Unverified("hold: the second word is of another action or message")
        if device.address == stated.address:
            raise Unverified("hold: both words are one officer's")
    return len(others)


def _check_officer(entry: AccessEntry, device: Device) -> None:
    if device.office != entry.office or not is_holder(device):
        raise Unverified(f"hold: {device.address} is no security officer of {entry.office}")


def _verify_recall(entry: AccessEntry, directory: Directory) -> None:
    told, signers = read_recall_detail(entry.detail), dict[bytes, Device]()
    for each in entry.warrant:
        signed, device = _signed(each, RECALL, directory, entry)
        stated = read_recall(signed)
        if (stated.message_id, stated.device_id, stated.spill) != (entry.message_id, device.device_id, told.spill):
            raise Unverified("recall: a signed word is of another message, device or kind")
        _check_age(entry, stated.at, recall.MAX_AGE)
        if device.device_id == entry.device_id and (stated.reason, device.address) != (told.reason, entry.address):
            raise Unverified("recall: the entry gives another reason than its signer")
        signers[device.device_id] = device
    if entry.device_id not in signers:
        raise Unverified("recall: not signed by the device that is said to have posted it")
    # Whose message it was the entry does not say; that the poster could be its originator is the most it can bear out.
    judge_recall(entry, entry.address, directory)


def judge_recall(entry: AccessEntry, sender: str, directory: Directory) -> None:
    """Raise Unverified unless those who signed may take back a message of this sender."""
    signers = [directory.devices[parse_sign1(each, RECALL).kid[:16]] for each in entry.warrant]
    if not may_recall(signers, sender, spill=read_recall_detail(entry.detail).spill):
        raise Unverified("recall: by nobody who may take this message back")


def counts(entry: AccessEntry) -> bool:
    """Whether a hold entry's word is the last that it takes: from there on held, or no longer. Raises Malformed."""
    detail = _HOLD_DETAIL.fullmatch(entry.detail)
    if detail is None:
        raise Malformed("hold: its entry does not say what was ordered")
    return detail[2] == detail[3]


class Holders:
    """Which offices hold which messages, by the entries of a log in their order."""

    def __init__(self) -> None:
        self._offices: dict[bytes, set[str]] = {}

    def take(self, entry: AccessEntry) -> None:
        """The next entry. Raises Unverified where it says that a held message was destroyed; Malformed."""
        offices = self._offices.get(message_id := entry.message_id or b"", set())
        if entry.event is Event.EXPIRE and offices:
            raise Unverified(f"expire: destroyed while {' and '.join(sorted(offices))} held it")
        if entry.event is Event.HOLD and counts(entry):
            places = entry.detail.startswith("place")
            self._offices[message_id] = offices | {entry.office} if places else offices - {entry.office}


def ends_keeping(entry: AccessEntry) -> bool:
    """Whether a hold entry says that with the last hold went what recalls meanwhile would have destroyed."""
    detail = _HOLD_DETAIL.fullmatch(entry.detail)
    return detail is not None and detail[4] is not None


def spent_by(entry: AccessEntry) -> bytes:
    """What no second entry may be made of: the word of who posted a hold, all words of a recall. Raises Malformed."""
    if entry.event is Event.HOLD:
        return parse_sign1(entry.warrant[0], HOLD).ref
    return b"".join(sorted(parse_sign1(each, RECALL).ref for each in entry.warrant))


def _check_age(entry: AccessEntry, at: int, most: int) -> None:
    now = entry.time // 1000
    if not now - most - _LATE <= at <= now + CLOCKS_APART + _LATE:
        raise Unverified(f"{entry.event}: signed too long before it was logged, or after")


def _signed(encoded: bytes, typ: str, directory: Directory, entry: AccessEntry) -> tuple[Sign1, Device]:
    signed = parse_sign1(encoded, typ)
    device = directory.device(signed.kid[:16], entry.time // 1000)
    if device is None:
        raise Unverified(f"{typ}: signed by a device that was not valid then")
    verify_sign1(signed, device.signature_public)
    return signed, device
