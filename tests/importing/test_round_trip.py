"""Whatever Ansible inventory is written, importing it gives the same machines.

A fleet is drawn, written down in Ansible's two formats with its variables at random places, and
what our own loader finds in the import is compared with what was drawn.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nodeprep.importing.imported import Imported
from nodeprep.model import Node

from .samples import result, written

USERS = st.sampled_from(["ada", "eve", "root", "svc_deploy", "1000"])
PORTS = st.sampled_from([22, 2222, 40022])
KEYS = st.sampled_from(["~/.ssh/id", "/etc/keys/a b"])
GROUPS = st.sampled_from(["web", "db", "k8s-cluster", "a.b", "true", "1", "no", "_x"])


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """One host: its address, its groups, and its variables."""

    address: str
    groups: frozenset[str]
    vars: Mapping[str, Any] = field(default_factory=dict)


@st.composite
def fleets(draw: st.DrawFn) -> dict[str, Drawn]:
    numbers = draw(st.lists(st.integers(1, 120), min_size=1, max_size=25, unique=True))
    pattern = draw(st.sampled_from(["node{}", "n{:03d}.example.com", "rack1-n{}"]))
    octet = draw(st.integers(0, 255))
    some = draw(st.booleans())
    return {
        pattern.format(n): Drawn(
            address=f"10.0.{octet}.{n}" if some else pattern.format(n),
            groups=draw(st.frozensets(GROUPS, max_size=3)),
            vars=draw(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "ansible_user": USERS,
                        "ansible_port": PORTS,
                        "ansible_ssh_private_key_file": KEYS,
                        "ansible_become": st.booleans(),
                    },
                )
            ),
        )
        for n in (sorted(numbers) if draw(st.booleans()) else numbers)
    }


def variables(host: str, drawn: Drawn) -> dict[str, Any]:
    return {**({"ansible_host": drawn.address} if drawn.address != host else {}), **drawn.vars}


def as_ini(fleet: Mapping[str, Drawn]) -> dict[str, str]:
    def line(host: str) -> str:
        given_ = variables(host, fleet[host]).items()
        return " ".join((host, *(f"{key}={json.dumps(str(value))}" for key, value in given_)))

    groups = sorted({group for drawn in fleet.values() for group in drawn.groups})
    sections = [
        f"[{group}]\n" + "".join(f"{host}\n" for host, d in fleet.items() if group in d.groups)
        for group in groups
    ]
    return {"hosts.ini": "\n".join((*map(line, fleet), *sections)) + "\n"}


def as_yaml(fleet: Mapping[str, Drawn]) -> dict[str, str]:
    groups = sorted({group for drawn in fleet.values() for group in drawn.groups})
    children = {
        group: {"hosts": {host: None for host, d in fleet.items() if group in d.groups}}
        for group in groups
    }
    hosts = {host: variables(host, drawn) for host, drawn in fleet.items()}
    return {"hosts.yml": json.dumps({"all": {"hosts": hosts, "children": children}})}


def as_host_vars(fleet: Mapping[str, Drawn]) -> dict[str, str]:
    bare = {host: Drawn(address=host, groups=drawn.groups) for host, drawn in fleet.items()}
    files = {
        f"host_vars/{host}.yml": json.dumps(variables(host, drawn)) for host, drawn in fleet.items()
    }
    return {**as_ini(bare), **files}


def check(fleet: Mapping[str, Drawn], imported: Imported) -> None:
    nodes = written(imported)
    assert list(nodes) == list(fleet)
    for host, drawn in fleet.items():
        assert_same(nodes[host], drawn)


def assert_same(node: Node, drawn: Drawn) -> None:
    become = drawn.vars.get("ansible_become")
    assert (node.address, frozenset(node.groups)) == (drawn.address, drawn.groups)
    assert node.ssh.user == drawn.vars.get("ansible_user")
    assert node.ssh.port == drawn.vars.get("ansible_port")
    key = drawn.vars.get("ansible_ssh_private_key_file")
    assert (node.ssh.identity_file or "").endswith((key or "").removeprefix("~"))
    assert bool(node.ssh.identity_file) == bool(key)
    assert node.sudo.method == ("passwordless" if become else "none")


@given(fleets())
def test_an_ini_inventory(fleet: dict[str, Drawn]) -> None:
    check(fleet, result(as_ini(fleet)).imported)


@given(fleets())
def test_a_yaml_inventory(fleet: dict[str, Drawn]) -> None:
    check(fleet, result(as_yaml(fleet)).imported)


@given(fleets())
def test_variables_in_host_vars(fleet: dict[str, Drawn]) -> None:
    check(fleet, result(as_host_vars(fleet)).imported)


@given(fleets(), st.dictionaries(GROUPS, USERS), USERS)
def test_variables_in_groups(fleet: dict[str, Drawn], users: dict[str, str], common: str) -> None:
    """The user of a host is that of its last group by name, or that of all; its own line wins."""
    files = as_ini(fleet)
    files["group_vars/all.yml"] = json.dumps({"ansible_user": common})
    files |= {f"group_vars/{g}.yml": json.dumps({"ansible_user": u}) for g, u in users.items()}
    wanted = {
        host: Drawn(
            address=drawn.address,
            groups=drawn.groups,
            vars={
                "ansible_user": next(
                    (users[g] for g in sorted(drawn.groups, reverse=True) if g in users), common
                ),
                **drawn.vars,
            },
        )
        for host, drawn in fleet.items()
    }
    check(wanted, result(files).imported)
