"""The door to the nodes: a strict connection, and one way to run a script over it.

Fabric brings the connection, the user's ssh config and its jump hosts. Three things are set right:
host keys are checked on every hop before any login, every wait has a limit, and a script goes over
a raw channel in one piece with its answer counted and capped.

A script never meets the login shell's settings: it runs in an empty environment, under a limit of
its own on the node, so that a hung command does not outlive its session for long.
"""

import base64
import contextlib
import getpass
import random
import secrets
import shlex
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import paramiko
from fabric import Config, Connection

from nodeprep import known_hosts
from nodeprep.errors import (
    DeadlinePassed,
    FactError,
    HostKeyRefused,
    LoginRefused,
    NodeprepError,
    Unreachable,
)
from nodeprep.frames import CAP
from nodeprep.model import Node, Ssh
from nodeprep.shell import Script, Secret

PIECE = 1 << 18
"""Bytes in one send: paramiko's cost of sending grows with the square of a longer piece."""

ENVIRONMENT = (
    "/usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin "
    "LC_ALL=C HOME=/root"
)
"""Nothing that a start-up file set, no poisoned path, no language but C reaches our scripts.

``env`` by its path: a start-up file may have put another one, or a function, in front of it.
"""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds that each kind of waiting may take."""

    connect: float = 10
    login: float = 20
    probe: float = 60
    apply: float = 900


class Session(Protocol):
    """An open way to a node's root shell."""

    def run(self, script: Script, limit: float) -> bytes:
        """Run ``script`` and return what it printed, at most ``frames.CAP`` bytes.

        ``limit`` is in seconds. Raises DeadlinePassed after it, Unreachable where the session is
        lost, LoginRefused where sudo says no, FactError where the answer is too long.
        """


Passwords = Mapping[str, Secret]
"""Sudo passwords by the place that the inventory names; see ``model.Sudo.password``."""


@contextlib.contextmanager
def connect(node: Node, limits: Limits, passwords: Passwords) -> Iterator[Session]:
    """Open the way to ``node`` and close it afterwards.

    Raises HostKeyRefused, LoginRefused, DeadlinePassed or Unreachable, each with what to type.
    """
    password = passwords.get(node.sudo.password)
    if node.address == "local":
        yield LocalSession(node=node, password=password)
        return
    connection = _connection(node.address, node.ssh, limits)
    try:
        _open(connection, node, limits)
        yield SshSession(node=node, connection=connection, password=password, limits=limits)
    finally:
        _close(connection)


# --- connecting -----------------------------------------------------------------------------


def _connection(address: str, ssh: Ssh, limits: Limits) -> Connection:
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
    host_keys = HostKeys(ssh=ssh, known=_known(ssh.known_hosts))
    connection.client.set_missing_host_key_policy(host_keys)
    name = known_hosts.host_name(connection.host, connection.port)
    connection.connect_kwargs["transport_factory"] = _transport_factory(host_keys.types(name))
    return connection


@cache
def _config(path: str | None) -> Config:
    # Only the file that the inventory names counts, and system-wide settings with it.
    parsed = paramiko.SSHConfig()
    for source in (path, "/etc/ssh/ssh_config") if path else ():
        with contextlib.suppress(OSError), Path(source).open() as stream:
            parsed.parse(stream)
    return Config(ssh_config=parsed, lazy=True)


@cache
def _known(paths: tuple[str, ...]) -> known_hosts.KnownHosts:
    return known_hosts.load(paths)


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
    return _connection(host, settings, limits)


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


@dataclass(frozen=True, kw_only=True)
class HostKeys(paramiko.MissingHostKeyPolicy):
    """Decides on every host key itself: paramiko is told of none, so it always asks."""

    ssh: Ssh
    known: known_hosts.KnownHosts

    def types(self, name: str) -> tuple[str, ...]:
        """Return the signature algorithms of the keys on record for a host."""
        kinds = [entry.key_type for entry in self.known.of(name) if not entry.revoked]
        rsa = ("rsa-sha2-512", "rsa-sha2-256") if "ssh-rsa" in kinds else ()
        return (*kinds, *rsa)

    def missing_host_key(
        self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey
    ) -> None:
        """Let a known key pass, record an unknown one where that is asked for, refuse the rest."""
        del client
        shown = base64.b64encode(key.asbytes()).decode()
        entries = self.known.of(hostname)
        verdict = known_hosts.verdict(entries, shown)
        if verdict == "unknown" and self.ssh.host_keys == "accept-new" and self.ssh.known_hosts:
            entries = (_learned(self.ssh.known_hosts[0], hostname, key.get_name(), shown),)
            verdict = known_hosts.verdict(entries, shown)
        if verdict != "known":
            raise _refusal(verdict, hostname, shown, self.ssh, entries)


