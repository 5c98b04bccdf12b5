"""What the nodes of an inventory say about each other: names, groups, addresses, and settings.

The first part works on what was written, so that one wrong value elsewhere hides nothing of it.
The second part works on merged settings, and finds the place where each of them was written.
"""

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping

from nodeprep.errors import UsageError
from nodeprep.inventory.building import Row
from nodeprep.inventory.characters import shown
from nodeprep.inventory.fields import seconds
from nodeprep.inventory.folding import LIMIT, count, ends, expand
from nodeprep.inventory.hosts import address
from nodeprep.inventory.places import Document, Fault, Path
from nodeprep.inventory.schema import HERE
from nodeprep.inventory.suggesting import suggestion
from nodeprep.ipset import TYPES
from nodeprep.releases import knows_mode, knows_scheduler, parse_version

# --- as written ------------------------------------------------------------------------------


def crossed(document: Document) -> Iterator[Fault]:
    """Yield what nodes cannot mean: unknown groups, repeated names, addresses that do not fit."""
    top: dict[str, object] = document.value if isinstance(document.value, dict) else {}
    nodes = top.get("nodes")
    if nodes == []:
        yield Fault(("nodes",), "there are no nodes: list at least one")
    entries: dict[Path, dict[str, object]] = {
        ("nodes", at): entry for at, entry in enumerate(_list(nodes)) if isinstance(entry, dict)
    }
    groups = {str(path[-1]) for path in document.places if path[:-1] == ("groups",)}
    for path, entry in entries.items():
        yield from _unknown_groups(path, entry, groups)
        yield from _unpaired(path, entry)
    names = {
        (*path, "name"): str(entry["name"])
        for path, entry in entries.items()
        if _count(entry.get("name"))
    }
    yield from _repeated(names, document)
    yield from _kubectl_on(top.get("cluster"), names.values())


def _kubectl_on(cluster: object, patterns: Iterable[str]) -> Iterator[Fault]:
    kubectl = cluster.get("kubectl") if isinstance(cluster, dict) else None
    on = kubectl.get("on") if isinstance(kubectl, dict) else None
    if not isinstance(on, str) or on == HERE:
        return
    names = {name for pattern in patterns for name in expand(pattern)}
    if on not in names:
        hint = suggestion(on, names) or f"write a node's name, or `{HERE}` for this machine"
        yield Fault(("cluster", "kubectl", "on"), f"no node is called {shown(on)}: {hint}")


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _unknown_groups(
    path: Path, entry: Mapping[str, object], groups: Collection[str]
) -> Iterator[Fault]:
    for at, group in enumerate(_list(entry.get("groups"))):
        if isinstance(group, str) and group not in groups:
            hint = suggestion(group, groups) or "write it under `groups`"
            yield Fault((*path, "groups", at), f"no group is called {shown(group)}: {hint}")


def _unpaired(path: Path, entry: Mapping[str, object]) -> Iterator[Fault]:
    name, where = entry.get("name"), entry.get("address")
    names, places = _count(name), _count(where)
    if where is None and names:
        yield from _no_address((*path, "name"), str(name))
    elif names and places and names != places:
        message = f"{names} names, but {places} addresses: each node needs one of its own"
        yield Fault((*path, "address"), message)


def _no_address(path: Path, name: str) -> Iterator[Fault]:
    try:
        for end in ends(name):
            address(end)
    except ValueError:
        yield Fault(path, f"{shown(name)} cannot be an address as well: write its `address`")


def _count(pattern: object) -> int:
    """Return for how many names a pattern stands; 0 where that is wrong and told elsewhere."""
    try:
        return count(pattern) if isinstance(pattern, str) else 0
    except UsageError:
        return 0


def _repeated(patterns: Mapping[Path, str], document: Document) -> Iterator[Fault]:
    totals = itertools.accumulate(map(count, patterns.values()))
    if over := next(
        (path for path, total in zip(patterns, totals, strict=True) if total > LIMIT), None
    ):
        yield Fault(over, f"with these there are more than {LIMIT} nodes: split the inventory")
        return
    first: dict[str, Path] = {}
    for path, pattern in patterns.items():
        for name in expand(pattern):
            # names of machines are the same in capital letters and in small ones
            if seen := first.get(name.lower()):
                line = document.places[seen].value[0]
                yield Fault(path, f"{shown(name)} is a node already, on line {line}")
                break
            first[name.lower()] = path


