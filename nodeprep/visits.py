"""What is done at one node, from knocking to leaving: values that may travel to where it is done.

A task works over an open session. A :class:`Visitor` brings it to a node and comes back with an
:class:`~nodeprep.model.Outcome`, whatever happened: a node that fails hides no other.
"""

import contextlib
import dataclasses
import secrets
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

from nodeprep import apply as apply_
from nodeprep import plan, probe, story, verify
from nodeprep.credentials import Passwords, with_kubeconfig
from nodeprep.dataplane import judging
from nodeprep.errors import (
    DeadlinePassed,
    LockHeld,
    LoginRefused,
    NodeFailed,
    NodeprepError,
    Unreachable,
)
from nodeprep.kubernetes.share import CLUSTER, Share
from nodeprep.model import Change, Facts, Finding, Node, Outcome, Status, StepResult
from nodeprep.shell import Script, Secret
from nodeprep.story import Topic
from nodeprep.topics import system
from nodeprep.transport import Limits, Session, connect

NO_FACTS = Facts({})
"""What an outcome keeps of a node's facts once they are judged: ten thousand would not fit."""

LOCK_PAUSE = 2.0
"""Seconds between two looks at a lock that an earlier attempt of the same run still holds."""


# --- tasks ----------------------------------------------------------------------------------


@runtime_checkable
class Task(Protocol):
    """Something to be done at a node."""

    def __call__(self, node: Node, session: Session) -> Outcome:
        """Do it. Raises NodeprepError."""

    def narrowed(self, names: Collection[str]) -> Self:
        """Return the same with what it knows of these nodes alone, to be sent elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Inquiry:
    """What a node is asked: topics of the story by name (none for all), or others ``instead``.

    ``shares`` are what the cluster says of nodes, by name. ``keep_facts`` is for reports that show
    more than findings.
    """

    topics: tuple[str, ...] = ()
    instead: tuple[Topic, ...] = ()
    limits: Limits = field(default_factory=Limits)
    shares: Mapping[str, Share] = field(default_factory=dict)
    keep_facts: bool = False

    @property
    def chapters(self) -> tuple[Topic, ...]:
        """The chosen topics in the order of the story."""
        return self.instead or story.chapters(self.topics)

    def read(self, node: Node, session: Session) -> Facts:
        """Ask all of it in one session."""
        return self.with_share(node, read(node, session, self.chapters, self.limits))

    def with_share(self, node: Node, facts: Facts) -> Facts:
        """Return a node's facts with what the cluster says of it."""
        share = self.shares.get(node.name)
        return facts if share is None else facts.having(CLUSTER, share)

    def kept(self, outcome: Outcome) -> Outcome:
        """Return an outcome with no more facts than its report needs."""
        if self.keep_facts or outcome.facts is None:
            return outcome
        return dataclasses.replace(outcome, facts=NO_FACTS)

    def narrowed(self, names: Collection[str]) -> Self:
        """Return the same for these nodes alone."""
        shares = {name: share for name, share in self.shares.items() if name in names}
        return dataclasses.replace(self, shares=shares)


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Read a node once and judge it."""

    inquiry: Inquiry

    def __call__(self, node: Node, session: Session) -> Outcome:
        """See :class:`Task`."""
        facts = self.inquiry.read(node, session)
        findings = verify.findings(node, facts, self.inquiry.chapters)
        return self.inquiry.kept(Outcome(node=node, facts=facts, findings=findings))

    def narrowed(self, names: Collection[str]) -> Self:
        """See :class:`Task`."""
        return dataclasses.replace(self, inquiry=self.inquiry.narrowed(names))


@dataclass(frozen=True, kw_only=True)
class Weigh:
    """Count once what a node's data plane carries."""

    limits: Limits

    def __call__(self, node: Node, session: Session) -> Outcome:
        """See :class:`Task`."""
        facts = read(node, session, (judging.QUESTIONS,), self.limits)
        return Outcome(node=node, facts=facts, findings=judging.findings(node, facts))

    def narrowed(self, _: Collection[str]) -> Self:
        """See :class:`Task`."""
        return self


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Read a node once and say what an apply would do."""

    inquiry: Inquiry

    def __call__(self, node: Node, session: Session) -> Outcome:
        """See :class:`Task`."""
        facts, topics = self.inquiry.read(node, session), self.inquiry.chapters
        changes = plan.changes(node, facts, topics)
        findings = verify.findings(node, facts, topics)
        outcome = Outcome(node=node, facts=facts, changes=changes, findings=findings)
        return self.inquiry.kept(outcome)

    def narrowed(self, names: Collection[str]) -> Self:
        """See :class:`Task`."""
        return dataclasses.replace(self, inquiry=self.inquiry.narrowed(names))


@dataclass(frozen=True, kw_only=True)
class Apply:
    """Make a node as it should be and read it again; one with nothing to do is not touched.

    ``saved`` is the document of a saved plan: only what that says is done, where it still holds.
    """

    inquiry: Inquiry
    run: apply_.Run
    saved: Mapping[str, Any] | None = None

    def __call__(self, node: Node, session: Session) -> Outcome:
        """See :class:`Task`."""
        end = time.monotonic() + self.inquiry.limits.apply
        while True:
            try:
                return self.inquiry.kept(self._once(node, session))
            except LockHeld as error:
                # Whoever worked for this run before was lost in the middle: the node goes on by
                # itself, and what it has become is then read.
                if f"run {self.run.id} " not in error.message or time.monotonic() > end:
                    raise
                time.sleep(LOCK_PAUSE)

    def _once(self, node: Node, session: Session) -> Outcome:
        inquiry, topics = self.inquiry, self.inquiry.chapters
        facts = inquiry.read(node, session)
        self._await_own(facts)
        changes = plan.changes(node, facts, topics)
        if self.saved is not None:
            plan.expect(self.saved, node, changes)
        if not changes:
            return Outcome(node=node, facts=facts, findings=verify.findings(node, facts, topics))
        done = change(node, session, changes, topics=topics, run=self.run, limits=inquiry.limits)
        return self._judged_again(done)

    def _await_own(self, facts: Facts) -> None:
        last = facts.known(system.LAST_RUN)
        if last is not None and last.running and last.record.startswith(f"run {self.run.id} "):
            raise LockHeld(last.record)

    def _judged_again(self, outcome: Outcome) -> Outcome:
        node = outcome.node
        if outcome.facts is None or node.name not in self.inquiry.shares:
            return outcome
        facts = self.inquiry.with_share(node, outcome.facts)
        findings = verify.findings(node, facts, self.inquiry.chapters)
        return dataclasses.replace(outcome, facts=facts, findings=findings)

    def narrowed(self, names: Collection[str]) -> Self:
        """See :class:`Task`."""
        saved = self.saved and plan.narrowed(self.saved, names)
        return dataclasses.replace(self, inquiry=self.inquiry.narrowed(names), saved=saved)


# --- over a session -------------------------------------------------------------------------


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


# --- from knocking to leaving ---------------------------------------------------------------

Connect = Callable[[Node, Limits, Passwords], contextlib.AbstractContextManager[Session]]
"""Opens the way to a node: ``transport.connect``, or one that leads through somebody else."""


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """Goes to nodes and does a task there; what came of it is returned and nothing is raised.

    ``refused`` are the places of sudo passwords that a node has refused.
    """

    task: Callable[[Node, Session], Outcome]
    connect: Connect
    limits: Limits = field(default_factory=Limits)
    passwords: Passwords = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

    def __call__(self, node: Node) -> Outcome:
        """Visit a node; this raises nothing."""
        began = time.monotonic()
        try:
            outcome = self._visited(node)
        except NodeprepError as error:
            self.remember(node, error)
            outcome = Outcome(node=node, error=error)
        except Exception as error:  # noqa: BLE001 a defect on one node must not hide the others
            told = f"nodeprep itself failed here: {type(error).__name__}: {error}"
            outcome = Outcome(node=node, error=NodeFailed(told, hint="please report this"))
        return dataclasses.replace(outcome, seconds=time.monotonic() - began)

    @property
    def luggage(self) -> "Luggage":
        """Return what a visitor elsewhere needs; raises nothing."""
        plain = {place: password.reveal() for place, password in self.passwords.items()}
        return Luggage(task=self.task, limits=self.limits, passwords=plain)

    def refuse(self, node: Node) -> None:
        """Raise LoginRefused where another node has refused this one's password."""
        # A wrong password tried on every node would lock an account that all of them share.
        if node.sudo.password in self.refused:
            raise LoginRefused("not tried: sudo refused this password on another node")

    def remember(self, node: Node, error: NodeprepError | None) -> None:
        """Remember a password that a node has refused."""
        if node.sudo.password and isinstance(error, LoginRefused) and "sudo" in error.message:
            self.refused.add(node.sudo.password)

    def _visited(self, node: Node) -> Outcome:
        self.refuse(node)
        whole = with_kubeconfig(node)
        with self.connect(whole, self.limits, self.passwords) as session:
            outcome = self.task(whole, session)
            # Over SSH alone.
            exchange = getattr(session, "key_exchange", "")
        if not (outcome.findings and exchange.startswith(SLOW_EXCHANGE)):
            return outcome
        return dataclasses.replace(outcome, findings=(*outcome.findings, _slow(exchange)))


