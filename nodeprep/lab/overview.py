"""A lab at a glance."""

from nodeprep.lab.process import running
from nodeprep.lab.readiness import shows_banner
from nodeprep.lab.state import Lab, LabNode

_HEAD = ("NODE", "ADDRESS", "PID", "STATE")


def table(lab: Lab) -> str:
    """Return a line a node: where it answers, its process, and whether it is up."""
    rows = [_HEAD, *(_row(node) for node in lab.nodes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(node: LabNode) -> tuple[str, str, str, str]:
    pid = str(node.process.pid) if node.process else "-"
    return (node.name, f"{node.address}:{node.port}", pid, condition(node))


def condition(node: LabNode) -> str:
    """Return ``up``, ``booting`` (it runs and does not answer) or ``not running``."""
    if not running(node.process):
        return "not running"
    return "up" if shows_banner(node) else "booting"
