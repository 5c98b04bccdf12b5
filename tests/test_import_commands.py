"""``nodeprep import``: the whole way of each kind, what is said on the way, and files kept safe."""

import io
import json
import sys
from pathlib import Path

import pytest

from nodeprep import inventory
from tests.test_cli import called, said_once

LISTING = json.dumps(
    {"_meta": {"hostvars": {"x": {"ansible_host": "192.0.2.1"}}}, "web": {"hosts": ["x"]}}
)
SECRET = "hunter2-canary"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, and without Ansible."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path


def program(folder: Path, text: str) -> None:
    """Put a program called ansible-inventory on the path."""
    path = folder / "bin" / "ansible-inventory"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def answers(folder: Path, listing: str = LISTING) -> None:
    (folder / "listing.json").write_text(listing)
    program(
        folder,
        f'printf "%s\\n" "$*" >{folder}/asked; while read -r l || [ "$l" ]; do '
        f'printf "%s\\n" "$l"; done <{folder}/listing.json',
    )


# --- each kind ----------------------------------------------------------------------------------


def test_an_ansible_file(folder: Path) -> None:
    (folder / "hosts.ini").write_text("[web]\nweb[1:3] ansible_user=ada\n")
    code, out, err = called("import", "ansible", "hosts.ini")
    assert (code, 'name: "web[1-3]"' in out) == (0, True)
    assert err.splitlines()[0] == "read by nodeprep itself: 1 file"
    assert err.splitlines()[-1] == "3 nodes in 1 group"


def test_an_ansible_folder_is_all_its_inventories(folder: Path) -> None:
    site = folder / "site"
    (site / "more").mkdir(parents=True)
    (site / "group_vars").mkdir()
    (site / "01.ini").write_text("[web]\na\n")
    (site / "02.yml").write_text("db: {hosts: {b: }}\n")
    (site / "more" / "hosts").write_text("[web]\nc\n")
    (site / "notes.txt").write_text("not [ an inventory")
    (site / "key.pem").write_text("not an inventory")
    (site / "LICENSE").write_text("Do what you want with it\n")
    (site / "kubectl").write_bytes(b"\x7fELF\0\0")
    (site / "again").symlink_to(site)
    (site / "values.yml").write_text("just: [a, file]\n")
    (site / "group_vars" / "web.yml").write_text("ansible_user: ada\n")
    code, out, err = called("import", "ansible", "site")
    (folder / "i.yaml").write_text(out)
    assert code == 0
    assert {n.name: n.ssh.user for n in inventory.load(folder / "i.yaml").nodes} == {
        "a": "ada",
        "b": None,
        "c": "ada",
    }
    assert "site/LICENSE: no inventory: passed over" in err
    assert "site/kubectl: no inventory: passed over" in err
    assert "site/key.pem: no inventory: passed over" in err
    assert "site/values.yml: no inventory: passed over" in err
    assert "notes.txt" not in err


def test_a_kubespray_folder_leaves_out_what_is_no_inventory(folder: Path) -> None:
    cluster = folder / "mycluster"
    (cluster / "patches").mkdir(parents=True)
    (cluster / "patches" / "kube-scheduler+merge.yaml").write_text("a: {hosts: {wrong: }}\n")
    (cluster / "inventory.ini").write_text("[kube_node]\nn1 ansible_user=root\n")
    code, out, _ = called("import", "kubespray", "mycluster")
    assert (code, "wrong" in out, "name: n1" in out) == (0, False, True)


def test_kubectl_from_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = {"items": [{"kind": "Node", "metadata": {"name": "n1"}}]}
    pipe = io.TextIOWrapper(io.BytesIO(json.dumps(nodes).encode()))
    monkeypatch.setattr(sys, "stdin", pipe)
    code, out, err = called("import", "kubectl", "-")
    assert (code, "name: n1" in out) == (0, True)
    assert "<stdin>: n1: there is no address of it: its name is used" in err


