"""Being a witness: the same table over real HTTP for `liaison witness serve` and for a relay that is one.

A witness that is killed between its check and its answer has signed nothing that it does not remember.
"""

from __future__ import annotations

import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from liaison.witness import Witness
from relay.house import open_relay, witness_keys
from relay.protocol.errors import LiaisonError, Malformed
from relay.protocol.note import parse_note, verify_note
from relay.protocol.tlog import parse_checkpoint_body
from relay.protocol.witness import format_add_checkpoint, parse_add_checkpoint
from relay.settings import Settings
from witnesses import OtherLog, WitnessProcess, fresh_keys
from world import serving


class RelayAsWitness:
    def __init__(self, url, keys):
        self.url, self.keys = url, keys

    def ask(self, body):
        return httpx2.post(self.url + "/add-checkpoint", content=body)


LOGS = {f"log.example/{word}": OtherLog(f"log.example/{word}") for word in map(str, range(40))}


@pytest.fixture(scope="module", params=["liaison witness serve", "relay serve"])
def witness(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("witness")
    vkeys = "".join(log.vkeys for log in LOGS.values())
    if request.param == "relay serve":
        (folder / "logs").write_text(vkeys)
        settings = Settings(data=folder / "relay", witness_logs=folder / "logs")
        with serving(settings) as (relay, url):
            yield RelayAsWitness(url, witness_keys(settings, relay.name))
    else:
        process = WitnessProcess(folder / "w", vkeys).start()
        yield process
        process.kill()


@pytest.fixture
def log(witness):
    """A log of eight entries that this witness has never heard of."""
    used = witness.__dict__.setdefault("used", iter(LOGS.values()))
    return OtherLog((known := next(used)).origin, known.keys).grow(8)


def verify_cosigned(witness, log, answer, size=None):
    """The answer is one line for each key of the witness, over exactly this checkpoint."""
    assert answer.status_code == 200, (answer.status_code, answer.text)
    note = log.checkpoint(size) + answer.content
    text = verify_note(note, witness.keys.verifiers())
    assert len(answer.text.splitlines()) == 2
    return parse_checkpoint_body(text)


def test_a_first_checkpoint_is_cosigned_with_both_keys(witness, log):
    found = verify_cosigned(witness, log, witness.ask(log.asking(0)))
    assert (found.origin, found.size, found.root) == (log.origin, 8, log.tree.root())


def test_a_log_that_grew_is_cosigned_again(witness, log):
    for old, new in [(0, 3), (3, 3), (3, 4), (4, 7), (7, 8)]:
        verify_cosigned(witness, log, witness.ask(log.asking(old, new)), new)


@pytest.mark.parametrize("old", [0, 2, 7])
def test_another_old_size_is_a_conflict_that_tells_the_right_one(witness, log, old):
    verify_cosigned(witness, log, witness.ask(log.asking(0, 5)), 5)
    answer = witness.ask(log.asking(old))
    assert (answer.status_code, answer.text) == (409, "5\n")
    assert answer.headers["content-type"] == "text/x.tlog.size"
    verify_cosigned(witness, log, witness.ask(log.asking(5)))


def test_another_tree_of_the_same_size_is_a_conflict(witness, log):
    fork = log.fork()
    log.grow(2), fork.grow(2, "other")
    verify_cosigned(witness, log, witness.ask(log.asking(0)))
    assert witness.ask(fork.asking(10)).status_code == 409
    assert witness.ask(fork.asking(0)).status_code == 409


def test_a_fork_that_grew_past_the_last_tree_is_unprocessable(witness, log):
    fork = log.fork()
    log.grow(2), fork.grow(5, "other")
    verify_cosigned(witness, log, witness.ask(log.asking(0)))
    assert witness.ask(fork.asking(10)).status_code == 422
    verify_cosigned(witness, log, witness.ask(log.asking(10)))


def test_a_smaller_tree_is_never_cosigned_after_a_larger(witness, log):
    verify_cosigned(witness, log, witness.ask(log.asking(0)))
    assert witness.ask(log.asking(8, 8)).status_code == 200
    assert witness.ask(log.asking(5, 5)).text == "8\n"
    assert witness.ask(format_add_checkpoint(8, [], log.checkpoint(5))).status_code == 400


def test_a_proof_with_an_old_size_of_zero_is_unprocessable(witness, log):
    assert witness.ask(format_add_checkpoint(0, [bytes(32)], log.checkpoint())).status_code == 422


def test_an_unknown_log_is_not_found_and_keys_of_others_are_forbidden(witness, log):
    assert witness.ask(OtherLog("nobody.example/log").grow(1).asking(0)).status_code == 404
    assert witness.ask(format_add_checkpoint(0, [], log.checkpoint(keys=fresh_keys()))).status_code == 403


def test_one_kind_of_signature_is_not_enough(witness, log):
    text, lines = log.checkpoint().decode().split("\n\n")
    ed, pq = lines.splitlines()
    for alone in (ed, pq):
        asked = format_add_checkpoint(0, [], f"{text}\n\n{alone}\n".encode())
        assert witness.ask(asked).status_code == 403
    both = format_add_checkpoint(0, [], f"{text}\n\n{ed}\n{pq}\n— else.example AAAAAAAA\n".encode())
    assert witness.ask(both).status_code == 200


BAD_BODIES = {
    "nothing": b"",
    "no empty line": b"old 0\n",
    "another first line": b"size 0\n\n",
    "a leading zero": b"old 00\n\n",
    "a sign": b"old +1\n\n",
    "beyond 63 bits": b"old 9223372036854775808\n\n",
    "a hash too short": b"old 1\nAAAA\n\n",
    "not base64": b"old 1\n!\n\n",
    "64 hashes": b"old 1\n" + b"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n" * 64 + b"\n",
    "no checkpoint": b"old 0\n\nnothing\n",
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES)
def test_what_is_not_the_format_is_a_bad_request(witness, log, body):
    content = body + (log.checkpoint() if body.endswith(b"\n\n") else b"")
    assert witness.ask(content).status_code == 400
    with pytest.raises(Malformed):
        parse_note(parse_add_checkpoint(content).note)


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(witness):
    assert witness.ask(b"old 0\n" + bytes(5 << 20)).status_code == 413


def test_of_two_histories_asked_for_at_once_one_is_cosigned(witness, log):
    verify_cosigned(witness, log, witness.ask(log.asking(0)))
    forks = [log.fork().grow(1 + number % 3, f"history {number}") for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda fork: witness.ask(fork.asking(8)), forks))
    assert [answer.status_code for answer in answers].count(200) == 1
    assert {answer.status_code for answer in answers} <= {200, 409}


