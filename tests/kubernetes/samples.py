"""Clusters to read, made of the manifests that kubeadm writes."""

import copy
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

import nodeprep
from nodeprep.kubernetes.look import parse
from nodeprep.kubernetes.view import Object, View

DATA = Path(__file__).parent / "data"
MANIFESTS = {
    "1.20": Path(nodeprep.__file__).parent / "lab" / "manifests" / "kubeadm-1.20.yaml",
    "1.34": DATA / "kubeadm-1.34.yaml",
}
"""What two kubeadms write; the lab makes its cluster of the older one."""

RELEASES = tuple(MANIFESTS)

CREATED = "2026-01-01T00:00:00Z"
CHANGED = "2026-02-01T00:00:00Z"
STARTED = "2026-03-01T00:00:00Z"


def manifests(release: str) -> dict[str, Object]:
    """Return what kubeadm applies, by kind."""
    return copy.deepcopy(_manifests(release))


@cache
def _manifests(release: str) -> dict[str, Object]:
    text = MANIFESTS[release].read_text()
    return {document["kind"]: document for document in yaml.safe_load_all(text)}


def config(release: str) -> str:
    return str(manifests(release)["ConfigMap"]["data"]["config.conf"])


def stored(document: Object, uid: str = "uid", **metadata: Any) -> Object:
    """Return an object as the API server gives it back: with what it and its controllers add."""
    document = copy.deepcopy(document)
    document["metadata"] |= {
        "uid": uid,
        "resourceVersion": "4711",
        "creationTimestamp": CREATED,
        **metadata,
    }
    if document["kind"] == "DaemonSet":
        document["metadata"]["generation"] = 1
        document["metadata"]["annotations"] = {
            **document["metadata"].get("annotations", {}),
            "deprecated.daemonset.template.generation": "1",
        }
        document["spec"].setdefault("revisionHistoryLimit", 10)
        document["spec"]["template"]["metadata"].setdefault("creationTimestamp", None)
        document["spec"]["template"]["spec"].setdefault("dnsPolicy", "ClusterFirst")
        strategy = document["spec"]["updateStrategy"]
        if strategy["type"] == "RollingUpdate":
            strategy.setdefault("rollingUpdate", {"maxUnavailable": 1, "maxSurge": 0})
        document["status"] = {"observedGeneration": 1, "desiredNumberScheduled": 3}
    return document


def daemon_set(release: str = "1.34") -> Object:
    return stored(manifests(release)["DaemonSet"], "ds-1")


def config_map(release: str = "1.34", text: str | None = None) -> Object:
    document = stored(
        manifests(release)["ConfigMap"],
        "cm-1",
        managedFields=[
            {
                "manager": "kubeadm",
                "operation": "Update",
                "apiVersion": "v1",
                "time": CREATED,
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:data": {".": {}, "f:kubeconfig.conf": {}}},
            },
            {
                "manager": "kubectl-edit",
                "operation": "Update",
                "apiVersion": "v1",
                "time": CHANGED,
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:data": {"f:config.conf": {}}},
            },
            {
                "manager": "kubectl-label",
                "operation": "Update",
                "apiVersion": "v1",
                "time": "2026-02-02T00:00:00Z",
                "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {"f:labels": {}}},
            },
        ],
    )
    if text is not None:
        document["data"]["config.conf"] = text
    return document


def pod(node: str, uid: str, owner: Object | None = None, **status: Any) -> Object:
    """Return a pod of a DaemonSet as its controller makes it and as a kubelet tells of it."""
    owner = owner or daemon_set()
    template = owner["spec"]["template"]
    name = owner["metadata"]["name"]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{name}-{uid[-5:]}",
            "namespace": "kube-system",
            "uid": uid,
            "creationTimestamp": STARTED,
            "labels": {
                **template["metadata"]["labels"],
                "controller-revision-hash": "5d7c8f",
                "pod-template-generation": "1",
            },
            "ownerReferences": [
                {
                    "apiVersion": "apps/v1",
                    "kind": "DaemonSet",
                    "name": name,
                    "uid": owner["metadata"]["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {**copy.deepcopy(template["spec"]), "nodeName": node},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [
                {
                    "name": "kube-proxy",
                    "ready": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": STARTED}},
                }
            ],
            **status,
        },
    }


