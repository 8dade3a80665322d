"""Chunks of large parts in files, and what of the names in such a place are uploads of ours. The rules: `blobs`."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path


class Files:
    """A folder per upload, a file per chunk."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, upload: bytes, chunk: int, pieces: Sequence[bytes]) -> bool:
        """Keep a chunk, durable on return; False if it is there already."""
        folder = self._root / upload.hex()
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
            _sync(self._root)
        beside = folder / f".{chunk}.{secrets.token_hex(8)}"
        try:
            with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            os.link(beside, folder / str(chunk))
        except FileExistsError:
            return False
        finally:
            beside.unlink(missing_ok=True)
        _sync(folder)
        return True

    def get(self, upload: bytes, chunk: int) -> bytes | None:
        try:
            return (self._root / upload.hex() / str(chunk)).read_bytes()
        except FileNotFoundError:
            return None

    def chunks(self, upload: bytes) -> set[int]:
        try:
            return {int(name) for name in os.listdir(self._root / upload.hex()) if name.isdecimal()}  # noqa: PTH208
        except FileNotFoundError:
            return set()

    def uploads(self) -> set[bytes]:
        return uploads_among(path.name for path in self._root.iterdir())

    def remove(self, upload: bytes) -> None:
        shutil.rmtree(self._root / upload.hex(), ignore_errors=True)


_UPLOAD = re.compile(r"[0-9a-f]{32}")


def uploads_among(names: Iterable[str]) -> set[bytes]:
    """What else lies there, such as a volume's lost+found, is not ours."""
    return {bytes.fromhex(name) for name in names if _UPLOAD.fullmatch(name)}


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
