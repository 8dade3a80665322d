"""Information-sharing agreements: draft, sign, withdraw, look."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from liaison import render
from liaison.as_json import category_json
from liaison.authority import Authority
from liaison.home.profile import AUTHORITY, home_folder, read_public
from relay.protocol.agreement import Agreement
from relay.protocol.directory import AgreementState, Directory
from relay.protocol.errors import Unknown
from relay.protocol.words import words_for

from .common import Commands, Session, json_option, pass_session, yes_option
from .saying import put, say
from .terms import read_terms


@click.group(cls=Commands)
def agreement() -> None:
    """Information-sharing agreements between offices."""


@agreement.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@yes_option
@json_option
@pass_session
def draft(session: Session, file: Path, *, yes: bool, as_json: bool) -> None:
    """Draft an agreement from FILE (TOML), sign it for this office, and publish it for the others to sign.

    \b
    title = "Warsaw and Paris"
    policy = "NATO"
    offices = ["lo-warsaw", "lo-paris"]
    ceiling = "SECRET"          # or classifications = [...]
    valid_days = 365
    onward_release = false
    [categories]
    "Additional Sensitivity" = ["ATOMAL"]
    """  # noqa: D301 - click's mark is the character itself
    with session.authority() as office:
        office.sync()
        drafted = read_terms(file, office)
        _compared(session, drafted, office, yes=yes)
        office.sign_agreement(drafted)
    ref = drafted.agreement_id.hex()
    if as_json:
        put({"agreement": ref, "in_force": False})
        return
    click.echo(ref)
    others = ", ".join(party.office for party in drafted.parties if party.office != office.office)
    say(f"signed for {office.office}; to bring it into force, {others} runs: liaison agreement sign {ref[:12]}")


@agreement.command()
@click.argument("ref", metavar="ID")
@yes_option
@json_option
@pass_session
def sign(session: Session, ref: str, *, yes: bool, as_json: bool) -> None:
    """Sign an agreement for this office, after comparing the other parties' words out of band."""
    with session.authority() as office:
        office.sync()
        state = office.agreement(ref)
        _show_terms(render.page(session.color, stderr=True), state)
        _compared(session, state.agreement, office, yes=yes)
        office.sign_agreement(state.agreement)
        state = office.agreement(ref)
    if as_json:
        put({"agreement": state.agreement.agreement_id.hex(), "in_force": state.is_valid(int(time.time()))})
    else:
        say(f"signed for {office.office}; the agreement is {_state(state)}")


@agreement.command()
@click.argument("ref", metavar="ID")
@click.option("--reason", default="", help="Stands in the directory, for everybody to read.")
@yes_option
@json_option
@pass_session
def withdraw(session: Session, ref: str, reason: str, *, yes: bool, as_json: bool) -> None:
    """Withdraw from an agreement. Effective at once for all its parties, and final."""
    with session.authority() as office:
        office.sync()
        state = office.agreement(ref)
        agreement_id = state.agreement.agreement_id
        if not yes:
            _show_terms(render.page(session.color, stderr=True), state)
            session.confirm("Withdraw from this agreement for good?")
        office.withdraw(agreement_id, reason)
    if as_json:
        put({"agreement": agreement_id.hex(), "in_force": False})
    else:
        say(f"withdrawn from {agreement_id.hex()[:12]}; nothing is released under it any more")


@agreement.command("list")
@json_option
@pass_session
def list_agreements(session: Session, *, as_json: bool) -> None:
    """Every agreement in the directory."""
    states = _directory(session).agreements.values()
    if as_json:
        for state in states:
            put(_as_json(state))
        return
    rows = [
        [_as_json(state)["agreement"][:12], _state(state), state.agreement.policy_name, _offices(state)]
        for state in states
    ]
    render.table(render.page(session.color), ("id", "state", "policy", "parties"), rows)


@agreement.command()
@click.argument("ref", metavar="ID")
@json_option
@pass_session
def show(session: Session, ref: str, *, as_json: bool) -> None:
    """The terms of one agreement, and who has signed it."""
    found = [state for key, state in _directory(session).agreements.items() if key.hex().startswith(ref.lower())]
    if len(found) != 1:
        raise Unknown(f"{len(found)} agreements begin with {ref}", hint="see: liaison agreement list")
    if as_json:
        put(_as_json(found[0]))
    else:
        _show_terms(render.page(session.color), found[0])


def _directory(session: Session) -> Directory:
    if read_public(home_folder())["kind"] == AUTHORITY:
        with session.authority() as office:
            office.sync()
            return office.trust.directory
    with session.client() as client:
        client.sync()
        return client.trust.directory


def _compared(session: Session, drafted: Agreement, office: Authority, *, yes: bool) -> None:
    """What to look at, the other parties' words, and a person's word that they were compared."""
    for policy, finding in office.mapping_findings(drafted):
        say(f"{policy}: {finding.rule}: {finding.why}")
    for party in drafted.parties:
        if party.office != office.office:
            say(f"{party.office} ({party.nation}): {words_for([party.authority_kid])}")
    say(f"your own, for the others: {words_for([office.profile.statement.kid])}")
    if not yes:
        session.confirm("Have you compared these words with each office, by telephone or in person?")


def _show_terms(out: render.Page, state: AgreementState) -> None:
    terms = state.agreement
    signed = [f"{party.office}{' (signed)' if party.office in state.signed else ''}" for party in terms.parties]
    categories = [
        f"{category.tag_name} ({category.type.name.lower()}): {', '.join(category.values)}"
        for category in terms.categories
    ]
    rows = [
        ("Agreement", terms.agreement_id.hex()),
        ("Title", terms.title),
        ("State", _state(state)),
        ("Parties", ", ".join(signed)),
        ("Policy", terms.policy_name),
        ("Shared", ", ".join(terms.classifications)),
        ("Categories", "; ".join(categories) or "none"),
        ("Communities", ", ".join(terms.communities)),
        ("Purposes", ", ".join(terms.purposes)),
        ("Equivalence", ", ".join(f"{a.hex()[:12]} into {b.hex()[:12]}" for a, b in terms.mappings)),
        ("Onward", "permitted" if terms.onward_release else "not permitted"),
        ("Valid", f"{render.moment(terms.not_before)} to {render.moment(terms.not_after)}"),
    ]
    render.fields(out, rows)


def _state(state: AgreementState) -> str:
    terms, now = state.agreement, int(time.time())
    if state.withdrawn is not None:
        return f"withdrawn by {state.withdrawn.office}"
    if not state.is_in_force:
        return "waiting for signatures"
    if state.is_valid(now):
        return "in force"
    return f"in force from {render.moment(terms.not_before)}" if now < terms.not_before else "over"


def _offices(state: AgreementState) -> str:
    return ", ".join(party.office for party in state.agreement.parties)


def _as_json(state: AgreementState) -> dict[str, Any]:
    terms = state.agreement
    return {
        "agreement": terms.agreement_id.hex(),
        "title": terms.title,
        "state": _state(state),
        "in_force": state.is_valid(int(time.time())),
        "policy": terms.policy_name,
        "classifications": list(terms.classifications),
        "parties": [
            {"office": p.office, "nation": p.nation, "signed": p.office in state.signed} for p in terms.parties
        ],
        "categories": category_json(terms.categories),
        "communities": list(terms.communities),
        "purposes": list(terms.purposes),
        "equivalence": [{"policy": a.hex(), "into": b.hex()} for a, b in terms.mappings],
        "onward_release": terms.onward_release,
        "not_before": terms.not_before,
        "not_after": terms.not_after,
    }
