"""The roll as a state and one function: what happened goes in, what to do next comes out.

A node goes through the verbs of :data:`FORWARD`; where one fails it goes ``back``. Nothing here
does anything: the runner performs the effects and tells of each end as the next event. There is
no clock, no node and no file, so every order of events can be tried.

::

    waiting -> switch -> linger -> clean -> soak -> settle -> done
                  \\        \\        \\       \\        \\
                   +--------+--------+-------+--------+-> back -> returned
                                                             \\-> needs-operator

From ``switch`` a node may also end ``untouched``; from every verb ``lost`` or ``returned``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal, assert_never, get_args

Verb = Literal["switch", "linger", "clean", "soak", "settle", "back"]
FORWARD: tuple[Verb, ...] = ("switch", "linger", "clean", "soak", "settle")
VERBS: tuple[Verb, ...] = (*FORWARD, "back")

End = Literal["done", "returned", "untouched", "lost", "needs-operator", "already"]
ENDS: tuple[End, ...] = get_args(End)
GOOD: frozenset[End] = frozenset({"done", "already"})
"""The ends that are no failure."""

Stage = Literal["waiting"] | Verb | End
Verdict = Literal["ok", "failed", "untouched", "lost", "returned"]
Phase = Literal["new", "rolling", "paused", "finished"]

_REVERSIBLE: frozenset[Verb] = frozenset({"switch", "linger"})
"""Until ``clean`` the old mode still stands beside the new one: a stop undoes the node."""

_NEXT: Mapping[Verb, Verb] = dict(pairwise(FORWARD))


def as_verb(text: str) -> Verb:
    """Return the verb of this name. Raises ValueError if there is none."""
    for verb in VERBS:
        if verb == text:
            return verb
    raise ValueError(f"no verb: {text}")


# --- what happens, and what to do ---------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Begin:
    """The session begins: first of all events, once."""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A verb has ended on a node. ``detail`` is for people.

    ``returned``: the node went back by itself; ``lost``: no contact any more while it was armed;
    ``untouched``: unreachable or refused before anything changed, which only ``switch`` can say.
    """

    node: str
    verb: Verb
    verdict: Verdict
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class Continue:
    """The operator said yes to a pause."""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """No further node is to be begun: an interrupt, a closed window, a no to a pause."""

    reason: str


Event = Begin | Ended | Continue | Stop


@dataclass(frozen=True, kw_only=True)
class Act:
    """Do this to the node, and tell of its end."""

    node: str
    verb: Verb


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Ask the operator (then Continue or Stop), or end the session here, to be resumed."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Finish:
    """No node is in hand and none will be begun. Comes once, and last."""


Effect = Act | Pause | Finish


# --- the state ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Roll:
    """A roll as it stands; :func:`roll` makes one.

    ``at_once`` nodes are in hand at most; no node is begun once more than ``max_failures`` have
    failed; ``pause_after`` counts batches, 0 for no pause. ``touched`` are nodes that an earlier
    session left in a state nobody has verified. ``stopping`` is the reason of the first stop.
    """

    batches: tuple[tuple[str, ...], ...]
    stages: Mapping[str, Stage]
    at_once: int = 1
    max_failures: int = 0
    pause_after: int = 0
    touched: frozenset[str] = field(default=frozenset())
    phase: Phase = "new"
    pause_is_over: bool = False
    stopping: str | None = None

    @property
    def in_hand(self) -> tuple[str, ...]:
        """The nodes that a verb is at work on, in the order of the batches."""
        return self._at(VERBS)

    @property
    def waiting(self) -> tuple[str, ...]:
        """The nodes not begun yet, in the order of the batches."""
        return self._at(("waiting",))

    @property
    def failures(self) -> int:
        """How many nodes have ended otherwise than they should."""
        return sum(stage in ENDS and stage not in GOOD for stage in self.stages.values())

    @property
    def halted(self) -> bool:
        """Whether no further node will be begun, whatever still waits."""
        return (
            self.stopping is not None
            or self.failures > self.max_failures
            or "needs-operator" in self.stages.values()
        )

    def _at(self, stages: tuple[Stage, ...]) -> tuple[str, ...]:
        return tuple(
            node for batch in self.batches for node in batch if self.stages[node] in stages
        )


def roll(
    batches: tuple[tuple[str, ...], ...],
    *,
    at_once: int = 1,
    max_failures: int = 0,
    pause_after: int = 0,
    already: Iterable[str] = (),
) -> Roll:
    """Return a roll at its start; ``already`` are the nodes that are in the target mode now.

    Raises ValueError for a node in two batches, and for numbers that cannot be.
    """
    if at_once < 1 or max_failures < 0 or pause_after < 0:
        raise ValueError("a roll has one node in hand or more, and no number below zero")
    kept = frozenset(already)
    stages: dict[str, Stage] = {
        node: "already" if node in kept else "waiting" for batch in batches for node in batch
    }
    if sum(map(len, batches)) != len(stages):
        raise ValueError("a node is in two batches")
    return Roll(
        batches=batches,
        stages=stages,
        at_once=at_once,
        max_failures=max_failures,
        pause_after=pause_after,
    )


