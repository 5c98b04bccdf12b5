"""kube-proxy as a DaemonSet: what each verb of a roll does on such a node, and in its cluster.

The node's own half is what it is on every node: old rules stand until the new mode's are seen, a
bridge leads from one mode to the other, and what kube-proxy left goes piece by piece. Only the way
to another process is the cluster's: see :mod:`nodeprep.rollout.exchange`.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from nodeprep.errors import LockHeld, NodeFailed, NodeprepError
from nodeprep.kubernetes import look
from nodeprep.kubernetes.daemonsets import HERE
from nodeprep.kubernetes.kubectl import Kubectl
from nodeprep.kubernetes.view import ProxyPod, View
from nodeprep.model import Change, Fact, Facts, Finding, Node, Status
from nodeprep.releases import Version, parse_version
from nodeprep.rollout import cluster_objects, exchange, gates, node_steps, systemd, way_back
from nodeprep.rollout.exchange import Exchange
from nodeprep.rollout.machine import Verb
from nodeprep.rollout.node_steps import current, step, with_library
from nodeprep.rollout.switching import Aim
from nodeprep.rollout.way_back import Trip
from nodeprep.shell import Script
from nodeprep.story import Topic
from nodeprep.topics import proxy_mode

VIEW = "kubernetes.view"
"""The fact's name: what ``kubectl`` said of the cluster."""

OF_THE_CLUSTER: tuple[Verb, ...] = ("switch", "clean", "back")
"""The verbs around which the cluster is asked: where its pods change, and before the soak."""


def seen(facts: Facts) -> View:
    """Return what ``kubectl`` said last. Raises NodeFailed where it was not asked."""
    found = facts.values.get(VIEW)
    if not isinstance(found, View):
        raise NodeFailed("the cluster was not asked")
    return found


