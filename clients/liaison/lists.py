"""Distribution lists: `lists.toml` in the profile, expanded here and nowhere else.

    [lists]
    baltic = ["anna.nowak@lo-warsaw", "duty@lo-oslo"]

What is sent names the people, not the list; a list that is empty or unknown is an error and never means everyone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path

from relay.protocol.errors import Malformed, Unknown
from relay.protocol.identity import parse_address

PREFIX = "list:"


def expand(folder: Path, addresses: Sequence[str]) -> list[str]:
    """Addresses with every `list:NAME` replaced by its members, each address once, in order."""
    found = dict[str, None]()
    for address in addresses:
        found |= dict.fromkeys(_members(folder, address) if address.startswith(PREFIX) else [address])
    return list(found)


def _members(folder: Path, wanted: str) -> list[str]:
    path, name = folder / "lists.toml", wanted.removeprefix(PREFIX)
    if not path.exists():
        raise Unknown(f"there is no list {name!r}", hint=f"lists stand in {path}")
    try:
        lists = tomllib.loads(path.read_bytes().decode()).get("lists", {})
    except ValueError as problem:  # neither TOML nor UTF-8, perhaps
        raise Malformed(f"{path}: {problem}") from None
    if type(lists) is not dict:
        raise Malformed(f"{path}: lists is no table", hint='[lists], then a line: NAME = ["ADDR", "ADDR"]')
    if name not in lists:
        raise Unknown(f"there is no list {name!r}", hint=f"known: {', '.join(sorted(lists)) or 'none'}")
    members = lists[name]
    if type(members) is not list or not members:
        raise Malformed(f"list {name!r} is empty", hint="an empty list never means everyone")
    if any(type(member) is not str for member in members):
        raise Malformed(f"list {name!r} has a member that is no text", hint='each is an address: "ADDR"')
    for member in members:
        parse_address(member)
    return [str(member) for member in members]