Ending = Literal["done", "stopped", "failed", "needs-operator"]


def ending(roll: Roll) -> Ending:
    """Return how a finished roll ended.

    ``stopped`` says that nodes were undone or never begun because somebody said stop.
    """
    if "needs-operator" in roll.stages.values():
        return "needs-operator"
    if roll.failures:
        return "stopped" if roll.stopping is not None else "failed"
    return "stopped" if roll.waiting else "done"


# --- the step -----------------------------------------------------------------------------------


def step(roll: Roll, event: Event) -> tuple[Roll, tuple[Effect, ...]]:
    """Return the roll after the event, and what is to be done now, in order.

    Nodes that are in hand at Begin (see replay) are acted upon before any other is begun. Raises
    ValueError for an event that cannot be, such as the end of a verb that was not in hand.
    """
    match event:
        case Begin():
            return _begun(roll)
        case Ended():
            return _ended(roll, event)
        case Continue():
            _require(roll.phase == "paused", roll, event)
            return _onward(replace(roll, phase="rolling", pause_is_over=True))
        case Stop():
            return _stopped(roll, event)
        case _:
            assert_never(event)


def _begun(roll: Roll) -> tuple[Roll, tuple[Effect, ...]]:
    _require(roll.phase == "new", roll, Begin())
    again = tuple(Act(node=node, verb=as_verb(roll.stages[node])) for node in roll.in_hand)
    after, effects = _onward(replace(roll, phase="rolling"))
    return after, (*again, *effects)


def _ended(roll: Roll, event: Ended) -> tuple[Roll, tuple[Effect, ...]]:
    _require(roll.phase == "rolling" and roll.stages.get(event.node) == event.verb, roll, event)
    stage = _after(roll, event)
    changed = replace(roll, stages={**roll.stages, event.node: stage})
    if stage in ENDS:
        return _onward(changed)
    return changed, (Act(node=event.node, verb=as_verb(stage)),)


def _after(roll: Roll, event: Ended) -> Stage:
    """Return where a node goes when its verb has ended."""
    match event.verdict:
        case "lost" | "returned":
            return event.verdict
        case "untouched":
            _require(event.verb == "switch", roll, event)
            # An earlier session did touch it: to call it untouched would be a guess.
            return "back" if event.node in roll.touched else "untouched"
        case "failed":
            return "needs-operator" if event.verb == "back" else "back"
        case "ok":
            return _after_success(roll, event.verb)
        case _:
            assert_never(event.verdict)


def _after_success(roll: Roll, verb: Verb) -> Stage:
    if verb == "back":
        return "returned"
    if roll.stopping is not None and verb in _REVERSIBLE:
        return "back"
    return _NEXT.get(verb, "done")


def _stopped(roll: Roll, event: Stop) -> tuple[Roll, tuple[Effect, ...]]:
    """Take a stop at any time: an interrupt may come twice, or when all is over."""
    if roll.stopping is not None or roll.phase == "finished":
        return roll, ()
    phase: Phase = "rolling" if roll.phase == "paused" else roll.phase
    changed = replace(roll, stopping=event.reason, phase=phase)
    return (changed, ()) if phase == "new" else _onward(changed)


def _onward(roll: Roll) -> tuple[Roll, tuple[Effect, ...]]:
    """Begin what may be begun, or pause, or finish."""
    if roll.halted or not roll.waiting:
        return (roll, ()) if roll.in_hand else (replace(roll, phase="finished"), (Finish(),))
    if _pause_is_due(roll):
        reason = f"{roll.pause_after} of {len(roll.batches)} batches have ended"
        return replace(roll, phase="paused"), (Pause(reason=reason),)
    fresh = _to_begin(roll)
    changed = replace(roll, stages={**roll.stages, **dict.fromkeys(fresh, FORWARD[0])})
    return changed, tuple(Act(node=node, verb=FORWARD[0]) for node in fresh)


def _pause_is_due(roll: Roll) -> bool:
    first = roll.batches[: roll.pause_after]
    ended = all(roll.stages[node] in ENDS for batch in first for node in batch)
    return bool(first) and ended and not roll.in_hand and not roll.pause_is_over


def _to_begin(roll: Roll) -> tuple[str, ...]:
    """Return the next nodes of the batch in hand, as many as there is room for.

    After a resume the nodes in hand may belong to a later batch than those that wait: they come
    to their end first, so that two batches are never mixed.
    """
    in_hand, waiting = roll.in_hand, frozenset(roll.waiting)
    batch = next(batch for batch in roll.batches if not waiting.isdisjoint(batch))
    if not frozenset(in_hand).issubset(batch):
        return ()
    room = max(0, roll.at_once - len(in_hand))
    return tuple(node for node in batch if node in waiting)[:room]


def _require(possible: bool, roll: Roll, event: Event) -> None:  # noqa: FBT001
    if not possible:
        raise ValueError(f"this cannot happen in a roll that is {roll.phase}: {event}")
