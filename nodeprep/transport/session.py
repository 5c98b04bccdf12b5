"""A script over an open way: sent in one piece, its answer counted and capped, under a limit."""

import contextlib
import secrets
import threading
import time
from dataclasses import dataclass

import paramiko

from nodeprep.errors import DeadlinePassed, FactError, LoginRefused, Unreachable
from nodeprep.frames import CAP
from nodeprep.model import Node
from nodeprep.shell import Script, Secret
from nodeprep.transport.connection import is_timeout, key_exchange

PIECE = 1 << 18
"""Bytes in one send: paramiko's cost of sending grows with the square of a longer piece."""

ENVIRONMENT = (
    "/usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin "
    "LC_ALL=C HOME=/root"
)
"""Nothing that a start-up file set, no poisoned path, no language but C reaches our scripts.

``env`` by its path: a start-up file may have put another one, or a function, in front of it.
"""


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
    transport: paramiko.Transport
    password: Secret | None
    channel_limit: float

    @property
    def key_exchange(self) -> str:
        """The name of the method by which keys were exchanged."""
        return key_exchange(self.transport)

    def run(self, script: Script, limit: float) -> bytes:
        """Run ``script`` as root on the node; see :class:`Session`."""
        end, received = time.monotonic() + limit, bytearray()
        prompt = f"nodeprep-{secrets.token_hex(8)}"
        try:
            with contextlib.closing(self._channel()) as channel:
                # paramiko waits without a limit for the answer to this request.
                channel.event = _Bounded(end)
                channel.exec_command(command_line(self.node.sudo.method, prompt, limit))
                if self.node.sudo.method == "password":
                    _give_password(channel, prompt, self._password(), end)
                _send(channel, script.reveal().encode(), end)
                return explained(_receive(channel, end, received), self.node)
        except (paramiko.SSHException, OSError, EOFError) as error:
            late = time.monotonic() >= end or is_timeout(str(error), self.transport)
            if late or isinstance(error, TimeoutError):
                raise DeadlinePassed(
                    f"no answer within {int(limit)} s",
                    hint=f"ssh to {self.node.name} and look",
                    output=bytes(received),
                ) from error
            raise Unreachable(
                f"the session was lost: {error or type(error).__name__}",
                hint="run the command again: it goes on from what is there",
                output=bytes(received),
            ) from error

    def _channel(self) -> paramiko.Channel:
        channel = self.transport.open_session(timeout=self.channel_limit)
        # One stream to drain: a second one that fills its window would block the first.
        channel.set_combine_stderr(True)
        return channel

    def _password(self) -> Secret:
        if self.password is None:
            raise LoginRefused("sudo wants a password and none was given")
        return self.password


class _Bounded(threading.Event):
    """An event that nobody waits for beyond a moment of the monotonic clock."""

    def __init__(self, end: float) -> None:
        super().__init__()
        self._end = end

    def wait(self, timeout: float | None = None) -> bool:
        left = max(0.0, self._end - time.monotonic())
        if not super().wait(left if timeout is None else min(left, timeout)):
            raise TimeoutError
        return True


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


def _receive(channel: paramiko.Channel, end: float, received: bytearray) -> bytes:
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


def explained(output: bytes, node: Node) -> bytes:
    """Return an answer that has frames; raise what its last words mean where it has none."""
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
