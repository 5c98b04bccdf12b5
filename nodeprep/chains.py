"""A chain of iptables with rules of ours in it: how it is read, and how each of them stands.

::

    >>> from nodeprep.model import BypassRule
    >>> rule = BypassRule(set="myset", comment="myset")
    >>> seen = read(
    ...     "chain nft 4 nat PREROUTING\\n"
    ...     "1:-A PREROUTING -m comment --comment services -j KUBE-SERVICES\\n"
    ...     f"2:-A PREROUTING {text_of(rule)}\\n"
    ... )
    >>> verdict(rule, [rule], seen).actual
    "rule 2 (IPv4, nft backend): behind kube-proxy's jump, rule 1"
"""

from collections.abc import Sequence
from dataclasses import dataclass

from nodeprep import iptables
from nodeprep.iptables import BACKENDS, Backend, Rule, is_same
from nodeprep.model import APPLY, BypassRule, Status

Key = tuple[int, str, str, str]
"""By what a rule is known, wanted or there: family, table, chain and comment."""


def key_of(rule: BypassRule | Rule) -> Key:
    """Return by what a rule is known."""
    return rule.family, rule.table, rule.chain, rule.comment


def text_of(rule: BypassRule) -> str:
    """Return a rule as iptables prints it, behind its chain.

    >>> text_of(BypassRule(set="myset", comment="myset"))
    '-m set --match-set myset src -m comment --comment myset -j RETURN'
    """
    comment = iptables.quoted(rule.comment)
    return (
        f"-m set --match-set {rule.set} {rule.match} -m comment --comment {comment} "
        f"-j {rule.target}"
    )


# --- what is there --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A chain of one backend: its rules that match sets, and the numbers of jumps to KUBE- chains.

    ``exists`` is false for a chain that iptables does not know. ``unread`` is what iptables said
    where it could not list the chain; nothing is known of it then.
    """

    backend: Backend
    family: int
    table: str
    name: str
    exists: bool
    rules: tuple[Rule, ...] = ()
    jumps: tuple[int, ...] = ()
    unread: str = ""


def backend(word: str) -> Backend:
    """Return the backend that is called so. Raises KeyError for another word."""
    return {str(each): each for each in BACKENDS}[word]


def read(text: str) -> Chain:
    """Read ``chain``, ``absent`` or ``unread`` with a place, then rules as ``N:-A CHAIN ...``.

    Behind ``unread``, what iptables said of it stands in place of the rules.
    """
    first, *lines = text.splitlines()
    kind, where, family, table, name = first.split(" ")
    rules = [
        Rule(
            backend=backend(where),
            family=int(family),
            table=table,
            chain=name,
            number=int(number),
            text=rest.removeprefix(f"-A {name} "),
        )
        for number, _, rest in (line.partition(":") for line in lines)
        if number and kind == "chain"
    ]
    return Chain(
        backend=backend(where),
        family=int(family),
        table=table,
        name=name,
        exists=kind != "absent",
        rules=tuple(rule for rule in rules if rule.matches_set),
        jumps=tuple(rule.number for rule in rules if rule.target.startswith("KUBE-")),
        unread=("".join(lines) or "iptables gave no reason") if kind == "unread" else "",
    )


# --- how it stands --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a wanted rule stands. ``apply`` mends it where ``hint`` says so.

    ``beside_jump`` says that only its place is wrong, and that because of kube-proxy's jumps.
    """

    status: Status
    actual: str
    hint: str = ""
    beside_jump: bool = False


def verdict(rule: BypassRule, beside: Sequence[BypassRule], chain: Chain) -> Verdict:
    """Judge a rule in its chain; ``beside`` are all rules that are wanted there, in order."""
    if not chain.exists:
        hint = "let who makes that chain do so, or name another `chain`"
        return Verdict(status=Status.FAIL, actual=f"there is no chain {chain.name}", hint=hint)
    mine = [each for each in chain.rules if key_of(each) == key_of(rule)]
    if len(mine) != 1:
        actual = f"there are {len(mine)} of it" if mine else "not there"
        return Verdict(status=Status.FAIL, actual=actual, hint=APPLY)
    (found,) = mine
    where = f"rule {found.number} ({found.place})"
    if not is_same(found.text, text_of(rule)):
        return Verdict(status=Status.FAIL, actual=f"{where}: it says {found.text}", hint=APPLY)
    if wrong := _out_of_order(beside, chain):
        return Verdict(status=Status.FAIL, actual=f"{where}: {wrong}", hint=APPLY)
    if wrong := _beside_jump(rule, found, chain):
        actual = f"{where}: {wrong}"
        return Verdict(status=Status.FAIL, actual=actual, hint=APPLY, beside_jump=True)
    return Verdict(status=Status.OK, actual=where)


def _beside_jump(rule: BypassRule, found: Rule, chain: Chain) -> str:
    if rule.position == "first" and chain.jumps and found.number > chain.jumps[0]:
        return f"behind kube-proxy's jump, rule {chain.jumps[0]}"
    if rule.position == "last" and chain.jumps and found.number < chain.jumps[-1]:
        return f"ahead of kube-proxy's jump, rule {chain.jumps[-1]}"
    return ""


def _out_of_order(beside: Sequence[BypassRule], chain: Chain) -> str:
    wanted = [key_of(rule) for rule in sorted(beside, key=lambda rule: rule.position == "last")]
    found = [key_of(rule) for rule in chain.rules if key_of(rule) in wanted]
    # One that is missing or there twice is told by its own verdict.
    order = [key for key in wanted if key in found]
    return "not in the order of the inventory" if order != list(dict.fromkeys(found)) else ""
