"""What a lab is asked to be, and where it keeps its things."""

import ipaddress
import os
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

from nodeprep.errors import UsageError
from nodeprep.lab.kinds import APT, kind

NODE_PORT = 2222
# What the product installs on nodes, and what its tests need there.
NODE_PACKAGES = ("conntrack", "curl", "ipset", "iptables", "ipvsadm", "nftables")
_FIRST_HOST = 11
_MOST_NODES = 200
_LEAST_MEMORY = 256
DEFAULT_MEMORY = 384


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What ``up`` is asked for. Memory is in MiB a node; network is the first three bytes.

    ``packages`` are what nodes can install, ``installed`` what their image has of Debian's besides
    the kind's own. ``cluster`` brings a kube-proxy too, and with ``kubeadm``, which implies it, the
    kube-proxy is a DaemonSet. ``kinds`` are dealt out to the nodes in turn.

    Raises UsageError if it cannot be: a network outside 127/8, no node, too little memory, a kind
    that is unknown or that no node is left for.
    """

    folder: Path
    cache: Path
    nodes: int = 3
    memory: int = DEFAULT_MEMORY
    network: str = "127.77.0"
    kube_proxy: bool = False
    cluster: bool = False
    kubeadm: bool = False
    kinds: tuple[str, ...] = (APT.name,)
    packages: tuple[str, ...] = field(default=NODE_PACKAGES)
    installed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # A frozen value is filled in before anybody has seen it.
        object.__setattr__(self, "cluster", self.cluster or self.kubeadm)
        if not 1 <= self.nodes <= _MOST_NODES:
            raise UsageError(f"a lab has 1 to {_MOST_NODES} nodes, not {self.nodes}")
        if self.memory < _LEAST_MEMORY:
            raise UsageError(f"a node needs {_LEAST_MEMORY} MiB of memory or more")
        if not _is_loopback(self.network):
            raise UsageError(
                f"not a network of this machine alone: {self.network}", hint="--network 127.77.0"
            )
        for name in self.kinds or ("",):
            kind(name)
        if self.nodes < len(self.kinds):
            raise UsageError(
                f"{len(self.kinds)} kinds of nodes, and {self.nodes} nodes",
                hint=f"--nodes {len(self.kinds)}",
            )

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return each node's address: the network's .11, .12 and so on."""
        return tuple(f"{self.network}.{_FIRST_HOST + number}" for number in range(self.nodes))

    @property
    def kind_of_each(self) -> tuple[str, ...]:
        """Return each node's kind: they take turns."""
        return tuple(islice(cycle(self.kinds), self.nodes))


def _is_loopback(network: str) -> bool:
    try:
        return ipaddress.IPv4Address(f"{network}.0").is_loopback
    except ValueError:
        return False


def default_folder() -> Path:
    """Return where a lab keeps its state unless told otherwise (XDG base directories)."""
    return _xdg("XDG_STATE_HOME", ".local/state") / "nodeprep" / "lab"


def default_cache() -> Path:
    """Return where images and packages are kept from lab to lab (XDG base directories)."""
    return _xdg("XDG_CACHE_HOME", ".cache") / "nodeprep" / "lab"


def _xdg(variable: str, fallback: str) -> Path:
    """Ignore a relative path in the variable, as the specification says."""
    named = Path(os.environ.get(variable, ""))
    return named if named.is_absolute() else Path.home() / fallback
