"""The nouns of an import: machines, where their settings were written, and what stays behind.

A reader turns a foreign text into :class:`Imported`. A setting is one leaf of our own inventory:
its keys as a tuple, such as ``("ssh", "user")``, and its value.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from nodeprep.inventory.characters import printable
from nodeprep.inventory.folding import fold

Key = tuple[str, ...]
Value = str | int | bool | tuple[str, ...]
Settings = Mapping[Key, Value]

ASK = "ask"
"""The value of ``("sudo",)`` that is written as ``{password: ask}``."""


class Origin(NamedTuple):
    """Where something was written; line 0 stands for the whole file."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


class Remark(NamedTuple):
    """What stays behind, or is not as it was, and what to do about it."""

    message: str
    hint: str = ""


NO_ROOT = Remark(
    "who becomes root there, and how, is not written",
    "add `sudo: passwordless` or `sudo: {password: ask}` to the defaults if you are not root there",
)


@dataclass(frozen=True, kw_only=True)
class Note:
    """Something that could not be carried over as it was, and what to do about it.

    ``nodes`` are those that it is about; notes that say the same of several nodes become one.
    """

    message: str
    hint: str = ""
    nodes: tuple[str, ...] = ()
    origin: Origin | None = None


@dataclass(frozen=True, kw_only=True)
class Machine:
    """One node as the other program reaches it.

    ``groups`` are in the order in which their settings win: of two, the later one.
    """

    name: str
    address: str
    groups: tuple[str, ...] = ()
    settings: Settings = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import found. ``written_in`` tells which groups set which keys in the source."""

    machines: tuple[Machine, ...]
    written_in: Mapping[str, frozenset[Key]] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()


def told(notes: Iterable[Note]) -> Iterator[str]:
    """Yield each note as a line, what is the same of several nodes only once."""
    alike: dict[tuple[object, ...], list[Note]] = {}
    for note in notes:
        where = None if note.nodes else note.origin
        alike.setdefault((note.message, note.hint, where), []).append(note)
    for same in alike.values():
        nodes = fold(name for note in same for name in note.nodes)
        parts = (_places(same), nodes, same[0].message)
        hint = f"; {same[0].hint}" if same[0].hint else ""
        yield printable(": ".join(part for part in parts if part) + hint)


def _places(notes: Iterable[Note]) -> str:
    """Return the first place, and how many others there are."""
    first, *others = dict.fromkeys(str(note.origin or "") for note in notes)
    return f"{first} (and {len(others)} more)" if others else first
