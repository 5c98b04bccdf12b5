"""A fleet that rolls over nodes of one folder each: everything behind the transport is real.

The scripts are those of ``apply``, run by a real shell; only what a node is, three modes and a few
files, is made up. Sessions fail when a test says so. What happened is read from the nodes' own
diaries, which the scripts under test never see.
"""

import contextlib
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from nodeprep import apply, journal, rolling
from nodeprep.credentials import Passwords
from nodeprep.errors import DeadlinePassed, Unreachable
from nodeprep.journal import Journal
from nodeprep.model import Change, Fact, Facts, Finding, Node, Status
from nodeprep.rollout import replay, way_back
from nodeprep.rollout.machine import Act, Ended, Event, Roll, Verb, roll
from nodeprep.rollout.switching import Aim
from nodeprep.shell import Script, words
from nodeprep.story import Topic
from nodeprep.transport import Limits
from tests.shells import Machine

RUN = "20261123T070000Z-0a1b2c"
LATER = apply.Run(id="another", operator="eve@desk")
AIM = Aim(run=RUN, to="ipvs", gate_limit=0, dead_man=0, linger=0, soak=0)


# --- one node -------------------------------------------------------------------------------

# What a node does to itself in one step, each a function of the shell. The diary has a line for
# each thing that an observer may want to know, in the order of the whole fleet.
_LIFE = """\
cd %(home)s || return
of() { value=; [ ! -e "$1" ] || read -r value <"$1"; }
diary() { printf '%%s %%s\\n' %(name)s "$1" >>../diary; }
[ ! -e broken ] || { rm broken; echo "a step that was told to fail"; return 1; }
renew() {
  of state
  case $value in back*) echo "the node went back by itself"; return 1 ;; esac
  echo armed >state
  echo %(run)s >armed
}
keep() {
  of state
  case $value in '' | back) of disk && echo "$value" >from && echo kept >state ;; esac
  diary kept
}
write() { echo "$1" >disk.new && mv disk.new disk && diary "wrote $1"; }
restart() {
  diary down
  of disk
  echo "$value" >effect
  echo x >>restarts
  diary up
}
settle() {
  of state
  case $value in back*) echo "the node went back by itself"; return 1 ;; esac
  rm -f armed
  echo settled >state
  diary settled
}
go_back() {
  [ ! -e stuck ] || { echo back-failed >state; diary stuck; return 1; }
  of from
  old=$value
  of disk
  [ "$value" = "$old" ] || write "$old"
  of effect
  [ "$value" = "$old" ] || restart
  rm -f left armed
  echo back >state
  diary back
}
"""

# The same names as in the answers of a real node: by them the runner knows that a node went back.
_RECORD = """\
cd %(home)s
restarts=0
while read -r _; do restarts=$((restarts + 1)); done <restarts
echo "process $restarts"
[ ! -e armed ] || { read -r run <armed; printf 'armed_by %%s\\nwatching yes\\n' "$run"; }
[ ! -e state ] || {
  read -r state <state
  read -r from <from
  printf 'state %%s\\nfrom %%s\\n' "$state" "$from"
}
:"""
_NOW = 'cd %(home)s && read -r disk <disk && read -r effect <effect && echo "$disk" "$effect" *'


@dataclass(frozen=True, kw_only=True)
class Now:
    """What a simulated node is: the mode of its file, the one in effect, its loose files."""

    disk: str
    effect: str
    loose: frozenset[str]


def parse_now(text: str) -> Now:
    """Read two modes, then names of files."""
    disk, effect, *loose = text.split()
    return Now(disk=disk, effect=effect, loose=frozenset(loose))


