"""What a command does to the nodes, with the sessions behind one door that tests hold."""

import contextlib
import dataclasses
import getpass
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep import apply, plan, runner, story
from nodeprep.credentials import Passwords
from nodeprep.errors import (
    DeadlinePassed,
    FactError,
    HostKeyRefused,
    Interrupted,
    LabError,
    LockHeld,
    LoginRefused,
    NodeFailed,
    NodeprepError,
    StalePlan,
    Unreachable,
    UsageError,
)
from nodeprep.files import ManagedFile
from nodeprep.model import (
    Change,
    Desired,
    Facts,
    Finding,
    Inventory,
    KubeProxy,
    Node,
    Outcome,
    Status,
    Sudo,
)
from nodeprep.runner import Options
from nodeprep.shell import Script, Secret
from nodeprep.transport import Limits
from tests.sample_topic import SampleTopic
from tests.shells import NEEDS_ROOT, Machine

Answer = Callable[[Script], bytes]


@dataclass(kw_only=True)
class Door:
    """Opens to a machine in a folder for every node, or to what a test puts behind it."""

    folder: Path
    behind: dict[str, Answer | NodeprepError] = field(default_factory=dict)
    sessions: list[tuple[str, float]] = field(default_factory=list)
    passwords: list[Passwords] = field(default_factory=list)
    kubeconfigs: list[Secret | None] = field(default_factory=list)

    def machine(self, name: str) -> Machine:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return Machine(folder=folder)

    @contextlib.contextmanager
    def connect(self, node: Node, _: Limits, passwords: Passwords) -> Iterator["Room"]:
        self.passwords.append(passwords)
        self.kubeconfigs.append(node.desired.kube_proxy.kubeconfig_content)
        behind = self.behind.get(node.name, self.machine(node.name).run)
        if isinstance(behind, NodeprepError):
            raise behind
        yield Room(node=node, door=self, answer=behind)

    def count(self, name: str) -> int:
        """Return how many sessions a node has had."""
        return sum(node == name for node, _ in self.sessions)


@dataclass(frozen=True, kw_only=True)
class Room:
    """A session of one node."""

    node: Node
    door: Door
    answer: Answer

    def run(self, script: Script, limit: float) -> bytes:
        self.door.sessions.append((self.node.name, limit))
        return self.answer(script)


@dataclass(frozen=True, kw_only=True)
class EachNode(SampleTopic):
    """Wants one file on each node, in that node's own folder."""

    folder: Path = Path("/")
    content: str = "new\n"

    def on(self, node: Node) -> SampleTopic:
        file = ManagedFile(path=str(self.folder / node.name / "a.conf"), content=self.content)
        return SampleTopic(wanted=[file], steps=())

    def paths(self, node: Node, /) -> tuple[str, ...]:
        return self.on(node).paths(node)

    def changes(self, node: Node, facts: object, /) -> tuple[Change, ...]:
        steps = SampleTopic(steps=self.steps).changes(node, facts)  # type: ignore[arg-type]
        return (*self.on(node).changes(node, facts), *steps)  # type: ignore[arg-type]

    def findings(self, node: Node, facts: object, /) -> tuple[Finding, ...]:
        return self.on(node).findings(node, facts)  # type: ignore[arg-type]


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Door:
    one = Door(folder=tmp_path)
    monkeypatch.setattr(runner, "connect", one.connect)
    wish(monkeypatch, tmp_path)
    return one


def wish(monkeypatch: pytest.MonkeyPatch, folder: Path, **settings: object) -> None:
    topic = EachNode(folder=folder, **settings)  # type: ignore[arg-type]
    monkeypatch.setattr(story, "STORY", (topic,))


def nodes(*names: str) -> tuple[Node, ...]:
    return tuple(Node(name=name, address="192.0.2.1") for name in names)


def by_name(outcomes: Iterator[Outcome]) -> Mapping[str, Outcome]:
    found = list(outcomes)
    assert len({outcome.node.name for outcome in found}) == len(found)
    return {outcome.node.name: outcome for outcome in found}


def only(outcomes: Iterator[Outcome]) -> Outcome:
    (outcome,) = outcomes
    return outcome


def options(**settings: object) -> Options:
    return Options(**settings)  # type: ignore[arg-type]


OPTIONS = options()
A = nodes("a")


def code(outcomes: Sequence[Outcome]) -> int:
    return runner.exit_code(outcomes, wanted=runner.is_ready)


def written(door: Door, name: str) -> str | None:
    path = door.folder / name / "a.conf"
    return path.read_text() if path.exists() else None


# --- the verbs ------------------------------------------------------------------------------


