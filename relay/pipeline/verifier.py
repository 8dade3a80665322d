"""A process beside this one that verifies signatures, many at a time.

Verifying lets go of the interpreter's lock for each signature, and a busy relay waits longer to get it back than the
signature takes. So the claims of many requests leave in one message, and one comes back.

The rules:
  - the verifying process is given public keys, signed octets and signatures, and opens no file and no connection;
  - few claims, and all while that process is starting or after it has failed, are verified here: slower, and the same;
  - it ends when this process does, however that ends: its line is cut.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection

import cbor2

from relay.protocol.claim import Claim

from .cores import set_free

_WORTH_SENDING = 4  # claims
_PATIENCE = 10  # seconds
_PAUSE = 5.0  # seconds without it after a failure: one that fails at each start is not started for each batch
_READY = b"ready"


class Verifier:
    """One process and the line to it: it answers in the order in which it is asked. Belongs to one thread."""

    def __init__(self) -> None:
        self._line: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._again = 0.0  # not before this, on the monotonic clock
        self._asked: deque[tuple[Sequence[Claim], Connection | None]] = deque()  # and on which line, None for here

    def ask(self, claims: Sequence[Claim]) -> None:
        """Have these verified. Whoever asks again before the `answer` blocks nobody: the line holds many answers."""
        line = None
        if len(claims) >= _WORTH_SENDING and time.monotonic() >= self._again:
            with self._falling_back():
                if self._is_ready():
                    assert self._line is not None  # noqa: S101 - it is ready
                    self._line.send_bytes(cbor2.dumps(claims))
                    line = self._line
        self._asked.append((claims, line))

    def answer(self) -> list[str | None]:
        """What was asked first and is not answered yet: of each claim, why it does not hold, or None."""
        claims, line = self._asked.popleft()
        if line is not None and line is self._line:  # else it has failed since
            with self._falling_back():
                faults = cbor2.loads(line.recv_bytes())
                if type(faults) is not list or len(faults) != len(claims):
                    raise ValueError
                return faults
        return [claim.fault() for claim in claims]

    @contextlib.contextmanager
    def _falling_back(self) -> Iterator[None]:
        try:
            yield
        except (OSError, EOFError, ValueError, cbor2.CBORError):
            self.close()
            self._again = time.monotonic() + _PAUSE

    def close(self) -> None:
        """End the process; the next claims that are worth it start another."""
        if self._line is not None:
            self._line.close()
        if self._process is not None:
            self._process.kill()  # it has nothing to finish
            self._process.wait()
        self._line, self._process, self._ready = None, None, False

    def _is_ready(self) -> bool:
        if self._line is None:
            self._line, self._process = _start()
        if not self._ready:
            self._ready = self._line.poll() and self._line.recv_bytes() == _READY
        return self._ready


def _start() -> tuple[Connection, subprocess.Popen[bytes]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for each in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):  # one that hangs is one that has failed
            ours.setsockopt(socket.SOL_SOCKET, each, struct.pack("@ll", _PATIENCE, 0))
        # -P: what lies in the folder from which the relay was started is not ours
        command = [sys.executable, "-P", "-m", __name__, str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()])  # noqa: S603
        set_free(process.pid)
        return Connection(ours.detach()), process


def _serve(line: Connection) -> None:
    line.send_bytes(_READY)
    while True:
        claims = [Claim(*each) for each in cbor2.loads(line.recv_bytes())]
        line.send_bytes(cbor2.dumps([claim.fault() for claim in claims]))


if __name__ == "__main__":
    # Who stops the relay stops its whole group; what is being checked is still finished.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    with contextlib.suppress(EOFError, OSError):  # the relay is gone
        _serve(Connection(int(sys.argv[1])))
