"""The files of a foreign inventory, as they stand on the disk; nothing else here reads from it."""

import glob
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nodeprep.errors import UsageError
from nodeprep.inventory.characters import printable
from nodeprep.inventory.foreign import LIMIT

DEEPEST = 12
"""How many folders may stand in each other."""

VARS_FOLDERS = ("group_vars", "host_vars")
_IGNORED = (
    *(".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst"),
    *(".orig", ".cfg", ".retry"),
)
"""Endings of files that are no inventory for Ansible (its INVENTORY_IGNORE_EXTS)."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """An inventory's files: the bytes of each by its path in ``folder``, with slashes.

    ``shown`` stands before a path in messages. ``programs`` are executable and say by what.
    """

    folder: str
    shown: str
    inventories: Mapping[str, bytes]
    beside: Mapping[str, bytes] = field(default_factory=dict)
    programs: frozenset[str] = frozenset()

    def name(self, path: str) -> str:
        """Return how messages call a file."""
        return printable(f"{self.shown}{path}")


def gathered(path: Path, *, deep: bool) -> Source:
    """Return the inventory at ``path``, and the variables beside it.

    A folder is all its files, with those of its folders where ``deep``. Raises UsageError.
    """
    folder = path if path.is_dir() else path.parent
    found = dict(_files(folder, deep=deep)) if path.is_dir() else {path.name: path}
    beside = {
        f"{name}/{inner}": file
        for name in VARS_FOLDERS
        if (folder / name).is_dir()
        for inner, file in _inside(folder / name, lambda _: True)
    }
    return Source(
        folder=str(folder.absolute()),
        shown="" if folder == Path() else f"{folder}/",
        inventories={name: content(file) for name, file in found.items()},
        beside={name: content(file) for name, file in beside.items()},
        programs=frozenset(name for name, file in found.items() if _is_program(file)),
    )


def included(base: Path) -> Callable[[str], Sequence[tuple[str, bytes]]]:
    """Return what gives the files of an ``Include``; relative paths begin at ``base``."""

    def files(pattern: str) -> Sequence[tuple[str, bytes]]:
        found = sorted(glob.glob(str(base / Path(pattern).expanduser())))  # noqa: PTH207 any path
        return [(name, content(Path(name))) for name in found if Path(name).is_file()]

    return files


def content(path: Path, limit: int = LIMIT) -> bytes:
    """Return the bytes of one file, and one more than ``limit`` of a larger one.

    Raises UsageError where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"cannot read {printable(str(path))}: {error.strerror}") from error


def _files(folder: Path, *, deep: bool) -> Iterator[tuple[str, Path]]:
    def counts(name: str) -> bool:
        return not name.startswith(".") and not name.endswith(_IGNORED) and name not in VARS_FOLDERS

    return _inside(folder, counts, 0 if deep else DEEPEST)


def _inside(
    folder: Path, counts: Callable[[str], bool], depth: int = 0
) -> Iterator[tuple[str, Path]]:
    """Yield the regular files of a folder by their paths in it, in Ansible's order."""
    try:
        names = sorted(each.name for each in folder.iterdir() if counts(each.name))
    except OSError as error:
        raise UsageError(f"cannot read {printable(str(folder))}: {error.strerror}") from error
    for name in names:
        path = folder / name
        if path.is_dir() and depth < DEEPEST:
            yield from ((f"{name}/{i}", file) for i, file in _inside(path, counts, depth + 1))
        elif path.is_file():
            yield name, path


def _is_program(path: Path) -> bool:
    executable = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
    return bool(path.stat().st_mode & executable) and content(path).startswith(b"#!")
