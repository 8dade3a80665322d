"""Every limit that the relay enforces, in one place. Octets and seconds."""

from __future__ import annotations

MAX_SUBMISSION = 34 * 1024 * 1024  # 32 MiB of parts, their sealing and their slots
MAX_MESSAGE = 256 * 1024  # signed message without slots and parts
MAX_SMALL_BODY = 4 * 1024 * 1024  # policies, key batches, everything else
MAX_UNSIGNED = 256 * 1024  # of a body that is read before it is known who sends it
MAX_HEAD = 32 * 1024  # of a request: its line and its headers
HEAD_WAIT = 20  # until it is whole
MAX_WAIT = 60  # long-poll
INBOX_PAGE = 100
URGENT_AHEAD = 20  # urgent messages told of ahead of their page
AUDIT_PAGE = 1000
MAX_CLAIM = 1000  # devices in one claim
MAX_DRAFTS = 64  # agreements that an office has signed and others have not
MAX_POLICIES = 64  # of an office, side by side; versions of one count once
MAX_DELAY = 7 * 86400  # from sealing to posting
