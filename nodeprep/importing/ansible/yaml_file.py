"""Ansible's YAML inventory: groups that hold hosts, children and variables.

The rules are those of Ansible's own reader (lib/ansible/plugins/inventory/yaml.py).
"""

from collections import deque
from typing import Any

from nodeprep.importing.ansible.draft import Draft, Var
from nodeprep.importing.ansible.patterns import expanded
from nodeprep.importing.imported import Origin
from nodeprep.inventory.characters import shown
from nodeprep.inventory.foreign import Entry, Table

_SECTIONS = ("vars", "children", "hosts")
MOST_GROUPS = 100_000
"""Aliases may make one group stand at many places: this is where reading them ends."""


def is_inventory(value: Any) -> bool:
    """Tell whether a document looks like an inventory: a group, or an empty place for one."""
    return isinstance(value, Table) and any(
        isinstance(entry.value, Table) and not entry.value.entries.keys().isdisjoint(_SECTIONS)
        for entry in value.entries.values()
    )


def read(value: Any, file: str, draft: Draft) -> None:
    """Add what a YAML inventory says to ``draft``, what is wrong in it too."""
    if not isinstance(value, Table):
        draft.fault(Origin(file, 1), "groups are wanted here, such as `all:` with `hosts:` in it")
        return
    _tell_repeated(value, file, draft)
    waiting = deque((name, entry, "") for name, entry in value.entries.items())
    for _ in range(MOST_GROUPS):
        if not waiting:
            return
        name, entry, parent = waiting.popleft()
        waiting.extendleft(reversed(_group(name, entry, parent, file, draft)))
    draft.fault(Origin(file, value.line), f"there are more than {MOST_GROUPS} groups")


def _group(
    name: str, entry: Entry, parent: str, file: str, draft: Draft
) -> list[tuple[str, Entry, str]]:
    """Add one group, and return its children, which come next."""
    origin = Origin(file, entry.line)
    if entry.value is not None and not isinstance(entry.value, Table):
        draft.note(
            origin, f"{shown(name)} is no group: passed over", "a group holds hosts: or vars:"
        )
        return []
    group = draft.group(name)
    if parent:
        draft.group(parent).children.setdefault(name, origin)
    if entry.value is None:
        return []
    _tell_repeated(entry.value, file, draft)
    for key, inner in entry.value.entries.items():
        if key not in _SECTIONS:
            told = f"the key {shown(key)} in group {shown(name)} says nothing to Ansible"
            draft.note(Origin(file, inner.line), told)
    group.vars.update(_vars(_section(entry.value, "vars", file, draft), file, name))
    _hosts(_section(entry.value, "hosts", file, draft), name, file, draft)
    children = _section(entry.value, "children", file, draft)
    return [(child, inner, name) for child, inner in children.items()]


def _section(group: Table, key: str, file: str, draft: Draft) -> dict[str, Entry]:
    """Return what stands under a key of a group; one word stands for itself without a value."""
    value = group.get(key)
    if value is None:
        return {}
    line = group.entries[key].line
    if isinstance(value, str):
        return {word: Entry(None, line) for word in value.split()[:1]}
    if not isinstance(value, Table):
        told = f"`{key}` is a mapping: write each with a colon behind it, not as a list"
        draft.fault(Origin(file, line), told)
        return {}
    _tell_repeated(value, file, draft)
    return dict(value.entries)


def _hosts(section: dict[str, Entry], group: str, file: str, draft: Draft) -> None:
    for pattern, entry in section.items():
        origin = Origin(file, entry.line)
        if entry.value is not None and not isinstance(entry.value, Table):
            draft.fault(origin, "a host has variables, as `name: value`, or nothing behind it")
            continue
        try:
            hosts, port = expanded(pattern)
        except ValueError as error:
            draft.fault(origin, str(error))
            continue
        given = _vars(dict(entry.value.entries), file, "") if entry.value else {}
        for host in hosts:
            draft.host(host, group, port, origin).update(given)


def _vars(section: dict[str, Entry], file: str, group: str) -> dict[str, Var]:
    return {
        name: Var(value=entry.value, origin=Origin(file, entry.line), group=group)
        for name, entry in section.items()
    }


def _tell_repeated(table: Table, file: str, draft: Draft) -> None:
    for key, line in table.repeated.items():
        told = f"the key {shown(key)} stands there twice: the last one counts"
        draft.note(Origin(file, line), told)
