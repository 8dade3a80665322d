"""What only endpoints may do: keys, sealing and opening, release, trust. `Client` is the way in."""

from .client import Attachment, Client
from .profile import home_folder

__all__ = ["Attachment", "Client", "home_folder"]
