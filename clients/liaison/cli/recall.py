"""Taking a message back."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from liaison import render
from liaison.drafted import OwnDraft, own_draft, to_take_back
from liaison.recalling import TakenBack, sign_recall
from liaison.recalling import recall as take_back
from relay.protocol.armor import armor, dearmor
from relay.protocol.recall import read_recall_detail

from .common import Session, json_option, pass_session, yes_option
from .delivery import deliver
from .saying import put, say

_KIND = "RECALL"


@click.command()
@click.argument("message_id", metavar="ID")
@click.option("--reason", required=True, metavar="TEXT", help="One line; the relay and auditors read it.")
@click.option("--spill", is_flag=True, help="Stop part downloads too: a security officer, or two officers.")
@click.option(
    "--sign-only",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write your signature there for another officer to post.",
)
@click.option(
    "--with",
    "beside",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    multiple=True,
    help="Another officer's signature.",
)
@yes_option
@json_option
@pass_session
def recall(  # noqa: PLR0913 - one parameter for each option
    session: Session,
    message_id: str,
    reason: str,
    sign_only: Path | None,
    beside: tuple[Path, ...],
    *,
    spill: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Destroy what nobody has opened yet, and learn, proven by the log, who has.

    A message that is still waiting here is not posted any more. Of a draft, under either of its ids, it takes back what
    was released; while nothing was, what carries it to the releasing officers.
    """
    with session.client() as client:
        found = client.find(message_id)
        if (draft := own_draft(client, found)) is not None:
            found = to_take_back(client, draft, found)
            _say_draft(draft, found)
        if sign_only is not None:
            signed = sign_recall(client, found, reason, spill=spill)
            deliver(sign_only, armor(signed, _KIND).encode(), "recall")
            if as_json:
                put({"message_id": found.hex(), "signed": str(sign_only)})
            say(f"give {sign_only} to the officer who runs: liaison recall {found.hex()} --with {sign_only} ...")
            return
        if not yes:
            session.confirm(f"Take back message {found.hex()} for good?")
        others = [dearmor(path.read_bytes(), _KIND) for path in beside]
        taken = take_back(client, found, reason, spill=spill, beside=others)
        rows = taken.as_json(client) if taken is not None else []
    if taken is None:
        _show_withdrawn(found, as_json=as_json)
    elif as_json:
        for row in rows:
            put({"message_id": found.hex(), **row})
    else:
        _show_taken(session, taken, rows)


def _say_draft(draft: OwnDraft, found: bytes) -> None:
    if found == draft.message_id:
        say(f"the draft was released: this takes back message {found.hex()}")
    else:
        say(f"this takes back message {found.hex()}, which carries the draft to the releasing officers")
        say(f"who has opened it can release it still; should he, then: liaison recall {draft.message_id.hex()[:12]}")


def _show_taken(session: Session, taken: TakenBack, rows: Sequence[dict[str, Any]]) -> None:
    shown = [[row["address"], row["device"][:12], row["state"], _opened(row["opened"])] for row in rows]
    render.table(render.page(session.color), ("address", "device", "state", "opened"), shown)
    say(f"recalled with entry {taken.index} of the access log, verified")
    if read_recall_detail(taken.entry.detail).held:
        say("a legal hold stands: nobody opens it any more, and nothing is destroyed before the hold is lifted")


def _show_withdrawn(message_id: bytes, *, as_json: bool) -> None:
    if as_json:
        put({"message_id": message_id.hex(), "state": "withdrawn"})
    else:
        say("it waited here, and the relay says that it has no such message: it will not be posted")


def _opened(opened: dict[str, int] | None) -> str:
    if opened is None:
        return ""
    at = datetime.fromtimestamp(opened["time"] / 1000, UTC)
    return f"entry {opened['index']}, {at:%Y-%m-%d %H:%M:%SZ}"
