"""Large parts: films, the programs that send and read them, and their chunks at the relay."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from forge import call
from relay.protocol.canonical import encode
from relay.protocol.parts import CHUNK, part_digest
from world import PASSPHRASE

ANNA, JEAN, LUC = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "luc.bas@lo-paris"
LABEL = "TEST SEALED RELEASABLE TO FRA, POL"


def a_file(folder: Path, mebibytes: int) -> Path:
    path = folder / "film.bin"
    with path.open("wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(1 << 20))
        file.write(b"the end")
    return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def chunks_of(relay_folder: Path) -> dict[Path, int]:
    """Every chunk that is stored, and when it was written."""
    return {path: path.stat().st_mtime_ns for path in relay_folder.glob("parts/*/[0-9]*")}


def run(home: Path, *command: object) -> subprocess.Popen:
    passphrase = home.parent / "passphrase"
    passphrase.touch(0o600)
    passphrase.write_text(PASSPHRASE)
    settings = {"LIAISON_HOME": str(home), "LIAISON_PASSPHRASE_FILE": str(passphrase), "HOME": str(home)}
    program = [Path(sys.executable).parent / "liaison", *map(str, command)]
    return subprocess.Popen(
        program,
        env={**os.environ, **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_until(condition, process) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def send_film(home: Path, film: Path) -> subprocess.Popen:
    body = home.parent / "body.txt"
    body.write_text("A film.\n")
    return run(home, "send", "--to", JEAN, "--label", LABEL, "--attach", film, "--yes", "--json", body)


def read_film(home: Path, message_id: str, out: Path) -> Path:
    process = run(home, "read", message_id, "--out", out, "--json")
    told, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    (attachment,) = json.loads(told)["attachments"]
    return Path(attachment["saved"])


def newest(client) -> str:
    return max(client.inbox(), key=lambda item: item.message.core.seq).message_id.hex()


def begun(who, sealed: bytes):
    return call(who, "POST", "/v1/parts", encode([part_digest(sealed), len(sealed)]))


def put(who, sealed: bytes, chunk: int, content: bytes | None = None):
    content = sealed[chunk * CHUNK : (chunk + 1) * CHUNK] if content is None else content
    return call(who, "PUT", f"/v1/parts/{part_digest(sealed).hex()}/{chunk}", content)
