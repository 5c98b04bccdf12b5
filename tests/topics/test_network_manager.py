"""NetworkManager: which devices it is told to leave alone, who takes that back, whose they are."""

import dataclasses
from pathlib import Path

import pytest

from nodeprep.model import APPLY, Facts, FileState, Finding, Node, Status
from nodeprep.sharing import UNIT_SHOWN
from nodeprep.topics import network_manager as topic
from nodeprep.topics.network_manager import DROP_IN, MANAGER, Manager, retaken
from tests import facts
from tests.shells import in_root, stand_ins
from tests.topics import named, node, of, placed

ON = Manager(installed=True, active=True)
IPVS, OTHER_MODES = node(mode="ipvs"), ("iptables", "nftables")
OURS = placed(topic._file())  # noqa: SLF001 the file as it should be


def seen(manager: Manager, *states: FileState) -> Facts:
    return of({MANAGER: manager}, *states)


def with_device(state: str, *lines: str) -> Manager:
    """Return a running NetworkManager that has kube-ipvs0 in a state, and lines of files."""
    return dataclasses.replace(ON, devices={"kube-ipvs0": state}, settings=read(*lines).settings)


def read(*lines: str) -> Manager:
    return MANAGER.parse("".join(f"{line}\n" for line in lines))


def summaries(wanted: Node, found: Facts) -> list[str]:
    return [change.summary for change in topic.changes(wanted, found)]


def device(found: Facts) -> Finding:
    return named(topic.findings(IPVS, found), "kube-ipvs0 (NetworkManager)")


# --- what is done ---------------------------------------------------------------------------


def test_where_it_is_not_installed_there_is_nothing_to_do_or_to_say() -> None:
    found = seen(facts.read(MANAGER, "debian12-container"))
    assert topic.changes(IPVS, found) == ()
    assert topic.findings(IPVS, found) == ()


@pytest.mark.parametrize("mode", OTHER_MODES)
def test_a_mode_without_a_device_of_its_own_needs_nothing_of_it(mode: str) -> None:
    assert topic.changes(node(mode=mode), seen(ON)) == ()
    assert topic.findings(node(mode=mode), seen(ON)) == ()


def test_it_is_told_in_a_file_of_our_own_and_reads_no_more_than_its_configuration() -> None:
    written, read_ = topic.changes(IPVS, seen(ON))
    assert written.subject == DROP_IN
    assert "+unmanaged-devices+=interface-name:kube-ipvs0;interface-name:nodelocaldns" in (
        written.diff.splitlines()
    )
    assert str(read_.action).startswith("nmcli general reload conf ||\n  busctl call ")


def test_one_that_is_installed_and_does_not_run_gets_its_file_and_is_left_alone() -> None:
    off = dataclasses.replace(ON, active=False)
    assert summaries(IPVS, seen(off)) == [f"write {DROP_IN}"]


def test_a_node_as_it_should_be_gets_no_reload() -> None:
    assert summaries(IPVS, seen(with_device("unmanaged"), *OURS)) == []


def test_a_device_that_it_still_has_although_the_file_is_there_is_mended_by_a_reload() -> None:
    found = seen(with_device("connected (externally)"), *OURS)
    assert summaries(IPVS, found) == ["let NetworkManager read its configuration"]
    finding = device(found)
    assert (finding.status, finding.actual, finding.hint) == (
        Status.FAIL,
        "connected (externally)",
        APPLY,
    )


def test_somebody_elses_file_is_not_replaced_and_nothing_is_reloaded() -> None:
    theirs = dataclasses.replace(OURS[0], ours=False, digest="0" * 64)
    found = seen(with_device("connected (externally)"), theirs)
    assert topic.changes(IPVS, found) == ()
    assert device(found).hint == f"see {DROP_IN} above first"


# --- what counts is what it says of the device ----------------------------------------------


def test_a_device_it_leaves_alone_is_well() -> None:
    assert device(seen(with_device("unmanaged"), *OURS)).status is Status.OK


def test_a_device_that_does_not_exist_yet_is_not_asked_for() -> None:
    findings = topic.findings(IPVS, seen(ON, *OURS))
    assert [finding.name for finding in findings] == [DROP_IN]


LATER = "/etc/NetworkManager/conf.d/zz-lab.conf"


def test_a_later_file_that_takes_it_back_is_named_with_its_line() -> None:
    lines = (f"{LATER}:1:[keyfile]", f"{LATER}:4:unmanaged-devices=interface-name:eth9")
    finding = device(seen(with_device("disconnected", *lines), *OURS))
    assert finding.status is Status.FAIL
    assert finding.actual == f"disconnected ({LATER}:4)"
    assert finding.hint.startswith(f"change line 4 of {LATER}")
    assert topic.changes(IPVS, seen(with_device("disconnected", *lines), *OURS)) == ()


def test_it_is_named_before_the_device_exists() -> None:
    manager = read(
        "installed",
        "ActiveState=active",
        f"{LATER}:1:[keyfile]",
        f"{LATER}:2:unmanaged-devices=none",
    )
    finding = device(seen(manager, *OURS))
    assert finding.actual == f"managed once it is there ({LATER}:2)"


