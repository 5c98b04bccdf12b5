"""``nodeprep switch``, ``rollback`` and ``runs``: a roll from the command line.

Looked at first, shown, asked about, and only then begun; what was begun can be taken up again.
"""

import dataclasses
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from nodeprep import cli, console, inventory, journal, rolling, runner
from nodeprep.apply import Run
from nodeprep.credentials import with_kubeconfig
from nodeprep.errors import (
    Interrupted,
    NeedsOperator,
    NodeFailed,
    NodeprepError,
    Unreachable,
    UsageError,
)
from nodeprep.executor_options import FROM_WHERE
from nodeprep.model import MODES, Facts, Inventory, Node, Outcome, Status
from nodeprep.report import roll as report
from nodeprep.report.roll import Row
from nodeprep.roll_cluster import Cluster, by_second, cluster_of, placed, refuse_part
from nodeprep.roll_options import ANSWERS, RULES, aim_of, with_options
from nodeprep.roll_screen import confirmed, told_on
from nodeprep.rollout import daemonset, preflight, replay, switching, systemd
from nodeprep.rollout.batches import batches
from nodeprep.rollout.machine import Roll, ending, roll
from nodeprep.rollout.switching import Aim, Kind
from nodeprep.rollout.windows import Window, parse_window


@click.command()
@click.option("--to", type=click.Choice(MODES), help="The mode to switch to.")
@click.option("--resume", metavar="RUN", help="Go on with a roll that was cut short.")
@with_options(*RULES, *ANSWERS, *cli.WHICH_NODES, *FROM_WHERE)
def switch(*, to: str | None, resume: str | None, **given: Any) -> None:
    """Move serving nodes to another kube-proxy mode, one by one, with gates and a way back."""
    if bool(to) == bool(resume):
        raise UsageError("say either --to MODE or --resume RUN", hint="nodeprep switch --to ipvs")
    with cli.session(given) as (loaded, nodes, options):
        if resume:
            _resume(resume, loaded, options, given)
            return
        run = runner.run_id()
        aims = {node.name: aim_of(run, to, given) for node in nodes}
        _roll(_Roll(loaded, nodes, options, aims, given, cluster_of(loaded, nodes, options)))


@click.command()
@click.argument("run")
@with_options(*RULES, *ANSWERS, *cli.WHICH_NODES, *FROM_WHERE)
def rollback(*, run: str, **given: Any) -> None:
    """Take a finished roll back, node by node, to the files and the mode of before."""
    header = journal.read(journal.find(journal.default_folder(), run))[0].fields
    with cli.session(given) as (loaded, nodes, options):
        came = dict(header["from"])
        chosen = [node for node in nodes if node.name in came]
        if not chosen:
            raise UsageError(f"the roll {header['run']} was over none of these nodes")
        new = runner.run_id()
        # By the way that it came: the other one may not lead back.
        ways = {fields.get("strategy") for fields in header["aims"].values()} - {"", None}
        given = {**given, **({"strategy": ways.pop()} if len(ways) == 1 else {})}
        aims = {
            node.name: dataclasses.replace(
                aim_of(new, came[node.name], given), restores=header["run"]
            )
            for node in chosen
        }
        back = tuple(reversed(chosen))
        _roll(_Roll(loaded, back, options, aims, given, cluster_of(loaded, back, options)))


@click.command()
@click.option("--unlock", metavar="RUN", help="Give up a roll that was cut short, for good.")
def runs(*, unlock: str | None) -> None:
    """List the rolls that were begun from here, newest first."""
    folder = journal.default_folder()
    if unlock:
        path = journal.find(folder, unlock)
        journal.unlock(folder, journal.read(path)[0].fields["cluster"], path.stem)
        click.echo(f"{path.stem} is given up; its nodes, if any is in hand, go back by themselves")
        if any(
            fields.get("cluster_node") for fields in journal.read(path)[0].fields["aims"].values()
        ):
            click.echo("the cluster's lock: kubectl -n kube-system delete lease nodeprep-switch")
        return
    for one in journal.runs(folder):
        stages = ", ".join(f"{count} {stage}" for stage, count in sorted(one.stages.items()))
        what = one.problem or f"to {one.header.get('to', '?')}: {stages}"
        click.echo(f"{one.run}  {one.ended:<14} {console.one_line(what)}")


# --- a new roll -----------------------------------------------------------------------------


