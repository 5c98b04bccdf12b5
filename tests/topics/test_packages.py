"""Packages: their names in each family, what counts as installed, and how they are installed."""

import pytest

from nodeprep.model import Facts, Status
from nodeprep.topics import packages as topic
from nodeprep.topics.packages import INSTALLED
from tests import facts
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


@pytest.mark.parametrize(
    ("line", "installed"),
    [
        ("ii  ipset 7.17-1", True),
        ("hi  ipset 7.17-1", True),
        ("rc  ipset 7.17-1", False),
        ("un  ipset ", False),
        ("iU  ipset 7.17-1", False),
        ("iF  ipset 7.17-1", False),
        ("iiR ipset 7.17-1", False),
    ],
)
def test_dpkg_calls_installed_what_is_unpacked_and_configured(
    line: str, *, installed: bool
) -> None:
    assert ("ipset" in topic.parse_dpkg(f"{line}\n")) is installed


def test_rpms_word_on_a_missing_package_is_no_package() -> None:
    assert facts.read(INSTALLED, "centos7-missing").versions == {}
    missing = {f.name for f in topic.findings(node(), seen("centos7-missing"))}
    assert missing == {"ipset", "ipvsadm", "iptables", "conntrack-tools"}


def test_an_unknown_package_manager_is_told_what_to_install_by_hand() -> None:
    (finding,) = topic.findings(node(), seen("alpine3"))
    assert finding.status is Status.FAIL
    assert finding.hint == "install ipset ipvsadm iptables conntrack by hand"
    assert topic.changes(node(), seen("alpine3")) == ()


def test_where_there_is_dnf_yum_is_not_asked() -> None:
    script = INSTALLED.script(node())
    assert script.index("command -v dnf") < script.index("command -v yum")
    assert "elif command -v yum" in script


def test_rpm_is_asked_by_the_names_of_its_family() -> None:
    asked = "ipset ipvsadm iptables iptables-nft iptables-legacy conntrack-tools"
    assert asked in INSTALLED.script(node())
