"""A pod is exchanged by label or by deletion, never beside another one, and there is a way back.

kubectl is a stand-in of a few lines that keeps a node's label, its pods and the ConfigMap's text in
files: what the real one does is seen in tests/e2e. The shell is every one that a node may have.
"""

import fcntl
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nodeprep.kubernetes.kubectl import Kubectl
from nodeprep.rollout import exchange
from nodeprep.rollout.exchange import Exchange
from nodeprep.shell import Script
from tests.shells import Machine, complaints

RUN = "20261123T070000Z-0a1b2c"
BY_LABEL = Exchange(
    run=RUN, node="node1", dead_man=3600, gate_limit=1, old_pod="old", label="second", old_label=""
)
BY_DELETION = Exchange(
    run=RUN,
    node="node1",
    dead_man=3600,
    gate_limit=1,
    old_pod="old",
    old_config="mode: a\n",
    new_config="mode: b\n",
)

# A node's pods go a look after its label says that they should; those of the label's own come when
# it is set.
_KUBECTL = """\
cd {folder} || exit
while :; do case $1 in --namespace) shift 2 ;; --*) shift ;; *) break ;; esac; done
case $* in
  *unschedulable*) cat off ;;
  "get node"*) cat label ;;
  cordon* | uncordon* | drain*) echo "$1" >>did; [ "$1" = uncordon ] || printf true >off ;;
  "label node node1 nodeprep.io/kube-proxy-")
    echo "label none" >>did
    : >label; echo "new-original kube-proxy-x" >pods ;;
  "label node"*)
    value=${{4#*=}}
    echo "label $value" >>did
    printf %s "$value" >label
    if [ "$value" = away ]; then : >leaving; else echo "new-$value kube-proxy-y" >pods; fi ;;
  "get pods"*)
    cat pods
    if [ -e leaving ] && [ ! -e stuck ]; then rm leaving; : >pods; fi ;;
  "delete pod"*)
    echo "delete $3" >>did
    sed -i "/ $3\\$/d" pods
    echo "fresh kube-proxy-z" >>pods ;;
  "get configmap"*) cat config; printf @ ;;
  "patch configmap"*) echo patch >>did; cat "$6" >patch ;;
  *) echo "unknown: $*" >&2; exit 1 ;;
esac
"""