@dataclass(frozen=True, kw_only=True)
class SimNode:
    """A node of one folder in the fleet's."""

    name: str
    fleet: Path

    @property
    def home(self) -> Path:
        """The folder that is the node."""
        return self.fleet / self.name

    @property
    def machine(self) -> Machine:
        """What runs our scripts, with the lock and the log of this node."""
        own = self.home / "nodeprep"
        own.mkdir(exist_ok=True)
        return Machine(folder=own)

    @property
    def now(self) -> Now:
        """What the node is, read without any script of ours."""
        loose = frozenset(path.name for path in self.home.iterdir())
        return Now(disk=self.text("disk"), effect=self.text("effect"), loose=loose)

    @property
    def restarts(self) -> int:
        """How often its kube-proxy was restarted."""
        return len((self.home / "restarts").read_text()) // 2

    def text(self, name: str) -> str:
        """Return what one of the node's files holds, without its last newline."""
        path = self.home / name
        return path.read_text().strip() if path.exists() else ""

    def set(self, name: str, text: str = "") -> None:
        """Put a file there: ``broken``, ``stuck``, ``shut-VERB``, or part of the node's state."""
        (self.home / name).write_text(f"{text}\n")

    def clear(self, name: str) -> None:
        """Take a file away."""
        (self.home / name).unlink(missing_ok=True)

    def dead_man(self) -> None:
        """Do what the dead man's switch does when its deadline passes: only where it is armed."""
        if self.text("armed"):
            self.machine.run(Script("main() {\n", _of(_LIFE, self), "go_back\n}\nmain\n"))


def _of(text: str, node: SimNode) -> str:
    return text % {"home": words(str(node.home)), "name": node.name, "run": RUN}


# --- what switching such a node means -------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What is asked of a simulated node, in the form of a topic."""

    fleet: Path
    only_kept: bool = False
    NAME: str = "simulated"
    TITLE: str = "Simulated"

    def of(self, node: Node) -> SimNode:
        """Return what stands behind a node of the inventory."""
        return SimNode(name=node.name, fleet=self.fleet)

    @property
    def now(self) -> Fact[Now]:
        """The question what the node is."""
        return Fact(name="now", script=lambda node: _of(_NOW, self.of(node)), parse=parse_now)

    @property
    def FACTS(self) -> tuple[Fact[Any], ...]:  # noqa: N802 the contract of a topic
        """What is kept, and what is."""
        record = Fact(
            name="rollout.record",
            script=lambda node: _of(_RECORD, self.of(node)),
            parse=way_back.parse_record,
        )
        return (record,) if self.only_kept else (record, self.now)

    def paths(self, _: Node, /) -> tuple[str, ...]:
        return ()

    secrets = paths

    def changes(self, _: Node, __: Facts, /) -> tuple[Change, ...]:
        return ()

    def findings(self, _: Node, __: Facts, /) -> tuple[Finding, ...]:
        return ()


@dataclass(frozen=True, kw_only=True)
class SimKind:
    """The contract of ``switching.Kind`` for simulated nodes, in the manner of ``systemd``."""

    questions: Questions

    def topics(self, verb: Verb, _: Aim, *, planned: bool) -> Sequence[Topic]:  # noqa: ARG002
        return (replace(self.questions, only_kept=verb == "settle"),)

    def cluster_topics(self, _: Verb, __: Aim, *, planned: bool) -> Sequence[Topic]:  # noqa: ARG002
        return ()

    def changes(self, verb: Verb, node: Node, facts: Facts, aim: Aim) -> Sequence[Change]:
        sim, record = self.questions.of(node), way_back.kept(facts)
        texts = _settle(record) if verb == "settle" else _STEPS[verb](self._now(facts), record, aim)
        return [_step(sim, verb, text) for text in texts]

    def _now(self, facts: Facts) -> Now:
        return facts[self.questions.now]

    def findings(self, verb: Verb, _: Node, facts: Facts, aim: Aim) -> Sequence[Finding]:
        record = way_back.kept(facts)
        if verb == "settle":
            return [_finding("settled", record.state in ("", "settled"))]
        now = self._now(facts)
        # Where nothing was kept, nothing was changed: the mode in effect is the old one.
        wanted = (record.gone or now.effect) if verb == "back" else aim.to
        judged = {
            "mode": (now.effect, now.disk) == (wanted, wanted),
            "way back": verb == "back" or not record.state.startswith("back"),
            f"gate after {verb}": f"shut-{verb}" not in now.loose,
            "leftovers": verb in ("switch", "linger") or "left" not in now.loose,
        }
        return [_finding(name, good) for name, good in judged.items()]

    def pending(self, verb: Verb, facts: Facts, _: Aim) -> int:
        lingers = verb == "linger" and "open" in self._now(facts).loose
        return int(lingers or verb == "soak")


