"""Medians, ratios, and a table that says what was measured."""

import dataclasses

import pytest

from bench.comparison.results import Comparison, Kind, Run, document, read, table


def run(contender: str, wall: float, *, kind: Kind = "cold", changes: int = 0) -> Run:
    return Run(
        contender=contender,
        round=1,
        kind=kind,
        wall=wall,
        cpu=wall * 10,
        memory=20.0,
        processes=3,
        connections=1.0,
        sessions=2.0,
        changes=changes,
        others=0.04,
    )


COMPARISON = Comparison(
    nodes=5,
    machine={"accelerator": "tcg"},
    labels={"script": "by hand", "other": "another tool"},
    base="script",
    runs=(
        *(run("script", wall, changes=4) for wall in (9.0, 10.0, 30.0)),
        *(run("other", wall, changes=1) for wall in (20.0, 26.0)),
        run("script", 2.0, kind="no change"),
        run("other", 3.0, kind="no change"),
        run("other", 3.0, kind="no change", changes=1),
        run("other", 1.0, kind="one node"),
    ),
)


def row(kind: Kind, label: str) -> list[str]:
    part = table(COMPARISON).split("\n\n")[0 if kind == "cold" else 1]
    (line,) = [line for line in part.splitlines() if line.startswith(f"| {label} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_middle_counts_and_not_the_mean() -> None:
    assert COMPARISON.median("script", "cold", "wall") == 10.0
    assert COMPARISON.median("other", "cold", "wall") == 23.0


def test_a_ratio_is_to_the_base_of_the_same_kind() -> None:
    assert COMPARISON.ratio("other", "cold") == pytest.approx(2.3)
    assert COMPARISON.ratio("other", "no change") == pytest.approx(1.5)


def test_a_row_has_the_median_and_both_ends() -> None:
    assert row("cold", "by hand")[1:4] == ["10.0 s (9.0 to 30.0)", "1.00", "20 ms"]


def test_what_one_more_node_costs_has_no_start_in_it() -> None:
    assert COMPARISON.cpu_of_one_more("other") == pytest.approx((30 - 10) / 4)
    assert row("no change", "another tool")[3] == "6 ms (5 ms)"
    assert row("no change", "by hand")[3] == "4 ms"


def test_a_row_tells_whether_the_tool_spoke_of_changes() -> None:
    assert row("cold", "by hand")[6] == "yes"
    assert row("no change", "by hand")[6] == "no"
    assert row("no change", "another tool")[6] == "in 1 of 2 runs"


def test_a_row_tells_how_much_of_the_machine_others_had() -> None:
    assert row("cold", "by hand")[7] == "4%"


def test_a_comparison_without_its_base_has_no_ratios() -> None:
    alone = dataclasses.replace(COMPARISON, runs=(run("other", 1.0),))
    assert "| another tool | 1.0 s (1.0 to 1.0) |  |" in table(alone)


def test_a_document_reads_back_as_it_was() -> None:
    assert read(document(COMPARISON)) == COMPARISON


@pytest.mark.parametrize("text", ["{}", "[]", '{"format": "another"}'])
def test_another_document_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="fleet comparison"):
        read(text)
