"""How long new connections fail while one node changes its mode: the documented way, and ours.

One virtual node, a real control plane, 50 new connections a second through a ClusterIP. The
documented way is to stop kube-proxy, to run it once with ``--cleanup``, and to start it in the new
mode. Into and out of nftables the node runs the lab's stand-in for a newer kube-proxy.

    python bench/switch_gap.py [FROM:TO:WAY ...]      such as ipvs:iptables:documented

Without arguments it takes all six directions both ways: an hour where processors are emulated.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodeprep.lab import lifecycle
from nodeprep.lab.readiness import ssh_command
from nodeprep.lab.settings import Settings, default_cache
from nodeprep.lab.state import Lab

STAND_IN = "/usr/local/bin/kube-proxy-stand-in"
REAL = "/usr/local/bin/kube-proxy"
DIRECTIONS = (
    ("iptables", "ipvs", REAL),
    ("ipvs", "iptables", REAL),
    ("iptables", "nftables", STAND_IN),
    ("nftables", "iptables", STAND_IN),
    ("ipvs", "nftables", STAND_IN),
    ("nftables", "ipvs", STAND_IN),
)
NODE = "node1"
CALM = 5


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A lab of one node, and the inventory as it is edited on the way."""

    lab: Lab

    def on_node(self, command: str) -> str:
        """Return what a command on the node prints; it must succeed."""
        words = ssh_command(self.lab, self.lab.node(NODE), [command])
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout

    def nodeprep(self, *words: str, codes: tuple[int, ...] = (0,)) -> str:
        """Return what nodeprep says; its exit code must be one of ``codes``."""
        inventory = str(self.lab.inventory)
        command = [sys.executable, "-m", "nodeprep", words[0], "-i", inventory, *words[1:]]
        runs = {**os.environ, "XDG_STATE_HOME": str(self.lab.folder / "runs")}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=runs)
        if done.returncode not in codes:
            raise SystemExit(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")
        return done.stdout

    def prepare(self, mode: str, binary: str) -> None:
        """Make the node fit for a mode; its kube-proxy goes on in the mode it is in."""
        text = re.sub(r"    (mode|binary): .*\n", "", self.lab.inventory.read_text())
        lines = f"  kube_proxy:\n    mode: {mode}\n    binary: {binary}\n"
        self.lab.inventory.write_text(text.replace("  kube_proxy:\n", lines))
        self.nodeprep("apply", codes=(0, 1))

    @contextmanager
    def load(self) -> Iterator[dict[str, Any]]:
        """Open connections meanwhile; what they came to is in the dictionary afterwards."""
        self.on_node(
            "systemctl reset-failed bench-load 2>/dev/null; rm -f /run/bench.json; "
            "systemd-run --quiet --unit=bench-load lab-traffic load --to 10.254.7.7:80 "
            "--rate 50 --reset --seconds 900 --out /run/bench.json"
        )
        time.sleep(CALM)
        came: dict[str, Any] = {}
        yield came
        time.sleep(CALM)
        came.update(json.loads(self.on_node("systemctl stop bench-load; cat /run/bench.json")))


def documented(bench: Bench, to: str, binary: str) -> None:
    """Switch as the documentation says: stop, clean up, start."""
    unit, config = "kube-proxy.service", "/var/lib/kube-proxy/config.yaml"
    # The stand-in cleans when it starts; to clean up is the real one's.
    tables = "nft delete table ip kube-proxy 2>/dev/null; " if binary == STAND_IN else ""
    bench.on_node(
        f"systemctl stop {unit}; {REAL} --cleanup >/dev/null 2>&1; {tables}"
        f"sed -i 's/^mode: .*/mode: {to}/' {config}; systemctl start {unit}"
    )
    wait_for(bench, to)


def wait_for(bench: Bench, mode: str) -> None:
    """Wait until kube-proxy says that it is in a mode and has synced."""
    metric = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"
    bench.on_node(
        "ask() { exec 3<>/dev/tcp/127.0.0.1/10249 && "
        'printf "GET $1 HTTP/1.0\\r\\n\\r\\n" >&3 && cat <&3; }; '
        f"for _ in $(seq 120); do (ask /proxyMode | grep -q {mode}) 2>/dev/null && "
        f"(ask /metrics | grep -q '^{metric}.* [1-9]') 2>/dev/null && exit; sleep 1; done; exit 1"
    )


def careful(bench: Bench, to: str, _: str) -> None:
    """Switch as nodeprep does."""
    bench.nodeprep("switch", "--to", to, "--yes", "--soak", "1s", "--linger", "1s")


WAYS = {"documented": documented, "nodeprep": careful}


def measure(bench: Bench) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """Go each direction in each way, back to its beginning by the careful one between them."""
    chosen = sys.argv[1:]
    for gone, to, binary in DIRECTIONS:
        for name, way in WAYS.items():
            if chosen and f"{gone}:{to}:{name}" not in chosen:
                continue
            be_in(bench, gone, binary)
            bench.prepare(to, binary)
            with bench.load() as came:
                way(bench, to, binary)
            yield f"{gone} -> {to}", name, binary, came


def be_in(bench: Bench, mode: str, binary: str) -> None:
    """Bring the node into a mode, with all files as nodeprep writes them."""
    bench.prepare(mode, binary)
    bench.nodeprep("switch", "--to", mode, "--yes", "--soak", "0s", "--linger", "0s")
    bench.nodeprep("apply")


def main() -> None:
    """Print a row for each direction and way."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "lab"
        lab = lifecycle.up(
            Settings(folder=folder, cache=default_cache(), nodes=1, cluster=True), print
        )
        try:
            bench = Bench(lab=lab)
            bench.nodeprep("apply")
            print("| direction | way | connections | failed | longest gap |\n|---|---|---|---|---|")
            for direction, way, _, came in measure(bench):
                failed, gap = came["failed"], came["longest_gap"]
                row = f"| {direction} | {way} | {came['attempted']} | {failed} | {gap:.1f} s |"
                print(row, flush=True)
        finally:
            lifecycle.down(folder)


if __name__ == "__main__":
    main()
