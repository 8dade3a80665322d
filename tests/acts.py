"""What several tests of the rules do: look at a screen, see that a reader gets nothing, have a relay with no rules."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

import relay.core.accept
import relay.core.open
from liaison.audit.pull import AuditPull
from liaison.audit.pulled import PulledEntry
from liaison.authority import Authority
from liaison.cli import main
from liaison.client import Client
from relay.protocol.agreement import Agreement, Party
from relay.protocol.envelope import Slot, parse_message, parse_slot
from relay.protocol.errors import Refused, Unknown, Unverified
from relay.protocol.identity import parse_statement
from relay.store.schema import message, slot
from world import LEVELS, PASSPHRASE, POLICY_NAME, POLICY_OID, World


def run(client: Client | Authority, *words: str, body: str | bytes = "") -> Result:
    """A `liaison` command with this person's profile."""
    secret = client.profile.folder / "passphrase"
    secret.write_text(PASSPHRASE)
    secret.chmod(0o600)
    told = {"LIAISON_HOME": str(client.profile.folder), "LIAISON_PASSPHRASE_FILE": str(secret)}
    return CliRunner().invoke(main, ["--no-input", *words], input=body, env=told)


def screen(client: Client, *words: str, body: str = "") -> list[str]:
    """The lines on standard output of a command that succeeds."""
    result = run(client, *words, body=body)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def as_json(client: Client, *words: str, body: str = "") -> dict:
    (line,) = screen(client, *words, "--json", body=body)
    return json.loads(line)


def waiting(client: Client) -> list[bytes]:
    """The ids of the messages in the outbox, oldest first."""
    return [message_id for message_id, _ in client.profile.cabinet.outbox()]


def pulled(auditor: Client) -> list[PulledEntry]:
    """The access log as this auditor has it after a pull."""
    pull = AuditPull(auditor)
    pull.pull()
    return list(pull.entries())


def warnings(client: Client) -> list[str]:
    """What this profile warns of, oldest first."""
    return [warning.text for warning in client.profile.cabinet.warnings()]


def gets_nothing(client: Client, message_id: bytes) -> bool:
    """It is not in the inbox, not to be had, and the refusal is the one that everybody gets."""
    assert message_id not in {item.message_id for item in client.inbox()}
    with pytest.raises(Unknown, match="no such message is available"):
        client.read(message_id)
    assert client.profile.cabinet.message(message_id) is None
    return True


def refuses(client: Client, message_id: bytes, *rules: str) -> bool:
    """The reader, handed everything, keeps nothing of it, for these rules; for none, because a signature is wrong."""
    with pytest.raises(Refused if rules else Unverified) as told:
        client.read(message_id)
    if rules:
        assert told.value.rules == rules
    assert client.profile.cabinet.message(message_id) is None
    return True


@contextmanager
def no_rules_at_the_relay() -> Iterator[None]:
    """The relay accepts and hands out whatever is well-formed and signed: the reader is on its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relay.core.accept, "_failing", lambda *_, **__: ())
        patch.setattr(relay.core.open, "failing", lambda *_: ())
        yield


def slots_of(world: World, message_id: bytes) -> dict[bytes, Slot]:
    """The slots of a message as the relay holds them, by device."""
    with world.relay._readers.connect() as connection:
        core = parse_message(stored_message(world, message_id)).core
        rows = connection.execute(select(slot.c.device_id, slot.c.encoded).where(slot.c.message_id == message_id))
        return {bytes(row.device_id): parse_slot(bytes(row.encoded), core) for row in rows}


def stored_message(world: World, message_id: bytes) -> bytes:
    with world.relay._readers.connect() as connection:
        return bytes(connection.scalar(select(message.c.encoded).where(message.c.message_id == message_id)))


def drafted(world: World, *offices: str, **terms: object) -> Agreement:
    """An agreement between these offices that nobody has signed; `terms` are its fields."""
    now, stated = int(time.time()), {office: parse_statement(world.statements[office]) for office in offices}
    fields = {
        "title": " and ".join(offices),
        "parties": tuple(Party(office, stated[office].nation, stated[office].kid) for office in sorted(offices)),
        "policy_name": POLICY_NAME,
        "policy_oid": POLICY_OID,
        "classifications": tuple(sorted(LEVELS)),
        "categories": (),
        "communities": (),
        "purposes": (),
        "onward_release": False,
        "not_before": now - 60,
        "not_after": now + 86400,
        "nonce": os.urandom(16),
    }
    return Agreement(**{**fields, **terms})


def sign(world: World, agreement: Agreement, *offices: str) -> None:
    for office in offices:
        world.authorities[office].sync()
        world.authorities[office].sign_agreement(agreement)


def agree(world: World, *offices: str, **terms: object) -> Agreement:
    """The same, signed by all of them."""
    agreement = drafted(world, *offices, **terms)
    sign(world, agreement, *offices)
    return agreement
