"""Large parts on this machine: sealed files beside the cabinet, written and read as a stream.

The rules:
  - plaintext is in memory a block at a time, and on the disk only where a person asked for it. What lies in `parts/`
    is ciphertext, as the relay has it; its content key is in the cabinet, encrypted like everything there;
  - a file has its name, its own SHA-256, only when it is whole and durable: written beside, synced, renamed;
  - opening reads a part to its end before it calls anything genuine.
"""

from __future__ import annotations

import os
import secrets
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import TypeVar

from relay.protocol.envelope import part_context
from relay.protocol.errors import LiaisonError, TooLarge, Unverified
from relay.protocol.header import Core
from relay.protocol.parts import PartDigest

from .cobblestone import PartOpener, PartSealer, plaintext_size
from .home.private_file import sync_folder
from .meter import Meter
from .portions import BLOCK, PortionContent, pack_blocks, read_start

TOGETHER = 3  # pieces under way at a time
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class SealedFile:
    """A content in a sealed part on the disk, opened as it is read."""

    folder: Path
    digest: bytes
    key: bytes
    context: bytes
    start: int  # of the content in the plaintext
    length: int
    chunks: tuple[bytes, ...] = ()  # their digests, where it was sealed just now

    @property
    def path(self) -> Path:
        return self.folder / self.digest.hex()

    def blocks(self) -> Iterator[bytes]:
        """Every block is genuine; only the end of the iteration says that nothing is missing."""
        skip, left = self.start, self.length
        for block in open_blocks(self.path, self.key, self.context):
            wanted = block[skip : skip + left] if skip or left < len(block) else block
            skip, left = max(0, skip - len(block)), left - len(wanted)
            yield wanted

    def kept(self) -> list[bytes | int]:
        return [self.digest, self.key, self.context, self.start, self.length]


def seal_file(
    folder: Path, message_id: bytes, sender_kid: bytes, index: int, key: bytes, portion: PortionContent, meter: Meter
) -> tuple[SealedFile, int]:
    """Seal a portion into `folder`; the file and the length of the part."""
    folder.mkdir(mode=0o700, exist_ok=True)
    context = part_context(message_id, sender_kid, index)
    beside = folder / f".sealing.{secrets.token_hex(8)}"
    try:
        with meter(f"sealing {portion.name}", portion.size) as advance, _create(beside) as file:
            digest, length = PartDigest(), 0

            def keep(sealed: bytes) -> int:
                write_all(file.fileno(), sealed)
                digest.update(sealed)
                return len(sealed)

            for kept in in_turn(keep, _sealed_blocks(PartSealer(key, context), portion), threads=1):
                length += kept
                advance(kept)
            os.fsync(file.fileno())
        start = len(next(pack_blocks(portion)))
        found = SealedFile(folder, digest.digest(), key, context, start, portion.size, digest.chunks())
        beside.replace(found.path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(folder)
    return found, length


def _sealed_blocks(sealer: PartSealer, portion: PortionContent) -> Iterator[bytes]:
    yield sealer.header
    for block in pack_blocks(portion):
        yield sealer.update(block)
    yield sealer.finish()


def _create(path: Path) -> FileIO:
    return FileIO(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def open_blocks(path: Path, key: bytes, context: bytes) -> Iterator[bytes]:
    """The plaintext of a sealed file. Raises Unverified: truncated, commitment or chunk n."""
    opener = PartOpener(key, context)
    try:
        with path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK):
                yield opener.update(block)
    except FileNotFoundError:
        raise LiaisonError(f"the attachment's sealed file {path} is gone", hint="restore the profile") from None
    yield opener.finish()


def check_file(core: Core, index: int, key: bytes, folder: Path) -> PortionContent:
    """A portion in a sealed file of the right digest: commitment, chunks, header, padding, inner label, in this order.

    Nothing of its content is kept; the portion says where it lies. Raises Unverified, Malformed.
    """
    portion = core.portions[index]
    context, total = part_context(core.message_id, core.sender_kid, index), plaintext_size(portion.length)
    blocks = open_blocks(folder / portion.digest.hex(), key, context)
    first = next(blocks)
    content, start, length = read_start(first, total)
    at = len(first)
    padded = any(first[start + length :])
    for block in blocks:
        padded = padded or (at + len(block) > start + length and any(block[max(0, start + length - at) :]))
        at += len(block)
    if padded:
        raise Unverified(f"part {index}: padding that is not zero")
    if content.label != portion.label:
        raise Unverified(f"part {index}: the label inside is not the label outside")
    return replace(content, apart=SealedFile(folder, portion.digest, key, context, start, length))


def into_memory(portion: PortionContent, room: int) -> PortionContent:
    """A portion with its content at hand, for what is no attachment: a draft, say. Its file is no longer needed.

    Raises TooLarge if the content has more than `room` octets.
    """
    assert isinstance(portion.apart, SealedFile)  # noqa: S101 - `check_file` made it
    if portion.size > room:
        portion.apart.path.unlink()
        raise too_much()
    content = b"".join(portion.apart.blocks())
    portion.apart.path.unlink()
    return replace(portion, content=content, apart=None)


def too_much() -> TooLarge:
    """What to raise where a message has more content to be held in memory than anybody sends."""
    return TooLarge("the message has more text than is read here", hint="ask its sender for a file attached")


def save(portion: PortionContent, path: Path, meter: Meter) -> None:
    """Write a portion's content to a new file, which has its name only when all of it was genuine."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with meter(f"writing {path.name}", portion.size) as advance, _create(beside) as file:
            for block in portion.blocks():
                write_all(file.fileno(), block)
                advance(len(block))
        os.link(beside, path)  # unlike rename, link never replaces
    finally:
        beside.unlink(missing_ok=True)


def in_turn(work: Callable[[T], R], pieces: Iterable[T], *, threads: int = TOGETHER) -> Iterator[R]:
    """The results in order, with a few under way at a time and no more in memory than those."""
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for piece in pieces:
            waiting.append(pool.submit(work, piece))
            if len(waiting) == TOGETHER:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def write_all(descriptor: int, octets: bytes) -> None:
    rest = memoryview(octets)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
