"""What a command cost is what its whole family cost, also what it leaves behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from bench.comparison import measuring

BUSY = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"
LEFT_BEHIND = f"(setsid sh -c '{BUSY}; exec sleep 60' >/dev/null 2>&1 &); sleep 2"


def run(command: str, folder: Path) -> measuring.Cost:
    return measuring.run(["sh", "-c", command], folder / "log", os.environ)


def test_the_exit_status_and_the_output_are_the_commands(tmp_path: Path) -> None:
    cost = run("echo out; echo err >&2; exit 3", tmp_path)
    assert cost.exit_status == 3
    assert (tmp_path / "log").read_text() == "out\nerr\n"


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
    words = ["sh", "-c", "setsid sleep 61 & echo ready; sleep 62"]
    paths = [str(tmp_path / name) for name in ("result", "log")]
    measurer = subprocess.Popen(
        [sys.executable, "-m", "bench.comparison.measuring", *paths, *words]
    )
    both = {"sleep 61", "sleep 62"}
    while not both <= commands():
        assert measurer.poll() is None
    measurer.terminate()
    assert measurer.wait() == 128 + signal.SIGTERM
    assert not both & commands()


def commands() -> set[str]:
    found = set()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.add(entry.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip())
        except OSError:
            continue
    return found


def test_memory_and_processes_are_those_of_the_family(tmp_path: Path) -> None:
    cost = run("sleep 1 & sleep 1 & wait", tmp_path)
    assert cost.processes == 3
    assert 0 < cost.memory < 50


def test_a_family_is_all_below_and_nobody_else() -> None:
    assert os.getpid() in measuring.family(os.getppid())
    assert os.getppid() not in measuring.family(os.getpid())
