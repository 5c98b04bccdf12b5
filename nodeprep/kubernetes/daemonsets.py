"""The objects of a change, computed from those that are there, and their exact way back.

The canary's way has a second ConfigMap and DaemonSet; a node's label says which of the two serves
it. The original is kept away from every node that has the label at all, so between the two a node
can be without either (``AWAY``), and is never with both. The recreating way only holds the original
at OnDelete. What stood in a changed field before is kept in an annotation of the object itself.

Whole objects are written back, each as the one that was seen (``resourceVersion``): so no field
that nodeprep does not know is lost, and a change of somebody else's in between is refused.
"""

import copy
import json
from collections.abc import Mapping
from typing import Any

from nodeprep.errors import UsageError
from nodeprep.kubernetes import config_text
from nodeprep.kubernetes.config_text import Settings
from nodeprep.kubernetes.view import APP, ORIGINAL, RUN, SECOND, Object

LABEL = "nodeprep.io/kube-proxy"
"""The label of a node that the original does not serve, whatever its value."""

HERE, AWAY = "second", "away"
"""Its values: the second DaemonSet serves the node; for a moment, none does."""

KEPT = "nodeprep.io/kept"
"""The annotation with what stood in the fields that nodeprep changed, as JSON."""

MANAGED_BY = ("app.kubernetes.io/managed-by", "nodeprep")

_OF_THE_SERVER = (
    *("resourceVersion", "uid", "generation", "creationTimestamp", "deletionTimestamp"),
    *("deletionGracePeriodSeconds", "managedFields", "selfLink", "ownerReferences", "finalizers"),
)
_NOT_COPIED = (
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.daemonset.template.generation",
    "kubeadm.kubernetes.io/component-config.hash",
    KEPT,
)

_KEEPS_AWAY = {"key": LABEL, "operator": "DoesNotExist"}


# --- the second pair ------------------------------------------------------------------------


def second_config_map(original: Object, wish: Settings, run: str) -> Object:
    """Return the ConfigMap of the new mode, to create; raises ConfigTextError as editing does."""
    document = _of_our_own(original, run)
    document["data"] = edited_data(original, wish)
    return document


def edited_config_map(original: Object, wish: Settings) -> Object:
    """Return the original with other settings in its ``config.conf``, to replace it."""
    document = copy.deepcopy(original)
    document["data"] = edited_data(original, wish)
    return document


def edited_data(config_map: Object, wish: Settings) -> dict[str, str]:
    """Return the data of a ConfigMap with other settings. Raises UsageError without config.conf."""
    data = dict(config_map.get("data") or {})
    if "config.conf" not in data:
        raise UsageError(
            f"the ConfigMap {config_map['metadata']['name']} has no config.conf",
            hint="see it with: kubectl -n kube-system get configmap kube-proxy -o yaml",
        )
    return {**data, "config.conf": config_text.edited(data["config.conf"], wish)}


def second_daemon_set(original: Object, run: str) -> Object:
    """Return the DaemonSet of the nodes that have the new mode, to create.

    Its pods differ from the original's in the ConfigMap, the nodes, and one label: neither's
    selector matches the other's pods. Raises UsageError where the original has no such label, or
    takes its configuration from no ConfigMap called kube-proxy.
    """
    document = _of_our_own(restored(original), run)
    document.pop("status", None)
    spec = document["spec"]
    _told_apart(spec)
    spec["template"].setdefault("metadata", {}).pop("creationTimestamp", None)
    pod = spec["template"]["spec"]
    pod["nodeSelector"] = {**(pod.get("nodeSelector") or {}), LABEL: HERE}
    _point_to_second(pod)
    # A change of ours to it must not roll by itself over the nodes that it serves.
    spec["updateStrategy"] = {"type": "OnDelete"}
    return document


def _of_our_own(original: Object, run: str) -> Object:
    document = copy.deepcopy(original)
    metadata = document["metadata"]
    for key in _OF_THE_SERVER:
        metadata.pop(key, None)
    annotations = {
        key: value
        for key, value in (metadata.get("annotations") or {}).items()
        if key not in _NOT_COPIED
    }
    metadata["name"] = SECOND
    metadata["annotations"] = {**annotations, RUN: run}
    labels = dict(metadata.get("labels") or {})
    metadata["labels"] = {**labels, MANAGED_BY[0]: MANAGED_BY[1]}
    if labels.get(APP) == ORIGINAL:
        metadata["labels"][APP] = SECOND
    return document


def _told_apart(spec: Object) -> None:
    selected = (spec.get("selector") or {}).get("matchLabels") or {}
    if selected.get(APP) != ORIGINAL:
        raise UsageError(
            f"the DaemonSet {ORIGINAL} does not know its pods by the label {APP}={ORIGINAL}",
            hint="it is not kubeadm's: nodeprep cannot tell a second one's pods from its own",
        )
    spec["selector"] = {"matchLabels": {APP: SECOND}}
    metadata = spec["template"].setdefault("metadata", {})
    metadata["labels"] = {**(metadata.get("labels") or {}), APP: SECOND}