@dataclass(frozen=True, kw_only=True)
class InCluster:
    """The contract of ``switching.Kind`` for nodes whose kube-proxy is a pod.

    ``guarded`` says that kubectl runs on a machine of the cluster's, which can keep the cluster's
    half of a way back; an operator's own machine cannot be left to do that.
    """

    kubectl: Kubectl
    guarded: bool = True

    def topics(self, verb: Verb, aim: Aim, *, planned: bool) -> Sequence[Topic]:  # noqa: ARG002 a plan asks for no more
        """Return what the gates want to see of the node itself."""
        if verb == "settle":
            return (gates.kept(aim),)
        return (proxy_mode, gates.watch(aim))

    def cluster_topics(self, verb: Verb, _: Aim, *, planned: bool) -> Sequence[Topic]:
        """Return the question for the cluster's objects, where they change.

        Its nodes matter only to a plan: each part that is asked is a call of kubectl.
        """
        if verb not in OF_THE_CLUSTER:
            return ()
        return (self.question(look.PARTS if planned else ("objects", "pods")),)

    def question(self, parts: Sequence[look.Part] = look.PARTS) -> Topic:
        """Return the question that :func:`seen` answers."""
        fact = Fact(
            name=VIEW,
            script=lambda _: look.script(self.kubectl, parts),
            parse=lambda text: look.parse(text, parts),
        )
        return gates.Questions(FACTS=(fact,))

    def changes(self, verb: Verb, node: Node, facts: Facts, aim: Aim) -> Sequence[Change]:
        """Return the steps of ``verb``; none where the node is past it."""
        if verb == "back" and not way_back.kept(facts).state:
            # Nothing was exchanged, but the node may be cordoned.
            return self._forgotten(aim)
        if verb != "switch" and not way_back.kept(facts).state:
            return ()
        gone = current(facts)
        if gone is None:
            return ()
        trip = node_steps.trip(aim, gone)
        if verb == "switch":
            return self._switch(node, facts, aim, trip)
        steps = with_library(node, trip, node_steps.later(verb, facts, trip))
        match verb:
            case "back":
                return self._back(node, facts, aim, trip, steps)
            case "settle":
                # Between the two halves neither of them is left armed alone.
                ended = self._in_cluster(aim, "end the cluster's dead man's switch", "stop_watch")
                return (*ended, *steps, *self._forgotten(aim)) if steps else ()
            case _:
                return (*self._renewed(aim), *steps)

    def _switch(self, node: Node, facts: Facts, aim: Aim, trip: Trip) -> Sequence[Change]:
        if way_back.kept(facts).state in ("", "settled") and arrived(facts, aim):
            return ()
        job = exchange_of(self._job(aim), seen(facts), node, aim)
        library = exchange.library(self.kubectl, job)
        kept = [("keep the cluster's half of the way back", exchange.keep(self.kubectl, job))]
        # Whoever is drained may take longer than any dead man's switch waits.
        drained = [(f"drain {job.node}", Script(f"drain {aim.drain}"))] if aim.drain else []
        renewed = [(_RENEWED, Script("renew"))] if self.guarded else []
        exchanged = (f"exchange the pod of {job.node}", Script("exchange"))
        waits = (
            node_steps.RENEW,
            step("wait for another kube-proxy", "another", "wait_for_another_proxy"),
            node_steps.RENEW,
            *node_steps.after_another(trip),
        )
        return (
            *_placed(library, [*kept, *drained]),
            *with_library(node, trip, node_steps.before_another(node, facts, aim, trip)),
            *_placed(library, [*renewed, exchanged, *renewed]),
            *with_library(node, trip, waits),
        )

    def _back(
        self, node: Node, facts: Facts, aim: Aim, trip: Trip, steps: Sequence[Change]
    ) -> Sequence[Change]:
        job = exchange_of(self._job(aim), seen(facts), node, aim)
        given = self._in_cluster(aim, f"give {job.node} its old pod back", _GIVE_BACK, job)
        if not steps:
            # The node went back by itself; whether the cluster did is not to be known from there.
            return (*given, *self._forgotten(aim))
        bridge = step("bridge the services on the way back", "bridge", "bridge_back")
        return (
            *with_library(node, trip, [bridge]),
            *given,
            *steps,
            *self._forgotten(aim),
        )

    def _renewed(self, aim: Aim) -> Sequence[Change]:
        return self._in_cluster(aim, _RENEWED, "renew") if self.guarded else ()

    def _forgotten(self, aim: Aim) -> Sequence[Change]:
        return self._in_cluster(aim, "forget the cluster's half of the way back", "disarm")

    def _in_cluster(
        self, aim: Aim, summary: str, action: str, job: Exchange | None = None
    ) -> Sequence[Change]:
        library = exchange.library(self.kubectl, job or self._job(aim))
        return _placed(library, [(summary, Script(action))])

    def _job(self, aim: Aim) -> Exchange:
        return Exchange(
            run=aim.run,
            node=aim.cluster_node,
            dead_man=aim.dead_man,
            gate_limit=aim.gate_limit,
            label="",
            guarded=self.guarded,
        )

    def findings(self, verb: Verb, node: Node, facts: Facts, aim: Aim) -> Sequence[Finding]:
        """Return the gates after ``verb``."""
        running: list[Finding] = []
        if verb != "settle":
            running.append(_process(facts))
        if verb in OF_THE_CLUSTER:
            running += _pods(seen(facts), aim, verb)
        return gates.findings(verb, node, facts, aim, running)

    def pending(self, verb: Verb, facts: Facts, aim: Aim) -> int:
        """Return what is waited for, as on a node with a unit."""
        return systemd.Systemd().pending(verb, facts, aim)


_RENEWED = "renew the cluster's dead man's switch"

# Before anything was exchanged nothing is kept, and nothing is to be given back.
_GIVE_BACK = '[ ! -e "$record/way-back" ] || give_back'


def _placed(library: Script, steps: Sequence[tuple[str, Script]]) -> Sequence[Change]:
    known = ("the steps of an exchange", library)
    return tuple(
        Change(
            topic=node_steps.NAME,
            subject="cluster",
            summary=summary,
            action=action,
            place="cluster",
        )
        for summary, action in (known, *steps)
    )


# --- where a node is, and where it goes -----------------------------------------------------


def arrived(facts: Facts, aim: Aim) -> bool:
    """Tell whether the node has the mode from the pod that is to give it."""
    state = seen(facts)
    if facts[proxy_mode.EFFECTIVE].mode != aim.to:
        return False
    if aim.strategy == "recreate":
        return cluster_objects.original_mode(state) == aim.to
    wanted = "original" if aim.home else cluster_objects.server_of(state, aim.to)
    return cluster_objects.served_by(state, aim.cluster_node) == wanted


