"""Which groups a host is in, in the order in which they win, and what its variables come to.

Ansible's order (lib/ansible/inventory/group.py and helpers.py, lib/ansible/vars/manager.py): groups
by their depth below ``all``, then by ``ansible_group_priority``, then by name, of two the later
one. What stands in the inventory itself comes before ``group_vars``, so that ``group_vars/all``
wins over a ``[web:vars]``; a host's own variables come last.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nodeprep.importing.ansible.draft import ALL, UNGROUPED, Draft, Group, Var, Vars
from nodeprep.importing.imported import Origin

PRIORITY = "ansible_group_priority"
IMPLICIT = frozenset({ALL, UNGROUPED})


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host with all that counts for it; its groups are without ``all`` and ``ungrouped``."""

    name: str
    groups: tuple[str, ...]
    vars: Mapping[str, Var]


@dataclass(frozen=True, kw_only=True)
class FileVars:
    """What ``group_vars`` and ``host_vars`` say of each group and host."""

    groups: Mapping[str, Vars]
    hosts: Mapping[str, Vars]


def hosts(draft: Draft, beside: FileVars) -> Iterator[Host]:
    """Yield the hosts in the order in which they are written, each with its variables."""
    ranks = ranking(draft.groups)
    parents = _parents(draft.groups)
    inside: dict[str, set[str]] = {name: {ALL} for name in draft.hosts}
    for group, content in draft.groups.items():
        above = around(group, parents) if content.hosts else ()
        for host in content.hosts:
            inside[host].update(above)
    shared: dict[tuple[str, ...], Vars] = {}
    for name, own in draft.hosts.items():
        # Who is in no other group is in `ungrouped`, and nobody else is.
        counted = (inside[name] - {UNGROUPED}) if inside[name] - IMPLICIT else IMPLICIT
        groups = tuple(sorted(counted, key=ranks.__getitem__))
        if groups not in shared:
            shared[groups] = _of_groups(groups, draft.groups, beside)
        yield Host(
            name=name,
            groups=tuple(group for group in groups if group not in IMPLICIT),
            vars={**shared[groups], **own, **beside.hosts.get(name, {})},
        )


def _of_groups(order: tuple[str, ...], groups: Mapping[str, Group], beside: FileVars) -> Vars:
    found: Vars = {}
    for name in order:
        found |= {key: var for key, var in groups[name].vars.items() if key != PRIORITY}
    for name in order:
        found |= beside.groups.get(name, {})
    return found


def ranking(groups: Mapping[str, Group]) -> Mapping[str, tuple[int, int, str]]:
    """Return what groups are sorted by: depth below ``all``, priority, name."""
    depths = _depths(groups)
    return {name: (depths[name], _priority(group), name) for name, group in groups.items()}


def around(name: str, parents: Mapping[str, Sequence[str]]) -> set[str]:
    """Return a group with all groups that it is in, ``all`` included."""
    found, waiting = {ALL}, [name]
    while waiting:
        here = waiting.pop()
        waiting += [parent for parent in parents[here] if parent not in found]
        found.add(here)
    return found


def _parents(groups: Mapping[str, Group]) -> dict[str, list[str]]:
    parents: dict[str, list[str]] = {name: [] for name in groups}
    for name, group in groups.items():
        for child in group.children:
            parents[child].append(name)
    return parents


def _depths(groups: Mapping[str, Group]) -> dict[str, int]:
    """Return the longest way from ``all`` to each group; there are no circles."""
    parents = _parents(groups)
    missing = {name: len(above) for name, above in parents.items()}
    depths = {name: int(name != ALL) for name in groups}
    ready = [name for name, count in missing.items() if not count]
    while ready:
        name = ready.pop()
        for child in groups[name].children:
            depths[child] = max(depths[child], depths[name] + 1)
            missing[child] -= 1
            if not missing[child]:
                ready.append(child)
    return depths


def _priority(group: Group) -> int:
    var = group.vars.get(PRIORITY)
    return number(var.value) or 0 if var else 1


def number(value: object) -> int | None:
    """Return a priority as a whole number, None for what Ansible does not take for one."""
    try:
        return int(value) if isinstance(value, str | int | float) else None
    except (ValueError, OverflowError):
        return None


def wrong_priorities(groups: Mapping[str, Group]) -> Iterator[Origin]:
    """Yield where a priority stands that is no number."""
    for group in groups.values():
        if (var := group.vars.get(PRIORITY)) and number(var.value) is None:
            yield var.origin
