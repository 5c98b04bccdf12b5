"""etcd and the API server: what they are started with, and who may read their secrets."""

import socket
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from nodeprep.errors import LabError
from nodeprep.lab import control_plane, state
from nodeprep.lab.inventory_file import inventory_text
from nodeprep.lab.overview import table
from nodeprep.lab.process import Process
from nodeprep.lab.state import ControlPlane, Lab
from tests.lab.test_state import LAB

PLANE = ControlPlane(port=6443, etcd_port=2379, peer_port=2380)
CLUSTER = replace(LAB, control_plane=PLANE)
FOLDER = Path("/lab/control-plane")


def listening(words: list[str]) -> list[str]:
    return [word for word in words if "listen" in word or "bind" in word]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return replace(LAB, folder=tmp_path)


def test_both_listen_on_this_machine_alone() -> None:
    assert listening(control_plane.etcd_arguments(FOLDER, PLANE)) == [
        "--listen-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
    ]
    words = control_plane.apiserver_arguments(FOLDER, PLANE)
    assert listening(words) == ["--bind-address=127.0.0.1"]


def test_nodes_are_told_an_address_by_which_they_get_there() -> None:
    words = control_plane.apiserver_arguments(FOLDER, PLANE)
    assert "--advertise-address=10.0.2.2" in words
    assert "--secure-port=6443" in words
    assert "--service-cluster-ip-range=10.254.0.0/16" in words


def test_nobody_gets_in_without_the_token() -> None:
    words = control_plane.apiserver_arguments(FOLDER, PLANE)
    assert "--anonymous-auth=false" in words
    assert f"--token-auth-file={FOLDER / 'tokens.csv'}" in words


def test_free_ports_are_different_and_free() -> None:
    ports = control_plane.free_ports(3)
    assert len(set(ports)) == 3
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()


def test_secrets_are_for_the_user_alone(lab: Lab) -> None:
    plane = control_plane.claim(lab)
    control_plane.write_secrets(lab, plane)
    files = [lab.kubeconfig, *lab.control_folder.iterdir()]
    private = [path for path in files if path.suffix != ".pub"]
    assert len(private) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in private} == {0o600}
    assert stat.S_IMODE(lab.control_folder.stat().st_mode) == 0o700


def test_the_kubeconfig_has_the_token_that_opens_the_server(lab: Lab) -> None:
    plane = control_plane.claim(lab)
    control_plane.write_secrets(lab, plane)
    config = yaml.safe_load(lab.kubeconfig.read_text())
    door = control_plane.api(replace(lab, control_plane=plane))
    assert config["users"][0]["user"]["token"] == door.token
    assert config["clusters"][0]["cluster"]["server"] == f"https://10.0.2.2:{plane.port}"
    assert door.token not in repr(door)


def test_a_folder_in_the_way_is_left_alone(lab: Lab) -> None:
    lab.control_folder.mkdir()
    with pytest.raises(LabError, match="in its way"):
        control_plane.claim(lab)


def test_a_lab_without_a_cluster_has_no_door(lab: Lab) -> None:
    with pytest.raises(LabError, match="has no cluster"):
        control_plane.api(lab)


def test_a_program_that_ends_is_told_with_its_last_words(lab: Lab) -> None:
    plane = control_plane.claim(lab)
    control_plane.write_secrets(lab, plane)
    (lab.control_folder / "etcd.log").write_text("no space left on device\n")
    broken = replace(lab, control_plane=plane)
    with pytest.raises(LabError, match="kube-apiserver has ended"):
        control_plane.wait_until_ready(broken)


def test_a_cluster_reads_back_as_it_was_written() -> None:
    started = replace(PLANE, etcd=Process(pid=3, started=4, boot="b00t"))
    lab = replace(LAB, control_plane=started)
    assert state.from_json(lab.folder, state.to_json(lab)) == lab


def test_a_cluster_is_a_part_of_the_overview() -> None:
    assert table(CLUSTER).splitlines()[3:] == [
        "kube-apiserver  127.0.0.1:6443    -       -    not running",
        "etcd            127.0.0.1:2379    -       -    not running",
    ]


def test_the_inventory_of_a_cluster_is_one_to_switch_modes_with() -> None:
    inventory = yaml.safe_load(inventory_text(CLUSTER))
    assert inventory["defaults"]["kube_proxy"] == {
        "mode": "iptables",
        "cluster_cidr": "10.244.0.0/16",
        "kubeconfig_from": "/lab/kubeconfig",
        "exclude_cidrs": ["192.0.2.0/24"],
        "min_sync_period": "1s",
        "conntrack_max_per_core": 0,
    }


def test_the_inventory_of_a_lab_without_one_is_as_it_was() -> None:
    inventory = yaml.safe_load(inventory_text(LAB))
    assert inventory["defaults"]["kube_proxy"] == {
        "mode": "ipvs",
        "cluster_cidr": "10.254.0.0/16",
    }
