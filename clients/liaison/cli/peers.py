"""The others: peers."""

from __future__ import annotations

import time
from difflib import get_close_matches
from typing import Any

import click

from liaison import render
from liaison.authority import Authority
from liaison.cleared import cleared_for
from liaison.client import Client
from relay.protocol.directory import Device
from relay.protocol.errors import Unknown
from relay.protocol.words import words_for

from .common import Session, json_option, pass_session
from .saying import put, say


@click.command()
@click.argument("office", required=False)
@json_option
@pass_session
def peers(session: Session, office: str | None, *, as_json: bool) -> None:
    """Who can be written to, their clearances and roles, and under which agreement.

    Of one OFFICE also the words of each device's key, to compare with what its owner reads aloud from liaison status.
    """
    with session.either() as client:
        client.sync()
        known = [statement.office for statement in client.trust.directory.offices.values()]
        if office is not None and office not in known:
            near = ", ".join(get_close_matches(office, known))
            raise Unknown(f"there is no office {office}", hint=f"near: {near}" if near else "see: liaison peers")
        rows = [row for row in _peers(client) if office in {None, row["office"]}]
        if office is not None:
            _say_if_nobody(client, office, rows)
        if as_json:
            for row in rows:
                put(row)
            return
        columns = ("address", "kind", "nation", "roles", "clearances", "agreements", "devices")
        if rows:
            shown = [[render.said(row[column]) for column in columns] for row in rows]
            render.table(render.page(session.color), columns, shown)
        for statement in client.trust.directory.offices.values():
            if statement.office in {office, *(row["office"] for row in rows)}:
                say(f"{statement.office}: authority key {words_for([statement.kid])}")
        for row in rows if office is not None else ():
            for device in row["device_ids"]:
                say(f"{row['address']}, device {device['device'][:12]}: {device['words']}")


def _say_if_nobody(client: Client | Authority, office: str, rows: list[dict[str, Any]]) -> None:
    own = client.profile.statement.office
    if office != own and not _in_force(client, own, office):
        say(f"no agreement between {own} and {office} is in force: nobody there can be written to")
    elif not rows:
        say(f"nobody of {office} is enrolled")


def _peers(client: Client | Authority) -> list[dict[str, Any]]:
    directory, now = client.trust.directory, int(time.time())
    own = client.profile.statement.office
    found = []
    for address in sorted(directory.addresses()):
        devices = [device for device in directory.devices_of(address, now) if client.trust.is_trusted(device)]
        if devices:
            found.append(_peer(client, own, devices))
    return found


def _peer(client: Client | Authority, own: str, devices: list[Device]) -> dict[str, Any]:
    device = devices[0]
    certificate = device.certificate
    return {
        "address": device.address,
        "office": device.office,
        "nation": device.nation,
        "kind": device.kind.value,
        "roles": list(certificate.roles) if certificate is not None else [],
        "clearances": cleared_for(certificate),
        "agreements": _in_force(client, own, device.office),
        "devices": len(devices),
        "device_ids": [_device(each) for each in devices],
    }


def _in_force(client: Client | Authority, own: str, office: str) -> list[str]:
    """The beginnings of the ids of the agreements between the two offices that hold now."""
    states, now = client.trust.directory.agreements_between(own, office), int(time.time())
    return [state.agreement.agreement_id.hex()[:8] for state in states if state.is_valid(now)]


def _device(device: Device) -> dict[str, Any]:
    certificate = device.certificate
    until = render.moment(certificate.not_after) if certificate is not None else None
    return {"device": device.device_id.hex(), "words": words_for([device.kid]), "valid_until": until}
