"""Machines to entries: neighbours that count on together become one folded row.

>>> folded(["w08", "w09", "w10"])
'w[08-10]'
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nodeprep.errors import UsageError
from nodeprep.importing.imported import Machine, Settings
from nodeprep.inventory.folding import expand

FEWEST = 3
"""Two names are read faster than a pattern."""

_NUMBER = re.compile(r"([0-9]{1,18})")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of ``nodes``: names and addresses that are paired in order."""

    name: str
    address: str
    groups: tuple[str, ...]
    settings: Settings


def entries(machines: Sequence[Machine], own: Sequence[Settings]) -> Iterator[Entry]:
    """Yield the entries of these machines, in their order."""
    pairs = zip(machines, own, strict=True)
    alike = itertools.groupby(pairs, key=lambda pair: (pair[0].groups, tuple(pair[1].items())))
    for (groups, settings), block in alike:
        for name, address in _rows([machine for machine, _ in block]):
            yield Entry(name=name, address=address, groups=groups, settings=dict(settings))


def folded(texts: Sequence[str]) -> str | None:
    """Return one pattern that stands for exactly these texts in order, or None."""
    if len(texts) == 1:
        return texts[0]
    step = _step(texts[0], texts[1])
    if step is None:
        return None
    at, by = step
    first, last = _NUMBER.split(texts[0]), _NUMBER.split(texts[-1])
    end = last[at] if at < len(last) else ""
    first[at] = f"[{first[at]}-{end}{f'/{by}' if by > 1 else ''}]"
    pattern = "".join(first)
    return pattern if _stands_for(pattern, texts) else None


def _stands_for(pattern: str, texts: Sequence[str]) -> bool:
    try:
        return expand(pattern) == tuple(texts)
    except UsageError:
        return False


def _rows(machines: Sequence[Machine]) -> Iterator[tuple[str, str]]:
    """Yield name and address, both folded, of each run and of each machine that is in none."""
    at = 0
    while at < len(machines):
        run = machines[at : at + _length(machines, at)]
        name = folded([machine.name for machine in run])
        address = folded([machine.address for machine in run])
        if name is None or address is None:
            run, name, address = run[:1], run[0].name, run[0].address
        yield name, address
        at += len(run)


def _length(machines: Sequence[Machine], start: int) -> int:
    """Return how many machines from ``start`` on count in even steps; 1 for less than a few."""
    pairs = itertools.pairwise(machines[at] for at in range(start, len(machines)))
    steps = ((_step(one.name, two.name), _step(one.address, two.address)) for one, two in pairs)
    first = next(steps, (None, None))
    if None in first:
        return 1
    length = 2 + sum(1 for _ in itertools.takewhile(lambda step: step == first, steps))
    return length if length >= FEWEST else 1


def _step(one: str, two: str) -> tuple[int, int] | None:
    """Return which part of two texts counts up, and by how much; None if they differ otherwise."""
    left, right = _NUMBER.split(one), _NUMBER.split(two)
    if len(left) != len(right):
        return None
    differing = [at for at, pair in enumerate(zip(left, right, strict=True)) if len(set(pair)) > 1]
    if len(differing) != 1 or not differing[0] % 2:
        return None
    at = differing[0]
    by = int(right[at]) - int(left[at])
    return (at, by) if by > 0 else None
