"""``--limit``: which nodes of an inventory a command is about.

Such as ``--limit 'worker[01-03],@gateways,role=edge,!worker02'``.
"""

import re
from collections.abc import Callable, Iterable, Sequence

from nodeprep.errors import UsageError
from nodeprep.inventory.characters import shown
from nodeprep.inventory.folding import expand, terms
from nodeprep.inventory.suggesting import suggestion
from nodeprep.model import Node


def select(nodes: Sequence[Node], limit: str) -> tuple[Node, ...]:
    """Return the nodes that ``limit`` names, in the inventory's order, each once.

    Its terms are separated by commas: a name, a folded name, a glob (``worker*``), a group
    (``@workers``) or a label (``role=worker``). A term after ``!`` takes nodes away, wherever it
    stands; where there is no other kind, it takes them from all.

    Raises UsageError for a term that matches no node, and if no node is left.
    """
    wanted, unwanted = _split(limit)
    inside = _named(nodes, wanted) if wanted else {node.name for node in nodes}
    chosen = inside - _named(nodes, unwanted)
    if not chosen:
        raise UsageError(f"--limit {shown(limit)} leaves no node", hint="leave out an exclusion")
    return tuple(node for node in nodes if node.name in chosen)


def _split(limit: str) -> tuple[list[str], list[str]]:
    found = [term.strip() for term in terms(limit)]
    if not all(term.removeprefix("!") for term in found):
        raise UsageError(f"--limit {shown(limit)} has an empty term", hint=_FORMS)
    wanted = [term for term in found if not term.startswith("!")]
    return wanted, [term.removeprefix("!") for term in found if term.startswith("!")]


def _named(nodes: Sequence[Node], among: Iterable[str]) -> set[str]:
    return {name for term in among for name in _matches(nodes, term)}


def _matches(nodes: Sequence[Node], term: str) -> list[str]:
    matches = _matcher(term)
    found = [node.name for node in nodes if matches(node)]
    if not found:
        hint = suggestion(term, _known(nodes, term), most=3)
        raise UsageError(f"--limit: {shown(term)} matches no node", hint=hint or _FORMS)
    return found


def _matcher(term: str) -> Callable[[Node], bool]:
    if term.startswith("@"):
        return lambda node: term[1:] in node.groups
    if "=" in term:
        key, _, value = term.partition("=")
        return lambda node: node.labels.get(key) == value
    names = set(expand(term))
    globs = re.compile("|".join(_pattern(name) for name in names if _is_glob(name)) or r"(?!)")
    return lambda node: node.name in names or bool(globs.fullmatch(node.name))


def _is_glob(name: str) -> bool:
    return "*" in name or "?" in name


def _pattern(glob: str) -> str:
    return re.escape(glob).replace(r"\*", ".*").replace(r"\?", ".")


def _known(nodes: Iterable[Node], term: str) -> set[str]:
    if term.startswith("@"):
        return {f"@{group}" for node in nodes for group in node.groups}
    if "=" in term:
        return {f"{key}={value}" for node in nodes for key, value in node.labels.items()}
    return {node.name for node in nodes}


_FORMS = "write names, worker[01-40], worker*, @group or label=value, and ! in front to leave out"
