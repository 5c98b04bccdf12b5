"""Ansible's inventories: INI and YAML with the variables beside them, or what Ansible says itself.

The way from files to machines::

    ini, yaml_file   text to a draft of groups, hosts, variables   (patterns)
    listing          what `ansible-inventory --list` prints, to such a draft
    vars_files       group_vars and host_vars
    membership       which groups a host is in, and which variable counts
    connection       variables to the settings of our inventory    (templates)

Nothing of an inventory is ever executed here. What only Ansible can tell is named by
:func:`for_ansible`, and the caller may ask it.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from nodeprep.importing.ansible import ini, listing, membership, vars_files, yaml_file
from nodeprep.importing.ansible.connection import KNOWN, Reading, reached
from nodeprep.importing.ansible.draft import ALL, UNGROUPED, Draft, Var
from nodeprep.importing.ansible.membership import FileVars, Host
from nodeprep.importing.imported import Imported, Key, Machine, Note, Origin
from nodeprep.importing.settings import Paths
from nodeprep.importing.sources import Source
from nodeprep.inventory.characters import shown
from nodeprep.inventory.foreign import Table, decoded, read_foreign

_YAML = (".yml", ".yaml", ".json")
_NO_INVENTORY = "no inventory: passed over"
_KEY = re.compile(r"[^\s:=\[\]#;][^:=]*:(\s|$)|---|\{")
"""How a YAML inventory begins, and an INI one does not."""


@dataclass(frozen=True, kw_only=True)
class Extra:
    """What a reader knows beyond plain Ansible: more variables, and what they come to."""

    known: frozenset[str] = frozenset()
    more: Callable[[Reading], None] = lambda _: None


@dataclass(frozen=True, kw_only=True)
class Result:
    """An import, and whether a vault, which only Ansible opens, may hold more of it."""

    imported: Imported
    vault: bool


def for_ansible(source: Source) -> str:
    """Return why only Ansible itself can read an inventory, or an empty text."""
    for path, text in source.inventories.items():
        if path in source.programs:
            return f"{source.name(path)} is a program"
        if text.startswith(vars_files.VAULT):
            return f"{source.name(path)} is a vault"
        if path.endswith(".toml"):
            return f"{source.name(path)} is TOML"
        if b"plugin" in text and _is_yaml(path, text):
            plugin = _plugin(read_foreign(text, source.name(path)))
            if plugin:
                return f"{source.name(path)} is for the plugin {shown(plugin)}"
    return ""


def read(source: Source, paths: Paths, extra: Extra | None = None) -> Result:
    """Return what the files of an inventory say. Raises InventoryError with what is wrong."""
    draft, hosts = drafted(source)
    around = {"inventory_dir": Var(value=source.folder, origin=Origin(source.shown))}
    return _result(draft, hosts, paths, around, extra or Extra())


def drafted(source: Source) -> tuple[Draft, Sequence[Host]]:
    """Return what stands in the files of an inventory, and each host with the variables it has.

    Raises InventoryError with what is wrong.
    """
    draft = Draft()
    alone = len(source.inventories) == 1
    for path in source.others:
        draft.note(Origin(source.name(path)), _NO_INVENTORY)
    for path, text in source.inventories.items():
        _read_file(path, text, source, draft, alone=alone)
    beside = vars_files.VarsFiles(files=source.beside, shown=source.shown)
    variables = vars_files.read(beside, draft)
    for origin in membership.wrong_priorities(draft.groups):
        draft.fault(origin, f"{membership.PRIORITY} is a whole number")
    draft.check()
    return draft, list(membership.hosts(draft, variables))


def read_listing(text: bytes, file: str, paths: Paths, extra: Extra | None = None) -> Result:
    """Return what a listing of ``ansible-inventory --list`` says. Raises InventoryError."""
    draft = Draft()
    value = listing.parsed(text, file)
    if listing.is_listing(value):
        listing.read(value, file, draft)
    else:
        draft.fault(Origin(file), "this is not what `ansible-inventory --list` prints")
    draft.check()
    hosts = list(membership.hosts(draft, FileVars(groups={}, hosts={})))
    return _result(draft, hosts, paths, {}, extra or Extra())


def is_listing(text: bytes) -> bool:
    """Tell whether a text is one that :func:`read_listing` is for, without reading all of it."""
    return text.lstrip()[:1] == b"{" and b'"_meta"' in text


def _read_file(path: str, text: bytes, source: Source, draft: Draft, *, alone: bool) -> None:
    file = source.name(path)
    if is_listing(text):
        listing.read(listing.parsed(text, file), file, draft)
    elif _is_yaml(path, text):
        value = read_foreign(text, file)
        if alone or yaml_file.is_inventory(value):
            yaml_file.read(value, file, draft)
        else:
            draft.note(Origin(file), _NO_INVENTORY)
    elif alone or PurePosixPath(path).suffix == ".ini" or ini.is_inventory(text):
        ini.read(decoded(text, file), file, draft)
    else:
        draft.note(Origin(file), _NO_INVENTORY)


def _is_yaml(path: str, text: bytes) -> bool:
    """Tell by its name, or else by its first line, whether a file is YAML and not INI."""
    suffix = PurePosixPath(path).suffix
    if suffix in _YAML or suffix == ".ini":
        return suffix in _YAML
    lines = (line.strip() for line in text[:65536].decode("utf-8", "replace").splitlines())
    first = next((line for line in lines if line and line[0] not in "#;"), "")
    return bool(_KEY.match(first))


def _plugin(value: object) -> str:
    found = value.get("plugin") if isinstance(value, Table) else None
    return found if isinstance(found, str) else ""


# --- from a draft to machines -------------------------------------------------------------------


def _result(
    draft: Draft, hosts: Sequence[Host], paths: Paths, around: Mapping[str, Var], extra: Extra
) -> Result:
    machines: list[Machine] = []
    notes = list(draft.notes)
    written_in: dict[str, frozenset[Key]] = {}
    vault = bool(draft.vaults)
    for host in hosts:
        found = reached(host, paths, around, extra.more)
        machines += [found.machine] if found.machine else []
        notes += found.notes
        vault = vault or found.vault
        for group, keys in found.written_in.items():
            written_in[group] = written_in.get(group, frozenset()) | keys
    notes += [*_empty(draft, machines), *_unused(hosts, KNOWN | extra.known)]
    imported = Imported(machines=tuple(machines), written_in=written_in, notes=tuple(notes))
    return Result(imported=imported, vault=vault)


def _empty(draft: Draft, machines: Sequence[Machine]) -> Iterator[Note]:
    used = {group for machine in machines for group in machine.groups}
    if empty := sorted(draft.groups.keys() - used - {ALL, UNGROUPED}):
        yield Note(message=f"groups without a node are not written: {', '.join(empty)}")


def _unused(hosts: Sequence[Host], known: frozenset[str]) -> Iterator[Note]:
    """Yield one line with Ansible's own variables that have no counterpart, and one with others."""
    names = {name for host in hosts for name in host.vars} - known
    own = sorted(name for name in names if name.startswith("ansible_"))
    others = sorted(names - set(own))
    if own:
        yield Note(message=f"Ansible's own variables stay behind: {', '.join(own)}")
    if others:
        told = "variables that say nothing to nodeprep stay behind"
        yield Note(message=f"{told}: {', '.join(others)}")