@pytest.mark.parametrize(
    "text", [LISTING, "x ansible_host=192.0.2.1\n", "web: {hosts: {x: {ansible_host: 192.0.2.1}}}"]
)
def test_an_inventory_or_a_listing_from_a_pipe(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    code, out, _ = called("import", "ansible", "-")
    assert (code, "address: 192.0.2.1" in out) == (0, True)


def test_an_ssh_config_with_what_it_includes(folder: Path) -> None:
    (folder / "conf.d").mkdir()
    (folder / "conf.d" / "a").write_text("Host a\n User ada\n")
    (folder / "config").write_text("Include conf.d/*\nHost b\n")
    code, out, _ = called("import", "ssh-config", "config")
    assert (code, "name: a, ssh: {user: ada}" in out, "name: b" in out) == (0, True, True)


# --- where it goes ------------------------------------------------------------------------------


def test_out_writes_a_file_that_loads(folder: Path) -> None:
    (folder / "hosts").write_text("a\n")
    code, out, err = called("import", "ansible", "hosts", "--out", "inventory.yaml")
    assert (code, out) == (0, "")
    assert "1 node in 0 groups, written to inventory.yaml" in err
    assert [node.name for node in inventory.load(folder / "inventory.yaml").nodes] == ["a"]


def test_a_file_that_is_there_is_never_overwritten_without_force(folder: Path) -> None:
    (folder / "hosts").write_text("a\n")
    (folder / "inventory.yaml").write_text("mine")
    code, _, err = called("import", "ansible", "hosts", "--out", "inventory.yaml")
    assert (code, said_once(err)) == (2, "nodeprep: inventory.yaml is there already")
    assert (folder / "inventory.yaml").read_text() == "mine"
    code, _, _ = called("import", "ansible", "hosts", "--out", "inventory.yaml", "--force")
    assert (code, "name: a" in (folder / "inventory.yaml").read_text()) == (0, True)


def test_an_import_that_fails_leaves_the_old_file(folder: Path) -> None:
    (folder / "hosts").write_text("a b\n")
    (folder / "inventory.yaml").write_text("mine")
    code, _, _ = called("import", "ansible", "hosts", "--out", "inventory.yaml", "--force")
    assert (code, (folder / "inventory.yaml").read_text()) == (2, "mine")
    assert sorted(path.name for path in folder.iterdir()) == ["bin", "hosts", "inventory.yaml"]


def test_a_relative_key_is_the_same_file_after_the_import(folder: Path) -> None:
    (folder / "hosts").write_text("a ansible_ssh_private_key_file=keys/id\n")
    (folder / "else").mkdir()
    for out in ("here.yaml", "else/there.yaml"):
        assert called("import", "ansible", "hosts", "--out", out)[0] == 0
        (node,) = inventory.load(folder / out).nodes
        assert node.ssh.identity_file == str(folder / "keys" / "id")


# --- Ansible itself -----------------------------------------------------------------------------


def test_ansible_is_asked_where_it_is_wanted(folder: Path) -> None:
    (folder / "hosts").write_text("a\n")
    answers(folder)
    code, out, err = called("import", "ansible", "hosts", "--with-ansible")
    assert (code, "name: x" in out) == (0, True)
    assert err.splitlines()[0] == "read by ansible-inventory, for you asked for it"
    assert (folder / "asked").read_text() == f"-i {folder}/hosts --list\n"


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        (
            "aws.yml",
            "plugin: amazon.aws.aws_ec2\n",
            "aws.yml is for the plugin `amazon.aws.aws_ec2`",
        ),
        ("hosts.py", "#!/usr/bin/python3\n", "hosts.py is a program"),
        ("hosts.toml", "[web]\n", "hosts.toml is TOML"),
        ("hosts", "$ANSIBLE_VAULT;1.1;AES256\n61\n", "hosts is a vault"),
    ],
)
def test_what_only_ansible_can_read_is_left_to_it(
    folder: Path, name: str, text: str, reason: str
) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    code, _, err = called("import", "ansible", name)
    assert (code, said_once(err)) == (
        2,
        f"nodeprep: only ansible-inventory can read this, for {reason}",
    )
    assert f"ansible-inventory -i {name} --list | nodeprep import ansible -" in err
    answers(folder)
    code, _, err = called("import", "ansible", name)
    assert (code, err.splitlines()[0]) == (0, f"read by ansible-inventory, for {reason}")


VAULT = "w: {hosts: {x: {ansible_user: !vault secret}}}\n"


