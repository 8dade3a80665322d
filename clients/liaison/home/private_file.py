"""Files for their owner's eyes only: how one is made, replaced and read.

The rules:
  - mode 0600 from the first byte on, never widened for a moment and narrowed later;
  - a name stands for the whole old content or the whole new one: written beside, synced, then renamed;
  - what is no regular file (a device, a pipe, a link) is never replaced by one;
  - a file that somebody else may read is refused, not repaired: who has read it already is not ours to know.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relay.protocol.errors import Conflict, LiaisonError, Malformed, TooLarge, Unauthenticated


def open_private(path: Path, what: str) -> int:
    """A read descriptor of a regular file that only its owner may read; the caller closes it.

    Raises Unauthenticated if there is none or if it is open to others, Malformed if it is no regular file, LiaisonError
    for what else the system says.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise Unauthenticated(f"{what}: there is no {path}", hint="`liaison init` makes a profile") from None
    except OSError as problem:
        raise LiaisonError(f"{what}: cannot open {path}: {problem.strerror}") from problem
    try:
        _refuse_exposed(os.fstat(descriptor), path, what)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _refuse_exposed(found: os.stat_result, path: Path, what: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Malformed(f"{what}: {path} is not a regular file")
    if found.st_uid != os.geteuid():
        raise Unauthenticated(f"{what}: {path} belongs to another user", hint="run as the owner of the profile")
    if found.st_mode & 0o077:
        raise Unauthenticated(
            f"{what}: {path} is open to others (mode {stat.S_IMODE(found.st_mode):04o})",
            hint=f"consider what it held as known to them; then: chmod 600 {path}",
        )


def read_private(path: Path, limit: int, what: str) -> bytes:
    """The whole content, at most `limit` octets (TooLarge); errors of `open_private` apply."""
    with os.fdopen(open_private(path, what), "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise TooLarge(f"{what}: {path} is longer than {limit} octets")
    return content


def create_private(path: Path, content: bytes, what: str) -> None:
    """Make `path`, durable on return. Raises Conflict if the name is taken."""
    beside = _write_beside(path, content, what)
    try:
        os.link(beside, path)  # unlike rename, link never replaces
    except FileExistsError:
        raise Conflict(f"{what}: {path} exists already") from None
    except OSError as problem:
        raise LiaisonError(f"{what}: cannot write {path}: {problem.strerror}") from problem
    finally:
        beside.unlink()
    sync_folder(path.parent)


def replace_private(path: Path, content: bytes, what: str) -> None:
    """Put `content` in the place of `path`, at once and durable on return. Raises Conflict for what is no file."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise Conflict(f"{what}: {path} is no regular file, and is not replaced", hint="name the file itself")
    beside = _write_beside(path, content, what)
    try:
        beside.replace(path)
    except OSError as problem:
        beside.unlink(missing_ok=True)
        raise LiaisonError(f"{what}: cannot write {path}: {problem.strerror}") from problem
    sync_folder(path.parent)


def _write_beside(path: Path, content: bytes, what: str) -> Path:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        beside.unlink(missing_ok=True)
        raise LiaisonError(f"{what}: cannot write beside {path}: {problem.strerror}") from problem
    return beside


def remove_beside(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` have left; the caller keeps out who writes now."""
    for left in path.parent.glob(f".{path.name}.{'[0-9a-f]' * 16}"):
        left.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Return once the names in this folder are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def folder_lock(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Keep other `liaison` processes out of what is done inside with this folder; waits for its turn.

    Those that share it keep out only who does not.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # closing gives the lock back
