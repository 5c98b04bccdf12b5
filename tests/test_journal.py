"""What a roll is doing is on the disk before it is done; and one roll at a time for a cluster."""

import json
import multiprocessing
import os
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nodeprep import journal
from nodeprep.errors import LockHeld, UsageError
from nodeprep.journal import Holder, Journal, Record

RUN = "20261123T060635Z-a1b2c3"
OTHER = "20261124T000000Z-d4e5f6"
HEADER: dict[str, Any] = {"to": "ipvs", "stages": {"n1": "waiting", "n2": "waiting"}}
CLUSTER = "https://192.0.2.1:6443"


def noon() -> datetime:
    return datetime(2026, 11, 23, 12, tzinfo=UTC)


def began(folder: Path, run: str = RUN) -> Journal:
    return journal.create(folder, run, HEADER, noon)


def written(folder: Path) -> Path:
    """Return a journal of four records."""
    with began(folder) as opened:
        opened.append("intent", node="n1", verb="switch")
        opened.append(
            "outcome", node="n1", verb="switch", verdict="ok", detail="ä\n\x00", stage="x"
        )
        opened.append("event", what="stop", reason="interrupt")
    return opened.path


def kinds(path: Path) -> list[str]:
    return [record.kind for record in journal.read(path)]


# --- records --------------------------------------------------------------------------------


def test_records_read_back_as_they_were_written(tmp_path: Path) -> None:
    with began(tmp_path) as opened:
        record = opened.append("intent", node="n1", verb="switch", seconds=1.5)
    assert record == Record(
        seq=1,
        time="2026-11-23T12:00:00.000+00:00",
        kind="intent",
        fields={"node": "n1", "verb": "switch", "seconds": 1.5},
    )
    first, second = journal.read(opened.path)
    assert first.fields == {"format": "nodeprep journal 1", "run": RUN, **HEADER}
    assert (first.seq, first.kind, second) == (0, "run", record)


def test_a_journal_is_lines_of_json(tmp_path: Path) -> None:
    lines = written(tmp_path).read_text().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [0, 1, 2, 3]
    assert [json.loads(line)["kind"] for line in lines] == ["run", "intent", "outcome", "event"]


def test_a_record_is_on_the_disk_before_append_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        sync(descriptor)
        synced.append(os.fstat(descriptor).st_size)

    with began(tmp_path) as opened:
        monkeypatch.setattr(os, "fsync", watched)
        opened.append("intent", node="n1", verb="switch")
        assert synced == [opened.path.stat().st_size]


def test_a_record_cannot_bear_the_names_of_a_journals_own_fields(tmp_path: Path) -> None:
    with began(tmp_path) as opened, pytest.raises(ValueError, match="own names: seq, sum"):
        opened.append("event", seq=7, sum="x")


def test_a_run_has_one_journal(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(UsageError, match="has a journal already"):
        began(tmp_path)
    assert len(journal.read(path)) == 4


@pytest.mark.parametrize("run", ["", "../x", "a/b", ".hidden", "a b", "a\n", "x" * 101])
def test_an_id_that_can_be_no_files_name_is_refused(tmp_path: Path, run: str) -> None:
    with pytest.raises(UsageError, match="can be no run's id"):
        began(tmp_path, run)
    assert list(tmp_path.iterdir()) == []


def test_only_its_owner_reads_a_journal_whatever_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "runs"
    before = os.umask(0)
    try:
        path = written(folder)
        with journal.hold(folder, CLUSTER, holder()):
            lock = next(folder.glob("*.lock"))
    finally:
        os.umask(before)
    modes = {each: stat.S_IMODE(each.stat().st_mode) for each in (path, lock, folder)}
    assert modes == {path: 0o600, lock: 0o600, folder: 0o700}
    assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


# --- going on -------------------------------------------------------------------------------


def test_a_journal_is_gone_on_with(tmp_path: Path) -> None:
    path = written(tmp_path)
    with journal.reopen(path) as opened:
        assert opened.append("end", how="done").seq == 4
    assert kinds(path) == ["run", "intent", "outcome", "event", "end"]


def test_a_last_line_torn_at_any_byte_is_passed_over_and_cut_off(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(last, len(whole)):
        path.write_bytes(whole[:cut])
        assert kinds(path) == ["run", "intent", "outcome"]
        with journal.reopen(path) as opened:
            opened.append("end", how="done")
        assert kinds(path) == ["run", "intent", "outcome", "end"]


def test_blocks_that_a_crash_left_empty_are_a_torn_end(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole + bytes(512))
    assert len(journal.read(path)) == 4
    journal.reopen(path).close()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("cut", [0, 1, 40])
def test_a_run_whose_first_record_is_torn_never_began(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:cut])
    for attempt in (journal.read, journal.reopen):
        with pytest.raises(UsageError, match="never began"):
            attempt(path)


def test_a_journal_is_open_in_one_process_only(tmp_path: Path) -> None:
    with began(tmp_path) as opened:
        with pytest.raises(LockHeld, match="going on in another process"):
            journal.reopen(opened.path)
        opened.append("end", how="done")
    assert kinds(opened.path) == ["run", "end"]


# --- damage ---------------------------------------------------------------------------------


def test_a_flipped_byte_in_any_record_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    for place in range(len(whole) - 1):
        flipped = whole[place] ^ 1 << place % 8
        path.write_bytes(whole[:place] + bytes([flipped]) + whole[place + 1 :])
        with pytest.raises(UsageError):
            journal.read(path)


def test_a_damaged_record_is_named_by_its_line(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes().replace(b'"verdict":"ok"', b'"verdict":"no"'))
    for attempt in (journal.read, journal.reopen):
        with pytest.raises(UsageError, match=rf"{RUN}.jsonl:3: .* cannot be resumed"):
            attempt(path)


@pytest.mark.parametrize("order", [[0, 2, 3], [0, 2, 1, 3], [0, 1, 1, 2, 3], [1, 2, 3]])
def test_lines_taken_out_turned_round_or_doubled_are_refused(
    tmp_path: Path, order: list[int]
) -> None:
    path = written(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[number] for number in order))
    with pytest.raises(UsageError, match="changed or is damaged"):
        journal.read(path)


