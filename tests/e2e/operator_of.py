"""Two hands on one node: nodeprep's, as its users run it, and an observer's, without nodeprep."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodeprep.lab import lifecycle
from nodeprep.lab.readiness import ssh_command
from nodeprep.lab.state import Lab

OURS = (
    "/etc/modules-load.d/nodeprep.conf",
    "/etc/sysconfig/modules/ipvs.modules",
    "/etc/sysctl.d/99-nodeprep.conf",
    "/etc/systemd/system/kube-proxy.service",
    "/etc/kubernetes/kube-proxy.kubeconfig",
    "/var/lib/kube-proxy/config.yaml",
    "/etc/NetworkManager/conf.d/nodeprep.conf",
    "/etc/systemd/networkd.conf.d/nodeprep.conf",
    "/etc/systemd/network/00-nodeprep.network",
)
"""Every path that nodeprep may write on these nodes, apart from its own folder."""


@dataclass(frozen=True, kw_only=True)
class Operator:
    """One node of the lab, and everything a test does to it or asks of it.

    ``enter`` is what stands before each command, where the lab is in a network namespace.
    """

    lab: Lab
    name: str
    enter: tuple[str, ...] = ()

    def nodeprep(self, *arguments: str, inventory: Path | None = None) -> "Run":
        """Run nodeprep on this node alone; ``inventory`` replaces the lab's own."""
        path = str(inventory or self.lab.inventory)
        return run(arguments[0], "-i", path, "--limit", self.name, *arguments[1:])

    def ask(self, command: str, *, user: str = "root") -> str:
        """Return what a shell command on the node prints; it must succeed."""
        return self.tried(command, user=user).check().out

    def tried(self, command: str, *, user: str = "root") -> "Run":
        """Run a shell command on the node and return how it ended."""
        words = ssh_command(self.lab, self.lab.node(self.name), [command], user=user)
        return finished([*self.enter, *words])

    def findings(self, inventory: Path | None = None) -> dict[str, dict[str, str]]:
        """Return nodeprep's findings by name."""
        said = self.nodeprep("verify", "--output", "json", inventory=inventory).json()
        return {finding["name"]: finding for finding in said["nodes"][0]["findings"]}

    def reboot(self) -> None:
        """Boot the node anew and wait for it."""
        lifecycle.reboot(self.lab, self.name)

    def tree(self) -> dict[str, str]:
        """Return time and digest of every file that is configuration, by path."""
        said = self.ask(
            "set -- /etc /usr/local; for more in /var/lib/kube-proxy /var/lib/nodeprep; do "
            '[ -d $more ] && set -- "$@" $more; done; '
            """find "$@" -xdev -type f ! -name ld.so.cache -printf '%p=%T@\\n'; """
            'find "$@" -xdev -type f ! -name ld.so.cache -print0 | xargs -0 sha256sum --tag'
        )
        times = dict(line.rsplit("=", 1) for line in said.splitlines() if line.startswith("/"))
        digests = dict(re.findall(r"^SHA256 \((.*)\) = (\w+)$", said, re.MULTILINE))
        return {path: f"{times[path]} {digest}" for path, digest in digests.items()}

    def sshd_counts(self) -> tuple[int, int]:
        """Return how many connections and sessions sshd has logged, this one's own included."""
        said = self.ask("journalctl -b -u ssh -o cat")
        return said.count("\nConnection from "), said.count("\nStarting session: command")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A process that has ended."""

    code: int
    out: str
    err: str

    def check(self, code: int = 0) -> "Run":
        """Return this run where it ended as it should; fail with all it said where not."""
        said = f"{self.out[-3000:]}\n{self.err[-3000:]}"
        assert self.code == code, f"exit {self.code}, not {code}\n{said}"
        return self

    def json(self) -> Any:
        """Return its output, read as JSON."""
        return json.loads(self.out)


def run(*arguments: str) -> Run:
    """Run nodeprep as its users do: a process of its own, no terminal."""
    return finished([sys.executable, "-m", "nodeprep", *arguments])


def finished(words: list[str]) -> Run:
    """Run a program, which finds nodeprep as it is here, and return how it ended."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=1200, check=False, env=environment
    )
    return Run(code=done.returncode, out=done.stdout, err=done.stderr)
