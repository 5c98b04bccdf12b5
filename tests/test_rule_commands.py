"""``nodeprep rules`` from the command line to real iptables on two nodes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from nodeprep import runner
from nodeprep.errors import Unreachable
from tests.namespaces import Namespace, namespace
from tests.shells import NEEDS_ROOT
from tests.test_cli import RESULT, called, said_once
from tests.test_runner import Door

pytestmark = NEEDS_ROOT

MINE = '-m set --match-set myset src -m comment --comment "my set" -j RETURN'
RULES = f"""\
ipset create myset hash:ip
iptables -t nat -A PREROUTING {MINE}
iptables -t nat -N KUBE-SERVICES
iptables -t nat -A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
"""
SAVED = "iptables-save | grep -v '^#'"


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Namespace]]:
    """Two nodes with the same rules, and an inventory of them in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NODEPREP_INVENTORY", raising=False)
    (tmp_path / "inventory.yaml").write_text(
        "defaults: {ssh: {known_hosts: ./known_hosts, config: none}, ipsets: {myset: {}},\n"
        "  bypass_rules: [{set: myset, comment: my set}]}\n"
        "nodes: [{name: 'node[1-2]', address: '192.0.2.[1-2]'}]\n"
    )
    door = Door(folder=tmp_path)
    monkeypatch.setattr(runner, "connect", door.connect)
    with namespace() as one, namespace() as two:
        nodes = {"node1": one, "node2": two}
        for name, node in nodes.items():
            node.ask(RULES)
            door.behind[name] = node.run
        yield nodes


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What an operator was asked; they say no."""
    asked: list[str] = []

    def confirmed(question: str) -> bool:
        asked.append(question)
        return False

    monkeypatch.setattr("nodeprep.rule_commands.confirmed", confirmed)
    return asked


def saved(fleet: dict[str, Namespace]) -> list[str]:
    return [node.ask(SAVED) for node in fleet.values()]


def result(*arguments: str) -> tuple[int, Any]:
    code, out, err = called(*arguments, "--output", "json")
    assert out, err
    body = json.loads(out)
    jsonschema.Draft202012Validator(RESULT).validate(body)
    assert body["exit_code"] == code
    return code, body


# --- listing --------------------------------------------------------------------------------


def test_rules_that_nodes_share_are_told_once(fleet: dict[str, Namespace]) -> None:
    before = saved(fleet)
    code, out, _ = called("rules", "--table", "nat", "--match", "match-set")
    assert code == 0
    assert out.splitlines() == [
        "node[1-2]",
        "  nat PREROUTING (IPv4, nft backend)",
        f"        1  {MINE}",
    ]
    fleet["node2"].ask("iptables -t nat -I PREROUTING -j KUBE-SERVICES")
    before[1] = fleet["node2"].ask(SAVED)
    out = called("rules", "--match", "match-set")[1]
    assert f"        2  {MINE}" in out.partition("node2")[2]
    assert saved(fleet) == before


def test_the_json_has_every_part_of_a_rule(fleet: dict[str, Namespace]) -> None:
    code, body = result("rules", "--limit", "node1", "--match", "match-set")
    assert code == 0
    assert body["nodes"][0]["rules"] == [
        {
            "backend": "nft",
            "family": 4,
            "table": "nat",
            "chain": "PREROUTING",
            "number": 1,
            "text": MINE,
            "comment": "my set",
            "target": "RETURN",
        }
    ]
    assert list(fleet) == ["node1", "node2"]


@pytest.mark.usefixtures("fleet")
def test_a_node_without_such_a_rule_says_so() -> None:
    assert "  no such rule" in called("rules", "--match", "nothing of the kind")[1]


def test_a_node_that_does_not_answer_hides_no_other(fleet: dict[str, Namespace]) -> None:
    assert fleet
    runner_door = runner.connect.__self__  # type: ignore[attr-defined]
    runner_door.behind["node1"] = Unreachable("no way to it")
    code, out, _ = called("rules")
    assert code == 4
    assert "node2\n  nat PREROUTING" in out
    assert "node1: Unreachable: no way to it" in out


# --- removing -------------------------------------------------------------------------------


def test_a_rule_is_removed_by_its_comment_where_it_is(fleet: dict[str, Namespace]) -> None:
    fleet["node2"].ask(f"iptables -t nat -D PREROUTING {MINE}")
    code, body = result("rules", "remove", "--comment", "my set", "--yes")
    assert code == 0
    assert [[s["exit_status"] for s in n["steps"]] for n in body["nodes"]] == [[0], []]
    assert not any("myset" in text for text in saved(fleet))
    assert all("KUBE-SERVICES" in text for text in saved(fleet))


def test_a_rule_is_removed_by_all_that_it_says(fleet: dict[str, Namespace]) -> None:
    words = ["--", "-t", "nat", "PREROUTING", *MINE.replace('"my set"', "my set").split(" ")]
    code, out, err = called("rules", "--limit", "node1", "remove", "--yes", *words)
    assert code == 0, err
    assert "done  remove rule 1 of nat PREROUTING (IPv4, nft backend)" in out
    assert ["myset" in text for text in saved(fleet)] == [False, True]


def test_it_is_shown_and_asked_and_no_means_no(
    fleet: dict[str, Namespace], answers: list[str]
) -> None:
    before = saved(fleet)
    code, out, err = called("rules", "remove", "--comment", "my set")
    assert (code, out) == (130, "")
    assert answers == ["remove 2 rules?"]
    assert f"~ remove rule 1 of nat PREROUTING (IPv4, nft backend): {MINE}" in err
    assert "the inventory wants this rule on node[1-2]: the next apply puts it back" in err
    assert saved(fleet) == before


def test_more_than_one_rule_of_a_node_is_refused_unless_all_are_meant(
    fleet: dict[str, Namespace],
) -> None:
    fleet["node2"].ask("ip6tables -A INPUT -m comment --comment 'my set'")
    before = saved(fleet)
    code, out, err = called("rules", "remove", "--comment", "my set", "--yes")
    assert (code, out) == (2, "")
    assert "2 rules of node2 are meant" in said_once(err)
    assert saved(fleet) == before
    assert result("rules", "remove", "--comment", "my set", "--yes", "--all")[0] == 0
    assert not any("my set" in text for text in saved(fleet))


def test_kube_proxys_rules_are_refused_unless_they_are_meant(fleet: dict[str, Namespace]) -> None:
    before = saved(fleet)
    words = ("rules", "remove", "--yes", "--comment", "kubernetes service portals")
    code, out, err = called(*words)
    assert (code, out) == (2, "")
    assert "a rule of kube-proxy or kubelet" in said_once(err)
    assert saved(fleet) == before
    assert called(*words, "--kube-proxy")[0] == 0
    assert not any("-j KUBE-SERVICES" in text for text in saved(fleet))


@pytest.mark.usefixtures("fleet")
def test_what_is_not_there_needs_no_removing(answers: list[str]) -> None:
    code, out, _ = called("rules", "remove", "--comment", "nothing")
    assert code == 0
    assert "no such rule" in out
    assert answers == []


@pytest.mark.parametrize(
    "words",
    [
        ["remove"],
        ["remove", "--comment", "x", "--", "-t", "nat", "A", "-j", "B"],
        ["remove", "--", "PREROUTING", "-j", "B"],
        ["remove", "3"],
        ["--table", "mangled"],
        ["--family", "5"],
    ],
)
@pytest.mark.usefixtures("fleet")
def test_a_wrong_word_is_one_line_and_exit_code_two(words: list[str]) -> None:
    code, out, err = called("rules", *words)
    assert (code, out) == (2, "")
    assert said_once(err)


def test_a_rule_that_changed_while_somebody_thought_is_left_alone(
    fleet: dict[str, Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    def confirmed(_: str) -> bool:
        fleet["node1"].ask("iptables -t nat -I PREROUTING -d 192.0.2.1 -j RETURN")
        return True

    monkeypatch.setattr("nodeprep.rule_commands.confirmed", confirmed)
    code, body = result("rules", "remove", "--comment", "my set")
    assert code == 3
    assert [n["error"] and n["error"]["kind"] for n in body["nodes"]] == ["StalePlan", None]
    assert ["myset" in text for text in saved(fleet)] == [True, False]
