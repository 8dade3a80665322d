"""A PostgreSQL for the tests that need one: the caller's, or one of their own that ends with them.

RELAY_TEST_DATABASE_URL names the caller's. Otherwise the system's binaries are used, as an unprivileged account where
the tests run as root, in a temporary folder, on the loopback address, with a password of its own.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ports import free_port


@functools.cache
def postgres_url() -> tuple[str | None, str]:
    """(URL, "") or (None, the reason why there is none)."""
    if given := os.environ.get("RELAY_TEST_DATABASE_URL"):
        return given, ""
    if importlib.util.find_spec("psycopg") is None:
        return None, "psycopg is not installed: pip install -e '.[postgres]'"
    binaries = _binaries()
    if binaries is None:
        return None, "neither RELAY_TEST_DATABASE_URL nor a system PostgreSQL (pg_ctl, initdb) is there"
    account = _account()
    if account is None:
        return None, "the tests run as root and there is no account postgres or nobody to run PostgreSQL as"
    try:
        return _start(binaries, account), ""
    except subprocess.CalledProcessError as problem:
        return None, f"PostgreSQL does not start: {problem.stdout}{problem.stderr}"


def _binaries() -> Path | None:
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name.zfill(4))
    if pg_config := shutil.which("pg_config"):
        ran = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        candidates.append(Path(ran.stdout.strip() or "/nonexistent"))
    # pg_config belongs to the client's headers as well: the folder it names may hold no server
    return next(
        (path for path in reversed(candidates) if (path / "initdb").exists() and (path / "pg_ctl").exists()),
        None,
    )


def _account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:  # PostgreSQL refuses root, and only root
        return pwd.getpwuid(os.geteuid())
    accounts = {entry.pw_name: entry for entry in pwd.getpwall()}
    return accounts.get("postgres") or accounts.get("nobody")


def _start(binaries: Path, account: pwd.struct_passwd) -> str:
    folder = Path(tempfile.mkdtemp(prefix="relay-pg-"))
    password = secrets.token_hex(16)
    (folder / "password").write_text(password)
    if os.geteuid() == 0:
        for path in (folder, folder / "password"):
            os.chown(path, account.pw_uid, account.pw_gid)
    cluster = folder / "cluster"

    def run(program: str, *arguments: str) -> None:
        as_account = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        command = [str(binaries / program), "-D", str(cluster), *arguments]
        # a file, not a pipe: the server inherits it and would keep a pipe open for ever
        with tempfile.TemporaryFile("w+") as said:
            ran = subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                check=False,
                **as_account,
            )
            said.seek(0)
            if ran.returncode:
                raise subprocess.CalledProcessError(ran.returncode, command, said.read(), "")

    def stop() -> None:
        if (cluster / "postmaster.pid").exists():
            run("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)

    atexit.register(stop)
    port = free_port()
    run(
        "initdb",
        "--username=relay",
        f"--pwfile={folder}/password",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
    )
    # fsync off: these tests kill the relay, never the database's machine
    settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200"
    run("pg_ctl", "-w", "-t", "60", "-l", f"{folder}/log", "-o", settings, "start")
    return f"postgresql://relay:{password}@127.0.0.1:{port}/postgres"


class Replicated:
    """A primary and its synchronous standby, to be killed and promoted."""

    def __init__(self, binaries: Path, account: pwd.struct_passwd, folder: Path) -> None:
        self._binaries, self._account, self.folder = binaries, account, folder
        self.ports = [free_port(), free_port()]
        hosts = "&".join(f"host=127.0.0.1:{port}" for port in self.ports)
        self.url = f"postgresql://relay@/postgres?{hosts}&target_session_attrs=read-write"

    def run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        as_root = os.geteuid() == 0
        who = {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []} if as_root else {}
        with (self.folder / "said").open("a+") as said:
            subprocess.run(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=True, **who
            )

    def start(self) -> None:
        primary, standby = self.folder / "primary", self.folder / "standby"
        # trust on the loopback address only, in a folder of this account: nothing else is in this database
        self.run("initdb", "-D", str(primary), "--username=relay", "--auth=trust", "--encoding=UTF8", "--locale=C")
        self._serve(primary, self.ports[0])
        self.run("pg_basebackup", "-D", str(standby), "-R", "-X", "stream", "-c", "fast", "-d", self._own(0, "standby"))
        self._serve(standby, self.ports[1])
        for setting in ("synchronous_standby_names = 'standby'", "synchronous_commit = remote_apply"):
            self.run("psql", "-q", "-d", self._own(0), "-c", f"ALTER SYSTEM SET {setting}")
        self.run("psql", "-q", "-d", self._own(0), "-c", "SELECT pg_reload_conf()")
        self._wait_for_sync()

    def _own(self, which: int, name: str = "tests") -> str:
        return f"host=127.0.0.1 port={self.ports[which]} user=relay dbname=postgres application_name={name}"

    def _serve(self, cluster: Path, port: int) -> None:
        settings = f"-p {port} -k {self.folder} -c listen_addresses=127.0.0.1 -c max_connections=50"
        self.run("pg_ctl", "-D", str(cluster), "-w", "-t", "60", "-l", f"{cluster}.log", "-o", settings, "start")

    def _wait_for_sync(self) -> None:
        asked = "SELECT 1 / count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        for _ in range(100):
            try:
                self.run("psql", "-q", "-d", self._own(0), "-c", asked)
            except subprocess.CalledProcessError:
                time.sleep(0.1)
            else:
                return
        raise RuntimeError((self.folder / "said").read_text())

    def kill_primary(self) -> None:
        self.run("pg_ctl", "-D", str(self.folder / "primary"), "-m", "immediate", "stop")

    def promote_standby(self) -> None:
        # the new primary has no standby of its own to wait for
        self.run("psql", "-q", "-d", self._own(1), "-c", "SELECT pg_promote()")
        self.run("psql", "-q", "-d", self._own(1), "-c", "ALTER SYSTEM RESET synchronous_standby_names")
        self.run("psql", "-q", "-d", self._own(1), "-c", "SELECT pg_reload_conf()")

    def stop(self) -> None:
        for cluster in (self.folder / "primary", self.folder / "standby"):
            if (cluster / "postmaster.pid").exists():
                self.run("pg_ctl", "-D", str(cluster), "-w", "-m", "immediate", "stop")


@contextmanager
def replicated() -> Iterator[Replicated]:
    """Two PostgreSQL of the system's; skips with the reason where there is none."""
    binaries, account = _binaries(), _account()
    if binaries is None or account is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("fail-over needs psycopg, a system PostgreSQL, and an account other than root to run it")
    folder = Path(tempfile.mkdtemp(prefix="relay-pg-"))
    if os.geteuid() == 0:
        os.chown(folder, account.pw_uid, account.pw_gid)
    servers = Replicated(binaries, account, folder)
    try:
        servers.start()
        yield servers
    finally:
        servers.stop()
        shutil.rmtree(folder, ignore_errors=True)
