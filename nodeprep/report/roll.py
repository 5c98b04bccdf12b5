"""A roll as text: what it will do, each thing that happens, and what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import click

from nodeprep.console import blocks, one_line, printable
from nodeprep.inventory import fold
from nodeprep.model import Change, Finding, Outcome, Status
from nodeprep.rollout.bridge import CANNOT_CARRY, FLUSHED
from nodeprep.rollout.machine import (
    ENDS,
    GOOD,
    Begin,
    Continue,
    Ended,
    Event,
    Roll,
    Stage,
    Stop,
    ending,
)

_COLOURS = {Status.WARN: "yellow", Status.FAIL: "red"}

_MEANINGS: Mapping[Stage, str] = {
    "waiting": "not begun",
    "switch": "switching",
    "linger": "waiting for open connections",
    "clean": "removing the old mode",
    "soak": "soaking",
    "settle": "settling",
    "back": "going back",
    "done": "switched",
    "returned": "back as it was",
    "untouched": "not touched",
    "lost": "lost: it goes back by itself",
    "needs-operator": "NEEDS OPERATOR",
    "already": "was there already",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is known of one node: its modes, seconds in hand, and what was lost or cut.

    ``lost`` and ``probed`` count the probe's connections, ``None`` without one; ``unfinished``
    counts old IPVS connections that were still open when the wait for them was over.
    ``unreachable`` says that the last verb ended because no session could be had.
    """

    gone: str = ""
    to: str = ""
    seconds: float = 0.0
    detail: str = ""
    probed: int | None = None
    lost: int | None = None
    unfinished: int = 0
    unreachable: bool = False


# --- before it ------------------------------------------------------------------------------


def planned(
    outcomes: Sequence[Outcome],
    start: Roll,
    rows: Mapping[str, Row],
    writes: Mapping[str, Sequence[Change]],
    rules: Sequence[str],
) -> str:
    """Return what a roll will do: which nodes from which mode, in which batches, what it writes."""
    lines = [*_ways(rows, start), *_batches(start), *rules]
    diffs = {node: list(changes) for node, changes in writes.items() if changes}
    for names, changes in blocks(diffs, key=lambda change: (change.summary, change.diff)):
        lines.append(_bold(fold(names)))
        lines += [line for change in changes for line in _written(change)]
    for gone, to in sorted({(row.gone, row.to) for row in rows.values() if row.gone != row.to}):
        if sentences := CANNOT_CARRY.get(gone):  # type: ignore[call-overload]
            lines.append(f"the bridge from {gone} to {to} cannot carry:")
            lines += [f"  - {sentence}" for sentence in sentences]
        if (gone, to) == ("ipvs", "nftables"):
            lines.append(f"  - {FLUSHED}")
    return "\n".join([*lines, *checked(outcomes)])


def checked(outcomes: Sequence[Outcome]) -> list[str]:
    """Return what the preflight found, by nodes; failures first."""
    findings = {outcome.node.name: list(outcome.findings) for outcome in outcomes}
    lines = []
    for names, shared in blocks(findings, key=lambda finding: finding):
        lines += [_bold(fold(names)), *(line for f in shared for line in _finding(f))]
    return lines


def _ways(rows: Mapping[str, Row], start: Roll) -> list[str]:
    ways: dict[str, list[str]] = {}
    for node, row in rows.items():
        done = start.stages.get(node) == "already"
        way = f"{row.to} already" if done else f"{row.gone} -> {row.to}"
        ways.setdefault(way, []).append(node)
    return [f"{way}: {_bold(fold(nodes))}" for way, nodes in ways.items()]


def _batches(start: Roll) -> list[str]:
    waiting = [
        tuple(node for node in batch if start.stages[node] == "waiting") for batch in start.batches
    ]
    told = [batch for batch in waiting if batch]
    return [f"batch {number}: {fold(batch)}" for number, batch in enumerate(told, start=1)]


def _written(change: Change) -> list[str]:
    colours = {"+": "green", "-": "red", "@": "cyan"}
    diff = printable(change.diff).splitlines()
    return [
        f"  {click.style('~', fg='yellow')} {one_line(change.summary)}",
        *("      " + click.style(line, fg=colours.get(line[:1])) for line in diff),
    ]


def _finding(finding: Finding) -> list[str]:
    status = click.style(f"{finding.status:4}", fg=_COLOURS.get(finding.status))
    told = ", ".join(
        f"{label}: {one_line(text)}"
        for label, text in (("wanted", finding.wanted), ("type", finding.hint))
        if text
    )
    first = f"  {status}  {one_line(finding.name)}: {one_line(finding.actual)}"
    return [first, *([f"        {told}"] if told else [])]


# --- while it goes on -----------------------------------------------------------------------


def line(event: Event, state: Roll, seconds: float) -> str:
    """Return one line for what happened; ``seconds`` is how long a verb took."""
    match event:
        case Ended(node=node, verb=verb, verdict=verdict, detail=detail):
            why = f": {one_line(detail)}" if detail else ""
            stage = state.stages[node]
            end = f"; {_MEANINGS[stage]}" if stage in ENDS or stage == "back" else ""
            return f"{node}  {verb} {verdict} ({seconds:.1f} s){why}{end}"
        case Begin():
            return f"begun: {len(state.waiting) + len(state.in_hand)} nodes to switch"
        case Continue():
            return "going on"
        case Stop(reason=reason):
            return f"stopping: {reason}; nodes in hand are finished or undone"


def table(state: Roll, rows: Mapping[str, Row]) -> list[tuple[str, str, str]]:
    """Return a row for each node that is not waiting: its name, what it does, since when."""
    return [
        (node, _MEANINGS[stage], f"{rows[node].seconds:.0f} s")
        for node, stage in state.stages.items()
        if stage != "waiting"
    ]


# --- after it -------------------------------------------------------------------------------


def ended(state: Roll, rows: Mapping[str, Row], run: str) -> str:
    """Return a line for each node with its time and losses, how the roll ended, what to type."""
    lines = [""]
    for node, stage in state.stages.items():
        colour = "green" if stage in GOOD else "yellow" if stage == "waiting" else "red"
        meaning = click.style(_MEANINGS[stage], fg=colour)
        lines.append(f"{node}  {meaning}{_losses(rows[node])}")
    how = ending(state)
    lines += ["", f"run {run}: {how}", *_what_to_type(state, run)]
    return "\n".join(lines)


def _losses(row: Row) -> str:
    said = [f"{row.seconds:.1f} s"] if row.seconds else []
    if row.probed is not None:
        said.append(f"{row.lost} of {row.probed} probe connections failed")
    if row.unfinished:
        said.append(f"{row.unfinished} old IPVS connections were still open and ended")
    if row.detail:
        said.append(one_line(row.detail))
    return f"  ({', '.join(said)})" if said else ""


def _what_to_type(state: Roll, run: str) -> list[str]:
    lines = []
    broken = [node for node, stage in state.stages.items() if stage == "needs-operator"]
    for node in broken:
        lines += [
            f"NEEDS OPERATOR: {node} could not be taken back; nothing more is done to it",
            f"  on {node}: cat /var/lib/nodeprep/switch/{run}/log /var/lib/nodeprep/log",
            f"  on {node}: sh /var/lib/nodeprep/switch/{run}/way-back go_back",
        ]
    if ending(state) != "done":
        lines.append(f"to go on: nodeprep switch --resume {run}")
    if any(stage == "done" for stage in state.stages.values()):
        lines.append(f"to take it back: nodeprep rollback {run}")
    return lines


def _bold(text: str) -> str:
    return click.style(text, bold=True)
