"""Who gets what: roles, exemptions, portions, second devices, and entitlements that change on the way."""

from __future__ import annotations

import time

import pytest

from acts import run
from liaison import Attachment, Client
from liaison.cli import mail
from liaison.incoming import Incoming
from liaison.portions import pack
from liaison.record import HANDLED
from relay.protocol.canonical import decode
from relay.protocol.envelope import RECEIPT, Receipt
from relay.protocol.errors import Malformed, Refused, Unauthenticated, Unavailable, Unknown, Unverified
from simulator import lying
from world import PASSPHRASE, clearance, world

ANNA, JEAN, LUC, EVE = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "luc.bas@lo-paris", "eve.roux@lo-paris"
DUTY = "duty@lo-paris"
SEALED, OPEN = "TEST SEALED RELEASABLE TO FRA, POL", "TEST OPEN RELEASABLE TO FRA, POL"
SECRET = "Ferry at dawn."
FULL = [clearance(nations=["FRA", "POL"])]


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    """Anna in Warsaw; in Paris Jean and Eve hold the duty role, Jean with two devices; Luc is cleared for OPEN."""
    with world(tmp_path_factory.mktemp("reading")) as built:
        built.office("lo-warsaw", "POL")
        built.office("lo-paris", "FRA")
        built.agreement("lo-warsaw", "lo-paris")
        built.device(ANNA, clearances=FULL)
        built.device(JEAN, clearances=FULL, roles=["duty"])
        built.device(JEAN, clearances=FULL, roles=["duty"], name="jean's second")
        built.device(EVE, clearances=FULL, roles=["duty"])
        built.device(LUC, clearances=[clearance(levels=["OPEN"], nations=["FRA"])])
        yield built


@pytest.fixture
def clients(offices):
    return offices.clients


def send(clients, to, **draft):
    return clients[ANNA].send(to, **{"label": SEALED, "body": SECRET, **draft})


def text_of(client, message_id):
    return client.read(message_id).portions[0].text


def gets_nothing(client, message_id):
    assert message_id not in {item.message_id for item in client.inbox()}
    with pytest.raises(Unknown):
        client.read(message_id)
    assert client.profile.cabinet.message(message_id) is None
    return True


# -- addressees -------------------------------------------------------------------------------------------------------


def test_every_device_of_an_officer_gets_the_message(clients):
    sent = send(clients, [JEAN])
    assert sent.released_to == (JEAN,)
    assert text_of(clients[JEAN], sent.message_id) == text_of(clients["jean's second"], sent.message_id) == SECRET


def test_who_is_not_addressed_gets_nothing(clients):
    sent = send(clients, [JEAN])
    assert gets_nothing(clients[EVE], sent.message_id)


def test_a_role_reaches_everyone_who_holds_it(clients):
    sent = send(clients, [DUTY])
    assert sent.released_to == (DUTY,)
    for name in (JEAN, "jean's second", EVE):
        assert text_of(clients[name], sent.message_id) == SECRET
    assert gets_nothing(clients[LUC], sent.message_id)


def test_who_writes_to_a_role_that_he_holds_has_his_own_copy_no_unread_message_and_no_key_left_over(clients):
    jean = clients[JEAN]
    before = {key.kp_ref for key in jean.profile.cabinet.prekeys()}
    sent = jean.send([DUTY], label=OPEN, body=SECRET)
    assert len(before - {key.kp_ref for key in jean.profile.cabinet.prekeys()}) == 1
    assert sent.message_id not in {item.message_id for item in jean.inbox()}
    assert (text_of(jean, sent.message_id), text_of(clients[EVE], sent.message_id)) == (SECRET, SECRET)


def test_an_officer_addressed_by_name_and_by_role_gets_one_message(clients):
    sent = send(clients, [EVE], info=[DUTY])
    assert sorted(sent.released_to) == [DUTY, EVE]
    assert text_of(clients[EVE], sent.message_id) == SECRET


def test_an_exempted_addressee_gets_nothing_though_he_holds_an_addressed_role(clients):
    sent = send(clients, [DUTY], exempt=[JEAN])
    assert text_of(clients[EVE], sent.message_id) == SECRET
    assert gets_nothing(clients[JEAN], sent.message_id)
    assert gets_nothing(clients["jean's second"], sent.message_id)
    kinds = {each.address: each.kind.name for each in clients[EVE].read(sent.message_id).message.core.addressees}
    assert kinds == {DUTY: "ACTION", JEAN: "EXEMPTED"}  # on purpose, and every reader can see it


