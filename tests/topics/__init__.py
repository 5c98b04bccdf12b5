"""Topics as a specification. Here: the node they are asked about, and a node that has it all."""

from collections.abc import Mapping
from typing import Any, Literal

from nodeprep import files
from nodeprep.model import (
    BypassRule,
    Desired,
    Fact,
    Facts,
    FileState,
    Finding,
    Firewall,
    IpSet,
    KubeProxy,
    Node,
    Sysctl,
)
from nodeprep.releases import Version
from nodeprep.systemd import Service
from nodeprep.topics import (
    bypass_rules,
    firewall,
    ipsets,
    iptables,
    kernel_modules,
    kube_proxy,
    network_manager,
    networkd,
    packages,
    proxy_mode,
    selinux,
    sysctl,
    system,
)
from tests import facts

NOW = 1_795_405_384


def node(
    *,
    modules: tuple[str, ...] = (),
    sysctls: tuple[Sysctl, ...] = (),
    packages: tuple[str, ...] = (),
    packages_from: str | None = None,
    module_packages: Literal["name", "install"] = "name",
    ipsets: tuple[IpSet, ...] | None = None,
    bypass_rules: tuple[BypassRule, ...] | None = None,
    adopt: bool = False,
    opens: Firewall | None = None,
    **proxy: Any,
) -> Node:
    """Return a node whose kube-proxy differs from the default one by ``proxy``.

    ``opens`` is what the inventory wants of its firewall.
    """
    desired = Desired(
        modules=modules,
        sysctls=sysctls,
        packages=packages,
        packages_from=packages_from,
        module_packages=module_packages,
        ipsets=ipsets,
        bypass_rules=bypass_rules,
        adopt=adopt,
        firewall=opens or Firewall(),
        kube_proxy=KubeProxy(**proxy),
    )
    return Node(name="node-1", address="192.0.2.1", desired=desired)


RUNNING = Service(
    load="loaded",
    active="active",
    enabled="enabled",
    fragment="/etc/systemd/system/kube-proxy.service",
    pid=4242,
    started=NOW - 100,
    now=NOW,
)
UNITS = {bypass_rules.PLACING: "", bypass_rules.WATCHING: ""}
"""Those of the rules, as systemd tells of units that it does not know."""

INSTALLED = kube_proxy.Binary(present=True, version=Version(1, 34), mtime=NOW - 9000)
SYSCTLS = """\
release 5.15.0-204-generic
/proc/sys/net/ipv4/ip_forward:1
/proc/sys/net/bridge/bridge-nf-call-iptables:1
/proc/sys/net/bridge/bridge-nf-call-ip6tables:1
/proc/sys/net/ipv4/tcp_keepalive_time:600
/proc/sys/net/ipv4/vs/conntrack:1
/proc/sys/net/ipv4/vs/expire_nodest_conn:1
/proc/sys/net/ipv4/vs/expire_quiescent_template:1
"""
KUBECONFIG = FileState(path="/etc/kubernetes/kube-proxy.kubeconfig", kind="regular", digest="0")


def of(values: Mapping[Fact[Any], object] | None = None, *states: FileState) -> Facts:
    """Return the facts of a node on which all is well but ``values`` and the files ``states``."""
    every: dict[str, object] = {
        "system": facts.read(system.SYSTEM, "ubuntu2204"),
        "system.last_run": system.LastRun(),
        "system.swap": system.Swap(),
        "selinux": selinux.Selinux(),
        "network_manager": network_manager.Manager(),
        "networkd": networkd.Networkd(),
        "firewall": firewall.Firewalls(),
        "iptables": iptables.Iptables(version="1.8.9", backend="nft"),
        "packages": facts.read(packages.INSTALLED, "ubuntu2204"),
        "kernel_modules": facts.read(kernel_modules.KERNEL, "ubuntu2204-loaded"),
        "sysctl": sysctl.parse(SYSCTLS),
        "ipsets": ipsets.Sets(there={}, unit=""),
        "bypass_rules": bypass_rules.Seen(own="nft", chains=(), units=UNITS),
        "kube_proxy.binary": INSTALLED,
        "kube_proxy.service": RUNNING,
        "proxy_mode": facts.read(proxy_mode.EFFECTIVE, "v1.18"),
    }
    changed = {fact.name: value for fact, value in (values or {}).items()}
    return Facts({**every, **changed}, {state.path: state for state in states})


def placed(*wanted: files.ManagedFile, mtime: int = NOW - 5000) -> tuple[FileState, ...]:
    """Return the states of files that are just as they should be."""
    return tuple(
        FileState(
            path=file.path,
            kind="regular",
            mode=file.mode,
            digest=file.digest,
            size=len(file.text),
            mtime=mtime,
            content=file.text.encode(),
            real_parent=file.path.rpartition("/")[0],
            ours=True,
        )
        for file in wanted
    )


def named(findings: tuple[Finding, ...], name: str) -> Finding:
    """Return the one finding of this name."""
    (found,) = [finding for finding in findings if finding.name == name]
    return found
