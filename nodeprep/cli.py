"""The command line: a few lines for each verb, and one exit code for all of them.

What is imported here is all that ``--help`` pays for; the rest is imported where it is used.
"""

import gc
import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nodeprep import __version__, executor_options
from nodeprep.errors import NodeprepError, UsageError

if TYPE_CHECKING:
    from nodeprep.model import Inventory, Node, Outcome
    from nodeprep.runner import Options

TOPICS = (
    *("system", "selinux", "packages", "kernel_modules", "sysctl"),
    *("network_manager", "networkd", "firewall", "iptables"),
    *("ipsets", "bypass_rules", "kube_proxy", "proxy_mode", "daemonset"),
)
_EXIT_CODES = """\b
Exit codes:
  0    every node is as wanted
  1    a node is not
  2    the command line or the inventory is wrong
  3    a plan is stale, or another run holds a node
  4    a node cannot be reached
  5    a node needs an operator
  130  interrupted"""


_LATER = {
    "dataplane": (
        "dataplane_command",
        "Show how much the data plane of each node carries; change nothing.",
    ),
    "import": ("import_commands", "Turn an inventory that you have into one of nodeprep's."),
    "switch": ("roll_commands", "Move serving nodes to another kube-proxy mode, one by one."),
    "rollback": ("roll_commands", "Take a finished roll back, node by node."),
    "runs": ("roll_commands", "List the rolls that were begun from here."),
    "rules": ("rule_commands", "List iptables rules with their numbers, or remove some."),
}
"""Commands of other modules, which are imported only when they are called."""


class LazyGroup(click.Group):
    """Commands that are imported only when they are called or asked for help."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the lab only for ``nodeprep lab``, and others only for their own commands."""
        if cmd_name == "lab":
            from nodeprep.lab.commands import lab

            return lab
        if cmd_name in _LATER:
            module = importlib.import_module(f"nodeprep.{_LATER[cmd_name][0]}")
            return getattr(module, cmd_name.replace("import", "import_"))  # type: ignore[no-any-return]
        return super().get_command(ctx, cmd_name)

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands; some lines are told here, for their modules are not loaded for it."""
        rows = [
            (name, command.get_short_help_str(60))
            for name, command in sorted(self.commands.items())
        ]
        rows += [
            ("lab", "Virtual nodes with kernels of their own, to rehearse on."),
            *((name, told) for name, (_, told) in _LATER.items()),
        ]
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows))


@click.group(
    cls=LazyGroup, epilog=_EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="nodeprep")
def nodeprep() -> None:
    """Prepare Linux nodes for Kubernetes' kube-proxy over SSH, and prove it."""