def test_an_exempted_role_keeps_the_message_from_all_who_hold_it(clients):
    sent = send(clients, [JEAN, ANNA], exempt=[DUTY])
    assert [verdict.addressee.address for verdict in sent.refused] == [JEAN]
    assert sent.refused[0].rules == ("need-to-know",)
    assert gets_nothing(clients[JEAN], sent.message_id)


def test_a_role_that_nobody_holds_is_refused_by_name(clients):
    with pytest.raises(Refused) as refused:
        send(clients, ["nobody@lo-paris"])
    assert refused.value.rules == ("unknown-address",)


# -- portions ---------------------------------------------------------------------------------------------------------


def test_each_reader_gets_the_portions_that_the_rules_allow_and_no_other(clients):
    """A paragraph by its mark, an attachment by its label; the subject is in the part of the message's own label."""
    sent = send(
        clients,
        [JEAN, LUC],
        subject="Crossing",
        body=f"{SECRET}\n(TEST OPEN RELEASABLE TO FRA, POL) The weather is fine.\n",
        attachments=[Attachment("map.bin", b"map", OPEN), Attachment("plan.bin", b"plan")],
    )
    assert sent.released_to == (JEAN, LUC)
    full, some = clients[JEAN].read(sent.message_id).portions, clients[LUC].read(sent.message_id).portions
    assert {index: (each.name, each.content) for index, each in full.items()} == {
        0: ("Crossing", f"{SECRET}\n".encode()),
        1: ("", b"The weather is fine.\n"),
        2: ("map.bin", b"map"),
        3: ("plan.bin", b"plan"),
    }
    assert {index: each.content for index, each in some.items()} == {1: b"The weather is fine.\n", 2: b"map"}
    labels = [each.label for each in clients[LUC].read(sent.message_id).message.core.portions]
    assert len(labels) == 4  # what is withheld is named by its label and nothing else


def test_the_relay_gives_a_reader_no_key_for_a_portion_that_the_sender_did_not_grant(clients):
    """He may fetch the sealed part; without the key it is noise."""
    sent = send(clients, [JEAN, LUC], body=f"{SECRET}\n(TEST OPEN RELEASABLE TO FRA, POL) Weather.\n")
    clients[LUC].read(sent.message_id)
    sealed = clients[LUC].transport.get(f"/v1/messages/{sent.message_id.hex()}/parts/0")
    assert SECRET.encode() not in sealed


def test_a_portion_above_the_message_is_refused(clients):
    with pytest.raises(Refused) as refused:
        send(clients, [JEAN], label=OPEN, body=f"Top.\n(TEST SEALED RELEASABLE TO FRA, POL) {SECRET}\n")
    assert "banner" in refused.value.rules


# -- what changes on the way ------------------------------------------------------------------------------------------


def test_an_expired_message_is_neither_listed_nor_opened(clients):
    sent, lasting = send(clients, [EVE], expires_in=4), send(clients, [EVE])
    time.sleep(4.1)
    assert gets_nothing(clients[EVE], sent.message_id)
    assert text_of(clients[EVE], lasting.message_id) == SECRET


def test_who_has_opened_everything_waits_for_new_mail_and_verifies_no_header_again(clients, monkeypatch):
    eve = clients[EVE]
    sent = send(clients, [EVE])
    for item in eve.inbox():
        if not item.problem:
            eve.read(item.message_id)
    asked, verified, get, verify = [], [], eve.transport.get, Incoming.verify_header
    monkeypatch.setattr(
        eve.transport, "get", lambda path, **query: (asked.append((path, query)), get(path, **query))[1]
    )
    monkeypatch.setattr(Incoming, "verify_header", lambda *given: (verified.append(given), verify(*given))[1])

    assert sent.message_id in {item.message_id for item in eve.inbox(wait=0.1)}
    pages = [query for path, query in asked if path == "/v1/inbox"]
    assert [query["wait"] for query in pages] == [0.1] * len(pages)
    assert pages[-1]["after"] > 0
    assert not verified

    asked.clear()
    fresh = send(clients, [EVE])
    assert fresh.message_id in {item.message_id for item in eve.inbox(wait=20)}
    assert [query["wait"] for path, query in asked if path == "/v1/inbox"] == [20, 0]
    assert len(verified) == 1


