"""Text and names that strangers wrote, made fit for a terminal and for a folder.

The rules:
  - what moves a cursor, sets colour, title or clipboard, or turns the reading direction, is shown, not sent;
  - everything in these functions is for the eye: the escaped form is never parsed back;
  - an attachment's name is a suggestion about one file in one folder, never a path.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection

# Cc: controls, among them ESC, CR and C1. Cf: bidirectional overrides and isolates ("Trojan Source",
# CVE-2021-42574), invisible tags. Cs: surrogates, which no terminal takes. Zl, Zp: line breaks that code
# counting lines does not see.
_SHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Format characters that carry meaning in ordinary writing: the joiners of Persian, Indic scripts and emoji,
# and the Arabic and Syriac signs that have a shape of their own (Prepended_Concatenation_Mark).
_WRITING = frozenset("\u200c\u200d\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u08e2")
_FILE_NAME_CHARACTERS = 1000  # of which more than enough are left
_FILE_NAME_OCTETS = 200  # of the 255 that file systems allow: room for a number and for a temporary suffix


def for_terminal(text: str) -> str:
    """Newline and tab stay, CR LF becomes newline, every other control its escape."""
    return "".join(map(_visible, text.replace("\r\n", "\n")))


def for_one_line(text: str) -> str:
    """As `for_terminal`, newline and tab escaped too: a subject cannot pretend to be the next line."""
    return for_terminal(text).replace("\n", "\\n").replace("\t", "\\t")


def _visible(character: str) -> str:
    if character in "\n\t" or character in _WRITING or unicodedata.category(character) not in _SHOWN:
        return character
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def safe_file_name(name: str) -> str:
    """A name for one file in the folder that the user chose; "attachment" if nothing of `name` can stay.

    No separators, controls or hidden characters, no leading dot or dash, no trailing dot or space, not over
    200 octets of UTF-8, the extension kept.
    """
    stem, dot, extension = _split(name)
    short = stem[:_FILE_NAME_CHARACTERS] + dot + extension  # to normalise takes the square of a row of accents
    kept = "".join("_" if _is_unfit(character) else character for character in unicodedata.normalize("NFC", short))
    kept = kept.lstrip(".-_ ").rstrip(". ")
    return _shortened(kept, _FILE_NAME_OCTETS) or "attachment"


def distinct_file_name(name: str, taken: Collection[str]) -> str:
    """`name` made safe and, where it is taken, numbered: "report-2.pdf". Case does not tell names apart."""
    safe = safe_file_name(name)
    folded = {other.casefold() for other in taken}
    stem, dot, extension = _split(safe)
    candidate, number = safe, 1
    while candidate.casefold() in folded:
        number += 1
        candidate = f"{stem}-{number}{dot}{extension}"
    return candidate


def _is_unfit(character: str) -> bool:
    return character in '/\\<>:"|?*' or not (character.isprintable() or character in _WRITING)


def _split(name: str) -> tuple[str, str, str]:
    stem, dot, extension = name.rpartition(".")
    return (stem, dot, extension) if stem and len(extension) <= 16 else (name, "", "")


def _shortened(name: str, octets: int) -> str:
    stem, dot, extension = _split(name)
    room = octets - len((dot + extension).encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip(". ") + dot + extension
