"""kube-proxy's files for every release, and when its unit is reloaded, enabled and restarted."""

import dataclasses
from typing import Any

import pytest
import yaml

from nodeprep.flags import command_line
from nodeprep.model import Change, Fact, Facts, FileState, Finding, Node, Status
from nodeprep.releases import Version
from nodeprep.shell import Secret
from nodeprep.systemd import Service
from nodeprep.topics import kube_proxy as topic
from nodeprep.topics.kube_proxy import BINARY, SERVICE, Binary
from tests import facts
from tests.topics import INSTALLED, KUBECONFIG, NOW, RUNNING, named, node, of, placed

UNIT = "/etc/systemd/system/kube-proxy.service"
CONFIG = "/var/lib/kube-proxy/config.yaml"
CANARY = "canary-5f1d-token"


def release(minor: int) -> Facts:
    return of({BINARY: Binary(present=True, version=Version(1, minor))})


def config(minor: int, **proxy: Any) -> Any:
    wanted = topic.desired(node(**proxy), release(minor))
    (file,) = [file for file in wanted if file.path == CONFIG]
    return yaml.safe_load(file.text)


def flags(minor: int, **proxy: Any) -> tuple[str, ...]:
    return command_line(node(style="flags", **proxy), Version(1, minor))


def prepared(
    wanted: Node,
    *,
    service: Service = RUNNING,
    binary: Binary = INSTALLED,
    without: str = "",
    other: tuple[FileState, ...] = (),
) -> Facts:
    """Return facts of a node that has all its files, but for the one at ``without``."""
    known: dict[Fact[Any], object] = {SERVICE: service, BINARY: binary}
    states = {state.path: state for state in placed(*topic.desired(wanted, of(known)))}
    if wanted.desired.kube_proxy.kubeconfig_content is None:
        states[KUBECONFIG.path] = KUBECONFIG
    states.update({state.path: state for state in other})
    return of(known, *(state for path, state in states.items() if path != without))


def subjects(wanted: Node, found: Facts) -> list[str]:
    return [change.subject for change in topic.changes(wanted, found)]


def summary(wanted: Node, found: Facts, subject: str) -> str:
    (change,) = [c for c in topic.changes(wanted, found) if c.subject == subject]
    return change.summary


def finding(wanted: Node, found: Facts, name: str) -> Finding:
    return named(topic.findings(wanted, found), name)


def touched(path: str, mtime: int, wanted: Node) -> FileState:
    states = placed(*topic.desired(wanted, of({BINARY: INSTALLED})), mtime=mtime)
    return next((s for s in states if s.path == path), dataclasses.replace(KUBECONFIG, mtime=mtime))


# --- flags and fields, release by release ---------------------------------------------------


@pytest.mark.parametrize(("minor", "known"), [(14, False), (15, True), (37, True)])
def test_strict_arp_is_a_flag_and_a_field_from_1_15_on(minor: int, *, known: bool) -> None:
    assert ("--ipvs-strict-arp=true" in flags(minor, strict_arp=True)) is known
    assert ("strictARP" in config(minor)["ipvs"]) is known


@pytest.mark.parametrize(("minor", "known"), [(14, False), (28, False), (29, True), (37, True)])
def test_the_nftables_block_is_written_from_1_29_on(minor: int, *, known: bool) -> None:
    assert ("nftables" in config(minor)) is known


@pytest.mark.parametrize(("minor", "gated"), [(29, True), (30, True), (31, False), (33, False)])
def test_nftables_gets_its_gate_while_it_is_alpha(minor: int, *, gated: bool) -> None:
    expected = {"NFTablesProxyMode": True} if gated else None
    assert config(minor, mode="nftables").get("featureGates") == expected
    gate = "--feature-gates=NFTablesProxyMode=true"
    assert (gate in flags(minor, mode="nftables")) is gated


def test_the_inventorys_gates_count_over_ours_and_stand_in_order() -> None:
    gates = {"NFTablesProxyMode": False, "A": True}
    assert config(30, mode="nftables", feature_gates=gates)["featureGates"] == gates
    assert "--feature-gates=A=true,NFTablesProxyMode=false" in flags(
        30, mode="nftables", feature_gates=gates
    )


@pytest.mark.parametrize("mode", ["iptables", "ipvs", "nftables"])
def test_the_mode_is_always_written(mode: str) -> None:
    assert config(34, mode=mode)["mode"] == mode
    assert f"--proxy-mode={mode}" in flags(34, mode=mode)


