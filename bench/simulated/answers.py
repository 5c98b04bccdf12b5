"""The recorded answer of a prepared node, and how a simulated node gives it as its own."""

import re
from pathlib import Path

RECORDED = Path(__file__).parent.parent / "recorded"
"""``verify.txt``, what a node answered; ``desired.yaml``, the inventory's wishes it was ready by."""

PLACEHOLDER = b"NONCE"
"""Stands in a recorded answer for the nonce of whoever asks."""

_MARK = re.compile(rb"@([0-9a-zA-Z]+) begin %s")


def nonce_of(script: bytes) -> bytes | None:
    """Return the nonce that a script frames its answers with; none where it frames nothing."""
    found = _MARK.search(script)
    return found[1] if found else None


def recorded(output: bytes, nonce: bytes) -> bytes:
    """Return an answer with the placeholder for its nonce."""
    return output.replace(b"@" + nonce, b"@" + PLACEHOLDER)


def answer(record: bytes, nonce: bytes) -> bytes:
    """Return a recorded answer to whoever asked with this nonce."""
    return record.replace(b"@" + PLACEHOLDER, b"@" + nonce)


def garbage(nonce: bytes, number: int) -> bytes:
    """Return what no one can read, under the marks of an answer that is torn and doubled."""
    noise = bytes((number + position * 131) % 256 for position in range(4096))
    mark = b"\n@" + nonce
    return noise + mark + b" begin system\n" + noise + mark + b" begin system\n\x1b[2J" + noise
