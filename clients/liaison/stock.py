"""The stock of key packages at the relay: refilled and rotated without anybody thinking of it.

One-time keys are used for one message and deleted with its first reading. The last-resort key covers an empty
stock; it lives a week, is replaced after half of that, and its private half is kept while a message of the usual
lifetime that was sealed to it may still wait to be read. An unread one-time key is kept while any message may.
"""

from __future__ import annotations

import time

from relay.protocol.canonical import encode, expect, expect_time, read_array
from relay.protocol.errors import Malformed, Unverified
from relay.protocol.header import MAX_LIFETIME
from relay.protocol.prekey import KEY_BATCH, MAX_STOCK, KeyBatch, KeyPackage

from .home.cabinet import Prekey
from .home.profile import Profile
from .keys import make_key_package
from .transport import Transport
from .trust import relayed
from .watch import remember_signed

TARGET, LOW = 64, 32  # one-time keys at the relay
_STOCKS_A_DAY = 8  # a relay that says at each look that none are left would fill the cabinet and the directory log
_DAY = 86400
_ONE_TIME_LIFE, _LAST_RESORT_LIFE = 60 * _DAY, 7 * _DAY
_POSTED_LATE = 8 * _DAY  # a sealed message may be posted a week after its sealing
_ONE_TIME_GRACE, _LAST_RESORT_GRACE = _POSTED_LATE + MAX_LIFETIME, _POSTED_LATE + 30 * _DAY


def stock(transport: Transport) -> tuple[int, int]:
    """(one-time keys left at the relay, end of the last-resort key there in seconds or 0). Raises Unverified."""
    answer = transport.get("/v1/keys/stock")
    with relayed():
        count, last_resort = read_array(answer, 2, "stock")
        if not 0 <= expect(count, int, "stock: one-time keys") <= MAX_STOCK:
            raise Malformed(f"stock: {count} one-time keys, of at most {MAX_STOCK}")
        return count, expect_time(last_resort, "stock: last-resort key")


def refill(profile: Profile, transport: Transport, *, force: bool = False) -> int:
    """Publish a new batch if the stock is low or the last-resort key is half through; how many were published."""
    now = int(time.time())
    count, last_resort = stock(transport)
    stale = last_resort < now + _LAST_RESORT_LIFE // 2 and _left_today(profile, now, one_time=False) > 0
    wanted = 0
    if count < LOW or force:
        wanted = max(min(TARGET - count, _left_today(profile, now, one_time=True)), 0)
    if not wanted and not stale:
        return 0
    made = [_make(profile, serial, now, one_time=True) for serial in range(wanted)]
    if stale:
        made.append(_make(profile, wanted, now, one_time=False))
    # The private halves are safe before the public halves are out.
    profile.cabinet.add_prekeys([prekey for prekey, _ in made])
    packages = sorted((package for _, package in made), key=lambda package: package.ref)
    batch = KeyBatch(profile.signing.device_id, now, tuple(package.ref for package in packages))
    remember_signed(profile, batch.payload())
    signed = profile.signing.sign_object(KEY_BATCH, batch.payload())
    transport.post("/v1/keys", encode([signed, [package.encoded() for package in packages]]))
    _forget_expired(profile, now)
    return len(made)


def _left_today(profile: Profile, now: int, *, one_time: bool) -> int:
    """How many more keys of this kind may be made, whatever the relay says: what was read with is not counted."""
    life, full = (_ONE_TIME_LIFE, TARGET) if one_time else (_LAST_RESORT_LIFE, 1)
    kept = (each for each in profile.cabinet.prekeys() if each.one_time == one_time)
    return _STOCKS_A_DAY * full - sum(each.not_after > now - _DAY + life for each in kept)


def _make(profile: Profile, serial: int, now: int, *, one_time: bool) -> tuple[Prekey, KeyPackage]:
    lifetime = _ONE_TIME_LIFE if one_time else _LAST_RESORT_LIFE
    seed, package = make_key_package(profile.signing.device_id, serial, now, lifetime, one_time=one_time)
    return Prekey(package.ref, seed, package.not_after, one_time), package


def _forget_expired(profile: Profile, now: int) -> None:
    with profile.cabinet.transaction():  # else another process deletes what was listed here
        for prekey in profile.cabinet.prekeys():
            if prekey.not_after + (_ONE_TIME_GRACE if prekey.one_time else _LAST_RESORT_GRACE) < now:
                profile.cabinet.delete_prekey(prekey.kp_ref)


def check_package(package: KeyPackage, device_id: bytes, now: int) -> None:
    """Raise Unverified if no relay would hand out this package for that device."""
    if package.device_id != device_id or now >= package.not_after:
        raise Unverified("the relay handed out another device's key package, or one that has ended")
