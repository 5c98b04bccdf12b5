"""An open way to a machine: dialled, greeted, its host key checked, logged in; and closed again.

What makes it fast (docs/decisions/0017): small packets leave at once and are acknowledged
at once, a key is read once, an authenticated cipher spares a digest for each packet, nodes behind
one jump host share the connection to it. A machine that is silent costs a waiting thread and
nothing else: the work of a greeting begins when its first byte is there.
"""

import contextlib
import logging
import random
import select
import socket
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import paramiko

from nodeprep import known_hosts
from nodeprep.errors import (
    DeadlinePassed,
    LoginRefused,
    NodeprepError,
    Unreachable,
)
from nodeprep.transport.host_keys import HostKeys, store
from nodeprep.transport.route import Hop

ATTEMPTS = 3
"""How often a connection is tried that sshd drops: it does so when many come at once."""

GREETINGS = 64
"""How many machines are greeted and logged in to at once; more would only wait for each other."""

WAKE_UP = 5.0
"""Seconds after which paramiko's thread looks around; by default ten times a second."""

QUICK_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
"""Ciphers that need no digest besides; paramiko prefers all others to them."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Seconds that each kind of waiting may take."""

    connect: float = 10
    login: float = 20
    probe: float = 60
    apply: float = 900


@contextlib.contextmanager
def opened(hop: Hop, limits: Limits) -> Iterator[paramiko.Transport]:
    """Open the way to a machine and close it afterwards.

    Raises HostKeyRefused, LoginRefused, DeadlinePassed or Unreachable, each with what to type.
    """
    with contextlib.ExitStack() as stack:
        yield _tried(hop, limits, stack)


def _tried(hop: Hop, limits: Limits, stack: contextlib.ExitStack) -> paramiko.Transport:
    # paramiko has one word for a greeting that was refused and one that never came: time tells.
    patience = 0.9 * min(limits.connect, limits.login)
    for attempt in range(1, ATTEMPTS + 1):
        began = time.monotonic()
        client = paramiko.SSHClient()
        try:
            return _logged_in(client, hop, limits, stack)
        except (paramiko.SSHException, OSError, EOFError) as error:
            late = is_timeout(str(error), client.get_transport())
            stack.close()
            dropped = "banner" in str(error).lower()
            if dropped and time.monotonic() - began >= patience:
                raise _unreachable(TimeoutError(), hop, late=True) from error
            if attempt == ATTEMPTS or not dropped:
                raise _unreachable(error, hop, late=late) from error
            time.sleep(random.uniform(0.2, 1.0) * attempt)  # noqa: S311 jitter, no secret
    raise AssertionError


def _logged_in(
    client: paramiko.SSHClient, hop: Hop, limits: Limits, stack: contextlib.ExitStack
) -> paramiko.Transport:
    keys = HostKeys(ssh=hop.ssh, store=store(hop.ssh.known_hosts))
    client.set_missing_host_key_policy(keys)
    kinds = keys.types(known_hosts.host_name(hop.host, hop.port))
    login = _login(hop)
    sock = _dialled(hop, limits, stack)
    stack.callback(_hang_up, client, sock)
    with _lobby().greetings:
        client.connect(
            hop.host,
            hop.port,
            hop.user,
            sock=sock,
            timeout=limits.connect,
            banner_timeout=limits.login,
            auth_timeout=limits.login,
            channel_timeout=limits.login,
            transport_factory=_transport_factory(kinds),
            **login,
        )
    transport = client.get_transport()
    if transport is None:
        raise EOFError("the connection was cut")
    return transport


# --- dialling -------------------------------------------------------------------------------


class _PromptSocket(socket.socket):
    """Acknowledges at once what comes: the other end may be waiting for that before it goes on."""

    def recv(self, *size: int) -> bytes:
        data = super().recv(*size)
        with contextlib.suppress(OSError):
            self.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
        return data


_QUICKACK: int = getattr(socket, "TCP_QUICKACK", socket.TCP_NODELAY)  # Linux alone has the first


def _dialled(hop: Hop, limits: Limits, stack: contextlib.ExitStack) -> Any:
    if hop.before is not None:
        gateway = stack.enter_context(_lobby().shared(hop.before, limits))
        place = (hop.host, hop.port)
        return gateway.open_channel("direct-tcpip", place, ("", 0), timeout=limits.connect)
    if hop.command is not None:
        return paramiko.ProxyCommand(hop.command)
    dialled = socket.create_connection((hop.host, hop.port), limits.connect)
    sock = _PromptSocket(fileno=dialled.detach())
    sock.settimeout(limits.connect)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stack.callback(sock.close)
    _await_greeting(sock, min(limits.connect, limits.login))
    return sock


def _await_greeting(sock: socket.socket, limit: float) -> None:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    if not poll.poll(limit * 1000):
        raise TimeoutError("no greeting")


