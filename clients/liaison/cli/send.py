"""Messages that go: send."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import click

from liaison import render
from liaison.as_json import refused_json
from liaison.client import Client
from liaison.composing import DEFAULT_LIFETIME, Handling, addressed, handled
from liaison.desk import Desk
from liaison.durations import lifetime
from liaison.lists import PREFIX, expand
from liaison.plan import Plan
from liaison.release import UNKNOWN_ADDRESS, Verdict
from liaison.waiting import Waiting
from relay.protocol.errors import Refused, Unavailable
from relay.protocol.header import MESSAGE_TYPES, Precedence

from .blind import send_copies
from .body import body_of, is_written_now
from .common import Command, Session, check_label_file, json_option, pass_session, yes_option
from .given import attachment
from .receipt import show_sent
from .saying import fail, put, say

PRECEDENCES = click.Choice([precedence.name for precedence in Precedence], case_sensitive=False)
_PRECEDENCE_HELP = f"{', '.join(precedence.name for precedence in Precedence)}; default ROUTINE."
_INFO_PRECEDENCE_HELP = "For those addressed for information: not above --precedence; default ROUTINE at most."
_TYPE_HELP = f"{', '.join(MESSAGE_TYPES)}; default {MESSAGE_TYPES[0]}. Readers are shown it, answers keep it."

_OPTIONS = (
    click.option("--to", multiple=True, required=True, metavar="ADDR", help="Action addressee; list:NAME for a list."),
    click.option("--info", multiple=True, metavar="ADDR", help="Addressee for information."),
    click.option("--exempt", multiple=True, metavar="ADDR", help="Shall not receive this."),
    click.option("--label", required=True, help='Marking ("NATO SECRET RELEASABLE TO SWE") or a 4774 XML file.'),
    click.option("--precedence", type=PRECEDENCES, metavar="P", default="ROUTINE", help=_PRECEDENCE_HELP),
    click.option("--info-precedence", type=PRECEDENCES, metavar="P", help=_INFO_PRECEDENCE_HELP),
    click.option("--subject", default="", metavar="S", help="Sealed with the body."),
    click.option("--attach", multiple=True, metavar="FILE[:LABEL]", help="A file, under its own label if given."),
    click.option("--expires", metavar="T", help="12h, 7d, or a time like 2026-12-24T18:00Z; default 30d."),
    click.option("--references", multiple=True, metavar="ID", help="A message that this one is about."),
    click.option("--type", type=click.Choice(MESSAGE_TYPES), metavar="T", default=MESSAGE_TYPES[0], help=_TYPE_HELP),
    click.option("--purpose", default="", metavar="TEXT", help="Where an agreement is for stated purposes."),
    click.option("--orcon", is_flag=True, help="Originator controlled: passed on only with your consent."),
    click.option("--require-ack", is_flag=True, help="Ask for an acknowledgement."),
)

dry_run_option: Callable[[Command], Command] = click.option(
    "--dry-run", is_flag=True, help="Show what the rules say, fail where sending would; send nothing."
)


def message_options(command: Command) -> Command:
    """The options that say what a message is and to whom it goes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command()
@message_options
@click.option("--blind", multiple=True, metavar="ADDR", help="Gets a copy of its own, unseen by the others.")
@dry_run_option
@yes_option
@json_option
@click.argument("file", required=False)
@pass_session
def send(session: Session, /, to: Sequence[str], file: str | None, **given: Any) -> None:
    """Send a message. The body is FILE, or - or a pipe for stdin, or what you write in $EDITOR.

    --to, --info, --exempt, --blind, --attach and --references are given once for each: --to A --to B.

    In the body, a line that starts with a portion mark in brackets, behind an outline's numbers or not, opens a portion
    with that label. In a body with such marks no line may start with another bracket of up to eight words, which could
    be a mistyped one, and no sentence with a mark: put a word before it. A list's (1) or (a) is text.
    """
    with session.client() as client, plan_from(client, to, file, given) as plan:
        copies = Desk(client).plan_blind(plan, given["blind"])
        if given["dry_run"]:
            dry_run(session, client, plan, copies, as_json=given["as_json"])
            return
        _check_copies(client, copies, yes=given["yes"])
        confirm_release(session, client, plan, copies, yes=given["yes"], as_json=given["as_json"])
        try:
            sent = client.release(plan)
        except Waiting:
            if given["blind"]:
                say(f"no blind copy was made for {', '.join(given['blind'])}")
            raise
        show_sent(sent, as_json=given["as_json"])
        problem = send_copies(client, plan, sent, given["blind"])
        ask_for_mapping(client, plan)
    if problem is not None:
        fail(problem)  # the message itself has gone, and is on standard output


