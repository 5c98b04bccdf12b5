"""The imperative shell: what a command does to the nodes, one after another line by line.

Everything that decides is pure and lives below; here are the clock, the secrets and the sessions.
A node that fails is an :class:`~nodeprep.model.Outcome` with an error, never an exception, so
that it hides no other node.
"""

import contextlib
import dataclasses
import getpass
import itertools
import secrets
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nodeprep import apply as apply_
from nodeprep import cluster_steps, executors, plan, processes, story, verify
from nodeprep.credentials import Passwords, with_kubeconfig
from nodeprep.errors import (
    FactError,
    NodeprepError,
    UsageError,
)
from nodeprep.kubernetes import kubectl as kubectl_
from nodeprep.kubernetes import look
from nodeprep.kubernetes.kubectl import Kubectl
from nodeprep.kubernetes.matching import match
from nodeprep.kubernetes.share import Share, share
from nodeprep.kubernetes.view import View
from nodeprep.model import Change, Fact, Inventory, Node, Outcome
from nodeprep.rollout.gates import Questions
from nodeprep.shell import whole
from nodeprep.story import Topic
from nodeprep.topics import daemonset
from nodeprep.transport import Limits, Session, ask_here, connect
from nodeprep.visits import (
    Apply,
    Connect,
    Inquiry,
    Plan,
    Task,
    Verify,
    Visitor,
    Weigh,
    read,
    unpacked,
)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The way to a cluster whose DaemonSet runs kube-proxy.

    ``through`` is the node that kubectl runs on, ``None`` for the operator's own here. ``nodes``
    are all of the inventory's that the cluster should have, whichever are chosen.
    """

    kubectl: Kubectl
    through: Node | None
    nodes: tuple[Node, ...]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a command runs: which topics (none for all), how many nodes at once, how long.

    ``instead`` are topics that are none of the story's, to be asked in their place. ``cluster`` is
    asked once, for the nodes whose kube-proxy a DaemonSet runs. ``keep_facts`` is for reports that
    show more than findings.

    Nodes are visited by threads of this process, over ways that ``connect`` opens, if it is there;
    ``spread`` sends visits elsewhere, where they can be sent.
    """

    topics: tuple[str, ...] = ()
    instead: tuple[Topic, ...] = ()
    parallel: int = 25
    limits: Limits = field(default_factory=Limits)
    passwords: Passwords = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)
    cluster: Cluster | None = None
    keep_facts: bool = False
    connect: Connect | None = None
    spread: "Spread | None" = None

    @property
    def chapters(self) -> tuple[Topic, ...]:
        """The chosen topics in the order of the story."""
        return self.instead or story.chapters(self.topics)


Spread = Callable[[Visitor, Sequence[Node], int, threading.Event], Iterator[Outcome]]
"""Does a visitor's task elsewhere, at so many nodes at once, until it is stopped; outcomes come
packed."""


# --- the verbs ------------------------------------------------------------------------------


def verify_nodes(nodes: Sequence[Node], options: Options) -> Iterator[Outcome]:
    """Read every node once and judge it; nothing is changed."""
    return over(nodes, options, Verify(inquiry=_inquiry(nodes, options)))


def weigh_nodes(nodes: Sequence[Node], options: Options) -> Iterator[Outcome]:
    """Count once what the data plane of every node carries; nothing is changed."""
    return over(nodes, options, Weigh(limits=options.limits))


def plan_nodes(nodes: Sequence[Node], options: Options) -> Iterator[Outcome]:
    """Read every node once and say what an apply would do; nothing is changed."""
    return over(nodes, options, Plan(inquiry=_inquiry(nodes, options)))


