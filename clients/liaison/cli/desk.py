"""What follows from a message, and what takes two: reply, forward, consent, draft, release, downgrade, communities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from liaison import render
from liaison.client import Client
from liaison.composing import addressed
from liaison.desk import Desk
from liaison.drafting import (
    circulate_plan,
    draft_downgrade,
    open_draft,
    release_draft,
    signed_at,
)
from liaison.plan import TWO_PERSON, Plan
from liaison.record import Record
from relay.protocol.errors import Refused
from relay.protocol.header import Precedence

from .body import body_of
from .common import Commands, Session, json_option, pass_session, text_in, yes_option
from .message import save_attachments, show_message
from .receipt import show_drafted, show_sent
from .saying import put, say
from .send import (
    PRECEDENCES,
    ask_for_mapping,
    check_before_writing,
    confirm_release,
    dry_run,
    dry_run_option,
    message_options,
    plan_from,
)

_precedence_option = click.option("--precedence", type=PRECEDENCES, metavar="P", help="Default: that of the original.")


def _precedence(given: dict[str, Any]) -> Precedence | None:
    return Precedence[given["precedence"].upper()] if given["precedence"] else None


@click.command()
@click.argument("message_id", metavar="ID")
@click.option("--label", help="Not lower than what the reply contains; default: exactly that.")
@click.option("--quote", is_flag=True, help="Quote the text, each portion under its own label.")
@_precedence_option
@dry_run_option
@yes_option
@json_option
@click.argument("file", required=False)
@pass_session
def reply(session: Session, /, message_id: str, file: str | None, **given: Any) -> None:
    """Answer a message's sender, under at least the label of what is answered. FILE is the body, as with send."""
    with session.client() as client:
        found = client.find(message_id)
        check_before_writing(client, file, given["label"])
        with body_of(file, client.profile.folder, keep=given["dry_run"]) as body:
            plan = Desk(client).plan_reply(
                found, body, label=given["label"], quote=given["quote"], precedence=_precedence(given)
            )
            _finish(session, client, plan, given)


@click.command()
@click.argument("message_id", metavar="ID")
@click.option("--to", multiple=True, required=True, metavar="ADDR", help="Whom to; repeat for each.")
@click.option("--label", help="Not lower than what is forwarded; default: exactly that.")
@_precedence_option
@dry_run_option
@yes_option
@json_option
@click.argument("file", required=False)
@pass_session
def forward(session: Session, /, message_id: str, to: Sequence[str], file: str | None, **given: Any) -> None:
    """Pass a message on, with a note of your own. Beyond its offices, originator control asks for consent.

    FILE is the note, as the body with send.
    """
    with session.client() as client:
        found = client.find(message_id)
        addressed(to, (), ())
        check_before_writing(client, file, given["label"])
        with body_of(file, client.profile.folder, keep=given["dry_run"]) as body:
            plan = Desk(client).plan_forward(found, to, body, label=given["label"], precedence=_precedence(given))
            beyond = [verdict for verdict in plan.refused if "handling" in verdict.rules]
            if beyond:
                office = beyond[0].addressee.address.partition("@")[2]
                ask = f"liaison consent ask {message_id} --office {office}"
                say(f"to ask the originator: {ask}; its consent counts once you have read it")
            _finish(session, client, plan, given)


def _finish(session: Session, client: Client, plan: Plan, given: dict[str, Any]) -> None:
    if given["dry_run"]:
        dry_run(session, client, plan, as_json=given["as_json"])
        return
    confirm_release(session, client, plan, yes=given["yes"], as_json=given["as_json"])
    show_sent(client.release(plan), as_json=given["as_json"])
    ask_for_mapping(client, plan)


@click.group(cls=Commands)
def consent() -> None:
    """Leave to pass an originator-controlled message on: ask for it, give it."""


@consent.command()
@click.argument("message_id", metavar="ID")
@click.option("--office", required=True, help="The office it shall go to.")
@click.option("--reason", default="", help="Why.")
@json_option
@pass_session
def ask(session: Session, /, message_id: str, office: str, reason: str, *, as_json: bool) -> None:
    """Ask the originator of a message for leave to pass it on to an office."""
    with session.client() as client:
        show_sent(Desk(client).ask_consent(client.find(message_id), office, reason), as_json=as_json)


@consent.command()
@click.argument("message_id", metavar="ID")
@click.option("--days", type=click.IntRange(1, 365), default=30, show_default=True, help="How long it holds.")
@json_option
@pass_session
def give(session: Session, /, message_id: str, days: int, *, as_json: bool) -> None:
    """Grant what the request in message ID asks for: this message, this office, this long."""
    with session.client() as client:
        show_sent(Desk(client).give_consent(client.find(message_id), days), as_json=as_json)


