"""Alarms: what somebody finds in the directory under his name and did not do, said to his office, signed, in the log.

    Alarm = Sign1(device or authority; [1, device_id, index, SHA-256(entry), finding, at])

The rules:
  - it is about one entry of the directory log, named by index and by hash, and one alarm of a device about it counts;
  - the finding is the finder's word: one printable line that auditors and security officers read.
"""

from __future__ import annotations

from dataclasses import dataclass

from .canonical import encode, expect, expect_bytes, expect_time, expect_version, read_array
from .cose import Sign1
from .directory import Device
from .errors import Malformed
from .identity import SECURITY_ROLE, Kind
from .tlog import MAX_SIZE

ALARM = "alarm"
MAX_FINDING = 500


@dataclass(frozen=True, slots=True)
class Alarm:
    device_id: bytes
    index: int  # of the directory entry
    digest: bytes  # SHA-256 of the directory entry
    finding: str
    at: int

    def payload(self) -> bytes:
        return encode([1, self.device_id, self.index, self.digest, self.finding, self.at])

    @property
    def detail(self) -> str:
        """What the log entry says."""
        return f"directory {self.index}: {self.finding}"


def read_alarm(signed: Sign1) -> Alarm:
    """The statement in a signed object; who signed it is the caller's to verify. Raises Malformed."""
    version, device_id, index, digest, finding, at = read_array(signed.payload, 6, ALARM)
    expect_version(version, ALARM)
    finding = expect(finding, str, "alarm: finding")
    if not finding.strip() or not finding.isprintable() or len(finding) > MAX_FINDING:
        raise Malformed(f"alarm: the finding is one line of at most {MAX_FINDING} characters")
    if not 0 <= expect(index, int, "alarm: index") < MAX_SIZE:
        raise Malformed("alarm: no log has such an entry")
    return Alarm(
        device_id=expect_bytes(device_id, 16, "alarm: device"),
        index=index,
        digest=expect_bytes(digest, 32, "alarm: entry"),
        finding=finding,
        at=expect_time(at, "alarm: time"),
    )


def hears_alarms(device: Device) -> bool:
    """Whether the office's alarms are this device's business: its authority's, or a security officer's."""
    roles = device.certificate.roles if device.certificate is not None else ()
    return device.kind is Kind.AUTHORITY or (device.kind is Kind.OFFICER and SECURITY_ROLE in roles)