def apply_nodes(
    nodes: Sequence[Node], options: Options, saved: Mapping[str, Any] | None = None
) -> Iterator[Outcome]:
    """Make every node as it should be, and read it again.

    With a ``saved`` plan (see ``plan.document``) a node that is no longer as the plan saw it is
    left alone. A node with nothing to do is read once and not touched.
    """
    run = apply_.Run(id=run_id(), operator=operator())
    known = [node for node in nodes if saved is None or plan.knows(saved, node)]
    left_alone = [
        Outcome(node=node, error=plan.not_in_it(node))
        for node in nodes
        if saved is not None and not plan.knows(saved, node)
    ]
    task = Apply(inquiry=_inquiry(known, options), run=run, saved=saved)
    return itertools.chain(left_alone, over(known, options, task))


def _inquiry(nodes: Sequence[Node], options: Options) -> Inquiry:
    return Inquiry(
        topics=options.topics,
        instead=options.instead,
        limits=options.limits,
        shares=_shares(nodes, options),
        keep_facts=options.keep_facts,
    )


def over(
    nodes: Sequence[Node], options: Options, task: Callable[[Node, Session], Outcome]
) -> Iterator[Outcome]:
    """Do a task over a session with each node, and yield what came of it; nothing is raised.

    Raises UsageError before any node is visited where a file of this machine cannot be read.
    """
    visitor = Visitor(
        task=task,
        connect=options.connect or connect,
        limits=options.limits,
        passwords=options.passwords,
    )
    if options.spread is not None and isinstance(task, Task):
        known = {node.name: node for node in nodes}
        came = options.spread(visitor, nodes, options.parallel, options.stop)
        return (unpacked(outcome, known) for outcome in came)
    _check_kubeconfigs(nodes)
    return executors.threads(visitor, nodes, options.parallel, options.stop)


def in_processes(count: int) -> Spread:
    """Return what spreads visits over so many processes of this machine."""

    def spread(
        visitor: Visitor, nodes: Sequence[Node], parallel: int, stop: threading.Event
    ) -> Iterator[Outcome]:
        _check_kubeconfigs(nodes)
        return processes.processes(visitor.luggage, nodes, parallel, stop, count=count)

    return spread


def _check_kubeconfigs(nodes: Sequence[Node]) -> None:
    for node in {node.desired.kube_proxy.kubeconfig_from: node for node in nodes}.values():
        with_kubeconfig(node)


# --- the cluster ----------------------------------------------------------------------------


def asks_cluster(nodes: Iterable[Node], topics: Sequence[str]) -> bool:
    """Tell whether the cluster has to be asked for what is wanted of these nodes."""
    wanted = any(topic is daemonset for topic in story.chapters(topics))
    return wanted and any(node.desired.kube_proxy.is_pod for node in nodes)


def cluster_of(inventory: Inventory, nodes: Sequence[Node]) -> Cluster:
    """Return the way to an inventory's cluster; ``nodes`` are the chosen ones.

    Raises UsageError where the inventory does not say where kubectl is.
    """
    kubectl = kubectl_.chosen(inventory)
    # Of a node that is chosen, the way that was chosen with it counts: it may be this machine.
    ways = {node.name: node for node in (*inventory.nodes, *nodes)}
    return Cluster(
        kubectl=kubectl,
        through=ways[kubectl.on] if kubectl.on else None,
        nodes=tuple(node for node in inventory.nodes if node.desired.kube_proxy.is_pod),
    )


def speakers(inventory: Inventory) -> tuple[Node, ...]:
    """Return the node that kubectl runs on, where there is one that is needed."""
    if not any(node.desired.kube_proxy.is_pod for node in inventory.nodes):
        return ()
    with contextlib.suppress(UsageError):
        on = kubectl_.chosen(inventory).on
        return tuple(node for node in inventory.nodes if node.name == on)
    return ()


