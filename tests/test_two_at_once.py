"""Two processes of one profile at the same time: they send, read, and learn of the same entry."""

from __future__ import annotations

import threading

from acts import waiting
from liaison import Client
from liaison.record import IN
from simulator import lying
from world import PASSPHRASE, TEST_SPIF

JEAN = "jean.petit@lo-paris"
SEALED = "TEST SEALED RELEASABLE TO FRA, POL"
SECRET = "Ferry at dawn."


def together(*jobs):
    """Run the jobs at the same time; raise what any of them raised."""
    problems = []

    def run(job):
        try:
            job()
        except BaseException as problem:  # noqa: BLE001 - it is raised again in the test's own thread
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    if problems:
        raise problems[0]


def meeting(at, change=lambda answer: answer):
    """A lie that is none: it only waits until both have come this far."""

    def meet(answer):
        at.wait(20)
        return change(answer)

    return meet


class InItsThread:
    """A client of its own for a thread: a database connection stays with the thread that made it."""

    def __init__(self, folder, job):
        self.folder, self.job = folder, job

    def __call__(self):
        with Client.open(self.folder, passphrase=PASSPHRASE) as client:
            self.job(client)


def test_two_processes_that_send_at_once_make_one_chain(two_offices, anna):
    _, last = anna.profile.cabinet.chain()
    before = {message_id for message_id, _ in anna.records()}

    def send(client):
        for _ in range(3):
            client.send([JEAN], label=SEALED, body=SECRET)

    together(*[InItsThread(anna.profile.folder, send)] * 2)
    cores = sorted(
        (record.message for message_id, record in anna.records() if message_id not in before),
        key=lambda each: each.core.seq,
    )
    assert len(cores) == 6
    for each in cores:
        assert each.core.prev == last
        last = each.ref
    assert waiting(anna) == []


def test_two_processes_that_read_the_same_message_at_once_both_get_it(anna, jean):
    sent = anna.send([JEAN], label=SEALED, body=SECRET)
    at, texts = threading.Barrier(2), []

    def read(client):
        with lying(client) as relay:
            relay.lie("GET", r"/parts/", meeting(at))
            texts.append(client.read(sent.message_id).portions[0].text)

    together(*[InItsThread(jean.profile.folder, read)] * 2)
    assert texts == [SECRET, SECRET]
    assert [record.direction for kept, record in jean.records() if kept == sent.message_id] == [IN]


def test_two_processes_that_learn_of_a_new_entry_at_once_agree(two_offices, jean):
    two_offices.authorities["lo-paris"].publish_policy(TEST_SPIF)
    at = threading.Barrier(2)

    def sync(client):
        with lying(client) as relay:
            relay.lie("GET", r"^/v1/directory", first_only(meeting(at)))
            client.sync()

    together(*[InItsThread(jean.profile.folder, sync)] * 2)
    jean.sync()
    assert jean.profile.cabinet.alarms() == []
    assert jean.trust.directory.size == two_offices.relay.judge().directory.size


def first_only(answer):
    told = []

    def once(honest):
        if told:
            return honest
        told.append(True)
        return answer(honest)

    return once
