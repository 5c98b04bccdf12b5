"""YAML of other programs: their reading, each key's line, and no harm from any text."""

from typing import Any

import pytest
import yaml
from hypothesis import given

from nodeprep.errors import InventoryError
from nodeprep.inventory.foreign import LIMIT, Table, Tagged, decoded, read_foreign

from .test_any_text import LOADERS, YAML_LIKE


def plain(value: Any) -> Any:
    """Return a document as PyYAML would give it."""
    if isinstance(value, Table):
        return {key: plain(entry.value) for key, entry in value.entries.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def value(text: str) -> Any:
    return plain(read_foreign(text.encode(), "f"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: 1",
        "a: [yes, no, on, off, true, ~, null, '']",
        "a: [0644, 0x1f, 1_000, 12:30:45, 1.20, 1e3, -5, .inf]",
        "a: 'x'\nb: \"y\"\nc: |\n  z\n  z\nd: >-\n  p\n  q\n",
        "{a: {b: [1, {c: d}]}}",
        "a: &x {p: 1}\nb: *x\n",
        "a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\n",
        "a: &x {p: 1}\nb: &y {p: 2, q: 2}\nc: {<<: [*x, *y]}\n",
        "a: !!str 5\nb: !!int '5'\n",
    ],
)
@pytest.mark.parametrize("loader", LOADERS)
def test_values_are_those_of_pyyaml(text: str, loader: Any) -> None:
    wanted = yaml.load(text, Loader=loader)  # noqa: S506 safe loaders, and a text of ours
    assert plain(read_foreign(text.encode(), "f", loader=loader)) == wanted


def test_a_date_stays_text() -> None:
    assert value("a: 2024-01-01") == {"a": "2024-01-01"}


def test_keys_are_as_they_are_written() -> None:
    assert list(value("5: a\nyes: b\n~: c\n1.20: d\n")) == ["5", "yes", "~", "1.20"]


def test_a_number_with_too_many_digits_is_text() -> None:
    assert value(f"a: {'9' * 5000}") == {"a": "9" * 5000}


def test_each_key_has_its_line() -> None:
    table = read_foreign(b"a: 1\n\nb:\n  c: 2\n", "f")
    assert [(key, entry.line) for key, entry in table.entries.items()] == [("a", 1), ("b", 3)]
    assert table["b"].entries["c"].line == 4


def test_a_key_that_stands_there_twice_is_told_with_its_line() -> None:
    table = read_foreign(b"a: 1\na: 2\n", "f")
    assert (table["a"], dict(table.repeated)) == (2, {"a": 2})


@pytest.mark.parametrize("text", ["!vault x", "!vault [1]", "!vault {a: 1}", "!!python/name:os x"])
def test_a_tag_of_another_program_is_a_value_that_nobody_reads(text: str) -> None:
    found = value(f"a: {text}")["a"]
    assert isinstance(found, Tagged) or found == "x"


def test_unsafe_text_is_text() -> None:
    assert value("a: !unsafe '{{ x }}'") == {"a": "{{ x }}"}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        (b"a: 1\nb: [}", 2, "this is not YAML"),
        (b"a: b: c", 1, "this is not YAML"),
        (b"a: 1\n\tb: 2", 2, "this is not YAML"),
        (b"a: 1\nb: *x", 2, "the alias `x` stands for nothing yet"),
        (b"a: &x [*x]", 1, "the alias `x` stands for nothing yet"),
        (b"? [a]\n: b", 1, "a key must be text"),
        (b"a\n---\nb", 2, "a second document"),
        (b"a: 1\nb: \xff", 2, "this is not a text file: the byte 0xff, which is not UTF-8,"),
        (b"a: 1\nb: \x00", 2, "this is not a text file: U+0000 a NUL"),
        (b"[" * 10_000, 1, "nested more than"),
        (b'a: "\\ud800"', 1, "this is not YAML"),
    ],
)
def test_what_cannot_be_read_is_one_error_with_its_line(text: bytes, line: int, said: str) -> None:
    with pytest.raises(InventoryError) as caught:
        read_foreign(text, "f")
    (problem,) = caught.value.problems
    assert (problem.line, said in problem.message) == (line, True), problem


def test_a_text_that_is_too_large_is_refused() -> None:
    with pytest.raises(InventoryError, match="larger than 32 MiB"):
        decoded(b" " * (LIMIT + 1), "f")


@pytest.mark.parametrize("loader", LOADERS)
@given(text=YAML_LIKE)
def test_any_text_is_read_or_refused_with_a_place(loader: Any, text: str) -> None:
    assert refusal(text.encode("utf-8", "surrogatepass"), loader).isprintable()


def refusal(text: bytes, loader: Any) -> str:
    """Return why a text is refused, or an empty text."""
    try:
        read_foreign(text, "f", loader=loader)
    except InventoryError as error:
        return str(error)
    return ""
