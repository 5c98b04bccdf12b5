"""What a roll is doing, on disk before it is done; and one roll at a time for each cluster.

A run is one file of JSON lines, ``RUN.jsonl``, that only grows. A record is synced before append
returns, so nothing is acted upon that is not written down. Each record carries a checksum over
itself and the record before it: a torn end is cut off, and any other damage is refused.

The lock of a cluster is a file that its holder keeps locked with flock, and that says who holds it.
The kernel frees the flock when the holder dies, but what the file says stays: so a holder that was
killed is known, and its run can be taken up again.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from nodeprep.errors import LockHeld, UsageError

FORMAT = "nodeprep journal 1"

Kind = Literal["run", "intent", "outcome", "event", "end"]

_FAMILY = FORMAT.rpartition(" ")[0]
_SUFFIX = ".jsonl"
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OWN = frozenset({"seq", "time", "kind", "sum"})
_SUM = b',"sum":"'
_SUM_DIGITS = 16
_PATIENCE = 1.5
_PAUSE = 0.01


# --- records ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line: its number from 0, its time (UTC, ISO 8601, for people), and what it says."""

    seq: int
    time: str
    kind: Kind
    fields: Mapping[str, Any]


def _line(record: Record, before: str) -> tuple[bytes, str]:
    """Return the record's line and its checksum; ``before`` is the one of the record before."""
    own = {"seq": record.seq, "time": record.time, "kind": record.kind}
    body = json.dumps(own | dict(record.fields), separators=(",", ":")).encode()
    checksum = _checksum(body, before)
    return body[:-1] + _SUM + checksum.encode() + b'"}\n', checksum


def _checksum(body: bytes, before: str) -> str:
    return hashlib.sha256(before.encode() + body).hexdigest()[:_SUM_DIGITS]


def _parsed(line: bytes, seq: int, before: str) -> tuple[Record, str]:
    """Return the record of a whole line, and its checksum. Raises ValueError if it is damaged."""
    start, _, end = line.rpartition(_SUM)
    body, checksum = start + b"}", _checksum(start + b"}", before)
    if end != checksum.encode() + b'"}':
        raise ValueError("its checksum does not fit")
    fields = json.loads(body)
    if fields["seq"] != seq:
        raise ValueError("it is out of its place")
    said = {name: value for name, value in fields.items() if name not in _OWN}
    return Record(seq=seq, time=fields["time"], kind=fields["kind"], fields=said), checksum


@dataclass(frozen=True, kw_only=True)
class _Tail:
    """Where the next record goes: its number, its place in bytes, the checksum before it."""

    seq: int = 0
    length: int = 0
    checksum: str = ""


def read(path: Path) -> tuple[Record, ...]:
    """Return a journal's records; a last line that is not whole is passed over.

    Raises UsageError for a file that is damaged before its end, of another run than its name says,
    of another version, or no journal at all.
    """
    return _whole(path)[0]


def _whole(path: Path) -> tuple[tuple[Record, ...], _Tail]:
    """Return the whole records, and where the next one goes."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint="nodeprep runs") from error
    # Only a newline ends a line: a damaged one must not pass as another kind of line end.
    lines = data.split(b"\n")[:-1]
    if not lines:
        raise UsageError(f"{path} holds no whole record: its run never began", hint=f"rm {path}")
    _check_format(path, lines[0])
    records, checksum = _chained(path, lines)
    run = records[0].fields.get("run")
    if run != path.stem:
        raise UsageError(
            f"{path} is the journal of another run, {run}", hint="give the file its own name back"
        )
    length = data.rindex(b"\n") + 1
    return records, _Tail(seq=len(records), length=length, checksum=checksum)


def _chained(path: Path, lines: Sequence[bytes]) -> tuple[tuple[Record, ...], str]:
    records: list[Record] = []
    checksum = ""
    for seq, line in enumerate(lines):
        try:
            record, checksum = _parsed(line, seq, checksum)
        except (ValueError, LookupError, TypeError) as error:
            raise _damaged(path, seq + 1) from error
        records.append(record)
    return tuple(records), checksum


def _check_format(path: Path, line: bytes) -> None:
    """Tell what is no journal, or another version's, from what is damaged: the checksum cannot."""
    try:
        form = str(json.loads(line)["format"])
    except (ValueError, LookupError, TypeError) as error:
        raise _damaged(path, 1) from error
    if form == FORMAT:
        return
    if form.startswith(_FAMILY):
        raise UsageError(
            f"{path} was written by another version of nodeprep ({form})",
            hint="resume it with the nodeprep that began it",
        )
    raise UsageError(f"{path} is no journal of nodeprep", hint="nodeprep runs")


