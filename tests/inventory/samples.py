"""Short ways to read an inventory in a test: a home and a folder that are nobody's."""

from pathlib import Path

from nodeprep.errors import InventoryError, Problem
from nodeprep.inventory import parse
from nodeprep.model import Inventory, Node

HOME, BASE = Path("/home/ada"), Path("/srv/fleet")


def parsed(text: str | bytes) -> Inventory:
    data = text if isinstance(text, bytes) else text.encode()
    return parse(data, "inventory.yaml", HOME, BASE)


def nodes(text: str) -> dict[str, Node]:
    return {node.name: node for node in parsed(text).nodes}


def node(settings: str) -> Node:
    """Return a node named n with these settings, written as keys of its entry."""
    lines = "".join(f"  {line}\n" for line in settings.splitlines())
    (only,) = parsed(f"nodes:\n- name: n\n{lines}").nodes
    return only


def problems(text: str | bytes) -> tuple[Problem, ...]:
    """Return what is wrong with an inventory, nothing if it is accepted."""
    try:
        parsed(text)
    except InventoryError as error:
        return error.problems
    return ()
