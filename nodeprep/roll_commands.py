"""``nodeprep switch``, ``rollback`` and ``runs``: a roll from the command line.

Looked at first, shown, asked about, and only then begun; what was begun can be taken up again.
"""

import dataclasses
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import click

from nodeprep import cli, console, inventory, journal, rolling, runner
from nodeprep.apply import Run
from nodeprep.errors import (
    Interrupted,
    NeedsOperator,
    NodeFailed,
    NodeprepError,
    Unreachable,
    UsageError,
)
from nodeprep.model import MODES, Inventory, Node, Outcome, Status
from nodeprep.report import roll as report
from nodeprep.report.roll import Row
from nodeprep.rollout import preflight, replay, switching, systemd, way_back
from nodeprep.rollout.batches import ORDERS, Portion, batches, parse_batches, parse_portion
from nodeprep.rollout.machine import Act, Ended, Event, Roll, ending, roll
from nodeprep.rollout.operator import Gate, parse_gate, parse_target
from nodeprep.rollout.switching import Aim
from nodeprep.rollout.windows import Window, parse_window

KIND = systemd.Systemd()


# --- options --------------------------------------------------------------------------------


def _seconds(_: click.Context, __: click.Parameter, text: str) -> int:
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1:]) if text[-1:] in units else (text, "s")
    if not number.isdecimal():
        raise UsageError(f"{text!r} is no time", hint="write 90, 90s, 5m or 1h")
    return int(number) * units[unit]


def _portion(name: str, *, zero: bool = False) -> Callable[..., Portion | None]:
    return lambda _, __, text: None if text is None else parse_portion(text, name, zero=zero)


_RULES = (
    click.option("--canary", type=click.IntRange(0), default=1, show_default=True,
                 help="How many nodes are switched first, alone."),
    click.option("--batch", "sizes", default="1", show_default=True,
                 callback=lambda _, __, text: parse_batches(text),
                 help="Nodes in each batch after it: 3, 10%, or a list such as 1,10%,25%."),
    click.option("--max-unavailable", callback=_portion("--max-unavailable"),
                 help="At most so many nodes of a batch in hand at once.  [default: the batch]"),
    click.option("--max-failures", default="0", show_default=True,
                 callback=_portion("--max-failures", zero=True),
                 help="Stop once more nodes than this have failed: 2 or 5%."),
    click.option("--order", type=click.Choice(ORDERS), default="control-plane-last",
                 show_default=True, help="When the control plane's turn comes."),
    click.option("--control-plane", default="", metavar="LIMIT",
                 help="Which nodes those are, as --limit has it.  [default: @control-plane]"),
    click.option("--soak", callback=_seconds, default="30s", show_default=True,
                 help="How long a switched node is watched before the next."),
    click.option("--linger", callback=_seconds, default="5m", show_default=True,
                 help="How long open connections through IPVS are waited for."),
    click.option("--gate-limit", callback=_seconds, default="90s", show_default=True,
                 help="How long kube-proxy may take until its first sync."),
    click.option("--dead-man", callback=_seconds, default="4m", show_default=True,
                 help="How long a node waits for its controller before it goes back by itself."),
    click.option("--window", callback=lambda _, __, text: parse_window(text) if text else None,
                 metavar="HH:MM-HH:MM", help="Begin nodes only between these local times."),
    click.option("--pause-after", type=click.IntRange(0), default=0,
                 help="Ask before going on after so many batches."),
    click.option("--gate", "asked", multiple=True, metavar="URL",
                 help="tcp://H:P or http://H:P/PATH must answer the node; may be given again."),
    click.option("--gate-command", "commands", multiple=True, metavar="COMMAND",
                 help="A command that must succeed on the node, as root."),
    click.option("--gate-local", "local_commands", multiple=True, metavar="COMMAND",
                 help="A command that must succeed here; NODEPREP_NODE names the node."),
    click.option("--probe", metavar="URL", callback=lambda _, __, t: parse_target(t) if t else None,
                 help="Count failed connections of each node to tcp://H:P while it is in hand."),
    click.option("--restore-foreign-ipvs", is_flag=True,
                 help="Into nftables: put others' virtual servers back after kube-proxy's flush."),
    click.option("--ignore", "ignored", multiple=True, metavar="CHECK",
                 help="Turn this failed check of the preflight into a warning."),
)  # fmt: skip

