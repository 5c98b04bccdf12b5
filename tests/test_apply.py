"""One script makes all changes: locked, guarded, logged, and it outlives its controller."""

import contextlib
import itertools
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from nodeprep import apply, files, plan, probe
from nodeprep.apply import Run
from nodeprep.errors import FactError, LockHeld, NodeFailed, StalePlan
from nodeprep.files import ManagedFile
from nodeprep.model import Change, Facts, FileState, Node, StepResult
from nodeprep.shell import Script, Secret
from nodeprep.topics import system
from tests.sample_topic import GREETING, SampleTopic, step
from tests.shells import NEEDS_ROOT, Machine, complaints, programs

NODE = Node(name="node1", address="192.0.2.1")
NONCE = "0123456789abcdef"
CANARY = "canary-0f3a"
BINARIES = ("mkdir", "flock", "cat", "date", "cp", "mv", "rm", "sha256sum", "tail", "stat")

Ends = tuple[tuple[StepResult, ...], str]


def run(name: str = "r1", operator: str = "ann@desk") -> Run:
    return Run(id=name, operator=operator)


def facts_of(machine: Machine, topic: SampleTopic) -> Facts:
    output = machine.run(probe.script(NODE, (topic,), NONCE))
    return probe.parse(output, NODE, (topic,), NONCE)


def changes_of(machine: Machine, topic: SampleTopic) -> tuple[Change, ...]:
    return plan.changes(NODE, facts_of(machine, topic), (topic,))


def scripted(changes: Sequence[Change], topic: SampleTopic, who: Run) -> Script:
    return apply.script(NODE, changes, (topic,), who, NONCE)


def applied(machine: Machine, topic: SampleTopic, who: Run | None = None) -> Ends:
    changes = changes_of(machine, topic)
    return apply.parse(machine.run(scripted(changes, topic, who or run())), changes, NONCE)


def started(machine: Machine, topic: SampleTopic) -> subprocess.Popen[bytes]:
    return machine.start(scripted(changes_of(machine, topic), topic, run()))


