"""How much faster `verify` is with more Dask workers.

    python -m bench.workers [W ...] [--nodes N] [--latency SECONDS] [--threads N]

Simulated nodes take their time to answer, as nodes far away or at work do: then a worker's threads
are the limit, and twice as many workers should take half as long. Without latency the processor of
this one machine is the limit, whatever the number of workers: that is measured too.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import measuring
from bench.scale import ROOT
from bench.simulated.conduct import Rates
from bench.simulated.playing import Played, played


@contextmanager
def cluster(workers: int, threads: int, folder: Path) -> Iterator[str]:
    """Give the address of a scheduler on loopback with so many workers."""
    address = f"tcp://127.0.0.1:{_free_port()}"
    with ExitStack() as stack:
        log = stack.enter_context((folder / "dask.log").open("ab"))
        _dask(stack, log.fileno(), "scheduler", "--host", address)
        for _ in range(workers):
            _dask(stack, log.fileno(), "worker", address, "--no-nanny", "--nthreads", str(threads))
        yield address


def _dask(stack: ExitStack, log: int, *words: str) -> None:
    command = (sys.executable, "-m", "dask", *words, "--no-dashboard")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    stack.callback(process.wait)
    stack.callback(process.terminate)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def verify(fleet: Played, given: argparse.Namespace, workers: int) -> measuring.Cost:
    """Verify the fleet once through so many workers; every node must be ready."""
    inventory, output = fleet.inventory(given.nodes), fleet.folder / f"output-{workers}"
    with cluster(workers, given.threads, fleet.folder) as address:
        _await_workers(address, workers)
        how = ("--executor", "dask", "--scheduler", address, "-o", "jsonl")
        places = ("--parallel", str(min(1000, workers * given.threads)))
        command = (sys.executable, "-m", "nodeprep", "verify", "-i", str(inventory), *how, *places)
        cost = measuring.run(command, output, dict(os.environ))
    told = [json.loads(line) for line in output.read_text().splitlines()]
    ready = sum(1 for one in told if one.get("ready"))
    if ready != given.nodes:
        raise SystemExit(f"{output.read_text()[-2000:]}\n{ready} of {given.nodes} nodes are ready")
    return cost


def _await_workers(address: str, workers: int) -> None:
    from distributed import Client

    with Client(address, set_as_default=False, timeout=60) as client:
        client.wait_for_workers(workers, timeout=60)


def main() -> None:
    """Measure each number of workers and print a table."""
    parser = argparse.ArgumentParser(description="Measure `verify` with Dask workers.")
    parser.add_argument("workers", nargs="*", type=int, default=[1, 2, 4], metavar="W")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--latency", type=float, default=2.0, help="seconds before an answer")
    parser.add_argument("--threads", type=int, default=25, help="of each worker")
    given = parser.parse_args()
    rates = Rates(slow=1.0 if given.latency else 0.0, latency=given.latency or 1.0)
    print("| workers | wall s | speed-up | client's CPU ms a node |\n|---:|---:|---:|---:|")
    first = 0.0
    with tempfile.TemporaryDirectory() as folder, played(Path(folder) / "fleet", rates, 1) as fleet:
        for workers in given.workers:
            cost = verify(fleet, given, workers)
            first = first or cost.wall
            each = 1000 * cost.cpu / given.nodes
            print(f"| {workers} | {cost.wall:.1f} | {first / cost.wall:.2f} | {each:.1f} |")
            time.sleep(1)


if __name__ == "__main__":
    main()
