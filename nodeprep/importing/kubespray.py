"""Kubespray's inventories: Ansible's, with what its groups and variables say of kube-proxy.

Names are those of Kubespray's own sample (inventory/sample), older spellings included.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from nodeprep.importing.ansible import Extra, Result
from nodeprep.importing.ansible.connection import Reading, is_yes
from nodeprep.importing.imported import Imported, Key, Machine, Note, Remark
from nodeprep.importing.settings import fitting
from nodeprep.importing.ssh_words import HOP_KEY, hop
from nodeprep.releases import knows_mode, parse_version

CLUSTER = frozenset({"k8s_cluster", "k8s-cluster", "kube_cluster"})
CONTROL_PLANE = frozenset(
    {"kube_control_plane", "kube-control-plane", "kube-controlplane", "kube-master", "kube_master"}
)
NODES = frozenset({"kube_node", "kube-node", "calico_rr", "calico-rr"})
BASTION = "bastion"

SUBNETS = ("kube_pods_subnet", "kube_pods_subnet_ipv6")
DUAL_STACK = ("enable_dual_stack_networks", "ipv6_stack", "ipv4_stack")
_MODE = "kube_proxy_mode"
_PROXY: tuple[tuple[str, str, str], ...] = (
    ("kube_proxy_scheduler", "scheduler", "text"),
    ("kube_proxy_strict_arp", "strict_arp", "truth"),
    ("kube_proxy_masquerade_all", "masquerade_all", "truth"),
    ("kube_proxy_exclude_cidrs", "exclude_cidrs", "list"),
)
KNOWN = frozenset(
    {_MODE, "kube_version", "kube_proxy_remove", *SUBNETS, *DUAL_STACK, *(n for n, _, _ in _PROXY)}
)

_LABEL: Key = ("labels", "role")
_UNMANAGED = Note(
    message="Kubespray runs kube-proxy as a DaemonSet: `style: unmanaged` leaves it alone",
    hint="set `style: config` or `flags` where kube-proxy is a systemd unit",
)


def extra() -> Extra:
    """Return what Kubespray's variables come to, for the reader of Ansible's inventories."""
    return Extra(known=KNOWN, more=_more)


def narrowed(result: Result) -> Result:
    """Return only the nodes of the cluster; a bastion becomes the host that they are reached by."""
    imported = result.imported
    bastions = [m for m in imported.machines if BASTION in m.groups]
    nodes = [m for m in imported.machines if _in(m.groups, CLUSTER | CONTROL_PLANE | NODES)]
    others = [m for m in imported.machines if m not in nodes and m not in bastions]
    notes = [*imported.notes, *_left_out(others), *([_UNMANAGED] if nodes else [])]
    if bastions and nodes:
        nodes, told = _through(bastions[0], nodes)
        notes += told
    written_in = {
        group: imported.written_in.get(group, frozenset()) | {_LABEL}
        for group in dict.fromkeys(group for node in nodes for group in node.groups)
        if group in CONTROL_PLANE | NODES
    }
    return replace(
        result,
        imported=Imported(
            machines=tuple(nodes),
            written_in={**imported.written_in, **written_in},
            notes=tuple(notes),
        ),
    )


def _in(groups: Iterable[str], some: frozenset[str]) -> bool:
    return not some.isdisjoint(groups)


def _left_out(machines: Sequence[Machine]) -> Iterable[Note]:
    for machine in machines:
        told = "no node of the cluster, where kube-proxy runs: left out"
        yield Note(message=told, nodes=(machine.name,))


def _through(bastion: Machine, nodes: list[Machine]) -> tuple[list[Machine], list[Note]]:
    user, port, key = (
        bastion.settings.get(("ssh", name)) for name in ("user", "port", "identity_file")
    )
    before = bastion.settings.get(("ssh", "jump"), ())
    last = hop(bastion.address, str(user or ""), port)
    jump = (*(before if isinstance(before, tuple) else ()), last)
    if refused := fitting(("ssh", "jump"), jump):
        return nodes, [Note(message=f"the bastion stays behind: {refused}", nodes=(bastion.name,))]
    told = f"the bastion is no node here: the others are reached by it (`jump: {last}`)"
    notes = [Note(message=told, nodes=(bastion.name,))]
    if key is not None and any(n.settings.get(("ssh", "identity_file")) != key for n in nodes):
        notes.append(Note(message=HOP_KEY.message, hint=HOP_KEY.hint, nodes=(bastion.name,)))
    return [replace(n, settings={("ssh", "jump"): jump, **n.settings}) for n in nodes], notes


# --- the variables of one host ------------------------------------------------------------------


def _more(reading: Reading) -> None:
    groups = reading.host.groups
    if _in(groups, CONTROL_PLANE | NODES):
        role = "control-plane" if _in(groups, CONTROL_PLANE) else "worker"
        reading.set(_LABEL, role, None)
    reading.set(("kube_proxy", "style"), "unmanaged", None)
    _mode_and_version(reading)
    for name, key, kind in _PROXY:
        value = _of_kind(reading.value(name), kind)
        if value not in {None, ()}:
            reading.set(("kube_proxy", key), value, reading.var(name))
    _cluster_cidr(reading)
    if is_yes(reading.value("kube_proxy_remove")):
        told = "kube_proxy_remove is true: this cluster runs without kube-proxy"
        reading.remark(Remark(told), reading.var("kube_proxy_remove"))


def _of_kind(value: Any, kind: str) -> Any:
    if kind == "truth" and value is not None:
        return is_yes(value)
    if kind == "list":
        return tuple(map(str, value)) if isinstance(value, list) else None
    return str(value) if isinstance(value, str) and value else None


def _mode_and_version(reading: Reading) -> None:
    mode, version = reading.text(_MODE), reading.text("kube_version")
    if mode:
        reading.set(("kube_proxy", "mode"), mode, reading.var(_MODE))
    if not version:
        return
    plain = version.removeprefix("v")
    release = parse_version(plain)
    kept = reading.settings.get(("kube_proxy", "mode"), "ipvs")
    if release and kept in {"iptables", "ipvs", "nftables"} and not knows_mode(kept, release):  # type: ignore[arg-type]
        told = f"kube_version {plain} stays behind: it does not know the mode {kept}"
        reading.remark(Remark(told), reading.var("kube_version"))
    else:
        reading.set(("kube_proxy", "version"), plain, reading.var("kube_version"))


def _cluster_cidr(reading: Reading) -> None:
    """Keep the pods' networks: both of them only where the cluster has both families."""
    four, six = (reading.text(name) for name in SUBNETS)
    wants_four = not (reading.var("ipv4_stack") and not is_yes(reading.value("ipv4_stack")))
    wants_six = any(is_yes(reading.value(name)) for name in DUAL_STACK[:2])
    networks = [four if wants_four else None, six if wants_six else None]
    kept = ",".join(_tidy(network) for network in networks if network)
    if kept:
        source = SUBNETS[0] if wants_four and four else SUBNETS[1]
        reading.set(("kube_proxy", "cluster_cidr"), kept, reading.var(source))


def _tidy(network: str) -> str:
    """Return a network as its own notation has it, where it is one: ``fd00::1:0000/112`` is."""
    return re.sub(r"\s+", "", network)
