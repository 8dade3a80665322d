"""One officer's, or one partner system's, way to the relay: send, list, open, acknowledge, explain.

    with Client.open(passphrase="...") as client:
        sent = client.send(["anna.nowak@lo-warsaw"], label="NATO SECRET", subject="Sitrep", body="All quiet.")
        for item in client.inbox():
            message = client.read(item.message_id)
            client.acknowledge(item.message_id)

`Client` joins the rooms beside it: `release` decides, `seal` seals, `trust` verifies, `transport` carries.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Self, Unpack

from relay.protocol.access import Judge
from relay.protocol.directory import Device
from relay.protocol.envelope import Submission, parse_message
from relay.protocol.errors import Malformed, Refused, Unauthenticated, Unknown, Unverified
from relay.protocol.header import Core, Precedence
from relay.protocol.label import Label

from . import witnessing
from .alarming import report
from .composing import DEFAULT_LIFETIME, NOTHING, Attachment, Enclosed, Handling, addressed, composed, handled
from .documents import Documents
from .home.profile import DEVICE, Profile, home_folder, open_profile
from .inbox import InboxItem, item_of, waiting
from .incoming import Incoming, Opened
from .labels import LabelReader
from .meter import Meter, no_meter
from .outgoing import Keep, Outgoing, Refusals, Tell
from .plan import Draft, Plan, plan_of
from .record import HANDLED, IN, OPEN, OUT, SENT, Record, all_kept, change, keep, kept
from .sealed import SealedFile
from .stock import refill
from .transport import HttpTransport, Transport
from .trust import Trust
from .waiting import Sent
from .watch import Watch


class Client:
    """An open profile with its relay. Not for several threads at once."""

    def __init__(self, profile: Profile, transport: Transport) -> None:
        self.meter: Meter = no_meter
        self.tell: Tell = lambda _line: None  # of messages that waited, and of what is left out
        self.given_up: list[bytes] = []  # messages that waited and will not be posted again
        self.profile = profile
        self.transport = transport
        self.trust = Trust(profile.cabinet, profile.statement.kid, profile.pins.relay_keys, watch=Watch(profile).look)
        self.documents = Documents(profile.folder / "documents", transport)
        self.labels = LabelReader(self.documents, self.trust, profile.statement.office)
        self._seen: dict[bytes, Core] = {}  # verified headers in the inbox: an opening takes its turn

    @classmethod
    def open(cls, folder: Path | None = None, *, passphrase: str) -> Self:
        """Unlock the profile in `folder` (default: LIAISON_HOME). Raises Unauthenticated."""
        profile = open_profile(folder or home_folder(), passphrase)
        return cls(profile, HttpTransport(profile.pins.relay_url, profile.keyid, profile.request))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.transport.close()
        self.profile.close()

    def sync(self, *, but: bytes = b"") -> Device:
        """Bring the directory up to date, refill keys, post what waits save message `but`.

        The own device, or Unauthenticated.
        """
        witnessing.sync(self.trust, self.transport)
        own = self.trust.directory.device(self.profile.signing.device_id, int(time.time()))
        if own is None or not self.trust.is_trusted(own):
            raise Unauthenticated(
                f"{self.profile.pins.address} is not enrolled, or no longer",
                hint="ask your security officer: liaison authority enrol FILE.request",
            )
        report(self.profile, self.trust, self.transport)
        if self.profile.pins.kind == DEVICE and own.kind in {"officer", "system"}:
            refill(self.profile, self.transport)
            self.given_up += self.outgoing().post_waiting(self.tell, but)
        return own

    @property
    def judge(self) -> Judge:
        """The endpoint's own view: its verified directory, the policies published there."""
        return Judge(self.trust.directory, self.documents.read)

    # -- sending --------------------------------------------------------------------------------------------------

    def plan(  # noqa: PLR0913 - what a message is, by name
        self,
        to: Sequence[str],
        *,
        label: str | Label,
        body: str,
        subject: str = "",
        info: Sequence[str] = (),
        exempt: Sequence[str] = (),
        attachments: Iterable[Attachment | Path] = (),
        expires_in: int = DEFAULT_LIFETIME,
        enclosed: Enclosed = NOTHING,
        **handling: Unpack[Handling],
    ) -> Plan:
        """Draft a message and ask the rules about every addressee and portion. Nothing leaves this machine.

        `expires_in` is in seconds. `supersedes` and `enclosed` are for the desks, which know what they mean.
        """
        self.sync()
        now = int(time.time())
        banner = self.labels.read(label) if isinstance(label, str) else label
        portions = composed(self.labels, banner, subject, body, attachments, enclosed)
        draft = Draft(
            addressed(to, info, exempt), banner, portions, now + expires_in, handled(**handling),
            passed_on=enclosed.originals, consents=enclosed.consents,
        )  # fmt: skip
        return plan_of(draft, self.profile, self.trust, self.judge, now)

    def release(self, plan: Plan) -> Sent:
        """Seal and post a plan. Raises Refused if the rules leave nobody to send to, or ask for a second officer;
        Waiting if it is sealed and the relay cannot take it yet: it goes with the next `sync`, and is not sent again.
        """
        return self.outgoing().release(plan, int(time.time()), self.keeper(plan))

    def keeper(self, plan: Plan, state: str = SENT) -> Keep:
        """Writes the sender's own copy of a plan once it is sealed."""

        def keep_sealed(sealed: Submission, refused: Refusals, apart: Mapping[int, SealedFile]) -> None:
            portions = dict(enumerate(plan.draft.portions))
            portions |= {index: replace(portions[index], apart=file) for index, file in apart.items()}
            record = Record(
                OUT, state, sealed.message, portions, one_time=True, receipt_sent=True, refused=tuple(refused)
            )
            keep(self.profile.cabinet, parse_message(sealed.message).core.message_id, record)

        return keep_sealed

    def send(self, to: Sequence[str], **draft: object) -> Sent:
        """`plan` and `release` at once; the answer names who was refused. Arguments as for `plan`."""
        return self.release(self.plan(to, **draft))  # type: ignore[arg-type]  # plan checks them

    # -- reading --------------------------------------------------------------------------------------------------

    def inbox(self, *, wait: float = 0) -> list[InboxItem]:
        """What can be read: opened before, or waiting at the relay. Newest last; `wait` seconds for new mail."""
        self.sync()
        records = dict(self.records())
        opened = {message_id: record for message_id, record in records.items() if record.direction == IN}
        self._send_due_receipts(opened)
        incoming = self._incoming()
        found = {
            message_id: item_of(incoming, self.labels, record.message, record.state)
            for message_id, record in opened.items()
        }
        for item in waiting(incoming, self.labels, wait, records):
            found.setdefault(item.message_id, item)
            if not item.problem:
                self._seen[item.message_id] = item.message.core
        return sorted(found.values(), key=lambda item: (item.message.core.created, item.message_id))

    def find(self, prefix: str) -> bytes:
        """The message id that begins with these hexadecimal digits. Raises Unknown, Malformed."""
        if not prefix or any(digit not in "0123456789abcdef" for digit in prefix.lower()):
            raise Malformed(
                f"{prefix!r:.40} is not a message id",
                hint="copy it, or its beginning, from: liaison inbox or liaison track",
            )
        if len(prefix) == 32:
            return bytes.fromhex(prefix)
        cabinet = self.profile.cabinet
        known = {message_id for message_id, _ in (*cabinet.messages(), *cabinet.outbox())}
        matching = [message_id for message_id in known if message_id.hex().startswith(prefix.lower())]
        if not any(map(cabinet.waits, matching)):  # to ask the relay would post it: whoever names it may want it back
            known |= {item.message_id for item in self.inbox()}
            matching = [message_id for message_id in known if message_id.hex().startswith(prefix.lower())]
        if len(matching) != 1:
            raise Unknown(
                f"{len(matching)} messages begin with {prefix}",
                hint="give more digits" if matching else "see: liaison inbox or liaison track",
            )
        return matching[0]

    def read(self, message_id: bytes) -> Record:
        """A message in the clear: kept, or opened now with every check. Raises Unknown, Unverified, Refused."""
        cabinet = self.profile.cabinet
        if (record := kept(cabinet, message_id)) is not None:
            self.trust.load()  # offline too, its labels have markings
            return record
        self.sync()
        incoming, header = self._incoming(), self._seen.get(message_id)
        precedence = incoming.precedence_for(header) if header is not None else Precedence.ROUTINE
        own: list[Record] = []

        def store(opened: Opened) -> None:
            own.append(_opened(opened))
            keep(cabinet, message_id, own[0])

        try:
            incoming.open(message_id, int(time.time()), store, precedence)
        except Unverified:
            if own or (record := kept(cabinet, message_id)) is None:
                raise
            return record  # another process of this profile was faster: it was opened once, and is no replay
        change(cabinet, message_id, receipt_sent=True)
        record = kept(cabinet, message_id)
        assert record is not None  # noqa: S101 - `open` stored it in the same transaction that deleted its key
        return record

    def precedence_of(self, record: Record) -> Precedence:
        """The precedence that a message has for this reader; for its sender, that for action."""
        core = record.message.core
        return self._incoming().precedence_for(core) if record.direction == IN else core.handling.precedence

    def acknowledge(self, message_id: bytes) -> int:
        """Tell the originator, signed, that a person has taken the message in; the time of the log entry in ms."""
        record = self.read(message_id)
        if record.direction != IN:
            raise Refused("you sent this message yourself", rules=("acknowledge",))
        self.sync()
        entry = self._incoming().send_receipt(record.message, "acknowledged", int(time.time()))
        change(self.profile.cabinet, message_id, state=HANDLED)
        return entry.time

    def records(self) -> Iterator[tuple[bytes, Record]]:
        """Everything sent and opened, large contents left out."""
        return all_kept(self.profile.cabinet)

    def _send_due_receipts(self, opened: dict[bytes, Record]) -> None:
        """What an earlier run stored, but could not tell the relay of."""
        for message_id, record in opened.items():
            if not record.receipt_sent:
                with suppress(Unknown):  # the relay no longer holds the message; there is nobody to tell
                    self._incoming().send_receipt(record.message, "opened", int(time.time()))
                change(self.profile.cabinet, message_id, receipt_sent=True)

    def outgoing(self) -> Outgoing:
        return Outgoing(self.profile, self.trust, self.judge, self.transport, self.meter)

    def _incoming(self) -> Incoming:
        return Incoming(self.profile, self.trust, self.judge, self.transport, self.meter)


def _opened(opened: Opened) -> Record:
    kept_as = (IN, OPEN, opened.message.encoded, opened.portions, opened.one_time)
    return Record(*kept_as, receipt_sent=False, released_by=opened.released_by, slot=opened.slot)
