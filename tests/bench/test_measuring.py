"""What a command cost is what its whole family cost, also what it leaves behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import measuring
from bench.measuring import Cost

BUSY = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
LEFT_BEHIND = f"(setsid sh -c '{BUSY}; exec sleep 60' >/dev/null 2>&1 &); sleep 2"
HOLDS = "held = bytearray(60_000_000); import time; time.sleep(1)"
MEGABYTES_60 = 60_000_000
MEGABYTES_50 = 50_000_000


def run(command: str, folder: Path) -> Cost:
    return measuring.run(["sh", "-c", command], folder / "output", os.environ)


def run_python(program: str, folder: Path) -> Cost:
    return measuring.run([sys.executable, "-c", program], folder / "output", os.environ)


def test_its_exit_code_and_all_that_it_prints_are_kept(tmp_path: Path) -> None:
    cost = run("echo said; echo and complained >&2; exit 3", tmp_path)
    assert cost.exit_code == 3
    assert (tmp_path / "output").read_text() == "said\n"
    assert (tmp_path / "output.errors").read_text() == "and complained\n"


def test_all_that_it_prints_can_go_to_one_file(tmp_path: Path) -> None:
    log, words = tmp_path / "script.log", ["sh", "-c", "echo out; echo err >&2; echo out"]
    measuring.run(words, log, os.environ, together=True)
    assert log.read_text() == "out\nerr\nout\n"
    assert not log.with_suffix(".errors").exists()


def test_a_command_that_cannot_be_run_has_no_cost(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        measuring.run([str(tmp_path / "none")], tmp_path / "output", os.environ)


def test_it_began_by_the_clock_of_whoever_asked(tmp_path: Path) -> None:
    before = time.monotonic()
    cost = run("true", tmp_path)
    assert before <= cost.began <= cost.began + cost.wall <= time.monotonic()


def test_processor_time_of_grandchildren_counts(tmp_path: Path) -> None:
    idle = run("sleep 0.5", tmp_path)
    busy = run(f"sh -c '{BUSY}'; true", tmp_path)
    assert busy.cpu > 2 * idle.cpu


def test_what_goes_on_in_the_background_counts_and_is_ended(tmp_path: Path) -> None:
    idle = run("sleep 0.5", tmp_path)
    cost = run(f"{LEFT_BEHIND}; echo $$", tmp_path)
    assert cost.cpu > 2 * idle.cpu
    assert "sleep 60" not in commands()


def test_a_measurement_that_is_told_to_end_leaves_nothing_behind(tmp_path: Path) -> None:
    both = {"sleep 61", "sleep 62"}
    with measurer("setsid sleep 61 & echo ready; sleep 62", both, tmp_path) as process:
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM
    assert not both & commands()


def test_a_measurement_that_is_told_twice_leaves_nothing_behind(tmp_path: Path) -> None:
    deaf = "sleep 2.5"
    with measurer(f"trap '' TERM; exec {deaf}", {deaf}, tmp_path) as process:
        process.send_signal(signal.SIGINT)
        process.terminate()
    assert process.returncode == 128 + signal.SIGINT
    assert deaf not in commands()


def measurer(command: str, awaited: set[str], folder: Path) -> subprocess.Popen[bytes]:
    """Return a measurement of a command that runs, with all that is awaited of it."""
    files = [str(folder / name) for name in ("result", "output", "errors")]
    words = [sys.executable, "-m", "bench.measuring", *files, "sh", "-c", command]
    process = subprocess.Popen(words)
    while not awaited <= commands():
        assert process.poll() is None
    return process


def commands() -> set[str]:
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.add(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip())
        except OSError:
            continue
    return found


def test_memory_is_counted_while_it_is_held(tmp_path: Path) -> None:
    cost = run_python(HOLDS, tmp_path)
    assert cost.peak > MEGABYTES_60
    assert cost.largest > MEGABYTES_60


def test_memory_of_children_counts_too(tmp_path: Path) -> None:
    program = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLDS!r}])"
    cost = run_python(program, tmp_path)
    assert cost.peak > MEGABYTES_60
    assert cost.largest > MEGABYTES_60


def test_memory_and_processes_are_those_of_the_family(tmp_path: Path) -> None:
    cost = run("sleep 1 & sleep 1 & wait", tmp_path)
    assert cost.processes == 3
    assert 0 < cost.peak < MEGABYTES_50
    assert 0 < cost.largest < MEGABYTES_50


def test_a_family_is_all_below_and_nobody_else() -> None:
    assert os.getpid() in measuring.family(os.getppid())
    assert os.getppid() not in measuring.family(os.getpid())
