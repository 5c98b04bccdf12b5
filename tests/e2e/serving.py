"""A node that serves, traffic to its services, and an observer's eyes on what is in its kernel."""

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nodeprep.lab.state import Lab
from tests.e2e.operator_of import Operator, Run

SERVICE, CONFIG = "10.254.7.7:80", "/var/lib/kube-proxy/config.yaml"
QUICK = ("--yes", "--soak", "1s", "--gate-limit", "150s", "--dead-man", "180s")
FOREIGN = "192.0.2.1:80"
STAND_IN = "/usr/local/bin/kube-proxy-stand-in"


def serve(node: Operator) -> None:
    """Let the node serve in iptables mode, beside things of others."""
    wish(node, mode="iptables")
    node.ask("sysctl -q -w net.netfilter.nf_conntrack_max=65536")
    node.ask("apt-get -q update && apt-get -q -y install ipvsadm ipset nftables conntrack curl")
    node.ask(
        f"ipvsadm -A -t {FOREIGN} -s rr && ipvsadm -a -t {FOREIGN} -r 192.0.2.9:80 -m && "
        "ipset create MINE hash:ip && ipset add MINE 192.0.2.7 && "
        "iptables -A INPUT -m set --match-set MINE src -m comment --comment mine -j DROP && "
        "iptables -t nat -A PREROUTING -d 192.0.2.8 -j RETURN && "
        "iptables-legacy -A INPUT -s 192.0.2.6 -j DROP"
    )


def write_wishes(lab: Lab, **wishes: str) -> None:
    """Write what kube-proxy should be into the lab's own inventory."""
    text = lab.inventory.read_text()
    for name, value in wishes.items():
        text = re.sub(rf"    {name}: .*\n", "", text)
        text = text.replace("  kube_proxy:\n", f"  kube_proxy:\n    {name}: {value}\n")
    lab.inventory.write_text(text)


def wish(node: Operator, **wishes: str) -> None:
    """Write what kube-proxy should be into the lab's own inventory, and let apply prepare it."""
    write_wishes(node.lab, **wishes)
    prepared = node.nodeprep("apply")
    assert prepared.code in (0, 1), prepared.out + prepared.err
    assert not re.search("^  failed  ", prepared.out, re.MULTILINE), prepared.out


def foreign(node: Operator) -> str:
    """Return all that is not kube-proxy's: rules of both backends, sets, virtual servers."""
    return node.ask(
        "for t in filter nat mangle; do iptables-nft-save -t $t; iptables-legacy-save -t $t; done "
        "| sed 's/\\[[0-9:]*\\]//' | grep -v -e KUBE- -e '^#' -e '^:[A-Z]* ' -e '^[*]' -e COMMIT; "
        "ipset save MINE; ipvsadm -Sn | grep -F 192.0.2.; iptables-save | grep -c NPREP || :"
    )


@contextmanager
def load(node: Operator, rate: int = 10) -> Iterator[dict[str, Any]]:
    """Open new connections meanwhile; afterwards the dictionary says what came of them."""
    node.ask(
        "rm -f /run/load.json; systemctl reset-failed load 2>/dev/null; systemd-run --quiet "
        f"--unit=load lab-traffic load --to {SERVICE} --rate {rate} --reset --seconds 900 "
        "--out /run/load.json"
    )
    came: dict[str, Any] = {}
    yield came
    came.update(json.loads(node.ask("systemctl stop load; cat /run/load.json")))


@contextmanager
def held(node: Operator) -> Iterator[dict[str, Any]]:
    """Keep one connection open and in use; afterwards the dictionary says whether it lived."""
    node.ask(
        "rm -f /run/held.json; systemctl reset-failed held 2>/dev/null; systemd-run --quiet "
        f"--unit=held lab-traffic hold --to {SERVICE} --every 500ms --out /run/held.json; sleep 2"
    )
    came: dict[str, Any] = {}
    yield came
    came.update(json.loads(node.ask("systemctl stop held; cat /run/held.json")))


# One byte is read of each answer: the rest of a datagram is gone with it.
_DATAGRAMS = """\
exec 3<>/dev/udp/10.254.7.8/53
sent=0 lost=0
while sleep 0.5; do
  echo question >&3 2>/dev/null
  sent=$((sent + 1))
  read -r -t 2 -N 1 -u 3 _ || lost=$((lost + 1))
  echo "$sent $lost" >/run/datagrams
done
"""


