"""The authority's keys among named people: any M of N shares rebuild them, fewer tell nothing.

    sealed = AES-256-GCM(key, [signing seeds, request key, pins], kid)        the same octets in every share
    share  = a vault under that person's own passphrase: sealed, kid, M, and one SLIP-39 share of `key`

What is rebuilt must be the pair of the public keys in the authority's statement, else it is not used. Only the
authority's keys are shared: no message key is in them, and none can be derived from them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from shamir_mnemonic import (  # type: ignore[import-untyped]
    MnemonicError,
    combine_mnemonics,
    generate_mnemonics,
)

from liaison.keys import SigningKey
from relay.protocol.canonical import decode, encode, expect, expect_bytes, expect_texts, read_array
from relay.protocol.errors import Malformed, Refused, Unverified
from relay.protocol.identity import Statement, parse_statement

from .profile import AUTHORITY, Pins, Profile
from .vault import create_vault, open_vault

MAX_SHARES = 16
_NONCE = bytes(12)  # the key is new with every split and seals once


def split_authority(profile: Profile, threshold: int, holders: Sequence[tuple[Path, str]]) -> None:
    """Write one share for each (file, passphrase), or none; `threshold` of them recover the authority.

    Raises Conflict where one of the files is there already.
    """
    if not 2 <= threshold <= len(holders) <= MAX_SHARES:
        raise Refused(
            f"{threshold} of {len(holders)} is no quorum",
            rules=("quorum",),
            hint=f"at least 2, at most {MAX_SHARES} people",
        )
    key, kid = os.urandom(32), profile.statement.kid
    secret = encode([profile.signing.seeds, profile.request.private_bytes_raw(), profile.pins.encoded()])
    sealed = AESGCM(key).encrypt(_NONCE, secret, kid)
    (shares,) = generate_mnemonics(1, [(threshold, len(holders))], key)
    made = list[Path]()
    try:
        for (path, passphrase), share in zip(holders, shares, strict=True):
            secrets = {"kid": kid, "sealed": sealed, "share": share.encode(), "threshold": encode(threshold)}
            create_vault(path, passphrase, secrets)
            made.append(path)
    except BaseException:
        for path in made:  # a share of a splitting that there is not
            path.unlink()
        raise


@dataclass(frozen=True, slots=True, repr=False)
class Recovered:
    """An authority rebuilt from shares, held against its statement."""

    pins: Pins
    statement: Statement
    signing: SigningKey
    request: Ed25519PrivateKey


def combine_shares(holders: Sequence[tuple[Path, str]]) -> Recovered:
    """Rebuild from (file, passphrase) of enough people; writes nothing.

    Raises Unauthenticated (a passphrase), Refused (too few), Unverified (mixed, or not what the statement says).
    """
    opened = _open_shares(holders)
    # Exactly as many as it takes; the others were opened, and are of the same splitting.
    return opened.rebuilt(sorted(set(opened.shares))[: opened.needed])


def drill_shares(holders: Sequence[tuple[Path, str]]) -> Recovered:
    """The same, and with every one of these shares: raises Unverified with the names of those that recover nothing."""
    opened = _open_shares(holders)
    for number, share in enumerate(opened.shares):
        if (earlier := opened.shares.index(share)) < number:
            raise Unverified(f"{holders[number][0]} is the same share as {holders[earlier][0]}")
    good = next(filter(opened.recovers, combinations(opened.shares, opened.needed)), None)
    if good is None:
        raise Unverified("no choice of these shares makes the authority's keys: some of them were altered")
    others = [each for each in zip(holders, opened.shares, strict=True) if each[1] not in good]
    if useless := [str(path) for (path, _), share in others if not opened.recovers((share, *good[1:]))]:
        raise Unverified(f"nothing is recovered with {', '.join(useless)}: altered, where the other shares are good")
    return opened.rebuilt(good)


@dataclass(frozen=True, slots=True, repr=False)
class _Opened:
    """Shares of one splitting, in the order of their holders."""

    shares: list[str]
    needed: int
    sealed: bytes
    kid: bytes

    def rebuilt(self, shares: Sequence[str]) -> Recovered:
        try:
            secret = AESGCM(combine_mnemonics(shares)).decrypt(_NONCE, self.sealed, self.kid)
        except (MnemonicError, InvalidTag) as problem:
            raise Unverified("these shares do not make the authority's keys: one of them was altered") from problem
        return _held_against_its_statement(secret)

    def recovers(self, shares: Sequence[str]) -> bool:
        try:
            self.rebuilt(shares)
        except Unverified:
            return False
        return True


def _open_shares(holders: Sequence[tuple[Path, str]]) -> _Opened:
    opened = [open_vault(path, passphrase).secrets for path, passphrase in holders]
    for secrets in opened:
        if secrets.keys() != {"kid", "sealed", "share", "threshold"}:
            raise Malformed("a file that is no share of an authority's keys")
    for (path, _passphrase), secrets in zip(holders, opened, strict=True):
        if any(secrets[each] != opened[0][each] for each in ("kid", "sealed", "threshold")):
            raise Unverified(f"{path} is a share of another authority, or of another splitting than {holders[0][0]}")
    shares = [secrets["share"].decode("ascii", "replace") for secrets in opened]
    needed = int(expect(decode(opened[0]["threshold"], "share: threshold"), int, "share: threshold"))
    if not 2 <= needed <= MAX_SHARES:
        raise Malformed(f"share: a threshold of {needed}, which is none from 2 to {MAX_SHARES}")
    if len(set(shares)) < needed:
        raise Refused(f"{len(set(shares))} different shares; it takes {needed}", rules=("quorum",))
    return _Opened(shares, needed, opened[0]["sealed"], opened[0]["kid"])


def _held_against_its_statement(secret: bytes) -> Recovered:
    seeds, request_key, listed = read_array(secret, 3, "shared authority")
    kind, address, relay_url, signed, relay_keys = read_array(expect(listed, bytes, "pins"), 5, "pins")
    pins = Pins(kind, address, relay_url, signed, expect_texts(relay_keys, "pins: relay keys"))
    statement = parse_statement(pins.statement)
    signing = SigningKey.from_seeds(expect_bytes(seeds, 64, "signing key"))
    request = Ed25519PrivateKey.from_private_bytes(expect_bytes(request_key, 32, "request key"))
    own = (signing.public, request.public_key().public_bytes_raw())
    if own != (statement.authority_public, statement.request_public) or kind != AUTHORITY:
        raise Unverified("what was rebuilt is not the pair of the keys in the authority's statement")
    return Recovered(pins, statement, signing, request)
