"""Objects of the API, as JSON has them, become what nodeprep knows of them."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from nodeprep.kubernetes.view import (
    ORIGINAL,
    RUN,
    ClusterNode,
    ConfigMap,
    DaemonSet,
    Lease,
    Object,
    ProxyPod,
    inner,
)


def node(item: Object) -> ClusterNode:
    """Return what is known of a node."""
    metadata, spec, status = (inner(item, key) for key in ("metadata", "spec", "status"))
    return ClusterNode(
        name=str(metadata.get("name", "")),
        addresses=tuple(
            (str(each.get("type", "")), str(each.get("address", "")))
            for each in status.get("addresses") or ()
        ),
        labels=_texts(metadata.get("labels")),
        unschedulable=bool(spec.get("unschedulable")),
        ready=_true(status, "Ready"),
        kubelet=str(inner(status, "nodeInfo").get("kubeletVersion", "")),
        taints=tuple(map(_taint, spec.get("taints") or ())),
    )


def _taint(taint: Object) -> str:
    value = f"={taint['value']}" if taint.get("value") else ""
    return f"{taint.get('key', '')}{value}:{taint.get('effect', '')}"


def pod(item: Object) -> ProxyPod:
    """Return what is known of a pod."""
    metadata, spec, status = (inner(item, key) for key in ("metadata", "spec", "status"))
    owner = _owner(metadata)
    # kube-proxy's own container is the first that is called so; a sidecar's state is not its.
    inside = _called(spec.get("containers") or (), ORIGINAL)
    state = _called(status.get("containerStatuses") or (), str(inside.get("name", "")))
    running = inner(state, "state", "running")
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
    waiting = inner(state, "state", "waiting")
    said = (str(waiting.get(key) or "") for key in ("reason", "message"))
    return ": ".join(part for part in said if part)


def daemon_set(item: Object) -> DaemonSet:
    """Return what is known of a DaemonSet."""
    metadata, spec, status = (inner(item, key) for key in ("metadata", "spec", "status"))
    inside = inner(spec, "template", "spec")
    return DaemonSet(
        name=str(metadata.get("name", "")),
        uid=str(metadata.get("uid", "")),
        generation=int(metadata.get("generation") or 0),
        observed=int(status.get("observedGeneration") or 0),
        strategy=str(inner(spec, "updateStrategy").get("type", "")),
        desired=int(status.get("desiredNumberScheduled") or 0),
        images=tuple(str(each.get("image", "")) for each in inside.get("containers") or ()),
        config_map=_config_map_of(inside),
        labels=_texts(metadata.get("labels")),
        annotations=_texts(metadata.get("annotations")),
        selector=_texts(inner(spec, "selector").get("matchLabels")),
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
            str(inner(each, "configMap").get("name", ""))
            for each in pod.get("volumes") or ()
            if each.get("name") == volume
        ),
        "",
    )


def config_map(item: Object) -> ConfigMap:
    """Return what is known of a ConfigMap."""
    metadata = inner(item, "metadata")
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
        if when is not None and "f:data" in inner(manager, "fieldsV1"):
            yield when


def lease(item: Object) -> Lease:
    """Return what is known of a Lease."""
    spec, metadata = inner(item, "spec"), inner(item, "metadata")
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
