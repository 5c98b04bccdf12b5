"""What `verify` of a whole fleet costs its controller, and how that grows.

    python -m bench.scale [N ...] [--with='WORDS FOR nodeprep']

Simulated nodes on loopback answer with what a real, prepared node said; see bench/README.md. First
all of them are well. Then, at ``--troubled`` nodes, some hang, some refuse, and some answer
garbage: each must be named, and they may cost no more than the limits of waiting.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import measuring, plotting
from bench.measuring import Cost
from bench.simulated import fleet
from bench.simulated.conduct import Conduct, Rates, by_conduct
from bench.simulated.playing import Diary, played
from nodeprep.transport import Limits

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench/results/scale.json"
PLOT = ROOT / "docs/fleet-scale.svg"
TROUBLE = Rates(refuse=0.05, mute=0.025, half=0.025, garbage=0.01)
MILLION = 1_000_000

LIMITS: Mapping[Conduct, float] = {
    Conduct.MUTE: min(Limits().connect, Limits().login),
    Conduct.HALF: Limits().probe,
}
"""Seconds that nodeprep may wait for a node which hangs."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One verify of so many nodes: what it cost nodeprep, and what it cost the servers beside it.

    Seconds and bytes; ``first_node`` is from the start of the command to its first connection.
    """

    nodes: int
    cost: Cost
    servers_cpu: float
    first_node: float
    connections: int
    sessions: int
    ready: int
    trouble: Mapping[str, int]

    @property
    def cpu_each(self) -> float:
        """Milliseconds of nodeprep's CPU for each node."""
        return 1000 * self.cost.cpu / self.nodes

    @property
    def servers_cpu_each(self) -> float:
        """Milliseconds of the servers' CPU for each node."""
        return 1000 * self.servers_cpu / self.nodes

    @property
    def rate(self) -> float:
        """Nodes a second."""
        return self.nodes / self.cost.wall


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where the files of a run are, and how nodeprep is called."""

    folder: Path
    given: argparse.Namespace

    def verify(self, nodes: int, rates: Rates) -> Row:
        """Verify a fleet once, with servers of its own; every node must be told of as it is."""
        count = len(list(self.folder.iterdir()))
        with played(self.folder / f"fleet-{count}", rates, self.given.servers) as one:
            inventory, output = one.inventory(nodes), one.folder / "output"
            before = one.diary()
            cost = measuring.run(self._command(inventory), output, self._environment())
            row = _row(nodes, rates, cost, before, one.diary())
            self._check(row, rates, output)
        return row

    def _command(self, inventory: Path) -> list[str]:
        how = ("-o", self.given.output, "--parallel", str(self.given.parallel))
        words = (*how, *shlex.split(self.given.words))
        return [sys.executable, "-m", "nodeprep", "verify", "-i", str(inventory), *words]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "XDG_STATE_HOME": str(self.folder)}

    def _check(self, row: Row, rates: Rates, output: Path) -> None:
        """End the bench where nodeprep did not say of every node what it is."""
        told, expected = _told(output, self.given.output), _expected(row.nodes, rates)
        wrong = {name for name in expected if told.get(name) != expected[name]}
        if wrong or told.keys() != expected.keys():
            shown = ", ".join(f"{name}: {told.get(name)}" for name in sorted(wrong)[:10])
            said = output.with_suffix(".errors").read_text(errors="replace")
            tail = (output.read_text(errors="replace") + said)[-2000:]
            raise SystemExit(f"{tail}\n{len(wrong)} nodes are not told of as they are: {shown}")


def _row(nodes: int, rates: Rates, cost: Cost, before: Diary, after: Diary) -> Row:
    drawn = by_conduct(range(1, nodes + 1), rates)
    return Row(
        nodes=nodes,
        cost=cost,
        servers_cpu=after.cpu - before.cpu,
        first_node=(after.first or cost.began) - cost.began,
        connections=after.connections.total(),
        sessions=after.sessions,
        ready=len(drawn[Conduct.WELL]) + len(drawn[Conduct.SLOW]),
        trouble={str(which): len(drawn[which]) for which in rates.shares if drawn[which]},
    )


# --- what nodeprep should say, and what it says ---------------------------------------------------


def _expected(nodes: int, rates: Rates) -> dict[str, str]:
    ends = {
        **dict.fromkeys(Conduct, "ready"),
        **dict.fromkeys((Conduct.REFUSE, Conduct.MUTE, Conduct.HALF), "no answer"),
        Conduct.GARBAGE: "not ready",
    }
    drawn = by_conduct(range(1, nodes + 1), rates)
    return {fleet.name(number): ends[which] for which in drawn for number in drawn[which]}


def _told(output: Path, kind: str) -> dict[str, str]:
    """Return how each node ended, by its name, as the output has it."""
    text = output.read_text(errors="replace")
    return {node["name"]: _end(node) for node in _nodes(text, kind)}


def _nodes(text: str, kind: str) -> list[dict[str, Any]]:
    if kind == "json":
        return list(json.loads(text)["nodes"])
    return [one for one in map(json.loads, text.splitlines()) if "name" in one]


def _end(node: Mapping[str, Any]) -> str:
    if node["error"] is None:
        return "ready" if node["ready"] else "not ready"
    return "no answer" if node["error"]["exit_code"] == 4 else "not ready"  # noqa: PLR2004


# --- the table ----------------------------------------------------------------------------------


def growth(rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of a table: what each fleet cost, and that against the smallest one."""
    yield "| nodes | wall s | nodes/s | CPU s | CPU ms a node | to the smallest | memory MB "
    yield "| largest process MB | servers' CPU ms a node | first node after s |\n"
    yield "|" + "---:|" * 10 + "\n"
    for row in rows:
        cells = (
            f"{row.nodes:,}",
            f"{row.cost.wall:.1f}",
            f"{row.rate:.0f}",
            f"{row.cost.cpu:.1f}",
            f"{row.cpu_each:.1f}",
            f"{row.cpu_each / rows[0].cpu_each:.2f}",
            f"{row.cost.peak / MILLION:.0f}",
            f"{row.cost.largest / MILLION:.0f}",
            f"{row.servers_cpu_each:.1f}",
            f"{row.first_node:.1f}",
        )
        yield f"| {' | '.join(cells)} |\n"


