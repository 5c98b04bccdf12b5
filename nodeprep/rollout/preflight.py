"""What is asked of every node before the first one is touched, and how it is judged.

Failures are named. ``--ignore NAME`` turns one into a warning, for those who know better; those in
:data:`NEVER_IGNORED` it does not, because behind them there is nothing to switch or no way back.
"""

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from nodeprep.model import APPLY, MODES, Change, Fact, Facts, Finding, Mode, Node, Status
from nodeprep.releases import Version, knows_mode
from nodeprep.rollout import artefacts, daemonset, gates, systemd, way_back
from nodeprep.rollout.artefacts import Artefacts
from nodeprep.rollout.switching import Aim
from nodeprep.shell import words
from nodeprep.story import Topic
from nodeprep.systemd import Service
from nodeprep.topics import (
    kernel_modules,
    kube_proxy,
    network_manager,
    networkd,
    packages,
    proxy_mode,
    sysctl,
    system,
)

NAME = "preflight"
TITLE = "Preflight"

NEVER_IGNORED = frozenset(
    {"kube-proxy", "release", "http client", "in hand", "systemd-run", "style", "root", "tools"}
)

LEAST_KERNEL = (5, 13)
LEAST_NFT = (1, 0, 1)
LEAST_IPSET = (6, 0)
"""Below these kube-proxy itself refuses: pkg/proxy/nftables/supported.go, pkg/proxy/ipvs."""

IPVS_LEAVES = (
    "deprecated since 1.35; from 1.40 kube-proxy refuses it unless the gate KubeProxyIPVS is on; "
    "gone in 1.43 (KEP-5495)"
)


# --- what is asked --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Around:
    """What is beside kube-proxy on the node.

    ``nft`` and ``ipset`` are versions, empty where the tool is not there. ``programs`` are those
    of :data:`NEIGHBOURS` that run. ``addresses`` counts the node's own global IPv4 addresses.
    """

    nft: tuple[int, ...] = ()
    ipset: tuple[int, ...] = ()
    systemd_run: bool = False
    programs: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    addresses: int = 0


NEIGHBOURS: Mapping[str, str] = {
    "speaker": "MetalLB",
    "kube-vip": "kube-vip",
    "node-cache": "NodeLocal DNSCache",
    "calico-node": "Calico",
    "cilium-agent": "Cilium",
    "kube-router": "kube-router",
}
"""Programs by the name of their process, and what people call them."""

MANY_CHAINS = 20_000
"""From so many chains for services and endpoints on, a snapshot of them takes its time."""

_LINKS = ("nodelocaldns", "cilium_host")

_SCRIPT = f"""\
command -v nft >/dev/null && printf 'nft %s\\n' "$(nft --version)"
command -v ipset >/dev/null && printf 'ipset %s\\n' "$(ipset --version 2>/dev/null | head -n 1)"
command -v systemd-run >/dev/null && echo systemd-run yes
for link in {words(*_LINKS)}; do [ ! -e "/sys/class/net/$link" ] || echo "link $link"; done
cat /proc/[0-9]*/comm | sort -u | grep -xE '{"|".join(NEIGHBOURS)}' | sed 's/^/program /'
ip -4 -o address show scope global 2>/dev/null | grep -vc kube-ipvs0 | sed 's/^/addresses /'
:"""


def parse(text: str) -> Around:
    r"""Read ``NAME VALUE`` lines.

    >>> parse("nft nftables v1.0.6 (Lester Gooch #5)\nprogram speaker\n").nft
    (1, 0, 6)
    """
    pairs = [line.partition(" ")[::2] for line in text.splitlines()]
    first = dict(reversed(pairs))
    return Around(
        nft=_version(first.get("nft", "")),
        ipset=_version(first.get("ipset", "")),
        systemd_run="systemd-run" in first,
        programs=tuple(value for name, value in pairs if name == "program"),
        links=tuple(value for name, value in pairs if name == "link"),
        addresses=int(first.get("addresses") or 0),
    )


def _version(text: str) -> tuple[int, ...]:
    match = re.search(r"v?(\d+(?:\.\d+)+)", text)
    return tuple(map(int, match[1].split("."))) if match else ()


AROUND = Fact(name="rollout.around", script=lambda _: _SCRIPT, parse=parse)
FACTS = (AROUND,)


def paths(_: Node) -> tuple[str, ...]:
    """Nothing here is written."""
    return ()


secrets = paths


def changes(_: Node, __: Facts) -> tuple[Change, ...]:
    """Nothing here is changed."""
    return ()


def findings(_: Node, __: Facts) -> tuple[Finding, ...]:
    """What is found depends on the aim: see ``judged``."""
    return ()


