"""Which of the cluster's nodes an inventory's node is: by its name, else by its address.

A pod is deleted and a label set by what is found here, so nothing is guessed: what fits two is
told, and fits none.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nodeprep.kubernetes.view import ClusterNode
from nodeprep.model import Node


@dataclass(frozen=True, kw_only=True)
class Matches:
    """The nodes that are found, by the inventory's names; and in words why others are not.

    ``strangers`` are the cluster's nodes that are no node of the inventory's.
    """

    found: Mapping[str, str] = field(default_factory=dict)
    missing: Mapping[str, str] = field(default_factory=dict)
    strangers: tuple[str, ...] = ()


def match(nodes: Sequence[Node], cluster: Sequence[ClusterNode]) -> Matches:
    """Match by name first, whole and then without its domain; an address must be one node's alone.

    Where the name says one node and an address that no other has says another, neither is taken.
    """
    addresses = _own_addresses(nodes, cluster)
    guesses = {node.name: _candidates(node, cluster, addresses) for node in nodes}
    claims = Counter(names[0] for names in guesses.values() if len(names) == 1)
    found = {
        name: names[0]
        for name, names in guesses.items()
        if len(names) == 1 and claims[names[0]] == 1
    }
    return Matches(
        found=found,
        missing={node.name: _why(node, guesses) for node in nodes if node.name not in found},
        strangers=tuple(each.name for each in cluster if each.name not in found.values()),
    )


def called(node: Node) -> str:
    """Return the name by which the cluster should know a node."""
    return node.desired.kube_proxy.hostname_override or node.name


def _candidates(
    node: Node, cluster: Sequence[ClusterNode], addresses: Mapping[str, str]
) -> tuple[str, ...]:
    named = _named(called(node).casefold(), [each.name for each in cluster])
    by_address = addresses.get(node.name, "")
    if named and by_address and by_address not in named:
        return (*named, by_address)
    return named or ((by_address,) if by_address else ())


def _named(name: str, cluster: Sequence[str]) -> tuple[str, ...]:
    whole = tuple(each for each in cluster if each.casefold() == name)
    return whole or tuple(each for each in cluster if _same_host(each.casefold(), name))


def _same_host(one: str, other: str) -> bool:
    # Of two names with domains, each is already whole: then they are two machines.
    short = min(one, other, key=len)
    return "." not in short and one.partition(".")[0] == other.partition(".")[0]


def _own_addresses(nodes: Sequence[Node], cluster: Sequence[ClusterNode]) -> Mapping[str, str]:
    """Return the cluster's node by the inventory's name, for addresses that have one of each."""
    owners: dict[str, set[str]] = {}
    for each in cluster:
        for address in _addresses(each):
            owners.setdefault(address, set()).add(each.name)
    wanted = Counter(node.address.casefold() for node in nodes)
    return {
        node.name: next(iter(owner))
        for node in nodes
        if wanted[node.address.casefold()] == 1
        and len(owner := owners.get(node.address.casefold(), set())) == 1
    }


def _addresses(node: ClusterNode) -> Iterator[str]:
    yield from (address.casefold() for _, address in node.addresses if address)


def _why(node: Node, guesses: Mapping[str, tuple[str, ...]]) -> str:
    names = guesses[node.name]
    if not names:
        return f"the cluster has no node {called(node)}, and none with the address {node.address}"
    if len(names) > 1:
        return f"it may be each of the cluster's nodes {', '.join(names)}"
    others = [name for name, same in guesses.items() if same == names and name != node.name]
    return f"the cluster's node {names[0]} may be {', '.join(others)} as well"
