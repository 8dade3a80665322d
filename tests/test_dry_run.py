"""What `send --dry-run` says is what `send` does."""

from __future__ import annotations

import json

import pytest

from acts import agree, run
from world import TEST_SPIF, clearance, world

ANNA, PIOTR, JEAN = "anna@lo-warsaw", "piotr@lo-warsaw", "jean@lo-paris"


@pytest.fixture(scope="module")
def anna(tmp_path_factory):
    """Piotr is cleared for OPEN only."""
    extensions = b'two_person_release_from = "SEALED"\nportion_marks = { SEALED = "S", OPEN = "O" }\nforbidden_precedences = ["OVERRIDE"]\n'
    with world(tmp_path_factory.mktemp("dry-run")) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
            built.office(office, nation, policy=None).publish_policy(TEST_SPIF, extensions)
        agree(built, "lo-paris", "lo-warsaw")
        for address in (ANNA, JEAN):
            built.device(address)
        built.device(PIOTR, clearances=[clearance(["OPEN"])])
        for client in built.clients.values():
            client.sync()
        yield built.clients[ANNA]


@pytest.mark.parametrize(
    ("words", "body", "rules", "told"),
    [
        (("TEST OPEN", "--to", JEAN, "--blind", PIOTR), "x", "", {"blind": {"released_to": [PIOTR], "refused": []}}),
        (
            ("TEST CLOSED", "--to", JEAN, "--blind", PIOTR), "x", "classification",
            {"blind": {"released_to": [], "refused": [{"address": PIOTR, "rules": ["classification"]}]}},
        ),
        (
            ("TEST SEALED", "--to", JEAN), "x", "two-person-release",
            {"obligations": ["two-person-release"], "needs_release": True},
        ),
        (("TEST OPEN", "--to", JEAN), "hello\n(S) x", "banner", {"obligations": ["banner"], "needs_release": False}),
        (
            ("TEST OPEN", "--to", JEAN, "--precedence", "override"), "x", "precedence",
            {"obligations": ["precedence"], "needs_release": False},
        ),
        (("TEST CLOSED", "--to", PIOTR), "x", "classification", {"released_to": [], "obligations": []}),
    ],
    ids=["a message that goes", "a blind copy", "a second signature", "an obligation", "a forbidden precedence", "nobody"],
)  # fmt: skip
def test_it_fails_where_sending_fails_and_its_json_says_why(anna, words, body, rules, told):
    dry = run(anna, "send", "--dry-run", "--json", "--label", *words, body=body)
    real = run(anna, "send", "--yes", "--label", *words, body=body)
    assert dry.exit_code == real.exit_code == (6 if rules else 0)
    if rules:
        assert f"liaison: rules: {rules}" in dry.stderr.splitlines()
        assert dry.stderr.splitlines()[-1] == real.stderr.splitlines()[-1]
    assert told.items() <= json.loads(dry.stdout).items()
    rows = run(anna, "send", "--dry-run", "--label", *words, body=body)
    assert rows.exit_code == dry.exit_code
    assert all(f"{address}\ttext 0\t" in rows.stdout for address in words if "@" in address)


def test_who_will_get_a_blind_copy_is_asked_about(anna):
    asked = run(anna, "send", "--to", JEAN, "--blind", PIOTR, "--label", "TEST OPEN", body="x")
    assert (asked.exit_code, f"Release to 1 of 1 addressees, and blind copies to {PIOTR}?" in asked.stderr) == (3, True)
