"""The imperative shell of a roll: sessions, clocks, threads and the journal around its machine.

The machine says what to do; here it is done, and told as the next event. Every intent is on the
disk before its act. A node that is lost is looked for until its dead man's switch must have taken
it home; what it has become is then read, never guessed.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby

from nodeprep import apply, runner, visits
from nodeprep.credentials import Passwords
from nodeprep.errors import (
    FactError,
    HostKeyRefused,
    LockHeld,
    LoginRefused,
    NodeprepError,
    StalePlan,
    Unreachable,
)
from nodeprep.journal import Journal
from nodeprep.model import Change, Facts, Finding, Node, Outcome, Status
from nodeprep.rollout import gates, preflight, replay, way_back
from nodeprep.rollout.machine import (
    Act,
    Begin,
    Continue,
    Effect,
    Ended,
    Event,
    Finish,
    Pause,
    Roll,
    Stop,
    Verb,
    Verdict,
    step,
)
from nodeprep.rollout.switching import Aim, Kind
from nodeprep.story import Topic
from nodeprep.topics import system
from nodeprep.transport import Limits, Session, connect, run_here
from nodeprep.visits import Connect

PAUSE = 2.0
"""Seconds before a node is tried again, and a shut gate asked again."""

LOOK_EVERY = 5.0
"""Seconds between two looks at a node that lingers or soaks."""

SECOND_LOOKS = 4
"""How often a gate that is shut is asked again before it counts: services come up in moments."""

MARGIN = 60
"""Seconds that a node may need beyond its limits: slow machines, a way back that is under way."""

WAITS: tuple[Verb, ...] = ("linger", "soak")
"""The verbs that wait and look; each look renews the dead man's switch."""

STOP_MARGIN = 25
"""Seconds for which a lost node is still looked for when the operator has said stop."""


# --- before a roll --------------------------------------------------------------------------


def look(
    nodes: Sequence[Node],
    kinds: Callable[[Node], Kind],
    aims: Mapping[str, Aim],
    options: runner.Options,
    *,
    ignored: Sequence[str],
    cluster: Facts,
) -> Iterator[Outcome]:
    """Read every node once and judge whether it can be switched; nothing is changed.

    ``cluster`` is what is known of the cluster of nodes whose kube-proxy is a pod.
    """

    def work(node: Node, session: Session) -> Outcome:
        aim, kind = aims[node.name], kinds(node)
        topics = (
            system,
            *preflight.PREPARED,
            *kind.topics("switch", aim, planned=True),
            preflight,
        )
        facts = visits.read(node, session, topics, options.limits).joined(cluster)
        done = preflight.already(node, facts, aim)
        findings = () if done else preflight.judged(node, facts, aim, ignored)
        return Outcome(node=node, facts=facts, findings=findings)

    return runner.over(nodes, options, work)


