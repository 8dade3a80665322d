"""The security officer's commands: found the authority, enrol, revoke, publish a policy."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from liaison.authority import DAY, Authority
from liaison.cleared import cleared_for
from liaison.home.founding import found_authority
from liaison.home.profile import home_folder
from liaison.render import day
from relay.protocol.armor import armor, dearmor, kinds_in
from relay.protocol.cose import parse_sign1
from relay.protocol.errors import LiaisonError, Malformed, Unverified
from relay.protocol.identity import (
    CERTIFICATE,
    Certificate,
    Kind,
    check_nation,
    check_office,
    parse_statement,
    read_certificate,
)
from relay.protocol.label import Clearance
from relay.protocol.label_xml import read_clearance_xml
from relay.protocol.spif import read_spif
from relay.protocol.words import are_words, words_for

from .asking import Asking, takes_approvals
from .common import Commands, Session, json_option, pass_session, yes_option
from .delivery import whole
from .people import relay_keys
from .quorum import drill, recover, split
from .saying import put, say

_ARMOR = "CERTIFICATE"
_KINDS = click.Choice([Kind.OFFICER.value, Kind.SYSTEM.value, Kind.AUDITOR.value])


@click.group(cls=Commands)
def authority() -> None:
    """Act as an office's authority (its security officer)."""


for command in (split, drill, recover):
    authority.add_command(command)


@authority.command()
@click.argument("office")
@click.option("--nation", required=True, metavar="CODE", help="Nation or organisation code, such as POL or NATO.")
@click.option(
    "--relay", "relay_url", default="http://127.0.0.1:8440", metavar="URL", show_default=True, help="The relay."
)
@json_option
@pass_session
def init(session: Session, office: str, nation: str, relay_url: str, *, as_json: bool) -> None:
    """Found an office's authority; writes OFFICE.statement for the relay's operator."""
    check_office(office)
    check_nation(nation)
    keys = relay_keys(relay_url, None)
    passphrase = session.founding(home_folder(), "authority")
    path = Path(f"{office}.statement")
    with whole(path) as file:  # opened first: keys whose statement cannot be written would be of no use
        statement = found_authority(home_folder(), office, nation, relay_url, keys, passphrase)
        file.write(armor(statement, "STATEMENT"))
    words = words_for([parse_statement(statement).kid])
    say(f"authority of {office} ({nation}) made in {home_folder()}")
    say(f"words to compare with the operator and with partners: {words}")
    if as_json:
        put({"office": office, "statement": str(path), "authority": words})
    else:
        click.echo(path)
    say(f"give {path} to the relay's operator, who runs: relay office add {path}")


@authority.command()
@click.argument("request", type=click.File("rb"), metavar="REQUEST|CERTIFICATE")
@click.option("--role", multiple=True, help="Role this device also answers to: duty for duty@OFFICE; repeat for each.")
@click.option(
    "--clearance", multiple=True, type=click.File("rb"), metavar="FILE", help="ADatP-4774 XML; repeat for each."
)
@click.option("--kind", type=_KINDS, default="officer", show_default=True, help="A person, a program, or an auditor.")
@click.option(
    "--scope",
    multiple=True,
    metavar="TERM",
    help="Auditor: beyond the own office an OFFICE, nation:CODE or '*' for all; each office has to grant it.",
)
@click.option(
    "--valid-days", type=click.IntRange(1, 3650), default=365, show_default=True, help="Certificate and clearances."
)
@click.option("--words", help="What the device's holder read out to you: with other words, nothing is certified.")
@yes_option
@takes_approvals
@json_option
@pass_session
def enrol(session: Session, /, request: Any, asking: Asking, **given: Any) -> None:
    """Certify the device that made REQUEST, or publish the CERTIFICATE that --ask wrote and others approved."""
    text = request.read()
    with session.authority() as office:
        office.sync()
        signed = _certified(office, text, given)  # which nobody has before the words are compared
        _compare(session, read_certificate(parse_sign1(signed, CERTIFICATE)), given["words"], yes=given["yes"])
        if asking.writes(signed, _ARMOR):
            return
        made = office.publish_certificate(signed, asking.approvals())
    device, words, cleared = made.device_id.hex(), words_for([made.kid]), cleared_for(made)
    if given["as_json"]:
        known = {"address": made.address, "device": device, "kind": made.kind.value}
        put({**known, "words": words, "clearances": cleared})
        return
    click.echo(device)
    say(f"{made.address} enrolled as {made.kind.value}; the device is ready with: liaison status")
    say(f"cleared for {'; '.join(cleared) or 'nothing'}")
    say(f"words of the device: {words}; if its holder has others: liaison authority revoke {device}")


def _certified(office: Authority, text: bytes, given: Mapping[str, Any]) -> bytes:
    if _ARMOR in kinds_in(text):
        if given["role"] or given["clearance"] or given["scope"]:
            raise Malformed("the certificate is signed already, with its roles, clearances and scope")
        return dearmor(text, _ARMOR)
    return office.certify(
        dearmor(text, "REQUEST"),
        kind=Kind(given["kind"]),
        roles=given["role"],
        clearances=[_clearance(office, file.read(), given["valid_days"]) for file in given["clearance"]],
        scope=given["scope"],
        valid_days=given["valid_days"],
    )


