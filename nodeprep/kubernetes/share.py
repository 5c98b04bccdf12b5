"""One node's share of a look at the cluster: what its checks are made of, and no more."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from nodeprep.kubernetes import config_text
from nodeprep.kubernetes.config_text import ConfigTextError, Settings
from nodeprep.kubernetes.daemonsets import is_held
from nodeprep.kubernetes.matching import Matches
from nodeprep.kubernetes.view import APP, ORIGINAL, RUN, ProxyPod, View
from nodeprep.model import Fact, Node


@dataclass(frozen=True, kw_only=True)
class SetSeen:
    """A DaemonSet of kube-proxies. ``held_for`` is the run that holds it at OnDelete, if one does.

    ``knows_pods`` says that it knows them by kubeadm's label: no other can be found.
    """

    name: str
    uid: str
    strategy: str
    held_for: str = ""
    knows_pods: bool = True


@dataclass(frozen=True, kw_only=True)
class ConfigSeen:
    """A ConfigMap's ``config.conf``; ``trouble`` says why it cannot be read, if it cannot.

    ``changed`` is when it was written, in seconds since 1970, ``None`` where nobody knows.
    """

    name: str
    settings: Settings = field(default_factory=Settings)
    trouble: str = ""
    changed: float | None = None


@dataclass(frozen=True, kw_only=True)
class Share:
    """What the cluster says of one node.

    ``name`` is the cluster's own for it, and empty where ``missing`` says why there is none.
    ``strangers`` are nodes of the cluster that the inventory does not have; one node tells them for
    all. ``trouble`` says why the cluster could not be read, ``hint`` what to do about it.
    """

    name: str = ""
    missing: str = ""
    pods: tuple[ProxyPod, ...] = ()
    sets: tuple[SetSeen, ...] = ()
    config: ConfigSeen | None = None
    strangers: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    trouble: str = ""
    hint: str = ""


def _asked_elsewhere(_: str) -> Share:
    return Share(trouble="the cluster was not asked")


CLUSTER: Fact[Share] = Fact(name="daemonset.cluster", script=lambda _: "", parse=_asked_elsewhere)
"""No question to the node: its answer comes from the cluster, once for all nodes."""


def share(view: View, matches: Matches, node: Node, *, tells_strangers: bool = False) -> Share:
    """Return the share of ``node``, as the inventory calls it, in a look at the cluster."""
    name = matches.found.get(node.name, "")
    pods = view.pods_on(name) if name else ()
    return Share(
        name=name,
        missing=matches.missing.get(node.name, "") if not name else "",
        pods=pods,
        sets=tuple(_sets(view)),
        config=_config(view, pods),
        strangers=matches.strangers if tells_strangers else (),
        problems=view.problems,
    )


def _sets(view: View) -> Iterator[SetSeen]:
    for each in view.daemon_sets.values():
        held = is_held(each.raw)
        yield SetSeen(
            name=each.name,
            uid=each.uid,
            strategy=each.strategy,
            held_for=each.annotations.get(RUN, "a run of no name") if held else "",
            knows_pods=each.selector.get(APP) == each.name,
        )


def _config(view: View, pods: tuple[ProxyPod, ...]) -> ConfigSeen | None:
    """Return the configuration of the node's pod, or that of the original where it has none."""
    staying = [pod for pod in pods if not pod.deleting]
    name = staying[0].config_map if staying else ORIGINAL
    found = view.config_maps.get(name)
    if found is None:
        return None
    if found.config is None:
        return ConfigSeen(name=name, trouble="it has no config.conf", changed=found.changed)
    try:
        settings = config_text.read(found.config)
    except ConfigTextError as error:
        return ConfigSeen(name=name, trouble=error.message, changed=found.changed)
    return ConfigSeen(name=name, settings=settings, changed=found.changed)
