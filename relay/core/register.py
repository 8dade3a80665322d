"""Changes to the directory: what office authorities publish, and what the operator registers.

What a change claims is verified by `Directory.apply`; here stands who may ask for it, and that every change is
an entry of both logs: the directory log says what holds, the access log who brought it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import bindparam, select

from relay.pipeline.batch import Answer, Batch, Lookup
from relay.protocol.agreement import AGREEMENT, read_agreement
from relay.protocol.canonical import decode, encode, expect
from relay.protocol.community import ROSTER
from relay.protocol.cose import parse_sign1
from relay.protocol.directory import AgreementState, Directory
from relay.protocol.entry import NO_DEVICE, OPERATOR, AccessEntry, Change, Event, read_approval_list
from relay.protocol.errors import Malformed, Refused, TooLarge, Unauthenticated
from relay.protocol.identity import Kind
from relay.protocol.policy import Policy
from relay.protocol.policy_extensions import NO_EXTENSIONS, parse_extensions
from relay.protocol.publication import POLICY, PublishedPolicy, read_published_policy
from relay.protocol.spif import read_spif
from relay.store.prepared import Prepared
from relay.store.schema import document

from .caller import Caller, entry_of
from .limits import MAX_DRAFTS, MAX_POLICIES
from .policies import PolicyShelf
from .quota import Metered, Quota

BY_AUTHORITY = frozenset({
    Change.CERTIFICATE, Change.REVOCATION, Change.POLICY, Change.AGREEMENT, Change.WITHDRAWAL, Change.COMMUNITY,
    Change.APPROVERS, Change.AUDIT_GRANT,
})  # fmt: skip

_HELD: Lookup[bytes, bytes] = Lookup(
    Prepared(select(document.c.digest).where(document.c.digest.in_(bindparam("keys", expanding=True)))),
    key=lambda row: row[0],
    value=lambda row: row[0],
)


class Publication(NamedTuple):
    """What is posted for the directory: the documents are those of a policy, the approvals those of named people."""

    change: Change
    payload: bytes
    files: Sequence[bytes] = ()
    approvals: Sequence[bytes] = ()
    policy: Policy | None = None


def read_publication(body: bytes) -> Publication:
    """[change, signed object, [document...]], and the list of approvals where there are some, from an authority."""
    fields = expect(decode(body, "publication"), list, "publication")
    if len(fields) not in {3, 4}:
        raise Malformed("publication: expected an array of 3, or of 4 with approvals")
    change, payload, documents = fields[:3]
    if type(change) is not str or change not in BY_AUTHORITY:
        raise Malformed(f"publication: {change!r:.40} is not for an authority to publish")
    files = [expect(item, bytes, "publication: document") for item in expect(documents, list, "publication: documents")]
    expect(payload, bytes, "publication: object")
    policy = None
    if change == Change.POLICY:
        policy = check_policy(read_published_policy(parse_sign1(payload, POLICY)), files)
    elif files:
        raise Malformed("publication: only a policy comes with documents")
    approvals = read_approval_list(fields[3]) if len(fields) == 4 else ()
    return Publication(Change(change), payload, files, approvals, policy)


def check_policy(published: PublishedPolicy, files: list[bytes]) -> Policy:
    """The files are exactly those that were signed, and say what the signed object says they say."""
    if tuple(hashlib.sha256(file).digest() for file in files) != published.digests:
        raise Malformed("publication: not the files that were signed")
    extensions = NO_EXTENSIONS if len(files) == 1 else parse_extensions(files[1])
    policy = read_spif(files[0], extensions)[0]
    if (policy.name, policy.oid, policy.version) != (published.name, published.oid, published.version):
        raise Malformed("publication: the file is another policy, or another version, than the signed object says")
    return policy


def publish(batch: Batch, caller: Caller, asked: Publication, shelf: PolicyShelf, quota: Quota) -> Answer:
    """Append a signed object to the directory, a roster by its manager. The answer is [index, size]."""
    change, payload, files, approvals, policy = asked
    if batch.directory.device(caller.device.device_id, batch.now) is None:
        raise Unauthenticated("this authority is no longer registered")
    if (caller.device.kind is Kind.AUTHORITY) != (change is not Change.ROSTER):
        raise Refused("only an office authority changes the directory", rules=("authority",))
    if change is Change.ROSTER and batch.directory.device(parse_sign1(payload, ROSTER).kid[:16], batch.now) is None:
        raise Refused("the roster is not signed by a device that is valid now", rules=("roster",))
    # What ends something has a bucket of its own: no amount of the rest, a roster's manager's either, is in its way.
    ends = change in {Change.REVOCATION, Change.WITHDRAWAL}
    quota.charge(batch, caller.device, Metered.REVOCATION if ends else Metered.PUBLICATION, None)
    _check_room(batch.directory, caller.device.office, asked)
    batch.flush()
    digests = [hashlib.sha256(file).digest() for file in files]
    if policy is not None:  # or its labels would be unknown to the rest of this batch, and to every look meanwhile
        shelf.put(caller.device.office, digests, policy, sum(map(len, files)))
    index = batch.change(change, payload, approvals)
    for digest, file in zip(digests, files, strict=True):
        if batch.find(_HELD, digest) is None:
            batch.note(_HELD, digest, digest)
            batch.add(document, {"digest": digest, "content": file})
    batch.log(entry_of(caller, Event.DIRECTORY, batch.now_ms, f"{change.value} {index}"))
    return lambda _committed: encode([index, index + 1])


def _check_room(directory: Directory, office: str, asked: Publication) -> None:
    """What stands in every decision's way is limited: drafts that wait for others, and policies side by side."""
    if asked.change is Change.AGREEMENT:
        new = read_agreement(parse_sign1(asked.payload, AGREEMENT).payload).agreement_id not in directory.agreements
        if new and sum(_waits(state, office) for state in directory.agreements.values()) >= MAX_DRAFTS:
            raise TooLarge(
                f"{MAX_DRAFTS} agreements that {office} has signed wait for the signatures of others",
                hint="withdraw what nobody will sign: liaison agreement withdraw",
            )
    if asked.change is Change.POLICY:
        published = read_published_policy(parse_sign1(asked.payload, POLICY))
        held = [name for publisher, name in directory.policies if publisher == office]
        if (published.oid or published.name) not in held and len(held) >= MAX_POLICIES:
            raise TooLarge(f"{office} has {MAX_POLICIES} policies here", hint="publish a new version of one of them")


