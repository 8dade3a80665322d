"""The auditor's report: one page that needs nothing else and does nothing: no script, no resource, no address.

The rules:
  - it is made of verified entries, and says under which tree;
  - every word from the log is text, never markup;
  - the same entries and directory, the same options and the same time give the same page;
  - the highest marking of what is listed stands first and last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta, tzinfo

from liaison.client import Client
from liaison.render import SYSTEM_HIGH
from liaison.safe_text import for_one_line
from liaison.trust import ACCESS
from liaison.witnessing import pinned_policy
from relay.protocol.entry import AccessEntry
from relay.protocol.header import Precedence

from .charts import Bar, columns, rows, text
from .expiry import SOON, Ending, ending
from .pulled import PulledEntry, local
from .report_style import style
from .tally import DEVIATIONS, LISTED, MIN_DAYS, NOT_STATED, Tally, tally

CHARTED_DAYS = 92
DAY = 86400
_PRECEDENCES = (*(each.name.lower() for each in sorted(Precedence, reverse=True)), NOT_STATED)


@dataclass(frozen=True, slots=True)
class Cover:
    """What the page says about itself."""

    log: str  # the origin of its checkpoints
    auditor: str
    scope: tuple[str, ...]  # offices whose entries are read
    now: int
    marking: str
    zone: tzinfo
    hours: tuple[int, int]
    root: bytes
    witnesses: str  # the policy that the checkpoints are held to, or empty


def audit_report(
    client: Client, pulled: Iterable[PulledEntry], root: bytes, zone: tzinfo, hours: tuple[int, int], now: int
) -> str:
    """The page over these entries, all that was pulled and verified to have this root; `now` in seconds."""
    directory, own = client.trust.directory, client.profile.signing.device_id
    scope = directory.audit_scope(own, now)
    labels, pinned = client.labels, pinned_policy(client.profile.cabinet)
    sums = tally(pulled, zone, hours)
    cover = Cover(
        log=client.trust.verifiers(ACCESS)[0].name,
        auditor=client.profile.pins.address,
        scope=tuple(sorted(scope)),
        now=now,
        marking=labels.highest(labels.label_of(each) for each in sorted(sums.seen_labels)),
        zone=zone,
        hours=hours,
        root=root,
        witnesses=str(pinned) if pinned is not None else "",
    )

    def classification(encoded: bytes) -> str:
        label = labels.label_of(encoded)
        return f"{label.policy.name} {label.classification}" if label is not None else SYSTEM_HIGH

    ends = ending(directory, scope, now)
    return page(cover, sums, ends, classification, lambda encoded: labels.marking(labels.label_of(encoded)))


def page(
    cover: Cover,
    sums: Tally,
    ends: Sequence[Ending],
    classification: Callable[[bytes], str],
    marking: Callable[[bytes], str],
) -> str:
    """The whole HTML document. `classification` and `marking` are those of an encoded label."""
    parts = [
        _head(cover, sums),
        _numbers(sums, ends),
        _proof(cover, sums),
        _traffic(cover, sums, classification),
        _denials(sums),
        _out_of_hours(cover, sums, marking),
        _volumes(sums),
        _ending(cover, ends),
    ]
    banner = f'<p class="banner">{text(cover.marking)}</p>'
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(cover.marking)} - access log of {text(cover.log)}</title>\n"
        f"<style>{style(for_one_line(cover.marking))}</style>\n</head>\n"
        f"<body>\n{banner}\n<main>\n" + "\n".join(parts) + f"\n</main>\n{banner}\n</body>\n</html>\n"
    )


def _head(cover: Cover, sums: Tally) -> str:
    period = "no entry in scope"
    if sums.first is not None and sums.last is not None:
        period = f"{_moment(sums.first, cover.zone)} to {_moment(sums.last, cover.zone)}"
    return (
        f"<header><h1>Access log report</h1><p>{text(cover.log)}, pulled by {text(cover.auditor)}</p>"
        f"<p>{text(period)}, times in {text(cover.zone)}; entries of {text(', '.join(cover.scope) or 'no office')}</p>"
        "</header>"
    )


def _numbers(sums: Tally, ends: Sequence[Ending]) -> str:
    tiles = (
        ("entries verified", sums.entries),
        ("of them out of scope", sums.withheld),
        ("of them erased after their retention", sums.erased),
        ("messages released", sums.released.total()),
        ("openings", sums.opened.total()),
        ("requests denied", sums.denied.total()),
        ("openings out of hours", sums.out_of_hours_count),
        ("unusual device-days", len(sums.volumes)),
        ("certificates ending soon", len(ends)),
    )
    shown = "".join(f"<div><dd>{count}</dd><dt>{name}</dt></div>" for name, count in tiles)
    return f'<section><dl class="tiles">{shown}</dl></section>'


def _proof(cover: Cover, sums: Tally) -> str:
    witnessed = (
        f"Checkpoints are held to a witness policy: {text(cover.witnesses)}."
        if cover.witnesses
        else "No witness policy is pinned: that others were shown the same log is not established here."
    )
    return _section(
        "Proof",
        f"<p>Verified up to size {sums.entries}: these entries, contents or hashes, hash to the root that the relay's "
        f"checkpoint of this size signed, and this tree extends every one that this auditor has seen. {witnessed} "
        "The log shows what devices asked of the relay, not what people did with what they read.</p>"
        f'<p class="hash">root {cover.root.hex()}</p>',
    )


def _traffic(cover: Cover, sums: Tally, classification: Callable[[bytes], str]) -> str:
    offices = sorted(sums.released.keys() | sums.opened.keys() | sums.denied.keys())
    offices = [each for each in offices if sums.released[each] or sums.opened[each] or sums.denied[each]]
    by_office: list[Bar] = [(each, (sums.released[each], sums.opened[each], sums.denied[each])) for each in offices]
    classes: dict[str, int] = {}
    for label, count in sums.labels.items():
        classes[classification(label)] = classes.get(classification(label), 0) + count
    by_class: list[Bar] = [(name, (classes[name],)) for name in sorted(classes)]
    by_precedence: list[Bar] = [(name, (sums.precedences[name],)) for name in _PRECEDENCES]
    by_precedence = by_precedence if sums.precedences[NOT_STATED] else by_precedence[:-1]
    days = list(_days(sums))
    by_day: list[Bar] = [(str(day), (sums.permitted_days[day], sums.denied_days[day])) for day in days[-CHARTED_DAYS:]]
    cut = f" Only the last {CHARTED_DAYS} of {len(days)} days are drawn." if len(days) > CHARTED_DAYS else ""
    return (
        _section("By office", _chart(rows, "Traffic by office", by_office, ("released", "opened", "denied")))
        + _section(
            "By classification", _chart(rows, "Messages released, by classification", by_class, ("messages released",))
        )
        + _section(
            "By precedence",
            _chart(
                rows,
                "Messages released, by precedence",
                by_precedence if sums.precedences else [],
                ("messages released",),
            ),
        )
        + _section(
            "By day",
            f"<p>All entries in scope, by day in {text(cover.zone)}; a denial counts once.{cut}</p>"
            + _chart(columns, "Entries by day", by_day, ("permitted", "denied")),
        )
    )


def _chart(
    draw: Callable[[str, Sequence[Bar], Sequence[str]], str], name: str, bars: list[Bar], series: tuple[str, ...]
) -> str:
    if not bars:
        return "<p>None.</p>"
    table = _table((name.rpartition("by ")[2], *series), [(label, *counts) for label, counts in bars])
    return draw(name, bars, series) + f"<details><summary>The numbers</summary>{table}</details>"


def _days(sums: Tally) -> Iterator[date]:
    """Every day from the first to the last, also those on which nothing happened."""
    known = sorted(day for days in (sums.permitted_days, sums.denied_days) for day in days)
    if known:
        yield from (known[0] + timedelta(days=more) for more in range((known[-1] - known[0]).days + 1))


def _denials(sums: Tally) -> str:
    by_rule: list[Bar] = [
        (rule, (count,)) for rule, count in sorted(sums.rules.items(), key=lambda each: (-each[1], each[0]))
    ]
    why = (
        "<p>A request may fail several rules. <code>no-slot</code> is also what is said of a message "
        "that is not the asker's.</p>"
    )
    return _section("Denials by rule", why + _chart(rows, "Denials by rule", by_rule, ("denials",)))


def _out_of_hours(cover: Cover, sums: Tally, marking: Callable[[bytes], str]) -> str:
    first, after = cover.hours
    found = [
        (f"{local:%Y-%m-%d %H:%M}", entry.address, _message(entry), marking(entry.label) if entry.label else "")
        for local, entry in sums.out_of_hours
    ]
    return _section(
        "Openings out of hours",
        f"<p>Messages opened before {first:02}:00 or from {after:02}:00 on, in {text(cover.zone)}.</p>"
        + _table(("opened", "by", "message", "marking"), found, sums.out_of_hours_count),
    )


def _message(entry: AccessEntry) -> str:
    return entry.message_id.hex()[:12] if entry.message_id is not None else ""


def _volumes(sums: Tally) -> str:
    found = [
        (each.day, each.address, each.device_id.hex()[:12], each.count, f"{each.median:g}", f"{each.deviation:g}")
        for each in sums.volumes
    ]
    return _section(
        "Unusual volumes",
        "<p>A day is listed when a device's entries on it exceed the median of its active days by more than "
        f"{DEVIATIONS} times their median absolute deviation (MAD: the median of the distances from the median, taken "
        f"as at least 1); a device with fewer than {MIN_DAYS} active days is not judged.</p>"
        + _table(("day", "by", "device", "entries", "median", "MAD"), found),
    )


def _ending(cover: Cover, ends: Sequence[Ending]) -> str:
    found = [
        (
            _moment(each.device.not_after * 1000, cover.zone),
            (each.device.not_after - cover.now) // DAY,
            each.device.address,
            each.device.kind.value,
            each.device.device_id.hex()[:12],
            _moment(each.replaced_until * 1000, cover.zone) if each.replaced_until is not None else "no",
        )
        for each in ends
    ]
    return _section(
        "Certificates ending soon",
        f"<p>Of devices of the offices in scope that may act on {_moment(cover.now * 1000, cover.zone)} and not "
        f"{SOON // DAY} days later, from the directory log that was verified.</p>"
        + _table(("ends", "days left", "address", "kind", "device", "another device until"), found),
    )


def _section(name: str, content: str) -> str:
    return f"<section><h2>{name}</h2>{content}</section>"


def _table(names: Sequence[str], found: Sequence[Iterable[object]], count: int | None = None) -> str:
    """The rows as far as they are listed; `count` is how many there are where `found` has not all of them."""
    if not found:
        return "<p>None.</p>"
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in names)
    body = "".join(f"<tr>{''.join(_cell(each) for each in row)}</tr>" for row in found[:LISTED])
    left = (len(found) if count is None else count) - min(len(found), LISTED)
    more = f"<p>{left} more are not listed.</p>" if left else ""
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{more}'


def _cell(value: object) -> str:
    return f'<td class="n">{value}</td>' if isinstance(value, int) else f"<td>{text(value)}</td>"


def _moment(milliseconds: int, zone: tzinfo) -> str:
    return f"{local(milliseconds, zone):%Y-%m-%d %H:%M}"
