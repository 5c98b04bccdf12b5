"""What a probe costs a node: the processes that it starts, and the time of each fact.

``python bench/forks.py [SHELL ...]`` makes a prepared node in namespaces of this machine (see
tests/prepared.py; root, strace and iptables are needed), runs the probe of ``nodeprep verify``
there under strace once, to count, and ten times without, for the times.
"""

import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from nodeprep import probe, story
from tests.namespaces import NONCE
from tests.prepared import BEFORE_ANY_FACT, NODE, Prepared, Processes, prepared
from tests.shells import PATH, SHELLS, command

ROUNDS = 10


def times(node: Prepared) -> Mapping[str, float]:
    """Run the probe once; return the milliseconds from the begin of each fact to its end."""
    words = (*node.inside.enter, *command(node.inside.shell), "-s")
    script = node.whole(probe.script(NODE, story.STORY, NONCE))
    environment = {"PATH": PATH, "LC_ALL": "C", "HOME": "/root"}
    found: dict[str, float] = defaultdict(float)
    last, here = time.monotonic(), BEFORE_ANY_FACT
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as shell:
        assert shell.stdin  # noqa: S101
        assert shell.stdout  # noqa: S101
        shell.stdin.write(script.encode())
        shell.stdin.close()
        for line in shell.stdout:
            if mark := re.match(rb"@%s (begin|end) ([\w.]+)" % NONCE.encode(), line):
                now = time.monotonic()
                found[here] += 1000 * (now - last)
                last, here = now, mark[2].decode() if mark[1] == b"begin" else BEFORE_ANY_FACT
    return found


def medians(node: Prepared) -> Mapping[str, float]:
    """Return the median time of each fact over all rounds, in milliseconds."""
    rounds = [times(node) for _ in range(ROUNDS)]
    return {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}


def table(started: Processes, took: Mapping[str, float]) -> None:
    """Print a row for each fact, what is asked together first, and the sums last."""
    print("| fact | processes | programs | ms |\n|---|---|---|---|")
    for name, each in took.items():
        programs = ", ".join(started.programs.get(name, ()))
        print(f"| {name} | {started.forks.get(name, 0)} | {programs} | {each:.1f} |")
    every = sum(map(len, started.programs.values()))
    print(f"| all | {started.total} | {every} | {sum(took.values()):.1f} |\n")


def processor(node: Prepared) -> float:
    """Return the processor time of one probe, in milliseconds: the median over all rounds."""
    found = []
    for _ in range(ROUNDS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        times(node)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        found.append(1000 * spent)
    return statistics.median(found)


def main(shells: list[str]) -> None:
    """Print a table for each shell."""
    for shell in shells or list(SHELLS):
        with prepared(shell) as node, tempfile.TemporaryDirectory() as folder:
            script = probe.script(NODE, story.STORY, NONCE)
            print(f"{shell}: a script of {len(script.reveal())} bytes\n")
            table(node.processes(script, Path(folder) / "trace"), medians(node))
            print(f"{processor(node):.0f} ms of a processor for each probe\n")


if __name__ == "__main__":
    main(sys.argv[1:])
