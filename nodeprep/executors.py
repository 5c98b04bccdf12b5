"""The same work over many nodes at once, and what happens when the operator says stop."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from types import FrameType

from nodeprep.errors import Interrupted
from nodeprep.model import Node, Outcome

Work = Callable[[Node], Outcome]


def threads(
    work: Work, nodes: Sequence[Node], parallel: int, stop: threading.Event
) -> Iterator[Outcome]:
    """Yield each node's outcome as it comes, with at most ``parallel`` nodes in hand.

    Once ``stop`` is set no node is begun; those in hand are finished, and every node is yielded
    all the same: one that was not begun carries an Interrupted.
    """

    def unless_stopped(node: Node) -> Outcome:
        if stop.is_set():
            return Outcome(node=node, error=Interrupted("not begun: the run was interrupted"))
        return work(node)

    with ThreadPoolExecutor(max_workers=max(1, min(parallel, len(nodes)))) as pool:
        for future in as_completed([pool.submit(unless_stopped, node) for node in nodes]):
            yield future.result()


@contextmanager
def stopping_on_signals() -> Iterator[threading.Event]:
    """Give an event that the first SIGINT or SIGTERM sets; the second ends the process at once."""
    stop = threading.Event()

    def handle(_: int, __: FrameType | None) -> None:
        if stop.is_set():
            os._exit(Interrupted.exit_code)
        stop.set()
        print("\nstopping: nodes in hand are finished; once more to leave now", file=sys.stderr)

    before = {which: signal.signal(which, handle) for which in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)
