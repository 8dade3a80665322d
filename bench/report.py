"""What a run leaves: JSON, a picture, a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from . import audit

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"


def rows(results: dict[str, Any]) -> list[tuple[str, str, dict[str, float]]]:
    """(subject, work at so many clients, figures) of what was measured side by side."""
    return [
        (subject, f"{work}, {clients} client{'s' * (clients != '1')}", figures)
        for subject, works in results.get("side_by_side", {}).items()
        for work, by_clients in works.items()
        for clients, figures in by_clients.items()
    ]


def table(results: dict[str, Any]) -> str:
    """Markdown: the claims, then what they were computed from."""
    machine = results["machine"]
    lines = [
        _told(machine, results["rounds"]),
        "",
        *(f"- {claim['line']}" for claim in results["claims"]),
        "",
        "| system | work | per second | p50 ms | p99 ms | processor µs each (system + database) | generator's share |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for subject, work, each in rows(results):
        spent = each["server_us"] + each["database_us"]
        lines.append(
            f"| {subject} | {work} | {each['rate']:,.0f} | {each['p50_ms']:.2f} | {each['p99_ms']:.1f} "
            f"| {spent:,.0f} | {each['generator_share']:.0%} |"
        )
    if profile := results.get("profile"):
        pieces = ", ".join(f"{name} {cost:,.0f}" for name, cost in profile["pieces_us"].items())
        lines += ["", f"Where one accept's {profile['whole_us']:,.0f} µs of processor time go: {pieces}."]
        lines += [f"Our own Python, outside cryptography, database and framework: {profile['own_python_share']:.0%}."]
    if chain := results.get("chain"):
        steps = ", ".join(f"{name} {taken:.1f}" for name, taken in chain["ms"].items())
        lines += ["", f"One message through the client library, idle relay, ms: {steps}."]
    if audited := results.get("audit"):
        lines += ["", *audit.table(audited)]
    lines += [f"\nNot measured: {reason}" for reason in results["skipped"]]
    return "\n".join(lines)


def _told(machine: dict[str, Any], rounds: int) -> str:
    cores = f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gib']} GiB"
    return f"{cores}, Linux {machine['kernel']}, fsync {machine['fsync_ms']} ms; medians of {rounds} rounds in one run."


def put_between(text: str, content: str) -> str:
    """The text with what stands between the two markers replaced. ValueError without them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} … {END} to put the table between")
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def picture(results: dict[str, Any]) -> str:
    """SVG: one bar per row, its length the logarithm of the rate."""
    from math import log10  # noqa: PLC0415

    shown = rows(results)
    top = max((log10(each["rate"] + 1) for _, _, each in shown), default=1.0)
    bars = []
    for place, (subject, work, each) in enumerate(shown):
        y, width = 30 + 18 * place, 380 * log10(each["rate"] + 1) / top
        colour = "#1f6f8b" if subject.startswith("relay") else "#b0b0b0" if subject.startswith("floor") else "#d08c3c"
        bars.append(
            f'<text x="330" y="{y + 11}" text-anchor="end">{escape(f"{subject}: {work}")}</text>'
            f'<rect x="340" y="{y}" width="{width:.0f}" height="14" fill="{colour}"/>'
            f'<text x="{345 + width:.0f}" y="{y + 11}">{each["rate"]:,.0f}/s</text>'
        )
    height = 40 + 18 * len(shown)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="820" height="{height}" '
        'font-family="sans-serif" font-size="11">'
        f'<rect width="820" height="{height}" fill="white"/><text x="10" y="18">per second, logarithmic</text>'
        f"{''.join(bars)}</svg>\n"
    )


def write(results: dict[str, Any], folder: Path, encoded: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "latest.json").write_text(encoded)
    (folder / "latest.svg").write_text(picture(results))
    (folder / "latest.md").write_text(table(results) + "\n")
