"""Only what we started is ever ended."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from nodeprep.lab.process import Process, end, identify, running, wait_until_gone


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as child:
        yield child
        child.kill()


def identity(child: subprocess.Popen[bytes]) -> Process:
    process = identify(child.pid)
    assert process
    return process


def test_a_process_that_we_started_is_ended(sleeper: subprocess.Popen[bytes]) -> None:
    process = identity(sleeper)
    assert running(process)
    end(process)
    assert not running(process)


def test_the_same_number_at_another_time_is_somebody_else(
    sleeper: subprocess.Popen[bytes],
) -> None:
    process = identity(sleeper)
    for stranger in (replace(process, started=1), replace(process, boot="yesterday's")):
        assert not running(stranger)
        end(stranger)
    assert sleeper.poll() is None


def test_waiting_for_a_process_that_stays_takes_no_longer_than_said(
    sleeper: subprocess.Popen[bytes],
) -> None:
    assert not wait_until_gone(identity(sleeper), 0.05)


def test_a_process_that_has_ended_is_gone_even_before_it_is_collected() -> None:
    with subprocess.Popen(["true"]) as child:
        process = Process(pid=child.pid, started=0, boot="")
        assert wait_until_gone(process, 5)
    assert identify(child.pid) is None
    end(process)
