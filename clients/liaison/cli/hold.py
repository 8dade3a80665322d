"""Legal hold: what the security officers of an office do to keep a message from being destroyed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from liaison import render
from liaison.audit.pull import AuditPull
from liaison.client import Client
from liaison.held import Held, held_by_office, held_in_log
from liaison.holding import post_hold, sign_hold
from relay.protocol.armor import dearmor
from relay.protocol.cose import parse_sign1
from relay.protocol.errors import Malformed
from relay.protocol.hold import HOLD, Action, Hold, read_hold
from relay.protocol.identity import Kind

from .asking import Asking, takes_approvals
from .common import Commands, Session, json_option, pass_session
from .saying import put, say

_KIND = "HOLD"


def _options(command: Callable[..., None]) -> Callable[..., None]:
    reason = click.option("--reason", help="One line; operator and auditors read it.")
    for each in (pass_session, json_option, takes_approvals, reason):
        command = each(command)
    return click.argument("message", metavar="ID|FILE")(command)


@click.group(cls=Commands)
def hold() -> None:
    """Keep a message from being destroyed: two security officers, or one and the office's approvers for it."""


@hold.command()
@_options
def place(session: Session, /, message: str, asking: Asking, **given: Any) -> None:
    """Ask that the message be kept, whatever its expiry and retention; FILE is what --ask wrote and others approved."""
    _state(session, Action.PLACE, message, asking, **given)


@hold.command()
@_options
def lift(session: Session, /, message: str, asking: Asking, **given: Any) -> None:
    """Ask that your office's hold end; FILE is what --ask wrote and others approved."""
    _state(session, Action.LIFT, message, asking, **given)


@hold.command("list")
@json_option
@pass_session
def list_holds(session: Session, /, *, as_json: bool) -> None:
    """What is held, or waits for a second word: for a security officer by the own office, for an auditor by all."""
    with session.client() as client:
        own = client.sync()
        found = _audited(client) if own.kind is Kind.AUDITOR else held_by_office(client, own.office)
    out = render.page(session.color)
    for each in found:
        if as_json:
            put(each.as_json())
        else:
            _show(out, each)
    if not found and not as_json:
        say("no message is held")


def _show(out: render.Page, held: Held) -> None:
    told = held.as_json()
    waits = told["waits"]
    if told["held"]:
        out.line(f"{told['since']} {told['message_id']} held by {told['office']}, entry {told['entry']}")
    else:
        out.line(f"{waits['at']} {told['message_id']} not held yet by {told['office']}")
    for word in told["words"]:
        out.line(f"    {word['address']}: {word['reason']}")
    if held.by is not None and held.by.approvers:
        out.line(f"    approved by {', '.join(held.by.approvers)}")
    if waits is not None:
        out.line(f"    to {waits['action']} it a second word is missing; {waits['address']}: {waits['reason']}")


def _audited(client: Client) -> list[Held]:
    audited = AuditPull(client)
    audited.pull()
    return held_in_log(audited.entries(), client)


def _state(
    session: Session, action: Action, message: str, asking: Asking, *, reason: str | None, as_json: bool
) -> None:
    approvals = asking.approvals()
    if (reason is None) is not bool(approvals):
        raise click.UsageError("either an ID and --reason, or FILE and the approvals of what is in it")
    with session.client() as client:
        if reason is None:
            signed = dearmor(Path(message).read_bytes(), _KIND)
        else:
            signed = sign_hold(client, action, client.find(message), reason)
        if asking.writes(signed, _KIND):
            return
        word = read_hold(parse_sign1(signed, HOLD))
        if word.action is not action:
            raise Malformed(f"{message} asks to {word.action} a hold")
        _post(client, word, signed, approvals, as_json=as_json)


def _post(client: Client, word: Hold, signed: bytes, approvals: Sequence[bytes], *, as_json: bool) -> None:
    stated = post_hold(client, signed, approvals)
    is_held = stated.counts is (word.action is Action.PLACE)
    if as_json:
        put(
            {
                "message_id": word.message_id.hex(),
                "action": word.action.value,
                "word": stated.word,
                "of": stated.of,
                "held": is_held,
                "destroyed": stated.destroyed,
            }
        )
    elif stated.counts:
        say(f"message {word.message_id.hex()} is {'held' if is_held else 'no longer held by your office'}")
        if stated.destroyed:
            say("it had been recalled: what the hold kept of it is destroyed now")
    else:
        say(f"word {stated.word} of {stated.of}: another security officer of your office has to {word.action} it too")
