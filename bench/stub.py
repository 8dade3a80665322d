"""The product's HTTP application with nothing behind it: what framework and server cost. python -m bench.stub PORT"""

from __future__ import annotations

import sys

import uvicorn

from relay.http.app import create_app
from relay.http.joined import JoiningProtocol


class Stub:
    """Answers at once, as long as a receipt."""

    async def accept(self, *_: object) -> bytes:
        return bytes(2800)


if __name__ == "__main__":
    app = create_app(Stub())  # type: ignore[arg-type]
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False, http=JoiningProtocol
    )
