"""A cluster as kubeadm makes it: what its objects say, and who may do what in it."""

import base64
import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeprep.errors import LabError
from nodeprep.lab import control_plane, kubeadm
from nodeprep.lab.inventory_file import inventory_text
from nodeprep.lab.settings import Settings
from nodeprep.lab.state import ControlPlane, Lab
from tests.lab.test_state import LAB

CURRENT = Path(__file__).parents[1] / "kubernetes" / "data" / "kubeadm-1.34.yaml"
MANIFESTS = (kubeadm.MANIFEST, CURRENT)
PLANE = ControlPlane(port=7443, etcd_port=2379, peer_port=2380, kubeadm=True)
FOLDER = Path("/lab/control-plane")


def kind_of(kind: str, things: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = [thing for thing in things if thing["kind"] == kind]
    return found


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Give a lab with its secrets, and a certificate as the API server would have written it."""
    lab = replace(LAB, folder=tmp_path, control_plane=PLANE)
    lab.control_folder.mkdir()
    control_plane.write_secrets(lab, PLANE)
    (lab.control_folder / "apiserver.crt").write_text("its certificates\n")
    (lab.control_folder / "apiserver.key").touch()
    return lab


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_is_all_that_kubeadm_writes_for_kube_proxy(manifest: Path) -> None:
    things = kubeadm.read(manifest)
    assert {(thing["kind"], thing["metadata"]["name"]) for thing in things} == {
        ("ServiceAccount", "kube-proxy"),
        ("ConfigMap", "kube-proxy"),
        ("DaemonSet", "kube-proxy"),
        ("ClusterRoleBinding", "kubeadm:node-proxier"),
        ("Role", "kube-proxy"),
        ("RoleBinding", "kube-proxy"),
    }
    config = kind_of("ConfigMap", things)
    signed = config["metadata"]["annotations"]["kubeadm.kubernetes.io/component-config.hash"]
    assert signed == kubeadm.config_hash(config["data"])


@pytest.mark.parametrize(
    ("manifest", "server", "pods", "signed"),
    [
        # Clusters that people have shown; see the data's README.
        (
            kubeadm.MANIFEST,
            "https://10.0.2.100:1644",
            '""',
            "sha256:abbfdfdf2193cde1470588f464d713dc0078905117ab32580f202e7970a922a3",
        ),
        (
            CURRENT,
            "https://controlplane:6443",
            "172.17.0.0/16",
            "sha256:18238492c66d85cd87676223875eea97e931abd5bf402617aac40cede13ab4d3",
        ),
    ],
    ids=("1.20", "1.34"),
)
def test_the_bytes_are_those_that_a_real_kubeadm_has_signed(
    manifest: Path, server: str, pods: str, signed: str
) -> None:
    data = kind_of("ConfigMap", kubeadm.read(manifest))["data"]
    theirs = {
        "config.conf": data["config.conf"].replace("10.244.0.0/16", pods),
        "kubeconfig.conf": data["kubeconfig.conf"].replace("https://192.168.56.10:6443", server),
    }
    assert kubeadm.config_hash(theirs) == signed


def test_the_lab_changes_nothing_but_the_address() -> None:
    ours, theirs = kubeadm.proxy_objects(7443), kubeadm.read(kubeadm.MANIFEST)
    assert [one for one in ours if one["kind"] != "ConfigMap"] == [
        one for one in theirs if one["kind"] != "ConfigMap"
    ]
    mine, example = (kind_of("ConfigMap", things)["data"] for things in (ours, theirs))
    assert mine["config.conf"] == example["config.conf"]
    server = yaml.safe_load(mine["kubeconfig.conf"])["clusters"][0]["cluster"]["server"]
    assert server == "https://10.0.2.2:7443"
    assert (
        mine["kubeconfig.conf"].replace("10.0.2.2:7443", "192.168.56.10:6443")
        == (example["kubeconfig.conf"])
    )


def test_a_changed_configuration_is_signed_anew() -> None:
    config = kind_of("ConfigMap", kubeadm.proxy_objects(7443))
    annotations = config["metadata"]["annotations"]
    assert list(annotations.values()) == [kubeadm.config_hash(config["data"])]


@pytest.mark.parametrize(
    ("manifest", "place"),
    [
        ("ServiceAccount", "/api/v1/namespaces/kube-system/serviceaccounts"),
        ("DaemonSet", "/apis/apps/v1/namespaces/kube-system/daemonsets"),
        ("ClusterRoleBinding", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"),
    ],
)
def test_each_object_has_its_place(manifest: str, place: str) -> None:
    assert kubeadm.collection(kind_of(manifest, kubeadm.proxy_objects(1))) == place


def test_the_first_node_is_the_control_planes() -> None:
    first, other = kubeadm.node_part("a", leads=True), kubeadm.node_part("b", leads=False)
    assert first["spec"]["taints"] == [
        {"key": "node-role.kubernetes.io/master", "effect": "NoSchedule"}
    ]
    assert other["spec"]["taints"] == []
    labels = first["metadata"]["labels"]
    assert labels.items() > other["metadata"]["labels"].items() - {("kubernetes.io/hostname", "b")}
    assert {name for name in labels if name.startswith("node-role")} == {
        "node-role.kubernetes.io/master",
        "node-role.kubernetes.io/control-plane",
    }


def test_the_administrators_file_is_on_the_first_node_alone(lab: Lab) -> None:
    first, other = (kubeadm.papers(lab, node) for node in lab.nodes)
    assert set(first) == {"etc/kubernetes/admin.conf", "etc/kubernetes/kubelet.conf"}
    assert set(other) == {"etc/kubernetes/kubelet.conf"}
    admin = yaml.safe_load(first["etc/kubernetes/admin.conf"])
    assert admin["current-context"] == "kubernetes-admin@kubernetes"
    cluster = admin["clusters"][0]["cluster"]
    assert cluster["server"] == "https://10.0.2.2:7443"
    assert base64.b64decode(cluster["certificate-authority-data"]) == b"its certificates\n"
    assert admin["users"][0]["user"]["token"] == control_plane.token(lab)


def test_each_node_and_each_person_has_a_token_of_its_own(lab: Lab) -> None:
    rows = (lab.control_folder / "tokens.csv").read_text().splitlines()
    assert [row.partition(",")[2] for row in rows] == [
        'lab,lab,"system:masters"',
        'nodeprep,nodeprep,""',
        'system:node:node1,system:node:node1,"system:nodes"',
        'system:node:node2,system:node:node2,"system:nodes"',
    ]
    assert len({row.partition(",")[0] for row in rows}) == len(rows)
    for node in lab.nodes:
        config = json.loads(kubeadm.papers(lab, node)["etc/kubernetes/kubelet.conf"])
        token = control_plane.token(lab, f"system:node:{node.name}")
        assert config["users"] == [{"name": f"system:node:{node.name}", "user": {"token": token}}]
    with pytest.raises(LabError, match="nobody is named mallory"):
        control_plane.token(lab, "mallory")


def test_who_has_no_rights_yet_has_a_file_that_only_the_user_reads(lab: Lab) -> None:
    config = yaml.safe_load(lab.nodeprep_kubeconfig.read_text())
    assert config["users"][0]["user"]["token"] == control_plane.token(lab, "nodeprep")
    assert stat.S_IMODE(lab.nodeprep_kubeconfig.stat().st_mode) == 0o600


def test_rights_are_asked_for_in_such_a_cluster_alone() -> None:
    words = control_plane.apiserver_arguments(FOLDER, PLANE)
    assert "--authorization-mode=Node,RBAC" in words
    assert "--allow-privileged=true" in words
    assert not any("ServiceAccount" in word and "disable" in word for word in words)
    plain = control_plane.apiserver_arguments(FOLDER, replace(PLANE, kubeadm=False))
    assert "--authorization-mode=AlwaysAllow" in plain


def test_agents_may_do_a_daemonset_controllers_work_and_change_no_daemonset() -> None:
    role, binding = kubeadm.agent_rights()
    verbs = {rule["resources"][0]: set(rule["verbs"]) for rule in role["rules"]}
    assert verbs["daemonsets"] == {"get", "list", "watch"}
    assert [subject["name"] for subject in binding["subjects"]] == ["system:nodes"]


def test_every_namespace_has_its_first_account_and_whom_to_trust() -> None:
    things = list(kubeadm.controllers_objects("PEM"))
    spaces = {(one["kind"], one["metadata"]["namespace"]) for one in things}
    assert spaces == {
        (kind, space)
        for kind in ("ServiceAccount", "ConfigMap")
        for space in ("default", "kube-system", "lab")
    }
    assert [one["data"] for one in things if "data" in one] == [{"ca.crt": "PEM"}] * 3


def test_kubeadm_is_a_cluster(tmp_path: Path) -> None:
    assert Settings(folder=tmp_path, cache=tmp_path, kubeadm=True).cluster
    assert not Settings(folder=tmp_path, cache=tmp_path).cluster


# What reads these two keys comes with the code that asks a cluster for its kube-proxy.
def test_the_inventory_says_who_manages_kube_proxy_and_where_kubectl_is() -> None:
    inventory = yaml.safe_load(inventory_text(replace(LAB, control_plane=PLANE)))
    assert inventory["defaults"]["kube_proxy"] == {
        "managed_by": "daemonset",
        "mode": "iptables",
        "cluster_cidr": "10.244.0.0/16",
    }
    assert inventory["cluster"] == {
        "kubectl": {"on": "node1", "kubeconfig": "/etc/kubernetes/admin.conf"}
    }
