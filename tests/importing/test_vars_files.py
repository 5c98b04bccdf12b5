"""group_vars and host_vars: which files count, and in which order."""

import pytest

from nodeprep.importing.ansible.vars_files import VarsFiles

from .samples import lines, problems, settings


def files(*paths: str) -> VarsFiles:
    return VarsFiles(files=dict.fromkeys(paths, b""))


@pytest.mark.parametrize(
    ("paths", "counts"),
    [
        (["group_vars/web"], ["group_vars/web"]),
        (["group_vars/web.yml"], ["group_vars/web.yml"]),
        (["group_vars/web.yaml"], ["group_vars/web.yaml"]),
        (["group_vars/web.json"], ["group_vars/web.json"]),
        (["group_vars/web.txt", "group_vars/website.yml"], []),
        (["group_vars/web.yaml", "group_vars/web.yml"], ["group_vars/web.yml"]),
        (["group_vars/web.yml", "group_vars/web/a.yml"], ["group_vars/web/a.yml"]),
        (
            ["group_vars/web/b.yml", "group_vars/web/a", "group_vars/web/c/d.json"],
            ["group_vars/web/a", "group_vars/web/b.yml", "group_vars/web/c/d.json"],
        ),
        (["group_vars/web/.a.yml", "group_vars/web/a.yml~", "group_vars/web/a.ini"], []),
    ],
)
def test_the_files_of_a_group(paths: list[str], counts: list[str]) -> None:
    assert list(files(*paths).of("group_vars", "web")) == counts


def test_of_two_files_in_a_folder_the_later_one_counts() -> None:
    found = settings(
        "[web]\nx\n",
        **{
            "group_vars__web__a.yml": "ansible_user: a\nansible_port: 1\n",
            "group_vars__web__b.yml": "ansible_user: b\n",
        },
    )
    assert found == {"ssh.user": "b", "ssh.port": 1}


def test_a_vault_is_named_and_not_opened() -> None:
    said = lines("[web]\nx\n", group_vars__web="$ANSIBLE_VAULT;1.1;AES256\n6162\n")
    assert said[0].startswith("group_vars/web: a vault is not opened")


def test_an_empty_file_says_nothing() -> None:
    assert settings("[web]\nx\n", group_vars__web="---\n# later\n") == {}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("- a\n", 1, "variables are wanted here"),
        ("a: b: c\n", 1, "this is not YAML"),
        ("a: 1\nb: [\n", 3, "this is not YAML"),
        ("a: \x00\n", 1, "this is not a text file"),
    ],
)
def test_a_wrong_file_is_one_error_with_its_line(text: str, line: int, said: str) -> None:
    (problem,) = problems({"hosts.ini": "[web]\nx\n", "group_vars/web.yml": text})
    assert (problem.file, problem.line) == ("group_vars/web.yml", line)
    assert said in problem.message


def test_a_file_for_nobody_is_not_read() -> None:
    assert problems({"hosts.ini": "[web]\nx\n", "group_vars/other.yml": "a: b: c"}) == ()