def test_ansible_is_asked_for_what_is_in_a_vault(folder: Path) -> None:
    (folder / "hosts.yml").write_text(VAULT)
    answers(folder)
    code, out, err = called("import", "ansible", "hosts.yml")
    assert (code, "address: 192.0.2.1" in out) == (0, True)
    assert "read by ansible-inventory, for it can open the vaults" in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"echo {SECRET} >&2; echo {SECRET}; exit 3", "ansible-inventory failed with status 3"),
        (f"echo {SECRET}", "ansible-inventory:1:1: this is not JSON"),
    ],
)
def test_what_a_failing_ansible_prints_is_never_shown(folder: Path, text: str, said: str) -> None:
    (folder / "hosts").write_text("a\n")
    program(folder, text)
    code, out, err = called("import", "ansible", "hosts", "--with-ansible")
    assert (code, out) == (2, "")
    assert said in err
    assert SECRET not in err


def test_without_its_answer_we_go_on_and_say_so(folder: Path) -> None:
    (folder / "hosts.yml").write_text(VAULT)
    program(folder, "exit 1")
    code, out, err = called("import", "ansible", "hosts.yml")
    assert (code, "name: x" in out) == (0, True)
    assert "ansible-inventory failed with status 1, so its answer does not count" in err
    assert "read by nodeprep itself" in err


def test_a_secret_in_a_listing_is_neither_written_nor_said(folder: Path) -> None:
    (folder / "hosts").write_text("a\n")
    hostvars = {"x": {"ansible_become_password": SECRET, "token": SECRET}}
    answers(folder, json.dumps({"_meta": {"hostvars": hostvars}}))
    code, out, err = called("import", "ansible", "hosts", "--with-ansible")
    assert (code, SECRET in out + err) == (0, False)


# --- what is wrong ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("h.yml", b"web:\n  hosts: {x: ]}", "h.yml:2:14: this is not YAML"),
        ("h.ini", b"[web\nx\n", "h.ini:1:1: a bracket of `[web` is not closed"),
        ("h.ini", b"[a:children]\nb\n", "h.ini:2:1: the group `a` has a child `b`"),
        ("h.ini", b"", "there is no host in it"),
        ("h.yml", b"", "h.yml:1:1: groups are wanted here"),
        ("h.ini", b"\x7fELF\x02\x01\x01\x00", "h.ini:1:1: this is not a text file"),
        ("h.ini", b"[web]\nx\xff\n", "h.ini:2:1: this is not a text file: the byte 0xff"),
        ("h.ini", b"x" * (32 * 1024 * 1024 + 1), "the file is larger than 32 MiB"),
    ],
)
def test_a_bad_file_is_one_error_with_its_line(
    folder: Path, name: str, text: bytes, said: str
) -> None:
    (folder / name).write_bytes(text)
    code, out, err = called("import", "ansible", name)
    assert (code, out) == (2, "")
    assert said in said_once(err)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ansible", "absent"], "there is no absent"),
        (["kubespray", "absent"], "there is no absent"),
        (["kubectl", "absent"], "cannot read absent: No such file or directory"),
        (["ssh-config", "absent"], "cannot read absent: No such file or directory"),
        (["kubectl", "."], "cannot read .: Is a directory"),
        (["ansible"], "Missing argument 'PATH'"),
        (["nothing"], "No such command 'nothing'"),
    ],
)
def test_a_wrong_word_is_one_line_and_exit_code_two(words: list[str], said: str) -> None:
    code, out, err = called("import", *words)
    assert (code, out) == (2, "")
    assert said in said_once(err)


def test_a_file_in_place_of_its_kind_gets_a_hint(folder: Path) -> None:
    (folder / "hosts").write_text("a\n")
    code, _, err = called("import", "hosts")
    assert (code, "such as: nodeprep import ansible hosts" in err) == (2, True)


def test_an_inventory_in_which_nothing_is_left_says_why(folder: Path) -> None:
    (folder / "hosts").write_text("x ansible_connection=winrm\n")
    code, out, err = called("import", "ansible", "hosts")
    assert (code, out) == (2, "")
    assert "ansible_connection is `winrm`: left out" in err
    assert "there is no host in it that nodeprep could reach" in err
