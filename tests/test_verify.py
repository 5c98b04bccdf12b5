"""The verdict on a node: only a failure counts against it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep import plan, verify
from nodeprep.files import ManagedFile
from nodeprep.model import Facts, FileState, Finding, Node, Status
from tests.sample_topic import GREETING, SampleTopic

NODE = Node(name="node1", address="192.0.2.1")
FILE = ManagedFile(path="/etc/a.conf", content="# Managed by nodeprep\n")
TOPIC = SampleTopic(wanted=[FILE])


def found(*statuses: Status) -> list[Finding]:
    return [Finding(topic="t", name="n", status=status) for status in statuses]


@given(st.lists(st.sampled_from(Status)))
def test_a_node_is_ready_unless_something_failed(statuses: list[Status]) -> None:
    assert verify.ready(found(*statuses)) is (Status.FAIL not in statuses)


def test_findings_come_in_the_order_of_the_story() -> None:
    first, second = SampleTopic(NAME="first"), SampleTopic(NAME="second")
    facts = Facts({GREETING.name: "hello"})
    told = verify.findings(NODE, facts, (first, second))
    assert [finding.topic for finding in told] == ["first", "second"]


@pytest.mark.parametrize(
    ("state", "changes", "ready"),
    [
        (FileState(path=FILE.path), 1, False),
        (FileState(path=FILE.path, kind="regular", mode=0o644, digest=FILE.digest), 0, True),
        (FileState(path=FILE.path, kind="regular", mode=0o600, digest=FILE.digest), 1, False),
        (FileState(path=FILE.path, kind="symlink"), 0, False),
    ],
)
def test_plan_and_verify_tell_one_difference(state: FileState, changes: int, ready: bool) -> None:
    facts = Facts({GREETING.name: "hello"}, {FILE.path: state})
    assert len(plan.changes(NODE, facts, (TOPIC,))) == changes
    assert verify.ready(verify.findings(NODE, facts, (TOPIC,))) is ready
