"""What a roll does next, after each thing that can happen to it."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from nodeprep.rollout.machine import (
    ENDS,
    FORWARD,
    GOOD,
    VERBS,
    Act,
    Begin,
    Continue,
    Effect,
    Ended,
    Ending,
    Event,
    Finish,
    Pause,
    Roll,
    Stage,
    Stop,
    Verb,
    Verdict,
    as_verb,
    ending,
    roll,
    step,
)


@dataclass
class Session:
    """A roll under way, and everything that it asked for."""

    roll: Roll
    effects: list[Effect]

    def tell(self, event: Event) -> tuple[str, ...]:
        """Tell of an event; return what is to be done as ``verb node``, ``pause``, ``finish``."""
        self.roll, effects = step(self.roll, event)
        self.effects.extend(effects)
        return tuple(map(shown, effects))

    def ended(self, said: str, verdict: Verdict = "ok") -> tuple[str, ...]:
        """Tell of the end of ``verb node``."""
        verb, node = said.split()
        return self.tell(Ended(node=node, verb=as_verb(verb), verdict=verdict))

    def through(self, node: str, *verbs: Verb) -> tuple[str, ...]:
        """Let verbs end well on a node; return what the last one led to."""
        came: tuple[str, ...] = ()
        for verb in verbs:
            came = self.ended(f"{verb} {node}")
        return came

    def stage(self, node: str) -> Stage:
        return self.roll.stages[node]


def shown(effect: Effect) -> str:
    if isinstance(effect, Act):
        return f"{effect.verb} {effect.node}"
    return type(effect).__name__.lower()


def begun(
    batches: str, *, at_once: int = 1, max_failures: int = 0, pause_after: int = 0
) -> Session:
    """Begin a roll over batches such as ``a b | c``."""
    cut = tuple(tuple(batch.split()) for batch in batches.split("|"))
    start = roll(cut, at_once=at_once, max_failures=max_failures, pause_after=pause_after)
    session = Session(roll=start, effects=[])
    session.tell(Begin())
    return session


def said(session: Session) -> list[str]:
    return list(map(shown, session.effects))


# --- one node -------------------------------------------------------------------------------


def test_a_node_goes_through_all_verbs_to_its_end() -> None:
    session = begun("a")
    assert said(session) == ["switch a"]
    assert session.through("a", *FORWARD) == ("finish",)
    assert said(session) == [*(f"{verb} a" for verb in FORWARD), "finish"]
    assert session.stage("a") == "done"
    assert ending(session.roll) == "done"


@pytest.mark.parametrize("verb", FORWARD)
def test_a_verb_that_fails_sends_the_node_back(verb: Verb) -> None:
    session = begun("a")
    session.through("a", *FORWARD[: FORWARD.index(verb)])
    assert session.ended(f"{verb} a", "failed") == ("back a",)
    assert session.ended("back a") == ("finish",)
    assert session.stage("a") == "returned"
    assert ending(session.roll) == "failed"


def test_a_way_back_that_fails_needs_an_operator() -> None:
    session = begun("a")
    session.ended("switch a", "failed")
    assert session.ended("back a", "failed") == ("finish",)
    assert session.stage("a") == "needs-operator"
    assert ending(session.roll) == "needs-operator"


@pytest.mark.parametrize("verdict", ["lost", "returned"])
@pytest.mark.parametrize("verb", VERBS)
def test_from_every_verb_a_node_may_be_lost_or_go_back_by_itself(
    verb: Verb, verdict: Verdict
) -> None:
    session = begun("a")
    if verb == "back":
        session.ended("switch a", "failed")
    else:
        session.through("a", *FORWARD[: FORWARD.index(verb)])
    assert session.ended(f"{verb} a", verdict) == ("finish",)
    assert session.stage("a") == verdict


def test_a_node_that_nothing_was_done_to_is_left_untouched() -> None:
    session = begun("a")
    assert session.ended("switch a", "untouched") == ("finish",)
    assert session.stage("a") == "untouched"


@pytest.mark.parametrize("verb", ["linger", "clean", "soak", "settle", "back"])
def test_only_a_switch_leaves_a_node_untouched(verb: Verb) -> None:
    session = begun("a")
    if verb == "back":
        session.ended("switch a", "failed")
    else:
        session.through("a", *FORWARD[: FORWARD.index(verb)])
    with pytest.raises(ValueError, match="cannot happen"):
        session.ended(f"{verb} a", "untouched")


# --- many nodes -----------------------------------------------------------------------------


def test_so_many_nodes_of_a_batch_are_in_hand_and_the_next_follows_an_end() -> None:
    session = begun("a b c", at_once=2)
    assert said(session) == ["switch a", "switch b"]
    assert session.through("b", *FORWARD) == ("switch c",)


def test_the_next_batch_begins_when_every_node_of_the_batch_has_ended() -> None:
    session = begun("a b | c d", at_once=4)
    assert said(session) == ["switch a", "switch b"]
    assert session.through("a", *FORWARD) == ()
    assert session.through("b", *FORWARD) == ("switch c", "switch d")


def test_nodes_in_the_target_mode_are_not_begun_and_are_no_failure() -> None:
    session = Session(roll=roll((("a", "b"), ("c",)), already=("a", "c")), effects=[])
    session.tell(Begin())
    session.through("b", *FORWARD)
    assert {act.node for act in session.effects if isinstance(act, Act)} == {"b"}
    assert ending(session.roll) == "done"


@pytest.mark.parametrize("already", ["", "a b"])
def test_a_roll_with_nothing_to_do_finishes_at_once(already: str) -> None:
    nodes = tuple(already.split())
    assert step(roll((nodes,), already=nodes), Begin())[1] == (Finish(),)


# --- failures -------------------------------------------------------------------------------


def test_by_default_the_first_failure_is_the_last_node() -> None:
    session = begun("a b")
    assert session.ended("switch a", "untouched") == ("finish",)
    assert session.stage("b") == "waiting"


@pytest.mark.parametrize("verdict", ["untouched", "lost", "returned"])
def test_as_many_failures_as_allowed_let_the_roll_go_on(verdict: Verdict) -> None:
    session = begun("a | b | c", max_failures=1)
    assert session.ended("switch a", verdict) == ("switch b",)
    assert session.ended("switch b", verdict) == ("finish",)
    assert session.stage("c") == "waiting"


def test_nodes_in_hand_are_finished_when_too_many_have_failed() -> None:
    session = begun("a b c", at_once=2)
    assert session.ended("switch a", "lost") == ()
    assert session.through("b", *FORWARD) == ("finish",)
    assert (session.stage("b"), session.stage("c")) == ("done", "waiting")


def test_a_node_that_needs_an_operator_is_the_last_whatever_is_allowed() -> None:
    session = begun("a b", max_failures=9)
    session.ended("switch a", "failed")
    assert session.ended("back a", "failed") == ("finish",)
    assert session.stage("b") == "waiting"


# --- pauses ---------------------------------------------------------------------------------


def test_after_so_many_batches_the_operator_is_asked_once() -> None:
    session = begun("a | b | c | d", pause_after=2)
    assert session.through("a", *FORWARD) == ("switch b",)
    assert session.through("b", *FORWARD) == ("pause",)
    assert session.tell(Continue()) == ("switch c",)
    assert session.through("c", *FORWARD) == ("switch d",)
    assert session.through("d", *FORWARD) == ("finish",)


def test_a_pause_says_how_far_the_roll_is() -> None:
    session = begun("a | b", pause_after=1)
    session.through("a", *FORWARD)
    assert session.effects[-1] == Pause(reason="1 of 2 batches have ended")


def test_a_no_to_a_pause_ends_the_roll() -> None:
    session = begun("a | b", pause_after=1)
    session.through("a", *FORWARD)
    assert session.tell(Stop(reason="the operator said no")) == ("finish",)
    assert (session.stage("b"), ending(session.roll)) == ("waiting", "stopped")


def test_nobody_is_asked_when_nothing_is_left_or_nothing_may_be_begun() -> None:
    assert begun("a", pause_after=1).through("a", *FORWARD) == ("finish",)
    assert begun("a | b", pause_after=1).ended("switch a", "lost") == ("finish",)


# --- stops ----------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["switch", "linger"])
def test_a_node_that_still_has_its_old_mode_goes_back_after_a_stop(verb: Verb) -> None:
    session = begun("a b")
    session.through("a", *FORWARD[: FORWARD.index(verb)])
    assert session.tell(Stop(reason="interrupt")) == ()
    assert session.ended(f"{verb} a") == ("back a",)
    assert session.ended("back a") == ("finish",)
    assert ending(session.roll) == "stopped"


@pytest.mark.parametrize("verb", ["clean", "soak", "settle"])
def test_a_node_whose_old_mode_is_being_cleaned_goes_on_to_its_end(verb: Verb) -> None:
    session = begun("a b")
    behind = FORWARD.index(verb)
    session.through("a", *FORWARD[:behind])
    session.tell(Stop(reason="interrupt"))
    assert session.through("a", *FORWARD[behind:]) == ("finish",)
    assert (session.stage("a"), session.stage("b")) == ("done", "waiting")
    assert ending(session.roll) == "stopped"


def test_a_stop_may_come_before_the_beginning_twice_and_after_the_end() -> None:
    session = Session(roll=roll((("a",),)), effects=[])
    assert session.tell(Stop(reason="first")) == ()
    assert session.tell(Stop(reason="second")) == ()
    assert session.tell(Begin()) == ("finish",)
    assert session.tell(Stop(reason="third")) == ()
    assert session.roll.stopping == "first"


def test_a_stop_that_changed_nothing_is_not_how_the_roll_ended() -> None:
    session = begun("a")
    session.through("a", "switch", "linger")
    session.tell(Stop(reason="interrupt"))
    session.through("a", "clean", "soak", "settle")
    assert ending(session.roll) == "done"


# --- what cannot be -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "event",
    [
        Begin(),
        Continue(),
        Ended(node="a", verb="clean", verdict="ok"),
        Ended(node="a", verb="back", verdict="ok"),
        Ended(node="b", verb="switch", verdict="ok"),
        Ended(node="stranger", verb="switch", verdict="ok"),
    ],
)
def test_an_event_that_cannot_be_is_a_defect(event: Event) -> None:
    session = begun("a b")
    with pytest.raises(ValueError, match="cannot happen in a roll that is rolling"):
        session.tell(event)


def test_nothing_ends_before_the_beginning_or_after_the_end() -> None:
    switched = Ended(node="a", verb="switch", verdict="lost")
    with pytest.raises(ValueError, match="roll that is new"):
        step(roll((("a",),)), switched)
    session = begun("a")
    session.tell(switched)
    with pytest.raises(ValueError, match="roll that is finished"):
        session.tell(switched)


def test_a_roll_that_cannot_be_is_a_defect() -> None:
    with pytest.raises(ValueError, match="one node in hand or more"):
        roll((("a",),), at_once=0)
    with pytest.raises(ValueError, match="no number below zero"):
        roll((("a",),), max_failures=-1)
    with pytest.raises(ValueError, match="two batches"):
        roll((("a",), ("a",)))
    with pytest.raises(ValueError, match="no verb: waiting"):
        as_verb("waiting")


# --- any order of events --------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Journey:
    """A roll, and the chance that decides what happens to it."""

    start: Roll
    chance: random.Random
    trouble: float
    stops: float


def started(chance: random.Random) -> Roll:
    """Return some roll at its start: up to four batches of up to four nodes."""
    cut = tuple(
        tuple(f"n{number}.{place}" for place in range(chance.randint(0, 4)))
        for number in range(chance.randint(0, 4))
    )
    nodes = [node for batch in cut for node in batch]
    return roll(
        cut,
        at_once=chance.randint(1, 4),
        max_failures=chance.randint(0, 4),
        pause_after=chance.randint(0, 3),
        already=chance.sample(nodes, len(nodes) // 5),
    )


def journeys(seed: int) -> Iterator[Journey]:
    """Yield a hundred journeys: drawing each by itself would take most of the time."""
    chance = random.Random(seed)
    for _ in range(100):
        journey = Journey(
            start=started(chance),
            chance=chance,
            trouble=chance.choice((0.0, 0.05, 0.3)),
            stops=chance.choice((0.0, 0.03)),
        )
        note(f"{journey}")
        yield journey


TROUBLE: tuple[Verdict, ...] = ("failed", "lost", "returned")


def happened(roll: Roll, journey: Journey) -> Event:
    """Return something that may happen to a roll that is under way."""
    chance = journey.chance
    if roll.phase == "new":
        return Begin()
    if chance.random() < journey.stops:
        return Stop(reason="any")
    if roll.phase == "paused":
        return Continue() if chance.random() < 0.8 else Stop(reason="no")
    node = chance.choice(roll.in_hand)
    verb = as_verb(roll.stages[node])
    if chance.random() >= journey.trouble:
        return Ended(node=node, verb=verb, verdict="ok")
    verdicts = (*TROUBLE, "untouched") if verb == "switch" else TROUBLE
    return Ended(node=node, verb=verb, verdict=chance.choice(verdicts))


def check_one_step(before: Roll, after: Roll, effects: tuple[Effect, ...]) -> None:
    """What holds in every step of every roll."""
    fresh = [
        act.node for act in effects if isinstance(act, Act) and before.stages[act.node] == "waiting"
    ]
    in_hand = after.in_hand
    assert len(in_hand) <= after.at_once
    assert sum(not set(in_hand).isdisjoint(batch) for batch in after.batches) <= 1
    assert not (fresh and after.halted)
    assert not (fresh and before.phase == "finished")
    for node, stage in before.stages.items():
        assert after.stages[node] == stage or stage not in ENDS
    for node in fresh:
        place = next(number for number, batch in enumerate(after.batches) if node in batch)
        earlier = after.batches[:place]
        assert all(after.stages[other] in ENDS for batch in earlier for other in batch)


@settings(max_examples=100)
@given(seed=st.integers(0, 1 << 62))
def test_whatever_happens_to_10000_rolls_the_rules_hold_and_they_finish(seed: int) -> None:
    for journey in journeys(seed):
        now, effects = gone_through(journey)
        assert len(set(effects)) == len(effects), "nothing is asked for twice"
        assert effects[-1] == Finish()
        assert Finish() not in effects[:-1]
        assert all(stage in ENDS or stage == "waiting" for stage in now.stages.values())
        assert now.halted or not now.waiting
        check_the_ending(now, ending(now))


def gone_through(journey: Journey) -> tuple[Roll, list[Effect]]:
    """Take a roll to its end, and look at each step."""
    now, effects = journey.start, list[Effect]()
    while now.phase != "finished":
        after, due = step(now, happened(now, journey))
        check_one_step(now, after, due)
        effects.extend(due)
        now = after
    return now, effects


def check_the_ending(now: Roll, how: Ending) -> None:
    good = all(stage in GOOD for stage in now.stages.values())
    assert (how == "done") == good
    assert how != "stopped" or now.stopping is not None
    assert (how == "needs-operator") == ("needs-operator" in now.stages.values())
