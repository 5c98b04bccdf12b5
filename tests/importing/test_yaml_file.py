"""YAML inventories: groups in groups, variables, ranges, and what is wrong with them."""

import pytest

from .samples import lines, machines, problems, settings


def test_groups_hold_hosts_children_and_variables() -> None:
    found = machines(
        """
all:
  hosts:
    mail:
  children:
    web:
      hosts:
        web[1:2]:
          ansible_user: ada
      vars: {ansible_port: 2222}
    site:
      children: {web: }
""",
        "hosts.yml",
    )
    assert {name: machine.groups for name, machine in found.items()} == {
        "mail": (),
        "web1": ("site", "web"),
        "web2": ("site", "web"),
    }
    assert found["web2"].settings == {("ssh", "user"): "ada", ("ssh", "port"): 2222}


def test_a_word_in_place_of_a_mapping_is_one_host() -> None:
    assert machines("web: {hosts: x}", "hosts.yml")["x"].groups == ("web",)


def test_yaml_without_an_ending_is_known_by_its_first_line() -> None:
    assert list(machines("# mine\nweb:\n  hosts:\n    x:\n", "hosts")) == ["x"]
    assert list(machines("# mine\n[web]\nx\n", "hosts")) == ["x"]
    assert list(machines("x ansible_host=192.0.2.1 a=b:\n", "hosts")) == ["x"]


def test_anchors_and_merge_keys_are_followed() -> None:
    text = """
web:
  hosts:
    a: &same {ansible_user: ada, ansible_port: 22}
    b: {<<: *same, ansible_port: 2222}
"""
    assert machines(text, "hosts.yml")["b"].settings == {
        ("ssh", "user"): "ada",
        ("ssh", "port"): 2222,
    }


def test_json_is_yaml_too() -> None:
    assert list(machines('{"web": {"hosts": {"x": {"ansible_user": "ada"}}}}', "h.json")) == ["x"]


def test_a_tag_does_not_stop_the_reading() -> None:
    text = (
        "web:\n  hosts:\n    x:\n      a: !vault |\n        $ANSIBLE_VAULT;1.1;AES256\n        61\n"
    )
    assert list(machines(text, "hosts.yml")) == ["x"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("web: {hosts: {x: {}}, host: {}}", "hosts.yml:1: the key `host` in group `web`"),
        ("web: {hosts: {x: {}}}\nother: 5\n", "hosts.yml:2: `other` is no group: passed over"),
        ("web:\n  hosts:\n    x:\n    x:\n", "hosts.yml:4: the key `x` stands there twice"),
    ],
)
def test_what_ansible_passes_over_is_said(text: str, said: str) -> None:
    assert any(line.startswith(said) for line in lines(text, "hosts.yml"))


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("- web\n", 1, "groups are wanted here"),
        ("just text", 1, "groups are wanted here"),
        ("", 1, "groups are wanted here"),
        ("web:\n  hosts: [x, y]\n", 2, "`hosts` is a mapping"),
        ("web:\n  hosts:\n    x: 5\n", 3, "a host has variables"),
        ("web:\n  hosts:\n    x[1:]:\n", 3, "has no end"),
        ("web:\n  hosts:\n  x\n   y: {\n", 4, "this is not YAML"),
        ("web: {hosts: {x: \n", 2, "this is not YAML"),
        ("web: {hosts: {x: *nothing}}\n", 1, "the alias `nothing` stands for nothing yet"),
        ("web: &a {children: *a}\n", 1, "the alias `a` stands for nothing yet"),
        ("a: {hosts: {x: }}\n---\nb: {}\n", 2, "a second document begins here"),
        ("a:\n  children:\n    b:\n      children:\n        a:\n", 5, "inside itself"),
    ],
)
def test_a_wrong_file_is_one_error_with_its_line(text: str, line: int, said: str) -> None:
    (problem,) = problems({"hosts.yml": text})
    assert (problem.line, said in problem.message) == (line, True), problem


def test_a_billion_laughs_cost_nothing() -> None:
    text = "a0: &a0 {x: [lol]}\n"
    text += "".join(f"a{n}: &a{n} {{p: *a{n - 1}, q: *a{n - 1}}}\n" for n in range(1, 60))
    assert machines(text + "web: {hosts: {x: *a59}}\n", "hosts.yml")


def test_children_that_alias_each_other_end() -> None:
    text = "g0: &g0 {hosts: {x: }}\n"
    text += "".join(
        f"g{n}: &g{n} {{children: {{p{n}: *g{n - 1}, q{n}: *g{n - 1}}}}}\n" for n in range(1, 30)
    )
    (problem,) = problems({"hosts.yml": text})
    assert "more than 100000 groups" in problem.message


def test_variables_of_any_depth_do_no_harm() -> None:
    assert settings("web: {hosts: {x: {a: {b: {c: [1, {d: null}]}}}}}", "hosts.yml") == {}
    (problem,) = problems({"hosts.yml": "web: {hosts: {x: {a: " + "[" * 5000})
    assert "nested more than" in problem.message
