"""The imperative shell: what a command does to the nodes, one after another line by line.

Everything that decides is pure and lives below; here are the clock, the secrets and the sessions.
A node that fails is an :class:`~nodeprep.model.Outcome` with an error, never an exception, so
that it hides no other node.
"""

import dataclasses
import getpass
import itertools
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from nodeprep import apply as apply_
from nodeprep import cluster_steps, executors, plan, probe, story, verify
from nodeprep.dataplane import judging
from nodeprep.errors import (
    DeadlinePassed,
    LoginRefused,
    NodeFailed,
    NodeprepError,
    Unreachable,
    UsageError,
)
from nodeprep.model import Change, Facts, Node, Outcome, StepResult
from nodeprep.shell import Secret
from nodeprep.story import Topic
from nodeprep.transport import Limits, Passwords, Session, connect


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a command runs: which topics (none for all), how many nodes at once, how long.

    ``instead`` are topics that are none of the story's, to be asked in their place.
    """

    topics: tuple[str, ...] = ()
    instead: tuple[Topic, ...] = ()
    parallel: int = 25
    limits: Limits = field(default_factory=Limits)
    passwords: Passwords = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def chapters(self) -> tuple[Topic, ...]:
        """The chosen topics in the order of the story."""
        return self.instead or story.chapters(self.topics)


# --- the verbs ------------------------------------------------------------------------------


def verify_nodes(nodes: Sequence[Node], options: Options) -> Iterator[Outcome]:
    """Read every node once and judge it; nothing is changed."""

    def work(node: Node, session: Session) -> Outcome:
        facts = read(node, session, options.chapters, options.limits)
        return Outcome(
            node=node, facts=facts, findings=verify.findings(node, facts, options.chapters)
        )

    return over(nodes, options, work)


def weigh_nodes(nodes: Sequence[Node], options: Options) -> Iterator[Outcome]:
    """Count once what the data plane of every node carries; nothing is changed."""

    def work(node: Node, session: Session) -> Outcome:
        facts = read(node, session, (judging.QUESTIONS,), options.limits)
        return Outcome(node=node, facts=facts, findings=judging.findings(node, facts))

    return over(nodes, options, work)


def plan_nodes(nodes: Sequence[Node], options: Options) -> Iterator[Outcome]:
    """Read every node once and say what an apply would do; nothing is changed."""

    def work(node: Node, session: Session) -> Outcome:
        facts = read(node, session, options.chapters, options.limits)
        changes = plan.changes(node, facts, options.chapters)
        findings = verify.findings(node, facts, options.chapters)
        return Outcome(node=node, facts=facts, changes=changes, findings=findings)

    return over(nodes, options, work)


def apply_nodes(
    nodes: Sequence[Node], options: Options, saved: Mapping[str, Any] | None = None
) -> Iterator[Outcome]:
    """Make every node as it should be, and read it again.

    With a ``saved`` plan (see ``plan.document``) a node that is no longer as the plan saw it is
    left alone. A node with nothing to do is read once and not touched.
    """
    run = apply_.Run(id=run_id(), operator=operator())

    def before(node: Node) -> None:
        if saved is not None:
            plan.knows(saved, node)

    def work(node: Node, session: Session) -> Outcome:
        facts = read(node, session, options.chapters, options.limits)
        changes = plan.changes(node, facts, options.chapters)
        if saved is not None:
            plan.expect(saved, node, changes)
        if not changes:
            findings = verify.findings(node, facts, options.chapters)
            return Outcome(node=node, facts=facts, findings=findings)
        return change(
            node, session, changes, topics=options.chapters, run=run, limits=options.limits
        )

    return over(nodes, options, work, before)


# --- one node -------------------------------------------------------------------------------


def read(node: Node, session: Session, topics: Sequence[Topic], limits: Limits) -> Facts:
    """Ask ``node`` all questions of ``topics`` in one session."""
    nonce = secrets.token_hex(8)
    script = probe.script(node, topics, nonce)
    return probe.parse(session.run(script, limits.probe), node, topics, nonce)


def change(
    node: Node,
    session: Session,
    changes: Sequence[Change],
    *,
    topics: Sequence[Topic],
    run: apply_.Run,
    limits: Limits,
) -> Outcome:
    """Make ``changes`` on ``node`` and read it again, in one session; a failed step is an error.

    Raises LockHeld, StalePlan or NodeFailed where nothing was changed.
    """
    nonce = secrets.token_hex(8)
    script = apply_.script(node, changes, topics, run, nonce)
    try:
        output = session.run(script, limits.apply)
    except Unreachable as error:
        steps = apply_.how_far(error.output, changes, nonce)
        return Outcome(node=node, changes=tuple(changes), steps=steps, error=_lost(error))
    steps, log = apply_.parse(output, changes, nonce)
    facts = probe.parse(output, node, topics, nonce)
    return Outcome(
        node=node,
        facts=facts,
        changes=tuple(changes),
        steps=steps,
        findings=verify.findings(node, facts, topics),
        log=log,
        error=_failed(steps, log),
    )


def change_cluster(session: Session, changes: Sequence[Change], limits: Limits) -> None:
    """Make ``changes`` where ``kubectl`` runs, up to the first that fails.

    Raises NodeFailed with its words.
    """
    nonce = secrets.token_hex(8)
    output = session.run(cluster_steps.script(changes, nonce), limits.apply)
    cluster_steps.check(output, changes, nonce)


def _lost(error: Unreachable) -> Unreachable:
    if isinstance(error, DeadlinePassed):
        hint = "the node ends it at the same limit (--deadline); its log: /var/lib/nodeprep/log"
    else:
        hint = "the node goes on by itself; run apply again: it finishes what is left"
    return type(error)(f"{error.message}, in the middle of changing the node", hint=hint)


def _failed(steps: Iterable[StepResult], log: str) -> NodeprepError | None:
    broken = next((step for step in steps if step.exit_status not in (0, None)), None)
    if broken is None:
        return None
    said = [line.strip() for line in log.splitlines() if line.strip()][1:]
    return NodeFailed(
        f"could not {broken.change.summary}: {said[-1] if said else 'it said nothing'}",
        hint="the log on the node: /var/lib/nodeprep/log",
    )


def over(
    nodes: Sequence[Node],
    options: Options,
    work: Callable[[Node, Session], Outcome],
    before: Callable[[Node], None] = lambda _: None,
) -> Iterator[Outcome]:
    """Do ``work`` over a session with each node, and yield what came of it; nothing is raised."""
    refused: set[str] = set()

    def guarded(node: Node) -> Outcome:
        began = time.monotonic()
        try:
            before(node)
            _not_refused(node, refused)
            with connect(node, options.limits, options.passwords) as session:
                outcome = work(node, session)
        except NodeprepError as error:
            if node.sudo.password and isinstance(error, LoginRefused) and "sudo" in error.message:
                refused.add(node.sudo.password)
            outcome = Outcome(node=node, error=error)
        except Exception as error:  # noqa: BLE001 a defect on one node must not hide the others
            told = f"nodeprep itself failed here: {type(error).__name__}: {error}"
            outcome = Outcome(node=node, error=NodeFailed(told, hint="please report this"))
        return dataclasses.replace(outcome, seconds=time.monotonic() - began)

    ready = [with_kubeconfig(node) for node in nodes]
    return executors.threads(guarded, ready, options.parallel, options.stop)


def _not_refused(node: Node, refused: set[str]) -> None:
    # A wrong password tried on every node would lock an account that all of them share.
    if node.sudo.password in refused:
        raise LoginRefused("not tried: sudo refused this password on another node")


# --- secrets and names ----------------------------------------------------------------------


def with_kubeconfig(node: Node) -> Node:
    """Return ``node`` with the content of its kubeconfig, where the inventory names a file here.

    Raises UsageError where it cannot be read.
    """
    proxy = node.desired.kube_proxy
    if proxy.kubeconfig_from is None or proxy.style == "unmanaged":
        return node
    content = Secret(_read(proxy.kubeconfig_from, "kubeconfig_from"))
    desired = dataclasses.replace(
        node.desired, kube_proxy=dataclasses.replace(proxy, kubeconfig_content=content)
    )
    return dataclasses.replace(node, desired=desired)


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


def passwords(nodes: Sequence[Node]) -> Passwords:
    """Fetch each sudo password once, from where the inventory says it is.

    Raises UsageError where there is none to be had.
    """
    sources = {node.sudo.password for node in nodes if node.sudo.method == "password"}
    return {source: Secret(_password(source)) for source in sorted(sources)}


def _password(source: str) -> str:
    kind, _, place = source.partition(":")
    if kind in ("file", "fd"):
        text = _read(int(place) if kind == "fd" else place, "sudo: password", lines=1)
        if not text:
            raise UsageError(f"sudo: password: {source} is empty")
        return text.rstrip("\n")
    try:
        return getpass.getpass("sudo password on the nodes: ")
    except EOFError as error:
        raise UsageError(
            "no terminal to ask for the sudo password",
            hint="give it a `file` or a `descriptor` under `sudo: {password: ...}`",
        ) from error


def _read(path: str | int, setting: str, lines: int | None = None) -> str:
    try:
        # A number is a descriptor that is open already, and stays open.
        with open(path, closefd=not isinstance(path, int)) as stream:
            return "".join(itertools.islice(stream, lines))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{setting}: {path}: {error}") from error


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
