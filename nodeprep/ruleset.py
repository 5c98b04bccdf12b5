"""The iptables rules of a node, to be listed with their numbers, and to be removed by all they say.

A number is for reading: by the time somebody types it, another rule may have it. What is removed is
named by its comment or by its whole text, and nothing else goes with it.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nodeprep import chains, iptables
from nodeprep.errors import UsageError
from nodeprep.iptables import Rule
from nodeprep.model import Change, Fact, Facts, Finding, Node, Status
from nodeprep.shell import quote

NAME = "rules"

TABLES = ("raw", "mangle", "nat", "filter", "security")

MOST = 600_000
"""Bytes of rules that are brought home from one node; a table of 20,000 services has more."""


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which rules are looked at; an empty word chooses all. ``text`` is some part of a rule."""

    table: str = ""
    chain: str = ""
    text: str = ""
    family: str = ""
    backend: str = ""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Rules in the order of their chains. ``cut`` says that there are more than could be told.

    ``unread`` are the places that could not be read, as ``nft 4``.
    """

    rules: tuple[Rule, ...]
    cut: bool = False
    unread: tuple[str, ...] = ()


_PROBE = f"""\
{iptables.LOOKING}\
for backend in {" ".join(iptables.BACKENDS)}; do
  for family in 4 6; do
    echo "@ $backend $family"
    saved_rules "$backend" "$family" %s
  done
done | text=%s awk -v only=%s '
  $1 == "@" {{ print; next }}
  /^# unread/ {{ print; next }}
  /^\\*/ {{ print; split("", number); next }}
  /^-A / {{
    number[$2]++
    if ((only != "" && $2 != only) || (ENVIRON["text"] != "" && !index($0, ENVIRON["text"]))) next
    told += length($0) + 8
    if (told > {MOST}) {{ if (!cut++) print "# cut"; next }}
    print number[$2] ":" $0
  }}'"""


def _script(query: Query) -> str:
    words = (query.table, query.text, query.chain)
    return _PROBE % tuple(str(quote(word)) for word in words)


def parse(text: str) -> Found:
    """Read ``@ BACKEND FAMILY``, ``*TABLE`` and ``N:-A CHAIN ...`` lines."""
    rules: list[Rule] = []
    unread: list[str] = []
    for part in re.split(r"^@ ", text, flags=re.MULTILINE)[1:]:
        place, *tables = re.split(r"^\*", part, flags=re.MULTILINE)
        backend, family = place.splitlines()[0].split(" ")
        if "\n# unread" in place:
            unread.append(f"{backend} {family}")
        rules += [rule for table in tables for rule in _rules(backend, int(family), table)]
    return Found(rules=tuple(rules), cut="\n# cut" in text, unread=tuple(unread))


def _rules(backend: str, family: int, part: str) -> Iterator[Rule]:
    table, _, lines = part.partition("\n")
    for number, chain, text in re.findall(r"^(\d+):-A (\S+) (.*)$", lines, re.MULTILINE):
        yield Rule(
            backend=backend,
            family=family,
            table=table,
            chain=chain,
            number=int(number),
            text=text,
        )


def fact(query: Query) -> Fact[Found]:
    """Return the question for the rules that ``query`` chooses."""
    return Fact(name=NAME, script=lambda _: _script(query), parse=parse)


def found(facts: Facts) -> Found:
    """Return what a node answered to it."""
    return facts[fact(Query())]


# --- what is to go --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which rules are to go: those with ``comment``, or those that say just ``text``."""

    query: Query
    comment: str = ""
    text: str = ""

    def chooses(self, rule: Rule) -> bool:
        """Tell whether ``rule`` is one of them."""
        place = (
            self.query.family in ("", str(rule.family)),
            self.query.backend in ("", rule.backend),
            self.query.table in ("", rule.table),
            self.query.chain in ("", rule.chain),
        )
        if self.comment:
            return all(place) and rule.comment == self.comment
        return all(place) and iptables.is_same(rule.text, self.text)


