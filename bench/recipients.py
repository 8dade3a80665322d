"""Many recipients and large messages: sealing beside the bare cryptography, one accept by the number of slots."""

from __future__ import annotations

import hashlib
import time
from statistics import median
from typing import Any

from liaison.cobblestone import seal_part
from liaison.seal import _HPKE, _public_key, seal  # the bare operations, as the product configures them
from relay.protocol.header import Precedence

from .figures import line_fit, middle
from .sidebyside import deliver
from .world import World


def measure(world: World, numbers: tuple[int, ...], sizes: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Median milliseconds by number of recipients and by octets of content."""
    found: dict[str, Any] = {"recipients": {}, "sizes": {}, "keys": "last-resort for many recipients, one-time for one"}
    for number in numbers:
        claimed = world.claim_crowd(world.senders[0], number)
        letters = [world.letter(world.senders[0], claimed) for _ in range(rounds * 3)]
        measured, _ = deliver(world, letters, "accept", 1)
        found["recipients"][str(number)] = {**middle([measured.figures()]), **_sealing(world, claimed, rounds)}
    for size in sizes:
        measured, _ = deliver(world, world.letters(rounds * 4, size), "accept+open+part", 1)
        found["sizes"][str(size)] = middle([measured.figures()])
    most = found["recipients"][str(max(numbers))]
    points = [(float(number), found["recipients"][str(number)]["p50_ms"]) for number in numbers]
    words = f"sealing to {max(numbers)} / the bare operations, processor time"
    found["claims"] = [(words, most["seal_ms"] / most["bare_ms"], 1.5, False)]
    if len(points) > 2:
        fixed, slope, deviation = line_fit(points)
        found["line"] = {"fixed_ms": fixed, "per_recipient_ms": slope}
        found["claims"].append(("accept by recipients: largest ratio to a straight line", 1 + deviation, 1.25, False))
    return found


def _sealing(world: World, claimed: list[Any], rounds: int) -> dict[str, float]:
    """Milliseconds of processor time, this process being alone in its sealing."""
    core, portions, readers, key = world.sealing(world.senders[0], claimed, 4096, Precedence.ROUTINE)
    whole, bare, slot = [], [], bytes(1300)
    for _ in range(rounds):
        began = time.process_time()
        seal(core, portions, readers, key)
        middle_at = time.process_time()
        hashlib.sha256(seal_part(bytes(32), bytes(32), portions[0].content)).digest()
        for reader in readers:
            _HPKE.encrypt(bytes(32), _public_key(reader.package.kem_public), bytes(150))
            hashlib.sha256(slot).digest()
        key.sign(bytes(600))
        whole.append(middle_at - began)
        bare.append(time.process_time() - middle_at)
    return {"seal_ms": median(whole) * 1e3, "bare_ms": median(bare) * 1e3}
