"""Which characters may stand in an inventory, and how any text is shown without harm.

A character that a terminal obeys, or that a reader cannot see, has no place in the name of a
machine. It is refused wherever it stands, comments included, and is only ever shown escaped.
"""

import re
import unicodedata

SHOWN = 60
"""Longest piece of a user's text that a message repeats, in characters."""

_BYTES = range(0xDC80, 0xDD00)
"""How Python carries a byte that is not UTF-8: as a lone surrogate."""

_NAMES = {"\n": "a line break", "\t": "a tab", "\0": "a NUL", "\r": "a lone carriage return"}


def printable(text: str) -> str:
    """Return ``text`` with everything escaped that does not print as itself."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(text: str) -> str:
    """Return ``text`` in backticks for a message: printable, on one line, and never long."""
    return f"`{printable(text[:SHOWN])}{'...' if len(text) > SHOWN else ''}`"


def described(character: str) -> str:
    """Return what a character is called, such as ``U+202E RIGHT-TO-LEFT OVERRIDE``."""
    code = ord(character)
    if code in _BYTES:
        return f"the byte 0x{code & 0xFF:02x}, which is not UTF-8,"
    name = _NAMES.get(character) or unicodedata.name(character, "a control character")
    return f"U+{code:04X} {name}"


def unprintable(text: str) -> re.Pattern[str] | None:
    """Return a pattern that finds each character of a whole file that may not stand in it.

    Line ends and tabs may, and so may wide spaces, which are common in comments.
    """
    bad = "".join(re.escape(c) for c in sorted(set(text)) if not _fits_a_file(c))
    lone_return = r"\r(?!\n)" if "\r" in text else ""
    choices = [choice for choice in (f"[{bad}]" if bad else "", lone_return) if choice]
    return re.compile("|".join(choices)) if choices else None


def fault_of(text: str) -> str:
    """Return what is wrong with the characters of one string, or an empty text."""
    if not text.isprintable():
        bad = next(c for c in text if not c.isprintable())
        return f"{shown(text)} has {described(bad)} in it: only printable text may stand here"
    if not unicodedata.is_normalized("NFC", text):
        return f"{_as_codes(text)} is not in Unicode normal form NFC: type its accents anew"
    return ""


def _fits_a_file(character: str) -> bool:
    return (
        character.isprintable() or character in "\t\n\r" or unicodedata.category(character) == "Zs"
    )


def _as_codes(text: str) -> str:
    return f"`{text[:SHOWN].encode('ascii', 'backslashreplace').decode()}`"
