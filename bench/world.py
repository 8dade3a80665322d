"""Two offices with an agreement at a real relay, their devices, and messages sealed between them.

Devices are only their keys (no profile folders), so that 500 of them are there in seconds; certificates, key
batches, claims and submissions are the real ones and go over HTTP like everything else.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, cycle, islice
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from liaison.authority import Authority
from liaison.home.founding import found_authority
from liaison.keys import SigningKey, make_key_package
from liaison.portions import PortionContent, PortionKind
from liaison.seal import Reader, seal
from relay.protocol.agreement import Agreement, Party
from relay.protocol.armor import armor
from relay.protocol.canonical import decode, encode
from relay.protocol.envelope import RECEIPT, Receipt, parse_message
from relay.protocol.header import Addressee, AddresseeKind, Core, MessageHandling, Precedence, fresh_message_id
from relay.protocol.httpsig import sign_request
from relay.protocol.identity import CERTIFICATE, Certificate, Kind, parse_statement
from relay.protocol.label import Clearance, label_bytes
from relay.protocol.marking_reader import parse_marking
from relay.protocol.policy import Policy
from relay.protocol.prekey import KEY_BATCH, KeyBatch, parse_key_package
from relay.protocol.spif import read_spif

from . import generator
from .server import Server

CBOR = "application/cbor"
POLICY_FILE = Path(__file__).with_name("policy.xml")
MARKING = "BENCH SEALED RELEASABLE TO FRA, POL"
LEVELS = ("OPEN", "SEALED")
PASSPHRASE = "correct horse battery"
BATCH = 500  # key packages published at once


@dataclass
class Device:
    """A device's keys; what it holds is in memory only."""

    address: str
    signing: SigningKey = field(default_factory=SigningKey.generate)
    request: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    seeds: dict[bytes, bytes] = field(default_factory=dict)  # of its key packages, by reference
    seqs: Iterator[int] = field(default_factory=lambda: count(1))

    @property
    def device_id(self) -> bytes:
        return self.signing.device_id

    def ask(
        self, authority: str, method: str, path: str, body: bytes = b"", seen: int = 0, level: str = "ROUTINE"
    ) -> bytes:
        """A signed request as it goes over the wire. Good once, and for a minute."""
        fields = sign_request(
            self.request, self.device_id.hex(), method, authority, f"http://{authority}{path}",
            body or None, CBOR if body else None, int(time.time()), os.urandom(16),
        )  # fmt: skip
        if body:
            fields["content-type"] = CBOR
        lines = [f"{method} {path} HTTP/1.1", f"host: {authority}", f"content-length: {len(body)}"]
        lines += [
            f"relay-seen: {seen}",
            f"relay-precedence: {level}",
            *(f"{name}: {value}" for name, value in fields.items()),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True)
class Letter:
    """A sealed message, and between whom."""

    sender: Device
    readers: tuple[Device, ...]
    message_id: bytes
    ref: bytes
    body: bytes  # the submission
    receipt: bytes  # the first reader's acknowledgement
    level: str = "ROUTINE"


