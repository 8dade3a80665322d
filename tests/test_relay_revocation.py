"""Revocation: from the next request on a revoked device gets nothing, whoever committed the revocation."""

from __future__ import annotations

import time

import pytest

from forge import Forge, call, problem, stored
from liaison.keys import make_key_package
from relay.house import commit_alone
from relay.protocol.canonical import encode
from relay.protocol.entry import Change
from relay.protocol.envelope import RECEIPT, Receipt, parse_message
from relay.protocol.identity import REVOCATION, Kind, Revocation
from relay.protocol.prekey import KEY_BATCH, KeyBatch
from world import clearance, world

ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-paris"


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    with world(tmp_path_factory.mktemp("revocation")) as built:
        built.office("lo-warsaw", "POL")
        built.office("lo-paris", "FRA")
        built.agreement("lo-warsaw", "lo-paris")
        built.device(ANNA, clearances=[clearance(nations=["POL"])])
        yield built


def key_batch(client) -> bytes:
    key, now = client.profile.signing, int(time.time())
    _seed, package = make_key_package(key.device_id, 7, now, 3600, one_time=True)
    signed = key.sign_object(KEY_BATCH, KeyBatch(key.device_id, now, (package.ref,)).payload())
    return encode([signed, [package.encoded()]])


def receipt(client, submission) -> bytes:
    message, key = parse_message(submission.message), client.profile.signing
    stated = Receipt(message.core.message_id, message.ref, key.device_id, "opened", int(time.time()))
    return key.sign_object(RECEIPT, stated.payload())


def requests_of(client, submission, outgoing) -> list[tuple[str, str, bytes | None]]:
    """One request for each thing that a device may ask and that would be granted while it is valid."""
    message_id = parse_message(submission.message).core.message_id.hex()
    digest = next(iter(client.trust.directory.policies.values())).spif_digest.hex()
    return [
        ("POST", f"/v1/messages/{message_id}/open", None),
        ("GET", f"/v1/messages/{message_id}/parts/0", None),
        ("POST", f"/v1/messages/{message_id}/receipts", receipt(client, submission)),
        ("POST", "/v1/messages", outgoing.encoded()),
        ("GET", f"/v1/messages/{parse_message(outgoing.message).core.message_id.hex()}/receipts", None),
        ("GET", "/v1/inbox", None),
        ("GET", "/v1/events", None),
        ("POST", "/v1/keys", key_batch(client)),
        ("POST", "/v1/keys/claim", encode([client.profile.signing.device_id])),
        ("GET", "/v1/keys/stock", None),
        ("GET", "/v1/directory", None),
        ("GET", "/v1/log/directory/tile/entries/000.p/1", None),
        ("GET", f"/v1/documents/{digest}", None),
    ]


def revocation_of(offices, client) -> bytes:
    device_id, address = client.profile.signing.device_id, client.profile.pins.address
    stated = Revocation(device_id, address, "lost", int(time.time()))
    office = address.partition("@")[2]
    return offices.authorities[office].profile.signing.sign_object(REVOCATION, stated.payload())


def revoke_elsewhere(offices, client):
    """In another process, behind the serving relay's back: it finds out from the database, before it answers."""
    signed = revocation_of(offices, client)

    def revoke(batch):
        batch.change(Change.REVOCATION, signed)
        return lambda _committed: None

    commit_alone(offices.settings, revoke)


def test_a_revoked_device_gets_nothing_on_any_route_from_the_next_request_on(offices):
    jean, anna = offices.device(JEAN, clearances=[clearance(nations=["FRA"])]), offices.clients[ANNA]
    forge = Forge(anna).prepare(JEAN)
    submission = forge.seal()
    assert forge.post(submission.encoded()).status_code == 201
    outgoing = Forge(jean).prepare(ANNA)
    # while the device is valid, every one of these is granted; that the stream opens is seen elsewhere
    for method, path, body in requests_of(jean, submission, outgoing.seal()):
        if path != "/v1/events":
            assert call(jean, method, path, body).status_code in {200, 201}, path
    wanted = requests_of(jean, submission, outgoing.seal(readers=outgoing.claim()))
    offices.authorities["lo-paris"].revoke(JEAN, "lost")
    with stored(offices):
        for method, path, body in wanted:
            assert problem(call(jean, method, path, body))["status"] == 401, path


@pytest.mark.parametrize("place", range(13))
def test_the_very_first_request_after_a_foreign_revocation_is_refused_whatever_it_asks(offices, place, shared_devices):
    jean, wanted = shared_devices[place]
    method, path, body = wanted[place]
    revoke_elsewhere(offices, jean)
    with stored(offices):
        assert call(jean, method, path, body).status_code == 401


@pytest.fixture(scope="module")
def shared_devices(offices):
    """Thirteen devices of one officer, so that each kind of request can be the first after a revocation."""
    devices = [
        offices.device("marie.roux@lo-paris", clearances=[clearance(nations=["FRA"])], name=f"marie-{number}")
        for number in range(13)
    ]
    anna = offices.clients[ANNA]
    anna.sync()
    forge = Forge(anna).prepare("marie.roux@lo-paris")
    submission = forge.seal()
    assert forge.post(submission.encoded()).status_code == 201
    found = []
    for device in devices:
        device.sync()
        outgoing = Forge(device).prepare(ANNA)
        found.append((device, requests_of(device, submission, outgoing.seal())))
    return found


def test_an_auditor_and_an_authority_lose_their_rights_with_their_certificate_or_office(offices):
    oslo = offices.office("lo-oslo", "NOR")
    auditor = offices.device("audit@lo-oslo", kind=Kind.AUDITOR, clearances=[])
    assert call(auditor, "GET", "/v1/audit/entries").status_code == 200
    offices.authorities["lo-oslo"].revoke("audit@lo-oslo", "moved on")
    with stored(offices):
        assert call(auditor, "GET", "/v1/audit/entries").status_code == 401

    def remove(batch):
        batch.change(Change.OFFICE_REMOVED, encode(["lo-oslo"]))
        return lambda _committed: None

    commit_alone(offices.settings, remove)
    with stored(offices):
        assert call(oslo, "POST", "/v1/directory", encode(["certificate", b"", []])).status_code in {400, 401}
        assert call(oslo, "GET", "/v1/directory").status_code == 401