def test_an_expired_message_that_the_relay_hands_out_all_the_same_is_not_shown(clients, monkeypatch):
    sent = send(clients, [EVE], expires_in=4)
    monkeypatch.setattr("relay.core.open.failing", lambda *_: ())
    time.sleep(4.1)
    with pytest.raises(Refused, match="expired"):
        clients[EVE].read(sent.message_id)
    assert clients[EVE].profile.cabinet.message(sent.message_id) is None


def test_a_role_reaches_whoever_holds_it_now_and_a_lower_clearance_opens_nothing_of_before(offices):
    """Max held the watch and SEALED; he is enrolled anew with less, and Zoe takes over."""
    watch, clients = "watch@lo-paris", offices.clients
    max_before = offices.device("max.noir@lo-paris", clearances=FULL, roles=["watch"])
    early = send(clients, [watch, "max.noir@lo-paris"])
    offices.authorities["lo-paris"].revoke("max.noir@lo-paris", "transferred")
    low = [clearance(levels=["OPEN"], nations=["FRA"])]
    max_after = offices.device("max.noir@lo-paris", clearances=low, name="max anew")
    zoe = offices.device("zoe.ney@lo-paris", clearances=FULL, roles=["watch"])
    with pytest.raises(Unauthenticated):
        max_before.read(early.message_id)
    assert gets_nothing(max_after, early.message_id)
    assert gets_nothing(zoe, early.message_id)  # sealed before she held the watch
    late = send(clients, [watch, "max.noir@lo-paris"])
    assert late.released_to == (watch,)
    assert [verdict.rules for verdict in late.refused] == [("classification",)]
    assert text_of(zoe, late.message_id) == SECRET
    assert gets_nothing(max_after, late.message_id)


def test_what_is_wrong_inside_a_part_is_the_senders_fault_and_not_the_relays(clients, monkeypatch):
    monkeypatch.setattr("liaison.seal.pack", lambda portion: pack(portion)[:-1] + b"\1")
    sent = send(clients, [EVE])
    with pytest.raises(Unverified, match="what the sender sealed does not hold: part: padding"):
        clients[EVE].read(sent.message_id)


# -- receipts and states ----------------------------------------------------------------------------------------------


def _receipts(clients, message_id):
    rows = decode(clients[ANNA].transport.get(f"/v1/messages/{message_id.hex()}/receipts"))
    return [row[1] for row in rows]


def test_a_receipt_that_could_not_be_sent_is_sent_by_the_next_run(clients):
    sent = send(clients, [EVE])

    def unreachable(**_query):
        raise Unavailable("the relay cannot be reached")

    with lying(clients[EVE]) as relay:
        relay.invent("POST", r"/receipts$", unreachable)
        with pytest.raises(Unavailable):
            clients[EVE].read(sent.message_id)
    assert _receipts(clients, sent.message_id) == []
    assert text_of(clients[EVE], sent.message_id) == SECRET  # it is safe here, and needs no relay
    clients[EVE].inbox()
    assert _receipts(clients, sent.message_id) == ["opened"]
    clients[EVE].inbox()
    assert _receipts(clients, sent.message_id) == ["opened"]


@pytest.mark.parametrize("step", ["_check_replay", "_prekey"])
def test_of_two_processes_that_read_one_message_neither_is_told_of_a_replay(clients, offices, monkeypatch, step):
    sent, eve, check = send(clients, [EVE]), clients[EVE], getattr(Incoming, step)

    def late(incoming, *rest):
        if incoming.profile is not eve.profile:
            eve.read(sent.message_id)
        return check(incoming, *rest)

    monkeypatch.setattr(Incoming, step, late)
    with Client.open(offices.folder / EVE, passphrase=PASSPHRASE) as second:
        assert text_of(second, sent.message_id) == SECRET
    assert _receipts(clients, sent.message_id) == ["opened"]


def test_an_acknowledgement_is_the_readers_signed_word_and_said_once(clients):
    sent = send(clients, [EVE])
    clients[EVE].read(sent.message_id)
    first, second = clients[EVE].acknowledge(sent.message_id), clients[EVE].acknowledge(sent.message_id)
    assert first == second
    assert _receipts(clients, sent.message_id) == ["opened", "acknowledged"]
    assert clients[EVE].read(sent.message_id).state == HANDLED