def _point_to_second(pod: Object) -> None:
    volumes = [
        volume
        for volume in pod.get("volumes") or ()
        if (volume.get("configMap") or {}).get("name") == ORIGINAL
    ]
    if not volumes:
        raise UsageError(
            f"the DaemonSet {ORIGINAL} has no volume from the ConfigMap {ORIGINAL}",
            hint="it is not kubeadm's: nodeprep does not know where its configuration comes from",
        )
    for volume in volumes:
        volume["configMap"]["name"] = SECOND


# --- the original in the meantime -----------------------------------------------------------


def held(original: Object, run: str) -> Object:
    """Return the DaemonSet with OnDelete: its pods stay as they are until each is deleted."""
    document = _kept(restored(original), run, ("updateStrategy",))
    document["spec"]["updateStrategy"] = {"type": "OnDelete"}
    return document


def kept_away(original: Object, run: str) -> Object:
    """Return it held, and kept away from every node that has :data:`LABEL`.

    The terms of a node affinity are alternatives, so each of them gets the condition.
    """
    document = _kept(restored(original), run, ("updateStrategy", "affinity"))
    document["spec"]["updateStrategy"] = {"type": "OnDelete"}
    pod = document["spec"]["template"]["spec"]
    affinity = pod["affinity"] = pod.get("affinity") or {}
    nodes = affinity["nodeAffinity"] = affinity.get("nodeAffinity") or {}
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    required = nodes[key] = nodes.get(key) or {"nodeSelectorTerms": [{}]}
    fresh = not _had_terms(original)
    for term in required.get("nodeSelectorTerms") or ():
        # A term without a condition matches no node; with one of ours it would match most.
        if fresh or term.get("matchExpressions") or term.get("matchFields"):
            term["matchExpressions"] = [*(term.get("matchExpressions") or ()), dict(_KEEPS_AWAY)]
    return document


def _had_terms(original: Object) -> bool:
    affinity = restored(original)["spec"]["template"]["spec"].get("affinity") or {}
    nodes = affinity.get("nodeAffinity") or {}
    return bool(nodes.get("requiredDuringSchedulingIgnoredDuringExecution"))


def is_held(document: Object) -> bool:
    """Tell whether a DaemonSet carries a change of ours that has a way back."""
    return KEPT in (document["metadata"].get("annotations") or {})


def restored(document: Object) -> Object:
    """Return a DaemonSet as it was before :func:`held` or :func:`kept_away`; others as they are.

    Raises UsageError where what was kept cannot be read.
    """
    if not is_held(document):
        return copy.deepcopy(document)
    document = template_restored(document)
    kept, metadata = _read_kept(document), document["metadata"]
    _put_back(document["spec"], "updateStrategy", kept)
    for name in (KEPT, RUN):
        before = kept["annotations"]
        if before is None or name not in before:
            metadata["annotations"].pop(name, None)
        else:
            metadata["annotations"][name] = before[name]
    if not metadata["annotations"] and "annotations" in kept["missing"]:
        del metadata["annotations"]
    elif not metadata["annotations"] and kept["annotations"] is None:
        metadata["annotations"] = None
    return document


def template_restored(document: Object) -> Object:
    """Return a DaemonSet with its own affinity again, but still held at OnDelete.

    Pods that were made while it was kept away have the hash of that template: they are made anew
    one by one before the strategy is given back, or the controller would do it at its own pace.
    """
    document = copy.deepcopy(document)
    kept = _read_kept(document)
    if "affinity" in kept["fields"]:
        _put_back(document["spec"]["template"]["spec"], "affinity", kept)
    return document


def _kept(document: Object, run: str, fields: tuple[str, ...]) -> Object:
    homes = {"updateStrategy": document["spec"], "affinity": document["spec"]["template"]["spec"]}
    metadata = document["metadata"]
    annotations = metadata.get("annotations")
    kept = {
        "fields": list(fields),
        "missing": [
            *(name for name in fields if name not in homes[name]),
            *([] if "annotations" in metadata else ["annotations"]),
        ],
        "values": {name: homes[name][name] for name in fields if name in homes[name]},
        "annotations": None
        if annotations is None
        else {name: annotations[name] for name in (KEPT, RUN) if name in annotations},
    }
    text = json.dumps(kept, sort_keys=True, separators=(",", ":"))
    metadata["annotations"] = {**(annotations or {}), RUN: run, KEPT: text}
    return document


def _put_back(home: Object, name: str, kept: Mapping[str, Any]) -> None:
    if name in kept["missing"]:
        home.pop(name, None)
    elif name in kept["values"]:
        home[name] = kept["values"][name]


def _read_kept(document: Object) -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads(document["metadata"]["annotations"][KEPT])
        wanted = {"fields": list, "missing": list, "values": dict}
        sound = all(isinstance(kept[key], kind) for key, kind in wanted.items())
        sound = sound and "annotations" in kept
    except (KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        name = document["metadata"]["name"]
        raise UsageError(
            f"the annotation {KEPT} of the DaemonSet {name} cannot be read",
            hint=f"kubectl -n kube-system get daemonset {name} -o yaml; it is JSON with what the "
            "changed fields were before",
        )
    return kept
