"""What a person sees: equal results folded, nothing unprintable, progress only on a terminal."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

from nodeprep.model import Finding, Outcome

T = TypeVar("T")


def printable(text: str) -> str:
    """Return ``text`` with everything but visible characters and newlines written as escapes.

    A node's answer could otherwise move the cursor, retitle the window, or reorder a line.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def one_line(text: str) -> str:
    """Return ``text`` as :func:`printable` does, on one line: an answer must not fake a second."""
    return printable(text).replace("\n", "\\n")


def blocks(
    items: Mapping[str, Sequence[T]], key: Callable[[T], object]
) -> list[tuple[tuple[str, ...], list[T]]]:
    """Return what nodes have in common: each set of nodes, with the items that just they share.

    ``items`` maps a node's name to its items in order. Larger sets come first, and equally
    large ones in the order in which their first item appears.
    """
    owners: dict[object, dict[str, None]] = {}
    first: dict[object, T] = {}
    for name, values in items.items():
        for value in values:
            owners.setdefault(key(value), {})[name] = None
            first.setdefault(key(value), value)
    grouped: dict[tuple[str, ...], list[T]] = {}
    for identity, names in owners.items():
        grouped.setdefault(tuple(names), []).append(first[identity])
    return sorted(grouped.items(), key=lambda block: -len(block[0]))


def sharing(outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Pass ``outcomes`` on; findings that are equal become one value, for a fleet's memory."""
    each: dict[Finding, Finding] = {}
    whole: dict[tuple[Finding, ...], tuple[Finding, ...]] = {}
    for outcome in outcomes:
        findings = tuple(each.setdefault(finding, finding) for finding in outcome.findings)
        yield replace(outcome, findings=whole.setdefault(findings, findings))


@dataclass(frozen=True)
class Screen:
    """Ways to print a line, to redraw the table below the lines, and to ask meanwhile."""

    show: Callable[[str], None]
    draw: Callable[[Sequence[tuple[str, ...]]], None]
    aside: Callable[[], AbstractContextManager[None]]


@contextmanager
def live() -> Iterator[Screen]:
    """Give a screen; where standard output is no terminal the lines are all there is."""
    if not sys.stdout.isatty():
        yield Screen(lambda text: print(text, flush=True), lambda _: None, nullcontext)
        return
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

    def draw(rows: Sequence[tuple[str, ...]]) -> None:
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        for row in rows:
            table.add_row(*row)
        shown.update(table, refresh=True)

    @contextmanager
    def aside() -> Iterator[None]:
        # A question would be drawn over, and its answer too.
        shown.stop()
        yield
        shown.start()

    def show(text: str) -> None:
        shown.console.print(text, markup=False, highlight=False)

    with Live(console=Console(), auto_refresh=False, transient=True) as shown:
        yield Screen(show, draw, aside)


def with_progress(outcomes: Iterable[Outcome], total: int, verb: str) -> Iterator[Outcome]:
    """Pass ``outcomes`` on, and draw how many have come where stderr is a terminal."""
    if not sys.stderr.isatty():
        yield from outcomes
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    last = TextColumn("{task.fields[last]}")
    with Progress(*columns, last, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(verb, total=total, last="")
        for outcome in outcomes:
            state = "unreachable" if outcome.error else f"{outcome.seconds:.1f} s"
            progress.update(task, advance=1, last=f"{outcome.node.name}: {state}")
            yield outcome
