"""Run one command and say what it cost, its whole family of processes counted.

    python -m bench.measuring RESULT.json OUTPUT ERRORS COMMAND [WORD ...]

It is a program of its own, for it adopts what the command leaves behind: a connection that ssh
keeps open in the background becomes its child, is ended after the command, and its processor time
is counted with the rest. Wall time ends with the command itself.
"""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

EVERY = 0.1
"""Seconds between two looks at the family's memory, or more, ..."""
SHARE = 0.01
"""... so that looking takes no larger share of a processor than this."""

_PATIENCE = 5.0
_SET_CHILD_SUBREAPER = 36  # of linux/prctl.h


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one run of a command came to.

    ``began`` is by the clock of ``time.monotonic``; ``wall`` and ``cpu`` (user and system) are
    seconds. ``peak`` is the greatest sum of the family's proportional set sizes that was seen,
    ``largest`` the most that one of its processes had resident, both in bytes; ``processes`` is
    their greatest number. A command that is gone before the first look has 0 of these three.
    """

    began: float
    wall: float
    cpu: float
    peak: int
    largest: int
    processes: int
    exit_code: int


def run(
    command: Sequence[str], output: Path, environment: Mapping[str, str], *, together: bool = False
) -> Cost:
    """Run a command in a process that measures it, and return what it cost.

    What it prints is in ``output`` afterwards, and what it complains of in a file beside that,
    ``.errors``, or ``together`` with the rest. Raises subprocess.CalledProcessError where the
    measuring itself fails.
    """
    result = output.with_suffix(".json")
    errors = output if together else output.with_suffix(".errors")
    files = map(str, (result, output, errors))
    words = [sys.executable, "-m", "bench.measuring", *files, *command]
    with subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL) as measurer:
        try:
            status = measurer.wait()
        except BaseException:
            # Asked, it ends the whole family; killed, it could not.
            measurer.terminate()
            raise
    if status:
        raise subprocess.CalledProcessError(status, words)
    return Cost(**json.loads(result.read_text()))


def family(root: int) -> tuple[int, ...]:
    """Return the processes that descend from ``root``, without itself."""
    return tuple(_below(root))


def _below(pid: int) -> Iterator[int]:
    for child in _children(pid):
        yield child
        yield from _below(child)


def _children(pid: int) -> Iterator[int]:
    """Yield a process's children, as the kernel lists them for each of its threads."""
    with suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                words = (thread / "children").read_text().split()
                yield from map(int, words)


def _proportional_size(pid: int) -> int:
    """Return a process's bytes of memory, shared pages divided among those who share them."""
    return _size(Path(f"/proc/{pid}/smaps_rollup"), "Pss")


def _most_resident(pid: int) -> int:
    """Return the most bytes that a process ever had resident, shared pages and all."""
    # What rusage calls the largest set may be that of whoever started the process.
    return _size(Path(f"/proc/{pid}/status"), "VmHWM")


def _size(file: Path, name: str) -> int:
    """Return a size that a file of /proc tells in kB, as bytes; 0 where the process is gone."""
    with suppress(OSError):
        for line in file.read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0


# --- in the process that measures -----------------------------------------------------------


def measured(command: Sequence[str], output: Path, errors: Path) -> Cost:
    """Run ``command`` as a child, and wait for it and for all that it leaves behind.

    Raises OSError if it cannot be started, and TimeoutError if its processes do not end.
    """
    adopt_orphans()
    try:
        return _measured(command, output, errors)
    finally:
        # Nothing is left after a good run; this is for one that was cut short.
        ended()


def _measured(command: Sequence[str], output: Path, errors: Path) -> Cost:
    began = time.monotonic()
    child = _started(command, output, errors)
    with watched() as seen:
        exit_code, cpu = reaped_until(child.pid)
        wall = time.monotonic() - began
    # It was waited for by its number: Popen must not wait for it again.
    child.returncode = exit_code
    return Cost(
        began=began,
        wall=wall,
        cpu=cpu + ended(),
        peak=seen.peak,
        largest=seen.largest,
        processes=seen.processes,
        exit_code=exit_code,
    )


def _started(command: Sequence[str], output: Path, errors: Path) -> subprocess.Popen[bytes]:
    with output.open("wb") as out:
        if errors == output:
            return subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        with errors.open("wb") as err:
            return subprocess.Popen(command, stdout=out, stderr=err)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends. Raises OSError if refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def reaped_until(pid: int) -> tuple[int, float]:
    """Wait for children until it is ``pid`` that ended: its exit code, and all their seconds."""
    cpu = 0.0
    while True:
        gone, status, usage = os.wait4(-1, 0)
        cpu += usage.ru_utime + usage.ru_stime
        if gone == pid:
            return os.waitstatus_to_exitcode(status), cpu


def ended() -> float:
    """End what is left of the family, politely first, and return its processor seconds.

    Raises TimeoutError if it does not end.
    """
    cpu = 0.0
    begun = time.monotonic()
    while left := family(os.getpid()):
        waited = time.monotonic() - begun
        if waited > 2 * _PATIENCE:
            raise TimeoutError(f"processes of the command do not end: {left}")
        _signal(left, signal.SIGTERM if waited < _PATIENCE else signal.SIGKILL)
        cpu += sum(_reaped())
        time.sleep(EVERY / 2)
    return cpu


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _reaped() -> Iterator[float]:
    """Yield the seconds of each child that has ended by now."""
    with suppress(ChildProcessError):
        while True:
            gone, _, usage = os.wait4(-1, os.WNOHANG)
            if not gone:
                return
            yield usage.ru_utime + usage.ru_stime


@dataclass(kw_only=True)
class Seen:
    """The most that the family was seen with so far; see :class:`Cost`."""

    peak: int = 0
    largest: int = 0
    processes: int = 0

    def look(self) -> None:
        """Look at the family once."""
        members = family(os.getpid())
        self.peak = max(self.peak, sum(map(_proportional_size, members)))
        self.largest = max((self.largest, *map(_most_resident, members)))
        self.processes = max(self.processes, len(members))


@contextmanager
def watched() -> Iterator[Seen]:
    """Look at the family time and again while the context lasts."""
    seen, over = Seen(), threading.Event()

    def watch() -> None:
        pause = EVERY
        while not over.wait(pause):
            begun = time.thread_time()
            seen.look()
            pause = max(EVERY, (time.thread_time() - begun) / SHARE)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def _told_to_end(number: int, _: object) -> NoReturn:
    # Control-C is followed by a SIGTERM from run(): it must not cut short how the family is ended.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> None:
    """Measure the command on the command line; when told to end, end all that it started."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _told_to_end)
    result, output, errors, *command = sys.argv[1:]
    cost = measured(command, Path(output), Path(errors))
    Path(result).write_text(json.dumps(asdict(cost)))


if __name__ == "__main__":
    main()
