"""The blocks of an ssh_config(5), and which of them ssh would use for a host.

paramiko has a reader of such files too. It runs the commands of ``Match exec``, passes over
``Include`` and knows no lines, so it is not the one to read a file that somebody hands over.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from nodeprep.errors import InventoryError, Problem
from nodeprep.importing import ssh_words
from nodeprep.importing.imported import Note, Origin
from nodeprep.importing.ssh_words import Option
from nodeprep.inventory.characters import printable
from nodeprep.inventory.foreign import decoded

DEEPEST = 16
"""How deep files may include each other, and jump hosts lead to jump hosts, as for ssh."""

Include = Callable[[str], Sequence[tuple[str, bytes]]]
"""Gives the files that a pattern of ``Include`` stands for: their names and bytes."""

_WILD = re.compile(r"[*?]")
_KNOWN_MATCHES = frozenset({"all", "host", "originalhost"})


@dataclass(frozen=True, kw_only=True)
class Condition:
    """``Host`` or a part of ``Match``: which hosts a block is for; ``kind`` is what is compared."""

    kind: str
    patterns: tuple[str, ...]

    def holds(self, alias: str, host: str) -> bool:
        """Tell whether a host is meant, by the word for it and by what that came to so far."""
        if self.kind == "never":
            return False
        name = host if self.kind == "host" else alias
        hits = [p for p in self.patterns if _fits(p.removeprefix("!"), name)]
        return bool(hits) and not any(p.startswith("!") for p in hits)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Options that count where all conditions hold, and the names of an own entry of a host."""

    conditions: tuple[Condition, ...]
    options: list[Option]
    names: tuple[str, ...] = ()
    origin: Origin


def read(text: bytes, file: str, include: Include) -> tuple["Blocks", tuple[Note, ...]]:
    """Return the blocks of a file and of those that it includes, and what is to be said of them.

    Raises InventoryError.
    """
    reading = _Reading(include=include)
    reading.file(file, text, (), 0)
    if reading.problems:
        raise InventoryError(tuple(reading.problems))
    return Blocks(reading.blocks), tuple(reading.notes)


@dataclass(kw_only=True)
class _Reading:
    include: Include
    blocks: list[Block] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def file(self, name: str, text: bytes, outer: tuple[Condition, ...], depth: int) -> None:
        block = self._begin(Block(conditions=outer, options=[], origin=Origin(name, 1)))
        for number, line in enumerate(decoded(text, name).splitlines(), start=1):
            bare = line.strip()
            if not bare or bare.startswith("#"):
                continue
            origin = Origin(name, number)
            try:
                block = self._line(ssh_words.option(bare), origin, block, outer, depth)
            except ValueError:
                told = "a quote is not closed"
                self.problems.append(Problem(printable(name), number, 1, "", told))

    def _begin(self, block: Block) -> Block:
        self.blocks.append(block)
        return block

    def _line(
        self, option: Option, origin: Origin, block: Block, outer: tuple[Condition, ...], depth: int
    ) -> Block:
        """Take one line, and return the block that the next one belongs to."""
        name, value = option
        match name:
            case "host":
                patterns = tuple(shlex.split(value, comments=True))
                condition = Condition(kind="alias", patterns=patterns)
                names = tuple(p for p in patterns if not re.search(r"[*?!]", p))
                conditions = (*outer, condition)
                return self._begin(
                    Block(conditions=conditions, options=[], names=names, origin=origin)
                )
            case "match":
                conditions = (*outer, *self._match(value, origin))
                return self._begin(Block(conditions=conditions, options=[], origin=origin))
            case "include":
                self._included(value, origin, block, depth)
                # What follows belongs to the same block, behind what was included.
                return self._begin(replace(block, options=[], names=()))
            case "proxycommand" | "remotecommand" | "localcommand":
                block.options.append((name, value))
            case "userknownhostsfile":
                block.options.append((name, value))
            case _:
                words = shlex.split(value, comments=True)
                block.options.append((name, words[0] if words else ""))
        return block

    def _match(self, value: str, origin: Origin) -> Iterator[Condition]:
        words = iter(shlex.split(value, comments=True))
        for word in words:
            kind = word.lower()
            if kind not in _KNOWN_MATCHES:
                told = (
                    f"Match {printable(kind.lstrip('!'))} is passed over: nothing is run or asked"
                )
                self.notes.append(Note(message=told, hint="see what it sets", origin=origin))
                yield Condition(kind="never", patterns=())
                return
            patterns = ("*",) if kind == "all" else tuple(next(words, "").split(","))
            yield Condition(kind="host" if kind == "host" else "alias", patterns=patterns)

    def _included(self, value: str, origin: Origin, block: Block, depth: int) -> None:
        if depth >= DEEPEST:
            told = f"files include each other more than {DEEPEST} deep"
            self.problems.append(Problem(printable(origin.file), origin.line, 1, "", told))
            return
        for pattern in shlex.split(value, comments=True):
            for name, text in self.include(pattern):
                self.file(name, text, block.conditions, depth + 1)


# --- for one host ---------------------------------------------------------------------------


class Blocks:
    """The blocks of a file in order, found by the host that they are for.

    Two thousand entries of one host each are not all looked at for every host.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.all = tuple(blocks)
        self._by_name: dict[str, list[int]] = {}
        self._general: list[int] = []
        for at, block in enumerate(self.all):
            names = _only_for(block)
            for name in names:
                self._by_name.setdefault(name, []).append(at)
            if not names:
                self._general.append(at)

    def that_may_be_for(self, alias: str) -> list[Block]:
        """Return the blocks whose conditions have to be looked at."""
        return [self.all[at] for at in sorted({*self._by_name.get(alias, ()), *self._general})]


def _only_for(block: Block) -> tuple[str, ...]:
    """Return the hosts that a block names one by one, none where it is more general."""
    plain = (c.patterns for c in block.conditions if c.kind == "alias")
    return next((p for p in plain if not any(re.search(r"[*?!]", word) for word in p)), ())


def lookup(alias: str, blocks: Blocks) -> list[Option]:
    """Return the options that ssh would use for a host, of each name the first ones first."""
    found: list[Option] = []
    host = alias
    for block in blocks.that_may_be_for(alias):
        if all(condition.holds(alias, host) for condition in block.conditions):
            found += block.options
            host = hostname(alias, found)
    return [(name, host if name == "hostname" else value) for name, value in found]


def hostname(alias: str, options: Sequence[Option]) -> str:
    """Return what ``HostName`` makes of the word for a host."""
    return first(options, "hostname").replace("%h", alias).replace("%%", "%") or alias


def first(options: Sequence[Option], wanted: str) -> str:
    """Return the value that counts of an option, empty where it is not there."""
    return next((value for name, value in options if name == wanted), "")


def _fits(pattern: str, name: str) -> bool:
    return pattern == name or (bool(_WILD.search(pattern)) and bool(_glob(pattern).fullmatch(name)))


@cache
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."))
