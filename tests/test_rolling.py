"""A roll over simulated nodes: what must hold whenever its controller or a session fails."""

import contextlib
import random
import resource
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nodeprep import apply, journal, rolling
from nodeprep.errors import Unreachable, UsageError
from nodeprep.model import Change, Facts, Node
from nodeprep.rollout.machine import FORWARD, Continue, Ended, Stop, Verb, ending
from nodeprep.rollout.operator import Gate
from nodeprep.rollout.switching import Aim
from nodeprep.shell import Script
from nodeprep.transport import Limits
from tests.sample_topic import SampleTopic
from tests.shells import NEEDS_ROOT
from tests.simulated import (
    AIM,
    FAULTS,
    LATER,
    RUN,
    Fleet,
    Kill,
    Questions,
    SimKind,
    killed,
    observe,
    patch,
)

pytestmark = NEEDS_ROOT


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Give three nodes in iptables mode, a batch each."""
    return patch(monkeypatch, Fleet(folder=tmp_path))


def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> Fleet:
    return patch(monkeypatch, Fleet(folder=tmp_path, names=names))


def verdicts(fleet: Fleet) -> list[str]:
    return [f"{end.node} {end.verb} {end.verdict}" for end in fleet.ends]


def whole(name: str) -> list[str]:
    return [f"{name} {verb} ok" for verb in FORWARD]


# --- nodes whose cluster has its part in it -------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class InTwoPlaces(SimKind):
    """A kind whose switch has a step where kubectl runs between two parts on the node."""

    diary: Path
    broken: bool = False

    def changes(self, verb: Verb, node: Node, facts: Facts, aim: Aim) -> Sequence[Change]:
        steps = super().changes(verb, node, facts, aim)
        said = f"echo '{node.name} asked' >>{self.diary}" + ("; return 3" if self.broken else "")
        asked = Change(topic="t", subject="s", summary="ask", action=Script(said), place="cluster")
        return (steps[0], asked, *steps[1:]) if verb == "switch" and steps else steps


def in_two_places(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, *, broken: bool = False) -> None:
    hand = fleet.hand
    (fleet.nodes / "host").mkdir()
    kind = InTwoPlaces(
        questions=Questions(fleet=fleet.nodes), diary=fleet.nodes / "diary", broken=broken
    )

    def with_cluster(name: str, *, touched: bool = False) -> rolling.Hand:
        host = Node(name="host", address="192.0.2.9")
        fleet.door.verbs["host"] = "switch"
        cluster = rolling.Contact(node=host, limits=Limits(), passwords={})
        return replace(hand(name, touched=touched), kind=kind, cluster=cluster)

    monkeypatch.setattr(fleet, "hand", with_cluster)


def test_what_is_the_clusters_is_done_where_kubectl_runs_between_the_nodes_own_steps(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_two_places(fleet, monkeypatch)
    ended = fleet.begin()
    assert ending(ended) == "done"
    of_a = [what for name, what in fleet.diary if name == "a"]
    assert of_a[:3] == ["kept", "asked", "wrote ipvs"]
    assert fleet.door.calls["host"] == len("abc")


def test_a_step_of_the_clusters_that_fails_takes_the_node_back_and_stops_the_roll(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_two_places(fleet, monkeypatch, broken=True)
    ended = fleet.begin()
    assert verdicts(fleet) == ["a switch failed", "a back ok"]
    assert "could not ask" in fleet.ends[0].detail
    assert ended.stages == {"a": "returned", "b": "waiting", "c": "waiting"}


# --- a roll in which nothing goes wrong -----------------------------------------------------


def test_a_roll_does_every_verb_once_on_one_node_after_the_other(fleet: Fleet) -> None:
    ended = fleet.begin()
    observe(fleet, ended, restarts=1)
    assert ending(ended) == "done"
    assert verdicts(fleet) == [*whole("a"), *whole("b"), *whole("c")]
    life = ["kept", "wrote ipvs", "down", "up", "cleaned", "settled"]
    assert fleet.diary == [(name, what) for name in "abc" for what in life]


def test_nodes_of_a_batch_are_in_hand_together_and_no_more_than_allowed(fleet: Fleet) -> None:
    ended = fleet.begin(batches=(("a", "b", "c"),), at_once=2)
    observe(fleet, ended, at_once=2, restarts=1)
    assert ending(ended) == "done"
    switched = [end.node for end in fleet.ends if end.verb == "switch"]
    settled = [end.node for end in fleet.ends if end.verb == "settle"]
    assert {*switched[:2]} == {"a", "b"}
    assert fleet.ends.index(next(e for e in fleet.ends if e.node == "c")) > fleet.ends.index(
        next(e for e in fleet.ends if e.verb == "settle")
    )
    assert sorted(settled) == ["a", "b", "c"]


def test_a_node_that_is_there_already_is_not_visited(fleet: Fleet) -> None:
    ended = fleet.begin(already=["b"])
    assert ending(ended) == "done"
    assert "b" not in fleet.door.calls
    assert fleet.node("b").now.effect == "iptables"


def test_an_intent_is_on_the_disk_before_its_act(fleet: Fleet) -> None:
    seen: list[tuple[str, str]] = []

    def before(name: str, _: str, __: int) -> None:
        last = [r for r in journal.read(fleet.journal) if r.kind in ("intent", "outcome")][-1]
        seen.append((last.kind, last.fields["node"]))
        assert last.fields["node"] == name

    fleet.door.before = before
    fleet.begin()
    assert {kind for kind, _ in seen} == {"intent"}


def test_the_time_of_each_verb_is_told(fleet: Fleet) -> None:
    fleet.begin()
    assert all(told.seconds > 0 for told in fleet.told)


# --- the controller is killed ---------------------------------------------------------------


def journal_of_a_whole_roll(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    fleet = one(tmp_path / "whole", monkeypatch, "a", "b", "c")
    fleet.begin()
    return [record.kind for record in journal.read(fleet.journal)]


# A kill before a record that is no outcome is the same as one after the record before it: nothing
# happens between the two.
RECORDS = 33
EVERY_KILL = [
    *(Kill(record=n) for n in range(RECORDS)),
    *(Kill(record=n, before=True) for n in range(3, RECORDS - 1, 2)),
]


def test_every_record_is_among_the_kills(fleet: Fleet) -> None:
    fleet.begin()
    kinds = [record.kind for record in journal.read(fleet.journal)]
    assert len(kinds) == RECORDS
    assert {kinds[kill.record] for kill in EVERY_KILL if kill.before} == {"outcome"}
    assert kinds.count("outcome") == sum(kill.before for kill in EVERY_KILL)


@pytest.mark.parametrize(
    "kill", EVERY_KILL, ids=lambda k: f"{['after', 'before'][k.before]}-{k.record}"
)
def test_a_roll_that_was_killed_anywhere_is_finished_without_a_hand(
    fleet: Fleet, kill: Kill
) -> None:
    assert killed(fleet.begin, kill)
    observe(fleet, None)
    if kill.record == 0 and kill.before:
        return
    ended = fleet.resume()
    observe(fleet, ended)
    assert ending(ended) == "done"
    assert set(ended.stages.values()) == {"done"}
    assert sum(fleet.node(name).restarts for name in fleet.names) <= 4


@pytest.mark.parametrize("seed", range(30))
def test_a_roll_that_was_killed_twice_at_random_is_finished_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    fleet, dice = one(tmp_path, monkeypatch, "a", "b"), random.Random(seed)
    first = Kill(record=dice.randrange(1, 23), before=dice.random() < 0.5)
    killed(lambda: fleet.begin(batches=(("a", "b"),), at_once=2), first)
    written = len(journal.read(fleet.journal))
    second = Kill(record=written + dice.randrange(12), before=dice.random() < 0.5)
    killed(fleet.resume, second)
    observe(fleet, None, at_once=2, restarts=3)
    ended = fleet.resume()
    observe(fleet, ended, at_once=2, restarts=3)
    assert set(ended.stages.values()) == {"done"}


def test_a_node_that_went_back_while_nobody_was_there_is_switched_again(fleet: Fleet) -> None:
    assert killed(fleet.begin, Kill(record=6))
    assert fleet.node("a").text("armed") == RUN
    fleet.node("a").dead_man()
    observe(fleet, None)
    ended = fleet.resume()
    assert set(ended.stages.values()) == {"done"}
    observe(fleet, ended, restarts=3)


def test_a_way_back_that_was_cut_short_is_finished_first(fleet: Fleet) -> None:
    fleet.node("a").set("shut-clean")
    records = [f"{end.verb} {end.verdict}" for end in _rehearsed(fleet)]
    assert records[-1] == "back ok"
    position = 2 + 2 * (len(records) - 1)
    other = Fleet(folder=fleet.folder / "other")
    other.node("a").set("shut-clean")
    with pytest.MonkeyPatch.context() as context:
        patch(context, other)
        assert killed(other.begin, Kill(record=position))
        other.node("a").clear("shut-clean")
        ended = other.resume()
        first = other.ends[0]
        assert (first.node, first.verb, first.verdict) == ("a", "back", "ok")
        assert ended.stages["a"] == "returned"
        observe(other, ended)


def _rehearsed(fleet: Fleet) -> list[Ended]:
    fleet.begin()
    return fleet.ends


# --- sessions fail --------------------------------------------------------------------------

CALLS = 4
"""Sessions of one node in a roll that waits for nothing: a reading, switch, clean, settle."""


def test_no_call_of_a_node_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = one(tmp_path, monkeypatch, "a")
    fleet.begin()
    assert fleet.door.calls == {"a": CALLS}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", range(1, CALLS + 1))
def test_one_session_that_fails_leaves_a_node_old_or_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, fault: str
) -> None:
    fleet = one(tmp_path, monkeypatch, "a")
    fleet.door.faults["a", number] = fault
    ended = fleet.begin()
    observe(fleet, ended, restarts=2)
    # A reading that failed before anything was sent, a step that failed, or nothing of note.
    unread = number == 1 and fault != "broken step"
    failed = fault == "broken step"
    assert ended.stages["a"] == ("untouched" if unread else "returned" if failed else "done")
    if ended.stages["a"] != "done":
        fleet.door.faults.clear()
        finished = fleet.resume()
        observe(fleet, finished, restarts=3)
        assert finished.stages == {"a": "done"}


def test_a_node_that_was_never_reached_is_untouched_and_the_next_not_begun(fleet: Fleet) -> None:
    fleet.door.gone.add("a")
    ended = fleet.begin()
    observe(fleet, ended)
    assert ended.stages == {"a": "untouched", "b": "waiting", "c": "waiting"}
    assert "no way to a" in fleet.ends[0].detail
    assert fleet.told[0].unreachable


def test_a_node_that_is_lost_for_good_is_told_as_lost(fleet: Fleet) -> None:
    def before(name: str, verb: str, _: int) -> None:
        if (name, verb) == ("a", "clean"):
            fleet.door.gone.add("a")

    fleet.door.before = before
    ended = fleet.begin()
    observe(fleet, ended)
    assert ended.stages == {"a": "lost", "b": "waiting", "c": "waiting"}
    assert "its way back takes it home" in fleet.ends[-1].detail


def test_a_node_that_comes_back_home_by_itself_is_told_as_returned(fleet: Fleet) -> None:
    away = {"left": 4}

    def before(name: str, verb: str, _: int) -> None:
        if (name, verb) == ("a", "clean") and away["left"]:
            away["left"] -= 1
            if not away["left"]:
                fleet.node("a").dead_man()
            raise Unreachable("the network is cut")

    fleet.door.before = before
    ended = fleet.begin()
    observe(fleet, ended)
    assert ended.stages["a"] == "returned"
    assert "went back by itself" in fleet.ends[-1].detail


def test_a_node_that_is_on_its_way_home_is_waited_for(fleet: Fleet) -> None:
    node, looks = fleet.node("a"), []

    def before(_: str, verb: str, number: int) -> None:
        if (verb, number) == ("clean", 1):
            node.set("state", "back-began")
            raise Unreachable("the network is cut")
        if verb == "clean":
            looks.append(number)
        if len(looks) == 3:
            node.dead_man()

    fleet.door.before = before
    ended = fleet.begin()
    observe(fleet, ended)
    assert ended.stages["a"] == "returned"
    assert len(looks) >= 3


def test_a_node_that_went_home_badly_is_taken_back_by_hand_of_the_roll(fleet: Fleet) -> None:
    node = fleet.node("a")

    def before(_: str, verb: str, number: int) -> None:
        if (verb, number) == ("clean", 1):
            node.set("stuck")
            node.dead_man()
            node.clear("stuck")
            raise Unreachable("the network is cut")

    fleet.door.before = before
    ended = fleet.begin()
    observe(fleet, ended)
    assert verdicts(fleet)[-2:] == ["a clean failed", "a back ok"]
    assert ended.stages["a"] == "returned"


def test_a_node_that_went_home_before_it_was_settled_is_not_told_as_switched(
    fleet: Fleet,
) -> None:
    def before(_: str, verb: str, __: int) -> None:
        if verb == "settle":
            fleet.node("a").dead_man()

    fleet.door.before = before
    ended = fleet.begin()
    observe(fleet, ended)
    assert ended.stages["a"] == "returned"


def test_a_node_in_the_hands_of_another_roll_is_untouched_and_says_which(fleet: Fleet) -> None:
    fleet.node("a").set("armed", "another-roll")
    ended = fleet.begin()
    assert ended.stages["a"] == "untouched"
    assert "the roll another-roll has this node in hand" in fleet.ends[0].detail
    assert fleet.door.changing == {}
    assert fleet.node("a").text("armed") == "another-roll"


def test_a_node_that_went_home_while_it_was_to_be_settled_is_told_as_returned(
    fleet: Fleet,
) -> None:
    def before(_: str, verb: str, number: int) -> None:
        if (verb, number) == ("settle", 1):
            fleet.node("a").dead_man()
            raise Unreachable("the network is cut")

    fleet.door.before = before
    ended = fleet.begin()
    observe(fleet, ended)
    assert ended.stages["a"] == "returned"
    assert "went back by itself" in fleet.ends[-1].detail


def test_an_answer_that_stays_unreadable_takes_the_node_back(fleet: Fleet) -> None:
    fleet.door.faults.update({("a", n): "garbage" for n in (3, 4)})
    ended = fleet.begin()
    observe(fleet, ended)
    assert ended.stages["a"] == "returned"


# --- gates ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "verb"), [*(("b", verb) for verb in FORWARD[:-1]), ("a", "clean"), ("c", "clean")]
)
def test_a_shut_gate_takes_its_node_back_and_leaves_those_after_it_alone(
    fleet: Fleet, node: str, verb: str
) -> None:
    fleet.node(node).set(f"shut-{verb}")
    ended = fleet.begin()
    observe(fleet, ended)
    behind = fleet.names[fleet.names.index(node) + 1 :]
    assert ended.stages[node] == "returned"
    assert all(ended.stages[name] == "waiting" for name in behind)
    assert not set(behind) & set(fleet.door.changing)
    assert ending(ended) == "failed"
    assert f"gate after {verb}: not so" in fleet.ends[-2].detail


def test_failures_that_are_allowed_let_the_roll_go_on(fleet: Fleet) -> None:
    fleet.node("a").set("shut-switch")
    ended = fleet.begin(max_failures=1)
    observe(fleet, ended)
    assert ended.stages == {"a": "returned", "b": "done", "c": "done"}
    assert ending(ended) == "failed"


def test_a_gate_that_opens_at_the_second_look_is_open(fleet: Fleet) -> None:
    node = fleet.node("a")
    node.set("shut-clean")

    def before(_: str, verb: str, number: int) -> None:
        if (verb, number) == ("clean", 2):
            node.clear("shut-clean")

    fleet.door.before = before
    ended = fleet.begin()
    assert ended.stages["a"] == "done"


def test_a_way_back_that_fails_ends_the_roll_and_nothing_more_is_done(fleet: Fleet) -> None:
    fleet.node("a").set("shut-switch")
    fleet.node("a").set("stuck")
    ended = fleet.begin(max_failures=2)
    observe(fleet, ended)
    assert ended.stages == {"a": "needs-operator", "b": "waiting", "c": "waiting"}
    assert ending(ended) == "needs-operator"
    assert fleet.diary[-1] == ("a", "stuck")
    assert fleet.door.changing == {"a": 2}


def test_a_node_that_is_back_but_not_well_needs_an_operator(fleet: Fleet) -> None:
    fleet.node("a").set("shut-switch")
    fleet.node("a").set("shut-back")
    ended = fleet.begin()
    assert ended.stages["a"] == "needs-operator"


def test_a_command_of_the_controllers_is_a_gate_that_knows_the_node(
    fleet: Fleet, tmp_path: Path
) -> None:
    command = (
        f"echo $NODEPREP_NODE >>{tmp_path}/asked; [ $NODEPREP_NODE = a ] || {{ echo no; false; }}"
    )
    fleet.aim = Aim(**{**vars(AIM), "gates": (Gate(kind="local", text=command),)})
    ended = fleet.begin()
    assert (ended.stages["a"], ended.stages["b"]) == ("done", "needs-operator")
    assert set((tmp_path / "asked").read_text().split()) == {"a", "b"}


# --- waiting --------------------------------------------------------------------------------


def lasting(fleet: Fleet, **times: int) -> None:
    fleet.aim = Aim(**{**vars(AIM), **times})


def test_connections_are_waited_for_until_they_end(fleet: Fleet) -> None:
    lasting(fleet, linger=30)
    node = fleet.node("a")
    node.set("open")

    def before(_: str, verb: str, number: int) -> None:
        if (verb, number) == ("linger", 4):
            node.clear("open")

    fleet.door.before = before
    ended = fleet.begin()
    assert ended.stages["a"] == "done"
    assert [told.unfinished for told in fleet.told if told.ended.verb == "linger"] == [0, 0, 0]


def test_connections_that_never_end_are_waited_for_no_longer_than_asked(fleet: Fleet) -> None:
    lasting(fleet, linger=1)
    fleet.node("a").set("open")
    ended = fleet.begin(max_failures=0)
    assert ended.stages["a"] == "done"
    lingered = [told for told in fleet.told if told.ended.verb == "linger"]
    assert (lingered[0].unfinished, lingered[1].unfinished) == (1, 0)
    assert lingered[0].seconds >= 1


def test_a_soak_looks_again_and_again_and_ends_at_the_first_shut_gate(fleet: Fleet) -> None:
    lasting(fleet, soak=60)

    def before(_: str, verb: str, number: int) -> None:
        if (verb, number) == ("soak", 3):
            fleet.node("a").set("shut-soak")

    fleet.door.before = before
    ended = fleet.begin()
    observe(fleet, ended)
    assert ended.stages["a"] == "returned"
    assert "a soak failed" in verdicts(fleet)


# --- stopping -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "call"), [("switch", 1), ("switch", 2), ("clean", 1), ("settle", 1)]
)
def test_an_interrupt_undoes_what_is_not_clean_and_finishes_the_rest(
    fleet: Fleet, verb: str, call: int
) -> None:
    def before(_: str, now: str, number: int) -> None:
        if (now, number) == (verb, call):
            fleet.stop.set()

    fleet.door.before = before
    ended = fleet.begin()
    observe(fleet, ended)
    expected = "returned" if verb in ("switch", "linger") else "done"
    assert ended.stages == {"a": expected, "b": "waiting", "c": "waiting"}
    assert any(isinstance(event, Stop) for event in fleet.events)
    fleet.stop.clear()
    fleet.door.before = lambda *_: None
    finished = fleet.resume()
    observe(fleet, finished, restarts=3)
    assert set(finished.stages.values()) == {"done"}


def test_an_interrupt_before_the_first_node_begins_none(fleet: Fleet) -> None:
    fleet.stop.set()
    fleet.begin()
    assert len({name for name, _ in fleet.diary}) <= 1


def test_a_closed_window_begins_nothing_and_can_be_resumed(fleet: Fleet) -> None:
    fleet.closed = "the window is closed"
    ended = fleet.begin()
    assert ending(ended) == "stopped"
    assert fleet.door.calls == {}
    fleet.closed = ""
    assert set(fleet.resume().stages.values()) == {"done"}


def test_a_window_that_closes_lets_the_nodes_in_hand_come_to_an_end(fleet: Fleet) -> None:
    def before(name: str, verb: str, _: int) -> None:
        if (name, verb) == ("b", "settle"):
            fleet.closed = "the window is closed"

    fleet.door.before = before
    ended = fleet.begin()
    observe(fleet, ended)
    assert ended.stages == {"a": "done", "b": "done", "c": "waiting"}
    assert ending(ended) == "stopped"


def test_a_pause_asks_and_goes_on_or_ends_there(fleet: Fleet) -> None:
    fleet.answer = False
    ended = fleet.begin(pause_after=1)
    assert fleet.asked == ["1 of 3 batches have ended"]
    assert ended.stages == {"a": "done", "b": "waiting", "c": "waiting"}
    fleet.answer = True
    assert set(fleet.resume().stages.values()) == {"done"}
    assert len(fleet.asked) == 1


def test_a_pause_that_is_answered_with_yes_goes_on(fleet: Fleet) -> None:
    ended = fleet.begin(pause_after=2)
    assert fleet.asked == ["2 of 3 batches have ended"]
    assert sum(isinstance(event, Continue) for event in fleet.events) == 1
    assert ending(ended) == "done"


# --- the journal ----------------------------------------------------------------------------


@contextlib.contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """Let every write beyond ``size`` bytes of a file fail, as on a full disk."""
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)


@pytest.mark.parametrize("room", [0, 150, 300, 700, 900, 1500])
def test_nothing_is_done_that_could_not_be_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    fleet = one(tmp_path, monkeypatch, "a", "b")
    header = one(tmp_path / "header", monkeypatch, "a", "b")
    header.begin()
    first = len(header.journal.read_bytes().splitlines(keepends=True)[0])
    patch(monkeypatch, fleet)
    # The limit is this process's and its children's: so each change is held against the journal
    # when it comes, and the scripts of the nodes write little.
    with (
        pytest.raises(UsageError, match="nothing is done that cannot be written down"),
        no_file_longer_than(first + room),
    ):
        fleet.begin()
    told = [record for record in journal.read(fleet.journal) if record.kind == "intent"]
    assert len(fleet.door.changing) <= len(told)
    assert sum(fleet.door.changing.values()) <= len(told)


# --- another run on the node ----------------------------------------------------------------


@contextlib.contextmanager
def held(fleet: Fleet, name: str) -> Iterator[threading.Event]:
    """Have another run hold a node's lock until the event is set."""
    gate, free = fleet.folder / f"gate-{name}", threading.Event()
    step = f": >{gate}.began; while [ ! -e {gate} ]; do sleep 0.01; done"
    topic = SampleTopic(steps=[step])
    node = Node(name=name, address="192.0.2.1")
    script = apply.script(node, topic.changes(node, None), (topic,), LATER, "0" * 16)  # type: ignore[arg-type]
    with fleet.node(name).machine.start(script) as other:
        while not Path(f"{gate}.began").exists():
            assert other.poll() is None
        try:
            yield free
        finally:
            gate.touch()
            other.communicate(timeout=20)


def test_a_node_that_another_run_holds_at_first_is_untouched_and_says_who(fleet: Fleet) -> None:
    with held(fleet, "a"):
        ended = fleet.begin()
    observe(fleet, ended)
    assert ended.stages["a"] == "untouched"
    assert "another by eve@desk" in fleet.ends[0].detail
    assert not fleet.told[0].unreachable


def test_a_node_that_another_run_takes_in_the_middle_is_waited_for(fleet: Fleet) -> None:
    others = contextlib.ExitStack()

    def before(name: str, verb: str, number: int) -> None:
        if (name, verb, number) == ("a", "clean", 1):
            others.enter_context(held(fleet, name))
        elif (name, verb, number) == ("a", "clean", 5):
            others.close()

    fleet.door.before = before
    ended = fleet.begin()
    observe(fleet, ended, restarts=1)
    assert set(ended.stages.values()) == {"done"}
    assert fleet.door.calls["a"] > CALLS
