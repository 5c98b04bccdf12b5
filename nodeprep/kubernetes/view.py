"""What one look at a cluster learns of its kube-proxies: nodes, pods, DaemonSets, ConfigMaps.

kubectl is slow to start, so it is asked three times and no more; and it is asked for nothing that
is not kube-proxy's: objects by their names, pods by their label. No Secret is read.

Times are in seconds since 1970, by the API server's clock. Field names: Kubernetes API, core/v1,
apps/v1 and coordination.k8s.io/v1.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from nodeprep.errors import FactError
from nodeprep.kubernetes.kubectl import Kubectl

Object = dict[str, Any]
"""An object of the cluster as the API server gave it, every field of it."""

Part = Literal["nodes", "objects", "pods"]
PARTS: tuple[Part, ...] = ("nodes", "objects", "pods")

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


# --- what is seen ---------------------------------------------------------------------------


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
    annotations: Mapping[str, str] = field(default_factory=dict)


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
        return _inner(self.raw, "spec", "template")


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


# --- the question ---------------------------------------------------------------------------

_ASK = """\
ask() {
  part=$1
  shift
  printf '== %s\\n' "$part"
  { said=$("$@" 2>&1 >&3); status=$?; } 3>&1
  printf '\\n== end %s\\n%s\\n' "$status" "$said"
}
"""


def script(kubectl: Kubectl, parts: Sequence[Part] = PARTS) -> str:
    """Return shell statements that read ``parts`` of the cluster and change nothing."""
    names = [
        *(f"daemonset.apps/{name}" for name in (ORIGINAL, SECOND)),
        *(f"configmap/{name}" for name in (ORIGINAL, SECOND)),
        f"lease.coordination.k8s.io/{LEASE}",
    ]
    objects = ("get", "--ignore-not-found", "-o", "json", *names)
    # Until 1.20 kubectl shows by itself who wrote which field, and knows no word for it.
    with_managers = kubectl.system(*objects, "--show-managed-fields")
    managed = (
        "objects() {\n"
        f"  {{ said=$({with_managers} 2>&1 >&4); status=$?; }} 4>&1\n"
        "  case $said in\n"
        f"    *'unknown flag'*) {kubectl.system(*objects)} ;;\n"
        "    *)\n"
        "      printf '%s\\n' \"$said\" >&2\n"
        '      return "$status"\n'
        "      ;;\n"
        "  esac\n"
        "}\n"
        "ask objects objects"
    )
    label = f"{APP} in ({ORIGINAL},{SECOND})"
    asked: Mapping[Part, str] = {
        "nodes": f"ask nodes {kubectl.words('get', 'nodes', '-o', 'json')}",
        "objects": managed,
        "pods": f"ask pods {kubectl.system('get', 'pods', '-l', label, '-o', 'json')}",
    }
    return _ASK + "\n".join(asked[part] for part in PARTS if part in parts)


# --- the answer -----------------------------------------------------------------------------


def parse(text: str, parts: Sequence[Part] = PARTS) -> View:
    """Read what :func:`script` printed.

    Raises FactError where a part is missing or torn, or where nothing of it could be read: its
    hint has kubectl's words.
    """
    answers = {part: _part(text, part) for part in parts}
    nodes, objects, pods = (answers.get(part, ((), "")) for part in PARTS)
    every = objects[0]
    leases = [_lease(item) for item in every if item.get("kind") == "Lease"]
    return View(
        nodes=tuple(map(_node, nodes[0])),
        pods=tuple(map(_pod, pods[0])),
        daemon_sets={
            found.name: found
            for item in every
            if item.get("kind") == "DaemonSet"
            for found in [_daemon_set(item)]
        },
        config_maps={
            found.name: found
            for item in every
            if item.get("kind") == "ConfigMap"
            for found in [_config_map(item)]
        },
        lease=leases[0] if leases else None,
        problems=tuple(said for _, said in answers.values() if said),
    )


def _part(text: str, part: Part) -> tuple[tuple[Object, ...], str]:
    _, began, rest = f"\n{text}".partition(f"\n== {part}\n")
    answer, ended, rest = rest.partition("\n== end ")
    if not began or not ended:
        raise FactError(f"kubectl's answer about {part} is not whole")
    status, _, said = rest.partition("\n== ")[0].partition("\n")
    said = said.strip()
    if status.strip() != "0" and (part != "objects" or not answer.strip()):
        raise FactError(f"kubectl could not read the cluster's {part}", hint=said)
    if not answer.strip():
        return (), ""
    try:
        document = json.loads(answer)
    except ValueError as error:
        raise FactError(f"kubectl's answer about {part} is no JSON: {error}") from error
    items = document.get("items", [document]) if isinstance(document, dict) else []
    return tuple(items), said if status.strip() != "0" else ""


def _node(item: Object) -> ClusterNode:
    metadata, spec, status = (_inner(item, key) for key in ("metadata", "spec", "status"))
    return ClusterNode(
        name=str(metadata.get("name", "")),
        addresses=tuple(
            (str(each.get("type", "")), str(each.get("address", "")))
            for each in status.get("addresses") or ()
        ),
        labels=_texts(metadata.get("labels")),
        unschedulable=bool(spec.get("unschedulable")),
        ready=_true(status, "Ready"),
        kubelet=str(_inner(status, "nodeInfo").get("kubeletVersion", "")),
        taints=tuple(map(_taint, spec.get("taints") or ())),
    )


def _taint(taint: Object) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint.get('key', '')}{value}:{taint.get('effect', '')}"


def _pod(item: Object) -> ProxyPod:
    metadata, spec, status = (_inner(item, key) for key in ("metadata", "spec", "status"))
    owner = _owner(metadata)
    # kube-proxy's own container is the first that is called so; a sidecar's state is not its.
    inside = _called(spec.get("containers") or (), ORIGINAL)
    state = _called(status.get("containerStatuses") or (), str(inside.get("name", "")))
    running = _inner(state, "state", "running")
    labels = _texts(metadata.get("labels"))
    return ProxyPod(
        name=str(metadata.get("name", "")),
        uid=str(metadata.get("uid", "")),
        node=str(spec.get("nodeName", "")),
        owner=str(owner.get("name", "")),
        owner_uid=str(owner.get("uid", "")),
        created=seconds(metadata.get("creationTimestamp")) or 0.0,
        started=seconds(running.get("startedAt")),
        phase=str(status.get("phase", "")),
        ready=_true(status, "Ready"),
        restarts=int(state.get("restartCount") or 0),
        deleting=bool(metadata.get("deletionTimestamp")),
        revision=labels.get("controller-revision-hash", ""),
        image=str(inside.get("image", "")),
        waiting=_waiting(state),
        config_map=_config_map_of(spec),
        labels=labels,
        annotations=_texts(metadata.get("annotations")),
    )


def _owner(metadata: Object) -> Object:
    owners = metadata.get("ownerReferences") or ()
    ours = (owner for owner in owners if owner.get("kind") == "DaemonSet")
    return next((owner for owner in ours if owner.get("controller", True)), {})


def _called(items: Sequence[Object], name: str) -> Object:
    named = next((item for item in items if item.get("name") == name), None)
    return named or (items[0] if items else {})


def _waiting(state: Object) -> str:
    waiting = _inner(state, "state", "waiting")
    said = (str(waiting.get(key) or "") for key in ("reason", "message"))
    return ": ".join(part for part in said if part)


def _daemon_set(item: Object) -> DaemonSet:
    metadata, spec, status = (_inner(item, key) for key in ("metadata", "spec", "status"))
    pod = _inner(spec, "template", "spec")
    return DaemonSet(
        name=str(metadata.get("name", "")),
        uid=str(metadata.get("uid", "")),
        generation=int(metadata.get("generation") or 0),
        observed=int(status.get("observedGeneration") or 0),
        strategy=str(_inner(spec, "updateStrategy").get("type", "")),
        desired=int(status.get("desiredNumberScheduled") or 0),
        images=tuple(str(each.get("image", "")) for each in pod.get("containers") or ()),
        config_map=_config_map_of(pod),
        labels=_texts(metadata.get("labels")),
        annotations=_texts(metadata.get("annotations")),
        selector=_texts(_inner(spec, "selector").get("matchLabels")),
        raw=item,
    )


def _config_map_of(pod: Object) -> str:
    """Return the ConfigMap of the volume that the container's ``--config`` lies in."""
    inside = _called(pod.get("containers") or (), ORIGINAL)
    arguments = [*(inside.get("command") or ()), *(inside.get("args") or ())]
    named = (str(word).partition("=")[2] for word in arguments if "--config=" in str(word))
    path = next(named, "/var/lib/kube-proxy/config.conf")
    mounts = [
        mount
        for mount in inside.get("volumeMounts") or ()
        if path.startswith(str(mount.get("mountPath", "")).rstrip("/") + "/")
    ]
    if not mounts:
        return ""
    # Of mounts within each other the innermost is the one that is seen.
    volume = max(mounts, key=lambda mount: len(str(mount.get("mountPath", ""))))["name"]
    return next(
        (
            str(_inner(each, "configMap").get("name", ""))
            for each in pod.get("volumes") or ()
            if each.get("name") == volume
        ),
        "",
    )


