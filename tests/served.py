"""Real `relay serve` processes for the tests of operations: their port, their output, their end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import httpx2

from ports import free_port
from relay.settings import Settings
from world import World


class Served:
    """One relay's settings, and the process that serves them now."""

    def __init__(self, data: Path, *, listening: socket.socket | None = None, **variables: object) -> None:
        self.data, self.listening = data, listening
        self.port = listening.getsockname()[1] if listening is not None else free_port()
        self.metrics_port = free_port(in_a_row=4)  # one for each worker
        self.url, self.variables = f"http://127.0.0.1:{self.port}", variables
        self.said: list[str] = []

    def start(self) -> Served:
        given = {f"RELAY_{name.upper()}": str(value) for name, value in self.variables.items()}
        command = [str(Path(sys.executable).parent / "relay"), "serve", "--data", str(self.data)]
        command += ["--port", str(self.port), "--metrics-port", str(self.metrics_port)]
        passed = ()
        if self.listening is not None:  # as systemd does: descriptor 3, meant for this very process
            script = f'exec 3<&{self.listening.fileno()}; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"'
            command, passed = ["bash", "-c", script, "bash", *command], (self.listening.fileno(),)
        self.process = subprocess.Popen(
            command,
            env=os.environ | given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=passed,
        )
        self._reader = threading.Thread(target=lambda: self.said.extend(self.process.stderr))
        self._reader.start()
        first = self.process.stdout.readline()
        assert "serving on" in first, self.said
        return self

    def stop(self) -> int:
        """Told to stop as systemd tells it; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(60)
        self._reader.join(20)
        assert not self._reader.is_alive(), "a process of this relay outlives it and keeps its output open"
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.wait()

    def metrics(self) -> str:
        return httpx2.get(f"http://127.0.0.1:{self.metrics_port}/metrics").text

    def world(self, folder: Path) -> World:
        keys = json.loads(httpx2.get(f"{self.url}/v1/relay").content)["keys"]
        database = self.variables.get("database")
        return World(folder, Settings(data=self.data, database=database), SimpleNamespace(vkeys=tuple(keys)), self.url)
