"""kube-proxy as a DaemonSet on two nodes: what becomes of its pods, in the cluster and on nodes.

The tests come in an order, as the changes of a cluster do.
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from nodeprep.errors import LabError
from nodeprep.lab import control_plane, lifecycle
from nodeprep.lab.objects import ENDPOINTS
from nodeprep.lab.readiness import ssh_command
from nodeprep.lab.settings import Settings, default_cache
from nodeprep.lab.state import Lab

pytestmark = pytest.mark.lab
MINUTES = 3

SYSTEM = "/api/v1/namespaces/kube-system"
DAEMON_SETS = "/apis/apps/v1/namespaces/kube-system/daemonsets"
KUBE_PROXY = f"{DAEMON_SETS}/kube-proxy"
CANARY = "example.test/canary"
NODES = ["node1", "node2"]
# Who a kube-proxy is, by its cgroup: the UID of its pod.
PROCESSES = "cat $(pgrep -x kube-proxy | sed 's|.*|/proc/&/cgroup|') /dev/null"
POD = re.compile(r"/pod([^/]+)/")

Object = dict[str, Any]


class Cluster:
    """The cluster by its API server, and its nodes by SSH."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.api = control_plane.api(lab)

    def get(self, path: str) -> Any:
        return json.loads(self.api.request("GET", path))

    def delete(self, path: str) -> None:
        self.api.request("DELETE", path)

    def on(self, node: str, command: str) -> str:
        words = ssh_command(self.lab, self.lab.node(node), [command])
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()

    def kubectl(self, command: str) -> str:
        return self.on("node1", f"kubectl --kubeconfig /etc/kubernetes/admin.conf {command}")

    def pods(self) -> dict[str, list[Object]]:
        """Return all pods of kube-system by their nodes."""
        found: dict[str, list[Object]] = {name: [] for name in NODES}
        for pod in self.get(f"{SYSTEM}/pods")["items"]:
            found[pod["spec"]["nodeName"]].append(pod)
        return found

    def pod(self, node: str) -> Object:
        """Return the only pod of this node, once it is the only one and runs."""
        wait_for(lambda: [is_running(pod) for pod in self.pods()[node]] == [True])
        (pod,) = self.pods()[node]
        return pod

    def uid(self, node: str) -> str:
        return str(self.pod(node)["metadata"]["uid"])

    def processes(self, node: str) -> list[str]:
        """Return the UID of the pod of each kube-proxy that runs on this node."""
        return POD.findall(self.on(node, PROCESSES))

    def delete_pod(self, node: str) -> None:
        self.delete(f"{SYSTEM}/pods/{self.pod(node)['metadata']['name']}")

    def status(self, name: str = "kube-proxy") -> Object:
        """Return a DaemonSet's status, once it is about what the DaemonSet now says."""
        wait_for(lambda: is_observed(self.get(f"{DAEMON_SETS}/{name}")))
        return dict(self.get(f"{DAEMON_SETS}/{name}")["status"])

    def settled(self, *, updated: int, name: str = "kube-proxy", wanted: int = 2) -> None:
        """Wait until a DaemonSet has all its pods, and so many of them are of its template."""
        expected = {
            "desiredNumberScheduled": wanted,
            "currentNumberScheduled": wanted,
            "numberReady": wanted,
            "numberAvailable": wanted,
            "updatedNumberScheduled": updated,
            "numberMisscheduled": 0,
        }

        def is_so() -> bool:
            seen = self.status(name)
            return {field: seen.get(field, 0) for field in expected} == expected

        wait_for(is_so)


def is_running(pod: Object) -> bool:
    statuses = pod["status"].get("containerStatuses", [])
    return "deletionTimestamp" not in pod["metadata"] and [one["ready"] for one in statuses] == [
        True
    ]


def is_observed(thing: Object) -> bool:
    return bool(thing["status"].get("observedGeneration") == thing["metadata"]["generation"])


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.3)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    settings = Settings(
        folder=tmp_path_factory.mktemp("kubeadm") / "lab",
        cache=default_cache(),
        nodes=len(NODES),
        network="127.79.10",
        kubeadm=True,
    )
    yield Cluster(lifecycle.up(settings))
    lifecycle.down(settings.folder)


