"""Packages: their names in each family, what counts as installed, and how they are installed."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from nodeprep.model import Facts, Status
from nodeprep.topics import packages as topic
from nodeprep.topics.packages import INSTALLED
from tests import facts
from tests.shells import in_root, stand_ins
from tests.topics import named, node, of


def seen(system: str) -> Facts:
    return of({INSTALLED: facts.read(INSTALLED, system)})


def test_each_mode_brings_its_tools() -> None:
    assert topic.desired(node(mode="ipvs")) == ("ipset", "ipvsadm", "iptables", "conntrack")
    assert topic.desired(node(mode="iptables")) == ("iptables", "conntrack")
    assert topic.desired(node(mode="nftables")) == ("nftables", "conntrack")


def test_the_users_own_packages_come_last_and_once() -> None:
    wanted = topic.desired(node(mode="nftables", packages=("socat", "conntrack")))
    assert wanted == ("nftables", "conntrack", "socat")


@pytest.mark.parametrize("system", ["debian11", "debian13", "ubuntu2004", "ubuntu2404"])
def test_apt_systems_with_all_packages_are_left_alone(system: str) -> None:
    assert topic.changes(node(), seen(system)) == ()
    assert {f.status for f in topic.findings(node(), seen(system))} == {Status.OK}


def test_apt_installs_what_is_missing_all_at_once() -> None:
    (change,) = topic.changes(node(), seen("debian12-container"))
    assert change.summary == "install ipset, ipvsadm, iptables, conntrack with apt"
    assert "--no-upgrade --no-remove ipset ipvsadm iptables conntrack" in str(change.action)
    assert "DPkg::Lock::Timeout=300" in str(change.action)


@pytest.mark.parametrize(("text", "manager"), [("manager dnf\n", "dnf"), ("manager yum\n", "yum")])
def test_dnf_and_yum_call_conntrack_by_another_name(text: str, manager: str) -> None:
    (change,) = topic.changes(node(), of({INSTALLED: INSTALLED.parse(text)}))
    assert change.summary == f"install ipset, ipvsadm, iptables, conntrack-tools with {manager}"
    assert f"{manager} -q -y install ipset ipvsadm iptables conntrack-tools" in str(change.action)


def test_iptables_nft_counts_as_iptables_on_enterprise_linux_10() -> None:
    assert topic.changes(node(), seen("el10")) == ()
    assert named(topic.findings(node(), seen("el10")), "iptables").actual == "1.8.11-11.el10"


def test_rpms_word_on_a_missing_package_is_no_package() -> None:
    assert facts.read(INSTALLED, "centos7-missing").versions == {}
    missing = {f.name for f in topic.findings(node(), seen("centos7-missing"))}
    assert missing == {"ipset", "ipvsadm", "iptables", "conntrack-tools"}


def test_without_a_package_manager_the_programs_count() -> None:
    seen_ = of({INSTALLED: INSTALLED.parse("manager none\nipset there\nnft there\n")})
    findings = topic.findings(node(), seen_)
    assert named(findings, "ipset").status is Status.OK
    absent = named(findings, "ipvsadm")
    assert absent.actual == "no such program, and no package manager that nodeprep knows"
    assert absent.hint.startswith("install ipvsadm by hand")
    assert named(topic.findings(node(mode="nftables"), seen_), "nft").status is Status.OK
    assert topic.changes(node(), seen_) == ()


def test_what_waits_for_a_reboot_is_not_installed_again() -> None:
    waiting = "at next boot: ipset\nat next boot: ipvsadm\nmanager rpm-ostree\niptables 1.8-1\n"
    seen_ = of({INSTALLED: INSTALLED.parse(waiting)})
    (change,) = topic.changes(node(), seen_)
    assert change.summary == "install conntrack-tools with rpm-ostree, for the next boot"
    found = named(topic.findings(node(), seen_), "ipset")
    assert (found.status, found.actual, found.hint) == (
        Status.FAIL,
        "installed for the next boot",
        "reboot",
    )


def test_a_directory_on_the_node_is_said_in_the_plan() -> None:
    wanted = node(packages_from="/srv/packages")
    (change,) = topic.changes(wanted, seen("debian12-container"))
    assert change.summary.endswith("with apt from /srv/packages")
    assert "/srv/packages/*.deb" in str(change.action)


def test_where_there_is_dnf_yum_is_not_asked() -> None:
    script = INSTALLED.script(node())
    assert script.index("command -v dnf") < script.index("command -v yum")
    assert "elif command -v yum" in script


def test_rpm_is_asked_by_the_names_of_its_family() -> None:
    asked = "ipset ipvsadm iptables iptables-nft iptables-legacy conntrack-tools"
    assert asked in INSTALLED.script(node())


# --- dpkg's own file ------------------------------------------------------------------------

STATUS = """\
Package: ipset
Status: install ok installed
Priority: optional
Version: 7.17-1
Depends: libc6 (>= 2.34)
Description: administration tool
 Version: 0, says somebody

Package: ipset-persistent
Status: install ok installed
Version: 1.0

Package: ipvsadm
Status: hold ok installed
Version: 1:1.31-1+b1

Package: iptables
Status: install ok half-configured
Version: 1.8.9-2

Package: conntrack
Status: deinstall ok config-files
Config-Version: 1.4.7-1
Version: 1.4.7-1

Package: zlib1g
Status: install ok installed
Version: 1:1.2.13"""


def versions(shell: str, folder: Path, status: str, *pending: str) -> Mapping[str, str]:
    """Return what a node is found to have, where dpkg itself would say something else."""
    root = folder / "root"
    (root / "var/lib/dpkg/updates").mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text(status)
    for name in pending:
        (root / "var/lib/dpkg/updates" / name).touch()
    path = stand_ins(folder, {"apt-get": "", "dpkg-query": "ii  ipset 0-dpkg"})
    text = in_root(shell, f"{INSTALLED.script(node())}\n", root, path)
    return INSTALLED.parse(text).versions


def test_any_shell_reads_from_dpkgs_file_what_is_installed(shell: str, tmp_path: Path) -> None:
    found = versions(shell, tmp_path, STATUS)
    assert found == {"ipset": "7.17-1", "ipvsadm": "1:1.31-1+b1"}


def test_while_dpkg_has_not_finished_it_is_asked_itself(shell: str, tmp_path: Path) -> None:
    assert versions(shell, tmp_path, STATUS, "0001") == {"ipset": "0-dpkg"}


@pytest.mark.parametrize("status", ["", "Package: zlib1g\nVersion: 1\n"])
def test_where_the_file_has_none_of_them_dpkg_has_the_word(
    shell: str, tmp_path: Path, status: str
) -> None:
    assert versions(shell, tmp_path, status) == {"ipset": "0-dpkg"}
