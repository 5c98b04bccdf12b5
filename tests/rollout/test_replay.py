"""A roll that was cut short goes on, from what its journal says was being tried."""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeprep.rollout import replay
from nodeprep.rollout.machine import (
    FORWARD,
    Act,
    Begin,
    Continue,
    Effect,
    Ended,
    Event,
    Finish,
    Pause,
    Roll,
    Stop,
    Verb,
    Verdict,
    as_verb,
    roll,
    step,
)


@dataclass(frozen=True, kw_only=True)
class Record:
    """A line of a journal."""

    kind: str
    fields: Mapping[str, Any]


def told(*lines: str) -> tuple[Record, ...]:
    """Return records written as ``verb node`` for an intent, ``verb node verdict`` for its end."""
    return tuple(map(record, lines))


def record(line: str) -> Record:
    verb, node, *verdict = line.split()
    if not verdict:
        return Record(kind="intent", fields={"node": node, "verb": verb})
    return Record(kind="outcome", fields={"node": node, "verb": verb, "verdict": verdict[0]})


def rolled(batches: str, *, at_once: int = 1, max_failures: int = 0, pause_after: int = 0) -> Roll:
    cut = tuple(tuple(batch.split()) for batch in batches.split("|"))
    return roll(cut, at_once=at_once, max_failures=max_failures, pause_after=pause_after)


def resumed(*lines: str, batches: str = "a", at_once: int = 1, max_failures: int = 0) -> Roll:
    start = rolled(batches, at_once=at_once, max_failures=max_failures)
    return replay.resume(start, told(*lines))


def done(node: str) -> list[str]:
    return [line for verb in FORWARD for line in (f"{verb} {node}", f"{verb} {node} ok")]


def first_acts(state: Roll) -> list[str]:
    return [
        f"{effect.verb} {effect.node}" if isinstance(effect, Act) else type(effect).__name__
        for effect in step(state, Begin())[1]
    ]


# --- one node -------------------------------------------------------------------------------


def test_an_empty_journal_is_the_roll_at_its_start() -> None:
    assert resumed() == rolled("a")


@pytest.mark.parametrize("verb", FORWARD)
def test_a_node_whose_verb_has_no_end_begins_again(verb: Verb) -> None:
    behind = done("a")[: 2 * FORWARD.index(verb)]
    assert first_acts(resumed(*behind, f"{verb} a")) == ["switch a"]


@pytest.mark.parametrize("verb", FORWARD[:-1])
def test_a_node_between_two_verbs_begins_again(verb: Verb) -> None:
    behind = done("a")[: 2 * FORWARD.index(verb) + 2]
    assert first_acts(resumed(*behind)) == ["switch a"]


def test_a_node_that_failed_and_was_not_sent_back_yet_begins_again() -> None:
    assert first_acts(resumed("switch a", "switch a failed")) == ["switch a"]


def test_a_node_on_its_way_back_goes_back() -> None:
    assert first_acts(resumed("switch a", "switch a failed", "back a")) == ["back a"]


def test_a_node_that_is_done_stays_done() -> None:
    state = resumed(*done("a"))
    assert state.stages["a"] == "done"
    assert first_acts(state) == ["Finish"]


def test_a_node_that_was_in_the_target_mode_stays_as_it_is() -> None:
    start = roll((("a", "b"),), already=["a"])
    assert replay.resume(start, told("switch b")).stages == {"a": "already", "b": "switch"}


ENDED = {
    "untouched": ("switch a", "switch a untouched"),
    "lost": ("switch a", "switch a lost"),
    "returned by itself": ("switch a", "switch a returned"),
    "returned": ("switch a", "switch a failed", "back a", "back a ok"),
    "lost on its way back": ("switch a", "switch a failed", "back a", "back a lost"),
    "in need of an operator": ("switch a", "switch a failed", "back a", "back a failed"),
}


@pytest.mark.parametrize("lines", ENDED.values(), ids=ENDED)
def test_a_node_that_ended_otherwise_waits_again(lines: tuple[str, ...]) -> None:
    state = resumed(*lines)
    assert state.stages["a"] == "waiting"
    assert not state.halted


# --- nodes that nobody has verified ---------------------------------------------------------


UNVERIFIED = {
    "lost": ("switch a", "switch a lost"),
    "in need of an operator": ("switch a", "switch a failed", "back a", "back a failed"),
    "in hand": ("switch a",),
    "between two verbs": ("switch a", "switch a ok"),
    "in hand twice": ("switch a", "switch a", "switch a untouched"),
}


@pytest.mark.parametrize("lines", UNVERIFIED.values(), ids=UNVERIFIED)
def test_a_node_that_was_left_somewhere_is_never_called_untouched(lines: tuple[str, ...]) -> None:
    state, _ = step(resumed(*lines), Begin())
    _, effects = step(state, Ended(node="a", verb="switch", verdict="untouched"))
    assert effects == (Act(node="a", verb="back"),)