# --- one verb on one node -------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a verb on a node came to: its end for the machine, and what a person wants to know.

    ``unreachable`` says that it ended as it did because no session could be had.
    """

    ended: Ended
    findings: tuple[Finding, ...] = ()
    facts: Facts | None = None
    seconds: float = 0.0
    unfinished: int = 0
    unreachable: bool = False


@dataclass(kw_only=True)
class Contact:
    """The way to one node, opened when it is needed and opened again when it was lost.

    ``way`` opens it in another manner than over SSH from here.
    """

    node: Node
    limits: Limits
    passwords: Passwords
    way: Connect | None = None
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    session: Session | None = None
    latest: Facts | None = None

    def open(self) -> Session:
        """Return the open session. Raises Unreachable where there is none to be had."""
        if self.session is None:
            opened = (self.way or connect)(self.node, self.limits, self.passwords)
            self.session = self.stack.enter_context(opened)
        return self.session

    def close(self) -> None:
        """Give the session up, and what was read over it; the next `open` begins a new one."""
        self.session = self.latest = None
        with contextlib.suppress(NodeprepError, OSError):
            self.stack.close()


@dataclass(frozen=True, kw_only=True)
class Hand:
    """What performs verbs on one node.

    ``cluster`` is the way to where ``kubectl`` runs, for nodes that need it. ``touched`` says that
    something was begun on the node before.
    """

    contact: Contact
    kind: Kind
    aim: Aim
    run: apply.Run
    stop: threading.Event
    cluster: Contact | None = None
    touched: bool = False

    @property
    def node(self) -> Node:
        """The node in this hand."""
        return self.contact.node

    def close(self) -> None:
        """Give all sessions up; they are opened again where they are needed."""
        self.contact.close()
        if self.cluster is not None:
            self.cluster.close()

    def perform(self, verb: Verb) -> Told:
        """Do ``verb`` to the node, whatever becomes of the way to it."""
        began = time.monotonic()
        attempt = _Attempt(hand=self, verb=verb, sent=self.touched or verb != "switch")
        told = attempt.until_it_is_known()
        return replace(told, seconds=time.monotonic() - began)


@dataclass(kw_only=True)
class _Attempt:
    """One verb on one node, tried until it is known what came of it."""

    hand: Hand
    verb: Verb
    sent: bool
    lost_at: float | None = None
    tries: int = 0

    def until_it_is_known(self) -> Told:
        while True:
            try:
                return self._once()
            except (Unreachable, LockHeld, StalePlan, FactError) as error:
                self.hand.close()
                self.tries += 1
                if not self.sent:
                    silent = isinstance(error, Unreachable)
                    return replace(self._told("untouched", error.message), unreachable=silent)
                if isinstance(error, FactError) and self.tries > SECOND_LOOKS:
                    return self._told("failed", error.message)
                # A password or a key that is refused now is not tried again and again.
                if isinstance(error, LoginRefused | HostKeyRefused) or self._given_up():
                    return self._told("lost", f"{error.message}; its way back takes it home")
                time.sleep(PAUSE)
            except NodeprepError as error:
                verdict: Verdict = "failed" if self.sent else "untouched"
                return self._told(verdict, error.message)

    def _given_up(self) -> bool:
        now, aim = time.monotonic(), self.hand.aim
        self.lost_at = self.lost_at or now
        limit = aim.dead_man + aim.gate_limit + MARGIN
        return now - self.lost_at > (STOP_MARGIN if self.hand.stop.is_set() else limit)

    def _once(self) -> Told:
        # What the verb before read at its end is as fresh as can be.
        latest = None if self.verb in ("switch", "back") else self.hand.contact.latest
        facts = latest or self._read()
        owner = way_back.kept(facts).armed_by
        if not self.sent and owner not in ("", self.hand.aim.run):
            raise LockHeld(f"the roll {owner} has this node in hand")
        if self.tries and self.verb != "back":
            state = way_back.kept(facts).state
            if state == "back-began":
                raise Unreachable("the node is going back by itself")
            if state.startswith("back"):
                return self._went_back(self._read("back"))
        if self.verb not in WAITS:
            facts = self._change(facts)
        self.lost_at = None
        return self._judge(self._wait(facts))

    def _read(self, verb: Verb | None = None) -> Facts:
        hand, planned = self.hand, self.verb == "switch"
        topics = hand.kind.topics(verb or self.verb, hand.aim, planned=planned)
        facts = visits.read(hand.node, hand.contact.open(), topics, hand.contact.limits)
        return self._seen(facts.joined(self._read_cluster(verb, planned=planned)))

    def _read_cluster(self, verb: Verb | None = None, *, planned: bool = False) -> Facts:
        hand = self.hand
        topics = hand.kind.cluster_topics(verb or self.verb, hand.aim, planned=planned)
        if hand.cluster is None or not topics:
            return Facts({})
        return visits.read(hand.node, hand.cluster.open(), topics, hand.cluster.limits)

    def _seen(self, facts: Facts) -> Facts:
        self.hand.contact.latest = facts
        return facts

    def _change(self, facts: Facts) -> Facts:
        hand = self.hand
        changes = hand.kind.changes(self.verb, hand.node, facts, hand.aim)
        if not changes:
            return facts
        # Whatever becomes of it, what was read before is no longer so.
        hand.contact.latest = None
        parts = [list(part) for _, part in groupby(changes, key=lambda change: change.place)]
        for part in parts[:-1]:
            self._make(part, ())
        topics = hand.kind.topics(self.verb, hand.aim, planned=False)
        seen = self._make(parts[-1], topics)
        if seen is None:
            return self._read()
        asked = any(change.place == "cluster" for change in changes)
        return self._seen((self._read_cluster() if asked else facts).joined(seen))

    def _make(self, changes: Sequence[Change], topics: Sequence[Topic]) -> Facts | None:
        """Make changes of one place; return what the node then said to ``topics``, if it did."""
        hand, sent_before = self.hand, self.sent
        wait = 3 * hand.aim.gate_limit + 2 * MARGIN + hand.aim.drain
        if changes[0].place == "cluster" and hand.cluster is not None:
            session = hand.cluster.open()
            self.sent = True
            limits = replace(hand.cluster.limits, apply=wait)
            runner.change_cluster(session, changes, limits)
            return None
        session, limits = hand.contact.open(), replace(hand.contact.limits, apply=wait)
        self.sent = True
        try:
            outcome = visits.change(
                hand.node, session, changes, topics=topics, run=hand.run, limits=limits
            )
        except (LockHeld, StalePlan):
            # The node says that nothing was written.
            self.sent = sent_before
            raise
        if outcome.error is not None:
            raise outcome.error
        return outcome.facts if topics else None

    def _wait(self, facts: Facts) -> Facts:
        aim = self.hand.aim
        if self.verb not in WAITS:
            return facts
        limit = aim.linger if self.verb == "linger" else aim.soak
        end = time.monotonic() + limit
        while self._pending(facts) and time.monotonic() < end and not self.hand.stop.is_set():
            self.hand.stop.wait(min(LOOK_EVERY, max(0.0, end - time.monotonic())))
            facts = self._change(facts)
            if self.verb == "soak" and not gates.opened(self._findings(facts)):
                return facts
        return facts

    def _pending(self, facts: Facts) -> int:
        return self.hand.kind.pending(self.verb, facts, self.hand.aim)

    def _findings(self, facts: Facts) -> tuple[Finding, ...]:
        hand = self.hand
        found = hand.kind.findings(self.verb, hand.node, facts, hand.aim)
        return (*found, *_local_gates(hand.node, hand.aim))

    def _judge(self, facts: Facts) -> Told:
        found = self._findings(facts)
        for _ in range(SECOND_LOOKS):
            if gates.opened(found):
                break
            time.sleep(PAUSE)
            facts = self._read()
            found = self._findings(facts)
        shut = [finding for finding in found if finding.status is Status.FAIL]
        detail = "; ".join(f"{finding.name}: {finding.actual}" for finding in shut)
        # Where nothing was sent, there is nothing to take back.
        refused: Verdict = "failed" if self.sent else "untouched"
        told = self._told(refused if shut else "ok", detail)
        pending = self._pending(facts) if self.verb == "linger" else 0
        return replace(told, findings=found, facts=facts, unfinished=pending)

    def _went_back(self, facts: Facts) -> Told:
        hand = self.hand
        found = tuple(hand.kind.findings("back", hand.node, facts, hand.aim))
        verdict: Verdict = "returned" if gates.opened(found) else "failed"
        told = self._told(verdict, "the node went back by itself: its controller was away")
        return replace(told, findings=found, facts=facts)

    def _told(self, verdict: Verdict, detail: str) -> Told:
        ended = Ended(node=self.hand.node.name, verb=self.verb, verdict=verdict, detail=detail)
        return Told(ended=ended)


def _local_gates(node: Node, aim: Aim) -> Iterator[Finding]:
    for gate in aim.gates:
        if gate.kind == "local":
            status, said = run_here(gate.text, {"NODEPREP_NODE": node.name})
            yield gates.local(gate, works=status == 0, said=said)


# --- the roll -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a roll runs under.

    ``ask`` answers a pause with yes or no; ``may_begin`` returns why no node may be begun now, or
    nothing; ``say`` is told of every event and of the roll after it, ``began`` of every act.
    """

    ask: Callable[[str], bool]
    may_begin: Callable[[], str]
    began: Callable[[Act], None]
    say: Callable[[Event, Roll, Told | None], None]
    stop: threading.Event


