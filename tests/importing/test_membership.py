"""Which groups a host is in, and which of several variables counts."""

import pytest

from .samples import machines, problems, settings

THREE = """
[a]
x
[b]
x
[top:children]
a
b
"""


def user_of(text: str, **beside: str) -> str:
    return str(settings(text, **beside)["ssh.user"])


def test_groups_are_in_the_order_in_which_they_win() -> None:
    assert machines(THREE)["x"].groups == ("top", "a", "b")


def test_the_longest_way_from_all_is_what_counts() -> None:
    text = "[z]\nx\n[y:children]\nz\n[a]\nx\n[w:children]\ny\n"
    assert machines(text)["x"].groups == ("a", "w", "y", "z")


@pytest.mark.parametrize(
    ("more", "user"),
    [
        ("[all:vars]\nansible_user=all\n", "all"),
        ("[all:vars]\nansible_user=all\n[top:vars]\nansible_user=top\n", "top"),
        ("[top:vars]\nansible_user=top\n[a:vars]\nansible_user=a\n", "a"),
        ("[b:vars]\nansible_user=b\n[a:vars]\nansible_user=a\n", "b"),
        ("[b:vars]\nansible_user=b\n[a:vars]\nansible_user=a\nansible_group_priority=10\n", "a"),
        ("[b:vars]\nansible_user=b\n[a]\nx ansible_user=x\n", "x"),
    ],
)
def test_the_nearest_variable_counts(more: str, user: str) -> None:
    assert user_of(THREE + more) == user


def test_group_vars_beside_the_file_win_over_variables_in_it() -> None:
    text = f"{THREE}[b:vars]\nansible_user=b\n"
    assert user_of(text, group_vars__all="ansible_user: beside\n") == "beside"
    assert (
        user_of(text, group_vars__all="ansible_user: 1\n", group_vars__top="ansible_user: t") == "t"
    )


def test_a_hosts_own_line_wins_over_group_vars_and_host_vars_win_over_all() -> None:
    text = "[a]\nx ansible_user=line\n"
    beside = {"group_vars__a": "ansible_user: group\n"}
    assert user_of(text, **beside) == "line"
    assert user_of(text, **beside, host_vars__x="ansible_user: file\n") == "file"


def test_a_priority_in_group_vars_says_nothing() -> None:
    text = f"{THREE}[b:vars]\nansible_user=b\n[a:vars]\nansible_user=a\n"
    assert user_of(text, group_vars__a="ansible_group_priority: 10\n") == "b"


def test_who_is_in_no_other_group_is_ungrouped() -> None:
    text = "x\n[ungrouped]\ny\n[web]\ny\n"
    found = machines(text, group_vars__ungrouped="ansible_user: alone\n")
    assert [bool(machine.settings) for machine in found.values()] == [True, False]


def test_variables_of_a_host_called_like_its_group_are_the_groups_as_for_ansible() -> None:
    text = "[bastion]\nbastion ansible_user=ops\nother\n"
    assert [m.settings[("ssh", "user")] for m in machines(text).values()] == ["ops", "ops"]


def test_a_priority_that_is_no_number_is_refused_with_its_line() -> None:
    (problem,) = problems({"hosts": "[a]\nx\n[a:vars]\nansible_group_priority=high\n"})
    assert (problem.line, problem.message) == (4, "ansible_group_priority is a whole number")


def test_a_chain_of_ten_thousand_groups_is_no_matter() -> None:
    chain = "".join(f"[g{n}:children]\ng{n + 1}\n" for n in range(10_000))
    assert len(machines(f"{chain}[g10000]\nx\n")["x"].groups) == 10_001
