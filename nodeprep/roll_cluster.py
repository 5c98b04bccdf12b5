"""The cluster of a roll: where its ``kubectl`` runs, and what is done there before and after.

Only nodes whose kube-proxy is a DaemonSet's pod have one. Each step looks first: a roll that was
cut short anywhere begins here again.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import click

from nodeprep import console, rolling, runner, visits
from nodeprep.errors import NodeFailed, UsageError
from nodeprep.kubernetes.daemonsets import LABEL
from nodeprep.kubernetes.matching import match
from nodeprep.kubernetes.view import View
from nodeprep.model import Change, Facts, Inventory, Node
from nodeprep.rollout import cluster_objects, daemonset
from nodeprep.rollout.switching import Aim
from nodeprep.transport import OPERATOR, Session, connect


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Where kubectl runs: a node of the inventory's, or this machine as the operator uses it."""

    kind: daemonset.InCluster
    node: Node
    options: runner.Options

    def told(self, aim: Aim) -> tuple[str, ...]:
        """Return what a plan says of the cluster."""
        ways = {
            "canary": "a second DaemonSet takes over node by node, then all go home to the first",
            "recreate": "one ConfigMap changes, and each node's pod is deleted",
        }
        lines = [f"kubectl runs on {self.node.name}; {ways[aim.strategy or 'canary']}"]
        if aim.strategy == "recreate":
            lines.append("a pod that starts again by itself meanwhile takes the new mode")
        if not self.kind.guarded:
            lines.append("a node whose controller is gone stays as it is: kubectl runs here")
        return tuple(lines)

    def contact(self) -> rolling.Contact:
        """Return a way there that is not yet open."""
        options = self.options
        return rolling.Contact(
            node=self.node,
            limits=options.limits,
            passwords=options.passwords,
            way=options.connect,
        )

    def look(self) -> Facts:
        """Return what kubectl says now. Raises Unreachable, or FactError with its words."""
        with self._session() as session:
            return visits.read(self.node, session, (self.kind.question(),), self.options.limits)

    def _session(self) -> AbstractContextManager[Session]:
        options = self.options
        return (options.connect or connect)(self.node, options.limits, options.passwords)

    def prepare(self, node: Node, aim: Aim) -> None:
        """Make what the roll needs before its first node. Raises NodeFailed, LockHeld."""
        state = daemonset.seen(self.look())
        self._make(cluster_objects.prepared(state, self.kind.kubectl, node, aim))

    def finish(self, node: Node, aim: Aim, *, done: bool) -> None:
        """Take away what the roll no longer needs, and free the lock."""
        state, kubectl = daemonset.seen(self.look()), self.kind.kubectl
        self._make(cluster_objects.finished(state, kubectl, node, aim, done=done))
        try:
            self._make(cluster_objects.renewing(state, kubectl, aim))
        except NodeFailed as error:
            click.echo(f"cluster: it still does, by itself: {console.one_line(error.message)}")

    def refuse_locked(self, known: Facts, run: str) -> None:
        """Raise LockHeld where a roll that was cut short has the cluster's lock."""
        cluster_objects.refuse_locked(daemonset.seen(known), run)

    def _make(self, changes: Sequence[Change]) -> None:
        if not changes:
            return
        for change in changes:
            click.echo(f"cluster: {console.one_line(change.summary)}")
        with self._session() as session:
            runner.change_cluster(session, changes, self.options.limits)


def cluster_of(loaded: Inventory, nodes: Sequence[Node], options: runner.Options) -> Cluster | None:
    """Return the cluster of ``nodes``, ``None`` where each runs a kube-proxy of its own.

    Raises UsageError where the inventory does not say where kubectl is.
    """
    if not any(node.desired.kube_proxy.is_pod for node in nodes):
        return None
    way = runner.cluster_of(loaded, nodes)
    guarded = way.through is not None
    return Cluster(
        kind=daemonset.InCluster(kubectl=way.kubectl, guarded=guarded),
        node=way.through or Node(name="here", address=OPERATOR),
        options=options,
    )


def placed(nodes: Sequence[Node], aims: Mapping[str, Aim], state: View) -> Mapping[str, Aim]:
    """Return the aims with what the cluster knows of each node.

    Raises NodeFailed where a node is none of the cluster's, or may be more than one.
    """
    pods = [node for node in nodes if node.desired.kube_proxy.is_pod]
    matches = match(pods, state.nodes)
    if matches.missing:
        name, why = next(iter(matches.missing.items()))
        more = f" (and {len(matches.missing) - 1} more)" if len(matches.missing) > 1 else ""
        raise NodeFailed(
            f"{name}: {why}{more}",
            hint="set `hostname_override` to the node's name in the cluster",
        )
    return {**aims, **{node.name: _placed(aims[node.name], matches.found[node.name], state)
                       for node in pods}}  # fmt: skip


def refuse_part(nodes: Sequence[Node], aims: Mapping[str, Aim], state: View) -> None:
    """Raise UsageError where the one ConfigMap would change for nodes that are not in the roll."""
    taken = {aims[node.name].cluster_node for node in nodes}
    left = sorted({pod.node for pod in state.pods} - taken)
    if left and any(aim.strategy == "recreate" for aim in aims.values()):
        raise UsageError(
            f"--strategy recreate is for all nodes, and {', '.join(left[:3])} is not chosen",
            hint="take all nodes, or --strategy canary",
        )


def _placed(aim: Aim, name: str, state: View) -> Aim:
    pods = state.pods_on(name)
    found = state.node(name)
    return dataclasses.replace(
        aim,
        cluster_node=name,
        old_pod=pods[0].uid if len(pods) == 1 else "",
        holder=runner.operator(),
        old_label=found.labels.get(LABEL, "") if found else "",
    )


def by_second(nodes: Sequence[Node], state: View) -> tuple[Node, ...]:
    """Return the nodes that the second DaemonSet serves, if it serves every one of the cluster.

    There are none where it serves one that the inventory does not know.
    """
    if not cluster_objects.all_by_second(state):
        return ()
    pods = [node for node in nodes if node.desired.kube_proxy.is_pod]
    found = match(pods, state.nodes).found
    chosen = tuple(
        node
        for node in pods
        if cluster_objects.served_by(state, found.get(node.name, "")) == "second"
    )
    served = {pod.node for pod in state.pods}
    return chosen if {found[node.name] for node in chosen} == served else ()