PREPARED: Sequence[Topic] = (packages, kernel_modules, sysctl, network_manager, networkd)
"""The topics that must be as the target mode wants them; ``nodeprep apply`` makes them so."""


# --- how it is judged -----------------------------------------------------------------------


def judged(node: Node, facts: Facts, aim: Aim, ignored: Collection[str]) -> tuple[Finding, ...]:
    """Return every check that has something to say of ``node``, failures first."""
    found = (
        *_needed(node, facts, aim),
        *_mode_checks(node, facts, aim),
        *_warnings(node, facts, aim),
    )
    softened = (_softened(finding, ignored) for finding in found)
    told = [finding for finding in softened if finding.status is not Status.OK]
    return tuple(sorted(told, key=lambda finding: finding.status is not Status.FAIL))


def _softened(finding: Finding, ignored: Collection[str]) -> Finding:
    ignorable = finding.name in ignored and finding.name not in NEVER_IGNORED
    if finding.status is Status.FAIL and ignorable:
        return dataclasses.replace(finding, status=Status.WARN, hint="ignored, as asked")
    return finding


def already(node: Node, facts: Facts, aim: Aim) -> bool:
    """Tell whether ``node`` is in the mode, its files say so, and no roll has it in hand."""
    effective = facts[proxy_mode.EFFECTIVE].mode
    record = way_back.kept(facts)
    if node.desired.kube_proxy.is_pod:
        return not record.armed_by and daemonset.arrived(facts, aim)
    done = effective == aim.to and not record.armed_by
    return done and (bool(aim.restores) or not systemd.writes(node, facts, aim.to))


def effective(facts: Facts) -> str:
    """Return the mode in effect, empty where nothing says it."""
    return facts[proxy_mode.EFFECTIVE].mode


def kubernetes(facts: Facts) -> str:
    """Return ADDRESS:PORT of ``default/kubernetes`` as the mode in effect has it, or nothing."""
    told = facts[artefacts.ARTEFACTS].kubernetes
    return next(
        (told[mode] for mode in MODES if mode == facts[proxy_mode.EFFECTIVE].mode and mode in told),
        "",
    )


def _needed(node: Node, facts: Facts, aim: Aim) -> tuple[Finding, ...]:
    aimed = systemd.aimed(node, aim.to)
    return (
        *_usable(node, facts),
        *(
            _of_pod(node, facts, aim)
            if node.desired.kube_proxy.is_pod
            else _of_unit(node, facts, aim)
        ),
        *_in_hand(facts, aim),
        *(
            _prepared(finding, aim)
            for topic in PREPARED
            for finding in topic.findings(aimed, facts)
            if finding.status is Status.FAIL
        ),
    )


def _usable(node: Node, facts: Facts) -> tuple[Finding, ...]:
    return tuple(
        dataclasses.replace(finding, topic=NAME)
        for finding in system.findings(node, facts)
        if finding.status is Status.FAIL
    )


def _of_pod(node: Node, facts: Facts, aim: Aim) -> tuple[Finding, ...]:
    found = tuple(
        dataclasses.replace(finding, topic=NAME) for finding in daemonset.needed(node, facts, aim)
    )
    release = _release(daemonset.release(facts, aim), aim.to)
    answers = () if found else _answers(node, facts)
    return (*found, *answers, *_systemd_run(facts), release)


def _of_unit(node: Node, facts: Facts, aim: Aim) -> tuple[Finding, ...]:
    return (
        *_runs(node, facts),
        _release(facts[kube_proxy.BINARY].version, aim.to),
        *_kept(facts, aim),
        *_files(node, facts, aim),
    )


def _runs(node: Node, facts: Facts) -> tuple[Finding, ...]:
    proxy, service = node.desired.kube_proxy, facts[kube_proxy.SERVICE]
    if proxy.style == "unmanaged":
        hint = "set `style: config` or `flags`; nodeprep switches only what it may write"
        return (_fail("style", "unmanaged", "a kube-proxy that nodeprep manages", hint),)
    if service.active != "active":
        return (_no_proxy(node, service, facts[AROUND]), *_systemd_run(facts))
    return (*_answers(node, facts), *_systemd_run(facts))


def _answers(node: Node, facts: Facts) -> tuple[Finding, ...]:
    if not facts[proxy_mode.EFFECTIVE].can_ask:
        return (_fail("http client", "none", "any of curl, wget, bash", "install curl"),)
    if not facts[proxy_mode.EFFECTIVE].mode:
        host, port = node.desired.kube_proxy.metrics_endpoint
        hint = f"on {node.name}: curl http://{host}:{port}/proxyMode"
        return (_fail("kube-proxy", "does not say its mode", "an answer", hint),)
    if not kubernetes(facts):
        hint = f"has kube-proxy ever synced? {gates.log_of(node)}"
        return (_fail("kubernetes ClusterIP", "nowhere in the kernel", "its rules", hint),)
    return ()