_ANSWERS = (
    click.option("-y", "--yes", is_flag=True, help="Do not ask."),
    click.option("--dry-run", is_flag=True, help="Show what would be done; touch nothing."),
)


def _with(*options: Callable[..., Any]) -> Callable[..., Any]:
    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


@click.command()
@click.option("--to", type=click.Choice(MODES), help="The mode to switch to.")
@click.option("--resume", metavar="RUN", help="Go on with a roll that was cut short.")
@_with(*_RULES, *_ANSWERS, *cli.WHICH_NODES)
def switch(*, to: str | None, resume: str | None, **given: Any) -> None:
    """Move serving nodes to another kube-proxy mode, one by one, with gates and a way back."""
    if bool(to) == bool(resume):
        raise UsageError("say either --to MODE or --resume RUN", hint="nodeprep switch --to ipvs")
    with cli.session(given) as (loaded, nodes, options):
        if resume:
            _resume(resume, loaded, options, given)
            return
        run = runner.run_id()
        aims = {node.name: _aim(run, to, given) for node in nodes}
        _roll(_Roll(loaded, nodes, options, aims, given))


@click.command()
@click.argument("run")
@_with(*_RULES, *_ANSWERS, *cli.WHICH_NODES)
def rollback(*, run: str, **given: Any) -> None:
    """Take a finished roll back, node by node, to the files and the mode of before."""
    header = journal.read(journal.find(journal.default_folder(), run))[0].fields
    with cli.session(given) as (loaded, nodes, options):
        came = dict(header["from"])
        chosen = [node for node in nodes if node.name in came]
        if not chosen:
            raise UsageError(f"the roll {header['run']} was over none of these nodes")
        new = runner.run_id()
        aims = {
            node.name: dataclasses.replace(
                _aim(new, came[node.name], given), restores=header["run"]
            )
            for node in chosen
        }
        _roll(_Roll(loaded, tuple(reversed(chosen)), options, aims, given))


@click.command()
@click.option("--unlock", metavar="RUN", help="Give up a roll that was cut short, for good.")
def runs(*, unlock: str | None) -> None:
    """List the rolls that were begun from here, newest first."""
    folder = journal.default_folder()
    if unlock:
        path = journal.find(folder, unlock)
        journal.unlock(folder, journal.read(path)[0].fields["cluster"], path.stem)
        click.echo(f"{path.stem} is given up; its nodes, if any is in hand, go back by themselves")
        return
    for one in journal.runs(folder):
        stages = ", ".join(f"{count} {stage}" for stage, count in sorted(one.stages.items()))
        what = one.problem or f"to {one.header.get('to', '?')}: {stages}"
        click.echo(f"{one.run}  {one.ended:<14} {console.one_line(what)}")


def _aim(run: str, to: str | None, given: Mapping[str, Any]) -> Aim:
    if given["dead_man"] < given["gate_limit"] + 30:
        raise UsageError(
            f"--dead-man {given['dead_man']}s is too short for --gate-limit {given['gate_limit']}s",
            hint=f"--dead-man {given['gate_limit'] + 60}s",
        )
    gates = (
        *map(parse_gate, given["asked"]),
        *(Gate(kind="command", text=text) for text in given["commands"]),
        *(Gate(kind="local", text=text) for text in given["local_commands"]),
    )
    return Aim(
        run=run,
        to=to,  # type: ignore[arg-type]
        gate_limit=given["gate_limit"],
        dead_man=given["dead_man"],
        linger=given["linger"],
        soak=given["soak"],
        gates=gates,
        probe=given["probe"],
        restore_foreign_ipvs=given["restore_foreign_ipvs"],
    )