# --- jump hosts -----------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Gateway:
    """A connection to a jump host, and how many ways lead through it now."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    transport: paramiko.Transport | None = None
    users: int = 0


class _Lobby:
    """What all ways of this process share."""

    def __init__(self) -> None:
        self.greetings = threading.BoundedSemaphore(GREETINGS)
        self._lock = threading.Lock()
        self._gateways: dict[Hop, _Gateway] = {}

    @contextlib.contextmanager
    def shared(self, hop: Hop, limits: Limits) -> Iterator[paramiko.Transport]:
        """Give the one open way to a jump host; the last to leave closes it. Raises as `opened`."""
        with self._lock:
            gateway = self._gateways.setdefault(hop, _Gateway())
            gateway.users += 1
        try:
            yield self._open(gateway, hop, limits)
        finally:
            with self._lock:
                gateway.users -= 1
                if gateway.users == 0:
                    del self._gateways[hop]
            if gateway.users == 0:
                gateway.stack.close()

    @staticmethod
    def _open(gateway: _Gateway, hop: Hop, limits: Limits) -> paramiko.Transport:
        # Those who come meanwhile wait for the one that opens it; one that was cut is opened anew.
        with gateway.lock:
            if gateway.transport is None or not gateway.transport.is_active():
                gateway.stack.close()
                gateway.transport = gateway.stack.enter_context(opened(hop, limits))
            return gateway.transport


@cache
def _lobby() -> _Lobby:
    return _Lobby()


# --- greeting and login ---------------------------------------------------------------------


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


def _login(hop: Hop) -> dict[str, Any]:
    # A named key is the only one that is tried: each wrong one costs two round trips, and sshd's
    # MaxAuthTries ends the connection after six.
    if hop.ssh.identity_file:
        key = _key(hop.ssh.identity_file)
        return {"pkey": key, "allow_agent": False, "look_for_keys": False}
    return {"key_filename": list(hop.key_files), "allow_agent": True, "look_for_keys": True}


class _Transport(paramiko.Transport):
    """Remembers how keys were exchanged: paramiko forgets it when that is done."""

    key_exchange = ""

    def _set_K_H(self, k: int, h: bytes) -> None:  # noqa: N802 paramiko's name
        # Those that are no trouble have no name there; nor has this method a type.
        self.key_exchange = getattr(self.kex_engine, "name", "")
        super()._set_K_H(k, h)  # type: ignore[misc]


def key_exchange(transport: paramiko.Transport) -> str:
    """Return the name of the method by which keys were exchanged, as in ssh_config(5)."""
    return transport.key_exchange if isinstance(transport, _Transport) else ""


def _transport_factory(kinds: tuple[str, ...]) -> Callable[..., paramiko.Transport]:
    """Return what makes a transport of a connected socket; ``kinds`` of host keys come first."""

    def build(sock: Any, **options: Any) -> paramiko.Transport:
        transport = _Transport(sock, **options)
        security = transport.get_security_options()
        # A host with several keys must show the one that is on record.
        security.key_types = _first(security.key_types, kinds)
        security.ciphers = _first(security.ciphers, QUICK_CIPHERS)
        if not isinstance(sock, paramiko.ProxyCommand):
            sock.settimeout(WAKE_UP)
        transport.set_log_channel(_log_channel())
        transport.set_keepalive(15)
        return transport

    return build


@cache
def _log_channel() -> str:
    # Each error comes to us as an exception too; by default paramiko prints it as well.
    logging.getLogger("nodeprep.ssh").setLevel(logging.CRITICAL + 1)
    return "nodeprep.ssh"


def _first(known: Iterable[str], preferred: Container[str]) -> tuple[str, ...]:
    return tuple(sorted(known, key=lambda name: name not in preferred))


def _unreachable(error: Exception, hop: Hop, *, late: bool) -> NodeprepError:
    try_it = f"ssh -p {hop.port} {hop.user}@{hop.host} true"
    reason = str(error) or type(error).__name__
    if late or isinstance(error, TimeoutError):
        return DeadlinePassed(f"{hop} does not answer", hint=try_it)
    if "EOF" not in reason and (
        isinstance(error, paramiko.AuthenticationException) or "No authentication methods" in reason
    ):
        return LoginRefused(f"{hop} accepts none of our keys", hint=f"{try_it}   # or -i KEY")
    return Unreachable(f"{hop}: {reason}", hint=try_it)


def is_timeout(reason: str, transport: paramiko.Transport | None) -> bool:
    """Tell whether paramiko's ``reason`` for an end means that time ran out.

    It tells in words alone what kind of end it was. It goes on without a session where a
    handshake takes too long, and only then is the transport still there.
    """
    waiting = transport is not None and transport.is_active()
    return "timeout" in reason.lower() or (waiting and reason == "No existing session")


def _hang_up(client: paramiko.SSHClient, sock: Any) -> None:
    transport = client.get_transport()
    if transport is not None:
        # paramiko's watch over a handshake outlives one that failed.
        transport.packetizer.complete_handshake()
    if isinstance(sock, socket.socket):
        # Its thread sleeps over the socket: this wakes it.
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
    client.close()
    sock.close()
