"""What inventory files say, as it grows file by file: groups, their children, hosts, variables."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nodeprep.errors import InventoryError, Problem
from nodeprep.importing.imported import Note, Origin
from nodeprep.inventory.characters import printable, shown
from nodeprep.inventory.folding import LIMIT

ALL, UNGROUPED = "all", "ungrouped"
"""The two groups that are always there."""

MOST_PROBLEMS = 20
"""A file with more of them is of another kind, and naming each would help nobody."""


@dataclass(frozen=True, kw_only=True)
class Var:
    """A variable's value, where it was written, and the group that it was written for, if any."""

    value: Any
    origin: Origin
    group: str = ""


Vars = dict[str, Var]


@dataclass(frozen=True, kw_only=True)
class Group:
    """A group with what was written for itself; ``children`` have the places that name them."""

    vars: Vars = field(default_factory=dict)
    children: dict[str, Origin] = field(default_factory=dict)
    hosts: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """All that was read so far. Problems end an import, notes do not."""

    groups: dict[str, Group] = field(default_factory=lambda: {ALL: Group(), UNGROUPED: Group()})
    hosts: dict[str, Vars] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    vaults: list[Origin] = field(default_factory=list)

    def group(self, name: str) -> Group:
        """Return a group, which is there from now on."""
        return self.groups.setdefault(name, Group())

    def host(self, name: str, group: str, port: int | None, origin: Origin) -> Vars:
        """Put a host into a group, and return where its variables go.

        As Ansible has it, these go to a group of the same name where there is one already: often
        it is one with this host alone, such as ``[bastion]`` with the host ``bastion``.
        """
        if name not in self.hosts:
            given = {"ansible_port": Var(value=port, origin=origin)} if port else {}
            self.hosts[name] = given
        self.group(group).hosts[name] = None
        return self.groups[name].vars if name in self.groups else self.hosts[name]

    def fault(self, origin: Origin, message: str) -> None:
        """Take note of something that must be mended first."""
        self.problems.append(Problem(printable(origin.file), origin.line or 1, 1, "", message))

    def note(self, origin: Origin, message: str, hint: str = "") -> None:
        """Take note of something that stays behind."""
        self.notes.append(Note(message=message, hint=hint, origin=origin))

    def check(self) -> None:
        """Raise InventoryError if anything was wrong, cycles of groups included."""
        for parent, child in _closing(self.groups):
            origin = self.groups[parent].children[child]
            self.fault(origin, f"the group {shown(child)} would be inside itself")
        if len(self.hosts) > LIMIT:
            self.fault(Origin("the inventory"), f"it has more than {LIMIT} hosts: split it")
        if self.problems:
            raise InventoryError(tuple(self.problems[:MOST_PROBLEMS]))


def _closing(groups: dict[str, Group]) -> Iterator[tuple[str, str]]:
    """Yield each parent and child that close a circle; no recursion, for chains may be long."""
    done: set[str] = set()
    for start, group in groups.items():
        path = {start: iter(group.children)} if start not in done else {}
        while path:
            here = next(reversed(path))
            child = next(path[here], None)
            if child is None:
                done.add(here)
                path.pop(here)
            elif child in path:
                yield here, child
            elif child not in done and child in groups:
                path[child] = iter(groups[child].children)
