"""The passphrase of a profile, changed."""

from __future__ import annotations

import click

from liaison.home.passphrase import PassphraseSource
from liaison.home.profile import home_folder, read_public
from liaison.home.vault import open_vault

from .common import Session, json_option, pass_session
from .saying import put, say


@click.command()
@click.option("--new-passphrase-fd", type=int, metavar="N", help="Read the new passphrase from file descriptor N.")
@json_option
@pass_session
def passphrase(session: Session, new_passphrase_fd: int | None, *, as_json: bool) -> None:
    """Change this profile's passphrase: a device's, an auditor's or an authority's. Works without the relay."""
    folder = home_folder()
    public = read_public(folder)
    vault = open_vault(folder / "vault", session.passphrase.current())
    source = PassphraseSource(
        new_passphrase_fd, no_input=session.no_input, environment={}, ways="give --new-passphrase-fd N"
    )
    vault.change_passphrase(source.new())
    if as_json:
        put({"address": public["address"], "changed": True})
    say(f"the passphrase of {folder} is changed")
    say(
        "older copies of this folder still open with the old one: who may have read it is kept out by a new device only"
    )