@dataclass(frozen=True, kw_only=True)
class Host:
    """Where kubectl runs."""

    machine: Machine
    folder: Path

    def __getitem__(self, name: str) -> str:
        path = self.folder / name
        return path.read_text() if path.exists() else ""

    def __setitem__(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    @property
    def did(self) -> list[str]:
        return self["did"].splitlines()

    def run(self, job: Exchange, *steps: str) -> str:
        kubectl = Kubectl(program=str(self.folder / "kubectl"))
        lines = "".join(f"{step} && " for step in steps)
        keep = Script("keep() {\n") + exchange.keep(kubectl, job) + "\n}\n"
        text = exchange.library(kubectl, job) + keep + f"{lines}echo fine\n"
        return self.machine.run(text).decode()


@pytest.fixture
def host(machine: Machine) -> Host:
    folder = machine.folder / "cluster"
    fakes = machine.folder / "fakes"
    for each in (folder, fakes):
        each.mkdir()
    for path, text in {
        folder / "kubectl": _KUBECTL.format(folder=folder),
        fakes / "sleep": "exec /bin/sleep 0.01\n",
        fakes / "systemctl": "exit 1\n",
        fakes / "systemd-run": ":\n",
    }.items():
        path.write_text(f"#!/bin/sh\n{text}")
        path.chmod(0o755)
    made = Host(machine=replace(machine, path=f"{fakes}:{machine.path}"), folder=folder)
    made["label"], made["pods"], made["config"] = "", "old kube-proxy-a\n", "mode: b\n"
    made["off"] = ""
    made.machine.work.mkdir(mode=0o700)
    return made


# --- by label -------------------------------------------------------------------------------


def test_between_two_daemon_sets_a_node_is_without_a_pod(host: Host) -> None:
    assert host.run(BY_LABEL, "renew", "exchange").endswith("fine\n")
    assert host.did == ["label away", "label second"]
    assert host["label"] == "second"
    host.run(BY_LABEL, "give_back")
    assert host.did[2:] == ["label away", "label none"]
    assert host["pods"] == "new-original kube-proxy-x\n"


def test_no_other_pod_is_let_in_while_one_is_left(host: Host) -> None:
    host["stuck"] = ""
    said = host.run(BY_LABEL, "renew", "exchange")
    assert "after 1 s this pod of kube-proxy is still on node1: kube-proxy-a" in said
    assert "fine" not in said
    assert host.did == ["label away"]


def test_an_old_pod_that_never_left_is_taken_back_at_once(host: Host) -> None:
    host["label"], host["stuck"] = "away", ""
    assert host.run(BY_LABEL, "give_back").endswith("fine\n")
    assert host.did == ["label none"]


@pytest.mark.parametrize("label", ["away", "second"])
def test_begun_again_it_does_only_what_is_missing(host: Host, label: str) -> None:
    host["label"], host["pods"] = label, ""
    assert host.run(BY_LABEL, "renew", "exchange").endswith("fine\n")
    assert host.did == ([] if label == "second" else ["label second"])


# --- by deletion ----------------------------------------------------------------------------


def test_the_old_pod_is_deleted_once_and_no_other(host: Host) -> None:
    for _ in range(2):
        assert host.run(BY_DELETION, "renew", "exchange").endswith("fine\n")
    assert host.did == ["delete kube-proxy-a"]


def test_the_way_back_has_the_old_text_first_and_then_another_pod(host: Host) -> None:
    host.run(BY_DELETION, "renew", "exchange")
    assert host.run(BY_DELETION, "keep", "give_back").endswith("fine\n")
    assert host.did[1:] == ["patch", "delete kube-proxy-z"]
    assert json.loads(host["patch"]) == [
        {"op": "test", "path": "/data/config.conf", "value": "mode: b\n"},
        {"op": "replace", "path": "/data/config.conf", "value": "mode: a\n"},
    ]


@pytest.mark.parametrize("text", ["mode: a\n", "mode: b", "somebody's\n"])
def test_a_text_that_is_not_ours_stays(host: Host, text: str) -> None:
    host["config"] = text
    assert host.run(BY_DELETION, "keep", "give_back").endswith("fine\n")
    assert "patch" not in host.did


def test_what_was_given_back_is_not_deleted_again(host: Host) -> None:
    for _ in range(2):
        assert host.run(BY_DELETION, "keep", "give_back").endswith("fine\n")
    host.run(BY_DELETION, "renew", "exchange")
    host.run(BY_DELETION, "give_back", "give_back")
    assert host.did == ["patch", "delete kube-proxy-a", "patch", "delete kube-proxy-z"]


def test_a_pod_that_was_never_exchanged_is_not_deleted_on_the_way_back(host: Host) -> None:
    host.run(BY_DELETION, "keep", "give_back")
    assert host.did == ["patch"]


# --- drained --------------------------------------------------------------------------------


def test_what_was_cordoned_here_is_uncordoned_at_the_end(host: Host) -> None:
    assert host.run(BY_LABEL, "keep", "drain 60").endswith("fine\n")
    # Begun again, it is still ours to uncordon.
    assert host.run(BY_LABEL, "drain 60", "disarm").endswith("fine\n")
    assert host.did == ["cordon", "drain", "drain", "uncordon"]


def test_what_somebody_else_cordoned_stays_so(host: Host) -> None:
    host["off"] = "true"
    assert host.run(BY_LABEL, "keep", "drain 60", "disarm").endswith("fine\n")
    assert host.did == ["drain"]


# --- who may be at work ---------------------------------------------------------------------


def test_nothing_is_exchanged_for_a_roll_whose_time_has_passed(host: Host) -> None:
    said = host.run(BY_LABEL, "keep", "exchange")
    assert "not armed any more" in said
    host.run(replace(BY_LABEL, run="another"), "keep", "renew")
    assert "not armed any more" in host.run(BY_LABEL, "exchange")
    assert host.did == []


def test_two_scripts_are_never_at_work_on_one_node(host: Host) -> None:
    lock = host.machine.state / "cluster" / RUN / "node1" / "lock"
    assert host.run(BY_LABEL, "keep", "renew").endswith("fine\n")
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        said = host.run(BY_LABEL, "exchange")
    assert "another script of this roll is at work on node1" in said
    assert host.did == []


def test_an_operators_own_machine_needs_no_root(host: Host) -> None:
    own = replace(BY_LABEL, guarded=False)
    host.machine.work.rmdir()
    assert host.run(own, "keep", "renew", "exchange", "stop_watch", "disarm").endswith("fine\n")
    assert host.did == ["label away", "label second"]
    assert not host.machine.work.exists()


# --- the dead man's switch ------------------------------------------------------------------


def test_the_dead_mans_switch_gives_the_old_pod_back_when_its_time_has_passed(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exchange, "LATER", 1)
    # Only here it runs: one that is never disarmed would outlive its test.
    started = host.machine.folder / "fakes" / "systemd-run"
    started.write_text('#!/bin/sh\nshift 3\nsetsid "$@" >/dev/null 2>&1 &\n')
    job = replace(BY_LABEL, dead_man=0)
    assert host.run(job, "keep", "renew", "exchange").endswith("fine\n")
    deadline = host.machine.work / "cluster" / "node1"
    for _ in range(200):
        if not deadline.exists():
            break
        host.machine.run(Script("/bin/sleep 0.05"))
    assert host.did == ["label away", "label second", "label away", "label none"]
    assert not deadline.exists()


def test_disarmed_it_does_nothing_and_leaves_nothing(host: Host) -> None:
    assert host.run(BY_LABEL, "keep", "renew", "disarm").endswith("fine\n")
    assert not (host.machine.work / "cluster" / "node1").exists()
    assert not (host.machine.state / "cluster" / RUN / "node1").exists()
    assert host.did == []


@pytest.mark.parametrize("job", [BY_LABEL, BY_DELETION])
def test_shellcheck_finds_nothing(job: Exchange) -> None:
    kubectl = Kubectl(kubeconfig="/etc/kubernetes/admin.conf")
    assert complaints(exchange.library(kubectl, job).reveal() + '"$@"\n') == ""
