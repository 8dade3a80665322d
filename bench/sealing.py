"""What many recipients cost: the sender's sealing beside the bare cryptography, the relay's accept by their number.

    python bench/sealing.py [--json] [--recipients 1,10,100,500,2000] [--rounds N]

Sealing is everything the client does from the rules' yes to the posted message and its receipt, less the time the
relay takes: reading and verifying the claimed key packages, sealing, signing, keeping, checking the receipt. Bare are
the same key batches' signatures, encapsulations, one signature, the content and its hash, on keys read beforehand or
not as the client does it, in one thread. Both as wall and as processor time; the rounds of both alternate. Accept is
the relay's check and its one transaction, in this process, on SQLite, every commit on the disk.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import linear_regression, median

from crowd import LABEL, Crowd, gather

from liaison.cobblestone import seal_part
from liaison.keys import SigningKey, kem_public_bytes
from liaison.seal import _HPKE, _public_key
from relay.protocol.signature import verify_composite

BODY = "x" * 4096
Timed = tuple[float, float]  # seconds: wall, processor


def timed(call: Callable[[], object]) -> Timed:
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


def bare_operations(count: int) -> Callable[[], None]:
    """The cryptography of one message to `count` readers, and nothing else."""
    signer, content = SigningKey.generate(), BODY.encode()
    listed = os.urandom(2300)  # as long as a batch of 65 references
    batches = [(key.public, listed, key.sign(listed)) for key in (SigningKey.generate() for _ in range(count))]
    readers = [kem_public_bytes(os.urandom(32)) for _ in range(count)]
    context, slot = os.urandom(300), bytes(1300)

    def run() -> None:
        for batch in batches:
            verify_composite(*batch)
        for reader in readers:
            _HPKE.encrypt(content[:32], _public_key(reader), context)
            hashlib.sha256(slot).digest()
        hashlib.sha256(seal_part(content[:32], context, content)).digest()
        signer.sign(listed)

    return run


def send(crowd: Crowd, count: int) -> tuple[Timed, float]:
    """(the client's own time after the plan, the time of the relay's accept) of one message."""
    plan = crowd.client.plan(crowd.addresses[:count], label=LABEL, body=BODY)
    crowd.hallway.spent.clear()
    wall, processor = timed(lambda: crowd.client.release(plan))
    relay = crowd.hallway.spent
    own = (wall - sum(each[0] for each in relay.values()), processor - sum(each[1] for each in relay.values()))
    return own, relay["/v1/messages"][0]


def measure(sizes: list[int], rounds: int) -> list[dict[str, float]]:
    stocks = [(rounds + 1) * sum(place < size for size in sizes) for place in range(max(sizes))]
    bare = {size: bare_operations(size) for size in sizes}
    taken: dict[int, list[tuple[Timed, Timed, float]]] = {size: [] for size in sizes}
    with tempfile.TemporaryDirectory() as folder:
        crowd = gather(Path(folder), stocks)
        for turn in range(rounds + 1):
            for size in sizes:
                floor = timed(bare[size])
                own, accept = send(crowd, size)
                if turn:  # the first round warms both
                    taken[size].append((own, floor, accept))
        crowd.close()
    return [_row(size, each) for size, each in taken.items()]


def _row(size: int, rounds: list[tuple[Timed, Timed, float]]) -> dict[str, float]:
    return {
        "recipients": size,
        "sealing_ms": median(own[0] for own, _, _ in rounds) * 1e3,
        "bare_ms": median(floor[0] for _, floor, _ in rounds) * 1e3,
        "ratio": median(own[0] / floor[0] for own, floor, _ in rounds),
        "ratio_processor": median(own[1] / floor[1] for own, floor, _ in rounds),
        "accept_ms": median(accept for _, _, accept in rounds) * 1e3,
    }


def main() -> int:
    arguments = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    arguments.add_argument("--json", action="store_true", help="one JSON object")
    arguments.add_argument("--recipients", default="1,10,100,500,2000")
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    rows = measure([int(each) for each in given.recipients.split(",")], given.rounds)
    fit = None
    if len(rows) > 1:
        fit = linear_regression([row["recipients"] for row in rows], [row["accept_ms"] for row in rows])
    if given.json:
        line = None if fit is None else {"ms_each": fit.slope, "ms_fixed": fit.intercept}
        print(json.dumps({"v": 1, "rounds": given.rounds, "results": rows, "accept_fit": line}))
        return 0
    for row in rows:
        print(
            f"{row['recipients']:>5} recipients: sealing {row['sealing_ms']:8.1f} ms, bare {row['bare_ms']:8.1f} ms, "
            f"{row['ratio']:.2f} times "
            f"({row['ratio_processor']:.2f} by processor time); accept {row['accept_ms']:7.1f} ms"
        )
    if fit is not None:
        print(f"accept = {fit.intercept:.1f} ms + {fit.slope * 1e3:.0f} µs a recipient; off that line:", end="")
        for row in rows:
            print(f" {row['accept_ms'] - fit.intercept - fit.slope * row['recipients']:+.1f}", end="")
        print(" ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
