"""An ssh_config(5): each host that has an entry of its own, with what ssh would use for it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from nodeprep.importing import ssh_blocks, ssh_words
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
from nodeprep.importing.ssh_blocks import DEEPEST, Blocks, Include, first, lookup
from nodeprep.importing.ssh_words import Option
from nodeprep.inventory.characters import shown
from nodeprep.inventory.hosts import address


def read(text: bytes, file: str, include: Include, paths: Paths) -> Imported:
    """Return each host with an own entry as a machine. Raises InventoryError."""
    blocks, told_of_it = ssh_blocks.read(text, file, include)
    machines: list[Machine] = []
    notes = list(told_of_it)
    seen: set[str] = set()
    for name, origin, told in _entries(blocks):
        if name in seen:
            continue
        seen.add(name)
        if told:
            notes.append(told)
            continue
        entry = _Entry(alias=name, blocks=blocks, paths=paths)
        machine = entry.machine()
        machines += [machine] if machine else []
        notes += [
            Note(message=message, hint=hint, nodes=(name,), origin=origin)
            for message, hint in dict.fromkeys(entry.remarks)
        ]
    return Imported(machines=tuple(machines), notes=tuple(notes))


def _entries(blocks: Blocks) -> Iterator[tuple[str, Origin, Note | None]]:
    """Yield each name that is no pattern; a second name of one machine only as a note."""
    for block in blocks.all:
        reached: dict[tuple[str, str], str] = {}
        for name in block.names:
            options = lookup(name, blocks)
            where = (first(options, "hostname"), first(options, "port"))
            known = reached.setdefault(where, name) if where[0] else name
            if known == name:
                yield name, block.origin, None
            else:
                told = f"another name of {shown(known)}: left out"
                yield name, block.origin, Note(message=told, nodes=(name,), origin=block.origin)


# --- from options to a machine ------------------------------------------------------------------

_JUMP: Key = ("ssh", "jump")
_KEY_FILE: Key = ("ssh", "identity_file")


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One host on its way to a machine; ``remarks`` are what is to be said of it."""

    alias: str
    blocks: Blocks
    paths: Paths
    remarks: list[Remark] = field(default_factory=list)

    def machine(self) -> Machine | None:
        options = lookup(self.alias, self.blocks)
        told = _told(options)
        if told.settings.get(("ssh", "user")) == "git":
            self.remarks.append(_NO_MACHINE)
            return None
        where = first(options, "hostname") or self.alias
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
            where = first(options, "hostname") or name
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
