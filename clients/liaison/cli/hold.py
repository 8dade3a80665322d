"""Legal hold: what two security officers of an office do to keep a message from being destroyed."""

from __future__ import annotations

import click

from liaison.holding import state_hold
from relay.protocol.hold import Action

from .common import Session, json_option, pass_session, put, say

reason_option = click.option("--reason", required=True, help="One line; operator and auditors read it.")


@click.group()
def hold() -> None:
    """Keep a message from being destroyed; two security officers place a hold, and two lift it."""


@hold.command()
@click.argument("message", metavar="ID")
@reason_option
@json_option
@pass_session
def place(session: Session, message: str, reason: str, *, as_json: bool) -> None:
    """Ask that the message be kept, whatever its expiry and retention; the second officer's word makes it so."""
    _state(session, Action.PLACE, message, reason, as_json=as_json)


@hold.command()
@click.argument("message", metavar="ID")
@reason_option
@json_option
@pass_session
def lift(session: Session, message: str, reason: str, *, as_json: bool) -> None:
    """Ask that your office's hold end; the second officer's word ends it."""
    _state(session, Action.LIFT, message, reason, as_json=as_json)


def _state(session: Session, action: Action, message: str, reason: str, *, as_json: bool) -> None:
    with session.client() as client:
        message_id = client.find(message)
        stated = state_hold(client, action, message_id, reason)
        is_held = stated.counts is (action is Action.PLACE)
        if as_json:
            put({"message_id": message_id.hex(), "action": action.value, "word": stated.word, "of": stated.of,
                 "held": is_held})  # fmt: skip
        elif stated.counts:
            say(f"message {message_id.hex()} is {'held' if is_held else 'no longer held by your office'}")
        else:
            say(f"word {stated.word} of {stated.of}: another security officer of your office has to {action} it too")
