"""Whether a node answers: first its banner, then a login, and which boot it is.

A connection alone proves nothing: QEMU accepts it on the node's behalf before the node is there.
"""

import socket
import subprocess
import time
from collections.abc import Sequence

from nodeprep.errors import LabError
from nodeprep.lab.machine import console_tail
from nodeprep.lab.process import running
from nodeprep.lab.state import Lab, LabNode

BOOT_DEADLINE = 300.0
_BANNER_SECONDS = 3.0
_LOGIN_SECONDS = 30.0
_PAUSE = 0.3
_BOOT_ID = ("cat", "/proc/sys/kernel/random/boot_id")


def ssh_command(
    lab: Lab, node: LabNode, command: Sequence[str], *, user: str = "root"
) -> list[str]:
    """Return the ssh that reaches a node with the lab's key, and trusts the lab's known_hosts only.

    The key exchange named here is the one that costs an emulated processor least.
    """
    options = {
        "IdentityFile": _quoted(str(lab.identity)),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": _quoted(str(lab.known_hosts)),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "KexAlgorithms": "curve25519-sha256",
        "ConnectTimeout": str(int(_LOGIN_SECONDS)),
        "LogLevel": "ERROR",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    target = f"{user}@{node.address}"
    return ["ssh", "-F", "none", *words, "-p", str(node.port), target, *command]


def _quoted(path: str) -> str:
    """Quote a path for ssh's own configuration language, in which % begins a token."""
    return '"' + path.replace("%", "%%") + '"'


def shows_banner(node: LabNode) -> bool:
    """Tell whether an SSH server speaks at the node's address, within 3 seconds."""
    try:
        with socket.create_connection((node.address, node.port), _BANNER_SECONDS) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def boot_id(lab: Lab, node: LabNode) -> str:
    """Log in and return the id of the node's current boot, or an empty text without an answer."""
    answer = _log_in(lab, node, _BOOT_ID)
    return answer.stdout.strip() if answer and answer.returncode == 0 else ""


def ask_to_reboot(lab: Lab, node: LabNode) -> None:
    """Have the node shut down in good order and start again; the connection may not outlive it."""
    _log_in(lab, node, ("systemctl", "reboot"))


def _log_in(
    lab: Lab, node: LabNode, command: Sequence[str]
) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            ssh_command(lab, node, command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * _LOGIN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None


def wait_until_up(lab: Lab, node: LabNode, *, other_than: str = "") -> str:
    """Wait until a login works, in a boot ``other_than`` the one named, and return its id.

    Raises LabError with the end of the node's console if QEMU ends or 300 seconds pass.
    """
    end = time.monotonic() + BOOT_DEADLINE
    while time.monotonic() < end:
        if not running(node.process):
            raise _broken(lab, node, "its QEMU has ended")
        seen = boot_id(lab, node) if shows_banner(node) else ""
        if seen not in ("", other_than):
            return seen
        time.sleep(_PAUSE)
    raise _broken(lab, node, f"no answer within {BOOT_DEADLINE:.0f} s")


def _broken(lab: Lab, node: LabNode, what: str) -> LabError:
    folder = lab.node_folder(node.name)
    return LabError(
        f"{node.name} did not come up: {what}\n{console_tail(folder)}",
        hint=f"its console is in {folder / 'console.log'}",
    )