def specified(words: Sequence[str], query: Query) -> Wanted:
    """Return the rule that ``words`` specify: ``-t nat PREROUTING -m set ... -j RETURN``.

    They may be one word, and the chain may stand behind ``-A`` or ``-D``, as iptables-save prints
    it. Raises UsageError.
    """
    tokens = _split(words[0]) if len(words) == 1 else list(words)
    if tokens[:1] in (["-t"], ["--table"]):
        query = replace(query, table=(tokens[1:2] or [""])[0])
        tokens = tokens[2:]
    if tokens[:1] in (["-A"], ["-D"]):
        tokens = tokens[1:]
    if not query.table or len(tokens) < 2:  # noqa: PLR2004 a chain, and something of it
        raise UsageError(
            "a rule is its table, its chain, and all that iptables-save prints behind them",
            hint="nodeprep rules remove -- -t nat PREROUTING -m set --match-set a src -j RETURN",
        )
    return Wanted(query=replace(query, chain=tokens[0]), text=" ".join(tokens[1:]))


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise UsageError(f"{line!r} is no rule: {error}") from error


def is_kube_proxys(rule: Rule) -> bool:
    """Tell whether a rule is kube-proxy's or kubelet's: they write it anew, and stand on it."""
    names = (rule.chain, rule.target)
    return any(name.startswith("KUBE-") for name in names) or rule.comment.startswith("kubernetes ")


# --- as a topic -----------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The contract of ``story.Topic`` for rules that are only looked at."""

    query: Query
    NAME: str = NAME
    TITLE: str = "Rules"

    @property
    def FACTS(self) -> tuple[Fact[Any], ...]:  # noqa: N802 a name of the contract
        """The one question."""
        return (fact(self.query),)

    def paths(self, _: Node, /) -> tuple[str, ...]:
        """No file has to do with it."""
        return ()

    def secrets(self, _: Node, /) -> tuple[str, ...]:
        """No file has to do with it."""
        return ()

    def changes(self, _: Node, __: Facts, /) -> tuple[Change, ...]:
        """To look changes nothing."""
        return ()

    def findings(self, _: Node, __: Facts, /) -> tuple[Finding, ...]:
        """A rule that is there is neither right nor wrong."""
        return ()


@dataclass(frozen=True, kw_only=True)
class Removal(Listing):
    """The same for rules that are to go."""

    wanted: Wanted

    def chosen(self, facts: Facts) -> tuple[Rule, ...]:
        """Return the rules of a node that are to go."""
        return tuple(filter(self.wanted.chooses, found(facts).rules))

    def changes(self, _: Node, facts: Facts, /) -> tuple[Change, ...]:
        """Remove each of them by all that it says."""
        return tuple(_removed(rule) for rule in self.chosen(facts))

    def findings(self, _: Node, facts: Facts, /) -> tuple[Finding, ...]:
        """Say of each of them that it is there, and of each place that it could not be read."""
        unread = (
            Finding(
                topic=NAME,
                name=place,
                status=Status.FAIL,
                actual="its rules could not be read",
                wanted="read",
                hint="iptables-save on the node says why",
            )
            for place in found(facts).unread
        )
        there = (
            Finding(
                topic=NAME,
                name=str(rule),
                status=Status.FAIL,
                actual=f"rule {rule.number}: {rule.text}",
                wanted="removed",
                hint="see /var/lib/nodeprep/log on the node",
            )
            for rule in self.chosen(facts)
        )
        return (*there, *unread)


def _removed(rule: Rule) -> Change:
    return Change(
        topic=NAME,
        subject=str(rule),
        summary=f"remove rule {rule.number} of {rule}: {rule.text}",
        action=iptables.removal([rule]),
    )


def removal(wanted: Wanted) -> Removal:
    """Return the topic that removes what is wanted to go.

    The node is asked for what has the comment or the chain: more than these need not come home.
    """
    plain = not set(wanted.comment) & set("\"\\'")
    text = iptables.quoted(wanted.comment) if wanted.comment and plain else ""
    return Removal(query=replace(wanted.query, text=text), wanted=wanted)


def is_put_back(node: Node, rule: Rule) -> bool:
    """Tell whether the inventory wants this very rule: the next apply would put it back."""
    return chains.key_of(rule) in map(chains.key_of, node.desired.bypass_rules or ())
