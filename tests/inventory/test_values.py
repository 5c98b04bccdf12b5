"""Which nodes come of an inventory: settings merged, names paired, values as they were written."""

import hashlib
from pathlib import Path

import pytest

from nodeprep.errors import InventoryError, UsageError
from nodeprep.inventory import load, parse
from nodeprep.model import Desired, Firewall, KubectlChoice, KubeProxy, Node, Ssh, Sudo, Sysctl

from .samples import BASE, HOME, node, nodes, parsed

DEFAULT_SSH = Ssh(
    known_hosts=("/home/ada/.ssh/known_hosts", "/etc/ssh/ssh_known_hosts"),
    config="/home/ada/.ssh/config",
)

# --- one node ----------------------------------------------------------------------------------


def test_a_name_is_enough() -> None:
    assert parsed("nodes: [{name: web1}]").nodes == (
        Node(name="web1", address="web1", ssh=DEFAULT_SSH),
    )


def test_an_inventory_knows_its_file_and_the_digest_of_its_bytes() -> None:
    text = b"nodes: [{name: n}]\n"
    assert parsed(text).digest == hashlib.sha256(text).hexdigest()
    assert parsed(text).path == "inventory.yaml"


def test_a_byte_order_mark_in_front_is_no_part_of_the_text() -> None:
    assert parsed("\ufeffnodes: [{name: n}]").nodes[0].name == "n"


def test_windows_line_ends_are_line_ends() -> None:
    assert parsed("nodes:\r\n- name: n\r\n").nodes[0].name == "n"


@pytest.mark.parametrize(
    ("written", "sudo"),
    [
        ("none", Sudo()),
        ("passwordless", Sudo(method="passwordless")),
        ("{password: ask}", Sudo(method="password", password="ask")),
        ("{password: {file: ~/pw}}", Sudo(method="password", password="file:/home/ada/pw")),
        ("{password: {descriptor: 3}}", Sudo(method="password", password="fd:3")),
    ],
)
def test_how_to_become_root(written: str, sudo: Sudo) -> None:
    assert node(f"sudo: {written}").sudo == sudo


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("identity_file: ~/.ssh/id", {"identity_file": "/home/ada/.ssh/id"}),
        ("identity_file: keys/id", {"identity_file": "/srv/fleet/keys/id"}),
        ("identity_file: /etc/id", {"identity_file": "/etc/id"}),
        ("known_hosts: ./known", {"known_hosts": ("/srv/fleet/known",)}),
        ("known_hosts: [/a, b]", {"known_hosts": ("/a", "/srv/fleet/b")}),
        ("jump: ops@gate:2222", {"jump": ("ops@gate:2222",)}),
        ("jump: [gate, '[fd00::1]:22']", {"jump": ("gate", "[fd00::1]:22")}),
        ("jump: []", {"jump": ()}),
        ("config: none", {"config": None}),
        ("config: default", {"config": "/home/ada/.ssh/config"}),
        ("config: ./ssh_config", {"config": "/srv/fleet/ssh_config"}),
        ("{port: 2222, user: ada}", {"port": 2222, "user": "ada"}),
    ],
)
def test_how_to_open_a_session(written: str, expected: dict[str, object]) -> None:
    found = node(f"ssh: {written}" if written.startswith("{") else f"ssh:\n  {written}").ssh
    assert {key: getattr(found, key) for key in expected} == expected


def test_a_sysctl_is_a_number_text_or_a_lower_limit() -> None:
    found = node(
        "sysctls: {vm.a: -1, vm.b: 1 2, net.ipv4.conf.eth0/1.c: '0644', vm.d: {at_least: 9}}"
    )
    assert found.desired.sysctls == (
        Sysctl(key="vm.a", value="-1"),
        Sysctl(key="vm.b", value="1 2"),
        Sysctl(key="net.ipv4.conf.eth0/1.c", value="0644"),
        Sysctl(key="vm.d", value="9", bound="at_least"),
    )


