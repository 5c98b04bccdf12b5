"""The rules of nodes as text: those that nodes share stand once, under their folded names."""

from collections.abc import Sequence
from itertools import groupby

import click

from nodeprep.console import blocks, one_line
from nodeprep.inventory import fold
from nodeprep.iptables import Rule
from nodeprep.model import Outcome
from nodeprep.report.text import errors
from nodeprep.ruleset import Found, found


def listed(outcomes: Sequence[Outcome]) -> str:
    """Return rules with their numbers, by nodes, backends, tables and chains."""
    by_name = {o.node.name: [found(o.facts)] for o in outcomes if o.facts is not None}
    lines = []
    for names, shared in blocks(by_name, key=lambda each: each):
        lines.append(click.style(fold(names), bold=True))
        lines += [line for each in shared for line in _found(each)]
    return "\n".join([*lines, *errors(outcomes)])


def _found(told: Found) -> list[str]:
    lines = [f"  {place}: could not be read" for place in told.unread]
    for place, rules in groupby(told.rules, key=str):
        lines.append(f"  {one_line(place)}")
        lines += [_rule(rule) for rule in rules]
    if told.cut:
        lines.append("  and more than could be told: name a --table, a --chain or a --match")
    return lines or ["  no such rule"]


def _rule(rule: Rule) -> str:
    return f"    {rule.number:>5}  {one_line(rule.text)}"


def meant(outcomes: Sequence[Outcome]) -> str:
    """Return what would be removed, by nodes."""
    by_name = {o.node.name: o.changes for o in outcomes if o.facts is not None}
    lines = []
    for names, changes in blocks(by_name, key=lambda change: change.summary):
        lines.append(click.style(fold(names), bold=True))
        lines += [f"  ~ {one_line(change.summary)}" for change in changes]
    return "\n".join([*lines, *errors(outcomes)])
