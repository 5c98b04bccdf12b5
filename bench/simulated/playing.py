"""A fleet that is being played: its servers, processes of their own, and its files in a folder."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from bench.simulated import fleet
from bench.simulated.answers import RECORDED
from bench.simulated.conduct import Rates

Server = subprocess.Popen[str]


@dataclass(frozen=True, kw_only=True)
class Diary:
    """What all servers together have done so far; ``cpu`` in seconds.

    ``first`` is when the first connection came, by the clock of ``time.monotonic``.
    """

    connections: Counter[str]
    sessions: int
    cpu: float
    first: float | None


@dataclass(frozen=True, kw_only=True)
class Played:
    """Servers on one port, and the keys that open all their nodes."""

    folder: Path
    keys: fleet.Keys
    port: int
    servers: Sequence[Server]

    def inventory(self, nodes: int) -> Path:
        """Write an inventory of so many nodes, with the known_hosts file that it names."""
        numbers = range(1, nodes + 1)
        known_hosts = self.folder / f"known_hosts-{nodes}"
        key = self.keys.public(self.keys.host)
        known_hosts.write_text(fleet.known_hosts(numbers, self.port, key))
        path = self.folder / f"inventory-{nodes}.yaml"
        path.write_text(
            fleet.inventory(
                numbers,
                port=self.port,
                identity=self.keys.user,
                known_hosts=known_hosts,
                desired=(RECORDED / "desired.yaml").read_text(),
            )
        )
        return path

    def diary(self) -> Diary:
        """Ask every server what it has done so far."""
        told = [_ask(server) for server in self.servers]
        return Diary(
            connections=sum((Counter(each["connections"]) for each in told), Counter[str]()),
            sessions=sum(each["sessions"] for each in told),
            cpu=sum(each["cpu"] for each in told),
            first=min((each["first"] for each in told if each["first"]), default=None),
        )


@contextmanager
def played(folder: Path, rates: Rates, servers: int) -> Iterator[Played]:
    """Play a fleet that conducts itself by ``rates`` while the context lasts."""
    folder.mkdir()
    keys = fleet.make_keys(folder)
    with ExitStack() as stack:
        first, port = _start(stack, keys, rates, 0)
        others = [_start(stack, keys, rates, port)[0] for _ in range(servers - 1)]
        yield Played(folder=folder, keys=keys, port=port, servers=(first, *others))


def _start(stack: ExitStack, keys: fleet.Keys, rates: Rates, port: int) -> tuple[Server, int]:
    command = (
        *(sys.executable, "-m", "bench.simulated.server"),
        *("--host-key", str(keys.host), "--user-key", f"{keys.user}.pub"),
        *("--answer", str(RECORDED / "verify.txt"), "--port", str(port)),
        *rates.words,
    )
    # A server ends with its standard input, and so with whoever started it.
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    stack.callback(process.communicate)
    return process, int(_line(process).split()[1])


def _ask(server: Server) -> dict[str, Any]:
    to = cast("IO[str]", server.stdin)
    to.write("tell\n")
    to.flush()
    told: dict[str, Any] = json.loads(_line(server))
    return told


def _line(server: Server) -> str:
    line = cast("IO[str]", server.stdout).readline()
    if not line:
        raise SystemExit(f"a simulated node's server ended: exit code {server.wait()}")
    return line