@dataclass
class World:
    """Devices at a running relay."""

    server: Server
    senders: list[Device]
    readers: list[Device]
    crowd: list[Device]
    auditor: Device
    policy: Policy
    view: tuple[str, int, bytes]  # of the directory log
    authorities: dict[str, Authority]

    def close(self) -> None:
        for authority in self.authorities.values():
            authority.close()

    # -- requests -------------------------------------------------------------------------------------------------

    def post(self, letter: Letter, seen: int = 0) -> bytes:
        return letter.sender.ask(self.server.authority, "POST", "/v1/messages", letter.body, seen, letter.level)

    def open(self, letter: Letter, seen: int = 0) -> bytes:
        path = f"/v1/messages/{letter.message_id.hex()}/open"
        return letter.readers[0].ask(self.server.authority, "POST", path, b"", seen, letter.level)

    def part(self, letter: Letter) -> bytes:
        path = f"/v1/messages/{letter.message_id.hex()}/parts/0"
        return letter.readers[0].ask(self.server.authority, "GET", path)

    def acknowledge(self, letter: Letter, seen: int = 0) -> bytes:
        path = f"/v1/messages/{letter.message_id.hex()}/receipts"
        return letter.readers[0].ask(self.server.authority, "POST", path, letter.receipt, seen)

    # -- letters --------------------------------------------------------------------------------------------------

    def letters(self, number: int, size: int = 4096, precedence: Precedence = Precedence.ROUTINE) -> list[Letter]:
        """To one reader each, sealed to one-time key packages claimed for them."""
        pairs = list(islice(zip(cycle(self.senders), self._turns(), strict=False), number))
        stock = self._claim_for(pairs)
        return [
            self.letter(sender, [(reader, stock[sender.device_id, reader.device_id].pop())], size, precedence)
            for sender, reader in pairs
        ]

    def _turns(self) -> Iterator[Device]:
        """Every reader in turn, each as often for every sender."""
        while True:
            for reader in self.readers:
                yield from (reader for _ in self.senders)

    def _claim_for(self, pairs: Sequence[tuple[Device, Device]]) -> dict[tuple[bytes, bytes], list[bytes]]:
        """One one-time package for each pair, as published and as claimed."""
        wanted = {(sender.device_id, reader.device_id): 0 for sender, reader in pairs}
        for sender, reader in pairs:
            wanted[sender.device_id, reader.device_id] += 1
        needed = {r.device_id: sum(n for (_, to), n in wanted.items() if to == r.device_id) for r in self.readers}
        stock: dict[tuple[bytes, bytes], list[bytes]] = {pair: [] for pair in wanted}
        asked, requests = [], []
        for sender in self.senders:
            for turn in range(max((n for (by, _), n in wanted.items() if by == sender.device_id), default=0)):
                to = [r.device_id for r in self.readers if wanted.get((sender.device_id, r.device_id), 0) > turn]
                asked.append(sender)
                requests.append((sender, to))
        publish_keys(self.server, [(reader, needed[reader.device_id], False) for reader in self.readers])
        units = [(s.ask(self.server.authority, "POST", "/v1/keys/claim", encode(to)),) for s, to in requests]
        # one connection, so that the answers stand in the order of the questions
        _, load = generator.run(units, (200,), self.server.port, 1, keep=True)
        assert load.bodies is not None
        for sender, answer in zip(asked, load.bodies[0], strict=True):
            for device_id, package, _batch in decode(answer, "claimed"):
                stock[sender.device_id, device_id].append(package)
        return stock

    def claim_crowd(self, sender: Device, number: int) -> list[tuple[Device, bytes]]:
        """Last-resort packages of the first `number` of the crowd: good for any number of messages."""
        devices = {each.device_id: each for each in self.crowd[:number]}
        unit = (sender.ask(self.server.authority, "POST", "/v1/keys/claim", encode(list(devices))),)
        _, load = generator.run([unit], (200,), self.server.port, 1, keep=True)
        assert load.bodies is not None
        return [(devices[row[0]], row[1]) for row in decode(load.bodies[0][0], "claimed")]

    def letter(
        self,
        sender: Device,
        claimed: Sequence[tuple[Device, bytes]],
        size: int = 4096,
        precedence: Precedence = Precedence.ROUTINE,
    ) -> Letter:
        """Seal `size` octets of text to these key packages."""
        core, portions, readers, key = self.sealing(sender, claimed, size, precedence)
        submission = seal(core, portions, readers, key)
        first, ref = claimed[0][0], parse_message(submission.message).ref
        stated = Receipt(core.message_id, ref, first.device_id, "acknowledged", core.created)
        return Letter(
            sender, tuple(device for device, _ in claimed), core.message_id, ref, submission.encoded(),
            first.signing.sign_object(RECEIPT, stated.payload()), precedence.name,
        )  # fmt: skip

    def sealing(
        self, sender: Device, claimed: Sequence[tuple[Device, bytes]], size: int, precedence: Precedence
    ) -> tuple[Core, tuple[PortionContent, ...], list[Reader], SigningKey]:
        """What `seal` is called with."""
        now = int(time.time())
        label = label_bytes(parse_marking(self.policy, MARKING, now))
        addressees = sorted({device.address for device, _ in claimed})
        core = Core(
            suite=sender.signing.suite,
            message_id=fresh_message_id(now, os.urandom(12)),
            sender=sender.address,
            sender_device=sender.device_id,
            sender_kid=sender.signing.kid,
            created=now,
            expires=now + 30 * 86400,
            label=label,
            addressees=tuple(Addressee(AddresseeKind.ACTION, address) for address in addressees),
            portions=(),
            seq=next(sender.seqs),
            prev=bytes(32),
            directory=self.view,
            handling=MessageHandling(precedence, min(precedence, Precedence.ROUTINE), now - now % 60),
        )
        portions = (PortionContent(PortionKind.BODY, label, os.urandom(size // 2).hex().encode(), "bench"),)
        readers = [
            Reader(device.device_id, device.signing.kid, parse_key_package(package), (0,))
            for device, package in claimed
        ]
        return core, portions, readers, sender.signing


def build_world(server: Server, *, senders: int = 8, readers: int = 8, crowd: int = 0) -> World:
    """Found the offices at a running relay, agree, enrol, stock the crowd."""
    offices = {"lo-warsaw": "POL", "lo-paris": "FRA"}
    authorities = {office: _found(server, office, nation) for office, nation in offices.items()}
    _agree(authorities)
    warsaw, paris = authorities["lo-warsaw"], authorities["lo-paris"]
    sending = [Device(f"sender-{number}@lo-warsaw") for number in range(senders)]
    reading = [Device(f"reader-{number}@lo-paris") for number in range(readers)]
    many = [Device(f"crowd-{number}@lo-paris") for number in range(crowd)]
    auditor = Device("auditor@lo-paris")
    _enrol(server, warsaw, sending, Kind.OFFICER, "POL")
    _enrol(server, paris, [*reading, *many], Kind.OFFICER, "FRA")
    _enrol(server, paris, [auditor], Kind.AUDITOR, "FRA")
    publish_keys(server, [(device, 0, True) for device in [*reading, *many]])
    warsaw.sync()
    tree = warsaw.trust.tree
    origin = warsaw.trust.verifiers("directory")[0].name
    policy = read_spif(POLICY_FILE.read_bytes())[0]
    return World(server, sending, reading, many, auditor, policy, (origin, tree.size, tree.root()), authorities)


def _found(server: Server, office: str, nation: str) -> Authority:
    folder = server.folder / f"authority-{office}"
    statement = found_authority(folder, office, nation, server.url, server.log_keys(), PASSPHRASE)
    file = server.folder / f"{office}.statement"
    file.write_text(armor(statement, "STATEMENT"))
    server.operate("office", "add", str(file))
    authority = Authority.open(folder, passphrase=PASSPHRASE)
    authority.sync()
    authority.publish_policy(POLICY_FILE.read_bytes())
    return authority


def _agree(authorities: dict[str, Authority]) -> None:
    policy, now = read_spif(POLICY_FILE.read_bytes())[0], int(time.time())
    stated = {office: parse_statement(a.profile.pins.statement) for office, a in sorted(authorities.items())}
    agreement = Agreement(
        title="bench",
        parties=tuple(Party(office, each.nation, each.kid) for office, each in stated.items()),
        policy_name=policy.name,
        policy_oid=policy.oid,
        classifications=LEVELS,
        categories=(),
        communities=(),
        purposes=(),
        onward_release=False,
        not_before=now - 60,
        not_after=now + 300 * 86400,
        nonce=os.urandom(16),
    )
    for authority in authorities.values():
        authority.sync()
        authority.sign_agreement(agreement)


def _enrol(server: Server, authority: Authority, devices: Sequence[Device], kind: Kind, nation: str) -> None:
    policy, now = read_spif(POLICY_FILE.read_bytes())[0], int(time.time())
    label = parse_marking(policy, f"BENCH SEALED RELEASABLE TO {nation}", now)
    clearance = Clearance(policy.name, policy.oid, LEVELS, label.categories, now - 120, now + 300 * 86400)
    key = authority.profile.signing
    officer = Device(f"authority@{authority.office}", key, authority.profile.request)
    units = []
    for device in devices:
        certificate = Certificate(
            device_id=device.device_id, address=device.address, kind=kind, roles=(),
            clearances=() if kind is Kind.AUDITOR else (clearance,),
            scope=(), suite=device.signing.suite.number, signature_public=device.signing.public,
            request_public=device.request.public_key().public_bytes_raw(),
            not_before=now - 60, not_after=now + 200 * 86400, serial=os.urandom(16),
        )  # fmt: skip
        body = encode(["certificate", key.sign_object(CERTIFICATE, certificate.payload()), []])
        units.append((officer.ask(server.authority, "POST", "/v1/directory", body),))
    generator.run(units, (201,), server.port, min(16, len(units)))


def publish_keys(server: Server, wanted: Sequence[tuple[Device, int, bool]]) -> None:
    """Stock devices: (device, one-time packages, whether with a last-resort one)."""
    now, units = int(time.time()), []
    for device, number, with_last_resort in wanted:
        left, last_resort = number, with_last_resort
        while left > 0 or last_resort:
            size, left = min(BATCH, left), left - BATCH
            kinds = [True] * size + [False] * last_resort
            last_resort = False
            made = [
                make_key_package(device.device_id, serial, now, 6 * 86400, one_time=one_time)
                for serial, one_time in enumerate(kinds)
            ]
            device.seeds |= {package.ref: seed for seed, package in made}
            packages = sorted((package for _, package in made), key=lambda package: package.ref)
            batch = KeyBatch(device.device_id, now, tuple(package.ref for package in packages))
            signed = device.signing.sign_object(KEY_BATCH, batch.payload())
            body = encode([signed, [package.encoded() for package in packages]])
            units.append((device.ask(server.authority, "POST", "/v1/keys", body),))
    if units:
        generator.run(units, (200,), server.port, min(8, len(units)))