def test_every_setting_of_kube_proxy_reaches_the_node() -> None:
    found = node("""\
kube_proxy:
  {mode: nftables, style: flags, run: required, version: v1.34.1, binary: /opt/kube-proxy,
   unit: /etc/systemd/system/kp.service, working_directory: /var/kp, config: /etc/kp.yaml,
   kubeconfig: /etc/kp.conf, kubeconfig_from: kp.conf, bind_address: '::', hostname_override: x1,
   cluster_cidr: '10.244.0.0/16,fd00:10:244::/56', masquerade_all: true, scheduler: wrr,
   strict_arp: true, exclude_cidrs: [10.0.0.0/8], node_port_addresses: [primary, 10.1.0.0/16],
   sync_period: 1m30s, min_sync_period: 500ms, conntrack_max_per_core: 0,
   healthz_bind_address: '[::1]:10256', metrics_bind_address: 127.0.0.1:10250,
   feature_gates: {KubeProxyIPVS: true}, verbosity: 4}""")
    assert found.desired.kube_proxy == KubeProxy(
        mode="nftables",
        style="flags",
        run="required",
        version="v1.34.1",
        binary="/opt/kube-proxy",
        unit="/etc/systemd/system/kp.service",
        working_directory="/var/kp",
        config="/etc/kp.yaml",
        kubeconfig="/etc/kp.conf",
        kubeconfig_from="/srv/fleet/kp.conf",
        bind_address="::",
        hostname_override="x1",
        cluster_cidr="10.244.0.0/16,fd00:10:244::/56",
        masquerade_all=True,
        scheduler="wrr",
        strict_arp=True,
        exclude_cidrs=("10.0.0.0/8",),
        node_port_addresses=("primary", "10.1.0.0/16"),
        sync_period="1m30s",
        min_sync_period="500ms",
        conntrack_max_per_core=0,
        healthz_bind_address="[::1]:10256",
        metrics_bind_address="127.0.0.1:10250",
        feature_gates={"KubeProxyIPVS": True},
        verbosity=4,
    )


def test_what_must_get_through_the_firewall_reaches_the_node() -> None:
    found = node("firewall: {open: true, node_ports: 30000-32767, health_check: true}")
    assert found.desired.firewall == Firewall(
        open=True, node_ports="30000-32767", health_check=True
    )


# --- merging -----------------------------------------------------------------------------------

LAYERS = """\
defaults:
  ssh: {user: ada, port: 22}
  sudo: {password: {file: /pw}}
  labels: {site: berlin, role: none}
  packages: [a, b]
  sysctls: {vm.a: 1, vm.b: {at_least: 1}}
  adopt: true
  kube_proxy: {scheduler: wrr, feature_gates: {A: true, B: true}}
groups:
  g: {ssh: {port: 23}, labels: {role: g}, packages: [c], kube_proxy: {feature_gates: {B: false}}}
  h: {ssh: {user: bob}, labels: {role: h}, sysctls: {vm.b: 2}, sudo: {password: {descriptor: 3}}}
nodes:
- {name: plain}
- {name: gh, groups: [g, h]}
- {name: hg, groups: [h, g]}
- {name: own, groups: [g], ssh: {port: 24}, packages: [], adopt: false, labels: {role: own}}
"""


def test_a_node_without_groups_has_the_defaults() -> None:
    assert nodes(LAYERS)["plain"].desired == Desired(
        packages=("a", "b"),
        sysctls=(Sysctl(key="vm.a", value="1"), Sysctl(key="vm.b", value="1", bound="at_least")),
        adopt=True,
        kube_proxy=KubeProxy(scheduler="wrr", feature_gates={"A": True, "B": True}),
    )


def test_mappings_are_merged_key_by_key() -> None:
    merged = nodes(LAYERS)["gh"]
    assert (merged.ssh.user, merged.ssh.port) == ("bob", 23)
    assert merged.labels["site"] == "berlin"
    assert merged.desired.kube_proxy.scheduler == "wrr"
    assert merged.desired.kube_proxy.feature_gates == {"A": True, "B": False}


def test_of_two_groups_the_later_one_wins() -> None:
    assert nodes(LAYERS)["gh"].labels["role"] == "h"
    assert nodes(LAYERS)["hg"].labels["role"] == "g"


def test_a_node_wins_over_its_groups() -> None:
    own = nodes(LAYERS)["own"]
    assert (own.ssh.port, own.labels["role"], own.desired.adopt) == (24, "own", False)


def test_lists_and_single_values_are_replaced_whole() -> None:
    found = nodes(LAYERS)
    assert found["gh"].desired.packages == ("c",)
    assert found["own"].desired.packages == ()
    assert found["gh"].sudo == Sudo(method="password", password="fd:3")
    assert found["gh"].desired.sysctls[1] == Sysctl(key="vm.b", value="2")


