"""The auditor's report: what it counts, that it stands alone, and that no word in the log becomes markup."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from acts import as_json, run
from liaison.audit.expiry import ending
from liaison.audit.pulled import PulledEntry
from liaison.audit.report import Cover, page
from liaison.audit.report_style import style
from liaison.audit.tally import tally
from liaison.keys import SigningKey
from liaison.render import SYSTEM_HIGH
from relay.protocol.changes import _admit
from relay.protocol.directory import Device, Directory
from relay.protocol.entry import AccessEntry, Event
from relay.protocol.grants import accept_detail
from relay.protocol.header import Precedence
from relay.protocol.identity import Kind, Revocation, Statement

ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-paris"
SEALED = b"SEALED"
AUTHORITY = SigningKey.generate()
MARKING = "TEST SEALED RELEASABLE TO POL"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NASTY = st.sampled_from([
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><script>", "</title></desc>", "' onload='x",
    "&lt;b&gt;", "]]><!--", "\x1b[2J\x00", "\u202egnp.exe", "javascript:x",
]) | st.text(max_size=30)  # fmt: skip


NOW = 1_773_200_000  # 2026-03-11


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


def entry(event, when, address=JEAN, **fields):
    given = {
        "salt": bytes(16), "device_id": address[:1].encode() * 16, "office": address.partition("@")[2], "label": SEALED,
        "message_id": b"\xab" * 16,
    } | fields  # fmt: skip
    return AccessEntry(event, at(when), address=address, **given)


def denial(when, request, rules=("classification",), address=JEAN):
    """As the relay logs it: what the asker's office may see, and what the originator's may."""
    first = entry(Event.DENY, when, address, permitted=False, rules=("no-slot",), request=request, label=None)
    return [first, entry(Event.DENY, when, address, permitted=False, rules=rules, request=request, office="lo-warsaw")]


def working_day(day, count, address=JEAN):
    return [entry(Event.OPEN, f"2026-03-{day:02}T10:{minute:02}:00", address) for minute in range(count)]


WEEKS = [
    entry(Event.ACCEPT, "2026-03-02T08:00:00", ANNA, detail=accept_detail((), Precedence.FLASH)),
    entry(Event.ACCEPT, "2026-03-02T08:10:00", ANNA, label=b"OPEN", detail="by an earlier relay"),
    *(each for day, count in ((2, 4), (3, 5), (4, 4), (5, 6), (6, 5), (9, 31), (10, 5)) for each in working_day(day, count)),
    *(each for day in range(2, 12) for each in working_day(day, 3, "ewa.lis@lo-warsaw")),
    entry(Event.OPEN, "2026-03-10T03:12:00"),
    *denial("2026-03-05T09:00:00", b"1" * 16),
    *denial("2026-03-05T09:01:00", b"2" * 16, ("classification", "agreement")),
    entry(Event.REFUSE, "2026-03-06T09:00:00", ANNA, permitted=False, rules=("agreement",), request=b"3" * 16),
]  # fmt: skip


def summed(entries, withheld=0, zone=UTC, hours=(7, 19), erased=0):
    rows = [PulledEntry(index, bytes(32), each) for index, each in enumerate(entries)]
    for more in range(withheld + erased):
        rows.append(PulledEntry(len(rows), bytes(32), None, is_erased=more >= withheld))
    return tally(rows, zone, hours)


def written(sums, marking=MARKING, log="relay.example/access", zone=UTC, ends=()):
    cover = Cover(log, "audit@lo-paris", ("lo-paris",), NOW, marking, zone, (7, 19), bytes(32), "")
    return page(cover, sums, ends, lambda label: f"TEST {label.decode()}", lambda label: f"TEST {label.decode()}")


class Reader(HTMLParser):
    """What a browser would see: elements, attributes, words."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.words = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data):
        self.words.append(data.strip())


# -- what is counted --------------------------------------------------------------------------------------------------


