"""What a certificate clears its holder for, as a person has to see it before he agrees, or wonders."""

from __future__ import annotations

from relay.protocol.identity import Certificate
from relay.protocol.label import Clearance

from .render import day

_MOMENT = 60  # seconds: both are made when the certificate is signed, one after the other


def cleared_for(certificate: Certificate | None) -> list[str]:
    """One text for each clearance: nothing that makes two of them differ is left out, but object identifiers."""
    return [] if certificate is None else [_said(each, certificate) for each in certificate.clearances]


def _said(clearance: Clearance, certificate: Certificate) -> str:
    categories = [f"{each.tag_name} {', '.join(each.values)}" for each in clearance.categories]
    said = f"{clearance.policy_name} {'/'.join(clearance.classifications)}"
    said += f" ({'; '.join(categories)})" if categories else ""
    if clearance.not_before > certificate.not_before + _MOMENT:
        said += f" from {day(clearance.not_before)}"
    if clearance.not_after < certificate.not_after - _MOMENT:
        said += f" until {day(clearance.not_after)}"
    return said
