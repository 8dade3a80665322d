"""Chunks of large parts in an S3-compatible store, by `obstore`: an object per chunk, created and never replaced."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from relay.protocol.errors import LiaisonError, Unavailable

from .files import uploads_among

try:
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError
    from obstore.store import S3Store
except ImportError as problem:
    raise LiaisonError(
        "parts in a bucket need the extra [s3]", hint="pip install 'liaison-relay[server,s3]'"
    ) from problem


class Bucket:
    """Same rules as `blobs.Files`; an object is durable when the store has answered."""

    def __init__(self, url: str) -> None:
        try:
            self._store = S3Store.from_url(url, retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=10)})
        except BaseError as problem:
            raise LiaisonError(f"RELAY_PARTS: {url} is no bucket", hint="such as s3://BUCKET/PREFIX") from problem

    def put(self, upload: bytes, chunk: int, pieces: Sequence[bytes]) -> bool:
        """Keep a chunk, durable on return; False if it is there already. Raises Unavailable."""
        try:
            obstore.put(self._store, f"{upload.hex()}/{chunk}", b"".join(pieces), mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        except (BaseError, FileNotFoundError) as problem:  # no such bucket
            raise _away() from problem
        return True

    def get(self, upload: bytes, chunk: int) -> bytes | None:
        """The chunk, or None. Raises Unavailable."""
        try:
            return bytes(obstore.get(self._store, f"{upload.hex()}/{chunk}").bytes())
        except FileNotFoundError:
            return None
        except BaseError as problem:
            raise _away() from problem

    def chunks(self, upload: bytes) -> set[int]:
        names = (path.rpartition("/")[2] for path in self._paths(upload.hex()))
        return {int(name) for name in names if name.isdecimal()}

    def uploads(self) -> set[bytes]:
        return uploads_among(f"/{path}".split("/")[-2] for path in self._paths(None))

    def remove(self, upload: bytes) -> None:
        """Raises Unavailable."""
        paths = self._paths(upload.hex())
        try:
            if paths:
                obstore.delete(self._store, paths)
        except (BaseError, FileNotFoundError) as problem:
            raise _away() from problem

    def _paths(self, prefix: str | None) -> list[str]:
        try:
            return [found["path"] for page in obstore.list(self._store, prefix) for found in page]
        except BaseError as problem:
            raise _away() from problem


def _away() -> Unavailable:
    return Unavailable("the store of large parts does not answer", hint="nothing was lost; try again in a moment")
