"""What a run leaves: JSON, a picture, a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from . import audit

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"


STEPS = {
    "one durable step": ("accept", "send"),
    "two: taken and handed out": ("accept+open", "send+fetch"),
    "three: and acknowledged": ("accept+open+acknowledge",),
}
COLOURS = {"relay": "#1f6f8b", "floor": "#b0b0b0"}  # peers have another


def rows(results: dict[str, Any], *, crowded: bool = False) -> list[tuple[str, str, dict[str, float]]]:
    """(subject, work at so many clients, figures) of what was measured side by side; `crowded`: most clients only."""
    return [
        (subject, f"{work}, {clients} client{'s' * (clients != '1')}", figures)
        for subject, works in results.get("side_by_side", {}).items()
        for work, by_clients in works.items()
        for clients, figures in by_clients.items()
        if not crowded or clients == max(by_clients, key=int)
    ]


def table(results: dict[str, Any], *, crowded: bool = False) -> str:
    """Markdown: the claims, then what they were computed from, all of it or what the most clients saw."""
    machine = results["machine"]
    lines = [
        _told(machine, results["rounds"]),
        "",
        *(f"- {claim['line']}" for claim in results["claims"]),
        "",
        "| system | work | per second | p50 ms | p99 ms | processor µs each (system + database) | generator's share |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for subject, work, each in rows(results, crowded=crowded):
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
    system = f"Linux {machine['kernel']}, Python {machine['python']}, fsync {machine['fsync_ms']} ms"
    return f"{cores}, {system}; medians of {rounds} rounds in one run."


def put_between(text: str, content: str) -> str:
    """The text with what stands between the two markers replaced. ValueError without them."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"no {BEGIN} … {END} to put the table between")
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def picture(results: dict[str, Any]) -> str:
    """SVG: what each system does a second for its most clients, grouped by the durable steps of one message."""
    drawn, y = [], 0
    for title, works in STEPS.items():
        group = [
            (subject, by_clients[max(by_clients, key=int)]["rate"])
            for subject, measured in results.get("side_by_side", {}).items()
            for work, by_clients in measured.items()
            if work in works
        ]
        y += 30
        drawn.append(f'<text x="10" y="{y}" font-weight="bold">{escape(title)}, a second</text>')
        for subject, rate in sorted(group, key=lambda each: -each[1]):
            y += 18
            width = 440 * rate / max(each for _, each in group)
            colour = COLOURS.get(subject.partition(" ")[0], "#d08c3c")
            drawn.append(
                f'<text x="210" y="{y}" text-anchor="end">{escape(subject)}</text>'
                f'<rect x="220" y="{y - 11}" width="{width:.0f}" height="14" fill="{colour}"/>'
                f'<text x="{225 + width:.0f}" y="{y}">{rate:,.0f}</text>'
            )
    size = f'width="720" height="{y + 20}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
        f'<rect {size} fill="white"/>{"".join(drawn)}</svg>\n'
    )


def write(results: dict[str, Any], folder: Path, encoded: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "latest.json").write_text(encoded)
    (folder / "latest.svg").write_text(picture(results))
    (folder / "latest.md").write_text(table(results) + "\n")
