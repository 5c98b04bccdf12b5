"""The system: who the session is, what it stands on, and how the last run ended."""

import dataclasses

import pytest

from nodeprep.model import Status
from nodeprep.topics import system as topic
from nodeprep.topics.system import LAST_RUN, SYSTEM
from tests import facts
from tests.topics import named, node, of


@pytest.mark.parametrize(
    ("system", "id_", "version"),
    [
        ("debian13", "debian", "13"),
        ("centos7", "centos", "7"),
        ("el10", "almalinux", "10.0"),
        ("openeuler2403", "openEuler", "24.03"),
        ("alpine3", "alpine", "3.22.1"),
    ],
)
def test_the_system_names_itself(system: str, id_: str, version: str) -> None:
    read = facts.read(SYSTEM, system)
    assert (read.id, read.version_id) == (id_, version)


def test_an_os_release_without_a_last_newline_hides_nothing() -> None:
    assert facts.read(SYSTEM, "el10").kernel == "6.12.0-84.el10.x86_64"


def test_root_is_needed_and_asked_for_by_name() -> None:
    user = dataclasses.replace(facts.read(SYSTEM, "debian12"), uid=1000)
    finding = named(topic.findings(node(), of({SYSTEM: user})), "root")
    assert (finding.status, finding.actual) == (Status.FAIL, "session runs as uid 1000")
    assert finding.hint.endswith("for node-1")


def test_a_missing_tool_is_named() -> None:
    found = of({SYSTEM: facts.read(SYSTEM, "debian12-container")})
    finding = named(topic.findings(node(), found), "tools")
    assert (finding.status, finding.actual) == (Status.FAIL, "not there: modprobe")


@pytest.mark.parametrize("record", ["never", "finished", "refused"])
def test_a_run_that_ended_is_not_mentioned(record: str) -> None:
    findings = topic.findings(node(), of({LAST_RUN: facts.read(LAST_RUN, record)}))
    assert [finding.name for finding in findings] == ["root", "tools"]


@pytest.mark.parametrize(("record", "how"), [("stopped", "stopped in"), ("goes-on", "is still in")])
def test_a_run_that_did_not_finish_is_a_warning(record: str, how: str) -> None:
    found = of({LAST_RUN: facts.read(LAST_RUN, record)})
    finding = named(topic.findings(node(), found), "last run")
    assert finding.status is Status.WARN
    assert how in finding.actual


def test_nothing_is_written_or_changed() -> None:
    assert topic.paths(node()) == topic.secrets(node()) == ()
    assert topic.changes(node(), of()) == ()
