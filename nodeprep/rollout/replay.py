"""A roll as a journal tells it: what is written down of it, and where it goes on when cut short.

A journal says only what was being tried; what a node is now, its fresh facts say. So whatever is
not known to be whole is begun again: every verb does only what is still missing.

The header of a run holds what :func:`to_fields` gives; each later record is what :func:`note`
makes of an event or an effect. An intent is on the disk before the act.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, assert_never

from nodeprep.rollout.machine import (
    VERBS,
    Act,
    Begin,
    Continue,
    Effect,
    Ended,
    Event,
    Finish,
    Pause,
    Roll,
    Stage,
    Stop,
    as_verb,
    ending,
    roll,
)

Kind = Literal["intent", "outcome", "event", "end"]


class Record(Protocol):
    """A line of a journal, as far as it matters here."""

    @property
    def kind(self) -> str:
        """One of Kind; any other kind is passed over."""

    @property
    def fields(self) -> Mapping[str, Any]:
        """What the record says, by name."""


# --- written down -------------------------------------------------------------------------------


def to_fields(start: Roll) -> dict[str, Any]:
    """Return a roll at its start as a header's fields."""
    return {
        "batches": [list(batch) for batch in start.batches],
        "at_once": start.at_once,
        "max_failures": start.max_failures,
        "pause_after": start.pause_after,
        "stages": dict(start.stages),
    }


def from_fields(fields: Mapping[str, Any]) -> Roll:
    """Return the roll at its start that a header tells of; other fields are passed over."""
    stages = fields["stages"]
    return roll(
        tuple(tuple(batch) for batch in fields["batches"]),
        at_once=fields["at_once"],
        max_failures=fields["max_failures"],
        pause_after=fields["pause_after"],
        already=(node for node, stage in stages.items() if stage == "already"),
    )


def note(happening: Event | Effect, after: Roll) -> tuple[Kind, dict[str, Any]]:
    """Return the kind and the fields of the record of an event or an effect.

    ``after`` is the roll that ``step`` gave with it: an outcome tells the node's stage as well.
    """
    match happening:
        case Act(node=node, verb=verb):
            return "intent", {"node": node, "verb": verb}
        case Ended(node=node):
            return "outcome", {**vars(happening), "stage": after.stages[node]}
        case Begin() | Continue():
            return "event", {"what": type(happening).__name__.lower()}
        case Stop(reason=reason) | Pause(reason=reason):
            return "event", {"what": type(happening).__name__.lower(), "reason": reason}
        case Finish():
            return "end", {"how": ending(after)}
        case _:
            assert_never(happening)


# --- taken up again -----------------------------------------------------------------------------


def resume(start: Roll, records: Sequence[Record]) -> Roll:
    """Return the roll to go on from; its Begin acts on the nodes that were in hand, first.

    Nodes that are done stay done. One that was on its way back goes back; any other that was in
    hand, between two verbs too, begins again with ``switch``. One that came to another end waits
    again: whoever resumes has looked. A pause that was reached is over: to resume is to continue.

    Raises ValueError for records that are not of this roll.
    """
    standings = {node: _Standing(stage=stage) for node, stage in start.stages.items()}
    for record in records:
        if record.kind in ("intent", "outcome"):
            node = record.fields["node"]
            if node not in standings:
                raise ValueError(f"the journal tells of {node}, which is not in the roll")
            standings[node] = _heard(standings[node], record)
    return replace(
        start,
        stages={node: standing.stage for node, standing in standings.items()},
        touched=frozenset(_unverified(standings)),
        pause_is_over=start.pause_is_over or any(map(_is_pause, records)),
    )


@dataclass(frozen=True, kw_only=True)
class _Standing:
    """Where a node would go on from, and whether it was left in a state nobody has verified."""

    stage: Stage
    touched: bool = False


def _heard(standing: _Standing, record: Record) -> _Standing:
    verb = as_verb(record.fields["verb"])
    if record.kind == "intent":
        touched = standing.touched or standing.stage in VERBS
        return _Standing(stage="back" if verb == "back" else "switch", touched=touched)
    match verb, record.fields["verdict"]:
        case _, "untouched" if not standing.touched:
            return _Standing(stage="waiting")
        case ("back", "ok") | (_, "returned"):
            return _Standing(stage="waiting")
        case ("back", "failed") | (_, "lost"):
            return _Standing(stage="waiting", touched=True)
        case "settle", "ok":
            return _Standing(stage="done")
        case _, "ok" | "failed" | "untouched":
            return _Standing(stage="switch", touched=True)
        case _, verdict:
            raise ValueError(f"no verdict: {verdict}")


def _unverified(standings: Mapping[str, _Standing]) -> Iterable[str]:
    return (
        node for node, standing in standings.items() if standing.touched or standing.stage in VERBS
    )


def _is_pause(record: Record) -> bool:
    return record.kind == "event" and record.fields.get("what") == "pause"
