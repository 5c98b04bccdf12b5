"""Imports point down only, and each door to the world has one keeper."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import nodeprep

SOURCE = Path(nodeprep.__file__).parent
ROOMS = {path.stem for path in SOURCE.iterdir()} - {"__init__", "__pycache__", "templates"}

LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"__main__", "tasks"}),
    frozenset({"cli", "roll_commands", "import_commands", "dataplane_command", "rule_commands"}),
    frozenset({"roll_options", "roll_screen", "roll_cluster", "executor_options"}),
    frozenset({"rolling"}),
    frozenset({"lab", "runner"}),
    frozenset({"fleet"}),
    frozenset({"visits"}),
    frozenset(
        {
            *("transport", "executors", "processes", "console", "report", "journal"),
            "ansible_inventory",
        }
    ),
    frozenset(
        {
            "plan",
            "apply",
            "cluster_steps",
            "verify",
            "probe",
            "rollout",
            "importing",
            "dataplane",
            "ruleset",
        }
    ),
    frozenset({"story"}),
    frozenset({"topics"}),
    frozenset({"files"}),
    frozenset({"credentials"}),
    frozenset({"inventory", "chains", "kubernetes"}),
    frozenset(
        {
            *("render", "releases", "flags", "systemd", "frames", "known_hosts"),
            *("ipvs", "ipset", "iptables", "firewalld"),
            *("kernel", "module_packages", "package_managers", "proxy_sysctls", "sharing"),
        }
    ),
    frozenset({"model"}),
    frozenset({"shell"}),
    frozenset({"errors"}),
)
"""Top to bottom: a room may import those of its own layer and of the layers below."""

MODULES_APART = frozenset({"topics"})
"""Rooms whose files never import each other."""

ONLY_FROM: Mapping[str, frozenset[str]] = {"lab": frozenset({"cli"})}
"""Rooms that only these may enter, besides themselves."""

LAB_MAY_ENTER = frozenset({"lab", "errors", "shell", "model", "inventory", "frames", "render"})

KEEPERS: Mapping[str, frozenset[str]] = {
    "jinja2": frozenset({"render"}),
    "fabric": frozenset({"tasks"}),
    "invoke": frozenset({"tasks"}),
    "paramiko": frozenset({"transport"}),
    "yaml": frozenset({"inventory", "kubernetes", "lab"}),
    "pydantic": frozenset({"inventory"}),
    "pydantic_core": frozenset({"inventory"}),
    "click": frozenset(
        {
            *("cli", "roll_commands", "roll_options", "roll_screen", "roll_cluster"),
            *("rule_commands", "executor_options"),
            *("import_commands", "dataplane_command", "report", "lab"),
        },
    ),
    "rich": frozenset({"console", "lab"}),
    "subprocess": frozenset({"transport", "ansible_inventory", "lab"}),
    "socket": frozenset({"transport", "runner", "roll_commands", "lab"}),
    "threading": frozenset(
        {"transport", "runner", "rolling", "executors", "processes", "fleet", "lab"}
    ),
    "multiprocessing": frozenset({"processes"}),
    "distributed": frozenset({"fleet"}),
    "time": frozenset({"transport", "visits", "fleet", "rolling", "roll_screen", "journal", "lab"}),
    "signal": frozenset({"executors", "processes", "lab"}),
    # The inventory asks only whether a file is there, and a caller may answer in its place.
    "os": frozenset(
        {
            *("transport", "executors", "processes", "journal", "cli", "executor_options"),
            *("lab", "inventory", "ansible_inventory"),
        },
    ),
    "random": frozenset({"transport", "lab"}),
    "secrets": frozenset({"transport", "runner", "visits", "fleet", "lab"}),
    "asyncio": frozenset(),
    "urllib": frozenset({"fleet", "lab"}),
    "http": frozenset({"lab"}),
    "pickle": frozenset(),
}
"""Who alone may import a package or a module of Python's."""


def modules() -> Iterator[tuple[str, str]]:
    """Yield the dotted name and the text of every module."""
    for path in sorted(SOURCE.rglob("*.py")):
        dotted = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
        yield dotted.removesuffix(".__init__"), path.read_text()


def imported(text: str) -> Iterator[str]:
    """Yield the dotted name of everything that a module imports, wherever in it."""
    for statement in ast.walk(ast.parse(text)):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom):
            assert statement.level == 0, "imports are absolute here"
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