def perform(state: Roll, hands: Mapping[str, Hand], journal: Journal, terms: Terms) -> Roll:
    """Take a roll to its end and return it as it then stands.

    Raises UsageError where the journal can no longer be written; nodes in hand then go back by
    themselves.
    """
    happened: queue.SimpleQueue[Told | BaseException] = queue.SimpleQueue()
    with ThreadPoolExecutor(max_workers=max(1, state.at_once + len(state.in_hand))) as pool:
        start = partial(_start, pool, hands, happened)
        try:
            return _turn(state, journal, terms, start, happened)
        finally:
            for hand in hands.values():
                hand.close()


def _start(
    pool: ThreadPoolExecutor,
    hands: Mapping[str, Hand],
    happened: "queue.SimpleQueue[Told | BaseException]",
    act: Act,
) -> None:
    def work() -> None:
        try:
            happened.put(hands[act.node].perform(act.verb))
        except BaseException as error:  # noqa: BLE001 a defect must reach the main thread
            happened.put(error)

    pool.submit(work)


def _turn(
    state: Roll,
    journal: Journal,
    terms: Terms,
    start: Callable[[Act], None],
    happened: "queue.SimpleQueue[Told | BaseException]",
) -> Roll:
    if why := terms.may_begin():
        state, _ = step(state, Stop(reason=why))
    event: Event = Begin()
    told: Told | None = None
    while True:
        state, effects = step(state, event)
        _write(journal, event, state)
        terms.say(event, state, told)
        answer: Event | None = None
        for effect in effects:
            _write(journal, effect, state)
            match effect:
                case Act():
                    terms.began(effect)
                    start(effect)
                case Pause(reason=reason):
                    answer = Continue() if terms.ask(reason) else Stop(reason="paused")
                case Finish():
                    return state
        event, told = (answer, None) if answer else _next(state, terms, happened)


def _write(journal: Journal, happening: Event | Effect, state: Roll) -> None:
    kind, fields = replay.note(happening, state)
    journal.append(kind, **fields)


def _next(
    state: Roll, terms: Terms, happened: "queue.SimpleQueue[Told | BaseException]"
) -> tuple[Event, Told | None]:
    while True:
        came: Told | BaseException | None = None
        with contextlib.suppress(queue.Empty):
            came = happened.get(timeout=0.2)
        if isinstance(came, BaseException):
            raise came
        if state.stopping is None and (why := _why_stop(state, terms)):
            # A stop that came while a verb was at work is heard before its end leads any further.
            if came is not None:
                happened.put(came)
            return Stop(reason=why), None
        if came is not None:
            return came.ended, came


def _why_stop(state: Roll, terms: Terms) -> str:
    if terms.stop.is_set():
        return "interrupted"
    return terms.may_begin() if state.waiting else ""
