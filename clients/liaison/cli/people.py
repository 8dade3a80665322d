"""Oneself: init, status."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import click

from liaison import render
from liaison.client import Client
from liaison.home.cabinet import Cabinet
from liaison.home.founding import found_device
from liaison.home.profile import home_folder, open_profile, read_public
from liaison.standing import listed_json, logs_json, online_json, own_json
from liaison.transport import MAX_JSON, HttpTransport
from liaison.trust import ACCESS, DIRECTORY
from liaison.witnessing import MAX_AGE, compare, log_of, pin_policy
from relay.protocol.armor import armor, dearmor
from relay.protocol.errors import LiaisonError, Malformed, Unauthenticated, Unknown, Unverified, named
from relay.protocol.identity import Statement, parse_address, parse_request, parse_statement
from relay.protocol.words import words_for

from .common import Session, json_option, pass_session
from .delivery import whole
from .saying import once, put, say

_LOGS = click.Choice([DIRECTORY, ACCESS])
_BINARY = click.File("rb")
_NAMES = {
    "scope_asked": "Scope asked",
    "witness_policy": "Witness policy",
    "one_time_keys": "One-time keys",
    "last_resort_key": "Last-resort key",
    "directory_log": "Directory log",
    "access_log": "Access log",
}


@click.command()
@click.argument("address")
@click.option("--relay", "relay_url", required=True, metavar="URL", help="The relay.")
@click.option(
    "--authority",
    "statement_file",
    required=True,
    type=click.File("rb"),
    metavar="OFFICE.statement",
    help="Your office's.",
)
@click.option("--witness-policy", type=click.File("rb"), metavar="FILE", help="Your office's, as status takes it.")
@json_option
@pass_session
def init(
    session: Session, /, address: str, relay_url: str, statement_file: Any, witness_policy: Any, *, as_json: bool
) -> None:
    """Make this device's keys; writes ADDRESS.request for the security officer."""
    parse_address(address)
    encoded = dearmor(statement_file.read(), "STATEMENT")
    stated = parse_statement(encoded)
    keys = relay_keys(relay_url, stated)
    passphrase = session.founding(home_folder(), "device")
    path = Path(f"{address}.request")
    with whole(path) as file:  # opened first: keys whose request cannot be written would be of no use
        request = found_device(home_folder(), address, relay_url, keys, (encoded, stated), passphrase)
        file.write(armor(request, "REQUEST"))
    if witness_policy is not None:
        with closing(open_profile(home_folder(), passphrase)) as made:
            say(f"pinned: {pin_policy(made.cabinet, witness_policy.read(), MAX_AGE, made.pins.relay_keys)}")
    own, authority = words_for([parse_request(request).kid]), words_for([stated.kid])
    say(f"keys made in {home_folder()}")
    say(f"your office's authority, compare with your security officer: {authority}")
    say(f"this device, for your security officer to compare: {own}")
    if as_json:
        put({"address": address, "request": str(path), "authority": authority, "words": own})
    else:
        click.echo(path)
    say(f"give {path} to your security officer, who runs: liaison authority enrol {path}")


def relay_keys(relay_url: str, stated: Statement | None) -> list[str]:
    """The relay's log keys: those in the statement, which the relay must say too; else the relay's, to be compared."""
    said = _said_keys(relay_url)
    if stated is not None and stated.relay_keys:
        if sorted(said) != sorted(stated.relay_keys):
            raise Unverified("the relay's keys are not those in your authority's statement", hint="is the URL right?")
        return said
    say(f"the relay's keys, compare with its operator (relay key): {words_for(said)}")
    return said


def _said_keys(relay_url: str) -> list[str]:
    """What answers at the URL says of its keys. Raises Malformed for what is no relay, Unavailable for nothing."""
    if not _is_url(relay_url):
        raise Malformed(f"{relay_url} is no URL of a relay", hint="such as http://127.0.0.1:8440")
    transport = HttpTransport(relay_url, "", None)
    try:
        return [str(key) for key in json.loads(transport.get("/v1/relay")[:MAX_JSON])["keys"]]
    except (ValueError, KeyError, TypeError, RecursionError, Unknown):
        raise Malformed(f"what answers at {relay_url} is not a relay", hint="is the URL right?") from None
    finally:
        transport.close()


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is none
        return False


