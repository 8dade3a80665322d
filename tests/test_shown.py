"""What a message says of itself is shown to whoever reads it and to whoever releases it, on the screen and as JSON."""

from __future__ import annotations

import json

import pytest

from acts import as_json, run, screen
from liaison import Attachment
from liaison.cli.saying import CANCELLED
from liaison.drafting import circulate_plan
from relay.protocol.header import Precedence
from world import TEST_SPIF, world

ANNA, PIOTR, ADAM, EWA, OLGA = "anna@lo-warsaw", "piotr@lo-warsaw", "adam@lo-warsaw", "ewa@lo-warsaw", "olga@lo-warsaw"


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Piotr releases what two persons have to release."""
    with world(tmp_path_factory.mktemp("shown")) as built:
        built.office("lo-warsaw", "POL", policy=None).publish_policy(TEST_SPIF, b'two_person_release_from = "SEALED"\n')
        for address in (ANNA, ADAM, EWA, OLGA):
            built.device(address)
        built.device(PIOTR, roles=["release"])
        for client in built.clients.values():
            client.sync()
        yield built.clients


@pytest.fixture(scope="module")
def before(people):
    return people[ANNA].send([ADAM], label="TEST OPEN", body="Earlier.\n").message_id


def full(people, before: bytes, label: str):
    """The plan of a message of which every part of the header says something."""
    return people[ANNA].plan(
        [ADAM], info=[EWA], exempt=[OLGA], label=label, body="Ferry at dawn.\n", subject="Ferry",
        attachments=[Attachment("map.txt", b"here")], precedence=Precedence.FLASH, references=[before],
        require_ack=True, originator_controlled=True, purpose="exercise",
    )  # fmt: skip


def test_read_json_has_the_whole_header(people, before) -> None:
    sent = people[ANNA].release(full(people, before, "TEST CLOSED"))
    told = as_json(people[ADAM], "read", sent.message_id.hex())
    assert {key: told[key] for key in ("to", "info", "exempted", "references", "purpose")} == {
        "to": [ADAM], "info": [EWA], "exempted": [OLGA], "references": [before.hex()], "purpose": "exercise",
    }  # fmt: skip
    assert (told["originator_controlled"], told["require_ack"], told["type"]) == (True, True, "operation")
    assert (told["released_by"], told["passed_on"], told["replaces"], told["protection"]) == ([], [], None, "one-time")
    assert told["expires"].endswith("Z")


def test_read_json_of_a_draft_takes_no_octets_for_text(people, before) -> None:
    draft = circulate_plan(people[ANNA], full(people, before, "TEST SEALED")).sent.message_id
    portions = as_json(people[PIOTR], "read", draft.hex())["portions"]
    assert [(portion.get("kind"), portion["text"]) for portion in portions] == [
        (None, "A draft for release.\n"), ("draft", None),
    ]  # fmt: skip


def test_the_releasing_officer_sees_all_that_the_readers_will_and_can_save_what_is_attached(
    people, before, tmp_path
) -> None:
    draft = circulate_plan(people[ANNA], full(people, before, "TEST SEALED")).sent.message_id
    shown = run(people[PIOTR], "release", draft.hex(), "--out", str(tmp_path))
    assert shown.exit_code == CANCELLED, shown.output
    assert (tmp_path / "map.txt").read_bytes() == b"here"
    rows = dict(line.split(":", 1) for line in shown.stdout.splitlines() if ":" in line)
    seen = {name: rows[name].strip() for name in ("Draft of", "Exempted", "Precedence", "Purpose", "Acknowledge")}
    assert seen == {
        "Draft of": ANNA, "Exempted": OLGA, "Purpose": "exercise", "Acknowledge": "asked for",
        "Precedence": "FLASH (for action FLASH, for information ROUTINE)",
    }  # fmt: skip
    assert rows["References"].strip() == before.hex()[:12]
    assert rows["Originator"].strip().startswith("controlled")
    assert "Expires" in rows
    done = json.loads(screen(people[PIOTR], "release", draft.hex(), "--out", str(tmp_path), "--yes", "--json")[0])
    assert (done["released"], done["saved"]) == (True, [str(tmp_path / "map-2.txt")])
    assert as_json(people[ADAM], "read", done["message_id"])["released_by"] == [PIOTR]


def test_a_forward_is_as_urgent_as_the_original_unless_it_is_told_otherwise(people) -> None:
    sent = people[ANNA].send([ADAM], label="TEST OPEN", body="Now.\n", precedence=Precedence.FLASH).message_id
    for words, expected in (((), "FLASH"), (("--precedence", "priority"), "PRIORITY")):
        passed = as_json(people[ADAM], "forward", sent.hex(), "--to", EWA, "--yes", *words, body="See.\n")
        assert as_json(people[EWA], "read", passed["message_id"])["precedence"] == expected
        answer = as_json(people[ADAM], "reply", sent.hex(), "--yes", *words, body="Seen.\n")
        assert as_json(people[ANNA], "read", answer["message_id"])["precedence"] == expected


def test_explain_json_says_what_the_rules_say_of_the_sender(people) -> None:
    told = as_json(people[ANNA], "explain", "--to", ADAM, "--label", "TEST OPEN")
    assert told["sender"] == {"permitted": True, "rules": []}


def test_a_spill_of_ones_own_message_says_who_may_order_it(people, before) -> None:
    told = run(people[ANNA], "recall", before.hex(), "--spill", "--reason", "spilt", "--yes")
    assert "hint: a spill takes a security officer, or two officers" in told.stderr
