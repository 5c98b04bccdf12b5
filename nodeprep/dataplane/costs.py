"""The arithmetic of kube-proxy: what it writes for services, in each mode and layout.

Each function adds up what ``syncProxyRules`` writes for a service port, its endpoints and its other
ways in, and the fixed part beside them. ``estimates`` says which source each one was read from.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nodeprep.dataplane.services import Services
from nodeprep.releases import Version

Costs = Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What beside the services decides a cost.

    ``masquerades``: traffic from outside the cluster is (a cluster CIDR or masquerade-all is set).
    ``node_addresses`` counts, by family, those that a node port is served at in ipvs mode.
    """

    release: Version
    masquerades: bool
    node_addresses: Mapping[int, int]


# --- iptables -------------------------------------------------------------------------------


def iptables(services: Services, setting: Setting) -> Costs:
    """Return rules and chains as they are from 1.24 on: KUBE-EXT and KUBE-SVL."""
    # Ways in: one rule each, in nat with endpoints, in filter without.
    idle_ways = services.idle_addresses + services.idle_node_ports
    external = 2 * services.outside + services.local * (setting.masquerades + 1)
    firewalls = services.firewalled + services.sources + services.from_node
    nat = (
        8
        + _ports_and_endpoints(services, setting)
        + services.ways_in
        - idle_ways
        + external
        + services.local_endpoints
        + firewalls
    )
    rules = 12 + services.idle + idle_ways + services.firewalled + services.health
    chains = 12 + services.live + services.endpoints + services.outside
    return {
        "rules": nat + rules,
        "nat_rules": nat,
        "filter_rules": rules,
        "chains": chains + services.local + services.firewalled,
    }


def _ports_and_endpoints(services: Services, setting: Setting) -> int:
    # A rule to the service and one that masquerades; to each endpoint one rule, and there two.
    sticky = services.sticky_endpoints
    return services.live * (1 + setting.masquerades) + 3 * services.endpoints + sticky


def iptables_before_1_24(services: Services, setting: Setting) -> Costs:
    """Return rules and chains as they are up to 1.23: KUBE-XLB, and KUBE-FW for each balancer."""
    # Addresses that serve are told apart from idle ones as a whole: they cost most as external IPs.
    idle = services.idle_addresses
    external = max(0, services.addresses - idle)
    balancers = services.balancers - max(0, idle - services.addresses)
    nat = (
        8
        + _ports_and_endpoints(services, setting)
        + 2 * (services.node_ports - services.idle_node_ports)
        + 3 * external
        + 4 * balancers
        + max(0, services.sources - services.firewalled)
        + services.from_node
        + services.local * (setting.masquerades + 1)
        + services.local_endpoints
    )
    rules = 9 + services.idle + idle + services.idle_node_ports
    later = services.health + 1 if setting.release >= Version(1, 21) else 0
    chains = 11 + services.live + services.endpoints + services.local + balancers
    return {
        "rules": nat + rules + later,
        "nat_rules": nat,
        "filter_rules": rules + later,
        "chains": chains,
    }


# --- ipvs -----------------------------------------------------------------------------------


def ipvs(services: Services, setting: Setting) -> Costs:
    """Return virtual servers, their backends, and entries of ipsets."""
    places = setting.node_addresses.get(services.family, 0)
    addresses = services.addresses + services.balancers
    return {
        "virtual_servers": services.ports + addresses + services.node_ports * places,
        "backends": services.endpoints
        + services.address_endpoints
        + services.node_port_endpoints * places,
        "set_entries": services.ports
        + services.ways_in
        + services.local
        + services.firewalled
        + services.sources
        + services.from_node
        + services.health,
    }


# --- nftables -------------------------------------------------------------------------------


def _elements(services: Services) -> int:
    return services.ports + services.cluster_ips + services.ways_in + services.firewalled


def _external_rules(services: Services, setting: Setting) -> int:
    return 2 * services.outside + services.local * (setting.masquerades + 1)


def nftables_before_1_36(services: Services, setting: Setting) -> Costs:
    """Return what is in the table up to 1.35: a chain for each endpoint."""
    local = services.local if services.local_endpoints else 0
    chains = 16 + services.live + services.endpoints + services.outside + local
    rules = (
        23
        + services.live * (1 + setting.masquerades)
        + 2 * services.endpoints
        + 2 * services.sticky_endpoints
        + _external_rules(services, setting)
        + local
        + services.firewalled
    )
    return {
        "rules": rules,
        "chains": chains + services.firewalled,
        "elements": _elements(services),
        "affinity_sets": services.sticky_endpoints,
    }


def nftables(services: Services, setting: Setting) -> Costs:
    """Return what is in the table from 1.36 on: endpoints in a map of their service."""
    # Endpoints are in a map of the service's one rule; those with affinity have chains as before.
    local = services.local if services.local_endpoints else 0
    sticky = services.sticky_endpoints
    rules = 21 + setting.masquerades + services.live + 3 * sticky
    return {
        "rules": rules + _external_rules(services, setting) + local + services.firewalled,
        "chains": 15 + services.live + sticky + services.outside + local + services.firewalled,
        "elements": _elements(services),
        "affinity_sets": sticky,
    }
