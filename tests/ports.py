"""Ports for servers of the tests."""

from __future__ import annotations

import random
import socket

_FIRST, _END = 20_000, 32_768  # beyond, the system takes them for clients' connections (ip_local_port_range)


def free_port(in_a_row: int = 1) -> int:
    """The first of so many on the loopback address that nobody had a moment ago."""
    while True:
        first = random.randrange(_FIRST, _END - in_a_row)
        if all(map(_is_free, range(first, first + in_a_row))):
            return first


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
