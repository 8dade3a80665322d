"""A label that has no equivalent where it should go is refused, and lands on the security officer's desk."""

from __future__ import annotations

import time

import pytest

from acts import run
from liaison.desk import Desk
from relay.protocol.label import Clearance
from world import TEST_SPIF, world

ANNA, EWA, JEAN, KURT = "anna.nowak@lo-warsaw", "ewa.sowa@lo-warsaw", "jean.petit@lo-paris", "kurt.falk@lo-berlin"


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    """Kurt is cleared under another policy than Warsaw's, and nobody has agreed a table."""
    now = int(time.time())
    german = Clearance("MOCK", "1.3.6.1.4.1.88888.1", ("VS",), (), now - 60, now + 86400)
    with world(tmp_path_factory.mktemp("work-items")) as built:
        built.office("lo-warsaw", "POL", policy=None).publish_policy(TEST_SPIF, b'two_person_release_from = "SEALED"\n')
        built.office("lo-paris", "FRA")
        built.office("lo-berlin", "DEU")
        built.agreement("lo-warsaw", "lo-paris")
        built.agreement("lo-warsaw", "lo-berlin")
        built.device(ANNA)
        built.device(EWA, roles=["release", "security"])
        built.device(JEAN)
        built.device(KURT, clearances=[german])
        for client in built.clients.values():
            client.sync()
        yield built.clients


def act(clients, *words, to=(JEAN, KURT), label="TEST CLOSED"):
    addressees = [word for address in to for word in ("--to", address)]
    return run(clients[ANNA], *words, *addressees, "--label", label, body="Not for a foreign policy yet.")


def items(clients):
    return [
        each for each in clients[EWA].inbox() if clients[EWA].read(each.message_id).portions[0].name[:7] == "Mapping"
    ]


def test_an_unmapped_office_becomes_a_work_item_for_the_security_officer(clients):
    plan = clients[ANNA].plan([KURT], label="TEST CLOSED", body="Not for a foreign policy yet.")
    assert (plan.released, Desk(clients[ANNA]).unmapped(plan)) == ([], ["lo-berlin"])
    item = Desk(clients[ANNA]).ask_for_mapping(plan)
    assert clients[EWA].read(item.message_id).portions[0].name == "Mapping wanted: lo-berlin"


@pytest.mark.parametrize("to", [(JEAN, KURT), (KURT,)])
def test_it_goes_once_the_sender_has_agreed_and_not_before(clients, to):
    before = len(items(clients))
    asked = act(clients, "send", to=to)
    assert "liaison: no equivalence is agreed with lo-berlin" in asked.stderr.splitlines()
    assert (asked.exit_code, len(items(clients))) == (3 if JEAN in to else 6, before)
    agreed = act(clients, "send", "--yes", to=to)
    assert (agreed.exit_code, len(items(clients))) == (0 if JEAN in to else 6, before + 1)


def test_an_office_of_a_blind_addressee_becomes_one_too(clients):
    before = len(items(clients))
    for words, more in (((), 0), (("--dry-run", "--yes"), 0), (("--yes",), 1)):
        told = act(clients, "send", "--blind", KURT, *words, to=(JEAN,))
        assert told.exit_code == 6
        assert "liaison: no equivalence is agreed with lo-berlin" in told.stderr.splitlines()
        assert f"{KURT} may not be given a blind copy" in told.stderr
        assert len(items(clients)) == before + more


def test_one_that_may_not_go_is_a_note_and_the_senders_own_message_goes_on(clients):
    drafted = act(clients, "draft", "--yes", label="TEST SEALED")
    assert (drafted.exit_code, len(drafted.stdout.strip())) == (0, 32)
    note = "liaison: note: no work item went to your security officer: another officer must release this"
    assert note in drafted.stderr.splitlines()
