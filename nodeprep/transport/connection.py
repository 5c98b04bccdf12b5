"""The way to a node: the user's ssh config, jump hosts, login, and an end to every wait."""

import contextlib
import getpass
import glob
import io
import random
import re
import shlex
import socket
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import paramiko
from fabric import Config, Connection

from nodeprep import known_hosts
from nodeprep.errors import (
    DeadlinePassed,
    LoginRefused,
    NodeprepError,
    Unreachable,
    UsageError,
)
from nodeprep.model import Node, Ssh
from nodeprep.transport.host_keys import HostKeys, store

DEEPEST_INCLUDE = 16
"""How deep files may include each other, as in ssh_config(5)."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds that each kind of waiting may take."""

    connect: float = 10
    login: float = 20
    probe: float = 60
    apply: float = 900


def to(address: str, ssh: Ssh, limits: Limits) -> Connection:
    """Return a connection that is not yet open, with all its hops.

    Raises UsageError for an ssh config that cannot be read, LoginRefused for such a key.
    """
    config = _config(ssh.config)
    gateway = _gateway(address, ssh, limits, config)
    connection = Connection(
        address,
        user=ssh.user or config.base_ssh_config.lookup(address).get("user", getpass.getuser()),
        port=ssh.port,
        config=config,
        gateway=gateway if gateway is not None else False,
        connect_timeout=int(limits.connect),
        connect_kwargs=_login(ssh, limits),
        forward_agent=False,
    )
    connection.connect_kwargs["key_filename"] = _key_files(ssh, connection)
    keys = HostKeys(ssh=ssh, store=store(ssh.known_hosts))
    connection.client.set_missing_host_key_policy(keys)
    name = known_hosts.host_name(connection.host, connection.port)
    connection.connect_kwargs["transport_factory"] = _transport_factory(keys.types(name))
    return connection


@cache
def _config(path: str | None) -> Config:
    # Only the file that the inventory names counts, and system-wide settings with it.
    parsed = paramiko.SSHConfig()
    for source in (path, "/etc/ssh/ssh_config") if path else ():
        try:
            parsed.parse(io.StringIO(_ssh_config(Path(source))))
        except (ValueError, paramiko.ConfigParseError) as error:
            hint = "mend it, or set `ssh: {config: none}`"
            raise UsageError(f"{source}: {error}", hint=hint) from error
    return Config(ssh_config=parsed, lazy=True)


def _ssh_config(file: Path, depth: int = 0) -> str:
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
        lines += [_ssh_config(each, depth + 1) for each in included]
    return "\n".join(lines)


@cache
def _key(path: str) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(path)
    except (paramiko.PasswordRequiredException, TypeError) as error:
        raise LoginRefused(
            f"{path} has a passphrase",
            hint=f"ssh-add {path}, and leave `identity_file` out to use the agent",
        ) from error
    except (OSError, ValueError, paramiko.SSHException) as error:
        raise LoginRefused(
            f"{path}: {error}", hint="name a private key as `identity_file`"
        ) from error


def _login(ssh: Ssh, limits: Limits) -> dict[str, object]:
    # A named key is the only one that is tried: each wrong one costs two round trips, and sshd's
    # MaxAuthTries ends the connection after six.
    named = {"pkey": _key(ssh.identity_file)} if ssh.identity_file else {}
    return {
        **named,
        "allow_agent": not named,
        "look_for_keys": not named,
        "banner_timeout": limits.login,
        "auth_timeout": limits.login,
        "channel_timeout": limits.login,
    }


def _key_files(ssh: Ssh, connection: Connection) -> list[str]:
    # Fabric adds the ssh config's keys to a named one; and OpenSSH passes over those not there.
    others = () if ssh.identity_file else connection.connect_kwargs.get("key_filename", ())
    return [path for path in others if Path(path).expanduser().is_file()]


def _gateway(address: str, ssh: Ssh, limits: Limits, config: Config) -> Connection | str | None:
    asked = config.base_ssh_config.lookup(address)
    configured = tuple(filter(None, asked.get("proxyjump", "").split(",")))
    if configured and _host_port(configured[-1].rpartition("@")[2]) == (address, ssh.port):
        configured = ()  # `Host *` with a jump host: the jump host itself needs none
    hops = ssh.jump or configured
    if not hops or hops == ("none",):
        return asked.get("proxycommand")
    return _hop(hops[-1], ssh, hops[:-1], limits)