# From the text of C2SP tlog-witness, octet for octet.
EXAMPLE = """old 20852014
PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=
jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=
5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=
/6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=

example.com/behind-the-sofa
20852163
CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=

— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=
— example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=
""".encode()


def test_the_example_of_the_specification_is_read_and_written_back():
    asked = parse_add_checkpoint(EXAMPLE)
    assert (asked.old_size, len(asked.proof)) == (20852014, 4)
    assert parse_checkpoint_body(parse_note(asked.note).text).size == 20852163
    assert format_add_checkpoint(asked.old_size, asked.proof, asked.note) == EXAMPLE


# -- what only a process and a folder can show ------------------------------------------------------------------------


@pytest.fixture
def one(tmp_path):
    log = OtherLog().grow(4)
    process = WitnessProcess(tmp_path / "w", log.vkeys).start()
    yield process, log
    process.kill()


def dying(place: str) -> list[object]:
    """The program, that kills itself with -9 where `place` is called."""
    module, _, name = place.rpartition(".")
    owner, _, method = module.rpartition(".")
    code = (
        f"import os, sys, {owner} as there\nthere.{method}.{name} = lambda *_: os.kill(os.getpid(), 9)\n"
        if method[0].isupper()
        else f"import os, sys, {module} as there\nthere.{name} = lambda *_: os.kill(os.getpid(), 9)\n"
    )
    return [sys.executable, "-c", code + "from liaison.cli import main\nsys.argv[0] = 'liaison'\nmain()\n"]


