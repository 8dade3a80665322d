"""What the tests of lies have in common: who is lied to, and what it means that a lie is caught.

`caught` states it: Unverified (exit 5 of the command) in words that name the lie; nothing of the message kept or shown;
an alarm where the lie is one of the logs; and the truth, told afterwards, is believed.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

import pytest

from relay.protocol.cose import format_sign1, parse_sign1, protected_header
from relay.protocol.errors import Unverified
from simulator import double

ANNA, JEAN, LUC = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "luc.bas@lo-paris"
SECRET = "Ferry at dawn."
SEALED, OPEN = "TEST SEALED RELEASABLE TO FRA, POL", "TEST OPEN RELEASABLE TO FRA, POL"


def send(anna, *to, label=SEALED, body=SECRET, **draft):
    return anna.send(to or [JEAN], label=label, body=body, **draft).message_id


@contextmanager
def caught(reader, message_id, words, *, alarm=False, then_read=True):
    """Inside, the relay lies; afterwards it does not."""
    keys = sum(row.one_time for row in reader.profile.cabinet.prekeys())
    with pytest.raises(Unverified, match=words) as told:
        yield
    assert SECRET not in f"{told.value} {told.value.hint}"
    assert reader.profile.cabinet.message(message_id) is None
    assert sum(row.one_time for row in reader.profile.cabinet.prekeys()) >= keys
    alarms = reader.profile.cabinet.alarms()
    assert bool(alarms) is alarm
    if alarm:
        with pytest.raises(Unverified, match="unresolved alarm"):
            reader.sync()
        for each in alarms:
            reader.profile.cabinet.resolve_alarm(each.alarm_id)
    if then_read:
        assert reader.read(message_id).portions[0].text == SECRET


@contextmanager
def double_of(client):
    folder = client.profile.folder.with_name(f"double-{os.urandom(4).hex()}")
    client.sync()
    with double(client, folder) as copy:
        yield copy


def to_both(anna, **draft):
    return send(anna, JEAN, LUC, label=OPEN, **draft)


def under_the_name_of(signer, named, typ, payload):
    """Signed by one key, naming another."""
    honest = signer.sign_object(typ, payload)
    protected = protected_header(parse_sign1(honest, typ).alg, named, typ)
    return format_sign1(protected, payload, parse_sign1(honest, typ).signature)
