"""One job on a fleet, by what people would pick: Ansible, mitogen, pyinfra, a script, nodeprep.

    python -m bench.compare [--rounds 3] [--nodes 5] [--only NAME,...] [--lab FOLDER]

Boots a lab, and in each round lets each tool prepare its bare nodes (cold) and then run again with
nothing to change, in an order that turns around from round to round. Afterwards nodeprep's verify
judges what the tool left, whichever it was, and what it did is taken away. bench/README.md tells
what is measured and how.
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench import measuring
from bench.comparison import nodes
from bench.comparison.contenders import CONTENDERS, SCRIPT, Contender, Desk, environment, lay_out
from bench.comparison.results import Comparison, Kind, Run, document, table
from nodeprep.lab import lifecycle, state
from nodeprep.lab.settings import Settings, default_cache
from nodeprep.lab.state import Lab

ROOT = Path(__file__).resolve().parent.parent
AGAIN_SECONDS = 10.0
"""A run with nothing to change is repeated until this much was measured in a round ..."""
AGAIN_TIMES = 5
"""... or until it was run this often."""
SETTLE = 2.0
"""Seconds of quiet before each measured run."""
MEBIBYTE = 2**20


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Compare tools on one job.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--nodes", type=int, default=5)
    names = ",".join(contender.name for contender in CONTENDERS)
    parser.add_argument("--only", default=names, help=f"of {names}, in this order")
    parser.add_argument("--lab", type=Path, help="a lab that is up already, and stays")
    parser.add_argument("--tools", type=Path, default=ROOT / ".venv-compare")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "fleet-compare.json")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs" / "fleet-compare.svg")
    return parser.parse_args()


# --- the lab --------------------------------------------------------------------------------


@contextmanager
def desk(given: argparse.Namespace) -> Iterator[Desk]:
    """Give a desk with a lab that is up, and take both away afterwards."""
    with tempfile.TemporaryDirectory(prefix="compare-") as name:
        folder = Path(name)
        if given.lab:
            yield Desk(lab=lifecycle.load(given.lab), folder=folder, tools=given.tools)
            return
        try:
            yield Desk(lab=boot(folder / "lab", given.nodes), folder=folder, tools=given.tools)
        finally:
            if state.state_file(folder / "lab").exists():
                lifecycle.down(folder / "lab")


def boot(folder: Path, count: int) -> Lab:
    """Start a lab whose nodes have what a tool needs there before it can begin."""
    settings = Settings(
        folder=folder, cache=default_cache(), nodes=count, installed=nodes.NEEDED_BY_TOOLS
    )
    return lifecycle.up(settings, tell)


def tell(line: str) -> None:
    """Say on stderr what is going on; stdout is for the table."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


# --- rounds ---------------------------------------------------------------------------------


def rounds(desk: Desk, chosen: Sequence[Contender], count: int) -> Iterator[Run]:
    """Measure all contenders, round by round; every other round begins with the last one."""
    bare = nodes.to_do(desk)
    if not all(bare.values()):
        raise SystemExit("the nodes are not bare: nodeprep would change nothing there")
    for number in range(1, count + 1):
        for contender in chosen if number % 2 else reversed(chosen):
            yield from turn(desk, contender, number)
            nodes.make_bare(desk)
            expect_bare(desk, bare)


def expect_bare(desk: Desk, bare: Mapping[str, list[str]]) -> None:
    """Raise SystemExit where a node would not be changed just as at first."""
    now = nodes.to_do(desk)
    for name, changes in bare.items():
        if now[name] != changes:
            raise SystemExit(f"{name} is not bare again: {now[name]}, at first {changes}")


def turn(desk: Desk, contender: Contender, number: int) -> Iterator[Run]:
    """Measure one contender in one round: cold, then with nothing to change, then on one node."""
    yield measure(desk, contender, number, "cold")
    nodes.expect_prepared(desk, contender.name)
    spent, times = 0.0, 0
    while spent < AGAIN_SECONDS and times < AGAIN_TIMES:
        run = measure(desk, contender, number, "no change")
        spent, times = spent + run.wall, times + 1
        yield run
    yield measure(desk, contender, number, "one node")


