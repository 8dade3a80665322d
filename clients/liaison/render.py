"""What people see. The only file that imports rich; everything that came in a message is made harmless first.

The rules: every output that shows content has the marking as its first and its last line, as text; colour is a
supplement and only on a terminal. Piped output is plain, and does without rich.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest
from typing import TYPE_CHECKING, TextIO

from relay.protocol.canonical import LAST_SECOND

from .safe_text import for_one_line, for_terminal

if TYPE_CHECKING:
    from rich.console import Console

    from relay.protocol.header import AddresseeKind, Core

SYSTEM_HIGH = "SYSTEM HIGH - NO READABLE LABEL"  # the marking of what has no label that can be read


@dataclass(frozen=True, slots=True)
class Page:
    """Where lines go: a stream, and its terminal if it is one."""

    stream: TextIO
    terminal: Console | None

    def line(self, content: str, style: str = "") -> None:
        """One line, made harmless; the style is left out on a pipe."""
        self.lines(for_one_line(content), style)

    def lines(self, content: str, style: str = "") -> None:
        """What is harmless already, as many lines as it has."""
        content = self.fit(content)
        if self.terminal is None:
            self.stream.write(f"{content}\n")
        else:
            from rich.text import Text  # noqa: PLC0415

            self.terminal.print(Text(content, style=style), soft_wrap=True)

    def fit(self, content: str) -> str:
        """What the stream's encoding does not have as its escape: a page does not end at a letter."""
        encoding = self.stream.encoding or "utf-8"
        return content.encode(encoding, "backslashreplace").decode(encoding)


def page(color: str = "auto", *, stderr: bool = False) -> Page:
    """A page on stdout; `color` is auto, always or never, and NO_COLOR is heeded."""
    stream = sys.stderr if stderr else sys.stdout
    if color == "never" or (color == "auto" and not stream.isatty()):
        return Page(stream, None)
    from rich.console import Console  # noqa: PLC0415

    forced = True if color == "always" else None
    return Page(stream, Console(file=stream, highlight=False, emoji=False, markup=False, force_terminal=forced))


def banner(out: Page, marking: str, color: str | None) -> None:
    """A marking line. The text says it all; the policy's colour only repeats it."""
    out.line(marking, _banner_style(color) if out.terminal is not None and color else "bold")


def _banner_style(color: str) -> str:
    from rich.errors import StyleSyntaxError  # noqa: PLC0415
    from rich.style import Style  # noqa: PLC0415

    style = f"bold white on {color.lower()}"
    try:
        Style.parse(style)
    except StyleSyntaxError:  # SPIF 2.1 has colours that this terminal library does not know
        return "bold"
    return style


def table(out: Page, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table of one-line cells, row by row where it would break words; on a pipe, tab-separated without headings."""
    safe = [[out.fit(for_one_line(cell)) for cell in row] for row in rows]
    if out.terminal is None:
        for row in safe:
            out.lines("\t".join(row))
        return
    from rich.measure import Measurement  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    unbound = out.terminal.options.update(width=10_000)
    for gap in (2, 1):  # columns may stand closer together, but break no word
        grid = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
        for heading, *cells in zip_longest(headings, *safe, fillvalue=""):
            grid.add_column(heading, overflow="fold", no_wrap=not any(" " in cell for cell in cells))
        for row in safe:
            grid.add_row(*(Text(cell) for cell in row))
        if Measurement.get(out.terminal, unbound, grid).minimum <= out.terminal.width:
            out.terminal.print(grid)
            return
    for row in safe:
        out.lines("")
        fields(out, zip(headings, row, strict=False))


def marked_table(out: Page, markings: Iterable[str], headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """The same between two lines with the marking of each row in it."""
    marking = " / ".join(dict.fromkeys(markings))
    banner(out, marking, None)
    table(out, headings, rows)
    banner(out, marking, None)


def fields(out: Page, rows: Iterable[tuple[str, str]]) -> None:
    """Name and value, a line each, the values in one column; names without a value are left out."""
    shown = [(name, value) for name, value in rows if value]
    width = max((len(name) for name, _value in shown), default=0) + 3
    for name, value in shown:
        out.line(f"{name + ':':<{width}}{value}")


def text(out: Page, content: str) -> None:
    """Text of a message, control characters escaped; always ends its line."""
    out.lines(for_terminal(content).removesuffix("\n"))


def dtg(seconds: int) -> str:
    """Date-time group DDHHMMZ MON YY."""
    return _calendar(seconds, "%d%H%MZ %b %y").upper()


def moment(seconds: int) -> str:
    return _calendar(seconds, "%Y-%m-%d %H:%MZ")


def day(seconds: int) -> str:
    return _calendar(seconds, "%Y-%m-%d")


def said(value: object) -> str:
    """A value of `--json` in a cell or a field."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "; ".join(value) if isinstance(value, list) else str(value)


def _calendar(seconds: int, form: str) -> str:
    """The time in this form; one that no signed object may have is its number, so that no page is lost for it."""
    if not 0 <= seconds <= LAST_SECOND:
        return str(seconds)
    return datetime.fromtimestamp(seconds, UTC).strftime(form)


@contextmanager
def meter(what: str, total: int, *, counted: str = "") -> Iterator[Callable[[int], None]]:
    """A bar on stderr with rate and time left, gone when it is full; what it yields is told of how many are done."""
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    named = TextColumn("{task.description}", markup=False)
    done = (MofNCompleteColumn(),) if counted else (DownloadColumn(binary_units=True), TransferSpeedColumn())
    columns = (named, BarColumn(), *done, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(for_one_line(f"{what} {counted}".strip()), total=total)
        yield lambda done: bar.advance(task, done)


def addressees(core: Core, kind: AddresseeKind) -> str:
    return ", ".join(core.addressed(kind))


def size(octets: int) -> str:
    """A size as people say it."""
    amount, units = float(octets), ["B", "KiB", "MiB", "GiB"]
    while amount >= 1024 and len(units) > 1:
        amount, units = amount / 1024, units[1:]
    return f"{amount:.0f} {units[0]}" if units[0] == "B" else f"{amount:.1f} {units[0]}"
