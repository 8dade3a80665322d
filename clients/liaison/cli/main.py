"""The program: its options in front of the command, and the commands by audience."""

from __future__ import annotations

import click

from liaison.passphrase import PassphraseSource
from relay import __version__

from . import agreement, audit, authority, label, mail, people
from .common import EXIT_CODES, LiaisonProgram, Session


@click.group(cls=LiaisonProgram, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_CODES)
@click.version_option(__version__, prog_name="liaison")
@click.option("--passphrase-fd", type=int, metavar="N", help="Read the passphrase from file descriptor N.")
@click.option("--passphrase-command", metavar="CMD", envvar="LIAISON_PASSPHRASE_COMMAND", help="Command that prints it.")
@click.option("--no-input", is_flag=True, help="Fail instead of asking.")
@click.option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", help="Colour on output.")
@click.option("--debug", is_flag=True, help="Show where an error came from.")
@click.pass_context
def main(
    context: click.Context, passphrase_fd: int | None, passphrase_command: str | None, color: str, **flags: bool
) -> None:
    """Secure messages between liaison offices.

    LIAISON_HOME is the profile's folder; LIAISON_PASSPHRASE_FILE names a file with its passphrase.
    """
    source = PassphraseSource(passphrase_fd, passphrase_command, flags["no_input"])
    context.obj = Session(source, flags["no_input"], color, flags["debug"])


for command in (
    people.init, people.status, people.peers, mail.send, mail.inbox, mail.read, mail.ack, mail.explain, mail.track,
    authority.authority, agreement.agreement, audit.audit, label.label,
):  # fmt: skip
    main.add_command(command)