def test_each_node_has_one_kube_proxy_and_it_is_its_pods(cluster: Cluster) -> None:
    cluster.settled(updated=2)
    for node in NODES:
        pod = cluster.pod(node)
        assert cluster.processes(node) == [pod["metadata"]["uid"]]
        assert pod["metadata"]["name"].startswith("kube-proxy-")
        assert (pod["status"]["podIP"], pod["status"]["phase"]) == ("10.0.2.15", "Running")
        # All that it has of its own is in mounts of its own.
        assert cluster.on(node, "ls -d /var/lib/kube-proxy /run/secrets || echo none") == "none"


def test_it_serves_the_labs_services_in_iptables_mode(cluster: Cluster) -> None:
    ask = "lab-traffic ask --to 10.254.7.7:80 --times 8"
    for node in NODES:
        cluster.on(node, f"timeout 60 sh -c 'until {ask}; do sleep 1; done'")
        answers = {line.removeprefix("hello from ") for line in cluster.on(node, ask).splitlines()}
        assert answers <= set(ENDPOINTS)
        assert "-j KUBE-SVC-" in cluster.on(node, "iptables-save -t nat")


def test_kubectl_sees_a_cluster_such_as_kubeadm_makes(cluster: Cluster) -> None:
    listed = cluster.kubectl("get nodes --no-headers").splitlines()
    assert [line.split()[:3] for line in listed] == [
        ["node1", "Ready", "control-plane,master"],
        ["node2", "Ready", "<none>"],
    ]
    done = cluster.kubectl("-n kube-system rollout status daemonset kube-proxy --timeout 60s")
    assert "successfully rolled out" in done
    mode = cluster.on("node1", "stat -c '%a %U' /etc/kubernetes/admin.conf")
    assert mode == "600 root"


def test_its_log_is_where_and_as_the_kubelet_writes_it(cluster: Cluster) -> None:
    pod = cluster.pod("node2")["metadata"]
    folder = f"/var/log/pods/kube-system_{pod['name']}_{pod['uid']}/kube-proxy"
    lines = cluster.on("node2", f"cat {folder}/0.log").splitlines()
    cri = re.compile(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d) (stdout|stderr) [FP] .*"
    )
    assert [line for line in lines if not cri.fullmatch(line)] == []
    assert any("Using iptables Proxier." in line for line in lines)


def test_it_has_the_rights_of_its_own_account_and_no_more(cluster: Cluster) -> None:
    volumes = f"/var/lib/kubelet/pods/{cluster.uid('node1')}/volumes"
    token = cluster.on("node1", f"cat {volumes}/kube-api-access-*/token")
    own = replace(cluster.api, token=token)
    assert own.has("/api/v1/services")
    with pytest.raises(LabError, match="system:serviceaccount:kube-system:kube-proxy"):
        own.request("GET", "/api/v1/secrets")


def test_who_has_no_rights_yet_is_known_and_refused(cluster: Cluster) -> None:
    nobody = replace(cluster.api, token=control_plane.token(cluster.lab, "nodeprep"))
    with pytest.raises(LabError, match='User \\\\"nodeprep\\\\" cannot get'):
        nobody.request("GET", KUBE_PROXY)


def test_an_agent_that_starts_again_takes_over_what_runs(cluster: Cluster) -> None:
    before = cluster.uid("node2"), cluster.on("node2", "pgrep -x kube-proxy")
    cluster.on("node2", "systemctl restart lab-node-agent")
    time.sleep(3)
    assert (cluster.uid("node2"), cluster.on("node2", "pgrep -x kube-proxy")) == before
    assert restarts(cluster.pod("node2")) == 0


def test_a_container_that_is_killed_starts_again_in_the_same_pod(cluster: Cluster) -> None:
    uid = cluster.uid("node2")
    cluster.on("node2", "pkill -9 -x kube-proxy")
    wait_for(lambda: restarts(cluster.pod("node2")) == 1)
    container = cluster.pod("node2")["status"]["containerStatuses"][0]
    assert container["lastState"]["terminated"]["exitCode"] == 137
    assert cluster.processes("node2") == [uid] == [cluster.uid("node2")]
    assert "0.log\n1.log" in cluster.on("node2", f"ls /var/log/pods/*{uid}/kube-proxy")