def test_killed_before_its_answer_it_remembers_what_it_was_about_to_sign(one):
    process, log = one
    fork = log.fork()
    assert process.ask(log.asking(0)).status_code == 200
    log.grow(3), fork.grow(3, "other")
    process.kill()
    process.start(*dying("relay.protocol.witness.WitnessKeys.cosign"))
    with pytest.raises(httpx2.HTTPError):
        process.ask(log.asking(4))
    process.kill()
    process.start()
    assert process.ask(fork.asking(4)).text == "7\n"  # the other history comes too late, by any way
    assert process.ask(fork.asking(7)).status_code == 409
    verify_cosigned(process, log, process.ask(log.asking(7)))


def test_killed_before_it_remembered_it_has_signed_nothing(one):
    process, log = one
    assert process.ask(log.asking(0)).status_code == 200
    log.grow(3)
    process.kill()
    process.start(*dying("liaison.witness.replace_private"))
    with pytest.raises(httpx2.HTTPError):
        process.ask(log.asking(4))
    process.kill()
    process.start()
    assert process.ask(log.asking(7, 7)).text == "4\n"
    verify_cosigned(process, log, process.ask(log.asking(4)))


def test_killed_again_and_again_between_two_histories_it_signs_one(one):
    process, log = one
    assert process.ask(log.asking(0)).status_code == 200
    histories, signed, chance = [log, log.fork()], {}, random.Random(1)

    def ask(number):
        history = histories[number]
        history.grow(1, f"history {number}")
        for old in range(4, history.tree.size):
            try:
                if process.ask(history.asking(old)).status_code == 200:
                    signed.setdefault(number, []).append(history.tree.size)
            except httpx2.HTTPError:
                return

    for _ in range(8):
        askers = [threading.Thread(target=ask, args=(number,)) for number in (0, 1)]
        for asker in askers:
            asker.start()
        threading.Event().wait(chance.random() / 50)
        process.kill()
        for asker in askers:
            asker.join()
        process.start()
    ask(0), ask(1)
    assert len(signed) == 1, signed


def test_what_a_log_signed_and_should_not_have_is_kept(one):
    process, log = one
    fork = log.fork()
    log.grow(1), fork.grow(2, "other")
    assert process.ask(log.asking(0)).status_code == 200
    assert not (process.folder / "refused").exists()
    assert process.ask(fork.asking(5)).status_code == 422
    (kept,) = (process.folder / "refused").iterdir()
    assert parse_checkpoint_body(parse_note(kept.read_bytes()).text).root == fork.tree.root()


@pytest.mark.parametrize("damage", ["lost", "cut"])
def test_without_its_memory_a_witness_does_not_start(one, damage):
    process, log = one
    assert process.ask(log.asking(0)).status_code == 200
    memory = process.folder / "witnessed.json"
    memory.unlink() if damage == "lost" else memory.write_bytes(memory.read_bytes()[:-3])
    assert process.ask(log.asking(4)).status_code == 500
    with pytest.raises(LiaisonError):
        Witness.open(process.folder)


def test_a_relay_is_no_witness_of_its_own_logs(tmp_path):
    relay = open_relay(Settings(data=tmp_path / "relay"))
    (tmp_path / "logs").write_text("\n".join(relay.vkeys))
    relay.close()
    with pytest.raises(LiaisonError, match="its own logs"):
        open_relay(Settings(data=tmp_path / "relay", witness_logs=tmp_path / "logs"))
