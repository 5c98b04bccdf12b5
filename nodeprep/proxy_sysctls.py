"""The kernel parameters of each proxy mode, and those that kube-proxy sets itself at its start.

What kube-proxy sets is not fought over: where we set it too, it is to the same value, so that it
holds from the boot on.

Source: kube-proxy's own source, release by release; facts of it are in docs/topics.md.
"""

import re

from nodeprep.model import KubeProxy, Sysctl

CONNTRACK_MAX = "net.netfilter.nf_conntrack_max"
CONNTRACK_LEAST = 131072
"""What kube-proxy sets nf_conntrack_max to at least, whatever the number of processors."""

BASE = (
    Sysctl(key="net.ipv4.ip_forward", value="1"),
    Sysctl(key="net.bridge.bridge-nf-call-iptables", value="1"),
    Sysctl(key="net.bridge.bridge-nf-call-ip6tables", value="1"),
)
"""What kube-proxy needs in every mode and does not set itself in every mode."""

FORWARD6 = Sysctl(key="net.ipv6.conf.all.forwarding", value="1")

# IPVS forgets a TCP connection that was silent for 900 s, and then resets it. Linux begins to
# probe after 7200 s (kubernetes#70747, #81775).
_KEEPALIVE = Sysctl(key="net.ipv4.tcp_keepalive_time", value="600", bound="at_most")
_IPVS = (
    Sysctl(key="net.ipv4.vs.conntrack", value="1"),
    Sysctl(key="net.ipv4.vs.expire_nodest_conn", value="1"),
    Sysctl(key="net.ipv4.vs.expire_quiescent_template", value="1"),
)
_REUSE = Sysctl(key="net.ipv4.vs.conn_reuse_mode", value="0")
_STRICT_ARP = (
    Sysctl(key="net.ipv4.conf.all.arp_ignore", value="1"),
    Sysctl(key="net.ipv4.conf.all.arp_announce", value="2"),
)


def needed(proxy: KubeProxy, release: str) -> tuple[Sysctl, ...]:
    """Return the parameters of a proxy mode on a kernel of this release, such as 5.4.0-42."""
    forward6 = (FORWARD6,) if speaks_ipv6(proxy) else ()
    return (*BASE, *forward6, *_of_ipvs(proxy, release))


def speaks_ipv6(proxy: KubeProxy) -> bool:
    """Tell whether kube-proxy serves an IPv6 network, alone or beside an IPv4 one."""
    return ":" in f"{proxy.bind_address}{proxy.cluster_cidr or ''}"


def _of_ipvs(proxy: KubeProxy, release: str) -> tuple[Sysctl, ...]:
    if proxy.mode != "ipvs":
        return ()
    reuse = (_REUSE,) if _reuses_ports(release) else ()
    return (_KEEPALIVE, *_IPVS, *reuse, *(_STRICT_ARP if proxy.strict_arp else ()))


def _reuses_ports(release: str) -> bool:
    """Tell whether a kernel delays connections from reused ports: 4.1 to 5.8 (kubernetes#93297)."""
    number = re.match(r"(\d+)\.(\d+)", release)
    return bool(number) and (4, 1) <= (int(number[1]), int(number[2])) < (5, 9)  # type: ignore[index]


def overruled(sysctl: Sysctl, proxy: KubeProxy) -> str:
    """Return what to type where kube-proxy sets a parameter of the inventory's anew; else ''."""
    if proxy.style == "unmanaged":
        return ""
    key = sysctl.key.replace("/", ".")
    if key == CONNTRACK_MAX and _sets_conntrack_max(sysctl, proxy):
        return "set `kube_proxy: {conntrack_max_per_core: 0}`: then it leaves the value alone"
    own = {each.key: each for each in (*_TIMEOUTS, *_own(proxy))}.get(key)
    if own is None or (own.value, own.bound) == (sysctl.value, sysctl.bound):
        return ""
    return f"take `{sysctl.key}` out of `sysctls`: kube-proxy sets it to {own.value}"


_TIMEOUTS = (
    Sysctl(key="net.netfilter.nf_conntrack_tcp_timeout_established", value="86400"),
    Sysctl(key="net.netfilter.nf_conntrack_tcp_timeout_close_wait", value="3600"),
)


def _own(proxy: KubeProxy) -> tuple[Sysctl, ...]:
    if proxy.mode != "ipvs":
        return ()
    return (BASE[0], *_IPVS, *(_STRICT_ARP if proxy.strict_arp else ()))


def _sets_conntrack_max(sysctl: Sysctl, proxy: KubeProxy) -> bool:
    if proxy.conntrack_max_per_core == 0:
        return False
    # Releases from 1.29 on lower it, too (kubernetes#120448); those before 1.23 did.
    return sysctl.bound != "at_least" or int(sysctl.value) > CONNTRACK_LEAST
