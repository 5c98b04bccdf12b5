"""Folded rows: neighbours that count on together, names and addresses alike."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.importing.imported import Machine, Settings
from nodeprep.importing.rows import entries, folded
from nodeprep.inventory import expand


def rows(*pairs: tuple[str, str], own: tuple[Settings, ...] = ()) -> list[tuple[str, str]]:
    machines = [Machine(name=name, address=address) for name, address in pairs]
    return [(e.name, e.address) for e in entries(machines, own or [{}] * len(machines))]


def numbered(name: str, address: str, numbers: range, shift: int = 0) -> list[tuple[str, str]]:
    return [(name.format(n), address.format(n + shift)) for n in numbers]


@pytest.mark.parametrize(
    ("texts", "pattern"),
    [
        ("w1 w2 w3", "w[1-3]"),
        ("w08 w09 w10", "w[08-10]"),
        ("w8 w9 w10", "w[8-10]"),
        ("w1 w3 w5", "w[1-5/2]"),
        ("10.0.0.1 10.0.0.2", "10.0.0.[1-2]"),
        ("fd00::1 fd00::2", "fd00::[1-2]"),
        ("r1n1 r1n2", "r1n[1-2]"),
        ("w1", "w1"),
        ("w2 w1", None),
        ("w1 w1", None),
        ("w1 w2 w4", None),
        ("w9 w010", None),
        ("a1 b2", None),
        ("fd00::9 fd00::a", None),
        ("10.0.0.255 10.0.1.0", None),
    ],
)
def test_texts_that_count_up_fold(texts: str, pattern: str | None) -> None:
    assert folded(texts.split()) == pattern


def test_names_and_addresses_fold_together() -> None:
    pairs = numbered("worker{:02d}", "10.0.0.{}", range(1, 41), 10)
    assert rows(*pairs) == [("worker[01-40]", "10.0.0.[11-50]")]


def test_two_are_not_folded() -> None:
    pairs = numbered("w{}", "10.0.0.{}", range(1, 3))
    assert rows(*pairs) == pairs


def test_where_addresses_take_another_turn_a_new_row_begins() -> None:
    pairs = [*numbered("w{}", "10.0.0.{}", range(1, 4)), *numbered("w{}", "10.0.1.{}", range(4, 8))]
    assert rows(*pairs) == [("w[1-3]", "10.0.0.[1-3]"), ("w[4-7]", "10.0.1.[4-7]")]


def test_names_without_addresses_of_their_own_fold_too() -> None:
    assert rows(*numbered("w{}", "w{}", range(1, 4))) == [("w[1-3]", "w[1-3]")]


def test_machines_with_one_address_and_several_ports_are_not_folded() -> None:
    pairs = numbered("w{}", "127.0.0.1", range(1, 4))
    assert rows(*pairs) == pairs


def test_settings_of_its_own_keep_a_machine_out_of_a_row() -> None:
    pairs = numbered("w{}", "w{}", range(1, 8))
    own: tuple[Settings, ...] = tuple({("ssh", "port"): 1} if n == 4 else {} for n in range(1, 8))
    assert [name for name, _ in rows(*pairs, own=own)] == ["w[1-3]", "w4", "w[5-7]"]


ONE = st.from_regex(r"(w|db-)[0-9]{1,2}(\.[0-9]{1,2})?", fullmatch=True)
WHERE = st.from_regex(r"10\.0\.[0-9]\.[0-9]{1,3}", fullmatch=True)
PAIRS = st.lists(st.tuples(ONE, WHERE), max_size=30) | st.builds(
    numbered,
    st.sampled_from(["w{}", "w{:03d}", "r1n{}x"]),
    st.sampled_from(["10.0.0.{}", "10.{}.0.1", "fd00::{}"]),
    st.builds(range, st.integers(0, 12), st.integers(12, 40), st.integers(1, 4)),
    st.integers(0, 5),
)


@given(PAIRS)
def test_rows_stand_for_the_same_machines_in_the_same_order(pairs: list[tuple[str, str]]) -> None:
    found = [
        pair
        for name, address in rows(*pairs)
        for pair in zip(expand(name), expand(address), strict=True)
    ]
    assert found == pairs
