"""kube-proxy as a pod of a DaemonSet: the pod on this node, what it says, and what it should read.

Nothing in the cluster is changed here. What the cluster says comes from one look for all nodes
(``CLUSTER``); the node itself is asked for the mode and for the log of each of its kube-proxies.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from nodeprep.kubernetes import proxy_log
from nodeprep.kubernetes.proxy_log import Said
from nodeprep.kubernetes.share import CLUSTER, ConfigSeen, Share
from nodeprep.kubernetes.view import ORIGINAL, ProxyPod
from nodeprep.model import Change, Fact, Facts, Finding, KubeProxy, Node, Status
from nodeprep.shell import words

NAME = "daemonset"
TITLE = "DaemonSet"

_SEE = "kubectl -n kube-system"

SETTLES = 120
"""Seconds within which a kubelet brings a changed ConfigMap into a pod that runs: it looks once a
minute, and may look at a copy that is a minute old (Kubernetes' documentation, ConfigMaps)."""

SHOWN = 5
"""How many strangers are named: enough to see which kind is missing."""

# --- facts ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class OnNode:
    """What the node's kube-proxies say: ``mode`` at their address, and each one's log.

    ``logs`` has them by the uid of the pod, or by its name where the folder tells no uid.
    """

    mode: str = ""
    logs: Mapping[str, Said] = field(default_factory=dict)


# The kubelet writes /var/log/pods/NAMESPACE_POD_UID/CONTAINER/RESTART.log; before 1.14 there are
# only the links /var/log/containers/POD_NAMESPACE_CONTAINER-ID.log.
_SCRIPT = """\
printf 'mode %%s\\n' "$(http_get %(host)s %(port)s /proxyMode)"
told() {
  printf '\\npod %%s\\n' "$1"
  grep -iE "%(pattern)s" "$2" | tail -n 40 | cut -c 1-600 | sed 's/^/log /'
}
found=
for folder in /var/log/pods/kube-system_kube-proxy-*; do
  [ -d "$folder/kube-proxy" ] || continue
  newest=$(cd "$folder/kube-proxy" && printf '%%s\\n' *.log | sort -n | tail -n 1)
  [ -r "$folder/kube-proxy/$newest" ] || continue
  found=yes
  told "${folder##*_}" "$folder/kube-proxy/$newest"
done
[ "$found" ] || for log in /var/log/containers/kube-proxy-*_kube-system_kube-proxy-*.log; do
  [ -r "$log" ] || continue
  name=${log##*/}
  told "${name%%%%_*}" "$log"
done
:"""


def _script(node: Node) -> str:
    proxy = node.desired.kube_proxy
    if not proxy.is_pod:
        return ""
    host, port = proxy.metrics_endpoint
    values = {"host": words(host), "port": words(port), "pattern": proxy_log.PATTERN}
    return _SCRIPT % values


def parse(text: str) -> OnNode:
    r"""Read ``mode MODE``, then ``pod UID`` and ``log LINE`` for each pod.

    >>> parse("mode ipvs\n\npod u1\nlog Using ipvs Proxier.\n").logs["u1"].mode
    'ipvs'
    """
    head, *pods = re.split(r"^pod ", text, flags=re.MULTILINE)
    mode = re.search(r"^mode ([a-z]+)$", head, re.MULTILINE)
    logs = {}
    for pod in pods:
        name, _, lines = pod.partition("\n")
        said = (line.removeprefix("log ") for line in lines.split("\n") if line.startswith("log "))
        logs[name] = proxy_log.read("\n".join(said))
    return OnNode(mode=mode[1] if mode else "", logs=logs)


ON_NODE = Fact(name="daemonset", script=_script, parse=parse)
FACTS = (ON_NODE,)


def paths(_: Node) -> tuple[str, ...]:
    """Nothing here is written."""
    return ()


secrets = paths


def changes(_: Node, __: Facts) -> tuple[Change, ...]:
    """Nothing here is changed: a DaemonSet is one for all nodes, and `switch` goes node by node."""
    return ()


# --- findings -------------------------------------------------------------------------------


def findings(node: Node, facts: Facts) -> tuple[Finding, ...]:
    """Say how the node's pod stands, what it says, and what its ConfigMap asks for."""
    if not node.desired.kube_proxy.is_pod:
        return ()
    share = facts.known(CLUSTER) or CLUSTER.parse("")
    if share.trouble:
        return (_finding("cluster", Status.FAIL, share.trouble, "it can be read", share.hint),)
    return (*_cluster(share), *_node(node, share), *_of_pod(node, facts, share))


def _cluster(share: Share) -> Iterator[Finding]:
    for problem in share.problems:
        hint = "docs/kubeadm.md has the rights that are needed"
        yield _finding("cluster", Status.WARN, problem, "all of it can be read", hint)
    if share.strangers:
        shown = ", ".join(share.strangers[:SHOWN])
        more = len(share.strangers) - SHOWN
        actual = f"the cluster has {shown} as well" + (f", and {more} more" if more > 0 else "")
        hint = "nodeprep import kubectl"
        yield _finding("inventory", Status.WARN, actual, "all nodes of the cluster", hint)
    yield from _sets(share)


def _sets(share: Share) -> Iterator[Finding]:
    if not any(each.name == ORIGINAL for each in share.sets):
        wanted, hint = f"a DaemonSet {ORIGINAL}", f"{_SEE} get daemonsets"
        yield _finding("daemonset", Status.FAIL, "there is none", wanted, hint)
    for each in share.sets:
        if not each.knows_pods:
            actual = f"{each.name} does not know its pods by k8s-app={each.name}"
            hint = "it is not kubeadm's: nodeprep cannot tell its pods"
            yield _finding("daemonset", Status.FAIL, actual, "kubeadm's label", hint)
        elif each.held_for:
            actual = f"{each.name} is held at {each.strategy} for the run {each.held_for}"
            yield _finding("daemonset", Status.WARN, actual, "not held", "nodeprep runs")
        else:
            yield _finding("daemonset", Status.OK, f"{each.name}, {each.strategy}")


def _node(node: Node, share: Share) -> Iterator[Finding]:
    if share.name:
        yield _finding("node", Status.OK, share.name)
        return
    hint = "kubectl get nodes -o wide; name it in the inventory as `hostname_override`"
    yield _finding("node", Status.FAIL, share.missing, f"{node.name} in the cluster", hint)


def _of_pod(node: Node, facts: Facts, share: Share) -> Iterator[Finding]:
    if not share.name:
        return
    staying = [pod for pod in share.pods if not pod.deleting]
    yield _pod(share, staying)
    yield from _config(node.desired.kube_proxy, share.config)
    if len(staying) == 1:
        yield from _log(node, facts[ON_NODE], staying[0])
        yield from _age(staying[0], share.config)


def _pod(share: Share, staying: list[ProxyPod]) -> Finding:
    wanted = "one that is ready"
    if not staying:
        leaving = "only one that is being deleted" if share.pods else "there is none"
        hint = f"{_SEE} describe daemonset {ORIGINAL}"
        return _finding("pod", Status.FAIL, leaving, wanted, hint)
    names = ", ".join(pod.name for pod in staying)
    hint = f"{_SEE} describe pod {staying[0].name}"
    if len(staying) > 1:
        return _finding("pod", Status.FAIL, f"{len(staying)} of them: {names}", wanted, hint)
    (pod,) = staying
    if pod.owner_uid not in {each.uid for each in share.sets if each.name == pod.owner}:
        actual = f"{names} is of no DaemonSet that is there"
        return _finding("pod", Status.FAIL, actual, wanted, hint)
    if not pod.ready:
        why = pod.waiting or pod.phase or "it has not begun"
        again = f", started again {pod.restarts} times" if pod.restarts else ""
        actual = f"{names} is not ready: {why}{again}"
        return _finding("pod", Status.FAIL, actual, wanted, f"{_SEE} logs {pod.name}")
    return _finding("pod", Status.OK, f"{names}, ready, of {pod.owner}")


def _log(node: Node, seen: OnNode, pod: ProxyPod) -> Iterator[Finding]:
    said = seen.logs.get(pod.uid) or seen.logs.get(pod.name) or Said()
    wanted = node.desired.kube_proxy.mode
    hint = f"{_SEE} logs {pod.name}"
    why = f": {said.why}" if said.why else ""
    if said.mode and seen.mode not in ("", said.mode):
        host, port = node.desired.kube_proxy.metrics_endpoint
        actual = f"{said.mode}, but {seen.mode} at {host}:{port}"
        hint = f"another kube-proxy may answer there: ss -ltnp 'sport = :{port}'"
        yield _finding("log", Status.FAIL, actual, wanted, hint)
    elif said.fell_back:
        mode = said.mode or "it does not start"
        asked = f", as {said.wanted} is not usable" if said.wanted else ""
        yield _finding("log", Status.FAIL, f"{mode}{asked}{why}", wanted, hint)
    elif said.mode:
        given = ", for it was given no mode that it knows" if said.not_set else ""
        status = Status.OK if said.mode == wanted else Status.FAIL
        remedy = "" if status is Status.OK else f"nodeprep switch --to {wanted}"
        yield _finding("log", status, said.mode + given, wanted, remedy)
    else:
        yield _finding("log", Status.SKIP, "it does not tell the mode, or no longer", wanted, hint)


def _config(proxy: KubeProxy, config: ConfigSeen | None) -> Iterator[Finding]:
    edit = f"{_SEE} edit configmap {ORIGINAL}"
    if config is None or config.trouble:
        actual = f"{config.name}: {config.trouble}" if config else "there is none"
        wanted = "a KubeProxyConfiguration"
        yield _finding("config.conf", Status.FAIL, actual, wanted, edit)
        return
    said, switch = config.settings, f"nodeprep switch --to {proxy.mode}"
    yield _setting(config, "mode", said.effective_mode, proxy.mode, switch)
    if proxy.mode == "ipvs":
        arp, wanted_arp = (str(bool(each)).lower() for each in (said.strict_arp, proxy.strict_arp))
        cidrs, wanted_cidrs = _listed(said.exclude_cidrs or ()), _listed(proxy.exclude_cidrs)
        scheduler = said.effective_scheduler
        yield _setting(config, "ipvs.scheduler", scheduler, proxy.scheduler, switch)
        yield _setting(config, "ipvs.strictARP", arp, wanted_arp, switch)
        yield _setting(config, "ipvs.excludeCIDRs", cidrs, wanted_cidrs, switch)
    if proxy.cluster_cidr is not None:
        hint = f"{edit}, or correct `cluster_cidr` in the inventory"
        seen = said.cluster_cidr or "none"
        yield _setting(config, "clusterCIDR", seen, proxy.cluster_cidr, hint)


def _listed(cidrs: tuple[str, ...]) -> str:
    return ", ".join(sorted(cidrs)) or "none"


def _setting(config: ConfigSeen, name: str, seen: str, wanted: str, hint: str) -> Finding:
    if seen == wanted:
        return _finding(name, Status.OK, seen, wanted)
    return _finding(name, Status.FAIL, f"{seen} (ConfigMap {config.name})", wanted, hint)


def _age(pod: ProxyPod, config: ConfigSeen | None) -> Iterator[Finding]:
    if config is None or config.changed is None or pod.started is None:
        return
    # A pod that is made after the change has it from the first; one that only started its process
    # again reads what the kubelet has brought so far.
    late = config.changed if pod.created >= config.changed else config.changed + SETTLES
    if pod.started >= late:
        yield _finding("config in use", Status.OK, f"read at {_time(pod.started)}")
        return
    before = pod.started < config.changed
    when, verdict = ("before", "it still runs") if before else ("just after", "it may still run")
    yield _finding(
        "config in use",
        Status.WARN,
        f"{pod.name} began at {_time(pod.started)}, {when} {config.name} was written at "
        f"{_time(config.changed)}: {verdict} an older config",
        "the ConfigMap's",
        f"{_SEE} delete pod {pod.name}, at a time when that may be",
    )


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _finding(name: str, status: Status, actual: str, wanted: str = "", hint: str = "") -> Finding:
    return Finding(topic=NAME, name=name, status=status, actual=actual, wanted=wanted, hint=hint)