SLOW_EXCHANGE = "diffie-hellman-"
"""Ways to exchange keys that cost the controller 24 to 74 ms a node; the others cost 5."""


def _slow(exchange: str) -> Finding:
    return Finding(
        topic=system.NAME,
        name="ssh key exchange",
        status=Status.WARN,
        actual=exchange,
        wanted="curve25519-sha256: a fifth of the controller's time, or less",
        hint="allow it in KexAlgorithms of the node's sshd_config",
    )


# --- there and back -------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, repr=False)
class Luggage:
    """What a visitor in another process of this machine needs; it goes there through a pipe."""

    task: Callable[[Node, Session], Outcome]
    limits: Limits
    passwords: Mapping[str, str]

    def __call__(self) -> Callable[[Node], Outcome]:
        """Return the work of a visitor, whose outcomes are fit to travel back."""
        passwords = {place: Secret(text) for place, text in self.passwords.items()}
        visitor = Visitor(task=self.task, connect=connect, limits=self.limits, passwords=passwords)
        return lambda node: packed(visitor(node))


def packed(outcome: Outcome) -> Outcome:
    """Return an outcome without secrets, and without what waits for it at home."""
    return dataclasses.replace(
        outcome,
        node=Node(name=outcome.node.name, address=outcome.node.address),
        changes=tuple(map(_told, outcome.changes)),
        steps=tuple(dataclasses.replace(step, change=_told(step.change)) for step in outcome.steps),
    )


def unpacked(outcome: Outcome, nodes: Mapping[str, Node]) -> Outcome:
    """Return what came back with its node as it is known here."""
    return dataclasses.replace(outcome, node=nodes[outcome.node.name])


def _told(change: Change) -> Change:
    # An action's text, not its secrets: it is shown and compared, never done again.
    return dataclasses.replace(change, action=Script(str(change.action)))