def exchange_of(made: Exchange, state: View, node: Node, aim: Aim) -> Exchange:
    """Return the exchange that takes a node where its aim says, and back to where it came from."""
    made = dataclasses.replace(made, old_pod=aim.old_pod)
    if aim.strategy == "recreate":
        old, new = cluster_objects.both_texts(state, node, aim.to)
        return dataclasses.replace(made, label=None, old_config=old, new_config=new)
    labels = {"original": "", "second": HERE}
    target = "original" if aim.home else cluster_objects.server_of(state, aim.to)
    return dataclasses.replace(made, label=labels[target], old_label=aim.old_label)


# --- before a roll --------------------------------------------------------------------------


def needed(node: Node, facts: Facts, aim: Aim) -> tuple[Finding, ...]:
    """Return what is missing in the cluster for this node to be switched."""
    state = seen(facts)
    pods = state.pods_on(aim.cluster_node)
    found: list[Finding] = []
    if len(pods) != 1 or not pods[0].ready:
        told = ", ".join(f"{pod.name} {pod.waiting or pod.phase}" for pod in pods) or "none"
        served = cluster_objects.served_by(state, aim.cluster_node)
        hint = _PODS if served else _AWAY % aim.cluster_node
        found.append(gates.finding("pod", Status.FAIL, told, "one pod that is ready", hint))
    if aim.dead_man < 2 * aim.gate_limit:
        actual, wanted = f"{aim.dead_man} s", f"twice the --gate-limit of {aim.gate_limit} s"
        hint = f"--dead-man {2 * aim.gate_limit}s"
        found.append(gates.finding("dead man's switch", Status.FAIL, actual, wanted, hint))
    try:
        cluster_objects.prepared(state, Kubectl(), node, aim)
        found += _unready(state, facts, aim)
    except NodeprepError as error:
        name = "in hand" if isinstance(error, LockHeld) else "cluster"
        found.append(gates.finding(name, Status.FAIL, error.message, hint=error.hint or ""))
    return tuple(found)


def _unready(state: View, facts: Facts, aim: Aim) -> list[Finding]:
    """Say why a label does not bring this node to the mode, where it does not."""
    if aim.strategy != "canary" or aim.home or facts[proxy_mode.EFFECTIVE].mode == aim.to:
        return []
    wanted = cluster_objects.server_of(state, aim.to)
    if cluster_objects.served_by(state, aim.cluster_node) != wanted:
        return []
    actual = f"its DaemonSet has {aim.to} already, but this pod began before that"
    return [gates.finding("pod", Status.FAIL, actual, hint="--strategy recreate deletes it")]


def release(facts: Facts, aim: Aim) -> Version | None:
    """Return the release that the pod's image names."""
    pods = seen(facts).pods_on(aim.cluster_node)
    return parse_version(pods[0].image.rpartition(":")[2]) if pods else None


# --- the gates ------------------------------------------------------------------------------


def _process(facts: Facts) -> Finding:
    runs = way_back.kept(facts).process.split(" ")[1:2] not in ([], ["0"])
    status = Status.OK if runs else Status.FAIL
    hint = "kubectl -n kube-system get pods -l k8s-app=kube-proxy -o wide"
    return gates.finding("kube-proxy", status, "runs" if runs else "no process", "one", hint)


def _pods(state: View, aim: Aim, verb: Verb) -> list[Finding]:
    pods = state.pods_on(aim.cluster_node)
    if len(pods) != 1:
        told = ", ".join(pod.name for pod in pods) or "none"
        return [gates.finding("pod", Status.FAIL, told, "one pod of kube-proxy", _PODS)]
    wrong = _wrong(pods[0], aim, verb)
    status = Status.FAIL if wrong else Status.OK
    actual = f"{pods[0].name}: {wrong}" if wrong else pods[0].name
    return [
        gates.finding("pod", status, actual, "a new one that runs", _PODS),
        *(
            gates.finding("cluster", Status.FAIL, told, "as nodeprep left it", _OBJECTS)
            for told in cluster_objects.disturbed(state, aim)
        ),
    ]


def _wrong(pod: ProxyPod, aim: Aim, verb: Verb) -> str:
    if pod.deleting:
        return "is being deleted"
    if not pod.ready:
        return pod.waiting or pod.phase or "not ready"
    return "the old one" if verb != "back" and pod.uid == aim.old_pod else ""


_AWAY = (
    "nodeprep switch --resume the roll that left it so; or, once that is dead: "
    "kubectl label node %s nodeprep.io/kube-proxy-"
)
_PODS = "kubectl -n kube-system get pods -o wide"
_OBJECTS = "kubectl -n kube-system get daemonset,configmap -o yaml"
