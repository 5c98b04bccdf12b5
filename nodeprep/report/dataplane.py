"""The data plane as text: a row a node, all figures of one, and where the estimates are from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import click

from nodeprep.console import blocks, one_line
from nodeprep.dataplane.estimates import Estimate, Layout
from nodeprep.dataplane.reading import DataPlane, data_plane
from nodeprep.dataplane.services import Services
from nodeprep.inventory import fold
from nodeprep.model import Outcome, Status
from nodeprep.report.roll import checked
from nodeprep.report.text import count, errors

Row = tuple[str, ...]

_HEAD: Row = ("MODE", "PORTS", "ENDPOINTS", "RULES", "IPVS", "NFT", "IPSETS", "CONNTRACK", "SYNC")
_NONE = "-"


def shown(outcomes: Sequence[Outcome], *, verbose: bool) -> str:
    """Return a table with a row for each node, or all figures for a single one or if ``verbose``.

    Below are what is full or nearly, the nodes that gave no answer, and the estimates' sources.
    """
    seen = {o.node.name: data_plane(o.node, o.facts) for o in outcomes if o.facts is not None}
    detailed = verbose or len(outcomes) == 1
    lines = _details(seen) if detailed else _table(seen)
    return "\n".join([*lines, *_problems(outcomes), *errors(outcomes)])


# --- a row a node ---------------------------------------------------------------------------


def _table(seen: Mapping[str, DataPlane]) -> list[str]:
    rows = {name: [_row(one)] for name, one in seen.items()}
    named = [(fold(names), *row) for names, (row,) in _in_order(rows)]
    if not named:
        return []
    return [
        *_aligned([("NODE", *_HEAD), *named]),
        "",
        "RULES: kube-proxy's of all in iptables. IPVS: kube-proxy's virtual servers. NFT: elements",
        "in kube-proxy's tables. IPSETS: the fullest. SYNC: the last one's age. All figures: -v",
    ]


def _in_order(rows: Mapping[str, Sequence[Row]]) -> list[tuple[tuple[str, ...], list[Row]]]:
    position = {name: place for place, name in enumerate(rows)}
    return sorted(blocks(rows, key=lambda row: row), key=lambda block: position[block[0][0]])


def _row(seen: DataPlane) -> Row:
    tables = [table for table in seen.nftables.tables if table.read]
    fullest = seen.sets.fullest
    return (
        seen.mode or _NONE,
        str(seen.ports) if seen.services else _NONE,
        str(seen.endpoints) if seen.services else _NONE,
        f"{seen.iptables.own}/{seen.iptables.rules}" if seen.iptables.tables else _NONE,
        str(seen.ipvs.servers) if seen.ipvs.loaded else _NONE,
        str(sum(table.all_elements for table in tables)) if tables else _NONE,
        f"{int(fullest.percent)}%" if fullest else _NONE,
        f"{int(seen.conntrack.percent)}%" if seen.conntrack.maximum else _NONE,
        _NONE if seen.process.age is None else _duration(seen.process.age),
    )


def _aligned(rows: Sequence[Row]) -> list[str]:
    # The first two columns are words, the others numbers.
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < 2 else cell.rjust(width)  # noqa: PLR2004 the first two
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _duration(seconds: float) -> str:
    """Return an age as people say it.

    >>> _duration(7322)
    '2h02m'
    """
    minutes, hours = int(seconds) // 60, int(seconds) // 3600
    if not minutes:
        return f"{int(seconds)}s"
    if not hours:
        return f"{minutes}m{int(seconds) % 60:02}s"
    return f"{hours}h{minutes % 60:02}m" if hours < 48 else f"{hours // 24}d"  # noqa: PLR2004


# --- all figures ----------------------------------------------------------------------------


def _details(seen: Mapping[str, DataPlane]) -> list[str]:
    notes = _notes(seen.values())
    lines: list[str] = []
    for name, one in seen.items():
        lines += [click.style(name, bold=True), *_indented(_figures(one, notes), 2)]
    for layout, number in notes.items():
        lines += ["", f"[{number}] {'; '.join(layout.sources)}", "    leaves out:"]
        lines += [f"    - {text}" for text in layout.leaves_out]
    return lines


def _figures(seen: DataPlane, notes: Mapping[Layout, int]) -> list[str]:
    sections = {
        "mode": [_mode(seen)],
        "services": [_services(one) for one in seen.services] or ["none seen"],
        "iptables": _iptables(seen) or ["no rules"],
        "ipvs": [_ipvs(seen)],
        "ipsets": _sets(seen) or ["none"],
        "nftables": _nftables(seen) or ["no table of kube-proxy"],
        "conntrack": [_conntrack(seen)],
        "last sync": [_sync(seen)],
        "the same in": [_estimate(one, notes, seen) for one in seen.estimates] or ["not known"],
    }
    return [
        f"{title if not place else '':<12} {line}"
        for title, section in sections.items()
        for place, line in enumerate(section)
    ]


def _mode(seen: DataPlane) -> str:
    release = f", kube-proxy {seen.process.release}" if seen.process.release else ""
    if seen.mode is None:
        return "none seen" if seen.process.can_ask else "nothing on the node can ask over HTTP"
    source = "/proxyMode" if seen.mode_said else "by what is in the kernel: no answer"
    return f"{seen.mode} ({source}){release}"


def _services(one: Services) -> str:
    extra = {
        "without endpoints": one.idle,
        "node ports": one.node_ports,
        "external addresses": one.addresses,
        "balancers' addresses": one.balancers,
        "with session affinity": one.sticky,
        "with externalTrafficPolicy Local": one.local,
        "source ranges": one.sources,
    }
    told = "".join(f", {n} {what}" for what, n in extra.items() if n)
    return f"IPv{one.family}: {one.ports} service ports, {one.endpoints} endpoints{told}"


def _iptables(seen: DataPlane) -> list[str]:
    by_place: dict[str, list[str]] = {}
    for table in (table for table in seen.iptables.tables if table.rules):
        told = f"{one_line(table.name)} {table.rules} rules ({table.own} kube-proxy's)"
        by_place.setdefault(f"IPv{table.family}, {table.backend}", []).append(told)
    return [f"{place}: {', '.join(tables)}" for place, tables in by_place.items()]


def _ipvs(seen: DataPlane) -> str:
    table = seen.ipvs
    if not table.loaded:
        return "ip_vs is not loaded"
    own = _servers(table.servers, table.backends, table.active)
    if not table.other_servers:
        return own
    others = _servers(table.other_servers, table.other_backends, table.other_active)
    return f"{own}; of others {others}"


def _servers(servers: int, backends: int, active: int) -> str:
    nouns = ((servers, "virtual server"), (backends, "backend"), (active, "active connection"))
    return ", ".join(count(number, noun) for number, noun in nouns)


def _sets(seen: DataPlane) -> list[str]:
    if not seen.sets.sets:
        return []
    head = (
        f"{seen.sets.sets} with {seen.sets.entries} entries; "
        f"{seen.sets.own_sets} kube-proxy's with {seen.sets.own_entries}"
    )
    return [
        head,
        *(
            f"{one_line(one.name)} {one.entries} of {one.maximum} ({int(one.percent)}%)"
            for one in seen.sets.named
        ),
    ]


def _nftables(seen: DataPlane) -> list[str]:
    lines = []
    for table in seen.nftables.tables:
        if not table.read:
            lines.append(f"{table.family}: not listed in time")
            continue
        lines.append(
            f"{table.family}: {table.chains} chains, {table.rules} rules, "
            f"{table.all_elements} elements"
        )
        elements = [f"{one_line(name)} {n}" for name, n in sorted(table.elements.items()) if n]
        if table.affinity_sets:
            elements.append(
                f"{table.affinity_sets} affinity sets with {table.affinity_elements} clients"
            )
        lines += [f"  {', '.join(elements)}"] if elements else []
    return lines


def _conntrack(seen: DataPlane) -> str:
    if not seen.conntrack.maximum:
        return "not followed"
    return f"{seen.conntrack.used} of {seen.conntrack.maximum} ({int(seen.conntrack.percent)}%)"


def _sync(seen: DataPlane) -> str:
    if seen.process.age is None:
        return "never" if seen.process.synced else "no answer"
    told = f"{_duration(seen.process.age)} ago"
    if seen.process.mean is not None:
        told += f"; {seen.process.syncs} syncs, {seen.process.mean:.3f} s on average"
    bound = seen.process.bound(0.99)
    return told + (f", 99% within {bound:g} s" if bound is not None else "")


def _estimate(one: Estimate, notes: Mapping[Layout, int], seen: DataPlane) -> str:
    costs = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in one.costs.items() if n)
    here = ", in effect" if one.mode == seen.mode else ""
    return f"{one.mode}{here}: {costs} [{notes[one.layout]}]"


def _notes(seen: Iterable[DataPlane]) -> dict[Layout, int]:
    layouts = dict.fromkeys(estimate.layout for one in seen for estimate in one.estimates)
    return {layout: number for number, layout in enumerate(layouts, start=1)}


def _indented(lines: Iterable[str], spaces: int) -> list[str]:
    return [" " * spaces + line for line in lines]


# --- what is wrong --------------------------------------------------------------------------


def _problems(outcomes: Sequence[Outcome]) -> list[str]:
    wrong = [
        replace(o, findings=tuple(f for f in o.findings if f.status in (Status.WARN, Status.FAIL)))
        for o in outcomes
    ]
    lines = checked(wrong)
    return ["", *lines] if lines else []