def test_verify_reads_each_node_once_and_changes_nothing(door: Door) -> None:
    outcomes = by_name(runner.verify_nodes(nodes("a", "b"), OPTIONS))
    assert [len(outcome.findings) for outcome in outcomes.values()] == [2, 2]
    assert code(list(outcomes.values())) == 1
    assert sorted(door.sessions) == [("a", 60), ("b", 60)]
    assert not list(door.folder.rglob("a.conf"))


def test_plan_says_what_apply_would_do_and_does_nothing(door: Door) -> None:
    outcome = only(runner.plan_nodes(A, OPTIONS))
    assert [change.summary for change in outcome.changes] == [f"write {door.folder}/a/a.conf"]
    assert outcome.steps == ()
    assert written(door, "a") is None


@NEEDS_ROOT
def test_apply_makes_the_node_as_wanted_in_two_sessions(door: Door) -> None:
    outcome = only(runner.apply_nodes(A, OPTIONS))
    assert outcome.error is None
    assert [step.exit_status for step in outcome.steps] == [0]
    assert code([outcome]) == 0
    assert written(door, "a") == "new\n"
    assert door.sessions == [("a", 60), ("a", 900)]


@NEEDS_ROOT
def test_a_second_apply_reads_once_and_touches_nothing(door: Door) -> None:
    only(runner.apply_nodes(A, OPTIONS))
    before = {path: path.stat().st_mtime_ns for path in door.folder.rglob("*")}
    outcome = only(runner.apply_nodes(A, OPTIONS))
    assert (outcome.changes, outcome.steps, code([outcome])) == ((), (), 0)
    assert door.count("a") == 3
    assert {path: path.stat().st_mtime_ns for path in door.folder.rglob("*")} == before


@NEEDS_ROOT
def test_the_operator_and_the_run_are_told_on_the_node(door: Door) -> None:
    only(runner.apply_nodes(A, OPTIONS))
    record = (door.machine("a").state / "last").read_text().splitlines()[0]
    assert f" by {getpass.getuser()}@{socket.gethostname()}, started " in record


def test_each_node_is_timed(door: Door) -> None:
    assert only(runner.verify_nodes(A, OPTIONS)).seconds > 0
    door.behind["a"] = Unreachable("gone")
    assert only(runner.verify_nodes(A, OPTIONS)).seconds > 0


# --- failures are values --------------------------------------------------------------------

TROUBLE: Mapping[str, Answer | NodeprepError] = {
    "changed": HostKeyRefused("changed"),
    "quiet": DeadlinePassed("quiet"),
    "locked": LoginRefused("no"),
    "garbage": lambda _: os.urandom(999),
    "silent": lambda _: b"",
    "torn": lambda _: b"\n@",
}


@pytest.mark.parametrize("verb", [runner.verify_nodes, runner.plan_nodes, runner.apply_nodes])
def test_no_node_that_fails_hides_another(
    door: Door, verb: Callable[[Sequence[Node], Options], Iterator[Outcome]]
) -> None:
    door.behind.update(TROUBLE)
    outcomes = by_name(verb(nodes("a", *TROUBLE, "z"), options(parallel=3)))
    kinds = {name: type(outcome.error) for name, outcome in outcomes.items()}
    assert kinds == {
        "a": type(None) if os.geteuid() == 0 or verb is not runner.apply_nodes else NodeFailed,
        "changed": HostKeyRefused,
        "quiet": DeadlinePassed,
        "locked": LoginRefused,
        "garbage": FactError,
        "silent": FactError,
        "torn": FactError,
        "z": kinds["a"],
    }
    assert code(list(outcomes.values())) == 4


def test_a_node_that_fails_to_be_read_is_not_changed(door: Door) -> None:
    door.behind["a"] = lambda _: b"garbage"
    assert isinstance(only(runner.apply_nodes(A, OPTIONS)).error, FactError)
    assert door.count("a") == 1


def test_a_node_that_is_lost_in_the_middle_is_told_so(door: Door) -> None:
    machine = door.machine("a")

    def lost(script: Script) -> bytes:
        if "take_lock" in str(script):
            raise Unreachable("the session was lost")
        return machine.run(script)

    door.behind["a"] = lost
    outcome = only(runner.apply_nodes(A, OPTIONS))
    assert type(outcome.error) is Unreachable
    assert "in the middle of changing the node" in outcome.error.message
    assert "run apply again" in outcome.error.hint
    assert len(outcome.changes) == 1


