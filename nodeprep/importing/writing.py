"""The inventory as a person would write it: YAML that our own loader reads back as it was meant.

Blocks where a person looks for settings, one line for a node that has few of them. A word stands
without quotes only where every reader of YAML agrees on it, which :mod:`.scalars` knows.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nodeprep.errors import InventoryError
from nodeprep.importing.arranging import arranged
from nodeprep.importing.imported import ASK, Imported, Key, Settings, Value
from nodeprep.importing.rows import Entry, entries
from nodeprep.inventory import parse
from nodeprep.inventory.scalars import plain
from nodeprep.model import Inventory

WIDTH = 100
"""The longest line of a node that is written on one line."""

_ORDER = ("ssh", "sudo", "labels", "modules", "sysctls", "packages", "adopt", "kube_proxy")
_BARE = re.compile(r"[A-Za-z0-9/~](?:[A-Za-z0-9_./@+~-]*[A-Za-z0-9_/])?")

Tree = dict[str, Any]


def text(imported: Imported, heading: str) -> str:
    """Return the inventory of these machines, which must not be none.

    ``heading`` are its first lines, each of which becomes a comment.
    """
    layers = arranged(imported)
    parts = [
        "".join(f"# {line}\n" for line in heading.splitlines()),
        _section("defaults", tree(layers.defaults)),
        _section("groups", {group: tree(keys) for group, keys in layers.groups.items()}),
        "nodes:\n" + "".join(map(_entry, entries(imported.machines, layers.own))),
    ]
    return "\n".join(part for part in parts if part)


def read_back(written: str) -> Inventory:
    """Return what our loader makes of a text of ours. Raises InventoryError."""
    return parse(written.encode(), "the imported inventory", Path.home(), Path.cwd())


def complaint(key: Key, value: Value) -> str:
    """Return why our inventory would not take a setting, or an empty text."""
    settings = tree({key: value})
    try:
        read_back(f"nodes:\n- name: n\n{''.join(_lines(settings, 2))}")
    except InventoryError as error:
        return error.problems[0].message
    return ""


def tree(settings: Settings) -> Tree:
    """Return settings as nested mappings, in the order in which the documentation has them."""
    found: Tree = {}
    for key, value in sorted(settings.items(), key=lambda item: _place(item[0])):
        *parents, last = key
        inner = found
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = {"password": ASK} if (key, value) == (("sudo",), ASK) else value
    return found


def _place(key: Key) -> int:
    return _ORDER.index(key[0]) if key[0] in _ORDER else len(_ORDER)


def _section(name: str, content: Tree) -> str:
    return f"{name}:\n{''.join(_lines(content, 2))}" if content else ""


def _entry(entry: Entry) -> str:
    address = {"address": entry.address} if entry.address != entry.name else {}
    groups = {"groups": entry.groups} if entry.groups else {}
    content: Tree = {"name": entry.name, **address, **groups, **tree(entry.settings)}
    line = f"  - {flow(content)}\n"
    return line if len(line) <= WIDTH else f"  - {''.join(_lines(content, 4)).lstrip()}"


def _lines(content: Mapping[str, Any], indent: int) -> Iterator[str]:
    """Yield a mapping in block style; what is small and innermost stays on one line."""
    for key, value in content.items():
        short = f"{' ' * indent}{scalar(key)}: {flow(value)}\n"
        if isinstance(value, dict) and value and (len(short) > WIDTH or _is_deep(value, indent)):
            yield f"{' ' * indent}{scalar(key)}:\n"
            yield from _lines(value, indent + 2)
        elif isinstance(value, tuple) and len(short) > WIDTH:
            yield f"{' ' * indent}{scalar(key)}:\n"
            yield from (f"{' ' * (indent + 2)}- {flow(item)}\n" for item in value)
        else:
            yield short


def _is_deep(value: Tree, indent: int) -> bool:
    return any(isinstance(inner, dict) for inner in value.values()) or (
        indent <= _SHALLOW and len(value) > 1
    )


_SHALLOW = 2
"""In defaults, a block of several keys stands one below the other."""


def flow(value: Any) -> str:
    """Return a value on one line."""
    match value:
        case dict():
            return "{" + ", ".join(f"{scalar(k)}: {flow(v)}" for k, v in value.items()) + "}"
        case tuple() | list():
            return _listed(value)
        case _:
            return scalar(value)


def _listed(items: Sequence[str]) -> str:
    return f"[{', '.join(map(flow, items))}]"


def scalar(value: str | int) -> str:
    """Return one word, in quotes wherever a reader of YAML could take it for something else.

    >>> scalar("worker"), scalar("1.34"), scalar("no"), scalar(True)
    ('worker', '"1.34"', '"no"', 'true')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    return value if _is_bare(value) else json.dumps(value, ensure_ascii=False)


def _is_bare(word: str) -> bool:
    try:
        return bool(_BARE.fullmatch(word)) and plain(word) == word
    except ValueError:
        return False
