"""Who needs to know: communities and their rosters, lists, exemptions, blind copies, and what agreements say of them."""

from __future__ import annotations

import json
import time

import pytest

import relay.core.accept
from acts import (
    agree,
    drafted,
    gets_nothing,
    no_rules_at_the_relay,
    refuses,
    run,
    screen,
    sign,
    slots_of,
    stored_message,
)
from forge import Forge, problem
from liaison.desk import Desk
from liaison.transport import HttpTransport
from relay.protocol.community import ROSTER, Roster
from relay.protocol.entry import Change, parse_directory_entry
from relay.protocol.errors import Conflict, LiaisonError, Malformed, Refused, Unavailable
from relay.protocol.label import Category, TagType
from relay.store.log import Log
from simulator import Forger, lying
from world import clearance, world

ANNA, PIOTR, EWA, JEAN, LUC, KARI = (
    "anna@lo-warsaw", "piotr@lo-warsaw", "ewa@lo-warsaw", "jean@lo-paris", "luc@lo-paris", "kari@lo-oslo",
)  # fmt: skip
BALTIC = "baltic@lo-warsaw"
UNSEEN = "tomek@lo-warsaw"
TEXT = "For the few."


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    """Anna keeps Warsaw's Baltic community: Piotr and Jean are in it; Ewa, Luc and Kari are not."""
    with world(tmp_path_factory.mktemp("communities")) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA"), ("lo-oslo", "NOR")):
            built.office(office, nation)
        agree(built, "lo-paris", "lo-warsaw", communities=(BALTIC,))
        for address in (ANNA, PIOTR, EWA, JEAN, LUC, KARI):
            built.device(address)
        built.authorities["lo-warsaw"].found_community(BALTIC, ANNA, "Baltic shipping")
        Desk(built.clients[ANNA]).keep_roster(BALTIC, [PIOTR, JEAN])
        for client in built.clients.values():
            client.sync()
        yield built


@pytest.fixture
def clients(offices):
    return offices.clients


@pytest.fixture
def anna(clients):
    return clients[ANNA]


def send(client, *to, **more):
    return client.send(list(to) or [BALTIC], **{"label": "TEST CLOSED", "body": TEXT, **more}).message_id


def rules(client, *to, **more):
    verdicts = client.plan(list(to), **{"label": "TEST CLOSED", "body": TEXT, **more}).verdicts
    return {verdict.addressee.address: verdict.rules for verdict in verdicts}


def readers(offices, message_id):
    held = slots_of(offices, message_id)
    return {address for address, client in offices.clients.items() if client.profile.signing.device_id in held}


def post_roster(client, signer, address=BALTIC, version=None, members=(PIOTR,)):
    state = client.trust.directory.communities[address]
    roster = Roster(address, state.version + 1 if version is None else version, tuple(members), int(time.time()))
    client.transport.post("/v1/rosters", signer.profile.signing.sign_object(ROSTER, roster.payload()))


# -- rosters ----------------------------------------------------------------------------------------------------------


def test_members_of_both_offices_read_and_nobody_else_learns_of_it(offices, clients, anna):
    message_id = send(anna)
    assert readers(offices, message_id) == {PIOTR, JEAN}
    for member in (PIOTR, JEAN):
        assert clients[member].read(message_id).portions[0].text == TEXT
    for other in (EWA, LUC, KARI):
        assert gets_nothing(clients[other], message_id)


def test_only_an_authority_founds_a_community_and_only_of_its_own_office(offices, clients):
    with pytest.raises(LiaisonError):
        offices.authorities["lo-paris"].found_community("ours@lo-warsaw", ANNA, "Not theirs")
    with pytest.raises(LiaisonError):
        offices.authorities["lo-paris"].found_community("ours@lo-paris", ANNA, "Not their officer")
    with pytest.raises(LiaisonError):
        offices.authorities["lo-paris"].found_community(JEAN, LUC, "A person's address")


@pytest.mark.parametrize("signer", [PIOTR, JEAN, LUC])
def test_nobody_but_its_manager_writes_a_roster(clients, anna, signer):
    with pytest.raises(LiaisonError, match="not signed by the manager"):
        post_roster(anna, clients[signer])


@pytest.mark.parametrize("version", [0, 1, 5])
def test_a_roster_that_does_not_follow_the_last_is_refused(anna, version):
    with pytest.raises(Conflict, match="does not follow"):
        post_roster(anna, anna, version=version)


