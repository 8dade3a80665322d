"""Being a witness of other logs: the check and the memory in one transaction, the cosignature after its commit."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from relay.pipeline.batch import Answer, Batch, Job
from relay.protocol.errors import Unknown
from relay.protocol.tlog import Checkpoint
from relay.protocol.witness import (
    AddCheckpoint,
    Logs,
    TreeHead,
    WitnessKeys,
    check_growth,
    parse_add_checkpoint,
    verify_asked,
)
from relay.store import witness as witness_rows


@dataclass(frozen=True, slots=True)
class WitnessDesk:
    """Which logs this relay cosigns, and with what. Without keys and logs, none."""

    keys: WitnessKeys | None = None
    logs: Logs = field(default_factory=dict)

    def job(self, body: bytes) -> Job:
        """What a body asks for, its signatures verified."""
        if self.keys is None:
            raise Unknown("this relay is not a witness")
        asked = parse_add_checkpoint(body)
        stated, keys = verify_asked(asked, self.logs), self.keys
        return Job(lambda batch: _remember(batch, keys, asked, stated))


def _remember(batch: Batch, keys: WitnessKeys, asked: AddCheckpoint, stated: Checkpoint) -> Answer:
    # Straight to the database, not staged: the next job of this batch may ask for the same log.
    check_growth(asked, stated, witness_rows.last_head(batch.connection, stated.origin))
    witness_rows.put_head(batch.connection, stated.origin, TreeHead(stated.size, stated.root))
    return lambda _committed: keys.cosign(asked.note, int(time.time()))
