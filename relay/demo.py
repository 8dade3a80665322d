"""The whole story in a temporary folder: a real relay, real `liaison` commands, and every claim checked.

The one module of the relay that knows of the client, and only as a program: it runs `liaison` and `relay` as
anyone would, shows each command, and ends with 0 only if each claim held.
"""

# ruff: noqa: T201 - a story is told on stdout

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

from relay.stage import ClaimFailed, Stage, serving

_PASSPHRASE = "only for the demonstration"  # noqa: S105 - of profiles that live for half a minute
_MARKING = "DEMO SECRET REL TO POL, FRA"
_SUBJECT, _SECRET = "Convoy route", "The convoy leaves Gdynia at 0430Z."

SPIF = """<?xml version="1.0" encoding="UTF-8"?>
<SPIF xmlns="http://www.xmlspif.org/spif" schemaVersion="2.1" version="1" creationDate="20260101000000Z"
      originatorDN="CN=Demonstration" keyIdentifier="00" privilegeId="1.3.6.1.4.1.99999.9" rbacId="1.3.6.1.4.1.99999.9">
  <securityPolicyId name="DEMO" id="1.3.6.1.4.1.99999.9.1"/>
  <securityClassifications>
    <securityClassification name="RESTRICTED" lacv="1" hierarchy="1" color="blue"/>
    <securityClassification name="SECRET" lacv="2" hierarchy="2" color="red"/>
  </securityClassifications>
  <securityCategoryTagSets>
    <securityCategoryTagSet name="Releasable To" id="1.3.6.1.4.1.99999.9.2">
      <securityCategoryTag name="Releasable To" tagType="permissive" singleSelection="false">
        <tagCategory name="POL" lacv="1"/>
        <tagCategory name="FRA" lacv="2"/>
        <markingQualifier markingCode="pageTopBottom">
          <qualifier markingQualifier="REL TO " qualifierCode="prefix"/>
          <qualifier markingQualifier=", " qualifierCode="separator"/>
        </markingQualifier>
      </securityCategoryTag>
    </securityCategoryTagSet>
  </securityCategoryTagSets>
</SPIF>
"""
CLEARANCE = """<?xml version="1.0" encoding="UTF-8"?>
<c:ConfidentialityClearance xmlns:c="urn:nato:stanag:4774:confidentialityclearance:1:0"
    xmlns:l="urn:nato:stanag:4774:confidentialitymetadatalabel:1:0">
  <l:PolicyIdentifier>DEMO</l:PolicyIdentifier>
  <c:ClassificationList>{classifications}</c:ClassificationList>
  <l:Category TagName="Releasable To" Type="PERMISSIVE"><l:GenericValue>{nation}</l:GenericValue></l:Category>
</c:ConfidentialityClearance>
"""
AGREEMENT = """title = "Warsaw and Paris, demonstration"
policy = "DEMO"
offices = ["lo-paris", "lo-warsaw"]
ceiling = "SECRET"
valid_days = 30
"""


_PEOPLE = (  # profile, address, cleared for, options of its enrolment
    ("anna", "anna.nowak@lo-warsaw", ("RESTRICTED", "SECRET"), ()),
    ("jean", "jean.petit@lo-paris", ("RESTRICTED", "SECRET"), ()),
    ("luc", "luc.bas@lo-paris", ("RESTRICTED",), ()),
    ("feed", "cop-feed@lo-paris", ("RESTRICTED", "SECRET"), ("--kind", "system")),
    ("auditor", "audit@lo-paris", None, ("--kind", "auditor", "--scope", "lo-warsaw")),
)


def run(*, stay: bool = False) -> int:
    """Tell the story; 0 if every claim held. Or only set its scene, and `stay` with it until told to end."""
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the relay ends with the story
    with tempfile.TemporaryDirectory(prefix="liaison-demo-") as name:
        stage = Stage(Path(name))
        (stage.folder / "passphrase").write_text(_PASSPHRASE)
        try:
            with serving(stage) as url:
                _found(stage, url)
                _agree(stage)
                _enrol(stage, url)
                if stay:
                    return _stay(stage, url)
                message_id = _exchange(stage)
                _partner(stage)
                _operator(stage)
                _audit(stage, message_id)
                _tamper(stage)
        except ClaimFailed as failure:
            print(f"\nThe demonstration failed: {failure}", file=sys.stderr)
            return 1
    print(f"\n{len(stage.claims)} claims held, in {time.monotonic() - began:.0f} seconds.")
    return 0