def look_at(cluster: Cluster, options: Options) -> View:
    """Read a cluster's kube-proxies once; nothing is changed.

    Raises FactError with kubectl's words where it could not, Unreachable where its node is lost.
    """
    script = look.script(cluster.kubectl)
    if cluster.through is None:
        answer = ask_here(whole(script), options.limits.probe)
        return look.parse(answer.decode("utf-8", "backslashreplace"))
    fact = Fact(name="cluster.view", script=lambda _: script, parse=look.parse)
    opened = (options.connect or connect)(cluster.through, options.limits, options.passwords)
    with opened as session:
        return read(cluster.through, session, (Questions(FACTS=(fact,)),), options.limits)[fact]


def _shares(nodes: Sequence[Node], options: Options) -> Mapping[str, Share]:
    """Return what the cluster says of each node, by its name; why it says nothing counts too."""
    asked = [node for node in nodes if node.desired.kube_proxy.is_pod]
    if options.cluster is None or not asked:
        return {}
    try:
        seen = look_at(options.cluster, options)
    except NodeprepError as error:
        share_of_all = _unread(options.cluster.kubectl, error)
        return {node.name: share_of_all for node in asked}
    matches = match(options.cluster.nodes, seen.nodes)
    return {
        node.name: share(seen, matches, node, tells_strangers=node is asked[0]) for node in asked
    }


def _unread(kubectl: Kubectl, error: NodeprepError) -> Share:
    where = f"on {kubectl.on}" if kubectl.on else "here"
    if not isinstance(error, FactError):
        return Share(trouble=f"kubectl {where}: {error.message}", hint=error.hint)
    # The hint has what kubectl said, and there is a command that says it again.
    said = error.hint.splitlines()[-1:]
    told = ": ".join((f"kubectl {where}", error.message, *said))
    return Share(trouble=told, hint=f"{where}: {kubectl.words('get', 'nodes')}")


def change_cluster(session: Session, changes: Sequence[Change], limits: Limits) -> None:
    """Make ``changes`` where ``kubectl`` runs, up to the first that fails.

    Raises NodeFailed with its words.
    """
    nonce = secrets.token_hex(8)
    output = session.run(cluster_steps.script(changes, nonce), limits.apply)
    cluster_steps.check(output, changes, nonce)


# --- names --------------------------------------------------------------------------------


def local_node(nodes: Sequence[Node]) -> Node:
    """Return the one of ``nodes`` that this machine is, to be reached without SSH.

    Raises UsageError where neither this machine's name nor a ``--limit`` to one node says which.
    """
    names = {socket.gethostname(), socket.gethostname().partition(".")[0], "localhost"}
    mine = [node for node in nodes if node.name in names] if len(nodes) > 1 else list(nodes)
    if len(mine) != 1:
        raise UsageError(
            f"no single node of the inventory is this machine ({socket.gethostname()})",
            hint="nodeprep ... --local --limit NAME",
        )
    return dataclasses.replace(mine[0], address="local")


def run_id() -> str:
    """Return an id that begins with the time, and that no other run has."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def operator() -> str:
    """Return who runs this, and where."""
    return f"{getpass.getuser()}@{socket.gethostname()}"


# --- the whole ------------------------------------------------------------------------------


def exit_code(outcomes: Iterable[Outcome], *, wanted: Callable[[Outcome], bool]) -> int:
    """Return the honest exit code of a run: the gravest of its nodes.

    An interrupt outweighs an unreachable node, that a stale plan or a lock, and that a node that
    is not as it should be.
    """
    codes = {_code(outcome, wanted) for outcome in outcomes}
    return next((code for code in (130, 5, 4, 3, 2, 1) if code in codes), 0)


def _code(outcome: Outcome, wanted: Callable[[Outcome], bool]) -> int:
    if outcome.error is not None:
        return outcome.error.exit_code
    return 0 if wanted(outcome) else 1


def is_ready(outcome: Outcome) -> bool:
    """Tell whether nothing that the inventory wants is missing."""
    return verify.ready(outcome.findings)


def is_done(outcome: Outcome) -> bool:
    """Tell whether nothing is missing, and there is nothing to be done."""
    return not outcome.changes and is_ready(outcome)
