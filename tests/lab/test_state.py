"""What a lab writes down: its state, its inventory, its known_hosts."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from nodeprep.errors import LabError, UsageError
from nodeprep.lab import keys, state
from nodeprep.lab.inventory_file import inventory_text
from nodeprep.lab.overview import table
from nodeprep.lab.process import Process
from nodeprep.lab.state import Lab, LabNode

LAB = Lab(
    folder=Path("/lab"),
    accelerator="kvm",
    memory=384,
    nodes=(
        LabNode(
            name="node1",
            kind="apt",
            image=Path("/cache/image-apt"),
            address="127.77.0.11",
            port=2222,
            machine_id="a" * 32,
        ),
        LabNode(
            name="node2",
            kind="zypper",
            image=Path("/cache/image-zypper"),
            address="127.77.0.12",
            port=2222,
            machine_id="b" * 32,
            process=Process(pid=7, started=99, boot="b00t"),
        ),
    ),
    server=Process(pid=8, started=100, boot="b00t"),
)


def test_a_lab_reads_back_as_it_was_written() -> None:
    assert state.from_json(LAB.folder, state.to_json(LAB)) == LAB


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"version": 1}', '{"version": 2}', "torn {"])
def test_a_state_file_that_cannot_be_read_says_so(text: str) -> None:
    with pytest.raises(LabError, match="cannot read /lab/lab"):
        state.from_json(LAB.folder, text)


def test_a_lab_is_claimed_once(tmp_path: Path) -> None:
    lab = replace(LAB, folder=tmp_path / "lab")
    state.claim(lab)
    with pytest.raises(LabError, match="already up"):
        state.claim(lab)
    assert state.load(tmp_path / "lab") == lab


def test_saving_replaces_the_claim(tmp_path: Path) -> None:
    lab = replace(LAB, folder=tmp_path)
    state.claim(lab)
    state.save(lab.with_process("node1", Process(pid=1, started=2, boot="x")))
    assert state.load(tmp_path).node("node1").process == Process(pid=1, started=2, boot="x")
    assert [path.name for path in tmp_path.iterdir()] == ["lab.json"]


def test_where_no_lab_is_there_is_a_hint(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="nodeprep lab up"):
        state.load(tmp_path)


def test_a_node_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="node1 node2"):
        LAB.node("node3")


def test_the_inventory_names_keys_known_hosts_and_nodes() -> None:
    lab = replace(LAB, folder=Path('/home/a "b": #c'))
    inventory = yaml.safe_load(inventory_text(lab))
    assert inventory["defaults"]["ssh"] == {
        "user": "root",
        "port": 2222,
        "identity_file": '/home/a "b": #c/id_ed25519',
        "known_hosts": '/home/a "b": #c/known_hosts',
        "config": "none",
    }
    assert inventory["nodes"] == [
        {"name": "node1", "address": "127.77.0.11", "labels": {"package_manager": "apt"}},
        {"name": "node2", "address": "127.77.0.12", "labels": {"package_manager": "zypper"}},
    ]


def test_known_hosts_puts_a_port_in_brackets() -> None:
    assert keys.known_hosts_line("127.77.0.11", 2222, "ssh-ed25519 AAAA") == (
        "[127.77.0.11]:2222 ssh-ed25519 AAAA"
    )
    assert keys.known_hosts_line("127.77.0.11", 22, "ssh-ed25519 AAAA").startswith("127.77.0.11 ")


def test_a_node_whose_process_is_gone_is_not_running() -> None:
    assert table(LAB).splitlines() == [
        "NODE   ADDRESS           KIND    PID  STATE",
        "node1  127.77.0.11:2222  apt     -    not running",
        "node2  127.77.0.12:2222  zypper  7    not running",
    ]
