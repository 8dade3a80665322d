"""A message is as urgent for its reader as he is addressed: for action, or for information, which is never more."""

from __future__ import annotations

import json

import pytest

from acts import as_json, run, screen
from forge import call, problem
from liaison.desk import Desk
from relay.protocol.canonical import decode
from relay.protocol.envelope import parse_message
from relay.protocol.errors import Malformed
from relay.protocol.header import Precedence
from test_relay_waiting import event, stream
from world import world

ANNA, PIOTR, EWA, KARI = "anna@lo-warsaw", "piotr@lo-warsaw", "ewa@lo-warsaw", "kari@lo-warsaw"
DUTY, BALTIC = "duty@lo-warsaw", "baltic@lo-warsaw"
FLASH, IMMEDIATE, ROUTINE, DEFERRED = (
    Precedence.FLASH, Precedence.IMMEDIATE, Precedence.ROUTINE, Precedence.DEFERRED,
)  # fmt: skip
TEXT = "Ferry at dawn."


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    """Anna writes; Piotr and Ewa hold the duty role, Ewa is on the Baltic roster too."""
    with world(tmp_path_factory.mktemp("info-precedence")) as built:
        built.office("lo-warsaw", "POL")
        for address, roles in ((ANNA, ()), (PIOTR, ["duty"]), (EWA, ["duty"]), (KARI, ())):
            built.device(address, roles=roles)
        built.authorities["lo-warsaw"].found_community(BALTIC, ANNA, "Baltic shipping")
        Desk(built.clients[ANNA]).keep_roster(BALTIC, [EWA])
        for client in built.clients.values():
            client.sync()
        yield built


@pytest.fixture
def clients(offices):
    return offices.clients


def send(clients, to, info=(), precedence=FLASH, **more):
    draft = {"label": "TEST CLOSED", "body": TEXT, "precedence": precedence, **more}
    return clients[ANNA].send(to, info=info, **draft).message_id


def in_the_inbox(client, message_id):
    """How urgent it is there, before it is opened."""
    (item,) = [item for item in client.inbox() if item.message_id == message_id]
    assert item.state == "unread"
    return item.precedence


@pytest.mark.parametrize(
    ("to", "info", "for_ewa", "for_kari"),
    [
        ([KARI], [EWA], ROUTINE, FLASH),
        ([KARI], [DUTY], ROUTINE, FLASH),
        ([KARI], [BALTIC], ROUTINE, FLASH),
        ([EWA, KARI], [DUTY], FLASH, FLASH),  # who is reached both ways has the higher
        ([DUTY], [EWA, KARI], FLASH, ROUTINE),
        ([BALTIC], [DUTY, KARI], FLASH, ROUTINE),
    ],
    ids=["address", "role", "community", "address and role", "role and address", "community and role"],
)
def test_a_message_is_as_urgent_as_its_reader_is_addressed(clients, to, info, for_ewa, for_kari):
    message_id = send(clients, to, info)
    assert in_the_inbox(clients[EWA], message_id) is for_ewa
    assert in_the_inbox(clients[KARI], message_id) is for_kari
    for address, own in ((EWA, for_ewa), (KARI, for_kari)):
        read = as_json(clients[address], "read", message_id.hex())
        assert read["precedence"] == own.name
        assert (read["action_precedence"], read["info_precedence"]) == ("FLASH", "ROUTINE")
    assert as_json(clients[ANNA], "read", message_id.hex())["precedence"] == "FLASH"


def test_the_screen_says_what_holds_for_this_reader_and_what_for_the_others(clients):
    message_id = send(clients, [KARI], [EWA])
    (listed,) = [line for line in screen(clients[EWA], "inbox") if message_id.hex()[:12] in line]
    assert "ROUTINE" in listed
    assert "FLASH" not in listed
    both = "(for action FLASH, for information ROUTINE)"
    for address, own in ((EWA, "ROUTINE"), (KARI, "FLASH"), (ANNA, "FLASH")):
        (line,) = [line for line in screen(clients[address], "read", message_id.hex()) if "Precedence" in line]
        assert line.split(maxsplit=1)[1] == f"{own} {both}"


@pytest.mark.parametrize(
    ("precedence", "stated", "expected"),
    [
        (FLASH, {}, ROUTINE),
        (DEFERRED, {}, DEFERRED),
        (FLASH, {"info_precedence": IMMEDIATE}, IMMEDIATE),
        (FLASH, {"info_precedence": DEFERRED}, DEFERRED),
        (FLASH, {"info_precedence": FLASH}, FLASH),
    ],
)
def test_the_sender_says_how_urgent_it_is_for_information_and_it_is_routine_at_most_unless_he_does(
    clients, precedence, stated, expected
):
    message_id = send(clients, [KARI], [EWA], precedence, **stated)
    assert in_the_inbox(clients[EWA], message_id) is expected
    assert in_the_inbox(clients[KARI], message_id) is precedence


