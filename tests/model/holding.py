"""What people say of holds, each word beside what the model says of it."""

from __future__ import annotations

from model.acts import Act, key_of
from model.approving import HONEST, Way, approved
from model.cast import CLOCK, keys_of, word_of
from model.post import Post
from relay.protocol.approval import Approval, Matter
from relay.protocol.cose import parse_sign1
from relay.protocol.entry import parse_logged_entry
from relay.protocol.hold import HOLD, Action, Hold, hold_body


class Holding:
    """All words about holds that were ever signed."""

    def __init__(self, post: Post) -> None:
        self.post, self.stage, self.model = post, post.stage, post.model
        self.signed: list[tuple[Hold, bytes, tuple[Approval, ...], bytes]] = []

    def hold(self, which: int, who: str, action: str | None, way: Way = HONEST, age: int = 0) -> None:
        """Place a hold or lift it, by a word of this age; None for whichever is next."""
        holder = self.model.holders.get(key_of(who).device_id)
        if holder is None or not self.post.sealed:
            return
        mail = self.post.sealed[which % len(self.post.sealed)]
        stored = self.model.mails.get(mail.message_id)
        is_held = stored is not None and holder.office in stored.words and stored.words[holder.office].stands
        chosen = Action(action or ("lift" if is_held else "place"))
        stated = Hold(chosen, mail.message_id, holder.device_id, holder.address, CLOCK.now - age, "inquiry")
        signed = key_of(who).signing.sign_object(HOLD, stated.payload())
        ref = parse_sign1(signed, HOLD).ref
        approvals, encoded = approved(self.model, holder.office, Matter.HOLD, ref, holder.address, way)
        self.signed.append((stated, ref, approvals, hold_body(signed, encoded)))
        self.say(-1)

    def say(self, which: int) -> None:
        """Post a word that was signed, for the first time or again."""
        if not self.signed:
            return
        stated, ref, approvals, body = self.signed[which if which < 0 else which % len(self.signed)]
        request, seen = keys_of(stated.device_id).asks(CLOCK.now, body), max(self.post.heads)
        self.stage.do(
            Act(
                f"{word_of(stated.device_id)}: {stated.action} a hold on {stated.message_id.hex()[-6:]}, "
                f"approved by {', '.join(word_of(each.device_id) for each in approvals) or 'nobody'}",
                lambda relay: relay.hold(request, stated.message_id, seen),
                lambda: self.model.hold(stated.device_id, stated, ref, approvals),
                lambda got, answer: self.post.checked(parse_logged_entry(got), answer, seen),
            )
        )
