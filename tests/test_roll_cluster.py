"""What a roll learns of its cluster, and who may go home from the second DaemonSet."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from nodeprep.errors import NodeFailed, UsageError
from nodeprep.kubernetes.daemonsets import AWAY, HERE, LABEL
from nodeprep.kubernetes.view import View
from nodeprep.model import Desired, Inventory, KubectlChoice, KubeProxy, Node
from nodeprep.roll_cluster import by_second, cluster_of, placed, refuse_part
from nodeprep.rollout.switching import Aim
from nodeprep.runner import Options
from nodeprep.transport import OPERATOR
from tests.kubernetes import samples

POD = Desired(kube_proxy=KubeProxy(managed_by="daemonset"))
NODES = tuple(
    Node(name=name, address=f"192.0.2.{n}", desired=POD) for n, name in enumerate(("n1", "n2"), 1)
)
UNIT = Node(name="bare", address="192.0.2.9")
AIMS = {node.name: Aim(run="r", to="ipvs") for node in (*NODES, UNIT)}


def view(labels: Mapping[str, str]) -> View:
    """Return a cluster of these nodes, each with a pod, and the label it has, if any."""
    nodes = [samples.node(name, f"198.51.100.{n}") for n, name in enumerate(labels)]
    for each in nodes:
        if label := labels[each["metadata"]["name"]]:
            each["metadata"]["labels"][LABEL] = label
    return samples.view(nodes, [], [samples.pod(name, f"uid-{name}") for name in labels])


def test_each_node_learns_its_name_its_pod_and_its_label() -> None:
    aims = placed((*NODES, UNIT), AIMS, view({"n1": "", "n2.example.org": HERE}))
    told = [(aims[n].cluster_node, aims[n].old_pod, aims[n].old_label) for n in ("n1", "n2")]
    assert told == [("n1", "uid-n1", ""), ("n2.example.org", "uid-n2.example.org", HERE)]
    assert "@" in aims["n1"].holder
    assert aims["bare"] == AIMS["bare"]


def test_a_node_that_the_cluster_does_not_have_keeps_the_roll_from_beginning() -> None:
    with pytest.raises(NodeFailed, match="n2: the cluster has no node n2"):
        placed(NODES, AIMS, view({"n1": ""}))


def test_one_config_map_for_all_is_not_changed_for_some() -> None:
    state = view({"n1": "", "n2": ""})
    aims = placed(NODES, {k: replace(v, strategy="recreate") for k, v in AIMS.items()}, state)
    refuse_part(NODES, aims, state)
    with pytest.raises(UsageError, match="n2 is not chosen"):
        refuse_part(NODES[:1], aims, state)
    refuse_part(NODES[:1], placed(NODES, AIMS, state), state)


@pytest.mark.parametrize(
    ("labels", "home"),
    [
        ({"n1": HERE, "n2": HERE}, ["n1", "n2"]),
        ({"n1": HERE, "n2": ""}, []),
        ({"n1": HERE, "n2": AWAY}, []),
        ({"n1": HERE, "n2": HERE, "stranger": HERE}, []),
        ({}, []),
    ],
)
def test_all_go_home_together_or_none(labels: dict[str, str], home: list[str]) -> None:
    assert [node.name for node in by_second((*NODES, UNIT), view(labels))] == home


def test_kubectl_is_on_a_node_or_here_and_only_a_node_keeps_a_dead_mans_switch() -> None:
    def inventory(choice: KubectlChoice) -> Inventory:
        return Inventory(path="i", digest="", nodes=(*NODES, UNIT), kubectl=choice)

    options = Options()
    assert cluster_of(inventory(KubectlChoice()), (UNIT,), options) is None
    with pytest.raises(UsageError, match="nothing says where kubectl is"):
        cluster_of(inventory(KubectlChoice()), NODES, options)
    there = cluster_of(inventory(KubectlChoice(on="n1")), NODES, options)
    assert there is not None
    assert (there.node.name, there.kind.guarded) == ("n1", True)
    here = cluster_of(inventory(KubectlChoice(on="here")), NODES, options)
    assert here is not None
    assert (here.node.address, here.kind.guarded) == (OPERATOR, False)
    assert any("stays as it is" in line for line in here.told(AIMS["n1"]))