def _systemd_run(facts: Facts) -> tuple[Finding, ...]:
    if facts[AROUND].systemd_run:
        return ()
    hint = "the way back of a node needs it: install systemd's package"
    return (_fail("systemd-run", "not there", "systemd-run", hint),)


def _no_proxy(node: Node, service: Service, around: Around) -> Finding:
    instead = [
        NEIGHBOURS[name] for name in around.programs if name in ("cilium-agent", "kube-router")
    ]
    if "cilium_host" in around.links and not instead:
        instead = ["Cilium"]
    if instead:
        actual = f"does not run; {instead[0]} may do its work"
        hint = "nothing is to switch here: leave the node out with --limit '!NAME'"
        return _fail("kube-proxy", actual, "kube-proxy", hint.replace("NAME", node.name))
    hint = f"nodeprep apply --limit {node.name}"
    return _fail("kube-proxy", service.active or "no such unit", "it runs", hint)


def _release(installed: Version | None, mode: Mode) -> Finding:
    if installed is None:
        hint = "kube-proxy --version"
        return _fail("release", "the binary does not say its release", f"one with {mode}", hint)
    if not knows_mode(mode, installed):
        hint = "put another release in its place, or choose another mode"
        return _fail("release", f"{installed} does not know {mode}", f"one with {mode}", hint)
    if mode == "ipvs" and installed >= Version(1, 35):
        return _warn("ipvs", IPVS_LEAVES, "nodeprep switch --to nftables, in the end")
    return Finding(topic=NAME, name="release", status=Status.OK, actual=str(installed))


def _in_hand(facts: Facts, aim: Aim) -> tuple[Finding, ...]:
    owner = way_back.kept(facts).armed_by
    if owner in ("", aim.run):
        return ()
    hint = f"nodeprep switch --resume {owner}, where it was begun"
    return (_fail("in hand", f"the roll {owner} has it in hand", "nobody", hint),)


def _kept(facts: Facts, aim: Aim) -> tuple[Finding, ...]:
    if not aim.restores or facts[way_back.restored(aim.restores)].state == "settled":
        return ()
    actual = f"the node keeps nothing of {aim.restores}"
    hint = f"nodeprep switch --to {aim.to}"
    return (_fail("kept files", actual, "its old files", hint),)


def _files(node: Node, facts: Facts, aim: Aim) -> tuple[Finding, ...]:
    if node.desired.kube_proxy.style == "unmanaged":
        return ()
    return tuple(
        _fail(path, why, "nodeprep's to write", hint)
        for path, (why, hint) in systemd.refused(node, facts, aim.to).items()
    )


def _prepared(finding: Finding, aim: Aim) -> Finding:
    if aim.restores:
        # It was in that mode before: what has changed since is worth knowing, and no hindrance.
        return dataclasses.replace(finding, topic=NAME, status=Status.WARN)
    if finding.hint != APPLY:
        return dataclasses.replace(finding, topic=NAME)
    hint = (
        f"set `mode: {aim.to}` in the inventory, then: nodeprep apply (it leaves kube-proxy alone)"
    )
    return dataclasses.replace(finding, topic=NAME, hint=hint)


# --- each mode's own needs ------------------------------------------------------------------


def _mode_checks(node: Node, facts: Facts, aim: Aim) -> tuple[Finding, ...]:
    around, seen = facts[AROUND], facts[artefacts.ARTEFACTS]
    found: list[Finding] = []
    if aim.to == "nftables":
        found += _nftables(facts, around)
        found += _flushed(seen, aim)
    if aim.to == "ipvs":
        if around.ipset < LEAST_IPSET:
            actual = _dotted(around.ipset) or "not there"
            found.append(_fail("ipset", actual, "6.0 or newer", "install ipset"))
        found += _deleted(node, seen)
    return tuple(found)


def _nftables(facts: Facts, around: Around) -> list[Finding]:
    kernel = facts[system.SYSTEM].kernel
    found = []
    if _version(kernel)[:2] < LEAST_KERNEL:
        found.append(_fail("kernel", kernel, "5.13 or newer", "boot a newer kernel"))
    if around.nft < LEAST_NFT:
        actual = _dotted(around.nft) or "not there"
        found.append(_fail("nft", actual, "1.0.1 or newer", "install nftables"))
    return found


