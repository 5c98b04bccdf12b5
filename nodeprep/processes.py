"""The same work in several processes of this machine: an interpreter minds one node at a time.

Each process takes every so-manieth node, with threads of its own, and sends what comes of them as
it comes. What the work is made of, and what comes of it, must be picklable.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait

from nodeprep.errors import Interrupted, NodeFailed
from nodeprep.executors import Work, threads
from nodeprep.model import Node, Outcome

LOOK_EVERY = 0.2
"""Seconds between two looks at whether the operator has said stop."""


def processes(
    make: Callable[[], Work],
    nodes: Sequence[Node],
    parallel: int,
    stop: threading.Event,
    count: int,
) -> Iterator[Outcome]:
    """Yield each node's outcome as it comes, from ``count`` processes with ``parallel`` in all.

    ``make`` is called in each of them and returns the work. ``stop`` is as for ``threads``. A node
    whose process ended in the middle carries a NodeFailed.
    """
    count = max(1, min(count, len(nodes)))
    shares = [tuple(nodes[first::count]) for first in range(count)]
    started = [_started(make, share, -(-parallel // count)) for share in shares if share]
    left = {node.name: node for node in nodes}
    try:
        for outcome in _received(started, stop):
            del left[outcome.node.name]
            yield outcome
    finally:
        for process, connection in started:
            connection.close()
            process.join()
    for node in left.values():
        told = "the process that had it in hand has ended"
        yield Outcome(node=node, error=NodeFailed(told, hint="run the command again"))


_Started = tuple[multiprocessing.process.BaseProcess, "Connection[None, Outcome]"]


def _started(make: Callable[[], Work], nodes: Sequence[Node], parallel: int) -> _Started:
    # Not forked: this process has threads, and its locks would be copied as they are.
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, make, nodes, parallel), daemon=True)
    process.start()
    there.close()
    return process, here


def _received(started: Sequence[_Started], stop: threading.Event) -> Iterator[Outcome]:
    waiting, told = [connection for _, connection in started], False
    while waiting:
        ready = wait(waiting, LOOK_EVERY)
        for connection in [each for each in waiting if each in ready]:
            try:
                yield connection.recv()
            except (EOFError, OSError):
                waiting.remove(connection)
        if stop.is_set() and not told:
            told = True
            for process, _ in started:
                process.terminate()


def _serve(
    connection: "Connection[Outcome, None]",
    make: Callable[[], Work],
    nodes: Sequence[Node],
    parallel: int,
) -> None:
    stop = threading.Event()
    # Ctrl-C reaches every process of the terminal: here the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_end_with_parent, args=(connection,), daemon=True).start()
    for outcome in threads(make(), nodes, parallel, stop):
        connection.send(outcome)
    connection.close()


def _end_with_parent(connection: "Connection[Outcome, None]") -> None:
    try:
        connection.recv()
    except EOFError:
        os._exit(Interrupted.exit_code)
    except OSError:
        return  # it was closed here: all is done
