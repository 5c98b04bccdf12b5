"""The system: who the session is, what it stands on, and how the last run ended."""

import dataclasses
from pathlib import Path

import pytest

from nodeprep.model import Finding, Status
from nodeprep.topics import system as topic
from nodeprep.topics.system import LAST_RUN, SWAP, SYSTEM, Swap
from tests import facts
from tests.shells import in_root
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
    assert [finding.name for finding in findings] == ["root", "tools", "swap"]


@pytest.mark.parametrize(("record", "how"), [("stopped", "stopped in"), ("goes-on", "is still in")])
def test_a_run_that_did_not_finish_is_a_warning(record: str, how: str) -> None:
    found = of({LAST_RUN: facts.read(LAST_RUN, record)})
    finding = named(topic.findings(node(), found), "last run")
    assert finding.status is Status.WARN
    assert how in finding.actual


# --- swap -----------------------------------------------------------------------------------


def swap(found: Swap) -> Finding:
    return named(topic.findings(node(), of({SWAP: found})), "swap")


def test_a_node_without_swap_is_well() -> None:
    finding = swap(facts.read(SWAP, "debian12-container"))
    assert (finding.status, finding.actual) == (Status.OK, "none")


def test_swap_in_use_is_a_warning_that_says_how_to_end_it_for_good() -> None:
    finding = swap(Swap(areas=("/dev/dm-1",), returns=("/etc/fstab:9",)))
    assert finding.status is Status.WARN
    assert finding.actual.startswith("in use: /dev/dm-1")
    assert finding.hint == "swapoff -a; take it out of /etc/fstab:9"


def test_swap_that_comes_back_at_the_next_boot_is_a_warning_today() -> None:
    finding = swap(Swap(returns=("/etc/systemd/zram-generator.conf",)))
    assert finding.status is Status.WARN
    assert "at the next boot (/etc/systemd/zram-generator.conf)" in finding.actual
    assert finding.hint == "take it out of /etc/systemd/zram-generator.conf"


def test_swap_of_unknown_origin_is_looked_for_with_systemd() -> None:
    assert "systemctl -t swap" in swap(Swap(areas=("/dev/zram0",))).hint


def test_swap_that_kubelet_is_told_to_tolerate_is_well() -> None:
    finding = swap(Swap(areas=("/dev/zram0",), tolerated=True))
    assert finding.status is Status.OK
    assert "kubelet starts all the same" in finding.actual


def test_any_shell_reads_what_brings_swap_back(shell: str, tmp_path: Path) -> None:
    for path, text in {
        "proc/swaps": "Filename Type Size Used Priority\n/dev/dm-1 partition 1 0 -2\n",
        "etc/fstab": "# /dev/a none swap sw 0 0\n/dev/b / ext4 defaults 0 1\n"
        "/dev/c none swap sw,noauto 0 0\nUUID=d none swap sw 0 0",
        "etc/systemd/system/dev-e.swap": "[Swap]\n",
        "var/lib/kubelet/config.yaml": "failSwapOn: true\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert SWAP.parse(in_root(shell, SWAP.script(node()), tmp_path)) == Swap(
        areas=("/dev/dm-1",), returns=("/etc/fstab:4", "/etc/systemd/system/dev-e.swap")
    )


def test_nothing_is_written_or_changed() -> None:
    assert topic.paths(node()) == topic.secrets(node()) == ()
    assert topic.changes(node(), of()) == ()