def node(name: str, address: str = "", **labels: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux", **labels}},
        "spec": {},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": address or "192.0.2.1"},
                {"type": "Hostname", "address": name},
            ],
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {"kubeletVersion": "v1.34.1"},
        },
    }


def answer(
    nodes: Sequence[Object] = (), objects: Sequence[Object] = (), pods: Sequence[Object] = ()
) -> str:
    """Return what the view's script prints of a cluster, where it cannot pack it."""
    listed = json.dumps({"kind": "List", "items": list(objects)}, indent=4)
    parts = {
        "nodes": "".join(map(node_lines, nodes)),
        "objects": listed + "\n",
        "pods": "".join(map(pod_lines, pods)),
    }
    return "".join(f"== {part}\n{text}\n== end 0\n\n" for part, text in parts.items())


def node_lines(item: Object) -> str:
    """Return what kubectl's template makes of a node; test_view.py holds it against kubectl."""
    metadata, spec, status = item["metadata"], item["spec"], item["status"]
    lines = [_line("node", metadata["name"])]
    lines += [_line("address", each["type"], each["address"]) for each in status["addresses"]]
    lines += [_line("label", *pair) for pair in sorted(metadata["labels"].items())]
    for taint in spec.get("taints", ()):
        value = [taint["value"]] if taint.get("value") else []
        lines.append(_line("taint", taint["key"], taint["effect"], *value))
    lines += ["unschedulable\n"] if spec.get("unschedulable") else []
    lines += _ready(status)
    return "".join([*lines, _line("kubelet", status["nodeInfo"]["kubeletVersion"])])


def pod_lines(item: Object) -> str:
    """Return what kubectl's template makes of a pod."""
    metadata, spec, status = item["metadata"], item["spec"], item["status"]
    lines = [_line("pod", metadata["name"], metadata["uid"])]
    lines.append(_line("created", metadata["creationTimestamp"]))
    if "deletionTimestamp" in metadata:
        lines.append(_line("deleted", metadata["deletionTimestamp"]))
    lines += [_line("label", *pair) for pair in sorted(metadata["labels"].items())]
    for owner in metadata.get("ownerReferences", ()):
        lines.append(_line("owner", owner["kind"], owner["name"], owner["uid"]))
    lines.append(_line("on", spec["nodeName"]))
    for container in spec["containers"]:
        lines.append(_line("container", container["name"], container["image"]))
        words = [*container.get("command", ()), *container.get("args", ())]
        lines += [_line("word", word) for word in words]
        mounts = container.get("volumeMounts", ())
        lines += [_line("mount", each["name"], each["mountPath"]) for each in mounts]
    for volume in spec["volumes"]:
        if "configMap" in volume:
            lines.append(_line("map", volume["name"], volume["configMap"]["name"]))
    lines += [_line("phase", status["phase"]), *_ready(status)]
    for state in status.get("containerStatuses", ()):
        lines.append(_line("state", state["name"], str(state["restartCount"])))
        if "running" in state["state"]:
            lines.append(_line("started", state["state"]["running"]["startedAt"]))
        waiting = state["state"].get("waiting", {})
        lines += [_line(key, waiting[key]) for key in ("reason", "message") if key in waiting]
    return "".join(lines)


def _ready(status: Object) -> list[str]:
    return [
        _line("ready", each["status"]) for each in status["conditions"] if each["type"] == "Ready"
    ]


def _line(word: str, *values: str) -> str:
    return " ".join([word, *(json.dumps(value, ensure_ascii=False) for value in values)]) + "\n"


def view(
    nodes: Sequence[Object] = (), objects: Sequence[Object] = (), pods: Sequence[Object] = ()
) -> View:
    return parse(answer(nodes, objects, pods))
