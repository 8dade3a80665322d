"""What a verifier is shown first of a package: the marking, by the policy files in it, and the message's header."""

from __future__ import annotations

import time

from liaison import render
from relay.protocol.aggregate import effective_label
from relay.protocol.banner import format_marking
from relay.protocol.errors import LiaisonError
from relay.protocol.header import AddresseeKind
from relay.protocol.policy import Policy
from relay.protocol.policy_extensions import NO_EXTENSIONS, parse_extensions
from relay.protocol.publication import PublishedPolicy
from relay.protocol.spif import read_spif

from .package import Package
from .verify import Evidence


def marking_of(found: Evidence) -> str:
    """The label's marking as of now; system-high where the policy's files cannot be read."""
    label = effective_label(found.label, int(time.time()))
    published = found.directory.policy_of(found.accept.office, found.label.policy.name, found.label.policy.oid)
    try:
        if published is not None:
            return format_marking(_policy_in(found.package, published), label)
    except LiaisonError:
        pass
    return render.SYSTEM_HIGH


def _policy_in(package: Package, published: PublishedPolicy) -> Policy:
    """The policy in the package's files, which verifying has held against these digests."""
    own, beside = published.spif_digest, published.extensions_digest
    extensions = parse_extensions(package.members[f"policy/{beside.hex()}"]) if beside is not None else NO_EXTENSIONS
    return read_spif(package.members[f"policy/{own.hex()}"], extensions)[0]


def header_rows(found: Evidence) -> list[tuple[str, str]]:
    """Name and value of what the message says of itself; of its hash only, what its acceptance says."""
    own, precedence = ("Message", found.package.message_id.hex()), ("Precedence", found.precedence.name)
    if found.message is None:
        return [own, ("Posted by", found.accept.address), precedence, ("Header", "not in here: only its hash")]
    core = found.message.core
    return [
        own,
        ("From", core.sender),
        ("To", render.addressees(core, AddresseeKind.ACTION)),
        ("Info", render.addressees(core, AddresseeKind.INFO)),
        ("Exempted", render.addressees(core, AddresseeKind.EXEMPTED)),
        precedence,
        ("DTG", render.dtg(core.handling.dtg)),
    ]