@contextmanager
def plan_from(client: Client, to: Sequence[str], file: str | None, given: dict[str, Any]) -> Iterator[Plan]:
    """The plan of a message as the options describe it; lists are expanded here, and shown.

    What a person writes in an editor is kept if the block raises, or only shows the plan.
    """
    check_label_file(given["label"])
    attachments, expires_in = [attachment(text) for text in given["attach"]], _expires_in(given["expires"])
    expanded = {name: expand(client.profile.folder, given[name]) for name in ("info", "exempt")}
    action = expand(client.profile.folder, to)
    if any(address.startswith(PREFIX) for address in (*to, *given["info"], *given["exempt"])):
        say(f"to: {', '.join(action)}")
    addressed(action, **expanded)
    handling = _handling(client, given)
    handled(**handling)
    check_before_writing(client, file, given["label"])
    with body_of(file, client.profile.folder, keep=given.get("dry_run", False)) as body:
        yield client.plan(
            action,
            label=given["label"],
            body=body,
            subject=given["subject"],
            info=expanded["info"],
            exempt=expanded["exempt"],
            attachments=attachments,
            expires_in=expires_in,
            **handling,
        )


def _handling(client: Client, given: dict[str, Any]) -> Handling:
    """What the options say of it."""
    said: Handling = {
        "precedence": Precedence[given["precedence"].upper()],
        "references": [client.find(prefix) for prefix in given["references"]],
        "require_ack": given["require_ack"],
        "originator_controlled": given["orcon"],
        "purpose": given["purpose"],
        "message_type": given["type"],
    }
    if given["info_precedence"]:
        said["info_precedence"] = Precedence[given["info_precedence"].upper()]
    return said


def _expires_in(text: str | None) -> int:
    return DEFAULT_LIFETIME if text is None else lifetime(text, "--expires")


def check_before_writing(client: Client, file: str | None, label: str | None) -> None:
    """A relay that is down, or a mistyped label, is told before a person writes rather than after."""
    if is_written_now(file):
        client.sync()
        if label is not None:
            client.labels.read(label)


def confirm_release(
    session: Session, client: Client, plan: Plan, copies: Sequence[Plan] = (), *, yes: bool, as_json: bool
) -> None:
    """Name who will not get it and why, then ask. Raises Refused if the message may not go, or to nobody."""
    plan.require_permitted()
    for each in plan.added:
        say(f"the policy demands that {each.address} gets it too, for recovery")
    _name_refused(client, plan.refused)
    if as_json and plan.is_for_nobody:
        put({"message_id": None, "dtg": None, "released_to": [], "refused": refused_json(plan.refused)})
    plan.require_reader(_name_unmapped(client, plan, yes=yes))
    if not yes:
        blind = ", ".join(copy.verdicts[0].addressee.address for copy in copies)
        beside = f", and blind copies to {blind}" if blind else ""
        session.confirm(f"Release to {len(plan.released)} of {len(plan.verdicts)} addressees{beside}?")


def _name_unmapped(client: Client, plan: Plan, *, yes: bool) -> str:
    """Name the offices without a table; with `yes`, ask for one where nobody is left. The hint where none was asked."""
    unmapped = Desk(client).unmapped(plan)
    for office in unmapped:
        say(f"no equivalence is agreed with {office}")
    if plan.is_for_nobody and yes:
        ask_for_mapping(client, plan)
    return "with --yes your security officer is asked for one" if unmapped and not yes else ""


def ask_for_mapping(client: Client, plan: Plan) -> None:
    """Once the sender has agreed, a work item for the security officer; what stands in its way stops nothing else."""
    try:
        item = Desk(client).ask_for_mapping(plan)
    except (Refused, Unavailable) as problem:
        say(f"note: no work item went to your security officer: {problem}")
        return
    if item is not None:
        say(f"work item {item.message_id.hex()[:12]} for your security officer")