def _damaged(path: Path, line: int) -> UsageError:
    return UsageError(
        f"{path}:{line}: this record was changed or is damaged; the run cannot be resumed",
        hint="nodeprep verify    tells what the nodes are; then begin a new run",
    )


# --- writing ------------------------------------------------------------------------------------


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(kw_only=True)
class Journal:
    """A journal open for appending, by one thread; :func:`create` and :func:`reopen` open one."""

    path: Path
    descriptor: int
    clock: Callable[[], datetime] = _now
    tail: _Tail = field(default_factory=_Tail)

    def append(self, kind: Kind, **fields: Any) -> Record:
        """Write a record, and return when it is on the disk.

        Raises UsageError where it cannot be written: then it is not there, and may be tried again.
        """
        if not _OWN.isdisjoint(fields):
            raise ValueError(f"a journal's own names: {', '.join(sorted(_OWN & set(fields)))}")
        moment = self.clock().isoformat(timespec="milliseconds")
        record = Record(seq=self.tail.seq, time=moment, kind=kind, fields=fields)
        line, checksum = _line(record, self.tail.checksum)
        self._write(line)
        length = self.tail.length + len(line)
        self.tail = _Tail(seq=record.seq + 1, length=length, checksum=checksum)
        return record

    def _write(self, line: bytes) -> None:
        try:
            _put(self.descriptor, line, self.tail.length)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self.descriptor, self.tail.length)
            raise _unwritable(self.path, error) from error

    def close(self) -> None:
        """Close the file; nothing more can be appended."""
        os.close(self.descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def create(
    folder: Path, run: str, header: Mapping[str, Any], clock: Callable[[], datetime] = _now
) -> Journal:
    """Begin the journal of a run that is not there yet; its first record holds the header.

    Raises UsageError for an id that can be no file's name, one that is taken, or a full disk.
    """
    if not _RUN.fullmatch(run):
        raise UsageError(f"{run!r} can be no run's id", hint="letters, digits, dots and dashes")
    path = folder / f"{run}{_SUFFIX}"
    _make(folder)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(f"run {run} has a journal already", hint=f"--resume {run}") from None
    except OSError as error:
        raise _unwritable(path, error) from error
    with _closed_on_error(Journal(path=path, descriptor=descriptor, clock=clock)) as journal:
        _claim(journal)
        try:
            journal.append("run", format=FORMAT, run=run, **header)
        except BaseException:
            path.unlink()
            raise
        _sync_folder(folder)
    return journal


def reopen(path: Path, clock: Callable[[], datetime] = _now) -> Journal:
    """Open a journal to go on with; a last line that is not whole is cut off.

    Raises UsageError as read does, and LockHeld where another process has it open.
    """
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError as error:
        raise _unwritable(path, error) from error
    with _closed_on_error(Journal(path=path, descriptor=descriptor, clock=clock)) as journal:
        _claim(journal)
        _, journal.tail = _whole(path)
        os.ftruncate(descriptor, journal.tail.length)
    return journal


@contextmanager
def _closed_on_error(journal: Journal) -> Iterator[Journal]:
    try:
        yield journal
    except BaseException:
        journal.close()
        raise


def _claim(journal: Journal) -> None:
    """Keep a second process from appending, even one that came past the cluster's lock."""
    if not _locked(journal.path, journal.descriptor):
        run = journal.path.stem
        raise LockHeld(f"run {run} is going on in another process", hint="nodeprep runs")


def _locked(path: Path, descriptor: int) -> bool:
    """Take the flock; tell whether it was free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise _unwritable(path, error) from error
    return True


def _put(descriptor: int, line: bytes, place: int) -> None:
    if os.pwrite(descriptor, line, place) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.fsync(descriptor)


def _make(folder: Path) -> None:
    """Make a folder and those above it for their owner alone, as XDG wants it."""
    try:
        for each in (*reversed(folder.parents), folder):
            if not each.is_dir():
                each.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from error


def _sync_folder(folder: Path) -> None:
    """Put the file's name on the disk: syncing the file does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot write {path}: {error.strerror}; nothing is done that cannot be written down",
        hint=f"df {path.parent}; ls -ld {path.parent}",
    )