def test_every_wish_reaches_the_file() -> None:
    document = config(
        34,
        bind_address="::",
        hostname_override="n",
        cluster_cidr="10.0.0.0/8,fd00::/64",
        scheduler="lc",
        strict_arp=True,
        exclude_cidrs=("10.1.0.0/16",),
        node_port_addresses=("primary",),
        conntrack_max_per_core=0,
        sync_period="1m",
        min_sync_period="5s",
    )
    assert document["bindAddress"] == "::"
    assert document["hostnameOverride"] == "n"
    assert document["clusterCIDR"] == "10.0.0.0/8,fd00::/64"
    assert document["nodePortAddresses"] == ["primary"]
    assert document["conntrack"] == {"maxPerCore": 0}
    assert document["ipvs"] == {
        "scheduler": "lc",
        "strictARP": True,
        "excludeCIDRs": ["10.1.0.0/16"],
        "syncPeriod": "1m",
        "minSyncPeriod": "5s",
    }


def test_the_installed_release_counts_before_the_inventorys_and_that_before_the_newest() -> None:
    expected = node(version="1.25")
    absent = of({BINARY: Binary(present=False)})
    assert topic.version(expected, release(20)) == Version(1, 20)
    assert topic.version(expected, absent) == Version(1, 25)
    assert topic.version(node(), absent) > Version(1, 37)


def test_a_release_that_lacks_the_mode_fails() -> None:
    found = finding(node(mode="nftables"), release(28), "binary")
    assert found.status is Status.FAIL
    assert found.actual == "kube-proxy 1.28 does not know nftables"


# --- reload, enable, restart ----------------------------------------------------------------


@pytest.mark.parametrize("style", ["config", "flags"])
def test_a_node_that_has_it_all_is_left_alone(style: str) -> None:
    wanted = node(style=style)
    assert subjects(wanted, prepared(wanted)) == []
    assert {f.status for f in topic.findings(wanted, prepared(wanted))} == {Status.OK}


def test_a_new_unit_is_reloaded_and_its_process_restarted() -> None:
    assert subjects(node(), prepared(node(), without=UNIT)) == [UNIT, "daemon-reload", "restart"]


def test_a_new_configuration_needs_no_reload() -> None:
    found = prepared(node(), without=CONFIG)
    assert subjects(node(), found) == [CONFIG, "restart"]
    assert summary(node(), found, "restart") == "restart kube-proxy.service (its files change)"


def test_a_unit_that_systemd_has_not_read_again_is_reloaded() -> None:
    found = prepared(node(), service=dataclasses.replace(RUNNING, needs_reload=True))
    assert subjects(node(), found) == ["daemon-reload"]
    assert finding(node(), found, "unit in memory").hint == "nodeprep apply"


def test_a_unit_that_systemd_does_not_know_yet_is_reloaded_enabled_and_started() -> None:
    service = dataclasses.replace(facts.read(SERVICE, "systemd-no-such-unit"), now=NOW)
    found = prepared(node(), service=service)
    assert subjects(node(), found) == ["daemon-reload", "enable", "restart"]


def test_a_disabled_unit_is_enabled_and_not_restarted() -> None:
    found = prepared(node(), service=dataclasses.replace(RUNNING, enabled="disabled"))
    assert subjects(node(), found) == ["enable"]
    assert finding(node(), found, "enabled").actual == "disabled"


@pytest.mark.parametrize("active", ["inactive", "failed", "activating"])
def test_a_unit_that_is_not_active_is_restarted(active: str) -> None:
    found = prepared(node(), service=dataclasses.replace(RUNNING, active=active))
    assert summary(node(), found, "restart") == f"restart kube-proxy.service (it is {active})"


def test_a_failed_unit_is_looked_up_in_the_journal() -> None:
    found = prepared(node(), service=dataclasses.replace(RUNNING, active="failed"))
    assert finding(node(), found, "active").hint == "journalctl -u kube-proxy.service -n 50"


@pytest.mark.parametrize("path", [UNIT, CONFIG, KUBECONFIG.path])
def test_a_process_older_than_a_file_of_its_is_restarted(path: str) -> None:
    found = prepared(node(), other=(touched(path, NOW - 50, node()),))
    reason = f"{path} is newer than its process"
    assert subjects(node(), found) == ["restart"]
    assert summary(node(), found, "restart") == f"restart kube-proxy.service ({reason})"
    assert finding(node(), found, "active").actual == reason


