"""What takes M of N named people: who they are, and one person's approval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from liaison.approving import approve as sign_approval
from liaison.approving import describe, read_asked
from relay.protocol.approval import OF_AN_OFFICE, Approvers, Matter, read_approvers
from relay.protocol.armor import armor, dearmor
from relay.protocol.cose import parse_sign1
from relay.protocol.errors import Malformed

from .asking import Asking, takes_approvals
from .common import Commands, Session, json_option, pass_session, yes_option
from .delivery import deliver
from .saying import put, say

_KIND = "APPROVERS"


@click.command()
@click.argument("file", type=click.File("rb"))
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), metavar="APPROVAL", help="Default: stdout."
)
@yes_option
@json_option
@pass_session
def approve(session: Session, file: Any, out: Path | None, *, yes: bool, as_json: bool) -> None:
    """Approve what is in FILE: a security officer's certificate, an office's statement, a hold, a list of approvers."""
    with session.client() as client:
        client.sync()
        asked = read_asked(file.read(), client.trust.directory)
        for line in asked.lines:
            say(line)
        if not yes:
            session.confirm("Do you approve this?")
        text, own = armor(sign_approval(client, asked), "APPROVAL"), client.profile.pins.address
    if out is not None:
        deliver(out, text.encode(), "approval")
    if as_json:
        put({"matter": asked.matter.value, "ref": asked.ref.hex(), "address": own,
             "approval": str(out) if out is not None else text})  # fmt: skip
    elif out is None:
        click.echo(text, nl=False)
    else:
        say(f"give {out} to whoever asked, who adds: --approval {out}")


@click.group(cls=Commands)
def approvers() -> None:
    """Who has to approve what: M of N named people."""


def _needed(given: str) -> tuple[Matter, int]:
    name, _, count = given.partition("=")
    if name not in OF_AN_OFFICE or not count.isdecimal():
        raise Malformed(
            f"{given!r:.40} is not MATTER=M", hint=f"such as enrolment=2; {', '.join(sorted(OF_AN_OFFICE))}"
        )
    return Matter(name), int(count)


@approvers.command("set")
@click.argument("file", required=False, type=click.File("rb"))
@click.option(
    "--person",
    "people",
    multiple=True,
    metavar="ADDR",
    help="Who approves, with the devices of today; repeat for each.",
)
@click.option(
    "--needed", multiple=True, metavar="MATTER=M", help="How many a matter takes, each in its own: enrolment=2, hold=2."
)
@takes_approvals
@json_option
@pass_session
def set_approvers(session: Session, /, file: Any, asking: Asking, **given: Any) -> None:
    """Name your office's approvers. Once there is a list, changing it takes its own people: --ask, then FILE."""
    if (file is None) is not bool(given["people"] and given["needed"]):
        raise click.UsageError("either FILE, or --person and --needed")
    with session.authority() as office:
        office.sync()
        if file is not None:
            signed = dearmor(file.read(), _KIND)
        else:
            signed = office.draft_approvers(given["people"], tuple(sorted(map(_needed, given["needed"]))))
        if asking.writes(signed, _KIND):
            return
        office.publish_approvers(signed, asking.approvals())
    _show(read_approvers(parse_sign1(signed, "approvers").payload), as_json=given["as_json"])


@approvers.command("list")
@click.argument("office", required=False)
@json_option
@pass_session
def list_approvers(session: Session, office: str | None, *, as_json: bool) -> None:
    """The lists in force: every office's and the relay's, or OFFICE's."""
    with session.either() as client:
        client.sync()
        directory = client.trust.directory
        wanted: Sequence[str] = [office] if office is not None else ["", *sorted(directory.offices)]
        found = [directory.approvers_of(name) for name in wanted]
    for each in found:
        if each is not None:
            _show(each, as_json=as_json)
    if not any(found):
        say("nobody is named: nothing takes the approval of others")


def _show(listed: Approvers, *, as_json: bool) -> None:
    if as_json:
        people = [{"address": address, "device": device.hex()} for address, device in listed.people]
        needed = {matter.value: count for matter, count in listed.needed}
        put({"office": listed.office or None, "version": listed.version, "needed": needed, "people": people})
        return
    for line in describe(listed):
        click.echo(line)
