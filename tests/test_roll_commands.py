"""``switch``, ``rollback`` and ``runs`` over simulated nodes: what is typed, shown, left behind."""

import io
import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from nodeprep import journal, rolling, runner
from nodeprep.errors import Unreachable
from nodeprep.model import Finding, Node, Outcome, Status
from nodeprep.roll_screen import Telling
from nodeprep.rollout import preflight, systemd
from nodeprep.rollout.machine import Act
from nodeprep.rollout.switching import Aim
from nodeprep.rollout.windows import Window
from tests.rollout.test_preflight import facts
from tests.shells import NEEDS_ROOT
from tests.simulated import RUN, Fleet, Kill, Questions, SimKind, killed, patch
from tests.test_cli import called

pytestmark = NEEDS_ROOT


class Cluster(Fleet):
    """A fleet with an inventory, whose preflight finds what a test says."""

    found: dict[str, Finding | Unreachable]

    def look(
        self,
        nodes: Sequence[Node],
        _: object,
        aims: Mapping[str, Aim],
        __: object,
        **___: object,
    ) -> Iterator[Outcome]:
        """Give what a look at the nodes gives, without a node that could be asked all of it."""
        for node in nodes:
            found = self.found.get(node.name)
            if isinstance(found, Unreachable):
                yield Outcome(node=node, error=found)
                continue
            mode: Any = self.node(node.name).now.effect
            seen = facts(mode=mode, at=node)
            done = preflight.already(node, seen, aims[node.name])
            yield Outcome(node=node, facts=seen, findings=() if done or not found else (found,))

    @property
    def modes(self) -> list[str]:
        """The mode in effect of each node."""
        return [self.node(name).now.effect for name in self.names]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Give three nodes in iptables mode, an inventory of them, and a home of their journals."""
    one = Cluster(folder=tmp_path)
    one.found = {}
    patch(monkeypatch, one)
    ids = itertools.chain([RUN], (f"20261123T0{n}0000Z-ffffff" for n in range(8, 10)))
    monkeypatch.setattr(runner, "run_id", ids.__next__)
    monkeypatch.setattr(rolling, "look", one.look)
    kind = SimKind(questions=Questions(fleet=one.nodes))
    monkeypatch.setattr(systemd, "Systemd", lambda: kind)
    began = Telling.began

    def told(telling: Any, act: Act) -> None:
        one.door.verbs[act.node] = act.verb
        began(telling, act)

    monkeypatch.setattr(Telling, "began", told)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "inventory.yaml").write_text(
        "defaults: {ssh: {known_hosts: ./hosts, config: none}, kube_proxy: {mode: iptables}}\n"
        "nodes:\n" + "".join(f"  - {{name: {name}, address: 192.0.2.1}}\n" for name in one.names)
    )
    return one


def switch(*more: str, to: str = "ipvs") -> tuple[int, str, str]:
    return called("switch", "--to", to, "--yes", "--soak", "0", "--linger", "0", *more)


def paths(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


# --- the whole way --------------------------------------------------------------------------


def test_a_roll_tells_what_it_will_do_each_thing_it_does_and_what_came_of_it(
    cluster: Cluster,
) -> None:
    code, out, err = switch("--batch", "2")
    assert (code, err, cluster.modes) == (0, "", ["ipvs"] * 3)
    lines = out.splitlines()
    assert lines[0].startswith("iptables -> ipvs: ")
    assert "batch 1: a" in lines
    assert any(line.startswith("a  switch ok (") for line in lines)
    assert f"run {RUN}: done" in lines
    assert f"to take it back: nodeprep rollback {RUN}" in lines
    assert any(line.startswith("now write `mode: ipvs`") for line in lines)


@pytest.mark.usefixtures("cluster")
def test_every_line_is_in_a_log_beside_the_journal() -> None:
    _, out, __ = switch()
    log = (journal.default_folder() / f"{RUN}.log").read_text()
    told = [line.partition(" ")[2] for line in log.splitlines()]
    assert len(told) == 16
    assert all(line in out for line in told)


def test_a_dry_run_shows_the_same_and_touches_nothing(cluster: Cluster, tmp_path: Path) -> None:
    before = paths(tmp_path)
    code, dry, _ = switch("--dry-run")
    assert code == 0
    assert dry.endswith("nothing was touched\n")
    assert paths(tmp_path) == before
    assert cluster.door.calls == {}
    _, out, __ = switch()
    assert out.startswith(dry.removesuffix("nothing was touched\n"))


@pytest.mark.usefixtures("cluster")
def test_without_a_yes_nothing_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    before = paths(tmp_path)
    code, out, err = called("switch", "--to", "ipvs")
    assert code == 130
    assert "switch 3 nodes?" in out + err
    assert paths(tmp_path) == before


def test_a_second_switch_finds_nothing_to_do(cluster: Cluster) -> None:
    switch()
    calls = dict(cluster.door.calls)
    code, out, _ = switch()
    assert (code, cluster.door.calls) == (0, calls)
    assert "ipvs already: " in out
    assert out.endswith("nothing to switch\n")


def test_a_roll_is_taken_back_by_its_name_in_the_other_order(cluster: Cluster) -> None:
    switch()
    code, out, err = called("rollback", RUN[:12], "--yes", "--soak", "0")
    assert (code, err) == (0, "")
    assert cluster.modes == ["iptables"] * 3
    switched = [line[0] for line in out.splitlines() if "  switch ok" in line]
    assert switched == ["c", "b", "a"]


def test_a_failed_roll_is_no_lock_on_the_next(cluster: Cluster) -> None:
    cluster.node("a").set("shut-switch")
    code, out, _ = switch()
    assert (code, cluster.modes) == (1, ["iptables"] * 3)
    assert f"to go on: nodeprep switch --resume {RUN}" in out
    cluster.node("a").clear("shut-switch")
    code, _, err = switch()
    assert (code, err, cluster.modes) == (0, "", ["ipvs"] * 3)


def test_a_node_that_went_silent_before_it_was_touched_is_unreachable(cluster: Cluster) -> None:
    cluster.door.gone.add("a")
    code, out, _ = switch()
    assert (code, cluster.modes) == (4, ["iptables"] * 3)
    assert "a  not touched" in out


def test_beside_a_node_that_failed_a_silent_one_is_not_all_of_it(cluster: Cluster) -> None:
    cluster.door.gone.add("b")
    cluster.node("a").set("shut-switch")
    code, out, _ = switch("--max-failures", "2")
    assert (code, cluster.modes) == (1, ["iptables", "iptables", "ipvs"])
    assert "b  not touched" in out


def test_a_node_that_another_roll_has_in_hand_was_reached(cluster: Cluster) -> None:
    cluster.node("a").set("armed", "another-roll")
    code, out, _ = switch()
    assert (code, cluster.modes) == (1, ["iptables"] * 3)
    assert "a  not touched" in out


def test_a_failed_roll_can_be_resumed(cluster: Cluster) -> None:
    cluster.node("b").set("shut-switch")
    assert switch()[0] == 1
    cluster.node("b").clear("shut-switch")
    code, out, err = called("switch", "--resume", RUN, "--yes")
    assert (code, err, cluster.modes) == (0, "", ["ipvs"] * 3)
    assert "a  switch ok" not in out


def test_a_way_back_that_fails_needs_an_operator_and_says_what_to_type(cluster: Cluster) -> None:
    cluster.node("a").set("shut-switch")
    cluster.node("a").set("stuck")
    code, out, _ = switch()
    assert code == 5
    assert "NEEDS OPERATOR: a" in out
    assert f"sh /var/lib/nodeprep/switch/{RUN}/way-back go_back" in out


def test_a_killed_roll_keeps_the_cluster_until_it_is_resumed_or_given_up(
    cluster: Cluster,
) -> None:
    assert killed(switch, Kill(record=5))
    runner.run_id()
    code, _, err = switch()
    assert (code, "was left in the middle" in err) == (3, True)
    assert f"--resume {RUN}" in err
    code, _, err = called("switch", "--resume", RUN, "--yes")
    assert (code, err, cluster.modes) == (0, "", ["ipvs"] * 3)
    assert called("runs")[1].split()[:2] == [RUN, "done"]


@pytest.mark.usefixtures("cluster")
def test_a_killed_roll_that_is_given_up_lets_the_next_begin() -> None:
    assert killed(switch, Kill(record=1))
    runner.run_id()
    assert "is given up" in called("runs", "--unlock", RUN)[1]
    assert switch()[0] == 0


def test_the_list_of_runs_tells_how_each_ended(cluster: Cluster) -> None:
    assert called("runs") == (0, "", "")
    cluster.node("c").set("shut-switch")
    switch()
    code, out, _ = called("runs")
    assert code == 0
    assert out.split()[:2] == [RUN, "failed"]
    assert "to ipvs: 2 done, 1 returned" in out


# --- what is refused ------------------------------------------------------------------------


def test_a_node_that_does_not_answer_keeps_the_roll_from_beginning(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.found["b"] = Unreachable("no way to b")
    code, out, err = switch()
    assert code == 4
    assert "b: Unreachable: no way to b" in out
    assert "--limit '!b'" in err
    assert cluster.door.calls == {}
    assert not (tmp_path / "state").exists()


def test_a_failed_check_keeps_the_roll_from_beginning(cluster: Cluster) -> None:
    cluster.found["c"] = Finding(
        topic="preflight", name="ipset", status=Status.FAIL, actual="not there", hint="install it"
    )
    code, out, err = switch()
    assert (code, cluster.door.calls) == (1, {})
    assert "ipset: not there" in out
    assert "the preflight failed on c; nothing was touched" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "either --to MODE or --resume RUN"),
        (["--to", "ipvs", "--resume", "x"], "either --to MODE or --resume RUN"),
        (["--to", "userspace"], "userspace"),
        (["--resume", "nothing"], "there is no run"),
        (["--to", "ipvs", "--soak", "1d"], "'1d' is no time"),
        (["--to", "ipvs", "--batch", "0"], "no node at all"),
        (["--to", "ipvs", "--batch", "x"], "neither a number"),
        (["--to", "ipvs", "--max-failures", "101%"], "neither a number"),
        (["--to", "ipvs", "--max-unavailable", "0"], "no node at all"),
        (["--to", "ipvs", "--dead-man", "90s"], "too short for --gate-limit 90s"),
        (["--to", "ipvs", "--window", "25:00-26:00"], "is no window"),
        (["--to", "ipvs", "--gate", "ftp://x"], "is no gate"),
        (["--to", "ipvs", "--probe", "x"], "is no address"),
        (["--to", "ipvs", "--canary", "-1"], "--canary"),
        (["--to", "ipvs", "--order", "random"], "random"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_words_that_make_no_sense_are_a_usage_error_before_any_node_is_seen(
    cluster: Cluster, words: list[str], said: str
) -> None:
    code, _, err = called("switch", "--yes", *words)
    assert (code, said in err) == (2, True)
    assert cluster.door.calls == {}


@pytest.mark.usefixtures("cluster")
def test_a_rollback_of_no_run_or_of_other_nodes_is_refused() -> None:
    assert called("rollback", "nothing")[0] == 2
    switch("--limit", "a")
    code, _, err = called("rollback", RUN, "--limit", "b", "--yes")
    assert (code, "over none of these nodes" in err) == (2, True)


def test_a_resume_without_a_node_of_the_roll_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    cluster.node("b").set("shut-switch")
    switch()
    file = tmp_path / "inventory.yaml"
    file.write_text(
        "".join(
            line for line in file.read_text().splitlines(keepends=True) if "name: c" not in line
        )
    )
    code, _, err = called("switch", "--resume", RUN, "--yes")
    assert (code, "the inventory has no longer c" in err) == (2, True)


def test_a_closed_window_begins_nothing_and_can_be_resumed(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = iter(["the window is closed"])
    monkeypatch.setattr(Window, "refusal", lambda *_: next(refused, ""))
    code, out, _ = switch("--window", "22:00-05:30")
    assert (code, cluster.modes) == (1, ["iptables"] * 3)
    assert f"run {RUN}: stopped" in out
    assert called("switch", "--resume", RUN, "--yes")[0] == 0
    assert cluster.modes == ["ipvs"] * 3
