"""Folded names: what a pattern stands for, and that folding and expanding undo each other."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.errors import UsageError
from nodeprep.inventory import expand, fold

NAME = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,6}[a-z0-9])?", fullmatch=True)
ALIKE = st.from_regex(r"(w|db-)[0-9]{1,3}(n[0-9]{1,2})?(\.x)?", fullmatch=True)
NAMES = st.lists(NAME | ALIKE, min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("web", "web"),
        ("w[1-3]", "w1 w2 w3"),
        ("w[08-10]", "w08 w09 w10"),
        ("w[1,3,7-8]x", "w1x w3x w7x w8x"),
        ("w[0-10/5]", "w0 w5 w10"),
        ("w[5]", "w5"),
        ("[0-1]a[0-1]", "0a0 0a1 1a0 1a1"),
        ("10.0.[1-2].[9-10]", "10.0.1.9 10.0.1.10 10.0.2.9 10.0.2.10"),
        ("a,b[1-2],c", "a b1 b2 c"),
    ],
)
def test_a_pattern_stands_for_names(pattern: str, names: str) -> None:
    assert expand(pattern) == tuple(names.split())


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("", "a name is empty"),
        ("a,,b", "a name is empty"),
        ("w[]", "is no range"),
        ("w[1,]", "is no range"),
        ("w[a-b]", "is no range"),
        ("w[1-2-3]", "is no range"),
        ("w[-1]", "is no range"),
        ("w[1-\u0663]", "is no range"),
        ("w[" + "9" * 19 + "]", "is no range"),
        ("w[3-1]", "runs backwards"),
        ("w[1-3/0]", "a step of 0"),
        ("w[01-100]", "mixes widths"),
        ("w[1,02]", "mixes widths"),
        ("w[1-2", "not closed"),
        ("w1-2]", "not closed"),
        ("w[[1-2]]", "not closed"),
        ("w[0-100000]", "more than 100000 names"),
        ("w[0-999999999999999999][0-999999999999999999]", "more than 100000 names"),
    ],
)
def test_a_pattern_that_cannot_be_read_is_refused(pattern: str, said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        expand(pattern)


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        ("", ""),
        ("web", "web"),
        ("node1 node2 node3", "node[1-3]"),
        ("node3 node1 node2 node1", "node[1-3]"),
        ("n1 n2 n4", "n[1-2,4]"),
        ("n08 n09 n10", "n[08-10]"),
        ("n8 n9 n10", "n[8-10]"),
        ("n1 n01", "n01,n1"),
        ("r1n1 r1n2 r2n1 r2n2", "r[1-2]n[1-2]"),
        ("r1n1 r1n2 r2n1", "r1n[1-2],r2n1"),
        ("w1.a w2.a w10.b", "w[1-2].a,w10.b"),
        ("10.0.0.9 10.0.0.10", "10.0.0.[9-10]"),
        ("b2 a10 a9", "a[9-10],b2"),
    ],
)
def test_names_fold_to_a_pattern(names: str, folded: str) -> None:
    assert fold(names.split()) == folded


@given(NAMES)
def test_expanding_gives_back_exactly_the_folded_names(names: list[str]) -> None:
    expanded = expand(fold(names))
    assert len(expanded) == len(set(expanded))
    assert set(expanded) == set(names)


@given(NAMES)
def test_folding_does_not_depend_on_order(names: list[str]) -> None:
    assert fold(reversed(names)) == fold(names)


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 4))
def test_a_folded_row_folds_back_to_itself(first: int, length: int, width: int) -> None:
    row = [f"w{number:0{width}}" for number in range(first, first + length + 1)]
    assert expand(fold(row)) == tuple(row) or width < len(str(first + length))


@given(st.text(alphabet="w019[]-,/", max_size=20))
def test_any_pattern_expands_or_is_refused(pattern: str) -> None:
    try:
        names = expand(pattern)
    except UsageError:
        return
    assert all("[" not in name for name in names)
