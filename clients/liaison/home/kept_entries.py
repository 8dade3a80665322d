"""The entries of a log in the cabinet: 256 under one seal, so that a log of a million is four thousand rows.

The rules:
  - what is read is read a bundle at a time: memory does not grow with the log;
  - the number of entries is kept beside them, and a bundle that is missing or short is a gap, not an end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from relay.protocol.canonical import decode, encode, expect
from relay.protocol.errors import Conflict, Unknown, Unverified

from .shelf import Shelf

_BUNDLE = 256


def append_entries(shelf: Shelf, log: str, start: int, entries: Sequence[bytes]) -> None:
    """Raises Conflict unless `start` is the number of entries that are here."""
    count = count_entries(shelf, log)
    if start != count:
        raise Conflict(f"log {log}: entries from {start} on do not follow the {count} that are here")
    _write(shelf, log, count, entries)


def drop_entries(shelf: Shelf, log: str, start: int) -> None:
    """Forget those from `start` on."""
    first, count = start - start % _BUNDLE, count_entries(shelf, log)
    kept = _bundle(shelf, log, first)[: start - first] if start > first else []
    for each in range(first, count, _BUNDLE):
        shelf.drop([log, each])
    _write(shelf, log, first, kept)


def replace_entries(shelf: Shelf, log: str, changed: Mapping[int, bytes]) -> None:
    """Keep other rows of entries that are here. Raises Unknown."""
    if changed and not 0 <= min(changed) <= max(changed) < (count := count_entries(shelf, log)):
        raise Unknown(f"log {log}: there is no entry {max(changed)} among {count}")
    for first in sorted({index - index % _BUNDLE for index in changed}):
        rows = enumerate(_bundle(shelf, log, first), first)
        shelf.put([log, first], encode([changed.get(index, row) for index, row in rows]))


def count_entries(shelf: Shelf, log: str) -> int:
    found = shelf.get([log])
    return 0 if found is None else expect(decode(found, f"cabinet entries of {log}"), int, f"cabinet entries of {log}")


def read_entries(shelf: Shelf, log: str, start: int) -> Iterator[bytes]:
    count = count_entries(shelf, log)
    if not 0 <= start <= count:
        raise Unknown(f"log {log}: there is no entry {start} among {count}")
    return _read(shelf, log, start, count)


def _read(shelf: Shelf, log: str, start: int, count: int) -> Iterator[bytes]:
    for first in range(start - start % _BUNDLE, count, _BUNDLE):
        bundle = _bundle(shelf, log, first)
        if len(bundle) < min(_BUNDLE, count - first):
            raise Unverified(f"log {log}: entry {first + len(bundle)} is missing from the cabinet")
        yield from bundle[max(start - first, 0) : count - first]


def _bundle(shelf: Shelf, log: str, first: int) -> list[bytes]:
    found = shelf.get([log, first])
    if found is None:
        raise Unverified(f"log {log}: entry {first} is missing from the cabinet")
    return [expect(each, bytes, "cabinet entry") for each in expect(decode(found, "cabinet entries"), list, "entries")]


def _write(shelf: Shelf, log: str, start: int, entries: Sequence[bytes]) -> None:
    first = start - start % _BUNDLE
    waiting = [*(_bundle(shelf, log, first) if start > first else ()), *entries]
    for offset in range(0, len(waiting), _BUNDLE):
        shelf.put([log, first + offset], encode(waiting[offset : offset + _BUNDLE]))
    shelf.put([log], encode(start + len(entries)))
