"""A comparison as a picture.

    python -m bench.comparison.chart RESULT.json PICTURE.svg

The only module that needs matplotlib, and so is run by the environment that has it.
"""

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from bench.comparison.results import KINDS, Comparison, Kind, read

_OURS, _OTHERS = "#1b6ca8", "#b8bfc6"
_STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "nodeprep",  # equal figures, equal bytes
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_PANELS = (("wall", "wall time, seconds"), ("cpu", "controller CPU, seconds for all nodes"))


def draw(comparison: Comparison, picture: Path) -> None:
    """Write the picture: wall time and CPU, cold and with nothing to change."""
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(
            len(KINDS), len(_PANELS), figsize=(11, 5.2), sharey=True, layout="constrained"
        )
        for row, kind in zip(axes, KINDS, strict=True):
            for panel, (field, title) in zip(row, _PANELS, strict=True):
                _bars(panel, comparison, kind, field)
                panel.set_title(f"{kind}: {title}", loc="left", fontsize=9)
        figure.savefig(picture, metadata={"Date": None, "Creator": None})


def _bars(panel: Axes, comparison: Comparison, kind: Kind, field: str) -> None:
    """One bar for each contender, the first on top; the runs themselves as dots."""
    names = [name for name in reversed(tuple(comparison.labels)) if comparison.of(name, kind)]
    labels = [comparison.labels[name].replace("`", "") for name in names]
    unit = 1.0 if field == "wall" else 1000.0
    middles = [comparison.median(name, kind, field) / unit for name in names]
    colours = [_OURS if name == "nodeprep" else _OTHERS for name in names]
    panel.barh(labels, middles, color=colours, height=0.7)
    panel.margins(x=0.12)
    for name, label, middle in zip(names, labels, middles, strict=True):
        seen = [getattr(run, field) / unit for run in comparison.of(name, kind)]
        panel.plot(seen, [label] * len(seen), "k.", markersize=3)
        text = f"{middle:.1f}" if field == "wall" else f"{middle:.0f}"
        panel.annotate(
            text,
            (max(*seen, middle), label),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
        )


if __name__ == "__main__":
    draw(read(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
