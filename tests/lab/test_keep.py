"""A kept program lives as long as its file, and its keeper no longer than it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeprep.lab import control_plane
from nodeprep.lab.process import Process, end, identify, running, wait_until_gone

KEEPER = Path(control_plane.__file__).with_name("keep.py")


@pytest.fixture
def lifeline(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "lifeline"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


def keep(lifeline: Path, *words: str) -> str:
    log = lifeline.with_name("log")
    command = [sys.executable, "-I", str(KEEPER), str(log), str(lifeline), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout


def identified(answer: str) -> Process:
    process = identify(int(answer))
    assert process is not None
    return process


def keeper_of(process: Process) -> Process:
    stat = Path(f"/proc/{process.pid}/stat").read_text()
    return identified(stat.rpartition(")")[2].split()[1])


def test_it_is_ended_when_the_file_goes(lifeline: Path) -> None:
    process = identified(keep(lifeline, "sleep", "60"))
    keeper = keeper_of(process)
    assert running(process)
    lifeline.unlink()
    assert wait_until_gone(process, 10)
    assert wait_until_gone(keeper, 10)


def test_one_that_does_not_listen_is_killed(lifeline: Path) -> None:
    process = identified(keep(lifeline, "sh", "-c", "trap '' TERM; while :; do sleep 1; done"))
    time.sleep(0.5)
    lifeline.unlink()
    assert wait_until_gone(process, 20)


def test_a_keeper_ends_with_its_program(lifeline: Path) -> None:
    process = identified(keep(lifeline, "sleep", "60"))
    keeper = keeper_of(process)
    end(process)
    assert wait_until_gone(keeper, 10)
    assert lifeline.exists()


def test_what_it_says_is_in_the_log(lifeline: Path) -> None:
    keep(lifeline, "sh", "-c", "echo out; echo err >&2")
    log = lifeline.with_name("log")
    for _ in range(50):
        if log.read_text() == "out\nerr\n":
            break
        time.sleep(0.1)
    assert log.read_text() == "out\nerr\n"


def test_a_program_that_is_not_there_has_no_process(lifeline: Path) -> None:
    assert keep(lifeline, "/nonexistent/program").strip() == ""
    assert "No such file" in lifeline.with_name("log").read_text()