@contextmanager
def datagrams(node: Operator) -> Iterator[dict[str, int]]:
    """Ask a service over UDP from one port outside; afterwards: how many were sent, and lost.

    Not from the node itself: in ipvs mode such a socket has the service's address for good.
    """
    node.ask(
        "rm -f /run/datagrams; systemctl reset-failed datagrams 2>/dev/null; systemd-run --quiet "
        f"--unit=datagrams ip netns exec lab-outside bash -c {shlex.quote(_DATAGRAMS)}"
    )
    came: dict[str, int] = {}
    yield came
    said = node.ask("sleep 5; systemctl stop datagrams; cat /run/datagrams").split()
    came.update(sent=int(said[0]), lost=int(said[1]))


def artefacts(node: Operator) -> dict[str, int]:
    """Count what each mode leaves, with the kernel's own tools."""
    said = node.ask(
        "echo iptables $(iptables-save -t nat | grep -c -- '-j KUBE-SVC-'); "
        "echo device $(ip link show kube-ipvs0 2>/dev/null | wc -l); "
        "echo servers $(ipvsadm -Sn | grep -c '^-A .* 10[.]254[.]0[.]1:443 '); "
        "echo sets $(ipset list -n | grep -c ^KUBE-); "
        "echo tables $(nft list tables | grep -c ' kube-proxy$'); "
        "echo bridge $( (iptables-save; ipset list -n; nft list tables) | grep -cE "
        "'NPREP|nodeprep-bridge')"
    )
    return {name: int(count) for name, count in map(str.split, said.splitlines())}


def is_clean(node: Operator, mode: str) -> bool:
    seen = artefacts(node)
    there = {name for name, count in seen.items() if count}
    return (
        there
        == {
            "iptables": {"iptables"},
            "ipvs": {"device", "servers", "sets"},
            "nftables": {"tables"},
        }[mode]
    )


def switch(node: Operator, to: str, *more: str) -> Run:
    return node.nodeprep("switch", "--to", to, *QUICK, *more)


def words(node: Operator, *arguments: str) -> list[str]:
    return [arguments[0], "-i", str(node.lab.inventory), *arguments[1:]]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def begun(node: Operator, to: str, *more: str) -> "subprocess.Popen[str]":
    """Begin a switch in a process of its own."""
    command = [sys.executable, "-m", "nodeprep", *words(node, "switch", "--to", to, *QUICK, *more)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()
    )


def killed(node: Operator, point: int, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run nodeprep until it kills itself at a point; see ``tests.e2e.killed``."""
    command = [sys.executable, "-m", "tests.e2e.killed", str(point), *words(node, *arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(), check=False, timeout=1800
    )


def nodeprep_runs() -> str:
    command = [sys.executable, "-m", "nodeprep", "runs"]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment(), check=True
    ).stdout


def wait_for_record(verb: str) -> None:
    """Wait until the newest roll says in its journal that it begins a verb."""
    folder = Path(os.environ["XDG_STATE_HOME"]) / "nodeprep" / "runs"
    end = time.monotonic() + 900
    while time.monotonic() < end:
        journals = sorted(folder.glob("*.jsonl"))
        if journals and f'"verb":"{verb}"' in journals[-1].read_text():
            return
        time.sleep(0.5)
    raise AssertionError(f"the roll never came to {verb}")


def wait_until(node: Operator, command: str, *, seconds: float) -> None:
    """Wait until a command on the node succeeds."""
    end = time.monotonic() + seconds
    while node.tried(command).code:
        assert time.monotonic() < end, command
        time.sleep(3)


def cut_off(node: Operator, *, seconds: int) -> None:
    """Let a rule on the node drop all of SSH for a while, from a second from now on."""
    rule = "INPUT -p tcp --dport 22 -m comment --comment cut -j DROP"
    steps = f"sleep 1; iptables -I {rule}; sleep {seconds}; iptables -D {rule}"
    node.ask(
        f"systemctl reset-failed cut 2>/dev/null; systemd-run --quiet --unit=cut sh -c '{steps}'"
    )
