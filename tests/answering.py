"""A server that gives everybody one answer, whatever is asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Answering:
    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    pause: float = 0  # seconds between two octets of the body; without one it is written at once
    heard: list[Message] = field(default_factory=list)  # the headers of each request


@contextmanager
def answering(body: bytes = b"", status: int = 200, **headers: str) -> Iterator[Answering]:
    """Header names with underscores for hyphens. The body ends with the connection."""
    told = Answering("", status, {name.replace("_", "-"): value for name, value in headers.items()}, body)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.heard.append(self.headers)
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(told.status)
            for name, value in told.headers.items():
                self.send_header(name, value)
            self.end_headers()
            for octets in (bytes([octet]) for octet in told.body) if told.pause else (told.body,):
                self.wfile.write(octets)
                time.sleep(told.pause)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Who has heard enough hangs up."""

    with Server(("127.0.0.1", 0), Handler) as server:
        told.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield told
        server.shutdown()
        thread.join()