@dataclass(frozen=True)
class _Roll:
    """What a roll is asked to be: its nodes, where each goes, and the options as given."""

    inventory: Inventory
    nodes: Sequence[Node]
    options: runner.Options
    aims: Mapping[str, Aim]
    given: Mapping[str, Any]
    kubernetes: Cluster | None = None

    def kind(self, node: Node) -> Kind:
        """Return what it means to switch a node."""
        if self.kubernetes and node.desired.kube_proxy.is_pod:
            return self.kubernetes.kind
        return systemd.Systemd()

    @property
    def first_pod(self) -> Node | None:
        """A node whose kube-proxy is a pod; what the cluster needs is the same for each of them."""
        return next((node for node in self.nodes if node.desired.kube_proxy.is_pod), None)

    @property
    def run(self) -> str:
        return next(iter(self.aims.values())).run

    @property
    def cluster(self) -> str:
        return str(Path(self.inventory.path).resolve())


def _roll(asked: _Roll) -> None:
    asked, known = _known(asked)
    outcomes = _looked(asked, known)
    asked = dataclasses.replace(asked, aims=_learned(asked, outcomes))
    start = _start(asked, outcomes)
    came = _came(outcomes)
    rows = _rows(asked, came)
    click.echo(_plan(asked, outcomes, start, rows))
    _refuse(outcomes)
    going_home = _home_of(asked, known)
    if not (start.waiting or going_home):
        if asked.kubernetes:
            asked.kubernetes.refuse_locked(known, asked.run)
        click.echo("nothing to switch")
        return
    if asked.given["dry_run"]:
        click.echo("nothing was touched")
        return
    question = f"switch {len(start.waiting)} nodes?" if start.waiting else "go home?"
    if not asked.given["yes"] and not confirmed(question):
        raise Interrupted("nothing was touched")
    if start.waiting:
        _close(asked, _new(asked, start, came, rows), rows)
    _go_home(asked)


def _home_of(asked: _Roll, known: Facts) -> tuple[Node, ...]:
    """Return the nodes that can go home to the original DaemonSet: all of them, or none."""
    if asked.kubernetes is None or asked.given["strategy"] != "canary":
        return ()
    return by_second(asked.inventory.nodes, daemonset.seen(known))


def _go_home(asked: _Roll) -> None:
    """Once the second DaemonSet serves all nodes, take them to the original in the same mode."""
    nodes = _home_of(asked, asked.kubernetes.look() if asked.kubernetes else Facts({}))
    if not nodes:
        return
    run, aim = runner.run_id(), next(iter(asked.aims.values()))
    click.echo(f"{asked.run} is done: its nodes go home to the DaemonSet kube-proxy")
    home_aim = dataclasses.replace(aim, run=run, lock=run, home=True, drain=0, restores="")
    aims = {node.name: home_aim for node in nodes}
    home, known = _known(dataclasses.replace(asked, nodes=nodes, aims=aims))
    outcomes = _looked(home, known)
    home = dataclasses.replace(home, aims=_learned(home, outcomes))
    _refuse(outcomes)
    came = _came(outcomes)
    rows = _rows(home, came)
    _close(home, _new(home, _start(home, outcomes), came, rows), rows)


def _new(asked: _Roll, start: Roll, came: Mapping[str, str], rows: dict[str, Row]) -> Roll:
    """Begin a roll and take it to its end."""
    header = _header(asked, start, came)
    with (
        _held(asked.cluster, asked.run),
        journal.create(journal.default_folder(), asked.run, header) as log,
    ):
        return _perform(asked, start, log, rows)


def _known(asked: _Roll) -> tuple[_Roll, Facts]:
    """Ask the cluster, where there is one, and learn from it what its nodes are there."""
    if asked.kubernetes is None:
        return asked, Facts({})
    known = asked.kubernetes.look()
    aims = placed(asked.nodes, asked.aims, daemonset.seen(known))
    refuse_part(asked.nodes, aims, daemonset.seen(known))
    return dataclasses.replace(asked, aims=aims), known