def test_a_line_of_another_journal_is_refused_even_in_its_own_place(tmp_path: Path) -> None:
    path = written(tmp_path)
    with began(tmp_path, OTHER) as opened:
        opened.append("intent", node="n1", verb="back")
    mine, other = (each.read_bytes().splitlines(keepends=True) for each in (path, opened.path))
    path.write_bytes(mine[0] + other[1])
    with pytest.raises(UsageError, match="changed or is damaged"):
        journal.read(path)


def test_the_journal_of_another_run_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path).rename(tmp_path / f"{OTHER}.jsonl")
    with pytest.raises(UsageError, match=f"of another run, {RUN}"):
        journal.read(path)


def test_another_version_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / f"{RUN}.jsonl"
    path.write_text('{"format": "nodeprep journal 2", "anything": "else"}\n')
    with pytest.raises(UsageError, match=r"another version of nodeprep \(nodeprep journal 2\)"):
        journal.read(path)


@pytest.mark.parametrize("text", ["{}\n", "[]\n", "\n", "hello\n", "\xff\n", '{"format": "x"}\n'])
def test_what_is_no_journal_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / f"{RUN}.jsonl"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(UsageError, match=r"no journal|damaged"):
        journal.read(path)


def test_a_file_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    for attempt in (journal.read, journal.reopen):
        with pytest.raises(UsageError, match="No such file"):
            attempt(tmp_path / "none.jsonl")


# --- a full disk ----------------------------------------------------------------------------


def in_a_child(work: Callable[[], None]) -> None:
    """Run in a process of its own, whose limits are its own too."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(20)
    assert child.exitcode == 0


def may_write(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def test_a_record_that_finds_no_room_is_not_there_and_may_be_tried_again(tmp_path: Path) -> None:
    path = tmp_path / f"{RUN}.jsonl"

    def work() -> None:
        with began(tmp_path) as opened:
            size = path.stat().st_size
            may_write(size + 10)
            with pytest.raises(UsageError, match="nothing is done that cannot be written down"):
                opened.append("intent", node="n1", verb="switch")
            assert path.stat().st_size == size
            may_write(1 << 20)
            assert opened.append("event", what="begin").seq == 1

    in_a_child(work)
    assert kinds(path) == ["run", "event"]


def test_a_run_that_finds_no_room_for_its_header_leaves_nothing(tmp_path: Path) -> None:
    def work() -> None:
        may_write(10)
        with pytest.raises(UsageError, match="cannot write"):
            began(tmp_path)

    in_a_child(work)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"):
        began(tmp_path / "file" / "runs")


# --- killed ---------------------------------------------------------------------------------

ENDLESS = """
import sys
from pathlib import Path
from nodeprep import journal
with journal.create(Path(sys.argv[1]), sys.argv[2], {}) as opened:
    for number in range(1 << 30):
        opened.append("event", what="x" * (number % 900))
        print(number, flush=True)