def test_messages_openings_and_denials_are_counted_by_the_office_that_acted():
    sums = summed(WEEKS, withheld=7)
    assert (sums.entries, sums.withheld) == (len(WEEKS) + 7, 7)
    assert sums.released == {"lo-warsaw": 2}
    assert sums.opened == {"lo-paris": 61, "lo-warsaw": 30}
    assert +sums.denied == {"lo-paris": 2, "lo-warsaw": 1}
    assert sums.labels == {SEALED: 1, b"OPEN": 1}
    assert sums.precedences == {"flash": 1, "not stated": 1}


def test_a_denial_that_was_logged_for_two_offices_is_one_denial_with_the_rules_of_both():
    sums = summed(WEEKS)
    assert sums.rules == {"no-slot": 2, "classification": 2, "agreement": 2}
    assert +sums.denied_days == {date(2026, 3, 5): 2, date(2026, 3, 6): 1}


def test_hours_are_those_of_the_zone():
    sums = summed(WEEKS)
    assert [f"{local:%d %H:%M}" for local, _ in sums.out_of_hours] == ["10 03:12"]
    assert not summed(WEEKS, zone=ZoneInfo("Asia/Tokyo"), hours=(12, 24)).out_of_hours
    assert len(summed(WEEKS, hours=(11, 12)).out_of_hours) == sum(each.event is Event.OPEN for each in WEEKS)


def test_the_first_hour_of_work_is_inside_and_the_hour_after_it_outside():
    edges = [entry(Event.OPEN, f"2026-03-02T{clock}:00") for clock in ("06:59", "07:00", "18:59", "19:00")]
    assert [f"{local:%H:%M}" for local, _ in summed(edges).out_of_hours] == ["06:59", "19:00"]


def test_a_day_far_above_what_the_device_usually_does_is_found_and_no_other():
    (found,) = summed(WEEKS).volumes
    assert (str(found.day), found.address, found.count) == ("2026-03-09", JEAN, 31)
    assert (found.median, found.deviation) == (5, 1)  # of 4, 5, 4, 8, 5, 31 and 6, denials among them


def test_a_device_of_few_days_is_not_judged():
    assert not summed(
        [each for day, count in ((2, 1), (3, 1), (4, 1), (5, 40)) for each in working_day(day, count)]
    ).volumes


# -- what the page is -------------------------------------------------------------------------------------------------


def test_the_page_says_what_was_counted_and_under_which_tree():
    text = written(summed(WEEKS, withheld=7))
    words = " ".join(Reader(text).words)
    for expected in (
        f"Verified up to size {len(WEEKS) + 7}", "00" * 32, "No witness policy is pinned", "lo-warsaw", "TEST SEALED",
        "2026-03-10 03:12", "2026-03-09", "median absolute deviation", "before 07:00 or from 19:00 on",
    ):  # fmt: skip
        assert expected in words


def test_what_was_erased_after_its_retention_is_a_figure_of_its_own():
    sums = summed(WEEKS, withheld=7, erased=3)
    assert (sums.entries, sums.withheld, sums.erased) == (len(WEEKS) + 10, 7, 3)
    words = [word for word in Reader(written(sums)).words if word]
    for count, name in (("7", "of them out of scope"), ("3", "of them erased after their retention")):
        assert words[words.index(name) - 1] == count


def device(address, days, number=1, office=None):
    office = office or address.partition("@")[2]
    ends = int(NOW + days * 86400)
    return Device(bytes([number]) * 16, address, Kind.OFFICER, office, "FRA", b"", b"", bytes(32), 0, ends, None)


def known(*devices):
    """A directory with these devices and their offices, which one authority has certified."""
    found = Directory()
    for office in {each.office for each in devices}:
        found.offices[office] = Statement(office, "FRA", 1, AUTHORITY.public, bytes(32), 1, ())
    for index, each in enumerate(devices):
        _admit(found, each, AUTHORITY.kid)
        found.certificates[each.device_id] = index
    return found


