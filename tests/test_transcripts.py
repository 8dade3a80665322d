from __future__ import annotations

from pathlib import Path

import pytest

from transcripts import Mismatch, played, run_transcript

FOLDER = Path(__file__).parent / "scripts"
SCRIPTS = sorted(FOLDER.glob("*.txt"))
# These go on where `setup` ended, with its relay and its people; each leaves them as it found them.
TWO_OFFICES = sorted((FOLDER / "two-offices").glob("*.txt"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_programs_say_what_the_transcript_says(script: Path, tmp_path: Path) -> None:
    run_transcript(script, tmp_path)


@pytest.fixture(scope="module")
def two_offices_at_work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two-offices")
    with played(FOLDER / "two-offices" / "setup", folder) as known:
        yield folder, known


@pytest.mark.parametrize("script", TWO_OFFICES, ids=lambda script: script.stem)
def test_two_offices_work_as_the_transcript_says(script: Path, two_offices_at_work) -> None:
    folder, known = two_offices_at_work
    run_transcript(script, folder, known)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("$ echo more", "stdout goes on: more"),
        ("$ echo one\nuno\n", "expected: uno"),
        ("$ echo one\none\ntwo", "stdout ends before: two"),
        ("$ echo; echo x\nx\n", "expected: x"),
        ("$ echo oops >&2", "stderr goes on: oops"),
        ("$ true\n! oops", "stderr ends before: oops"),
        ("$ false", "exit code 1, expected 0"),
        ("$ true\n? 5", "exit code 0, expected 5"),
        ("$ echo abcd\n{ID=[a-f]{3}}", "expected: {ID="),
        ("$ echo a b\n{X=.} {X}", "expected: {X=.}"),
        ("$ echo axb\na.b", None),
        ("& echo nothing to serve", "never ready"),
    ],
)
def test_a_transcript_that_does_not_hold_is_noticed(script: str, reason: str | None, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(script)
    with pytest.raises(Mismatch) as caught:
        run_transcript(tmp_path / "script", tmp_path)
    assert reason is None or reason in str(caught.value)


@pytest.mark.parametrize("script", ["$ echo {ID}", "stray", "& sleep 1\nline", "-- file x\nendless", "$ echo x\n{A=x"])
def test_a_script_that_is_none_is_an_error(script: str, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(script)
    with pytest.raises(ValueError, match=r".") as caught:
        run_transcript(tmp_path / "script", tmp_path)
    assert not isinstance(caught.value, Mismatch)


def test_a_server_lives_as_long_as_its_script(tmp_path: Path) -> None:
    (tmp_path / "serve.sh").write_text(
        "trap 'echo stopped > stopped; exit' TERM\necho now ready\nwhile :; do sleep 0.05; done\n"
    )
    (tmp_path / "script").write_text("& sh serve.sh {PORT}\n$ test -e stopped\n? 1\n")
    run_transcript(tmp_path / "script", tmp_path)
    assert (tmp_path / "stopped").read_text() == "stopped\n"