@click.command()
@message_options
@yes_option
@json_option
@click.argument("file", required=False)
@pass_session
def draft(session: Session, /, to: Sequence[str], file: str | None, **given: Any) -> None:
    """Seal a message for another officer to release, where the policy asks for two persons.

    Body and options are those of send; no copy goes blind.
    """
    with session.client() as client, plan_from(client, to, file, given) as plan:
        confirm_release(session, client, plan, yes=given["yes"], as_json=given["as_json"])
        show_drafted(circulate_plan(client, plan), as_json=given["as_json"])
        ask_for_mapping(client, plan)


@click.command()
@click.argument("message_id", metavar="ID")
@click.option("--label", required=True, help="The lower label.")
@click.option("--reason", required=True, help="Stands in the header, which the relay reads too.")
@click.option("--to", multiple=True, metavar="ADDR", help="Repeat for each; default: the addressees of the original.")
@click.option("--sanitised", type=click.File("r"), metavar="FILE", help="Text that takes the place of the content.")
@json_option
@pass_session
def downgrade(session: Session, /, message_id: str, to: Sequence[str], **given: Any) -> None:
    """Replace a message of your office under a lower label. Two other officers have to release it."""
    with session.client() as client:
        body = text_in(given["sanitised"]) if given["sanitised"] is not None else None
        drafted = draft_downgrade(client, client.find(message_id), given["label"], given["reason"], to, body)
        show_drafted(drafted, as_json=given["as_json"])


@click.command()
@click.argument("message_id", metavar="ID")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Save attachments there.")
@yes_option
@json_option
@pass_session
def release(session: Session, /, message_id: str, out: Path | None, *, yes: bool, as_json: bool) -> None:
    """Read a draft exactly as its addressees would, and release it with your signature."""
    with session.client() as client:
        found = open_draft(client, client.find(message_id))
        if found.message.core.sender == client.profile.pins.address:
            raise Refused("you drafted this yourself: two-person release takes two persons", rules=(TWO_PERSON,))
        record = Record("draft", "draft", found.message.encoded, found.portions, one_time=True, receipt_sent=True)
        saved = save_attachments(record, out, client.meter) if out is not None else {}
        if not as_json:
            show_message(session, client, record, saved, from_whom="Draft of")
        earlier, seen = signed_at(found, client.profile), client.trust.seen()
        if earlier is not None:
            say(f"you signed this at {render.moment(earlier)}: whatever has gone does not go a second time")
        if not yes:
            session.confirm("Release this message, as shown, in your office's name?")
        needed, index = release_draft(client, found)
    message_id = found.message.core.message_id.hex()
    if as_json:
        put({
            "message_id": message_id,
            "released": not needed,
            "signatures_needed": needed,
            "saved": [str(path) for path in saved.values()],
        })  # fmt: skip
    elif needed:
        say(f"signed; {needed} more officer has to release it")
    elif index < seen:
        say(f"this was released already, as message {message_id}; logged as entry {index}")
    else:
        say(f"released as message {message_id}; logged as entry {index}")


@click.group(cls=Commands)
def community() -> None:
    """Communities of interest: who is on a roster, and, for its manager, who shall be."""


@community.command("list")
@json_option
@pass_session
def list_communities(session: Session, /, *, as_json: bool) -> None:
    """Every community, its manager and its roster."""
    with session.client() as client:
        client.sync()
        states = sorted(client.trust.directory.communities.items())
        for address, state in states:
            if as_json:
                put({"community": address, "manager": state.community.manager, "members": sorted(state.members)})
        if not as_json:
            rows = [[a, s.community.manager, str(s.version), ", ".join(sorted(s.members))] for a, s in states]
            render.table(render.page(session.color), ("community", "manager", "version", "members"), rows)


@community.command()
@click.argument("address")
@click.option("--member", multiple=True, required=True, metavar="ADDR", help="Repeat for each; replaces the roster.")
@json_option
@pass_session
def roster(session: Session, /, address: str, member: Sequence[str], *, as_json: bool) -> None:
    """As the manager of ADDRESS, set its roster."""
    with session.client() as client:
        version = Desk(client).keep_roster(address, member)
    if as_json:
        put({"community": address, "version": version, "members": sorted(set(member))})
    else:
        say(f"roster of {address}, version {version}: {', '.join(sorted(set(member)))}")