def measure(desk: Desk, contender: Contender, number: int, kind: Kind) -> Run:
    """Run a contender's command once. Raises SystemExit with what it printed if it fails."""
    names = desk.names[:1] if kind == "one node" else desk.names
    marks = nodes.mark(desk)
    time.sleep(SETTLE)
    log = desk.folder / f"{contender.name}.log"
    before = nodes.busy_seconds() - nodes.lab_seconds(desk)
    command, surroundings = contender.command(desk, names), environment(desk, contender)
    cost = measuring.run(command, log, surroundings, together=True)
    others = nodes.busy_seconds() - nodes.lab_seconds(desk) - before - cost.cpu
    said = log.read_text(errors="replace")
    if cost.exit_code:
        raise SystemExit(f"{contender.name}, {kind}: exit status {cost.exit_code}\n{said}")
    since = nodes.logins_since(desk, marks)
    logins = [since[name] for name in names]
    run = Run(
        contender=contender.name,
        round=number,
        kind=kind,
        wall=round(cost.wall, 3),
        cpu=round(cost.cpu * 1000, 1),
        memory=round(cost.peak / MEBIBYTE, 1),
        processes=cost.processes,
        connections=sum(one.connections for one in logins) / len(logins),
        sessions=sum(one.sessions for one in logins) / len(logins),
        changes=contender.changes(said),
        others=round(max(others, 0) / cost.wall / (os.cpu_count() or 1), 3),
    )
    tell(
        f"round {number}, {contender.name}, {kind}: {run.wall:.1f} s, {run.cpu:.0f} ms, "
        f"{run.sessions:g} sessions, {run.changes} changes, others {run.others:.0%}"
    )
    return run


# --- what comes of it -----------------------------------------------------------------------


def machine(desk: Desk) -> Mapping[str, str | int]:
    """Return what the figures depend on."""
    ssh = subprocess.run(["ssh", "-V"], check=True, capture_output=True, text=True)
    return {
        "cores": os.cpu_count() or 0,
        "accelerator": desk.lab.accelerator,
        "python": platform.python_version(),
        "ssh": ssh.stderr.strip(),
    }


def main() -> None:
    """Print the table, write the figures and the picture."""
    given = arguments()
    # Told to end, it takes the lab and the tool that runs with it.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    chosen = list(named(given.only.split(",")))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with desk(given) as at:
        lay_out(at)
        nodes.remember_bare(at)
        comparison = compare(at, chosen, given)
    print(table(comparison))
    python = given.tools / "bin" / "python"
    words = [python, "-m", "bench.comparison.chart", given.out, given.picture]
    subprocess.run(words, check=True, cwd=ROOT)
    tell(f"every run is in {given.out}, and drawn in {given.picture}")


def named(names: Sequence[str]) -> Iterator[Contender]:
    """Yield the contenders of these names, in their order. Raises SystemExit for an unknown one."""
    by_name = {contender.name: contender for contender in CONTENDERS}
    for name in names:
        if name not in by_name:
            raise SystemExit(f"--only {name}: there are {', '.join(by_name)}")
        yield by_name[name]


def compare(desk: Desk, chosen: Sequence[Contender], given: argparse.Namespace) -> Comparison:
    """Measure everything; after each run the file has all there is, in case it is the last."""
    comparison = Comparison(
        nodes=len(desk.names),
        machine=machine(desk),
        labels={one.name: one.label(desk) for one in chosen},
        base=SCRIPT,
        runs=(),
    )
    for run in rounds(desk, chosen, given.rounds):
        comparison = replace(comparison, runs=(*comparison.runs, run))
        given.out.write_text(document(comparison))
    return comparison


if __name__ == "__main__":
    main()
