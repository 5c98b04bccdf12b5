"""A lab at a glance."""

from collections.abc import Iterator

from nodeprep.lab.process import Process, running
from nodeprep.lab.readiness import shows_banner
from nodeprep.lab.state import Lab, LabNode

_Row = tuple[str, str, str, str, str]
_HEAD = ("NODE", "ADDRESS", "KIND", "PID", "STATE")


def table(lab: Lab) -> str:
    """Return a line a node and control plane program: where, its process, and whether it is up."""
    rows = [_HEAD, *(_row(node) for node in lab.nodes), *_control_rows(lab)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _row(node: LabNode) -> _Row:
    address = f"{node.address}:{node.port}"
    return (node.name, address, node.kind, _pid(node.process), condition(node))


def _control_rows(lab: Lab) -> Iterator[_Row]:
    plane = lab.control_plane
    if plane is None:
        return
    ports = {"kube-apiserver": plane.port, "etcd": plane.etcd_port}
    for name, process in lab.control_processes:
        state = "up" if running(process) else "not running"
        yield (name, f"127.0.0.1:{ports[name]}", "-", _pid(process), state)


def _pid(process: Process | None) -> str:
    return str(process.pid) if process else "-"


def condition(node: LabNode) -> str:
    """Return ``up``, ``booting`` (it runs and does not answer) or ``not running``."""
    if not running(node.process):
        return "not running"
    return "up" if shows_banner(node) else "booting"
