"""``group_vars`` and ``host_vars`` beside an inventory: which files count, and what they say.

As Ansible's own reader has it (lib/ansible/parsing/dataloader.py, ``find_vars_files``): of NAME,
NAME.yml, NAME.yaml and NAME.json the first that is there, which may be a folder of such files.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from nodeprep.importing.ansible.draft import Draft, Var, Vars
from nodeprep.importing.ansible.membership import FileVars
from nodeprep.importing.imported import Origin
from nodeprep.inventory.foreign import Table, read_foreign

GROUP_VARS, HOST_VARS = "group_vars", "host_vars"
VAULT = b"$ANSIBLE_VAULT"
"""How a file begins that is encrypted as a whole."""

_SUFFIXES = ("", ".yml", ".yaml", ".json")


@dataclass(frozen=True, kw_only=True)
class VarsFiles:
    """The files under ``group_vars`` and ``host_vars`` by their paths, with slashes."""

    files: Mapping[str, bytes]
    shown: str = ""
    folders: dict[str, dict[str, None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for path in self.files:
            for parent in PurePosixPath(path).parents:
                name = PurePosixPath(path).relative_to(parent).parts[0]
                self.folders.setdefault(str(parent), {})[name] = None

    def of(self, folder: str, name: str) -> Iterator[str]:
        """Yield the files that count for a group or a host, in the order in which they are read."""
        for suffix in _SUFFIXES:
            path = f"{folder}/{name}{suffix}"
            if path in self.files:
                yield path
                return
            if path in self.folders:
                yield from self._inside(path)
                return

    def _inside(self, folder: str) -> Iterator[str]:
        for name in sorted(self.folders[folder]):
            path, suffix = f"{folder}/{name}", PurePosixPath(name).suffix
            if name.startswith(".") or name.endswith("~"):
                continue
            if path in self.folders:
                yield from self._inside(path) if not suffix else ()
            elif suffix in _SUFFIXES:
                yield path


def read(beside: VarsFiles, draft: Draft) -> FileVars:
    """Return the variables of each group and host; what is wrong goes to ``draft``."""
    groups = {
        name: found
        for name in draft.groups
        if (found := _merged(beside, beside.of(GROUP_VARS, name), draft, name))
    }
    hosts = {
        name: found
        for name in draft.hosts
        if (found := _merged(beside, beside.of(HOST_VARS, name), draft, ""))
    }
    return FileVars(groups=groups, hosts=hosts)


def _merged(beside: VarsFiles, paths: Iterable[str], draft: Draft, group: str) -> Vars:
    found: Vars = {}
    for path in paths:
        shown = f"{beside.shown}{path}"
        found |= _vars(beside.files[path], shown, draft, group)
    return found


def _vars(text: bytes, file: str, draft: Draft, group: str) -> Vars:
    if text.startswith(VAULT):
        hint = "write what nodeprep needs of it by hand, or see `--with-ansible`"
        draft.note(Origin(file), "a vault is not opened", hint)
        draft.vaults.append(Origin(file))
        return {}
    value = read_foreign(text, file)
    if value is None:
        return {}
    if not isinstance(value, Table):
        draft.fault(Origin(file, 1), "variables are wanted here, as `name: value`")
        return {}
    return {
        name: Var(value=entry.value, origin=Origin(file, entry.line), group=group)
        for name, entry in value.entries.items()
    }
