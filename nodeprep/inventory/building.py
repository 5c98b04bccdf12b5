"""Checked blocks to nodes: a node over its groups over the defaults, key by key.

Nodes without settings of their own share those of their groups, so that ten thousand of them cost
little more than one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, reduce
from pathlib import Path as FilePath
from typing import Any, TypeVar

from nodeprep.inventory.folding import expand
from nodeprep.inventory.places import Path
from nodeprep.inventory.schema import (
    Block,
    Bounded,
    BypassRuleEntry,
    InventoryFile,
    IpSetEntry,
    NodeEntry,
    Settings,
    SudoByPassword,
)
from nodeprep.model import (
    BypassRule,
    Desired,
    Firewall,
    IpSet,
    KubectlChoice,
    KubeProxy,
    Node,
    Ssh,
    Sudo,
    Sysctl,
)

B = TypeVar("B", bound=Block)


@dataclass(frozen=True, kw_only=True)
class Row:
    """The nodes of one entry of the inventory, and where that entry stands."""

    path: Path
    groups: tuple[str, ...]
    nodes: tuple[Node, ...]


@dataclass(frozen=True, kw_only=True)
class _Parts:
    ssh: Ssh
    sudo: Sudo
    labels: Mapping[str, str]
    desired: Desired


def rows(file: InventoryFile, home: FilePath) -> Iterator[Row]:
    """Yield each entry's nodes with their merged settings, in the order of the file."""

    @cache
    def merged(groups: tuple[str, ...]) -> Settings:
        return reduce(overlaid, (file.groups[group] for group in groups), file.defaults)

    @cache
    def shared(groups: tuple[str, ...]) -> _Parts:
        settings = merged(groups)
        return _Parts(
            ssh=_ssh(_written(settings.ssh), home),
            sudo=_sudo(settings.sudo),
            labels=settings.labels or {},
            desired=_desired(settings),
        )

    for at, entry in enumerate(file.nodes):
        groups = entry.groups
        own = not entry.model_fields_set.isdisjoint(Settings.model_fields)
        parts = shared(groups)
        parts = _own(entry, overlaid(merged(groups), entry), parts, home) if own else parts
        yield Row(path=("nodes", at), groups=groups, nodes=tuple(_nodes(entry, parts)))


def _own(entry: NodeEntry, settings: Settings, shared: _Parts, home: FilePath) -> _Parts:
    """Return the parts of an entry: those that it says nothing of are the shared ones."""
    said = entry.model_fields_set
    return _Parts(
        ssh=_ssh(_written(settings.ssh), home) if "ssh" in said else shared.ssh,
        sudo=_sudo(settings.sudo) if "sudo" in said else shared.sudo,
        labels=settings.labels or {},
        desired=shared.desired if said.isdisjoint(_OF_DESIRED) else _desired(settings),
    )


def kubectl(file: InventoryFile) -> KubectlChoice:
    """Return which kubectl the file names."""
    return KubectlChoice(**_written(file.cluster.kubectl if file.cluster else None))


def overlaid(under: B, over: Block) -> B:
    """Return ``under`` with what ``over`` sets: mappings key by key, all else whole."""
    changes = {
        key: _over(getattr(under, key), getattr(over, key))
        for key in type(under).model_fields
        if key in over.model_fields_set
    }
    return under.model_copy(update=changes) if changes else under


def _over(under: object, over: object) -> object:
    if isinstance(under, Block) and isinstance(over, Block):
        return overlaid(under, over)
    if isinstance(under, dict) and isinstance(over, dict):
        return {**under, **over}
    return over


def _nodes(entry: NodeEntry, parts: _Parts) -> Iterator[Node]:
    names = expand(entry.name)
    addresses = expand(entry.address or entry.name)
    for name, address in zip(names, addresses, strict=True):
        yield Node(
            name=name,
            address=address,
            groups=entry.groups,
            labels=parts.labels,
            ssh=parts.ssh,
            sudo=parts.sudo,
            desired=parts.desired,
        )


_OF_DESIRED = frozenset(Settings.model_fields) - {"ssh", "sudo", "labels"}


def _desired(settings: Settings) -> Desired:
    return Desired(
        modules=settings.modules,
        sysctls=tuple(_sysctl(key, value) for key, value in (settings.sysctls or {}).items()),
        packages=settings.packages,
        packages_from=settings.packages_from,
        module_packages=settings.module_packages,
        **_sets(settings),
        firewall=Firewall(**_written(settings.firewall)),
        kube_proxy=KubeProxy(**_written(settings.kube_proxy)),
        adopt=settings.adopt,
    )


def _sets(settings: Settings) -> dict[str, Any]:
    """Return ipsets and rules, and no key for what the file does not speak of."""
    found: dict[str, Any] = {}
    sets = settings.ipsets or {}
    if "ipsets" in settings.model_fields_set:
        found["ipsets"] = tuple(_ipset(name, entry) for name, entry in sets.items())
    if "bypass_rules" in settings.model_fields_set:
        found["bypass_rules"] = tuple(_rule(entry, sets) for entry in settings.bypass_rules)
    return found


def _ipset(name: str, entry: IpSetEntry) -> IpSet:
    return IpSet(
        name=name,
        type=entry.type,
        family="" if entry.type == "hash:mac" else entry.family,
        timeout=entry.timeout,
        maxelem=entry.maxelem,
        hashsize=entry.hashsize,
        entries=entry.entries,
    )


def _rule(entry: BypassRuleEntry, sets: Mapping[str, IpSetEntry]) -> BypassRule:
    of = sets.get(entry.set)  # none is a conflict, told elsewhere
    return BypassRule(
        set=entry.set,
        comment=entry.comment or entry.set,
        family=6 if of and of.family == "inet6" else 4,
        table=entry.table,
        chain=entry.chain,
        position=entry.position,
        match=entry.match,
        target=entry.target,
    )


def _written(block: Block | None) -> dict[str, Any]:
    """Return what the file sets in a block; the model has the defaults of the rest."""
    return {key: getattr(block, key) for key in block.model_fields_set} if block else {}


def _ssh(written: dict[str, Any], home: FilePath) -> Ssh:
    defaults = {
        "known_hosts": (str(home / ".ssh/known_hosts"), "/etc/ssh/ssh_known_hosts"),
        "config": str(home / ".ssh/config"),
    }
    return Ssh(**{**defaults, **written})


def _sudo(setting: str | SudoByPassword) -> Sudo:
    match setting:
        case SudoByPassword(password="ask"):
            return Sudo(method="password", password="ask")  # noqa: S106 it says where from
        case SudoByPassword(password=place) if not isinstance(place, str):
            kept = f"fd:{place.descriptor}" if place.file is None else f"file:{place.file}"
            return Sudo(method="password", password=kept)
        case "passwordless":
            return Sudo(method="passwordless")
        case _:
            return Sudo()


def _sysctl(key: str, value: int | str | Bounded) -> Sysctl:
    if not isinstance(value, Bounded):
        return Sysctl(key=key, value=str(value))
    if value.at_most is None:
        return Sysctl(key=key, value=str(value.at_least), bound="at_least")
    return Sysctl(key=key, value=str(value.at_most), bound="at_most")