@click.command()
@click.option("--resolve", metavar="ALARM", help="Declare an alarm or warning looked into; its evidence is forgotten.")
@click.option("--evidence", metavar="ALARM", help="Write what an alarm or warning is about to stdout.")
@click.option("--checkpoint", type=_LOGS, help="Write the last checkpoint seen of a log, to compare with others'.")
@click.option(
    "--compare", "others", type=_BINARY, multiple=True, metavar="FILE", help="A checkpoint of others'; repeat for each."
)
@click.option("--witness-policy", type=_BINARY, metavar="FILE", help="Hold the logs to this policy (C2SP tlog-policy).")
@click.option("--max-age", type=click.IntRange(1), show_default=f"{MAX_AGE}", help="Of its cosignatures, in s.")
@json_option
@pass_session
def status(session: Session, /, resolve: str | None, *, as_json: bool, **given: Any) -> None:
    """Who am I, my certificate, my keys left, what the last check of the logs said."""
    if given["max_age"] is not None and given["witness_policy"] is None:
        raise click.UsageError("--max-age is a witness policy's: give --witness-policy too")
    read_public(home_folder())  # before a passphrase is asked for
    opened = closing(open_profile(home_folder(), session.passphrase.current()))
    profile = click.get_current_context().with_resource(opened)
    if given["checkpoint"] or given["evidence"]:
        _write_raw(profile.cabinet, given["checkpoint"], given["evidence"])
        return
    if resolve is not None:
        profile.cabinet.resolve_alarm(resolve)
        say(f"alarm {resolve} resolved")
    if given["witness_policy"] is not None:
        content = given["witness_policy"].read()
        say(f"pinned: {pin_policy(profile.cabinet, content, given['max_age'] or MAX_AGE, profile.pins.relay_keys)}")
    known = own_json(profile)
    with Client(profile, HttpTransport(profile.pins.relay_url, profile.keyid, profile.request)) as client:
        client.tell = once(say)
        problem = _take_online(client, known, given["others"])
        known["warnings"] = listed_json(profile.cabinet.warnings())
        logs = logs_json(client)
    if as_json:
        put(known | logs)
    else:
        _show_status(session, known | {log: f"verified up to {size} entries" for log, size in logs.items()})
    if problem is not None:
        raise problem


def _write_raw(cabinet: Cabinet, log: str | None, alarm_id: str | None) -> None:
    """A checkpoint or an alarm's evidence, octet for octet. Raises Unknown."""
    if alarm_id is not None:
        found = [each.evidence for each in (*cabinet.alarms(), *cabinet.warnings()) if each.alarm_id == alarm_id]
    else:
        state = cabinet.log_state(log or "")
        found = [] if state is None else [state.checkpoint]
    if not found:
        raise Unknown(f"there is no alarm {alarm_id}" if alarm_id else f"no checkpoint of the {log} log was seen yet")
    sys.stdout.buffer.write(found[0])


def _take_online(client: Client, known: dict[str, Any], others: Sequence[BinaryIO]) -> LiaisonError | None:
    """Add what the relay and the logs say; what is known without them is shown even when they fail."""
    try:
        known |= online_json(client)
        for file in others:
            with named(file.name):
                note = file.read()
                theirs = compare(client.trust, client.transport, log_of(client.trust, note), note, "others")
            say(f"{theirs.origin}: one history with the checkpoint of {theirs.size} entries")
    except Unauthenticated as problem:
        known |= {"enrolled": False}
        return problem
    except LiaisonError as problem:
        return problem
    return None


def _show_status(session: Session, known: dict[str, Any]) -> None:
    rows = [(name, render.said(value)) for name, value in known.items() if name not in {"alarms", "warnings"}]
    out = render.page(session.color)
    render.fields(out, [(_NAMES.get(name, name.capitalize()), value) for name, value in rows])
    for alarm in known["alarms"]:
        out.line(f"ALARM {alarm['id']}: {alarm['text']}", "bold red")
    for warning in known["warnings"]:
        out.line(f"WARNING {warning['id']}: {warning['text']}", "bold yellow")
