"""What is final names what it ends and asks first; the beginning of an id names one thing or nothing."""

from __future__ import annotations

import json

import pytest

from acts import agree, run
from liaison.cli.saying import CANCELLED, FAILED
from relay.protocol.errors import Unknown


@pytest.fixture(scope="module")
def paris(two_offices):
    """Paris's authority; Max has two devices."""
    two_offices.device("max.noir@lo-paris")
    two_offices.device("max.noir@lo-paris", name="tablet")
    two_offices.authorities["lo-paris"].sync()
    return two_offices.authorities["lo-paris"]


def revoked(authority) -> set[bytes]:
    authority.sync()
    return set(authority.trust.directory.revoked)


@pytest.mark.parametrize("digits", [0, 1, 7])
def test_too_few_digits_revoke_nothing(two_offices, paris, digits) -> None:
    before, wanted = revoked(paris), two_offices.clients["tablet"].profile.signing.device_id.hex()[:digits]
    result = run(paris, "authority", "revoke", wanted, "--reason", "lost", "--yes")
    assert result.exit_code == FAILED, result.output
    assert "0 devices of this office answer to" in result.stderr
    with pytest.raises(Unknown):
        paris.revoke(wanted, "lost")
    assert revoked(paris) == before


def test_digits_that_two_devices_begin_with_revoke_neither(paris, monkeypatch) -> None:
    monkeypatch.setattr("liaison.authority.FEWEST_DIGITS", 0)
    with pytest.raises(Unknown, match="devices of this office answer to ''"):
        paris.revoke("", "lost")


def test_a_revocation_names_each_device_and_asks(two_offices, paris) -> None:
    before = revoked(paris)
    ids = [two_offices.clients[name].profile.signing.device_id for name in ("max.noir@lo-paris", "tablet")]
    result = run(paris, "authority", "revoke", "max.noir@lo-paris", "--reason", "left")
    assert result.exit_code == CANCELLED, result.output
    for device_id in ids:
        assert f"max.noir@lo-paris, device {device_id.hex()}" in result.stderr
    assert revoked(paris) == before
    one = run(paris, "authority", "revoke", ids[1].hex()[:8].upper(), "--reason", "lost", "--yes")
    assert one.exit_code == 0, one.output
    assert revoked(paris) == before | {ids[1]}


def test_a_withdrawal_shows_the_terms_and_asks(two_offices, paris) -> None:
    agreement_id = agree(two_offices, "lo-paris", "lo-warsaw", title="For one exercise").agreement_id
    for digits in (0, 1, 7):
        few = run(paris, "agreement", "withdraw", agreement_id.hex()[:digits], "--yes")
        assert (few.exit_code, few.stdout) == (FAILED, ""), few.output
    asked = run(paris, "agreement", "withdraw", agreement_id.hex()[:8], "--reason", "over")
    assert asked.exit_code == CANCELLED, asked.output
    assert "Title:       For one exercise" in asked.stderr
    paris.sync()
    assert paris.agreement(agreement_id.hex()).is_in_force
    done = run(paris, "agreement", "withdraw", agreement_id.hex()[:8], "--yes", "--json")
    assert done.exit_code == 0, done.output
    paris.sync()
    assert not paris.agreement(agreement_id.hex()).is_in_force


def test_the_authority_finds_the_ids_that_it_may_revoke(two_offices, paris) -> None:
    lost = two_offices.device("ida.roux@lo-paris").profile.signing.device_id.hex()
    paris.sync()
    paris.revoke(lost, "lost")
    told = run(paris, "peers", "lo-paris", "--json")
    assert told.exit_code == 0, told.output
    listed = {each["device"] for line in told.stdout.splitlines() for each in json.loads(line)["device_ids"]}
    assert two_offices.clients["max.noir@lo-paris"].profile.signing.device_id.hex() in listed
    assert lost not in listed
    assert run(paris, "approvers", "list").exit_code == 0
