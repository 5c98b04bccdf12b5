"""A roll as a person reads it: nothing unprintable, every node once, and what to type."""

from dataclasses import replace

import click
import pytest

from nodeprep.model import Change, Finding, Outcome, Status
from nodeprep.report import roll as report
from nodeprep.report.roll import Row
from nodeprep.rollout.bridge import CANNOT_CARRY, FLUSHED
from nodeprep.rollout.machine import (
    ENDS,
    GOOD,
    Begin,
    Continue,
    Ended,
    Event,
    Roll,
    Stop,
    ending,
    roll,
)
from nodeprep.shell import Script
from tests.report.outcomes import NASTY, node

START = roll((("a",), ("b", "c")), at_once=2, already=["c"])
ROWS = {name: Row(gone="iptables", to="ipvs") for name in "abc"}
CHANGE = Change(
    topic="kube_proxy", subject="/f", summary="rewrite /f", action=Script(""), diff="-old\n+new"
)


def staged(**stages: str) -> Roll:
    return replace(START, stages={**START.stages, **stages}, phase="finished")  # type: ignore[dict-item]


def planned(outcomes: list[Outcome], **more: object) -> str:
    writes = {"a": [CHANGE], "b": [CHANGE]}
    values = {"start": START, "rows": ROWS, "writes": writes, "rules": ["a rule"], **more}
    return click.unstyle(report.planned(outcomes, **values))  # type: ignore[arg-type]


def outcome(name: str, *findings: Finding) -> Outcome:
    return Outcome(node=node(name), findings=findings)


def failed(name: str, actual: str = "bad") -> Finding:
    return Finding(
        topic="preflight", name=name, status=Status.FAIL, actual=actual, wanted="good", hint="mend"
    )


# --- before it ------------------------------------------------------------------------------


def test_the_plan_names_the_way_of_each_node_and_the_batches_of_those_that_go() -> None:
    lines = planned([]).splitlines()
    assert lines[:5] == [
        "iptables -> ipvs: a,b",
        "ipvs already: c",
        "batch 1: a",
        "batch 2: b",
        "a rule",
    ]


def test_a_difference_that_nodes_share_is_shown_once() -> None:
    text = planned([])
    assert text.count("+new") == 1
    assert "a,b\n  ~ rewrite /f\n      -old\n      +new" in text


@pytest.mark.parametrize(
    ("gone", "to"), [("ipvs", "nftables"), ("ipvs", "iptables"), ("nftables", "iptables")]
)
def test_what_the_bridge_cannot_carry_is_said(gone: str, to: str) -> None:
    text = planned([], rows={name: Row(gone=gone, to=to) for name in "abc"})
    assert all(sentence in text for sentence in CANNOT_CARRY[gone])  # type: ignore[index]
    assert (FLUSHED in text) == ((gone, to) == ("ipvs", "nftables"))
    same = {name: Row(gone=gone, to=gone) for name in "abc"}
    assert "cannot carry" not in planned([], rows=same)


def test_findings_that_nodes_share_are_shown_once_with_what_to_type() -> None:
    text = planned([outcome("a", failed("ipset")), outcome("b", failed("ipset"))])
    assert text.count("ipset: bad") == 1
    assert "wanted: good, type: mend" in text


def test_nothing_that_a_node_said_is_shown_unescaped() -> None:
    change = replace(CHANGE, summary=NASTY, diff=NASTY)
    shown = planned([outcome("a", failed(NASTY, NASTY))], writes={"a": [change]})
    rows = {**ROWS, "a": replace(ROWS["a"], detail=NASTY)}
    shown += click.unstyle(report.ended(staged(a="returned"), rows, "r1"))
    end = Ended(node="a", verb="switch", verdict="failed", detail=NASTY)
    shown += report.line(end, staged(a="back"), 1.0)
    assert all(character.isprintable() or character == "\n" for character in shown)


# --- while it goes on -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "state", "line"),
    [
        (Begin(), START, "begun: 2 nodes to switch"),
        (Continue(), START, "going on"),
        (Stop(reason="no"), START, "stopping: no; nodes in hand are finished or undone"),
        (Ended(node="a", verb="switch", verdict="ok"), staged(a="linger"), "a  switch ok (1.5 s)"),
        (
            Ended(node="a", verb="clean", verdict="failed", detail="why"),
            staged(a="back"),
            "a  clean failed (1.5 s): why; going back",
        ),
        (
            Ended(node="a", verb="settle", verdict="ok"),
            staged(a="done"),
            "a  settle ok (1.5 s); switched",
        ),
    ],
)
def test_each_event_is_one_line(event: Event, state: Roll, line: str) -> None:
    assert report.line(event, state, 1.46) == line


def test_the_table_has_the_nodes_that_were_begun() -> None:
    assert [row[0] for row in report.table(staged(a="soak"), ROWS)] == ["a", "c"]


# --- after it -------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ENDS)
def test_every_node_is_told_once_and_how_the_roll_ended(end: str) -> None:
    state = staged(a=end)
    text = click.unstyle(report.ended(state, ROWS, "r1"))
    told = [line.partition("  ")[0] for line in text.splitlines() if "  " in line[1:5]]
    assert [name for name in told if name in ROWS] == ["a", "b", "c"]
    assert f"run r1: {ending(state)}" in text
    assert ("NEEDS OPERATOR: a" in text) == (end == "needs-operator")
    assert "nodeprep switch --resume r1" in text
    assert ("nodeprep rollback r1" in text) == (end == "done")


def test_a_roll_that_is_done_is_not_to_be_resumed() -> None:
    text = report.ended(staged(a="done", b="done"), ROWS, "r1")
    assert "--resume" not in text
    assert "nodeprep rollback r1" in text


def test_a_node_that_needs_an_operator_has_two_commands_to_run() -> None:
    text = click.unstyle(report.ended(staged(a="needs-operator"), ROWS, "r1"))
    assert text.count("  on a: ") == 2
    assert "sh /var/lib/nodeprep/switch/r1/way-back go_back" in text


def test_time_and_losses_are_told_where_they_are_known() -> None:
    row = Row(seconds=12.34, probed=400, lost=2, unfinished=1, detail="why")
    text = click.unstyle(report.ended(staged(a="done"), {**ROWS, "a": row}, "r1"))
    assert (
        "a  switched  (12.3 s, 2 of 400 probe connections failed, "
        "1 old IPVS connections were still open and ended, why)"
    ) in text
    assert "b  not begun\n" in text


def test_good_ends_are_green() -> None:
    for end in ENDS:
        line = report.ended(staged(a=end), ROWS, "r1").splitlines()[1]
        assert ("\x1b[32m" in line) == (end in GOOD)
