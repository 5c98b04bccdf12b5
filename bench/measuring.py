"""What a command costs: wall and CPU seconds, and the memory of all its processes together."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SAMPLES_EACH = 0.2
"""Seconds between two looks at the memory."""

Gone = (FileNotFoundError, ProcessLookupError)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one run of a command came to.

    ``began`` is by the clock of ``time.monotonic``. ``cpu`` is of the command and all children that
    it waited for, user and system. ``peak`` is the largest sum of the proportional set sizes of
    its processes that was seen, ``largest`` the most that one of them had
    resident; in bytes.
    """

    began: float
    wall: float
    cpu: float
    peak: int
    largest: int
    exit_code: int


def run(command: Sequence[str], output: Path, environment: Mapping[str, str]) -> Cost:
    """Run a command to its end and return what it cost.

    What it prints is in a file afterwards, and what it complains of in one beside it, ``.errors``.
    """
    began = time.monotonic()
    with output.open("wb") as out, output.with_suffix(".errors").open("wb") as errors:
        process = subprocess.Popen(command, stdout=out, stderr=errors, env=environment)
    with _watched(process.pid) as seen:
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Cost(
        began=began,
        wall=time.monotonic() - began,
        cpu=used.ru_utime + used.ru_stime,
        peak=seen.peak,
        largest=seen.largest,
        exit_code=process.returncode,
    )


@dataclass(kw_only=True)
class _Seen:
    peak: int = 0
    largest: int = 0

    def look(self, pid: int) -> None:
        self.peak = max(self.peak, memory(pid))
        # What rusage calls the largest set may be that of whoever started the command.
        sizes = (_kilobytes(f"/proc/{each}/status", "VmHWM") for each in _family(pid))
        self.largest = max(self.largest, *sizes)


@contextmanager
def _watched(pid: int) -> Iterator[_Seen]:
    seen, over = _Seen(), threading.Event()

    def watch() -> None:
        while not over.wait(SAMPLES_EACH):
            seen.look(pid)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def memory(pid: int) -> int:
    """Return the bytes of memory of a process and its children: shared pages counted in part."""
    return sum(_kilobytes(f"/proc/{each}/smaps_rollup", "Pss") for each in _family(pid))


def _family(pid: int) -> Iterator[int]:
    yield pid
    with suppress(*Gone):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(*Gone):
                for child in (task / "children").read_text().split():
                    yield from _family(int(child))


def _kilobytes(file: str, name: str) -> int:
    """Return a size that a file of /proc tells in kB, as bytes; 0 where the process is gone."""
    with suppress(*Gone):
        for line in Path(file).read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0
