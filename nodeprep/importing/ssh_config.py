"""An ssh_config(5): each host that has an entry of its own, with what ssh would use for it.

paramiko has a reader of such files too. It runs the commands of ``Match exec``, passes over
``Include`` and knows no lines, so it is not the one to read a file that somebody hands over.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from nodeprep.errors import InventoryError, Problem
from nodeprep.importing import ssh_words
from nodeprep.importing.imported import (
    NO_ROOT,
    Imported,
    Key,
    Machine,
    Note,
    Origin,
    Remark,
    Value,
)
from nodeprep.importing.settings import Paths, fitting
from nodeprep.importing.ssh_words import Option
from nodeprep.inventory.characters import printable, shown
from nodeprep.inventory.foreign import decoded
from nodeprep.inventory.hosts import address

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


def read(text: bytes, file: str, include: Include, paths: Paths) -> Imported:
    """Return each host with an own entry as a machine. Raises InventoryError."""
    reading = _Reading(include=include)
    reading.file(file, text, (), 0)
    if reading.problems:
        raise InventoryError(tuple(reading.problems))
    machines: list[Machine] = []
    notes = list(reading.notes)
    seen: set[str] = set()
    for name, origin, told in _entries(reading.blocks):
        if name in seen:
            continue
        seen.add(name)
        if told:
            notes.append(told)
            continue
        entry = _Entry(alias=name, blocks=reading.blocks, paths=paths)
        machine = entry.machine()
        machines += [machine] if machine else []
        notes += [
            Note(message=message, hint=hint, nodes=(name,), origin=origin)
            for message, hint in dict.fromkeys(entry.remarks)
        ]
    return Imported(machines=tuple(machines), notes=tuple(notes))


def _entries(blocks: Sequence[Block]) -> Iterator[tuple[str, Origin, Note | None]]:
    """Yield each name that is no pattern; a second name of one machine only as a note."""
    for block in blocks:
        reached: dict[tuple[str, str], str] = {}
        for name in block.names:
            options = lookup(name, blocks)
            where = (_first(options, "hostname"), _first(options, "port"))
            first = reached.setdefault(where, name) if where[0] else name
            if first == name:
                yield name, block.origin, None
            else:
                told = f"another name of {shown(first)}: left out"
                yield name, block.origin, Note(message=told, nodes=(name,), origin=block.origin)


def lookup(alias: str, blocks: Iterable[Block]) -> list[Option]:
    """Return the options that ssh would use for a host, of each name the first ones first."""
    found: list[Option] = []
    host = alias
    for block in blocks:
        if all(condition.holds(alias, host) for condition in block.conditions):
            found += block.options
            host = _hostname(alias, found)
    return [(name, host if name == "hostname" else value) for name, value in found]


def _hostname(alias: str, options: Sequence[Option]) -> str:
    return _first(options, "hostname").replace("%h", alias).replace("%%", "%") or alias


def _first(options: Sequence[Option], wanted: str) -> str:
    return next((value for name, value in options if name == wanted), "")


# --- from options to a machine ------------------------------------------------------------------

_JUMP: Key = ("ssh", "jump")
_KEY_FILE: Key = ("ssh", "identity_file")


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One host on its way to a machine; ``remarks`` are what is to be said of it."""

    alias: str
    blocks: Sequence[Block]
    paths: Paths
    remarks: list[Remark] = field(default_factory=list)

    def machine(self) -> Machine | None:
        options = lookup(self.alias, self.blocks)
        told = _told(options)
        if told.settings.get(("ssh", "user")) == "git":
            self.remarks.append(_NO_MACHINE)
            return None
        where = _first(options, "hostname") or self.alias
        try:
            address(where)
        except ValueError as error:
            self.remarks.append(Remark(f"{error}: left out"))
            return None
        self.remarks.extend(told.remarks)
        settings = self._allowed(self._complete(where, told.settings))
        if told.unknown:
            listed = ", ".join(sorted(set(told.unknown)))
            self.remarks.append(Remark(f"ssh options stay behind: {listed}"))
        if settings.get(("ssh", "user")) != "root":
            self.remarks.append(NO_ROOT)
        return Machine(name=self.alias, address=where, settings=settings)

    def _allowed(self, settings: Mapping[Key, Value]) -> dict[Key, Value]:
        refused = {key: why for key, value in settings.items() if (why := fitting(key, value))}
        for key, why in refused.items():
            self.remarks.append(Remark(f"{'.'.join(key)} stays behind: {why}"))
        return {key: value for key, value in settings.items() if key not in refused}

    def _complete(self, where: str, settings: Mapping[Key, Value]) -> Mapping[Key, Value]:
        """Return settings with the names of jump hosts looked up, and paths as we have them."""
        found = dict(settings)
        hops = found.pop(_JUMP, ())
        if isinstance(hops, tuple) and (
            jump := self._through(hops, (self.alias, where), found.get(_KEY_FILE))
        ):
            found[_JUMP] = jump
        if isinstance(path := found.pop(_KEY_FILE, None), str) and path.lower() != "none":
            plain = path.replace("%h", where).replace("%n", self.alias)
            found[_KEY_FILE] = plain.replace("%r", str(found.get(("ssh", "user"), "%r")))
        return self.paths.of(found)

    def _through(
        self, hops: Sequence[str], target: tuple[str, str], key_file: Value | None, depth: int = 0
    ) -> tuple[str, ...]:
        """Return the hops with what the file has of each, and the hops before the first of them."""
        found: list[str] = []
        for at, text in enumerate(hops):
            user, name, port = _parts(text)
            options = lookup(name, self.blocks)
            own = _told(options).settings
            where = _first(options, "hostname") or name
            if name in target or where == target[1]:
                continue  # `Host *` with a jump host: the jump host itself needs none
            before = own.get(_JUMP, ())
            if at == 0 and isinstance(before, tuple) and depth < DEEPEST:
                found += self._through(before, (name, where), key_file, depth + 1)
            if own.get(_KEY_FILE) not in {None, key_file}:
                self.remarks.append(ssh_words.HOP_KEY)
            login = user or str(own.get(("ssh", "user"), ""))
            found.append(ssh_words.hop(where, login, port or own.get(("ssh", "port"))))
        return tuple(found)


_NO_MACHINE = Remark("it is for `User git`, and no machine to log in to: left out")


def _told(options: Sequence[Option]) -> ssh_words.Told:
    return ssh_words.of_options(pair for pair in options if pair[0] != "hostname")


def _parts(text: str) -> tuple[str, str, str]:
    """Return user, host and port of a hop, the host without brackets."""
    user, _, place = text.rpartition("@")
    found = re.fullmatch(r"\[([^\]]*)\](?::([0-9]+))?|([^:]*)(?::([0-9]+))?", place)
    if not found:
        return user, place, ""
    return user, found[1] or found[3] or "", found[2] or found[4] or ""


def _fits(pattern: str, name: str) -> bool:
    return pattern == name or (bool(_WILD.search(pattern)) and bool(_glob(pattern).fullmatch(name)))


@cache
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."))
