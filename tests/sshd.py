"""A real sshd on this machine, with keys, a configuration and a log of its own.

Nothing of the machine is changed: it listens on 127.0.0.1, runs in the foreground as a child of
the test, and is ended by its process id.
"""

import contextlib
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nodeprep.model import Node, Ssh

PROGRAM = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
NEEDS_SSHD = pytest.mark.skipif(
    PROGRAM is None or shutil.which("ssh-keygen") is None, reason="there is no sshd here"
)


def key(folder: Path, name: str, kind: str = "ed25519") -> Path:
    """Make a key pair and return the path of its private half."""
    path = folder / name
    subprocess.run(("ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", path), check=True)
    return path


def public(private: Path) -> str:
    """Return the public half of a key as ``TYPE BASE64``."""
    return " ".join(private.with_suffix(".pub").read_text().split()[:2])


@dataclass(frozen=True, kw_only=True)
class Sshd:
    """A running sshd."""

    port: int
    folder: Path
    host_key: Path
    user_key: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        """Everything it has logged."""
        return (self.folder / "log").read_text(errors="backslashreplace")

    @property
    def logins(self) -> list[str]:
        """Log lines of every attempt to log in."""
        tried = re.compile("accepted|failed|postponed|authenticating|invalid user", re.IGNORECASE)
        return [line for line in self.log.splitlines() if tried.search(line)]

    def counted(self, words: str) -> int:
        """Return how many log lines begin with these words."""
        return sum(line.startswith(words) for line in self.log.splitlines())

    @property
    def line(self) -> str:
        """Its line for a file of known hosts."""
        return f"[127.0.0.1]:{self.port} {public(self.host_key)}\n"

    def node(self, known_hosts: Path, **ssh: Any) -> Node:
        """Return the node that this sshd makes of this machine."""
        settings = {
            "user": getpass.getuser(),
            "port": self.port,
            "identity_file": str(self.user_key),
            "known_hosts": (str(known_hosts),),
            **ssh,
        }
        return Node(name="node1", address="127.0.0.1", ssh=Ssh(**settings))

    @property
    def sessions(self) -> list[int]:
        """The processes that serve those who are connected now."""
        return [pid for pid in _family(self.process.pid) if pid != self.process.pid]

    def cut_off(self) -> None:
        """End all sessions, as when the way to this machine is lost for a moment."""
        _send(signal.SIGKILL, self.sessions)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop it and all its sessions, as a machine that hangs, and let them go on at the end."""
        stopped = _family(self.process.pid)
        _send(signal.SIGSTOP, stopped)
        try:
            yield
        finally:
            _send(signal.SIGCONT, stopped)


def _send(which: signal.Signals, processes: Sequence[int]) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):  # a session that has ended meanwhile
            os.kill(pid, which)


def _family(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid, *(each for child in children for each in _family(int(child)))]


@contextlib.contextmanager
def running(
    folder: Path,
    *settings: str,
    host_keys: Sequence[Path] = (),
    user_key: Path | None = None,
    port: int = 0,
    wrapper: Sequence[str] = (),
) -> Iterator[Sshd]:
    """Run an sshd with these further lines of configuration; the first host key is its own."""
    assert PROGRAM
    folder.mkdir(parents=True, exist_ok=True)
    # sshd wants this folder of every system, and ours may never have started one.
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    keys = tuple(host_keys) or (key(folder, "host_key"),)
    mine = user_key or key(folder, "user_key")
    port = port or _free_port()
    (folder / "authorized_keys").write_text(public(mine) + "\n")
    (folder / "config").write_text(_config(folder, port, keys, settings))
    with (folder / "log").open("a") as log:
        process = subprocess.Popen(
            (*wrapper, PROGRAM, "-D", "-e", "-f", folder / "config"), stderr=log
        )
    with process:
        sshd = Sshd(port=port, folder=folder, host_key=keys[0], user_key=mine, process=process)
        try:
            _await(sshd)
            yield sshd
        finally:
            process.terminate()


def _config(folder: Path, port: int, keys: Sequence[Path], settings: Sequence[str]) -> str:
    lines = (
        *settings,
        f"Port {port}",
        "ListenAddress 127.0.0.1",
        *(f"HostKey {path}" for path in keys),
        f"AuthorizedKeysFile {folder}/authorized_keys",
        "PidFile none",
        f"SetEnv HOME={folder}",  # no start-up file of whoever runs the tests
        "StrictModes no",
        "UsePAM no",
        "PermitRootLogin prohibit-password",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "LogLevel VERBOSE",
    )
    return "\n".join(lines) + "\n"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _await(sshd: Sshd) -> None:
    end = time.monotonic() + 20
    while "Server listening" not in sshd.log:
        assert sshd.process.poll() is None, sshd.log
        assert time.monotonic() < end, "sshd did not begin to listen"
        time.sleep(0.01)
