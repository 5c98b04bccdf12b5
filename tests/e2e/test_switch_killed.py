"""A roll over serving nodes; its controller is killed at its effects, and resumed.

kill -9 strikes when an intent has just been written and nothing was done, and when all of it was
done and nothing written. Nobody helps a node by hand. Where NODEPREP_EVERY_EFFECT=1 says so, it is
tried at both moments of each verb on three nodes. Else it is two nodes, one of the moments for each
verb of the first, in turns, and the first verb of the second.
"""

import json
import os
import re
import signal
from contextlib import ExitStack

import pytest

from nodeprep.rollout.machine import FORWARD
from tests.e2e.operator_of import Operator, run
from tests.e2e.serving import CONFIG, QUICK, is_clean, killed, load, nodeprep_runs, words

pytestmark = [pytest.mark.lab, pytest.mark.long]
MINUTES = 4

EVERY_EFFECT = os.environ.get("NODEPREP_EVERY_EFFECT") == "1"
NETWORK, KUBE_PROXY, CLUSTER, NODES = "127.79.6", False, True, 3 if EVERY_EFFECT else 2

# After the intent of each verb, and before its outcome: see `tests.e2e.killed`.
OF_A_NODE = [point for verb in range(len(FORWARD)) for point in (4 * verb + 1, 4 * verb + 2)]
# The node before was settled, and that was not yet written: it is gone over again.
OF_THE_NEXT = [OF_A_NODE[0] + 4 * len(FORWARD), *OF_A_NODE[1:]]
IN_TURNS = [4 * verb + 2 - verb % 2 for verb in range(len(FORWARD))]
POINTS = [OF_A_NODE, *[OF_THE_NEXT] * 2] if EVERY_EFFECT else [IN_TURNS, OF_THE_NEXT[:1]]


def test_killed_at_every_effect_it_is_resumed_and_loses_nothing(
    fleet: tuple[Operator, ...],
) -> None:
    command: tuple[str, ...] = ("switch", "--to", "ipvs", *QUICK, "--linger", "1s")
    old = digests(fleet)
    seen = [old]
    with ExitStack() as loads:
        came = [loads.enter_context(load(node, rate=3)) for node in fleet]
        for place, point in [(at, point) for at, each in enumerate(POINTS) for point in each]:
            ended = killed(fleet[0], point, *command)
            assert ended.returncode == -signal.SIGKILL, f"{point}\n{ended.stdout}{ended.stderr}"
            ((roll, _),) = re.findall(r"^(\S+)  (open)", nodeprep_runs(), re.MULTILINE)
            command = ("switch", "--resume", roll, "--yes")
            seen.append(digests(fleet))
            assert seen[-1][place + 1 :] == old[place + 1 :], "a node was touched before its turn"
        run(*words(fleet[0], *command)).check(0)
    new = digests(fleet)
    for number, (node, many) in enumerate(zip(fleet, came, strict=True)):
        assert {one[number] for one in [*seen, new]} == {old[number], new[number]}, "a third state"
        assert is_clean(node, "ipvs")
        assert many["failed"] == 0, json.dumps(many)
        assert many["attempted"] > 100


def digests(fleet: tuple[Operator, ...]) -> list[str]:
    """Return for each node what kube-proxy's configuration is, and whatever lies beside it."""
    return [node.ask(f"sha256sum {CONFIG}; ls -A {CONFIG.rpartition('/')[0]}") for node in fleet]
