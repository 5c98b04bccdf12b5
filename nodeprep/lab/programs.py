"""Other people's programs: found, run, and their failure told in their own words."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from nodeprep.errors import LabError

# mkfs and friends live where an ordinary user's PATH does not look.
_SYSTEM_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"
_PATIENCE = 10.0
_TAIL = 15


def search_path() -> str:
    """Return the user's PATH, and the folders of system programs after it."""
    return f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_FOLDERS}"


def find(program: str) -> str | None:
    """Return the program's absolute path, or None where it is not installed."""
    return shutil.which(program, path=search_path())


def as_root() -> tuple[str, ...]:
    """Return the words before a command that has to own files as root does.

    For root there are none. For others it is a user namespace in which they are root and their
    subordinate ids are everybody else: files written there belong to them outside.
    """
    if os.geteuid() == 0:
        return ()
    return ("unshare", "--user", "--map-root-user", "--map-auto", "--")


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """Run a program to its end and return what it wrote, both streams in one.

    Raises LabError with the end of its output if it fails. Interrupted, it and its children
    are asked to stop, so that they can clean up, and are killed 10 seconds later.
    """
    words = [str(word) for word in argv]
    environment = {**os.environ, "PATH": search_path(), "LC_ALL": "C.UTF-8", **(env or {})}
    with subprocess.Popen(
        words,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as child:
        try:
            output, _ = child.communicate()
        except BaseException:
            _stop(child)
            raise
    if child.returncode != 0:
        tail = "\n".join(f"  {line}" for line in output.splitlines()[-_TAIL:])
        raise LabError(f"{words[0]} failed with exit code {child.returncode}:\n{tail}")
    return output


def _stop(child: subprocess.Popen[str]) -> None:
    """End a program and its children: they are a process group of their own."""
    os.killpg(child.pid, signal.SIGTERM)
    try:
        child.wait(timeout=_PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