def _found(stage: Stage, url: str) -> None:
    stage.chapter("Two offices of two nations, one relay that neither has to trust")
    stage.say(f"The relay runs at {url}. Each office's security officer founds an authority; the operator admits it.")
    for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
        stage.run(f"so-{office[3:]}", "liaison", "authority", "init", office, "--nation", nation, "--relay", url)
        stage.run("operator", "relay", "office", "add", f"{office}.statement")
    (stage.folder / "demo-spif.xml").write_text(SPIF)
    for who in ("so-warsaw", "so-paris"):
        stage.run(who, "liaison", "authority", "policy", "publish", "demo-spif.xml")


def _agree(stage: Stage) -> None:
    stage.chapter("An agreement, signed by both, after the words were compared by telephone")
    (stage.folder / "agreement.toml").write_text(AGREEMENT)
    ref = stage.run("so-warsaw", "liaison", "agreement", "draft", "agreement.toml", "--yes").stdout.strip()
    stage.run("so-paris", "liaison", "agreement", "sign", ref[:12], "--yes")


def _enrol(stage: Stage, url: str) -> None:
    stage.chapter("Officers, a partner system and an auditor make their keys; their offices certify them")
    for who, address, levels, options in _PEOPLE:
        office = address.partition("@")[2]
        stage.run(
            who, "liaison", "init", address, "--relay", url, "--authority", f"{office}.statement", show=who == "anna"
        )
        clearance = _clearance(stage, who, levels, office)
        officer = f"so-{office[3:]}"
        stage.run(officer, "liaison", "authority", "enrol", f"{address}.request", *clearance, *options)
        stage.run(who, "liaison", "status", show=who == "anna")
    # What an auditor of one office reads of another is for the other to grant.
    stage.run("so-warsaw", "liaison", "authority", "grant-audit", "audit@lo-paris", "--yes")


def _clearance(stage: Stage, who: str, levels: Sequence[str] | None, office: str) -> tuple[str, ...]:
    if levels is None:
        return ()
    rows = "".join(f"<l:Classification>{level}</l:Classification>" for level in levels)
    nation = {"lo-warsaw": "POL", "lo-paris": "FRA"}[office]
    (stage.folder / f"{who}-clearance.xml").write_text(CLEARANCE.format(classifications=rows, nation=nation))
    return ("--clearance", f"{who}-clearance.xml")


def _stay(stage: Stage, url: str) -> int:
    stage.chapter("A sandbox: all of it is yours to try")
    stage.say(f"The relay runs at {url}. Labels begin with DEMO; whoever you want to be, in another terminal:")
    print(f"    export LIAISON_PASSPHRASE_FILE={stage.folder / 'passphrase'}")
    for who, address, _levels, _options in _PEOPLE:
        print(f"    export LIAISON_HOME={stage.folder / who}  # {address}")
    with suppress(KeyboardInterrupt):
        stage.say("Ctrl-C ends it, and takes all of it away.")
        while True:
            signal.pause()
    return 0


def _exchange(stage: Stage) -> str:
    stage.chapter("One message: released to one, refused to another by clearance, and to a third by need-to-know")
    sent = json.loads(
        stage.run(
            "anna", "liaison", "send", "--to", "jean.petit@lo-paris", "--to", "luc.bas@lo-paris",
            "--exempt", "cop-feed@lo-paris",
            "--label", _MARKING, "--precedence", "IMMEDIATE", "--subject", _SUBJECT,
            "--require-ack", "--yes", "--json", "-", stdin=_SECRET,
        ).stdout
    )  # fmt: skip
    message_id: str = sent["message_id"]
    stage.claim("released to jean.petit@lo-paris", holds=sent["released_to"] == ["jean.petit@lo-paris"])
    refused = {row["address"]: row["rules"] for row in sent["refused"]}
    stage.claim(
        "refused to luc.bas@lo-paris by the rule 'classification'",
        holds="classification" in refused["luc.bas@lo-paris"],
    )
    stage.run("jean", "liaison", "inbox")
    read = stage.run("jean", "liaison", "read", message_id[:12]).stdout.splitlines()
    stage.claim("the marking is the first and the last line", holds=read[0] == read[-1] == _MARKING)
    stage.claim("what was read is what was written", holds=_SECRET in read)
    stage.run("jean", "liaison", "ack", message_id[:12])
    opaque = "no such message is available to this device"
    for who in ("luc", "feed"):
        denied = stage.run(who, "liaison", "read", message_id, code=1)
        stage.claim(f"{who} learns nothing, not even that there is such a message", holds=opaque in denied.stderr)
    stage.run("anna", "liaison", "track", message_id[:12])
    return message_id


