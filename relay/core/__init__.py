"""What the relay does: one method of `Relay` per thing a caller can want. Knows SQL by name, HTTP not at all."""

from .caller import Caller
from .relay import Relay

__all__ = ["Caller", "Relay"]
