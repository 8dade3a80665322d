"""The README's walk-through with real processes: two offices, real policies, real telegrams, a partner system.

The texts and policies are read where they lie and not kept here; without them the tests that need them are skipped.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = Path(os.environ.get("LIAISON_SHARED", ROOT.parent / "shared")) / "examples"
BIN = Path(sys.prefix) / "bin"
POST = ROOT / "clients" / "partner" / "post.py"
ATTACHED = 10 * 1024 * 1024

needs_examples = pytest.mark.skipif(not EXAMPLES.is_dir(), reason=f"no examples in {EXAMPLES}")
CLEARANCE = """<?xml version="1.0" encoding="UTF-8"?>
<c:ConfidentialityClearance xmlns:c="urn:nato:stanag:4774:confidentialityclearance:1:0"
    xmlns:l="urn:nato:stanag:4774:confidentialitymetadatalabel:1:0">
  <l:PolicyIdentifier>{policy}</l:PolicyIdentifier>
  <c:ClassificationList>{ranks}</c:ClassificationList>
  {category}
</c:ConfidentialityClearance>
"""
PHONY = '<l:Category TagName="Releasable To" Type="PERMISSIVE"><l:GenericValue>PHONY</l:GenericValue></l:Category>'
CONTEXT = '<l:Category TagName="Context" Type="PERMISSIVE"><l:GenericValue>NATO</l:GenericValue></l:Category>'
AGREEMENT = """title = "Warsaw and Paris"
policy = "{policy}"
offices = ["lo-paris", "lo-warsaw"]
ceiling = "CONFIDENTIAL"
valid_days = 365
"""


@dataclass
class Desk:
    """A folder with profiles in it, and the programs."""

    folder: Path
    url: str = ""

    def run(self, who: str, *words: str, code: int = 0, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
        """A command as `who`; fails unless it ends with `code`."""
        settings = {
            **os.environ,
            "LIAISON_HOME": str(self.folder / who),
            "LIAISON_PASSPHRASE_FILE": str(self.folder / "passphrase"),
            "RELAY_DATA": str(self.folder / "relay"),
        }
        words = (str(BIN / words[0]), *words[1:])
        ran = subprocess.run(
            words, cwd=self.folder, env=settings, input=stdin, capture_output=True, timeout=120, check=False
        )
        told = subprocess.CompletedProcess(words, ran.returncode, ran.stdout.decode(), ran.stderr.decode())
        assert told.returncode == code, (
            f"{who}$ {' '.join(words)}: {told.returncode}\n{told.stdout[:2000]}{told.stderr}"
        )
        return told

    def json(self, who: str, *words: str, stdin: bytes = b"") -> dict:
        (line,) = self.run(who, *words, "--json", stdin=stdin).stdout.splitlines()
        value = json.loads(line)
        assert value["v"] == 1
        return value


@contextmanager
def served(folder: Path, *arguments: str, **settings: str) -> Iterator[str]:
    """`relay serve`; its URL."""
    with subprocess.Popen(
        [BIN / "relay", "serve", *arguments],
        cwd=folder, env={**os.environ, **settings}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as serving:  # fmt: skip
        try:
            line = serving.stdout.readline()
            assert line.startswith("relay: serving on http://"), line + serving.stderr.read()
            yield line.split()[3]
        finally:
            serving.terminate()
            serving.wait(20)


def found(desk: Desk, policies: list[Path]) -> None:
    """Two offices, admitted, with their policies, and an agreement under each."""
    for officer, office, nation in (("so-warsaw", "lo-warsaw", "POL"), ("so-paris", "lo-paris", "FRA")):
        desk.run(officer, "liaison", "authority", "init", office, "--nation", nation, "--relay", desk.url)
        desk.run("operator", "relay", "office", "add", f"{office}.statement")
        for policy in policies:
            desk.run(officer, "liaison", "authority", "policy", "publish", str(policy))
    for name in ("NATO", "ACME"):
        (desk.folder / "agreement.toml").write_text(AGREEMENT.format(policy=name))
        ref = desk.run("so-warsaw", "liaison", "agreement", "draft", "agreement.toml", "--yes").stdout.strip()
        desk.run("so-paris", "liaison", "agreement", "sign", ref, "--yes")


def enrol(desk: Desk, who: str, address: str, *options: str) -> None:
    office = address.partition("@")[2]
    desk.run(who, "liaison", "init", address, "--relay", desk.url, "--authority", f"{office}.statement")
    clearances = ["--clearance", "nato.xml", "--clearance", "acme.xml"]
    officer = "so-" + office.removeprefix("lo-")
    desk.run(officer, "liaison", "authority", "enrol", f"{address}.request", *clearances, *options)
    desk.run(who, "liaison", "status")


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """Warsaw and Paris under two real policies; Anna, Jean, and a partner system of Paris."""
    if not EXAMPLES.is_dir():
        pytest.skip(f"no examples in {EXAMPLES}")
    folder = tmp_path_factory.mktemp("walkthrough")
    (folder / "passphrase").write_text("correct horse battery staple\n")
    with served(folder, "--port", "0", RELAY_DATA=str(folder / "relay")) as url:
        desk = Desk(folder, url)
        found(desk, [EXAMPLES / "nato-policy.xml", EXAMPLES / "ACME-SPIF-example.xml"])
        ranks = "".join(f"<l:Classification>{rank}</l:Classification>" for rank in ("RESTRICTED", "CONFIDENTIAL"))
        (folder / "nato.xml").write_text(CLEARANCE.format(policy="NATO", ranks=ranks, category=CONTEXT))
        rank = "<l:Classification>CONFIDENTIAL</l:Classification>"
        (folder / "acme.xml").write_text(CLEARANCE.format(policy="ACME", ranks=rank, category=PHONY))
        enrol(desk, "anna", "anna.nowak@lo-warsaw")
        enrol(desk, "jean", "jean.petit@lo-paris")
        enrol(desk, "feed", "cop-feed@lo-paris", "--kind", "system")
        yield desk


@needs_examples
@pytest.mark.parametrize(
    ("sender", "reader", "to", "text", "label"),
    [
        ("anna", "jean", "jean.petit@lo-paris", "telegram-ca-11925.txt", "NATO CONFIDENTIAL"),
        ("jean", "anna", "anna.nowak@lo-warsaw", "memorandum-us-mc-7.txt", "ACME CONFIDENTIAL REL TO PHONY"),
    ],
    ids=["the telegram, under NATO", "the memorandum, under ACME"],
)
def test_a_real_message_with_ten_mebibytes_attached_arrives_bit_exact(desk, sender, reader, to, text, label) -> None:
    written, annex = EXAMPLES / text, os.urandom(ATTACHED)
    (desk.folder / "annex.bin").write_bytes(annex)
    planned = desk.run(
        sender, "liaison", "send", "--to", to, "--label", label, "--attach", "annex.bin", "--dry-run", str(written)
    )
    assert_marked(planned.stdout, label)
    sent = desk.json(
        sender, "liaison", "send", "--to", to, "--label", label, "--subject", "Zażółć: gęślą jaźń",
        "--attach", "annex.bin", "--yes", str(written),
    )  # fmt: skip
    assert sent.keys() == {"v", "message_id", "dtg", "released_to", "refused"}
    assert (sent["released_to"], sent["refused"]) == ([to], [])

    assert_marked(desk.run(reader, "liaison", "inbox").stdout, label)
    listed = desk.json(reader, "liaison", "inbox", "--state", "unread")
    assert listed.keys() == {"v", "message_id", "from", "precedence", "dtg", "label", "marking", "state"}
    assert (listed["message_id"], listed["marking"], listed["state"]) == (sent["message_id"], label, "unread")

    read = desk.json(reader, "liaison", "read", sent["message_id"][:12], "--out", "attachments")
    assert {"v", "message_id", "from", "marking", "subject", "portions", "attachments"} <= read.keys()
    assert (read["marking"], read["subject"]) == (label, "Zażółć: gęślą jaźń")
    (portion,) = read["portions"]
    assert portion.keys() == {"index", "label", "marking", "text", "withheld"}
    assert portion["text"].encode() == written.read_bytes()
    assert portion["withheld"] is False
    (attached,) = read["attachments"]
    assert (attached["name"], attached["size"]) == ("annex.bin", ATTACHED)
    assert (desk.folder / attached["saved"]).read_bytes() == annex

    shown = desk.run(reader, "liaison", "read", sent["message_id"]).stdout
    assert_marked(shown, label)
    assert written.read_text().splitlines()[0] in shown.splitlines()
    assert_marked(desk.run(sender, "liaison", "read", sent["message_id"]).stdout, label)
    assert_marked(desk.run(reader, "liaison", "explain", sent["message_id"]).stdout, label)
    assert desk.run(reader, "liaison", "ack", sent["message_id"]).stdout == ""
    states = [
        json.loads(line)
        for line in desk.run(sender, "liaison", "track", sent["message_id"], "--json").stdout.splitlines()
    ]
    assert [row["state"] for row in states] == ["opened", "acknowledged"]


def assert_marked(shown: str, marking: str) -> None:
    """The marking is the first and the last line."""
    lines = shown.splitlines()
    assert len(lines) > 2, "nothing is shown"
    assert lines[0] == lines[-1]
    assert marking in lines[0].split(" / ")


@needs_examples
def test_a_policy_of_another_schema_version_is_refused_with_the_reason(desk) -> None:
    old = str(EXAMPLES / "NATO-SPIF-example.xml")
    for command in (("authority", "policy", "publish", old), ("label", "show", "NATO SECRET", "--policy", old)):
        told = desk.run("so-warsaw", "liaison", *command, code=1)
        assert told.stdout == ""
        assert "schema version '1.0'" in told.stderr
        assert "only 2.1 is read" in told.stderr


@needs_examples
def test_the_partner_systems_poster_posts_line_by_line(desk) -> None:
    lines = [
        json.dumps(
            {"to": ["anna.nowak@lo-warsaw"], "label": "NATO RESTRICTED", "subject": "Track 4711", "body": "54.5N"}
        ),
        "54.6N 018.7E, plain, zażółć",
        json.dumps({"to": ["anna.nowak@lo-warsaw"], "label": "NATO SECRET", "body": "over its clearance"}),
        "never reached",
    ]
    told = desk.run(
        "feed", "python", str(POST), "--to", "anna.nowak@lo-warsaw", "--to", "nobody@lo-warsaw",
        "--label", "NATO CONFIDENTIAL", stdin="\n".join(lines).encode(), code=6,
    )  # fmt: skip
    receipts = [json.loads(line) for line in told.stdout.splitlines()]
    assert [receipt["released_to"] for receipt in receipts] == [["anna.nowak@lo-warsaw"]] * 2
    assert [receipt["refused"] for receipt in receipts] == [
        [], [{"address": "nobody@lo-warsaw", "rules": ["unknown-address"]}]
    ]  # fmt: skip
    assert told.stderr.startswith("post: line 3: ")
    read = desk.json("anna", "liaison", "read", receipts[1]["message_id"])
    assert (read["from"], read["portions"][0]["text"]) == ("cop-feed@lo-paris", "54.6N 018.7E, plain, zażółć")


@needs_examples
@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b'{"body": "x"}',
        b'{"to": ["a@b"], "label": "NATO RESTRICTED", "body": "x", "cc": "y"}',
        b'{"to": ["a@b"], "label": "NATO RESTRICTED", "body": 5}',
        b'{"to": "a@b", "label": "NATO RESTRICTED", "body": "x"}',
        b'{"to": ["anna.nowak@lo-warsaw"], "label": "NATO RESTRICTED", "body": "\\ud800"}',
        b"caf\xe9",
    ],
)
def test_the_poster_says_which_line_it_does_not_understand(desk, line) -> None:
    told = desk.run("feed", "python", str(POST), stdin=line, code=1)
    assert told.stdout == ""
    (said,) = told.stderr.splitlines()
    assert said.startswith("post: line 1: ")


@needs_examples
def test_the_poster_says_that_a_line_went_whose_receipt_it_could_not_write(desk) -> None:
    words = f'{sys.executable} {POST} --to anna.nowak@lo-warsaw --label "NATO RESTRICTED" > /dev/full'
    told = desk.run("feed", "/bin/sh", "-c", words, stdin=b"Text.", code=1)
    (said,) = told.stderr.splitlines()
    assert said.startswith("post: line 1: sealed, but its receipt cannot be written")


@needs_examples
def test_a_relay_that_is_down_is_exit_code_7_everywhere(desk, tmp_path) -> None:
    down = Desk(tmp_path)
    (tmp_path / "passphrase").write_text("correct horse battery staple\n")
    with served(tmp_path, "--port", "0", RELAY_DATA=str(tmp_path / "relay")) as down.url:
        down.run("so-warsaw", "liaison", "authority", "init", "lo-warsaw", "--nation", "POL", "--relay", down.url)
        down.run("feed", "liaison", "init", "feed@lo-warsaw", "--relay", down.url, "--authority", "lo-warsaw.statement")
    (tmp_path / "text.txt").write_text("Text.")
    line = b'{"to": ["anna.nowak@lo-warsaw"], "label": "NATO RESTRICTED", "body": "x"}'
    posted = down.run("feed", "python", str(POST), stdin=line, code=7)
    assert posted.stdout == ""
    assert "cannot be reached" in posted.stderr
    inbox = down.run("feed", "liaison", "inbox", code=7)
    assert "hint: nothing was lost; try again" in inbox.stderr
    down.run("feed", "liaison", "send", "--to", "a@lo-warsaw", "--label", "X", "--yes", "text.txt", code=7)
    down.run("so-warsaw", "liaison", "agreement", "list", code=7)
    down.run(
        "eve", "liaison", "init", "eve@lo-warsaw", "--relay", down.url, "--authority", "lo-warsaw.statement", code=7
    )
    known = down.run("feed", "liaison", "status", code=7)
    assert "feed@lo-warsaw" in known.stdout, "what needs no relay is shown"


def test_a_relay_without_arguments_serves_on_port_8440(tmp_path) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", 8440)) == 0:
            pytest.skip("something listens on port 8440 here")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RELAY_")}
    home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "share")}
    with subprocess.Popen(
        [BIN / "relay", "serve"], cwd=tmp_path, env=inherited | home, stdout=subprocess.PIPE
    ) as serving:
        try:
            assert serving.stdout.readline().startswith(b"relay: serving on http://127.0.0.1:8440 as relay-")
            assert (tmp_path / "share" / "liaison-relay" / "relay.sqlite").exists()
        finally:
            serving.terminate()
            serving.wait(20)
