"""Each node is in one batch; batches are no larger than asked, and never of two kinds."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise, repeat

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from nodeprep.errors import UsageError
from nodeprep.rollout.batches import (
    ORDERS,
    Order,
    Portion,
    batches,
    ordered,
    parse_batches,
    parse_portion,
)


def names(count: int, kind: str = "w") -> tuple[str, ...]:
    return tuple(f"{kind}{number}" for number in range(1, count + 1))


def cut(
    nodes: tuple[str, ...], sizes: str, *, canary: int = 0, order: Order = "control-plane-last"
) -> list[str]:
    """Return the batches as lines; control-plane nodes are those whose names begin with c."""
    control_plane = {node for node in nodes if node.startswith("c")}
    parsed = parse_batches(sizes)
    made = batches(nodes, control_plane, canary=canary, sizes=parsed, order=order)
    return [" ".join(batch) for batch in made]


# --- portions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "total", "count"),
    [
        ("10%", 50, 5),
        ("10%", 59, 5),
        ("10%", 5, 1),
        ("100%", 7, 7),
        ("99%", 7, 6),
        ("29%", 100, 29),
        ("3", 50, 3),
        ("3", 2, 3),
        (" 3 ", 50, 3),
    ],
)
def test_a_percentage_is_rounded_down_to_one_node_at_least(
    text: str, total: int, count: int
) -> None:
    assert parse_portion(text, "--batch").of(total) == count


@pytest.mark.parametrize("text", ["0", "0%", "00"])
def test_zero_is_zero_where_it_is_allowed_and_refused_elsewhere(text: str) -> None:
    assert parse_portion(text, "--max-failures", zero=True).of(50) == 0
    with pytest.raises(UsageError, match="no node at all"):
        parse_portion(text, "--batch")


@pytest.mark.parametrize(
    "text", ["", "-1", "101%", "x", "1.5", "10 %", "%", "1e3", "+1", "٣", "1_0", "1" * 7]
)
def test_anything_else_is_refused_with_what_to_type(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_portion(text, "--max-unavailable")
    assert refused.value.message.startswith(f"--max-unavailable: {text!r} is ")
    assert refused.value.hint == "--max-unavailable 1    --max-unavailable 10%"


def test_a_list_of_sizes_is_read_part_by_part() -> None:
    sizes = parse_batches("1, 10%,25%")
    assert sizes == (
        Portion(amount=1),
        Portion(amount=10, percent=True),
        Portion(amount=25, percent=True),
    )
    assert ",".join(map(str, sizes)) == "1,10%,25%"
    for text in ("", "1,", "1,,2", "1,0"):
        with pytest.raises(UsageError, match="--batch"):
            parse_batches(text)


# --- batches --------------------------------------------------------------------------------


def test_sizes_are_used_in_turn_and_the_last_one_again() -> None:
    assert cut(names(9), "1,2,3") == ["w1", "w2 w3", "w4 w5 w6", "w7 w8 w9"]
    assert [len(line.split()) for line in cut(names(50), "1,10%,25%")] == [1, 5, 12, 12, 12, 8]


def test_the_canary_comes_before_the_first_size() -> None:
    assert cut(names(6), "2,3", canary=1) == ["w1", "w2 w3", "w4 w5 w6"]


def test_the_canary_is_the_first_in_the_chosen_order() -> None:
    nodes = ("c1", "w1", "w2")
    assert cut(nodes, "9", canary=1)[0] == "w1"
    assert cut(nodes, "9", canary=1, order="control-plane-first")[0] == "c1"
    assert cut(nodes, "9", canary=1, order="inventory")[0] == "c1"


def test_a_batch_ends_where_control_plane_nodes_border_on_others() -> None:
    nodes = ("w1", "w2", "c1", "w3", "w4")
    assert cut(nodes, "4") == ["w1 w2 w3 w4", "c1"]
    assert cut(nodes, "4", order="control-plane-first") == ["c1", "w1 w2 w3 w4"]
    assert cut(nodes, "4", order="inventory") == ["w1 w2", "c1", "w3 w4"]
    assert cut(nodes, "4", canary=3, order="inventory")[0] == "w1 w2"


@pytest.mark.parametrize(("count", "most"), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (7, 3)])
def test_a_majority_of_the_control_plane_is_in_no_batch(count: int, most: int) -> None:
    made = cut(names(count, "c"), "100%", canary=9)
    assert max(len(line.split()) for line in made) == most


def test_control_plane_nodes_that_are_not_rolled_do_not_count() -> None:
    everywhere = set(names(7, "c"))
    size = (Portion(amount=7),)
    made = batches(names(3, "c"), everywhere, canary=0, sizes=size, order="inventory")
    assert [len(batch) for batch in made] == [1, 1, 1]


def test_no_nodes_make_no_batch() -> None:
    assert cut((), "1", canary=3) == []


@dataclass(frozen=True, kw_only=True)
class Case:
    """What an operator may ask for, over nodes of which some are control-plane nodes."""

    nodes: tuple[str, ...]
    canary: int
    sizes: tuple[Portion, ...]
    order: Order

    @property
    def control_plane(self) -> frozenset[str]:
        return frozenset(node for node in self.nodes if node.startswith("c"))

    @property
    def most(self) -> int:
        """How many control-plane nodes may be in one batch."""
        return max(1, (len(self.control_plane) - 1) // 2)

    @property
    def asked(self) -> Iterator[int]:
        """The size that each batch may have, without end."""
        sizes = [size.of(len(self.nodes)) for size in self.sizes]
        return chain([self.canary] * bool(self.canary), sizes, repeat(sizes[-1]))

    @cached_property
    def made(self) -> tuple[tuple[str, ...], ...]:
        return batches(
            self.nodes, self.control_plane, canary=self.canary, sizes=self.sizes, order=self.order
        )


def portion(chance: random.Random) -> Portion:
    percent = chance.random() < 0.5
    return Portion(amount=chance.randint(1, 100 if percent else 30), percent=percent)


def cases(seed: int) -> Iterator[Case]:
    """Yield a hundred cases: drawing each by itself would take most of the time."""
    chance = random.Random(seed)
    for _ in range(100):
        kinds = chance.choices("cw", (chance.random(), 0.5), k=chance.randint(0, 60))
        case = Case(
            nodes=tuple(f"{kind}{number}" for number, kind in enumerate(kinds)),
            canary=chance.randint(0, 5),
            sizes=tuple(portion(chance) for _ in range(chance.randint(1, 4))),
            order=chance.choice(ORDERS),
        )
        note(f"{case}")
        yield case


SEEDS = st.integers(0, 1 << 62)


@settings(max_examples=100)
@given(seed=SEEDS)
def test_each_node_of_10000_cases_is_in_one_batch_no_larger_than_allowed(seed: int) -> None:
    for case in cases(seed):
        together = tuple(node for batch in case.made for node in batch)
        assert together == ordered(case.nodes, case.control_plane, case.order)
        for batch, asked in zip(case.made, case.asked, strict=False):
            assert 1 <= len(batch) <= asked
            assert len(case.control_plane.intersection(batch)) in (0, len(batch))
            assert batch[0] not in case.control_plane or len(batch) <= case.most


@settings(max_examples=20)
@given(seed=SEEDS)
def test_no_batch_is_smaller_than_it_must_be(seed: int) -> None:
    for case in cases(seed):
        for (batch, following), asked in zip(pairwise(case.made), case.asked, strict=False):
            mastered = batch[-1] in case.control_plane
            borders = mastered != (following[0] in case.control_plane)
            assert len(batch) == asked or borders or (mastered and len(batch) == case.most)


@settings(max_examples=20)
@given(seed=SEEDS)
def test_the_order_turns_no_nodes_round_within_their_kind(seed: int) -> None:
    for case in cases(seed):
        line = ordered(case.nodes, case.control_plane, case.order)
        place = {node: number for number, node in enumerate(case.nodes)}
        for kind in "cw":
            places = [place[node] for node in line if node.startswith(kind)]
            assert places == sorted(places)
        assert sorted(line) == sorted(case.nodes)
        if case.order != "inventory":
            assert sum(one[0] != two[0] for one, two in pairwise(line)) <= 1
