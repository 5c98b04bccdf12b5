"""A cluster of kubeadm's kube-proxy changes its mode, node by node: nothing is lost, nothing stays.

kube-apiserver, etcd, kubectl and kube-proxy are real, and pods come and go as a kubelet does it.
The rolls of this file follow each other on the same nodes.
"""

import json
import os
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from nodeprep.rollout.machine import FORWARD
from tests.e2e.operator_of import Operator, run
from tests.e2e.serving import (
    is_clean,
    killed,
    load,
    nodeprep_runs,
    wait_for_record,
    wait_until,
    words,
    write_wishes,
)

pytestmark = [pytest.mark.lab, pytest.mark.long]
MINUTES = 9

EVERY_EFFECT = os.environ.get("NODEPREP_EVERY_EFFECT") == "1"
NETWORK, KUBE_PROXY, KUBEADM, NODES = "127.79.17", False, True, 3 if EVERY_EFFECT else 2

# After the intent of each verb of the first node, and before its outcome: see `tests.e2e.killed`.
# A node that is not settled is gone over again by the next process, from its first verb.
OF_A_NODE = [point for verb in range(len(FORWARD)) for point in (4 * verb + 1, 4 * verb + 2)]
POINTS = OF_A_NODE if EVERY_EFFECT else [2, 9]
# When all nodes are settled, they go home in a roll of its own.
HOME = OF_A_NODE[0] + 4 * len(FORWARD) * NODES
CANARY_POINTS = [*OF_A_NODE, HOME, *OF_A_NODE[1:]] if EVERY_EFFECT else [HOME]
ADMIN = "/etc/kubernetes/admin.conf"
ADMINS = f"kubectl --kubeconfig {ADMIN}"
QUICK = ("--yes", "--soak", "1s", "--gate-limit", "100s", "--dead-man", "200s", "--linger", "1s")


def test_the_canarys_way_killed_at_its_effects_is_resumed_and_leaves_nothing_but_the_mode(
    fleet: tuple[Operator, ...],
) -> None:
    before = objects(fleet[0])
    with watched(fleet) as came:
        resumed = killed_at(CANARY_POINTS, fleet[0], "switch", "--to", "ipvs", *QUICK)
        run(*words(fleet[0], *resumed)).check(0)
    nothing_was_lost(came)
    assert all(is_clean(node, "ipvs") for node in fleet)
    assert objects(fleet[0]) == in_mode(before, "", "ipvs")
    run(*words(fleet[0], "verify")).check(0)


def test_the_recreating_way_killed_at_its_effects_is_resumed_and_loses_nothing(
    fleet: tuple[Operator, ...],
) -> None:
    before = objects(fleet[0])
    wished(fleet[0], "iptables")
    way = ("--strategy", "recreate", *QUICK)
    with watched(fleet) as came:
        resumed = killed_at(POINTS, fleet[0], "switch", "--to", "iptables", *way)
        run(*words(fleet[0], *resumed)).check(0)
    nothing_was_lost(came)
    assert all(is_clean(node, "iptables") for node in fleet)
    assert objects(fleet[0]) == in_mode(before, "ipvs", "iptables")


def test_a_node_whose_pod_does_not_come_up_goes_back_and_so_do_the_others(
    fleet: tuple[Operator, ...],
) -> None:
    before = objects(fleet[0])
    last = fleet[-1]
    wished(last, "ipvs")
    last.ask("touch /run/lab-node-agent.no-images")
    limits = ("--gate-limit", "40s", "--dead-man", "180s", "--soak", "1s", "--yes")
    with ThreadPoolExecutor() as pool:
        command = words(last, "switch", "--to", "ipvs", "--limit", last.name, *limits)
        switched = pool.submit(run, *command)
        wait_for_record("back")
        last.ask("rm /run/lab-node-agent.no-images")
        said = switched.result().check(1)
    assert "went back" in said.out or "back as it was" in said.out, said.out
    assert is_clean(last, "iptables")
    assert objects(fleet[0]) == before


def test_a_node_whose_controller_never_comes_back_goes_home_by_itself(
    fleet: tuple[Operator, ...],
) -> None:
    before = objects(fleet[0])
    last = fleet[-1]
    wished(last, "ipvs")
    limits = ("--gate-limit", "70s", "--dead-man", "140s", "--soak", "1s", "--yes")
    roll = ("switch", "--to", "ipvs", "--limit", last.name, *limits)
    with watched(fleet) as came:
        resumed = killed_at([2], last, *roll)
        wait_until(last, f"grep -q ^back /var/lib/nodeprep/switch/{resumed[2]}/state", seconds=400)
        said = run(*words(last, *resumed)).check(1)
    assert "went back by itself" in said.out, said.out
    nothing_was_lost(came)
    assert is_clean(last, "iptables")
    assert objects(fleet[0]) == before


def test_a_roll_that_drains_needs_no_more_rights_than_nodeprep_prints(
    fleet: tuple[Operator, ...],
) -> None:
    before = objects(fleet[0])
    narrow = account_of_its_own(fleet[0])
    assert fleet[0].tried(f"kubectl --kubeconfig {narrow} auth can-i delete nodes").code == 1
    inventory = fleet[0].lab.inventory
    inventory.write_text(inventory.read_text().replace(ADMIN, narrow))
    with watched(fleet) as came:
        run(*words(fleet[0], "switch", "--to", "ipvs", "--drain", "60s", *QUICK)).check(0)
    nothing_was_lost(came)
    assert all(is_clean(node, "ipvs") for node in fleet)
    text = before["ConfigMap kube-proxy"]["data"]["config.conf"]
    (old,) = re.findall(r'^mode: "(.*)"$', text, re.MULTILINE)
    assert objects(fleet[0]) == in_mode(before, old, "ipvs")


