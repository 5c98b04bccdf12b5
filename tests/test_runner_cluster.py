"""A cluster is asked once in a run, through one node or from here, whoever is verified."""

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from nodeprep import runner, story
from nodeprep.credentials import Passwords
from nodeprep.errors import DeadlinePassed, Unreachable, UsageError
from nodeprep.kubernetes.kubectl import Kubectl
from nodeprep.kubernetes.share import CLUSTER
from nodeprep.model import (
    Desired,
    Finding,
    Inventory,
    KubectlChoice,
    KubeProxy,
    Node,
    Outcome,
    Status,
)
from nodeprep.runner import Cluster, Options
from nodeprep.shell import Script
from nodeprep.topics import daemonset, kube_proxy
from nodeprep.transport import Limits
from tests import shells
from tests.kubernetes import samples

NAMES = ("worker-1", "worker-2")


def in_a_pod(name: str) -> Node:
    proxy = KubeProxy(mode="iptables", managed_by="daemonset")
    return Node(name=name, address=name, desired=Desired(kube_proxy=proxy))


NODES = tuple(map(in_a_pod, NAMES))
CONTROL = Node(name="control-1", address="control-1", groups=("control-plane",))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Room:
    """A session whose scripts run in a shell here."""

    node: Node
    door: "Door"

    def run(self, script: Script, _: float) -> bytes:
        self.door.visited.append(self.node.name)
        return shells.output("dash", script)


