"""Processes that we started: recognised by more than their number, and only then ended.

A process id is used again by the system. Together with the start time and the boot it belongs to
exactly one process, ever; nothing is signalled that does not match all three.
"""

import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path

_PATIENCE = 5.0
_STATE, _START_TIME = 0, 19  # fields 3 and 22 of /proc/PID/stat, counted behind the name


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process: its id, its start in clock ticks since boot, and the boot."""

    pid: int
    started: int
    boot: str


def identify(pid: int) -> Process | None:
    """Return who this process is, or None if it is gone (a zombie is gone)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    if fields[_STATE] in "ZX":
        return None
    return Process(pid=pid, started=int(fields[_START_TIME]), boot=boot_id())


def boot_id() -> str:
    """Return the id of this boot of this machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def running(process: Process | None) -> bool:
    """Tell whether exactly this process still runs."""
    return process is not None and identify(process.pid) == process


def wait_until_gone(process: Process, seconds: float) -> bool:
    """Wait for its end; tell whether it came in time."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        if not running(process):
            return True
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return bool(ready)
    finally:
        os.close(descriptor)


def end(process: Process) -> None:
    """End the process, politely first. Does nothing if it is gone or its id is somebody else's."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal(process, number)
        if wait_until_gone(process, _PATIENCE):
            return


def _signal(process: Process, number: signal.Signals) -> None:
    """Signal by descriptor: between the check and the signal the id cannot change hands."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if running(process):
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(descriptor)
