"""Which nodes are in hand together: portions as an operator types them, and batches of nodes.

A roll goes through its batches one after the other. The first may be a canary; the sizes that
follow are used in turn, and the last one again and again. Control-plane nodes keep to themselves,
and fewer than half of them are ever in one batch: what one mistake can reach stays small.
"""

import re
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import chain, repeat, takewhile
from typing import Literal

from nodeprep.errors import UsageError

Order = Literal["control-plane-last", "control-plane-first", "inventory"]
ORDERS: tuple[Order, ...] = ("control-plane-last", "control-plane-first", "inventory")

_WHOLE = 100
_WRITTEN = re.compile(r"([0-9]{1,6})(%?)")


@dataclass(frozen=True, kw_only=True)
class Portion:
    """A number of nodes, or a percentage of them."""

    amount: int
    percent: bool = False

    def of(self, total: int) -> int:
        """Return how many of ``total`` nodes are meant.

        A percentage is rounded down, but is one node at least; a number stays as it is, even where
        there are fewer nodes. Zero stays zero.

        >>> Portion(amount=10, percent=True).of(50), Portion(amount=10, percent=True).of(5)
        (5, 1)
        """
        if not self.percent or not self.amount:
            return self.amount
        return max(1, self.amount * total // _WHOLE)

    def __str__(self) -> str:
        return f"{self.amount}%" if self.percent else str(self.amount)


def parse_portion(text: str, name: str, *, zero: bool = False) -> Portion:
    """Read "3" or "10%". ``name`` is the option it was given to, such as ``--max-failures``.

    Raises UsageError for anything else, for more than 100%, and for zero unless ``zero`` allows it.
    """
    written = _WRITTEN.fullmatch(text.strip())
    portion = Portion(amount=int(written[1]), percent=bool(written[2])) if written else None
    if portion is None or (portion.percent and portion.amount > _WHOLE):
        raise _refusal(text, name, zero=zero, why="neither a number of nodes nor up to 100%")
    if not portion.amount and not zero:
        raise _refusal(text, name, zero=zero, why="no node at all")
    return portion


def _refusal(text: str, name: str, *, zero: bool, why: str) -> UsageError:
    return UsageError(f"{name}: {text!r} is {why}", hint=f"{name} {int(not zero)}    {name} 10%")


def parse_batches(text: str, name: str = "--batch") -> tuple[Portion, ...]:
    """Read a list of sizes such as "1,10%,25%". Raises UsageError as parse_portion does."""
    return tuple(parse_portion(part, name) for part in text.split(","))


def batches(
    nodes: Sequence[str],
    control_plane: AbstractSet[str],
    *,
    canary: int,
    sizes: tuple[Portion, ...],
    order: Order,
) -> tuple[tuple[str, ...], ...]:
    """Return the batches, each node in exactly one of them; ``nodes`` has no name twice.

    The canary is the first ``canary`` nodes in the chosen order, whichever they are: with
    ``control-plane-first`` they are control-plane nodes. Then each batch takes the next of
    ``sizes`` (one or more; percentages are of all nodes), the last one repeating. A batch, the
    canary too, is cut short where control-plane nodes border on others, and at max(1, (n-1)//2)
    of the n control-plane nodes among ``nodes``; what was cut off is in the next batch, which has
    the next size.
    """
    left = ordered(nodes, control_plane, order)
    most = max(1, (len(control_plane & set(nodes)) - 1) // 2)
    portions = [canary] * bool(canary) + [size.of(len(nodes)) for size in sizes]
    cut: list[tuple[str, ...]] = []
    for size in chain(portions, repeat(portions[-1])):
        if not left:
            return tuple(cut)
        cut.append(_first(left, control_plane, size, most))
        left = left[len(cut[-1]) :]
    raise AssertionError("sizes repeat without end")


def ordered(nodes: Sequence[str], control_plane: AbstractSet[str], order: Order) -> tuple[str, ...]:
    """Return the nodes in the order in which they are begun, else as the inventory has them."""
    if order == "inventory":
        return tuple(nodes)
    first = order == "control-plane-first"
    return tuple(sorted(nodes, key=lambda node: (node in control_plane) != first))


def _first(
    left: Sequence[str], control_plane: AbstractSet[str], size: int, most: int
) -> tuple[str, ...]:
    """Return the next batch: of one kind, and of control-plane nodes no more than ``most``."""
    kind = left[0] in control_plane
    allowed = min(size, most) if kind else size
    return tuple(takewhile(lambda node: (node in control_plane) == kind, left[:allowed]))
