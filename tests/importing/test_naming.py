"""Names that our inventory does not allow, and what takes their place."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.importing.imported import Imported, Machine
from nodeprep.importing.naming import is_group, is_name, like_a_group, like_a_name, renamed

NAMES = st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=8, unique=True)


def names(*given_: str) -> list[str]:
    machines = tuple(Machine(name=name, address="192.0.2.1") for name in given_)
    return [machine.name for machine in renamed(Imported(machines=machines)).machines]


@pytest.mark.parametrize(
    ("name", "like"),
    [
        ("db primary", "db-primary"),
        ("_gateway_", "gateway"),
        ("fd00::1", "fd00-1"),
        ("a..b", "a.b"),
        ("\u00e4\u00f6", "node"),
        ("a" * 300, "a" * 253),
    ],
)
def test_a_name_of_a_node_stays_recognizable(name: str, like: str) -> None:
    assert like_a_name(name) == like


@pytest.mark.parametrize(
    ("name", "like"),
    [("k8s cluster", "k8s_cluster"), ("-x", "x"), ("@", "_"), ("", "group"), ("g" * 70, "g" * 64)],
)
def test_a_name_of_a_group_stays_recognizable(name: str, like: str) -> None:
    assert like_a_group(name) == like


def test_names_that_differ_in_capital_letters_only_are_one_name_for_us() -> None:
    assert names("Web", "web", "WEB") == ["Web", "web-2", "WEB-3"]


def test_who_may_keep_a_name_keeps_it() -> None:
    assert names("db 1", "db-1") == ["db-1-2", "db-1"]


def test_each_change_is_a_note() -> None:
    machine = Machine(name="a b", address="192.0.2.1", groups=("c d",))
    notes = [note.message for note in renamed(Imported(machines=(machine,))).notes]
    assert [note.split(" is called ")[0] for note in notes] == ["the node `a b`", "the group `c d`"]


@given(NAMES)
def test_any_names_become_as_many_allowed_ones(given_: list[str]) -> None:
    found = names(*given_)
    assert len({name.lower() for name in found}) == len(given_)
    assert all(map(is_name, found))


@given(NAMES)
def test_any_groups_become_as_many_allowed_ones(groups: list[str]) -> None:
    machine = Machine(name="x", address="192.0.2.1", groups=tuple(groups))
    (found,) = renamed(Imported(machines=(machine,))).machines
    assert len(set(found.groups)) == len(groups)
    assert all(map(is_group, found.groups))
