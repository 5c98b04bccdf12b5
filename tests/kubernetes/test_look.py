"""One look at a cluster: what kubectl is asked, and what is made of its answer."""

import json
from pathlib import Path

import pytest

from nodeprep.errors import FactError
from nodeprep.kubernetes import look
from nodeprep.kubernetes.kubectl import Kubectl
from nodeprep.kubernetes.look import PARTS, parse, script
from nodeprep.kubernetes.view import View
from nodeprep.shell import Script
from tests import shells
from tests.kubernetes import samples
from tests.kubernetes.samples import STARTED

ADMIN = Kubectl(on="control-1", kubeconfig="/etc/kubernetes/admin.conf")

STAND_IN = """\
#!/bin/sh
printf '%s\\n' "$*" >>"$0.asked"
case "$*" in
  *--show-managed-fields*) [ -e "$0.old" ] && { echo 'Error: unknown flag: --x' >&2; exit 1; } ;;
esac
case "$*" in
  *"get nodes"*) cat "$0.nodes" ;;
  *"get pods"*) cat "$0.pods" ;;
  *) cat "$0.objects"; [ -e "$0.forbidden" ] && { cat "$0.forbidden" >&2; exit 1; } ;;
esac
exit 0
"""
"""A kubectl that answers from files beside it, and notes what it was asked."""


@pytest.fixture
def kubectl(tmp_path: Path) -> Path:
    program = tmp_path / "kubectl"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    objects = {"kind": "List", "items": [samples.daemon_set(), samples.config_map()]}
    parts = {
        "nodes": samples.node_lines(samples.node("worker-1")),
        "objects": json.dumps(objects, indent=4),
        "pods": samples.pod_lines(samples.pod("worker-1", "pod-00001")),
    }
    for part, text in parts.items():
        (tmp_path / f"kubectl.{part}").write_text(text)
    return program


def looked(shell: str, kubectl: Path) -> View:
    text = script(Kubectl(program=str(kubectl)))
    return parse(shells.output(shell, Script(text)).decode())


# --- the question ---------------------------------------------------------------------------


@pytest.mark.parametrize("shell", shells.SHELLS)
def test_kubectl_is_asked_three_times_for_what_is_kube_proxys(shell: str, kubectl: Path) -> None:
    seen = looked(shell, kubectl)
    assert [node.name for node in seen.nodes] == ["worker-1"]
    assert [pod.uid for pod in seen.pods] == ["pod-00001"]
    assert list(seen.daemon_sets) == list(seen.config_maps) == ["kube-proxy"]
    assert seen.problems == ()
    asked = (kubectl.parent / "kubectl.asked").read_text().splitlines()
    assert len(asked) == 3
    assert not any("secret" in line for line in asked)
    assert all("--request-timeout=30s" in line for line in asked)


@pytest.mark.parametrize("shell", shells.SHELLS)
def test_an_old_kubectl_is_asked_again_without_the_new_word(shell: str, kubectl: Path) -> None:
    (kubectl.parent / "kubectl.old").touch()
    seen = looked(shell, kubectl)
    assert list(seen.config_maps) == ["kube-proxy"]
    assert seen.problems == ()


@pytest.mark.parametrize("shell", shells.SHELLS)
def test_what_may_not_be_read_is_told_beside_what_could(shell: str, kubectl: Path) -> None:
    said = 'Error from server (Forbidden): leases "nodeprep-switch" is forbidden'
    (kubectl.parent / "kubectl.forbidden").write_text(said)
    seen = looked(shell, kubectl)
    assert list(seen.daemon_sets) == ["kube-proxy"]
    assert seen.problems == (said,)


def test_a_node_without_gzip_answers_in_plain_text(kubectl: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    (bare / "cat").symlink_to("/bin/cat")
    text = shells.output("dash", Script(script(Kubectl(program=str(kubectl)))), str(bare)).decode()
    assert text.startswith("== nodes\n")
    assert parse(text) == looked("dash", kubectl)


def test_one_part_can_be_asked_alone(kubectl: Path) -> None:
    text = script(Kubectl(program=str(kubectl)), ("pods",))
    seen = parse(shells.output("dash", Script(text)).decode(), ("pods",))
    assert len(seen.pods) == 1
    assert seen.nodes == ()


def test_a_kubectl_that_is_not_there_is_one_clear_error() -> None:
    text = script(Kubectl(program="/nowhere/kubectl"))
    with pytest.raises(FactError, match="could not read the cluster's nodes") as raised:
        parse(shells.output("dash", Script(text)).decode())
    assert "/nowhere/kubectl" in raised.value.hint


@pytest.mark.parametrize("parts", [PARTS, ("pods",), ("nodes", "objects")])
def test_shellcheck_finds_nothing_in_the_question(parts: tuple[look.Part, ...]) -> None:
    assert shells.complaints(script(ADMIN, parts)) == ""


# --- the answer -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        samples.answer()[:-20],
        samples.answer().replace("== pods", "== other"),
        samples.answer([samples.node("a")]).replace('"a"', '"\\x"'),
        samples.answer(objects=[samples.daemon_set()]).replace('"kind": "DaemonSet"', '"kind": '),
        "packed\nH4sIAAAA\n",
        "packed\n!\n",
    ],
)
def test_a_torn_answer_is_an_error(text: str) -> None:
    with pytest.raises(FactError):
        parse(text)


def test_an_object_alone_is_read_as_a_list_of_one() -> None:
    alone = json.dumps(samples.daemon_set(), indent=4)
    text = f"== objects\n{alone}\n\n== end 0\n\n"
    assert list(parse(text, ("objects",)).daemon_sets) == ["kube-proxy"]


# --- as kubectl itself writes it ------------------------------------------------------------


@pytest.mark.parametrize("release", ["1.20.2", "1.32.4"])
def test_what_real_kubectls_made_of_the_template_is_what_these_tests_make_of_it(
    release: str,
) -> None:
    first, second = samples.node("worker-1", "192.0.2.7", zone="a"), samples.node("worker-2")
    first["spec"] = {
        "unschedulable": True,
        "taints": [
            {"key": "k", "effect": "NoSchedule"},
            {"key": "x", "value": "y", "effect": "NoExecute"},
        ],
    }
    second["status"]["addresses"][0]["address"] = "192.0.2.8"
    waiting = {"reason": "CrashLoopBackOff", "message": 'back-off "10s"\nrestarting'}
    status = {"name": "kube-proxy", "restartCount": 3, "state": {"waiting": waiting}}
    leaving = samples.pod("worker-2", "pod-00002", containerStatuses=[status], conditions=[])
    leaving["metadata"]["deletionTimestamp"] = STARTED
    pods = [samples.pod("worker-1", "pod-00001"), leaving]
    recorded = (samples.DATA / f"kubectl-{release}.txt").read_text()
    seen = parse(recorded, ("nodes", "pods"))
    assert seen == parse(samples.answer([first, second], (), pods))
    assert seen.pods[1].waiting == 'CrashLoopBackOff: back-off "10s"\nrestarting'
