"""The lab's nodes around a measured run: what all tools need there, bare again, judged, counted."""

import json
import os
import re
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.comparison.contenders import PEERS, Desk, nodeprep
from nodeprep.lab.readiness import ssh_command
from nodeprep.lab.state import LabNode

NEEDED_BY_TOOLS = ("python3-apt",)
"""What Ansible needs on a node, Python with it: there before anything is measured."""

_TICKS = os.sysconf("SC_CLK_TCK")
_MARK = "journalctl --sync; journalctl --quiet --no-pager --lines 0 --show-cursor"
_READ = "journalctl --sync; journalctl --quiet --no-pager -t sshd -o cat --after-cursor '%s'"


@dataclass(frozen=True, kw_only=True)
class Logins:
    """What a node's sshd wrote down since a mark: connections let in, and sessions in them."""

    connections: int
    sessions: int


def on_node(desk: Desk, node: LabNode, command: str, stdin: str = "") -> str:
    """Return what a command on a node prints. Raises SystemExit with its words if it fails."""
    words = ssh_command(desk.lab, node, [command])
    done = subprocess.run(words, check=False, capture_output=True, text=True, input=stdin)
    if done.returncode:
        raise SystemExit(f"{node.name}: {command}\n{done.stdout}{done.stderr}")
    return done.stdout


def on_all(desk: Desk, command: str, stdin: str = "") -> Mapping[str, str]:
    """Return what a command prints on each node, by name; all at once."""
    nodes = desk.lab.nodes
    with ThreadPoolExecutor(len(nodes)) as pool:
        said = pool.map(lambda node: on_node(desk, node, command, stdin), nodes)
        return dict(zip((node.name for node in nodes), said, strict=True))


# --- bare, and prepared ---------------------------------------------------------------------


def remember_bare(desk: Desk) -> None:
    """Have each node write down what is there, to go back to it; once is enough."""
    _bare(desk, "[ -d /var/lib/bench ] || sh -s -- remember")


def make_bare(desk: Desk) -> None:
    """Take away all that a preparation brought."""
    _bare(desk, "sh -s -- return")


def _bare(desk: Desk, command: str) -> None:
    on_all(desk, command, (PEERS / "bare.sh").read_text())


def to_do(desk: Desk) -> Mapping[str, list[str]]:
    """Return, by node, what nodeprep would change there: on a bare node always the same."""
    done = _nodeprep(desk, "plan", "--output", "json")
    nodes = json.loads(done.stdout)["nodes"]
    return {node["name"]: [change["summary"] for change in node["changes"]] for node in nodes}


def expect_prepared(desk: Desk, by: str) -> None:
    """Raise SystemExit unless each node is as it should be, whoever made it so."""
    done = _nodeprep(desk, "verify", "--quiet")
    if done.returncode:
        raise SystemExit(f"{by} left the nodes not as wanted:\n{done.stdout}{done.stderr}")


def _nodeprep(desk: Desk, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(nodeprep(desk, verb, *words), check=False, capture_output=True, text=True)


# --- the machine ----------------------------------------------------------------------------


def busy_seconds() -> float:
    """Return how many seconds all processors of this machine have worked since its boot."""
    user, nice, system, _, _, irq, softirq = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / _TICKS


def lab_seconds(desk: Desk) -> float:
    """Return how many seconds of the machine's processors the nodes have taken."""
    return sum(_seconds(node.process.pid) for node in desk.lab.nodes if node.process)


def _seconds(pid: int) -> float:
    # utime and stime are fields 14 and 15, counted behind the name.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


# --- sshd's log -----------------------------------------------------------------------------


def mark(desk: Desk) -> Mapping[str, str]:
    """Return where each node's journal ends now."""
    said = on_all(desk, _MARK)
    return {name: text.split("cursor: ")[1].strip() for name, text in said.items()}


def logins_since(desk: Desk, marks: Mapping[str, str]) -> Mapping[str, Logins]:
    """Return how often each node was logged in to since the marks, this reading left out."""
    with ThreadPoolExecutor(len(desk.lab.nodes)) as pool:
        logs = pool.map(lambda node: on_node(desk, node, _READ % marks[node.name]), desk.lab.nodes)
        return {node.name: counted(log) for node, log in zip(desk.lab.nodes, logs, strict=True)}


def counted(log: str) -> Logins:
    r"""Count the lines of an sshd with LogLevel VERBOSE, but for the login that read them.

    >>> counted("Accepted publickey for root\nStarting session: command for root\n" * 3)
    Logins(connections=2, sessions=2)
    """
    return Logins(
        connections=len(re.findall(r"^Accepted \w+ for ", log, re.MULTILINE)) - 1,
        sessions=len(re.findall("^Starting session: ", log, re.MULTILINE)) - 1,
    )
