"""The verdict on every key that a host shows, before any login, on every hop."""

import base64
import os
import shlex
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import paramiko

from nodeprep import known_hosts
from nodeprep.errors import HostKeyRefused
from nodeprep.model import Ssh


class Store:
    """The keys on record, read once for a process, and those that it has accepted since."""

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._paths = paths
        self._known = known_hosts.load(paths)
        self._learned: dict[str, known_hosts.Entry] = {}
        self._lock = threading.Lock()

    def of(self, name: str) -> tuple[known_hosts.Entry, ...]:
        """Return the entries for a host, those learned meanwhile included."""
        learned = self._learned.get(name)
        return (*self._known.of(name), *((learned,) if learned else ()))

    def learn(self, name: str, kind: str, key: str) -> known_hosts.Entry:
        """Record a host's first key; of two threads that come at once, the first one's counts."""
        with self._lock:
            if name not in self._learned:
                file = self._paths[0]
                _record(file, f"{name} {kind} {key}\n")
                self._learned[name] = known_hosts.Entry(
                    hosts=name, key_type=kind, key=key, revoked=False, file=file
                )
            return self._learned[name]


@cache
def store(paths: tuple[str, ...]) -> Store:
    """Return the one store of these known_hosts files."""
    return Store(paths)


@dataclass(frozen=True, kw_only=True)
class HostKeys(paramiko.MissingHostKeyPolicy):
    """Decides on every host key itself: paramiko is told of none, so it always asks."""

    ssh: Ssh
    store: "Store"

    def types(self, name: str) -> tuple[str, ...]:
        """Return the signature algorithms of the keys on record for a host."""
        kinds = [entry.key_type for entry in self.store.of(name) if not entry.revoked]
        rsa = ("rsa-sha2-512", "rsa-sha2-256") if "ssh-rsa" in kinds else ()
        return (*kinds, *rsa)

    def missing_host_key(
        self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
    ) -> None:
        """Let a known key pass, record an unknown one where that is asked for, refuse the rest."""
        del client
        shown = base64.b64encode(key.asbytes()).decode()
        entries = self.store.of(hostname)
        verdict = known_hosts.verdict(entries, shown)
        if verdict == "unknown" and self.ssh.host_keys == "accept-new" and self.ssh.known_hosts:
            entries = (self.store.learn(hostname, key.get_name(), shown),)
            verdict = known_hosts.verdict(entries, shown)
        if verdict != "known":
            raise _refusal(verdict, hostname, shown, self.ssh, entries)


def _record(path: str, line: str) -> None:
    file = Path(path)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(file, "a+b", opener=_private) as stream:
        stream.seek(max(0, stream.seek(0, 2) - 1))
        whole = stream.read() in (b"", b"\n")
        # One write of one line at the end: several processes may do this at a time.
        stream.write(f"{'' if whole else chr(10)}{line}".encode())


def _private(path: str, flags: int) -> int:

    return os.open(path, flags, 0o600)


def _refusal(
    verdict: known_hosts.Verdict,
    name: str,
    shown: str,
    ssh: Ssh,
    entries: tuple[known_hosts.Entry, ...],
) -> HostKeyRefused:
    seen = known_hosts.fingerprint(shown)
    file = ssh.known_hosts[0] if ssh.known_hosts else "~/.ssh/known_hosts"
    if verdict == "unknown":
        return HostKeyRefused(
            f"the host key of {name} is not on record: {seen}",
            hint=f"compare it with the machine's own, then: "
            f"ssh-keyscan {_scan(name)} >>{shlex.quote(file)}",
        )
    if verdict == "revoked":
        return HostKeyRefused(f"the host key of {name} is revoked: {seen}", hint="do not log in")
    record = next(entry for entry in entries if not entry.revoked)
    return HostKeyRefused(
        f"the host key of {name} HAS CHANGED: it shows {seen}, "
        f"on record is {known_hosts.fingerprint(record.key)}",
        hint="somebody may be listening in; if the machine was set up anew: "
        f"ssh-keygen -R {shlex.quote(name)} -f {shlex.quote(record.file)}",
    )


def _scan(name: str) -> str:
    host, _, port = name.strip("[").partition("]:")
    return f"-p {port} {host}" if port else host
