"""Second signatures over a message that is sealed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from model.cast import CLOCK, keys_of
from model.relay import Model
from model.terms import Mail
from relay.protocol.endorsement import ENDORSEMENT, Endorsement
from relay.protocol.envelope import parse_submission


def endorsed(model: Model, mail: Mail, by: Iterable[bytes], age: int) -> Mail:
    """The message as these devices release it, by signatures of this age in seconds; instead of others that it had."""
    stated = tuple(Endorsement(mail.ref, each, model.holders[each].address, CLOCK.now - age) for each in by)
    signed = tuple(keys_of(each.device_id).signing.sign_object(ENDORSEMENT, each.payload()) for each in stated)
    submission = replace(parse_submission(mail.body), endorsements=signed)
    return replace(mail, endorsed=stated, endorsements=signed, body=submission.encoded())


def officers(model: Model, mail: Mail) -> tuple[bytes, ...]:
    """As many as the message needs, if there are so many."""
    fit = (each for each in sorted(model.holders) if model.may_release(each, mail))
    return tuple(fit)[: model.officers_needed(mail)]