_LEARNED: dict[tuple[str, str], known_hosts.Entry] = {}
_LEARNING = threading.Lock()


def _learned(path: str, name: str, kind: str, key: str) -> known_hosts.Entry:
    # Files are read once: a key accepted since then must count for the next connection, which may
    # be another thread's through the same jump host.
    with _LEARNING:
        if (path, name) not in _LEARNED:
            _record(path, f"{name} {kind} {key}\n")
            _LEARNED[path, name] = known_hosts.Entry(
                hosts=name, key_type=kind, key=key, revoked=False, file=path
            )
        return _LEARNED[path, name]


def _record(path: str, line: str) -> None:
    file = Path(path)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(file, "a+b", opener=_private) as stream:
        stream.seek(max(0, stream.seek(0, 2) - 1))
        whole = stream.read() in (b"", b"\n")
        # One write of one line at the end: several processes may do this at a time.
        stream.write(f"{'' if whole else chr(10)}{line}".encode())


def _private(path: str, flags: int) -> int:
    import os

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


def _open(connection: Connection, node: Node, limits: Limits) -> None:
    # sshd drops some of many connections that come at once (MaxStartups): those are tried again.
    end = time.monotonic() + limits.connect + limits.login
    for attempt in (1, 2, 3):
        try:
            connection.open()
        except (paramiko.SSHException, OSError, EOFError) as error:
            dropped = "banner" in str(error).lower() and time.monotonic() < end
            if attempt == 3 or not dropped:  # noqa: PLR2004
                raise _unreachable(error, node, connection) from error
            _hang_up(connection)
            time.sleep(random.uniform(0.2, 1.0) * attempt)  # noqa: S311 jitter, no secret
        else:
            return


def _unreachable(error: Exception, node: Node, connection: Connection) -> NodeprepError:
    where = f"{connection.user}@{connection.host}:{connection.port}"
    try_it = f"ssh -p {connection.port} {connection.user}@{connection.host} true"
    reason = str(error) or type(error).__name__
    if isinstance(error, TimeoutError) or _is_timeout(reason, connection):
        return DeadlinePassed(f"{where} does not answer", hint=try_it)
    if "EOF" not in reason and (
        isinstance(error, paramiko.AuthenticationException) or "No authentication methods" in reason
    ):
        return LoginRefused(f"{where} accepts none of our keys", hint=f"{try_it}   # or -i KEY")
    return Unreachable(f"{where}: {reason}", hint=f"{try_it}   # {node.name}")


# paramiko tells in words alone what kind of end it was. It goes on without a session where a
# handshake takes too long, and only then is the transport still there.
def _is_timeout(reason: str, connection: Connection) -> bool:
    transport = connection.client.get_transport()
    waiting = transport is not None and transport.is_active()
    return "timeout" in reason.lower() or (waiting and reason == "No existing session")


def _close(connection: Connection) -> None:
    gateway = connection.gateway
    _hang_up(connection)
    if isinstance(gateway, Connection):
        _close(gateway)


def _hang_up(connection: Connection) -> None:
    transport = connection.client.get_transport()
    if transport is not None:
        # paramiko's watch over a handshake outlives one that failed.
        transport.packetizer.complete_handshake()
    connection.close()
    connection.client.close()


# --- running --------------------------------------------------------------------------------


def command_line(method: str, prompt: str, limit: float) -> str:
    """Return the words that start a root shell on a node, readable by any login shell.

    With a password, sudo is given its own prompt to recognise, and the script is sent only after
    the shell said that it is there: so the password can never be read as part of a script.
    """
    shell = f"timeout -k 5 {max(1, int(limit))} sh -s"  # 0 would be no limit at all
    match method:
        case "none":
            return f"{ENVIRONMENT} {shell}"
        case "passwordless":
            return f"sudo -n {ENVIRONMENT} {shell}"
        case _:
            return f"sudo -S -p {prompt} {ENVIRONMENT} sh -c 'echo {prompt}-ready; exec {shell}'"


@dataclass(frozen=True, kw_only=True)
class SshSession:
    """A node over SSH. Each run is one session of the one connection."""

    node: Node
    connection: Connection
    password: Secret | None
    limits: Limits

    def run(self, script: Script, limit: float) -> bytes:
        """Run ``script`` as root on the node; see :class:`Session`."""
        end = time.monotonic() + limit
        prompt = f"nodeprep-{secrets.token_hex(8)}"
        try:
            with contextlib.closing(self._channel()) as channel:
                with _cut_off_at(channel, end):
                    channel.exec_command(command_line(self.node.sudo.method, prompt, limit))
                if self.node.sudo.method == "password":
                    _give_password(channel, prompt, self._password(), end)
                _send(channel, script.reveal().encode(), end)
                return _explained(_receive(channel, end), self.node)
        except (paramiko.SSHException, OSError, EOFError) as error:
            late = time.monotonic() >= end or _is_timeout(str(error), self.connection)
            if late or isinstance(error, TimeoutError):
                raise DeadlinePassed(
                    f"no answer within {int(limit)} s", hint=f"ssh to {self.node.name} and look"
                ) from error
            raise Unreachable(
                f"the session was lost: {error or type(error).__name__}",
                hint="run the command again: it goes on from what is there",
            ) from error

    def _channel(self) -> paramiko.Channel:
        transport = self.connection.transport
        channel: paramiko.Channel = transport.open_session(timeout=self.limits.login)
        # One stream to drain: a second one that fills its window would block the first.
        channel.set_combine_stderr(True)
        return channel

    def _password(self) -> Secret:
        if self.password is None:
            raise LoginRefused("sudo wants a password and none was given")
        return self.password


