"""Ansible's INI inventory: sections of hosts, of children and of variables.

The rules are those of Ansible's own reader (lib/ansible/plugins/inventory/ini.py): values beside a
host and in ``:vars`` are Python literals where they can be read as such, and text where not. What
is wrong with a line never repeats a value of it: it may be half of a password.
"""

import ast
import re
import shlex
import warnings
from dataclasses import dataclass, field
from typing import Any

from nodeprep.importing.ansible.draft import UNGROUPED, Draft, Var
from nodeprep.importing.ansible.patterns import expanded
from nodeprep.importing.imported import Origin
from nodeprep.inventory.characters import shown

_SECTION = re.compile(r"\[([^:\]\s]+)(?::(\w+))?\]\s*(?:#.*)?")
_GROUP = re.compile(r"([^:\]\s]+)\s*(?:#.*)?")
_LITERAL = 10_000
"""Longer values are text: Python's reader of literals has limits of its own."""


def is_inventory(text: bytes) -> bool:
    """Tell whether a file without an ending is one: it has a section, or nothing wrong in it."""
    plain = text.decode("utf-8", "replace")
    if "\0" in plain:
        return False
    if any(_SECTION.fullmatch(line.strip()) for line in plain.splitlines()):
        return True
    scratch = Draft()
    read(plain, "", scratch)
    return not scratch.problems


def read(text: str, file: str, draft: Draft) -> None:
    """Add what an INI inventory says to ``draft``, what is wrong in it too."""
    reading = _Reading(draft=draft, declared=set(draft.groups))
    for number, line in enumerate(text.splitlines(), start=1):
        reading.take(line.strip(), Origin(file, number))
    for name, (origin, told) in reading.wanted.items():
        if name not in reading.declared:
            draft.fault(origin, told)
        draft.group(name)


@dataclass(kw_only=True)
class _Reading:
    """One pass over the lines; ``group`` and ``kind`` tell what the section they are in is.

    A group may be declared behind the place that wants it, so that place is kept till the end.
    """

    draft: Draft
    declared: set[str]
    group: str = UNGROUPED
    kind: str = "hosts"
    wanted: dict[str, tuple[Origin, str]] = field(default_factory=dict)

    def take(self, line: str, origin: Origin) -> None:
        if not line or line[0] in ";#":
            return
        if found := _SECTION.fullmatch(line):
            self._section(found[1], found[2] or "hosts", origin)
        elif line.startswith("[") and line.endswith("]"):
            told = "this is no section: write [group], [group:children] or [group:vars], no spaces"
            self.draft.fault(origin, told)
        elif self.kind == "hosts":
            self._hosts(line, origin)
        elif self.kind == "vars":
            self._variable(line, origin)
        elif self.kind == "children":
            self._child(line, origin)

    def _section(self, group: str, kind: str, origin: Origin) -> None:
        self.group, self.kind = group, kind
        if kind not in {"hosts", "vars", "children"}:
            told = f"a section {shown(f'[{group}:{kind}]')} is not known: write :children or :vars"
            self.draft.fault(origin, told)
        elif kind == "vars":
            told = f"there is no group {shown(group)} for these variables"
            self.wanted.setdefault(group, (origin, told))
        else:
            self.declared.add(group)
        self.draft.group(group)

    def _child(self, line: str, origin: Origin) -> None:
        found = _GROUP.fullmatch(line)
        if not found:
            self.draft.fault(origin, "this is no name of a group: one stands on each line")
            return
        child = found[1]
        told = f"the group {shown(self.group)} has a child {shown(child)}, which is nowhere"
        self.wanted.setdefault(child, (origin, told))
        self.draft.group(self.group).children.setdefault(child, origin)

    def _hosts(self, line: str, origin: Origin) -> None:
        try:
            hosts, port, given = _host_line(line)
        except ValueError as error:
            told = "a quote is not closed" if str(error) == _UNCLOSED else str(error)
            self.draft.fault(origin, told)
            return
        for host in hosts:
            variables = self.draft.host(host, self.group, port, origin)
            variables |= {name: Var(value=value, origin=origin) for name, value in given.items()}

    def _variable(self, line: str, origin: Origin) -> None:
        name, equals, value = line.partition("=")
        if not equals:
            self.draft.fault(origin, "a variable is wanted here, as name=value")
            return
        variable = Var(value=literal(value.strip()), origin=origin, group=self.group)
        self.draft.group(self.group).vars[name.strip()] = variable


_UNCLOSED = "No closing quotation"
"""What Python's shlex says."""


def _host_line(line: str) -> tuple[list[str], int | None, dict[str, Any]]:
    words = shlex.split(line, comments=True)
    if not words or not words[0]:
        raise ValueError("a host is wanted here")
    if words[0] == "---":
        raise ValueError("`---` begins a YAML file: call the file .yml")
    hosts, port = expanded(words[0])
    return hosts, port, dict(_assignment(word, at) for at, word in enumerate(words[1:], start=2))


def _assignment(word: str, at: int) -> tuple[str, Any]:
    name, equals, value = word.partition("=")
    if not equals:
        told = "is not name=value: put quotes around a value with spaces in it"
        raise ValueError(f"the word at place {at} of this line {told}")
    return name, literal(value)


def literal(text: str) -> Any:
    """Return the Python literal that ``text`` is, or the text itself."""
    if len(text) > _LITERAL:
        return text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return text
    if isinstance(value, tuple | set):
        return list(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str | int | float | bool | list | dict | None) else text