def _finding(name: str, good: bool) -> Finding:
    status, actual = (Status.OK, "good") if good else (Status.FAIL, "not so")
    return Finding(topic="simulated", name=name, status=status, actual=actual)


Record = way_back.Record


def _switch(now: Now, record: Record, aim: Aim) -> list[str]:
    if (now.disk, now.effect) == (aim.to, aim.to) and record.state in ("", "settled"):
        return []
    write = [] if now.disk == aim.to else [f"write {aim.to}"]
    restart = [] if now.effect == aim.to else [">left", "restart"]
    return ["keep", "renew", *write, *restart]


def _settle(record: Record) -> list[str]:
    settled = record.state in ("", "settled")
    return [] if settled else ["settle"]


def _back(_: Now, record: Record, __: Aim) -> list[str]:
    return [] if record.state in ("", "back") else ["go_back"]


_STEPS: Mapping[Verb, Callable[[Now, Record, Aim], list[str]]] = {
    "switch": _switch,
    "linger": lambda *_: ["renew"],
    "clean": lambda *_: ["renew", "rm -f left; diary cleaned"],
    "soak": lambda *_: ["renew"],
    "back": _back,
}


def _step(node: SimNode, verb: Verb, text: str) -> Change:
    action = Script(_of(_LIFE, node), f"{text}\n")
    return Change(topic="simulated", subject=verb, summary=f"{verb}: {text}", action=action)


# --- the door -------------------------------------------------------------------------------

FAULTS = ("refused", "cut before", "cut after", "deadline", "garbage", "broken step")


