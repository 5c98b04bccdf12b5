"""One fleet of three families: packages really come through apt, dnf and zypper.

The tests of this file follow each other on three nodes, which are worked on at once.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import pytest

from nodeprep.lab import kinds
from nodeprep.lab.readiness import ssh_command
from nodeprep.lab.state import Lab
from tests.e2e.conftest import Inventories
from tests.e2e.operator_of import Operator, finished, run

pytestmark = pytest.mark.lab
MINUTES = 5

NETWORK, KUBE_PROXY = "127.79.7", False
KINDS = ("apt", "dnf", "zypper")
T = TypeVar("T")

MISSING = {
    "apt": {"ipset", "ipvsadm", "conntrack"},
    "dnf": {"ipset", "ipvsadm", "conntrack-tools", "iptables"},
    "zypper": {"ipset", "ipvsadm", "conntrack-tools", "iptables"},
}
"""What verify calls missing on a bare node; that of apt comes with iptables."""

FILES = {
    "/etc/sysctl.d/50-theirs.conf": "net.core.somaxconn = 2048\n",
    "/etc/systemd/system/theirs.service": """\
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
[Install]
WantedBy=multi-user.target
""",
}
# Somebody's programs, from somewhere else than the node's packages.
UNPACK = """\
cd /opt/theirs
for package in ip*.deb lib*.deb ip*.rpm lib*.rpm; do
  case $package in
    *\\**) ;;
    *.deb) dpkg-deb -x "$package" . ;;
    *.rpm) rpm2cpio "$package" | cpio -idmu --quiet ;;
  esac
done
"""
WITH_THEIRS = """\
here=/usr/lib/x86_64-linux-gnu theirs=/opt/theirs
export LD_LIBRARY_PATH=$theirs$here:$theirs/lib/x86_64-linux-gnu
export XTABLES_LIBDIR=$theirs$here/xtables:$here/xtables PATH=$PATH:$theirs/usr/sbin:$theirs/sbin
"""
PLACE = """\
systemctl enable --quiet --now theirs
sysctl -q -p /etc/sysctl.d/50-theirs.conf
iptables-nft -t nat -N THEIRS
iptables-nft -t nat -A THEIRS -d 192.0.2.1 -m comment --comment 'not yours' -j RETURN
iptables-nft -A INPUT -s 192.0.2.9 -j DROP
ipset create theirs hash:ip
ipset add theirs 192.0.2.7
ipvsadm -A -t 192.0.2.80:80 -s rr
ipvsadm -a -t 192.0.2.80:80 -r 192.0.2.81:8080 -m
"""
KERNEL = "iptables-nft-save | grep -v '^#'; ipset save theirs; ipvsadm -Sn"
UNIT = f"cat {' '.join(FILES)}; systemctl is-enabled theirs; systemctl is-active theirs"


@pytest.fixture(scope="module")
def fleet(lab: Lab) -> Mapping[str, Operator]:
    """The nodes by kind."""
    return {node.kind: Operator(lab=lab, name=node.name) for node in lab.nodes}


@pytest.fixture(scope="module")
def before(fleet: Mapping[str, Operator]) -> Mapping[str, tuple[str, str]]:
    """What is foreign on each node, in its kernel and on its disk, placed before any change."""
    return on_each(fleet, _placed)


def on_each(fleet: Mapping[str, Operator], work: Callable[[str, Operator], T]) -> dict[str, T]:
    """Do something to all nodes at once, and return what became of it by kind."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(fleet, pool.map(work, fleet, fleet.values()), strict=True))


def _placed(kind: str, node: Operator) -> tuple[str, str]:
    packages = ["tar", "-ch", "-C", str(node.lab.repositories / kind), "."]
    archive = subprocess.run(packages, check=True, capture_output=True).stdout
    unpack = ssh_command(node.lab, node.lab.node(node.name), ["tar -xC /opt/theirs"])
    node.ask("mkdir /opt/theirs")
    subprocess.run(unpack, check=True, input=archive)
    files = "".join(f"cat >{path} <<'END'\n{text}END\n" for path, text in FILES.items())
    node.ask(f"set -e\n{files}{UNPACK}{WITH_THEIRS}{PLACE}")
    return node.ask(WITH_THEIRS + KERNEL), node.ask(UNIT)


