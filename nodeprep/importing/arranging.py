"""Where each setting is written: in the defaults, in a group, or at a node.

The settings of each machine are what counts; where they stand is only how a person would write
them. So a setting goes where most share it, and whoever differs says so at the node itself. A layer
holds a key only if all who inherit it have one of their own: then nobody gets what he had not.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nodeprep.importing.imported import Imported, Key, Machine, Settings, Value

Groups = dict[str, dict[Key, Value]]


@dataclass(frozen=True, kw_only=True)
class Arranged:
    """The three layers of an inventory; ``own`` are the settings of each machine in order."""

    defaults: Settings
    groups: Mapping[str, Settings]
    own: tuple[Settings, ...]


def arranged(imported: Imported) -> Arranged:
    """Return the layers that give each machine exactly its settings."""
    machines = imported.machines
    keys = list(dict.fromkeys(key for machine in machines for key in machine.settings))
    shared = {key: _shared(machines, key) for key in keys}
    defaults = {key: value for key, value in shared.items() if value is not None}
    groups = _grouped(imported, keys, defaults)
    own = tuple(_own(machine, groups, defaults) for machine in machines)
    return Arranged(defaults=defaults, groups=groups, own=own)


def inherited(
    machine: Machine, key: Key, groups: Mapping[str, Settings], defaults: Settings
) -> Value | None:
    """Return what a machine gets from its groups, the last of which wins, and the defaults."""
    layers = (groups[group] for group in reversed(machine.groups))
    return next((layer[key] for layer in layers if key in layer), defaults.get(key))


def _own(machine: Machine, groups: Mapping[str, Settings], defaults: Settings) -> Settings:
    return {
        key: value
        for key, value in machine.settings.items()
        if not _is(inherited(machine, key, groups, defaults), value)
    }


def _grouped(imported: Imported, keys: Sequence[Key], defaults: Settings) -> Groups:
    members: dict[str, list[Machine]] = {}
    for machine in imported.machines:
        for group in machine.groups:
            members.setdefault(group, []).append(machine)
    groups: Groups = {group: {} for group in members}
    # What all machines share is in the defaults, and no group has to say it again.
    apart = [key for key in keys if _shared(imported.machines, key, every=True) is None]
    for group, key in _candidates(imported, members, apart):
        inside = members[group]
        value = _shared(inside, key, every=key not in imported.written_in.get(group, ()))
        wanting = (m for m in inside if _is(m.settings.get(key), value))
        if value is not None and not all(
            _is(inherited(m, key, groups, defaults), value) for m in wanting
        ):
            groups[group][key] = value
    return groups


def _candidates(
    imported: Imported, members: Mapping[str, Sequence[Machine]], keys: Sequence[Key]
) -> Iterator[tuple[str, Key]]:
    """Yield where a key may be written: first where the source has it, then the largest group."""
    for group in members:
        yield from ((group, key) for key in keys if key in imported.written_in.get(group, ()))
    for group in sorted(members, key=lambda group: -len(members[group])):
        if len(members[group]) > 1:
            yield from ((group, key) for key in keys)


def _shared(machines: Sequence[Machine], key: Key, *, every: bool = False) -> Value | None:
    """Return the value of more than half of the machines, or of every one; all must have one."""
    first = machines[0].settings.get(key)
    if first is None or all(_is(machine.settings.get(key), first) for machine in machines):
        return first
    found = [machine.settings.get(key) for machine in machines]
    if every or None in found:
        return None
    ((_, value), times), *_ = Counter((type(value), value) for value in found).most_common(1)
    return value if times * 2 > len(found) else None


def _is(one: Value | None, other: Value | None) -> bool:
    """Tell whether two values are one: ``1`` is not ``true``."""
    return type(one) is type(other) and one == other
