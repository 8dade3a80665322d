"""The authority's keys among named people: split, drill, recover."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from liaison.home.passphrase import PassphraseSource
from liaison.home.profile import create_profile, home_folder
from liaison.home.quorum import combine_shares, drill_shares, split_authority
from relay.protocol.errors import Malformed
from relay.protocol.words import words_for

from .common import Session, json_option, pass_session
from .saying import put, say

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WAYS = "give --passphrases DIR, with a file NAME in it for each person"
shares_argument = click.argument(
    "shares", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False), metavar="SHARE..."
)
folder_option = click.option(
    "--passphrases",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="A file NAME for each person's passphrase, instead of asking each at the terminal.",
)


def _source(session: Session, folder: Path | None, name: str) -> PassphraseSource:
    """A person's own passphrase: never the profile's source, which would be one for all."""
    environment = {"LIAISON_PASSPHRASE_FILE": str(folder / name)} if folder is not None else {}
    return PassphraseSource(no_input=session.no_input, environment=environment, ways=_WAYS)


@click.command()
@click.option("--threshold", type=int, required=True, metavar="M", help="How many of them recover the authority.")
@click.option(
    "--name", "names", multiple=True, required=True, metavar="NAME", help="Who gets a share; repeat for each."
)
@folder_option
@json_option
@pass_session
def split(session: Session, threshold: int, names: Sequence[str], passphrases: Path | None, *, as_json: bool) -> None:
    """Share the authority's keys among people; writes NAME.share for each, under that person's own passphrase."""
    if len(set(names)) != len(names) or not all(_NAME.fullmatch(name) for name in names):
        raise Malformed("names are letters, digits, dots and hyphens, each once")
    with session.authority() as office:
        holders = [
            (Path(f"{name}.share"), _source(session, passphrases, name).new(f"new passphrase of {name}"))
            for name in names
        ]
        split_authority(office.profile, threshold, holders)
    if as_json:
        put({"threshold": threshold, "shares": [str(path) for path, _passphrase in holders]})
        return
    for path, _passphrase in holders:
        click.echo(path)
    say(f"any {threshold} of these {len(names)} recover the authority; try it now: liaison authority drill SHARE...")


def _holders(session: Session, shares: Sequence[Path], passphrases: Path | None) -> list[tuple[Path, str]]:
    return [
        (share, _source(session, passphrases, share.stem).current(f"passphrase of {share.stem}")) for share in shares
    ]


@click.command()
@shares_argument
@folder_option
@json_option
@pass_session
def drill(session: Session, shares: Sequence[Path], passphrases: Path | None, *, as_json: bool) -> None:
    """Prove that each of these shares recovers the authority: rebuild its keys, write nothing, print a record."""
    rebuilt = drill_shares(_holders(session, shares, passphrases))
    record = {
        "drill": datetime.now(UTC).isoformat(timespec="seconds"),
        "office": rebuilt.statement.office,
        "authority": rebuilt.statement.kid.hex(),
        "shares": [share.stem for share in shares],
    }
    if as_json:
        put(record)
    else:
        click.echo(f"{record['drill']} {record['office']}: recovered from {', '.join(share.stem for share in shares)}")
        say(f"words of the authority: {words_for([rebuilt.statement.kid])}")


@click.command()
@shares_argument
@folder_option
@json_option
@pass_session
def recover(session: Session, shares: Sequence[Path], passphrases: Path | None, *, as_json: bool) -> None:
    """Rebuild the authority's profile from these shares, in LIAISON_HOME, under a new passphrase."""
    rebuilt = combine_shares(_holders(session, shares, passphrases))
    passphrase = session.passphrase.new("new passphrase for this authority")
    create_profile(home_folder(), rebuilt.pins, rebuilt.signing, rebuilt.request, passphrase)
    if as_json:
        put({"office": rebuilt.statement.office, "authority": rebuilt.statement.kid.hex()})
    say(f"authority of {rebuilt.statement.office} recovered in {home_folder()}")
    say(f"words to compare: {words_for([rebuilt.statement.kid])}")
