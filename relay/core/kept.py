"""What a recall takes away, and what of it a legal hold keeps: for nobody to open, and for no longer than the hold.

The rules:
  - a recall ends all opening at once, held or not: nothing reads `kept` but what destroys it;
  - a hold beats destruction: a held message's slots move to `kept` and its parts stay, until the last office's hold
    is lifted; that transaction destroys what the recall would have.
"""

from __future__ import annotations

from sqlalchemy import delete, func, select, update

from relay.pipeline.batch import Batch
from relay.store.schema import part, recall, slot

from .open import ROWS


def take_back(batch: Batch, message_id: bytes, *, spill: bool, is_held: bool) -> None:
    """End every opening of the message; destroy its slots, and after a spill its parts, unless it is held."""
    kept = func.coalesce(slot.c.encoded, slot.c.kept) if is_held else None
    batch.connection.execute(update(slot).where(slot.c.message_id == message_id).values(encoded=None, kept=kept))
    if spill and not is_held:
        batch.connection.execute(delete(part).where(part.c.message_id == message_id))
    batch.forget(ROWS, lambda key: key[0] == message_id)


def destroy_kept(batch: Batch, message_id: bytes) -> bool:
    """Destroy what a recall would have, but for a hold. The answer is whether there was any of it."""
    held = slot.c.message_id == message_id, slot.c.kept.is_not(None)
    gone = batch.connection.execute(update(slot).where(*held).values(kept=None)).rowcount
    spilled = select(recall.c.entry).where(recall.c.message_id == message_id, recall.c.spill).limit(1)
    if batch.connection.scalar(spilled) is not None:
        gone += batch.connection.execute(delete(part).where(part.c.message_id == message_id)).rowcount
    return gone > 0
