"""A device of another make exchanges messages with ours: everything it does, it does in Go, from the specification.

The relay is a process of its own; what the partner sends `liaison` reads, and the other way round.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from contextlib import closing

import pytest

from go_programs import needs_go, run_go
from octets import flipped
from processes import Serving
from relay.protocol.armor import armor, dearmor
from relay.protocol.canonical import decode
from relay.protocol.identity import Kind
from world import clearance

pytestmark = needs_go
ANNA, FEED, DUTY = "anna.nowak@lo-warsaw", "feed@lo-paris", "duty@lo-paris"


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("integrator")
    with Serving(folder / "relay") as relay, closing(relay.world(folder)) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
            built.office(office, nation)
        built.agreement("lo-warsaw", "lo-paris")
        built.device(ANNA, clearances=[clearance(nations=["POL"])])
        yield built


@pytest.fixture(scope="module")
def partner(offices, verify):
    """What the partner says of a command, or (None, why it failed)."""
    folder = offices.folder / FEED
    folder.mkdir()

    def run(*words):
        return run_go(verify, "partner", folder, *words)

    statement = folder / "lo-paris.statement"
    statement.write_text(armor(offices.statements["lo-paris"], "STATEMENT"))
    run("init", FEED, offices.url, statement)
    assert "not enrolled" in run("stock")[1]
    request = dearmor((folder / f"{FEED}.request").read_bytes(), "REQUEST")
    terms = {"clearances": [clearance(nations=["FRA"])], "scope": (), "valid_days": 30}
    offices.authorities["lo-paris"].enrol(request, kind=Kind.SYSTEM, roles=["duty"], **terms)
    assert run("stock") == ({"stock": 3}, "")
    return run


def sent_by(partner, *words) -> dict:
    found, why = partner(*words)
    assert found is not None, why
    return found


def test_a_device_that_was_written_from_the_specification_sends_reads_and_acknowledges(offices, partner):
    anna, begun = offices.clients[ANNA], sent_by(partner, "logs")["now"]
    sent = sent_by(partner, "send", ANNA, "OPEN", "Track 4711")
    message_id = bytes.fromhex(sent["message_id"])
    assert [portion.text for portion in anna.read(message_id).portions.values()] == ["Track 4711"]
    anna.acknowledge(message_id)
    answer = anna.send([DUTY], label="TEST OPEN", subject="Track 4711", body="Seen.").message_id
    assert sent_by(partner, "receive") == {"texts": ["Seen."]}
    assert sent_by(partner, "receive") == {"texts": []}
    rows = decode(anna.transport.get(f"/v1/messages/{answer.hex()}/receipts"))
    assert [row[1] for row in rows] == ["opened", "acknowledged"]
    # the first receipt again: its checkpoint is older now than what the partner has seen
    assert sent_by(partner, "again") == sent
    assert sent_by(partner, "logs")["now"] > begun


@pytest.mark.parametrize(("change", "why"), [
    (lambda kept: kept["Access"].update(Root=flip(kept["Access"]["Root"])), "access log"),
    (lambda kept: kept["Entries"].__setitem__(3, flip(kept["Entries"][3])), "not the signed one"),
])  # fmt: skip
def test_what_the_device_has_seen_binds_the_relay(offices, partner, change, why):
    file = offices.folder / FEED / "partner.json"
    before = file.read_text()
    kept = json.loads(before)
    change(kept)
    file.write_text(json.dumps(kept))
    try:
        offices.clients[ANNA].send([DUTY], label="TEST OPEN", body="More.")
        assert why in partner("receive")[1]
    finally:
        file.write_text(before)


def flip(octets: str) -> str:
    return b64encode(flipped(b64decode(octets))).decode()
