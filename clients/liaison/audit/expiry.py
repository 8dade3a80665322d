"""Certificates that end soon, from the directory that the auditor has verified. Pure: no clock, no profile."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from relay.protocol.directory import Device, Directory

SOON = 30 * 86400  # seconds


@dataclass(frozen=True, slots=True)
class Ending:
    """A device that may act now and whose certificate ends soon; how long its address has another one."""

    device: Device
    replaced_until: int | None


def ending(directory: Directory, offices: Collection[str], now: int) -> list[Ending]:
    """Those of these offices, the first to end first. Not of authorities, whose statements do not end."""
    current = [
        device
        for device_id in list(directory.certificates)
        if (device := directory.device(device_id, now)) is not None and device.office in offices
    ]
    latest = dict[str, int]()
    for device in current:
        latest[device.address] = max(latest.get(device.address, 0), device.not_after)
    return [
        Ending(device, latest[device.address] if latest[device.address] > now + SOON else None)
        for device in sorted(current, key=lambda device: (device.not_after, device.address, device.device_id))
        if device.not_after <= now + SOON
    ]
