"""Several processes: every node once, an end that is heard, and no secret in what comes back."""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from nodeprep.errors import Interrupted, NodeFailed
from nodeprep.executors import Work
from nodeprep.model import Node, Outcome
from nodeprep.processes import processes

NODES = tuple(Node(name=f"node{n}", address="192.0.2.1") for n in range(9))


@dataclass(frozen=True)
class Making:
    """Makes work in another process: it tells which one that is."""

    seconds: float = 0
    dies_at: str = ""

    def __call__(self) -> Work:
        return self._work

    def _work(self, node: Node) -> Outcome:
        if node.name == self.dies_at:
            os._exit(1)
        time.sleep(self.seconds)
        return Outcome(node=node, log=str(os.getpid()))


def ran(
    make: Callable[[], Work],
    count: int,
    stop: threading.Event | None = None,
    parallel: int = 4,
) -> list[Outcome]:
    return list(processes(make, NODES, parallel, stop or threading.Event(), count=count))


@pytest.mark.parametrize("count", [1, 3, 40])
def test_every_node_is_yielded_once_and_each_process_does_its_part(count: int) -> None:
    outcomes = ran(Making(), count)
    assert sorted(outcome.node.name for outcome in outcomes) == sorted(n.name for n in NODES)
    pids = {outcome.log for outcome in outcomes}
    assert len(pids) == min(count, len(NODES))
    assert str(os.getpid()) not in pids


def test_a_process_that_ends_costs_the_nodes_it_had_and_no_others() -> None:
    outcomes = {outcome.node.name: outcome for outcome in ran(Making(dies_at="node0"), 3)}
    assert len(outcomes) == len(NODES)
    assert isinstance(outcomes["node0"].error, NodeFailed)
    others = [outcomes[node.name] for node in NODES[1::3] + NODES[2::3]]
    assert all(outcome.error is None for outcome in others)


def test_a_stop_is_heard_in_all_of_them() -> None:
    stop = threading.Event()
    found = []
    for outcome in processes(Making(seconds=0.5), NODES, 2, stop, count=2):
        stop.set()
        found.append(outcome)
    assert len(found) == len(NODES)
    assert any(isinstance(outcome.error, Interrupted) for outcome in found)
    assert any(outcome.error is None for outcome in found)


def test_whoever_stops_listening_leaves_no_process_behind() -> None:
    coming = processes(Making(), NODES, 2, threading.Event(), count=2)
    pid = int(next(coming).log)
    coming.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
