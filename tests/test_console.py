"""Nothing that a node sends reaches the terminal as it is, and equal results are shown once."""

import io
import sys
import unicodedata
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.console import blocks, live, printable, with_progress
from nodeprep.errors import Unreachable
from nodeprep.model import Node, Outcome

UNSEEN = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if unicodedata.category(chr(code)) in ("Cc", "Cf", "Cs", "Zl", "Zp") and chr(code) != "\n"
]
ATTACKS = {
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "link": "\x1b]8;;https://example.com\x1b\\",
    "one byte": "\x9b2J",
    "return": "failed\rok    ",
    "backspace": "failed\x08\x08\x08\x08\x08\x08ok",
    "reorder": "\u202etxt.exe",
    "isolate": "\u2066x\u2069",
    "mark": "\u061c",
    "tag": "\U000e0041",
    "zero width": "no\u200bde1\u2060\ufeff",
    "surrogate": "\udcff",
}


# --- printable ------------------------------------------------------------------------------


def test_every_character_that_is_not_seen_is_escaped() -> None:
    shown = printable("".join(UNSEEN))
    assert shown.isprintable()
    assert not set(shown) & set(UNSEEN)
    assert len(UNSEEN) > 2000


@pytest.mark.parametrize("text", ATTACKS.values(), ids=ATTACKS)
def test_no_attack_on_a_terminal_gets_through(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(text) != text


@given(st.text(st.characters()))
def test_any_text_becomes_printable_text_and_newlines(text: str) -> None:
    shown = printable(text)
    assert shown.replace("\n", "").isprintable()
    assert shown.count("\n") == text.count("\n")
    assert printable(shown) == shown
    shown.encode()


@given(st.text(st.characters(categories=["L", "N", "P", "S"])))
def test_what_can_be_seen_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == text


# --- folding --------------------------------------------------------------------------------

ITEMS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=2), st.lists(st.integers(0, 6), max_size=8), max_size=8
)


@given(ITEMS)
def test_every_item_is_shown_for_exactly_its_nodes_and_once(
    items: Mapping[str, list[int]],
) -> None:
    folded = blocks(items, key=lambda item: item)
    shown = [(value, name) for names, values in folded for value in values for name in names]
    assert len(shown) == len(set(shown))
    assert set(shown) == {(value, name) for name, values in items.items() for value in values}
    assert sum(len(values) for _, values in folded) == len({value for value, _ in shown})


@given(ITEMS)
def test_each_set_of_nodes_is_one_block_and_larger_ones_come_first(
    items: Mapping[str, list[int]],
) -> None:
    sets = [names for names, _ in blocks(items, key=lambda item: item)]
    assert len({frozenset(names) for names in sets}) == len(sets)
    assert [len(names) for names in sets] == sorted(map(len, sets), reverse=True)


@given(st.lists(st.integers(0, 9), unique=True), st.integers(1, 5))
def test_nodes_with_equal_items_are_one_block_in_their_order(items: list[int], count: int) -> None:
    same = {f"node{n}": items for n in range(count)}
    assert blocks(same, key=lambda item: item) == ([(tuple(same), items)] if items else [])


def test_items_are_equal_when_their_keys_are() -> None:
    assert blocks({"a": ["x"], "b": ["X"]}, key=str.lower) == [(("a", "b"), ["x"])]


# --- progress -------------------------------------------------------------------------------

OUTCOMES = [
    Outcome(node=Node(name="a", address="192.0.2.1")),
    Outcome(node=Node(name="b", address="192.0.2.1"), error=Unreachable("gone")),
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_without_a_terminal_nothing_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(with_progress(OUTCOMES, 2, "verify")) == OUTCOMES
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_it_is_told_how_many_have_come(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(with_progress(OUTCOMES, 2, "verify")) == OUTCOMES
    assert "verify" in terminal.getvalue()
    assert "2/2" in terminal.getvalue()


def test_without_a_terminal_a_roll_is_lines_and_nothing_else(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with live() as screen:
        screen.show("node1  switch ok [1]")
        screen.draw([("node1", "switching")])
        with screen.aside():
            screen.show("node2")
    assert capsys.readouterr().out == "node1  switch ok [1]\nnode2\n"
