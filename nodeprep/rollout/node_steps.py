"""The node's own half of each verb of a roll, whatever runs its kube-proxy.

Make before break: the new mode is programmed while all of the old one is still there, and only a
gate that saw it opens the way to the clean-up. Each verb is planned from fresh facts and does only
what is still missing, so that it may be begun again after any interruption.
"""

from collections.abc import Callable, Mapping, Sequence

from nodeprep.model import MODES, Change, Facts, Mode, Node
from nodeprep.rollout import way_back
from nodeprep.rollout.machine import Verb
from nodeprep.rollout.switching import Aim
from nodeprep.rollout.way_back import Record, Trip
from nodeprep.shell import Script, words
from nodeprep.topics import proxy_mode

NAME = "switch"


def current(facts: Facts) -> Mode | None:
    """Return the mode the node leaves: the one on its record, else the one in effect."""
    kept = way_back.kept(facts).gone
    mode = kept or facts[proxy_mode.EFFECTIVE].mode
    return mode if mode in ("iptables", "ipvs", "nftables") else None  # type: ignore[return-value]


def trip(aim: Aim, gone: Mode, paths: tuple[str, ...] = ()) -> Trip:
    """Return the way of a node from ``gone`` to where its aim says; ``paths`` may be written."""
    return Trip(
        run=aim.run,
        gone=gone,
        to=aim.to,
        paths=paths,
        gate_limit=aim.gate_limit,
        dead_man=aim.dead_man,
    )


def step(summary: str, subject: str, action: Script | str) -> Change:
    """Return a step that is made on the node."""
    script = action if isinstance(action, Script) else Script(action)
    return Change(topic=NAME, subject=subject, summary=summary, action=script)


def with_library(node: Node, trip: Trip, steps: Sequence[Change]) -> Sequence[Change]:
    """Return ``steps`` of one session with the functions that they call before them."""
    known = step("the steps of a switch", "learn", way_back.library(node, trip))
    return (known, *steps) if steps else ()


# --- the verbs ------------------------------------------------------------------------------


def before_another(node: Node, facts: Facts, aim: Aim, trip: Trip) -> Sequence[Change]:
    """Return what comes before another kube-proxy: the way back is kept, and a bridge stands."""
    bridged = facts[proxy_mode.EFFECTIVE].mode == trip.gone
    drained = bridged and (trip.gone, trip.to) == ("ipvs", "nftables")
    return (
        step("keep the old files and the way back", "keep", way_back.keep(node, trip)),
        step("arm the dead man's switch", "arm", "renew"),
        *_probed(aim),
        *([step("bridge the services", "bridge", f"bridge_from {trip.gone}")] if bridged else []),
        *([_LEAVE_IPVS, _DRAIN] if drained else []),
        *([RENEW] if bridged else []),
        *([_FOREIGN] if aim.restore_foreign_ipvs and trip.to == "nftables" else []),
    )


def after_another(trip: Trip) -> Sequence[Change]:
    """Return what comes after another kube-proxy was started: it is waited for.

    Between iptables and ipvs the bridge ends here: it would grow old over what may linger. Out of
    and into nftables it stays until the gate has seen the new mode.
    """
    return (
        step("wait for its first sync", "sync", "wait_for_sync"),
        *([_LEAVE_IPVS] if (trip.gone, trip.to) == ("ipvs", "iptables") else []),
        *([] if "nftables" in (trip.gone, trip.to) else [_UNBRIDGE]),
    )


def later(verb: Verb, facts: Facts, trip: Trip) -> Sequence[Change]:
    """Return the steps of each verb but ``switch``."""
    return _LATER[verb](facts, trip)


def _probed(aim: Aim) -> Sequence[Change]:
    if aim.probe is None:
        return ()
    target = words(aim.probe.host, str(aim.probe.port))
    return (step(f"probe {aim.probe}", "probe", f"start_probe {target}"),)


def _renewed(_: Facts, __: Trip) -> Sequence[Change]:
    return (RENEW,)


def _clean(_: Facts, trip: Trip) -> Sequence[Change]:
    others = (mode for mode in MODES if mode != trip.to)
    return (
        RENEW,
        *([_UNBRIDGE] if "nftables" in (trip.gone, trip.to) else []),
        *(
            step(f"remove what {mode} mode left", "leftovers", f"remove_leftovers {mode} {trip.to}")
            for mode in others
        ),
    )


def _settle(facts: Facts, _: Trip) -> Sequence[Change]:
    record: Record = way_back.kept(facts)
    if record.state in ("", "settled"):
        return ()
    return (step("disarm the dead man's switch", "disarm", "settle"),)


def _back(facts: Facts, trip: Trip) -> Sequence[Change]:
    record: Record = way_back.kept(facts)
    if record.state in ("", "back"):
        return ()
    back = "if go_back; then disarm back; else disarm back-failed; return 1; fi"
    return (step(f"go back to {trip.gone}", "back", back),)


_LATER: Mapping[Verb, Callable[[Facts, Trip], Sequence[Change]]] = {
    "linger": _renewed,
    "clean": _clean,
    "soak": _renewed,
    "settle": _settle,
    "back": _back,
}


RENEW = step("renew the dead man's switch", "renew", "renew")
_UNBRIDGE = step("take the bridge away", "unbridge", "unbridge")
_LEAVE_IPVS = step("let new connections leave kube-ipvs0", "sources", "source_services node")
_DRAIN = step("wait for connections through IPVS", "drain", "drain_ipvs")
_FOREIGN = step("guard foreign virtual servers", "foreign", "start_guard_of_foreign")
