"""Labels offline: show, check, map. Files in, text, XML or JSON out; no profile, no relay, no network."""

from __future__ import annotations

import mimetypes
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from liaison import render
from liaison.as_json import label_json
from relay.protocol.banner import format_marking, marking_color
from relay.protocol.decision import SAME_OFFICE, Action, NeedToKnow, decide
from relay.protocol.equivalence import Direction, translate
from relay.protocol.errors import LiaisonError
from relay.protocol.label import Label
from relay.protocol.label_forms import binding_data_object, write_label_xml
from relay.protocol.label_json import label_ocl_json, read_label_ocl_json
from relay.protocol.label_xml import read_clearance_xml, read_label_xml
from relay.protocol.marking_reader import parse_marking
from relay.protocol.policy import Policy, validate
from relay.protocol.policy_extensions import NO_EXTENSIONS, parse_extensions
from relay.protocol.spif import read_spif

from .common import Commands, Session, check_label_file, json_option, pass_session
from .delivery import deliver
from .saying import REFUSED, put, say

_MAX_LABEL = 1 << 20
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
policy_option = click.option("--policy", required=True, type=_FILE, metavar="SPIF.xml", help="The label's policy.")
extensions_option = click.option("--extensions", type=_FILE, metavar="FILE.toml", help="What a SPIF cannot say.")


@click.group(cls=Commands)
def label() -> None:
    """Confidentiality labels, offline."""


@label.command()
@click.argument("wanted", metavar="LABEL.xml|MARKING|-")
@policy_option
@extensions_option
@click.option("--lang", metavar="TAG", help="Language of the marking, such as fr.")
@click.option("--xml", "as_xml", is_flag=True, help="The ADatP-4774 label.")
@click.option("--ocl", "as_ocl", is_flag=True, help="The ADatP-5636 JSON label.")
@click.option("--bind", metavar="URI", help="An ADatP-4778 binding data object: this label, bound to what URI names.")
@json_option
@pass_session
def show(session: Session, /, wanted: str, policy: Path, **given: Any) -> None:
    """The marking of a label file, or the label of a marking."""
    known = _policy(policy, given["extensions"])
    found = _label(wanted, known)
    _warn(known, found)
    marking = format_marking(known, found, given["lang"])
    if given["as_xml"]:
        _put(_xml(found))
    elif given["as_ocl"]:
        _put(label_ocl_json(_dated(found)) + b"\n")
    elif given["bind"] is not None:
        media_type = mimetypes.guess_type(given["bind"])[0] or "application/octet-stream"
        _put(binding_data_object(_dated(found), given["bind"], media_type))
    elif given["as_json"]:
        put({"marking": marking, "label": label_json(found)})
    else:
        render.banner(render.page(session.color), marking, marking_color(known, found))


@label.command()
@click.argument("wanted", metavar="LABEL.xml|MARKING|-")
@policy_option
@extensions_option
@click.option("--clearance", type=_FILE, metavar="CLEARANCE.xml", help="A holder's, as ADatP-4774 XML.")
@json_option
@pass_session
def check(session: Session, /, wanted: str, policy: Path, clearance: Path | None, **given: Any) -> None:
    """Is the label valid, and would a holder of the clearance be permitted? Every rule that labels decide.

    Agreement and need-to-know belong to a message and are taken as given. Exit 6 if the answer is no.
    """
    known, now = _policy(policy, given["extensions"]), int(time.time())
    found = _label(wanted, known)
    findings = validate(known, found, now)
    holder = None
    if clearance is not None:
        holder = read_clearance_xml(clearance.read_bytes(), known, not_before=now - 60, not_after=now + 60)
    decision = decide(Action.READ, found, holder, SAME_OFFICE, NeedToKnow("addressee", "given"), known, now)
    rules = [{"rule": rule.id, "ok": rule.ok, "why": rule.why} for rule in decision.rules]
    if clearance is None:
        rules = [{"rule": finding.rule, "ok": False, "why": finding.why} for finding in findings]
    permitted = decision.permitted if clearance is not None else None
    if given["as_json"]:
        put({"valid": not findings, "permitted": permitted, "rules": rules})
    else:
        click.echo(f"{'valid' if not findings else 'INVALID'}{_permitted(permitted)}")
        rows = [["ok" if rule["ok"] else "NO", str(rule["rule"]), str(rule["why"])] for rule in rules]
        render.table(render.page(session.color), ("", "rule", "why"), rows)
    if findings or permitted is False:
        click.get_current_context().exit(REFUSED)


def _permitted(permitted: bool | None) -> str:  # noqa: FBT001 - three answers
    return "" if permitted is None else ", permitted" if permitted else ", NOT PERMITTED"


@label.command("map")
@click.argument("wanted", metavar="LABEL.xml|MARKING|-")
@policy_option
@click.option("--to", "target_name", required=True, metavar="POLICY", help="Name of the other policy.")
@click.option("--target", required=True, type=_FILE, metavar="SPIF.xml", help="Its file.")
@click.option("--xml", "as_xml", is_flag=True, help="The ADatP-4774 label.")
@json_option
@pass_session
def map_label(session: Session, /, wanted: str, policy: Path, target_name: str, target: Path, **given: Any) -> None:
    """The equivalent label under another policy, by the mapping in the first policy's file."""
    known, other = _policy(policy, None), _policy(target, None)
    if other.name != target_name:
        raise LiaisonError(f"{target} is policy {other.name}, not {target_name}")
    mapped = translate(_label(wanted, known), known, other, Direction.ENCRYPT)
    marking = format_marking(other, mapped)
    if given["as_xml"]:
        _put(_xml(mapped))
    elif given["as_json"]:
        put({"marking": marking, "label": label_json(mapped)})
    else:
        render.banner(render.page(session.color), marking, marking_color(other, mapped))


def _policy(path: Path, extensions: Path | None) -> Policy:
    wanted = NO_EXTENSIONS if extensions is None else parse_extensions(extensions.read_bytes())
    return read_spif(path.read_bytes(), wanted)[0]


def _xml(found: Label) -> bytes:
    return write_label_xml(_dated(found)) + b"\n"


def _put(document: bytes) -> None:
    """A file on standard output, in its own encoding and not in the terminal's."""
    deliver(Path("-"), document, "label")


def _dated(found: Label) -> Label:
    """A label that goes out as a file says when it was made."""
    return found if found.created is not None else replace(found, created=int(time.time()))


def _label(wanted: str, policy: Policy) -> Label:
    if wanted == "-":
        return read_label_xml(sys.stdin.buffer.read(_MAX_LABEL), policy)
    check_label_file(wanted)
    if Path(wanted).is_file():
        read = read_label_ocl_json if wanted.endswith(".json") else read_label_xml
        return read(Path(wanted).read_bytes(), policy)
    return parse_marking(policy, wanted, int(time.time()))


def _warn(policy: Policy, found: Label) -> None:
    for finding in validate(policy, found, int(time.time())):
        say(f"the label is not valid: {finding.rule}: {finding.why}")
