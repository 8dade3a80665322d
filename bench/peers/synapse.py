"""Matrix Synapse on PostgreSQL: one room, a sender, a recipient; send an m.room.message of 4 KiB, fetch it by its id.

Installed from PyPI into a virtual environment of its own; rate limits off.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from itertools import count
from pathlib import Path
from typing import Any

from bench import generator
from bench.figures import Measured
from bench.postgres import Cluster, Missing
from bench.processes import end, free_port, processor_seconds, spawn

from .installed import python_with

TEXT = os.urandom(2048).hex()
RATES = "".join(
    f"{name}: {{per_second: 1000000, burst_count: 1000000}}\n"
    for name in ("rc_message", "rc_registration", "rc_joins_per_room")
)
CONFIG = """
server_name: bench
pid_file: {folder}/pid
listeners: [{{port: {port}, type: http, bind_addresses: [127.0.0.1], resources: [{{names: [client]}}]}}]
database: {{name: psycopg2, args: {{user: relay, password: {password}, dbname: synapse, host: 127.0.0.1, port: {pg}}}}}
media_store_path: {folder}/media
signing_key_path: {folder}/key
registration_shared_secret: bench
enable_registration: true
enable_registration_without_verification: true
report_stats: false
trusted_key_servers: []
rc_login: {{address: {{per_second: 1000, burst_count: 1000}}, account: {{per_second: 1000, burst_count: 1000}}}}
"""


class Synapse:
    """A running homeserver with one room."""

    share = 0.1  # of the usual number of units: it is some hundred times slower

    def __init__(self, folder: Path, cache: Path, cluster: Cluster) -> None:
        python = python_with(cache / "synapse", "synapse, psycopg2", ["matrix-synapse", "psycopg2-binary"])
        self._cluster, self.port, self._turn = cluster, free_port(), count()
        home = folder / "synapse"
        home.mkdir()
        cluster.create("synapse", "ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        fields = cluster.fields("synapse")
        config = CONFIG.format(folder=home, port=self.port, password=fields["password"], pg=fields["port"]) + RATES
        (home / "homeserver.yaml").write_text(config)
        command = [str(python), "-m", "synapse.app.homeserver", "-c", str(home / "homeserver.yaml")]
        subprocess.run([*command, "--generate-keys"], check=True, capture_output=True, cwd=home)
        with (home / "log").open("w") as log:
            self._process = spawn(command, stdout=log, stderr=log, cwd=home)
        self._wait(home)
        self._sender, self._reader = self._register("anna"), self._register("jean")
        made = self._call("POST", "/_matrix/client/v3/createRoom", self._sender, {"preset": "public_chat"})
        self._room = made["room_id"]
        self._call("POST", f"/_matrix/client/v3/join/{self._room}", self._reader, {})

    def close(self) -> None:
        end(self._process)

    def measure(self, work: str, number: int, clients: int) -> Measured:
        """One round of `send` or `send+fetch`; the fetch follows on what was sent before the round's clock."""
        meter = lambda: (processor_seconds(self._process.pid), self._cluster.processor_seconds())  # noqa: E731
        sends = [(self._send(),) for _ in range(number)]
        if work == "send":
            return generator.run(sends, (200,), self.port, clients, meter=meter)[0]
        _, load = generator.run(sends, (200,), self.port, clients, keep=True)
        assert load.bodies is not None
        events = [json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])["event_id"] for body in load.bodies[0]]
        units = [(self._send(), self._fetch(event)) for event in events]
        return generator.run(units, (200, 200), self.port, clients, meter=meter)[0]

    def _send(self) -> bytes:
        path = f"/_matrix/client/v3/rooms/{self._room}/send/m.room.message/{os.getpid()}-{next(self._turn)}"
        return self._raw("PUT", path, self._sender, json.dumps({"msgtype": "m.text", "body": TEXT}).encode())

    def _fetch(self, event: str) -> bytes:
        return self._raw("GET", f"/_matrix/client/v3/rooms/{self._room}/event/{event}", self._reader, b"")

    def _raw(self, method: str, path: str, token: str, body: bytes) -> bytes:
        head = f"{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\n"
        return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body

    def _register(self, name: str) -> str:
        asked = {"username": name, "password": "correct horse", "auth": {"type": "m.login.dummy"}}
        token: str = self._call("POST", "/_matrix/client/v3/register", "", asked)["access_token"]
        return token

    def _call(self, method: str, path: str, token: str, asked: dict[str, Any]) -> Any:
        headers = {"content-type": "application/json", **({"authorization": f"Bearer {token}"} if token else {})}
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, json.dumps(asked).encode(), headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as problem:
            raise Missing(f"Synapse: {path}: {problem.read()[:200]!r}") from problem

    def _wait(self, home: Path) -> None:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/_matrix/client/versions", timeout=5).close()
            except OSError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.5)
            else:
                return
        raise Missing(f"Synapse does not start: {(home / 'log').read_text()[-300:]}")