def killed_at(points: list[int], node: Operator, *command: str) -> tuple[str, ...]:
    """Run a command until it kills itself at the first point, resume it to the next, and so on.

    Returns the command that takes it to its end.
    """
    for point in points:
        ended = killed(node, point, *command)
        assert ended.returncode == -signal.SIGKILL, f"{point}\n{ended.stdout}{ended.stderr}"
        ((roll, _),) = re.findall(r"^(\S+)  (open)", nodeprep_runs(), re.MULTILINE)
        command = ("switch", "--resume", roll, "--yes")
    return command


def account_of_its_own(node: Operator) -> str:
    """Make and bind what ``nodeprep rbac`` prints; return a kubeconfig on the node with that."""
    account, narrow = "/api/v1/namespaces/kube-system/serviceaccounts/nodeprep", "/root/narrow.conf"
    manifest = run("rbac").check(0).out
    node.ask(f"cat >/root/rbac.yaml <<'END'\n{manifest}END\n{ADMINS} apply -f /root/rbac.yaml")
    whom = "--serviceaccount kube-system:nodeprep"
    node.ask(
        f"{ADMINS} create clusterrolebinding nodeprep-switch --clusterrole nodeprep-switch {whom}; "
        f"{ADMINS} create clusterrolebinding nodeprep-drain --clusterrole nodeprep-drain {whom}; "
        f"{ADMINS} -n kube-system create rolebinding nodeprep-switch --role nodeprep-switch {whom}"
    )
    request = '{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}'
    asked = node.ask(f"echo '{request}' | {ADMINS} create --raw {account}/token -f -")
    node.ask(
        f"cp {ADMIN} {narrow} && kubectl --kubeconfig {narrow} config set-credentials "
        f"\"$({ADMINS} config view -o jsonpath='{{.users[0].name}}')\" "
        f"--token={json.loads(asked)['status']['token']}"
    )
    return narrow


def wished(node: Operator, mode: str) -> None:
    """Prepare the nodes for a mode that they are not in yet."""
    write_wishes(node.lab, mode=mode)
    run(*words(node, "apply")).check(1)


# --- what an observer sees ------------------------------------------------------------------


@contextmanager
def watched(fleet: tuple[Operator, ...]) -> Iterator[list[dict[str, Any]]]:
    """Open connections on each node, and count its kube-proxies, meanwhile."""
    counting = (
        "most=0; while sleep 1; do n=0; for comm in /proc/[0-9]*/comm; do "
        'read -r name 2>/dev/null <"$comm" && [ "$name" = kube-proxy ] && n=$((n + 1)); done; '
        '[ "$n" -le "$most" ] || { most=$n; echo "$most" >/run/most; }; done'
    )
    came: list[dict[str, Any]] = []
    with ExitStack() as stack:
        for node in fleet:
            node.ask(
                "systemctl stop counting 2>/dev/null; systemctl reset-failed counting 2>/dev/null; "
                f"systemd-run --quiet --unit=counting bash -c '{counting}'"
            )
        came += [stack.enter_context(load(node, rate=2)) for node in fleet]
        yield came
    for node, many in zip(fleet, came, strict=True):
        many["most"] = int(node.ask("systemctl stop counting; cat /run/most"))


def nothing_was_lost(came: list[dict[str, Any]]) -> None:
    for many in came:
        assert many["failed"] == 0, json.dumps(many)
        assert many["attempted"] > 100
        assert many["most"] == 1, "two kube-proxies at once"


def objects(node: Operator) -> Any:
    """Return all that the cluster has of kube-proxy's and of ours, without the server's stamps."""
    said = node.ask(
        f"{ADMINS} get -A daemonset,configmap,lease -o json; echo; echo @; "
        f"{ADMINS} get nodes -o json"
    )
    listed, _, nodes = said.partition("\n@\n")
    found = {
        f"{item['kind']} {item['metadata']['name']}": {
            "metadata": {
                name: {k: v for k, v in value.items() if not k.startswith("deprecated.")}
                for name, value in item["metadata"].items()
                if name in ("labels", "annotations")
            },
            "spec": item.get("spec") if item["kind"] == "DaemonSet" else None,
            "data": item.get("data"),
        }
        for item in json.loads(listed)["items"]
        if "kube-proxy" in item["metadata"]["name"] or "nodeprep" in item["metadata"]["name"]
    }
    of_nodes = {
        item["metadata"]["name"]: (item["metadata"]["labels"], item["spec"].get("unschedulable"))
        for item in json.loads(nodes)["items"]
    }
    return json.loads(json.dumps({**found, "nodes": of_nodes}))


def in_mode(before: Any, old: str, new: str) -> Any:
    """Return the objects with another mode, and not one other byte."""
    text = before["ConfigMap kube-proxy"]["data"]["config.conf"]
    line = f'mode: "{old}"'
    assert text.count(line) == 1
    changed = json.loads(json.dumps(before))
    changed["ConfigMap kube-proxy"]["data"]["config.conf"] = text.replace(line, f'mode: "{new}"')
    return changed
