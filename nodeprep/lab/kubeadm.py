"""kube-proxy as kubeadm leaves it: a DaemonSet, what belongs to it, and two files on nodes.

The objects are word by word what kubeadm 1.20 writes (``manifests``; its sources are told in
``tests/kubernetes/data/README.md``), except for the API server's address. kubeadm's own part ends
there: what a DaemonSet controller and kubelets make of it is the work of ``lab-node-agent``.
"""

import base64
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from nodeprep.errors import LabError
from nodeprep.lab import control_plane
from nodeprep.lab.api import Api
from nodeprep.lab.objects import NAMESPACE, NODES, Object
from nodeprep.lab.state import Lab, LabNode

MANIFEST = Path(__file__).parent / "manifests" / "kubeadm-1.20.yaml"
ADMIN_CONF = "etc/kubernetes/admin.conf"
_KUBELET_CONF = "etc/kubernetes/kubelet.conf"
_HASH = "kubeadm.kubernetes.io/component-config.hash"
_SYSTEM = "kube-system"
_MASTER = "node-role.kubernetes.io/master"
_RBAC = "rbac.authorization.k8s.io/v1"
_PATIENCE = 30.0
_PAUSE = 0.2
_NODE_AGENT = "lab-node-agent"


def create(api: Api, nodes: tuple[str, ...], authority: str) -> None:
    """Make all of a kubeadm cluster that ``objects`` has not made; the first node leads it.

    ``authority`` is the certificates that clients know the API server by. Raises LabError with
    the server's words.
    """
    _wait_for(api, f"/api/v1/namespaces/{_SYSTEM}")
    for name in nodes:
        api.patch(f"{NODES}/{name}", node_part(name, leads=name == nodes[0]))
    for thing in (*controllers_objects(authority), *agent_rights(), *proxy_objects(api.port)):
        api.create(collection(thing), thing)


def _wait_for(api: Api, path: str) -> None:
    """Wait for something that the API server makes by itself, soon after it is ready."""
    end = time.monotonic() + _PATIENCE
    while not api.has(path):
        if time.monotonic() > end:
            raise LabError(f"the API server has no {path}")
        time.sleep(_PAUSE)


def proxy_objects(port: int) -> list[Object]:
    """Return what kubeadm makes for kube-proxy, with the lab's API server for its own example's."""
    things = read(MANIFEST)
    for thing in things:
        if thing["kind"] == "ConfigMap":
            data = thing["data"]
            server = yaml.safe_load(data["kubeconfig.conf"])["clusters"][0]["cluster"]["server"]
            data["kubeconfig.conf"] = data["kubeconfig.conf"].replace(
                server, control_plane.server_url(port)
            )
            thing["metadata"]["annotations"][_HASH] = config_hash(data)
    return things


def read(manifest: Path) -> list[Object]:
    """Return the objects of a file with several YAML documents."""
    return list(yaml.safe_load_all(manifest.read_text()))


def config_hash(data: Mapping[str, str]) -> str:
    """Return what kubeadm signs a ConfigMap with that no user has changed.

    From ``ChecksumForConfigMap`` in kubeadm's ``componentconfigs/checksums.go``.
    """
    values = "".join(data[key] for key in sorted(data))
    return f"sha256:{hashlib.sha256(values.encode()).hexdigest()}"


def collection(thing: Object) -> str:
    """Return the path of the collection that an object is made in.

    >>> collection({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "lab"}})
    '/api/v1/namespaces/lab/configmaps'
    """
    version = thing["apiVersion"]
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    space = thing["metadata"].get("namespace")
    return f"{root}{f'/namespaces/{space}' if space else ''}/{thing['kind'].lower()}s"


def node_part(name: str, *, leads: bool) -> Object:
    """Return what kubelet and kubeadm put on a Node, and no taint of one that is not ready."""
    labels = {
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
    }
    taints = []
    if leads:
        labels |= {_MASTER: "", "node-role.kubernetes.io/control-plane": ""}
        taints = [{"key": _MASTER, "effect": "NoSchedule"}]
    return {"metadata": {"labels": labels}, "spec": {"taints": taints}}


def controllers_objects(authority: str) -> Iterator[Object]:
    """Yield what controllers make in each namespace: its first account, and whom to trust."""
    for space in ("default", _SYSTEM, NAMESPACE):
        yield _named("v1", "ServiceAccount", "default", namespace=space)
        trust = _named("v1", "ConfigMap", "kube-root-ca.crt", namespace=space)
        yield trust | {"data": {"ca.crt": authority}}


def agent_rights() -> Iterator[Object]:
    """Yield the DaemonSet controller's rights, which the nodes' agents need beside kubelets'."""
    rules = [
        _rule("daemonsets", "get", "list", "watch"),
        _rule("daemonsets/status", "patch"),
        _rule("controllerrevisions", "list", "create", "patch"),
    ]
    yield _named(_RBAC, "ClusterRole", _NODE_AGENT) | {"rules": rules}
    group = {"kind": "Group", "apiGroup": "rbac.authorization.k8s.io", "name": "system:nodes"}
    role = {"kind": "ClusterRole", "apiGroup": group["apiGroup"], "name": _NODE_AGENT}
    binding = _named(_RBAC, "ClusterRoleBinding", _NODE_AGENT)
    yield binding | {"roleRef": role, "subjects": [group]}


def _rule(resource: str, *verbs: str) -> Object:
    return {"apiGroups": ["apps"], "resources": [resource], "verbs": list(verbs)}


def _named(version: str, kind: str, name: str, **where: str) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **where}}


def papers(lab: Lab, node: LabNode) -> dict[str, str]:
    """Return the files of /etc/kubernetes on a node: path -> text, for root alone.

    The first node has the administrator's, as kubeadm leaves it on a control-plane node. Waits for
    the API server's certificate. Raises LabError if there is none.
    """
    user = control_plane.node_user(node.name)
    # Programs in Go read JSON without help, and it is YAML too.
    files = {_KUBELET_CONF: json.dumps(_kubeconfig(lab, user, control_plane.token(lab, user)))}
    if node == lab.nodes[0]:
        config = _kubeconfig(lab, "kubernetes-admin", control_plane.token(lab))
        files[ADMIN_CONF] = yaml.safe_dump(config)
    return files


def _kubeconfig(lab: Lab, user: str, token: str) -> dict[str, Any]:
    """Return a kubeconfig with kubeadm's own names; the lab's users have tokens."""
    if lab.control_plane is None:
        raise LabError(f"the lab in {lab.folder} has no cluster")
    authority = base64.b64encode(control_plane.authority(lab).encode()).decode()
    server = control_plane.server_url(lab.control_plane.port)
    cluster = {"certificate-authority-data": authority, "server": server}
    context = f"{user}@kubernetes"
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"cluster": cluster, "name": "kubernetes"}],
        "contexts": [{"context": {"cluster": "kubernetes", "user": user}, "name": context}],
        "current-context": context,
        "preferences": {},
        "users": [{"name": user, "user": {"token": token}}],
    }
