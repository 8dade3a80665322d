"""What a command says of what it has sent, or sealed."""

from __future__ import annotations

import click

from liaison import render
from liaison.as_json import sent_json
from liaison.drafting import Drafted, DraftWaiting
from liaison.release import KEYLESS
from liaison.waiting import Sent, Waiting

from .saying import put, say


def show_sent(sent: Sent, *, as_json: bool) -> None:
    if as_json:
        put(sent_json(sent))
        return
    for verdict in sent.refused:
        for rule, why in verdict.reasons if verdict.obstacle in KEYLESS else ():  # nobody could say so before
            say(f"not released to {verdict.addressee.address}: {rule}: {why}")
    click.echo(sent.message_id.hex())
    if sent.waits:  # the error that follows says so
        return
    say(f"released {render.dtg(sent.dtg)} to {', '.join(sent.released_to)}; logged as entry {sent.index}")
    for address in sent.last_resort:
        say(f"note: {address} had no one-time key left; its last-resort key was used")


def show_waiting(error: Waiting, *, as_json: bool) -> None:
    """What has been sealed and waits, in the form of the command that sealed it."""
    if isinstance(error, DraftWaiting):
        show_drafted(error.drafted, as_json=as_json)
    else:
        show_sent(error.sent, as_json=as_json)


def show_drafted(drafted: Drafted, *, as_json: bool) -> None:
    if as_json:
        put({
            "message_id": drafted.message_id.hex(),
            "draft": drafted.sent.message_id.hex(),
            "to": list(drafted.sent.released_to),
            **({"state": "waiting"} if drafted.sent.waits else {}),
        })  # fmt: skip
        return
    click.echo(drafted.message_id.hex())
    say(f"waits for release; each releasing officer runs: liaison release {drafted.sent.message_id.hex()[:12]}")
