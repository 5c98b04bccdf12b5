"""kube-proxy as a systemd unit: what each verb of a roll does on such a node.

Make before break: the new mode is programmed while all of the old one is still there, and only a
gate that saw it opens the way to the clean-up. Each verb is planned from fresh facts and does only
what is still missing, so that it may be begun again after any interruption.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nodeprep import files
from nodeprep.model import MODES, Change, Facts, Finding, Mode, Node
from nodeprep.rollout import artefacts, gates, way_back
from nodeprep.rollout.machine import Verb
from nodeprep.rollout.switching import Aim
from nodeprep.rollout.way_back import Record, Trip
from nodeprep.shell import Script, words
from nodeprep.story import Topic
from nodeprep.topics import kube_proxy, proxy_mode

NAME = "switch"


def aimed(node: Node, mode: Mode) -> Node:
    """Return ``node`` as it should be in ``mode``."""
    proxy = dataclasses.replace(node.desired.kube_proxy, mode=mode)
    return dataclasses.replace(node, desired=dataclasses.replace(node.desired, kube_proxy=proxy))


def current(facts: Facts) -> Mode | None:
    """Return the mode the node leaves: the one on its record, else the one in effect."""
    kept = way_back.kept(facts).gone
    mode = kept or facts[proxy_mode.EFFECTIVE].mode
    return mode if mode in ("iptables", "ipvs", "nftables") else None  # type: ignore[return-value]


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

    def changes(self, verb: Verb, node: Node, facts: Facts, aim: Aim) -> Sequence[Change]:
        """Return the steps of ``verb``; none where the node is past it."""
        if verb != "switch" and not way_back.kept(facts).state:
            return ()
        gone = current(facts)
        if gone is None:
            return ()
        trip = Trip(
            run=aim.run,
            gone=gone,
            to=aim.to,
            paths=kube_proxy.paths(node)[:2],
            gate_limit=aim.gate_limit,
            dead_man=aim.dead_man,
        )
        steps = _STEPS[verb](aimed(node, aim.to), facts, aim, trip)
        known = _step("the steps of a switch", "learn", way_back.library(node, trip))
        return (known, *steps) if steps else ()

    def findings(self, verb: Verb, node: Node, facts: Facts, aim: Aim) -> Sequence[Finding]:
        """Return the gates after ``verb``."""
        return gates.findings(verb, node, facts, aim)

    def pending(self, verb: Verb, facts: Facts, aim: Aim) -> int:
        """Return the open TCP connections that end with virtual servers or with kube-ipvs0.

        What UDP leaves there is no connection, and stays for minutes: it is not waited for.
        """
        if verb != "linger" or (current(facts), aim.to) != ("ipvs", "iptables"):
            return int(verb == "soak")
        return facts[artefacts.ARTEFACTS].established


# --- the verbs ------------------------------------------------------------------------------


def _switch(node: Node, facts: Facts, aim: Aim, trip: Trip) -> Sequence[Change]:
    record, effective = way_back.kept(facts), facts[proxy_mode.EFFECTIVE]
    written = _restored(facts, aim) if aim.restores else kube_proxy.steps(node, facts)
    if effective.mode == aim.to and not written and record.state in ("", "settled"):
        return ()
    restarts = any(change.subject == "restart" for change in written)
    if not restarts and effective.mode != aim.to:
        written = (*written, _step("restart kube-proxy", "restart", "restart_proxy"))
    bridged = "nftables" in (trip.gone, trip.to) and effective.mode == trip.gone
    drained = bridged and trip.gone == "ipvs"
    return (
        _step("keep the old files and the way back", "keep", way_back.keep(node, trip)),
        _step("arm the dead man's switch", "arm", "renew"),
        *_probed(aim),
        *([_step("bridge the services", "bridge", f"bridge_from {trip.gone}")] if bridged else []),
        *([_LEAVE_IPVS, _DRAIN] if drained else []),
        *([_RENEW] if bridged else []),
        *([_FOREIGN] if aim.restore_foreign_ipvs and trip.to == "nftables" else []),
        *written,
        _step("wait for its first sync", "sync", "wait_for_sync"),
        *([_LEAVE_IPVS] if (trip.gone, trip.to) == ("ipvs", "iptables") else []),
    )


def _restored(facts: Facts, aim: Aim) -> tuple[Change, ...]:
    if not facts[way_back.restored(aim.restores)].wrong:
        return ()
    kept = words(f"{way_back.KEPT}/{aim.restores}")
    return (
        _step(
            f"put the files of {aim.restores} back",
            "restore",
            f"record_of_this=$record record={kept}\nput_all_back\nstatus_of_this=$?\n"
            'record=$record_of_this\nreturn "$status_of_this"',
        ),
        _step(f"restart for {aim.to}", "restart", "restart_proxy"),
    )


def _probed(aim: Aim) -> Sequence[Change]:
    if aim.probe is None:
        return ()
    target = words(aim.probe.host, str(aim.probe.port))
    return (_step(f"probe {aim.probe}", "probe", f"start_probe {target}"),)


def _linger(_: Node, __: Facts, ___: Aim, ____: Trip) -> Sequence[Change]:
    return (_RENEW,)


def _clean(_: Node, __: Facts, ___: Aim, trip: Trip) -> Sequence[Change]:
    unbridge = _step("take the bridge away", "unbridge", "unbridge")
    others = (mode for mode in MODES if mode != trip.to)
    return (
        _RENEW,
        *([unbridge] if "nftables" in (trip.gone, trip.to) else []),
        *(
            _step(
                f"remove what {mode} mode left", "leftovers", f"remove_leftovers {mode} {trip.to}"
            )
            for mode in others
        ),
    )


def _soak(_: Node, __: Facts, ___: Aim, ____: Trip) -> Sequence[Change]:
    return (_RENEW,)


def _settle(_: Node, facts: Facts, __: Aim, ___: Trip) -> Sequence[Change]:
    record: Record = way_back.kept(facts)
    if record.state in ("", "settled"):
        return ()
    return (_step("disarm the dead man's switch", "disarm", "settle"),)


def _back(_: Node, facts: Facts, __: Aim, trip: Trip) -> Sequence[Change]:
    record: Record = way_back.kept(facts)
    if record.state in ("", "back"):
        return ()
    back = "if go_back; then disarm back; else disarm back-failed; return 1; fi"
    return (_step(f"go back to {trip.gone}", "back", back),)


_STEPS: Mapping[Verb, Callable[[Node, Facts, Aim, Trip], Sequence[Change]]] = {
    "switch": _switch,
    "linger": _linger,
    "clean": _clean,
    "soak": _soak,
    "settle": _settle,
    "back": _back,
}


def _step(summary: str, subject: str, action: Script | str) -> Change:
    script = action if isinstance(action, Script) else Script(action)
    return Change(topic=NAME, subject=subject, summary=summary, action=script)


_RENEW = _step("renew the dead man's switch", "renew", "renew")
_LEAVE_IPVS = _step("let new connections leave kube-ipvs0", "sources", "source_services node")
_DRAIN = _step("wait for connections through IPVS", "drain", "drain_ipvs")
_FOREIGN = _step("guard foreign virtual servers", "foreign", "start_guard_of_foreign")


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
