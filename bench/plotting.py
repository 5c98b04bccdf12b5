"""The figures of `bench.scale` as a picture: what grows with the fleet, and how."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt

OURS, THEIRS = "#2b6cb0", "#cbd5e0"
STYLE: Mapping[Any, Any] = {
    "svg.fonttype": "none",  # words stay words
    "svg.hashsalt": "nodeprep",  # the same figures make the same file
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
}


def draw(results: Path, picture: Path) -> None:
    """Draw the runs in ``results`` whose nodes were all well."""
    document = json.loads(results.read_text())
    rows = sorted(
        (run for run in document["runs"] if run["fleet"] == "well"), key=lambda run: run["nodes"]
    )
    with mpl.rc_context(dict(STYLE)):
        figure, axes = plt.subplots(1, 4, figsize=(11, 2.8), layout="constrained")
        labels = [f"{row['nodes']:,}" for row in rows]
        _bars(axes[0], labels, [row["cost"]["wall"] for row in rows], "wall, seconds")
        _cpu(axes[1], labels, rows)
        _bars(axes[2], labels, [row["cost"]["peak"] / 1e6 for row in rows], "memory, MB")
        rates = [row["nodes"] / row["cost"]["wall"] for row in rows]
        _bars(axes[3], labels, rates, "nodes a second")
        figure.supxlabel("nodes verified in one run", fontsize=9)
        figure.savefig(picture, format="svg", metadata={"Date": None})
        plt.close(figure)


def _bars(axes: Any, labels: Sequence[str], values: Sequence[float], title: str) -> None:
    axes.set_title(title)
    axes.bar_label(axes.bar(labels, values, color=OURS, width=0.6), fmt=_short, padding=2)
    axes.margins(y=0.15)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _cpu(axes: Any, labels: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    _bars(axes, labels, [1000 * r["cost"]["cpu"] / r["nodes"] for r in rows], "CPU ms a node")
    servers = [1000 * row["servers_cpu"] / row["nodes"] for row in rows]
    beside = [position + 0.42 for position in range(len(rows))]
    axes.bar(beside, servers, color=THEIRS, width=0.2, label="simulated nodes")
    axes.legend(frameon=False, loc="upper right", fontsize=8)


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"  # noqa: PLR2004
