"""What a file says, and where: plain values, the place of each, and faults that find theirs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from nodeprep.errors import Problem
from nodeprep.inventory.characters import printable

Path = tuple[str | int, ...]
"""Keys and indices from the top of the file, such as ``("nodes", 2, "labels", "role")``."""

Mark = tuple[int, int]
"""Line and column, from 1."""


NO_PASSWORD: Final = (
    "write ask, {file: PATH} or {descriptor: N}: a password itself never stands in an inventory"  # noqa: S105 a message
)
"""All that is said about a value for sudo that cannot be used: it may be a secret."""


class Place(NamedTuple):
    """Where a value stands, and where its key; they are the same for an item of a list."""

    key: Mark
    value: Mark


class Fault(NamedTuple):
    """What is wrong with the value at ``path``, or with its key.

    ``elsewhere`` is the place, in a file which that value names, where it is written.
    """

    path: Path
    message: str
    at_key: bool = False
    elsewhere: tuple[str, Mark] | None = None


class _Refused:
    def __repr__(self) -> str:
        return "<refused>"


REFUSED: Final = _Refused()
"""Stands for a value that was refused while reading; nothing more is to be said about it."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """What a file says in dict, list, str, int and bool values, with the place of each.

    ``problems`` were found while reading; ``refused`` are the paths that they are about.
    """

    file: str
    value: object
    places: Mapping[Path, Place]
    problems: tuple[Problem, ...] = ()
    refused: frozenset[Path] = field(default_factory=frozenset)

    def problem(self, fault: Fault) -> Problem:
        """Return the fault with its place; what is missing stands where its parent does."""
        path = self._known(fault.path)
        if fault.elsewhere:
            file, mark = fault.elsewhere
            return Problem(file, *mark, written(path), fault.message)
        place = self.places[path]
        line, column = place.key if fault.at_key else place.value
        return Problem(self.file, line, column, written(path), fault.message)

    def is_refused(self, path: Path) -> bool:
        """Tell whether ``path``, or something around it, was refused while reading."""
        known = self._known(path)
        return any(known[:length] in self.refused for length in range(len(known) + 1))

    def _known(self, path: Path) -> Path:
        """Return ``path`` without parts that stand in no file, such as a schema's alternatives."""
        found: Path = ()
        for part in path:
            found = (*found, part) if (*found, part) in self.places else found
        return found


def written(path: Path) -> str:
    """Return a path as messages show it: ``nodes[2].labels.role``, ``sysctls[vm.swappiness]``."""
    return "".join(map(_step, path)).removeprefix(".")


def _step(part: str | int) -> str:
    if isinstance(part, str) and part.replace("_", "").replace("-", "").isalnum():
        return f".{printable(part)}"
    return f"[{printable(str(part)[:80])}]"