def test_without_an_api_server_what_runs_goes_on_and_what_ends_starts_again(
    cluster: Cluster,
) -> None:
    uid, before = cluster.uid("node1"), cluster.on("node1", "pgrep -x kube-proxy")
    with paused(cluster.lab):
        cluster.on("node1", "systemctl restart lab-node-agent")
        time.sleep(2)
        assert cluster.on("node1", "pgrep -x kube-proxy") == before
        cluster.on("node1", "pkill -9 -x kube-proxy")
        another = f"until pgrep -x kube-proxy | grep -vx {before}; do sleep 0.5; done"
        cluster.on("node1", f"timeout 60 sh -c '{another}'")
        assert cluster.processes("node1") == [uid]
    cluster.settled(updated=2)
    wait_for(lambda: restarts(cluster.pod("node1")) == 1)
    assert cluster.uid("node1") == uid


@contextmanager
def paused(lab: Lab) -> Iterator[None]:
    """Let the API server answer nobody."""
    assert lab.control_plane is not None
    assert lab.control_plane.apiserver is not None
    pid = lab.control_plane.apiserver.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def restarts(pod: Object) -> int:
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def test_a_pod_that_is_deleted_is_followed_by_another(cluster: Cluster) -> None:
    before = cluster.uid("node2")
    cluster.delete_pod("node2")
    wait_for(lambda: before not in [pod["metadata"]["uid"] for pod in cluster.pods()["node2"]])
    after = cluster.uid("node2")
    assert after != before
    assert cluster.processes("node2") == [after]
    assert cluster.on("node2", "ls /var/log/pods").endswith(after)


def test_without_its_agent_a_node_keeps_its_pod_and_gets_no_other(cluster: Cluster) -> None:
    before = cluster.uid("node2")
    cluster.on("node2", "systemctl stop lab-node-agent")
    cluster.delete_pod("node2")
    time.sleep(2)
    (pod,) = cluster.pods()["node2"]
    assert "deletionTimestamp" in pod["metadata"]
    assert cluster.processes("node2") == [before]
    cluster.on("node2", "systemctl start lab-node-agent")
    wait_for(lambda: before not in [one["metadata"]["uid"] for one in cluster.pods()["node2"]])
    cluster.settled(updated=2)


def test_with_on_delete_a_change_waits_for_each_pods_end(cluster: Cluster) -> None:
    before = {node: cluster.uid(node) for node in NODES}
    config = cluster.get(f"{SYSTEM}/configmaps/kube-proxy")["data"]["config.conf"]
    moved = config.replace('healthzBindAddress: ""', 'healthzBindAddress: "0.0.0.0:10266"')
    cluster.api.patch(f"{SYSTEM}/configmaps/kube-proxy", {"data": {"config.conf": moved}})
    cluster.api.patch(
        KUBE_PROXY, {"spec": {"updateStrategy": {"type": "OnDelete", "rollingUpdate": None}}}
    )
    cluster.settled(updated=2)
    annotated = {"metadata": {"annotations": {"example.test/changed": "once"}}}
    cluster.api.patch(KUBE_PROXY, {"spec": {"template": annotated}})
    cluster.settled(updated=0)
    assert {node: cluster.uid(node) for node in NODES} == before
    cluster.delete_pod("node2")
    cluster.settled(updated=1)
    assert cluster.uid("node1") == before["node1"]
    # The pod that is new has read the ConfigMap as it is now, and the old one has not.
    wait_for(lambda: "10266" in cluster.on("node2", "ss -ltn"))
    assert "10266" not in cluster.on("node1", "ss -ltn")


