"""What ``kubectl get nodes -o json`` says of nodes: names, addresses, roles and labels.

It says neither who may log in, nor how kube-proxy is run: what is missing is told.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from nodeprep.importing.imported import Imported, Key, Machine, Note, Origin, Value
from nodeprep.importing.settings import fitting
from nodeprep.inventory.characters import shown
from nodeprep.inventory.foreign import decoded, failure
from nodeprep.inventory.hosts import address

LIMIT = 256 * 1024 * 1024
"""The largest answer in bytes: a node with many images takes about 20 kB."""

KINDS = ("InternalIP", "ExternalIP", "InternalDNS", "Hostname", "ExternalDNS")
"""Which address is taken, if there are several: the one that nodes reach each other by, first."""

_ROLE = "node-role.kubernetes.io/"
_OLD_ROLE = "kubernetes.io/role"
_USEFUL = frozenset(
    (
        *("topology.kubernetes.io/zone", "topology.kubernetes.io/region"),
        *("node.kubernetes.io/instance-type", "kubernetes.io/arch"),
    )
)
_TOLD = frozenset({"kubernetes.io/hostname", "kubernetes.io/os"})
"""Labels that the node's own entry tells."""

_OF_KUBERNETES = ("kubernetes.io", "k8s.io")

_MISSING = Note(
    message="kubectl does not tell who logs in, and how that user becomes root",
    hint="add `ssh: {user: NAME}` and `sudo: passwordless` or `{password: ask}` to the defaults",
)
_UNMANAGED = Note(
    message="kubectl does not tell what runs kube-proxy: `style: unmanaged` leaves it alone",
    hint="set `style: config` or `flags` where it is a systemd unit, and its `mode`",
)
_POD_CIDR = Note(
    message="a node's podCIDR is its own part of the pods' network, not cluster_cidr",
    hint="see the `clusterCIDR` of kube-proxy's configuration, and write it as `cluster_cidr`",
)


def read(text: bytes, file: str) -> Imported:
    """Return the nodes of a list, of one node, or of a bare JSON list of them.

    Raises InventoryError with what is wrong.
    """
    value = _parsed(text, file)
    machines: list[Machine] = []
    notes: list[Note] = []
    left: set[str] = set()
    for at, item in enumerate(_nodes(value, file)):
        name = _named(item)
        if not name:
            raise failure(file, 1, f"items[{at}] has no metadata.name")
        labels = {str(k): str(v) for k, v in _inner(item, "metadata", "labels").items()}
        where, told = _address(name, item, labels)
        notes += [Note(message=told, nodes=(name,), origin=Origin(file))] if told else []
        if where:
            kept = _labels(name, labels)
            settings: dict[Key, Value] = {**kept, ("kube_proxy", "style"): "unmanaged"}
            left |= {key for key in labels if _is_left(key, kept)}
            groups = _roles(labels)
            machines.append(Machine(name=name, address=where, groups=groups, settings=settings))
    notes += [_left(left)] if left else []
    pod_cidr = any(isinstance(_inner(item, "spec").get("podCIDR"), str) for item in _items(value))
    general = (_MISSING, _UNMANAGED, *([_POD_CIDR] if pod_cidr else []))
    return Imported(machines=tuple(machines), notes=(*notes, *(general if machines else ())))


def _parsed(text: bytes, file: str) -> Any:
    plain = decoded(text, file, LIMIT)
    if not plain.strip():
        raise failure(file, 1, "there is nothing in it: is kubectl connected to the cluster?")
    try:
        return json.loads(plain)
    except json.JSONDecodeError as error:
        told = f"this is not JSON: {error.msg}; ask for it with `kubectl get nodes -o json`"
        raise failure(file, error.lineno, told, error.colno) from None
    except RecursionError:
        raise failure(file, 1, "this is nested too deep") from None


def _items(value: Any) -> list[Any]:
    if isinstance(value, dict):
        items = value.get("items", [value] if value.get("kind") == "Node" else None)
        return items if isinstance(items, list) else []
    return value if isinstance(value, list) else []


def _nodes(value: Any, file: str) -> Iterator[dict[str, Any]]:
    found = [
        item
        for item in _items(value)
        if isinstance(item, dict) and item.get("kind", "Node") == "Node"
    ]
    if not found:
        raise failure(file, 1, "there is no node in it: ask with `kubectl get nodes -o json`")
    yield from found


def _inner(item: Any, *path: str) -> Mapping[str, Any]:
    for key in path:
        item = item.get(key) if isinstance(item, dict) else None
    return item if isinstance(item, dict) else {}


def _named(item: dict[str, Any]) -> str:
    name = _inner(item, "metadata").get("name")
    return name if isinstance(name, str) else ""


def _address(name: str, item: dict[str, Any], labels: Mapping[str, str]) -> tuple[str, str]:
    """Return the address of a node, empty where it is left out, and what is to be said of it."""
    if (system := labels.get("kubernetes.io/os", "linux")) != "linux":
        return "", f"it runs {shown(system)}: left out"
    listed = _inner(item, "status").get("addresses")
    found: dict[str, list[str]] = {}
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict) and _is_address(str(entry.get("address", ""))):
            found.setdefault(str(entry.get("type")), []).append(str(entry["address"]))
    kind = next((kind for kind in KINDS if kind in found), "")
    if not kind:
        told = "there is no address of it: its name is used" if _is_address(name) else ""
        return (name, told) if told else ("", "there is no address of it: left out")
    # Dual stack: the first one is the node's own family (kubelet's --node-ip).
    return found[kind][0], ""


def _is_address(text: str) -> bool:
    try:
        return bool(address(text))
    except ValueError:
        return False


def _roles(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the roles as kubectl shows them; ``master`` is what control planes were called."""
    roles = [key.removeprefix(_ROLE) for key in labels if key.startswith(_ROLE)]
    if old := labels.get(_OLD_ROLE):
        roles.append(old)
    if "control-plane" in roles:
        roles = [role for role in roles if role != "master"]
    return tuple(sorted({role for role in roles if role}))


def _labels(name: str, labels: Mapping[str, str]) -> dict[Key, Value]:
    """Return the labels that tell kinds of nodes apart, and that our inventory can hold.

    Of Kubernetes' own only place, kind and architecture; no label that only repeats the name.
    """
    return {
        ("labels", key): value
        for key, value in labels.items()
        if (key in _USEFUL or not _is_kubernetes(key))
        and value != name
        and not fitting(("labels", key), value)
    }


def _is_left(key: str, kept: Mapping[Key, Value]) -> bool:
    is_told = key in _TOLD or key == _OLD_ROLE or key.startswith(_ROLE)
    return not is_told and ("labels", key) not in kept


def _left(labels: set[str]) -> Note:
    told = "labels of Kubernetes' own, and what our labels cannot hold, stay behind"
    return Note(message=f"{told}: {', '.join(sorted(labels))}")


def _is_kubernetes(key: str) -> bool:
    domain = key.rpartition("/")[0]
    return any(domain == own or domain.endswith(f".{own}") for own in _OF_KUBERNETES)
