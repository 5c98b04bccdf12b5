"""The data plane of a node as one value: what each fact brought home, and which mode serves."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from nodeprep.dataplane import (
    conntrack,
    estimates,
    process,
    rules,
    sets,
    tables,
    virtual_servers,
)
from nodeprep.dataplane.conntrack import Conntrack
from nodeprep.dataplane.estimates import Estimate
from nodeprep.dataplane.process import Process
from nodeprep.dataplane.rules import Iptables
from nodeprep.dataplane.services import Services
from nodeprep.dataplane.sets import IpSets
from nodeprep.dataplane.tables import Nftables
from nodeprep.dataplane.virtual_servers import Ipvs
from nodeprep.model import MODES, Fact, Facts, Mode, Node
from nodeprep.releases import parse_version

FACTS: tuple[Fact[Any], ...] = (
    rules.FACT,
    virtual_servers.FACT,
    sets.FACT,
    tables.FACT,
    conntrack.FACT,
    process.FACT,
)


@dataclass(frozen=True, kw_only=True)
class DataPlane:
    """What a node carries.

    ``mode`` is the one in effect, by the word of kube-proxy where it answers (``mode_said``), else
    by what it has in the kernel; ``None`` where there is nothing of any. ``services`` are those of
    this mode, by family; ``estimates`` are what they cost in each mode.
    """

    mode: Mode | None = None
    mode_said: bool = False
    iptables: Iptables = field(default_factory=Iptables)
    ipvs: Ipvs = field(default_factory=Ipvs)
    sets: IpSets = field(default_factory=IpSets)
    nftables: Nftables = field(default_factory=Nftables)
    conntrack: Conntrack = field(default_factory=Conntrack)
    process: Process = field(default_factory=Process)
    services: tuple[Services, ...] = ()
    estimates: tuple[Estimate, ...] = ()

    @property
    def ports(self) -> int:
        """Service ports of all families."""
        return sum(services.ports for services in self.services)

    @property
    def endpoints(self) -> int:
        """Pairs of a service port and an endpoint, of all families."""
        return sum(services.endpoints for services in self.services)


def data_plane(node: Node, facts: Facts) -> DataPlane:
    """Return what the facts of ``node`` come to."""
    seen = {
        "iptables": facts[rules.FACT].services,
        "ipvs": facts[virtual_servers.FACT].services,
        "nftables": facts[tables.FACT].services,
    }
    running = facts[process.FACT]
    said = next((mode for mode in MODES if mode == running.mode), None)
    mode = said or _seen_mode(seen.items())
    services = seen[mode] if mode else ()
    release = running.release or parse_version(node.desired.kube_proxy.version or "")
    source = facts[tables.FACT] if mode == "nftables" else facts[rules.FACT]
    around = estimates.setting(
        node,
        release,
        facts[virtual_servers.FACT].addresses,
        masquerades=source.masquerades,
    )
    return DataPlane(
        mode=mode,
        mode_said=said is not None,
        iptables=facts[rules.FACT],
        ipvs=facts[virtual_servers.FACT],
        sets=facts[sets.FACT],
        nftables=facts[tables.FACT],
        conntrack=facts[conntrack.FACT],
        process=running,
        services=services,
        estimates=estimates.estimates(services, around) if services else (),
    )


def _seen_mode(seen: Iterable[tuple[str, tuple[Services, ...]]]) -> Mode | None:
    # An earlier mode's leftovers stand beside the one in effect, and do not follow the services.
    there = {name: sum(one.ports for one in services) for name, services in seen}
    most = max(there, key=lambda name: there[name])
    return next((mode for mode in MODES if mode == most and there[most]), None)
