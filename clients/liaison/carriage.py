"""Large parts on their way: up before the submission, down after the slot, in equal chunks, on from where it stopped.

The rules:
  - the relay says which chunks it lacks, and only those are sent, a few at a time;
  - a download grows a file of its own in whole chunks, and what is there after an interruption is hashed again, not
    believed; the file gets its name when its digest is the one that was signed;
  - one process of a profile has the file at a time, until it has also opened it; others wait for their turn;
  - so a killed program loses at most the chunks that were under way.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from relay.protocol.canonical import encode, expect
from relay.protocol.envelope import decode_list
from relay.protocol.errors import LiaisonError, Unverified
from relay.protocol.header import Core, Portion
from relay.protocol.parts import CHUNK, chunk_count, chunk_length, joined_digest

from .home.private_file import sync_folder
from .meter import Meter
from .sealed import in_turn, write_all
from .transport import Transport
from .trust import relayed

_SENT_AT_ONCE = 4  # chunks: some on their way while the relay has others hashed and brought to its disk


def upload(folder: Path, portion: Portion, transport: Transport, meter: Meter, digests: Sequence[bytes] = ()) -> None:
    """Send what the relay lacks of a sealed part. Safe to repeat; on return the relay has all of it, durably.

    `digests` are those of its chunks where it was sealed just now, so that they are not hashed again to be signed for.
    """
    path, digest = folder / portion.digest.hex(), portion.digest.hex()
    begun = encode([portion.digest, portion.length])
    missing = _missing(transport.post("/v1/parts", begun), portion)
    if not missing:
        return
    with _opened(path) as file, meter("uploading", portion.length) as advance:
        advance(portion.length - sum(chunk_length(portion.length, chunk) for chunk in missing))

        def send(chunk: int) -> int:
            size = chunk_length(portion.length, chunk)
            sealed = os.pread(file.fileno(), size, chunk * CHUNK)
            transport.put(f"/v1/parts/{digest}/{chunk}", sealed, digests[chunk] if digests else None)
            return size

        for size in _as_they_end(send, missing):
            advance(size)
    if _missing(transport.post("/v1/parts", begun), portion):
        raise Unverified("the relay took every chunk of a part and says that it lacks some")


def _as_they_end(send: Callable[[int], int], chunks: Iterable[int]) -> Iterator[int]:
    """The results as they come: were they waited for in turn, all would go in step, and network wait for disk."""
    pool = ThreadPoolExecutor(_SENT_AT_ONCE)
    try:
        for sent in as_completed([pool.submit(send, chunk) for chunk in chunks]):
            yield sent.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _missing(answer: bytes, portion: Portion) -> list[int]:
    with relayed():
        chunks = [expect(chunk, int, "missing chunk") for chunk in decode_list(answer, "missing chunks")]
        if any(not 0 <= chunk < chunk_count(portion.length) for chunk in chunks):
            raise Unverified("the relay asks for a chunk that there is not")
    return chunks


def _opened(path: Path) -> FileIO:
    try:
        return FileIO(path, "rb")
    except FileNotFoundError:
        raise LiaisonError(f"the sealed attachment {path} is gone", hint="send the message again") from None


@contextmanager
def downloaded(folder: Path, core: Core, index: int, transport: Transport, meter: Meter) -> Iterator[None]:
    """Inside, a sealed part is in `folder` under its digest, and no other process of the profile is at it.

    Raises Unverified if it is not the one that was signed.
    """
    portion = core.portions[index]
    whole, partial = folder / portion.digest.hex(), folder / f"{portion.digest.hex()}.partial"
    folder.mkdir(mode=0o700, exist_ok=True)
    with _locked(whole, partial) as descriptor:
        if whole.exists() and not _is_genuine(descriptor, portion):
            os.ftruncate(descriptor, 0)
            whole.replace(partial)
        if not whole.exists():
            _fetch(descriptor, partial, core, index, transport, meter)
            partial.replace(whole)
            sync_folder(folder)
        yield


@contextmanager
def _locked(whole: Path, partial: Path) -> Iterator[int]:
    """The file of a part, by whichever name it has; waits until no other process has it."""
    while True:
        with _kept_open(whole if whole.exists() else partial) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _is_at(whole if whole.exists() else partial, descriptor):  # else it is gone, or it is another by now
                yield descriptor
                return


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


@contextmanager
def _kept_open(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_genuine(descriptor: int, portion: Portion) -> bool:
    chunks = (os.pread(descriptor, CHUNK, chunk * CHUNK) for chunk in range(chunk_count(portion.length)))
    digest = joined_digest([hashlib.sha256(chunk).digest() for chunk in chunks])
    return os.fstat(descriptor).st_size == portion.length and digest == portion.digest


def _fetch(descriptor: int, partial: Path, core: Core, index: int, transport: Transport, meter: Meter) -> None:
    """Make the file whole and durable. Raises Unverified, and it is gone, if it is not the one that was signed."""
    portion = core.portions[index]
    with meter("downloading", portion.length) as advance:
        digests = _hash_what_is_there(descriptor, portion.length)
        have = len(digests) * CHUNK
        advance(have)
        path = f"/v1/messages/{core.message_id.hex()}/parts/{index}"

        def fetch(chunk: int) -> tuple[bytes, bytes]:
            sealed = transport.get(path, chunk=chunk)
            return sealed, hashlib.sha256(sealed).digest()

        missing = range(len(digests), chunk_count(portion.length))
        with ThreadPoolExecutor(1) as beside:
            growing = _Growing(descriptor, beside)
            for chunk, (sealed, digest) in zip(missing, in_turn(fetch, missing), strict=True):
                if len(sealed) != chunk_length(portion.length, chunk):
                    break
                growing.write(sealed)
                digests.append(digest)
                have += len(sealed)
                advance(len(sealed))
            growing.finish()
    if have != portion.length or joined_digest(digests) != portion.digest:
        partial.unlink()
        raise Unverified(f"part {index}: not the one that was signed")


class _Growing:
    """A file that is brought to the disk while it grows, so that little is left to wait for at its end."""

    def __init__(self, descriptor: int, beside: Executor) -> None:
        self._descriptor, self._beside = descriptor, beside
        self._syncing = beside.submit(os.fdatasync, descriptor)

    def write(self, octets: bytes) -> None:
        write_all(self._descriptor, octets)
        if self._syncing.done():
            self._syncing.result()  # an error that is passed over here the kernel does not tell again
            self._syncing = self._beside.submit(os.fdatasync, self._descriptor)

    def finish(self) -> None:
        """Return when all of it is on the disk. Raises OSError."""
        self._syncing.result()
        os.fsync(self._descriptor)


def _hash_what_is_there(descriptor: int, length: int) -> list[bytes]:
    """The digests of an earlier run's whole chunks; what comes next is written behind them."""
    whole = min(os.fstat(descriptor).st_size, length) // CHUNK
    os.ftruncate(descriptor, whole * CHUNK)
    return [hashlib.sha256(os.read(descriptor, CHUNK)).digest() for _ in range(whole)]