# --- as merged -------------------------------------------------------------------------------


def conflicts(rows: Iterable[Row], document: Document) -> Iterator[Fault]:
    """Yield settings that cannot hold together, each where it was written last."""
    first: dict[str, str] = {}
    for row in rows:
        proxy = row.nodes[0].desired.kube_proxy
        least, most = proxy.min_sync_period, proxy.sync_period
        if seconds(least) > seconds(most):
            message = f"min_sync_period {least} is above sync_period {most}"
            yield Fault(_where(row, document, "min_sync_period", "sync_period"), message)
        if proxy.healthz_bind_address == proxy.metrics_bind_address:
            message = "health check and metrics cannot share an address and port"
            place = _where(row, document, "metrics_bind_address", "healthz_bind_address")
            yield Fault(place, message)
        yield from _impossible(row, document)
        yield from _rules(row, document)
        for node in row.nodes:
            name = (proxy.hostname_override or node.name).lower()
            if first.setdefault(name, node.name) != node.name:
                message = f"more than one node would call itself {shown(name)}"
                yield Fault(_where(row, document, "hostname_override"), message)


def _impossible(row: Row, document: Document) -> Iterator[Fault]:
    proxy = row.nodes[0].desired.kube_proxy
    if proxy.is_pod and (proxy.style != "config" or proxy.kubeconfig_from):
        message = "is for a unit of systemd: with `managed_by: daemonset` leave it out"
        key = "kubeconfig_from" if proxy.kubeconfig_from else "style"
        yield Fault(_where(row, document, key), f"`{key}` {message}")
    paths = {key: getattr(proxy, key) for key in ("binary", "unit", "config", "kubeconfig")}
    if len(set(paths.values())) < len(paths):
        yield Fault(
            _where(row, document, *paths), f"each needs a path of its own: {', '.join(paths)}"
        )
    release = parse_version(proxy.version or "")
    if release and not knows_mode(proxy.mode, release):
        message = f"kube-proxy {release} does not know the mode {proxy.mode}"
        yield Fault(_where(row, document, "mode", "version"), message)
    if release and proxy.mode == "ipvs" and not knows_scheduler(proxy.scheduler, release):
        message = f"kube-proxy {release} does not know the scheduler {proxy.scheduler}"
        yield Fault(_where(row, document, "scheduler", "version"), message)


def _rules(row: Row, document: Document) -> Iterator[Fault]:
    desired = row.nodes[0].desired
    sets = {each.name: each for each in desired.ipsets or ()}
    first: dict[object, int] = {}
    for at, rule in enumerate(desired.bypass_rules or ()):
        place = (*_decided(row, document, ("bypass_rules",)), at)
        if rule.set not in sets:
            hint = suggestion(rule.set, sets) or "write it under `ipsets`"
            yield Fault((*place, "set"), f"no ipset is called {shown(rule.set)}: {hint}")
            continue
        parts = len(TYPES[sets[rule.set].type])
        if rule.match.count(",") + 1 != parts:
            told = f"an entry of {sets[rule.set].type} has {parts} parts: write src or dst for each"
            yield Fault((*place, "match"), told)
        name = rule.family, rule.table, rule.chain, rule.comment
        if first.setdefault(name, at) != at:
            told = (
                f"rule {first[name]} of {rule.table} {rule.chain} has this comment: write another"
            )
            yield Fault((*place, "comment"), told)


def _where(row: Row, document: Document, *keys: str) -> Path:
    """Return the place that decided one of these keys of kube-proxy for a row."""
    return _decided(row, document, *(("kube_proxy", key) for key in keys))


def _decided(row: Row, document: Document, *ends: Path) -> Path:
    """Return the place that decided one of these settings for a row, or else the row's own."""
    groups: list[Path] = [("groups", group) for group in reversed(row.groups)]
    layers: list[Path] = [row.path, *groups, ("defaults",)]
    written = ((*layer, *end) for layer in layers for end in ends)
    return next((path for path in written if path in document.places), row.path)
