"""known_hosts files, read once into an index, and the verdict on a key that a host shows.

The format is that of sshd(8), SSH_KNOWN_HOSTS FILE FORMAT. paramiko's own loader takes a time that
grows with the square of the lines, and its look-up forgets a host's second key of one type.
Certificate authorities are passed over: paramiko cannot check host certificates.
"""

import base64
import fnmatch
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One key of one line. ``hosts`` is the line's first field: names, patterns, or one hash."""

    hosts: str
    key_type: str
    key: str
    revoked: bool
    file: str


@dataclass(frozen=True, kw_only=True)
class KnownHosts:
    """Entries by plain name, and those that have to be tried one by one."""

    plain: dict[str, tuple[Entry, ...]]
    other: tuple[Entry, ...]

    def of(self, name: str) -> tuple[Entry, ...]:
        """Return the entries for ``name``: a host, or ``[host]:port`` where the port is not 22."""
        name = name.lower()  # as OpenSSH does before it looks up or hashes a name
        return (*self.plain.get(name, ()), *(e for e in self.other if _matches(e.hosts, name)))


Verdict = Literal["known", "unknown", "changed", "revoked"]


def verdict(entries: Iterable[Entry], key: str) -> Verdict:
    """Say what a host's key (base64) is, given what is on record for that host."""
    entries = tuple(entries)
    if any(entry.revoked and entry.key == key for entry in entries):
        return "revoked"
    on_record = [entry for entry in entries if not entry.revoked]
    if any(entry.key == key for entry in on_record):
        return "known"
    return "changed" if on_record else "unknown"


def host_name(host: str, port: int) -> str:
    """Return the name under which a host is on record.

    >>> host_name("10.0.0.5", 2222)
    '[10.0.0.5]:2222'
    """
    return host if port == 22 else f"[{host}]:{port}"  # noqa: PLR2004 the port of ssh


def fingerprint(key: str) -> str:
    """Return the SHA-256 fingerprint of a base64 key, as ``ssh-keygen -l`` prints it."""
    digest = hashlib.sha256(base64.b64decode(key)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def load(paths: Iterable[str]) -> KnownHosts:
    """Read the files that exist; lines that make no sense are passed over, as OpenSSH does."""
    entries = [entry for path in paths for entry in _read(Path(path))]
    plain: dict[str, tuple[Entry, ...]] = {}
    other = []
    for entry in entries:
        if any(sign in entry.hosts for sign in "|*?!"):
            other.append(entry)
            continue
        for name in entry.hosts.split(","):
            plain[name.lower()] = (*plain.get(name.lower(), ()), entry)
    return KnownHosts(plain=plain, other=tuple(other))


def _read(path: Path) -> list[Entry]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return []
    return [entry for line in text.splitlines() if (entry := _entry(line.split(), str(path)))]


def _entry(fields: list[str], file: str) -> Entry | None:
    marker = fields[0] if fields and fields[0].startswith("@") else ""
    if marker:
        fields = fields[1:]
    if len(fields) < 3 or fields[0].startswith("#") or marker not in ("", "@revoked"):  # noqa: PLR2004
        return None
    return Entry(
        hosts=fields[0], key_type=fields[1], key=fields[2], revoked=bool(marker), file=file
    )


def _matches(hosts: str, name: str) -> bool:
    if hosts.startswith("|1|"):
        return _hash_matches(hosts, name)
    patterns = hosts.lower().split(",")
    if any(p.startswith("!") and _glob(name, p[1:]) for p in patterns):
        return False
    return any(_glob(name, pattern) for pattern in patterns)


def _glob(name: str, pattern: str) -> bool:
    # Brackets are part of `[host]:port` here, and no class of characters as in a shell.
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def _hash_matches(hosts: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part) for part in hosts.split("|")[2:4])
    except ValueError:
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest)
