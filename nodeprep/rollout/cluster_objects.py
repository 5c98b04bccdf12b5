"""The objects of a roll over a cluster: made before the first node, and gone after the last.

By the canary's way there are two DaemonSets, the original and one for the new mode, and a node's
label says which of them serves it. Once the second serves every node, the original gets the new
mode too, the nodes go home to it one by one, and the second goes. By the recreating way the one
ConfigMap has the new mode while the roll lasts, and keeps it where the roll came to its end.

Each object is written as the one that was seen, or not at all.
"""

import copy
from collections.abc import Iterator
from datetime import UTC, datetime

from nodeprep.errors import LockHeld, NodeFailed
from nodeprep.kubernetes import config_text, daemonsets, lease
from nodeprep.kubernetes.config_text import Settings
from nodeprep.kubernetes.daemonsets import HERE, KEPT, LABEL, MANAGED_BY
from nodeprep.kubernetes.kubectl import Kubectl
from nodeprep.kubernetes.view import (
    LEASE,
    ORIGINAL,
    RUN,
    SECOND,
    ConfigMap,
    DaemonSet,
    View,
)
from nodeprep.model import Change, Mode, Node
from nodeprep.rollout import node_steps
from nodeprep.rollout.switching import Aim
from nodeprep.shell import Script

# --- what is there --------------------------------------------------------------------------


def original(state: View) -> DaemonSet:
    """Return kubeadm's DaemonSet. Raises NodeFailed where there is none."""
    if ORIGINAL not in state.daemon_sets:
        raise NodeFailed(f"the cluster has no DaemonSet {ORIGINAL} in kube-system")
    return state.daemon_sets[ORIGINAL]


def original_map(state: View) -> ConfigMap:
    """Return kubeadm's ConfigMap. Raises NodeFailed where there is none with a config.conf."""
    found = state.config_maps.get(ORIGINAL)
    if found is None or found.config is None:
        raise NodeFailed(f"the cluster has no ConfigMap {ORIGINAL} with a config.conf")
    return found


def original_mode(state: View) -> str:
    """Return the mode that a pod of the original takes when it starts."""
    return config_text.read(original_map(state).config or "").effective_mode


def server_of(state: View, mode: str) -> str:
    """Return which DaemonSet, ``original`` or ``second``, gives a node this mode."""
    return "original" if original_mode(state) == mode else "second"


def served_by(state: View, node: str) -> str:
    """Return which DaemonSet serves a node, nothing in the moment between."""
    found = state.node(node)
    label = found.labels.get(LABEL) if found else None
    return {None: "original", HERE: "second"}.get(label, "")


def served_by_second(state: View) -> tuple[str, ...]:
    """Return the nodes that the original is kept away from."""
    return tuple(node.name for node in state.nodes if LABEL in node.labels)


def all_by_second(state: View) -> bool:
    """Tell whether the second serves every node that has a kube-proxy."""
    served = {pod.node for pod in state.pods}
    return bool(served) and all(served_by(state, node) == "second" for node in served)


def wish_of(state: View, node: Node, mode: Mode) -> Settings:
    """Return the settings that the inventory wants of a mode, and that a text does not have.

    What is so by default needs no word in somebody's file.
    """
    proxy, is_now = node.desired.kube_proxy, config_text.read(old_config(state))
    if mode != "ipvs":
        return Settings(mode=mode)
    strict, excluded = is_now.strict_arp or False, is_now.exclude_cidrs or ()
    return Settings(
        mode=mode,
        scheduler=None if is_now.effective_scheduler == proxy.scheduler else proxy.scheduler,
        strict_arp=None if strict == proxy.strict_arp else proxy.strict_arp,
        exclude_cidrs=None if excluded == proxy.exclude_cidrs else proxy.exclude_cidrs,
    )


def old_config(state: View) -> str:
    """Return the original's ``config.conf`` as it was before the roll."""
    found = original_map(state)
    return found.annotations.get(KEPT, found.config or "")


def both_texts(state: View, node: Node, mode: Mode) -> tuple[str, str]:
    """Return the ``config.conf`` of before the roll, and that of the new mode."""
    old = old_config(state)
    return old, config_text.edited(old, wish_of(state, node, mode))


# --- before the first node ------------------------------------------------------------------


