"""Names of nodes and groups that our inventory allows, and a note for each that had to change.

>>> like_a_name("db primary (old)")
'db-primary-old'
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from nodeprep.importing.imported import Imported, Machine, Note
from nodeprep.inventory.hosts import machine_name

_GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What may be called how: ``same`` maps names that count as one to one text."""

    name: str
    longest: int
    is_allowed: Callable[[str], bool]
    like: Callable[[str], str]
    same: Callable[[str], str]


def renamed(imported: Imported) -> Imported:
    """Return the same with names that our inventory allows; each change is a note."""
    nodes = _names((machine.name for machine in imported.machines), _NODE)
    groups = _names((group for machine in imported.machines for group in machine.groups), _GROUPS)
    return Imported(
        machines=tuple(_with(machine, nodes, groups) for machine in imported.machines),
        written_in={groups.get(g, g): keys for g, keys in imported.written_in.items()},
        notes=(*imported.notes, *_told(_NODE, nodes), *_told(_GROUPS, groups)),
    )


def is_name(text: str) -> bool:
    """Tell whether a node of our inventory can be called so."""
    try:
        machine_name(text)
    except ValueError:
        return False
    return True


def is_group(text: str) -> bool:
    """Tell whether a group of our inventory can be called so."""
    return len(text) <= _GROUPS.longest and bool(_GROUP.fullmatch(text))


def like_a_name(text: str) -> str:
    """Return an allowed name of a node that a person would know again."""
    labels = (re.sub(r"[^A-Za-z0-9_-]+", "-", label) for label in text.split("."))
    trimmed = (re.sub(r"^[-_]+|[-_]+$", "", label) for label in labels)
    plain = ".".join(label for label in trimmed if label)[: _NODE.longest]
    return plain.rstrip(".-_") or "node"


def like_a_group(text: str) -> str:
    """Return an allowed name of a group that a person would know again."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", text).lstrip(".-")
    return plain[: _GROUPS.longest] or "group"


_NODE = _Kind(
    name="node", longest=253, is_allowed=is_name, like=like_a_name, same=lambda name: name.lower()
)
_GROUPS = _Kind(
    name="group", longest=64, is_allowed=is_group, like=like_a_group, same=lambda name: name
)


def _names(wanted: Iterable[str], kind: _Kind) -> Mapping[str, str]:
    """Return the new name of each, no two of which count as one."""
    ordered = list(dict.fromkeys(wanted))
    chosen: dict[str, str] = {}
    taken: set[str] = set()
    # Those that may stay as they are choose first.
    for name in sorted(ordered, key=lambda name: not kind.is_allowed(name)):
        free = next(one for one in _candidates(name, kind) if kind.same(one) not in taken)
        taken.add(kind.same(free))
        chosen[name] = free
    return {name: chosen[name] for name in ordered}


def _candidates(name: str, kind: _Kind) -> Iterator[str]:
    first = name if kind.is_allowed(name) else kind.like(name)
    yield first
    number = 2
    while True:
        ending = f"-{number}"
        yield (first[: kind.longest - len(ending)].rstrip(".-_") or kind.name) + ending
        number += 1


def _with(machine: Machine, nodes: Mapping[str, str], groups: Mapping[str, str]) -> Machine:
    return replace(
        machine, name=nodes[machine.name], groups=tuple(groups[group] for group in machine.groups)
    )


def _told(kind: _Kind, names: Mapping[str, str]) -> Iterator[Note]:
    for old, new in names.items():
        if old != new:
            told = (
                f"the {kind.name} `{old}` is called `{new}` here: the first is taken or not allowed"
            )
            yield Note(message=told)
