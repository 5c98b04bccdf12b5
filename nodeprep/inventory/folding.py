"""Many names in one: ``worker[01-40]``, ``10.0.[0-1].[1-250]``, ``db[1-3,7,9-12]``, ``x[0-10/2]``.

>>> expand("worker[08-10]")
('worker08', 'worker09', 'worker10')
>>> fold(["node3", "node1", "node2", "gateway"])
'gateway,node[1-3]'

Zeros in front are kept. Several brackets give every combination, the last one changing fastest.
"""

import itertools
import math
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from nodeprep.errors import UsageError
from nodeprep.inventory.characters import shown

LIMIT = 100_000
"""The most names that one pattern, and one inventory, may stand for."""

_BRACKET = re.compile(r"\[([^\[\]]*)\]")
_COMMA = re.compile(r",(?![^\[\]]*\])")
_SINGLE = re.compile(r"[^\[\],]+")
_ITEM = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18})(?:/([0-9]{1,18}))?)?")
_NUMBER = re.compile(r"([0-9]{1,18})")

_Parts = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """The numbers of one bracket, written with ``width`` digits; 0 where they have no zeros."""

    ranges: tuple[range, ...]
    width: int

    def __len__(self) -> int:
        return sum(map(len, self.ranges))

    def texts(self) -> tuple[str, ...]:
        return tuple(self.text(number) for one in self.ranges for number in one)

    def text(self, number: int) -> str:
        return f"{number:0{self.width}d}"

    def ends(self) -> tuple[str, str]:
        low, high = min(r[0] for r in self.ranges), max(r[-1] for r in self.ranges)
        return self.text(low), self.text(high)


# --- one pattern to many names ---------------------------------------------------------------


def terms(text: str) -> tuple[str, ...]:
    """Return the parts of a comma separated list; a comma in brackets separates nothing."""
    return tuple(_COMMA.split(text)) if "," in text else (text,)


def expand(pattern: str) -> tuple[str, ...]:
    """Return the names that a pattern, or a comma separated list of them, stands for, in order.

    Raises UsageError for brackets that cannot be read and for more than ``LIMIT`` names.
    """
    if _SINGLE.fullmatch(pattern):
        return (pattern,)
    if count(pattern) > LIMIT:
        raise UsageError(f"{shown(pattern)} stands for more than {LIMIT} names")
    return tuple(name for term in terms(pattern) for name in _names(_parsed(term)))


def count(pattern: str) -> int:
    """Return for how many names ``pattern`` stands, without making them. Raises UsageError."""
    if _SINGLE.fullmatch(pattern):
        return 1
    return sum(
        math.prod(len(part) for part in _parsed(term) if isinstance(part, _Axis))
        for term in terms(pattern)
    )


def ends(pattern: str) -> tuple[str, str]:
    """Return the name with the smallest numbers and that with the largest. Raises UsageError.

    Where these two are valid names or addresses, so are all between them.
    """
    pairs = [part.ends() if isinstance(part, _Axis) else (part, part) for part in _parsed(pattern)]
    return "".join(low for low, _ in pairs), "".join(high for _, high in pairs)


def _names(parts: tuple[str | _Axis, ...]) -> Iterator[str]:
    choices = (part.texts() if isinstance(part, _Axis) else (part,) for part in parts)
    return map("".join, itertools.product(*choices))


def _parsed(term: str) -> tuple[str | _Axis, ...]:
    """Return the literal parts and the brackets of a pattern, by turns."""
    if not term:
        raise UsageError("a name is empty")
    pieces = _BRACKET.split(term)
    if any(c in literal for literal in pieces[::2] for c in "[]"):
        raise UsageError(f"a bracket of {shown(term)} is not closed, or stands in another one")
    return tuple(_axis(piece, term) if at % 2 else piece for at, piece in enumerate(pieces))


def _axis(content: str, term: str) -> _Axis:
    items = [_ITEM.fullmatch(item) for item in content.split(",")]
    bounds = [text for item in items if item for text in item.group(1, 2) if text]
    widths = {len(text) for text in bounds}
    padded = any(text.startswith("0") and text != "0" for text in bounds)
    if padded and len(widths) > 1:
        raise UsageError(f"{_place(content, term)} mixes widths: write [001-100], or [1-100]")
    ranges = tuple(_range(item, content, term) for item in items)
    return _Axis(ranges=ranges, width=widths.pop() if padded else 0)


def _range(item: re.Match[str] | None, content: str, term: str) -> range:
    where = _place(content, term)
    if item is None:
        raise UsageError(f"{where} is no range: write numbers such as [1-3,7,9-12] or [0-10/2]")
    first, last, step = int(item[1]), int(item[2] or item[1]), int(item[3] or 1)
    if last < first:
        raise UsageError(f"{where} runs backwards: write the smaller number first")
    if not step:
        raise UsageError(f"{where} has a step of 0: write 1 or more")
    return range(first, last + 1, step)


def _place(content: str, term: str) -> str:
    return f"{shown(f'[{content}]')} of {shown(term)}"


# --- many names to one pattern ---------------------------------------------------------------


def fold(names: Iterable[str]) -> str:
    """Return the names as one short comma separated list, in natural order, each name once.

    Reads back with :func:`expand`. Takes names without brackets and commas.
    """
    shapes: dict[tuple[str, ...], set[_Parts]] = {}
    for name in set(names):
        tokens = _NUMBER.split(name)
        shapes.setdefault(tuple(tokens[::2]), set()).add(tuple((token,) for token in tokens))
    folded = itertools.chain.from_iterable(map(_folded, shapes.values()))
    return ",".join("".join(map(_written, parts)) for parts in sorted(folded, key=_natural))


def _folded(items: Collection[_Parts]) -> Collection[_Parts]:
    """Fold names of one shape along each of their numbers, the last one first."""
    axes = range(1, len(next(iter(items))), 2)
    for axis in reversed(axes):
        items = _folded_along(items, axis)
    return items


def _folded_along(items: Collection[_Parts], axis: int) -> list[_Parts]:
    alike: dict[tuple[_Parts, _Parts], set[str]] = {}
    for item in sorted(items):
        alike.setdefault((item[:axis], item[axis + 1 :]), set()).update(item[axis])
    return [
        (*before, numbers, *after)
        for (before, after), texts in alike.items()
        for numbers in _by_width(texts)
    ]


def _by_width(texts: set[str]) -> Iterator[tuple[str, ...]]:
    """Split numbers into those that can share a bracket: one width with zeros, or no zeros."""
    widths = {len(text) for text in texts if text.startswith("0") and text != "0"}
    for width in sorted(widths):
        yield tuple(sorted(text for text in texts if len(text) == width))
    if free := [text for text in texts if len(text) not in widths]:
        yield tuple(sorted(free, key=int))


def _written(texts: tuple[str, ...]) -> str:
    return texts[0] if len(texts) == 1 else f"[{','.join(_runs(texts))}]"


def _runs(texts: tuple[str, ...]) -> Iterator[str]:
    numbered = enumerate(texts)
    for _, run in itertools.groupby(numbered, key=lambda pair: int(pair[1]) - pair[0]):
        first, *rest = (text for _, text in run)
        yield f"{first}-{rest[-1]}" if rest else first


def _natural(parts: _Parts) -> tuple[tuple[str | int, ...], str]:
    """Sort by text and number in turn; equal numbers by how they are written."""
    texts = [part[0] for part in parts]
    return tuple(int(text) if at % 2 else text for at, text in enumerate(texts)), "".join(texts)
