"""What the rules do not permit: refused by name, nothing of it stored, and the refusal itself an entry of the log."""

from __future__ import annotations

import time

from forge import SECRET, Forge, problem, stored
from relay.protocol.canonical import decode, encode
from relay.protocol.entry import Event, parse_access_entry
from relay.protocol.envelope import parse_message, parse_slot
from relay.protocol.header import Addressee, AddresseeKind
from relay.protocol.label import label_bytes
from relay.store import log as log_rows
from relay.store.log import Log

JEAN, LUC, ANNA = "jean.petit@lo-paris", "luc.bas@lo-paris", "anna.nowak@lo-warsaw"


def refused_entry(world):
    """The newest entry of the access log."""
    with world.relay._readers.connect() as connection:
        last = log_rows.sizes(connection)[Log.ACCESS] - 1
        return parse_access_entry(log_rows.entry(connection, Log.ACCESS, last))


def assert_refused(world, forge, body, *rules):
    with stored(world, log_entry=1):
        response = forge.post(body)
    entry = refused_entry(world)
    assert (response.status_code, tuple(problem(response)["rules"])) == (403, rules)
    if "@" in rules[0]:  # of others' clearances nothing
        assert "hint" not in problem(response)
    assert (entry.event, entry.permitted, entry.rules) == (Event.REFUSE, False, rules)
    assert entry.address == forge.client.profile.pins.address


def label_of(forge, marking: str) -> bytes:
    return label_bytes(forge.client.labels.read(marking))


def test_a_slot_for_a_device_that_is_not_addressed_is_refused(two_offices, forge):
    elsewhere = (Addressee(AddresseeKind.ACTION, "duty@lo-paris"),)
    assert forge.post(forge.seal(readers=forge.claim(), addressees=elsewhere).encoded()).status_code == 201
    other = (Addressee(AddresseeKind.ACTION, LUC),)
    assert_refused(
        two_offices, forge, forge.seal(readers=forge.claim(), addressees=other).encoded(), f"{JEAN}:need-to-know"
    )


def test_an_exempted_addressee_gets_no_slot_even_as_holder_of_an_addressed_role(two_offices, forge):
    both = (Addressee(AddresseeKind.ACTION, "duty@lo-paris"), Addressee(AddresseeKind.EXEMPTED, JEAN))
    assert_refused(
        two_offices, forge, forge.seal(readers=forge.claim(), addressees=both).encoded(), f"{JEAN}:need-to-know"
    )


def test_an_addressee_without_a_slot_is_not_dropped_in_silence(two_offices, forge):
    both = (Addressee(AddresseeKind.ACTION, JEAN), Addressee(AddresseeKind.ACTION, LUC))
    assert_refused(
        two_offices, forge, forge.seal(readers=forge.claim(), addressees=both).encoded(), f"{LUC}:not-covered"
    )


def test_a_banner_below_its_portions_is_refused(two_offices, forge):
    low = label_of(forge, "TEST CLOSED RELEASABLE TO FRA, POL")
    assert_refused(two_offices, forge, forge.seal(readers=forge.claim(), label=low).encoded(), "banner")
    wider = label_of(forge, "TEST SEALED")
    assert_refused(two_offices, forge, forge.seal(readers=forge.claim(), label=wider).encoded(), "banner")


def test_a_sender_cannot_write_what_he_is_not_cleared_to_read(two_offices, forge):
    codeword = label_of(forge, "TEST SEALED FOX")
    body = forge.seal(readers=forge.claim(), label=codeword, labels=[codeword]).encoded()
    assert_refused(two_offices, forge, body, "sender:restrictive")
    hidden = forge.seal(readers=forge.claim(), labels=[codeword]).encoded()
    assert_refused(two_offices, forge, hidden, "sender:restrictive")


def test_a_label_that_its_policy_does_not_allow_or_of_a_policy_nobody_knows_is_refused(two_offices, forge):
    fields = decode(label_of(forge, SECRET))
    unknown = encode({**fields, 1: [fields[1][0], "1.3.6.1.4.1.99999.77", *fields[1][2:]]})
    sealed = forge.seal(readers=forge.claim(), label=unknown, labels=[unknown]).encoded()
    with stored(two_offices, log_entry=1):
        response = forge.post(sealed)
    assert (response.status_code, "sender:policy-known" in problem(response)["rules"]) == (403, True)
    assert "the label's policy is not known here" in problem(response)["hint"]
    invalid = encode({**fields, 2: "COSMIC"})
    with stored(two_offices, log_entry=1):
        response = forge.post(forge.seal(label=invalid, labels=[invalid]).encoded())
    assert (response.status_code, "sender:label-valid" in problem(response)["rules"]) == (403, True)
    assert "COSMIC" in problem(response)["hint"]  # a partner's program has no `liaison explain`


def test_a_reader_who_is_not_cleared_gets_no_slot(two_offices, forge):
    luc = two_offices.clients[LUC]
    easy = Forge(forge.client).prepare(LUC, label="TEST OPEN")
    label = label_of(forge, SECRET)
    sealed = easy.seal(label=label, labels=[label])
    assert parse_slot(sealed.slots[0], parse_message(sealed.message).core).device_id == luc.profile.signing.device_id
    assert_refused(two_offices, forge, sealed.encoded(), f"{LUC}:classification")


def test_an_expired_message_is_refused_by_the_handling_rule(two_offices, forge):
    now = int(time.time())
    body = forge.seal(readers=forge.claim(), created=now - 120, expires=now - 60).encoded()
    assert_refused(two_offices, forge, body, "handling")
