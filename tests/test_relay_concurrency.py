"""Many at once: sixty-four clients share commits and nobody pays for a neighbour."""

from __future__ import annotations

import pytest

from forge import Forge, rows
from jobs import cheap_entry, log_one, post_all, together
from logcheck import verify_all_consistent, verify_receipt
from relay.protocol.entry import Change, Event, parse_access_entry, parse_logged_entry
from relay.protocol.envelope import parse_message
from relay.protocol.errors import Malformed, TooLarge, Unknown
from relay.protocol.header import Addressee, AddresseeKind
from relay.store import log as log_rows
from relay.store.log import Log
from relay.store.schema import message

ANNA, JEAN, LUC = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "luc.bas@lo-paris"
CLIENTS, EACH = 64, 4


def test_sixty_four_clients_at_once_leave_one_gapless_history_and_no_bad_request_harms_another(two_offices):
    anna = two_offices.clients[ANNA]
    forge = Forge(anna).prepare(JEAN)
    readers = forge.last_resort(two_offices)
    sound = [forge.seal(readers=readers) for _ in range(CLIENTS * EACH)]
    truncated = sound[0].encoded()[:-7]
    nobody = (Addressee(AddresseeKind.ACTION, LUC),)
    refused = forge.seal(readers=readers, addressees=nobody).encoded()
    bodies = [each.encoded() for each in sound]
    batches = [bodies[at : at + EACH] for at in range(0, len(bodies), EACH)]
    batches[13].insert(1, truncated)
    batches[31].insert(2, refused)
    batches[32].insert(0, batches[33][0])  # two clients post the same message at the same time
    before = rows(two_offices)

    answers = post_all(two_offices, anna, batches)

    assert [answers[13].pop(1).status_code, answers[31].pop(2).status_code] == [400, 403]
    assert answers[32].pop(0).content == answers[33][0].content
    flat = [response for each in answers for response in each]
    assert {response.status_code for response in flat} == {201}
    grown = CLIENTS * EACH
    assert rows(two_offices) == {
        "message": before["message"] + grown,
        "slot": before["slot"] + grown,
        "part": before["part"] + grown,
        "log_entry": before["log_entry"] + grown + 1,
    }
    receipts = [parse_logged_entry(response.content) for response in flat]
    indexes = {receipt.index for receipt in receipts}
    missing = set(range(before["log_entry"], before["log_entry"] + grown + 1)) - indexes
    assert (len(indexes), len(missing)) == (grown, 1)
    assert entry_at(two_offices, missing.pop()).event is Event.REFUSE
    checkpoints = [verify_receipt(two_offices.relay.vkeys, receipt) for receipt in receipts]
    verify_all_consistent(two_offices.url, two_offices.relay.vkeys, checkpoints)
    for submission, receipt in zip(sound, receipts, strict=True):
        entry, posted = parse_access_entry(receipt.entry), parse_message(submission.message)
        assert (entry.event, entry.message_ref, entry.message_id) == (
            Event.ACCEPT,
            posted.ref,
            posted.core.message_id,
        )


def entry_at(world, index):
    with world.relay._readers.connect() as connection:
        return parse_access_entry(log_rows.entry(connection, Log.ACCESS, index))


# -- jobs in one batch --------------------------------------------------------------------------------------------


def blow_up(batch):
    return 1 // 0


def blow_up_half_way(batch):
    batch.log(cheap_entry())
    batch.add(message, {"message_id": b"x"})
    raise Malformed("too late to refuse")


def break_a_constraint(batch):
    batch.add(message, {"message_id": bytes(16)})
    return lambda _committed: None


def refuse(batch):
    raise Unknown("not here")


def answer_badly(batch):
    batch.log(cheap_entry("its answer fails"))
    return lambda _committed: 1 // 0


def swell(batch):
    batch.log(cheap_entry("x" * 70_000))
    return lambda _committed: None


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (blow_up, ZeroDivisionError),
        (blow_up_half_way, RuntimeError),
        (break_a_constraint, Exception),
        (refuse, Unknown),
        (answer_badly, ZeroDivisionError),
        (swell, TooLarge),
    ],
)
def test_a_job_that_goes_wrong_fails_alone(two_offices, bad, error):
    before = rows(two_offices)
    results = together(two_offices.relay, [log_one, log_one, bad, log_one])
    assert isinstance(results.pop(2), error)
    kept = 4 if bad is answer_badly else 3  # that one's work is durable, only its answer could not be made
    assert rows(two_offices) == {**before, "log_entry": before["log_entry"] + kept}
    assert len({logged.index for logged in results}) == 3
    checkpoints = [verify_receipt(two_offices.relay.vkeys, logged) for logged in results]
    verify_all_consistent(two_offices.url, two_offices.relay.vkeys, checkpoints)


def test_a_directory_change_whose_batch_fails_never_was(two_offices):
    relay = two_offices.relay
    size, offices = relay._committer.directory.size, set(relay._committer.directory.offices)

    def remove_and_fail(batch):
        batch.change(Change.OFFICE_REMOVED, b"\x81\x68lo-paris")
        assert "lo-paris" not in batch.directory.offices
        return 1 // 0

    results = together(relay, [remove_and_fail, log_one])
    assert isinstance(results[0], ZeroDivisionError)
    verify_receipt(relay.vkeys, results[1])
    assert (relay._committer.directory.size, set(relay._committer.directory.offices)) == (size, offices)
    assert two_offices.clients[JEAN].inbox() is not None
