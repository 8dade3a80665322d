"""Liaison Relay: the server, and in `relay.protocol` what both ends agree on."""

__version__ = "0.1.0"
