"""Keys: the operator's, one per lab, and each node's own.

The controller makes the host keys, so it knows them before a node first answers: known_hosts is
written from the keys themselves and never from what a network says.
"""

from pathlib import Path

from nodeprep.lab.programs import run


def make_key(path: Path, comment: str) -> str:
    """Write a new ed25519 key pair and return the public half, without its comment."""
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path])
    return public_half(path)


def make_signing_key(path: Path) -> None:
    """Write a new key pair in PEM, as programs in Go read it; this kind is made in no time."""
    run(["ssh-keygen", "-q", "-t", "ecdsa", "-m", "PEM", "-N", "", "-C", "", "-f", path])


def public_half(path: Path) -> str:
    """Return ``ssh-ed25519 AAAA...`` of the key pair at this path."""
    kind, key, *_ = path.with_name(f"{path.name}.pub").read_text().split()
    return f"{kind} {key}"


def known_hosts_line(address: str, port: int, public: str) -> str:
    """Return a line of known_hosts; OpenSSH writes a port that is not 22 in brackets.

    >>> known_hosts_line("127.77.0.11", 2222, "ssh-ed25519 AAAA")
    '[127.77.0.11]:2222 ssh-ed25519 AAAA'
    """
    host = address if port == 22 else f"[{address}]:{port}"  # noqa: PLR2004 - ssh's own port
    return f"{host} {public}"
