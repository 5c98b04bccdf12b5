"""kube-proxy as a systemd unit: what each verb of a roll does on such a node."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nodeprep import files
from nodeprep.model import Change, Facts, Finding, Mode, Node, Status
from nodeprep.rollout import artefacts, gates, node_steps, way_back
from nodeprep.rollout.machine import Verb
from nodeprep.rollout.node_steps import current, step, with_library
from nodeprep.rollout.switching import Aim
from nodeprep.rollout.way_back import Trip
from nodeprep.shell import words
from nodeprep.story import Topic
from nodeprep.topics import kube_proxy, proxy_mode


def aimed(node: Node, mode: Mode) -> Node:
    """Return ``node`` as it should be in ``mode``."""
    proxy = dataclasses.replace(node.desired.kube_proxy, mode=mode)
    return dataclasses.replace(node, desired=dataclasses.replace(node.desired, kube_proxy=proxy))


@dataclass(frozen=True, kw_only=True)
class Systemd:
    """The contract of ``switching.Kind`` for nodes whose kube-proxy is a systemd unit."""

    def topics(self, verb: Verb, aim: Aim, *, planned: bool) -> Sequence[Topic]:
        """Return what the gates want to see, and for a plan kube-proxy's own topic too.

        To settle changes nothing that a gate was not shown by ``soak``: only that is asked.
        """
        if verb == "settle":
            return (gates.kept(aim),)
        return (kube_proxy if planned else gates.PROCESS, proxy_mode, gates.watch(aim))

    def cluster_topics(self, _: Verb, __: Aim, *, planned: bool) -> Sequence[Topic]:  # noqa: ARG002 the contract
        """Return nothing: such a node is asked itself."""
        return ()

    def changes(self, verb: Verb, node: Node, facts: Facts, aim: Aim) -> Sequence[Change]:
        """Return the steps of ``verb``; none where the node is past it."""
        if verb != "switch" and not way_back.kept(facts).state:
            return ()
        gone = current(facts)
        if gone is None:
            return ()
        trip = node_steps.trip(aim, gone, kube_proxy.paths(node)[:2])
        if verb == "switch":
            steps = _switch(aimed(node, aim.to), facts, aim, trip)
        else:
            steps = node_steps.later(verb, facts, trip)
        return with_library(node, trip, steps)

    def findings(self, verb: Verb, node: Node, facts: Facts, aim: Aim) -> Sequence[Finding]:
        """Return the gates after ``verb``."""
        running = () if verb == "settle" else (process(node, facts),)
        return gates.findings(verb, node, facts, aim, running)

    def pending(self, verb: Verb, facts: Facts, aim: Aim) -> int:
        """Return the open TCP connections that end with virtual servers or with kube-ipvs0.

        What UDP leaves there is no connection, and stays for minutes: it is not waited for.
        """
        if verb != "linger" or (current(facts), aim.to) != ("ipvs", "iptables"):
            return int(verb == "soak")
        return facts[artefacts.ARTEFACTS].established


# --- the switch -----------------------------------------------------------------------------


def _switch(node: Node, facts: Facts, aim: Aim, trip: Trip) -> Sequence[Change]:
    record, effective = way_back.kept(facts), facts[proxy_mode.EFFECTIVE]
    written = _restored(facts, aim) if aim.restores else kube_proxy.steps(node, facts)
    if effective.mode == aim.to and not written and record.state in ("", "settled"):
        return ()
    restarts = any(change.subject == "restart" for change in written)
    if not restarts and effective.mode != aim.to:
        written = (*written, step("restart kube-proxy", "restart", "restart_proxy"))
    return (
        *node_steps.before_another(node, facts, aim, trip),
        *written,
        *node_steps.after_another(trip),
    )


def _restored(facts: Facts, aim: Aim) -> tuple[Change, ...]:
    if not facts[way_back.restored(aim.restores)].wrong:
        return ()
    kept = words(f"{way_back.KEPT}/{aim.restores}")
    return (
        step(
            f"put the files of {aim.restores} back",
            "restore",
            f"record_of_this=$record record={kept}\nput_all_back\nstatus_of_this=$?\n"
            'record=$record_of_this\nreturn "$status_of_this"',
        ),
        step(f"restart for {aim.to}", "restart", "restart_proxy"),
    )


def process(node: Node, facts: Facts) -> Finding:
    """Say whether the unit's own process is the one that answers."""
    service, health = facts[kube_proxy.SERVICE], facts[gates.HEALTH]
    unit = node.desired.kube_proxy.unit_name
    hint = f"journalctl -u {unit} -n 50"
    if service.active != "active" or service.started is None:
        return gates.finding("kube-proxy", Status.FAIL, service.active or "no unit", "active", hint)
    if (
        health.started is not None
        and abs(health.started - service.started) > kube_proxy.CLOCK_SLACK
    ):
        host, port = node.desired.kube_proxy.metrics_endpoint
        actual = f"another process than {unit}'s answers at {host}:{port}"
        return gates.finding("kube-proxy", Status.FAIL, actual, unit, f"ss -ltnp 'sport = :{port}'")
    return gates.finding("kube-proxy", Status.OK, "active")


def writes(node: Node, facts: Facts, mode: Mode) -> Sequence[Change]:
    """Return the files a switch of ``node`` to ``mode`` writes, each with its diff."""
    steps = kube_proxy.steps(aimed(node, mode), facts)
    return tuple(change for change in steps if change.guard is not None)


def refused(node: Node, facts: Facts, mode: Mode) -> Mapping[str, tuple[str, str]]:
    """Return the files that must not be written, each with why and what to type."""
    wanted = kube_proxy.desired(aimed(node, mode), facts)
    told = {
        file.path: files.refusal(file, facts.file(file.path), adopt=node.desired.adopt)
        for file in wanted
    }
    return {path: why for path, why in told.items() if why[0]}
