"""Who this is, and whether everything holds: what `status` shows, and a gateway answers."""

from __future__ import annotations

import time
from typing import Any

from relay.protocol.errors import Malformed
from relay.protocol.words import words_for

from . import render
from .alarming import report
from .cleared import cleared_for
from .client import Client
from .home.cabinet import Alarm
from .home.profile import AUTHORITY, Profile
from .stock import stock
from .trust import ACCESS, DIRECTORY
from .witnessing import pinned_policy, sync


def own_json(profile: Profile) -> dict[str, Any]:
    """What the profile itself knows."""
    known: dict[str, Any] = {
        "address": profile.pins.address,
        "kind": profile.pins.kind,
        "device": profile.keyid,
        "words": words_for([profile.signing.kid]),
        "relay": profile.pins.relay_url,
        "authority": words_for([profile.statement.kid]),
        "alarms": listed_json(profile.cabinet.alarms()),
        "warnings": [],
    }
    if (pinned := pinned_policy(profile.cabinet)) is not None:
        known["witness_policy"] = str(pinned)
    return known


def online_json(client: Client) -> dict[str, Any]:
    """What the relay and the directory say of it. Raises what `Client.sync` does."""
    if client.profile.pins.kind == AUTHORITY:
        sync(client.trust, client.transport)
        enrolled = client.trust.directory.device(client.profile.signing.device_id, int(time.time())) is not None
        if enrolled:
            report(client.profile, client.trust, client.transport)
        return {"enrolled": enrolled}
    own = client.sync()
    certificate = own.certificate
    if certificate is None:
        raise Malformed("this device has no certificate")
    found: dict[str, Any] = {
        "enrolled": True,
        "certificate": f"{certificate.kind.value}, valid until {render.day(certificate.not_after)}",
        "roles": list(certificate.roles),
        "clearances": cleared_for(certificate),
    }
    if own.kind.value == "auditor":
        found |= {"scope": sorted(client.trust.directory.audit_scope(own.device_id, int(time.time())))}
        found |= {"scope_asked": list(certificate.scope)} if certificate.scope else {}
    else:
        count, last_resort = stock(client.transport)
        until = f"until {render.day(last_resort)}" if last_resort else "none"
        found |= {"one_time_keys": count, "last_resort_key": until}
    return found


def logs_json(client: Client) -> dict[str, int]:
    """How many entries of each log are verified."""
    return {"directory_log": client.trust.seen(DIRECTORY), "access_log": client.trust.seen(ACCESS)}


def listed_json(alarms: list[Alarm]) -> list[dict[str, Any]]:
    return [{"id": each.alarm_id, "text": each.text, "at": each.at} for each in alarms]
