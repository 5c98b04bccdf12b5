"""The kernel parameters of each proxy mode, and those that kube-proxy has the last word on."""

from typing import Any

import pytest

from nodeprep.model import KubeProxy, Sysctl
from nodeprep.proxy_sysctls import needed, overruled, speaks_ipv6

BASE = {
    "net.ipv4.ip_forward": "1",
    "net.bridge.bridge-nf-call-iptables": "1",
    "net.bridge.bridge-nf-call-ip6tables": "1",
}


def values(release: str = "6.1.0", **proxy: Any) -> dict[str, str]:
    return {sysctl.key: sysctl.value for sysctl in needed(KubeProxy(**proxy), release)}


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_other_modes_need_the_bridge_and_forwarding_alone(mode: str) -> None:
    assert values(mode=mode) == BASE


def test_ipvs_needs_what_kube_proxy_will_set_and_a_keepalive_below_its_own_timeout() -> None:
    assert values(mode="ipvs") == {
        **BASE,
        "net.ipv4.tcp_keepalive_time": "600",
        "net.ipv4.vs.conntrack": "1",
        "net.ipv4.vs.expire_nodest_conn": "1",
        "net.ipv4.vs.expire_quiescent_template": "1",
    }


@pytest.mark.parametrize(
    ("release", "wanted"),
    [
        ("3.10.0-1160.el7.x86_64", False),
        ("4.0.9", False),
        ("4.1.0", True),
        ("4.18.0-553.el8_10.x86_64", True),
        ("5.8.18", True),
        ("5.9.0", False),
        ("5.10.0-28-amd64", False),
        ("6.12.0", False),
        ("", False),
    ],
)
def test_ports_are_reused_without_delay_where_the_kernel_would_delay(
    release: str, *, wanted: bool
) -> None:
    assert ("net.ipv4.vs.conn_reuse_mode" in values(release, mode="ipvs")) is wanted


def test_strict_arp_is_two_parameters_and_of_ipvs_alone() -> None:
    arp = {"net.ipv4.conf.all.arp_ignore": "1", "net.ipv4.conf.all.arp_announce": "2"}
    assert arp.items() <= values(mode="ipvs", strict_arp=True).items()
    assert values(mode="iptables", strict_arp=True) == BASE


@pytest.mark.parametrize(
    ("proxy", "six"),
    [
        ({}, False),
        ({"cluster_cidr": "10.244.0.0/16"}, False),
        ({"cluster_cidr": "10.244.0.0/16,fd00:10::/56"}, True),
        ({"cluster_cidr": "fd00:10::/56"}, True),
        ({"bind_address": "::"}, True),
    ],
)
def test_ipv6_is_forwarded_where_it_is_served(proxy: dict[str, str], *, six: bool) -> None:
    assert speaks_ipv6(KubeProxy(**proxy)) is six  # type: ignore[arg-type]
    assert ("net.ipv6.conf.all.forwarding" in values(**proxy)) is six


MAXIMUM = "net.netfilter.nf_conntrack_max"


@pytest.mark.parametrize(
    ("sysctl", "proxy", "hint"),
    [
        (Sysctl(key=MAXIMUM, value="131072", bound="at_least"), {}, ""),
        (Sysctl(key=MAXIMUM, value="131073", bound="at_least"), {}, "conntrack_max_per_core: 0"),
        (Sysctl(key=MAXIMUM, value="131072"), {}, "conntrack_max_per_core: 0"),
        (
            Sysctl(key="net/netfilter/nf_conntrack_max", value="9"),
            {},
            "conntrack_max_per_core: 0",
        ),
        (Sysctl(key=MAXIMUM, value="9"), {"conntrack_max_per_core": 0}, ""),
        (Sysctl(key=MAXIMUM, value="9"), {"style": "unmanaged"}, ""),
        (Sysctl(key="net.ipv4.vs.conntrack", value="0"), {"mode": "ipvs"}, "sets it to 1"),
        (Sysctl(key="net.ipv4.vs.conntrack", value="1"), {"mode": "ipvs"}, ""),
        (Sysctl(key="net.ipv4.vs.conntrack", value="0"), {"mode": "iptables"}, ""),
        (
            Sysctl(key="net.netfilter.nf_conntrack_tcp_timeout_established", value="900"),
            {"mode": "nftables"},
            "sets it to 86400",
        ),
        (Sysctl(key="vm.swappiness", value="0"), {}, ""),
    ],
)
def test_what_kube_proxy_sets_at_its_start_is_said_with_the_way_out(
    sysctl: Sysctl, proxy: dict[str, Any], hint: str
) -> None:
    said = overruled(sysctl, KubeProxy(**proxy))
    assert (hint in said) if hint else (said == "")