def test_with_rolling_update_the_rest_follows_by_itself(cluster: Cluster) -> None:
    kept = cluster.uid("node2")
    cluster.api.patch(KUBE_PROXY, {"spec": {"updateStrategy": {"type": "RollingUpdate"}}})
    cluster.settled(updated=2)
    assert cluster.uid("node2") == kept
    wait_for(lambda: "10266" in cluster.on("node1", "ss -ltn"))
    # A pod's template is told by the highest of the revisions.
    revisions = cluster.get("/apis/apps/v1/namespaces/kube-system/controllerrevisions")["items"]
    newest = max(revisions, key=lambda one: int(one["revision"]))
    label = "controller-revision-hash"
    assert {cluster.pod(node)["metadata"]["labels"][label] for node in NODES} == {
        newest["metadata"]["labels"][label]
    }


def test_a_label_moves_a_node_to_another_daemonset_and_back(cluster: Cluster) -> None:
    away = {"matchExpressions": [{"key": CANARY, "operator": "NotIn", "values": ["yes"]}]}
    affinity = {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [away]}
        }
    }
    original = cluster.get(KUBE_PROXY)
    cluster.api.patch(KUBE_PROXY, {"spec": {"template": {"spec": {"affinity": affinity}}}})
    second = canary(original)
    cluster.api.create(DAEMON_SETS, second)
    cluster.settled(updated=2)
    cluster.settled(updated=0, wanted=0, name="kube-proxy-canary")

    cluster.api.patch("/api/v1/nodes/node2", {"metadata": {"labels": {CANARY: "yes"}}})
    cluster.settled(updated=1, wanted=1, name="kube-proxy-canary")
    cluster.settled(updated=1, wanted=1)
    assert cluster.pod("node2")["metadata"]["name"].startswith("kube-proxy-canary-")
    assert cluster.processes("node2") == [cluster.uid("node2")]

    cluster.api.patch("/api/v1/nodes/node2", {"metadata": {"labels": {CANARY: None}}})
    cluster.settled(updated=2)
    assert not cluster.pod("node2")["metadata"]["name"].startswith("kube-proxy-canary-")
    assert cluster.processes("node2") == [cluster.uid("node2")]


def canary(original: Object) -> Object:
    """Return a DaemonSet beside the original, for nodes with the label."""
    labels = {"k8s-app": "kube-proxy-canary"}
    template = original["spec"]["template"]
    spec = template["spec"] | {"nodeSelector": {CANARY: "yes"}, "affinity": {}}
    return {
        "metadata": {"name": "kube-proxy-canary"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


def test_the_pods_of_a_daemonset_end_with_it(cluster: Cluster) -> None:
    cluster.api.patch("/api/v1/nodes/node1", {"metadata": {"labels": {CANARY: "yes"}}})
    cluster.settled(updated=1, wanted=1, name="kube-proxy-canary")
    cluster.delete(f"{DAEMON_SETS}/kube-proxy-canary")
    wait_for(lambda: cluster.pods()["node1"] == [])
    wait_for(lambda: cluster.processes("node1") == [])
    assert cluster.processes("node2") == [cluster.uid("node2")]


@pytest.mark.parametrize(
    ("image", "reason"),
    [("k8s.gcr.io/kube-proxy:v1.22.0", "ErrImagePull"), ("registry.k8s.io/pause:3.9", "")],
)
def test_an_image_is_one_of_those_that_the_lab_has(
    cluster: Cluster, image: str, reason: str
) -> None:
    """The one that sleeps is for workloads that a drain has to wait for."""
    name = "a-workload"
    spec = {
        "nodeName": "node2",
        "terminationGracePeriodSeconds": 1,
        "containers": [{"name": "only", "image": image}],
    }
    pods = "/api/v1/namespaces/default/pods"
    cluster.api.create(pods, {"metadata": {"name": name}, "spec": spec})

    def seen() -> list[Object]:
        return list(cluster.get(f"{pods}/{name}")["status"].get("containerStatuses", []))

    wait_for(lambda: bool(seen()) and seen()[0]["ready"] == (not reason))
    assert seen()[0]["state"].get("waiting", {"reason": ""})["reason"] == reason
    cluster.delete(f"{pods}/{name}")
    wait_for(lambda: not cluster.api.has(f"{pods}/{name}"))
