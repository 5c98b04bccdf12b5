"""Things that are built once: whole or absent, and never by two at a time."""

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nodeprep.lab.programs import as_root, run


def digest(*ingredients: str | bytes) -> str:
    """Return 16 hex digits that change when any of the ingredients does."""
    total = hashlib.sha256()
    for item in ingredients:
        data = item.encode() if isinstance(item, str) else item
        total.update(f"{len(data)}:".encode() + data)
    return total.hexdigest()[:16]


def cached(folder: Path, build: Callable[[Path], None]) -> Path:
    """Return the folder, built by ``build(temporary folder)`` if it is not there yet.

    It gets its name only when it is complete, so a build that was killed leaves nothing that
    looks like a result. Whoever comes second waits for the first and takes what it made.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / f".{folder.name}.lock"):
        if not folder.exists():
            _build(folder, build)
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file's lock; the kernel lets go of it even if we are killed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    prefix = f".{folder.name}.tmp-"
    for leftover in folder.parent.glob(f"{prefix}*"):
        _remove(leftover)
    temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
    try:
        build(temporary)
        temporary.rename(folder)
    except BaseException:
        _remove(temporary)
        raise


def _remove(folder: Path) -> None:
    """Remove a folder in which files may belong to subordinate users."""
    run([*as_root(), "rm", "-rf", "--one-file-system", folder])
