"""What stays secret from whom: a thief of yesterday's keys, the relay with all it stores, whoever breaks one half."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey

import liaison.seal
import relay
from liaison import Attachment, Client
from liaison.audit.pull import AuditPull
from liaison.keys import SigningKey, kem_private_key, kem_public_bytes
from liaison.seal import unseal_part, unseal_slot
from relay.logkeys import load_log_keys
from relay.protocol.cose import parse_sign1, protected_header, to_be_signed, verify_sign1
from relay.protocol.envelope import MESSAGE, parse_delivery, parse_message, parse_slot, slot_info
from relay.protocol.errors import Unknown, Unverified
from relay.protocol.identity import Kind
from relay.settings import Settings
from simulator import lying
from world import PASSPHRASE, World, clearance

ANNA, JEAN, LUC = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "luc.bas@lo-paris"
SEALED = "TEST SEALED RELEASABLE TO FRA, POL"
SECRET = "Ferry at dawn."


@pytest.fixture
def anna(two_offices):
    return two_offices.clients[ANNA]


@pytest.fixture
def jean(two_offices):
    return two_offices.clients[JEAN]


# -- forward secrecy --------------------------------------------------------------------------------------------------


def _open_with(profile, delivery, parts):
    """Open captured bytes with every private key that a profile holds: what a thief does, who asks no relay."""
    message = parse_message(delivery.message)
    slot = parse_slot(delivery.slot, message.core)
    for prekey in profile.cabinet.prekeys():
        try:
            keys = unseal_slot(message, slot, prekey.seed, profile.signing.kid)
        except Unverified:
            continue
        return {index: unseal_part(message.core, index, key, parts[index]).text for index, key in keys.items()}
    return None


@contextmanager
def stolen(client, folder):
    """The thief's copy of the whole profile, who knows the passphrase."""
    shutil.copytree(client.profile.folder, folder)
    with Client.open(folder, passphrase=PASSPHRASE) as thief:
        yield thief


def test_keys_stolen_after_reading_do_not_open_the_captured_message(anna, jean, tmp_path):
    sent = anna.send([JEAN], label=SEALED, body=SECRET)
    assert sent.last_resort == ()
    with stolen(jean, tmp_path / "before") as early:
        with lying(jean) as wire:
            assert jean.read(sent.message_id).portions[0].text == SECRET
        (delivery,) = [parse_delivery(answer) for _, path, answer in wire.heard if path.endswith("/open")]
        parts = [answer for _, path, answer in wire.heard if "/parts/" in path]
        # Before the reading, the same theft does open it: the test could fail.
        assert _open_with(early.profile, delivery, parts) == {0: SECRET}
    with stolen(jean, tmp_path / "after") as late:
        assert late.profile.cabinet.prekeys()  # the thief has keys, but not the one
        assert _open_with(late.profile, delivery, parts) is None
        # The officer's own copy of the text is not what forward secrecy is about: say it was deleted.
        for shelf in ("message", "part", "seen"):
            late.profile.cabinet._shelves[shelf].clear()
        with pytest.raises(Unverified, match="gone: it was read before"):
            late.read(sent.message_id)  # the relay even releases the slot again


def test_the_deleted_key_is_not_in_the_profiles_files(anna, jean):
    """Not in the clear, and not under the key that the state key leads to."""
    sent = anna.send([JEAN], label=SEALED, body=SECRET)
    before = {prekey.kp_ref: prekey.seed for prekey in jean.profile.cabinet.prekeys()}
    database = jean.profile.folder / "cabinet.sqlite"
    with closing(sqlite3.connect(database)) as connection:
        boxes_before = {bytes(box) for (box,) in connection.execute("SELECT box FROM prekey")}
    jean.read(sent.message_id)
    (used,) = before.keys() - {prekey.kp_ref for prekey in jean.profile.cabinet.prekeys()}
    raw = database.read_bytes()
    assert before[used] not in raw
    assert not any(box in raw for box in boxes_before)


# -- the canary -------------------------------------------------------------------------------------------------------

CANARIES = {
    "subject": "Canary-subject-7f3a",
    "body": "Canary-body-19c4",
    "paragraph": "Canary-paragraph-55d0",
    "file name": "canary-file-e210.pdf",
    "attachment": "Canary-attachment-0b6e",
}


