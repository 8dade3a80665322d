"""A relay whose database grows from 10³ to 10⁶ messages and log entries.

The filling is synthetic and cheap: rows go in as operator's jobs through the relay's own committer, fifty thousand to
a transaction, so that log, tiles and checkpoint are right; the stored messages carry 256 octets instead of some ten
thousand. Index depth is that of the real number of rows, the file is smaller. What is measured is real messages.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from relay.house import commit_alone
from relay.pipeline.batch import Batch
from relay.protocol.canonical import encode
from relay.protocol.entry import AccessEntry, Event
from relay.protocol.header import fresh_message_id
from relay.settings import Settings
from relay.store.schema import key_batch, key_package, message, message_place, part, slot

from . import generator
from .figures import middle
from .processes import memory
from .sidebyside import deliver
from .world import World, publish_keys

STEP = 50_000
CROWD = 64  # clients at once: what a batch looks up together is looked up otherwise than what one client asks for
FILLING = bytes(256)


def measure(world: World, sizes: Sequence[int], rounds: int, number: int) -> dict[str, Any]:
    """Figures by stored messages. The world's relay is stopped, filled and started for each size."""
    found: dict[str, Any] = {"sizes": {}, "filling": "synthetic rows with 256 octets, real log entries"}
    stored = 0
    for size in sizes:
        world.server.stop()
        began = time.perf_counter()
        _fill(world, stored, size)
        filled, stored = time.perf_counter() - began, size
        restart = world.server.start()
        found["sizes"][str(size)] = {"fill_s": filled, "restart_s": restart, **_look(world, rounds, number)}
    return {**found, "claims": _claims(found["sizes"])}


def _look(world: World, rounds: int, number: int) -> dict[str, float]:
    server, taken = world.server, []
    # Warm, and a full page in every reader's inbox at each size.
    deliver(world, world.letters(16 * CROWD), "accept+open", CROWD)
    for _ in range(rounds):
        measured, load = deliver(world, world.letters(number), "accept+open", 1)
        accept, opened = (sorted(step)[len(step) // 2] * 1e3 for step in load.steps)
        size = server.log_size()
        auditor, reader, sender = world.auditor, world.readers[0], world.senders[0]
        publish_keys(server, [(reader, 10, False)])
        looks = {
            "claim_ms": [
                sender.ask(server.authority, "POST", "/v1/keys/claim", encode([reader.device_id])) for _ in range(10)
            ],
            "inbox_ms": [reader.ask(server.authority, "GET", "/v1/inbox") for _ in range(10)],
            "proof_ms": [
                reader.ask(server.authority, "GET", f"/v1/log/access/consistency?old={size // 3}&new={size}")
                for _ in range(10)
            ],
            "audit_ms": [
                auditor.ask(server.authority, "GET", f"/v1/audit/entries?after={size // 2}&count=1000")
                for _ in range(5)
            ],
        }
        timed = {
            name: generator.run([(ask,) for ask in asks], (200,), server.port, 1)[0].figures()["p50_ms"]
            for name, asks in looks.items()
        }
        crowded = deliver(world, world.letters(8 * CROWD), "accept+open", CROWD)[0].figures()
        spent = {"server_us": measured.figures()["server_us"], "crowd_us": crowded["server_us"]}
        taken.append({"accept_ms": accept, "open_ms": opened, **spent, **timed, **memory(server.pid)})
    return middle(taken)


def _fill(world: World, stored: int, wanted: int) -> None:
    settings = Settings(data=world.server.data, database=world.server.database)
    label = world.sealing(world.senders[0], [], 2, 1)[0].label  # type: ignore[arg-type]
    while stored < wanted:
        number = min(STEP, wanted - stored)
        commit_alone(settings, lambda batch, first=stored, number=number: _stage(batch, world, label, first, number))
        stored += number


def _stage(batch: Batch, world: World, label: bytes, first: int, number: int) -> Any:
    sender, crowd, keys = world.senders[0], [os.urandom(16) for _ in range(100)], os.urandom(32)
    expires, day, reader = batch.now + 20 * 86400, batch.now // 86400, world.readers[0].device_id
    batch.add(key_batch, {"digest": keys, "device_id": reader, "encoded": FILLING})
    for place in range(first, first + number):
        message_id, ref = fresh_message_id(batch.now, os.urandom(12)), os.urandom(32)
        index = batch.log(
            AccessEntry(
                event=Event.ACCEPT, time=batch.now_ms, salt=os.urandom(16), device_id=sender.device_id,
                address=sender.address, office="lo-warsaw", message_id=message_id, message_ref=ref, label=label,
            )
        )  # fmt: skip
        batch.add(message_place, {
            "message_id": message_id, "sender_device": crowd[0], "seq": place, "digest": ref,
            "entry": index, "day": day,
        })  # fmt: skip
        batch.add(message, {
            "day": day, "message_id": message_id, "ref": ref, "digest": ref, "sender_device": crowd[0], "seq": place,
            "precedence": 1, "expires": expires, "encoded": FILLING, "entry": index, "endorsements": b"\x80",
            "grants": b"\x80",
        })  # fmt: skip
        batch.add(key_package, {  # of the one reader that is asked for keys below: it has had all these messages
            "ref": ref, "device_id": reader, "batch": keys, "encoded": FILLING, "one_time": True, "not_after": expires,
            "claimed_by": crowd[0], "used_by": message_id,
        })  # fmt: skip
        batch.add(part, {"day": day, "message_id": message_id, "idx": 0, "sealed": FILLING, "upload_id": None})
        batch.add(slot, {
            "day": day, "message_id": message_id, "device_id": crowd[place % 100], "position": 0, "precedence": 1,
            "encoded": FILLING, "proof": b"", "released": None,
        })  # fmt: skip
    return lambda _committed: None


def _claims(sizes: dict[str, dict[str, float]]) -> list[tuple[str, float, float, bool]]:
    least, most = sizes[min(sizes, key=int)], sizes[max(sizes, key=int)]
    words = f"at {int(max(sizes, key=int)):,} stored messages / at {int(min(sizes, key=int)):,}"
    steps = ("accept", "open", "claim")
    claims = [(f"{step} {words}", most[f"{step}_ms"] / least[f"{step}_ms"], 1.2, False) for step in steps]
    claims += [(f"{step} {words}", most[f"{step}_ms"] / least[f"{step}_ms"], 2.0, False) for step in ("inbox", "proof")]
    claims.append(
        (f"processor time of both, {CROWD} clients, {words}", most["crowd_us"] / least["crowd_us"], 1.2, False)
    )
    if "10000" in sizes:
        ratio = most["own_mib"] / sizes["10000"]["own_mib"]
        claims.append((f"relay's memory at {int(max(sizes, key=int)):,} / at 10,000", ratio, 1.2, False))
    return claims