def _waits(state: AgreementState, office: str) -> bool:
    return office in state.signed and state.withdrawn is None and not state.is_in_force


def register_office(batch: Batch, statement: bytes, approvals: Sequence[bytes] = ()) -> Answer:
    """The operator admits an office by its statement, with the approvals that the relay's list of approvers takes."""
    return _operate(batch, Change.OFFICE, statement, approvals)


def name_approvers(batch: Batch, approvers: bytes, approvals: Sequence[bytes]) -> Answer:
    """The operator names who approves the admission of offices; once there is such a list, with its approvals."""
    return _operate(batch, Change.RELAY_APPROVERS, approvers, approvals)


def remove_office(batch: Batch, office: str) -> Answer:
    """The operator ends an office: none of its devices may act from here on."""
    return _operate(batch, Change.OFFICE_REMOVED, encode([office]))


def _operate(batch: Batch, change: Change, payload: bytes, approvals: Sequence[bytes] = ()) -> Answer:
    index = batch.change(change, payload, approvals)
    batch.log(
        AccessEntry(
            event=Event.OPERATOR,
            time=batch.now_ms,
            salt=os.urandom(16),
            device_id=NO_DEVICE,
            address=OPERATOR,
            office="",
            detail=f"{change.value} {index}",
        )
    )
    return lambda _committed: index
