"""What the services of a node would cost in each mode, by the release of kube-proxy.

Releases between two layouts are taken to be as the earlier one. Each layout names the source that
its arithmetic (``costs``) was read from, and what it leaves out.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from nodeprep.dataplane import costs
from nodeprep.dataplane.costs import Costs, Setting
from nodeprep.dataplane.services import Services
from nodeprep.model import MODES, Mode, Node
from nodeprep.releases import NEWEST, Version


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How kube-proxy lays services out in one mode, from the release ``since`` on."""

    mode: Mode
    since: Version
    sources: tuple[str, ...]
    leaves_out: tuple[str, ...]
    cost: Callable[[Services, Setting], Costs]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What the services of a node would come to in one mode, by name, and by which layout."""

    costs: Costs
    layout: Layout

    @property
    def mode(self) -> Mode:
        """The mode that this is of."""
        return self.layout.mode


# --- the layouts ----------------------------------------------------------------------------

_EVERY = (
    "endpoints that a traffic policy or topology keeps from this node",
    (
        "ways in of a service whose traffic policy is Local and that has no endpoint on this node: "
        "one rule or element more each"
    ),
)
_UNKNOWN_LINKS = (
    (
        "asked in ipvs mode: which external IP or balancer belongs to a port with a node port; "
        "taken is that balancers do and external IPs do not"
    ),
)

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        mode="iptables",
        since=Version(1, 14),
        sources=(
            "kubernetes v1.20.2 pkg/proxy/iptables/proxier.go: syncProxyRules, iptablesJumpChains",
        ),
        leaves_out=(
            *_EVERY,
            *_UNKNOWN_LINKS,
            "one rule more or less for each service whose externalTrafficPolicy is Local",
            "fixed rules that single releases have more or less, fewer than ten",
        ),
        cost=costs.iptables_before_1_24,
    ),
    Layout(
        mode="iptables",
        since=Version(1, 24),
        sources=(
            (
                "kubernetes v1.28 and 129058fc6d84 (2026) pkg/proxy/iptables/proxier.go: "
                "syncProxyRules, writeServiceToEndpointRules"
            ),
        ),
        leaves_out=(
            *_EVERY,
            *_UNKNOWN_LINKS,
            (
                "a second rule for each IPv4 node port where 1.31 and later count what comes to it "
                "from 127.0.0.1"
            ),
            "fixed rules that single releases have more or less, fewer than ten",
        ),
        cost=costs.iptables,
    ),
    Layout(
        mode="ipvs",
        since=Version(1, 14),
        sources=(
            (
                "kubernetes v1.20.2 and 129058fc6d84 (2026) pkg/proxy/ipvs/proxier.go: "
                "syncProxyRules, writeIptablesRules"
            ),
            "node ports at 127.0.0.1 up to 1.21: kubernetes#101023",
        ),
        leaves_out=(
            *_EVERY,
            "entries of KUBE-LOOP-BACK, one for each endpoint on this node, and of KUBE-IPVS-IPS",
            (
                "the iptables rules, a few dozen whatever the services, and one more for each "
                "balancer's address whose source ranges leave this node out"
            ),
        ),
        cost=costs.ipvs,
    ),
    Layout(
        mode="nftables",
        since=Version(1, 29),
        sources=(
            (
                "kubernetes 01d7de5464ba (2024) pkg/proxy/nftables/proxier.go: syncProxyRules, "
                "writeServiceToEndpointRules; b0f823e6ccd8: setupNFTables"
            ),
            "a table of November 2025",
        ),
        leaves_out=(
            *_EVERY,
            *_UNKNOWN_LINKS,
            "elements of nodeport-ips, one for each address that serves node ports",
            "the clients that affinity sets fill with, and elements within a rule",
        ),
        cost=costs.nftables_before_1_36,
    ),
    Layout(
        mode="nftables",
        since=Version(1, 36),
        sources=(
            (
                "kubernetes 129058fc6d84 (2026) pkg/proxy/nftables/proxier.go: setupNFTables, "
                "syncProxyRules, writeServiceToEndpointDNATs"
            ),
            "part of a table of v1.36.2",
        ),
        leaves_out=(
            *_EVERY,
            *_UNKNOWN_LINKS,
            (
                "elements of nodeport-ips, one for each address that serves node ports, and of "
                "hairpin-connections, one for each endpoint on this node"
            ),
            "the clients that affinity sets fill with, and elements within a rule",
        ),
        cost=costs.nftables,
    ),
)


def layout(mode: Mode, release: Version) -> Layout:
    """Return how ``release`` lays ``mode`` out.

    A release that lacks the mode gets the newest layout: it takes a newer kube-proxy to get there.
    """
    of_mode = [layout for layout in LAYOUTS if layout.mode == mode]
    known = [layout for layout in of_mode if layout.since <= release]
    return (known or of_mode)[-1]


def estimates(served: Iterable[Services], setting: Setting) -> tuple[Estimate, ...]:
    """Return what ``served`` come to in each mode, all families together."""
    every = tuple(served)
    found = []
    for mode in MODES:
        chosen = layout(mode, setting.release)
        each = [chosen.cost(services, setting) for services in every]
        sums = {name: sum(cost[name] for cost in each) for name in (each[0] if each else ())}
        found.append(Estimate(costs=sums, layout=chosen))
    return tuple(found)


def setting(
    node: Node, release: Version | None, addresses: Iterable[str], *, masquerades: bool
) -> Setting:
    """Return what decides the costs on ``node``, which runs ``release`` and has ``addresses``.

    Which of them serve node ports is taken from the inventory; where none is known, one does. An
    unknown release counts as new.
    """
    known = release or NEWEST
    cidrs = node.desired.kube_proxy.node_port_addresses
    return Setting(
        release=known,
        masquerades=masquerades,
        node_addresses=_serving(addresses, cidrs, known),
    )


def _serving(
    addresses: Iterable[str], cidrs: tuple[str, ...], release: Version
) -> Mapping[int, int]:
    every = {ip_address(address) for address in addresses}
    if not every:
        return {4: 1, 6: 1}
    networks = [ip_network(cidr, strict=False) for cidr in cidrs if "/" in cidr]
    chosen = [
        address
        for address in every
        if not (address.is_link_local and address.version == 6)  # noqa: PLR2004 IPv6
        and (not address.is_loopback or release < Version(1, 22))
        and (not networks or any(address in network for network in networks))
    ]
    return {family: sum(address.version == family for address in chosen) for family in (4, 6)}