# --- a new roll -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Roll:
    """What a roll is asked to be: its nodes, where each goes, and the options as given."""

    inventory: Inventory
    nodes: Sequence[Node]
    options: runner.Options
    aims: Mapping[str, Aim]
    given: Mapping[str, Any]

    @property
    def run(self) -> str:
        return next(iter(self.aims.values())).run

    @property
    def cluster(self) -> str:
        return str(Path(self.inventory.path).resolve())


def _roll(asked: _Roll) -> None:
    outcomes = _looked(asked)
    asked = dataclasses.replace(asked, aims=_learned(asked, outcomes))
    start = _start(asked, outcomes)
    came = _came(outcomes)
    rows = _rows(asked, came)
    click.echo(_plan(asked, outcomes, start, rows))
    _refuse(outcomes)
    if not start.waiting:
        click.echo("nothing to switch")
        return
    if asked.given["dry_run"]:
        click.echo("nothing was touched")
        return
    if not asked.given["yes"] and not _confirmed(f"switch {len(start.waiting)} nodes?"):
        raise Interrupted("nothing was touched")
    header = _header(asked, start, came)
    with (
        _held(asked.cluster, asked.run),
        journal.create(journal.default_folder(), asked.run, header) as log,
    ):
        ended = _perform(asked, start, log, rows)
    _close(asked, ended, rows)


def _looked(asked: _Roll) -> list[Outcome]:
    ignored = asked.given["ignored"]
    came = rolling.look(asked.nodes, KIND, asked.aims, ignored, asked.options)
    return cli.collect(came, asked.nodes, "look")


def _learned(asked: _Roll, outcomes: Sequence[Outcome]) -> Mapping[str, Aim]:
    return {
        o.node.name: dataclasses.replace(
            asked.aims[o.node.name],
            kubernetes=preflight.kubernetes(o.facts) if o.facts else "",
        )
        for o in outcomes
    }


def _came(outcomes: Sequence[Outcome]) -> Mapping[str, str]:
    """Return the mode that each node leaves."""
    modes = {o.node.name: preflight.effective(o.facts) for o in outcomes if o.facts}
    return {name: mode for name, mode in modes.items() if mode}


def _start(asked: _Roll, outcomes: Sequence[Outcome]) -> Roll:
    given, names = asked.given, [node.name for node in asked.nodes]
    cut = batches(
        names,
        _control_plane(asked.nodes, given["control_plane"]),
        canary=given["canary"],
        sizes=given["sizes"],
        order=given["order"],
    )
    most = given["max_unavailable"]
    aims = asked.aims
    return roll(
        cut,
        at_once=most.of(len(names)) if most else max(map(len, cut)),
        max_failures=given["max_failures"].of(len(names)),
        pause_after=given["pause_after"],
        already=[
            o.node.name
            for o in outcomes
            if o.facts and preflight.already(o.node, o.facts, aims[o.node.name])
        ],
    )


def _control_plane(nodes: Sequence[Node], limit: str) -> frozenset[str]:
    if limit:
        return frozenset(node.name for node in inventory.select(nodes, limit))
    usual = {"control-plane", "control_plane", "controlplane", "masters"}
    return frozenset(node.name for node in nodes if usual.intersection(node.groups))


def _rows(asked: _Roll, came: Mapping[str, str]) -> dict[str, Row]:
    return {name: Row(gone=came.get(name, "?"), to=aim.to) for name, aim in asked.aims.items()}


def _plan(asked: _Roll, outcomes: Sequence[Outcome], start: Roll, rows: Mapping[str, Row]) -> str:
    writes = {
        o.node.name: systemd.writes(o.node, o.facts, asked.aims[o.node.name].to)
        for o in outcomes
        if o.facts and start.stages[o.node.name] == "waiting"
    }
    if any(aim.restores for aim in asked.aims.values()):
        writes = {}
    aim = asked.aims[asked.nodes[0].name]
    rules = (
        f"at most {start.at_once} at once; stops after more than {start.max_failures} failures; "
        f"soak {aim.soak} s, linger {aim.linger} s, dead man's switch {aim.dead_man} s"
    )
    errors = [
        f"{o.node.name}: {type(o.error).__name__}: {console.one_line(o.error.message)}"
        for o in outcomes
        if o.error
    ]
    return "\n".join([report.planned(outcomes, start, rows, writes, [rules]), *errors])


