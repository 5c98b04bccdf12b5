"""A roll over a cluster, from its first object to its last: afterwards there is the mode, no more.

The steps are those that kubectl is given; here a cluster of a few lines takes them, and refuses an
object that is no longer the one that was seen.
"""

import copy
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from nodeprep.errors import LockHeld, NodeFailed
from nodeprep.kubernetes.daemonsets import AWAY, HERE, KEPT, LABEL
from nodeprep.kubernetes.kubectl import Kubectl
from nodeprep.kubernetes.view import ORIGINAL, SECOND, Object, View
from nodeprep.model import Change, Node
from nodeprep.rollout import cluster_objects
from nodeprep.rollout.cluster_objects import disturbed, finished, prepared, renewing
from nodeprep.rollout.switching import Aim
from tests.kubernetes import samples
from tests.topics import node

RUN = "20261123T070000Z-0a1b2c"
OTHER = "20261123T080000Z-0a1b2c"
KUBECTL = Kubectl()
CANARY = Aim(run=RUN, lock=RUN, to="ipvs", strategy="canary", holder="eve@desk")
RECREATE = replace(CANARY, strategy="recreate")
HOME = replace(CANARY, run=OTHER, lock=OTHER, home=True)
NODE = node(mode="ipvs", managed_by="daemonset")


@dataclass(kw_only=True)
class Cluster:
    """Two nodes, a pod on each, and kubeadm's objects."""

    objects: dict[tuple[str, str], Object] = field(default_factory=dict)
    labels: dict[str, dict[str, str]] = field(default_factory=lambda: {"n1": {}, "n2": {}})

    @property
    def view(self) -> View:
        nodes = [samples.node(name) for name in self.labels]
        for each in nodes:
            each["metadata"]["labels"] |= self.labels[each["metadata"]["name"]]
        pods = [samples.pod(name, f"uid-{name}") for name in self.labels]
        return samples.view(nodes, copy.deepcopy(list(self.objects.values())), pods)

    def make(self, changes: list[Change]) -> list[str]:
        for change in changes:
            self._make(change.action.reveal())
        return [change.summary for change in changes]

    def _make(self, text: str) -> None:
        if "rollout status" in text:
            return
        if deleted := re.search(r"delete (daemonset|configmap|lease) (\S+)", text):
            kind = {"daemonset": "DaemonSet", "configmap": "ConfigMap", "lease": "Lease"}
            del self.objects[kind[deleted[1]], deleted[2]]
            return
        document: Object = json.loads(re.findall(r"^.*?'(\{.*\})'", text, re.DOTALL)[0])
        key = document["kind"], document["metadata"]["name"]
        if " create " in text:
            assert key not in self.objects
            self.objects[key] = samples.stored(document) | {}
            return
        there = self.objects[key]["metadata"]["resourceVersion"]
        assert document["metadata"]["resourceVersion"] == there, "changed meanwhile"
        document["metadata"]["resourceVersion"] = f"{there}1"
        self.objects[key] = document

    def seen(self) -> Any:
        """Return what a person sees: without the server's stamps."""
        plain = copy.deepcopy(self.objects)
        for each in plain.values():
            each["metadata"].pop("resourceVersion")
            each["metadata"].pop("managedFields", None)
        return plain, self.labels


@pytest.fixture(params=samples.RELEASES)
def cluster(request: pytest.FixtureRequest) -> Cluster:
    text = samples.config(request.param)
    both = (samples.daemon_set(request.param), samples.config_map(request.param, text))
    return Cluster(objects={(each["kind"], each["metadata"]["name"]): each for each in both})


def in_ipvs(seen: Any) -> Any:
    """Return a cluster with the other mode, and nothing else that differs."""
    (objects, labels) = copy.deepcopy(seen)
    data = objects["ConfigMap", ORIGINAL]["data"]
    assert data["config.conf"].count('mode: ""') == 1
    data["config.conf"] = data["config.conf"].replace('mode: ""', 'mode: "ipvs"')
    return objects, labels


# --- the canary's way -----------------------------------------------------------------------


def test_the_canarys_way_ends_with_the_other_mode_and_nothing_else(cluster: Cluster) -> None:
    before = cluster.seen()
    assert cluster.make(prepared(cluster.view, KUBECTL, NODE, CANARY)) == [
        "take the cluster's lock",
        f"make the ConfigMap {SECOND}",
        f"make the DaemonSet {SECOND}",
        f"keep {ORIGINAL} away from labelled nodes",
    ]
    assert prepared(cluster.view, KUBECTL, NODE, CANARY) == []
    cluster.labels = {"n1": {LABEL: HERE}, "n2": {LABEL: HERE}}
    assert cluster.make(finished(cluster.view, KUBECTL, NODE, CANARY, done=True)) == [
        "give the cluster's lock back"
    ]
    assert cluster_objects.all_by_second(cluster.view)
    cluster.make(prepared(cluster.view, KUBECTL, NODE, HOME))
    assert cluster_objects.original_mode(cluster.view) == "ipvs"
    cluster.labels = {"n1": {}, "n2": {}}
    cluster.make(finished(cluster.view, KUBECTL, NODE, HOME, done=True))
    assert cluster.seen() == in_ipvs(before)


def test_a_roll_that_came_to_nothing_leaves_nothing(cluster: Cluster) -> None:
    before = cluster.seen()
    cluster.make(prepared(cluster.view, KUBECTL, NODE, CANARY))
    cluster.make(finished(cluster.view, KUBECTL, NODE, CANARY, done=False))
    assert cluster.seen() == before