def test_a_step_that_fails_is_told_in_its_own_words(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish(monkeypatch, door.folder, steps=["echo no space left; false", "echo after"])
    outcome = only(runner.apply_nodes(A, OPTIONS))
    if os.geteuid() == 0:
        assert [step.exit_status for step in outcome.steps] == [0, 1, None]
        assert isinstance(outcome.error, NodeFailed)
        assert outcome.error.message == "could not do step 0: no space left"
    assert code([outcome]) == 1
    assert outcome.facts is not None


def test_another_run_on_the_node_is_left_to_end(door: Door) -> None:
    machine, gate = door.machine("a"), door.folder / "gate"
    topic = SampleTopic(steps=[f": >{gate}.began; while [ ! -e {gate} ]; do sleep 0.01; done"])
    who = apply.Run(id="r1", operator="bob@desk")
    changes = topic.changes(A[0], Facts({}))
    with machine.start(apply.script(A[0], changes, (topic,), who, "0" * 16)) as other:
        while not gate.with_suffix(".began").exists():
            assert other.poll() is None
        outcome = only(runner.apply_nodes(A, OPTIONS))
        gate.touch()
        other.communicate(timeout=20)
    assert isinstance(outcome.error, LockHeld)
    assert "r1 by bob@desk" in outcome.error.message
    assert code([outcome]) == 3
    assert written(door, "a") is None


def test_a_node_that_was_not_begun_is_in_the_outcomes(door: Door) -> None:
    stop = threading.Event()
    stop.set()
    outcome = only(runner.apply_nodes(A, options(stop=stop)))
    assert isinstance(outcome.error, Interrupted)
    assert code([outcome]) == 130
    assert door.sessions == []


# --- saved plans ----------------------------------------------------------------------------


def saved(door: Door, every: Sequence[Node] = A) -> Mapping[str, object]:
    inventory = Inventory(path="i", digest="d", nodes=tuple(every))
    outcomes = list(runner.plan_nodes(every, OPTIONS))
    door.sessions.clear()
    return plan.document(outcomes, inventory, OPTIONS.chapters)


@NEEDS_ROOT
def test_a_saved_plan_that_still_holds_is_done(door: Door) -> None:
    kept = saved(door)
    assert code([only(runner.apply_nodes(A, OPTIONS, kept))]) == 0
    assert written(door, "a") == "new\n"


@pytest.mark.parametrize("meddle", ["node", "inventory"])
def test_a_saved_plan_that_no_longer_holds_changes_nothing(
    door: Door, monkeypatch: pytest.MonkeyPatch, meddle: str
) -> None:
    kept = saved(door)
    if meddle == "node":
        (door.folder / "a" / "a.conf").write_text("# Managed by nodeprep\nold\n")
    else:
        wish(monkeypatch, door.folder, content="another\n")
    before = written(door, "a")
    outcome = only(runner.apply_nodes(A, OPTIONS, kept))
    assert isinstance(outcome.error, StalePlan)
    assert code([outcome]) == 3
    assert written(door, "a") == before
    assert door.sessions == [("a", 60)]


def test_a_file_edited_between_reading_and_writing_is_kept(door: Door) -> None:
    machine, path = door.machine("a"), door.folder / "a" / "a.conf"

    def raced(script: Script) -> bytes:
        if "take_lock" in str(script):
            path.write_text("edited in between")
        return machine.run(script)

    door.behind["a"] = raced
    outcome = only(runner.apply_nodes(A, OPTIONS))
    assert isinstance(outcome.error, StalePlan)
    assert str(path) in outcome.error.message
    assert path.read_text() == "edited in between"


# --- exit codes -----------------------------------------------------------------------------

FAILED = (Finding(topic="t", name="n", status=Status.FAIL),)


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([], 0),
        ([None], 0),
        ([NodeFailed("")], 1),
        ([FactError("")], 1),
        ([UsageError("")], 2),
        ([LabError("")], 2),
        ([StalePlan("")], 3),
        ([LockHeld("")], 3),
        ([Unreachable("")], 4),
        ([HostKeyRefused("")], 4),
        ([LoginRefused("")], 4),
        ([DeadlinePassed("")], 4),
        ([Interrupted("")], 130),
        ([NodeFailed(""), None, LockHeld("")], 3),
        ([LockHeld(""), Unreachable(""), NodeFailed("")], 4),
        ([Unreachable(""), Interrupted(""), None], 130),
    ],
)
def test_the_exit_code_is_that_of_the_gravest_node(
    errors: list[NodeprepError | None], expected: int
) -> None:
    assert code([Outcome(node=A[0], error=error) for error in errors]) == expected


