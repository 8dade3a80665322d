"""The authorization matrix: every route of the application by every kind of caller, the expected status in one table.

A caller is expected to be refused or let in before what it asks for is looked at, so the requests name things that
are not there or are not well-formed: 200 and 201 are granted with an effect, 400, 404 and 422 are granted access with
nothing to be had, 401 and 403 are not granted.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from fastapi.routing import APIRoute

from forge import CBOR, SECRET, Forge, call, problem, signed_headers, stored
from relay.core.register import remove_office
from relay.house import commit_alone
from relay.http.app import describe
from relay.protocol.canonical import encode
from relay.protocol.envelope import parse_message
from relay.protocol.identity import REVOCATION, Kind, Revocation
from world import clearance, world

CALLERS = ("anonymous", "reader", "stranger", "system", "auditor", "authority", "revoked", "removed")
ID, DIGEST = "{message_id}", "{digest}"

# route: (path asked, statuses in the order of CALLERS)
OPEN_TO_ALL = (200,) * 8
ENROLLED = (401, 200, 200, 200, 200, 200, 401, 401)
TABLE = {
    # A body that is no submission: whoever may act gets as far as 400.
    "POST /v1/messages": ("/v1/messages", (401, 400, 400, 400, 400, 400, 401, 401)),
    "GET /v1/inbox": ("/v1/inbox", (401, 200, 200, 200, 403, 403, 401, 401)),
    "GET /v1/events": ("/v1/events", (401, 200, 200, 200, 403, 403, 401, 401)),
    # The message is the reader's: to everyone else, of the sender's office too, it is not there.
    "POST /v1/messages/{message_id}/open": (f"/v1/messages/{ID}/open", (401, 200, 404, 404, 404, 404, 401, 401)),
    "GET /v1/messages/{message_id}/parts/{index}": (
        f"/v1/messages/{ID}/parts/0",
        (401, 200, 404, 404, 404, 404, 401, 401),
    ),
    # Parts are uploaded by who may send; a digest of which nothing was begun is not there.
    "POST /v1/parts": ("/v1/parts", (401, 400, 400, 400, 403, 403, 401, 401)),
    "PUT /v1/parts/{digest}/{chunk}": (f"/v1/parts/{DIGEST}/0", (401, 404, 404, 404, 403, 403, 401, 401)),
    "POST /v1/messages/{message_id}/receipts": (f"/v1/messages/{ID}/receipts", (401, 400, 400, 400, 400, 400, 401, 401)),
    # All of them are the sending device's; who has opened the message gets his own: test_evidence_reader.py.
    "GET /v1/messages/{message_id}/receipts": (
        f"/v1/messages/{ID}/receipts",
        (401, 200, 404, 404, 404, 404, 401, 401),
    ),
    "GET /v1/messages/{message_id}/evidence": (
        f"/v1/messages/{ID}/evidence",
        (401, 200, 404, 404, 404, 404, 401, 401),
    ),
    # A body that is no recall: what a recall may do is in test_recall.py.
    "POST /v1/messages/{message_id}/recall": (f"/v1/messages/{ID}/recall", (401, 400, 400, 400, 400, 400, 401, 401)),
    # A body that is no hold; who may hold what is in test_legal_hold.py.
    "POST /v1/messages/{message_id}/holds": (f"/v1/messages/{ID}/holds", (401, 400, 400, 400, 400, 400, 401, 401)),
    # For security officers alone: what they are told is in test_hold_list.py.
    "GET /v1/holds": ("/v1/holds", (401, 403, 403, 403, 403, 403, 401, 401)),
    "POST /v1/keys": ("/v1/keys", (401, 400, 400, 400, 403, 403, 401, 401)),
    "POST /v1/keys/claim": ("/v1/keys/claim", (401, 400, 400, 400, 403, 403, 401, 401)),
    "GET /v1/keys/stock": ("/v1/keys/stock", (401, 200, 200, 200, 403, 403, 401, 401)),
    "GET /v1/directory": ("/v1/directory", ENROLLED),
    "POST /v1/directory": ("/v1/directory", (401, 403, 403, 403, 403, 400, 401, 401)),
    "POST /v1/rosters": ("/v1/rosters", (401, 400, 400, 400, 403, 403, 401, 401)),
    "GET /v1/documents/{digest}": (f"/v1/documents/{DIGEST}", ENROLLED),
    "GET /v1/log/{log}/checkpoint": ("/v1/log/access/checkpoint", OPEN_TO_ALL),
    "GET /v1/log/{log}/consistency": ("/v1/log/access/consistency?old=1&new=2", OPEN_TO_ALL),
    "GET /v1/log/directory/tile/entries/{path:path}": ("/v1/log/directory/tile/entries/000.p/1", ENROLLED),
    "GET /v1/log/{log}/tile/{level}/{path:path}": ("/v1/log/access/tile/0/000.p/1", OPEN_TO_ALL),
    # Unsigned: the log's own signatures are what counts. This relay is a witness of nobody.
    "POST /add-checkpoint": ("/add-checkpoint", (404,) * 8),
    "GET /v1/audit/entries": ("/v1/audit/entries", (401, 403, 403, 403, 200, 403, 401, 401)),
    # The auditor is of the originator's office.
    "GET /v1/audit/messages/{message_id}": (f"/v1/audit/messages/{ID}", (401, 403, 403, 403, 200, 403, 401, 401)),
    "GET /v1/audit/messages/{message_id}/evidence": (
        f"/v1/audit/messages/{ID}/evidence",
        (401, 403, 403, 403, 200, 403, 401, 401),
    ),
    "POST /v1/alarms": ("/v1/alarms", (401, 400, 400, 400, 400, 400, 401, 401)),
    "GET /v1/alarms": ("/v1/alarms", (401, 403, 403, 403, 403, 200, 401, 401)),
    "GET /health": ("/health", OPEN_TO_ALL),
    "GET /ready": ("/ready", OPEN_TO_ALL),
    "GET /v1/relay": ("/v1/relay", OPEN_TO_ALL),
}  # fmt: skip


def routes_of(router) -> Iterator[APIRoute]:
    for route in router.routes:
        if isinstance(route, APIRoute):
            yield route
        else:
            yield from routes_of(route.original_router)


def every_route() -> set[str]:
    return {f"{method} {route.path}" for route in routes_of(describe().router) for method in route.methods}


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """Callers by their name in the table, and the id of a message that only the reader holds a slot of."""
    with world(tmp_path_factory.mktemp("matrix")) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA"), ("lo-oslo", "NOR")):
            built.office(office, nation)
        built.agreement("lo-warsaw", "lo-paris")
        anna = built.device("anna.nowak@lo-warsaw", clearances=[clearance(nations=["POL"])])
        who = {
            "anonymous": None,
            "reader": built.device("jean.petit@lo-paris", clearances=[clearance(nations=["FRA"])]),
            "stranger": built.device("luc.bas@lo-paris", clearances=[clearance(nations=["FRA"])]),
            "system": built.device("feed@lo-warsaw", kind=Kind.SYSTEM),
            "auditor": built.device("audit@lo-warsaw", kind=Kind.AUDITOR, clearances=[], scope=["lo-paris"]),
            "authority": built.authorities["lo-warsaw"],
            "revoked": built.device("lost@lo-paris"),
            "removed": built.device("ola@lo-oslo"),
        }
        anna.sync()
        forge = Forge(anna).prepare("jean.petit@lo-paris", label=SECRET)
        submission = forge.seal()
        assert forge.post(submission.encoded()).status_code == 201
        message_id = parse_message(submission.message).core.message_id.hex()
        assert call(who["reader"], "POST", f"/v1/messages/{message_id}/open").status_code == 200
        digest = next(iter(anna.trust.directory.policies.values())).spif_digest.hex()
        built.authorities["lo-paris"].revoke("lost@lo-paris", "lost")
        commit_alone(built.settings, lambda batch: remove_office(batch, "lo-oslo"))
        yield built, who, {ID: message_id, DIGEST: digest}


def test_the_table_names_every_route_and_no_other():
    assert every_route() == set(TABLE)


@pytest.mark.parametrize("route", TABLE)
def test_each_kind_of_caller_gets_what_the_table_says(setting, route):
    built, who, names = setting
    method, (path, expected) = route.split()[0], TABLE[route]
    for mark, value in names.items():
        path = path.replace(mark, value)
    body = b"\xa0" if method in {"POST", "PUT"} and not path.endswith("/open") else None
    assert {name: status(built, who[name], method, path, body) for name in CALLERS} == dict(
        zip(CALLERS, expected, strict=True)
    )


def status(built, caller, method: str, path: str, body: bytes | None) -> int:
    if path == "/v1/events":
        return stream_status(built, caller)
    if caller is None:
        headers = {"content-type": CBOR} if body is not None else {}
        response = httpx2.request(method, built.url + path, content=body, headers=headers)
    else:
        response = call(caller, method, path, body)
    if response.status_code >= 400:
        problem(response)
    return response.status_code


def stream_status(built, caller) -> int:
    headers = signed_headers(caller, "GET", "/v1/events") if caller is not None else {}
    with httpx2.stream("GET", built.url + "/v1/events", headers=headers) as response:
        return response.status_code


def test_who_may_act_but_may_not_send_is_refused_by_the_rules_and_the_refusal_is_logged(setting):
    """A well-signed message by an auditor and by an authority: their kind has no right to send."""
    built, who, _names = setting
    anna = built.clients["anna.nowak@lo-warsaw"]
    for name in ("auditor", "authority"):
        caller = who[name]
        forge = Forge(anna).prepare("jean.petit@lo-paris")
        key = caller.profile.signing
        address = f"authority@{caller.office}" if name == "authority" else caller.profile.pins.address
        submission = forge.seal()

        def by_the_caller(fields, key=key, address=address):
            fields[3] = [address, key.device_id, key.kid]

        body = forge.alter(submission, by_the_caller, key=key)
        with stored(built):
            assert call(caller, "POST", "/v1/messages", body).status_code == 409  # the keys were claimed by another
        mine = forge.alter(forge.seal(readers=forge.last_resort(built)), by_the_caller, key=key)
        with stored(built, log_entry=1):
            response = call(caller, "POST", "/v1/messages", mine)
        assert (response.status_code, problem(response)["rules"]) == (403, ["sender:kind"])


def test_a_directory_change_is_an_authoritys_and_for_its_own_office_only(setting):
    built, who, _names = setting
    paris = built.authorities["lo-paris"]
    jean = who["reader"].profile
    for signer, expected in ((built.authorities["lo-warsaw"], 422), (paris, 403)):
        stated = Revocation(jean.signing.device_id, jean.pins.address, "spite", 1)
        body = encode(["revocation", signer.profile.signing.sign_object(REVOCATION, stated.payload()), []])
        poster = built.authorities["lo-warsaw"] if signer is not paris else who["stranger"]
        with stored(built):
            assert call(poster, "POST", "/v1/directory", body).status_code == expected
    assert call(who["reader"], "GET", "/v1/inbox").status_code == 200
