"""YAML that was written for another program: plain values, each with its line.

Our own inventory (:mod:`.source`) refuses whatever readers of YAML do not agree on. Here another
program's reading counts: YAML 1.1 as PyYAML resolves it, with anchors and merge keys. Nothing is
ever constructed but text, numbers, truths, lists and tables; a tag that is not YAML's own becomes a
:class:`Tagged`, which nobody evaluates. It works on the parser's events, as the other reader does:
an alias shares the value that it stands for, so a "billion laughs" costs nothing.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from nodeprep.errors import InventoryError, Problem
from nodeprep.inventory.characters import described, printable, shown
from nodeprep.inventory.source import BYTE_ORDER_MARK, DEPTH, LOADER

LIMIT = 32 * 1024 * 1024
"""The largest text of another program's in bytes."""

_TAG = "tag:yaml.org,2002:"
_NO_TEXT = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|[\udc80-\udcff]")
_RESOLVE: Callable[[type[yaml.Node], str, tuple[bool, bool]], str] = (
    yaml.resolver.Resolver().resolve
)
_VALUES = yaml.constructor.SafeConstructor()
_CONSTRUCT = {
    "null": lambda _: None,
    "bool": _VALUES.construct_yaml_bool,
    "int": _VALUES.construct_yaml_int,
    "float": _VALUES.construct_yaml_float,
}


@dataclass(frozen=True)
class Tagged:
    """A value with a tag that only the other program knows, such as ``!vault``; unread."""

    tag: str


class Entry(NamedTuple):
    """One value of a table, and the line of its key."""

    value: Any
    line: int


@dataclass(frozen=True, kw_only=True)
class Table:
    """A mapping by its keys as they are written; the line is where it begins.

    ``repeated`` are the keys that stand in it twice, of which the last counts, with their lines.
    """

    entries: Mapping[str, Entry]
    line: int
    repeated: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Any:
        return self.entries[key].value

    def get(self, key: str) -> Any:
        """Return the value of ``key``, None where there is none."""
        return self.entries[key].value if key in self.entries else None


def decoded(text: bytes, file: str, limit: int = LIMIT) -> str:
    """Return ``text`` as UTF-8. Raises InventoryError for what is no text, or too much of it."""
    if len(text) > limit:
        raise failure(file, 1, f"the file is larger than {limit // 1024**2} MiB")
    result = text.decode("utf-8", "surrogateescape").removeprefix(BYTE_ORDER_MARK)
    if found := _NO_TEXT.search(result):
        line = result.count("\n", 0, found.start()) + 1
        raise failure(file, line, f"this is not a text file: {described(found[0])}")
    return result


def failure(file: str, line: int, message: str, column: int = 1) -> InventoryError:
    """Return the error for one place of a file."""
    return InventoryError((Problem(printable(file), line, column, "", message),))


def read_foreign(text: bytes, file: str, *, loader: Any = LOADER) -> Any:
    """Return the only document of ``text``: None, bool, int, float, str, list, Table, Tagged.

    Raises InventoryError with the place where there is no reading on.
    """
    plain = decoded(text, file)
    events = yaml.parse(plain, Loader=loader)
    try:
        return _Reader(file=file, events=events).document()
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        parts = (getattr(error, "context", None), getattr(error, "problem", None))
        told = ", ".join(part for part in parts if part) or "it cannot be read"
        message = f"this is not YAML: {printable(told)}"
        raise failure(file, line, message, column) from error


@dataclass(frozen=True, kw_only=True)
class _Reader:
    file: str
    events: Iterator[yaml.Event]
    anchors: dict[str, Any] = field(default_factory=dict)

    def document(self) -> Any:
        starts = (e for e in self.events if isinstance(e, yaml.DocumentStartEvent))
        value = self._value(next(self.events), 0) if next(starts, None) else None
        if second := next(starts, None):
            raise self._fails(second, "a second document begins here: keep one in a file")
        return value

    def _value(self, event: yaml.Event, depth: int) -> Any:
        """Return the value that begins with ``event``, having taken all events of it."""
        if isinstance(event, yaml.AliasEvent):
            anchor = str(event.anchor)
            if anchor not in self.anchors:
                raise self._fails(event, f"the alias {shown(anchor)} stands for nothing yet")
            return self.anchors[anchor]
        if depth > DEPTH:
            raise self._fails(event, f"nested more than {DEPTH} deep")
        value = self._own(event, depth)
        if name := getattr(event, "anchor", None):
            self.anchors[name] = value
        return value

    def _own(self, event: yaml.Event, depth: int) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return _scalar(event)
        tag = getattr(event, "tag", None)
        value = (
            self._table(event, depth)
            if isinstance(event, yaml.MappingStartEvent)
            else self._list(depth)
        )
        return Tagged(tag) if tag and tag not in {f"{_TAG}map", f"{_TAG}seq"} else value

    def _list(self, depth: int) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            found.append(self._value(event, depth + 1))
        return found

    def _table(self, start: yaml.Event, depth: int) -> Table:
        entries: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        repeated: dict[str, int] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._key(event, depth)
            value = self._value(next(self.events), depth + 1)
            if key == "<<" and isinstance(value, Table | list):
                merged = {**_merged(value), **merged}
                continue
            if key in entries:
                repeated[key] = _line(event)
            entries[key] = Entry(value, _line(event))
        return Table(entries={**merged, **entries}, line=_line(start), repeated=repeated)

    def _key(self, event: yaml.Event, depth: int) -> str:
        value = self._value(event, depth + 1)
        if isinstance(event, yaml.ScalarEvent):
            return str(event.value)
        if not isinstance(value, str):
            raise self._fails(event, "a key must be text")
        return value

    def _fails(self, event: yaml.Event, message: str) -> InventoryError:
        mark: Any = event.start_mark
        return failure(self.file, _line(event), message, mark.column + 1)


def _merged(value: Any) -> Mapping[str, Entry]:
    """Return what a merge key brings: of several tables the first counts."""
    tables = value if isinstance(value, list) else [value]
    found: dict[str, Entry] = {}
    for table in reversed(tables):
        found.update(table.entries if isinstance(table, Table) else {})
    return found


def _scalar(event: yaml.ScalarEvent) -> Any:
    tag = event.tag or _implicit(event)
    if not tag.startswith(_TAG):
        return event.value if tag in {"!", "!unsafe"} else Tagged(tag)
    construct = _CONSTRUCT.get(tag.removeprefix(_TAG))
    if construct is None:
        return event.value
    try:
        return construct(yaml.ScalarNode(tag, event.value))
    except (ValueError, KeyError, IndexError, yaml.YAMLError):
        return event.value  # what cannot be read as a number is text that looks like one


def _implicit(event: yaml.ScalarEvent) -> str:
    return _RESOLVE(yaml.ScalarNode, event.value, event.implicit)


def _line(event: yaml.Event) -> int:
    mark: Any = event.start_mark
    return int(mark.line) + 1