def _check_copies(client: Client, copies: Sequence[Plan], *, yes: bool) -> None:
    """Raise Refused, naming the addressee, while nothing has gone yet."""
    for copy in copies:
        if copy.is_for_nobody:
            address = copy.verdicts[0].addressee.address
            hint = _name_unmapped(client, copy, yes=yes)
            raise Refused(f"{address} may not be given a blind copy", rules=copy.verdicts[0].rules, hint=hint)
        copy.require_unaided()


def _name_refused(client: Client, refused: Sequence[Verdict]) -> None:
    for verdict in refused:
        for rule, why in verdict.reasons:
            say(f"not released to {verdict.addressee.address}: {rule}: {why}{_more(client, verdict)}")


def _more(client: Client, verdict: Verdict) -> str:
    """Of an address that nobody has: that somebody had it, or what the person may have meant."""
    if verdict.obstacle != UNKNOWN_ADDRESS:
        return ""
    directory, now = client.trust.directory, int(time.time())
    if any(verdict.addressee.address in held for held in (directory.by_address, directory.by_role)):
        return " any more: its devices were revoked or have expired, or its office was removed"
    known = [address for address in directory.addresses() if directory.devices_of(address, now)]
    near = get_close_matches(verdict.addressee.address, known, n=2)
    return f"; near: {', '.join(near)}" if near else ""


def dry_run(session: Session, client: Client, plan: Plan, copies: Sequence[Plan] = (), *, as_json: bool) -> None:
    """Show the plan, and fail where sending would. Nothing leaves."""
    show_plan(session, client, plan, copies, as_json=as_json)
    _check_copies(client, copies, yes=False)
    plan.require_unaided()
    plan.require_reader()


def show_plan(session: Session, client: Client, plan: Plan, copies: Sequence[Plan] = (), *, as_json: bool) -> None:
    """The decision table of a draft: what the rules say of the sender, of each addressee and of each portion."""
    marking = client.labels.marking(plan.draft.label)
    blind = [copy.verdicts[0] for copy in copies]
    if as_json:
        put({
            "label": marking,
            "sender": sender_json(plan),
            "obligations": list(plan.obligations),
            "needs_release": plan.needs_release,
            **_outcome(plan.verdicts),
            "blind": _outcome(blind),
        })  # fmt: skip
        return
    names = [portion.name or f"text {index}" for index, portion in enumerate(plan.draft.portions)]
    verdicts = (*plan.verdicts, *blind)
    show_verdicts(session, client, verdicts, names, (marking, client.labels.color(plan.draft.label)))


def sender_json(plan: Plan) -> dict[str, Any]:
    return {"permitted": plan.sender.permitted, "rules": list(plan.sender.failing)}


def _outcome(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    return {
        "released_to": [v.addressee.address for v in verdicts if v.is_released],
        "refused": refused_json(v for v in verdicts if not v.is_released),
    }


def show_verdicts(
    session: Session,
    client: Client,
    verdicts: Sequence[Verdict],
    names: Sequence[str],
    banner: tuple[str, str | None],
) -> None:
    """A row per addressee and portion, between two lines with the marking; `names` are the portions'."""
    out = render.page(session.color)
    render.banner(out, *banner)
    rows = [row for verdict in verdicts for row in _rows(client, verdict, names)]
    render.table(out, ("addressee", "portion", "released", "why not"), rows)
    render.banner(out, *banner)


def _rows(client: Client, verdict: Verdict, names: Sequence[str]) -> list[list[str]]:
    address = verdict.addressee.address
    if verdict.obstacle:
        return [[address, "all", "no", f"{rule}: {why}{_more(client, verdict)}"] for rule, why in verdict.reasons]
    rows = []
    for name, decision in zip(names, verdict.decisions, strict=True):
        why = "; ".join(f"{rule.id}: {rule.why}" for rule in decision.rules if not rule.ok)
        rows.append([address, name, "yes" if decision.permitted else "no", *([why] if why else [])])
    return rows
