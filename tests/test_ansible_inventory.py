"""Ansible's own program, where it is installed: vaults, programs, and broken inventories."""

import shutil
import subprocess
from pathlib import Path

import pytest

from nodeprep import ansible_inventory
from nodeprep.errors import UsageError
from tests.test_cli import called

NEEDS_ANSIBLE = pytest.mark.skipif(
    not shutil.which("ansible-vault"), reason="no ansible-inventory here"
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, which is Ansible's home too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANSIBLE_HOME", str(tmp_path / "home"))
    return tmp_path


@NEEDS_ANSIBLE
def test_a_vault_is_opened_by_ansible_where_it_has_the_password(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "password").write_text("hunter2-canary\n")
    (folder / "group_vars").mkdir()
    (folder / "hosts").write_text("[web]\nx\n")
    (folder / "group_vars" / "web").write_text("ansible_user: ada\n")
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(folder / "password"))
    subprocess.run(("ansible-vault", "encrypt", "group_vars/web"), check=True, capture_output=True)
    code, out, err = called("import", "ansible", "hosts")
    assert (code, "ssh: {user: ada}" in out, "canary" in out + err) == (0, True, False)
    assert "read by ansible-inventory, for it can open the vaults" in err
    monkeypatch.delenv("ANSIBLE_VAULT_PASSWORD_FILE")
    code, out, err = called("import", "ansible", "hosts")
    assert (code, "name: x" in out, "ada" in out) == (0, True, False)
    assert "so its answer does not count" in err
    assert "group_vars/web: a vault is not opened" in err


@NEEDS_ANSIBLE
def test_a_program_is_run_by_ansible(folder: Path) -> None:
    listing = '{"_meta": {"hostvars": {"x": {"ansible_user": "ada"}}}, "web": {"hosts": ["x"]}}'
    (folder / "hosts.sh").write_text(f"#!/bin/sh\necho '{listing}'\n")
    (folder / "hosts.sh").chmod(0o755)
    code, out, err = called("import", "ansible", "hosts.sh")
    assert (code, "name: x" in out, "groups: [web]" in out) == (0, True, True)
    assert err.splitlines()[0] == "read by ansible-inventory, for hosts.sh is a program"


@NEEDS_ANSIBLE
def test_half_of_a_broken_inventory_is_not_taken_for_all_of_it(folder: Path) -> None:
    (folder / "hosts.ini").write_text("[web]\nx\n[db:children]\nnowhere\n")
    with pytest.raises(UsageError, match="failed with status") as caught:
        ansible_inventory.listing(folder / "hosts.ini")
    assert caught.value.hint.endswith("hosts.ini --list")


def test_where_it_is_not_installed_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert not ansible_inventory.is_installed()
    with pytest.raises(UsageError, match="is not installed"):
        ansible_inventory.listing(Path("hosts"))