def _flushed(seen: Artefacts, aim: Aim) -> list[Finding]:
    if not seen.foreign_count:
        return []
    told = _told(seen.foreign_servers, seen.foreign_count)
    if aim.restore_foreign_ipvs:
        return [_warn("foreign IPVS", f"flushed by kube-proxy, put back at once: {told}")]
    hint = "move them away, or: --restore-foreign-ipvs puts them back at once"
    return [_fail("foreign IPVS", f"kube-proxy's start would flush {told}", "none", hint)]


def _deleted(node: Node, seen: Artefacts) -> list[Finding]:
    # A mark has no address, and kube-proxy passes over it.
    addressed = (server for server in seen.foreign_servers if not server.startswith("FWM"))
    bare = artefacts.outside(addressed, node.desired.kube_proxy.exclude_cidrs)
    if not bare:
        return []
    told = _told(bare, len(bare))
    hint = "put their addresses into `exclude_cidrs`"
    return [_fail("foreign IPVS", f"kube-proxy would delete {told}", "none", hint)]


def _told(servers: Sequence[str], count: int) -> str:
    more = f" and {count - len(servers)} more" if count > len(servers) else ""
    return f"{', '.join(servers)}{more}"


# --- what is worth knowing ------------------------------------------------------------------


def _warnings(node: Node, facts: Facts, aim: Aim) -> tuple[Finding, ...]:
    around, seen = facts[AROUND], facts[artefacts.ARTEFACTS]
    gone, found = facts[proxy_mode.EFFECTIVE].mode, []
    node_ports = seen.node_ports
    if gone == "iptables" and node_ports:
        text = f"{node_ports} node ports stop answering on 127.0.0.1"
        found.append(_warn("localhost NodePorts", text, "use the node's address"))
    if aim.to == "nftables" and node_ports and not node.desired.kube_proxy.node_port_addresses:
        text = f"node ports answer on the primary address only, not on all {around.addresses}"
        if around.addresses > 1:
            found.append(_warn("nodePortAddresses", text, "set `node_port_addresses`"))
    if "node-cache" in around.programs or "nodelocaldns" in around.links:
        found += _node_local_dns(gone, aim.to)
    found += _neighbours(node, around, gone, aim.to)
    found += _bridge(seen)
    if aim.to == "nftables" and seen.forward_policy == "DROP":
        text = "FORWARD drops by default, and nftables mode punches no hole into it"
        found.append(_warn("FORWARD policy", text, "let the CNI accept pods' traffic"))
    return tuple(found)


def _bridge(seen: Artefacts) -> list[Finding]:
    # Measured with iptables-nft: 12 s for 11,000 chains, more than 120 s for 55,000.
    # Of each virtual server the bridge makes a chain.
    chains = sum(rules.service_chains for rules in seen.rules) + seen.virtual_servers
    if chains <= MANY_CHAINS:
        return []
    text = f"the snapshot of {chains} chains may take minutes; none is put in place by halves"
    return [_warn("bridge", text, "--gate-limit 5m --dead-man 10m")]


def _node_local_dns(gone: str, to: Mode) -> list[Finding]:
    if "ipvs" not in (gone, to) and to != "nftables":
        return []
    text = {
        "ipvs": "in ipvs mode it answers on its link-local address only",
        "nftables": "upstream does not say whether it works in nftables mode",
        "iptables": "out of ipvs mode, kubelet's --cluster-dns may be the cluster's again",
    }[to]
    return [_warn("NodeLocal DNSCache", text, "see kubelet's --cluster-dns")]


def _neighbours(node: Node, around: Around, gone: str, to: Mode) -> list[Finding]:
    found = []
    strict = node.desired.kube_proxy.strict_arp
    for name in ("speaker", "kube-vip"):
        if name in around.programs and to == "ipvs" and not strict:
            text = f"{NEIGHBOURS[name]} needs strict ARP in ipvs mode"
            found.append(_warn("strictARP", text, "set `strict_arp: true`"))
    if "calico-node" in around.programs and ("ipvs" in (gone, to) or to == "nftables"):
        text = "Felix restarts when kube-ipvs0 comes or goes, and wants its nftables data plane"
        found.append(_warn("Calico", text, "see Calico's `nftablesMode`"))
    return found


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _fail(name: str, actual: str, wanted: str, hint: str) -> Finding:
    return Finding(
        topic=NAME, name=name, status=Status.FAIL, actual=actual, wanted=wanted, hint=hint
    )


def _warn(name: str, actual: str, hint: str = "") -> Finding:
    return Finding(topic=NAME, name=name, status=Status.WARN, actual=actual, hint=hint)
