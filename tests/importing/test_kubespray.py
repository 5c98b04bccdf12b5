"""Kubespray: its groups, its bastion, and what its variables say of kube-proxy."""

from typing import Any

import pytest

from nodeprep.importing import kubespray
from nodeprep.importing.imported import Imported, told

from .samples import result, written

SIX = """
[all]
m1 ansible_host=192.0.2.1
n1 ansible_host=192.0.2.2
[kube_control_plane]
m1
[kube_node]
n1
[k8s_cluster:children]
kube_control_plane
kube_node
"""

BOTH = "kube_pods_subnet: 10.233.64.0/18; kube_pods_subnet_ipv6: fd85::/112"


def imported(text: str = SIX, **cluster: str) -> Imported:
    files = {"inventory.ini": text}
    files |= {f"group_vars/{name.replace('__', '/')}": value for name, value in cluster.items()}
    return kubespray.narrowed(result(files, kubespray.extra())).imported


def proxy(variables: str) -> dict[str, Any]:
    found = imported(k8s_cluster__k8s="\n".join(variables.split("; "))).machines[0].settings
    return {key[1]: value for key, value in found.items() if key[0] == "kube_proxy"}


def said(text: str = SIX, **cluster: str) -> str:
    return "\n".join(told(imported(text, **cluster).notes))


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ("kube_proxy_mode: ipvs", {"mode": "ipvs"}),
        ("kube_proxy_scheduler: lc", {"scheduler": "lc"}),
        ("kube_proxy_strict_arp: true", {"strict_arp": True}),
        ("kube_proxy_masquerade_all: no", {"masquerade_all": False}),
        ("kube_proxy_exclude_cidrs: [192.0.2.0/24]", {"exclude_cidrs": ("192.0.2.0/24",)}),
        ("kube_proxy_exclude_cidrs: []", {}),
        ("kube_version: v1.29.4", {"version": "1.29.4"}),
        ("kube_version: 1.33.1", {"version": "1.33.1"}),
        ("kube_pods_subnet: 10.233.64.0/18", {"cluster_cidr": "10.233.64.0/18"}),
        (
            BOTH,
            {"cluster_cidr": "10.233.64.0/18"},
        ),
        (
            f"{BOTH}; enable_dual_stack_networks: true",
            {"cluster_cidr": "10.233.64.0/18,fd85::/112"},
        ),
        (
            f"{BOTH}; ipv4_stack: true; ipv6_stack: true",
            {"cluster_cidr": "10.233.64.0/18,fd85::/112"},
        ),
        (
            f"{BOTH}; ipv4_stack: false; ipv6_stack: true",
            {"cluster_cidr": "fd85::/112"},
        ),
    ],
)
def test_variables_of_the_cluster_become_settings(variables: str, wanted: dict[str, Any]) -> None:
    assert proxy(variables) == {"style": "unmanaged", **wanted}


@pytest.mark.parametrize(
    ("variables", "told_of_it"),
    [
        ("kube_proxy_mode: userspace", "kube_proxy.mode stays behind"),
        ("kube_proxy_mode: '{{ x | y }}'", "kube_proxy_mode is a Jinja expression"),
        ("kube_version: latest", "kube_proxy.version stays behind"),
        ("kube_pods_subnet: 10.233.64.1/18", "kube_proxy.cluster_cidr stays behind"),
        ("kube_proxy_remove: true", "this cluster runs without kube-proxy"),
        ("kube_proxy_mode: nftables\nkube_version: v1.20.2", "does not know the mode nftables"),
    ],
)
def test_what_our_inventory_cannot_hold_is_said(variables: str, told_of_it: str) -> None:
    assert told_of_it in said(k8s_cluster__k8s=variables)
    assert written(imported(k8s_cluster__k8s=variables))


def test_control_planes_and_workers_are_told_apart_by_a_label() -> None:
    nodes = written(imported())
    assert {n: node.labels["role"] for n, node in nodes.items()} == {
        "m1": "control-plane",
        "n1": "worker",
    }


@pytest.mark.parametrize("name", ["kube-master", "kube_master", "kube_control_plane"])
def test_older_names_of_the_control_plane_are_known(name: str) -> None:
    nodes = written(imported(SIX.replace("kube_control_plane", name)))
    assert nodes["m1"].labels["role"] == "control-plane"


def test_a_machine_outside_of_the_cluster_is_left_out_and_said() -> None:
    text = f"{SIX}\n[etcd]\nm1\ne1\n"
    assert [machine.name for machine in imported(text).machines] == ["m1", "n1"]
    assert "e1: no node of the cluster, where kube-proxy runs: left out" in said(text)


def test_a_bastion_becomes_the_way_to_the_others() -> None:
    text = f"{SIX}\n[bastion]\nb ansible_host=198.51.100.7 ansible_user=ops ansible_port=2222\n"
    nodes = written(imported(text))
    assert sorted(nodes) == ["m1", "n1"]
    assert {node.ssh.jump for node in nodes.values()} == {("ops@198.51.100.7:2222",)}
    assert "the bastion is no node here" in said(text)


def test_a_bastion_behind_another_host_and_with_a_key_of_its_own() -> None:
    variables = "ansible_ssh_private_key_file=k ansible_ssh_common_args='-J first'"
    text = f"{SIX}\n[bastion]\nb ansible_host=198.51.100.7 {variables}\n"
    assert written(imported(text))["m1"].ssh.jump == ("first", "198.51.100.7")
    assert "b: a jump host's own key" in said(text)


def test_daemon_sets_are_left_alone_and_that_is_said() -> None:
    assert {node.desired.kube_proxy.style for node in written(imported()).values()} == {"unmanaged"}
    assert "Kubespray runs kube-proxy as a DaemonSet" in said()
