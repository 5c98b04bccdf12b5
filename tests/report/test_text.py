"""What a person reads: equal results once, every node in the summary, nothing unprintable."""

import dataclasses
import re
from collections.abc import Callable, Sequence

import click
import pytest

from nodeprep import ipvs
from nodeprep.errors import Unreachable
from nodeprep.inventory import expand
from nodeprep.model import Fact, Facts, Node, Outcome, Status, StepResult
from nodeprep.report import text
from nodeprep.shell import Script
from nodeprep.topics import proxy_mode
from tests import facts
from tests.report.outcomes import (
    ALL,
    CHANGES,
    FINDINGS,
    NASTY,
    changed,
    failed,
    finding,
    node,
    read,
)

View = Callable[[Sequence[Outcome]], str]
VIEWS: dict[str, View] = {
    "facts": text.told,
    "verify": text.verified,
    "plan": text.planned,
    "apply": text.applied,
}


def plain(view: str, outcomes: Sequence[Outcome] = ALL) -> str:
    return click.unstyle(VIEWS[view](outcomes))


def summary(shown: str) -> dict[str, tuple[str, ...]]:
    """Return the nodes under each kind of end that the last lines tell."""
    ends = re.findall(
        r"^(ready|not ready|left alone|no answer|not begun): (.*)$", shown, re.MULTILINE
    )
    return {end: expand(names) for end, names in ends}


# --- all of them ----------------------------------------------------------------------------


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_that_a_node_said_is_shown_unescaped(view: str) -> None:
    nasty = finding(Status.FAIL, name=NASTY, actual=NASTY, wanted=NASTY, hint=NASTY)
    change = dataclasses.replace(CHANGES[0], summary=NASTY, diff=NASTY, subject=NASTY)
    outcome = Outcome(
        node=node("a"),
        facts=Facts({"greeting": NASTY, "list": (NASTY,), "map": {"key": NASTY}}),
        changes=(change,),
        steps=(StepResult(change=change, exit_status=1),),
        findings=(nasty,),
        error=Unreachable(NASTY, hint=NASTY),
    )
    shown = plain(view, [outcome])
    assert shown.replace("\n", "").isprintable()
    assert "\\x1b]0;owned" in shown


@pytest.mark.parametrize("view", VIEWS)
def test_no_secret_is_shown(view: str) -> None:
    assert "canary" not in plain(view)


@pytest.mark.parametrize("view", VIEWS)
def test_an_error_is_told_with_what_to_type(view: str) -> None:
    shown = plain(view)
    assert "lost1: Unreachable: gone\n          type: look" in shown
    assert "held1: LockHeld: held by ann" in shown


@pytest.mark.parametrize("view", VIEWS)
def test_no_node_at_all_is_shown_too(view: str) -> None:
    assert isinstance(plain(view, ()), str)


def test_the_same_error_of_many_nodes_is_told_once() -> None:
    lost = [failed(f"node{n}", Unreachable("gone")) for n in range(1, 10)]
    shown = plain("verify", lost)
    assert "node[1-9]: Unreachable: gone" in shown
    assert shown.count("gone") == 1


def test_errors_that_differ_in_names_and_addresses_alone_are_told_once() -> None:
    lost = [
        Outcome(
            node=Node(name=f"node{n}", address=f"10.0.0.{n}"),
            error=Unreachable(f"r@10.0.0.{n}:22: gone", hint=f"ssh r@10.0.0.{n}; see node{n}"),
        )
        for n in range(1, 40)
    ]
    shown = plain("verify", lost)
    assert "node[1-39]: Unreachable: r@ADDRESS:22: gone\n" in shown
    assert "type: ssh r@ADDRESS; see NAME\n" in shown
    assert shown.count("gone") == 1
    assert "r@10.0.0.7:22: gone" in plain("verify", lost[6:7])


def test_what_is_no_name_of_the_node_stays_as_it_is() -> None:
    error = Unreachable("a: 10.0.0.11 and 10.0.0.1x are a-b, not 10.0.0.1")
    others = [Outcome(node=Node(name=name, address="10.0.0.1"), error=error) for name in ("x", "y")]
    assert "x,y: Unreachable: a: 10.0.0.11 and 10.0.0.1x are a-b, not ADDRESS" in plain(
        "verify", others
    )