def test_a_node_that_is_not_as_wanted_is_exit_code_one() -> None:
    assert code([Outcome(node=A[0]), Outcome(node=A[0], findings=FAILED)]) == 1
    assert runner.exit_code([Outcome(node=A[0])], wanted=lambda _: False) == 1


KINDS = (NodeFailed, UsageError, StalePlan, Unreachable, Interrupted)


@given(st.lists(st.sampled_from([*KINDS, None]), max_size=6))
def test_the_exit_code_is_zero_only_where_no_node_has_an_error(
    kinds: list[type[NodeprepError] | None],
) -> None:
    outcomes = [Outcome(node=A[0], error=kind("") if kind else None) for kind in kinds]
    assert (code(outcomes) == 0) is not any(kinds)


# --- secrets --------------------------------------------------------------------------------


def with_kubeconfig(path: str | None, **proxy: object) -> Node:
    kube_proxy = KubeProxy(kubeconfig_from=path, **proxy)  # type: ignore[arg-type]
    return dataclasses.replace(A[0], desired=Desired(kube_proxy=kube_proxy))


def test_a_kubeconfig_is_read_on_the_controller_and_kept_secret(door: Door) -> None:
    file = door.folder / "kubeconfig"
    file.write_text("canary\n")
    outcome = only(runner.verify_nodes([with_kubeconfig(str(file))], OPTIONS))
    assert [secret and secret.reveal() for secret in door.kubeconfigs] == ["canary\n"]
    assert "canary" not in f"{outcome}{outcome!r}"


@pytest.mark.parametrize("style", ["config", "unmanaged"])
def test_a_kubeconfig_that_is_not_wanted_is_not_read(door: Door, style: str) -> None:
    path = str(door.folder / "absent") if style == "unmanaged" else None
    only(runner.verify_nodes([with_kubeconfig(path, style=style)], OPTIONS))
    assert door.kubeconfigs == [None]


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_kubeconfig_that_cannot_be_read_stops_before_any_node(
    door: Door, content: bytes | None
) -> None:
    file = door.folder / "kubeconfig"
    if content:
        file.write_bytes(content)
    with pytest.raises(UsageError, match="kubeconfig_from"):
        runner.verify_nodes([with_kubeconfig(str(file))], OPTIONS)
    assert door.sessions == []


# --- this machine ---------------------------------------------------------------------------


def test_this_machine_is_found_by_its_name_among_many() -> None:
    mine = runner.local_node(nodes("other", socket.gethostname()))
    assert (mine.name, mine.address) == (socket.gethostname(), "local")


def test_the_only_node_is_this_machine_whatever_its_name() -> None:
    assert runner.local_node(nodes("other")).address == "local"


@pytest.mark.parametrize("names", [(), ("other", "another"), ("localhost", socket.gethostname())])
def test_a_machine_that_cannot_be_told_is_a_usage_error(names: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="no single node") as caught:
        runner.local_node(nodes(*names))
    assert "--limit" in caught.value.hint


# --- one node's trouble is not another's ----------------------------------------------------


def test_a_defect_of_ours_on_one_node_hides_no_other(door: Door) -> None:
    def broken(_: Script) -> bytes:
        raise RecursionError("too deep")

    door.behind["a"] = broken
    found = by_name(runner.verify_nodes(nodes("a", "b"), options()))
    assert isinstance(found["a"].error, NodeFailed)
    assert "RecursionError: too deep" in found["a"].error.message
    assert found["b"].facts is not None


def test_a_password_that_sudo_refused_is_not_tried_on_the_next_node(door: Door) -> None:
    sudo = Sudo(method="password", password="ask")
    every = [dataclasses.replace(node, sudo=sudo) for node in nodes("a", "b", "c")]
    for node in every:
        door.behind[node.name] = LoginRefused("sudo refused: the password is wrong")
    found = by_name(runner.verify_nodes(every, options(parallel=1)))
    assert all(isinstance(outcome.error, LoginRefused) for outcome in found.values())
    assert len(door.passwords) == 1


def test_a_saved_plan_leaves_a_node_alone_that_had_not_answered(door: Door) -> None:
    door.behind["b"] = Unreachable("gone")
    asked = nodes("a", "b")
    inventory = Inventory(path="i.yaml", digest="0", nodes=asked)
    topics = story.chapters(())
    outcomes = list(runner.plan_nodes(asked, options()))
    saved = json.loads(json.dumps(plan.document(outcomes, inventory, topics)))
    assert saved["unanswered"] == ["b"]
    del door.behind["b"]
    before = door.count("b")
    found = by_name(runner.apply_nodes(asked, options(), saved))
    assert isinstance(found["b"].error, StalePlan)
    assert door.count("b") == before
    assert found["a"].error is None