def test_who_has_opened_a_message_is_told_that_a_receipt_is_for_another_and_nobody_else_is(clients):
    sent, eve = send(clients, [EVE]), clients[EVE]
    key, path = eve.profile.signing, f"/v1/messages/{sent.message_id.hex()}/receipts"
    receipt = Receipt(sent.message_id, bytes(32), key.device_id, "acknowledged", int(time.time()))
    with pytest.raises(Unknown, match="no such message"):
        eve.transport.post(path, key.sign_object(RECEIPT, receipt.payload()))
    eve.read(sent.message_id)
    with pytest.raises(Malformed, match="another message_ref"):
        eve.transport.post(path, key.sign_object(RECEIPT, receipt.payload()))
    assert _receipts(clients, sent.message_id) == ["opened"]


def test_the_relay_takes_a_receipt_that_comes_late_and_none_of_the_future(clients):
    sent, now = send(clients, [EVE]), int(time.time())
    message = clients[EVE].read(sent.message_id).message
    incoming = clients[EVE]._incoming()
    with pytest.raises(Malformed, match="in the future"):
        incoming.send_receipt(message, "acknowledged", now + 3600)
    assert _receipts(clients, sent.message_id) == ["opened"]
    incoming.send_receipt(message, "acknowledged", now - 90 * 86400)
    assert _receipts(clients, sent.message_id) == ["opened", "acknowledged"]


def test_nobody_acknowledges_what_he_sent_himself(clients):
    with pytest.raises(Refused):
        clients[ANNA].acknowledge(send(clients, [EVE]).message_id)


def test_a_message_is_read_again_without_the_relay(clients):
    sent = send(clients, [EVE], attachments=[Attachment("map.bin", b"map")])
    clients[EVE].read(sent.message_id)
    with lying(clients[EVE]) as relay:
        relay.invent("GET", "", pytest.fail).invent("POST", "", pytest.fail)
        assert clients[EVE].read(sent.message_id).portions[1].content == b"map"


def test_a_message_is_found_by_the_beginning_of_its_id(clients):
    sent = send(clients, [EVE])
    assert clients[EVE].find(sent.message_id.hex()[:12]) == sent.message_id
    for wrong, problem in (("", Malformed), ("xyz", Malformed), ("0" * 31, Unknown)):
        with pytest.raises(problem):
            clients[EVE].find(wrong)


def test_a_follower_goes_on_although_one_of_its_requests_failed(clients, monkeypatch):
    """The relay tells of a message, is not there when it is listed, and is there again."""
    honest, calls, sent = Client.inbox, [], []

    def inbox(client):
        calls.append(client)
        if len(calls) == 2:
            raise Unavailable("the relay is starting again")
        if len(calls) == 4:
            raise KeyboardInterrupt
        found = honest(client)
        sent.append(send(clients, [EVE]).message_id.hex())
        return found

    monkeypatch.setattr(Client, "inbox", inbox)
    monkeypatch.setattr(mail, "RECONNECT_SECONDS", 0)
    told = run(clients[EVE], "inbox", "--follow", "--json")
    assert told.exit_code == 130, told.output
    assert "the relay is starting again; trying again in 0 s" in told.stderr
    assert [line for line in told.stdout.splitlines() if sent[0] in line]


def test_an_acknowledgement_whose_note_cannot_go_is_said_to_stand(clients):
    sent = clients[ANNA].send([LUC], label="TEST OPEN RELEASABLE TO FRA, POL", body="Confirm.")
    told = run(clients[LUC], "ack", sent.message_id.hex(), "--note", "(WRONG) No portion mark.")
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.startswith(f"liaison: acknowledged {sent.message_id.hex()[:12]} at ")
    assert _receipts(clients, sent.message_id) == ["opened", "acknowledged"]


def test_a_subject_that_is_no_text_is_said_in_a_line(clients):
    words = ("send", "--to", EVE, "--label", SEALED, "--yes", "--subject", "caf\udce9", "-")
    told = run(clients[ANNA], *words, body="Text.")
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr == "liaison: error: 'caf\\udce9' cannot be written in utf-8\n"
