"""An inventory's node is found in the cluster by name, else by an address; never by a guess."""

import pytest

from nodeprep.kubernetes.matching import match
from nodeprep.kubernetes.view import ClusterNode
from nodeprep.model import Desired, KubeProxy, Node


def ours(name: str, address: str = "", called: str | None = None) -> Node:
    proxy = KubeProxy(hostname_override=called)
    return Node(name=name, address=address or name, desired=Desired(kube_proxy=proxy))


def theirs(name: str, *addresses: str) -> ClusterNode:
    return ClusterNode(name=name, addresses=tuple(("InternalIP", each) for each in addresses))


@pytest.mark.parametrize(
    ("node", "cluster"),
    [
        (ours("worker-1"), theirs("worker-1")),
        (ours("Worker-1"), theirs("worker-1")),
        (ours("worker-1"), theirs("worker-1.example.com")),
        (ours("worker-1.example.com"), theirs("worker-1")),
        (ours("w1", called="ip-192-0-2-1"), theirs("ip-192-0-2-1")),
        (ours("w1", "192.0.2.1"), theirs("ip-192-0-2-1", "192.0.2.1")),
        (ours("w1", "2001:DB8::1"), theirs("x", "2001:db8::1")),
    ],
)
def test_a_node_is_found(node: Node, cluster: ClusterNode) -> None:
    found = match([node], [cluster, theirs("other", "192.0.2.99")])
    assert found.found == {node.name: cluster.name}
    assert found.strangers == ("other",)
    assert found.missing == {}


def test_a_whole_name_goes_before_one_without_its_domain() -> None:
    cluster = [theirs("w1"), theirs("w1.example.com")]
    assert match([ours("w1")], cluster).found == {"w1": "w1"}


def test_an_address_that_all_nodes_share_is_nobodys() -> None:
    cluster = [theirs("lab-1", "10.0.2.15"), theirs("lab-2", "10.0.2.15")]
    nodes = [ours("lab-1", "127.0.0.1"), ours("lab-2", "127.0.0.1")]
    assert match(nodes, cluster).found == {"lab-1": "lab-1", "lab-2": "lab-2"}
    assert match([ours("x", "10.0.2.15")], cluster).found == {}
    alone = [theirs("a", "10.0.2.15")]
    assert match([ours("x", "10.0.2.15"), ours("y", "10.0.2.15")], alone).found == {}


@pytest.mark.parametrize(
    ("nodes", "cluster", "why"),
    [
        ([ours("w1", "192.0.2.1")], [theirs("w2")], "the cluster has no node w1, and none with"),
        ([ours("w1")], [theirs("w1.a"), theirs("w1.b")], "may be each of the cluster's nodes"),
        ([ours("w1"), ours("w1.a")], [theirs("W1.A"), theirs("x")], "may be w1.a as well"),
        (
            [ours("w1", "192.0.2.2")],
            [theirs("w1", "192.0.2.1"), theirs("w2", "192.0.2.2")],
            "may be each of the cluster's nodes w1, w2",
        ),
    ],
)
def test_what_is_not_sure_is_told_and_not_guessed(
    nodes: list[Node], cluster: list[ClusterNode], why: str
) -> None:
    result = match(nodes, cluster)
    assert nodes[0].name not in result.found
    assert why in result.missing[nodes[0].name]


def test_two_whole_names_with_other_domains_are_two_machines() -> None:
    assert match([ours("w1.a.example")], [theirs("w1.b.example")]).found == {}