@pytest.mark.parametrize("label", [HERE, AWAY])
def test_as_long_as_a_node_is_not_the_originals_the_second_stays(
    cluster: Cluster, label: str
) -> None:
    cluster.make(prepared(cluster.view, KUBECTL, NODE, CANARY))
    cluster.labels["n1"] = {LABEL: label}
    cluster.make(finished(cluster.view, KUBECTL, NODE, CANARY, done=False))
    assert ("DaemonSet", SECOND) in cluster.objects
    assert not cluster_objects.all_by_second(cluster.view)


def test_a_second_that_serves_is_not_given_another_configuration(cluster: Cluster) -> None:
    cluster.make(prepared(cluster.view, KUBECTL, NODE, CANARY))
    cluster.labels["n1"] = {LABEL: HERE}
    other = replace(CANARY, to="nftables")
    with pytest.raises(NodeFailed, match="serves n1 with another configuration"):
        prepared(cluster.view, KUBECTL, NODE, other)
    cluster.labels["n1"] = {}
    assert f"change the ConfigMap {SECOND}" in cluster.make(
        prepared(cluster.view, KUBECTL, NODE, other)
    )


# --- the recreating way ---------------------------------------------------------------------


@pytest.mark.parametrize("done", [True, False])
def test_the_recreating_way_keeps_the_mode_only_where_it_came_to_its_end(
    cluster: Cluster, done: bool
) -> None:
    before = cluster.seen()
    cluster.make(prepared(cluster.view, KUBECTL, NODE, RECREATE))
    assert cluster.view.daemon_sets[ORIGINAL].strategy == "OnDelete"
    assert KEPT in cluster.view.config_maps[ORIGINAL].annotations
    assert prepared(cluster.view, KUBECTL, NODE, RECREATE) == []
    cluster.make(finished(cluster.view, KUBECTL, NODE, RECREATE, done=done))
    assert cluster.seen() == (in_ipvs(before) if done else before)


def test_a_text_that_somebody_changed_meanwhile_is_not_written_over(cluster: Cluster) -> None:
    cluster.make(prepared(cluster.view, KUBECTL, NODE, RECREATE))
    cluster.objects["ConfigMap", ORIGINAL]["data"]["config.conf"] += "# mine\n"
    with pytest.raises(NodeFailed, match="changed by somebody else"):
        prepared(cluster.view, KUBECTL, NODE, RECREATE)


def test_what_somebody_wrote_meanwhile_is_theirs_also_at_the_end(cluster: Cluster) -> None:
    cluster.make(prepared(cluster.view, KUBECTL, NODE, RECREATE))
    text = cluster.objects["ConfigMap", ORIGINAL]["data"]["config.conf"] + "# mine\n"
    cluster.objects["ConfigMap", ORIGINAL]["data"]["config.conf"] = text
    cluster.make(finished(cluster.view, KUBECTL, NODE, RECREATE, done=False))
    assert cluster.view.config_maps[ORIGINAL].config == text
    assert KEPT not in cluster.view.config_maps[ORIGINAL].annotations


def test_the_originals_own_update_is_waited_for_where_its_template_was_another(
    cluster: Cluster,
) -> None:
    def waits(aim: Aim) -> int:
        return len(renewing(cluster.view, KUBECTL, aim))

    assert waits(CANARY) == 0
    cluster.make(prepared(cluster.view, KUBECTL, NODE, CANARY))
    assert (waits(CANARY), waits(RECREATE)) == (1, 0)
    cluster.labels["n1"] = {LABEL: HERE}
    assert waits(CANARY) == 0


# --- the lock, and others -------------------------------------------------------------------


@pytest.mark.parametrize("aim", [CANARY, RECREATE])
def test_another_rolls_lock_is_heeded_and_never_given_back(cluster: Cluster, aim: Aim) -> None:
    cluster.make(prepared(cluster.view, KUBECTL, NODE, replace(aim, lock=OTHER)))
    with pytest.raises(LockHeld, match=OTHER):
        prepared(cluster.view, KUBECTL, NODE, aim)
    cluster.make(finished(cluster.view, KUBECTL, NODE, aim, done=False))
    assert ("Lease", "nodeprep-switch") in cluster.objects


@pytest.mark.parametrize("aim", [CANARY, RECREATE])
def test_a_kubeadm_upgrade_in_the_middle_is_noticed(cluster: Cluster, aim: Aim) -> None:
    before = copy.deepcopy(cluster.objects["DaemonSet", ORIGINAL])
    cluster.make(prepared(cluster.view, KUBECTL, NODE, aim))
    assert list(disturbed(cluster.view, aim)) == []
    cluster.objects["DaemonSet", ORIGINAL] = before
    (told,) = disturbed(cluster.view, aim)
    assert "written anew" in told
    del cluster.objects["Lease", "nodeprep-switch"]
    assert any("lock" in told for told in disturbed(cluster.view, aim))


def test_what_a_text_says_by_default_is_not_written_into_it(cluster: Cluster) -> None:
    wish = cluster_objects.wish_of(cluster.view, NODE, "ipvs")
    assert (wish.scheduler, wish.strict_arp, wish.exclude_cidrs) == (None, None, None)
    strict: Node = node(mode="ipvs", managed_by="daemonset", strict_arp=True, scheduler="lc")
    wish = cluster_objects.wish_of(cluster.view, strict, "ipvs")
    assert (wish.scheduler, wish.strict_arp) == ("lc", True)
    assert cluster_objects.wish_of(cluster.view, strict, "nftables").scheduler is None
