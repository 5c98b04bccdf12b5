"""The gates of a node: what is asked after each step of a switch, and how it is judged.

A gate believes a process only after it has seen that it is a new one, and a mode only where the
process and the kernel agree on it. No exit status is asked: only what a fresh reading says.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nodeprep import files
from nodeprep.model import MODES, Change, Fact, Facts, Finding, Mode, Node, Status
from nodeprep.rollout import artefacts, way_back
from nodeprep.rollout.machine import Verb
from nodeprep.rollout.operator import Gate, question
from nodeprep.rollout.switching import Aim
from nodeprep.rollout.way_back import Record
from nodeprep.shell import words
from nodeprep.topics.kube_proxy import SERVICE
from nodeprep.topics.proxy_mode import EFFECTIVE

NAME = "gates"
TITLE = "Gates"

# --- what is asked --------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Health:
    """What answers at the metrics address: the times of its syncs, in seconds since 1970.

    ``synced`` has one time for each address family, 0 for one that has not synced; it is empty
    where nothing answers. ``started`` is when the answering process began, ``None`` where it does
    not say.
    """

    synced: tuple[float, ...] = ()
    started: float | None = None


def _health_script(node: Node) -> str:
    host, port = node.desired.kube_proxy.metrics_endpoint
    metric = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"
    return (
        f"http_get {words(host, port)} /metrics |\n"
        f"  sed -n -e 's/^{metric}[^ ]* /synced /p' \\\n"
        "    -e 's/^process_start_time_seconds /started /p'\n:"
    )


def parse_health(text: str) -> Health:
    r"""Read ``synced SECONDS`` for each family, and ``started SECONDS``.

    >>> parse_health("synced 1.7e+09\nstarted 1.6e+09\n").synced
    (1700000000.0,)
    """
    times = [line.partition(" ")[::2] for line in text.splitlines()]
    return Health(
        synced=tuple(float(value) for name, value in times if name == "synced"),
        started=next((float(value) for name, value in times if name == "started"), None),
    )


HEALTH = Fact(name="rollout.health", script=_health_script, parse=parse_health)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Whether a thing that must work did, and what was said of it."""

    works: bool
    said: str = ""


def parse_answer(text: str) -> Answer:
    """Read ``open`` or ``closed``, then what was said."""
    verdict, _, said = text.partition("\n")
    return Answer(works=verdict == "open", said=said.strip())


_ANSWER = """\
if said=$(%s); then echo open; else echo closed; fi
printf '%%s' "$said" | head -c 500"""


def asked(aim: Aim) -> tuple[Gate, ...]:
    """Return the gates that are questions to a node: the cluster's own service, then the rest."""
    host, _, port = aim.kubernetes.rpartition(":")
    own = (
        (
            Gate(
                kind="tcp",
                text=f"kubernetes {aim.kubernetes}",
                host=host.strip("[]"),
                port=int(port),
            ),
        )
        if aim.kubernetes
        else ()
    )
    return (*own, *(gate for gate in aim.gates if gate.kind != "local"))


def of_gate(number: int, gate: Gate) -> Fact[Answer]:
    """Return the question whether a gate is open."""
    text = _ANSWER % question(gate)
    return Fact(name=f"rollout.gate.{number}", script=lambda _: text, parse=parse_answer)


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Facts in the form of a topic that changes nothing and finds nothing by itself."""

    NAME: str = NAME
    TITLE: str = TITLE
    FACTS: tuple[Fact[Any], ...] = ()

    def paths(self, _: Node) -> tuple[str, ...]:
        """Nothing here is written."""
        return ()

    secrets = paths

    def changes(self, _: Node, __: Facts) -> tuple[Change, ...]:
        """Nothing here is changed."""
        return ()

    def findings(self, _: Node, __: Facts) -> tuple[Finding, ...]:
        """What is found depends on the verb: see ``findings`` of this module."""
        return ()


PROCESS = Questions(FACTS=(SERVICE,))
"""The one question of kube-proxy's own topic that the gates need."""


def watch(aim: Aim) -> Questions:
    """Return what is asked after a verb: what is kept, what the kernel has, what answers."""
    questions = (of_gate(number, gate) for number, gate in enumerate(asked(aim)))
    restored = (way_back.restored(aim.restores),) if aim.restores else ()
    kept = way_back.record(aim.run)
    return Questions(FACTS=(kept, *restored, artefacts.ARTEFACTS, HEALTH, *questions))


def kept(aim: Aim) -> Questions:
    """Return what is asked where nothing is left but to settle."""
    return Questions(FACTS=(way_back.record(aim.run),))


# --- how it is judged -----------------------------------------------------------------------


