"""Who plays: three offices and their devices, each with keys that grow from a word, and the clock that they have."""

from __future__ import annotations

from types import SimpleNamespace

from model.acts import Key, key_of
from relay.protocol.identity import Kind
from world import LEVELS

START = 1_800_000_000  # 15 January 2027, 08:00 UTC
NATIONS = {"lo-warsaw": "POL", "lo-paris": "FRA", "lo-oslo": "NOR"}
OFFICES = tuple(NATIONS)
COMMUNITY_ADDRESS, MANAGER = "convoys@lo-warsaw", "ewa.lis@lo-warsaw"
ALL = frozenset(LEVELS)
# word → address, kind, roles, levels, codeword, days of the clearance and of the certificate
CAST: dict[str, tuple[str, Kind, tuple[str, ...], frozenset[str], bool, int, int]] = {
    "anna": ("anna.nowak@lo-warsaw", Kind.OFFICER, (), ALL, True, 300, 300),
    "anna's other": ("anna.nowak@lo-warsaw", Kind.OFFICER, ("duty", "release"), ALL, False, 300, 300),
    "ewa": (MANAGER, Kind.OFFICER, ("release", "security"), ALL, True, 300, 300),
    "ola": ("ola.zak@lo-warsaw", Kind.OFFICER, ("release", "security"), frozenset(), False, 0, 20),
    "feed": ("cop-feed@lo-warsaw", Kind.SYSTEM, ("release",), frozenset({"OPEN", "CLOSED"}), False, 300, 300),
    "audit": ("audit@lo-warsaw", Kind.AUDITOR, (), frozenset(), False, 0, 300),
    "jean": ("jean.petit@lo-paris", Kind.OFFICER, ("duty",), ALL, True, 300, 300),
    "luc": ("luc.bas@lo-paris", Kind.OFFICER, (), frozenset({"OPEN"}), False, 300, 300),
    "zoe": ("zoe.roux@lo-paris", Kind.OFFICER, ("release", "security"), ALL, True, 10, 300),
    "rene": ("rene.roy@lo-paris", Kind.OFFICER, ("duty", "release", "security"), ALL, False, 300, 300),
    "kari": ("kari.lie@lo-oslo", Kind.OFFICER, (), frozenset({"OPEN", "CLOSED"}), True, 300, 40),
    "nils": ("nils.dal@lo-oslo", Kind.OFFICER, ("duty",), ALL, False, 300, 300),
}
SPARE = {
    "anna's third": ("anna.nowak@lo-warsaw", Kind.OFFICER, ("security",), ALL, True, 300, 2),
    "jean's other": ("jean.petit@lo-paris", Kind.OFFICER, (), frozenset({"OPEN", "CLOSED"}), True, 300, 300),
}
WORDS = (*CAST, *SPARE)
CLOCK = SimpleNamespace(now=START)  # the relay's time, in seconds


def authority_of(office: str) -> Key:
    return key_of(f"authority@{office}")


def word_of(device_id: bytes) -> str:
    return next(word for word in WORDS if key_of(word).device_id == device_id)


def keys_of(device_id: bytes) -> Key:
    return key_of(word_of(device_id))
