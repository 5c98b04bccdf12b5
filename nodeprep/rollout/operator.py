"""What an operator adds to a roll: gates of their own, and a probe that counts what is lost."""

import re
from dataclasses import dataclass
from typing import Literal

from nodeprep.errors import UsageError
from nodeprep.shell import words


@dataclass(frozen=True)
class TcpTarget:
    """An address that nodes open TCP connections to."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One thing that must work before a node counts as switched.

    ``tcp`` and ``http`` are asked from the node, ``command`` is run by its root shell, and
    ``local`` by the controller's, with the node's name in ``NODEPREP_NODE``.
    """

    kind: Literal["tcp", "http", "command", "local"]
    text: str
    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def name(self) -> str:
        """What the gate is called in reports."""
        return f"gate {self.text}"


_ADDRESS = r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z][0-9A-Za-z.-]*):(\d{1,5})"


def parse_target(text: str) -> TcpTarget:
    """Read ``tcp://HOST:PORT``, an IPv6 host in brackets. Raises UsageError for anything else."""
    match = re.fullmatch(rf"tcp://{_ADDRESS}", text)
    if match is None or not 0 < int(match[2]) < 1 << 16:
        raise UsageError(f"{text!r} is no address", hint="write tcp://10.254.7.7:80")
    return TcpTarget(host=match[1].strip("[]"), port=int(match[2]))


def parse_gate(text: str) -> Gate:
    """Read ``tcp://HOST:PORT`` or ``http://HOST:PORT/PATH``; UsageError for anything else."""
    match = re.fullmatch(rf"http://{_ADDRESS}(/[!-~]*)?", text)
    if match is not None and 0 < int(match[2]) < 1 << 16:
        host, port, path = match.groups()
        return Gate(kind="http", text=text, host=host, port=int(port), path=path or "/")
    if not text.startswith("tcp://"):
        raise UsageError(
            f"{text!r} is no gate", hint="write tcp://HOST:PORT or http://HOST:PORT/PATH"
        )
    target = parse_target(text)
    return Gate(kind="tcp", text=text, host=target.host, port=target.port)


def question(gate: Gate) -> str:
    """Return the statement that asks ``gate`` on a node, and succeeds where it is open.

    It needs the functions of ``shell.TCP_OPEN``.
    """
    match gate.kind:
        case "tcp":
            return f"tcp_open {words(gate.host, str(gate.port))}"
        case "http":
            return f"http_ok {words(gate.host, str(gate.port), gate.path)}"
        case _:
            return f"timeout 60 sh -c {words(gate.text)} </dev/null 2>&1"