@contextmanager
def relay_process(folder):
    """`relay serve` as an operator runs it; what it says is collected."""
    program = [sys.executable, "-c", "from relay.cli import main; main()", "serve", "--data", folder, "--port", "0"]
    process = subprocess.Popen([*map(str, program)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = [process.stdout.readline()]
    reader = threading.Thread(target=lambda: said.extend(process.stdout))
    reader.start()
    url = re.search(rb"http://[0-9.:]+", said[0])
    try:
        assert url, said
        yield url[0].decode(), said
    finally:
        process.terminate()
        process.wait(20)
        reader.join(20)
        process.stdout.close()


def test_no_plaintext_no_name_and_no_content_key_is_at_the_relay(tmp_path, monkeypatch):
    keys, honest = [], liaison.seal.seal_part

    def recording(key, context, plaintext):
        keys.append(key)
        return honest(key, context, plaintext)

    monkeypatch.setattr(liaison.seal, "seal_part", recording)
    data = tmp_path / "relay"
    with relay_process(data) as (url, said):
        settings = Settings(data=data)
        name = said[0].split()[-1].decode()
        vkeys = load_log_keys(data / "log-keys.json").vkeys((f"{name}/directory", f"{name}/access"))
        offices = World(tmp_path, settings, SimpleNamespace(vkeys=vkeys), url)
        try:
            _full_run(offices)
        finally:
            offices.close()
        files = {file.name: file.read_bytes() for file in data.rglob("*") if file.is_file()}
        assert {"relay.sqlite", "relay.sqlite-wal"} <= files.keys()
    files |= {f"{file.name} after": file.read_bytes() for file in data.rglob("*") if file.is_file()}
    files["output"] = b"".join(said)
    for client in ("anna", "jean"):
        for file in (tmp_path / client).rglob("*"):
            if file.is_file():
                files[f"{client}/{file.name}"] = file.read_bytes()
    assert len(keys) == 3
    secrets = {what: text.encode() for what, text in CANARIES.items()}
    secrets |= {f"content key {number}": key for number, key in enumerate(keys)}
    found = [
        (what, name)
        for what, secret in secrets.items()
        for name, content in files.items()
        for spelling in (secret, secret.hex().encode(), secret.decode("latin-1").encode("utf-16-le"))
        if spelling in content
    ]
    assert found == []
    # The search finds what is there: addresses are not secret from the relay.
    assert JEAN.encode() in files["relay.sqlite after"] + files["relay.sqlite-wal"]


def _full_run(offices):
    """Send with everything that a message can have; read, acknowledge, deny, audit."""
    offices.office("lo-warsaw", "POL")
    offices.office("lo-paris", "FRA")
    offices.agreement("lo-warsaw", "lo-paris")
    anna = offices.device(ANNA, clearances=[clearance(nations=["POL"])], name="anna")
    jean = offices.device(JEAN, clearances=[clearance(nations=["FRA"])], name="jean")
    luc = offices.device(LUC, clearances=[clearance(levels=["OPEN"], nations=["FRA"])], name="luc")
    auditor = offices.device("audit@lo-paris", clearances=[], kind=Kind.AUDITOR, scope=["lo-paris"], name="audit")
    sent = anna.send(
        [JEAN, LUC],
        label=SEALED,
        subject=CANARIES["subject"],
        body=f"{CANARIES['body']}\n(TEST CLOSED RELEASABLE TO FRA, POL) {CANARIES['paragraph']}\n",
        attachments=[Attachment(CANARIES["file name"], CANARIES["attachment"].encode() * 40)],
    )
    assert [verdict.addressee.address for verdict in sent.refused] == [LUC]
    jean.inbox()
    record = jean.read(sent.message_id)
    assert record.portions[0].name == CANARIES["subject"]
    jean.acknowledge(sent.message_id)
    with pytest.raises(Unknown):
        luc.read(sent.message_id)
    pull = AuditPull(auditor)
    pull.pull()
    shown = b"".join(entry.entry.encoded() for entry in pull.entries() if entry.entry is not None)
    assert shown
    assert not any(canary.encode() in shown for canary in CANARIES.values())


# -- one half broken --------------------------------------------------------------------------------------------------


def _halves(seed):
    expanded = hashlib.shake_256(seed).digest(96)
    return MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])


