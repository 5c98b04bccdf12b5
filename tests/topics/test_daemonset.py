"""A node of a kubeadm cluster is judged by its pod, by what that says, and by the ConfigMap."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from nodeprep.kubernetes.config_text import Settings, edited
from nodeprep.kubernetes.daemonsets import held
from nodeprep.kubernetes.matching import match
from nodeprep.kubernetes.share import CLUSTER, Share, share
from nodeprep.kubernetes.view import Object
from nodeprep.model import Desired, Facts, Finding, KubeProxy, Node, Status
from nodeprep.topics import daemonset
from nodeprep.topics.daemonset import ON_NODE, OnNode, parse
from tests import shells
from tests.kubernetes import samples
from tests.kubernetes.samples import STARTED

UID = "0b6a3a0e-6f1f-4a43-9b8c-0f2c8f1d2a11"
POD = "kube-proxy-d2a11"


def wanted(mode: Any = "ipvs", **proxy: Any) -> Node:
    kube_proxy = KubeProxy(mode=mode, managed_by="daemonset", **proxy)
    return Node(name="worker-1", address="192.0.2.7", desired=Desired(kube_proxy=kube_proxy))


def text(**settings: Any) -> str:
    return edited(samples.config("1.34"), Settings(**{"mode": "ipvs", **settings}))


def cluster(
    node: Node,
    pods: Sequence[Object] | None = None,
    config: str | None = None,
    nodes: Sequence[str] = ("worker-1",),
    sets: Sequence[Object] | None = None,
) -> Share:
    if pods is None:
        pods = [samples.pod("worker-1", UID)]
    if sets is None:
        sets = [samples.daemon_set()]
    config_map = samples.config_map(text=text() if config is None else config)
    seen = samples.view([samples.node(each) for each in nodes], [*sets, config_map], pods)
    return share(seen, match([node], seen.nodes), node, tells_strangers=True)


def said(log: str = "Using ipvs Proxier", mode: str = "ipvs", uid: str = UID) -> OnNode:
    return parse(f"mode {mode}\n\npod {uid}\nlog {log}\n")


def found(node: Node, seen: Share, on_node: OnNode | None = None) -> Mapping[str, Finding]:
    facts = Facts({ON_NODE.name: on_node or said()}).having(CLUSTER, seen)
    return {finding.name: finding for finding in daemonset.findings(node, facts)}


def failed(findings: Mapping[str, Finding]) -> list[str]:
    return [name for name, each in findings.items() if each.status is Status.FAIL]


# --- all is well ----------------------------------------------------------------------------


def test_a_node_with_its_pod_and_its_config_is_as_it_should_be() -> None:
    node = wanted(cluster_cidr="10.244.0.0/16")
    findings = found(node, cluster(node))
    assert {each.status for each in findings.values()} == {Status.OK}
    assert list(findings) == [
        *("daemonset", "node", "pod", "mode", "ipvs.scheduler", "ipvs.strictARP"),
        *("ipvs.excludeCIDRs", "clusterCIDR", "log", "config in use"),
    ]
    assert findings["pod"].actual == f"{POD}, ready, of kube-proxy"


def test_a_unit_of_systemd_is_none_of_this_topics() -> None:
    node = Node(name="n", address="n")
    assert ON_NODE.script(node) == ""
    assert daemonset.findings(node, Facts({})) == ()
    assert daemonset.changes(wanted(), Facts({})) == ()
    assert daemonset.paths(wanted()) == ()


# --- the pod --------------------------------------------------------------------------------


def leaving(item: Object) -> Object:
    item["metadata"]["deletionTimestamp"] = STARTED
    return item


WAITING = {
    "name": "kube-proxy",
    "restartCount": 4,
    "state": {"waiting": {"reason": "CrashLoopBackOff"}},
}


@pytest.mark.parametrize(
    ("pods", "actual"),
    [
        ([], "there is none"),
        ([leaving(samples.pod("worker-1", UID))], "only one that is being deleted"),
        (
            [samples.pod("worker-1", UID), samples.pod("worker-1", "other-00002")],
            f"2 of them: {POD}, kube-proxy-00002",
        ),
        (
            [samples.pod("worker-1", UID, containerStatuses=[WAITING], conditions=[])],
            f"{POD} is not ready: CrashLoopBackOff, started again 4 times",
        ),
        (
            [samples.pod("worker-1", UID, samples.stored(samples.daemon_set(), "another"))],
            f"{POD} is of no DaemonSet that is there",
        ),
    ],
)
def test_a_pod_that_is_not_one_ready_pod_fails(pods: list[Object], actual: str) -> None:
    node = wanted()
    findings = found(node, cluster(node, pods))
    assert findings["pod"].status is Status.FAIL
    assert findings["pod"].actual == actual
    assert findings["pod"].hint.startswith("kubectl -n kube-system ")


def test_one_that_leaves_beside_one_that_is_ready_is_fine() -> None:
    node = wanted()
    pods = [leaving(samples.pod("worker-1", "old-00001")), samples.pod("worker-1", UID)]
    assert failed(found(node, cluster(node, pods))) == []


# --- what it says ---------------------------------------------------------------------------


def test_a_fallback_in_the_log_fails_with_its_reason() -> None:
    log = "Can't use the IPVS proxier: Ipvs not supported\nlog Using iptables Proxier."
    node = wanted()
    finding = found(node, cluster(node), said(log, "iptables"))["log"]
    assert finding.status is Status.FAIL
    assert finding.actual == "iptables, as ipvs is not usable: Ipvs not supported"


def test_a_log_and_an_address_that_do_not_agree_fail() -> None:
    node = wanted()
    finding = found(node, cluster(node), said(mode="iptables"))["log"]
    assert (finding.status, finding.actual) == (
        Status.FAIL,
        "ipvs, but iptables at 127.0.0.1:10249",
    )


def test_a_log_of_another_pod_is_not_believed() -> None:
    node = wanted()
    findings = found(node, cluster(node), said("Using iptables Proxier", uid="another"))
    assert findings["log"].status is Status.SKIP


def test_a_log_without_a_mode_that_was_asked_for_says_so() -> None:
    node = wanted("iptables")
    log = 'Unknown proxy mode "", assuming iptables proxy\nlog Using iptables Proxier.'
    finding = found(node, cluster(node), said(log, "iptables"))["log"]
    assert finding.status is Status.OK
    assert finding.actual == "iptables, for it was given no mode that it knows"


# --- the ConfigMap --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "name", "actual"),
    [
        ({"mode": "iptables"}, "mode", "iptables (ConfigMap kube-proxy)"),
        ({"scheduler": "lc"}, "ipvs.scheduler", "lc (ConfigMap kube-proxy)"),
        ({"strict_arp": True}, "ipvs.strictARP", "true (ConfigMap kube-proxy)"),
        (
            {"exclude_cidrs": ("10.0.0.0/8",)},
            "ipvs.excludeCIDRs",
            "10.0.0.0/8 (ConfigMap kube-proxy)",
        ),
    ],
)
def test_each_setting_that_differs_is_told_with_what_to_type(
    settings: Mapping[str, Any], name: str, actual: str
) -> None:
    node = wanted()
    findings = found(node, cluster(node, config=text(**settings)))
    assert failed(findings) == [name]
    assert findings[name].actual == actual
    assert findings[name].hint == "nodeprep switch --to ipvs"


def test_a_mode_that_is_left_empty_is_iptables() -> None:
    node = wanted("iptables")
    findings = found(node, cluster(node, config=samples.config("1.34")), said(mode="iptables"))
    assert findings["mode"].status is Status.OK
    assert "ipvs.scheduler" not in findings


def test_the_pods_network_is_not_a_switchs_to_change() -> None:
    node = wanted(cluster_cidr="10.0.0.0/8")
    finding = found(node, cluster(node))["clusterCIDR"]
    assert (finding.status, finding.wanted) == (Status.FAIL, "10.0.0.0/8")
    assert finding.hint.startswith("kubectl -n kube-system edit configmap kube-proxy")


def test_a_config_that_cannot_be_read_fails_with_its_place() -> None:
    node = wanted()
    finding = found(node, cluster(node, config="mode: [\n"))["config.conf"]
    assert finding.status is Status.FAIL
    assert "no YAML" in finding.actual


def test_a_pod_that_is_older_than_the_config_is_told() -> None:
    node, pod = wanted(), samples.pod("worker-1", UID)
    state = {"running": {"startedAt": "2026-01-15T00:00:00Z"}}
    pod["status"]["containerStatuses"][0]["state"] = state
    finding = found(node, cluster(node, [pod]))["config in use"]
    assert finding.status is Status.WARN
    assert finding.actual == (
        f"{POD} began at 2026-01-15T00:00:00Z, before kube-proxy was written at "
        "2026-02-01T00:00:00Z: it still runs an older config"
    )


@pytest.mark.parametrize(
    ("created", "started", "status"),
    [
        ("2026-01-15T00:00:00Z", "2026-02-01T00:00:30Z", Status.WARN),
        ("2026-01-15T00:00:00Z", "2026-02-01T00:02:00Z", Status.OK),
        ("2026-02-01T00:00:01Z", "2026-02-01T00:00:02Z", Status.OK),
    ],
)
def test_a_process_that_began_again_just_after_the_change_may_have_read_the_old_one(
    created: str, started: str, status: Status
) -> None:
    node, pod = wanted(), samples.pod("worker-1", UID)
    pod["metadata"]["creationTimestamp"] = created
    pod["status"]["containerStatuses"][0]["state"] = {"running": {"startedAt": started}}
    finding = found(node, cluster(node, [pod]))["config in use"]
    assert finding.status is status
    assert ("it may still run an older config" in finding.actual) == (status is Status.WARN)


# --- the cluster ----------------------------------------------------------------------------


def test_a_node_that_the_cluster_does_not_have_fails_and_strangers_are_a_warning() -> None:
    node = wanted()
    findings = found(node, cluster(node, nodes=["other-1"]))
    assert failed(findings) == ["node"]
    assert "the cluster has no node worker-1" in findings["node"].actual
    assert findings["inventory"].status is Status.WARN
    assert findings["inventory"].actual == "the cluster has other-1 as well"
    many = found(node, cluster(node, nodes=["worker-1", *(f"w{number}" for number in range(7))]))
    assert many["inventory"].actual == "the cluster has w0, w1, w2, w3, w4 as well, and 2 more"


def test_a_daemon_set_that_is_held_is_told_with_its_run() -> None:
    node = wanted()
    finding = found(node, cluster(node, sets=[held(samples.daemon_set(), "run-1")]))["daemonset"]
    assert finding.status is Status.WARN
    assert finding.actual == "kube-proxy is held at OnDelete for the run run-1"


def test_a_cluster_without_kubeadms_daemon_set_fails() -> None:
    node = wanted()
    assert "daemonset" in failed(found(node, cluster(node, [], sets=[])))
    other = samples.daemon_set()
    other["spec"]["selector"] = {"matchLabels": {"component": "kube-proxy"}}
    finding = found(node, cluster(node, [], sets=[other]))["daemonset"]
    assert "does not know its pods by k8s-app=kube-proxy" in finding.actual


def test_a_cluster_that_could_not_be_read_fails_with_what_kubectl_said() -> None:
    told = Share(trouble="kubectl on control-1: could not read", hint="no route to host")
    findings = found(wanted(), told)
    assert failed(findings) == ["cluster"]
    assert findings["cluster"].hint == "no route to host"
    never_asked = daemonset.findings(wanted(), Facts({ON_NODE.name: said()}))
    assert [(each.name, each.status) for each in never_asked] == [("cluster", Status.FAIL)]


# --- the question ---------------------------------------------------------------------------


def logs(root: Path, folder: str, name: str, text: str) -> None:
    place = root / "var/log/pods" / folder / "kube-proxy"
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_text(text)


@pytest.mark.parametrize("shell", shells.SHELLS)
def test_of_each_pod_the_log_of_its_last_start_is_read(shell: str, tmp_path: Path) -> None:
    one, two = f"kube-system_{POD}_{UID}", "kube-system_kube-proxy-nodeprep-x_other"
    logs(tmp_path, one, "2.log", "Using iptables Proxier\n")
    logs(tmp_path, one, "10.log", "a line\nUsing ipvs Proxier\n")
    logs(tmp_path, two, "0.log", "Using nftables Proxier\n")
    logs(tmp_path, "kube-system_coredns-1_u", "0.log", "Using iptables Proxier\n")
    answer = parse(shells.in_root(shell, asked(), tmp_path))
    assert {uid: each.mode for uid, each in answer.logs.items()} == {
        UID: "ipvs",
        "other": "nftables",
    }


@pytest.mark.parametrize("shell", shells.SHELLS)
def test_an_old_kubelets_links_are_read_by_the_pods_name(shell: str, tmp_path: Path) -> None:
    place = tmp_path / "var/log/containers"
    place.mkdir(parents=True)
    (place / f"{POD}_kube-system_kube-proxy-0a1b.log").write_text("Using ipvs Proxier.\n")
    answer = parse(shells.in_root(shell, asked(), tmp_path))
    assert answer.logs[POD].mode == "ipvs"
    node = wanted()
    assert found(node, cluster(node), answer)["log"].status is Status.OK


@pytest.mark.parametrize("shell", shells.SHELLS)
def test_where_there_is_no_log_nothing_is_said(shell: str, tmp_path: Path) -> None:
    assert parse(shells.in_root(shell, asked(), tmp_path)) == OnNode()


def asked() -> str:
    return "http_get() { :; }\n" + ON_NODE.script(wanted())


def test_shellcheck_finds_nothing_in_the_question() -> None:
    assert shells.complaints(asked()) == ""
