"""The story of a node, told once: what it must have, in the order in which it gets it.

A reader learns the product from this list, and a topic joins it with one line. The order matters:
bridge sysctls exist only once ``br_netfilter`` is loaded, a rule needs its ipset, and kube-proxy
wants all of it.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from nodeprep.model import Change, Fact, Facts, Finding, Node
from nodeprep.topics import (
    bypass_rules,
    daemonset,
    firewall,
    ipsets,
    iptables,
    kernel_modules,
    kube_proxy,
    network_manager,
    networkd,
    packages,
    proxy_mode,
    selinux,
    sysctl,
    system,
)


class Topic(Protocol):
    """The contract of a file in ``topics/``: six names, all of them pure.

    ``TITLE`` is what a person reads; ``FACTS`` are its questions to the node. ``paths`` are the
    files it may write, ``secrets`` those of them whose content stays on the node. ``changes`` and
    ``findings`` are one difference told twice: what to do about it, and what it is.

    A seventh may be there: ``share(node)`` returns what the topic's questions ask together with
    those of others, see :mod:`nodeprep.sharing`.
    """

    @property
    def NAME(self) -> str:  # noqa: N802 a constant of the module
        """The topic's name, as ``--topic`` takes it."""

    @property
    def TITLE(self) -> str:  # noqa: N802
        """The topic's name for a person."""

    @property
    def FACTS(self) -> tuple[Fact[Any], ...]:  # noqa: N802
        """The topic's questions to a node."""

    def paths(self, node: Node, /) -> tuple[str, ...]:
        """Return the paths this topic may write on ``node``."""

    def secrets(self, node: Node, /) -> tuple[str, ...]:
        """Return those of the paths whose content must stay on the node."""

    def changes(self, node: Node, facts: Facts, /) -> tuple[Change, ...]:
        """Return the steps from ``facts`` to what ``node`` should be, in order."""

    def findings(self, node: Node, facts: Facts, /) -> tuple[Finding, ...]:
        """Return the verdict on each thing that ``node`` should have."""


def _story(*topics: Topic) -> tuple[Topic, ...]:
    return topics


STORY = _story(
    system,
    selinux,
    packages,
    kernel_modules,
    sysctl,
    network_manager,
    networkd,
    firewall,
    iptables,
    ipsets,
    bypass_rules,
    kube_proxy,
    proxy_mode,
    daemonset,
)


def chapters(names: Sequence[str]) -> tuple[Topic, ...]:
    """Return the topics of these names in the order of the story; all of them for no name."""
    return tuple(topic for topic in STORY if not names or topic.NAME in names)
