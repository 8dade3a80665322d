"""A PostgreSQL of the benchmark's own: every commit on the disk, on the loopback address, gone with the run."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

from .processes import free_port, processor_seconds


class Missing(Exception):
    """Something is not installed here; the reason in one line."""


class Cluster:
    """A running server."""

    def __init__(self) -> None:
        self._binaries = _binaries()
        self._account = _account()
        self._folder = Path(tempfile.mkdtemp(prefix="bench-pg-"))
        self._cluster = self._folder / "cluster"
        self._password = secrets.token_hex(16)
        self.port = free_port()
        (self._folder / "password").write_text(self._password)
        if self._account is not None:
            for path in (self._folder, self._folder / "password"):
                os.chown(path, self._account.pw_uid, self._account.pw_gid)
        password = f"--pwfile={self._folder}/password"
        self._run("initdb", "--username=relay", password, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C")
        options = f"-p {self.port} -k {self._folder} -c listen_addresses=127.0.0.1 -c max_connections=100"
        tuned = f"{options} -c shared_buffers=512MB -c fsync=on -c synchronous_commit=on"
        self._run("pg_ctl", "-w", "-t", "60", "-l", f"{self._folder}/log", "-o", tuned, "start")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        return int((self._cluster / "postmaster.pid").read_text().split()[0])

    def processor_seconds(self) -> float:
        return processor_seconds(self.pid)

    def create(self, name: str, options: str = "") -> str:
        """A new database; its URL."""
        self._psql(f"CREATE DATABASE {name} {options}")
        return self.url(name)

    def drop(self, name: str) -> None:
        self._psql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def url(self, name: str) -> str:
        return f"postgresql://relay:{self._password}@127.0.0.1:{self.port}/{name}"

    def fields(self, name: str) -> dict[str, str | int]:
        """The same as keywords, for drivers that want them."""
        return {
            "host": "127.0.0.1", "port": self.port, "user": "relay", "password": self._password, "dbname": name,
        }  # fmt: skip

    def _psql(self, statement: str) -> None:
        environment = {**os.environ, "PGPASSWORD": self._password}
        command = [
            str(self._binaries / "psql"),
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-U",
            "relay",
            "-d",
            "postgres",
        ]
        subprocess.run([*command, "-qc", statement], env=environment, check=True, capture_output=True)

    def _run(self, program: str, *arguments: str) -> None:
        account = self._account
        as_account = {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        command = [str(self._binaries / program), "-D", str(self._cluster), *arguments]
        # A file, not a pipe: the server inherits it and would keep a pipe open for ever.
        with tempfile.TemporaryFile("w+") as said:
            ran = subprocess.run(
                command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False, **as_account
            )
            if ran.returncode:
                said.seek(0)
                raise Missing(f"PostgreSQL does not start: {said.read()[-400:]}")


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name.zfill(4))
    for path in reversed(found):
        if (path / "initdb").exists():
            return path
    raise Missing("no PostgreSQL server is installed (apt install postgresql)")


def _account() -> pwd.struct_passwd | None:
    if os.geteuid() != 0:  # PostgreSQL refuses root, and only root
        return None
    accounts = {entry.pw_name: entry for entry in pwd.getpwall()}
    found = accounts.get("postgres") or accounts.get("nobody")
    if found is None:
        raise Missing("run as root, PostgreSQL needs an account postgres or nobody")
    return found
