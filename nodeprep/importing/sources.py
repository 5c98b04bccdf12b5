"""The files of a foreign inventory, as they stand on the disk; nothing else here reads from it."""

import glob
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nodeprep.errors import UsageError
from nodeprep.inventory.characters import printable
from nodeprep.inventory.foreign import LIMIT

_READ = frozenset({"", ".ini", ".yml", ".yaml", ".json", ".toml"})
VARS_FOLDERS = ("group_vars", "host_vars")
_IGNORED = (
    *(".pyc", ".pyo", ".swp", ".bak", "~", ".rpm", ".md", ".txt", ".rst"),
    *(".orig", ".cfg", ".retry"),
)
"""Endings of files that are no inventory for Ansible (its INVENTORY_IGNORE_EXTS)."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """An inventory's files: the bytes of each by its path in ``folder``, with slashes.

    ``shown`` stands before a path in messages. ``programs`` are executable and say by what;
    ``others`` are files of a folder that by their names are no inventory, and are not read.
    """

    folder: str
    shown: str
    inventories: Mapping[str, bytes]
    beside: Mapping[str, bytes] = field(default_factory=dict)
    programs: frozenset[str] = frozenset()
    others: tuple[str, ...] = ()

    def name(self, path: str) -> str:
        """Return how messages call a file."""
        return printable(f"{self.shown}{path}")


def gathered(path: Path, *, deep: bool) -> Source:
    """Return the inventory at ``path``, and the variables beside it.

    A folder is all its files, with those of its folders where ``deep``. Raises UsageError.
    """
    folder = path if path.is_dir() else path.parent
    every = dict(_files(folder, deep=deep)) if path.is_dir() else {path.name: path}
    found = {
        n: f for n, f in every.items() if len(every) == 1 or f.suffix in _READ or _is_program(f)
    }
    beside = {
        f"{name}/{inner}": file
        for name in VARS_FOLDERS
        if (folder / name).is_dir()
        for inner, file in _inside(folder / name, lambda _: True, ())
    }
    return Source(
        folder=str(folder.absolute()),
        shown="" if folder == Path() else f"{folder}/",
        inventories={name: content(file) for name, file in found.items()},
        beside={name: content(file) for name, file in beside.items()},
        programs=frozenset(name for name, file in found.items() if _is_program(file)),
        others=tuple(name for name in every if name not in found),
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

    return _inside(folder, counts, () if deep else None)


def _inside(
    folder: Path, counts: Callable[[str], bool], around: tuple[Path, ...] | None
) -> Iterator[tuple[str, Path]]:
    """Yield the regular files of a folder by their paths in it, in Ansible's order.

    ``around`` are the folders that it is in, none of which is entered again; None for no folders.
    """
    try:
        names = sorted(each.name for each in folder.iterdir() if counts(each.name))
    except OSError as error:
        raise UsageError(f"cannot read {printable(str(folder))}: {error.strerror}") from error
    for name in names:
        path = folder / name
        if path.is_file():
            yield name, path
        elif around is not None and path.is_dir() and path.resolve() not in around:
            within = (*around, folder.resolve(), path.resolve())
            yield from ((f"{name}/{i}", file) for i, file in _inside(path, counts, within))


def _is_program(path: Path) -> bool:
    executable = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
    return bool(path.stat().st_mode & executable) and content(path, 1).startswith(b"#!")
