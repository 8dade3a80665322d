"""What people see. The only file that imports rich; everything that came in a message is made harmless first.

The rules: every output that shows content has the marking as its first and its last line, as text; colour is a
supplement and only on a terminal. Piped output is plain.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table
from rich.text import Text

from relay.protocol.envelope import AddresseeKind, Core

from .safe_text import for_one_line, for_terminal


def console(color: str = "auto", *, stderr: bool = False) -> Console:
    """A console on stdout; `color` is auto, always or never, and NO_COLOR is heeded."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        file=stream,
        highlight=False,
        emoji=False,
        markup=False,
        soft_wrap=not stream.isatty(),
        force_terminal={"always": True, "never": False}.get(color),
        no_color=True if color == "never" else None,
    )


def banner(out: Console, marking: str, color: str | None) -> None:
    """A marking line. The text says it all; the policy's colour only repeats it."""
    if out.is_terminal and color is not None:
        try:
            out.print(Text(f" {marking} ", style=f"bold white on {color.lower()}"))
        except Exception:  # noqa: BLE001 - a colour name that this terminal library does not know
            out.print(Text(marking, style="bold"))
        else:
            return
    else:
        out.print(Text(marking, style="bold"))


def table(out: Console, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table of one-line cells; on a pipe, tab-separated lines without headings."""
    safe = [[for_one_line(cell) for cell in row] for row in rows]
    if not out.is_terminal:
        for row in safe:
            out.print(Text("\t".join(row)))
        return
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        grid.add_column(heading, overflow="fold")
    for row in safe:
        grid.add_row(*(Text(cell) for cell in row))
    out.print(grid)


def fields(out: Console, rows: Iterable[tuple[str, str]]) -> None:
    """Name and value, a line each."""
    for name, value in rows:
        out.print(Text(f"{name + ':':<13}", style="dim") + Text(for_one_line(value)))


def text(out: Console, content: str) -> None:
    """Text of a message, control characters escaped."""
    out.print(Text(for_terminal(content)), soft_wrap=True, end="" if content.endswith("\n") else "\n")


def dtg(seconds: int) -> str:
    """Date-time group DDHHMMZ MON YY."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%d%H%MZ %b %y").upper()


def moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%MZ")


def addressees(core: Core, kind: AddresseeKind) -> str:
    return ", ".join(each.address for each in core.addressees if each.kind is kind)


def size(octets: int) -> str:
    """A size as people say it."""
    amount, units = float(octets), ["B", "KiB", "MiB", "GiB"]
    while amount >= 1024 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{amount:.0f} {units[0]}" if units[0] == "B" else f"{amount:.1f} {units[0]}"