def test_a_process_older_than_its_program_is_restarted() -> None:
    found = prepared(node(), binary=dataclasses.replace(INSTALLED, mtime=NOW - 50))
    assert subjects(node(), found) == ["restart"]


def test_a_file_written_in_the_second_of_the_start_is_not_newer() -> None:
    assert RUNNING.started is not None
    found = prepared(node(), other=(touched(CONFIG, RUNNING.started + 2, node()),))
    assert subjects(node(), found) == []


def test_a_clock_that_was_set_back_restarts_nothing() -> None:
    found = prepared(node(), other=(touched(CONFIG, NOW + 3600, node()),))
    assert subjects(node(), found) == []


def test_without_a_program_files_are_placed_and_nothing_is_started() -> None:
    absent, idle = Binary(present=False), dataclasses.replace(RUNNING, active="inactive")
    found = prepared(node(), binary=absent, service=idle, without=CONFIG)
    assert subjects(node(), found) == [CONFIG]
    assert finding(node(), found, "binary").status is Status.SKIP
    assert finding(node(), found, "active").status is Status.SKIP


def test_without_a_kubeconfig_nothing_is_started() -> None:
    found = prepared(node(), without=KUBECONFIG.path)
    assert subjects(node(), prepared(node(), without=KUBECONFIG.path)) == []
    assert finding(node(), found, KUBECONFIG.path).status is Status.FAIL


def test_a_program_that_is_required_and_missing_fails() -> None:
    found = prepared(node(run="required"), binary=Binary(present=False))
    assert finding(node(run="required"), found, "binary").status is Status.FAIL


def test_run_never_places_and_enables_and_never_starts() -> None:
    wanted = node(run="never")
    idle = dataclasses.replace(RUNNING, active="inactive", enabled="disabled")
    found = prepared(wanted, service=idle, without=CONFIG)
    assert subjects(wanted, found) == [CONFIG, "enable"]
    assert finding(wanted, found, "active").status is Status.SKIP


def test_a_masked_unit_stays_masked() -> None:
    masked = Service(load="masked", active="inactive", enabled="masked", now=NOW)
    found = prepared(node(), service=masked)
    assert subjects(node(), found) == []
    assert finding(node(), found, "enabled").hint == "systemctl unmask kube-proxy.service"
    assert finding(node(), found, "active").hint == "systemctl unmask kube-proxy.service"


def test_a_system_without_systemd_is_told_so() -> None:
    found = prepared(node(), service=facts.read(SERVICE, "alpine3"))
    assert subjects(node(), found) == []
    assert finding(node(), found, "systemd").status is Status.FAIL


def test_a_unit_that_hides_ours_is_named() -> None:
    found = prepared(node(), service=dataclasses.replace(RUNNING, fragment="/run/x.service"))
    assert finding(node(), found, "unit").actual == "systemd reads /run/x.service"


def test_drop_ins_of_others_are_a_warning() -> None:
    found = prepared(node(), service=dataclasses.replace(RUNNING, drop_ins=("/etc/x.conf",)))
    assert finding(node(), found, "drop-ins").status is Status.WARN


# --- what is not ours -----------------------------------------------------------------------


def foreign(path: str) -> FileState:
    return FileState(
        path=path,
        kind="regular",
        digest="1" * 64,
        content=b"theirs\n",
        real_parent=path.rpartition("/")[0],
    )


def test_a_unit_of_another_hand_is_refused_and_nothing_is_started() -> None:
    idle = dataclasses.replace(RUNNING, active="inactive", enabled="disabled")
    found = prepared(node(), service=idle, other=(foreign(UNIT),))
    assert subjects(node(), found) == []
    assert finding(node(), found, UNIT).actual == "another hand wrote it"
    hints = {f.hint for f in topic.findings(node(), found) if f.status is Status.FAIL}
    assert "nodeprep apply" not in hints


def test_adopt_takes_over_a_unit_of_another_hand() -> None:
    wanted = node(adopt=True)
    found = prepared(wanted, other=(foreign(UNIT),))
    assert subjects(wanted, found) == [UNIT, "daemon-reload", "restart"]