def test_a_manager_who_was_replaced_or_revoked_writes_no_roster(offices, anna, clients):
    lost = offices.device("lena@lo-warsaw")
    authority = offices.authorities["lo-warsaw"]
    authority.found_community("ports@lo-warsaw", "lena@lo-warsaw", "Ports")
    Desk(lost).keep_roster("ports@lo-warsaw", [PIOTR])
    authority.found_community("straits@lo-warsaw", "lena@lo-warsaw", "Straits")
    authority.found_community("straits@lo-warsaw", ANNA, "Straits, under Anna")
    anna.sync()
    with pytest.raises(LiaisonError, match="not signed by the manager"):
        post_roster(anna, lost, "straits@lo-warsaw")
    authority.revoke("lena@lo-warsaw", "lost")
    with pytest.raises(LiaisonError):
        post_roster(anna, lost, "ports@lo-warsaw")
    anna.sync()
    assert anna.trust.directory.communities["ports@lo-warsaw"].version == 1


def test_an_empty_roster_is_nobody(offices, anna):
    offices.authorities["lo-warsaw"].found_community("empty@lo-warsaw", ANNA, "Nobody yet")
    assert rules(anna, "empty@lo-warsaw") == {"empty@lo-warsaw": ("empty-community",)}
    with pytest.raises(Refused) as told:
        send(anna, "empty@lo-warsaw")
    assert told.value.rules == ("empty-community",)
    Desk(anna).keep_roster("empty@lo-warsaw", [])
    assert rules(anna, "empty@lo-warsaw") == {"empty@lo-warsaw": ("empty-community",)}


def test_members_of_another_office_are_reached_only_where_an_agreement_names_the_community(offices, anna, clients):
    offices.authorities["lo-warsaw"].found_community("quiet@lo-warsaw", ANNA, "Not in the agreement")
    Desk(anna).keep_roster("quiet@lo-warsaw", [PIOTR, JEAN])
    message_id = send(anna, "quiet@lo-warsaw")
    assert readers(offices, message_id) == {PIOTR}
    assert gets_nothing(clients[JEAN], message_id)


def test_of_several_addressed_rosters_the_one_that_the_agreement_names_counts(tmp_path):
    first, second = "alpha@lo-warsaw", "zulu@lo-warsaw"
    with world(tmp_path) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
            built.office(office, nation)
        agree(built, "lo-paris", "lo-warsaw", communities=(second,))
        anna, jean = built.device(ANNA), built.device(JEAN)
        for address in (first, second):
            built.authorities["lo-warsaw"].found_community(address, ANNA, "Both have Jean")
            anna.sync()
            Desk(anna).keep_roster(address, [JEAN])
        for addressed in ([second], [first, second]):
            assert jean.read(send(anna, *addressed)).portions[0].text == TEXT
        assert rules(anna, first) == {first: ("agreement",)}


def test_a_member_taken_off_before_he_opens_gets_nothing(anna, clients):
    message_id = send(anna)
    assert message_id in {item.message_id for item in clients[JEAN].inbox()}
    Desk(anna).keep_roster(BALTIC, [PIOTR])
    try:
        with no_rules_at_the_relay():
            clients[JEAN].sync()
            assert refuses(clients[JEAN], message_id, "need-to-know")
        assert gets_nothing(clients[JEAN], message_id)
        assert clients[PIOTR].read(message_id).portions[0].text == TEXT
    finally:
        Desk(anna).keep_roster(BALTIC, [PIOTR, JEAN])


def test_a_member_added_later_does_not_read_what_came_before(offices, anna, clients):
    message_id = send(anna)
    Desk(anna).keep_roster(BALTIC, [PIOTR, JEAN, EWA])
    try:
        assert gets_nothing(clients[EWA], message_id)
    finally:
        Desk(anna).keep_roster(BALTIC, [PIOTR, JEAN])


def test_an_exempted_member_gets_nothing(offices, anna, clients):
    message_id = send(anna, exempt=[JEAN])
    assert readers(offices, message_id) == {PIOTR}
    assert gets_nothing(clients[JEAN], message_id)


def test_the_command_lists_and_keeps_rosters(anna, clients):
    listed = {line.split("\t")[0]: line.split("\t")[1:] for line in screen(clients[LUC], "community", "list")}
    assert (listed[BALTIC][0], listed[BALTIC][2]) == (ANNA, f"{JEAN}, {PIOTR}")
    refused = run(clients[PIOTR], "community", "roster", BALTIC, "--member", PIOTR)
    assert (refused.exit_code != 0, "not signed by the manager" in refused.stderr) == (True, True)


# -- lists ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def lists(anna):
    path = anna.profile.folder / "lists.toml"
    path.write_text(f'[lists]\nwatch = ["{PIOTR}", "{JEAN}", "{EWA}"]\nnone = []\nbroken = ["nobody"]\n')
    yield path
    path.unlink()


