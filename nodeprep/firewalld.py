"""firewalld's zones, as ``firewall-cmd --list-all-zones`` prints them, and what they let through.

What runs and what is kept are two configurations of one shape. Something is let through where a
zone that accepts everything has its source, or where the zone it comes in by opens its port.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from nodeprep.shell import words

TRUSTED = "trusted"
"""firewalld's own zone that accepts everything."""

SERVICES: Mapping[str, str] = dict.fromkeys(
    ("kube-nodeport-services", "kube-worker", "kubelet-worker"), "30000-32767/tcp"
)
"""firewalld's own services that open node ports."""

OF_PODS = (
    "cali",
    "cilium",
    "cni",
    "flannel",
    "genev",
    "kube-bridge",
    "lxc",
    "ovn",
    "tunl",
    "vxlan",
)
"""How the names of devices begin by which pods' traffic comes; ``cali+`` is one to firewalld."""


# --- what there is --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Zone:
    """A zone, in firewalld's own words; the oldest releases tell no target."""

    name: str
    target: str = ""
    interfaces: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    rich_rules: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Firewalld:
    """firewalld, where it is installed; all but ``active`` is empty where it does not run.

    ``spares`` says that its program can leave iptables alone on a reload, ``direct`` that it has
    direct rules. ``uplinks`` are the devices of default routes. ``runtime`` and ``permanent`` are
    the zones that something is bound to, the default one and :data:`TRUSTED`.
    """

    active: bool
    default_zone: str = "public"
    backend: str = "iptables"
    spares: bool = False
    direct: bool = False
    uplinks: tuple[str, ...] = ()
    runtime: tuple[Zone, ...] = ()
    permanent: tuple[Zone, ...] = ()


def zones(text: str, default: str) -> Iterator[Zone]:
    r"""Read zones, without those that nothing is bound to.

    >>> [zone.ports for zone in zones("public (active)\n  ports: 80/tcp 443/tcp\n", "public")]
    [('80/tcp', '443/tcp')]
    """
    # A zone's name begins its line, what it has stands below, and rich rules deeper still.
    for lines in map(str.splitlines, re.split(r"^(?=\S)", text, flags=re.MULTILINE)):
        has = dict(line.strip().partition(":")[::2] for line in lines[1:] if line[:1] == " ")
        zone = Zone(
            name=lines[0].partition(" ")[0] if lines else "",
            target=has.get("target", "").strip(),
            interfaces=tuple(has.get("interfaces", "").split()),
            sources=tuple(has.get("sources", "").split()),
            services=tuple(has.get("services", "").split()),
            ports=tuple(has.get("ports", "").split()),
            rich_rules=tuple(line.strip() for line in lines if line.strip().startswith("rule ")),
        )
        if zone.interfaces or zone.sources or zone.name in (default, TRUSTED):
            yield zone


def outward(firewalld: Firewalld) -> tuple[str, ...]:
    """Return the zones by which others reach the node; what is bound to none is the default's."""
    of_device = {device: zone.name for zone in firewalld.runtime for device in zone.interfaces}
    by_device = (of_device.get(device, firewalld.default_zone) for device in firewalld.uplinks)
    return tuple(dict.fromkeys(by_device)) or (firewalld.default_zone,)


# --- what is let through --------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Opening:
    """Something to let through: a ``source`` or a ``port`` of a zone, and what it is for."""

    purpose: str
    zone: str
    kind: str
    value: str

    @property
    def option(self) -> str:
        """The option of firewall-cmd that opens it."""
        return f"--add-{self.kind}={self.value}"


@dataclass(frozen=True, kw_only=True)
class Missing:
    """An opening that is missing in what runs, in what is kept, or in both."""

    opening: Opening
    runtime: bool
    permanent: bool


def missing(firewalld: Firewalld, wanted: Iterable[Opening]) -> tuple[Missing, ...]:
    """Return what does not get through now, or would not once firewalld starts anew."""
    default = firewalld.default_zone
    found = (
        Missing(
            opening=opening,
            runtime=not is_open(opening, firewalld.runtime, default),
            permanent=not is_open(opening, firewalld.permanent, default),
        )
        for opening in wanted
    )
    return tuple(each for each in found if each.runtime or each.permanent)


def is_open(opening: Opening, among: Iterable[Zone], default: str) -> bool:
    """Tell whether the zones let it through already, whichever way they do."""
    if opening.kind == "port":
        zones_ = (zone for zone in among if zone.name == opening.zone)
        return any(_accepts(zone) or _lets_in(zone, opening.value) for zone in zones_)
    return any(
        zone.name == default
        or any(_covers(source, opening.value) for source in zone.sources)
        or any(device.startswith(OF_PODS) for device in zone.interfaces)
        for zone in among
        if _accepts(zone)
    )


def obstacle(opening: Opening, firewalld: Firewalld) -> str:
    """Return why firewalld would not take an opening, empty where it would."""
    for zone in (*firewalld.runtime, *firewalld.permanent):
        if zone.name == opening.zone == TRUSTED and not _accepts(zone):
            return f"zone {TRUSTED} has been given the target {zone.target}"
        if opening.value in zone.sources and zone.name != opening.zone:
            return f"{opening.value} belongs to zone {zone.name}"
    return ""


def commands(found: Iterable[Missing]) -> tuple[str, ...]:
    """Return what opens it: a command for each zone, for what is kept and for what runs."""
    of_zone: dict[str, list[Missing]] = {}
    for each in found:
        of_zone.setdefault(each.opening.zone, []).append(each)
    return tuple(
        words("firewall-cmd", *kept, f"--zone={zone}", *options)
        for zone, group in of_zone.items()
        for kept, options in (
            (["--permanent"], [each.opening.option for each in group if each.permanent]),
            ([], [each.opening.option for each in group if each.runtime]),
        )
        if options
    )


def _accepts(zone: Zone) -> bool:
    return zone.target == "ACCEPT" or (zone.name == TRUSTED and not zone.target)


def _covers(source: str, cidr: str) -> bool:
    try:
        return ip_network(cidr).subnet_of(ip_network(source, strict=False))  # type: ignore[arg-type]
    except (ValueError, TypeError):
        # A MAC address, an ipset, or a network of the other family.
        return False


def _lets_in(zone: Zone, port: str) -> bool:
    services = (SERVICES[name] for name in zone.services if name in SERVICES)
    if any(_within(port, opened) for opened in (*zone.ports, *services)):
        return True
    number, _, protocol = port.partition("/")
    rule = f'port port="{number}" protocol="{protocol}"'
    return any(rule in each and each.endswith(" accept") for each in zone.rich_rules)


def _within(port: str, opened: str) -> bool:
    (first, last, protocol), (low, high, of) = _range(port), _range(opened)
    return low <= first <= last <= high and protocol == of


def _range(port: str) -> tuple[int, int, str]:
    match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?/(\w+)", port)
    return (int(match[1]), int(match[2] or match[1]), match[3]) if match else (-1, -2, "")
