"""What one look at a cluster learns of its kube-proxies: nodes, pods, DaemonSets, ConfigMaps.

kubectl is slow to start, so it is asked three times and no more; and it is asked for nothing that
is not kube-proxy's: objects by their names, pods by their label. No Secret is read. An answer is
limited (``frames.CAP``), so of nodes and pods only a few fields are written, and all is packed.

Times are in seconds since 1970, by the API server's clock. Field names: Kubernetes API, core/v1,
apps/v1 and coordination.k8s.io/v1.
"""

import ast
import base64
import gzip
import json
import re
import zlib
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

_PACKED = """\
if command -v gzip >/dev/null && command -v base64 >/dev/null; then
  echo packed
  look | gzip -c | base64
else
  look
fi"""

# One line for each field that counts, its values as Go quotes them. `with` leaves out what is not
# there.
_NODES = (
    r"""{{range .items}}{{printf "node %q\n" .metadata.name}}"""
    r"""{{range .status.addresses}}{{printf "address %q %q\n" .type .address}}{{end}}"""
    r"""{{range $k, $v := .metadata.labels}}{{printf "label %q %q\n" $k $v}}{{end}}"""
    r"""{{range .spec.taints}}{{printf "taint %q %q" .key .effect}}"""
    r"""{{with .value}}{{printf " %q" .}}{{end}}{{"\n"}}{{end}}"""
    r"""{{if .spec.unschedulable}}{{"unschedulable\n"}}{{end}}"""
    r"""{{range .status.conditions}}{{if eq .type "Ready"}}"""
    r"""{{printf "ready %q\n" .status}}{{end}}{{end}}"""
    r"""{{printf "kubelet %q\n" .status.nodeInfo.kubeletVersion}}{{end}}"""
)
_PODS = (
    r"""{{range .items}}{{printf "pod %q %q\n" .metadata.name .metadata.uid}}"""
    r"""{{printf "created %q\n" .metadata.creationTimestamp}}"""
    r"""{{with .metadata.deletionTimestamp}}{{printf "deleted %q\n" .}}{{end}}"""
    r"""{{range $k, $v := .metadata.labels}}{{printf "label %q %q\n" $k $v}}{{end}}"""
    r"""{{range .metadata.ownerReferences}}"""
    r"""{{printf "owner %q %q %q\n" .kind .name .uid}}{{end}}"""
    r"""{{with .spec.nodeName}}{{printf "on %q\n" .}}{{end}}"""
    r"""{{range .spec.containers}}{{printf "container %q %q\n" .name .image}}"""
    r"""{{range .command}}{{printf "word %q\n" .}}{{end}}"""
    r"""{{range .args}}{{printf "word %q\n" .}}{{end}}"""
    r"""{{range .volumeMounts}}{{printf "mount %q %q\n" .name .mountPath}}{{end}}{{end}}"""
    r"""{{range .spec.volumes}}{{$name := .name}}{{with .configMap}}"""
    r"""{{printf "map %q %q\n" $name .name}}{{end}}{{end}}"""
    r"""{{with .status.phase}}{{printf "phase %q\n" .}}{{end}}"""
    r"""{{range .status.conditions}}{{if eq .type "Ready"}}"""
    r"""{{printf "ready %q\n" .status}}{{end}}{{end}}"""
    r"""{{range .status.containerStatuses}}"""
    r"""{{$name := .name}}{{printf "state %q %q\n" $name (printf "%v" .restartCount)}}"""
    r"""{{with .state}}{{with .running}}{{with .startedAt}}"""
    r"""{{printf "started %q\n" .}}{{end}}{{end}}"""
    r"""{{with .waiting}}{{with .reason}}{{printf "reason %q\n" .}}{{end}}"""
    r"""{{with .message}}{{printf "message %q\n" .}}{{end}}{{end}}{{end}}{{end}}{{end}}"""
)


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
    template = f"go-template={_PODS}"
    asked: Mapping[Part, str] = {
        "nodes": f"ask nodes {kubectl.words('get', 'nodes', '-o', f'go-template={_NODES}')}",
        "objects": managed,
        "pods": f"ask pods {kubectl.system('get', 'pods', '-l', label, '-o', template)}",
    }
    chosen = "\n".join(asked[part] for part in PARTS if part in parts)
    return f"{_ASK}# shellcheck disable=SC2016\nlook() {{\n{chosen}\n}}\n{_PACKED}"


# --- the answer -----------------------------------------------------------------------------


def parse(text: str, parts: Sequence[Part] = PARTS) -> View:
    """Read what :func:`script` printed.

    Raises FactError where a part is missing or torn, or where nothing of it could be read: its
    hint has kubectl's words.
    """
    text = _unpacked(text)
    answers = {part: _part(text, part) for part in parts}
    problems = tuple(said for _, said in answers.values() if said)
    nodes, objects, pods = (answers.get(part, ("", ""))[0] for part in PARTS)
    every = _objects(objects)
    leases = [_lease(item) for item in every if item.get("kind") == "Lease"]
    sets = [_daemon_set(item) for item in every if item.get("kind") == "DaemonSet"]
    maps = [_config_map(item) for item in every if item.get("kind") == "ConfigMap"]
    return View(
        nodes=tuple(_node(_node_told(lines)) for lines in _lines(nodes, "node")),
        pods=tuple(_pod(_pod_told(lines)) for lines in _lines(pods, "pod")),
        daemon_sets={found.name: found for found in sets},
        config_maps={found.name: found for found in maps},
        lease=leases[0] if leases else None,
        problems=problems,
    )