def nodeprep(lab: Lab, code: int, *arguments: str) -> Any:
    """Run nodeprep on all nodes, and return what it says of each by kind."""
    said = run(arguments[0], "-i", str(lab.inventory), *arguments[1:], "--output", "json")
    kinds = {node.name: node.kind for node in lab.nodes}
    return {kinds[each["name"]]: each for each in said.check(code).json()["nodes"]}


def test_each_node_has_the_package_manager_of_its_kind_and_no_other(
    fleet: Mapping[str, Operator],
) -> None:
    programs = "for each in apt-get dnf yum zypper; do command -v $each; done; :"
    found = on_each(fleet, lambda _, node: node.ask(programs).split())
    assert found == {
        "apt": ["/usr/bin/apt-get"],
        "dnf": ["/usr/bin/dnf"],
        "zypper": ["/usr/bin/zypper"],
    }


def test_a_bare_node_lacks_packages_by_the_names_of_its_family(lab: Lab) -> None:
    for kind, said in nodeprep(lab, 1, "verify").items():
        findings = {f["name"]: f["status"] for f in said["findings"] if f["topic"] == "packages"}
        assert {name for name, status in findings.items() if status == "fail"} == MISSING[kind]


def test_apply_makes_all_of_them_ready_and_leaves_what_is_foreign(
    lab: Lab, fleet: Mapping[str, Operator], before: Mapping[str, tuple[str, str]]
) -> None:
    marks = ("THEIRS", "not yours", "192.0.2.7", "192.0.2.80:80", "somaxconn", "enabled", "active")
    assert all(mark in "".join(seen) for seen in before.values() for mark in marks)
    nodeprep(lab, 0, "apply")
    after = on_each(fleet, lambda _, node: (node.ask(KERNEL), node.ask(UNIT)))
    assert after == before


@pytest.mark.parametrize("kind", ["dnf", "zypper"])
def test_rpm_knows_what_was_installed_and_what_came_along(
    fleet: Mapping[str, Operator], kind: str
) -> None:
    iptables = "iptables-nft" if kind == "dnf" else "iptables"
    asked = f"rpm -q ipset libipset13 ipvsadm conntrack-tools {iptables} libnftnl11"
    assert fleet[kind].ask(f"{asked} && rpm -V ipset libipset13 {iptables}").count("\n") == 6


@pytest.mark.parametrize("kind", KINDS)
def test_the_programs_run(fleet: Mapping[str, Operator], kind: str) -> None:
    said = fleet[kind].ask("ipset --version; ipvsadm --version; conntrack --version; iptables -V")
    for words in ("ipset v7", "ipvsadm v1.31", "conntrack v1.4", "iptables v1.8"):
        assert words in said


def test_a_second_apply_changes_nothing(lab: Lab, fleet: Mapping[str, Operator]) -> None:
    trees = on_each(fleet, lambda _, node: node.tree())
    assert "0 changes made" in run("apply", "-i", str(lab.inventory)).check(0).out
    assert on_each(fleet, lambda _, node: node.tree()) == trees


def test_a_reboot_loses_nothing(
    lab: Lab, fleet: Mapping[str, Operator], before: Mapping[str, tuple[str, str]]
) -> None:
    on_each(fleet, lambda _, node: node.reboot())
    assert all(said["ready"] for said in nodeprep(lab, 0, "verify").values())
    after = on_each(fleet, lambda _, node: node.ask(UNIT))
    assert after == {kind: unit for kind, (_, unit) in before.items()}


# --- families of rpm: a directory, and a busy lock --------------------------------------------

