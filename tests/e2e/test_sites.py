"""A roll over two sites, through their workers: nodes that nobody else reaches, and a worker lost.

Each site is a lab of its own in a network namespace of its own. Kernels, kube-proxies, scheduler
and workers are real.
"""

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nodeprep.lab import lifecycle
from nodeprep.lab.materials import gather
from nodeprep.lab.settings import Settings, default_cache
from tests.e2e.operator_of import Operator, finished
from tests.e2e.serving import is_clean, load, write_wishes
from tests.sites import SITES, Sites, sites, until

if TYPE_CHECKING:
    import subprocess

pytestmark = [pytest.mark.lab, pytest.mark.long]
NETWORKS = {"east": "127.79.21", "west": "127.79.22"}
QUICK = (
    *("--yes", "--canary", "0", "--batch", "2", "--soak", "1s", "--linger", "1s"),
    *("--gate-limit", "150s", "--dead-man", "240s"),
)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Two"]:
    folder = tmp_path_factory.mktemp("two")
    with sites(folder, 0) as one:
        nodes = []
        for site in SITES:
            one.stack.callback(lifecycle.down, folder / site)
            # Of the room the network alone: what labs are made of is where it is.
            enter = one.rooms[site].enter[:-2]
            _boot(folder / site, NETWORKS[site], enter)
            nodes.append(Operator(lab=lifecycle.load(folder / site), name="node1", enter=enter))
            one.add_worker(site)
        ready = Two(sites=one, nodes=tuple(nodes))
        for mode in ("iptables", "ipvs"):
            ready.wish(mode)
        yield ready


def test_a_roll_goes_over_both_sites_and_a_worker_that_dies_in_it_costs_nothing(two: "Two") -> None:
    (only,) = two.sites.workers["east"]

    def lose_a_worker() -> None:
        until(lambda: {"verb": "switch", "node": "east"} in two.intents())
        time.sleep(2)
        # Nobody else can have what goes on at the node: it is lost with this one, and sent again.
        only.send_signal(signal.SIGKILL)
        two.sites.add_worker("east")

    two.roll("switch", "--to", "ipvs", *QUICK, meanwhile=lose_a_worker)
    assert all(is_clean(node, "ipvs") for node in two.nodes)


def test_the_roll_is_taken_back_through_the_workers_too(two: "Two") -> None:
    two.roll("rollback", two.rolls()[-1].stem, *QUICK)
    assert all(is_clean(node, "iptables") for node in two.nodes)


@dataclass(frozen=True, kw_only=True)
class Two:
    """Two sites with a serving node each, and nodeprep in the control room."""

    sites: Sites
    nodes: tuple[Operator, ...]

    def wish(self, mode: str) -> None:
        """Write what both nodes should be, and let apply prepare them."""
        for node in self.nodes:
            write_wishes(node.lab, mode=mode)
        text = "".join(_entry(node) for node in self.nodes)
        (self.sites.folder / "inventory.yaml").write_text(f"nodes:\n{text}")
        # Prepared for a mode that it is not in, a node is "not as wanted": 1.
        ended(self.sites.nodeprep("apply"), int(mode == "ipvs"))

    def roll(self, *words: str, meanwhile: Callable[[], None] | None = None) -> None:
        """Take both nodes to a mode under load: nothing is lost, and each is changed once."""
        before = [starts(node) for node in self.nodes]
        rolls = self.rolls()
        with ExitStack() as stack:
            came = [stack.enter_context(load(node, rate=5)) for node in self.nodes]
            begun = self.sites.nodeprep(*words)
            until(lambda: self.rolls() > rolls or begun.poll() is not None)
            if meanwhile:
                meanwhile()
            ended(begun, 0)
        for many in came:
            assert many["failed"] == 0, json.dumps(many)
            assert many["attempted"] > 50
        assert [starts(node) for node in self.nodes] == [count + 1 for count in before]

    def rolls(self) -> list[Path]:
        return sorted((self.sites.folder / ".local/state/nodeprep/runs").glob("*.jsonl"))

    def intents(self) -> list[dict[str, str]]:
        """Return what the newest roll has begun, in order."""
        records = map(json.loads, self.rolls()[-1].read_text().splitlines())
        return [
            {name: record[name] for name in ("verb", "node")}
            for record in records
            if record["kind"] == "intent"
        ]


def _boot(folder: Path, network: str, enter: tuple[str, ...]) -> None:
    """Boot a node with a control plane where its worker will stand."""
    settings = Settings(
        folder=folder, cache=default_cache(), nodes=1, network=network, cluster=True
    )
    gather(settings, print)
    words = ("lab", "up", "--dir", str(folder), "--nodes", "1", "--network", network, "--cluster")
    finished([*enter, sys.executable, "-m", "nodeprep", *words]).check()


def _entry(node: Operator) -> str:
    """Return a node's part of the inventory: all that its lab's own says, and its site."""
    wishes = node.lab.inventory.read_text().partition("defaults:\n")[2].partition("nodes:\n")[0]
    site = node.lab.folder.name
    indented = "".join(f"  {line}\n" for line in wishes.splitlines())
    address = node.lab.nodes[0].address
    return f"  - name: {site}\n    address: {address}\n    labels: {{site: {site}}}\n{indented}"


def ended(process: "subprocess.Popen[str]", code: int) -> None:
    out, err = process.communicate(timeout=1800)
    assert process.returncode == code, f"{out[-3000:]}\n{err[-3000:]}"


def starts(node: Operator) -> int:
    """Count how often the node has started kube-proxy."""
    return int(node.ask("journalctl -u kube-proxy -o cat | grep -c '^Started '"))
