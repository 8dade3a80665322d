"""What is wrong with a profile, a file, a folder, a setting or a database is said in a line, by either program."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from liaison.cli import main as liaison
from liaison.durations import seconds_of
from liaison.home.private_file import create_private
from liaison.lists import expand
from processes import relay as run_relay
from processes import told
from relay.logkeys import load_log_keys
from relay.protocol.errors import Malformed

BIN = Path(sys.prefix) / "bin"


def test_a_command_that_fails_in_the_system_says_so_in_a_line(tmp_path: Path) -> None:
    told = subprocess.run(
        [BIN / "liaison", "status"],
        env={**os.environ, "LIAISON_HOME": str(tmp_path / "nowhere")},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (told.returncode, told.stdout) == (4, "")
    assert told.stderr.splitlines()[0] == f"liaison: error: there is no profile in {tmp_path / 'nowhere'}"


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"v": 1, "kind": "device"}'])
def test_a_damaged_profile_is_said_in_a_line(tmp_path: Path, content: bytes) -> None:
    create_private(tmp_path / "profile.json", content, "profile")
    told = CliRunner().invoke(liaison, ["status"], env={"LIAISON_HOME": str(tmp_path)})
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.startswith(f"liaison: error: profile: {tmp_path / 'profile.json'} is damaged\n")


@pytest.mark.parametrize("url", ["http://relay:eight", "http://relay:99999", "http://", "ftp://relay"])
def test_a_url_that_is_none_of_a_relay_is_said_in_a_line(tmp_path: Path, url: str) -> None:
    words = ["authority", "init", "lo-oslo", "--nation", "NOR", "--relay", url]
    told = CliRunner().invoke(liaison, words, env={"LIAISON_HOME": str(tmp_path)})
    assert (told.exit_code, told.stderr.splitlines()[0]) == (1, f"liaison: error: {url} is no URL of a relay")


def test_a_file_of_logs_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "logs").write_bytes(b"caf\xe9")
    words = ["witness", "init", "witness.example/oslo", "--logs", str(tmp_path / "logs")]
    told = CliRunner().invoke(liaison, words, env={"LIAISON_HOME": str(tmp_path)})
    assert (told.exit_code, told.stderr) == (1, f"liaison: error: {tmp_path / 'logs'}: not UTF-8\n")


@pytest.mark.parametrize(
    "content",
    [b"[lists", b"\xff", b"lists = 5", b'lists = ["baltic"]', b"[lists]\nbaltic = [5]", b"[lists]\nbaltic = 5"],
)
def test_a_file_of_lists_that_is_mistyped_is_malformed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "lists.toml").write_bytes(content)
    with pytest.raises(Malformed):
        expand(tmp_path, ["list:baltic"])


@pytest.mark.parametrize("taken", ["--port", "--metrics-port"])
def test_a_relay_whose_port_is_taken_says_which_in_a_line(tmp_path: Path, taken: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        ports = {"--port": "0"} | {taken: port}
        words = [word for option in ports.items() for word in option]
        told = subprocess.run(
            [BIN / "relay", "serve", "--data", tmp_path, *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (told.returncode, told.stdout) == (1, "")
    wrong, hint = told.stderr.splitlines()
    assert wrong.startswith(f"relay: error: cannot bind 127.0.0.1:{port}")
    assert hint.startswith("relay: hint: ")


@pytest.mark.parametrize("command", ["key", "sweep --json"])
def test_a_disk_that_is_full_is_told_in_a_line(tmp_path: Path, command: str) -> None:
    told("migrate", "--data", tmp_path)
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [BIN / "relay", *command.split(), "--data", tmp_path],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (1, "relay: error: No space left on device\n")


def test_a_command_that_is_interrupted_ends_with_130(tmp_path: Path, monkeypatch) -> None:
    def interrupted(*_: object) -> Iterator[str]:
        raise KeyboardInterrupt
        yield ""

    told("migrate", "--data", tmp_path)
    monkeypatch.setattr("relay.house.check_all", interrupted)
    assert told("check", "--data", tmp_path, code=130).output == ""


@pytest.mark.parametrize("host", ["nohost.invalid", "192.0.2.1"])
def test_a_host_that_is_none_of_this_machines_is_not_taken_for_another_relay(tmp_path: Path, host: str) -> None:
    wrong, hint = run_relay("serve", "--data", tmp_path, "--host", host, code=1).stderr.splitlines()
    assert wrong.startswith(f"relay: error: cannot bind {host}:8440: ")
    assert hint == "relay: hint: is --host an address of this machine?"


def test_a_duration_that_no_calendar_has_is_refused_by_its_option() -> None:
    assert seconds_of("36525d", "--expires") == 36525 * 86400
    for longer in ("99999999999999999d", "9" * 5000 + "h"):  # an int is not read from so many digits
        with pytest.raises(Malformed, match="--expires"):
            seconds_of(longer, "--expires")


WRONG = {
    "RELAY_DATABASE": [
        "",
        "/var/lib/relay.sqlite",
        "mysql://relay:secret@h/d",
        "postgresql://relay:secret@h:secret/d",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite+aiosqlite:////nonexistent/relay",
        "postgresql+asyncpg://relay:secret@h/d",
        "postgresql+nodriver://relay:secret@h/d",
    ],
    "RELAY_PARTS": [""],
    "RELAY_HOST": [""],
    "RELAY_PORT": ["-1", "65536", ""],
    "RELAY_METRICS_PORT": ["0", "65536"],
    "RELAY_WORKERS": ["0", "-3", "65"],
    "RELAY_SWEEP_EVERY": ["nan", "inf", "-1", "0"],
    "RELAY_DRAIN_NOTICE": ["nan", "inf", "-1"],
    "RELAY_DRAIN_SECONDS": ["-1", "1e99"],
    "RELAY_QUOTA_MESSAGES": ["-1", "1000000001"],
    "RELAY_PARTITION_DAYS": ["0"],
    "RELAY_WITNESS_POLICY": ["/nonexistent"],
    "RELAY_PROXIES": ["", "*", "10.0.0", "10.0.0.1/8", "10.0.0.0/8 ::1", "127.0.0.1,", "caddy"],
    "RELAY_NAME": ["", "relay one", "relay+one", "relay\n", "relay\u00a0one", "r" * 250, "\u00e9" * 150],
    "RELAY_PUBLIC_URL": [
        "",
        "relay.example",
        "ftp://relay.example",
        "https://",
        "https://relay.example/v1",
        "https://relay.example?",
        "https://anna:secret@relay.example",
        "https://relay.example:0443",
        "https://relay.example:65536",
        "https://relay.example:",
        "https://m\u00fcnchen.example",
        "https://::1",
    ],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_a_wrong_setting_is_named_in_a_line(tmp_path, monkeypatch, name, value) -> None:
    monkeypatch.setenv(name, value)
    wrong, hint = told("sweep", "--data", tmp_path, code=1).stderr.splitlines()
    assert (wrong.split(": ")[:3], hint.split(": ")[:2]) == (["relay", "error", name], ["relay", "hint"])
    assert "secret" not in wrong + hint


def test_a_bucket_without_a_name_is_named_in_a_line(tmp_path, monkeypatch) -> None:
    told("migrate", "--data", tmp_path)
    monkeypatch.setenv("RELAY_PARTS", "s3://")
    assert told("sweep", "--data", tmp_path, code=1).stderr.startswith("relay: error: RELAY_PARTS: ")


def test_a_wrong_flag_is_named_as_it_was_given(tmp_path) -> None:
    assert told("serve", "--data", tmp_path, "--port", "65536", code=1).stderr.startswith("relay: error: --port: ")


MAKING, BESIDE = (
    ["serve --port 0", "migrate"],
    ["key", "check", "backup nowhere", "sweep", "office list", "approvers list"],
)
AWAY = [("sqlite:////nonexistent/relay.sqlite", command) for command in MAKING]
AWAY += [
    pytest.param("postgresql://relay:secret@127.0.0.1:1/relay", command, marks=pytest.mark.postgres)
    for command in MAKING + BESIDE
]


@pytest.mark.parametrize("command", [*BESIDE, "office remove lo-warsaw", "approvers set --person a@lo-b --needed 1"])
def test_a_command_beside_a_relay_founds_none_in_a_mistyped_folder(tmp_path, command) -> None:
    wrong, hint = told(*command.split(), "--data", tmp_path / "typo", code=1).stderr.splitlines()
    assert wrong == f"relay: error: {tmp_path / 'typo' / 'relay.sqlite'} is not there"
    assert "--data" in hint
    (tmp_path / "keys").mkdir()
    load_log_keys(tmp_path / "keys" / "log-keys.json")
    told(*command.split(), "--data", tmp_path / "keys", code=1)  # where a restore will need an empty place
    assert [path.name for path in tmp_path.rglob("*")] == ["keys", "log-keys.json"]


@pytest.mark.parametrize(("database", "command"), AWAY)
def test_a_database_that_cannot_be_reached_is_told_in_a_line_with_its_reason(tmp_path, command, database) -> None:
    if database.startswith("postgresql"):
        pytest.importorskip("psycopg", reason="the driver is an extra")
    load_log_keys(tmp_path / "log-keys.json")
    run = run_relay if command.startswith("serve") else told  # serving changes its process
    ran = run(*command.split(), "--data", tmp_path, "--database", database, code=7)
    wrong, hint = ran.stderr.splitlines()
    assert re.match("relay: error: the database does not answer: (unable to open|connection failed)", wrong)
    assert hint.startswith("relay: hint: ")
    assert "secret" not in wrong


@pytest.mark.parametrize("command", ["serve --port 0", "migrate", "check", "backup nowhere", "office list"])
def test_a_file_that_is_no_database_is_told_in_a_line(tmp_path, command) -> None:
    load_log_keys(tmp_path / "log-keys.json")
    (tmp_path / "relay.sqlite").write_text("what somebody mistook for a database\n" * 9)
    run = run_relay if command.startswith("serve") else told
    wrong, hint = run(*command.split(), "--data", tmp_path, code=1).stderr.splitlines()
    assert wrong == "relay: error: the database cannot be used: file is not a database"
    assert hint.startswith("relay: hint: ")


@pytest.mark.postgres
@pytest.mark.parametrize("option", ["nonsense=1", "connect_timeout=abc"])
def test_an_option_of_the_database_that_there_is_not_is_told_in_a_line(tmp_path, option) -> None:
    pytest.importorskip("psycopg", reason="the driver is an extra")
    url = f"postgresql://relay:secret@127.0.0.1:1/relay?{option}"
    wrong, hint = told("migrate", "--data", tmp_path, "--database", url, code=1).stderr.splitlines()
    assert wrong.startswith("relay: error: the database cannot be used: ")
    assert "secret" not in wrong + hint


HALF = [
    "",
    "{",
    "[]",
    "\x80",
    '{"ed25519": "zz"}',
    '{"ed25519": 7, "mldsa44": 7}',
    '{"ed25519": "00", "mldsa44": "00"}',
]


@pytest.mark.parametrize("content", HALF)
def test_a_key_file_that_is_damaged_is_told_in_a_line(tmp_path, content) -> None:
    (tmp_path / "log-keys.json").write_bytes(content.encode("latin-1"))
    wrong, hint = told("migrate", "--data", tmp_path, code=1).stderr.splitlines()
    assert wrong == f"relay: error: {tmp_path / 'log-keys.json'} is damaged"
    assert hint.startswith("relay: hint: ")


def test_a_folder_that_is_not_there_is_told_in_a_line(tmp_path) -> None:
    told("migrate", "--data", tmp_path)
    (wrong,) = told("backup", tmp_path / "nowhere" / "file", "--data", tmp_path, code=1).stderr.splitlines()
    assert wrong.startswith(f"relay: error: {tmp_path / 'nowhere'}")


def test_keys_that_a_start_left_half_made_are_in_the_way_of_none_and_of_two_starts_one_makes_them(tmp_path) -> None:
    (tmp_path / "log-keys.new").write_text("{")
    with ThreadPoolExecutor(8) as pool:
        made = {keys.vkeys(("relay",)) for keys in pool.map(load_log_keys, [tmp_path / "log-keys.json"] * 8)}
    assert len(made) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log-keys.json", "log-keys.new"]
