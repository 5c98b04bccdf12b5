"""Short ways to import something in a test, and to say what came of it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nodeprep.errors import InventoryError, Problem
from nodeprep.importing import ansible, writing
from nodeprep.importing.ansible import Extra, Result
from nodeprep.importing.imported import Imported, Machine, told
from nodeprep.importing.naming import renamed
from nodeprep.importing.settings import Paths
from nodeprep.importing.sources import Source
from nodeprep.model import Node

DATA = Path(__file__).parent / "data"


def source(files: Mapping[str, str | bytes], *, programs: frozenset[str] = frozenset()) -> Source:
    """Return an inventory of these files; those under group_vars and host_vars stand beside it."""
    data = {k: v.encode() if isinstance(v, str) else v for k, v in files.items()}
    beside = {k: v for k, v in data.items() if k.startswith(("group_vars/", "host_vars/"))}
    return Source(
        folder="/srv/inventory",
        shown="",
        inventories={k: v for k, v in data.items() if k not in beside},
        beside=beside,
        programs=programs,
    )


def result(files: Mapping[str, str | bytes], extra: Extra | None = None) -> Result:
    return ansible.read(source(files), Paths(), extra)


def machines(text: str, name: str = "hosts.ini", **beside: str) -> dict[str, Machine]:
    """Return what one inventory file says, and files beside it, ``group_vars__all`` for one."""
    files = {key.replace("__", "/"): value for key, value in beside.items()}
    return {m.name: m for m in result({name: text, **files}).imported.machines}


def settings(text: str, name: str = "hosts.ini", **beside: str) -> dict[str, Any]:
    """Return the settings of the only machine, with their keys as words."""
    (machine,) = machines(text, name, **beside).values()
    return {".".join(key): value for key, value in machine.settings.items()}


def lines(text: str, name: str = "hosts.ini", **beside: str) -> list[str]:
    """Return what is said of one inventory file."""
    files = {key.replace("__", "/"): value for key, value in beside.items()}
    return list(told(result({name: text, **files}).imported.notes))


def problems(files: Mapping[str, str | bytes]) -> tuple[Problem, ...]:
    try:
        result(files)
    except InventoryError as error:
        return error.problems
    return ()


def written(imported: Imported) -> dict[str, Node]:
    """Return the nodes that our own loader finds in what is written."""
    text = writing.text(renamed(imported), "Imported.")
    return {node.name: node for node in writing.read_back(text).nodes}


def recorded(folder: Path) -> Any:
    """Return what the real ``ansible-inventory --list`` said of a sample."""
    return json.loads((folder / "ansible-inventory.json").read_text())
