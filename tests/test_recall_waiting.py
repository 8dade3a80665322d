"""What still waits to be posted is taken back without being posted, whatever else is under way."""

from __future__ import annotations

import json
import os
import re
import threading

import pytest

from acts import as_json, gets_nothing, run
from liaison import Client, Waiting
from liaison.recalling import recall, sign_recall
from recalls import BAS, LABEL, last_entries, people
from relay.protocol.armor import armor
from relay.protocol.entry import Event
from relay.protocol.errors import Unavailable
from relay.protocol.parts import MAX_INLINE
from simulator import LyingRelay, lying
from world import PASSPHRASE


def test_what_still_waits_is_taken_back_without_being_posted(secured):
    anna, _jean, luc = people(secured)
    message_id = waits(anna, lost=False)
    result = run(anna, "recall", message_id.hex()[:12], "--reason", "Wrong annex", "--yes", "--json")
    assert json.loads(result.stdout) == {"v": 1, "message_id": message_id.hex(), "state": "withdrawn"}
    assert anna.profile.cabinet.outbox() == []
    anna.sync()
    assert {entry.event for entry in last_entries(secured, message_id)} == {Event.DENY}
    assert gets_nothing(luc, message_id)


def test_what_waits_for_a_receipt_that_was_lost_is_recalled_with_proof(secured):
    anna, _jean, luc = people(secured)
    message_id = waits(anna, lost=True)
    row = as_json(anna, "recall", message_id.hex(), "--reason", "Wrong annex", "--yes")
    assert (row["address"], row["state"]) == (BAS, "destroyed unread")
    assert anna.profile.cabinet.outbox() == []
    assert gets_nothing(luc, message_id)


@pytest.mark.parametrize("together", [False, True], ids=["a spill", "with another officer"])
def test_what_waits_is_not_posted_by_a_recall_that_the_relay_may_have_denied(secured, tmp_path, together):
    anna, _jean, luc = people(secured)
    message_id = waits(anna, lost=False)
    words = ["recall", message_id.hex()[:12], "--reason", "Wrong annex", "--yes"]
    words += with_another(luc, message_id, tmp_path) if together else ["--spill"]
    result = run(anna, *words)
    assert result.exit_code == 1
    assert "it still waits here, and goes with your next command" in result.stderr
    assert anna.profile.cabinet.waits(message_id)
    assert {entry.event for entry in last_entries(secured, message_id)} == {Event.DENY}
    withdrawn = as_json(anna, "recall", message_id.hex(), "--reason", "Wrong annex", "--yes")
    assert withdrawn == {"v": 1, "message_id": message_id.hex(), "state": "withdrawn"}


def with_another(client, message_id, folder) -> list[str]:
    """The options of a recall that this person signs too, of an office that has no say."""
    signed = folder / "signed"
    signed.write_text(armor(sign_recall(client, message_id, "Wrong annex", spill=False), "RECALL"))
    return ["--with", str(signed)]


def test_a_spill_of_a_security_officers_own_message_that_waits_is_withdrawn(secured):
    ewa, luc = secured.clients["ewa.sowa@lo-warsaw"], people(secured)[2]
    message_id = waits(ewa, lost=False)
    assert recall(ewa, message_id, "Wrong annex", spill=True) is None
    ewa.sync()
    assert gets_nothing(luc, message_id)


def test_the_beginning_of_an_id_that_several_have_posts_none_of_them(secured):
    anna = people(secured)[0]
    ids = waits(anna, lost=False), waits(anna, lost=False)
    prefix = ids[0].hex()[:4]  # of its time
    refused = run(anna, "recall", prefix, "--reason", "Wrong annex", "--yes")
    assert (refused.exit_code, f"messages begin with {prefix}" in refused.stderr) == (1, True)
    assert all(map(anna.profile.cabinet.waits, ids))
    anna.sync()


class Follower(threading.Thread):
    """Another process of this profile: it posts what waits, and `relay`, where something is put into its way."""

    def __init__(self, client):
        super().__init__()
        self.folder, self.relay, self.told = client.profile.folder, LyingRelay(None), []

    def run(self):
        with Client.open(self.folder, passphrase=PASSPHRASE) as own:
            self.relay.honest, own.transport, own.tell = own.transport, self.relay, self.told.append
            own.sync()


def test_what_is_taken_back_between_two_postings_of_another_process_is_posted_by_none(secured):
    anna, _jean, luc = people(secured)
    first, second = waits(anna, lost=False), waits(anna, lost=False)
    with Client.open(anna.profile.folder, passphrase=PASSPHRASE) as follower:
        follower.tell = lambda line: first.hex() in line and recall(anna, second, "Wrong annex", spill=False)
        follower.sync()
    assert luc.read(first).portions[0].text == "Meet at nine.\n"
    assert gets_nothing(luc, second)


def test_what_is_taken_back_while_another_process_uploads_its_attachment_is_posted_by_none(secured, tmp_path):
    anna, _jean, luc = people(secured)
    (tmp_path / "large").write_bytes(os.urandom(MAX_INLINE))
    message_id = waits(anna, lost=False, attachments=[tmp_path / "large"])
    uploading, taken, follower = threading.Event(), threading.Event(), Follower(anna)

    def slow(answer):
        uploading.set()
        taken.wait(20)
        return answer

    follower.relay.lie("POST", "^/v1/parts", slow)
    follower.start()
    uploading.wait(20)
    assert recall(anna, message_id, "Wrong annex", spill=False) is None
    taken.set()
    follower.join(20)
    (told,) = follower.told
    assert "will not be posted again: another process of this profile has taken it back" in told
    assert gets_nothing(luc, message_id)


def test_a_recall_waits_for_the_posting_that_is_under_way_and_is_proven(secured):
    anna, _jean, luc = people(secured)
    message_id = waits(anna, lost=False)
    posting, answered, follower = threading.Event(), threading.Event(), Follower(anna)

    def slowly(honest, **_query):
        posting.set()
        answered.wait(1)
        return honest()

    follower.relay.lies.append(("POST", re.compile("^/v1/messages$"), slowly))
    follower.start()
    posting.wait(20)
    taken = recall(anna, message_id, "Wrong annex", spill=False)
    answered.set()
    follower.join(20)
    assert [state.opened for state, _opened in taken.states] == [None]
    assert gets_nothing(luc, message_id)


def waits(anna, *, lost: bool, **more) -> bytes:
    """A message in the outbox, to Luc; with `lost` the relay has it too."""

    def unreachable(*_answer):
        raise Unavailable("cut off")

    with lying(anna) as relay:
        (relay.lie if lost else relay.invent)("POST", r"^/v1/messages$", unreachable)
        with pytest.raises(Waiting) as told:
            anna.send([BAS], label=LABEL, body="Meet at nine.\n", **more)
    return told.value.sent.message_id
