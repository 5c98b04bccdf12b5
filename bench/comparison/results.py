"""Runs as values; their medians and ratios, as a table and as JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Literal

Kind = Literal["cold", "no change", "one node"]
"""Bare nodes; prepared nodes; one of these alone."""

KINDS: tuple[Kind, ...] = ("cold", "no change")
"""What a table, and a panel of the picture, is made for."""

FORMAT = "nodeprep fleet comparison 1"


@dataclass(frozen=True, kw_only=True)
class Run:
    """One measured run.

    ``wall`` is in seconds, ``cpu`` in milliseconds of the controller over all nodes, ``memory`` in
    MiB; ``connections`` and ``sessions`` are means over the nodes. ``changes`` is how many changes
    the tool said it made. ``others`` is the share of the machine's processors that went to neither
    the tool nor the nodes meanwhile: where it is large, the wall time tells little.
    """

    contender: str
    round: int
    kind: Kind
    wall: float
    cpu: float
    memory: float
    processes: int
    connections: float
    sessions: float
    changes: int
    others: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All runs, what they ran on, and the contenders' full names in the order of the table."""

    nodes: int
    machine: Mapping[str, str | int]
    labels: Mapping[str, str]
    base: str
    runs: Sequence[Run]

    def of(self, contender: str, kind: Kind) -> tuple[Run, ...]:
        """Return the runs of one contender and kind."""
        return tuple(r for r in self.runs if (r.contender, r.kind) == (contender, kind))

    def median(self, contender: str, kind: Kind, field: str) -> float:
        """Return the median of a field of :class:`Run`. Raises StatisticsError without runs."""
        return median(float(getattr(run, field)) for run in self.of(contender, kind))

    def cpu_a_node(self, contender: str, kind: Kind) -> float:
        """Return a contender's processor time by the number of nodes, in ms, its start included."""
        return self.median(contender, kind, "cpu") / self.nodes

    def cpu_of_one_more(self, contender: str) -> float:
        """Return what one more prepared node costs, in ms: what a start costs has gone from it."""
        more = self.median(contender, "no change", "cpu") - self.median(
            contender, "one node", "cpu"
        )
        return more / (self.nodes - 1)

    def ratio(self, contender: str, kind: Kind) -> float:
        """Return how many times the base's wall time a contender's is, medians both."""
        return self.median(contender, kind, "wall") / self.median(self.base, kind, "wall")


def document(comparison: Comparison) -> str:
    """Return a comparison as JSON, every run in it."""
    return json.dumps({"format": FORMAT, **asdict(comparison)}, indent=1) + "\n"


def read(text: str) -> Comparison:
    """Return the comparison that a document holds. Raises ValueError for any other text."""
    body = json.loads(text)
    if not isinstance(body, dict) or body.pop("format", None) != FORMAT:
        raise ValueError(f"no {FORMAT}")
    return Comparison(**{**body, "runs": tuple(Run(**run) for run in body["runs"])})


# --- as a table -----------------------------------------------------------------------------


def table(comparison: Comparison) -> str:
    """Return two tables in Markdown: cold runs, and runs with nothing to change."""
    return "\n\n".join(_table(comparison, kind) for kind in KINDS)


def _table(comparison: Comparison, kind: Kind) -> str:
    head = (
        *(
            kind,
            "wall: median (least to most)",
            f"x {comparison.base}",
            "controller CPU a node (of one more)",
        ),
        *("memory, processes", "connections, sessions a node", "says it changed", "others", "runs"),
    )
    rows = (_row(comparison, name, kind) for name in comparison.labels if comparison.of(name, kind))
    return "\n".join(map(_line, (head, ["---"] * len(head), *rows)))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _row(comparison: Comparison, name: str, kind: Kind) -> tuple[str, ...]:
    runs = comparison.of(name, kind)
    middle = {
        field: comparison.median(name, kind, field)
        for field in ("wall", "memory", "processes", "connections", "sessions", "others")
    }
    walls = [run.wall for run in runs]
    return (
        comparison.labels[name],
        f"{middle['wall']:.1f} s ({min(walls):.1f} to {max(walls):.1f})",
        _ratio(comparison, name, kind),
        _cpu(comparison, name, kind),
        f"{middle['memory']:.0f} MiB, {middle['processes']:.0f}",
        f"{middle['connections']:g}, {middle['sessions']:g}",
        _said([run.changes for run in runs]),
        f"{middle['others']:.0%}",
        str(len(runs)),
    )


def _ratio(comparison: Comparison, name: str, kind: Kind) -> str:
    if not comparison.of(comparison.base, kind):
        return ""
    return f"{comparison.ratio(name, kind):.2f}"


def _cpu(comparison: Comparison, name: str, kind: Kind) -> str:
    whole = f"{comparison.cpu_a_node(name, kind):.0f} ms"
    if kind != "no change" or comparison.nodes == 1 or not comparison.of(name, "one node"):
        return whole
    return f"{whole} ({comparison.cpu_of_one_more(name):.0f} ms)"


def _said(changes: Sequence[int]) -> str:
    """Tell whether a tool spoke of changes in all its runs, in none, or in some."""
    times = sum(map(bool, changes))
    if times in (0, len(changes)):
        return "yes" if times else "no"
    return f"in {times} of {len(changes)} runs"
