"""NetworkManager, systemd-networkd and firewalld, really running: they stay, and kube-proxy too.

The tests of this file follow each other on one node. There is no kube-proxy: what it makes in ipvs
mode is made by hand, the way it makes it.
"""

from pathlib import Path

import pytest

from tests.e2e.conftest import Inventories
from tests.e2e.operator_of import OURS, Operator

pytestmark = pytest.mark.lab
MINUTES = 5

NETWORK, KUBE_PROXY = "127.79.8", False
PACKAGES = ("firewalld", "network-manager")

MANAGER, CONF, LINKS = OURS[6:]
TOPICS = [
    word for name in ("network_manager", "networkd", "firewall") for word in ("--topic", name)
]
LATE = "/etc/NetworkManager/conf.d/zz-late.conf"
ZONES = "firewall-cmd --list-all-zones; firewall-cmd --permanent --list-all-zones"
STATES = "nmcli -t -f DEVICE,STATE device"

# The lab's own card is nobody's here, and a file takes every dummy device for systemd-networkd.
# Their packages are unpacked, not configured: an emulated node would compile Python for minutes.
# What firewall-cmd needs of it is compiled when it first runs.
PREPARE = """\
set -e
mkdir -p /etc/NetworkManager/conf.d
printf '[keyfile]\\nunmanaged-devices=interface-name:eth0\\n' \\
  >/etc/NetworkManager/conf.d/10-lab.conf
printf '[Match]\\nKind=dummy\\n[Network]\\nLinkLocalAddressing=no\\n' \\
  >/etc/systemd/network/50-dummies.network
apt-get -q update
apt-get -q -y --download-only install firewalld network-manager nftables
cd /var/cache/apt/archives
rm -f polkitd*
for package in *.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink -C /
done
ldconfig
systemctl daemon-reload
systemctl reload dbus
ip link add kube-ipvs0 type dummy
ip link set kube-ipvs0 arp off
systemctl start NetworkManager systemd-networkd firewalld
firewall-cmd --list-all-zones >/dev/null
iptables -t nat -A PREROUTING -d 192.0.2.8 -j RETURN
until networkctl --no-legend list kube-ipvs0 | grep -q configured; do sleep 1; done
"""


@pytest.fixture(scope="module")
def neighbours(node: Operator) -> Operator:
    """The node with all three of them running, and kube-ipvs0."""
    node.ask(PREPARE)
    return node


@pytest.fixture
def opening(inventory: Inventories) -> Path:
    """An inventory by which firewalld is opened."""
    asked = "firewall: {open: true, node_ports: 30000-32767}\n  kube_proxy:\n"
    return inventory(("kube_proxy:\n", asked))


def test_all_that_is_in_the_way_is_said(neighbours: Operator) -> None:
    said = neighbours.nodeprep("verify", *TOPICS, "--output", "json").check(1).json()
    findings = {finding["name"]: finding for finding in said["nodes"][0]["findings"]}
    assert findings[MANAGER]["status"] == findings[CONF]["status"] == "fail"
    assert findings["kube-ipvs0 (networkd)"]["actual"] == (
        "configured by /etc/systemd/network/50-dummies.network"
    )
    assert {"pods", "reload"} <= findings.keys(), said
    assert findings["pods"]["status"] == findings["reload"]["status"] == "warn"
    assert "firewall-cmd --permanent --zone=trusted" in findings["pods"]["hint"]


def test_apply_leaves_all_three_running_and_opens_just_what_was_asked_for(
    neighbours: Operator, opening: Path
) -> None:
    started = "systemctl show -p MainPID NetworkManager systemd-networkd firewalld"
    kept = f"{started}; iptables-save | grep -v '^[#:]'"
    filters = "nft list table inet firewalld"
    before, zones = neighbours.ask(kept), neighbours.ask(ZONES).split()
    firewalld, tree = neighbours.ask(filters).splitlines(), neighbours.tree()

    neighbours.nodeprep("apply", *TOPICS, inventory=opening).check(0)

    assert neighbours.ask(kept) == before
    assert set(firewalld) <= set(neighbours.ask(filters).splitlines())
    opened = {"10.254.0.0/16", "30000-32767/tcp", "30000-32767/udp"}
    assert set(neighbours.ask(ZONES).split()) - {*zones, "(active)"} == opened
    changed = {path for path, was in neighbours.tree().items() if tree.get(path) != was}
    theirs = {f"/etc/firewalld/zones/{zone}.xml" for zone in ("trusted", "public")}
    backups = {path for path in changed if path.startswith("/var/lib/nodeprep/")}
    backups |= {f"{path}.old" for path in theirs}
    assert changed - backups == {MANAGER, CONF, LINKS, *theirs}


def test_each_of_them_says_that_kube_ipvs0_is_none_of_its_devices(neighbours: Operator) -> None:
    assert "kube-ipvs0:unmanaged" in neighbours.ask(STATES).splitlines()
    assert "unmanaged" in neighbours.ask("networkctl --no-legend list kube-ipvs0")


def test_a_second_apply_does_nothing(neighbours: Operator, opening: Path) -> None:
    said = neighbours.nodeprep("apply", *TOPICS, inventory=opening).check(0).out
    assert "0 changes made" in said
    assert "foreign routes" in said


def test_what_was_opened_outlives_a_reload_and_the_warning_of_it_is_true(
    neighbours: Operator, opening: Path
) -> None:
    neighbours.ask("systemctl restart systemd-networkd; firewall-cmd -q --reload")
    assert "192.0.2.8" not in neighbours.ask("iptables-save")
    said = neighbours.nodeprep("verify", *TOPICS, inventory=opening).check(0).out
    assert "foreign routes" not in said


def test_a_later_file_that_takes_the_device_back_is_found(neighbours: Operator) -> None:
    neighbours.tried("nmcli device set kube-ipvs0 managed yes")
    assert "kube-ipvs0:unmanaged" in neighbours.ask(STATES).splitlines()
    neighbours.ask(f"printf '[keyfile]\\nunmanaged-devices=interface-name:eth0\\n' >{LATE}")
    neighbours.ask("nmcli general reload conf; nmcli device set kube-ipvs0 managed yes; sleep 2")
    assert "kube-ipvs0:unmanaged" not in neighbours.ask(STATES).splitlines()
    said = neighbours.nodeprep("verify", "--topic", "network_manager", "--output", "json").check(1)
    (finding,) = [f for f in said.json()["nodes"][0]["findings"] if f["status"] == "fail"]
    assert finding["name"] == "kube-ipvs0 (NetworkManager)"
    assert f"({LATE}:2)" in finding["actual"]