def room_of(dotted: str) -> str | None:
    """Return the file or folder of nodeprep/ that a name belongs to; none for other packages."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "nodeprep" and len(parts) > 1 and parts[1] in ROOMS else None


def layer_of(room: str) -> int:
    return next(depth for depth, rooms in enumerate(LAYERS) if room in rooms)


def violations(dotted: str, text: str) -> list[str]:
    """Return what is wrong with the imports of one module."""
    here = room_of(dotted)
    if here is None:
        return []
    return [
        f"{dotted} imports {name}: {why}"
        for name in imported(text)
        for why in _objections(here, dotted, name)
    ]


def _objections(here: str, dotted: str, name: str) -> Iterator[str]:
    there = room_of(name)
    keepers = KEEPERS.get(name.partition(".")[0])
    if keepers is not None and here not in keepers:
        yield f"only {', '.join(sorted(keepers)) or 'nobody'} may"
    if there is None:
        return
    if layer_of(there) < layer_of(here):
        yield "it lies above"
    if there in ONLY_FROM and here not in ONLY_FROM[there] | {there}:
        yield "its door is elsewhere"
    if here == "lab" and there not in LAB_MAY_ENTER:
        yield "the lab does without it"
    if here == there and here in MODULES_APART and not name.startswith(f"{dotted}."):
        yield "its files stand apart"


# --- the rules hold -------------------------------------------------------------------------


@pytest.mark.parametrize(("dotted", "text"), [pytest.param(*m, id=m[0]) for m in modules()])
def test_a_module_imports_only_what_lies_below_it(dotted: str, text: str) -> None:
    assert violations(dotted, text) == []


def test_every_room_has_a_place_in_one_layer() -> None:
    placed = [room for rooms in LAYERS for room in rooms]
    assert sorted(placed) == sorted(ROOMS)


# --- and would be seen to be broken ---------------------------------------------------------


@pytest.mark.parametrize(
    ("dotted", "text"),
    [
        ("nodeprep.errors", "from nodeprep.model import Node"),
        ("nodeprep.model", "from nodeprep import files"),
        ("nodeprep.shell", "from nodeprep import model"),
        ("nodeprep.topics.sysctl", "from nodeprep.topics import system"),
        ("nodeprep.topics.sysctl", "import nodeprep.topics.system"),
        ("nodeprep.topics.sysctl", "from nodeprep.topics.system import SYSTEM"),
        ("nodeprep.topics.sysctl", "from nodeprep import story"),
        ("nodeprep.plan", "from nodeprep.runner import Options"),
        ("nodeprep.plan", "def later():\n    from nodeprep import transport"),
        ("nodeprep.runner", "from nodeprep.lab import machine"),
        ("nodeprep.lab.machine", "from nodeprep import runner"),
        ("nodeprep.plan", "import jinja2"),
        ("nodeprep.runner", "from fabric import Connection"),
        ("nodeprep.runner", "import paramiko.transport"),
        ("nodeprep.plan", "import yaml"),
        ("nodeprep.model", "from pydantic import BaseModel"),
        ("nodeprep.topics.sysctl", "import subprocess"),
        ("nodeprep.apply", "import time"),
        ("nodeprep.files", "import os.path"),
        ("nodeprep.verify", "if True:\n    from threading import Event"),
        ("nodeprep.report.text", "from nodeprep import runner"),
        ("nodeprep.importing.kubectl", "import subprocess"),
        ("nodeprep.importing.kubectl", "import yaml"),
        ("nodeprep.kubernetes.view", "import subprocess"),
        ("nodeprep.kubernetes.view", "from nodeprep.topics import proxy_mode"),
        ("nodeprep.importing.kubectl", "from nodeprep import ansible_inventory"),
        ("nodeprep.inventory.foreign", "from nodeprep.importing import imported"),
    ],
)
def test_a_planted_violation_is_caught(dotted: str, text: str) -> None:
    assert len(violations(dotted, text)) == 1


@pytest.mark.parametrize(
    ("dotted", "text"),
    [
        ("nodeprep.cli", "from nodeprep.lab.commands import lab"),
        ("nodeprep.lab.machine", "from nodeprep.lab import process"),
        ("nodeprep.runner", "from nodeprep import apply as apply_, story"),
        ("nodeprep.plan", "from nodeprep import __version__"),
        ("nodeprep.apply", "from nodeprep import probe"),
        ("nodeprep.inventory.schema", "from nodeprep.inventory.fields import Version"),
        ("nodeprep.plan", "import hashlib, json"),
    ],
)
def test_what_is_allowed_is_not_objected_to(dotted: str, text: str) -> None:
    assert violations(dotted, text) == []
