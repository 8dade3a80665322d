"""All of them, by name."""

from __future__ import annotations

from . import endpoints, gateways, logs, messages, objects, policies, posted, requests
from .target import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for module in (objects, messages, posted, logs, policies, requests, endpoints, gateways)
    for target in module.TARGETS
}
