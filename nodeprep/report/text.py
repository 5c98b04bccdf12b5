"""Outcomes as text: what nodes share is printed once, under their folded names."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from nodeprep import plan, ruleset
from nodeprep.console import blocks, one_line, printable
from nodeprep.errors import Interrupted, LockHeld, NodeprepError, StalePlan, Unreachable
from nodeprep.inventory import fold
from nodeprep.model import Change, Finding, Node, Outcome, Status
from nodeprep.report.json import facts
from nodeprep.story import STORY

_TITLES: Mapping[str, str] = {
    **{topic.NAME: topic.TITLE for topic in STORY},
    ruleset.NAME: "Rules",
}
LONGEST = 240
"""Characters of names in a line of the summary; of more nodes only their number is told."""

_COLOURS = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "red", Status.SKIP: "cyan"}


def verified(outcomes: Sequence[Outcome], *, only_problems: bool = False) -> str:
    """Return findings by nodes and topics, then one line for each kind of end."""
    findings = {
        o.node.name: [f for f in o.findings if not only_problems or f.status is not Status.OK]
        for o in outcomes
        if o.facts is not None
    }
    shared = blocks(findings, key=lambda finding: finding)
    return "\n".join([*_sections(shared), *errors(outcomes), *_summary(outcomes)])


def told(outcomes: Sequence[Outcome]) -> str:
    """Return facts as indented lines, in the names that the JSON has."""
    shown = {
        o.node.name: [(name, value) for name, value in (facts(o) or {}).items()] for o in outcomes
    }
    lines = []
    for names, shared in blocks(shown, key=str):
        lines.append(_bold(fold(names)))
        lines += [line for name, value in shared for line in _fact(name, value, 1)]
    return "\n".join([*lines, *errors(outcomes)])


def _fact(name: str, value: object, depth: int) -> list[str]:
    indent = "  " * depth
    if name == "virtual_servers" and isinstance(value, list):
        return [f"{indent}{name}:", *(f"{indent}  {line}" for line in _table(value))]
    if isinstance(value, Mapping) and value:
        return [f"{indent}{name}:", *(x for k, v in value.items() for x in _fact(k, v, depth + 1))]
    if isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        return [f"{indent}{name}:", *(x for v in value for x in _fact("-", v, depth + 1))]
    text = ", ".join(map(str, value)) if isinstance(value, list) else value
    return [f"{indent}{name}: {printable(str(text))}"]


def _table(servers: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = []
    for server in servers:
        flags = " ".join(server["flags"])
        lines.append(f"{server['protocol']:<5}{server['address']} {server['scheduler']} {flags}")
        lines += [
            f"  -> {real['address']:<24} {real['forward']:<7} weight {real['weight']}, "
            f"{real['active']} active, {real['inactive']} inactive"
            for real in server["real_servers"]
        ]
    return [printable(line.rstrip()) for line in lines]


def planned(outcomes: Sequence[Outcome]) -> str:
    """Return changes by nodes, each with its diff; then what no change can mend."""
    changes = {o.node.name: o.changes for o in outcomes if o.facts is not None}
    lines = []
    for names, shared in blocks(changes, key=lambda change: str(plan.entry(change))):
        lines += [_bold(fold(names)), *(line for change in shared for line in _change(change))]
    total = sum(map(len, changes.values()))
    unmendable = {
        o.node.name: [f for f in o.findings if plan.beyond_mending(f)]
        for o in outcomes
        if o.facts is not None
    }
    lines += _sections(blocks(unmendable, key=lambda finding: finding))
    end = f"{count(total, 'change')} on {count(len(changes), 'node')}; nothing was changed"
    return "\n".join([*lines, *errors(outcomes), "", end])


def applied(outcomes: Sequence[Outcome]) -> str:
    """Return what was done, by nodes; then what is still not as it should be."""
    done = {o.node.name: o.steps for o in outcomes}
    lines = []
    for names, steps in blocks(done, key=lambda s: (str(plan.entry(s.change)), s.exit_status)):
        lines.append(_bold(fold(names)))
        lines += [f"  {_step(step.exit_status)}  {one_line(step.change.summary)}" for step in steps]
    problems = {
        o.node.name: [f for f in o.findings if f.status in (Status.FAIL, Status.WARN)]
        for o in outcomes
    }
    lines += _sections(blocks(problems, key=lambda finding: finding))
    total = sum(step.exit_status == 0 for o in outcomes for step in o.steps)
    end = f"{count(total, 'change')} made on {count(len(outcomes), 'node')}"
    return "\n".join([*lines, *errors(outcomes), *_summary(outcomes), end])


def _sections(shared: Iterable[tuple[tuple[str, ...], list[Finding]]]) -> list[str]:
    lines = []
    for names, findings in shared:
        lines.append(_bold(fold(names)))
        for topic, title in _TITLES.items():
            mine = [finding for finding in findings if finding.topic == topic]
            if mine:
                lines += [f"  {title}", *(line for f in mine for line in _finding(f))]
    return lines


def _finding(finding: Finding) -> list[str]:
    status = click.style(f"{finding.status:4}", fg=_COLOURS[finding.status])
    first = f"    {status}  {one_line(finding.name):<40} {one_line(finding.actual)}"
    if finding.status is Status.OK:
        return [first.rstrip()]
    rest = (("wanted", finding.wanted), ("type", finding.hint))
    told = ", ".join(f"{label}: {one_line(text)}" for label, text in rest if text)
    return [first.rstrip(), *([f"          {told}"] if told else [])]


def _change(change: Change) -> list[str]:
    lines = [f"  {click.style('~', fg='yellow')} {one_line(change.summary)}"]
    colours = {"+": "green", "-": "red", "@": "cyan"}
    diff = printable(change.diff).splitlines()
    return lines + ["      " + click.style(line, fg=colours.get(line[:1])) for line in diff]


def _step(status: int | None) -> str:
    if status is None:
        return click.style("not tried", fg="yellow")
    return click.style("done", fg="green") if status == 0 else click.style("failed", fg="red")


def errors(outcomes: Iterable[Outcome]) -> list[str]:
    """Return what went wrong with nodes that gave no facts, or not all, by nodes.

    What differs in a node's name and address alone is told once, with ``NAME`` and ``ADDRESS``.
    """
    by_name = {o.node.name: [_trouble(o.node, o.error)] for o in outcomes if o.error is not None}
    lines = []
    for names, troubles in blocks(by_name, key=lambda trouble: trouble.of_many):
        for trouble in troubles:
            kind, message, hint = trouble.of_many if len(names) > 1 else trouble.of_one
            title = click.style(kind, fg="red")
            lines.append(f"{_bold(fold(names))}: {title}: {one_line(message)}")
            lines += [f"          type: {one_line(hint)}"] if hint else []
    return lines


@dataclass(frozen=True, kw_only=True)
class _Trouble:
    """Kind, message and hint of an error: as it is, and without the names of its node."""

    of_one: tuple[str, str, str]
    of_many: tuple[str, str, str]


def _trouble(node: Node, error: NodeprepError) -> _Trouble:
    kind = type(error).__name__
    nameless = (_nameless(error.message, node), _nameless(error.hint, node))
    return _Trouble(of_one=(kind, error.message, error.hint), of_many=(kind, *nameless))


_WORD = re.compile(r"[\w:][\w.:-]*\b")


def _nameless(text: str, node: Node) -> str:
    def word(found: re.Match[str]) -> str:
        whole = found[0]
        if whole == node.name:
            return "NAME"
        port = whole.removeprefix(node.address)
        return f"ADDRESS{port}" if port != whole and re.fullmatch(r"(:\d+)?", port) else whole

    return _WORD.sub(word, text)


def _summary(outcomes: Sequence[Outcome]) -> list[str]:
    names: dict[str, list[str]] = {}
    for outcome in outcomes:
        names.setdefault(_end(outcome), []).append(outcome.node.name)
    order = ("ready", "not ready", "left alone", "no answer", "not begun")
    lines = [
        click.style(f"{end}: {_named(names[end])}", fg="green" if end == "ready" else "red")
        for end in order
        if end in names
    ]
    return ["", *lines]


def _named(names: Sequence[str]) -> str:
    # Whoever is not ready is named above, with the reason; this is to fit a screen.
    folded = fold(names)
    return folded if len(folded) <= LONGEST else f"{len(names)} nodes"


def _end(outcome: Outcome) -> str:
    match outcome.error:
        case Interrupted():
            return "not begun"
        case Unreachable():
            return "no answer"
        case StalePlan() | LockHeld():
            return "left alone"
    failed = outcome.error or any(f.status is Status.FAIL for f in outcome.findings)
    return "not ready" if failed else "ready"


def _bold(text: str) -> str:
    return click.style(text, bold=True)


def count(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural where it is not one."""
    return f"{number} {noun}" + ("" if number == 1 else "s")