@dataclasses.dataclass(kw_only=True)
class Door:
    """Opens to a shell here for every node but those that are lost."""

    visited: list[str] = dataclasses.field(default_factory=list)
    lost: tuple[str, ...] = ()

    @contextlib.contextmanager
    def connect(self, node: Node, _: Limits, __: Passwords) -> Iterator[Room]:
        if node.name in self.lost:
            raise Unreachable("no route to host", hint="is it on?")
        yield Room(node=node, door=self)


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Door:
    one = Door()
    monkeypatch.setattr(runner, "connect", one.connect)
    monkeypatch.setattr(story, "STORY", (daemonset,))
    return one


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return a kubectl that answers from files, and notes each time that it is asked."""
    objects = {"kind": "List", "items": [samples.daemon_set(), samples.config_map()]}
    answers = {
        "nodes": "".join(samples.node_lines(samples.node(name)) for name in NAMES),
        "pods": "".join(samples.pod_lines(samples.pod(name, f"uid-{name}")) for name in NAMES),
        "objects": json.dumps(objects, indent=4),
    }
    for part, text in answers.items():
        (tmp_path / part).write_text(text)
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        "#!/bin/sh\n"
        f"echo asked >>{tmp_path}/asked\n"
        'case "$*" in\n  *"get nodes"*) part=nodes ;;\n  *"get pods"*) part=pods ;;\n'
        "  *) part=objects ;;\nesac\n"
        f"cat {tmp_path}/$part\n"
    )
    kubectl.chmod(0o755)
    return kubectl


def options(program: Path, through: Node | None) -> Options:
    kubectl = Kubectl(program=str(program), on=through.name if through else "")
    cluster = Cluster(kubectl=kubectl, through=through, nodes=NODES)
    return Options(cluster=cluster, keep_facts=True)


def told(outcomes: Iterator[Outcome]) -> Mapping[str, Mapping[str, Finding]]:
    return {
        outcome.node.name: {finding.name: finding for finding in outcome.findings}
        for outcome in outcomes
    }


@pytest.mark.parametrize("through", [CONTROL, None], ids=["on a node", "here"])
def test_the_cluster_is_asked_once_for_all_nodes(
    door: Door, program: Path, through: Node | None
) -> None:
    findings = told(runner.verify_nodes(NODES, options(program, through)))
    for name in NAMES:
        assert findings[name]["node"].actual == name
        assert findings[name]["pod"].status is Status.OK
        assert findings[name]["mode"].status is Status.OK
    assert (program.parent / "asked").read_text().count("asked") == 3
    assert sorted(door.visited) == sorted([*NAMES, *(["control-1"] if through else [])])


@pytest.mark.parametrize("verb", [runner.verify_nodes, runner.plan_nodes, runner.apply_nodes])
def test_each_verb_has_what_the_cluster_says_among_its_facts(
    door: Door, program: Path, verb: Callable[[Sequence[Node], Options], Iterator[Outcome]]
) -> None:
    for outcome in verb(NODES, options(program, CONTROL)):
        assert outcome.error is None
        assert outcome.facts is not None
        seen = outcome.facts.known(CLUSTER)
        assert seen is not None
        assert seen.name == outcome.node.name
    assert door.visited


def test_a_control_plane_that_is_lost_fails_each_node_and_hides_none(
    door: Door, program: Path
) -> None:
    door.lost = ("control-1",)
    findings = told(runner.verify_nodes(NODES, options(program, CONTROL)))
    for name in NAMES:
        assert findings[name]["cluster"].status is Status.FAIL
        assert findings[name]["cluster"].actual == "kubectl on control-1: no route to host"
        assert findings[name]["cluster"].hint == "is it on?"


def test_a_kubectl_that_fails_is_told_in_its_own_words(door: Door, program: Path) -> None:
    program.write_text("#!/bin/sh\necho 'error: no such context' >&2\nexit 1\n")
    findings = told(runner.verify_nodes(NODES[:1], options(program, CONTROL)))
    finding = findings["worker-1"]["cluster"]
    assert finding.actual == (
        "kubectl on control-1: kubectl could not read the cluster's nodes: error: no such context"
    )
    assert finding.hint == f"on control-1: {program} --request-timeout=30s get nodes"
    assert door.visited == ["control-1", "worker-1"]


def test_a_kubectl_that_hangs_here_is_given_up(door: Door, program: Path) -> None:
    program.write_text("#!/bin/sh\nexec sleep 30\n")
    slow = Options(limits=Limits(probe=0.5))
    cluster = Cluster(kubectl=Kubectl(program=str(program)), through=None, nodes=NODES)
    with pytest.raises(DeadlinePassed):
        runner.look_at(cluster, slow)
    assert door.visited == []


def test_without_a_pod_nobody_asks_the_cluster(door: Door, program: Path) -> None:
    systemd = Node(name="a", address="a")
    list(runner.verify_nodes((systemd,), options(program, CONTROL)))
    assert door.visited == ["a"]
    assert not (program.parent / "asked").exists()


# --- the way to it --------------------------------------------------------------------------


def inventory(*nodes: Node, on: str | None = None) -> Inventory:
    return Inventory(path="fleet.yaml", digest="", nodes=nodes, kubectl=KubectlChoice(on=on))


def test_the_cluster_has_all_nodes_of_the_inventory_whichever_are_chosen() -> None:
    cluster = runner.cluster_of(inventory(CONTROL, *NODES), NODES[:1])
    assert cluster.nodes == NODES
    assert cluster.through == CONTROL
    assert runner.speakers(inventory(CONTROL, *NODES)) == (CONTROL,)
    assert runner.speakers(inventory(CONTROL)) == ()


def test_a_node_that_is_this_machine_is_no_stranger_to_kubectl() -> None:
    here = dataclasses.replace(CONTROL, address="local")
    assert runner.cluster_of(inventory(CONTROL, *NODES), (here,)).through == here
    assert runner.cluster_of(inventory(*NODES, on="here"), NODES).through is None


def test_where_nothing_says_where_kubectl_is_it_is_asked_for() -> None:
    with pytest.raises(UsageError, match="nothing says where kubectl is"):
        runner.cluster_of(inventory(*NODES), NODES)
    assert runner.speakers(inventory(*NODES)) == ()


def test_the_cluster_is_asked_for_its_own_topic_alone() -> None:
    assert runner.asks_cluster(NODES, ())
    assert runner.asks_cluster(NODES, ("daemonset",))
    assert not runner.asks_cluster(NODES, (kube_proxy.NAME,))
    assert not runner.asks_cluster((CONTROL,), ())