# --- verify ---------------------------------------------------------------------------------


def test_a_long_list_of_names_is_a_number_in_the_summary_and_told_above() -> None:
    lost = [failed(f"node{n}", Unreachable("gone")) for n in range(1, 400, 3)]
    shown = plain("verify", lost)
    assert "\nno answer: 133 nodes" in shown
    assert set(expand(shown.partition(":")[0].strip())) == {o.node.name for o in lost}


def test_the_summary_names_every_node_exactly_once() -> None:
    for view in ("verify", "apply"):
        ends = summary(plain(view))
        assert ends == {
            "ready": ("ready1", "ready2"),
            "not ready": ("broken1", "wrong1"),
            "left alone": ("held1", "stale1"),
            "no answer": ("lost1", "lost2"),
            "not begun": ("late1",),
        }


def test_equal_findings_are_shown_once_under_their_folded_nodes() -> None:
    shown = plain("verify", [read(f"node{n}", *FINDINGS) for n in range(1, 41)])
    assert shown.startswith("node[1-40]\n")
    assert shown.count("check fail") == 1


def test_a_finding_says_what_is_what_should_be_and_what_to_type() -> None:
    shown = plain("verify", [read("a", finding(Status.FAIL))])
    assert re.search(r"fail  check fail +is\n +wanted: should be, type: type this\n", shown)


def test_a_finding_that_is_ok_is_one_line() -> None:
    shown = plain("verify", [read("a", finding(Status.OK))])
    assert "wanted" not in shown
    assert "ok    check ok" in shown


def test_only_problems_leaves_out_what_is_ok() -> None:
    outcomes = [read("a", *FINDINGS)]
    shown = click.unstyle(text.verified(outcomes, only_problems=True))
    assert "check ok" not in shown
    assert all(f"check {status}" in shown for status in ("warn", "fail", "skip"))
    assert summary(shown) == {"not ready": ("a",)}


# --- facts ----------------------------------------------------------------------------------


def test_facts_are_shown_by_the_names_that_the_json_has() -> None:
    shown = plain("facts", [read("a")])
    assert shown.splitlines()[:2] == ["a", "  greeting: hello"]
    assert "    /etc/a.conf:\n      kind: regular\n      mode: 0640\n" in shown


def test_virtual_servers_are_shown_as_a_table() -> None:
    table = Fact(name="ipvsadm", script=lambda _: "", parse=ipvs.parse)
    value = proxy_mode.Effective(running=True, virtual_servers=facts.read(table, "three-backends"))
    shown = plain("facts", [Outcome(node=node("a"), facts=Facts({"proxy_mode": value}))])
    assert "virtual_servers:" in shown
    assert re.search(r"^ +-> \S+ +\w+ +weight \d+, \d+ active, \d+ inactive$", shown, re.MULTILINE)


# --- plan and apply -------------------------------------------------------------------------


def test_a_plan_shows_each_change_and_its_diff_and_that_nothing_was_changed() -> None:
    shown = plain("plan", [changed("a"), changed("b")])
    assert shown.startswith("a,b\n  ~ write /etc/b.conf\n      --- /dev/null\n")
    assert "\n      +new\n" in shown
    assert shown.endswith("6 changes on 2 nodes; nothing was changed")


def test_a_plan_shows_what_no_change_can_mend() -> None:
    mendable = finding(Status.FAIL, name="mendable", hint="nodeprep apply")
    shown = plain("plan", [read("a", mendable, finding(Status.FAIL))])
    assert "mendable" not in shown
    assert "check fail" in shown
    assert shown.endswith("0 changes on 1 node; nothing was changed")


def test_apply_shows_what_was_done_failed_and_not_tried() -> None:
    lines = plain("apply", [changed("a")]).splitlines()
    assert lines[1:4] == [
        "  done  write /etc/b.conf",
        "  failed  write /etc/key (secret, mode 0600)",
        "  not tried  do step 0",
    ]
    assert lines[-1] == "1 change made on 1 node"


def test_changes_that_differ_only_in_what_they_do_are_not_folded() -> None:
    other = (*CHANGES[:2], dataclasses.replace(CHANGES[2], action=Script("echo two")))
    shown = plain("plan", [changed("a"), changed("b", other)])
    assert shown.count("~ do step 0") == 2