# --- the list of runs ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A run in the list. ``ended`` says how, or is ``open`` or ``damaged``.

    ``stages`` counts nodes: the last ``stage`` (or else ``verb``) that a record with a ``node``
    told, on top of the header's ``stages``. ``problem`` says what is wrong with a damaged one.
    """

    run: str
    path: Path
    ended: str
    started: str = ""
    header: Mapping[str, Any] = field(default_factory=dict)
    stages: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""


def default_folder() -> Path:
    """Return where runs are kept unless told otherwise (XDG base directories)."""
    named = Path(os.environ.get("XDG_STATE_HOME", ""))
    state = named if named.is_absolute() else Path.home() / ".local/state"
    return state / "nodeprep" / "runs"


def runs(folder: Path) -> tuple[Summary, ...]:
    """Return the runs in a folder, newest first: by their ids, which begin with a time."""
    paths = sorted(folder.glob(f"*{_SUFFIX}"), key=lambda path: path.stem, reverse=True)
    return tuple(map(_summary, paths))


def find(folder: Path, run: str) -> Path:
    """Return the journal of a run by its id, or by a beginning that only one id has.

    Raises UsageError where there is none, or more than one.
    """
    paths = sorted(folder.glob(f"*{_SUFFIX}"))
    found = [path for path in paths if path.stem == run] or [
        path for path in paths if run and path.stem.startswith(run)
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(f"there is no run {run!r} in {folder}", hint="nodeprep runs")
    names = " ".join(path.stem for path in found)
    raise UsageError(f"{run!r} is the beginning of {len(found)} runs", hint=f"one of {names}")


def _summary(path: Path) -> Summary:
    try:
        records = read(path)
    except UsageError as error:
        return Summary(run=path.stem, path=path, ended="damaged", problem=error.message)
    first, last = records[0], records[-1]
    return Summary(
        run=path.stem,
        path=path,
        ended=str(last.fields.get("how", "ended")) if last.kind == "end" else "open",
        started=first.time,
        header=first.fields,
        stages=_stages(records),
    )


def _stages(records: Sequence[Record]) -> Mapping[str, int]:
    stages: dict[str, str] = dict(records[0].fields.get("stages", {}))
    for fields in (record.fields for record in records[1:]):
        if "node" in fields:
            stages[fields["node"]] = fields.get("stage") or fields.get("verb", "")
    return Counter(stages.values())


# --- the lock of a cluster ----------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a cluster: a run, a person at a host, and a process as nothing else is.

    ``started`` is in clock ticks since the boot of the id ``boot``: a process id is used again,
    and the three together are not.
    """

    run: str
    operator: str
    host: str
    pid: int
    started: int
    boot: str

    def __str__(self) -> str:
        return f"run {self.run} by {self.operator} on {self.host}, pid {self.pid}"