"""


def test_a_journal_survives_kill_9_with_all_that_append_returned(tmp_path: Path) -> None:
    for number in range(5):
        run = f"{RUN}.{number}"
        with program(ENDLESS, str(tmp_path), run) as process:
            assert process.stdout
            for _ in range(20 + 7 * number):
                process.stdout.readline()
            process.kill()
            returned = 20 + 7 * number + len(process.stdout.readlines())
        path = tmp_path / f"{run}.jsonl"
        assert returned <= len(journal.read(path)) - 1 <= returned + 1
        with journal.reopen(path) as opened:
            opened.append("end", how="done")
        assert kinds(path)[-1] == "end"


# --- the list of runs -----------------------------------------------------------------------


def test_runs_are_listed_newest_first_with_how_they_ended(tmp_path: Path) -> None:
    path = written(tmp_path)
    with began(tmp_path, OTHER) as opened:
        opened.append("intent", node="n2", verb="switch")
        opened.append("end", how="failed")
    newest, oldest = journal.runs(tmp_path)
    assert (newest.run, newest.ended, oldest.run, oldest.ended) == (OTHER, "failed", RUN, "open")
    assert (oldest.path, oldest.started) == (path, "2026-11-23T12:00:00.000+00:00")
    assert oldest.header["to"] == "ipvs"


def test_a_run_that_was_resumed_after_its_end_is_open(tmp_path: Path) -> None:
    with began(tmp_path) as opened:
        opened.append("end", how="stopped")
        opened.append("event", what="begin")
    assert [run.ended for run in journal.runs(tmp_path)] == ["open"]


def test_a_run_tells_how_many_nodes_are_in_each_stage(tmp_path: Path) -> None:
    with began(tmp_path) as opened:
        assert journal.runs(tmp_path)[0].stages == {"waiting": 2}
        opened.append("intent", node="n1", verb="switch")
        assert journal.runs(tmp_path)[0].stages == {"waiting": 1, "switch": 1}
        opened.append("outcome", node="n1", verb="switch", verdict="lost", stage="lost")
        assert journal.runs(tmp_path)[0].stages == {"waiting": 1, "lost": 1}


def test_a_damaged_run_hides_no_other(tmp_path: Path) -> None:
    began(tmp_path, OTHER).close()
    written(tmp_path).write_text("torn\n")
    whole, damaged = journal.runs(tmp_path)
    assert (whole.ended, damaged.run, damaged.ended) == ("open", RUN, "damaged")
    assert "cannot be resumed" in damaged.problem


def test_where_nothing_ever_ran_there_are_no_runs(tmp_path: Path) -> None:
    assert journal.runs(tmp_path / "none") == ()


def test_a_run_is_found_by_its_id_or_by_a_beginning_that_only_it_has(tmp_path: Path) -> None:
    for run in (RUN, OTHER, f"{OTHER}0"):
        began(tmp_path, run).close()
    assert journal.find(tmp_path, RUN[:12]).stem == RUN
    assert journal.find(tmp_path, OTHER).stem == OTHER
    with pytest.raises(UsageError, match="the beginning of 3 runs"):
        journal.find(tmp_path, "2026")
    for nothing in ("", "1999", f"{RUN}x", "*"):
        with pytest.raises(UsageError, match="there is no run"):
            journal.find(tmp_path, nothing)


@pytest.mark.parametrize(
    ("named", "folder"), [("/x", "/x/nodeprep/runs"), ("x", "/h/.local/state/nodeprep/runs")]
)
def test_runs_are_kept_where_xdg_says(
    named: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/h")
    monkeypatch.setenv("XDG_STATE_HOME", named)
    assert journal.default_folder() == Path(folder)


# --- the lock of a cluster ------------------------------------------------------------------


def holder(run: str = RUN) -> Holder:
    return journal.this_process(run=run, operator="ann", host="desk")


def took(folder: Path, run: str = RUN, cluster: str = CLUSTER) -> bool:
    """Try to hold a cluster for a moment."""
    with suppress(LockHeld), journal.hold(folder, cluster, holder(run)):
        return True
    return False


@contextmanager
def program(text: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = (sys.executable, "-c", text, *arguments)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


HOLDING = """
import sys, time
from pathlib import Path
from nodeprep import journal
holder = journal.this_process(run=sys.argv[3], operator="bob", host="rack")
with journal.hold(Path(sys.argv[1]), sys.argv[2], holder):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def held_elsewhere(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with program(HOLDING, str(folder), CLUSTER, OTHER) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        yield process


def left_by_a_killed_run(folder: Path) -> None:
    with held_elsewhere(folder) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(10)


def test_a_cluster_is_free_again_after_its_run(tmp_path: Path) -> None:
    assert took(tmp_path)
    assert took(tmp_path, OTHER)


def test_two_clusters_are_rolled_at_the_same_time(tmp_path: Path) -> None:
    with journal.hold(tmp_path, CLUSTER, holder()):
        assert not took(tmp_path, OTHER)
        assert took(tmp_path, OTHER, "another")


def test_the_loser_is_told_at_once_who_holds_the_cluster(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as process:
        start = time.monotonic()
        with pytest.raises(LockHeld) as lost, journal.hold(tmp_path, CLUSTER, holder()):
            pytest.fail("it was held")
        assert time.monotonic() - start < 2
    who = f"run {OTHER} by bob on rack, pid {process.pid}"
    assert lost.value.message == f"{CLUSTER} is being changed: {who}"
    assert lost.value.exit_code == 3


def test_not_even_the_same_run_takes_a_cluster_from_a_living_holder(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path):
        assert not took(tmp_path, OTHER)
        with pytest.raises(LockHeld, match="being changed"):
            journal.unlock(tmp_path, CLUSTER, OTHER)


def test_a_holder_whose_flock_is_lost_but_who_runs_still_holds(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        written_by = replace(holder(OTHER), pid=other.pid, started=started(other.pid))
        lock_file(tmp_path).write_text(json.dumps(vars(written_by)) + "\n")
        assert not took(tmp_path, OTHER)
        other.kill()
        other.wait()
        assert took(tmp_path, OTHER)


def started(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def lock_file(folder: Path) -> Path:
    took(folder)
    return next(folder.glob("*.lock"))


def test_a_killed_run_is_known_and_only_it_takes_the_cluster_again(tmp_path: Path) -> None:
    left_by_a_killed_run(tmp_path)
    with pytest.raises(LockHeld, match=r"left in the middle: run .* by bob") as lost:
        journal.hold(tmp_path, CLUSTER, holder()).__enter__()
    assert f"nodeprep switch --resume {OTHER} " in lost.value.hint
    assert f"nodeprep runs --unlock {OTHER}" in lost.value.hint
    assert took(tmp_path, OTHER)
    assert took(tmp_path)


def test_a_killed_run_is_given_up_by_its_own_id_only(tmp_path: Path) -> None:
    left_by_a_killed_run(tmp_path)
    with pytest.raises(UsageError, match=f"run {RUN} does not hold .*: run {OTHER} by bob"):
        journal.unlock(tmp_path, CLUSTER, RUN)
    journal.unlock(tmp_path, CLUSTER, OTHER)
    assert took(tmp_path)
    with pytest.raises(UsageError, match="nobody does"):
        journal.unlock(tmp_path, CLUSTER, OTHER)


def test_a_run_that_broke_off_is_as_one_that_was_killed(tmp_path: Path) -> None:
    with suppress(ZeroDivisionError), journal.hold(tmp_path, CLUSTER, holder()):
        raise ZeroDivisionError
    assert not took(tmp_path, OTHER)
    assert took(tmp_path, RUN)


@pytest.mark.parametrize("text", ["", "{", '{"run": "x"}\n', "[]\n", '{"run": "x", "pi'])
def test_a_holder_that_never_came_to_say_its_name_held_nothing(tmp_path: Path, text: str) -> None:
    lock_file(tmp_path).write_text(text)
    assert took(tmp_path)


def test_of_many_that_begin_at_once_exactly_one_wins(tmp_path: Path) -> None:
    many, forks = 30, multiprocessing.get_context("fork")
    gate, ends = forks.Barrier(many), forks.Barrier(many)
    answers: Any = forks.SimpleQueue()

    def contend(number: int) -> None:
        gate.wait(20)
        try:
            with journal.hold(tmp_path, CLUSTER, holder(f"run{number}")):
                answers.put(f"run run{number} by ann on desk, pid {os.getpid()}")
                ends.wait(20)
        except LockHeld as lost:
            answers.put(lost.message)
            ends.wait(20)

    contenders = [forks.Process(target=contend, args=(number,)) for number in range(many)]
    for contender in contenders:
        contender.start()
    said = [answers.get() for _ in contenders]
    for contender in contenders:
        contender.join(20)
    winners = [each for each in said if each.startswith("run ")]
    assert len(winners) == 1
    assert set(said) == {winners[0], f"{CLUSTER} is being changed: {winners[0]}"}
    assert took(tmp_path)