def _partner(stage: Stage) -> None:
    stage.chapter("A partner system posts through the library, in ten lines")
    program = (
        "from liaison import Client\n"
        f"with Client.open(passphrase={_PASSPHRASE!r}) as client:\n"
        "    to = ['anna.nowak@lo-warsaw']\n"
        "    sent = client.send(to, label='DEMO RESTRICTED', subject='Track 4711', body='54.5N 018.6E')\n"
        "    print('released to', *sent.released_to)\n"
    )
    for line in program.splitlines():
        print(f"    {line}")
    environment = {**os.environ, "LIAISON_HOME": str(stage.folder / "feed")}
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    print(f"    → {done.stdout.strip()}{done.stderr.strip()[-200:]}")
    stage.claim(
        "the partner system's message was accepted", holds=done.stdout.strip() == "released to anna.nowak@lo-warsaw"
    )
    unread = json.loads(stage.run("anna", "liaison", "inbox", "--json").stdout.splitlines()[-1])
    stage.claim(
        "and waits in Anna's inbox", holds=unread["from"] == "cop-feed@lo-paris" and unread["state"] == "unread"
    )


def _database(stage: Stage) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(stage.folder / "relay" / "relay.sqlite"))


def _operator(stage: Stage) -> None:
    stage.chapter("What the operator has: the stored bytes")
    with _database(stage) as stored:
        sealed = bytes(stored.execute("SELECT sealed FROM part LIMIT 1").fetchone()[0])
    for start in range(0, 64, 16):
        row = sealed[start : start + 16]
        print(f"    {start:04x}  {row.hex(' ')}  {''.join(chr(b) if 32 <= b < 127 else '.' for b in row)}")
    everything = b"".join(path.read_bytes() for path in (stage.folder / "relay").iterdir() if path.is_file())
    everything += (stage.folder / "relay.log").read_bytes()
    for word in (_SECRET, _SUBJECT):
        stage.claim(f"{word!r} is nowhere in the relay's files or output", holds=word.encode() not in everything)


def _audit(stage: Stage, message_id: str) -> None:
    stage.chapter("The auditor pulls the access log and verifies every entry")
    stage.run("auditor", "liaison", "audit", "pull", "--out", "log.jsonl")
    entries = [json.loads(line) for line in (stage.folder / "log.jsonl").read_text().splitlines()]
    about = [entry for entry in entries if entry.get("message_id") == message_id]
    for entry in about:
        who, rules = entry["actor"], ", ".join(entry["rules"])
        print(f"    {entry['index']:>3}  {entry['time']}  {entry['event']:<12}{entry['decision']:<8}{who:<24}{rules}")
    events = [(entry["event"], entry["actor"].partition("@")[0].partition(".")[0]) for entry in about]
    stage.claim("it names who opened it", holds=("open", "jean") in events)
    stage.claim("and who was denied, twice", holds={("deny", "luc"), ("deny", "cop-feed")} <= set(events))
    denied = {entry["actor"].partition("@")[0]: entry["rules"] for entry in about if entry["event"] == "deny"}
    stage.claim("Luc by 'classification'", holds="classification" in denied["luc.bas"])
    stage.claim(
        "the feed, cleared but not addressed, by 'need-to-know' alone",
        holds=denied["cop-feed"] == ["no-slot", "need-to-know"],
    )
    stage.run("auditor", "liaison", "audit", "verify")


def _tamper(stage: Stage) -> None:
    stage.chapter("The operator rewrites history: one denial becomes a permit")
    with _database(stage) as stored, stored:
        index, entry = stored.execute(
            "SELECT idx, entry FROM log_entry WHERE log = 2 AND instr(entry, CAST('deny' AS BLOB)) ORDER BY idx LIMIT 1"
        ).fetchone()
        changed = bytes(entry).replace(b"deny", b"open")
        stored.execute("UPDATE log_entry SET entry = ? WHERE log = 2 AND idx = ?", (changed, index))
    stage.say(f"entry {index} of the access log, in the database: deny → open")
    failed = stage.run("auditor", "liaison", "audit", "verify", code=5)
    stage.claim(
        f"verification fails with exit code 5 and names entry {index}", holds=f"entry {index} " in failed.stderr
    )


if __name__ == "__main__":
    sys.exit(run())
