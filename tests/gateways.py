"""`liaison gateway` as a real process, a line between it and its relay, and a system that listens for webhooks."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import httpx2

from ports import free_port
from world import PASSPHRASE


class Line:
    """Carries octets between clients and a relay; can be cut, and can do something just when a message is posted."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        self.to = 0  # the relay's port
        self.before: Callable[[], None] | None = None  # a message reaches the relay; it does not
        self.after: Callable[[], None] | None = None  # its answer reaches the sender; it does not
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self.listening.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                near.close()
                continue
            posted = threading.Event()
            for pump in ((self._up, near, far, posted), (self._down, far, near, posted)):
                threading.Thread(target=self._pump, args=pump, daemon=True).start()

    @staticmethod
    def _pump(carry, source, target, posted) -> None:
        with suppress(OSError):
            while octets := source.recv(1 << 16):
                if not carry(octets, posted):
                    break
                target.sendall(octets)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()  # the other end is the other pump's source

    def _up(self, octets: bytes, posted: threading.Event) -> bool:
        if octets.startswith(b"POST /v1/messages HTTP"):
            if self.before is not None:
                self.before()
                return False
            posted.set()
        return True

    def _down(self, _octets: bytes, posted: threading.Event) -> bool:
        if posted.is_set() and self.after is not None:
            self.after()
            return False
        posted.clear()
        return True


class Gateway:
    """One profile's gateway, to be killed and started again."""

    def __init__(self, profile: Path) -> None:
        self.profile, self.port = profile, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        passphrase = profile.with_name(f"{profile.name}.passphrase")
        passphrase.write_text(PASSPHRASE)
        passphrase.chmod(0o600)
        self._settings = {"LIAISON_HOME": str(profile), "LIAISON_PASSPHRASE_FILE": str(passphrase)}
        self.said = profile.with_name(f"{profile.name}.said")

    def start(self, *words: str, code: int | None = None) -> dict:
        """What it says at its start; or it must end with this code."""
        program = Path(sys.executable).with_name("liaison")
        with self.said.open("w") as said:
            self.process = subprocess.Popen(
                [program, "gateway", "--port", str(self.port), "--json", *words],
                env=os.environ | self._settings, stdout=subprocess.PIPE, stderr=said, text=True,
            )  # fmt: skip
        line = self.process.stdout.readline()
        if code is not None:
            self.process.stdout.close()
            assert (self.process.wait(20), line) == (code, "")
            return {}
        assert line, self.said.read_text()
        told = json.loads(line)
        self.secret = Path(told["secret_file"]).read_text().strip()
        return told

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def ask(self, method: str, path: str, asked: object = None, **headers: str | None) -> httpx2.Response:
        return ask(self.url + path, self.secret, method, asked, **headers)


def ask(url: str, secret: str, method: str, asked: object = None, *, key: str | None = None, **headers: str | None):
    """`asked` is sent as JSON, octets as they are; headers with underscores for hyphens, None leaves one out."""
    given = {"authorization": f"Bearer {secret}", "idempotency-key": key}
    body = asked if isinstance(asked, bytes | None) else json.dumps(asked).encode()
    given |= {"content-type": "application/json"} if body is not None else {}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {name: value for name, value in given.items() if value is not None}
    return httpx2.request(method, url, content=body, headers=sent, timeout=60)


class Listening:
    """A partner system's own HTTP server; it can be away, and it can answer something else than 204."""

    def __init__(self) -> None:
        self.port, self.status, self.heard = free_port(), 204, []
        self.url = f"http://127.0.0.1:{self.port}/mail?for=feed"
        self._rung = threading.Condition()
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        listening = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                target = f"http://{self.headers['host']}{self.path}"
                self.send_response(listening.status)
                self.send_header("location", "/elsewhere")
                self.send_header("set-cookie", "told=1")
                self.end_headers()
                with listening._rung:
                    headers = {name.title(): value for name, value in self.headers.items()}
                    listening.heard.append(SimpleNamespace(method="POST", url=target, headers=headers, body=body))
                    listening._rung.notify_all()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, *message_ids: bytes) -> None:
        """Until it has been told of all of these."""
        wanted = {each.hex() for each in message_ids}
        with self._rung:
            assert self._rung.wait_for(lambda: wanted <= set(self.told()), 20), (wanted, self.told())

    def told(self) -> list[str]:
        return [json.loads(each.body)["message_id"] for each in self.heard]
