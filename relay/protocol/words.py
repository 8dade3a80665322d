"""Keys as words to read aloud: proquints (D. Wilkerson, arXiv:0901.4016), the same in every language.

Eight words carry 128 bits of SHA-256. Two sides who read the same words hold the same keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

_CONSONANTS, _VOWELS = "bdfghjklmnprstvz", "aiou"
_WORDS = 8


def words_for(keys: Iterable[bytes | str]) -> str:
    """Words for a set of keys, whatever their order: key thumbprints, or verifier keys as text."""
    encoded = sorted(key.encode() if isinstance(key, str) else key for key in keys)
    digest = hashlib.sha256(b"".join(hashlib.sha256(key).digest() for key in encoded)).digest()
    return "-".join(_word(int.from_bytes(digest[start : start + 2], "big")) for start in range(0, 2 * _WORDS, 2))


def are_words(said: str, keys: Iterable[bytes | str]) -> bool:
    """Whether a person has said the words for a set of keys, in any case, with any spaces or hyphens between them."""
    return "".join(said.lower().replace("-", " ").split()) == words_for(keys).replace("-", "")


def _word(bits: int) -> str:
    return (
        _CONSONANTS[bits >> 12]
        + _VOWELS[bits >> 10 & 3]
        + _CONSONANTS[bits >> 6 & 15]
        + _VOWELS[bits >> 4 & 3]
        + _CONSONANTS[bits & 15]
    )
