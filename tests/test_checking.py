"""Signatures checked many at a time, in a process beside the relay's: the same verdicts, whatever becomes of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Pipe

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from liaison.keys import SigningKey
from relay.pipeline.checking import check_together, in_place
from relay.pipeline.verifier import Verifier
from relay.protocol.claim import ED25519, Claim, settle
from relay.protocol.cose import check_sign1, parse_sign1
from relay.protocol.envelope import RECEIPT
from relay.protocol.errors import Malformed, Unverified

KEY, DEVICE = Ed25519PrivateKey.generate(), SigningKey.generate()


def request_claim(number):
    message = b"request %d" % number
    return Claim(ED25519, KEY.public_key().public_bytes_raw(), message, KEY.sign(message))


def message_claim(payload):
    signed = parse_sign1(DEVICE.sign_object(RECEIPT, payload), RECEIPT)
    return Claim(signed.alg, DEVICE.public, signed.to_be_signed, signed.signature)


CLAIMS = [*map(request_claim, range(6)), message_claim(b"a"), message_claim(b"b")]
FALSE = [
    CLAIMS[0]._replace(message=b"another"),
    CLAIMS[1]._replace(signature=CLAIMS[2].signature),
    CLAIMS[2]._replace(public=bytes(32)),
    CLAIMS[3]._replace(public=b"no key"),
    CLAIMS[6]._replace(message=b"another"),
    CLAIMS[6]._replace(signature=CLAIMS[7].signature),
    CLAIMS[6]._replace(signature=CLAIMS[6].signature[:-1]),
    CLAIMS[6]._replace(signature=CLAIMS[6].signature[:-64] + CLAIMS[7].signature[-64:]),
    CLAIMS[6]._replace(signature=CLAIMS[7].signature[:-64] + CLAIMS[6].signature[-64:]),
    CLAIMS[6]._replace(alg=ED25519),
    CLAIMS[0]._replace(alg=0),
]


@pytest.fixture
def verifier():
    ready = Verifier()
    while not ready._is_ready():
        time.sleep(0.01)
    yield ready
    ready.close()


def faults_of(verifier, claims):
    verifier.ask(claims)
    return verifier.answer()


def asked_elsewhere(verifier, claims, monkeypatch):
    """The verdicts, none of which can have been found in this process."""
    with monkeypatch.context() as patched:
        patched.setattr(Claim, "fault", lambda _claim: pytest.fail("verified here"))
        return faults_of(verifier, claims)


def test_what_holds_holds_there_and_what_does_not_does_not(verifier, monkeypatch):
    mixed = [each for pair in zip(CLAIMS + CLAIMS, FALSE, strict=False) for each in pair]
    faults = asked_elsewhere(verifier, mixed, monkeypatch)
    assert faults == [claim.fault() for claim in mixed]
    assert [fault is None for fault in faults] == [True, False] * len(FALSE)


def test_few_claims_do_not_leave_this_process(monkeypatch):
    monkeypatch.setattr("relay.pipeline.verifier._start", lambda: pytest.fail("a process for one claim"))
    assert faults_of(Verifier(), CLAIMS[:1]) == [None]
    assert faults_of(Verifier(), FALSE[:1]) == ["the signature does not verify"]


def test_what_lies_in_the_folder_of_the_start_is_not_run(tmp_path, monkeypatch, request):
    (tmp_path / "relay").mkdir()
    (tmp_path / "relay" / "__init__.py").write_text("open('run', 'w')")
    monkeypatch.chdir(tmp_path)
    request.getfixturevalue("verifier")
    assert not (tmp_path / "run").exists()


def test_a_process_that_is_killed_costs_time_and_no_verdict(verifier, monkeypatch):
    monkeypatch.setattr("relay.pipeline.verifier._PAUSE", 0.0)
    os.kill(verifier._process.pid, signal.SIGKILL)
    assert faults_of(verifier, CLAIMS + FALSE) == [claim.fault() for claim in CLAIMS + FALSE]
    while not verifier._is_ready():
        time.sleep(0.01)
    assert asked_elsewhere(verifier, CLAIMS, monkeypatch) == [None] * len(CLAIMS)


def test_a_process_that_hangs_is_one_that_has_failed(monkeypatch):
    monkeypatch.setattr("relay.pipeline.verifier._PATIENCE", 1)
    hanging = Verifier()
    while not hanging._is_ready():
        time.sleep(0.01)
    os.kill(hanging._process.pid, signal.SIGSTOP)
    many = CLAIMS * 30  # more than the line holds: neither sending nor waiting for the answer lasts
    assert faults_of(hanging, many) == [None] * len(many)
    assert hanging._process is None
    hanging.close()


def test_where_no_process_can_be_started_the_verdicts_are_the_same_and_it_is_not_tried_for_each_batch(monkeypatch):
    tried = []

    def no_more_processes(*_given, **_named):
        tried.append(1)
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("relay.pipeline.verifier.subprocess.Popen", no_more_processes)
    verifier = Verifier()
    for _ in range(3):
        assert faults_of(verifier, CLAIMS + FALSE) == [claim.fault() for claim in CLAIMS + FALSE]
    assert tried == [1]


def test_who_asks_again_before_the_answer_is_answered_in_order_also_if_the_process_dies_between(verifier):
    verifier.ask(CLAIMS)
    verifier.ask(CLAIMS[:1])
    verifier.ask(FALSE)
    assert verifier.answer() == [None] * len(CLAIMS)
    os.kill(verifier._process.pid, signal.SIGKILL)
    verifier.ask(FALSE + CLAIMS)
    assert verifier.answer() == [None]
    assert verifier.answer() == [claim.fault() for claim in FALSE]
    assert verifier.answer() == [claim.fault() for claim in FALSE + CLAIMS]


@pytest.mark.parametrize("answer", [cbor2.dumps([None]), cbor2.dumps(None), b"\xff", b""])
def test_an_answer_that_is_not_one_per_claim_is_not_believed(verifier, answer):
    ours, theirs = Pipe()
    verifier._line.close()
    verifier._line = ours
    thread = threading.Thread(target=lambda: (theirs.recv_bytes(), theirs.send_bytes(answer)))
    thread.start()
    assert faults_of(verifier, FALSE) == [claim.fault() for claim in FALSE]
    thread.join()


def test_the_process_ends_with_the_relay_even_if_that_is_killed():
    script = (
        "import time; from relay.pipeline.verifier import Verifier; v = Verifier()\n"
        "while not v._is_ready(): time.sleep(0.01)\n"
        "print(v._process.pid, flush=True); time.sleep(60)"
    )
    relay = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    pid = int(relay.stdout.readline())
    os.kill(pid, signal.SIGTERM)  # what is sent to the whole group does not stop it before its relay
    os.kill(pid, signal.SIGINT)
    time.sleep(0.2)
    os.kill(pid, 0)
    relay.kill()
    relay.communicate()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    pytest.fail("it outlived its relay")


# -- many checks together ---------------------------------------------------------------------------------------------


def checking(claim, *more):
    for each in (claim, *more):
        if (fault := (yield each)) is not None:
            raise Unverified(fault)
    return len(more) + 1


def check_all(checks):
    """What became of them, and how many signatures each round waited for."""
    together, faults, rounds = check_together(checks), None, []
    while True:
        try:
            claims = together.send(faults)
        except StopIteration as end:
            return end.value, rounds
        rounds.append(len(claims))
        faults = [claim.fault() for claim in claims]


def test_checks_go_claim_by_claim_all_at_once_and_one_that_fails_fails_alone():
    checks = [checking(*CLAIMS[:2]), checking(FALSE[0], CLAIMS[0]), checking(CLAIMS[0]), checking(CLAIMS[0], FALSE[0])]
    (first, second, third, fourth), rounds = check_all(checks)
    assert (first, third) == (2, 1)
    assert isinstance(second, Unverified)
    assert isinstance(fourth, Unverified)
    assert rounds == [4, 2]


def test_a_check_that_needs_no_claim_or_raises_at_once_is_answered_too():
    def malformed():
        raise Malformed("no")

    (made, refused, checked), _ = check_all([in_place(lambda: 7), in_place(malformed), checking(CLAIMS[0])])
    assert (made, checked) == (7, 1)
    assert isinstance(refused, Malformed)


def test_a_check_in_place_says_the_same():
    assert settle(checking(*CLAIMS[:3])) == 3
    with pytest.raises(Unverified):
        settle(checking(CLAIMS[0], FALSE[1]))
    signed = parse_sign1(DEVICE.sign_object(RECEIPT, b"a"), RECEIPT)
    with pytest.raises(Unverified, match="another key"):
        settle(check_sign1(signed, SigningKey.generate().public))
