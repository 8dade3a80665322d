"""Whose an access-log entry is: the holder's of the device that it names, or the relay's own.

The rules:
  - address and office are those of the device's certificate, or of its authority's statement. They never change: what a
    device did stays its holder's, though it is revoked or has expired since;
  - zeros stand in the place of a device where nobody asked for what was done, and nowhere else;
  - the second entry of a denial stands under the originator's office, which the entry itself does not bear out;
  - what is done with a message concerns its originator's office, where that is not the actor's own.
"""

from __future__ import annotations

from .directory import Directory
from .entry import NO_DEVICE, OPERATOR, RELAY, AccessEntry, Event
from .errors import Unverified

_UNASKED = {Event.EXPIRE: RELAY, Event.DESTROY: RELAY, Event.OPERATOR: OPERATOR}


def verify_actor(entry: AccessEntry, directory: Directory) -> None:
    """Raise Unverified where the entry names another person or office than its device's.

    `directory` is as it was when the entry was made, or later.
    """
    if (unasked := _UNASKED.get(entry.event)) is not None:
        if (entry.device_id, entry.address) != (NO_DEVICE, unasked):
            raise Unverified(f"{entry.event}: logged as somebody's, and nobody asks for it")
        return
    device = directory.devices.get(entry.device_id)
    if device is None:
        raise Unverified(f"{entry.event}: by a device that the directory does not have")
    if entry.address != device.address:
        raise Unverified(f"{entry.event}: logged as {entry.address!r:.120}, and the device is {device.address}'s")
    if entry.office != device.office and entry.event is not Event.DENY:
        raise Unverified(f"{entry.event}: logged under {entry.office!r:.80}, and {device.address} is not of it")


def verify_concerns(entry: AccessEntry, originator: str) -> None:
    """Raise Unverified unless the auditors of this office, whose message it is about, may read the entry."""
    if entry.concerns != ("" if originator == entry.office else originator):
        raise Unverified(f"{entry.event}: logged as if it did not concern {originator}, whose message it is")