def _hop(hop: str, ssh: Ssh, before: tuple[str, ...], limits: Limits) -> Connection:
    # A hop is a node like any other: the same keys, the same strictness, and nothing skipped.
    user, _, place = hop.rpartition("@")
    host, port = _host_port(place)
    settings = Ssh(**{**vars(ssh), "user": user or ssh.user, "port": port, "jump": before or ()})
    return to(host, settings, limits)


def _host_port(place: str) -> tuple[str, int | None]:
    if place.startswith("["):
        host, _, port = place[1:].partition("]")
        return host, int(port[1:]) if port else None
    host, colon, port = place.partition(":")
    return (host, int(port)) if colon and ":" not in port else (place, None)


def _transport_factory(preferred: tuple[str, ...]) -> "TransportFactory":
    def build(sock: socket.socket, **options: object) -> paramiko.Transport:
        with contextlib.suppress(OSError, AttributeError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport = paramiko.Transport(sock, **options)  # type: ignore[arg-type]
        security = transport.get_security_options()
        known = [kind for kind in security.key_types if kind in preferred]
        # A host with several keys must show the one that is on record.
        security.key_types = [*known, *(k for k in security.key_types if k not in known)]
        transport.set_keepalive(15)
        return transport

    return build


class TransportFactory(Protocol):
    """Makes a transport of a connected socket; paramiko's name for it is ``transport_factory``."""

    def __call__(self, sock: socket.socket, **options: object) -> paramiko.Transport:
        """Return a transport that has not yet greeted the server."""


def open_way(connection: Connection, node: Node, limits: Limits) -> None:
    """Connect and log in. Raises what `transport.connect` does, each with what to type."""
    # sshd drops some of many connections that come at once (MaxStartups): those are tried again.
    # paramiko has one word for a greeting that was refused and one that never came: time tells.
    patience = 0.9 * min(limits.connect, limits.login)
    for attempt in (1, 2, 3):
        began = time.monotonic()
        try:
            connection.open()
        except (paramiko.SSHException, OSError, EOFError) as error:
            no_greeting = "banner" in str(error).lower()
            if no_greeting and time.monotonic() - began >= patience:
                raise _unreachable(TimeoutError(), node, connection) from error
            if attempt == 3 or not no_greeting:  # noqa: PLR2004
                raise _unreachable(error, node, connection) from error
            _hang_up(connection)
            time.sleep(random.uniform(0.2, 1.0) * attempt)  # noqa: S311 jitter, no secret
        else:
            return


def _unreachable(error: Exception, node: Node, connection: Connection) -> NodeprepError:
    where = f"{connection.user}@{connection.host}:{connection.port}"
    try_it = f"ssh -p {connection.port} {connection.user}@{connection.host} true"
    reason = str(error) or type(error).__name__
    if isinstance(error, TimeoutError) or is_timeout(reason, connection):
        return DeadlinePassed(f"{where} does not answer", hint=try_it)
    if "EOF" not in reason and (
        isinstance(error, paramiko.AuthenticationException) or "No authentication methods" in reason
    ):
        return LoginRefused(f"{where} accepts none of our keys", hint=f"{try_it}   # or -i KEY")
    return Unreachable(f"{where}: {reason}", hint=f"{try_it}   # {node.name}")


def is_timeout(reason: str, connection: Connection) -> bool:
    """Tell whether paramiko's ``reason`` for an end means that time ran out.

    It tells in words alone what kind of end it was. It goes on without a session where a
    handshake takes too long, and only then is the transport still there.
    """
    transport = connection.client.get_transport()
    waiting = transport is not None and transport.is_active()
    return "timeout" in reason.lower() or (waiting and reason == "No existing session")


def close(connection: Connection) -> None:
    """Close the connection and its hops, whether or not they were ever open."""
    gateway = connection.gateway
    _hang_up(connection)
    if isinstance(gateway, Connection):
        close(gateway)


def _hang_up(connection: Connection) -> None:
    transport = connection.client.get_transport()
    if transport is not None:
        # paramiko's watch over a handshake outlives one that failed.
        transport.packetizer.complete_handshake()
    connection.close()
    connection.client.close()
