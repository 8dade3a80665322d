"""Logs to be witnessed, and witnesses as real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from liaison.witness import create_witness
from relay.logkeys import LogKeys
from relay.protocol.merkle import MerkleTree, leaf_hash
from relay.protocol.witness import format_add_checkpoint

ORIGIN, NOW = "log.example/one", 1_800_000_000


def fresh_keys() -> LogKeys:
    return LogKeys(Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())


@dataclass
class OtherLog:
    """A log with its keys: grows, forks, and makes the requests that it sends to witnesses."""

    origin: str = ORIGIN
    keys: LogKeys = field(default_factory=fresh_keys)
    tree: MerkleTree = field(default_factory=MerkleTree)

    def grow(self, count: int, word: str = "entry") -> OtherLog:
        for _ in range(count):
            self.tree.append(leaf_hash(f"{word} {self.tree.size}".encode()))
        return self

    def fork(self) -> OtherLog:
        """The same log, signed by the same keys, from here on with another history."""
        return OtherLog(self.origin, self.keys, deepcopy(self.tree))

    @property
    def vkeys(self) -> str:
        return "".join(f"{vkey}\n" for vkey in self.keys.vkeys((self.origin,)))

    def checkpoint(self, size: int | None = None, keys: LogKeys | None = None) -> bytes:
        size = self.tree.size if size is None else size
        return (keys or self.keys).sign_checkpoint(self.origin, size, self.tree.root(size), NOW)

    def asking(self, old: int, size: int | None = None) -> bytes:
        """The body that asks for a cosignature of the tree of `size`, with its proof from `old`."""
        size = self.tree.size if size is None else size
        proof = self.tree.consistency_proof(old, size) if 0 < old < size else []
        return format_add_checkpoint(old, proof, self.checkpoint(size))


def program(name: str) -> Path:
    return Path(sys.executable).parent / name


class WitnessProcess:
    """`liaison witness serve` on a free port, to be killed and started again in the same folder."""

    def __init__(self, folder: Path, logs: str, name: str = "witness.example/w1") -> None:
        self.folder, self.process, self.url = folder, None, ""
        self.keys = create_witness(folder, name, logs)

    def start(self, *command: object) -> WitnessProcess:
        """Run it, or what `command` says instead, on the port it had before."""
        port = self.url.rpartition(":")[2] or "0"
        self.process = subprocess.Popen(
            [*(command or [program("liaison")]), "witness", "serve", "--port", port],
            env=os.environ | {"LIAISON_HOME": str(self.folder)},
            stdout=subprocess.PIPE,
            text=True,
        )
        line = self.process.stdout.readline()
        assert line.startswith("witness: "), line
        self.url = line.split()[-1]
        return self

    def kill(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def ask(self, body: bytes) -> httpx2.Response:
        return httpx2.post(self.url + "/add-checkpoint", content=body)

    def policy_lines(self, name: str) -> str:
        vkeys = self.keys.vkeys()
        return "".join(
            f"witness {name}-{kind} {vkey} {self.url}\n" for kind, vkey in zip(("ed", "pq"), vkeys, strict=True)
        )


@contextmanager
def witnesses(folder: Path, logs: str, count: int):
    """So many witnesses at work."""
    made = [WitnessProcess(folder / f"w{number}", logs, f"witness.example/w{number}") for number in range(count)]
    try:
        yield [each.start() for each in made]
    finally:
        for each in made:
            each.kill()


def policy(some: list[WitnessProcess], threshold: int) -> bytes:
    """Of each witness both kinds of key, of the witnesses so many."""
    lines = [each.policy_lines(f"w{number}") for number, each in enumerate(some)]
    lines += [f"group w{number} all w{number}-ed w{number}-pq\n" for number in range(len(some))]
    members = " ".join(f"w{number}" for number in range(len(some)))
    return "".join([*lines, f"group partners {threshold} {members}\n", "quorum partners\n"]).encode()
