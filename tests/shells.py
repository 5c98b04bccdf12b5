"""Every shell that a node may have, and a machine of one folder in which our scripts run for real.

A script has three kinds of paths: those that an inventory names, which tests put into the folder;
``files.WORK`` and ``files.STATE``, which are moved there; and read-only ones.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from nodeprep import files
from nodeprep.shell import Script

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
SHELLS: Mapping[str, tuple[str, ...]] = {
    "dash": ("dash",),
    "bash": ("bash", "--posix"),
    "busybox": ("busybox", "sh"),
}
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files to root")


def command(shell: str) -> tuple[str, ...]:
    """Return the words that start a shell by its name here; skips where it is not installed."""
    program, *words = SHELLS[shell]
    where = shutil.which(program)
    if where is None:
        pytest.skip(f"{program} is not installed")
    return where, *words


def output(shell: str, script: Script, path: str = PATH) -> bytes:
    """Return what ``script`` prints, sent to a shell as the transport does it."""
    done = subprocess.run(
        (*command(shell), "-s"),
        input=script.reveal().encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={"PATH": path, "LC_ALL": "C", "HOME": "/root"},
        check=False,
        timeout=60,
    )
    return done.stdout


def in_root(shell: str, script: str, root: Path, path: str = PATH) -> str:
    """Return what ``script`` prints where each file of the system is one in ``root``."""
    system = r"(?<![\w$}/*])/(etc|usr|lib|run|var|proc|sys)/"
    moved = re.sub(system, rf"{root}/\1/", script)
    return output(shell, Script(moved), path).decode().replace(str(root), "")


def complaints(script: str, *options: str) -> str:
    """Return what shellcheck has to say of a script; it comes with what the tests depend on."""
    program = Path(sys.executable).parent / "shellcheck"
    done = subprocess.run(
        (str(program), "--shell=sh", *options, "-"),
        input=script,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.stdout


def programs(folder: Path, names: Sequence[str]) -> str:
    """Return a PATH on which there are just these programs."""
    folder.mkdir()
    for name in names:
        where = shutil.which(name, path=PATH)
        if where is None:
            pytest.skip(f"{name} is not installed")
        (folder / name).symlink_to(where)
    return str(folder)


def stand_ins(folder: Path, says: Mapping[str, str]) -> str:
    """Return a PATH on which these programs print what they are given, and all others are real."""
    place = folder / "stand-ins"
    place.mkdir()
    for name, text in says.items():
        (place / name).write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
        (place / name).chmod(0o755)
    return f"{place}:{PATH}"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A node of one folder: ``work`` and ``state`` stand for nodeprep's own folders on a node."""

    folder: Path
    shell: str = "dash"
    path: str = PATH

    @property
    def work(self) -> Path:
        """The folder of the lock."""
        return self.folder / "work"

    @property
    def state(self) -> Path:
        """The folder of the log, the record, and the previous files."""
        return self.folder / "state"

    def at_home(self, script: Script) -> Script:
        """Return ``script`` with nodeprep's own folders moved here."""
        moved = script.reveal().replace(files.WORK, str(self.work))
        return Script(moved.replace(files.STATE, str(self.state)))

    def run(self, script: Script) -> bytes:
        """Return what ``script`` prints on this machine."""
        return output(self.shell, self.at_home(script), self.path)

    def start(self, script: Script) -> subprocess.Popen[bytes]:
        """Begin to run ``script``, in a process group of its own."""
        process = subprocess.Popen(
            (*command(self.shell), "-s"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": self.path, "LC_ALL": "C", "HOME": "/root"},
            start_new_session=True,
        )
        assert process.stdin
        process.stdin.write(self.at_home(script).reveal().encode())
        process.stdin.close()
        process.stdin = None
        return process