def test_an_unmanaged_kube_proxy_is_left_alone() -> None:
    wanted = node(style="unmanaged")
    assert topic.paths(wanted) == topic.secrets(wanted) == ()
    assert topic.changes(wanted, of()) == ()
    assert topic.findings(wanted, of()) == ()


# --- the secret -----------------------------------------------------------------------------


def shown(changes: tuple[Change, ...], findings: tuple[Finding, ...]) -> str:
    texts = [str(each) + repr(each) for each in (*changes, *findings)]
    fields = [f"{c.summary}{c.diff}{c.action}{c.guard}" for c in changes]
    return "".join((*texts, *fields))


@pytest.mark.parametrize("present", [True, False])
def test_the_kubeconfig_is_written_and_never_shown(*, present: bool) -> None:
    wanted = node(kubeconfig_content=Secret(f"token: {CANARY}\n"))
    other = (foreign(KUBECONFIG.path),) if present else ()
    found = prepared(wanted, without="" if present else KUBECONFIG.path, other=other)
    adopting = dataclasses.replace(wanted, desired=dataclasses.replace(wanted.desired, adopt=True))
    changes, findings = topic.changes(adopting, found), topic.findings(wanted, found)
    (change,) = [c for c in changes if c.subject == KUBECONFIG.path]
    assert CANARY in change.action.reveal()
    assert change.diff == ""
    assert CANARY not in shown(changes, findings)
    assert CANARY not in repr(adopting)


def test_the_kubeconfig_is_readable_by_root_alone_and_never_leaves_the_node() -> None:
    wanted = node(kubeconfig_content=Secret(CANARY))
    (file,) = [f for f in topic.desired(wanted, of()) if f.path == KUBECONFIG.path]
    assert file.mode == 0o600
    assert topic.secrets(wanted) == topic.secrets(node()) == (KUBECONFIG.path,)


def test_a_release_that_does_not_know_the_mode_is_left_running_as_it_is() -> None:
    wanted = node(mode="nftables")
    old = of({BINARY: Binary(present=True, version=Version(1, 28)), SERVICE: RUNNING})
    assert topic.changes(wanted, old) == ()
    assert finding(wanted, old, "binary").status is Status.FAIL
    assert all(f.hint != "nodeprep apply" for f in topic.findings(wanted, old))


def test_a_program_for_another_architecture_is_said_to_be_one_and_is_not_started() -> None:
    foreign = facts.read(BINARY, "built-for-aarch64")
    stopped = dataclasses.replace(RUNNING, active="inactive", pid=0, started=None)
    found = of({BINARY: foreign, SERVICE: stopped}, KUBECONFIG)
    finding = named(topic.findings(node(), found), "binary")
    assert finding.status is Status.FAIL
    assert finding.actual == "built for aarch64, and this machine is x86_64"
    assert finding.hint == "put the release for x86_64 at /usr/local/bin/kube-proxy"
    assert not any("restart" in change.subject for change in topic.changes(node(), found))


# --- where a DaemonSet runs it --------------------------------------------------------------


def test_a_daemon_sets_kube_proxy_has_no_file_of_ours_and_no_step() -> None:
    wanted = node(managed_by="daemonset")
    assert topic.paths(wanted) == topic.secrets(wanted) == ()
    assert topic.changes(wanted, of({SERVICE: RUNNING, BINARY: INSTALLED})) == ()


@pytest.mark.parametrize(
    ("active", "enabled", "told"),
    [
        ("active", "enabled", "active and enabled"),
        ("active", "disabled", "active"),
        ("inactive", "enabled", "enabled"),
    ],
)
def test_a_unit_that_is_left_beside_the_pod_fails(active: str, enabled: str, told: str) -> None:
    left = dataclasses.replace(RUNNING, active=active, enabled=enabled)
    found = named(topic.findings(node(managed_by="daemonset"), of({SERVICE: left})), "unit")
    assert found.status is Status.FAIL
    assert found.actual == f"kube-proxy.service is {told}, beside the DaemonSet's pod"
    assert found.hint == "systemctl disable --now kube-proxy.service"


def test_a_unit_that_is_not_there_beside_the_pod_is_fine() -> None:
    gone = dataclasses.replace(RUNNING, load="not-found", active="inactive", enabled="")
    (found,) = topic.findings(node(managed_by="daemonset"), of({SERVICE: gone}))
    assert found.status is Status.OK
