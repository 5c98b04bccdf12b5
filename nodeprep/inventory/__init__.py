"""The inventory: which machines there are, how each is reached, and what it should be.

:func:`load` reads a file, :func:`parse` its text; both tell all problems at once, each with its
file, line, column and path. The way from text to nodes::

    source     YAML text to plain values with places      (scalars, characters, places)
    schema     what each value may be                     (allowed, hosts, fields, entries, ipsets)
    checking   what is wrong with a value, in words
    crossing   what is wrong with the nodes together
    building   node over groups over defaults             (folding)
    selection  --limit

This is the only reader of YAML that a user wrote.
"""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from nodeprep.errors import InventoryError, UsageError
from nodeprep.inventory import ipsets, source
from nodeprep.inventory.allowed import Surroundings
from nodeprep.inventory.building import kubectl, rows
from nodeprep.inventory.characters import printable
from nodeprep.inventory.checking import validated
from nodeprep.inventory.crossing import conflicts, crossed
from nodeprep.inventory.editors import json_schema
from nodeprep.inventory.folding import expand, fold
from nodeprep.inventory.places import Document, Fault
from nodeprep.inventory.selection import select
from nodeprep.model import Inventory, KubectlChoice

__all__ = ["expand", "fold", "json_schema", "load", "parse", "select"]


def load(path: Path) -> Inventory:
    """Read the inventory at ``path``.

    Raises UsageError if there is no such file, InventoryError with everything that is wrong in it.
    """
    try:
        with path.open("rb") as file:
            text = file.read(source.LIMIT + 1)
    except OSError as error:
        hint = "name one with -i FILE, or begin with a copy of inventory.example.yaml"
        told = f"cannot read the inventory {printable(str(path))}: {error.strerror}"
        raise UsageError(told, hint=hint) from error
    folder = path.absolute().parent
    return parse(text, str(path), Path.home(), folder, is_file=os.path.isfile, read=_bytes)


def _bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(ipsets.LIMIT + 1)


def parse(
    text: bytes,
    file: str,
    home: Path,
    base: Path,
    *,
    is_file: Callable[[Path], bool] = lambda _: True,
    read: Callable[[Path], bytes] = lambda _: b"",
) -> Inventory:
    """Return the inventory that ``text`` is.

    ``file`` is its name in messages. A path in it begins at ``home`` if it begins with ``~/``, and
    else at the absolute folder ``base``. ``is_file`` tells whether a file that the inventory names
    is there, and ``read`` returns the bytes of one with entries of an ipset.

    Raises InventoryError.
    """
    document = source.read(text, printable(file))
    around = Surroundings(home=home, base=base, is_file=is_file, read=read)
    checked, faults = validated(document, around)
    told = {fault.path for fault in faults}
    _raise_for(document, [*faults, *(f for f in crossed(document) if f.path not in told)])
    built = tuple(rows(checked, home)) if checked else ()
    _raise_for(document, conflicts(built, document))
    nodes = tuple(node for row in built for node in row.nodes)
    return Inventory(
        path=file,
        digest=hashlib.sha256(text).hexdigest(),
        nodes=nodes,
        kubectl=kubectl(checked) if checked else KubectlChoice(),
    )


def _raise_for(document: Document, faults: Iterable[Fault]) -> None:
    found = {document.problem(fault) for fault in faults}
    if problems := (*document.problems, *found):
        raise InventoryError(problems)
