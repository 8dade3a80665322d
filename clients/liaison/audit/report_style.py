"""The look of the auditor's report: light and dark, screen and paper."""

from __future__ import annotations


def style(marking: str) -> str:
    """The sheet, with the marking in the margins of every printed page: each character a CSS escape, so only text."""
    words = "".join(f"\\{ord(character):x} " for character in marking)
    edges = "".join(
        f'@{edge}-center {{ content: "{words}"; font: 700 10pt sans-serif; }} ' for edge in ("top", "bottom")
    )
    return f"{STYLE}@page {{ margin: 18mm 14mm; {edges}}}\n"


STYLE = """
:root { --page: #fbfbfa; --ink: #1d2226; --soft: #59636b; --line: #d5dade; --panel: #fff;
  --s0: #2b6cb0; --s1: #7a9a3a; --s2: #b9472f; }
@media (prefers-color-scheme: dark) { :root { --page: #14181b; --ink: #e6eaed; --soft: #a0abb3; --line: #343c43;
  --panel: #1c2226; --s0: #6aa9e6; --s1: #a8c566; --s2: #ee8368; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1rem 1.25rem 2rem; }
.banner { margin: 0; padding: .45rem 1rem; text-align: center; font-weight: 700; letter-spacing: .04em;
  background: var(--ink); color: var(--page); overflow-wrap: anywhere; }
h1 { margin: .5rem 0 .25rem; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 0 0 .5rem; font-size: 1.15rem; }
header p, section > p { margin: 0 0 .5rem; color: var(--soft); max-width: 46rem; overflow-wrap: anywhere; }
section { margin-top: 1.75rem; }
.tiles { display: grid; grid-template-columns: repeat(3, 1fr); gap: .75rem; margin: 0; }
.tiles div { display: flex; flex-direction: column; padding: .7rem .75rem; background: var(--panel);
  border: 1px solid var(--line); border-radius: 6px; }
.tiles dd { margin: 0; font-size: 1.6rem; font-weight: 600; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tiles dt { color: var(--soft); font-size: .85rem; }
.hash, code { font-family: ui-monospace, monospace; font-size: .85rem; }
figure { margin: 0; padding: .85rem; background: var(--panel); border: 1px solid var(--line); border-radius: 6px; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--ink); font-size: 13px; }
svg .name, svg .end { text-anchor: end; }
svg .count { fill: var(--soft); }
svg line { stroke: var(--line); }
svg .s0 { fill: var(--s0); } svg .s1 { fill: var(--s1); } svg .s2 { fill: var(--s2); }
figcaption { display: flex; flex-wrap: wrap; gap: 1.1rem; margin-top: .6rem; color: var(--soft); font-size: .85rem; }
figcaption:empty { display: none; }
figcaption i { display: inline-block; width: .7rem; height: .7rem; margin-right: .4rem; border-radius: 2px; }
i.s0 { background: var(--s0); } i.s1 { background: var(--s1); } i.s2 { background: var(--s2); }
details { margin-top: .5rem; color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; color: var(--ink); font-size: .9rem; }
th, td { padding: .35rem .75rem .35rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
td.n { font-variant-numeric: tabular-nums; }
@media screen and (max-width: 36rem) { .tiles { grid-template-columns: repeat(2, 1fr); } }
@media print { :root { --page: #fff; --ink: #000; --soft: #333; --panel: #fff; --line: #999;
  --s0: #2b6cb0; --s1: #7a9a3a; --s2: #b9472f; }
  body { font-size: 10pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; } .banner { background: none; color: #000; border: 2px solid #000; }
  figure, tr, .tiles div { break-inside: avoid; } h2, section > p:has(+ :is(figure, .wide)) { break-after: avoid; }
  thead { break-after: avoid; } .banner:last-child { margin-top: 6mm; } details { display: none; } }
"""
