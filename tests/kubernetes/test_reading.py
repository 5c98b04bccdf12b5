"""What the API's objects say of nodes, pods, DaemonSets and ConfigMaps."""

import pytest

from nodeprep.kubernetes.reading import seconds
from tests.kubernetes import samples
from tests.kubernetes.samples import CHANGED, CREATED, STARTED


def test_a_pod_is_told_with_its_owner_and_what_it_is_made_of() -> None:
    (pod,) = samples.view(pods=[samples.pod("worker-1", "pod-00001")]).pods
    assert (pod.name, pod.uid, pod.node) == ("kube-proxy-00001", "pod-00001", "worker-1")
    assert (pod.owner, pod.owner_uid) == ("kube-proxy", "ds-1")
    assert (pod.phase, pod.ready, pod.restarts, pod.deleting) == ("Running", True, 0, False)
    assert pod.started == seconds(STARTED)
    assert (pod.revision, pod.config_map) == ("5d7c8f", "kube-proxy")
    assert pod.image == "registry.k8s.io/kube-proxy:v1.34.3"


def test_a_pod_that_does_not_come_up_says_why() -> None:
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
    status = {"name": "kube-proxy", "restartCount": 3, "state": waiting}
    item = samples.pod("w", "pod-1", containerStatuses=[status], conditions=[])
    item["metadata"]["deletionTimestamp"] = STARTED
    (pod,) = samples.view(pods=[item]).pods
    assert (pod.ready, pod.deleting, pod.restarts, pod.started) == (False, True, 3, None)
    assert pod.waiting == "CrashLoopBackOff: back-off 10s"


@pytest.mark.parametrize("release", samples.RELEASES)
def test_a_daemon_set_is_told_with_all_of_it(release: str) -> None:
    raw = samples.daemon_set(release)
    found = samples.view(objects=[raw]).daemon_sets["kube-proxy"]
    assert (found.generation, found.observed, found.desired) == (1, 1, 3)
    assert (found.strategy, found.config_map) == ("RollingUpdate", "kube-proxy")
    assert found.selector == {"k8s-app": "kube-proxy"}
    assert found.raw == raw
    assert found.template == raw["spec"]["template"]


def test_a_config_map_says_when_its_data_was_written_not_its_labels() -> None:
    found = samples.view(objects=[samples.config_map()]).config_maps["kube-proxy"]
    assert found.changed == seconds(CHANGED)
    assert found.created == seconds(CREATED)
    assert found.config == samples.config("1.34")


def test_where_the_cluster_does_not_say_who_wrote_it_no_time_is_known() -> None:
    raw = samples.config_map()
    del raw["metadata"]["managedFields"]
    assert samples.view(objects=[raw]).config_maps["kube-proxy"].changed is None


def test_a_node_is_told_with_its_addresses_and_taints() -> None:
    item = samples.node("worker-1", "192.0.2.7", zone="a")
    item["spec"] = {"unschedulable": True, "taints": [{"key": "k", "effect": "NoSchedule"}]}
    (node,) = samples.view(nodes=[item]).nodes
    assert node.addresses == (("InternalIP", "192.0.2.7"), ("Hostname", "worker-1"))
    assert (node.unschedulable, node.ready, node.kubelet) == (True, True, "v1.34.1")
    assert node.taints == ("k:NoSchedule",)
    assert node.labels["zone"] == "a"
