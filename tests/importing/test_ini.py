"""INI inventories: hosts, ranges, variables, children, and lines that are wrong."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.importing.ansible import ini
from nodeprep.importing.ansible.draft import Draft
from nodeprep.inventory.foreign import decoded

from .samples import machines, problems, settings


def read(text: str) -> Draft:
    draft = Draft()
    ini.read(text, "hosts.ini", draft)
    return draft


def told(text: str) -> list[tuple[int, str]]:
    return [(problem.line, problem.message) for problem in problems({"hosts.ini": text})]


def test_what_stands_before_the_first_section_is_in_no_group() -> None:
    assert [m.groups for m in machines("a\n[web]\nb\n").values()] == [(), ("web",)]


def test_comments_and_empty_lines_say_nothing() -> None:
    assert list(machines("# a\n; b\n\n[web] # the web\nc # d\n")) == ["c"]


def test_a_host_in_two_groups_is_one_host() -> None:
    assert machines("[a]\nx\n[b]\nx\n")["x"].groups == ("a", "b")


def test_a_range_is_many_hosts_with_the_same_variables() -> None:
    found = machines("web[01:03]:2222 ansible_user=ada\n")
    assert list(found) == ["web01", "web02", "web03"]
    assert found["web02"].settings == {("ssh", "port"): 2222, ("ssh", "user"): "ada"}


def test_a_port_beside_a_host_gives_way_to_ansible_port() -> None:
    assert settings("x:2222 ansible_port=2200\n")["ssh.port"] == 2200


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("x=1", 1),
        ("x='1'", 1),
        ("x=\"'1'\"", "1"),
        ("x=yes", "yes"),
        ("x=True", True),
        ("x=a=b", "a=b"),
        ("x='a b'", "a b"),
        ("x=\"{'k': [1, 2]}\"", {"k": [1, 2]}),
        ("x=", ""),
        ("x=022", "022"),
        ("x=a#b", "a"),
    ],
)
def test_a_value_beside_a_host_is_read_as_ansible_does(word: str, value: Any) -> None:
    assert read(f"h {word}\n").hosts["h"]["x"].value == value


@pytest.mark.parametrize(
    ("line", "value"),
    [("x=1", 1), ("x = a b ", "a b"), ("x='a'", "a"), ("x=a # b", "a # b"), ("x=1 # b", 1)],
)
def test_a_value_in_vars_is_read_as_ansible_does(line: str, value: Any) -> None:
    assert read(f"[w]\nh\n[w:vars]\n{line}\n").groups["w"].vars["x"].value == value


def test_children_may_be_declared_further_down() -> None:
    assert machines("[all_web:children]\nweb\n[web]\nx\n")["x"].groups == ("all_web", "web")


def test_a_variable_knows_its_line() -> None:
    origin = read("[w]\nh x=1\n[w:vars]\ny=2\n").groups["w"].vars["y"].origin
    assert str(origin) == "hosts.ini:4"


# --- what is wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("[web\nx\n", 1, "a bracket of `[web` is not closed"),
        ("[web one]\nx\n", 1, "this is no section"),
        ("[web:hosts:x]\n", 1, "this is no section"),
        ("[web:nothing]\nx\n", 1, "a section `[web:nothing]` is not known"),
        ("[web]\nx y\n", 2, "the word at place 2 of this line is not name=value"),
        ("[web]\nx a='b\n", 2, "a quote is not closed"),
        ("[web]\nx[1:2\n", 2, "not closed"),
        ("[web]\nx:\n", 2, "ends in a colon"),
        ("---\n[web]\nx\n", 1, "`---` begins a YAML file"),
        ("[web]\nx\n[web:vars]\nabc\n", 4, "a variable is wanted here, as name=value"),
        ("[web]\nx\n[all_web:children]\nwbe\n", 4, "has a child `wbe`, which is nowhere"),
        ("[web]\nx\n[web:children]\na b\n", 4, "this is no name of a group"),
        ("x\n[wbe:vars]\na=1\n", 2, "there is no group `wbe` for these variables"),
        ("[a:children]\nb\n[b:children]\na\n", 4, "the group `a` would be inside itself"),
        ("[a:children]\na\n", 2, "the group `a` would be inside itself"),
        ("[a:children]\nall\n[a]\nx\n[all:children]\na\n", 2, "would be inside itself"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(text: str, line: int, said: str) -> None:
    found = told(text)
    assert [number for number, _ in found] == [line]
    assert said in found[0][1]


def test_all_wrong_lines_are_told_at_once() -> None:
    assert [line for line, _ in told("x y\n[a:b]\n[c:vars]\nd\n")] == [1, 2, 3, 4]


def test_a_file_of_another_kind_does_not_fill_the_screen() -> None:
    assert len(told("a b\n" * 5000)) == 20


def test_a_wrong_line_never_shows_what_may_be_a_password() -> None:
    said = told("x ansible_password=hunter two\nx ansible_password='hunter\n[w:vars]\nhunter\n")
    assert len(said) == 4
    assert "hunter" not in str(said)


@given(st.text("ab[]:=\"'# \n-\\1{}", max_size=80))
def test_any_text_is_read_or_told_with_a_line(text: str) -> None:
    draft = Draft()
    ini.read(decoded(text.encode(), "f"), "f", draft)
    assert all(1 <= problem.line <= text.count("\n") + 1 for problem in draft.problems)
    assert all(str(problem).isprintable() for problem in draft.problems)
