"""Oneself and the others: init, status, peers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from liaison.cabinet import Cabinet
from liaison.client import Client
from liaison.profile import AUTHORITY, home_folder, open_profile
from liaison.stock import stock
from liaison.trust import ACCESS, DIRECTORY
from relay.protocol.armor import armor, dearmor
from relay.protocol.directory import Device
from relay.protocol.errors import Malformed, Unverified
from relay.protocol.identity import Statement, parse_address, parse_statement
from relay.protocol.words import words_for

from .common import Session, json_option, pass_session, put, say


@click.command()
@click.argument("address")
@click.option("--relay", "relay_url", required=True, metavar="URL", help="The relay.")
@click.option("--authority", "statement_file", required=True, type=click.File("rb"), metavar="OFFICE.statement")
@pass_session
def init(session: Session, address: str, relay_url: str, statement_file: Any) -> None:
    """Make this device's keys; writes ADDRESS.request for the security officer."""
    from liaison.authority import found_device  # noqa: PLC0415

    parse_address(address)
    encoded = dearmor(statement_file.read(), "STATEMENT")
    stated = parse_statement(encoded)
    keys = relay_keys(relay_url, stated)
    passphrase = session.passphrase.new("new passphrase for this device")
    request = found_device(home_folder(), address, relay_url, keys, (encoded, stated), passphrase)
    path = Path(f"{address}.request")
    path.write_text(armor(request, "REQUEST"))
    say(f"keys made in {home_folder()}")
    say(f"your office's authority, compare with your security officer: {words_for([stated.kid])}")
    click.echo(path)
    say(f"give {path} to your security officer, who runs: liaison authority enrol {path}")


def relay_keys(relay_url: str, stated: Statement | None) -> list[str]:
    """The relay's log keys: those in the statement, held against what the relay says; else the relay's, to be compared."""
    from liaison.transport import HttpTransport  # noqa: PLC0415 - `liaison --help` need not load the HTTP client

    said = [str(key) for key in json.loads(HttpTransport(relay_url, "", None).get("/v1/relay"))["keys"]]
    if stated is not None and stated.relay_keys:
        if sorted(said) != sorted(stated.relay_keys):
            raise Unverified("the relay's keys are not those in your authority's statement", hint="is the URL right?")
        return said
    say(f"the relay's keys, compare with its operator (relay key): {words_for(said)}")
    return said


@click.command()
@click.option("--resolve", metavar="ALARM", help="Declare an alarm looked into; its evidence is forgotten.")
@json_option
@pass_session
def status(session: Session, resolve: str | None, as_json: bool) -> None:
    """Who am I, my certificate, my keys left, what the last check of the logs said."""
    profile = open_profile(home_folder(), session.passphrase.current())
    if resolve is not None:
        profile.cabinet.resolve_alarm(resolve)
        say(f"alarm {resolve} resolved")
    known: dict[str, Any] = {
        "address": profile.pins.address,
        "kind": profile.pins.kind,
        "device": profile.keyid,
        "relay": profile.pins.relay_url,
        "authority": words_for([profile.statement.kid]),
        "alarms": _alarms(profile.cabinet),
    }
    from liaison.transport import HttpTransport  # noqa: PLC0415

    client = Client(profile, HttpTransport(profile.pins.relay_url, profile.keyid, profile.request))
    with client:
        if not known["alarms"]:
            known |= _online(client)
        known |= {"directory_log": client.trust.seen(DIRECTORY), "access_log": client.trust.seen(ACCESS)}
    if as_json:
        put(known)
        return
    for name, value in known.items():
        if name != "alarms":
            click.echo(f"{name.replace('_', ' ') + ':':<15}{', '.join(value) if isinstance(value, list) else value}")
    for alarm in known["alarms"]:
        click.echo(f"ALARM {alarm['id']}: {alarm['text']}")


def _alarms(cabinet: Cabinet) -> list[dict[str, Any]]:
    return [{"id": alarm.alarm_id, "text": alarm.text, "at": alarm.at} for alarm in cabinet.alarms()]


def _online(client: Client) -> dict[str, Any]:
    if client.profile.pins.kind == AUTHORITY:
        client.trust.sync(client.transport)
        return {"enrolled": client.profile.statement.office in client.trust.directory.offices}
    own = client.sync()
    certificate = own.certificate
    if certificate is None:
        raise Malformed("this device has no certificate")
    found: dict[str, Any] = {
        "enrolled": True,
        "certificate": f"{certificate.kind.value}, valid until {_day(certificate.not_after)}",
        "roles": list(certificate.roles),
        "clearances": [f"{c.policy_name}: {', '.join(c.classifications)}" for c in certificate.clearances],
    }
    if own.kind.value != "auditor":
        count, last_resort = stock(client.transport)
        found |= {"one_time_keys": count, "last_resort_key": f"until {_day(last_resort)}" if last_resort else "none"}
    return found


def _day(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


@click.command()
@click.argument("office", required=False)
@json_option
@pass_session
def peers(session: Session, office: str | None, as_json: bool) -> None:
    """Who can be written to, their clearances and roles, and under which agreement."""
    from liaison import render  # noqa: PLC0415

    with session.client() as client:
        client.sync()
        rows = [row for row in _peers(client) if office is None or row["office"] == office]
        if as_json:
            for row in rows:
                put(row)
            return
        out = render.page(session.color)
        columns = ("address", "kind", "nation", "roles", "clearances", "agreements", "devices")
        render.table(out, columns, [[_cell(row[column]) for column in columns] for row in rows])
        for statement in client.trust.directory.offices.values():
            if statement.office in {row["office"] for row in rows}:
                say(f"{statement.office}: authority key {words_for([statement.kid])}")


def _peers(client: Client) -> list[dict[str, Any]]:
    directory, now = client.trust.directory, int(time.time())
    own = client.profile.statement.office
    found = []
    for address in sorted(directory.addresses()):
        devices = [device for device in directory.devices_of(address, now) if client.trust.is_trusted(device)]
        if devices:
            found.append(_peer(client, own, devices))
    return found


def _peer(client: Client, own: str, devices: list[Device]) -> dict[str, Any]:
    device = devices[0]
    certificate = device.certificate
    states = client.trust.directory.agreements_between(own, device.office) if device.office != own else []
    return {
        "address": device.address,
        "office": device.office,
        "nation": device.nation,
        "kind": device.kind.value,
        "roles": list(certificate.roles) if certificate is not None else [],
        "clearances": [f"{c.policy_name} {'/'.join(c.classifications)}" for c in certificate.clearances] if certificate else [],
        "agreements": [s.agreement.agreement_id.hex()[:8] for s in states if s.is_in_force],
        "devices": len(devices),
    }


def _cell(value: Any) -> str:
    return "; ".join(value) if isinstance(value, list) else str(value)
