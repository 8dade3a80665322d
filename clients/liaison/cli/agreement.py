"""Information-sharing agreements: draft, sign, withdraw, look."""

from __future__ import annotations

import os
import time
import tomllib
from pathlib import Path
from typing import Any

import click

from liaison import render
from liaison.authority import DAY, Authority
from liaison.client import Client
from liaison.profile import AUTHORITY, home_folder, read_public
from relay.protocol.agreement import Agreement, Party
from relay.protocol.directory import AgreementState, Directory
from relay.protocol.errors import Malformed, Unknown
from relay.protocol.label import Category
from relay.protocol.policy import Policy
from relay.protocol.words import words_for

from .common import Session, json_option, pass_session, put, say, yes_option

_KEYS = {"title", "policy", "offices", "ceiling", "classifications", "categories", "communities", "purposes", "onward_release", "valid_days"}


@click.group()
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
    """
    with session.authority() as office:
        office.sync()
        drafted = _read(file, office)
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
        _show_terms(session, state)
        _compared(session, state.agreement, office, yes=yes)
        office.sign_agreement(state.agreement)
        state = office.agreement(ref)
    if as_json:
        put({"agreement": state.agreement.agreement_id.hex(), "in_force": state.is_in_force})
    else:
        say(f"signed for {office.office}; the agreement is {'in force' if state.is_in_force else 'not yet signed by all'}")


@agreement.command()
@click.argument("ref", metavar="ID")
@click.option("--reason", default="", help="For the record.")
@json_option
@pass_session
def withdraw(session: Session, ref: str, reason: str, *, as_json: bool) -> None:
    """Withdraw from an agreement. Effective at once for all its parties, and final."""
    with session.authority() as office:
        office.sync()
        agreement_id = office.agreement(ref).agreement.agreement_id
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
    rows = [[_as_json(state)["agreement"][:12], _state(state), state.agreement.policy_name, _offices(state)] for state in states]
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
        _show_terms(session, found[0])


def _directory(session: Session) -> Directory:
    passphrase = session.passphrase.current()
    if read_public(home_folder())["kind"] == AUTHORITY:
        with Authority.open(passphrase=passphrase) as office:
            office.sync()
            return office.trust.directory
    with Client.open(passphrase=passphrase) as client:
        client.sync()
        return client.trust.directory


def _read(file: Path, office: Authority) -> Agreement:
    """The agreement that a TOML file describes; unknown and missing keys are errors."""
    try:
        given = tomllib.loads(file.read_text())
    except tomllib.TOMLDecodeError as problem:
        raise Malformed(f"{file}: {problem}") from None
    if unknown := given.keys() - _KEYS:
        raise Malformed(f"{file}: unknown key {min(unknown)}", hint=f"known: {', '.join(sorted(_KEYS))}")
    for key in ("policy", "offices"):
        if key not in given:
            raise Malformed(f"{file}: {key} is missing")
    policy = next((each for each in office.policies() if each.name == given["policy"]), None)
    if policy is None:
        raise Malformed(f"{file}: your office has published no policy {given['policy']!r}")
    now = int(time.time())
    return Agreement(
        title=str(given.get("title", "")),
        parties=_parties(file, given["offices"], office),
        policy_name=policy.name,
        policy_oid=policy.oid,
        classifications=_classifications(file, given, policy),
        categories=_categories(file, given.get("categories", {}), policy),
        communities=tuple(sorted(given.get("communities", []))),
        purposes=tuple(sorted(given.get("purposes", []))),
        onward_release=bool(given.get("onward_release", False)),
        not_before=now - 60,
        not_after=now + int(given.get("valid_days", 365)) * DAY,
        nonce=os.urandom(16),
    )


def _parties(file: Path, offices: Any, office: Authority) -> tuple[Party, ...]:
    known = office.trust.directory.offices
    for name in offices:
        if name not in known:
            raise Malformed(f"{file}: office {name!r} is not admitted at this relay", hint="relay office list")
    if office.office not in offices:
        raise Malformed(f"{file}: your own office {office.office} is not a party")
    return tuple(Party(name, known[name].nation, known[name].kid) for name in sorted(set(offices)))


def _classifications(file: Path, given: dict[str, Any], policy: Policy) -> tuple[str, ...]:
    if ("ceiling" in given) == ("classifications" in given):
        raise Malformed(f"{file}: give either ceiling or classifications")
    if "ceiling" in given:
        ceiling = policy.classification(str(given["ceiling"]))
        if ceiling is None:
            raise Malformed(f"{file}: {policy.name} has no classification {given['ceiling']!r}")
        return tuple(sorted(c.name for c in policy.classifications if c.hierarchy <= ceiling.hierarchy))
    names = [policy.classification(str(name)) for name in given["classifications"]]
    if None in names:
        raise Malformed(f"{file}: a classification that {policy.name} does not have")
    return tuple(sorted({known.name for known in names if known is not None}))


def _categories(file: Path, given: dict[str, Any], policy: Policy) -> tuple[Category, ...]:
    found = []
    for tag_name, values in given.items():
        tag_set = policy.tag_set(tag_name)
        kinds = {kind for oid, kind in policy.index.values if tag_set is not None and oid == tag_set.oid}
        if tag_set is None or len(kinds) != 1:
            raise Malformed(f"{file}: {policy.name} has no tag set {tag_name!r}")
        category = Category(tag_set.name, tag_set.oid, next(iter(kinds)), tuple(values))
        for value in category.values:
            if not policy.values(category, value):
                raise Malformed(f"{file}: {tag_set.name} has no value {value!r}")
        found.append(category)
    return tuple(sorted(found, key=lambda category: (category.tag_set_oid, category.type)))


def _compared(session: Session, drafted: Agreement, office: Authority, *, yes: bool) -> None:
    """The other parties' words, and a person's word that they were compared."""
    for party in drafted.parties:
        if party.office != office.office:
            say(f"{party.office} ({party.nation}): {words_for([party.authority_kid])}")
    say(f"your own, for the others: {words_for([office.profile.statement.kid])}")
    if not yes:
        session.confirm("Have you compared these words with each office, by telephone or in person?")


def _show_terms(session: Session, state: AgreementState) -> None:
    terms = state.agreement
    signed = [f"{party.office}{' (signed)' if party.office in state.signed else ''}" for party in terms.parties]
    categories = [f"{category.tag_name}: {', '.join(category.values)}" for category in terms.categories]
    rows = [
        ("Agreement", terms.agreement_id.hex()),
        ("Title", terms.title),
        ("State", _state(state)),
        ("Parties", ", ".join(signed)),
        ("Policy", terms.policy_name),
        ("Shared", ", ".join(terms.classifications)),
        ("Categories", "; ".join(categories) or "none"),
        ("Onward", "permitted" if terms.onward_release else "not permitted"),
        ("Valid", f"{render.moment(terms.not_before)} to {render.moment(terms.not_after)}"),
    ]
    render.fields(render.page(session.color, stderr=True), [(name, value) for name, value in rows if value])


def _state(state: AgreementState) -> str:
    if state.withdrawn is not None:
        return f"withdrawn by {state.withdrawn.office}"
    return "in force" if state.is_in_force else "waiting for signatures"


def _offices(state: AgreementState) -> str:
    return ", ".join(party.office for party in state.agreement.parties)


def _as_json(state: AgreementState) -> dict[str, Any]:
    terms = state.agreement
    return {
        "agreement": terms.agreement_id.hex(),
        "title": terms.title,
        "state": _state(state),
        "in_force": state.is_in_force,
        "policy": terms.policy_name,
        "classifications": list(terms.classifications),
        "parties": [{"office": p.office, "nation": p.nation, "signed": p.office in state.signed} for p in terms.parties],
        "not_after": terms.not_after,
    }