def test_a_list_is_expanded_and_shown_before_it_goes_and_frozen_in_what_goes(lists, anna, clients):
    words = ("send", "--yes", "--to", "list:watch", "--exempt", EWA, "--label", "TEST OPEN")
    result = run(anna, *words, body=TEXT)
    assert f"to: {PIOTR}, {JEAN}, {EWA}" in result.stderr
    message_id = bytes.fromhex(result.stdout.strip())
    lists.write_text(f'[lists]\nwatch = ["{LUC}"]\n')
    record = clients[JEAN].read(message_id)
    assert [each.address for each in record.message.core.addressees] == [JEAN, PIOTR, EWA]
    assert b"watch" not in record.encoded
    assert gets_nothing(clients[EWA], message_id)
    assert gets_nothing(clients[LUC], message_id)


@pytest.mark.parametrize("name", ["none", "broken", "unknown"])
def test_a_list_that_is_empty_broken_or_unknown_sends_nothing(lists, anna, name):
    before = len(list(anna.records()))
    result = run(anna, "send", "--yes", "--to", f"list:{name}", "--to", PIOTR, "--label", "TEST OPEN", body=TEXT)
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(list(anna.records())) == before


def test_without_a_list_file_there_are_no_lists(anna):
    assert run(anna, "send", "--yes", "--to", "list:watch", "--label", "TEST OPEN", body=TEXT).exit_code == 1


def test_a_message_to_exempted_addressees_only_is_a_message_to_nobody(anna):
    with pytest.raises(Malformed, match="no addressee is left"):
        anna.plan([PIOTR], exempt=[PIOTR], label="TEST OPEN", body=TEXT)


# -- blind copies -----------------------------------------------------------------------------------------------------


def test_nothing_that_the_others_get_holds_a_trace_of_a_blind_addressee(offices, anna, clients):
    hidden = offices.device(UNSEEN)  # nobody has heard of before
    result = run(anna, "send", "--yes", "--to", JEAN, "--blind", UNSEEN, "--label", "TEST OPEN", body=TEXT)
    message_id = bytes.fromhex(result.stdout.strip())
    blind = hidden.profile.signing
    with lying(clients[JEAN]) as relay:
        clients[JEAN].inbox()
        record = clients[JEAN].read(message_id)
        clients[JEAN].acknowledge(message_id)
        heard = [answer for _method, path, answer in relay.heard if "/directory" not in path and "/keys" not in path]
    (copy,) = [item for item in hidden.inbox() if item.message.core.handling.references == (message_id,)]
    assert hidden.read(copy.message_id).portions[0].text == TEXT
    assert [each.address for each in copy.message.core.addressees] == [UNSEEN]
    traces = (UNSEEN.encode(), blind.device_id, blind.kid, copy.message_id, copy.message.ref)
    for bytes_of_others in (*heard, record.encoded, stored_message(offices, message_id)):
        assert not any(trace in bytes_of_others for trace in traces)
    assert blind.device_id not in slots_of(offices, message_id)
    assert UNSEEN not in "\n".join(screen(clients[JEAN], "read", message_id.hex()))


def test_a_blind_addressee_whom_the_rules_refuse_stops_the_message_before_it_goes(anna, clients):
    before = {item.message_id for item in clients[JEAN].inbox()}
    words = ("send", "--yes", "--to", JEAN, "--blind", KARI, "--label", "TEST OPEN")
    result = run(anna, *words, body=TEXT)
    assert (result.exit_code, result.stdout) == (6, "")
    assert {item.message_id for item in clients[JEAN].inbox()} == before