@contextlib.contextmanager
def _cut_off_at(channel: paramiko.Channel, end: float) -> Iterator[None]:
    # paramiko waits without a limit for the answer to some requests.
    timer = threading.Timer(max(0.0, end - time.monotonic()), channel.get_transport().close)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _give_password(channel: paramiko.Channel, prompt: str, password: Secret, end: float) -> None:
    ready, asked = f"{prompt}-ready\n".encode(), prompt.encode()
    seen, given = b"", False
    while ready not in seen:
        _wait(channel, end)
        piece = channel.recv(4096)
        seen += piece
        prompts = seen.replace(ready, b"").count(asked)
        if not piece or prompts > 1 or len(seen) > 65536:  # noqa: PLR2004
            # One attempt and no more: a lock-out of the account would be our doing.
            raise LoginRefused("sudo refused: " + (_said(seen, prompt) or "the password is wrong"))
        if prompts == 1 and not given:
            channel.sendall(f"{password.reveal()}\n".encode())
            given = True


def _said(seen: bytes, prompt: str) -> str:
    lines = seen.decode("utf-8", "backslashreplace").replace(prompt, "").split("\n")
    return next((line.strip() for line in lines if line.strip()), "")


def _send(channel: paramiko.Channel, data: bytes, end: float) -> None:
    try:
        for start in range(0, len(data), PIECE):
            channel.settimeout(max(0.1, end - time.monotonic()))
            channel.sendall(data[start : start + PIECE])
        channel.shutdown_write()
    except TimeoutError:
        raise
    except OSError:
        # The other end did not want to hear all of it: what it said will tell why.
        return


def _receive(channel: paramiko.Channel, end: float) -> bytes:
    received = bytearray()
    while True:
        _wait(channel, end)
        piece = channel.recv(65536)
        if not piece and not channel.eof_received:
            raise EOFError("the connection was cut")
        if not piece:
            return bytes(received)
        received += piece
        if len(received) > CAP:
            raise FactError(f"the node answered more than {CAP} bytes and was cut off")


def _wait(channel: paramiko.Channel, end: float) -> None:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    channel.settimeout(left)


def _explained(output: bytes, node: Node) -> bytes:
    # What stands before the first frame is noise, unless there is no frame at all.
    if b"\n@" in output:
        return output
    said = output.decode("utf-8", "backslashreplace").strip().splitlines()
    last = said[-1] if said else "the session ended without a word"
    if node.sudo.method != "none":
        raise LoginRefused(
            f"sudo refused: {last}", hint=f"ssh {node.name} sudo -l; see `sudo` in the inventory"
        )
    raise Unreachable(f"no shell: {last}", hint=f"ssh {node.name} 'echo ok' should print one line")


@dataclass(frozen=True, kw_only=True)
class LocalSession:
    """The machine nodeprep runs on, through the same scripts."""

    node: Node
    password: Secret | None

    def run(self, script: Script, limit: float) -> bytes:
        """Run ``script`` as root here; see :class:`Session`."""
        method = self._method()
        command = shlex.split(command_line(method, "nodeprep", limit))
        lead = f"{self.password.reveal()}\n" if method == "password" and self.password else ""
        try:
            done = subprocess.run(
                command,
                input=(lead + script.reveal()).encode(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=limit + 10,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DeadlinePassed(f"no answer within {int(limit)} s") from error
        except OSError as error:
            raise Unreachable(f"no shell: {command[0]}: {error.strerror}") from error
        if len(done.stdout) > CAP:
            raise FactError(f"this machine answered more than {CAP} bytes")
        return _explained(done.stdout, self.node)

    def _method(self) -> str:
        # Where sudo would not ask, a password sent to it would be read by the shell instead.
        if self.node.sudo.method != "password":
            return self.node.sudo.method
        try:
            asks = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False)
        except OSError as error:
            raise LoginRefused(
                f"sudo: {error.strerror}", hint="install sudo, or be root"
            ) from error
        return "password" if asks.returncode else "passwordless"
