"""One real node, from up to down."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeprep.lab import lifecycle
from nodeprep.lab.process import running
from nodeprep.lab.readiness import ssh_command
from nodeprep.lab.settings import Settings, default_cache
from nodeprep.lab.state import Lab

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab") / "lab"


@pytest.fixture(scope="module")
def lab(folder: Path) -> Iterator[Lab]:
    settings = Settings(folder=folder, cache=default_cache(), nodes=1, network="127.77.9")
    yield lifecycle.up(settings)
    lifecycle.down(folder)


def on_node(lab: Lab, command: str, user: str = "root") -> str:
    words = ssh_command(lab, lab.nodes[0], [command], user=user)
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def test_a_node_has_a_kernel_and_a_name_of_its_own(lab: Lab) -> None:
    release, name = on_node(lab, "uname -r; hostname").splitlines()
    assert release.endswith("-cloud-amd64")
    assert release != os.uname().release
    assert name == "node1"


def test_an_operator_becomes_root_without_a_password_and_a_guarded_user_does_not(lab: Lab) -> None:
    assert on_node(lab, "sudo -n id -u", user="operator") == "0"
    with pytest.raises(subprocess.CalledProcessError):
        on_node(lab, "sudo -n id -u", user="guarded")


def test_packages_come_from_the_lab(lab: Lab) -> None:
    on_node(lab, "apt-get -q update && apt-get -q -y install ipset")
    assert on_node(lab, "ipset --version").startswith("ipset v7")


def test_a_reboot_is_a_new_boot_on_the_same_disk(lab: Lab) -> None:
    before = on_node(lab, "cat /proc/sys/kernel/random/boot_id; touch /root/mark")
    assert lifecycle.reboot(lab, "node1") != before
    assert on_node(lab, "ls /root") == "mark"


def test_a_reset_is_a_fresh_disk_with_the_same_host_key(lab: Lab) -> None:
    lifecycle.reset(lab, ["node1"])
    assert on_node(lab, "ls /root") == ""


def test_down_leaves_no_process_and_no_file(lab: Lab, folder: Path) -> None:
    started = lifecycle.load(folder)
    assert lifecycle.down(folder)
    assert not folder.exists()
    assert not running(started.server)
    assert not any(running(node.process) for node in started.nodes)
    assert not lifecycle.down(lab.folder)