def this_process(*, run: str, operator: str, host: str) -> Holder:
    """Return the holder that this process is."""
    pid = os.getpid()
    return Holder(
        run=run, operator=operator, host=host, pid=pid, started=_start(pid) or 0, boot=_boot()
    )


@contextmanager
def hold(folder: Path, cluster: str, holder: Holder) -> Iterator[None]:
    """Hold a cluster: while this lasts no other roll over it begins from this folder.

    The lock ends with the block. Where an exception ends the block, as where the process is
    killed, only the flock does, and the file goes on saying whose run was cut short: nobody but
    that run gets the lock then. Raises LockHeld, which says who holds it, within two seconds.
    """
    with _opened(folder, cluster) as (path, descriptor):
        _refuse_living(cluster, path, descriptor)
        left = _holder(path)
        if left is not None and left.run != holder.run:
            raise _dead(cluster, left)
        _say(path, descriptor, json.dumps(asdict(holder)).encode() + b"\n")
        yield
        os.ftruncate(descriptor, 0)


def unlock(folder: Path, cluster: str, run: str) -> None:
    """Forget a holder that died. Raises UsageError for another run's id, LockHeld for a living."""
    with _opened(folder, cluster) as (path, descriptor):
        _refuse_living(cluster, path, descriptor)
        left = _holder(path)
        if left is None or left.run != run:
            held = f"{left} does" if left else "nobody does"
            raise UsageError(f"run {run} does not hold {cluster}: {held}", hint="nodeprep runs")
        os.ftruncate(descriptor, 0)


@contextmanager
def _opened(folder: Path, cluster: str) -> Iterator[tuple[Path, int]]:
    """Open the lock's file, made empty if need be. It is never removed.

    Removing it would let one process lock a file that another has just unlinked, and two would
    hold the cluster.
    """
    name = hashlib.sha256(cluster.encode()).hexdigest()[:_SUM_DIGITS]
    path = folder / f"cluster-{name}.lock"
    _make(folder)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield path, descriptor
    finally:
        os.close(descriptor)


def _refuse_living(cluster: str, path: Path, descriptor: int) -> None:
    """Take the flock; raise LockHeld if it is taken, or if its holder runs although it is not."""
    free = _locked(path, descriptor)
    holder = _holder(path) if free else _named(path)
    if not free or (holder is not None and _runs(holder)):
        raise LockHeld(
            f"{cluster} is being changed: {holder or 'by a run that has not said who it is'}",
            hint="wait for it to end, or stop it there with Ctrl-C",
        )


def _dead(cluster: str, left: Holder) -> LockHeld:
    return LockHeld(
        f"{cluster} was left in the middle: {left}, is gone and never ended",
        hint=f"nodeprep switch --resume {left.run}    or, to give it up: "
        f"nodeprep runs --unlock {left.run}",
    )


def _say(path: Path, descriptor: int, line: bytes) -> None:
    """Write first and cut then: at no time does the file say that nobody was here."""
    try:
        _put(descriptor, line, 0)
        os.ftruncate(descriptor, len(line))
    except OSError as error:
        raise _unwritable(path, error) from error


def _holder(path: Path) -> Holder | None:
    """Return who the file says holds it. A line that is not whole was never acted upon."""
    line, newline, _ = path.read_bytes().partition(b"\n")
    try:
        return Holder(**json.loads(line)) if newline else None
    except (ValueError, TypeError):
        return None


def _named(path: Path) -> Holder | None:
    """Return who holds a lock that is taken; its holder may be about to write its name."""
    end = time.monotonic() + _PATIENCE
    while (holder := _holder(path)) is None and time.monotonic() < end:
        time.sleep(_PAUSE)
    return holder


def _runs(holder: Holder) -> bool:
    """Tell whether exactly this process still runs, here and now."""
    return (
        holder.pid != os.getpid()
        and holder.boot == _boot()
        and holder.started == _start(holder.pid)
    )


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _start(pid: int) -> int | None:
    """Return a process's start in clock ticks since boot, None if it is gone (or a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])
