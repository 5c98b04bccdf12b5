"""kubectl's words: quoted, bounded in time, and without an object among its arguments."""

import pytest

from nodeprep.errors import UsageError
from nodeprep.kubernetes.kubectl import Kubectl, chosen
from nodeprep.model import Inventory, KubectlChoice, Node
from tests import shells
from tests.kubernetes import samples


def test_every_choice_is_a_word_of_its_own() -> None:
    kubectl = Kubectl(kubeconfig="/root/my conf", context="a;b", timeout=5)
    assert kubectl.words("get", "pods", "-l", "a in (b)") == (
        "kubectl '--kubeconfig=/root/my conf' '--context=a;b' --request-timeout=5s"
        " get pods -l 'a in (b)'"
    )


def test_an_object_is_given_by_standard_input_and_not_shown() -> None:
    document = samples.config_map()
    document["data"]["kubeconfig.conf"] = "token: s3cr3t it's"
    for written in (Kubectl().create(document), Kubectl().replace(document)):
        assert "s3cr3t" not in str(written)
        command = written.reveal().rpartition("|")[2]
        assert "s3cr3t" not in command
        assert shells.complaints(written.reveal()) == ""


def test_an_object_is_replaced_only_as_the_one_that_was_seen() -> None:
    unseen = samples.manifests("1.34")["ConfigMap"]
    with pytest.raises(ValueError, match="as the one that was seen"):
        Kubectl().replace(unseen)


def test_an_object_is_replaced_at_its_own_place_so_that_kubectl_adds_nothing() -> None:
    places = {
        "/api/v1/namespaces/kube-system/configmaps/kube-proxy": samples.config_map(),
        "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-proxy": samples.daemon_set(),
    }
    for place, document in places.items():
        command = Kubectl().replace(document).reveal().rpartition("|")[2]
        assert f"replace --raw {place} -f -" in command


# --- which one ------------------------------------------------------------------------------


def inventory(choice: KubectlChoice, *nodes: Node) -> Inventory:
    return Inventory(path="fleet.yaml", digest="", nodes=nodes, kubectl=choice)


def test_the_first_node_of_the_control_plane_is_taken_with_kubeadms_kubeconfig() -> None:
    worker = Node(name="w", address="w", groups=("workers",))
    for one in (
        Node(name="c", address="c", groups=("control-plane",)),
        Node(name="c", address="c", labels={"node-role.kubernetes.io/control-plane": ""}),
        Node(name="c", address="c", labels={"node-role.kubernetes.io/master": ""}),
        Node(name="c", address="c", labels={"role": "control-plane"}),
    ):
        taken = chosen(inventory(KubectlChoice(), worker, one))
        assert taken == Kubectl(on="c", kubeconfig="/etc/kubernetes/admin.conf")


def test_a_choice_of_the_inventory_counts_as_it_stands() -> None:
    choice = KubectlChoice(on="w", kubeconfig="/root/k", context="a@b")
    assert chosen(inventory(choice)) == Kubectl(on="w", kubeconfig="/root/k", context="a@b")
    assert chosen(inventory(KubectlChoice(on="here"))) == Kubectl()


def test_without_a_control_plane_it_is_said_what_to_write() -> None:
    with pytest.raises(UsageError, match=r"fleet\.yaml") as raised:
        chosen(inventory(KubectlChoice(), Node(name="w", address="w")))
    assert "on: NODE" in raised.value.hint
