"""Bars as inline SVG: a title and a description for who cannot see them, and no colour that the page does not set."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from liaison.safe_text import for_one_line

Bar = tuple[str, Sequence[int]]  # a label, and one count per series

_WIDTH, _LEFT, _ROW, _HEIGHT = 720, 200, 26, 180
_SHOWN = 30  # characters of a label


def text(words: object) -> str:
    """Anybody's words as the text of an element or attribute, on one line."""
    return escape(for_one_line(str(words)))


def rows(title: str, bars: Sequence[Bar], series: Sequence[str]) -> str:
    """Horizontal bars, one row per label, the series side by side within the row's bar, their counts behind it."""
    most = max((sum(counts) for _, counts in bars), default=0) or 1
    drawn = []
    for number, (label, counts) in enumerate(bars):
        top, left = number * _ROW, float(_LEFT)
        drawn.append(f'<text x="{_LEFT - 8}" y="{top + 17}" class="name">{text(_short(label))}</text>')
        for name, count in zip(series, counts, strict=True):
            width = count * (_WIDTH - _LEFT - 110) / most
            drawn.append(f'<rect x="{left:.1f}" y="{top + 5}" width="{width:.1f}" height="16" class="{_tone(name)}"/>')
            left += width
        drawn.append(f'<text x="{left + 6:.1f}" y="{top + 17}" class="count">{" / ".join(map(str, counts))}</text>')
    return _figure(title, bars, series, len(bars) * _ROW, drawn)


def columns(title: str, bars: Sequence[Bar], series: Sequence[str]) -> str:
    """Vertical bars, one per label in order, the series one on the other; the first and last label below."""
    most = max((sum(counts) for _, counts in bars), default=0) or 1
    left = 44
    step = (_WIDTH - left) / max(len(bars), 1)
    drawn = [f'<text x="{left - 8}" y="14" class="name">{most}</text>']
    drawn.append(f'<text x="{left - 8}" y="{_HEIGHT - 2}" class="name">0</text>')
    drawn += [f'<line x1="{left}" y1="{y}" x2="{_WIDTH}" y2="{y}"/>' for y in (10, _HEIGHT - 6)]
    for number, (_label, counts) in enumerate(bars):
        width, base = min(step * 0.8, 48), float(_HEIGHT - 6)
        for name, count in zip(series, counts, strict=True):
            height = count * (_HEIGHT - 16) / most
            base -= height
            x = left + number * step + (step - width) / 2
            box = f'x="{x:.1f}" y="{base:.1f}" width="{width:.1f}" height="{height:.1f}"'
            drawn.append(f'<rect {box} class="{_tone(name)}"/>')
    if bars:
        drawn.append(f'<text x="{left}" y="{_HEIGHT + 14}" class="count">{text(bars[0][0])}</text>')
    if len(bars) > 1:
        drawn.append(f'<text x="{_WIDTH}" y="{_HEIGHT + 14}" class="count end">{text(bars[-1][0])}</text>')
    return _figure(title, bars, series, _HEIGHT + 20, drawn)


def _figure(title: str, bars: Sequence[Bar], series: Sequence[str], height: int, drawn: Sequence[str]) -> str:
    said = "; ".join(
        f"{label}: " + ", ".join(f"{count} {name}" for name, count in zip(series, counts, strict=True))
        for label, counts in bars
    )
    keys = (
        ""
        if len(series) == 1
        else "".join(f'<span><i class="{_tone(name)}"></i>{text(name)}</span>' for name in series)
    )
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {height}" role="img"><title>{text(title)}</title>'
        f"<desc>{text(said)}</desc>{''.join(drawn)}</svg>"
        f"<figcaption>{keys}</figcaption></figure>"
    )


def _tone(name: str) -> str:
    """The class of a series: what is denied has its colour in every chart."""
    return {"denied": "s2", "denials": "s2", "opened": "s1"}.get(name, "s0")


def _short(label: str) -> str:
    return label if len(label) <= _SHOWN else label[: _SHOWN - 1] + "…"
