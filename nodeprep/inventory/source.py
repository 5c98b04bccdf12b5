"""YAML text to plain values, each with its place: the only reader of YAML from a user.

It reads the small, unsurprising part of YAML: one document of mappings, lists, text, decimal
numbers, true and false. It works on the parser's events, not on a composed tree, so that a file
which is too deep or grows like a "billion laughs" is refused before anything is built from it.
A value that is refused becomes ``REFUSED`` and reading goes on: all problems are told at once.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from nodeprep.errors import InventoryError, Problem
from nodeprep.inventory.characters import described, fault_of, printable, shown, unprintable
from nodeprep.inventory.places import NO_PASSWORD, REFUSED, Document, Mark, Path, Place, written
from nodeprep.inventory.scalars import plain

LIMIT = 8 * 1024 * 1024
"""The largest inventory in bytes: 10,000 nodes with settings of their own fit several times."""

DEPTH = 20
"""How many mappings and lists may stand in each other."""

BAD_CHARACTERS = 100
"""A file with more of them than this is no text, and naming each would help nobody."""

HEAD = 64 * 1024
"""How many bytes tell whether a file is text at all."""

BYTE_ORDER_MARK = "\ufeff"
"""What some editors put in front of a text; the only place where it does no harm."""

OWN_WORDS: frozenset[Path] = frozenset({("cluster", "kubectl", "on")})
"""Keys that YAML 1.1 would read as something else than a word: here they can only be one."""

LOADER = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
"""The same reading about ten times faster, where PyYAML was built with libyaml."""

_Events = Iterator[yaml.Event]
_STARTS = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_ENDS = (yaml.MappingEndEvent, yaml.SequenceEndEvent)


def read(text: bytes, file: str, *, loader: Any = LOADER) -> Document:
    """Return what ``text`` says; its ``problems`` are those that leave the rest readable.

    Raises InventoryError where there is no reading on: too large, not YAML, too deep.
    """
    if len(text) > LIMIT:
        raise InventoryError((too_large(file),))
    for part in (text[:HEAD], text):  # a large file that is no text shows it early
        decoded = part.decode("utf-8", "surrogateescape").removeprefix(BYTE_ORDER_MARK)
        bad = _bad_characters(decoded)
        if len(bad) > BAD_CHARACTERS:
            mark, character = next(iter(bad.items()))
            message = f"this is not a text file: {described(character)}"
            raise InventoryError((Problem(file, *mark, "", message),))
    return _Reader(file=file, bad=bad).document(yaml.parse(_without(decoded), Loader=loader))


def too_large(file: str) -> Problem:
    """Return the problem of a file above ``LIMIT``."""
    return Problem(file, 1, 1, "", f"the file is larger than {LIMIT // 1024**2} MiB")


def _bad_characters(text: str) -> dict[Mark, str]:
    """Return the first characters that may not stand in a file, by their places."""
    pattern = unprintable(text)
    found = pattern.finditer(text) if pattern else iter(())
    offsets = [match.start() for match in itertools.islice(found, BAD_CHARACTERS + 1)]
    return {(text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)): text[at] for at in offsets}


def _without(text: str) -> str:
    """Put something harmless in place of bad characters, so that all else can still be read."""
    pattern = unprintable(text)
    return pattern.sub("\N{REPLACEMENT CHARACTER}", text) if pattern else text


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """One pass over a file's events, which collects places and problems on its way."""

    file: str
    bad: Mapping[Mark, str]
    places: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    refused: set[Path] = field(default_factory=set)
    told: set[Mark] = field(default_factory=set)

    def document(self, events: _Events) -> Document:
        try:
            value = self._document(events)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            # the last two: how PyYAML without libyaml fails on "\U00110000"
            self._report(_error_mark(error), _error_text(error))
            raise self._failure() from error
        self._tell_rest()
        return Document(
            file=self.file,
            value=value,
            places=self.places,
            problems=tuple(self.problems),
            refused=frozenset(self.refused),
        )

    def _document(self, events: _Events) -> object:
        self.places[()] = Place((1, 1), (1, 1))
        starts = (event for event in events if isinstance(event, yaml.DocumentStartEvent))
        value = self._root(next(events), events) if next(starts, None) else None
        if second := next(starts, None):
            self._report(_mark(second), "a second document begins here: write one per file")
            raise self._failure()
        return value

    def _root(self, event: yaml.Event, events: _Events) -> object:
        self.places[()] = Place(_mark(event), _mark(event))
        return self._value(event, events, ())

    # --- values --------------------------------------------------------------------------------

    def _value(self, event: yaml.Event, events: _Events, path: Path) -> object:
        """Return the value that begins with ``event``, having taken all events of it."""
        if decoration := _decoration(event):
            self._refuse(_mark(event), path, decoration)
        elif isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if isinstance(event, _STARTS) and len(path) >= DEPTH:
            raise self._too_deep(event, path)
        if isinstance(event, yaml.MappingStartEvent):
            return self._mapping(events, path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(events, path)
        return REFUSED

    def _mapping(self, events: _Events, path: Path) -> dict[str, object]:
        found: dict[str, object] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._refuse(_mark(event), path, _decoration(event) or "a key must be text")
                self._skip(event, events)
                self._skip(next(events), events)
            elif (here := (*path, event.value)) in self.places:
                self._report(_mark(event), self._repeated(here), here)
                self._skip(next(events), events)
            else:
                self._entry(event, events, here, found)
        return found

    def _entry(
        self, key: yaml.ScalarEvent, events: _Events, here: Path, found: dict[str, object]
    ) -> None:
        value_event = next(events)
        self.places[here] = Place(_mark(key), _mark(value_event))
        usable = self._is_text(key, here)
        value = self._value(value_event, events, here)
        if usable:
            found[key.value] = value

    def _sequence(self, events: _Events, path: Path) -> list[object]:
        found: list[object] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            here = (*path, len(found))
            self.places[here] = Place(_mark(event), _mark(event))
            found.append(self._value(event, events, here))
        return found

    def _skip(self, event: yaml.Event, events: _Events) -> None:
        """Take all events of a value that nobody will see."""
        depth = int(isinstance(event, _STARTS))
        while depth:
            event = next(events)
            depth += isinstance(event, _STARTS) - isinstance(event, _ENDS)
            if depth > DEPTH:
                raise self._too_deep(event, ())

    def _scalar(self, event: yaml.ScalarEvent, path: Path) -> object:
        if self.bad and self._tell_bad(event, path):
            return REFUSED
        text: str = event.value
        if fault := fault_of(text):
            return self._refuse(_mark(event), path, _discreet(fault, path))
        try:
            value = plain(text) if event.implicit[0] else text
        except ValueError as error:
            return self._refuse(_mark(event), path, _discreet(str(error), path))
        return value

    def _is_text(self, event: yaml.ScalarEvent, path: Path) -> bool:
        if decoration := _decoration(event):
            self._refuse(_mark(event), path, decoration)
        elif path in OWN_WORDS:
            return True
        elif not isinstance(key := self._scalar(event, path), str) and key is not REFUSED:
            self._refuse(_mark(event), path, f"a key must be text: write '{key}' in quotes")
        return path not in self.refused

    def _repeated(self, path: Path) -> str:
        line = self.places[path].key[0]
        return f"the key {shown(str(path[-1]))} stands here twice, first on line {line}"

    # --- problems ------------------------------------------------------------------------------

    def _report(self, mark: Mark, message: str, path: Path = ()) -> None:
        self.problems.append(Problem(self.file, *mark, written(path), message))

    def _refuse(self, mark: Mark, path: Path, message: str) -> object:
        self._report(mark, message, path)
        self.refused.add(path)
        return REFUSED

    def _too_deep(self, event: yaml.Event, path: Path) -> InventoryError:
        self._report(_mark(event), f"nested more than {DEPTH} deep", path)
        return self._failure()

    def _failure(self) -> InventoryError:
        self._tell_rest()
        return InventoryError(tuple(self.problems))

    def _tell_bad(self, event: yaml.ScalarEvent, path: Path) -> bool:
        """Report the characters in this scalar that were taken out of the text before parsing."""
        start, end = _at(event.start_mark), _at(event.end_mark)
        inside = [mark for mark in self.bad if start <= mark < end]
        for mark in inside:
            self._refuse(mark, path, _misplaced(self.bad[mark]))
        self.told.update(inside)
        return bool(inside)

    def _tell_rest(self) -> None:
        """Report bad characters that stand in no value: in comments, or where YAML broke off."""
        for mark, character in self.bad.items():
            if mark not in self.told:
                self._report(mark, _misplaced(character))


def _mark(event: yaml.Event) -> Mark:
    return _at(event.start_mark)


def _at(mark: Any) -> Mark:
    """Return the place of a mark, which is of one class with libyaml and of another without."""
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _decoration(event: yaml.Event) -> str:
    """Return what is wrong with an event's alias, anchor or tag, or an empty text."""
    if isinstance(event, yaml.ScalarEvent) and event.anchor is None and event.tag is None:
        return ""  # nearly all events: asked first
    if isinstance(event, yaml.AliasEvent):
        return "aliases are not read: write the value again, or put it into a group"
    if getattr(event, "anchor", None) is not None:
        return "anchors are not read: put what nodes share into a group"
    tag = getattr(event, "tag", None)
    if tag is not None:
        return f"tags are not read, such as {shown(tag)}: write the plain value"
    return ""


def _misplaced(character: str) -> str:
    return f"{described(character)} may not stand in an inventory: remove it"


def _discreet(message: str, path: Path) -> str:
    """Keep a password out of the message if somebody wrote one where its place belongs."""
    return NO_PASSWORD if "sudo" in path else message


def _error_mark(error: Exception) -> Mark:
    return _at(getattr(error, "problem_mark", None) or getattr(error, "context_mark", None))


def _error_text(error: Exception) -> str:
    parts = (getattr(error, "context", None), getattr(error, "problem", None))
    told = ", ".join(part for part in parts if part) or str(error)
    return f"this is not YAML: {printable(told)}"
