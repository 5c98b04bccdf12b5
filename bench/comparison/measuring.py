"""Run one command and say what it cost, its whole family of processes counted.

    python -m bench.comparison.measuring RESULT.json LOG COMMAND [WORD ...]

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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

EVERY = 0.1
"""Seconds between two looks at the family's memory, or more, ..."""
SHARE = 0.01
"""... so that looking takes no larger share of a processor than this."""

_PATIENCE = 5.0
_SET_CHILD_SUBREAPER = 36  # of linux/prctl.h
_MIB = 1024


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a command took.

    ``wall`` and ``cpu`` (user and system) are seconds. ``memory`` is the greatest sum of the
    family's proportional set sizes that was seen, in MiB, and ``processes`` their greatest number;
    a command that is gone before the first look has 0 of both.
    """

    exit_status: int
    wall: float
    cpu: float
    memory: float
    processes: int


def run(command: list[str], log: Path, environment: Mapping[str, str]) -> Cost:
    """Run ``command`` in a process that measures it; what it prints goes to ``log``.

    Raises subprocess.CalledProcessError where the measuring itself fails.
    """
    result = log.with_suffix(".json")
    words = [sys.executable, "-m", "bench.comparison.measuring", *map(str, (result, log)), *command]
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


# --- in the process that measures -----------------------------------------------------------


def measured(command: list[str], log: Path) -> Cost:
    """Run ``command`` as a child, and wait for it and for all that it leaves behind."""
    adopt_orphans()
    try:
        return _measured(command, log)
    finally:
        # Nothing is left after a good run; this is for one that was cut short.
        ended()


def _measured(command: list[str], log: Path) -> Cost:
    peak = Peak()
    begun = time.monotonic()
    with log.open("wb") as stream:
        child = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
    with peak:
        status, cpu = reaped_until(child.pid)
        wall = time.monotonic() - begun
    # It was waited for by its number: Popen must not wait for it again.
    child.returncode = status
    return Cost(
        exit_status=status,
        wall=wall,
        cpu=cpu + ended(),
        memory=peak.memory / _MIB,
        processes=peak.processes,
    )


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends. Raises OSError if refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def reaped_until(pid: int) -> tuple[int, float]:
    """Wait for children until it is ``pid`` that ended: its exit status, and all their seconds."""
    cpu = 0.0
    while True:
        gone, status, usage = os.wait4(-1, 0)
        cpu += usage.ru_utime + usage.ru_stime
        if gone == pid:
            return os.waitstatus_to_exitcode(status), cpu


def ended() -> float:
    """End what is left of the family, politely first, and return its processor seconds."""
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


class Peak:
    """The most memory and the most processes that the family was seen with, in a ``with``."""

    def __init__(self) -> None:
        self.memory = 0
        self.processes = 0
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch)

    def __enter__(self) -> None:
        self._watcher.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        pause = EVERY
        while not self._over.wait(pause):
            begun = time.thread_time()
            members = family(os.getpid())
            self.processes = max(self.processes, len(members))
            self.memory = max(self.memory, sum(map(proportional_size, members)))
            pause = max(EVERY, (time.thread_time() - begun) / SHARE)


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


def proportional_size(pid: int) -> int:
    """Return a process's memory in KiB, shared pages divided among those who share them."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0


def main() -> None:
    """Measure the command on the command line; when told to end, end all that it started."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    result, log, *command = sys.argv[1:]
    Path(result).write_text(json.dumps(asdict(measured(command, Path(log)))))


if __name__ == "__main__":
    main()
