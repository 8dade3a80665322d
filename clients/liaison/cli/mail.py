"""Messages: send, inbox, read, ack, track, explain."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from liaison import render
from liaison.client import Attachment, Client, InboxItem
from liaison.outgoing import DEFAULT_LIFETIME, Plan, Sent
from liaison.portions import PortionContent, PortionKind
from liaison.record import IN, Record
from liaison.release import Verdict
from liaison.safe_text import distinct_file_name, safe_file_name
from relay.protocol.cose import parse_sign1, verify_sign1
from relay.protocol.envelope import RECEIPT, decode_list, read_receipt
from relay.protocol.header import AddresseeKind, Precedence
from relay.protocol.errors import Malformed, Refused, Unverified

from .common import Session, json_option, pass_session, put, say, yes_option

_PRECEDENCES = click.Choice([precedence.name for precedence in Precedence], case_sensitive=False)


@click.command()
@click.option("--to", multiple=True, required=True, metavar="ADDR", help="Action addressee; may be repeated.")
@click.option("--info", multiple=True, metavar="ADDR", help="Addressee for information.")
@click.option("--exempt", multiple=True, metavar="ADDR", help="Shall not receive this.")
@click.option("--label", required=True, help='Marking ("NATO SECRET RELEASABLE TO SWE") or a 4774 XML file.')
@click.option("--precedence", type=_PRECEDENCES, default="ROUTINE")
@click.option("--subject", default="", metavar="S")
@click.option("--attach", multiple=True, metavar="FILE[:LABEL]", help="Attach a file, under its own label if given.")
@click.option("--expires", metavar="T", help="12h, 7d, or a time like 2026-12-24T18:00Z; default 30d.")
@click.option("--references", multiple=True, metavar="ID")
@click.option("--require-ack", is_flag=True, help="Ask for an acknowledgement.")
@click.option("--dry-run", is_flag=True, help="Show what the rules say; send nothing.")
@yes_option
@json_option
@click.argument("file", required=False)
@pass_session
def send(session: Session, to: Sequence[str], file: str | None, **given: Any) -> None:
    """Send a message. The body is FILE, or - or a pipe for stdin, or what you write in $EDITOR.

    In the body, a line that starts with a portion mark in brackets opens a portion with that label.
    """
    body = _body(file)
    with session.client() as client:
        plan = client.plan(
            to,
            label=given["label"],
            body=body,
            subject=given["subject"],
            info=given["info"],
            exempt=given["exempt"],
            attachments=[_attachment(text) for text in given["attach"]],
            precedence=Precedence[given["precedence"].upper()],
            expires_in=_seconds(given["expires"]),
            references=[client.find(prefix) for prefix in given["references"]],
            require_ack=given["require_ack"],
        )
        if given["dry_run"]:
            _show_plan(session, client, plan, as_json=given["as_json"])
            return
        if not plan.sender.permitted:
            raise Refused(f"you may not send under this label: {_why_sender(plan)}", rules=plan.sender.failing)
        _name_refused(plan.refused)
        if not plan.released:
            raise Refused("nobody may be given this message", rules=_all_rules(plan.refused))
        if not given["yes"]:
            session.confirm(f"Release to {len(plan.released)} of {len(plan.verdicts)} addressees?")
        sent = client.release(plan)
        _show_sent(sent, as_json=given["as_json"])


def _show_sent(sent: Sent, *, as_json: bool) -> None:
    if as_json:
        put({
            "message_id": sent.message_id.hex(),
            "dtg": render.dtg(sent.dtg),
            "released_to": list(sent.released_to),
            "refused": [{"address": v.addressee.address, "rules": list(v.rules)} for v in sent.refused],
        })  # fmt: skip
        return
    click.echo(sent.message_id.hex())
    say(f"released {render.dtg(sent.dtg)} to {', '.join(sent.released_to)}; logged as entry {sent.index}")
    for address in sent.last_resort:
        say(f"note: {address} had no one-time key left; its last-resort key was used")


def _name_refused(refused: Sequence[Verdict]) -> None:
    for verdict in refused:
        for rule, why in verdict.reasons:
            say(f"not released to {verdict.addressee.address}: {rule}: {why}")


def _all_rules(refused: Sequence[Verdict]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(rule for verdict in refused for rule in verdict.rules))


def _why_sender(plan: Plan) -> str:
    return "; ".join(rule.why for rule in plan.sender.rules if not rule.ok)


def _show_plan(session: Session, client: Client, plan: Plan, *, as_json: bool) -> None:
    """The decision table: a row per addressee and portion."""
    if as_json:
        put({
            "label": client.labels.marking(plan.draft.label),
            "sender": {"permitted": plan.sender.permitted, "rules": list(plan.sender.failing)},
            "released_to": [v.addressee.address for v in plan.released],
            "refused": [{"address": v.addressee.address, "rules": list(v.rules)} for v in plan.refused],
        })  # fmt: skip
        return
    out, marking = render.page(session.color), client.labels.marking(plan.draft.label)
    render.banner(out, marking, client.labels.color(plan.draft.label))
    rows = [row for verdict in plan.verdicts for row in _plan_rows(verdict, plan)]
    render.table(out, ("addressee", "portion", "released", "why not"), rows)
    render.banner(out, marking, client.labels.color(plan.draft.label))
    if not plan.sender.permitted:
        say(f"you may not send under this label: {_why_sender(plan)}")


def _plan_rows(verdict: Verdict, plan: Plan) -> list[list[str]]:
    address = verdict.addressee.address
    if verdict.obstacle:
        return [[address, "all", "no", f"{rule}: {why}"] for rule, why in verdict.reasons]
    rows = []
    for index, decision in enumerate(verdict.decisions):
        name = plan.draft.portions[index].name or f"text {index}"
        why = "; ".join(f"{rule.id}: {rule.why}" for rule in decision.rules if not rule.ok)
        rows.append([address, name, "yes" if decision.permitted else "no", why])
    return rows


def _body(file: str | None) -> str:
    if file == "-" or (file is None and not sys.stdin.isatty()):
        octets = sys.stdin.buffer.read()
    elif file is not None:
        octets = Path(file).read_bytes()
    else:
        octets = _edited()
    try:
        return octets.decode()
    except UnicodeDecodeError as problem:
        raise Malformed(f"the body is not UTF-8 (octet {problem.start})", hint="attach it with --attach instead") from None


def _edited() -> bytes:
    """What the person writes in an editor, in a private file that is gone afterwards."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(dir=os.environ.get("XDG_RUNTIME_DIR")) as folder:
        path = Path(folder) / "message.txt"
        path.touch(0o600)
        subprocess.run([*shlex.split(editor), str(path)], check=True)  # noqa: S603 - the person's own editor
        written = path.read_bytes()
    if not written.strip():
        raise Malformed("the message is empty; nothing was sent")
    return written


