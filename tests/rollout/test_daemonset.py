"""What each verb does to a node whose kube-proxy is a pod, on the node and in its cluster."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from nodeprep.errors import NodeFailed
from nodeprep.kubernetes.daemonsets import HERE, LABEL
from nodeprep.kubernetes.kubectl import Kubectl
from nodeprep.kubernetes.view import Object, View
from nodeprep.model import MODES, Change, Fact, Facts, Mode, Status
from nodeprep.releases import Version
from nodeprep.rollout import artefacts, cluster_objects, daemonset, gates, way_back
from nodeprep.rollout.artefacts import Artefacts
from nodeprep.rollout.daemonset import VIEW, InCluster
from nodeprep.rollout.gates import Health
from nodeprep.rollout.machine import VERBS, Verb
from nodeprep.rollout.switching import Aim
from nodeprep.rollout.way_back import Record
from nodeprep.topics.proxy_mode import EFFECTIVE, Effective
from tests.kubernetes import samples
from tests.topics import node, of

RUN = "20261123T070000Z-0a1b2c"
RECORD = way_back.record(RUN)
KIND = InCluster(kubectl=Kubectl(on="node1", kubeconfig="/etc/kubernetes/admin.conf"))
NODE = node(mode="ipvs", managed_by="daemonset")
PAIRS = list(permutations(MODES, 2))


def aim(to: Mode, **more: Any) -> Aim:
    wanted = {"strategy": "canary", "cluster_node": "n1", "old_pod": "uid-old", "lock": RUN}
    return Aim(run=RUN, to=to, **{**wanted, **more})


def view(mode: Mode = "iptables", *, labels: Mapping[str, str] | None = None,
         pods: Sequence[Object] | None = None) -> View:  # fmt: skip
    """Return a cluster whose ConfigMap says ``mode``, and whose node has a pod that is new."""
    text = samples.config("1.34").replace('mode: ""', f"mode: {mode}")
    each = samples.node("n1")
    each["metadata"]["labels"] |= labels or {}
    there = [samples.pod("n1", "uid-new")] if pods is None else list(pods)
    return samples.view([each], [samples.daemon_set(), samples.config_map("1.34", text)], there)


def facts_in(
    effective: str, seen: View, changed: Mapping[Fact[Any], object] | None = None
) -> Facts:
    values: dict[Fact[Any], object] = {
        RECORD: Record(process="b 1 10"),
        EFFECTIVE: Effective(running=True, mode=effective),
        artefacts.ARTEFACTS: Artefacts(),
        gates.HEALTH: Health(synced=(1.7e9,)),
    }
    return of({**values, **(changed or {})}).joined(Facts({VIEW: seen}))


def kept(state: str, gone: str) -> Record:
    return Record(state=state, gone=gone, process="b 2 20", began_as="b 1 10", armed_by=RUN)


def places(changes: Sequence[Change]) -> list[str]:
    return [f"{change.place}: {change.subject}" for change in changes if change.subject != "learn"]


def on_node(*subjects: str) -> list[str]:
    return [f"node: {subject}" for subject in subjects]


# --- a switch -------------------------------------------------------------------------------


@pytest.mark.parametrize(("gone", "to"), PAIRS)
def test_the_node_keeps_and_bridges_before_its_pod_is_exchanged_and_waits_after_it(
    gone: Mode, to: Mode
) -> None:
    before = ["sources", "drain"] if (gone, to) == ("ipvs", "nftables") else []
    after = ["sources"] if (gone, to) == ("ipvs", "iptables") else []
    after += [] if "nftables" in (gone, to) else ["unbridge"]
    changes = KIND.changes("switch", NODE, facts_in(gone, view(gone)), aim(to))
    assert places(changes) == [
        *["cluster: cluster"] * 2,
        *on_node("keep", "arm", "bridge", *before, "renew"),
        *["cluster: cluster"] * 4,
        *on_node("renew", "another", "renew", "sync", *after),
    ]  # fmt: skip
    exchanged = [change.summary for change in changes if change.place == "cluster"]
    renewed = "renew the cluster's dead man's switch"
    assert exchanged[-3:] == [renewed, "exchange the pod of n1", renewed]


def test_a_node_is_drained_before_anything_of_it_is_armed() -> None:
    changes = KIND.changes("switch", NODE, facts_in("iptables", view()), aim("ipvs", drain=60))
    summaries = [change.summary for change in changes]
    assert summaries.index("drain n1") < summaries.index("arm the dead man's switch")
    assert "drain 60" in str(changes[summaries.index("drain n1")].action)


def test_both_halves_end_before_what_is_kept_goes() -> None:
    facts = facts_in("ipvs", view(), {RECORD: kept("armed", "iptables")})
    changes = KIND.changes("settle", NODE, facts, aim("ipvs"))
    assert places(changes) == [
        *["cluster: cluster"] * 2, *on_node("disarm"), *["cluster: cluster"] * 2,
    ]  # fmt: skip
    ends = [str(change.action) for change in changes if change.place == "cluster"]
    assert ends[1::2] == ["stop_watch", "disarm"]


@pytest.mark.parametrize("strategy", ["canary", "recreate"])
def test_a_node_that_is_there_is_left_alone(strategy: str) -> None:
    seen = view("ipvs")
    assert (
        KIND.changes("switch", NODE, facts_in("ipvs", seen), aim("ipvs", strategy=strategy)) == ()
    )
    # Half of it would be to have the mode by a pod that keeps the old one when it starts again.
    other = aim("nftables", strategy=strategy)
    assert KIND.changes("switch", NODE, facts_in("nftables", seen), other)


def test_an_operators_own_machine_keeps_no_dead_mans_switch() -> None:
    own = replace(KIND, guarded=False)
    changes = own.changes("switch", NODE, facts_in("iptables", view()), aim("ipvs"))
    assert not any("dead man" in change.summary for change in changes if change.place == "cluster")
    facts = facts_in("ipvs", view(), {RECORD: kept("armed", "iptables")})
    assert places(own.changes("soak", NODE, facts, aim("ipvs"))) == on_node("renew")


def test_where_a_node_goes_and_comes_from_is_told_by_the_two_configurations() -> None:
    job = KIND._job(aim("ipvs"))  # noqa: SLF001 what every step is made of
    there = daemonset.exchange_of(job, view("iptables"), NODE, aim("ipvs"))
    assert (there.label, there.old_label) == (HERE, "")
    back = daemonset.exchange_of(job, view("ipvs"), NODE, aim("ipvs", old_label=HERE))
    assert (back.label, back.old_label) == ("", HERE)
    home = aim("ipvs", home=True, old_label=HERE)
    assert daemonset.exchange_of(job, view("iptables"), NODE, home).label == ""
    recreated = daemonset.exchange_of(job, view(), NODE, aim("ipvs", strategy="recreate"))
    assert recreated.label is None
    assert "mode: ipvs" in recreated.new_config
    assert "mode: iptables" in recreated.old_config


# --- the other verbs ------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["linger", "soak"])
def test_to_wait_is_to_renew_on_both_sides(verb: Verb) -> None:
    facts = facts_in("ipvs", view(), {RECORD: kept("armed", "iptables")})
    changes = KIND.changes(verb, NODE, facts, aim("ipvs"))
    assert places(changes) == [*["cluster: cluster"] * 2, *on_node("renew")]


def test_the_bridge_stands_before_the_cluster_gives_the_old_pod_back() -> None:
    facts = facts_in("nftables", view(), {RECORD: kept("armed", "iptables")})
    changes = KIND.changes("back", NODE, facts, aim("nftables"))
    assert places(changes) == [
        *on_node("bridge"), *["cluster: cluster"] * 2, *on_node("back"), *["cluster: cluster"] * 2,
    ]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_a_node_that_kept_nothing_has_nothing_to_do_after_the_switch(verb: Verb) -> None:
    facts = facts_in("ipvs", view("ipvs"))
    # Only the drain may have come before: it is taken back.
    left = ["cluster: cluster"] * 2 if verb == "back" else []
    assert places(KIND.changes(verb, NODE, facts, aim("ipvs"))) == left


def test_a_node_that_went_back_by_itself_is_followed_by_its_cluster() -> None:
    facts = facts_in("iptables", view(), {RECORD: kept("back", "iptables")})
    actions = [str(c.action) for c in KIND.changes("back", NODE, facts, aim("ipvs"))]
    assert [action for action in actions if "give_back" in action and "disarm" not in action]
    assert actions[-1] == "disarm"


# --- gates ----------------------------------------------------------------------------------


def gate(pods: Sequence[Object], verb: Verb = "switch", **more: Any) -> tuple[Status, str]:
    seen = replace(view(pods=pods), lease=lease_of(RUN))
    facts = facts_in("ipvs", seen, {RECORD: kept("armed", "iptables")})
    found = KIND.findings(verb, NODE, facts, aim("ipvs", **more))
    (pod,) = [finding for finding in found if finding.name == "pod"]
    return pod.status, pod.actual


def lease_of(run: str) -> Any:
    return samples.view([], [{
        "kind": "Lease",
        "metadata": {"name": "nodeprep-switch", "annotations": {"nodeprep.io/run": run}},
        "spec": {"holderIdentity": "eve"},
    }]).lease  # fmt: skip


def test_the_gate_wants_one_new_pod_that_is_ready() -> None:
    new, old = samples.pod("n1", "uid-new"), samples.pod("n1", "uid-old")
    assert gate([new])[0] is Status.OK
    assert gate([old]) == (Status.FAIL, "kube-proxy-d-old: the old one")
    assert gate([old], "back")[0] is Status.OK
    assert gate([]) == (Status.FAIL, "none")
    assert gate([new, old])[0] is Status.FAIL
    waiting = samples.pod("n1", "uid-new", phase="Pending", conditions=[], containerStatuses=[
        {"name": "kube-proxy", "restartCount": 0, "state": {"waiting": {"reason": "ErrImagePull"}}},
    ])  # fmt: skip
    assert gate([waiting]) == (Status.FAIL, "kube-proxy-d-new: ErrImagePull")


def test_no_process_is_a_shut_gate() -> None:
    gone = replace(kept("armed", "iptables"), process="b 0 none")
    found = KIND.findings("soak", NODE, facts_in("ipvs", view(), {RECORD: gone}), aim("ipvs"))
    (process,) = [finding for finding in found if finding.name == "kube-proxy"]
    assert process.status is Status.FAIL


def test_without_a_look_at_the_cluster_nothing_is_planned() -> None:
    facts = Facts({key: value for key, value in facts_in("iptables", view()).values.items()
                   if key != VIEW})  # fmt: skip
    with pytest.raises(NodeFailed, match="not asked"):
        KIND.changes("switch", NODE, facts, aim("ipvs"))


# --- before a roll --------------------------------------------------------------------------


def test_a_pod_that_is_not_there_or_a_lock_of_another_roll_keeps_it_from_beginning() -> None:
    assert daemonset.needed(NODE, facts_in("iptables", view()), aim("ipvs", holder="eve")) == ()
    (missing,) = daemonset.needed(NODE, facts_in("iptables", view(pods=[])), aim("ipvs"))
    assert (missing.name, missing.status) == ("pod", Status.FAIL)
    short = daemonset.needed(NODE, facts_in("iptables", view()), aim("ipvs", dead_man=100))
    assert [finding.name for finding in short] == ["dead man's switch"]
    # Somebody changed the ConfigMap, and this pod began before that: no label brings another.
    (early,) = daemonset.needed(NODE, facts_in("iptables", view("ipvs")), aim("ipvs"))
    assert "--strategy recreate" in early.hint
    locked = replace(view(), lease=lease_of("another"))
    (held,) = daemonset.needed(NODE, facts_in("iptables", locked), aim("ipvs"))
    assert (held.name, held.status) == ("in hand", Status.FAIL)


def test_the_release_is_the_images() -> None:
    assert daemonset.release(facts_in("iptables", view()), aim("ipvs")) == Version(1, 34)
    assert daemonset.release(facts_in("iptables", view(pods=[])), aim("ipvs")) is None


def test_a_node_served_by_the_second_is_known_by_its_label() -> None:
    assert cluster_objects.served_by(view(labels={LABEL: HERE}), "n1") == "second"
    assert cluster_objects.served_by(view(labels={LABEL: "away"}), "n1") == ""
    assert cluster_objects.served_by(view(), "n1") == "original"
