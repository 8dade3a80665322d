"""Watching the directory: what its owner did not do is a warning with every command until it was looked into."""

from __future__ import annotations

import shutil

import pytest

from acts import as_json, run, screen, warnings
from liaison.authority import Authority
from liaison.home.founding import found_authority
from liaison.stock import refill
from relay.core.register import register_office, remove_office
from relay.house import commit_alone
from relay.protocol.canonical import encode
from relay.protocol.errors import Unknown
from relay.protocol.identity import Kind
from simulator import double
from world import PASSPHRASE, clearance, world

ANNA, EWA = "anna.nowak@lo-warsaw", "ewa.lis@lo-warsaw"
LABEL = "TEST OPEN RELEASABLE TO POL"


@pytest.fixture
def warsaw(tmp_path):
    with world(tmp_path) as built:
        built.office("lo-warsaw", "POL")
        built.device(ANNA, clearances=[clearance(nations=["POL"])])
        yield built


def test_what_one_did_oneself_is_no_warning(warsaw):
    anna, authority = warsaw.clients[ANNA], warsaw.authorities["lo-warsaw"]
    ewa = warsaw.device(EWA, clearances=[clearance(nations=["POL"])], roles=["duty"])
    anna.transport.post("/v1/keys/claim", encode([anna.profile.signing.device_id]))
    assert refill(anna.profile, anna.transport, force=True) > 0
    ewa.read(anna.send([EWA], label=LABEL, body="All quiet.").message_id)
    authority.revoke(EWA, "left")
    anna.sync()
    authority.sync()
    assert warnings(anna) == warnings(ewa) == warnings(authority) == []


def test_another_device_under_ones_address_is_a_warning_that_says_what_it_may(warsaw):
    anna = warsaw.clients[ANNA]
    more = clearance(levels=["SEALED"], codewords=["AMBER"], nations=["FRA", "POL"])
    warsaw.device(ANNA, clearances=[more], roles=["duty"], name="another device")
    anna.sync()
    (warning,) = warnings(anna)
    assert "another device is certified for anna.nowak@lo-warsaw, with other roles or clearances" in warning
    assert all(word in warning for word in ("duty", "officer", "SEALED (Codeword AMBER; Releasable To FRA, POL)"))


def test_the_same_rights_on_another_device_are_a_warning_too(warsaw):
    anna = warsaw.clients[ANNA]
    rights = list(anna.trust.directory.devices[anna.profile.signing.device_id].certificate.clearances)
    warsaw.device(ANNA, clearances=rights, name="another device")
    anna.sync()
    (warning,) = warnings(anna)
    assert "another device" in warning
    assert "other roles" not in warning


def test_a_new_device_is_told_of_those_there_are_and_not_of_those_revoked(warsaw):
    authority = warsaw.authorities["lo-warsaw"]
    warsaw.device(ANNA, name="lost")
    authority.revoke(warsaw.clients["lost"].profile.keyid, "lost")
    new = warsaw.device(ANNA, name="new")
    (warning,) = warnings(new)
    assert warsaw.clients[ANNA].profile.keyid in warning


def test_a_batch_of_keys_that_this_device_did_not_make_is_a_warning(warsaw, tmp_path):
    """A thief of the device's keys publishes key packages of his own, to read what is sent to it."""
    anna = warsaw.clients[ANNA]
    with double(anna, tmp_path / "thief") as thief:
        anna.transport.post("/v1/keys/claim", encode([anna.profile.signing.device_id]))
        assert refill(thief.profile, thief.transport, force=True) > 0
        thief.sync()
        assert warnings(thief) == []
    anna.sync()
    (warning,) = warnings(anna)
    assert "a batch of keys for this device that it did not make" in warning


def test_a_revocation_of_another_device_of_ones_own_is_a_warning(warsaw):
    anna = warsaw.clients[ANNA]
    warsaw.device(ANNA, name="tablet")
    warsaw.authorities["lo-warsaw"].revoke(warsaw.clients["tablet"].profile.keyid, "stolen")
    anna.sync()
    assert any("another device of anna.nowak@lo-warsaw was revoked: stolen" in text for text in warnings(anna))


@pytest.mark.parametrize("what", ["certificate", "revocation"])
def test_an_authority_is_told_of_what_its_key_signed_elsewhere(warsaw, tmp_path, what):
    """A thief of the authority's profile certifies a device of his own, or revokes one."""
    authority = warsaw.authorities["lo-warsaw"]
    with double_authority(authority, tmp_path / "thief") as thief:
        warsaw.authorities["lo-warsaw"] = thief
        if what == "certificate":
            warsaw.device("ghost@lo-warsaw", kind=Kind.SYSTEM)
        else:
            thief.revoke(ANNA, "in the way")
        assert warnings(thief) == []
    warsaw.authorities["lo-warsaw"] = authority
    authority.sync()
    (warning,) = warnings(authority)
    expected = {
        "certificate": "ghost@lo-warsaw that was not issued here",
        "revocation": "a revocation with this authority's",
    }
    assert expected[what] in warning


def double_authority(authority, folder):
    shutil.copytree(authority.profile.folder, folder)
    return Authority.open(folder, passphrase=PASSPHRASE)


def test_an_office_removed_and_admitted_under_another_key_is_a_warning(warsaw):
    """The operator puts an authority of his own in the office's place: nobody of the office is deceived silently."""
    anna = warsaw.clients[ANNA]
    commit_alone(warsaw.settings, lambda batch: remove_office(batch, "lo-warsaw"))
    folder = warsaw.folder / "usurper"
    false = found_authority(folder, "lo-warsaw", "POL", warsaw.url, warsaw.relay.vkeys, PASSPHRASE)
    commit_alone(warsaw.settings, lambda batch: register_office(batch, false))
    with Authority.open(folder, passphrase=PASSPHRASE) as usurper:
        # The relay answers Anna no more; what it answers others reaches her all the same.
        anna.trust.sync(usurper.transport)
    assert [text.partition(": ")[2] for text in warnings(anna)] == [
        "the operator removed lo-warsaw",
        "lo-warsaw is registered under another authority's key",
    ]


def test_a_warning_stays_with_every_command_until_it_is_resolved(warsaw):
    anna = warsaw.clients[ANNA]
    warsaw.device(ANNA, name="another device")
    anna.sync()
    (found,) = anna.profile.cabinet.warnings()
    for _ in range(2):
        told = run(anna, "inbox")
        assert told.exit_code == 0  # it stops nothing
        assert f"liaison: warning: directory entry {found.text.split()[2]}" in told.stderr
        assert f"liaison status --resolve {found.alarm_id}" in told.stderr
    assert [each["id"] for each in as_json(anna, "status")["warnings"]] == [found.alarm_id]
    assert any(line.startswith(f"WARNING {found.alarm_id}") for line in screen(anna, "status"))
    assert run(anna, "status", "--evidence", found.alarm_id).stdout_bytes == found.evidence
    screen(anna, "status", "--resolve", found.alarm_id)
    assert "warning" not in run(anna, "inbox").stderr
    anna.sync()
    assert warnings(anna) == []  # looked at once, and not again
    with pytest.raises(Unknown):
        anna.profile.cabinet.resolve_alarm(found.alarm_id)
