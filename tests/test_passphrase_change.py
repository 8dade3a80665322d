"""liaison passphrase: the new one opens the profile and everything in it, the old one does not."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from acts import run
from liaison.cli import main
from liaison.client import Client
from relay.protocol.errors import Unauthenticated
from test_passphrase import descriptor
from world import PASSPHRASE

ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-paris"
NEW = "three new words"


def changed(profile, new: bytes, *options: str):
    return run(profile, "passphrase", "--new-passphrase-fd", str(descriptor(new)), *options)


def with_command(profile, command: str, *options: str):
    told = {"LIAISON_HOME": str(profile.profile.folder), "LIAISON_PASSPHRASE_COMMAND": command}
    return CliRunner().invoke(main, ["--no-input", "passphrase", *options], env=told)


def test_a_device_goes_on_under_its_new_passphrase_and_its_mail_is_still_there(two_offices):
    reader = two_offices.device(JEAN, name="changes-its-passphrase")
    first = two_offices.clients[ANNA].send([JEAN], label="TEST OPEN", body="Ferry at nine.").message_id
    reader.sync()
    reader.read(first)
    result = changed(reader, NEW.encode() + b"\n", "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (0, {"v": 1, "address": JEAN, "changed": True})
    assert "older copies of this folder still open with the old one" in result.stderr
    with pytest.raises(Unauthenticated, match="wrong passphrase"):
        Client.open(reader.profile.folder, passphrase=PASSPHRASE)
    with Client.open(reader.profile.folder, passphrase=NEW) as again:
        assert again.profile.cabinet.message(first) is not None
        assert again.inbox() is not None


def test_an_authority_changes_its_own_without_the_relay(two_offices, monkeypatch):
    monkeypatch.setattr("httpx2.Client", lambda *_, **__: pytest.fail("the relay was asked"))
    authority = two_offices.authorities["lo-paris"]
    assert changed(authority, NEW.encode()).exit_code == 0
    back = with_command(authority, f"printf '{NEW}'", "--new-passphrase-fd", str(descriptor(PASSPHRASE.encode())))
    assert back.exit_code == 0, back.output


@pytest.mark.parametrize(
    ("new", "said"), [(b"short", "at least 8 are needed"), (b"", "give --new-passphrase-fd N"), (None, "--no-input")]
)
def test_nothing_is_changed_where_the_new_one_will_not_do(two_offices, new, said):
    device = two_offices.clients[ANNA]
    before = (device.profile.folder / "vault").read_bytes()
    result = run(device, "passphrase") if new is None else changed(device, new)
    assert result.exit_code == 4
    assert said in result.stderr
    assert (device.profile.folder / "vault").read_bytes() == before


def test_who_does_not_know_the_old_one_changes_nothing(two_offices):
    device = two_offices.clients[ANNA]
    before = (device.profile.folder / "vault").read_bytes()
    result = with_command(device, "printf 'not this one'")
    assert (result.exit_code, "wrong passphrase" in result.stderr) == (4, True)
    assert (device.profile.folder / "vault").read_bytes() == before
