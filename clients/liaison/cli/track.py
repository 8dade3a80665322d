"""What became of a message, and what the rules say of it: track, explain."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click

from liaison import render
from liaison.client import Client
from liaison.drafted import OwnDraft, own_draft
from liaison.durations import seconds_of
from liaison.plan import Plan
from liaison.record import OUT, Record, read_record
from liaison.release import RECALLED, Verdict, review
from liaison.tracking import Tracked, evidence_chain, look_up, sent_record, track_rows
from relay.protocol.access import Circle
from relay.protocol.endorsement import verify_passed_on
from relay.protocol.errors import Malformed, Refused, Unknown
from relay.protocol.header import Addressee, AddresseeKind, Core

from .common import Session, check_label_file, json_option, pass_session
from .saying import put, say
from .send import sender_json, show_plan, show_verdicts
from .sent import list_sent


@click.command()
@click.argument("message_id", metavar="[ID]", required=False)
@click.option("--evidence", is_flag=True, help="Positive and negative evidence by rank, proven by the log.")
@click.option("--within", metavar="T", help="With --evidence: what was due in 4h or 2d; else at the message's expiry.")
@click.option("--limit", type=click.IntRange(1, 1000), metavar="N", help="Without an ID: how many; default 20.")
@json_option
@pass_session
def track(
    session: Session,
    message_id: str | None,
    within: str | None,
    limit: int | None,
    *,
    evidence: bool,
    as_json: bool,
) -> None:
    """What became of a message you sent: who has opened it, who has acknowledged it.

    Without an ID it lists what you have sent from this device, newest first. A draft goes by either of its ids.
    """
    if message_id is None:
        if evidence or within is not None:
            raise click.UsageError("--evidence and --within are about one message: give its ID")
        list_sent(session, limit or 20, as_json=as_json)
    elif limit is not None:
        raise click.UsageError("--limit is for the list of what was sent: give no ID")
    elif within is not None and not evidence:
        raise click.UsageError("--within is about evidence: give --evidence too")
    else:
        _track(session, message_id, within, evidence=evidence, as_json=as_json)


def _track(session: Session, message_id: str, within: str | None, *, evidence: bool, as_json: bool) -> None:
    due = seconds_of(within, "--within") if within is not None else None
    with session.client() as client:
        client.sync()
        draft = own_draft(client, found := client.find(message_id))
        released = look_up(client, draft.record) if draft is not None else None
        record = sent_record(client, found if draft is None else draft.standing(released))
        tracked = released if evidence or released is not None else look_up(client, record)
        if evidence:
            rows = [row.as_json() for row in evidence_chain(client, record, due)]
        else:
            rows = list(track_rows(client, record, tracked))
    if draft is not None:
        _say_draft(draft, released, tracked)
        rows = [row | draft.as_json(released) for row in rows]
    if as_json:
        for row in rows:
            put(row)
    elif evidence:
        _show_evidence(session, rows)
    else:
        shown = [[row["address"], row["state"], *([row["time"]] if row["time"] else [])] for row in rows]
        render.table(render.page(session.color), ("address", "state", "time"), shown)
        if tracked is not None and tracked.recalled is not None:
            index, entry = tracked.recalled
            say(f"recalled by {entry.address} with entry {index} of the access log, verified")


def _say_draft(draft: OwnDraft, released: Tracked | None, tracked: Tracked | None) -> None:
    """Where a draft stands; the rows are the message's once it is released, and its carrier's until then."""
    if released is not None:
        index, entry = released.accepted
        at = render.moment(entry.time // 1000)
        say(f"released by {entry.address} at {at} as message {draft.message_id.hex()}, entry {index}, verified")
    elif draft.carrier is None:
        say("nobody has released it, and nothing of it has gone to another officer")
    elif tracked is not None and tracked.recalled is not None:
        say("nobody has released it")
    else:
        say(f"nobody has released it; another officer runs: liaison release {draft.carrier.hex()[:12]}")


def _show_evidence(session: Session, rows: list[dict[str, Any]]) -> None:
    shown = [
        [
            row["address"],
            f"{row['rank']}{'+' if row['positive'] else '-'}",
            row["evidence"],
            row["proof"] if row["entry"] is None else f"{row['proof']}, entry {row['entry']}",
            render.moment(row["time"] // 1000) if row["time"] is not None else "",
            row["reason"],
        ]
        for row in rows
    ]
    render.table(render.page(session.color), ("address", "rank", "evidence", "proof", "time", "reason"), shown)


@click.command()
@click.argument("message_id", metavar="[ID]", required=False)
@click.option("--to", multiple=True, metavar="ADDR", help="Who might get it; repeat for each.")
@click.option("--label", help="Marking or 4774 XML file.")
@json_option
@pass_session
def explain(session: Session, message_id: str | None, to: Sequence[str], label: str | None, *, as_json: bool) -> None:
    """Who may read this now, and which rule says no: a message ID, or --to and --label of one not written yet."""
    if (message_id is None) == (not to) or (message_id is None) == (label is None):
        raise click.UsageError("give a message ID, or --to with --label")
    check_label_file(label or "")
    with session.client() as client:
        if message_id is not None:
            _explain_message(session, client, message_id, as_json=as_json)
            return
        plan = client.plan(to, label=str(label), body="")
        if as_json:
            for verdict in plan.verdicts:
                put(_verdict_json(verdict) | {"sender": sender_json(plan)})
        else:
            show_plan(session, client, plan, as_json=False)
            _say_against(plan)


def _say_against(plan: Plan) -> None:
    try:
        plan.require_unaided()
    except Refused as refused:
        say(f"{refused} ({', '.join(refused.rules)})")


def _explain_message(session: Session, client: Client, message_id: str, *, as_json: bool) -> None:
    """The decision anew, by the message's header alone: nothing is opened for it."""
    client.sync()
    core, sent = _header(client, client.find(message_id))
    labels = [client.labels.label_of(portion.label) for portion in core.portions]
    banner, readable = client.labels.label_of(core.label), [label for label in labels if label is not None]
    if banner is None or len(readable) != len(labels):
        raise Malformed("the message has no readable label")
    circle = Circle.of(core, verify_passed_on(client.trust.directory, core))
    refused = sent.refused if sent is not None else ()
    asked = tuple(Addressee(AddresseeKind.ACTION, address) for address, _rules in refused)
    circle = replace(circle, addressees=circle.addressees + asked)
    encoded = [portion.label for portion in core.portions]
    verdicts = review(client.judge, client.trust, circle, encoded, int(time.time()))
    tracked = look_up(client, sent) if sent is not None else None
    if tracked is not None and tracked.recalled is not None:
        verdicts = [Verdict(verdict.addressee, (), (), RECALLED) for verdict in verdicts]
    if as_json:
        for verdict in verdicts:
            put(_verdict_json(verdict))
        return
    names = [f"{index} ({client.labels.portion_mark(label)})" for index, label in enumerate(readable)]
    show_verdicts(session, client, verdicts, names, (client.labels.marking(banner), client.labels.color(banner)))


def _header(client: Client, message_id: bytes) -> tuple[Core, Record | None]:
    """The header of a message kept or waiting, and the record of one we sent."""
    kept = client.profile.cabinet.message(message_id)
    if kept is not None:
        record = read_record(kept)
        return record.message.core, record if record.direction == OUT else None
    for item in client.inbox():
        if item.message_id == message_id and not item.problem:
            return item.message.core, None
    raise Unknown("no such message is available to this device", hint="see: liaison inbox")


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    rules = [
        {"portion": index, "rule": rule.id, "ok": rule.ok, "why": rule.why, "reference": rule.reference}
        for index, decision in enumerate(verdict.decisions)
        for rule in decision.rules
    ]
    if verdict.obstacle:
        rules = [{"portion": None, "rule": rule, "ok": False, "why": why} for rule, why in verdict.reasons]
    return {"address": verdict.addressee.address, "permitted": verdict.is_released, "rules": rules}