RPM = ("dnf", "zypper")
# Somebody's package: it is being installed until somebody says go.
SLOW = """\
cd /root && cat >slow.spec <<'END'
Name: slow
Version: 1
Release: 1
Summary: Takes its time
License: none
BuildArch: noarch
%description
Takes its time.
%pre
touch /run/held
read -r said </run/go
%files
END
rpmbuild --quiet -bb --define '_topdir /root/slow' --define '_rpmdir /root' slow.spec
mv noarch/slow-1-1.noarch.rpm . && mkfifo /run/go
"""
INSTALLING = {
    "dnf": "dnf -q -y install /root/slow-1-1.noarch.rpm",
    "zypper": "zypper -n -q install --allow-unsigned-rpm /root/slow-1-1.noarch.rpm",
}
HOLDERS = {
    "dnf": r"process \d+ \(dnf\) holds /var/\S+",
    "zypper": r"process \d+ \(zypper\) holds /run/zypp.pid",
}


@pytest.fixture(scope="module")
def of_rpm(fleet: Mapping[str, Operator]) -> Iterator[Mapping[str, Operator]]:
    """The nodes of rpm's families, which reach no repository."""
    nodes = {kind: fleet[kind] for kind in RPM}
    away = "mv /{source} /root/lab.repo; rm -rf /var/cache/dnf /var/cache/zypp"
    on_each(nodes, lambda kind, node: node.ask(away.format(source=kinds.KINDS[kind].source)))
    yield nodes
    back = "mv /root/lab.repo /{source}"
    on_each(nodes, lambda kind, node: node.ask(back.format(source=kinds.KINDS[kind].source)))


def only(nodes: Mapping[str, Operator]) -> str:
    return ",".join(node.name for node in nodes.values())


def test_packages_come_from_a_directory_of_the_node_where_there_is_no_repository(
    of_rpm: Mapping[str, Operator], inventory: Inventories
) -> None:
    filled = (
        "mkdir /srv/packages && cd /opt/theirs && cp ipset-*.rpm libipset13-*.rpm /srv/packages"
    )
    had = on_each(of_rpm, lambda _, node: node.ask(f"{filled} && rpm -qa | sort"))
    on_each(of_rpm, lambda _, node: node.ask("rpm -e ipset libipset13"))
    path = inventory(("  sudo: none", "  sudo: none\n  packages_from: /srv/packages"))
    run("apply", "-i", str(path), "--limit", only(of_rpm)).check(0)
    # In the same versions, and nothing beside them.
    assert on_each(of_rpm, lambda _, node: node.ask("rpm -qa | sort")) == had


@pytest.fixture(scope="module")
def busy(of_rpm: Mapping[str, Operator]) -> Mapping[str, Operator]:
    """The same, lacking a package while another install is at work and goes on until told."""

    def begin(kind: str, node: Operator) -> None:
        node.ask(f"{SLOW}rpm -e ipvsadm")
        node.ask(f"systemd-run --quiet --unit=slow --setenv=HOME=/root {INSTALLING[kind]}")
        node.ask("for t in $(seq 300); do [ ! -e /run/held ] || exit 0; sleep 0.2; done; exit 1")

    on_each(of_rpm, begin)
    return of_rpm


def test_an_install_that_does_not_end_is_not_waited_for_for_ever_and_its_process_named(
    busy: Mapping[str, Operator], inventory: Inventories
) -> None:
    path = inventory(("  sudo: none", "  sudo: none\n  packages_from: /opt/theirs"))
    command = ["-m", "tests.e2e.impatient", "apply", "-i", str(path), "--limit", only(busy)]
    said = finished([sys.executable, *command]).check(1).out
    for kind, node in busy.items():
        assert re.search(HOLDERS[kind], said), said
        assert node.tried("rpm -q ipvsadm").code == 1


# What createrepo has been over is a repository, to dnf as well.
def test_an_install_that_ends_is_waited_for(
    busy: Mapping[str, Operator], inventory: Inventories
) -> None:
    path = inventory(("  sudo: none", "  sudo: none\n  packages_from: /opt/theirs"))
    let_go = "until pgrep -fx 'sleep 3'; do sleep 0.2; done && echo go >/run/go"
    with ThreadPoolExecutor() as pool:
        applied = pool.submit(run, "apply", "-i", str(path), "--limit", only(busy))
        on_each(busy, lambda _, node: node.ask(f"timeout 120 sh -c {shlex.quote(let_go)}"))
        applied.result().check(0)
    for node in busy.values():
        assert node.ask("rpm -q slow ipvsadm && rpm -e slow").startswith("slow-1-1.noarch\nipvsadm")