def test_a_device_of_something_that_may_never_run_here_is_not_named_before_it_exists() -> None:
    manager = read(
        "installed",
        "ActiveState=active",
        f"{LATER}:1:[keyfile]",
        f"{LATER}:2:unmanaged-devices=none",
    )
    names = [finding.name for finding in topic.findings(IPVS, seen(manager, *OURS))]
    assert names == [DROP_IN, "kube-ipvs0 (NetworkManager)"]


def test_a_device_that_is_left_alone_all_the_same_is_well_whatever_files_say() -> None:
    manager = with_device("unmanaged", f"{LATER}:1:[keyfile]", f"{LATER}:2:unmanaged-devices=x")
    assert device(seen(manager, *OURS)).status is Status.OK


# --- how it is asked ------------------------------------------------------------------------


def test_any_shell_finds_its_program_its_files_and_the_device(shell: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for path in ("usr/sbin/NetworkManager", "sys/class/net/kube-ipvs0/ifindex"):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_text("7\n")
    (root / "usr/sbin/NetworkManager").chmod(0o755)
    for name, text in (("10-lab", "=interface-name:eth0"), ("zz", "+ = x")):
        file = root / "etc/NetworkManager/conf.d" / f"{name}.conf"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"# theirs\n[keyfile]\n  unmanaged-devices{text}\n[main]\ndns=none\n")
    said = {"systemctl": "ActiveState=active", "nmcli": "eth0:connected\nkube-ipvs0:unmanaged"}
    found = MANAGER.parse(
        in_root(shell, UNIT_SHOWN + MANAGER.script(IPVS), root, stand_ins(tmp_path, said))
    )
    assert (found.installed, found.active) == (True, True)
    assert found.devices == {"kube-ipvs0": "unmanaged"}
    assert [(s.file[-11:], s.line, s.key, s.value) for s in found.settings] == [
        ("10-lab.conf", 3, "unmanaged-devices", "interface-name:eth0"),
        ("f.d/zz.conf", 3, "unmanaged-devices+", "x"),
    ]


# --- which lines take it back ---------------------------------------------------------------


def culprit(*values: str, file: str = LATER, section: str = "[keyfile]") -> int | None:
    """Return the line that takes kube-ipvs0 back, of lines that follow a section's title."""
    lines = (f"{file}:{number}:{value}" for number, value in enumerate(values, start=2))
    found = retaken(read(f"{file}:1:{section}", *lines).settings, "kube-ipvs0")
    return found.line if found else None


@pytest.mark.parametrize(
    "value",
    [
        "unmanaged-devices=",
        "unmanaged-devices=interface-name:eth0;mac:00:22:68:1c:59:b1",
        "unmanaged-devices = interface-name:kube-ipvs1",
        "unmanaged-devices=interface-name:=kube-ipvs*",
        "unmanaged-devices-=interface-name:kube-ipvs0",
        "unmanaged-devices+=except:interface-name:kube-ipvs0",
        "unmanaged-devices=*,except:interface-name:kube*",
        "unmanaged-devices=*;except:type:dummy",
    ],
)
def test_a_line_takes_the_device_back(value: str) -> None:
    assert culprit(value) == 2


@pytest.mark.parametrize(
    "value",
    [
        "unmanaged-devices+=interface-name:eth0",
        "unmanaged-devices=*",
        "unmanaged-devices=interface-name:eth0, interface-name:kube-ipvs0",
        "unmanaged-devices=interface-name:kube-*",
        "unmanaged-devices=interface-name:~kube-ipvs?",
        "unmanaged-devices=interface-name:=kube-ipvs0",
        "unmanaged-devices=driver:dummy",
        "unmanaged-devices-=interface-name:kube-*",
        "unmanaged-devices+=except:interface-name:eth0",
    ],
)
def test_a_line_leaves_the_device_alone(value: str) -> None:
    assert culprit(value) is None


def test_the_last_word_counts() -> None:
    assert culprit("unmanaged-devices=", "unmanaged-devices+=interface-name:kube-ipvs0") is None
    assert culprit("unmanaged-devices=interface-name:kube-ipvs0", "unmanaged-devices=") == 3


def test_a_line_of_another_section_says_nothing() -> None:
    assert culprit("unmanaged-devices=", section="[device]") is None


@pytest.mark.parametrize(
    "file",
    [
        "/etc/NetworkManager/NetworkManager.conf",
        "/etc/NetworkManager/conf.d/10-first.conf",
        "/usr/lib/NetworkManager/conf.d/zz-vendor.conf",
        "/run/NetworkManager/conf.d/zz-netplan.conf",
    ],
)
def test_a_file_that_is_read_before_ours_takes_nothing_back(file: str) -> None:
    assert culprit("unmanaged-devices=", file=file) is None


def test_what_networkmanager_notes_down_itself_is_read_last() -> None:
    file = "/var/lib/NetworkManager/NetworkManager-intern.conf"
    assert culprit("unmanaged-devices=", file=file) == 2


def test_a_file_in_etc_hides_those_of_its_name() -> None:
    hidden, visible = "/usr/lib/NetworkManager/conf.d/a.conf", "/etc/NetworkManager/conf.d/a.conf"
    both = [
        f"{file}:{n}:{text}"
        for file in (hidden, visible)
        for n, text in ((1, "[keyfile]"), (2, "unmanaged-devices=*"))
    ]
    assert [setting.file for setting in read(*both).settings] == [visible]
