"""The contract of a kind of cluster: what it means there to switch one node.

The machine knows verbs, and the runner knows sessions; what a verb does on a node, what is read
after it and how that is judged is here the whole difference between kube-proxy as a systemd unit
and kube-proxy in a DaemonSet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from nodeprep.model import Change, Facts, Finding, Mode, Node
from nodeprep.rollout.machine import Verb
from nodeprep.rollout.operator import Gate, TcpTarget
from nodeprep.story import Topic

Strategy = Literal["", "canary", "recreate"]


@dataclass(frozen=True, kw_only=True)
class Aim:
    """Where a roll takes its nodes, and by what rules; times in whole seconds.

    ``run`` is the roll's id. ``restores`` is the id of an earlier roll whose kept files are put
    back instead of new ones, empty where there is none. ``gate_limit`` is how long a new process
    may take until its first sync. ``dead_man`` is how long a node waits for its controller before
    it goes back by itself. ``linger`` is how long old IPVS connections are waited for.
    ``kubernetes`` is the ClusterIP and port of ``default/kubernetes``, learned before the roll.

    In a cluster whose kube-proxy is a DaemonSet, ``strategy`` says how a node's pod is exchanged,
    ``cluster_node`` is the node's name there, ``old_pod`` the UID of the pod and ``old_label`` the
    label that it had before; ``holder`` is named by the cluster's lock, which is held for the roll
    ``lock``. With ``home`` a node goes from the second DaemonSet to the original, in one mode.
    ``drain`` is how long a node's pods may take to be evicted, 0 where they stay.
    """

    run: str
    to: Mode
    restores: str = ""
    gate_limit: int = 90
    dead_man: int = 240
    linger: int = 300
    soak: int = 30
    kubernetes: str = ""
    gates: tuple[Gate, ...] = ()
    probe: TcpTarget | None = None
    restore_foreign_ipvs: bool = False
    strategy: Strategy = ""
    cluster_node: str = ""
    old_pod: str = ""
    old_label: str = ""
    holder: str = ""
    lock: str = ""
    home: bool = False
    drain: int = 0


def to_fields(aim: Aim) -> dict[str, Any]:
    """Return an aim as plain fields, for a journal's header."""
    return asdict(aim)


def from_fields(fields: Mapping[str, Any]) -> Aim:
    """Return the aim that fields of a header tell of."""
    probe = fields["probe"]
    return Aim(
        **{
            **fields,
            "gates": tuple(Gate(**gate) for gate in fields["gates"]),
            "probe": TcpTarget(**probe) if probe else None,
        }
    )


class Kind(Protocol):
    """What a kind of cluster brings: functions, all of them pure."""

    def topics(self, verb: Verb, aim: Aim, /, *, planned: bool) -> Sequence[Topic]:
        """Return the questions whose answers the others want, asked at the end of ``verb``.

        With ``planned`` they are asked before it, and the steps are planned by them.
        """

    def cluster_topics(self, verb: Verb, aim: Aim, /, *, planned: bool) -> Sequence[Topic]:
        """Return what is asked where ``kubectl`` runs, as ``topics`` does."""

    def changes(self, verb: Verb, node: Node, facts: Facts, aim: Aim, /) -> Sequence[Change]:
        """Return the steps of ``verb`` that are still to do, in order; it may be called again."""

    def findings(self, verb: Verb, node: Node, facts: Facts, aim: Aim, /) -> Sequence[Finding]:
        """Return the gates after ``verb``: it has failed if one of them has."""

    def pending(self, verb: Verb, facts: Facts, aim: Aim, /) -> int:
        """Return how many things ``verb`` still waits for, such as open connections."""