def _looked(asked: _Roll, known: Facts) -> list[Outcome]:
    came = rolling.look(
        asked.nodes,
        asked.kind,
        asked.aims,
        asked.options,
        ignored=asked.given["ignored"],
        cluster=known,
    )
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
    most, aims = given["max_unavailable"], asked.aims
    # One ConfigMap for all: two nodes at once, or one after a failure, would each write another.
    one = asked.kubernetes is not None and given["strategy"] == "recreate"
    at_once = most.of(len(names)) if most else max(map(len, cut))
    return roll(
        cut,
        at_once=1 if one else at_once,
        max_failures=0 if one else given["max_failures"].of(len(names)),
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
        if o.facts
        and start.stages[o.node.name] == "waiting"
        and not o.node.desired.kube_proxy.is_pod
    }
    if any(aim.restores for aim in asked.aims.values()):
        writes = {}
    aim = asked.aims[asked.nodes[0].name]
    rules = (
        f"at most {start.at_once} at once; stops after more than {start.max_failures} failures; "
        f"soak {aim.soak} s, linger {aim.linger} s, dead man's switch {aim.dead_man} s"
    )
    of_cluster = asked.kubernetes.told(aim) if asked.kubernetes else ()
    errors = [
        f"{o.node.name}: {type(o.error).__name__}: {console.one_line(o.error.message)}"
        for o in outcomes
        if o.error
    ]
    return "\n".join([report.planned(outcomes, start, rows, writes, [rules, *of_cluster]), *errors])


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
    cluster = cluster_of(loaded, nodes, options)
    asked = _Roll(loaded, nodes, options, aims, {**given, "window": window}, cluster)
    # Whatever may be refused is asked before the cluster is held: its lock outlives a failure.
    start = replay.resume(replay.from_fields(header), journal.read(path))
    rows = _rows(asked, header["from"])
    _check_waiting(asked, start)
    if not asked.given["yes"] and not confirmed(
        f"go on with {len(start.in_hand)} nodes in hand and {len(start.waiting)} waiting?"
    ):
        raise Interrupted("nothing was touched")
    with _held(header["cluster"], path.stem), journal.reopen(path) as log:
        start = replay.resume(replay.from_fields(header), journal.read(path))
        ended = _perform(asked, start, log, rows)
    _close(asked, ended, rows)
    _go_home(asked)


def _check_waiting(asked: _Roll, start: Roll) -> None:
    """Look at the nodes that were not begun, as at the first start; the others are in hand."""
    waiting = [node for node in asked.nodes if node.name in start.waiting]
    if waiting:
        known = asked.kubernetes.look() if asked.kubernetes else Facts({})
        outcomes = _looked(dataclasses.replace(asked, nodes=waiting), known)
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
                node=with_kubeconfig(node),
                limits=options.limits,
                passwords=options.passwords,
                way=options.connect,
            ),
            kind=asked.kind(node),
            aim=asked.aims[node.name],
            cluster=asked.kubernetes.contact() if asked.kubernetes else None,
            run=Run(id=asked.run, operator=runner.operator()),
            stop=options.stop,
            touched=node.name in start.touched,
        )
        for node in asked.nodes
    }
    window: Window | None = asked.given["window"]
    with told_on(log.path, rows) as telling:
        terms = rolling.Terms(
            ask=lambda reason: not asked.given["yes"] and telling.asks(f"{reason}; go on?"),
            may_begin=lambda: window.refusal(datetime.now()) if window else "",  # noqa: DTZ005
            began=telling.began,
            say=telling.say,
            stop=options.stop,
        )
        return _in_cluster(asked, partial(rolling.perform, start, hands, log, terms))


def _in_cluster(asked: _Roll, perform: Callable[[], Roll]) -> Roll:
    """Perform a roll between what its cluster needs before it and after it."""
    pod, cluster = asked.first_pod, asked.kubernetes
    if cluster is None or pod is None:
        return perform()
    aim = asked.aims[pod.name]
    cluster.prepare(pod, aim)
    ended = perform()
    cluster.finish(pod, aim, done=ending(ended) == "done")
    return ended


def _close(asked: _Roll, ended: Roll, rows: Mapping[str, Row]) -> None:
    """Say what came of it, and exit by that; nothing is held any more."""
    click.echo(report.ended(ended, rows, asked.run))
    _advise(asked, ended)
    _exit(ended, rows, interrupted=asked.options.stop.is_set())


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


def _exit(ended: Roll, rows: Mapping[str, Row], *, interrupted: bool) -> None:
    stages = set(ended.stages.values())
    silent = [
        n for n, stage in ended.stages.items() if stage == "untouched" and rows[n].unreachable
    ]
    lost = "lost" in stages or 0 < len(silent) == ended.failures
    errors: list[type[NodeprepError]] = [
        *([NeedsOperator] if "needs-operator" in stages else []),
        *([Interrupted] if interrupted and ending(ended) != "done" else []),
        *([Unreachable] if lost else []),
    ]
    code = errors[0].exit_code if errors else int(ending(ended) != "done")
    if code:
        raise SystemExit(code)
