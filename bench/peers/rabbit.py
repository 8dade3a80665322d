"""RabbitMQ, a quorum queue on one node: a publisher's confirm means that the queue's log has the message on the disk.

The server is the distribution's, started apart from any that runs there; the client is aio-pika, from PyPI into a
virtual environment of its own, in a process of its own (`rabbit_load.py`). `send` is a persistent message of 4 KiB and
its confirm; `send+fetch` goes on with a get and an acknowledgement, of which RabbitMQ says nothing back.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from bench.figures import Measured
from bench.postgres import Missing
from bench.processes import end, free_port, processor_seconds, spawn

from .installed import python_with

LOAD = Path(__file__).with_name("rabbit_load.py")
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
LOOPBACK = "-kernel inet_dist_use_interface {127,0,0,1}"
START = 60  # seconds


class Rabbit:
    """A running node; each round has a queue of its own."""

    def __init__(self, cache: Path) -> None:
        if not SERVER.exists():
            raise Missing("RabbitMQ: no rabbitmq-server is installed (apt install rabbitmq-server)")
        self._python, self.port = python_with(cache / "rabbit", "aio_pika, uvloop", ["aio-pika", "uvloop"]), free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="bench-rabbit-"))  # its account's own
        self._password = secrets.token_hex(16)
        self._process = self._start()
        self._wait()

    def _start(self) -> subprocess.Popen[bytes]:
        config = self._folder / "rabbitmq.conf"
        config.write_text(
            f"listeners.tcp.local = 127.0.0.1:{self.port}\ndefault_user = bench\ndefault_pass = {self._password}\n"
        )
        # Erlang's name server, which a node would start as a daemon that outlives it.
        names = free_port()
        self._names = spawn(["epmd", "-port", str(names), "-address", "127.0.0.1"])
        (self._folder / "enabled_plugins").write_text("[].\n")
        folder = str(self._folder)
        environment = {
            "PATH": os.environ["PATH"], "HOME": folder, "RABBITMQ_NODENAME": f"bench-{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": str(config), "RABBITMQ_CONF_ENV_FILE": f"{folder}/none",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data", "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins", "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_DIST_PORT": str(free_port()), "ERL_EPMD_PORT": str(names),
            "ERL_EPMD_ADDRESS": "127.0.0.1", "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": LOOPBACK,
        }  # fmt: skip
        given: dict[str, object] = {}
        if os.geteuid() == 0:  # its account, where the package made one: its cookie must be its own
            account = next((each for each in pwd.getpwall() if each.pw_name == "rabbitmq"), None)
            if account is None:
                raise Missing("RabbitMQ: run as root, it needs its account rabbitmq")
            for path in (self._folder, *self._folder.iterdir()):
                os.chown(path, account.pw_uid, account.pw_gid)
            given = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        with (self._folder / "said").open("w") as said:
            return spawn([str(SERVER)], stdout=said, stderr=said, cwd=folder, env=environment, **given)

    def _wait(self) -> None:
        for _ in range(START * 2):
            if self._process.poll() is not None:
                break
            if self._load("ready", 1, 1).returncode == 0:
                return
            time.sleep(0.5)
        said = (self._folder / "said").read_text()
        self.close()
        raise Missing(f"RabbitMQ does not start: {said[-300:]}")

    def close(self) -> None:
        end(self._process)
        end(self._names)
        shutil.rmtree(self._folder, ignore_errors=True)

    def measure(self, work: str, count: int, clients: int) -> Measured:
        """One round of `send` or `send+fetch`."""
        server = processor_seconds(self._process.pid)
        ran = self._load(work, count, clients)
        if ran.returncode:
            raise Missing(f"RabbitMQ: {ran.stderr.strip()[-300:]}")
        server = processor_seconds(self._process.pid) - server
        said = json.loads(ran.stdout)
        return Measured(len(said["latencies"]), said["seconds"], tuple(sorted(said["latencies"])), said["own"], server)

    def _load(self, work: str, count: int, clients: int) -> subprocess.CompletedProcess[str]:
        command = [str(self._python), str(LOAD), str(self.port), work, str(count), str(clients)]
        return subprocess.run(command, input=self._password, capture_output=True, text=True, check=False, timeout=240)
