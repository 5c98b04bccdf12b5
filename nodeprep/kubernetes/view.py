"""A cluster's kube-proxies at one moment: its nodes, pods, DaemonSets, ConfigMaps, and the lock.

Times are in seconds since 1970, by the API server's clock. Field names: Kubernetes API, core/v1,
apps/v1 and coordination.k8s.io/v1.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]
"""An object of the cluster as the API server gave it, every field of it."""

ORIGINAL = "kube-proxy"
"""The name of kubeadm's DaemonSet and of its ConfigMap."""

SECOND = "kube-proxy-nodeprep"
"""The name of our own DaemonSet and ConfigMap, for the nodes that have the new mode already."""

APP = "k8s-app"
"""The label by which kubeadm's DaemonSet knows its pods."""

LEASE = "nodeprep-switch"
"""The name of the Lease by which one roll at a time is under way."""

RUN = "nodeprep.io/run"
"""The annotation with the id of the run that made an object, or that changed it."""


@dataclass(frozen=True, kw_only=True)
class ClusterNode:
    """A node as the cluster knows it. ``addresses`` are pairs of a type and an address.

    ``taints`` are written as kubectl writes them: ``key=value:Effect``.
    """

    name: str
    addresses: tuple[tuple[str, str], ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    unschedulable: bool = False
    ready: bool = False
    kubelet: str = ""
    taints: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ProxyPod:
    """A pod of a DaemonSet that runs kube-proxy.

    ``started`` is when its container came up, ``None`` where it does not run; ``revision`` is the
    hash of the template that it was made of. ``owner`` is empty for a pod that no DaemonSet has.
    ``config_map`` is the one that its configuration comes from.
    """

    name: str
    uid: str
    node: str
    owner: str = ""
    owner_uid: str = ""
    created: float = 0.0
    started: float | None = None
    phase: str = ""
    ready: bool = False
    restarts: int = 0
    deleting: bool = False
    revision: str = ""
    image: str = ""
    waiting: str = ""
    config_map: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DaemonSet:
    """A DaemonSet; ``raw`` is the whole of it. ``desired`` is on how many nodes it should run."""

    name: str
    uid: str
    generation: int
    observed: int
    strategy: str
    desired: int
    images: tuple[str, ...]
    config_map: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    selector: Mapping[str, str]
    raw: Object

    @property
    def template(self) -> Object:
        """The template of its pods."""
        return inner(self.raw, "spec", "template")


@dataclass(frozen=True, kw_only=True)
class ConfigMap:
    """A ConfigMap; ``raw`` is the whole of it.

    ``changed`` is when its fields were last written, ``None`` where the cluster does not say.
    """

    name: str
    uid: str
    resource_version: str
    created: float
    changed: float | None
    data: Mapping[str, str]
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    raw: Object

    @property
    def config(self) -> str | None:
        """The text of ``config.conf``, ``None`` where there is none."""
        return self.data.get("config.conf")


@dataclass(frozen=True, kw_only=True)
class Lease:
    """The lock of a roll in the cluster: who has it, and for which run."""

    holder: str
    run: str
    renewed: float | None
    raw: Object


@dataclass(frozen=True, kw_only=True)
class View:
    """A cluster's kube-proxies at one moment.

    ``problems`` are kubectl's own words where it could not read all that was asked for.
    """

    nodes: tuple[ClusterNode, ...] = ()
    pods: tuple[ProxyPod, ...] = ()
    daemon_sets: Mapping[str, DaemonSet] = field(default_factory=dict)
    config_maps: Mapping[str, ConfigMap] = field(default_factory=dict)
    lease: Lease | None = None
    problems: tuple[str, ...] = ()

    def node(self, name: str) -> ClusterNode | None:
        """Return the node of this name."""
        return next((node for node in self.nodes if node.name == name), None)

    def pods_on(self, node: str) -> tuple[ProxyPod, ...]:
        """Return the kube-proxies on a node, also those that are on their way out."""
        return tuple(pod for pod in self.pods if pod.node == node)


def inner(value: Any, *keys: str) -> Object:
    """Return what lies under ``keys``, an empty object where there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
