"""``kubectl get nodes -o json``: names, addresses, roles, labels, and what it does not tell."""

import json
from typing import Any

import pytest

from nodeprep.errors import InventoryError
from nodeprep.importing import kubectl
from nodeprep.importing.imported import Imported, Machine, told

from .samples import written


def node(name: str, *addresses: tuple[str, str], **labels: str) -> dict[str, Any]:
    """Return a node; ``role__x`` is a label's key with slashes for two underscores."""
    keys = {key.replace("__", "/").replace("_", "."): value for key, value in labels.items()}
    listed = [{"type": kind, "address": address} for kind, address in addresses]
    return {
        "kind": "Node",
        "metadata": {"name": name, "labels": keys},
        "status": {"addresses": listed},
    }


def read(*nodes: Any) -> Imported:
    return kubectl.read(json.dumps({"kind": "List", "items": nodes}).encode(), "nodes.json")


def one(item: Any) -> Machine:
    (machine,) = read(item).machines
    return machine


INTERNAL, EXTERNAL, HOST = (
    ("InternalIP", "192.0.2.1"),
    ("ExternalIP", "198.51.100.1"),
    ("Hostname", "n1.example.com"),
)


@pytest.mark.parametrize(
    ("addresses", "address"),
    [
        ([HOST, EXTERNAL, INTERNAL], "192.0.2.1"),
        ([HOST, EXTERNAL], "198.51.100.1"),
        ([HOST], "n1.example.com"),
        ([("InternalIP", "192.0.2.1"), ("InternalIP", "fd00::1")], "192.0.2.1"),
        ([("InternalIP", "fd00::1"), ("InternalIP", "192.0.2.1")], "fd00::1"),
        ([("InternalIP", "not an address"), HOST], "n1.example.com"),
        ([], "n1"),
    ],
)
def test_the_address_that_nodes_reach_each_other_by_comes_first(
    addresses: list[tuple[str, str]], address: str
) -> None:
    assert one(node("n1", *addresses)).address == address


@pytest.mark.parametrize(
    ("labels", "groups"),
    [
        ({"node-role.kubernetes.io/control-plane": ""}, ("control-plane",)),
        ({"node-role.kubernetes.io/worker": "true"}, ("worker",)),
        (
            {"node-role.kubernetes.io/master": "", "node-role.kubernetes.io/control-plane": ""},
            ("control-plane",),
        ),
        ({"node-role.kubernetes.io/master": ""}, ("master",)),
        ({"kubernetes.io/role": "node"}, ("node",)),
        ({"role": "x"}, ()),
    ],
)
def test_roles_are_groups(labels: dict[str, str], groups: tuple[str, ...]) -> None:
    item = node("n1", INTERNAL)
    item["metadata"]["labels"] = labels
    assert one(item).groups == groups


def test_labels_that_tell_kinds_of_nodes_apart_are_kept() -> None:
    item = node("n1", INTERNAL)
    item["metadata"]["labels"] = {
        "topology.kubernetes.io/zone": "a",
        "kubernetes.io/arch": "amd64",
        "example.com/pool": "gpu",
        "kubernetes.io/hostname": "n1",
        "my/name": "n1",
        "feature.node.kubernetes.io/cpu": "x",
    }
    labels = {key[1]: value for key, value in one(item).settings.items() if key[0] == "labels"}
    assert labels == {
        "topology.kubernetes.io/zone": "a",
        "kubernetes.io/arch": "amd64",
        "example.com/pool": "gpu",
    }
    assert any("feature.node.kubernetes.io/cpu, my/name" in line for line in told(read(item).notes))


def test_windows_is_left_out_and_said() -> None:
    item = node("w1", INTERNAL)
    item["metadata"]["labels"] = {"kubernetes.io/os": "windows"}
    found = read(item, node("n1", INTERNAL))
    assert [machine.name for machine in found.machines] == ["n1"]
    assert "nodes.json: w1: it runs `windows`: left out" in list(told(found.notes))


def test_what_kubectl_does_not_tell_is_said() -> None:
    item = node("n1", INTERNAL)
    item["spec"] = {"podCIDR": "10.244.0.0/24"}
    lines = "\n".join(told(read(item).notes))
    assert "does not tell who logs in" in lines
    assert "what runs kube-proxy" in lines
    assert "podCIDR is its own part of the pods' network, not cluster_cidr" in lines
    assert written(read(item))["n1"].desired.kube_proxy.cluster_cidr is None


@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: [n], lambda n: {"items": [n]}])
def test_one_node_a_bare_list_and_a_list_are_read(wrap: Any) -> None:
    text = json.dumps(wrap(node("n1", INTERNAL))).encode()
    assert [machine.name for machine in kubectl.read(text, "f").machines] == ["n1"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "nodes.json:1:1: there is nothing in it"),
        (b"apiVersion: v1\n", "nodes.json:1:1: this is not JSON: Expecting value; ask for it"),
        (b'{"items": [\n {"metadata"', "nodes.json:2:13: this is not JSON"),
        (b"{}", "there is no node in it"),
        (b'{"items": []}', "there is no node in it"),
        (b'{"items": 5}', "there is no node in it"),
        (b'{"kind": "PodList", "items": [{"kind": "Pod"}]}', "there is no node in it"),
        (b'{"items": [{"kind": "Node"}]}', "items[0] has no metadata.name"),
        (b"[" * 200_000, "nested too deep"),
        (b"\x00\x01", "this is not a text file"),
    ],
)
def test_what_is_no_list_of_nodes_is_one_error(text: bytes, said: str) -> None:
    with pytest.raises(InventoryError) as caught:
        kubectl.read(text, "nodes.json")
    assert said in str(caught.value)
