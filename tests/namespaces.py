"""A node of its own kernel tables and files, on this machine: a network and a mount namespace.

ipset, iptables and our files are real there, at their real paths. What is written to ``/etc``,
``/var/lib`` and ``/run`` is gone with the namespace.
"""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from nodeprep import apply, plan, probe, verify
from nodeprep.model import Facts, Finding, Node, StepResult
from nodeprep.shell import Script
from nodeprep.story import Topic
from tests.shells import PATH, command

NONCE = "0123456789abcdef"
TOOLS = ("ip", "ipset", "iptables-nft", "iptables-legacy", "unshare", "nsenter")

_SETUP = """\
mount -t tmpfs tmpfs /mnt || exit
for folder in etc var/lib; do
  mkdir -p "/mnt/$folder/upper" "/mnt/$folder/work"
  mount -t overlay overlay \\
    -o "lowerdir=/$folder,upperdir=/mnt/$folder/upper,workdir=/mnt/$folder/work" "/$folder" || exit
done
mount -t tmpfs tmpfs /run && ip link set lo up && echo ready && exec sleep 3600
"""


@dataclass(frozen=True, kw_only=True)
class Namespace:
    """A node in namespaces; scripts run there in ``shell``."""

    pid: int
    shell: str = "dash"

    @property
    def enter(self) -> tuple[str, ...]:
        """The words that run a command there."""
        return ("nsenter", "--target", str(self.pid), "--net", "--mount", "--wd=/")

    def run(self, script: Script | str) -> bytes:
        """Return what a script prints there, as the transport runs it."""
        text = script.reveal() if isinstance(script, Script) else script
        done = subprocess.run(
            (*self.enter, *command(self.shell), "-s"),
            input=text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": PATH, "LC_ALL": "C", "HOME": "/root"},
            check=False,
            timeout=120,
        )
        return done.stdout

    def ask(self, statements: str) -> str:
        """Return what statements print there; each of them must succeed."""
        done = subprocess.run(
            (*self.enter, "sh", "-es"),
            input=statements,
            capture_output=True,
            text=True,
            env={"PATH": PATH, "LC_ALL": "C"},
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, f"{statements}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def look(self, node: Node, topics: Sequence[Topic]) -> Facts:
        """Probe this node."""
        return probe.parse(self.run(probe.script(node, topics, NONCE)), node, topics, NONCE)

    def apply(self, node: Node, topics: Sequence[Topic]) -> tuple[StepResult, ...]:
        """Look, and make what is to be changed; each step must succeed."""
        changes = plan.changes(node, self.look(node, topics), topics)
        if not changes:
            return ()
        run = apply.Run(id="20261123T070000Z-0a1b2c", operator="ada@desk")
        output = self.run(apply.script(node, changes, topics, run, NONCE))
        steps, log = apply.parse(output, changes, NONCE)
        assert [step.exit_status for step in steps] == [0] * len(steps), log
        return steps

    def verify(self, node: Node, topics: Sequence[Topic]) -> tuple[Finding, ...]:
        """Look, and judge."""
        return verify.findings(node, self.look(node, topics), topics)


@contextlib.contextmanager
def namespace(shell: str = "dash") -> Iterator[Namespace]:
    """Give a node in namespaces of its own; skips where there are none, or a tool is missing."""
    missing = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    if missing:
        pytest.skip(f"not installed here: {', '.join(missing)}")
    holder = subprocess.Popen(
        ("unshare", "--net", "--mount", "sh", "-c", _SETUP),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert holder.stdout
        said = holder.stdout.readline()
        if said != "ready\n":
            pytest.skip(f"no namespaces to be had here: {said}")
        yield Namespace(pid=holder.pid, shell=shell)
    finally:
        holder.kill()
        holder.communicate()
