"""What a node serves, in the sums that decide what a mode costs.

kube-proxy counts a port of a service as one thing, and so does this room: a service of two ports is
two. Each mode's fact derives the same sums from what the mode has in the kernel. They hold what
kube-proxy uses on this node: endpoints that topology or a traffic policy keep away from it are not
among them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields


@dataclass(frozen=True, kw_only=True)
class Services:
    """The services of one address family (4 or 6).

    ``ports`` counts cluster IPs with a port each, on ``cluster_ips`` addresses; ``idle`` are those
    without an endpoint, and ``endpoints`` the pairs of a port and an endpoint. ``sticky`` ports
    have session affinity, with ``sticky_endpoints``.

    Other ways in: ``addresses`` are external IPs with a port each, ``balancers`` those of load
    balancers, ``address_endpoints`` the endpoints behind both; ``node_ports``, with
    ``node_port_endpoints``. ``idle_addresses`` and ``idle_node_ports`` are those without an
    endpoint. ``outside`` counts the ports that have endpoints and another way in; ``local`` of
    these have externalTrafficPolicy Local, and ``local_endpoints`` on this node. ``firewalled``
    balancers take ``sources`` pairs of an address and a range; ``from_node`` of them the node
    itself. ``health`` counts health check node ports.
    """

    family: int
    ports: int = 0
    idle: int = 0
    cluster_ips: int = 0
    endpoints: int = 0
    sticky: int = 0
    sticky_endpoints: int = 0
    addresses: int = 0
    balancers: int = 0
    idle_addresses: int = 0
    address_endpoints: int = 0
    node_ports: int = 0
    idle_node_ports: int = 0
    node_port_endpoints: int = 0
    outside: int = 0
    local: int = 0
    local_endpoints: int = 0
    firewalled: int = 0
    sources: int = 0
    from_node: int = 0
    health: int = 0

    @property
    def live(self) -> int:
        """Ports that have an endpoint."""
        return self.ports - self.idle

    @property
    def ways_in(self) -> int:
        """Addresses and node ports beside the cluster IPs."""
        return self.addresses + self.balancers + self.node_ports


_NAMES = frozenset(field.name for field in fields(Services)) - {"family"}


def parse(words: Iterable[str]) -> Services:
    """Read ``FAMILY NAME=NUMBER...``; names that are not known are passed over.

    >>> parse("4 ports=3 idle=1 more=7".split()).live
    2
    """
    family, *sums = words
    pairs = [pair.partition("=")[::2] for pair in sums]
    return Services(
        family=int(family), **{name: int(value) for name, value in pairs if name in _NAMES}
    )