def test_a_blind_copy_that_cannot_go_keeps_no_other_back_and_each_is_told_of(anna, clients, monkeypatch):
    honest, failing = HttpTransport.post, relay.core.accept._failing
    posted = []

    def post(self, path, *given):
        posted.extend([path] if path == "/v1/messages" else [])
        if len(posted) == 2 and path == "/v1/messages":
            raise Unavailable("cut off")
        return honest(self, path, *given)

    def refuse(batch, judge, caller, submitted, **more):
        to = {each.address for each in submitted.message.core.addressees}
        return ("banner",) if PIOTR in to else failing(batch, judge, caller, submitted, **more)

    monkeypatch.setattr(HttpTransport, "post", post)
    monkeypatch.setattr(relay.core.accept, "_failing", refuse)
    words = [word for address in (EWA, PIOTR, LUC) for word in ("--blind", address)]
    result = run(anna, "send", "--yes", "--json", "--to", JEAN, *words, "--label", "TEST OPEN", body=TEXT)
    (sent,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert (result.exit_code, sent["released_to"], "state" in sent) == (7, [JEAN], False)
    ((waits, _submission),) = anna.profile.cabinet.outbox()
    assert f"liaison: blind copy {waits.hex()[:12]} to {EWA} waits: cut off\n" in result.stderr
    assert f"liaison: no blind copy went to {PIOTR}: " in result.stderr
    assert f"liaison: hint: message {waits.hex()} is sealed and waits" in result.stderr
    monkeypatch.undo()
    anna.sync()
    for address, copies in ((EWA, 1), (PIOTR, 0), (LUC, 1)):
        found = [item.message.core.handling.references for item in clients[address].inbox()]
        assert found.count((bytes.fromhex(sent["message_id"]),)) == copies


# -- agreements -------------------------------------------------------------------------------------------------------


def test_an_agreement_of_three_is_in_force_with_the_third_signature_and_the_log_says_whose(offices, anna):
    three = drafted(offices, "lo-oslo", "lo-paris", "lo-warsaw")
    for office in ("lo-warsaw", "lo-paris"):
        sign(offices, three, office)
        anna.sync()
        assert rules(anna, KARI)[KARI] in {("agreement",), ("untrusted-authority",)}
    sign(offices, three, "lo-oslo")
    assert rules(anna, KARI) == {KARI: ()}
    entries = [parse_directory_entry(each) for each in Forger(offices).entries(Log.DIRECTORY)]
    signed = [each for each in entries if each.change is Change.AGREEMENT and three.payload() in each.payload]
    assert len(signed) == 3
    anna.sync()
    state = anna.trust.directory.agreements[three.agreement_id]
    assert list(state.signed) == ["lo-warsaw", "lo-paris", "lo-oslo"]
    offices.authorities["lo-oslo"].withdraw(three.agreement_id, "for the next test")
    assert rules(anna, KARI) == {KARI: ("agreement",)}


TERMS = {
    "ceiling": ({"classifications": ("OPEN",)}, {}, {"label": "TEST OPEN"}),
    "categories": (
        {"categories": (Category("Codeword", "1.3.6.1.4.1.99999.2", TagType.RESTRICTIVE, ("OWL",)),)},
        {"label": "TEST CLOSED FOX"},
        {"label": "TEST CLOSED OWL"},
    ),
    "purpose": ({"purposes": ("rescue",)}, {"purpose": "trade"}, {"purpose": "rescue"}),
    "no purpose": ({"purposes": ("rescue",)}, {}, {"purpose": "rescue"}),
    "not yet": ({"not_before": int(time.time()) + 3600}, {}, None),
    "no longer": ({"not_before": 1, "not_after": int(time.time()) - 1}, {}, None),
}


@pytest.fixture(scope="module")
def cleared(offices):
    """Somebody in Oslo whom only the agreement keeps from anything, and somebody in Warsaw who may write anything."""
    full = [clearance(codewords=["FOX", "OWL"])]
    return offices.device("nils@lo-oslo", clearances=full), offices.device("zofia@lo-warsaw", clearances=full)


@pytest.mark.parametrize("term", TERMS)
def test_what_an_agreement_does_not_cover_is_refused_before_it_is_sent(offices, cleared, term):
    terms, outside, inside = TERMS[term]
    reader, sender = cleared
    agreement = agree(offices, "lo-oslo", "lo-warsaw", **terms)
    assert rules(sender, "nils@lo-oslo", **outside) == {"nils@lo-oslo": ("agreement",)}
    if inside is not None:
        assert reader.read(send(sender, "nils@lo-oslo", **inside)).portions[0].text == TEXT
    offices.authorities["lo-warsaw"].withdraw(agreement.agreement_id, "tested")


def test_withdrawal_bites_sender_relay_and_reader_at_once(offices, cleared):
    reader, sender = cleared
    agreement = agree(offices, "lo-oslo", "lo-warsaw")
    message_id = send(sender, "nils@lo-oslo")
    forge = Forge(sender).prepare("nils@lo-oslo", label="TEST CLOSED")
    sealed = forge.seal()
    offices.authorities["lo-oslo"].withdraw(agreement.agreement_id, "no longer")
    answer = forge.post(sealed.encoded())  # sealed before the withdrawal, posted after it
    assert (answer.status_code, problem(answer)["rules"]) == (403, ["nils@lo-oslo:agreement"])
    assert rules(sender, "nils@lo-oslo") == {"nils@lo-oslo": ("agreement",)}
    with no_rules_at_the_relay():
        reader.sync()
        assert refuses(reader, message_id, "agreement")
    assert gets_nothing(reader, message_id)
