"""Every lie that a relay can tell a sender is caught: about the keys that he seals to, and about what it accepted."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import contextmanager

import pytest

from liaison.keys import SigningKey, make_key_package
from lies import ANNA, JEAN, SEALED, SECRET, double_of, send, under_the_name_of
from relay.protocol.canonical import decode, encode
from relay.protocol.entry import Change, Event, parse_access_entry, parse_logged_entry
from relay.protocol.errors import Unverified
from relay.protocol.prekey import KEY_BATCH, KeyBatch, parse_key_package
from relay.store.log import Log
from simulator import altered, directory_entry, double, lying

# -- the keys ---------------------------------------------------------------------------------------------------------


@contextmanager
def nothing_leaves(sender, words):
    """The lie is named before anything is sealed; nothing waits to be sent."""
    before = sender.profile.cabinet.chain()
    with lying(sender) as relay:
        yield relay
        with pytest.raises(Unverified, match=words):
            sender.send([JEAN], label=SEALED, body=SECRET)
    assert sender.profile.cabinet.outbox() == []
    assert sender.profile.cabinet.chain() == before
    assert [path for method, path, _ in relay.heard if path == "/v1/messages"] == []


def _claimed(change):
    """POST /v1/keys/claim with each row [device, package, batch] changed."""
    return lambda answer: encode([change(*row) for row in decode(answer)])


def _own_package(device_id):
    return make_key_package(device_id, 0, int(time.time()), 86400, one_time=True)[1]


def test_a_key_of_the_relays_own_is_caught(anna):
    with nothing_leaves(anna, "its device's batch does not list: this key was swapped in") as relay:
        relay.lie(
            "POST", r"/claim$", _claimed(lambda device, _, batch: [device, _own_package(device).encoded(), batch])
        )


def test_a_key_of_the_relays_own_in_a_batch_of_its_own_is_caught(anna, jean):
    rogue = SigningKey.generate()

    def swapped(device, _package, _batch):
        own = _own_package(device)
        payload = KeyBatch(device, 0, (own.ref,)).payload()
        return [device, own.encoded(), under_the_name_of(rogue, jean.profile.signing.kid, KEY_BATCH, payload)]

    def under_its_own_name(device, _package, _batch):
        own = _own_package(device)
        return [device, own.encoded(), rogue.sign_object(KEY_BATCH, KeyBatch(device, 0, (own.ref,)).payload())]

    with nothing_leaves(anna, "not in the directory log: this key was swapped in") as relay:
        relay.lie("POST", r"/claim$", _claimed(swapped))
    with nothing_leaves(anna, "key batch: signed by another device") as relay:
        relay.lie("POST", r"/claim$", _claimed(under_its_own_name))


def test_a_key_of_the_relays_own_in_a_batch_that_it_logged_is_caught(anna, jean, forger, tmp_path):
    rogue, own = SigningKey.generate(), _own_package(jean.profile.signing.device_id)
    batch = KeyBatch(own.device_id, 0, (own.ref,))
    forged = under_the_name_of(rogue, jean.profile.signing.kid, KEY_BATCH, batch.payload())
    digest = hashlib.sha256(batch.payload()).digest()
    logged = directory_entry(Change.KEY_BATCH, encode([own.device_id, digest]))
    anna.sync()
    with double(anna, tmp_path / "anna") as copy, nothing_leaves(copy, "keybatch: the signature does not") as relay:
        relay.invent("GET", r"^/v1/directory", forger.directory(lambda entries: [*entries, logged]))
        relay.lie("POST", r"/claim$", _claimed(lambda device, _p, _b: [device, own.encoded(), forged]))


def test_a_batch_that_its_device_signed_but_the_directory_does_not_hold_is_caught(anna, jean):
    """A stolen signing key does not publish keys unseen."""
    own = _own_package(jean.profile.signing.device_id)
    signed = jean.profile.signing.sign_object(KEY_BATCH, KeyBatch(own.device_id, 0, (own.ref,)).payload())
    with nothing_leaves(anna, "not in the directory log") as relay:
        relay.lie("POST", r"/claim$", _claimed(lambda device, _p, _b: [device, own.encoded(), signed]))


def test_the_key_of_another_device_is_caught(anna, luc):
    (row,) = decode(anna.transport.post("/v1/keys/claim", encode([luc.profile.signing.device_id])))
    assert parse_key_package(row[1]).device_id == luc.profile.signing.device_id
    with nothing_leaves(anna, "another device's key package") as relay:
        relay.lie("POST", r"/claim$", _claimed(lambda device, _p, _b: [device, *row[1:]]))
    with nothing_leaves(anna, "for other devices than were asked for") as relay:
        relay.lie("POST", r"/claim$", _claimed(lambda *_: row))


def test_what_is_no_key_at_all_is_caught(anna):
    for garbage in (b"", encode([[1, 2]]), encode({})):
        with nothing_leaves(anna, "relay answered") as relay:
            relay.invent("POST", r"/claim$", lambda garbage=garbage, **_: garbage)
    for more in (5, [1, 2], b"x", [b"", None, None, 4]):
        with nothing_leaves(anna, "for other devices than were asked for") as relay:
            relay.lie("POST", r"/claim$", lambda answer, more=more: encode([*decode(answer), more]))


# -- the receipt ------------------------------------------------------------------------------------------------------


def test_a_receipt_for_something_else_is_caught_and_the_message_stays_in_the_outbox(anna, jean):
    with lying(anna) as relay:
        send(anna)
    (other,) = [answer for method, path, answer in relay.heard if path == "/v1/messages"]
    with lying(anna) as relay:
        relay.lie("POST", r"^/v1/messages$", lambda _honest: other)
        with pytest.raises(Unverified, match="receipt is for something else"):
            send(anna)
    ((message_id, _submission),) = anna.profile.cabinet.outbox()
    anna.sync()  # the truth, asked for again
    assert anna.profile.cabinet.outbox() == []
    assert jean.read(message_id).portions[0].text == SECRET


def test_an_acceptance_that_is_logged_as_somebody_elses_is_caught(anna, forger):
    def logged(**_):
        entries = forger.entries(Log.ACCESS)
        accepted = next(each for each in map(parse_access_entry, entries) if each.event is Event.ACCEPT)
        entries.append(altered(accepted, address="adam.lis@lo-warsaw"))
        return forger.logged(entries, len(entries) - 1, copy.trust.seen()).encoded()

    send(anna)
    with double_of(anna) as copy, lying(copy) as relay:
        relay.invent("POST", r"^/v1/messages$", logged)
        with pytest.raises(Unverified, match=f"the device is {ANNA}'s"):
            send(copy)
        assert copy.profile.cabinet.alarms()


def test_a_receipt_of_a_forked_log_is_caught(anna, forger):
    def forked(answer):
        logged = parse_logged_entry(answer)
        entries = forger.entries(Log.ACCESS)
        entries[0] = altered(parse_access_entry(entries[0]), address="nobody@lo-paris")
        return forger.logged(entries, logged.index, anna.trust.seen()).encoded()

    send(anna)
    with lying(anna) as relay:
        relay.lie("POST", r"^/v1/messages$", forked)
        with pytest.raises(Unverified, match="consistency proof"):
            send(anna)
    (alarm,) = anna.profile.cabinet.alarms()
    assert alarm.evidence
    with pytest.raises(Unverified, match="unresolved alarm"):
        send(anna)
    anna.profile.cabinet.resolve_alarm(alarm.alarm_id)
    anna.sync()
    assert anna.profile.cabinet.outbox() == []


# -- large parts ------------------------------------------------------------------------------------------------------


def test_a_relay_that_took_every_chunk_and_says_that_it_lacks_one_is_caught_before_anything_is_posted(anna, tmp_path):
    film = tmp_path / "film.bin"
    film.write_bytes(os.urandom(9 << 20))
    with lying(anna) as relay:
        relay.lie("POST", r"^/v1/parts$", lambda answer: answer if decode(answer) else encode([0]))
        with pytest.raises(Unverified, match="took every chunk of a part and says that it lacks some"):
            anna.send([JEAN], label=SEALED, body=SECRET, attachments=[film])
    assert sum("/v1/parts/" in path for method, path, _ in relay.heard if method == "PUT") == 3
    assert [path for method, path, _ in relay.heard if path == "/v1/messages"] == []
