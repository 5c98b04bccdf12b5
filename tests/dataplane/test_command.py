"""`nodeprep dataplane` the whole way: one session a node, the real tools, an honest exit code."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from nodeprep import runner
from nodeprep.errors import Unreachable
from nodeprep.shell import Script
from tests.dataplane.namespaces import NEEDS_NAMESPACES, SAMPLES
from tests.shells import PATH
from tests.test_cli import RESULT, called
from tests.test_runner import Door

pytestmark = NEEDS_NAMESPACES

SERVES = f"iptables-nft-restore <{SAMPLES / 'iptables-1.26.rules'}"
FULL = "ipset create full hash:ip maxelem 1; ipset add full 192.0.2.1"


def behind(setup: str) -> Callable[[Script], bytes]:
    """Return a node that is a network namespace of its own, after ``setup``."""

    def answer(script: Script) -> bytes:
        return subprocess.run(
            ("unshare", "--net", "dash", "-c", f"{setup}\nexec dash -s"),
            input=script.reveal().encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"PATH": PATH, "LC_ALL": "C"},
            check=False,
            timeout=120,
        ).stdout

    return answer


@pytest.fixture
def door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Door:
    """Open a door to two nodes: one serves, the other has nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NODEPREP_INVENTORY", raising=False)
    # Nothing answers at this port, whatever runs on the machine that tests.
    (tmp_path / "inventory.yaml").write_text(
        "defaults:\n"
        "  ssh: {known_hosts: ./known_hosts, config: none}\n"
        "  kube_proxy: {metrics_bind_address: '127.0.0.1:1'}\n"
        "nodes: [{name: 'node[1-2]', address: '192.0.2.[1-2]'}]\n"
    )
    one = Door(folder=tmp_path)
    one.behind = {"node1": behind(SERVES), "node2": behind(":")}
    monkeypatch.setattr(runner, "connect", one.connect)
    return one


def test_a_row_a_node_comes_from_one_session_each(door: Door) -> None:
    code, out, err = called("dataplane")
    assert (code, err) == (0, "")
    rows = [line.split()[:5] for line in out.splitlines()[:3]]
    assert rows[1:] == [["node1", "iptables", "7", "11", "73/82"], ["node2", "-", "-", "-", "-"]]
    assert (door.count("node1"), door.count("node2")) == (1, 1)


@pytest.mark.usefixtures("door")
def test_one_node_alone_shows_all_figures() -> None:
    code, out, _ = called("dataplane", "--limit", "node1")
    assert code == 0
    assert "iptables (by what is in the kernel: no answer)" in out
    assert "61 nat rules, 12 filter rules" in out


@pytest.mark.usefixtures("door")
def test_the_json_has_the_documented_shape() -> None:
    code, out, _ = called("dataplane", "-o", "json")
    body = json.loads(out)
    jsonschema.Draft202012Validator(RESULT).validate(body)
    assert (code, body["exit_code"], body["command"]) == (0, 0, "dataplane")


def test_something_full_is_exit_code_one(door: Door) -> None:
    door.behind["node2"] = behind(FULL)
    code, out, _ = called("dataplane")
    assert code == 1
    assert "fail  ipset full: 1 of 1 (100%)" in out


def test_a_node_that_cannot_be_reached_is_exit_code_four_and_hides_no_other(door: Door) -> None:
    door.behind["node2"] = Unreachable("gone")
    code, out, _ = called("dataplane")
    assert code == 4
    assert "node2: Unreachable: gone" in out
    assert "node1" in out


@pytest.mark.usefixtures("door")
def test_a_wrong_word_is_exit_code_two() -> None:
    assert called("dataplane", "--topic", "sysctl")[0] == 2
    assert called("dataplane", "--limit", "nobody")[0] == 2