def on_nodes(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that every command which visits nodes has."""
    for option in reversed((*WHICH_NODES, *_HOW, *executor_options.FROM_WHERE)):
        command = option(command)
    return command


WHICH_NODES = (
    click.option(
        "-i",
        "--inventory",
        "path",
        type=click.Path(path_type=Path),
        default="inventory.yaml",
        show_default=True,
        envvar="NODEPREP_INVENTORY",
        help="The nodes and what they should be.",
    ),
    click.option(
        "-l",
        "--limit",
        default="",
        help="Only these: names, worker[01-09], web*, @group, label=value, !not; by commas.",
    ),
    click.option("--local", is_flag=True, help="The machine this runs on, without SSH."),
    click.option(
        "-p",
        "--parallel",
        type=click.IntRange(1, 1000),
        default=25,
        show_default=True,
        help="How many nodes at once.",
    ),
)
_HOW = (
    click.option(
        "-t",
        "--topic",
        "topics",
        multiple=True,
        type=click.Choice(TOPICS),
        help="Only this topic; may be given again.",
    ),
    click.option(
        "--deadline",
        type=click.IntRange(10, 86400),
        default=900,
        show_default=True,
        help="Seconds that the changes of one node may take.",
    ),
    click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "json", "jsonl"]),
        default="text",
        show_default=True,
        help="json and jsonl are documented in docs/output.md.",
    ),
)


@nodeprep.command()
@on_nodes
def facts(**given: Any) -> None:
    """Show what the nodes say of themselves; change nothing."""
    import dataclasses

    from nodeprep import runner

    with session(given) as (_, nodes, options):
        kept = dataclasses.replace(options, keep_facts=True)
        came = runner.verify_nodes(nodes, kept)
        _tell("facts", came, nodes, given["output"], wanted=_always)


@nodeprep.command()
@click.option("-q", "--quiet", is_flag=True, help="Only what is not ok.")
@on_nodes
def verify(*, quiet: bool, **given: Any) -> None:
    """Say whether the nodes are as wanted, and what to type where not; change nothing."""
    from nodeprep import runner

    with session(given) as (_, nodes, options):
        came = runner.verify_nodes(nodes, options)
        _tell("verify", came, nodes, given["output"], wanted=runner.is_ready, quiet=quiet)


@nodeprep.command()
@click.option("--out", type=click.Path(path_type=Path), help="Save the plan for `apply FILE`.")
@on_nodes
def plan(*, out: Path | None, **given: Any) -> None:
    """Show each change and diff that `apply` would make; change nothing."""
    from nodeprep import plan as plan_
    from nodeprep import runner

    with session(given) as (inventory, nodes, options), _saving(out) as save:
        came = runner.plan_nodes(nodes, options)
        if out is not None:
            came = iter(outcomes := collect(came, nodes, "plan"))
            save(plan_.document(outcomes, inventory, options.chapters))
        _tell("plan", came, nodes, given["output"], wanted=runner.is_done)


@nodeprep.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@on_nodes
def apply(*, file: Path | None, **given: Any) -> None:
    """Make the nodes as wanted, and read them again.

    With FILE, a plan saved by `plan --out`, only what it says, where it still holds.
    """
    from nodeprep import plan as plan_
    from nodeprep import runner

    with session(given) as (inventory, nodes, options):
        saved = plan_.read(_text(file), str(file), inventory) if file else None
        chosen, how = _of_plan(saved, nodes, options) if saved else (nodes, options)
        came = runner.apply_nodes(chosen, how, saved)
        _tell("apply", came, chosen, given["output"], wanted=runner.is_ready)


@nodeprep.command()
def schema() -> None:
    """Print a JSON Schema of the inventory, for editors."""
    import json

    from nodeprep.inventory import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@nodeprep.command()
def rbac() -> None:
    """Print the least rights in a cluster that do, for `kubectl apply -f -`."""
    from nodeprep.render import template_folder

    click.echo((template_folder() / "rbac.yaml").read_text(), nl=False)


# --- from options to nodes ------------------------------------------------------------------


@contextmanager
def session(
    given: Mapping[str, Any],
) -> "Iterator[tuple[Inventory, tuple[Node, ...], Options]]":
    """Give the inventory, the nodes chosen from it, and how they are visited.

    While it lasts, the first Ctrl-C sets the options' ``stop``, and the second ends the process.
    """
    import dataclasses

    from nodeprep import credentials, executors, inventory, runner

    loaded = inventory.load(given["path"])
    limit = given["limit"]
    nodes = inventory.select(loaded.nodes, limit) if limit else loaded.nodes
    if given["local"]:
        nodes = (runner.local_node(nodes),)
    asks_cluster = "topics" in given and runner.asks_cluster(nodes, given["topics"])
    cluster = runner.cluster_of(loaded, nodes) if asks_cluster else None
    # Asked before signals mean anything else: an interrupt at the prompt is one. Workers read
    # passwords where they are.
    asks = given.get("executor") != "dask"
    passwords = credentials.passwords((*nodes, *runner.speakers(loaded)) if asks else ())
    with executor_options.chosen(given) as executor, executors.stopping_on_signals() as stop:
        options = runner.Options(
            **executor,
            topics=given.get("topics", ()),
            parallel=given["parallel"],
            limits=dataclasses.replace(runner.Options().limits, apply=given.get("deadline", 900)),
            passwords=passwords,
            stop=stop,
            cluster=cluster,
        )
        yield loaded, nodes, options


def _of_plan(
    saved: Mapping[str, Any], nodes: "Sequence[Node]", options: "Options"
) -> "tuple[Sequence[Node], Options]":
    import dataclasses

    asked = {*saved["nodes"], *saved["unanswered"]}
    chosen = [node for node in nodes if node.name in asked]
    if not chosen:
        raise UsageError("no node of the plan is chosen", hint="leave --limit out, or make a plan")
    return chosen, dataclasses.replace(options, topics=tuple(saved["topics"]))


def collect(outcomes: "Iterable[Outcome]", nodes: "Sequence[Node]", verb: str) -> "list[Outcome]":
    """Return the outcomes in the order of ``nodes``, and show meanwhile how many have come."""
    from nodeprep.console import sharing, with_progress

    position = {node.name: place for place, node in enumerate(nodes)}
    came = sharing(with_progress(outcomes, len(nodes), verb))
    return sorted(came, key=lambda outcome: position[outcome.node.name])


# --- from outcomes to a terminal ------------------------------------------------------------


def _tell(
    verb: str,
    came: "Iterable[Outcome]",
    nodes: "Sequence[Node]",
    output: str,
    *,
    wanted: "Callable[[Outcome], bool]",
    quiet: bool = False,
) -> None:
    """Print what comes of the nodes: line by line as it comes, or the whole at its end.

    Raises SystemExit where not every node is as wanted.
    """
    from nodeprep import runner
    from nodeprep.console import with_progress
    from nodeprep.report import json

    if output == "jsonl":
        code = runner.exit_code(
            _printed(verb, with_progress(came, len(nodes), verb)), wanted=wanted
        )
        click.echo(json.last_line(verb, len(nodes), code))
    else:
        outcomes = collect(came, nodes, verb)
        code = runner.exit_code(outcomes, wanted=wanted)
        click.echo(_view(verb, outcomes, code, output, quiet=quiet))
    if code:
        raise SystemExit(code)


def _printed(verb: str, outcomes: "Iterable[Outcome]") -> "Iterator[Outcome]":
    from nodeprep.report import json

    for outcome in outcomes:
        click.echo(json.line(verb, outcome))
        yield outcome


def _view(verb: str, outcomes: "Sequence[Outcome]", code: int, output: str, *, quiet: bool) -> str:
    from nodeprep.report import json, text

    views: dict[str, Callable[[], str]] = {
        "facts": lambda: text.told(outcomes),
        "verify": lambda: text.verified(outcomes, only_problems=quiet),
        "plan": lambda: text.planned(outcomes),
        "apply": lambda: text.applied(outcomes),
    }
    return json.document(verb, outcomes, code) if output == "json" else views[verb]()


def _always(_: "Outcome") -> bool:
    return True


@contextmanager
def _saving(path: Path | None) -> Iterator[Callable[[Any], None]]:
    import json
    import os

    if path is None:
        yield lambda _: None
        return

    def write(document: Any) -> None:
        stream.write(json.dumps(document, indent=2) + "\n")
        stream.flush()

    # Opened before any node is visited: a path that cannot be written is known at once.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        yield write


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}", hint=f"nodeprep plan --out {path}") from error


def main() -> None:
    """Run the command line of this process."""
    # Almost nothing here is a cycle: looking for them was two fifths of loading a large inventory.
    gc.set_threshold(50_000, 20, 50)
    run_command(sys.argv[1:])


def run_command(arguments: Sequence[str]) -> None:
    """Run one command; every error of ours is one message and an honest exit code.

    Raises SystemExit where that code is not 0.
    """
    try:
        nodeprep.main(list(arguments), prog_name="nodeprep", standalone_mode=False)
    except NodeprepError as error:
        click.echo(f"nodeprep: {error}", err=True)
        raise SystemExit(error.exit_code) from error
    except click.ClickException as error:
        error.show()
        raise SystemExit(UsageError.exit_code) from error
    except OSError as error:
        click.echo(f"nodeprep: {error}", err=True)
        raise SystemExit(UsageError.exit_code) from error
    except (click.Abort, KeyboardInterrupt) as error:
        raise SystemExit(130) from error
