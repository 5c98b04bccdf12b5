"""The hops to a node, from the inventory and from the ssh config that it names; nothing is opened.

Only the file that the inventory names counts, and the system's own ssh config with it.
"""

import getpass
import glob
import io
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import paramiko

from nodeprep.errors import UsageError
from nodeprep.model import Ssh

DEEPEST_INCLUDE = 16
"""How deep files may include each other, as in ssh_config(5)."""


@dataclass(frozen=True, kw_only=True)
class Hop:
    """A machine on the way: where it listens, who logs in there, and what stands before it.

    ``before`` is a jump host; ``command`` is a ProxyCommand in its place. ``key_files`` are those
    that the ssh config names.
    """

    host: str
    port: int
    user: str
    ssh: Ssh
    key_files: tuple[str, ...] = ()
    before: "Hop | None" = None
    command: str | None = None

    def __str__(self) -> str:
        return f"{self.user}@{self.host}:{self.port}"


def route(address: str, ssh: Ssh) -> Hop:
    """Return the way to an address: a node like a jump host, with the same strictness.

    Raises UsageError for an ssh config that cannot be read.
    """
    asked = _asked(address, ssh.config)
    port = ssh.port or int(asked.get("port", 22))
    hop = Hop(
        host=asked.get("hostname", address),
        port=port,
        user=ssh.user or asked.get("user") or _own_name(),
        ssh=ssh,
        key_files=_key_files(ssh, asked),
    )
    configured = tuple(filter(None, asked.get("proxyjump", "").split(",")))
    if configured and _host_port(configured[-1].rpartition("@")[2]) == (address, ssh.port):
        configured = ()  # `Host *` with a jump host: the jump host itself needs none
    hops = ssh.jump or configured
    if not hops or hops == ("none",):
        return replace(hop, command=asked.get("proxycommand"))
    return replace(hop, before=_jump(hops[-1], ssh, hops[:-1]))


def _jump(name: str, ssh: Ssh, before: tuple[str, ...]) -> Hop:
    user, _, place = name.rpartition("@")
    host, port = _host_port(place)
    return route(host, replace(ssh, user=user or ssh.user, port=port, jump=before))


def _host_port(place: str) -> tuple[str, int | None]:
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        return host, int(port[1:]) if port else None
    host, colon, port = place.partition(":")
    return (host, int(port)) if colon and ":" not in port else (place, None)


def _key_files(ssh: Ssh, asked: Mapping[str, Any]) -> tuple[str, ...]:
    # A named key is the only one; and OpenSSH passes over those that are not there.
    named = () if ssh.identity_file else asked.get("identityfile", ())
    return tuple(path for path in named if Path(path).expanduser().is_file())


@cache
def _own_name() -> str:
    return getpass.getuser()


def _asked(address: str, path: str | None) -> Mapping[str, Any]:
    config = _config(path)
    return config.lookup(address) if config else {}


@cache
def _config(path: str | None) -> paramiko.SSHConfig | None:
    """Return what the files say, nothing where they say nothing: each look-up takes its time."""
    sources = (path, "/etc/ssh/ssh_config") if path else ()
    texts = {source: _text(Path(source)) for source in sources}
    parsed = paramiko.SSHConfig()
    for source, text in texts.items():
        try:
            parsed.parse(io.StringIO(text))
        except (ValueError, paramiko.ConfigParseError) as error:
            hint = "mend it, or set `ssh: {config: none}`"
            raise UsageError(f"{source}: {error}", hint=hint) from error
    return parsed if any(map(_says_something, texts.values())) else None


def _says_something(text: str) -> bool:
    return any(line.strip() and not line.strip().startswith("#") for line in text.splitlines())


def _text(file: Path, depth: int = 0) -> str:
    # paramiko passes over Include, and would then dial a host directly that has a jump host.
    if depth > DEEPEST_INCLUDE or not file.is_file():
        return ""
    lines: list[str] = []
    for line in file.read_text().splitlines():
        found = re.match(r"\s*include[\s=]+(.+)", line, re.IGNORECASE)
        if found is None:
            lines.append(line)
            continue
        paths = (file.parent / Path(name).expanduser() for name in shlex.split(found[1]))
        included = (Path(each) for path in paths for each in sorted(glob.glob(str(path))))  # noqa: PTH207 any path
        lines += [_text(each, depth + 1) for each in included]
    return "\n".join(lines)
