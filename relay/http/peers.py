"""Who knocks without being anybody: requests that fail authentication, limited by the address they come from.

In memory, in this process: what it saves is the cost of looking, and a restart forgives. Behind a proxy that the
relay was not told of (RELAY_PROXIES) all have the proxy's address, and share its limit.
"""

from __future__ import annotations

import time

from relay.protocol.errors import TooMany

_KNOWN = 10_000  # addresses remembered at once


class Peers:
    """So many failures a minute from one address; then none of its requests is looked at until some time has gone."""

    def __init__(self, per_minute: int) -> None:
        self._interval = 60.0 / per_minute if per_minute else 0.0
        self._free_at: dict[str, float] = {}

    def check(self, address: str) -> None:
        """Raise TooMany while this address has failed too often."""
        early = self._free_at.get(address, 0.0) - time.monotonic() - 60.0
        if early > 0:
            wait = int(early) + 1
            raise TooMany(
                "too many requests from this address failed authentication",
                hint=f"try again in {wait} s",
                retry_after=wait,
            )

    def failed(self, address: str) -> None:
        now = time.monotonic()
        if len(self._free_at) >= _KNOWN:
            self._free_at = {peer: at for peer, at in self._free_at.items() if at > now + 30}
        if len(self._free_at) < _KNOWN:
            self._free_at[address] = max(self._free_at.get(address, 0.0), now) + self._interval