def _config_map(item: Object) -> ConfigMap:
    metadata = _inner(item, "metadata")
    return ConfigMap(
        name=str(metadata.get("name", "")),
        uid=str(metadata.get("uid", "")),
        resource_version=str(metadata.get("resourceVersion", "")),
        created=seconds(metadata.get("creationTimestamp")) or 0.0,
        changed=max(_data_written(metadata), default=None),
        data=_texts(item.get("data")),
        labels=_texts(metadata.get("labels")),
        annotations=_texts(metadata.get("annotations")),
        raw=item,
    )


def _data_written(metadata: Object) -> Iterator[float]:
    # Who wrote a label or an annotation alone changed nothing that a kube-proxy reads.
    for manager in metadata.get("managedFields") or ():
        when = seconds(manager.get("time"))
        if when is not None and "f:data" in _inner(manager, "fieldsV1"):
            yield when


def _lease(item: Object) -> Lease:
    spec, metadata = _inner(item, "spec"), _inner(item, "metadata")
    return Lease(
        holder=str(spec.get("holderIdentity") or ""),
        run=_texts(metadata.get("annotations")).get(RUN, ""),
        renewed=seconds(spec.get("renewTime")),
        raw=item,
    )


def seconds(time: object) -> float | None:
    """Return a time of the API in seconds since 1970, ``None`` where it is none.

    >>> seconds("2026-01-02T03:04:05Z")
    1767323045.0
    """
    try:
        return datetime.fromisoformat(str(time)).timestamp() if time else None
    except ValueError:
        return None


def _true(status: Object, condition: str) -> bool:
    every = status.get("conditions") or ()
    return any(each.get("type") == condition and each.get("status") == "True" for each in every)


def _texts(value: object) -> dict[str, str]:
    pairs = value.items() if isinstance(value, dict) else ()
    return {str(key): str(text) for key, text in pairs}


def _inner(value: Any, *keys: str) -> Object:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
