"""The office's alarms, for its authority and its security officers."""

from __future__ import annotations

import time

import click

from liaison import render
from liaison.alarming import office_alarms
from liaison.client import Client
from liaison.home.profile import home_folder, open_profile
from liaison.transport import HttpTransport

from .common import Session, json_option, pass_session
from .saying import once, put, say


@click.command()
@json_option
@pass_session
def alarms(session: Session, *, as_json: bool) -> None:
    """What the people of your office found in the directory and did not do; also of an authority's own profile."""
    profile = open_profile(home_folder(), session.passphrase.current())
    with Client(profile, HttpTransport(profile.pins.relay_url, profile.keyid, profile.request)) as client:
        client.tell = once(say)
        client.sync()
        found = list(office_alarms(client.trust, client.transport, profile.statement.office))
    out = render.page(session.color)
    for each in found:
        stated, at = each.alarm, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(each.alarm.at))
        if as_json:
            put({"entry": each.entry, "time": at, "address": each.address, "device": stated.device_id.hex(),
                 "directory_entry": stated.index, "finding": stated.finding})  # fmt: skip
        else:
            out.line(f"{at} {each.address} directory entry {stated.index}: {stated.finding}")
    if not found and not as_json:
        say("nobody of your office has raised an alarm")
