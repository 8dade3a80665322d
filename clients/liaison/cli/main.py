"""The program: its options in front of the command, and the commands by audience."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from liaison.home.passphrase import PassphraseSource
from relay import __version__

from .common import LiaisonProgram, Session
from .saying import EXIT_CODES

# Where each command is, and its line in `liaison --help`, so that help and offline commands load no HTTP client.
COMMANDS = {
    "Yourself and the others": {
        "init": ("people", "Make this device's keys."),
        "status": ("people", "Who am I, and does everything hold?"),
        "passphrase": ("passphrase", "Change this profile's passphrase."),
        "peers": ("peers", "Who can be written to."),
        "community": ("desk", "Communities of interest."),
    },
    "Messages": {
        "send": ("send", "Send a message."),
        "inbox": ("mail", "What is there to read."),
        "read": ("mail", "Open a message."),
        "ack": ("mail", "Acknowledge a message."),
        "reply": ("desk", "Answer a message."),
        "forward": ("desk", "Pass a message on."),
        "consent": ("desk", "Leave to pass a message on."),
        "recall": ("recall", "Take a message back."),
        "track": ("track", "What you sent, and what became of it."),
        "evidence": ("evidence", "What proves what became of it."),
        "explain": ("track", "Who may read this, and which rule says no."),
    },
    "Where it takes two": {
        "draft": ("desk", "Seal a message for another officer to release."),
        "release": ("desk", "Read a draft and release it."),
        "downgrade": ("desk", "Replace a message under a lower label."),
        "approve": ("approvals", "Approve what takes M of N named people."),
    },
    "Security officers": {
        "authority": ("authority", "Act as an office's authority."),
        "agreement": ("agreement", "Information-sharing agreements."),
        "alarms": ("alarms", "What your office's people did not expect."),
        "hold": ("hold", "Keep a message from being destroyed."),
        "approvers": ("approvals", "Who has to approve what."),
    },
    "Auditors and witnesses": {
        "audit": ("audit", "Pull and verify the access log."),
        "witness": ("witness", "Cosign the checkpoints of logs."),
    },
    "Partner systems": {
        "gateway": ("gateway", "A door for a system that cannot seal: HTTP and JSON on this machine."),
    },
    "Offline": {
        "label": ("label", "Confidentiality labels."),
    },
}


@click.group(
    cls=LiaisonProgram,
    commands_by_audience=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)
@click.version_option(__version__, prog_name="liaison")
@click.option("--passphrase-fd", type=int, metavar="N", help="Read the passphrase from file descriptor N.")
@click.option(
    "--passphrase-command",
    metavar="CMD",
    envvar="LIAISON_PASSPHRASE_COMMAND",
    show_envvar=True,
    help="Command that prints it.",
)
@click.option("--no-input", is_flag=True, help="Fail instead of asking; --yes answers beforehand.")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Colour on output.")
@click.option("--debug", is_flag=True, help="Show where an error came from.")
@click.pass_context
def main(
    context: click.Context, /, passphrase_fd: int | None, passphrase_command: str | None, color: str, **flags: bool
) -> None:
    """Secure messages between liaison offices.

    LIAISON_HOME is the profile's folder, without it this account's own; LIAISON_PASSPHRASE_FILE names a file with its
    passphrase.
    """
    if sys.stdin is None:  # closed by the caller: nobody is asked, and there is nothing to read
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - as long as the program runs
    source = PassphraseSource(passphrase_fd, passphrase_command, flags["no_input"])
    context.obj = Session(source, flags["no_input"], color, flags["debug"])