def test_certificates_in_scope_that_end_within_thirty_days_are_found_and_no_other():
    directory = known(
        device("soon@lo-paris", 30, 1), device("later@lo-paris", 30.1, 2), device("over@lo-paris", -1, 3),
        device("lost@lo-paris", 5, 4), device("twice@lo-paris", 3, 5), device("twice@lo-paris", 300, 6),
        device("other@lo-warsaw", 2, 7),
    )  # fmt: skip
    directory.revoked[bytes([4]) * 16] = Revocation(bytes([4]) * 16, "lost@lo-paris", "lost", NOW)
    found = ending(directory, {"lo-paris"}, NOW)
    assert [(each.device.address, each.replaced_until) for each in found] == [
        ("twice@lo-paris", NOW + 300 * 86400),
        ("soon@lo-paris", None),
    ]
    words = Reader(written(summed(WEEKS), ends=found)).words
    at_twice = words.index("twice@lo-paris")
    assert words[at_twice - 2 : at_twice + 4] == [
        "2026-03-14 03:33",
        "3",
        "twice@lo-paris",
        "officer",
        "050505050505",
        "2027-01-05 03:33",
    ]


def test_precedences_are_drawn_from_the_highest_to_the_lowest():
    words = [word for word in Reader(written(summed(WEEKS))).words if word]
    shown = words[words.index("By precedence") :]
    order = [
        shown.index(name)
        for name in ("override", "flash", "immediate", "priority", "routine", "deferred", "not stated")
    ]
    assert order == sorted(order)
    assert "not stated" not in Reader(written(summed(WEEKS[:1]))).words


def test_the_marking_stands_first_and_last():
    words = [word for word in Reader(written(summed(WEEKS)).partition("<body>")[2]).words if word]
    assert words[0] == words[-1] == MARKING


def test_the_marking_stands_on_every_printed_page_as_text_only():
    sheet = style('TOP"; } </style>')
    assert sheet.count("@top-center") == sheet.count("@bottom-center") == 1
    assert "</" not in sheet
    assert "\\54 \\4f \\50 \\22 \\3b " in sheet


def test_the_page_needs_nothing_and_runs_nothing():
    text = written(summed(WEEKS))
    assert not [each for each in ("http://", "https://", "src=", "href=", "<script", "url(", "@import") if each in text]
    assert "default-src 'none'; style-src 'unsafe-inline'" in text


def test_every_chart_has_a_title_and_a_description():
    tags = Reader(written(summed(WEEKS))).tags
    assert tags.count("svg") == tags.count("desc") == tags.count("title") - 1 == 5


def test_the_same_entries_give_the_same_page():
    assert written(summed(WEEKS)) == written(summed(WEEKS))


def test_a_log_without_anything_in_scope_gives_a_page():
    assert "no entry in scope" in written(summed([], withheld=3))


@settings(max_examples=60, deadline=None)
@given(NASTY, NASTY, NASTY)
def test_no_word_from_the_log_becomes_markup(address, rule, office):
    plain = Reader(
        written(
            summed(
                [entry(Event.OPEN, "2026-03-02T03:00:00", "a"), *denial("2026-03-02T03:00:00", b"1" * 16, ("a",), "b")]
            )
        )
    )
    odd = [
        entry(Event.OPEN, "2026-03-02T03:00:00", f"{address}@{office}", device_id=b"1" * 16),
        *denial("2026-03-02T03:00:00", b"1" * 16, (rule,), "b"),
    ]
    read = Reader(written(summed(odd), marking=address, log=rule))
    assert set(read.tags) == set(plain.tags)
    assert set(read.attributes) == set(plain.attributes)


# -- from a relay -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def auditor(auditor, two_offices):
    """After Jean has answered in haste."""
    label = "TEST OPEN RELEASABLE TO FRA, POL"
    two_offices.clients[JEAN].send([ANNA], label=label, body="Seen.", precedence=Precedence.IMMEDIATE)
    return auditor