def _compare(session: Session, stated: Certificate, words: str | None, *, yes: bool) -> None:
    """Raise unless the device is its holder's, as far as somebody can be asked; scripts are warned after the fact."""
    if words is not None:
        if not are_words(words, [stated.kid]):  # which they are is not said here: it would be copied
            raise Unverified(
                f"the device of {stated.address} has other words than you were told: nothing is certified",
                hint="hear them again, as its holder's `liaison status` has them; the request may have been swapped",
            )
    elif session.may_ask and not yes:
        terms = [stated.address, stated.kind.value, *stated.roles, *stated.scope]
        say(f"{', '.join(terms)}, until {day(stated.not_after)}")
        say(f"cleared for {'; '.join(cleared_for(stated)) or 'nothing'}")
        say(f"words of the device: {words_for([stated.kid])}")
        session.confirm("Did its holder read out the same words to you, by telephone or in person?")


def _clearance(office: Authority, clearance_xml: bytes, valid_days: int) -> Clearance:
    """Read a clearance under whichever of the office's policies it names."""
    now, problems = int(time.time()), []
    for policy in office.policies():
        try:
            return read_clearance_xml(clearance_xml, policy, not_before=now - 60, not_after=now + valid_days * DAY)
        except LiaisonError as problem:
            problems.append(f"under {policy.name}: {problem}")
    if not problems:
        raise Malformed(
            "your office has published no policy to read a clearance under",
            hint="liaison authority policy publish SPIF.xml",
        )
    raise Malformed("; ".join(problems))


@authority.command()
@click.argument("whom", metavar="ADDRESS|DEVICE")
@click.option("--reason", required=True, help="Stands in the directory, for everybody to read.")
@yes_option
@json_option
@pass_session
def revoke(session: Session, whom: str, reason: str, *, yes: bool, as_json: bool) -> None:
    """Revoke every device of an address, or one device. Effective at once, and final."""
    with session.authority() as office:
        office.sync()
        devices = office.revocable(whom)
        if not yes:
            named = "; ".join(f"{device.address}, device {device.device_id.hex()}" for device in devices)
            session.confirm(f"Revoke for good: {named}?")
        office.revoke_devices(devices, reason)
    for device in devices:
        if as_json:
            put({"address": device.address, "device": device.device_id.hex(), "revoked": True})
        else:
            say(f"revoked {device.address}, device {device.device_id.hex()}")


@authority.command()
@click.argument("address")
@click.option("--manager", required=True, metavar="ADDR", help="Who keeps the roster.")
@click.option("--title", default="", help="What it is about, for everybody to read.")
@json_option
@pass_session
def community(session: Session, /, address: str, manager: str, title: str, *, as_json: bool) -> None:
    """Found a community of interest at ADDRESS, or give it another manager."""
    with session.authority() as office:
        office.sync()
        office.found_community(address, manager, title)
    if as_json:
        put({"community": address, "manager": manager})
    else:
        say(f"community {address} founded; its manager sets the roster: liaison community roster {address}")


@authority.command()
@click.argument("whom", metavar="ADDRESS|DEVICE")
@click.option("--valid-days", type=click.IntRange(1, 3650), default=365, show_default=True, help="How long it may.")
@click.option("--end", is_flag=True, help="End the grant instead.")
@yes_option
@json_option
@pass_session
def grant_audit(session: Session, /, whom: str, valid_days: int, *, end: bool, yes: bool, as_json: bool) -> None:
    """Let another office's auditor read the log entries about this office."""
    with session.authority() as office:
        office.sync()
        auditor = office.auditor(whom)
        voucher = office.trust.directory.authority_kid_of(auditor)
        say(f"{auditor.address}, device {auditor.device_id.hex()}, certified by {words_for([voucher])}")
        if not (yes or end):
            session.confirm("Were these words, and the device, compared with the auditor's office?")
        grant = office.grant_audit(auditor, int(time.time()) + (0 if end else valid_days * DAY))
        in_scope = office.office in office.trust.directory.audit_scope(auditor.device_id, int(time.time()))
    if as_json:
        put(
            {"auditor": auditor.address, "device": auditor.device_id.hex(), "until": grant.not_after, "scope": in_scope}
        )
    elif end:
        say(f"{auditor.address} reads no entries of {office.office} from now on")
    else:
        say(f"granted until {time.strftime('%Y-%m-%d', time.gmtime(grant.not_after))}")
        if not in_scope:
            say(f"but the auditor's certificate does not ask for {office.office}: nothing is shown until it does")


@authority.group()
def policy() -> None:
    """Security policies of this office."""


@policy.command()
@click.argument("spif", type=click.File("rb"))
@click.option("--extensions", type=click.File("rb"), metavar="FILE.toml", help="What a SPIF cannot say.")
@json_option
@pass_session
def publish(session: Session, spif: Any, extensions: Any, *, as_json: bool) -> None:
    """Read a SPIF whole, sign it in the office's name, and publish it."""
    content = spif.read()
    _policy, findings = read_spif(content)
    for finding in findings:
        say(f"{spif.name}: {finding.rule}: {finding.why}")
    with session.authority() as office:
        office.sync()
        published = office.publish_policy(content, None if extensions is None else extensions.read())
    if as_json:
        put(
            {
                "policy": published.name,
                "oid": published.oid,
                "version": published.version,
                "digest": published.digest.hex(),
            }
        )
    else:
        say(f"policy {published.name} version {published.version} published")