def prepared(state: View, kubectl: Kubectl, node: Node, aim: Aim) -> list[Change]:
    """Return the steps before the first node; none where all is as it has to be.

    Raises LockHeld where another roll has the cluster's lock, NodeFailed where the objects are in
    no form that nodeprep knows.
    """
    steps = [*_lock(state, kubectl, aim)]
    if aim.strategy == "recreate":
        return [*steps, *_changed_map(state, kubectl, node, aim), *_held(state, kubectl, aim)]
    if aim.home:
        return [*steps, *_new_mode(state, kubectl, node, aim)]
    if server_of(state, aim.to) == "original":
        return steps
    return [*steps, *_second(state, kubectl, node, aim), *_kept_away(state, kubectl, aim)]


def refuse_locked(state: View, run: str) -> None:
    """Raise LockHeld where another roll than ``run`` has the cluster's lock."""
    found = state.lease
    if found is not None and lease.standing(found, run) == "other":
        raise LockHeld(
            f"the cluster's lock is {lease.told(found)}",
            hint=f"nodeprep switch --resume {found.run}, where it was begun; once you know that it "
            f"is dead: kubectl -n kube-system delete lease {LEASE}",
        )


def _lock(state: View, kubectl: Kubectl, aim: Aim) -> Iterator[Change]:
    refuse_locked(state, aim.lock)
    found, began = state.lease, _time_of(aim.lock)
    standing = lease.standing(found, aim.lock)
    if found is None:
        yield _step(
            "take the cluster's lock", kubectl.create(lease.new(aim.holder, aim.lock, began))
        )
    elif standing == "free":
        taken = lease.taken(found, aim.holder, aim.lock, began)
        yield _step("take the cluster's lock", kubectl.replace(taken))


