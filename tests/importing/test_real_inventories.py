"""Inventories of real projects: what is imported, and what Ansible itself says of them.

``data/README.md`` tells where each is from.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nodeprep.errors import InventoryError
from nodeprep.importing import ansible, kubectl, kubespray, sources, ssh_config, writing
from nodeprep.importing.imported import Imported
from nodeprep.importing.settings import Paths
from nodeprep.inventory.foreign import Table

from .samples import DATA, recorded, written

SAMPLES = sorted(path for path in DATA.iterdir() if (path / "expected.json").exists())
OF_ANSIBLE = sorted(path for path in DATA.iterdir() if (path / "ansible-inventory.json").exists())
NOT_THEIRS = {"expected.json", "ansible-inventory.json"}
NEEDS_ANSIBLE = pytest.mark.skipif(
    not shutil.which("ansible-inventory"), reason="no ansible-inventory here"
)


def source_of(folder: Path) -> sources.Source:
    """Return the inventory in a folder, without what stands beside it for the tests."""
    files = [path for path in folder.iterdir() if path.is_file() and path.name not in NOT_THEIRS]
    (only,) = files
    return sources.gathered(only, deep=False)


def imported(folder: Path) -> Imported:
    kind = folder.name.partition("-")[0]
    if kind == "kubectl":
        return kubectl.read((folder / "nodes.json").read_bytes(), "nodes.json")
    if kind == "ssh":
        return ssh_config.read((folder / "config").read_bytes(), "config", lambda _: (), Paths())
    if kind == "kubespray":
        read = ansible.read(source_of(folder), Paths(), kubespray.extra())
        return kubespray.narrowed(read).imported
    return ansible.read(source_of(folder), Paths()).imported


@pytest.mark.parametrize("folder", SAMPLES, ids=lambda path: path.name)
def test_the_nodes_are_those_that_are_expected(folder: Path) -> None:
    wanted = json.loads((folder / "expected.json").read_text())
    found = {
        name: {"address": node.address, "user": node.ssh.user, "groups": list(node.groups)}
        for name, node in written(imported(folder)).items()
    }
    assert found == wanted
    assert list(found) == list(wanted)


@pytest.mark.parametrize("folder", OF_ANSIBLE, ids=lambda path: path.name)
def test_we_read_what_ansible_reads(folder: Path) -> None:
    assert ours(folder) == theirs(recorded(folder))


@NEEDS_ANSIBLE
@pytest.mark.parametrize("folder", OF_ANSIBLE, ids=lambda path: path.name)
def test_ansible_still_says_what_was_recorded(folder: Path, tmp_path: Path) -> None:
    (path,) = source_of(folder).inventories
    command = ("ansible-inventory", "-i", str(folder / path), "--list")
    environment = {**os.environ, "ANSIBLE_HOME": str(tmp_path), "ANSIBLE_LOCALHOST_WARNING": "no"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert theirs(json.loads(done.stdout)) == theirs(recorded(folder))


@pytest.mark.parametrize("folder", OF_ANSIBLE, ids=lambda path: path.name)
def test_both_ways_of_reading_give_the_same_machines(folder: Path) -> None:
    listing = (folder / "ansible-inventory.json").read_bytes()
    ways = (
        ansible.read(source_of(folder), Paths()),
        ansible.read_listing(listing, "listing", Paths()),
    )
    ours, theirs = (
        {m.name: (m.address, set(m.groups), m.settings) for m in way.imported.machines}
        for way in ways
    )
    assert ours == theirs


def test_an_inventory_that_ansible_refuses_is_refused_with_its_line() -> None:
    with pytest.raises(InventoryError, match=r"hosts\.ini:15:1: .* has a child `calico-rr`"):
        ansible.read(source_of(DATA / "kubespray-local"), Paths())


def test_kubesprays_sample_has_no_host_yet() -> None:
    assert imported(DATA / "kubespray-sample").machines == ()


def test_no_password_of_a_real_inventory_is_written_or_said() -> None:
    found = imported(DATA / "ceph")
    text = f"{writing.text(found, 'x')}{found.notes}"
    assert "dashboard_admin_password" in text
    assert "rYU6qR" not in text


def ours(folder: Path) -> dict[str, Any]:
    draft, hosts = ansible.drafted(source_of(folder))
    return {
        "hosts": {
            host.name: {name: plain(var.value) for name, var in host.vars.items()} for host in hosts
        },
        "groups": {
            name: (sorted(group.hosts), sorted(group.children))
            for name, group in draft.groups.items()
            if name not in {"all", "ungrouped"}
        },
    }


def theirs(listing: Any) -> dict[str, Any]:
    groups = {name: value for name, value in listing.items() if name != "_meta"}
    named = {child for group in groups.values() for child in group.get("children", ())}
    hosts = {host for group in groups.values() for host in group.get("hosts", ())}
    hostvars = listing["_meta"]["hostvars"]
    return {
        "hosts": {host: hostvars.get(host, {}) for host in hosts | set(hostvars)},
        "groups": {
            name: (
                sorted(groups.get(name, {}).get("hosts", ())),
                sorted(groups.get(name, {}).get("children", ())),
            )
            for name in (named | set(groups)) - {"all", "ungrouped"}
        },
    }


def plain(value: Any) -> Any:
    if isinstance(value, Table):
        return {key: plain(entry.value) for key, entry in value.entries.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value
