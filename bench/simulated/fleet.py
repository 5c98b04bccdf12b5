"""The names and addresses of simulated nodes, and the files by which nodeprep finds them."""

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

_FIRST = IPv4Address("127.80.0.0")
MOST = 99_999
"""As many nodes have an address and a name."""


def name(number: int) -> str:
    """Return the name of the node of a number, from 1.

    >>> name(7)
    'node00007'
    """
    return f"node{number:05}"


def address(number: int) -> str:
    """Return the loopback address of the node of a number.

    >>> address(300)
    '127.80.1.44'
    """
    return str(_FIRST + number)


def number_of(host: str) -> int:
    """Return the number of the node with this address."""
    return int(IPv4Address(host)) - int(_FIRST)


@dataclass(frozen=True, kw_only=True)
class Keys:
    """One key of all the nodes, and the only key that they let in: private halves, in files."""

    host: Path
    user: Path

    def public(self, private: Path) -> str:
        """Return the public half as ``TYPE BASE64``."""
        return " ".join(Path(f"{private}.pub").read_text().split()[:2])


def make_keys(folder: Path) -> Keys:
    """Make both keys in a folder."""
    keys = Keys(host=folder / "host_key", user=folder / "user_key")
    for path in (keys.host, keys.user):
        words = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", path)
        subprocess.run(words, check=True)
    return keys


def known_hosts(numbers: Iterable[int], port: int, key: str) -> str:
    """Return a line for each node, all with the same key."""
    return "".join(f"[{address(number)}]:{port} {key}\n" for number in numbers)


def inventory(
    numbers: Iterable[int], *, port: int, identity: Path, known_hosts: Path, desired: str
) -> str:
    """Return an inventory with a line for each node; ``desired`` is YAML of what all should be."""
    ssh = {
        "user": "root",
        "port": str(port),
        "identity_file": json.dumps(str(identity)),
        "known_hosts": json.dumps(str(known_hosts)),
        "config": "none",
    }
    lines = [
        "defaults:",
        f"  ssh: {{{', '.join(f'{key}: {value}' for key, value in ssh.items())}}}",
        *(f"  {line}" for line in desired.splitlines()),
        "nodes:",
        *(f"  - {{name: {name(number)}, address: {address(number)}}}" for number in numbers),
    ]
    return "\n".join(lines) + "\n"
