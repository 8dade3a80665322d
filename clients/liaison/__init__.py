"""What only endpoints may do: keys, sealing and opening, release, trust. `Client` is the way in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import Client
    from .composing import Attachment
    from .home.profile import home_folder
    from .waiting import Waiting

__all__ = ["Attachment", "Client", "Waiting", "home_folder"]
_HOME = {"Attachment": "composing", "Client": "client", "Waiting": "waiting", "home_folder": "home.profile"}


def __getattr__(name: str) -> Any:
    # PEP 562: the command's help and its offline half are in this package too, and need neither HTTP nor keys
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415

    return getattr(import_module(f".{_HOME[name]}", __name__), name)