@pytest.mark.parametrize("how", ["untouched", "returned by itself", "returned"])
def test_a_node_that_is_as_it_was_may_be_called_untouched(how: str) -> None:
    state, _ = step(resumed(*ENDED[how]), Begin())
    state, _ = step(state, Ended(node="a", verb="switch", verdict="untouched"))
    assert state.stages["a"] == "untouched"


# --- many nodes -----------------------------------------------------------------------------


def test_nodes_that_were_in_hand_come_first_and_fill_the_hand() -> None:
    state = resumed("switch b", "switch c", batches="a b c d", at_once=2)
    assert first_acts(state) == ["switch b", "switch c"]


@pytest.mark.parametrize("verdict", ["ok", "failed"])
def test_a_node_between_two_verbs_was_in_hand(verdict: str) -> None:
    state = resumed("switch b", f"switch b {verdict}", batches="a b")
    assert first_acts(state) == ["switch b"]


def test_room_that_is_left_is_filled_from_their_batch() -> None:
    state = resumed("switch b", batches="a b | c", at_once=3)
    assert first_acts(state) == ["switch b", "switch a"]


def test_a_node_in_hand_ends_before_an_earlier_batch_is_taken_up_again() -> None:
    lines = ("switch a", "switch a lost", "switch b")
    state = resumed(*lines, batches="a | b c", at_once=3, max_failures=1)
    assert first_acts(state) == ["switch b"]
    state, _ = step(state, Begin())
    _, effects = step(state, Ended(node="b", verb="switch", verdict="returned"))
    assert effects == (Act(node="a", verb="switch"),)


def test_failures_before_the_resume_no_longer_count() -> None:
    state = resumed("switch a", "switch a lost", batches="a b")
    assert (state.failures, first_acts(state)) == (0, ["switch a"])


def test_to_resume_is_to_say_yes_to_the_pause() -> None:
    start = rolled("a | b", pause_after=1)
    assert first_acts(replay.resume(start, told(*done("a")))) == ["Pause"]
    paused = Record(kind="event", fields={"what": "pause", "reason": "why"})
    assert first_acts(replay.resume(start, (*told(*done("a")), paused))) == ["switch b"]


def test_a_stop_before_the_resume_is_over() -> None:
    stopped = Record(kind="event", fields={"what": "stop", "reason": "interrupt"})
    assert first_acts(replay.resume(rolled("a"), [stopped])) == ["switch a"]


@pytest.mark.parametrize("line", ["switch x", "fly a", "switch a maybe", "waiting a ok"])
def test_records_of_another_roll_are_a_defect(line: str) -> None:
    with pytest.raises(ValueError, match=r"not in the roll|no verb|no verdict"):
        resumed(line)


# --- what is written down -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("happening", "kind", "fields"),
    [
        (Begin(), "event", {"what": "begin"}),
        (Continue(), "event", {"what": "continue"}),
        (Stop(reason="why"), "event", {"what": "stop", "reason": "why"}),
        (Pause(reason="why"), "event", {"what": "pause", "reason": "why"}),
        (Act(node="a", verb="soak"), "intent", {"node": "a", "verb": "soak"}),
        (
            Ended(node="a", verb="switch", verdict="failed", detail="no ipset"),
            "outcome",
            {
                "node": "a",
                "verb": "switch",
                "verdict": "failed",
                "detail": "no ipset",
                "stage": "back",
            },
        ),
        (Finish(), "end", {"how": "stopped"}),
    ],
)
def test_each_event_and_effect_has_its_record(
    happening: Event | Effect, kind: str, fields: dict[str, Any]
) -> None:
    state = replace(rolled("a b"), stages={"a": "back", "b": "waiting"})
    assert replay.note(happening, state) == (kind, fields)


def test_a_roll_reads_back_from_its_header() -> None:
    start = roll((("a", "b"), ("c",)), at_once=2, max_failures=3, pause_after=1, already=["b"])
    header = json.loads(json.dumps({"to": "ipvs", **replay.to_fields(start)}))
    assert replay.from_fields(header) == start


# --- killed anywhere ------------------------------------------------------------------------


@dataclass
class World:
    """Nodes as verbs leave them: which modes stand there, and whether the way back is armed."""

    modes: dict[str, str]
    armed: set[str] = field(default_factory=set)

    def perform(self, node: str, verb: Verb) -> None:
        """Do what is still missing. A verb that comes out of its turn is a defect."""
        if verb == "switch":
            self.armed.add(node)
            if self.modes[node] == "old":
                self.modes[node] = "both"
        elif verb == "back":
            self.modes[node] = "old"
            self.armed.discard(node)
        else:
            assert node in self.armed
            if verb == "clean":
                self.modes[node] = "new"
            if verb == "settle":
                assert self.modes[node] == "new"
                self.armed.remove(node)

    def copy(self) -> "World":
        return World(modes=dict(self.modes), armed=set(self.armed))