def _unpacked(text: str) -> str:
    if not text.startswith("packed\n"):
        return text
    try:
        packed = base64.b64decode("".join(text.split("\n")[1:]), validate=True)
        return gzip.decompress(packed).decode("utf-8", "backslashreplace")
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise FactError("kubectl's answer is not whole") from error


def _part(text: str, part: Part) -> tuple[str, str]:
    _, began, rest = f"\n{text}".partition(f"\n== {part}\n")
    answer, ended, rest = rest.partition("\n== end ")
    if not began or not ended:
        raise FactError(f"kubectl's answer about {part} is not whole")
    status, _, said = rest.partition("\n== ")[0].partition("\n")
    said = said.strip()
    if status.strip() == "0":
        return answer, ""
    if part != "objects" or not answer.strip():
        raise FactError(f"kubectl could not read the cluster's {part}", hint=said)
    return answer, said


def _objects(answer: str) -> tuple[Object, ...]:
    if not answer.strip():
        return ()
    try:
        document = json.loads(answer)
    except ValueError as error:
        raise FactError(f"kubectl's answer about objects is no JSON: {error}") from error
    items = document.get("items", [document]) if isinstance(document, dict) else []
    return tuple(item for item in items if isinstance(item, dict))


_Line = tuple[str, ...]
"""A field's word, then its values."""


def _lines(answer: str, first: str) -> Iterator[list[_Line]]:
    """Yield the lines of each item: one that begins with ``first`` begins the next."""
    found: list[_Line] = []
    for line in answer.splitlines():
        word, _, rest = line.partition(" ")
        try:
            values = [ast.literal_eval(each) for each in _QUOTED.findall(rest)]
        except (SyntaxError, ValueError) as error:
            raise FactError(f"kubectl's answer has a line that cannot be read: {line}") from error
        if word == first and found:
            yield found
            found = []
        if word:
            found.append((word, *map(str, values)))
    if found:
        yield found


_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
"""A text as Go quotes it; the escapes are those of Python, too."""


def _node_told(lines: Sequence[_Line]) -> Object:
    """Return what a node's lines say, in the shape of the API."""
    node: Object = {"metadata": {"labels": {}}, "spec": {"taints": []}}
    status: Object = {"addresses": [], "conditions": [], "nodeInfo": {}}
    for line in lines:
        match line:
            case ("node", name):
                node["metadata"]["name"] = name
            case ("address", kind, address):
                status["addresses"].append({"type": kind, "address": address})
            case ("label", key, value):
                node["metadata"]["labels"][key] = value
            case ("taint", key, effect, *value):
                node["spec"]["taints"].append(
                    {"key": key, "effect": effect, "value": "".join(value)}
                )
            case ("unschedulable",):
                node["spec"]["unschedulable"] = True
            case ("ready", said):
                status["conditions"].append({"type": "Ready", "status": said})
            case ("kubelet", release):
                status["nodeInfo"]["kubeletVersion"] = release
    return {**node, "status": status}


def _pod_told(lines: Sequence[_Line]) -> Object:
    """Return what a pod's lines say, in the shape of the API."""
    metadata: Object = {"labels": {}, "ownerReferences": []}
    spec: Object = {"containers": [], "volumes": []}
    status: Object = {"conditions": [], "containerStatuses": []}
    for line in lines:
        match line:
            case ("pod", name, uid):
                metadata |= {"name": name, "uid": uid}
            case ("created", time):
                metadata["creationTimestamp"] = time
            case ("deleted", time):
                metadata["deletionTimestamp"] = time
            case ("label", key, value):
                metadata["labels"][key] = value
            case ("owner", kind, name, uid):
                metadata["ownerReferences"].append({"kind": kind, "name": name, "uid": uid})
            case _:
                _of_spec(line, spec)
                _of_status(line, status)
                _of_container(line, spec["containers"], status["containerStatuses"])
    return {"metadata": metadata, "spec": spec, "status": status}


def _of_spec(line: _Line, spec: Object) -> None:
    match line:
        case ("on", name):
            spec["nodeName"] = name
        case ("map", volume, name):
            spec["volumes"].append({"name": volume, "configMap": {"name": name}})


def _of_status(line: _Line, status: Object) -> None:
    match line:
        case ("phase", phase):
            status["phase"] = phase
        case ("ready", said):
            status["conditions"].append({"type": "Ready", "status": said})


def _of_container(line: _Line, containers: list[Object], states: list[Object]) -> None:
    match line:
        case ("container", name, image):
            containers.append({"name": name, "image": image, "command": [], "volumeMounts": []})
        case ("word", word) if containers:
            containers[-1]["command"].append(word)
        case ("mount", name, path) if containers:
            containers[-1]["volumeMounts"].append({"name": name, "mountPath": path})
        case ("state", name, restarts):
            states.append({"name": name, "restartCount": int(restarts), "state": {}})
        case ("started", time) if states:
            states[-1]["state"]["running"] = {"startedAt": time}
        case (("reason" | "message") as key, said) if states:
            states[-1]["state"].setdefault("waiting", {})[key] = said


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