@contextlib.contextmanager
def in_hand(machine: Machine, topic: SampleTopic) -> Iterator[subprocess.Popen[bytes]]:
    """Have a run going on, and end it at last."""
    with started(machine, topic) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def until(happened: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def statuses(steps: Sequence[StepResult]) -> list[int | None]:
    return [each.exit_status for each in steps]


def last_run(machine: Machine) -> system.LastRun:
    return system.parse_last_run((machine.state / "last").read_text())


def temps(folder: Path) -> list[Path]:
    return list(folder.rglob(files.TEMPORARY))


# --- what it does ---------------------------------------------------------------------------


@NEEDS_ROOT
def test_all_changes_are_made_in_order_and_read_back(machine: Machine) -> None:
    wanted = [ManagedFile(path=str(machine.folder / f"etc/{n}"), content=f"{n}\n") for n in "ab"]
    topic = SampleTopic(wanted=wanted, steps=[f"cat {machine.folder}/etc/?"])
    changes = changes_of(machine, topic)
    output = machine.run(scripted(changes, topic, run()))
    steps, log = apply.parse(output, changes, NONCE)
    facts = probe.parse(output, NODE, (topic,), NONCE)
    assert statuses(steps) == [0, 0, 0]
    assert log.splitlines()[1:] == ["a", "b"]
    assert facts[GREETING] == "hello"
    assert all(files.is_right(file, facts.file(file.path)) for file in wanted)


@NEEDS_ROOT
def test_a_second_apply_finds_nothing_to_do(machine: Machine) -> None:
    topic = SampleTopic(wanted=[ManagedFile(path=str(machine.folder / "etc/a"), content="a\n")])
    applied(machine, topic)
    assert changes_of(machine, topic) == ()


def test_a_step_reads_nothing_of_the_script_that_follows_it(machine: Machine) -> None:
    steps, log = applied(machine, SampleTopic(steps=["cat", "read -r x; echo got $x"]))
    assert statuses(steps) == [0, 0]
    assert log.splitlines()[1:] == ["got"]


def test_a_probe_changes_nothing(machine: Machine) -> None:
    topic = SampleTopic(wanted=[ManagedFile(path=str(machine.folder / "a"), content="a")])
    facts_of(machine, topic)
    assert list(machine.folder.iterdir()) == []


# --- steps that fail ------------------------------------------------------------------------


def test_a_step_that_fails_stops_the_rest_and_the_record_says_where(machine: Machine) -> None:
    steps, log = applied(machine, SampleTopic(steps=["echo one", "echo broken; false", "echo no"]))
    assert statuses(steps) == [0, 1, None]
    assert log.splitlines()[1:] == ["one", "broken"]
    assert last_run(machine).stopped_in == "do step 1"


def test_after_a_step_that_failed_nothing_is_said_to_be_running(machine: Machine) -> None:
    topic = SampleTopic(steps=["false"])
    changes = changes_of(machine, topic)
    output = machine.run(scripted(changes, topic, run()))
    last = probe.parse(output, NODE, (topic,), NONCE)[system.LAST_RUN]
    assert (last.stopped_in, last.running) == ("do step 0", False)


@pytest.mark.parametrize(
    "text",
    ["exec 3</no/such/file", ": ${unset?}", "set -u; echo $unset", "syntax() { exit 3; }; syntax"],
)
def test_a_step_that_ends_the_shell_is_no_success(machine: Machine, text: str) -> None:
    changes = (step(0, text), step(1, "echo after"))
    topic = SampleTopic()
    output = machine.run(scripted(changes, topic, run()))
    with contextlib.suppress(FactError):
        assert statuses(apply.parse(output, changes, NONCE)[0])[0] != 0
    assert "finished" not in (machine.state / "last").read_text().splitlines()


def test_a_run_that_was_killed_leaves_a_record_of_where(dash: Machine) -> None:
    marker = dash.folder / "marker"
    topic = SampleTopic(steps=["true", f": >{marker}; sleep 60", "true"])
    with in_hand(dash, topic):
        until(marker.exists)
        assert facts_of(dash, topic)[system.LAST_RUN].running
    until(lambda: not facts_of(dash, topic)[system.LAST_RUN].running)
    assert facts_of(dash, topic)[system.LAST_RUN].stopped_in == "do step 1"


def test_a_run_that_finished_leaves_nothing_to_tell(machine: Machine) -> None:
    topic = SampleTopic(steps=["true"])
    applied(machine, topic, run("r7", "bo b's %F \\ $HOME"))
    last = facts_of(machine, topic)[system.LAST_RUN]
    assert (last.stopped_in, last.running) == ("", False)
    assert last.record.startswith("run r7 by bo b's %F \\ $HOME, started ")


def test_the_log_of_the_run_before_is_kept(machine: Machine) -> None:
    applied(machine, SampleTopic(steps=["echo first"]))
    applied(machine, SampleTopic(steps=["echo second"]))
    assert (machine.state / "log.1").read_text().splitlines()[1:] == ["first"]
    assert (machine.state / "log").read_text().splitlines()[1:] == ["second"]


def test_of_a_long_log_the_end_is_told(dash: Machine) -> None:
    noisy = "i=0; while [ $i -lt 3000 ]; do echo 'line after line after line'; i=$((i+1)); done"
    _, log = applied(dash, SampleTopic(steps=[noisy, "echo end"]))
    assert len(log) == 65536
    assert log.endswith("\nend\n")


# --- guards ---------------------------------------------------------------------------------


def stale(machine: Machine, path: Path, meddle: Callable[[Path], object]) -> str:
    """Plan to write two files, meddle with one of them, and return the refusal."""
    wanted = [ManagedFile(path=str(machine.folder / "other"), content="new")]
    wanted.append(ManagedFile(path=str(path), content="new"))
    topic = SampleTopic(wanted=wanted, steps=[f": >{machine.folder}/canary"])
    changes = changes_of(machine, topic)
    meddle(path)
    output = machine.run(scripted(changes, topic, run()))
    with pytest.raises(StalePlan) as caught:
        apply.parse(output, changes, NONCE)
    assert caught.value.exit_code == 3
    assert not (machine.folder / "other").exists()
    assert not (machine.folder / "canary").exists()
    assert last_run(machine).stopped_in == ""
    return caught.value.message


@pytest.mark.parametrize(
    "meddle",
    [
        lambda path: path.write_text("edited"),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.symlink_to("elsewhere")),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["edited", "removed", "symlink", "directory"],
)
def test_a_stale_plan_writes_nothing(machine: Machine, meddle: Callable[[Path], object]) -> None:
    path = machine.folder / "a"
    path.write_text("seen")
    assert str(path) in stale(machine, path, meddle)


@pytest.mark.parametrize(
    "meddle",
    [lambda path: path.write_text("new"), lambda path: path.symlink_to("elsewhere")],
    ids=["made", "dangling"],
)
def test_a_file_that_came_since_the_plan_makes_it_stale(
    machine: Machine, meddle: Callable[[Path], object]
) -> None:
    path = machine.folder / "a"
    assert str(path) in stale(machine, path, meddle)


# --- the lock -------------------------------------------------------------------------------


def test_a_second_apply_while_the_first_runs_is_refused_by_name(machine: Machine) -> None:
    marker, canary = machine.folder / "marker", machine.folder / "canary"
    with in_hand(machine, SampleTopic(steps=[f": >{marker}; sleep 60"])) as first:
        until(marker.exists)
        with pytest.raises(LockHeld) as caught:
            applied(machine, SampleTopic(steps=[f": >{canary}"]), run("r2", "bob@desk"))
        assert f"run r1 by ann@desk, pid {first.pid}" in caught.value.message
        assert caught.value.exit_code == 3
    assert not canary.exists()
    assert last_run(machine).record.startswith("run r1 by ann@desk")


def test_the_lock_is_free_at_once_when_its_holder_is_killed(machine: Machine) -> None:
    marker = machine.folder / "marker"
    with in_hand(machine, SampleTopic(steps=[f": >{marker}; sleep 60"])) as first:
        until(marker.exists)
        first.kill()
        first.wait()
        assert statuses(applied(machine, SampleTopic(steps=["true"]))[0]) == [0]


def test_a_daemon_that_a_step_starts_keeps_neither_the_lock_nor_the_session(
    machine: Machine,
) -> None:
    pid = machine.folder / "pid"
    began = time.monotonic()
    steps, _ = applied(machine, SampleTopic(steps=[f"sleep 60 & echo $! >{pid}"]))
    assert statuses(steps) == [0]
    assert time.monotonic() - began < 30
    try:
        assert statuses(applied(machine, SampleTopic(steps=["true"]))[0]) == [0]
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_of_many_runs_that_start_at_once_exactly_one_goes_on(dash: Machine) -> None:
    canary, gate = dash.folder / "canary", dash.folder / "gate"
    wait = f"echo won >>{canary}; while [ ! -e {gate} ]; do sleep 0.01; done"
    changes, topic = (step(0, wait),), SampleTopic()
    scripts = [scripted(changes, topic, run(f"r{n}")) for n in range(20)]
    processes = [dash.start(script) for script in scripts]
    losers = [process for process in processes if _lost(process, gate, processes)]
    gate.touch()
    outputs = [process.communicate(timeout=20)[0] for process in processes if process not in losers]
    assert len(losers) == 19
    assert len(outputs) == 1
    assert statuses(apply.parse(outputs[0], changes, NONCE)[0]) == [0]
    assert canary.read_text() == "won\n"


def _lost(
    process: subprocess.Popen[bytes], gate: Path, every: Sequence[subprocess.Popen[bytes]]
) -> bool:
    """Wait until a run has ended or is the only one left; say whether it was refused."""
    until(lambda: process.poll() is not None or _alone(process, every), 20)
    if process.returncode is None:
        return False
    assert not gate.exists()
    output = process.communicate()[0]
    with pytest.raises(LockHeld):
        apply.parse(output, (), NONCE)
    return True


def _alone(process: subprocess.Popen[bytes], every: Sequence[subprocess.Popen[bytes]]) -> bool:
    return all(other is process or other.poll() is not None for other in every)


# --- its own folders ------------------------------------------------------------------------


def test_its_folders_are_for_root_alone_whatever_the_umask(machine: Machine) -> None:
    machine.run(Script("umask 000\n") + scripted((step(0, "true"),), SampleTopic(), run()))
    for folder in (machine.work, machine.state):
        assert folder.stat().st_mode & 0o777 == 0o700
        assert all(path.stat().st_mode & 0o022 == 0 for path in folder.iterdir())


def refused(machine: Machine) -> str:
    canary = machine.folder / "canary"
    with pytest.raises(NodeFailed) as caught:
        applied(machine, SampleTopic(steps=[f": >{canary}"]))
    assert not canary.exists()
    return caught.value.message


@pytest.mark.parametrize("name", ["work", "state"])
def test_a_link_in_place_of_its_folder_is_refused(machine: Machine, name: str) -> None:
    victim = machine.folder / "victim"
    victim.mkdir()
    (machine.folder / name).symlink_to(victim)
    assert f"{name} is not a folder of root's own" in refused(machine)
    assert list(victim.iterdir()) == []


@NEEDS_ROOT
@pytest.mark.parametrize("name", ["work", "state"])
def test_a_folder_of_somebody_else_is_refused(machine: Machine, name: str) -> None:
    theirs = machine.folder / name
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    assert f"{name} is not a folder of root's own" in refused(machine)
    assert list(theirs.iterdir()) == []


def test_a_file_in_place_of_its_folder_is_refused(machine: Machine) -> None:
    machine.state.write_text("")
    assert "state is not a folder of root's own" in refused(machine)


def test_a_lock_that_cannot_be_had_is_refused(machine: Machine) -> None:
    (machine.work / "lock").mkdir(parents=True)
    assert "lock cannot be written" in refused(machine)


def test_a_log_that_cannot_be_had_is_refused(machine: Machine) -> None:
    (machine.state / "last").mkdir(parents=True)
    (machine.state / "last" / "last").mkdir()
    (machine.state / "log").mkdir()
    (machine.state / "log.1").mkdir()
    (machine.state / "log.1" / "log").mkdir()
    (machine.state / "log.1" / "log" / "full").touch()
    assert "cannot be written" in refused(machine)


def test_a_node_without_flock_is_not_said_to_be_held(tmp_path: Path) -> None:
    path = programs(tmp_path / "bin", [name for name in BINARIES if name != "flock"])
    assert "flock" in refused(Machine(folder=tmp_path, path=path))


# --- cut, closed and killed -----------------------------------------------------------------


def test_a_script_cut_anywhere_changes_nothing(dash: Machine) -> None:
    file = ManagedFile(path=str(dash.folder / "etc/a"), content="a'b\n}\nmain\n")
    changes = changes_of(dash, SampleTopic(wanted=[file]))
    topic = SampleTopic(wanted=[file], steps=[f": >{dash.folder}/canary"])
    text = dash.at_home(scripted((*changes, step(0, "true")), topic, run())).reveal()
    for cut in random.Random(2).sample(range(len(text) - len("main\n")), 60):
        dash.run(Script(text[:cut]))
        assert list(dash.folder.iterdir()) == [], f"cut at {cut}"


def test_a_controller_that_goes_away_stops_nothing(machine: Machine) -> None:
    done = machine.folder / "done"
    noisy = [f"sleep 0.02; echo {n} >>{done}; echo noise; echo noise >&2" for n in range(10)]
    with started(machine, SampleTopic(steps=noisy)) as process:
        assert process.stdout
        os.read(process.stdout.fileno(), 1)
        process.stdout.close()
        process.wait(timeout=20)
    assert done.read_text().split() == [str(n) for n in range(10)]
    assert (machine.state / "last").read_text().splitlines()[-1] == "finished"


def test_a_hang_up_stops_nothing(machine: Machine) -> None:
    done, marker = machine.folder / "done", machine.folder / "marker"
    steps = [f": >{marker}; sleep 0.2", *(f"echo {n} >>{done}" for n in range(5))]
    with started(machine, SampleTopic(steps=steps)) as process:
        until(marker.exists)
        os.killpg(process.pid, signal.SIGHUP)
        process.communicate(timeout=20)
    assert done.read_text().split() == [str(n) for n in range(5)]


@NEEDS_ROOT
def test_a_hundred_kills_leave_old_or_new_and_the_next_run_sweeps(dash: Machine) -> None:
    path = dash.folder / "etc/a"
    contents = itertools.cycle(f"{letter * 5000}\n" for letter in "xyz")
    applied(dash, SampleTopic(wanted=[ManagedFile(path=str(path), content=next(contents))]))
    longest = timed(dash, path, next(contents))
    chance, torn, left = random.Random(3), [], 0
    for _ in range(100):
        old, new = path.read_text(), next(contents)
        killed(dash, path, new, chance.uniform(0, longest))
        torn += [] if path.read_text() in (old, new) else [path.read_text()]
        left += len(temps(dash.folder))
    applied(dash, SampleTopic(wanted=[ManagedFile(path=str(path), content="end\n")]))
    assert torn == []
    assert path.read_text() == "end\n"
    assert temps(dash.folder) == [], f"{left} were left by kills"


def timed(machine: Machine, path: Path, content: str) -> float:
    script = rewriting(path, content)
    began = time.monotonic()
    machine.run(script)
    return time.monotonic() - began


def killed(machine: Machine, path: Path, content: str, after: float) -> None:
    with machine.start(rewriting(path, content)) as process:
        time.sleep(after)
        os.killpg(process.pid, signal.SIGKILL)


def rewriting(path: Path, content: str) -> Script:
    """Return the script that replaces a file which is there, without a probe before."""
    old = ManagedFile(path=str(path), content=path.read_text()).digest
    state = FileState(path=str(path), digest=old, kind="regular", ours=True)
    new = ManagedFile(path=str(path), content=content)
    change = files.change("kube_proxy", new, state, adopt=True)
    assert change
    return scripted((change,), SampleTopic(), run())


# --- secrets --------------------------------------------------------------------------------


class Watch(threading.Thread):
    """Looks at every process of this machine until it is told to stop."""

    def __init__(self, wanted: str) -> None:
        super().__init__()
        self.wanted, self.rounds, self.ended = wanted.encode(), 0, threading.Event()
        self.hits: list[str] = []

    def run(self) -> None:
        while not self.ended.is_set():
            self.rounds += 1
            for path in itertools.chain(*(Path("/proc").glob(f"[0-9]*/{n}") for n in _SEEN)):
                with contextlib.suppress(OSError):
                    self.hits += [str(path)] if self.wanted in path.read_bytes() else []
            self.ended.wait(0.005)


_SEEN = ("cmdline", "environ")


@NEEDS_ROOT
@pytest.mark.parametrize("fails", [False, True])
def test_a_secret_is_seen_nowhere_but_in_its_file(machine: Machine, fails: bool) -> None:
    path = machine.folder / "etc/key"
    secret = ManagedFile(path=str(path), content=Secret(f"{CANARY}'\n"), mode=0o600)
    topic = SampleTopic(wanted=[secret], steps=["sleep 0.05", "false" if fails else "true"])
    watch = Watch(CANARY)
    watch.start()
    changes = changes_of(machine, topic)
    script = scripted(changes, topic, run())
    output = machine.run(script)
    watch.ended.set()
    watch.join()
    steps, log = apply.parse(output, changes, NONCE)
    assert path.read_text() == f"{CANARY}'\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert CANARY not in f"{script}{script!r}{changes}{steps}{log}{facts_of(machine, topic)}"
    assert CANARY.encode() not in output
    assert [p for p in machine.folder.rglob("*") if p.is_file() and holds(p)] == [path]
    assert watch.hits == []
    assert watch.rounds > 1


def holds(path: Path) -> bool:
    return CANARY.encode() in path.read_bytes()


@NEEDS_ROOT
def test_a_secret_that_could_not_be_written_is_not_told(machine: Machine) -> None:
    path = machine.folder / "etc" / "key"
    path.parent.mkdir()
    secret = ManagedFile(path=str(path), content=Secret(CANARY), mode=0o600)
    topic = SampleTopic(wanted=[secret])
    changes = changes_of(machine, topic)
    script = scripted(changes, topic, run())
    broken = Script(re.sub(r"(put \S+ 0600) \w+", r"\1 0", script.reveal()))
    output = machine.run(broken)
    steps, log = apply.parse(output, changes, NONCE)
    assert statuses(steps) == [1]
    assert "could not be written" in log
    assert not [p for p in machine.folder.rglob("*") if p.is_file() and holds(p)]
    assert CANARY.encode() not in output


# --- what the answer means ------------------------------------------------------------------


def test_how_far_a_lost_session_came_can_be_told(dash: Machine) -> None:
    topic = SampleTopic(steps=["true", "true", "true"])
    changes = changes_of(dash, topic)
    output = dash.run(scripted(changes, topic, run()))
    torn = output[: output.index(b"begin step_2")]
    assert statuses(apply.how_far(torn, changes, NONCE)) == [0, 0, None]
    with pytest.raises(FactError):
        apply.parse(torn, changes, NONCE)


def test_the_whole_script_is_clean_for_shellcheck(dash: Machine) -> None:
    topic = SampleTopic(wanted=[ManagedFile(path=str(dash.folder / "a"), content="a")])
    text = scripted(changes_of(dash, topic), topic, run()).reveal()
    assert complaints(text, "--severity=warning", "--exclude=SC2043,SC2320,SC3067") == ""
