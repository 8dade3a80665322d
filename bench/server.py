"""A real `relay serve`, started and stopped as an operator would."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from .postgres import Cluster, Missing
from .processes import end, free_port, processor_seconds, spawn

UNLIMITED = {
    f"RELAY_QUOTA_{what}": "0"
    for what in ("MESSAGES", "OFFICE_MESSAGES", "OPENS", "CLAIMS", "PUBLICATIONS", "FAILURES")
}  # eight devices do the work of thousands
RELAY = str(Path(sys.executable).with_name("relay"))


@dataclass
class Server:
    """A relay's folder and, while it runs, its process. It comes back under the port that it had."""

    folder: Path
    database: str | None = None
    cluster: Cluster | None = None
    workers: int = 1
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None

    @property
    def data(self) -> Path:
        return self.folder / "relay"

    @property
    def authority(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.authority}"

    def where(self) -> list[str]:
        return ["--data", str(self.data), *(["--database", self.database] if self.database else [])]

    def start(self) -> float:
        """Seconds until it serves. Missing, with its own words, if it does not."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.database:
            self.operate("migrate")
        command = [RELAY, "serve", *self.where(), "--port", str(self.port), "--workers", str(self.workers)]
        began = time.perf_counter()
        with (self.folder / "relay.log").open("a+") as log:
            environment = {**os.environ, **UNLIMITED}
            self.process = spawn(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)
        assert self.process.stdout is not None
        if not self.process.stdout.readline():
            self.process.wait(20)
            raise Missing((self.folder / "relay.log").read_text().strip()[-300:] or "the relay did not start")
        self._wait_listening()
        return time.perf_counter() - began

    def _wait_listening(self) -> None:
        # The line that says "serving" comes a moment before the socket listens.
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except ConnectionRefusedError:
                time.sleep(0.01)
            else:
                return

    def stop(self) -> None:
        if self.process is not None:
            end(self.process, 60)
            self.process = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def operate(self, *arguments: str) -> None:
        """An operator's command on this relay's data."""
        command = [RELAY, *arguments, *self.where()]
        ran = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise Missing(f"relay {' '.join(arguments)}: {ran.stderr.strip()[-300:]}")

    def meter(self) -> tuple[float, float]:
        """Processor seconds of (relay, database server) so far."""
        database = self.cluster.processor_seconds() if self.cluster is not None else 0.0
        return processor_seconds(self.pid), database

    def get(self, path: str) -> bytes:
        """Something public."""
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:
            content: bytes = answer.read()
        return content

    def log_keys(self) -> tuple[str, ...]:
        return tuple(json.loads(self.get("/v1/relay"))["keys"])

    def log_size(self) -> int:
        """Entries of the access log."""
        return int(self.get("/v1/log/access/checkpoint").split(b"\n", 2)[1])
