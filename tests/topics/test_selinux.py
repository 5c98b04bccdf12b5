"""SELinux: its mode is told and kept, and a kube-proxy with a label that cannot start is found."""

from pathlib import Path

import pytest

from nodeprep.model import Facts, Status
from nodeprep.topics import selinux as topic
from nodeprep.topics.selinux import SELINUX, Selinux
from tests import facts
from tests.shells import in_root, stand_ins
from tests.topics import named, node, of


def seen(mode: str, kind: str = "") -> Facts:
    binary = f"unconfined_u:object_r:{kind}:s0" if kind else ""
    return of({SELINUX: Selinux(mode=mode, binary=binary)})


@pytest.mark.parametrize(
    ("system", "says"),
    [
        ("debian12-container", "not on this system"),
        ("el9-enforcing", "enforcing, and stays so"),
        ("el8-disabled", "disabled"),
    ],
)
def test_whatever_its_mode_is_it_is_well(system: str, says: str) -> None:
    findings = topic.findings(node(), of({SELINUX: facts.read(SELINUX, system)}))
    assert (named(findings, "selinux").status, named(findings, "selinux").actual) == (
        Status.OK,
        says,
    )


def test_a_node_without_it_yields_one_line() -> None:
    assert len(topic.findings(node(), seen(""))) == 1


@pytest.mark.parametrize("kind", ["bin_t", "kubelet_exec_t"])
def test_a_label_that_systemd_may_start_is_well(kind: str) -> None:
    assert named(topic.findings(node(), seen("enforcing", kind)), "label").status is Status.OK


@pytest.mark.parametrize("kind", ["user_home_t", "admin_home_t", "tmp_t", "default_t"])
def test_a_label_that_systemd_may_not_start_fails_with_what_to_type(kind: str) -> None:
    finding = named(topic.findings(node(), seen("enforcing", kind)), "label")
    assert finding.status is Status.FAIL
    assert finding.actual == f"/usr/local/bin/kube-proxy is {kind}: systemd may not start it"
    assert finding.hint.startswith("restorecon -v /usr/local/bin/kube-proxy; ")
    assert "semanage fcontext -a -t bin_t /usr/local/bin/kube-proxy" in finding.hint


@pytest.mark.parametrize(("mode", "kind"), [("permissive", "tmp_t"), ("enforcing", "usr_t")])
def test_what_may_come_to_nothing_is_a_warning(mode: str, kind: str) -> None:
    assert named(topic.findings(node(), seen(mode, kind)), "label").status is Status.WARN


def test_the_binary_of_a_kube_proxy_that_is_not_ours_is_none_of_our_business() -> None:
    findings = topic.findings(node(style="unmanaged"), seen("enforcing", "tmp_t"))
    assert [finding.name for finding in findings] == ["selinux"]


def test_a_binary_that_is_not_there_has_no_label() -> None:
    assert [finding.name for finding in topic.findings(node(), seen("enforcing"))] == ["selinux"]


@pytest.mark.parametrize(("digit", "mode"), [("1", "enforcing"), ("0", "permissive")])
def test_any_shell_reads_the_mode_and_the_label(
    shell: str, tmp_path: Path, digit: str, mode: str
) -> None:
    root = tmp_path / "root"
    for path in ("sys/fs/selinux/enforce", "usr/local/bin/kube-proxy"):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_text(digit)
    path, script = (
        stand_ins(tmp_path, {"stat": "binary system_u:object_r:bin_t:s0"}),
        SELINUX.script(node()),
    )
    assert SELINUX.parse(in_root(shell, script, root, path)) == Selinux()
    (root / "etc/selinux").mkdir(parents=True)
    (root / "etc/selinux/config").write_text("SELINUX=enforcing\n")
    found = SELINUX.parse(in_root(shell, script, root, path))
    assert found == Selinux(mode=mode, binary="system_u:object_r:bin_t:s0")


def test_nothing_is_written_or_changed() -> None:
    assert topic.paths(node()) == topic.secrets(node()) == ()
    assert topic.changes(node(), seen("enforcing", "tmp_t")) == ()
