"""The recorded answer of a prepared node, and how each simulated node gives it as its own."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.simulated import fleet
from nodeprep import files, frames

RECORDED = Path(__file__).parent.parent / "recorded"
"""``verify.txt``, what a node answered; ``desired.yaml``, the wishes by which it was ready."""

NONCE = "NONCE"
"""Stands in a recorded answer for the nonce of whoever asks."""

NAME = fleet.name(0).encode()
"""What the recorded node was called: as long as every other name, and nobody else's."""

_MARK = re.compile(rb"@([0-9a-zA-Z]+) begin %s")


def nonce_of(script: bytes) -> bytes | None:
    """Return the nonce that a script frames its answers with; none where it frames nothing."""
    found = _MARK.search(script)
    return found[1] if found else None


def recorded(output: bytes, nonce: str) -> bytes:
    """Return an answer with the placeholder for its nonce."""
    return output.replace(b"@" + nonce.encode(), b"@" + NONCE.encode())


@dataclass(frozen=True, kw_only=True)
class Record:
    """A recorded answer, and the content of those of the node's files that have its name."""

    text: bytes
    personal: tuple[bytes, ...]

    @classmethod
    def of(cls, text: bytes) -> Self:
        """Read a recorded answer. Raises FactError where it is none."""
        states = files.parse(frames.parse(text, NONCE), ())
        return cls(
            text=text,
            personal=tuple(
                state.content
                for state in states.values()
                if state.content and NAME in state.content
            ),
        )

    def answer(self, nonce: bytes, name: str) -> bytes:
        """Return what the node of this name answers to whoever asked with this nonce."""
        text = self.text.replace(b"@" + NONCE.encode(), b"@" + nonce)
        for content in self.personal:
            mine = content.replace(NAME, name.encode())
            text = text.replace(content, mine).replace(_digest(content), _digest(mine))
        return text


def garbage(nonce: bytes, number: int) -> bytes:
    """Return what no one can read, under the marks of an answer that is torn and doubled."""
    noise = bytes((number + position * 131) % 256 for position in range(4096))
    mark = b"\n@" + nonce
    return noise + mark + b" begin system\n" + noise + mark + b" begin system\n\x1b[2J" + noise


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
