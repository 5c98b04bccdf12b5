"""Many nodes at once: a bound, an outcome for every node, and an end when the operator says so."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeprep import executors
from nodeprep.errors import Interrupted, Unreachable
from nodeprep.model import Node, Outcome


def nodes(count: int) -> tuple[Node, ...]:
    return tuple(Node(name=f"node{n}", address="192.0.2.1") for n in range(count))


def done(node: Node) -> Outcome:
    return Outcome(node=node)


def ran(
    every: Sequence[Node], parallel: int, work: executors.Work = done, *, stop: bool = False
) -> list[Outcome]:
    event = threading.Event()
    if stop:
        event.set()
    return list(executors.threads(work, every, parallel, event))


@settings(max_examples=30, deadline=None)
@given(count=st.integers(0, 40), parallel=st.integers(1, 60))
def test_every_node_is_yielded_exactly_once(count: int, parallel: int) -> None:
    every = nodes(count)
    names = [outcome.node.name for outcome in ran(every, parallel)]
    assert sorted(names) == sorted(node.name for node in every)


@pytest.mark.parametrize("parallel", [1, 3, 8])
def test_so_many_nodes_are_in_hand_at_once_and_no_more(parallel: int) -> None:
    lock, counts, meeting = threading.Lock(), [0, 0], threading.Barrier(parallel)

    def work(node: Node) -> Outcome:
        with lock:
            counts[0] += 1
            counts[1] = max(counts)
        meeting.wait(10)
        with lock:
            counts[0] -= 1
        return done(node)

    assert len(ran(nodes(parallel * 3), parallel, work)) == parallel * 3
    assert counts == [0, parallel]


def test_an_outcome_comes_when_it_is_there_and_not_in_its_turn() -> None:
    others_came = threading.Event()

    def work(node: Node) -> Outcome:
        if node.name == "node0":
            assert others_came.wait(10)
        return done(node)

    came = []
    for outcome in executors.threads(work, nodes(3), 3, threading.Event()):
        came.append(outcome.node.name)
        if len(came) == 2:
            others_came.set()
    assert came[-1] == "node0"


def test_a_node_that_fails_hides_no_other() -> None:
    def work(node: Node) -> Outcome:
        failed = node.name == "node1"
        return Outcome(node=node, error=Unreachable("gone") if failed else None)

    outcomes = ran(nodes(5), 2, work)
    assert len(outcomes) == 5
    assert [o.node.name for o in outcomes if o.error] == ["node1"]


def test_no_node_is_begun_once_the_operator_said_stop() -> None:
    outcomes = ran(nodes(4), 2, lambda _: pytest.fail("it was begun"), stop=True)
    assert [type(outcome.error) for outcome in outcomes] == [Interrupted] * 4
    assert all(outcome.error and outcome.error.exit_code == 130 for outcome in outcomes)


def test_nodes_in_hand_are_finished_and_the_rest_is_told() -> None:
    stop, in_hand = threading.Event(), threading.Barrier(2)

    def work(node: Node) -> Outcome:
        in_hand.wait(10)
        stop.set()
        time.sleep(0.02)
        return done(node)

    outcomes = list(executors.threads(work, nodes(6), 2, stop))
    assert sorted(o.node.name for o in outcomes if o.error is None) == ["node0", "node1"]
    assert len(outcomes) == 6


# --- signals --------------------------------------------------------------------------------

PROGRAM = """
import time
from nodeprep import executors
with executors.stopping_on_signals() as stop:
    print("ready", flush=True)
    for _ in range({rounds}):
        if stop.is_set() and {obeys}:
            print("finished", flush=True)
            break
        time.sleep(0.01)
"""


def signalled(which: Sequence[signal.Signals], *, obeys: bool) -> tuple[int, str, str]:
    """Send signals to a run, and return its exit code and what it printed."""
    program = PROGRAM.format(rounds=1000, obeys=obeys)
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdout=pipe, stderr=pipe) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        for each in which:
            process.send_signal(each)
            time.sleep(0.1)
        out, err = process.communicate(timeout=20)
    return process.returncode, out.decode(), err.decode()


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_to_stop(which: signal.Signals) -> None:
    code, out, err = signalled([which], obeys=True)
    assert (code, out) == (0, "finished\n")
    assert "nodes in hand are finished" in err


def test_the_second_signal_ends_the_process_at_once() -> None:
    began = time.monotonic()
    code, _, err = signalled([signal.SIGINT, signal.SIGTERM], obeys=False)
    assert code == 130
    assert time.monotonic() - began < 5
    assert "Traceback" not in err


def test_signals_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with contextlib.suppress(ZeroDivisionError), executors.stopping_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5)
        raise ZeroDivisionError
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