def test_a_default_written_out_in_a_node_wins_over_its_group() -> None:
    text = "groups: {g: {kube_proxy: {mode: nftables}}}\nnodes:\n- {name: n, groups: [g], %s}"
    assert nodes(text % "kube_proxy: {mode: ipvs}")["n"].desired.kube_proxy.mode == "ipvs"


# --- many nodes --------------------------------------------------------------------------------


def test_folded_names_and_addresses_are_paired_in_order() -> None:
    found = parsed("nodes: [{name: 'w[08-10]', address: '10.0.0.[18-20]'}]").nodes
    assert [(n.name, n.address) for n in found] == [
        ("w08", "10.0.0.18"),
        ("w09", "10.0.0.19"),
        ("w10", "10.0.0.20"),
    ]


def test_without_an_address_the_name_is_used() -> None:
    assert [n.address for n in parsed("nodes: [{name: 'w[1-2]'}]").nodes] == ["w1", "w2"]


@pytest.mark.parametrize("address", ["10.0.0.1", "fd00::1", "web-1.example.com", "local", "a_b"])
def test_an_address_is_an_ip_a_dns_name_or_local(address: str) -> None:
    assert node(f"address: {address}").address == address


def test_a_hundred_thousand_nodes_are_the_most() -> None:
    assert len(parsed("nodes: [{name: 'w[1-99999]'}, {name: x}]").nodes) == 100_000
    with pytest.raises(InventoryError, match=r"nodes\[1\].name: with these there are more than"):
        parsed("nodes: [{name: 'w[1-100000]'}, {name: x}]")


# --- files -------------------------------------------------------------------------------------


def test_a_missing_file_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the inventory") as caught:
        load(tmp_path / "none.yaml")
    assert "-i FILE" in caught.value.hint
    assert "inventory.example.yaml" in caught.value.hint


def test_a_folder_is_no_inventory(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the inventory"):
        load(tmp_path)


def test_a_large_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "large.yaml"
    with file.open("wb") as large:
        large.truncate(2**40)
    with pytest.raises(InventoryError, match="larger than 8 MiB"):
        load(file)


def test_kubeconfig_from_must_be_a_file_next_to_the_inventory(tmp_path: Path) -> None:
    file = tmp_path / "inventory.yaml"
    file.write_text("nodes:\n- name: n\n  kube_proxy: {kubeconfig_from: kp.conf}\n")
    with pytest.raises(InventoryError, match=r":3:33: nodes\[0\].kube_proxy.kubeconfig_from: `"):
        load(file)
    (tmp_path / "kp.conf").touch()
    (found,) = load(file).nodes
    assert found.desired.kube_proxy.kubeconfig_from == str(tmp_path / "kp.conf")


def test_parsing_looks_at_no_file() -> None:
    asked: list[Path] = []
    text = b"nodes: [{name: n, kube_proxy: {kubeconfig_from: /x}, ssh: {identity_file: /y}}]"

    def is_file(path: Path) -> bool:
        asked.append(path)
        return True

    parse(text, "f", HOME, BASE, is_file=is_file)
    assert asked == [Path("/x")]


# --- the cluster ----------------------------------------------------------------------------


def kubectl(settings: str) -> KubectlChoice:
    return parsed(f"nodes: [{{name: n}}]\ncluster: {{kubectl: {{{settings}}}}}").kubectl


def test_which_kubectl_speaks_with_the_cluster() -> None:
    assert parsed("nodes: [{name: n}]").kubectl == KubectlChoice()
    assert kubectl("on: n") == kubectl("'on': n") == KubectlChoice(on="n")
    assert kubectl("kubeconfig: /etc/kubernetes/admin.conf, context: a@b") == KubectlChoice(
        kubeconfig="/etc/kubernetes/admin.conf", context="a@b"
    )


def test_a_kubeconfig_here_begins_where_every_path_of_this_machine_does() -> None:
    assert kubectl("on: here, kubeconfig: ~/.kube/config").kubeconfig == f"{HOME}/.kube/config"
    assert kubectl("on: here, kubeconfig: x.conf").kubeconfig == f"{BASE}/x.conf"


def test_kube_proxy_may_be_a_daemon_sets() -> None:
    proxy = node("kube_proxy: {managed_by: daemonset}").desired.kube_proxy
    assert (proxy.is_pod, proxy.has_unit) == (True, False)
    proxy = node("kube_proxy: {mode: ipvs}").desired.kube_proxy
    assert (proxy.is_pod, proxy.has_unit) == (False, True)