def _refuse(outcomes: Sequence[Outcome]) -> None:
    """Raise what stands in the way of the whole roll: nothing is begun beside a known trouble."""
    silent = [o.node.name for o in outcomes if o.error]
    failed = [o.node.name for o in outcomes if any(f.status is Status.FAIL for f in o.findings)]
    if silent:
        raise Unreachable(
            f"no answer from {inventory.fold(silent)}; nothing was touched",
            hint=f"mend it, or leave it out: --limit '!{',!'.join(silent[:3])}'",
        )
    if failed:
        raise NodeFailed(
            f"the preflight failed on {inventory.fold(failed)}; nothing was touched",
            hint="mend what failed above, or --ignore CHECK where you know better",
        )


def _confirmed(question: str) -> bool:
    try:
        return click.confirm(question, default=False)
    except click.Abort:
        return False


def _header(asked: _Roll, start: Roll, came: Mapping[str, str]) -> dict[str, Any]:
    targets = sorted({aim.to for aim in asked.aims.values()})
    window = asked.given["window"]
    return {
        **replay.to_fields(start),
        "cluster": asked.cluster,
        "operator": runner.operator(),
        "to": targets[0] if len(targets) == 1 else " ".join(targets),
        "from": dict(came),
        "aims": {name: switching.to_fields(aim) for name, aim in asked.aims.items()},
        "window": str(window) if window else "",
    }


# --- an old one -----------------------------------------------------------------------------


def _resume(run: str, loaded: Inventory, options: runner.Options, given: Mapping[str, Any]) -> None:
    folder = journal.default_folder()
    path = journal.find(folder, run)
    header = journal.read(path)[0].fields
    aims = {name: switching.from_fields(fields) for name, fields in header["aims"].items()}
    nodes = [node for node in loaded.nodes if node.name in aims]
    if gone := sorted(set(aims) - {node.name for node in nodes}):
        raise UsageError(f"the inventory has no longer {inventory.fold(gone)}", hint="put it back")
    window = given["window"] or (parse_window(header["window"]) if header["window"] else None)
    asked = _Roll(loaded, nodes, options, aims, {**given, "window": window})
    # Whatever may be refused is asked before the cluster is held: its lock outlives a failure.
    start = replay.resume(replay.from_fields(header), journal.read(path))
    rows = _rows(asked, header["from"])
    _check_waiting(asked, start)
    if not asked.given["yes"] and not _confirmed(
        f"go on with {len(start.in_hand)} nodes in hand and {len(start.waiting)} waiting?"
    ):
        raise Interrupted("nothing was touched")
    with _held(header["cluster"], path.stem), journal.reopen(path) as log:
        start = replay.resume(replay.from_fields(header), journal.read(path))
        ended = _perform(asked, start, log, rows)
    _close(asked, ended, rows)


def _check_waiting(asked: _Roll, start: Roll) -> None:
    """Look at the nodes that were not begun, as at the first start; the others are in hand."""
    waiting = [node for node in asked.nodes if node.name in start.waiting]
    if waiting:
        outcomes = _looked(dataclasses.replace(asked, nodes=waiting))
        click.echo("\n".join(report.checked(outcomes)))
        _refuse(outcomes)


# --- doing it -------------------------------------------------------------------------------


@contextmanager
def _held(cluster: str, run: str) -> Iterator[None]:
    me = journal.this_process(run=run, operator=runner.operator(), host=socket.gethostname())
    with journal.hold(journal.default_folder(), cluster, me):
        yield


