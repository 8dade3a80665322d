"""Telling the office: what `watch` found is posted to the relay, signed, and is an entry of the access log.

The rules:
  - a finding waits here from the transaction that made it a warning until the relay has proven its log entry;
  - the warning does not depend on it: a relay that refuses, or is away, silences nothing, and its refusal is one more;
  - resolving a warning takes nothing back that waits.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

from relay.protocol.alarm import ALARM, MAX_FINDING, Alarm, read_alarm
from relay.protocol.canonical import encode, expect, expect_items
from relay.protocol.cose import parse_sign1, verify_sign1
from relay.protocol.entry import AccessEntry, Event, parse_logged_entry
from relay.protocol.envelope import decode_list
from relay.protocol.errors import LiaisonError, TooMany, Unavailable, Unverified

from .home.cabinet import Cabinet
from .home.profile import Profile
from .safe_text import for_one_line
from .transport import Transport
from .trust import Trust, relayed

_WAITING = "alarms to be logged"


def await_log(cabinet: Cabinet, index: int, entry: bytes, finding: str) -> None:
    """Remember that this finding about a directory entry is to be logged. Joins the transaction around it."""
    with cabinet.transaction():
        row = [index, hashlib.sha256(entry).digest(), for_one_line(finding)[:MAX_FINDING]]
        cabinet.put_pin(_WAITING, encode([*_waiting(cabinet), row]))


def report(profile: Profile, trust: Trust, transport: Transport) -> None:
    """Post what waits. Raises Unverified where the relay's receipt does not hold; nothing where it only refuses."""
    for index, digest, finding in _waiting(profile.cabinet):
        stated = Alarm(profile.signing.device_id, index, digest, finding, int(time.time()))
        try:
            answer = transport.post("/v1/alarms", profile.signing.sign_object(ALARM, stated.payload()), trust.seen())
        except (Unavailable, TooMany):
            return  # it waits for the next look
        except LiaisonError as problem:
            _warn_of_refusal(profile.cabinet, stated, problem)
            continue
        with relayed():
            logged = parse_logged_entry(answer)
        if not _says(trust.verify_logged(logged, transport), stated):
            raise Unverified(f"the relay logged another alarm than the one about directory entry {index}")
        _forget(profile.cabinet, index)


def _says(entry: AccessEntry, stated: Alarm) -> bool:
    return (entry.event, entry.device_id, entry.detail) == (Event.ALARM, stated.device_id, stated.detail)


def _warn_of_refusal(cabinet: Cabinet, stated: Alarm, problem: LiaisonError) -> None:
    text = f"the relay does not log the alarm about directory entry {stated.index}: {problem}"
    if not cabinet.pin(name := f"refused alarm {stated.index}"):  # once: it stays a warning until it is resolved
        cabinet.put_pin(name, b"\1")
        cabinet.put_warning(text, stated.payload(), stated.at)


def _waiting(cabinet: Cabinet) -> list[tuple[int, bytes, str]]:
    found = cabinet.pin(_WAITING)
    rows = [] if found is None else decode_list(found, "alarms to be logged")
    return [(row[0], row[1], row[2]) for row in rows]


def _forget(cabinet: Cabinet, index: int) -> None:
    with cabinet.transaction():
        cabinet.put_pin(_WAITING, encode([list(row) for row in _waiting(cabinet) if row[0] != index]))


@dataclass(frozen=True, slots=True)
class Heard:
    """An alarm of somebody in the office, its signature verified."""

    entry: int
    address: str
    alarm: Alarm


def office_alarms(trust: Trust, transport: Transport, office: str) -> Iterator[Heard]:
    """All alarms of the own office, as the relay tells them. Raises Unverified, Refused."""
    after = 0
    while rows := read_rows(transport.get("/v1/alarms", after=after)):
        for index, encoded in rows:
            with relayed():
                signed = parse_sign1(encoded, ALARM)
                stated = read_alarm(signed)
            finder = trust.directory.devices.get(stated.device_id)
            if finder is None or finder.office != office or index < after:
                raise Unverified(f"entry {index}: an alarm of nobody in {office}")
            verify_sign1(signed, finder.signature_public)
            yield Heard(index, finder.address, stated)
            after = index + 1


def read_rows(answer: bytes) -> list[tuple[int, bytes]]:
    """The alarms in a relay's answer: (index of the directory entry, the signed alarm). Raises Unverified."""
    with relayed():
        found = []
        for row in decode_list(answer, "alarms"):
            index, encoded = expect_items(row, 2, "alarm row")
            found.append((expect(index, int, "alarm row: entry"), expect(encoded, bytes, "alarm row: alarm")))
        return found