def _captured(anna, jean):
    sent = anna.send([JEAN], label=SEALED, body=SECRET)
    delivery = parse_delivery(jean.transport.post(f"/v1/messages/{sent.message_id.hex()}/open", b""))
    message = parse_message(delivery.message)
    slot = parse_slot(delivery.slot, message.core)
    info = slot_info(
        message.core, message.core_digest, slot.device_id, jean.profile.signing.kid, slot.granted, slot.protected
    )
    return slot, info, jean.profile.cabinet.prekey(slot.kp_ref)


def test_one_half_of_the_key_encapsulation_opens_nothing(anna, jean):
    slot, info, seed = _captured(anna, jean)
    lattice, curve = _halves(seed)
    sealed = slot.enc + slot.wrapped
    assert len(liaison.seal._HPKE.decrypt(sealed, MLKEM768X25519PrivateKey(lattice, curve), info)) == 32
    for half in (
        MLKEM768X25519PrivateKey(lattice, X25519PrivateKey.generate()),  # ML-KEM broken
        MLKEM768X25519PrivateKey(MLKEM768PrivateKey.generate(), curve),  # X25519 broken, by a quantum computer
        kem_private_key(os.urandom(32)),
    ):
        with pytest.raises(InvalidTag):
            liaison.seal._HPKE.decrypt(sealed, half, info)


def test_a_slot_opens_only_with_everything_that_it_is_bound_to(anna, jean):
    slot, info, seed = _captured(anna, jean)
    key = kem_private_key(seed)
    for place in range(0, len(info), 7):
        changed = info[:place] + bytes([info[place] ^ 1]) + info[place + 1 :]
        with pytest.raises(InvalidTag):
            liaison.seal._HPKE.decrypt(slot.enc + slot.wrapped, key, changed)
    assert len(kem_public_bytes(seed)) == 1216


@pytest.mark.parametrize("known", ["lattice", "curve"])
def test_one_half_of_the_signature_key_forges_nothing(anna, known):
    """The forger has one of Anna's two seeds, and every signature she ever made."""
    own = anna.profile.signing
    seeds = {"lattice": own.seeds[:32] + os.urandom(32), "curve": os.urandom(32) + own.seeds[32:]}
    forger = SigningKey.from_seeds(seeds[known])
    sent = anna.send([JEAN], label=SEALED, body=SECRET)
    honest = parse_sign1(anna.read(sent.message_id).encoded, MESSAGE)
    verify_sign1(honest, own.public)
    payload = honest.payload[:-1] + bytes([honest.payload[-1] ^ 1])
    tbs = to_be_signed(_protected(honest), payload)
    forged = forger.sign(tbs)
    halves = {
        "lattice": (forged, forged[:3309] + honest.signature[3309:]),
        "curve": (forged, honest.signature[:3309] + forged[3309:]),
    }
    for signature in halves[known]:
        with pytest.raises(Unverified):
            own.suite.signature.verify(own.public, tbs, signature)
    own.suite.signature.verify(own.public, tbs, own.sign(tbs))


def _protected(signed):
    return protected_header(signed.alg, signed.kid, MESSAGE)


# -- the import graph -------------------------------------------------------------------------------------------------

CAN_DECRYPT = {
    "AESGCM", "AESGCMSIV", "AESCCM", "AESOCB3", "AESSIV", "ChaCha20Poly1305", "Cipher", "Fernet", "MultiFernet",
    "hpke", "MLKEM768PrivateKey", "MLKEM1024PrivateKey", "X25519PrivateKey", "HKDF", "HKDFExpand", "liaison",
}  # fmt: skip


def _imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (part for alias in node.names for part in alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module or "").split(".")
            yield from (alias.name for alias in node.names)


def test_nothing_in_the_relay_can_decrypt():
    """The demo program plays both sides, and is the only file that may."""
    root = Path(relay.__file__).parent
    files = [path for path in root.rglob("*.py") if path != root / "demo.py"]
    assert len(files) > 50
    found = {
        (str(path.relative_to(root)), name) for path in files for name in CAN_DECRYPT.intersection(_imported(path))
    }
    assert found == set()
    assert {"AESGCM"} <= set(_imported(root.parent / "clients" / "liaison" / "cobblestone.py"))
