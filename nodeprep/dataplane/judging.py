"""What is full, or nearly: the part of a data plane that somebody must do something about."""

from collections.abc import Iterator

from nodeprep.dataplane.reading import FACTS, DataPlane, data_plane
from nodeprep.dataplane.sets import NEARLY_FULL, IpSet
from nodeprep.model import Facts, Finding, Node, Status
from nodeprep.rollout.gates import Questions

NAME = "dataplane"
QUESTIONS = Questions(NAME=NAME, TITLE="Data plane", FACTS=FACTS)
FULL_CONNTRACK = 90
"""Percent of conntrack's maximum from which a node counts as full: bursts take the rest."""

NEARLY_FULL_CONNTRACK = 75


def findings(node: Node, facts: Facts) -> tuple[Finding, ...]:
    """Return the verdict on each thing that has a maximum, and on what could not be read."""
    seen = data_plane(node, facts)
    return (*_conntrack(seen), *_sets(seen), *_unread(seen))


def _conntrack(seen: DataPlane) -> Iterator[Finding]:
    table = seen.conntrack
    if not table.maximum:
        return
    actual = f"{table.used} of {table.maximum} ({int(table.percent)}%)"
    more = 2 * table.maximum
    hint = (
        f"sysctl -w net.netfilter.nf_conntrack_max={more}; to keep it: conntrack_max_per_core "
        "under kube_proxy in the inventory, then nodeprep apply"
    )
    if table.percent >= FULL_CONNTRACK:
        yield _finding("conntrack", Status.FAIL, actual, f"below {FULL_CONNTRACK}%", hint)
    elif table.percent >= NEARLY_FULL_CONNTRACK:
        yield _finding("conntrack", Status.WARN, actual, f"below {NEARLY_FULL_CONNTRACK}%", hint)
    else:
        yield _finding("conntrack", Status.OK, actual)


def _sets(seen: DataPlane) -> Iterator[Finding]:
    if not seen.sets.sets:
        return
    for one in seen.sets.nearly_full:
        full = one.entries >= one.maximum
        yield _finding(
            f"ipset {one.name}",
            Status.FAIL if full else Status.WARN,
            f"{one.entries} of {one.maximum} ({int(one.percent)}%)",
            f"at most {NEARLY_FULL}%",
            _more_room(one),
        )
    if not seen.sets.nearly_full:
        fullest = seen.sets.fullest
        of_it = f", fullest {_told(fullest)}" if fullest else ""
        yield _finding("ipsets", Status.OK, f"{seen.sets.sets}{of_it}")


def _told(one: IpSet) -> str:
    return f"{one.name} {one.entries} of {one.maximum}"


def _more_room(one: IpSet) -> str:
    if one.own:
        return (
            "kube-proxy leaves out what does not fit (kubernetes#129389) and fixes the maximum: "
            "nodeprep switch --to nftables, whose maps have none, or fewer services"
        )
    return (
        f"ipset list -t {one.name}; its owner must make it anew with a larger maxelem, "
        "unless it was made with forceadd"
    )


def _unread(seen: DataPlane) -> Iterator[Finding]:
    for name in seen.iptables.unreadable:
        yield _finding(
            "iptables", Status.WARN, f"cannot be read: {name}", "", "iptables-save; nft list tables"
        )
    for table in seen.nftables.tables:
        if not table.read:
            look = f"time nft list table {table.family} kube-proxy"
            actual = f"table {table.family} kube-proxy was not listed in time"
            yield _finding("nftables", Status.WARN, actual, "", look)


def _finding(name: str, status: Status, actual: str, wanted: str = "", hint: str = "") -> Finding:
    return Finding(topic=NAME, name=name, status=status, actual=actual, wanted=wanted, hint=hint)