def test_an_auditor_writes_a_report_of_what_he_verified(auditor, tmp_path):
    result = run(auditor, "audit", "report", "-o", str(tmp_path / "report.html"), "--zone", "Europe/Paris")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "report.html").read_text()
    words = [word for word in Reader(text.partition("<body>")[2]).words if word]
    assert words[0] == words[-1] == "TEST SEALED RELEASABLE TO POL, FRA"
    assert "Europe/Paris" in text
    assert "no-slot" in words
    assert "Ferry" not in text
    shown = words[words.index("By precedence") :]
    rows = shown[shown.index("The numbers") + 3 :]
    assert rows[:8] == ["override", "0", "flash", "0", "immediate", "1", "priority", "0"]
    ends = words[words.index("Certificates ending soon") :]
    assert {JEAN, "audit@lo-paris", "auditor"} <= set(ends)
    assert {"29", "30"} & set(ends)  # this world's certificates last for thirty days: 30 within their first second
    assert ANNA not in ends


def test_a_label_that_cannot_be_read_makes_the_report_system_high(auditor):
    known = auditor.labels.read("TEST OPEN RELEASABLE TO FRA")
    assert auditor.labels.highest([known]) == "TEST OPEN RELEASABLE TO FRA"
    for labels in ([known, None], [], [known, replace(known, classification="UNHEARD OF")]):
        assert auditor.labels.highest(labels) == SYSTEM_HIGH


@pytest.mark.parametrize(
    "wrong", [("--hours", "19-07"), ("--hours", "noon"), ("--zone", "../etc/passwd"), ("--zone", "X")]
)
def test_hours_and_zone_are_checked_before_anything_is_fetched(auditor, tmp_path, wrong):
    assert run(auditor, "audit", "report", "-o", str(tmp_path / "report.html"), *wrong).exit_code == 2
    assert not (tmp_path / "report.html").exists()


def test_a_program_is_told_where_the_report_is(auditor, tmp_path):
    told = as_json(auditor, "audit", "report", "-o", str(tmp_path / "report.html"))
    assert told == {"v": 1, "report": str(tmp_path / "report.html"), "entries": told["entries"]}
    assert f"Verified up to size {told['entries']}:" in (tmp_path / "report.html").read_text()


def drawn(page, out, *how):
    """What Chromium makes of the page: a file."""
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={page.parent / 'profile'}", *how,
         page.as_uri()],
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out.read_bytes()


@pytest.fixture
def report(tmp_path):
    """A page with something in every section."""
    ends = ending(known(device("soon@lo-paris", 8, 1), device("last@lo-paris", 2, 2)), {"lo-paris"}, NOW)
    (tmp_path / "report.html").write_text(written(summed(WEEKS, withheld=7), ends=ends))
    return tmp_path / "report.html"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to draw the page")
def test_a_browser_draws_the_page_light_and_dark(report, tmp_path):
    """The page is paper by day and dark by night, and in both the words stand out from what is behind them."""
    ground = {}
    for name, scheme in (("dark", 0), ("light", 1)):
        shot = tmp_path / f"{name}.png"
        drawn(
            report,
            shot,
            f"--screenshot={shot}",
            "--window-size=900,3600",
            f"--blink-settings=preferredColorScheme={scheme}",
        )
        with Image.open(shot) as image:
            gray = image.convert("L")
            ground[name] = gray.getpixel((5, 1800))
            darkest, lightest = gray.crop((100, 100, 800, 3000)).getextrema()
            assert lightest - darkest > 180
    assert ground["dark"] < 60 < 200 < ground["light"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here to print the page")
def test_a_browser_prints_the_page_on_a_few_sheets_with_nothing_to_follow(report, tmp_path):
    """Printed it is on white whatever the screen, on A4 or letter sheets, and holds no link and no script."""
    sheet = drawn(
        report,
        tmp_path / "page.pdf",
        f"--print-to-pdf={tmp_path / 'page.pdf'}",
        "--blink-settings=preferredColorScheme=0",
    )
    assert sheet.startswith(b"%PDF-")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b(?!s)", sheet)) <= 6
    assert not [word for word in (b"/URI", b"/JavaScript", b"/JS", b"/Launch", b"/EmbeddedFile") if word in sheet]
