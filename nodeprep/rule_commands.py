"""``nodeprep rules``: iptables rules with their numbers, across nodes; and ``rules remove``."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import click
from click.core import ParameterSource

from nodeprep import cli, plan, ruleset, runner
from nodeprep.errors import Interrupted, UsageError
from nodeprep.executor_options import FROM_WHERE
from nodeprep.inventory import fold
from nodeprep.iptables import BACKENDS
from nodeprep.model import Outcome
from nodeprep.report import json, text
from nodeprep.report import rules as report
from nodeprep.roll_options import with_options
from nodeprep.roll_screen import confirmed
from nodeprep.ruleset import Query, Removal, Wanted

_WHERE = (
    *cli.WHICH_NODES,
    *FROM_WHERE,
    click.option("--table", type=click.Choice(ruleset.TABLES), help="Only this table."),
    click.option("--chain", help="Only this chain."),
    click.option("--family", type=click.Choice(["4", "6"]), help="Only IPv4, or only IPv6."),
    click.option("--backend", type=click.Choice(BACKENDS), help="Only this backend of iptables."),
    click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="json is documented in docs/output.md.",
    ),
)


@click.group("rules", invoke_without_command=True)
@click.option("--match", "part", default="", metavar="TEXT", help="Only rules with this text.")
@with_options(*_WHERE)
@click.pass_context
def rules(context: click.Context, /, *, part: str, **given: Any) -> None:
    """List iptables rules with their numbers, both backends told apart; change nothing."""
    if context.invoked_subcommand is not None:
        return
    topic = ruleset.Listing(query=dataclasses.replace(_query(given), text=part))
    with cli.session(given) as (_, nodes, options):
        asked = dataclasses.replace(options, instead=(topic,), keep_facts=True)
        outcomes = cli.collect(runner.verify_nodes(nodes, asked), nodes, "rules")
        code = runner.exit_code(outcomes, wanted=lambda _: True)
        _show("rules", outcomes, given["output"], code, report.listed)


def _query(given: Mapping[str, Any]) -> Query:
    words = ("table", "chain", "family", "backend")
    return Query(**{word: given[word] or "" for word in words})


def _show(verb: str, outcomes: Sequence[Outcome], output: str, code: int, view: Any) -> None:
    told = json.document(verb, outcomes, code) if output == "json" else view(outcomes)
    click.echo(told)
    if code:
        raise SystemExit(code)


# --- removing -------------------------------------------------------------------------------


@rules.command()
@click.argument("words", nargs=-1, metavar="[-- -t TABLE CHAIN RULE...]")
@click.option("--comment", default="", help="The rule with this comment.")
@click.option("--all", "several", is_flag=True, help="Each rule, where more than one is meant.")
@click.option("--kube-proxy", "theirs", is_flag=True, help="Even a rule of kube-proxy or kubelet.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@with_options(*_WHERE)
@click.pass_context
def remove(context: click.Context, /, *, words: tuple[str, ...], comment: str, **own: Any) -> None:
    """Remove one rule of each node, by its comment or by all that it says, never by a number.

    What is behind -- is a rule as iptables-save prints it.
    """
    given = _with_those_before(context, own)
    topic = ruleset.removal(_wanted(words, comment, _query(given)))
    with cli.session(given) as (loaded, nodes, options):
        asked = dataclasses.replace(options, instead=(topic,), keep_facts=True)
        seen = cli.collect(runner.plan_nodes(nodes, asked), nodes, "rules")
        _refuse(seen, topic, several=given["several"], theirs=given["theirs"])
        meant = [outcome.node for outcome in seen if outcome.changes]
        _say_what_comes_back(seen, topic)
        if meant and not given["yes"]:
            _ask(seen)
        saved = plan.document(seen, loaded, (topic,))
        done = cli.collect(runner.apply_nodes(meant, asked, saved), meant, "rules remove")
        outcomes = _together(seen, done)
        code = runner.exit_code(outcomes, wanted=runner.is_ready)
        view = text.applied if meant else _nothing
        _show("rules remove", outcomes, given["output"], code, view)


def _with_those_before(context: click.Context, own: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options, where ``remove`` has none of its own those that stand before it."""
    before = context.parent
    if before is None:
        return own
    left_out = {
        name for name in own if context.get_parameter_source(name) is ParameterSource.DEFAULT
    }
    return {**own, **{name: before.params[name] for name in left_out & before.params.keys()}}


def _wanted(words: tuple[str, ...], comment: str, query: Query) -> Wanted:
    if bool(words) == bool(comment):
        raise UsageError(
            "say which rule: its --comment, or behind -- all that it says",
            hint="nodeprep rules --match TEXT lists rules",
        )
    return Wanted(query=query, comment=comment) if comment else ruleset.specified(words, query)


def _refuse(seen: Sequence[Outcome], topic: Removal, *, several: bool, theirs: bool) -> None:
    """Raise UsageError before any node is touched, where one has what was not meant."""
    for outcome in seen:
        if outcome.facts is None:
            continue
        chosen, name = topic.chosen(outcome.facts), outcome.node.name
        if ruleset.found(outcome.facts).cut:
            raise UsageError(f"{name} has more rules than can be told", hint="name a --chain")
        if len(chosen) > 1 and not several:
            told = "".join(f"\n  rule {r.number} of {r}: {r.text}" for r in chosen)
            hint = "--all, or choose by --table, --chain, --family or --backend"
            raise UsageError(f"{len(chosen)} rules of {name} are meant:{told}", hint=hint)
        if not theirs and any(map(ruleset.is_kube_proxys, chosen)):
            told = f"it is a rule of kube-proxy or kubelet on {name}: they would write it anew"
            raise UsageError(told, hint="--kube-proxy, if it is to go all the same")


def _say_what_comes_back(seen: Sequence[Outcome], topic: Removal) -> None:
    back = [outcome.node.name for outcome in seen if _comes_back(outcome, topic)]
    if back:
        told = "the next apply puts it back, and its unit at boot"
        click.echo(f"the inventory wants this rule on {fold(back)}: {told}", err=True)


def _ask(seen: Sequence[Outcome]) -> None:
    click.echo(report.meant(seen), err=True)
    count = sum(len(outcome.changes) for outcome in seen)
    if not confirmed(f"remove {count} rule{'s' if count > 1 else ''}?"):
        raise Interrupted("nothing was changed")


def _comes_back(outcome: Outcome, topic: Removal) -> bool:
    facts = outcome.facts
    return facts is not None and any(
        ruleset.is_put_back(outcome.node, rule) for rule in topic.chosen(facts)
    )


def _nothing(outcomes: Sequence[Outcome]) -> str:
    unread = [
        f"{outcome.node.name}: {finding.name}: {finding.actual}"
        for outcome in outcomes
        for finding in outcome.findings
    ]
    return "\n".join([*text.errors(outcomes), *unread, "no such rule; nothing was changed"])


def _together(seen: Sequence[Outcome], done: Sequence[Outcome]) -> list[Outcome]:
    by_name = {outcome.node.name: outcome for outcome in done}
    return [by_name.get(outcome.node.name, outcome) for outcome in seen]