@dataclass
class Controller:
    """One session after the other over the same nodes, each killed after so many records."""

    start: Roll
    chance: random.Random
    trouble: float = 0.0
    journal: list[Record] = field(default_factory=list)
    worlds: list[World] = field(default_factory=list)
    """The nodes as they were when each record had just been written."""

    def session(self, world: World, limit: int | None = None) -> Roll | None:
        """Go on from the journal to the end, or until ``limit`` records are written: then None."""
        state = replay.resume(self.start, self.journal)
        event: Event = Begin()
        in_hand: list[Act] = []
        end = len(self.journal) + limit if limit is not None else None
        while True:
            state, effects = step(state, event)
            for happening in (event, *effects):
                if len(self.journal) == end:
                    self.go_on_alone(world, in_hand)
                    return None
                self.write(happening, state, world)
                if isinstance(happening, Act):
                    in_hand.append(happening)
            if Finish() in effects:
                return state
            event = self.outcome(world, in_hand)

    def write(self, happening: Event | Effect, state: Roll, world: World) -> None:
        kind, fields = replay.note(happening, state)
        self.journal.append(Record(kind=kind, fields=json.loads(json.dumps(fields))))
        self.worlds.append(world.copy())

    def outcome(self, world: World, in_hand: list[Act]) -> Event:
        act = in_hand.pop(self.chance.randrange(len(in_hand)))
        if self.chance.random() < self.trouble:
            verdict: Verdict = self.chance.choice(("failed", "lost"))
            return Ended(node=act.node, verb=act.verb, verdict=verdict)
        world.perform(act.node, act.verb)
        return Ended(node=act.node, verb=act.verb, verdict="ok")

    def go_on_alone(self, world: World, in_hand: list[Act]) -> None:
        """Let nodes finish, or not, what a controller that was killed had begun on them."""
        for act in in_hand:
            if self.chance.random() < 0.5:
                world.perform(act.node, act.verb)


def cut_at(controller: Controller, place: int) -> tuple[Controller, World]:
    """Return what is there when the controller is killed after so many records."""
    chance = random.Random(place)
    world = controller.worlds[place - 1].copy()
    journal = controller.journal[:place]
    last = {line.fields["node"]: line for line in journal if "node" in line.fields}
    pending = [line for line in last.values() if line.kind == "intent"]
    cut = Controller(start=controller.start, chance=chance, journal=journal)
    acts = [Act(node=p.fields["node"], verb=as_verb(p.fields["verb"])) for p in pending]
    cut.go_on_alone(world, acts)
    return cut, world


def controllers(seed: int, trouble: float) -> Iterator[tuple[Controller, World]]:
    chance = random.Random(seed)
    for _ in range(3):
        cut = tuple(
            tuple(f"n{number}.{place}" for place in range(chance.randint(1, 3)))
            for number in range(chance.randint(1, 3))
        )
        start = roll(cut, at_once=chance.randint(1, 3), max_failures=chance.randint(0, 3))
        world = World(modes={node: "old" for batch in cut for node in batch})
        yield Controller(start=start, chance=chance, trouble=trouble), world


def all_done(state: Roll | None, world: World) -> bool:
    assert state is not None
    assert set(state.stages.values()) == {"done"}
    assert set(world.modes.values()) == {"new"}
    return not world.armed


SEEDS = st.integers(0, 1 << 62)


@settings(max_examples=10)
@given(seed=SEEDS)
def test_killed_after_any_record_the_roll_goes_on_to_all_done(seed: int) -> None:
    for whole, nodes in controllers(seed, 0.0):
        assert whole.session(nodes)
        for place in range(1, len(whole.journal) + 1):
            cut, world = cut_at(whole, place)
            assert all_done(cut.session(world), world)


@settings(max_examples=25)
@given(seed=SEEDS)
def test_killed_again_and_again_the_roll_goes_on_to_all_done(seed: int) -> None:
    for controller, world in controllers(seed, 0.0):
        while (state := controller.session(world, controller.chance.randint(1, 20))) is None:
            assert len(controller.journal) < 10_000
        assert all_done(state, world)


@settings(max_examples=25)
@given(seed=SEEDS)
def test_after_trouble_and_kills_resuming_brings_every_node_to_its_end(seed: int) -> None:
    for controller, world in controllers(seed, 0.2):
        for _ in range(3):
            controller.session(world, controller.chance.randint(1, 40))
        controller.trouble = 0.0
        # Nodes that were on their way back end as returned first, and wait for one more resume.
        controller.session(world)
        assert all_done(controller.session(world), world)


@settings(max_examples=25)
@given(seed=SEEDS)
def test_no_session_has_more_nodes_in_hand_than_allowed(seed: int) -> None:
    for controller, world in controllers(seed, 0.1):
        for _ in range(5):
            controller.session(world, controller.chance.randint(1, 30))
            state = replay.resume(controller.start, controller.journal)
            assert len(state.in_hand) <= state.at_once
            batches = [set(batch) for batch in state.batches]
            assert sum(not batch.isdisjoint(state.in_hand) for batch in batches) <= 1