def findings(
    verb: Verb, node: Node, facts: Facts, aim: Aim, running: Sequence[Finding]
) -> tuple[Finding, ...]:
    """Return the gates after ``verb``: the old mode's after ``back``, else the new one's.

    ``running`` is what whoever runs kube-proxy says of it.
    """
    record = way_back.kept(facts)
    if verb == "settle":
        return _settled(record)
    back = verb == "back"
    mode = _mode_after(back, record, facts, aim)
    cleaned = verb in ("clean", "soak", "back")
    return (
        *(_returned(record) if back else _under_way(record, aim)),
        *(_restored(facts, aim) if aim.restores and not back else ()),
        *running,
        _mode(node, facts, mode),
        _sync(facts),
        *artefacts.findings(facts[artefacts.ARTEFACTS], mode, old=_old(record), cleaned=cleaned),
        *(_gate(gate, facts[of_gate(number, gate)]) for number, gate in enumerate(asked(aim))),
    )


def _mode_after(back: bool, record: Record, facts: Facts, aim: Aim) -> Mode:  # noqa: FBT001
    # Where nothing was kept, nothing was changed: the mode in effect is the old one.
    old = record.gone or facts[EFFECTIVE].mode
    known = {str(mode): mode for mode in MODES}
    return known.get(old, aim.to) if back else aim.to


def _settled(record: Record) -> tuple[Finding, ...]:
    right = record.state in ("", "settled") and not record.watching
    status = Status.OK if right else Status.FAIL
    return (finding("dead man's switch", status, record.state or "never armed", "disarmed"),)


def _under_way(record: Record, aim: Aim) -> tuple[Finding, ...]:
    if record.state.startswith("back"):
        actual, wanted = "the node went back by itself", "it waits for its controller"
        return (finding("way back", Status.FAIL, actual, wanted),)
    if record.state in ("", "settled"):
        return ()
    armed = record.armed_by == aim.run and record.watching
    status = Status.OK if armed else Status.FAIL
    new = record.process != record.began_as
    return (
        finding("dead man's switch", status, "armed" if armed else "not armed", "armed"),
        finding(
            "new process",
            Status.OK if new else Status.FAIL,
            "seen" if new else "the process is still the old one",
            "a process that began after the switch",
        ),
    )


def _old(record: Record) -> Mode | None:
    return next((mode for mode in MODES if mode == record.gone), None)


def _returned(record: Record) -> tuple[Finding, ...]:
    if record.state == "":
        return (finding("way back", Status.OK, "nothing was kept: nothing had been changed"),)
    back = record.state == "back"
    wrong = ", ".join(record.wrong)
    return (
        finding(
            "way back",
            Status.OK if back else Status.FAIL,
            record.state,
            "back",
            f"see {way_back.KEPT}/*/log and {files.STATE}/log on the node",
        ),
        finding(
            "files",
            Status.FAIL if wrong else Status.OK,
            f"not as before: {wrong}" if wrong else "as before, byte for byte",
        ),
    )


def _restored(facts: Facts, aim: Aim) -> tuple[Finding, ...]:
    kept = facts[way_back.restored(aim.restores)]
    if kept.wrong:
        actual = f"not as before {aim.restores}: {', '.join(kept.wrong)}"
        return (finding("files", Status.FAIL, actual, "as before, byte for byte"),)
    return (finding("files", Status.OK, f"as before {aim.restores}"),)


def _mode(node: Node, facts: Facts, mode: Mode) -> Finding:
    effective = facts[EFFECTIVE]
    if effective.mode == mode and effective.logged in ("", mode):
        return finding("proxy mode", Status.OK, mode)
    seen = effective.mode or "no answer"
    if effective.logged not in ("", effective.mode):
        seen = f"{seen}, but its log says {effective.logged}"
    why = f": {effective.complaints[0]}" if effective.complaints else ""
    hint = log_of(node)
    return finding("proxy mode", Status.FAIL, f"{seen}{why}", mode, hint)


def log_of(node: Node) -> str:
    """Return what to type on a node to see its kube-proxy's log."""
    proxy = node.desired.kube_proxy
    if proxy.is_pod:
        return "tail -n 50 /var/log/pods/kube-system_kube-proxy*/kube-proxy/*.log"
    return f"journalctl -u {proxy.unit_name} -n 50"


def _sync(facts: Facts) -> Finding:
    # A time of another process would lie: ``running`` says whose they are. Clocks are set and
    # step, so that the times are not compared with any other.
    times = facts[HEALTH].synced
    if times and all(time > 0 for time in times):
        return finding("first sync", Status.OK, "done")
    return finding("first sync", Status.FAIL, "not yet" if times else "no answer", "done")


def _gate(gate: Gate, answer: Answer) -> Finding:
    status = Status.OK if answer.works else Status.FAIL
    actual = answer.said or ("works" if answer.works else "does not work")
    return finding(gate.name, status, actual, "" if answer.works else "it works")


def local(gate: Gate, *, works: bool, said: str) -> Finding:
    """Return the finding for a command that the controller ran."""
    return _gate(gate, Answer(works=works, said=said))


def opened(findings: Sequence[Finding]) -> bool:
    """Tell whether no gate is shut."""
    return not any(finding.status is Status.FAIL for finding in findings)


def finding(name: str, status: Status, actual: str, wanted: str = "", hint: str = "") -> Finding:
    """Return a gate."""
    return Finding(topic=NAME, name=name, status=status, actual=actual, wanted=wanted, hint=hint)