def _time_of(run: str) -> datetime:
    """Return when a run began: its id says it."""
    return datetime.strptime(run[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def _second(state: View, kubectl: Kubectl, node: Node, aim: Aim) -> Iterator[Change]:
    wanted = daemonsets.second_config_map(
        original_map(state).raw, wish_of(state, node, aim.to), aim.lock
    )
    there = state.config_maps.get(SECOND)
    if there is None:
        yield _step(f"make the ConfigMap {SECOND}", kubectl.create(wanted))
    elif dict(there.data) != wanted["data"]:
        if served := served_by_second(state):
            raise NodeFailed(
                f"the DaemonSet {SECOND} serves {', '.join(served)} with another configuration",
                hint=f"let it have all nodes first: nodeprep switch --to {_mode_of(there)}",
            )
        replaced = {**copy.deepcopy(there.raw), "data": wanted["data"]}
        yield _step(f"change the ConfigMap {SECOND}", kubectl.replace(replaced))
    if SECOND not in state.daemon_sets:
        second = daemonsets.second_daemon_set(original(state).raw, aim.lock)
        yield _step(f"make the DaemonSet {SECOND}", kubectl.create(second))


def _mode_of(config: ConfigMap) -> str:
    return config_text.read(config.config or "").effective_mode


def _kept_away(state: View, kubectl: Kubectl, aim: Aim) -> Iterator[Change]:
    found = original(state)
    if not daemonsets.is_held(found.raw):
        away = daemonsets.kept_away(found.raw, aim.lock)
        yield _step(f"keep {ORIGINAL} away from labelled nodes", kubectl.replace(away))


def _new_mode(state: View, kubectl: Kubectl, node: Node, aim: Aim) -> Iterator[Change]:
    found = original_map(state)
    changed = daemonsets.edited_config_map(found.raw, wish_of(state, node, aim.to))
    if changed["data"] != found.raw.get("data"):
        yield _step(f"give the ConfigMap {ORIGINAL} the new mode", kubectl.replace(changed))


def _changed_map(state: View, kubectl: Kubectl, node: Node, aim: Aim) -> Iterator[Change]:
    found = original_map(state)
    old, new = both_texts(state, node, aim.to)
    if found.config == new and KEPT in found.annotations:
        return
    if found.config not in (old, new):
        raise NodeFailed(f"the ConfigMap {ORIGINAL} was changed by somebody else in the meantime")
    changed = copy.deepcopy(found.raw)
    changed["data"]["config.conf"] = new
    annotations = changed["metadata"].get("annotations") or {}
    changed["metadata"]["annotations"] = {**annotations, KEPT: old, RUN: aim.lock}
    yield _step(f"give the ConfigMap {ORIGINAL} the new mode", kubectl.replace(changed))


def _held(state: View, kubectl: Kubectl, aim: Aim) -> Iterator[Change]:
    found = original(state)
    if not daemonsets.is_held(found.raw):
        yield _step(
            f"hold the DaemonSet {ORIGINAL}",
            kubectl.replace(daemonsets.held(found.raw, aim.lock)),
        )


# --- after the last one ---------------------------------------------------------------------


def finished(state: View, kubectl: Kubectl, node: Node, aim: Aim, *, done: bool) -> list[Change]:
    """Return the steps after the last node, ``done`` where it came to its end.

    What serves no node any more goes, and only what is nodeprep's own.
    """
    steps: list[Change] = []
    if aim.strategy == "recreate":
        steps += _given_back_map(state, kubectl, node, aim, done=done)
        steps += _given_back(state, kubectl)
    elif not served_by_second(state):
        steps += _without_second(state, kubectl)
        steps += _given_back(state, kubectl)
    return [*steps, *_unlocked(state, kubectl, aim)]


def renewing(state: View, kubectl: Kubectl, aim: Aim) -> list[Change]:
    """Return the wait for the original's own rolling update, where ``finished`` has let it begin.

    Its template was another while nodes were kept away from it.
    """
    found = original(state)
    rolls = daemonsets.restored(found.raw)["spec"].get("updateStrategy", {}).get("type")
    if aim.strategy == "recreate" or not daemonsets.is_held(found.raw) or served_by_second(state):
        return []
    if rolls == "OnDelete":
        return []
    command = kubectl.system("rollout", "status", f"daemonset/{ORIGINAL}", "--timeout=10m")
    return [_step(f"wait until {ORIGINAL} has renewed its pods by itself", Script(command))]


def _given_back_map(
    state: View, kubectl: Kubectl, node: Node, aim: Aim, *, done: bool
) -> Iterator[Change]:
    found = original_map(state)
    if KEPT not in found.annotations:
        return
    old, new = both_texts(state, node, aim.to)
    changed = copy.deepcopy(found.raw)
    metadata = changed["metadata"]
    for name in (KEPT, RUN):
        metadata["annotations"].pop(name, None)
    if not metadata["annotations"]:
        del metadata["annotations"]
    told = "with the new mode"
    if not done:
        # What somebody else wrote meanwhile is theirs.
        told = "as it was" if found.config in (old, new) else "as somebody changed it"
        changed["data"]["config.conf"] = old if found.config == new else found.config
    yield _step(f"leave the ConfigMap {ORIGINAL} {told}", kubectl.replace(changed))


def _given_back(state: View, kubectl: Kubectl) -> Iterator[Change]:
    found = original(state)
    if daemonsets.is_held(found.raw):
        yield _step(
            f"leave the DaemonSet {ORIGINAL} as it was",
            kubectl.replace(daemonsets.restored(found.raw)),
        )


def _without_second(state: View, kubectl: Kubectl) -> Iterator[Change]:
    for kind, objects in (("daemonset", state.daemon_sets), ("configmap", state.config_maps)):
        found = objects.get(SECOND)
        if found is not None and found.labels.get(MANAGED_BY[0]) == MANAGED_BY[1]:
            command = kubectl.system("delete", kind, SECOND, "--ignore-not-found", "--wait=false")
            yield _step(f"take the {kind} {SECOND} away", Script(command))


def _unlocked(state: View, kubectl: Kubectl, aim: Aim) -> Iterator[Change]:
    if lease.standing(state.lease, aim.lock) == "ours":
        command = kubectl.system("delete", "lease", LEASE, "--ignore-not-found", "--wait=false")
        yield _step("give the cluster's lock back", Script(command))


# --- in the meantime ------------------------------------------------------------------------


def disturbed(state: View, aim: Aim) -> Iterator[str]:
    """Say what others did to the objects in the meantime: a ``kubeadm upgrade`` is known by it."""
    if lease.standing(state.lease, aim.lock) != "ours":
        yield f"the cluster's lock, the lease {LEASE}, is no longer this roll's"
    found = original(state)
    second = state.daemon_sets.get(SECOND)
    if (aim.strategy == "recreate" or second is not None) and not daemonsets.is_held(found.raw):
        yield f"the DaemonSet {ORIGINAL} was written anew by somebody, as kubeadm upgrade does"
    elif second is not None and second.images != found.images:
        yield (
            f"the DaemonSet {ORIGINAL} has the image {' '.join(found.images)}, "
            f"and {SECOND} still has {' '.join(second.images)}: was the cluster upgraded?"
        )


def _step(summary: str, action: Script) -> Change:
    return Change(
        topic=node_steps.NAME, subject="cluster", summary=summary, action=action, place="cluster"
    )