def _attachment(text: str) -> Attachment:
    """FILE or FILE:LABEL; a file whose name has a colon wins over a label."""
    path, label = Path(text), None
    if not path.is_file() and ":" in text:
        name, _, label = text.rpartition(":")
        path = Path(name)
    return Attachment(path.name, path.read_bytes(), label)


def _seconds(text: str | None) -> int:
    """Seconds from now until the given time, or for the given duration."""
    if text is None:
        return DEFAULT_LIFETIME
    units = {"m": 60, "h": 3600, "d": 86400}
    if text[:-1].isdecimal() and text[-1] in units:
        return int(text[:-1]) * units[text[-1]]
    try:
        until = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise Malformed(f"--expires {text!r} is no time", hint="12h, 7d or 2026-12-24T18:00Z") from None
    left = int((until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp() - time.time())
    if left <= 0:
        raise Malformed(f"--expires {text} is in the past")
    return left


@click.command()
@click.option("--follow", is_flag=True, help="Keep listing new messages as they come.")
@click.option("--state", type=click.Choice(["unread", "open", "handled"]), help="Only these.")
@json_option
@pass_session
def inbox(session: Session, follow: bool, state: str | None, as_json: bool) -> None:  # noqa: FBT001 - options
    """What is there to read, most urgent first."""
    with session.client() as client:
        shown: set[bytes] = set()
        while True:
            items = [item for item in client.inbox(wait=30 if shown and follow else 0) if item.message_id not in shown]
            shown |= {item.message_id for item in items}
            chosen = [item for item in items if state is None or item.state == state]
            _show_inbox(session, client, chosen, as_json=as_json)
            if not follow:
                return
            sys.stdout.flush()


def _show_inbox(session: Session, client: Client, items: Sequence[InboxItem], *, as_json: bool) -> None:
    items = sorted(items, key=lambda item: (-item.message.core.handling.precedence, item.message.core.created))
    for item in items:
        if item.problem:
            say(f"{item.message_id.hex()}: not verified: {item.problem}")
    if as_json:
        for item in items:
            put(_inbox_line(client, item))
        return
    if not items:
        return
    out = render.page(session.color)
    marking = " / ".join(dict.fromkeys(item.marking for item in items))
    render.banner(out, marking, None)
    columns = ("message", "precedence", "dtg", "from", "marking", "state")
    rows = [
        [
            item.message_id.hex()[:12],
            item.message.core.handling.precedence.name,
            render.dtg(item.message.core.handling.dtg),
            item.message.core.sender if not item.problem else f"NOT VERIFIED {item.message.core.sender}",
            item.marking,
            item.state,
        ]
        for item in items
    ]
    render.table(out, columns, rows)
    render.banner(out, marking, None)


def _inbox_line(client: Client, item: InboxItem) -> dict[str, Any]:
    core = item.message.core
    label = client.labels.label_of(core.label)
    line = {
        "message_id": item.message_id.hex(),
        "from": core.sender,
        "precedence": core.handling.precedence.name,
        "dtg": render.dtg(core.handling.dtg),
        "label": label_json(label),
        "marking": item.marking,
        "state": item.state,
    }
    return line | ({"problem": item.problem} if item.problem else {})


def label_json(label: Any) -> dict[str, Any] | None:
    """A label as JSON: policy, classification, categories."""
    if label is None:
        return None
    return {
        "policy": label.policy.name,
        "classification": label.classification,
        "categories": [{"tag": c.tag_name, "type": c.type.name, "values": list(c.values)} for c in label.categories],
    }


@click.command()
@click.argument("message_id", metavar="ID")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Save attachments there.")
@json_option
@pass_session
def read(session: Session, message_id: str, out: Path | None, as_json: bool) -> None:  # noqa: FBT001 - options
    """Open a message, or show again one opened before."""
    with session.client() as client:
        record = client.read(client.find(message_id))
        saved = _save(record, out) if out is not None else {}
        if as_json:
            put(_message_json(client, record, saved))
        else:
            _show_message(session, client, record, saved)


def _save(record: Record, folder: Path) -> dict[int, Path]:
    """Attachments in the folder, under harmless names, never over an existing file."""
    folder.mkdir(parents=True, exist_ok=True)
    taken, saved = {path.name for path in folder.iterdir()}, {}
    for index, portion in record.portions.items():
        if portion.kind is PortionKind.ATTACHMENT:
            name = distinct_file_name(safe_file_name(portion.name), taken)
            taken.add(name)
            descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(portion.content)
            saved[index] = folder / name
    return saved


def _message_json(client: Client, record: Record, saved: dict[int, Path]) -> dict[str, Any]:
    core = record.message.core
    portions, attachments = [], []
    for index, portion in enumerate(core.portions):
        content = record.portions.get(index)
        label = client.labels.label_of(portion.label)
        row = {"index": index, "label": label_json(label), "marking": client.labels.marking(label)}
        if content is not None and content.kind is PortionKind.ATTACHMENT:
            path = str(saved[index]) if index in saved else None
            attachments.append({**row, "name": content.name, "size": len(content.content), "saved": path})
        else:
            text = content.text if content is not None else None
            portions.append({**row, "text": text, "withheld": content is None})
    head = record.portions.get(0)
    return {
        "message_id": core.message_id.hex(),
        "from": core.sender,
        "marking": client.labels.marking(client.labels.label_of(core.label)),
        "subject": head.name if head is not None else None,
        "precedence": core.handling.precedence.name,
        "dtg": render.dtg(core.handling.dtg),
        "portions": portions,
        "attachments": attachments,
    }


def _show_message(session: Session, client: Client, record: Record, saved: dict[int, Path]) -> None:
    out, core = render.page(session.color), record.message.core
    label = client.labels.label_of(core.label)
    marking, color = client.labels.marking(label), client.labels.color(label) if label is not None else None
    render.banner(out, marking, color)
    head = record.portions.get(0)
    rows = [
        ("Message", core.message_id.hex()),
        ("From", core.sender),
        ("To", render.addressees(core, AddresseeKind.ACTION)),
        ("Info", render.addressees(core, AddresseeKind.INFO)),
        ("Precedence", core.handling.precedence.name),
        ("DTG", render.dtg(core.handling.dtg)),
        ("Type", core.handling.message_type.upper() if core.handling.message_type != "operation" else ""),
        ("Expires", render.moment(core.expires)),
        ("References", ", ".join(reference.hex()[:12] for reference in core.handling.references)),
        ("Protection", "" if record.one_time else "last-resort key: no forward secrecy until it is rotated"),
        ("Subject", head.name if head is not None else f"[withheld: {marking}]"),
    ]
    render.fields(out, [(name, value) for name, value in rows if value])
    for index, portion in enumerate(core.portions):
        _show_portion(out, client, index, record.portions.get(index), client.labels.label_of(portion.label), saved)
    if core.handling.require_ack and record.direction == IN and record.state != "handled":
        say(f"the originator asks for an acknowledgement: liaison ack {core.message_id.hex()[:12]}")
    render.banner(out, marking, color)


def _show_portion(  # noqa: PLR0913 - what a portion is and where it goes
    out: Any, client: Client, index: int, content: PortionContent | None, label: Any, saved: dict[int, Path]
) -> None:
    mark = client.labels.portion_mark(label) if label is not None else "no readable label"
    if content is None:
        render.text(out, f"\n[withheld: {mark}]")
    elif content.kind is PortionKind.ATTACHMENT:
        where = f", saved as {saved[index]}" if index in saved else "; save with --out DIR"
        render.text(out, f"\n({mark}) attachment {content.name}, {render.size(len(content.content))}{where}")
    elif content.kind is PortionKind.PARAGRAPH:
        render.text(out, f"\n({mark}) {content.text}")
    else:
        render.text(out, f"\n{content.text}")


@click.command()
@click.argument("message_id", metavar="ID")
@click.option("--note", metavar="TEXT", help="Send this along, sealed, as a message of its own.")
@json_option
@pass_session
def ack(session: Session, message_id: str, note: str | None, as_json: bool) -> None:  # noqa: FBT001 - options
    """Tell the originator, signed, that you have taken the message in."""
    with session.client() as client:
        found = client.find(message_id)
        at = client.acknowledge(found)
        if note is not None:
            core = client.read(found).message.core
            label = client.labels.label_of(core.label)
            if label is None:
                raise Malformed("the message has no readable label to answer under")
            client.send([core.sender], label=label, body=note, subject="Acknowledged", references=[found])
        if as_json:
            put({"message_id": found.hex(), "state": "handled", "time": render.moment(at // 1000)})
        else:
            say(f"acknowledged {found.hex()[:12]} at {render.moment(at // 1000)}")


@click.command()
@click.argument("message_id", metavar="ID")
@json_option
@pass_session
def track(session: Session, message_id: str, as_json: bool) -> None:  # noqa: FBT001 - options
    """What became of a message you sent: who has opened it, who has acknowledged it."""
    with session.client() as client:
        client.sync()
        found = client.find(message_id)
        record = client.read(found)
        rows = list(_receipts(client, record))
        if as_json:
            for row in rows:
                put(row)
            return
        out = render.page(session.color)
        render.table(out, ("address", "state", "time"), [[row["address"], row["state"], row["time"]] for row in rows])


def _receipts(client: Client, record: Record) -> Any:
    """A row per receipt whose signature holds, then a row per addressee of whom there is none."""
    core, heard = record.message.core, set[str]()
    answer = client.transport.get(f"/v1/messages/{core.message_id.hex()}/receipts")
    for device_id, _state, encoded, index in decode_list(answer, "receipts"):
        device = client.trust.directory.devices.get(device_id)
        signed = parse_sign1(encoded, RECEIPT)
        receipt = read_receipt(signed)
        if device is None or receipt.message_ref != record.message.ref or receipt.device_id != device_id:
            raise Unverified("the relay showed a receipt for another message or of an unknown device")
        verify_sign1(signed, device.signature_public)
        heard.add(device.address)
        yield {"address": device.address, "state": receipt.state, "time": render.moment(receipt.at), "entry": index}
    for addressee in core.addressees:
        if addressee.kind is not AddresseeKind.EXEMPTED and addressee.address not in heard:
            yield {"address": addressee.address, "state": "released", "time": "", "entry": None}
    for address, rules in record.refused:
        yield {"address": address, "state": f"refused: {', '.join(rules)}", "time": "", "entry": None}


@click.command()
@click.argument("message_id", metavar="ID", required=False)
@click.option("--to", multiple=True, metavar="ADDR")
@click.option("--label", help="Marking or 4774 XML file.")
@json_option
@pass_session
def explain(session: Session, message_id: str | None, to: Sequence[str], label: str | None, as_json: bool) -> None:  # noqa: FBT001
    """Who may read this, and which rule says no: a message, or an address and a label."""
    if (message_id is None) == (not to) or (to and label is None):
        raise click.UsageError("give a message ID, or --to with --label")
    with session.client() as client:
        if message_id is not None:
            record = client.read(client.find(message_id))
            core = record.message.core
            wanted = client.labels.label_of(core.label)
            to = [each.address for each in core.addressees if each.kind is not AddresseeKind.EXEMPTED]
            if wanted is None:
                raise Malformed("the message has no readable label")
            plan = client.plan(to, label=wanted, body="")
        else:
            plan = client.plan(to, label=str(label), body="")
        if as_json:
            for verdict in plan.verdicts:
                put(_verdict_json(verdict))
            return
        _show_plan(session, client, plan, as_json=False)


def _verdict_json(verdict: Verdict) -> dict[str, Any]:
    rules = [
        {"rule": rule.id, "ok": rule.ok, "why": rule.why, "reference": rule.reference}
        for decision in verdict.decisions
        for rule in decision.rules
    ]
    if verdict.obstacle:
        rules = [{"rule": rule, "ok": False, "why": why, "reference": ""} for rule, why in verdict.reasons]
    return {"address": verdict.addressee.address, "permitted": verdict.is_released, "rules": rules}