def test_more_urgent_for_information_than_for_action_is_refused_before_anybody_writes(clients):
    with pytest.raises(Malformed, match="for information as FLASH, and for action only ROUTINE"):
        send(clients, [KARI], [EWA], ROUTINE, info_precedence=FLASH)
    words = ("--to", KARI, "--info", EWA, "--label", "TEST CLOSED", "--info-precedence", "PRIORITY")
    found = run(clients[ANNA], "send", *words, "--yes", "-", body=TEXT)
    assert (found.exit_code, found.stdout) == (1, "")
    assert "for information as PRIORITY, and for action only ROUTINE" in found.stderr
    assert "raise --precedence too" in found.stderr


def test_the_option_is_of_send_and_draft(clients):
    words = ("--to", KARI, "--info", EWA, "--label", "TEST CLOSED", "--precedence", "flash")
    sent = as_json(clients[ANNA], "send", *words, "--info-precedence", "immediate", "--yes", "-", body=TEXT)
    assert in_the_inbox(clients[EWA], bytes.fromhex(sent["message_id"])) is IMMEDIATE
    assert "--info-precedence" in run(clients[ANNA], "draft", "--help").stdout


def test_an_answer_and_a_forward_are_as_urgent_as_the_message_was_for_who_makes_them(clients):
    message_id = send(clients, [KARI], [EWA])
    for address, own in ((EWA, ROUTINE), (KARI, FLASH)):
        desk = Desk(clients[address])
        reply = desk.plan_reply(message_id, "Understood.", label=None, quote=False)
        forward = desk.plan_forward(message_id, [PIOTR], "For you.", label=None)
        assert [each.draft.handling.precedence for each in (reply, forward)] == [own, own]


# -- at the relay -----------------------------------------------------------------------------------------------------


def listed(answer: bytes) -> list[bytes]:
    return [parse_message(each).core.message_id for _, each in decode(answer)[1]]


@pytest.fixture
def reader(offices, request):
    return offices.device(f"r{abs(hash(request.node.name)) % 10**8}@lo-warsaw")


def test_what_waits_is_in_the_order_that_holds_for_the_reader(offices, clients, reader, monkeypatch):
    monkeypatch.setattr("relay.core.reading.INBOX_PAGE", 3)
    own = [reader.profile.pins.address]
    first = send(clients, own, precedence=ROUTINE)
    informed = send(clients, [KARI], own, FLASH)
    rest = [send(clients, own, precedence=ROUTINE) for _ in range(2)]
    late = send(clients, [KARI], own, FLASH)
    flash = send(clients, own, precedence=FLASH)
    # of what is behind the page only what is urgent for him comes along
    assert listed(reader.transport.get("/v1/inbox", after=0)) == [flash, first, informed, rest[0]]
    with stream(reader) as lines:
        told = [json.loads(event(lines)["data"]) for _ in range(6)]
        offices.authorities["lo-warsaw"].revoke(reader.profile.signing.device_id.hex(), "ends the stream")
    expected = [flash, first, informed, *rest, late]
    assert [each["message_id"] for each in told] == [each.hex() for each in expected]
    assert [each["precedence"] for each in told] == ["FLASH"] + ["ROUTINE"] * 5


def test_who_has_it_for_information_does_not_open_it_as_what_it_is_for_action(clients):
    message_id = send(clients, [KARI], [EWA])
    path, as_flash = f"/v1/messages/{message_id.hex()}/open", {"relay-precedence": "FLASH"}
    refused = call(clients[EWA], "POST", path, headers=as_flash)
    assert (refused.status_code, "ROUTINE" in problem(refused)["detail"]) == (400, True)
    assert call(clients[KARI], "POST", path, headers=as_flash).status_code == 200


def test_a_client_opens_it_as_what_it_is_for_its_reader(clients, monkeypatch):
    message_id, asked = send(clients, [KARI], [DUTY], FLASH, info_precedence=IMMEDIATE), []
    for address in (EWA, KARI):
        client, post = clients[address], clients[address].transport.post

        def noting(path, body, seen=0, precedence=ROUTINE, post=post):
            if path.endswith("/open"):
                asked.append(precedence)
            return post(path, body, seen, precedence)

        monkeypatch.setattr(client.transport, "post", noting)
        client.inbox()
        client.read(message_id)
    assert asked == [IMMEDIATE, FLASH]