def _perform(asked: _Roll, start: Roll, log: journal.Journal, rows: dict[str, Row]) -> Roll:
    options = asked.options
    hands = {
        node.name: rolling.Hand(
            contact=rolling.Contact(
                node=runner.with_kubeconfig(node),
                limits=options.limits,
                passwords=options.passwords,
            ),
            kind=KIND,
            aim=asked.aims[node.name],
            run=Run(id=asked.run, operator=runner.operator()),
            stop=options.stop,
            touched=node.name in start.touched,
        )
        for node in asked.nodes
    }
    window: Window | None = asked.given["window"]
    with _telling(log.path, rows) as telling:
        terms = rolling.Terms(
            ask=lambda reason: not asked.given["yes"] and telling.asks(f"{reason}; go on?"),
            may_begin=lambda: window.refusal(datetime.now()) if window else "",  # noqa: DTZ005
            began=telling.began,
            say=telling.say,
            stop=options.stop,
        )
        return rolling.perform(start, hands, log, terms)


def _close(asked: _Roll, ended: Roll, rows: Mapping[str, Row]) -> None:
    """Say what came of it, and exit by that; nothing is held any more."""
    click.echo(report.ended(ended, rows, asked.run))
    _advise(asked, ended)
    _exit(ended, interrupted=asked.options.stop.is_set())


@dataclass
class _Telling:
    """What a person sees while it goes on: a line for each event, and a table on a terminal."""

    rows: dict[str, Row]
    log: TextIO
    screen: console.Screen
    since: dict[str, float]

    def began(self, act: Act) -> None:
        """Start a node's clock with its first act."""
        self.since.setdefault(act.node, time.monotonic())

    def asks(self, question: str) -> bool:
        """Ask the operator, beside what is drawn."""
        with self.screen.aside():
            return _confirmed(question)

    def say(self, event: Event, state: Roll, told: rolling.Told | None) -> None:
        """Write one line of the log, and show it."""
        if isinstance(event, Ended) and told is not None:
            self.rows[event.node] = self._row(self.rows[event.node], event, told)
        text = report.line(event, state, told.seconds if told else 0.0)
        self.log.write(f"{datetime.now().isoformat(timespec='seconds')} {text}\n")  # noqa: DTZ005
        self.log.flush()
        self.screen.show(text)
        self.screen.draw(report.table(state, self.rows))

    def _row(self, row: Row, event: Ended, told: rolling.Told) -> Row:
        spent = time.monotonic() - self.since.get(event.node, time.monotonic())
        record = way_back.kept(told.facts) if told.facts else way_back.Record()
        known = record.probed is not None
        return dataclasses.replace(
            row,
            seconds=spent,
            detail=""
            if event.verdict == "ok" and event.verb != "back"
            else event.detail or row.detail,
            probed=record.probed if known else row.probed,
            lost=record.lost if known else row.lost,
            unfinished=told.unfinished or row.unfinished,
        )


@contextmanager
def _telling(path: Path, rows: dict[str, Row]) -> Iterator[_Telling]:
    with path.with_suffix(".log").open("a") as log, console.live() as screen:
        yield _Telling(rows=rows, log=log, screen=screen, since={})


def _advise(asked: _Roll, ended: Roll) -> None:
    """Say where the inventory still wants another mode than the nodes now serve."""
    differ = [
        node.name
        for node in asked.nodes
        if ended.stages[node.name] in ("done", "already")
        and node.desired.kube_proxy.mode != asked.aims[node.name].to
    ]
    if differ:
        to = asked.aims[differ[0]].to
        click.echo(f"now write `mode: {to}` for {inventory.fold(differ)} in {asked.inventory.path}")


def _exit(ended: Roll, *, interrupted: bool) -> None:
    stages = set(ended.stages.values())
    errors: list[type[NodeprepError]] = [
        *([NeedsOperator] if "needs-operator" in stages else []),
        *([Interrupted] if interrupted and ending(ended) != "done" else []),
        *([Unreachable] if stages & {"lost"} else []),
    ]
    code = errors[0].exit_code if errors else int(ending(ended) != "done")
    if code:
        raise SystemExit(code)
