"""What a command costs, measured over real processes."""

import os
import subprocess
import sys
from pathlib import Path

from bench import measuring
from bench.measuring import Cost

HOLDS = "held = bytearray(60_000_000); import time; time.sleep(1)"
MEGABYTES_60 = 60_000_000


def run(tmp_path: Path, program: str) -> Cost:
    return measuring.run((sys.executable, "-c", program), tmp_path / "output", os.environ)


def test_its_exit_code_and_all_that_it_prints_are_kept(tmp_path: Path) -> None:
    cost = run(tmp_path, "import sys; print('said', flush=True); sys.exit('and complained')")
    assert cost.exit_code == 1
    assert (tmp_path / "output").read_text() == "said\n"
    assert (tmp_path / "output.errors").read_text() == "and complained\n"


def test_memory_is_counted_while_it_is_held(tmp_path: Path) -> None:
    cost = run(tmp_path, HOLDS)
    assert cost.peak > MEGABYTES_60
    assert cost.largest > MEGABYTES_60


def test_memory_and_cpu_of_children_count_too(tmp_path: Path) -> None:
    busy = "sum(range(10_000_000)); " + HOLDS
    cost = run(
        tmp_path, f"import subprocess, sys; subprocess.run([sys.executable, '-c', {busy!r}])"
    )
    idle = run(tmp_path, "pass")
    assert cost.peak > MEGABYTES_60
    assert cost.cpu > idle.cpu


def test_memory_of_a_process_that_is_gone_is_none() -> None:
    with subprocess.Popen("true") as gone:
        gone.wait()
    assert measuring.memory(gone.pid) == 0