def deadlines(row: Row, parallel: int) -> tuple[float, float]:
    """Return the least and the most seconds that waits to their limits take, so many at a time.

    The least is where they fill every place to the end; the most, where the longest begins last.
    """
    waits = [LIMITS[which] for which in LIMITS for _ in range(row.trouble.get(which, 0))]
    shared, longest = sum(waits) / parallel, max(waits, default=0)
    return max(shared, longest), shared + longest


def against_deadlines(well: Row, troubled: Row, parallel: int) -> str:
    """Return in words what the troubled nodes cost beyond a run without them."""
    beyond = troubled.cost.wall - well.cost.wall
    least, most = deadlines(troubled, parallel)
    kinds = ", ".join(f"{count} {which}" for which, count in troubled.trouble.items())
    return (
        f"{troubled.nodes:,} nodes, of these {kinds}: {troubled.cost.wall:.1f} s, "
        f"{beyond:.1f} s more than with all well. Waiting for those that hang to its limits takes "
        f"{least:.1f} to {most:.1f} s, {parallel} at a time, by when the last of them begins. "
        f"CPU {troubled.cpu_each:.1f} ms a node. Each was named."
    )


# --- the whole ----------------------------------------------------------------------------------


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure `verify` of simulated fleets.")
    parser.add_argument("nodes", nargs="*", type=int, default=[100, 1000, 10000], metavar="N")
    parser.add_argument("--troubled", type=int, default=1000, help="nodes of that part; 0: none")
    parser.add_argument("--parallel", type=int, default=100, help="nodes at once")
    parser.add_argument("--servers", type=int, default=2, help="processes that play the nodes")
    parser.add_argument("-o", "--output", choices=("json", "jsonl"), default="jsonl")
    parser.add_argument("--with", dest="words", default="", help="further words for nodeprep")
    parser.add_argument("--no-files", action="store_true", help="leave results and plot alone")
    return parser.parse_args()


def _measure(bench: Bench) -> Iterator[tuple[str, Row]]:
    given = bench.given
    for nodes in sorted(given.nodes):
        yield "well", bench.verify(nodes, Rates())
    if given.troubled:
        if given.troubled not in given.nodes:
            yield "well", bench.verify(given.troubled, Rates())
        yield "troubled", bench.verify(given.troubled, TROUBLE)


def _document(given: argparse.Namespace, rows: Sequence[tuple[str, Row]]) -> dict[str, Any]:
    return {
        "at": f"{datetime.now(UTC):%Y-%m-%d}",
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        **{key: getattr(given, key) for key in ("parallel", "servers", "output", "words")},
        "runs": [{"fleet": which, **asdict(row)} for which, row in rows],
    }


def main() -> None:
    """Measure, print, and keep the figures and a plot of them."""
    given = _arguments()
    rows: list[tuple[str, Row]] = []
    with tempfile.TemporaryDirectory() as folder:
        for which, row in _measure(Bench(folder=Path(folder), given=given)):
            rows.append((which, row))
            print(f"{which}: {row.nodes:,} nodes, {row.cost.wall:.1f} s", file=sys.stderr)
    well = {row.nodes: row for which, row in rows if which == "well"}
    print("".join(growth([well[nodes] for nodes in sorted(well)])))
    for which, row in rows:
        if which == "troubled":
            print(against_deadlines(well[row.nodes], row, given.parallel))
    if not given.no_files:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(_document(given, rows), indent=2) + "\n")
        plotting.draw(RESULTS, PLOT)


if __name__ == "__main__":
    main()