@dataclass(kw_only=True)
class Door:
    """Opens to simulated nodes. ``faults`` are kinds of FAULTS by node and number of its call.

    ``gone`` are nodes that cannot be reached at all. ``before`` is told of each call: the node,
    the verb that it is for, and the number of the call in that verb.
    """

    fleet: Path
    faults: dict[tuple[str, int], str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    before: Callable[[str, str, int], None] = lambda _, __, ___: None
    verbs: dict[str, str] = field(default_factory=dict)
    in_verb: Counter[tuple[str, str]] = field(default_factory=Counter)
    calls: dict[str, int] = field(default_factory=dict)
    changing: dict[str, int] = field(default_factory=dict)

    @contextlib.contextmanager
    def connect(self, node: Node, _: Limits, __: Passwords) -> Iterator["SimSession"]:
        """Open the way to a node, as the transport does."""
        if node.name in self.gone:
            raise Unreachable(f"no way to {node.name}")
        yield SimSession(node=SimNode(name=node.name, fleet=self.fleet), door=self)


@dataclass(frozen=True, kw_only=True)
class SimSession:
    """A session with a simulated node."""

    node: SimNode
    door: Door

    def run(self, script: Script, _: float) -> bytes:
        """Run ``script``, with the fault that this call is to have."""
        name, door = self.node.name, self.door
        number = door.calls[name] = door.calls.get(name, 0) + 1
        verb = door.verbs[name]
        door.in_verb[name, verb] += 1
        door.before(name, verb, door.in_verb[name, verb])
        if name in door.gone:
            raise Unreachable("the session was lost: it is gone")
        if "take_lock" in str(script):
            door.changing[name] = door.changing.get(name, 0) + 1
        return self._faulty(door.faults.get((name, number), ""), script)

    def _faulty(self, fault: str, script: Script) -> bytes:
        if fault in ("refused", "cut before"):
            raise Unreachable(f"the session was lost: {fault}")
        if fault == "broken step":
            self.node.set("broken")
        output = self.node.machine.run(script)
        if fault == "cut after":
            raise Unreachable("the session was lost", output=output[: len(output) // 2])
        if fault == "deadline":
            raise DeadlinePassed("no answer within 1 s", output=output)
        return b"\x1b]0;\xff" + output[:-9] if fault == "garbage" else output


# --- the fleet ------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Fleet:
    """Nodes in a folder, the journal of their roll, and the door to them."""

    folder: Path
    names: tuple[str, ...] = ("a", "b", "c")
    aim: Aim = AIM
    asked: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    told: list[rolling.Told] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    closed: str = ""
    answer: bool = True
    door: Door = field(init=False)

    def __post_init__(self) -> None:
        """Put every node there in its old mode."""
        self.door = Door(fleet=self.nodes)
        for name in self.names:
            node = self.node(name)
            node.home.mkdir(parents=True, exist_ok=True)
            for file in ("disk", "effect"):
                node.set(file, "iptables")
            (node.home / "restarts").touch()

    @property
    def nodes(self) -> Path:
        """The folder of the nodes."""
        return self.folder / "nodes"

    @property
    def runs(self) -> Path:
        """The folder of the journals."""
        return self.folder / "runs"

    @property
    def journal(self) -> Path:
        """The journal of the one roll."""
        return self.runs / f"{RUN}.jsonl"

    @property
    def diary(self) -> list[tuple[str, str]]:
        """What befell the nodes, in order: a name and what."""
        path = self.nodes / "diary"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(name, what) for name, _, what in (line.partition(" ") for line in lines)]

    def node(self, name: str) -> SimNode:
        """Return one node."""
        return SimNode(name=name, fleet=self.nodes)

    def hand(self, name: str, *, touched: bool = False) -> rolling.Hand:
        """Return what performs verbs on a node."""
        node = Node(name=name, address="192.0.2.1")
        return rolling.Hand(
            contact=rolling.Contact(node=node, limits=Limits(), passwords={}),
            kind=SimKind(questions=Questions(fleet=self.nodes)),
            aim=self.aim,
            run=apply.Run(id=RUN, operator="ann@desk"),
            stop=self.stop,
            touched=touched,
        )

    def begin(self, **rules: Any) -> Roll:
        """Roll over all nodes, each a batch of its own unless ``rules`` say otherwise."""
        batches = rules.pop("batches", tuple((name,) for name in self.names))
        start = roll(batches, **rules)
        with journal.create(self.runs, RUN, replay.to_fields(start)) as log:
            return self._perform(start, log)

    def resume(self) -> Roll:
        """Go on with the roll as its journal tells it."""
        header = journal.read(self.journal)[0].fields
        start = replay.resume(replay.from_fields(header), journal.read(self.journal))
        with journal.reopen(self.journal) as log:
            return self._perform(start, log)

    def _perform(self, start: Roll, log: Journal) -> Roll:
        terms = rolling.Terms(
            ask=self._ask,
            may_begin=lambda: self.closed,
            began=self._began,
            say=self._say,
            stop=self.stop,
        )
        hands = {name: self.hand(name, touched=name in start.touched) for name in self.names}
        return rolling.perform(start, hands, log, terms)

    def _began(self, act: Act) -> None:
        self.door.verbs[act.node] = act.verb

    def _ask(self, reason: str) -> bool:
        self.asked.append(reason)
        return self.answer

    def _say(self, event: Event, _: Roll, told: rolling.Told | None) -> None:
        self.events.append(event)
        if told is not None:
            self.told.append(told)

    @property
    def ends(self) -> list[Ended]:
        """The ends of verbs, as they came."""
        return [event for event in self.events if isinstance(event, Ended)]


def patch(monkeypatch: pytest.MonkeyPatch, fleet: Fleet) -> Fleet:
    """Put ``fleet`` behind the door of the roll, where no waiting takes long."""
    monkeypatch.setattr(rolling, "connect", fleet.door.connect)
    monkeypatch.setattr(rolling, "PAUSE", 0.01)
    monkeypatch.setattr(rolling, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(rolling, "MARGIN", 0.3)
    monkeypatch.setattr(rolling, "STOP_MARGIN", 0.1)
    monkeypatch.setattr(rolling, "SECOND_LOOKS", 1)
    return fleet


# --- a controller that is killed ------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Kill:
    """When a controller dies: at the journal's ``record``, before it is written or after."""

    record: int
    before: bool = False


def killed(work: Callable[[], object], kill: Kill) -> bool:
    """Do ``work`` in a child that kills itself; tell whether it did, and did not end before."""
    child = os.fork()
    if child == 0:
        _die_at(kill)
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, "the controller failed before it was to be killed"
        return False
    assert os.WTERMSIG(status) == signal.SIGKILL
    return True


def _die_at(kill: Kill) -> None:
    append = Journal.append

    def watched(log: Journal, kind: journal.Kind, **fields: Any) -> journal.Record:
        here = log.tail.seq == kill.record
        if here and kill.before:
            os.kill(os.getpid(), signal.SIGKILL)
        record = append(log, kind, **fields)
        if here:
            os.kill(os.getpid(), signal.SIGKILL)
        return record

    Journal.append = watched  # type: ignore[method-assign, assignment]


# --- an observer who believes nothing but the nodes -----------------------------------------


def observe(fleet: Fleet, ended: Roll | None, *, at_once: int = 1, restarts: int = 2) -> None:
    """Assert what must hold after anything: see the names of the parts."""
    _no_node_is_in_a_third_state(fleet)
    _no_more_nodes_were_down_than_allowed(fleet, at_once)
    for name in fleet.names:
        assert fleet.node(name).restarts <= restarts
    if ended is not None:
        assert sorted(ended.stages) == sorted(fleet.names)
        for name, stage in ended.stages.items():
            _what_is_told_is_so(fleet.node(name), stage, fleet)


def _no_node_is_in_a_third_state(fleet: Fleet) -> None:
    for name in fleet.names:
        now = fleet.node(name).now
        assert now.disk in ("iptables", fleet.aim.to)
        assert now.effect in ("iptables", fleet.aim.to)
        assert "disk.new" not in now.loose


def _no_more_nodes_were_down_than_allowed(fleet: Fleet, at_once: int) -> None:
    down: set[str] = set()
    moving: set[str] = set()
    for name, what in fleet.diary:
        moving |= {name} if what == "kept" else set()
        moving -= {name} if what in ("settled", "back") else set()
        down |= {name} if what == "down" else set()
        down -= {name} if what == "up" else set()
        assert len(down) <= at_once
        assert len(moving) <= at_once


def _what_is_told_is_so(node: SimNode, stage: str, fleet: Fleet) -> None:
    now, new = node.now, fleet.aim.to
    modes = {now.disk, now.effect}
    match stage:
        case "done":
            assert (modes, node.text("state")) == ({new}, "settled")
            assert not now.loose & {"armed", "left"}
        case "returned":
            assert (modes, now.loose & {"armed", "left"}) == ({"iptables"}, frozenset())
        case "waiting":
            assert modes == {"iptables"}
            assert node.text("state") in ("", "back")
        case "untouched":
            assert (node.restarts, node.text("state"), modes) == (0, "", {"iptables"})
        case "lost":
            # The dead man's switch is to take it home, or nothing was ever done.
            assert "armed" in now.loose or modes == {"iptables"} or node.text("state") == "settled"
        case "needs-operator":
            assert node.text("state") == "back-failed" or "shut-back" in now.loose
        case _:
            raise AssertionError(f"{node.name} ended as {stage}")


__all__ = ["AIM", "FAULTS", "Door", "Fleet", "Kill", "killed", "observe", "patch"]
