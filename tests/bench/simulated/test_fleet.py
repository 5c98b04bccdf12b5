"""Where simulated nodes are, and the files by which nodeprep finds them."""

from ipaddress import IPv4Address
from pathlib import Path

import pytest

from bench.simulated import fleet
from nodeprep import inventory

NUMBERS = range(1, fleet.MOST + 1)


def test_every_node_has_a_loopback_address_of_its_own() -> None:
    addresses = {fleet.address(number) for number in NUMBERS}
    assert len(addresses) == len(NUMBERS)
    assert all(IPv4Address(address).is_loopback for address in addresses)


@pytest.mark.parametrize("number", [1, 255, 256, 10_000, fleet.MOST])
def test_an_address_tells_the_node(number: int) -> None:
    assert fleet.number_of(fleet.address(number)) == number


def test_all_names_are_equally_long_so_that_no_file_changes_its_size() -> None:
    assert {len(fleet.name(number)) for number in (0, *NUMBERS)} == {len("node00000")}


def test_the_inventory_is_one_of_nodeprep() -> None:
    text = fleet.inventory(
        range(1, 301),
        port=7722,
        identity=Path("/keys/user_key"),
        known_hosts=Path("/keys/known hosts"),
        desired="sudo: none\nkube_proxy:\n  mode: ipvs\n",
    )
    nodes = inventory.parse(text.encode(), "inventory.yaml", Path("/root"), Path("/bench")).nodes
    assert [(node.name, node.address) for node in nodes] == [
        (fleet.name(number), fleet.address(number)) for number in range(1, 301)
    ]
    assert {(node.ssh.port, node.desired.kube_proxy.mode) for node in nodes} == {(7722, "ipvs")}


def test_every_node_has_its_line_among_the_known_hosts() -> None:
    lines = fleet.known_hosts((1, 300), 7722, "ssh-ed25519 AAAA")
    assert lines == "[127.80.0.1]:7722 ssh-ed25519 AAAA\n[127.80.1.44]:7722 ssh-ed25519 AAAA\n"
