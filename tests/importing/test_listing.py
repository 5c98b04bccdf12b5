"""What ``ansible-inventory --list`` prints, from a program, a pipe or a saved file."""

import json
from typing import Any

import pytest

from nodeprep.errors import InventoryError
from nodeprep.importing import ansible
from nodeprep.importing.ansible import Result
from nodeprep.importing.settings import Paths

from .samples import machines

LISTING = {
    "_meta": {
        "hostvars": {
            "a": {"ansible_host": "192.0.2.1", "ansible_user": "ada"},
            "b": {"ansible_password": {"__ansible_vault": "$ANSIBLE_VAULT;1.1"}},
        }
    },
    "all": {"children": ["ungrouped", "site"]},
    "site": {"children": ["web"]},
    "web": {"hosts": ["a", "b"]},
}


def read(value: Any) -> Result:
    return ansible.read_listing(json.dumps(value).encode(), "listing", Paths())


def test_hosts_groups_and_variables_are_read() -> None:
    found = {machine.name: machine for machine in read(LISTING).imported.machines}
    assert found["a"].groups == ("site", "web")
    assert (found["a"].address, found["a"].settings) == ("192.0.2.1", {("ssh", "user"): "ada"})
    assert found["b"].address == "b"


def test_a_host_with_variables_but_no_group_is_there() -> None:
    found = read({"_meta": {"hostvars": {"x": {}}}}).imported.machines
    assert [machine.name for machine in found] == ["x"]


def test_a_saved_listing_is_known_as_one() -> None:
    assert list(machines(json.dumps(LISTING), "saved.json")) == ["a", "b"]
    assert list(machines(json.dumps(LISTING), "saved")) == ["a", "b"]


def test_a_vault_in_a_listing_is_told_apart() -> None:
    value = {"_meta": {"hostvars": {"x": {"ansible_user": {"__ansible_vault": "secret"}}}}}
    assert read(value).vault


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "listing:1:1: this is not JSON"),
        (b'{"_meta":\n {', "listing:2:3: this is not JSON"),
        (b"[]", "this is not what `ansible-inventory --list` prints"),
        (b"{}", "this is not what `ansible-inventory --list` prints"),
        (b"[" * 200_000, "this is nested too deep"),
        (b"\xff", "this is not a text file"),
    ],
)
def test_what_is_no_listing_is_one_error(text: bytes, said: str) -> None:
    with pytest.raises(InventoryError) as caught:
        ansible.read_listing(text, "listing", Paths())
    assert said in str(caught.value)


def test_circles_are_refused_here_too() -> None:
    with pytest.raises(InventoryError, match="inside itself"):
        read({"_meta": {}, "a": {"children": ["b"]}, "b": {"children": ["a"]}})


@pytest.mark.parametrize(
    "value",
    [
        {"_meta": None},
        {"_meta": []},
        {"_meta": {"hostvars": []}},
        {"_meta": {"hostvars": {"x": 5}}, "web": {"hosts": "x", "children": 7}},
        {"_meta": {}, "web": None, "all": 3},
    ],
)
def test_what_has_another_shape_does_no_harm(value: Any) -> None:
    assert len(read(value).imported.machines) <= 1
