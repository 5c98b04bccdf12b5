"""Outcomes of every kind, for the views of them."""

from nodeprep.errors import (
    HostKeyRefused,
    Interrupted,
    LockHeld,
    NodeFailed,
    NodeprepError,
    StalePlan,
    Unreachable,
)
from nodeprep.files import ManagedFile
from nodeprep.model import Change, Facts, FileState, Finding, Node, Outcome, Status, StepResult
from nodeprep.shell import Secret
from tests.sample_topic import GREETING, SampleTopic

NASTY = "\x1b]0;owned\x07\x9b2J\u202e\u200b\r\udcff"
FILE = FileState(
    path="/etc/a.conf",
    kind="regular",
    mode=0o640,
    digest="0" * 64,
    size=5,
    content=b"secret content",
    real_parent="/etc",
)
FACTS = Facts({GREETING.name: "hello"}, {"/etc/a.conf": FILE})
WANTED = [
    ManagedFile(path="/etc/b.conf", content="new\n"),
    ManagedFile(path="/etc/key", content=Secret("canary"), mode=0o600),
]
CHANGES = SampleTopic(wanted=WANTED, steps=["echo one"]).changes(
    Node(name="x", address="x"), Facts({})
)
STATUSES = (0, 1, None)


def node(name: str) -> Node:
    return Node(name=name, address="192.0.2.1")


def finding(status: Status, **told: str) -> Finding:
    texts = {"name": f"check {status}", "actual": "is", "wanted": "should be", "hint": "type this"}
    return Finding(topic="kube_proxy", status=status, **{**texts, **told})


FINDINGS = tuple(map(finding, Status))


def read(name: str, *findings: Finding) -> Outcome:
    """Return the outcome of a node that answered."""
    return Outcome(node=node(name), facts=FACTS, findings=findings, seconds=1.25)


def failed(name: str, error: NodeprepError) -> Outcome:
    return Outcome(node=node(name), error=error)


def changed(name: str, changes: tuple[Change, ...] = CHANGES) -> Outcome:
    """Return the outcome of a node on which a step failed."""
    steps = tuple(
        StepResult(change=change, exit_status=status)
        for change, status in zip(changes, STATUSES, strict=True)
    )
    error = NodeFailed("could not write", hint="the log")
    return Outcome(
        node=node(name),
        facts=FACTS,
        changes=changes,
        steps=steps,
        findings=FINDINGS,
        error=error,
        log="a log",
    )


ALL = (
    read("ready1", FINDINGS[0]),
    read("ready2", FINDINGS[0]),
    read("wrong1", *FINDINGS),
    changed("broken1"),
    failed("lost1", Unreachable("gone", hint="look")),
    failed("lost2", HostKeyRefused("changed")),
    failed("stale1", StalePlan("stale")),
    failed("held1", LockHeld("held by ann")),
    failed("late1", Interrupted("not begun")),
)
"""One or two nodes for each way to end."""
