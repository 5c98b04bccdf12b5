"""``nodeprep lab``: virtual nodes for a shell. The work is in ``lifecycle``."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from nodeprep.lab.kinds import APT, KINDS
from nodeprep.lab.settings import DEFAULT_MEMORY, Settings, default_cache, default_folder

_folder = click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False, resolve_path=True),
    default=default_folder,
    help="Where the lab keeps its state.  [default: $XDG_STATE_HOME/nodeprep/lab]",
)


@click.group()
def lab() -> None:
    """Virtual nodes with kernels of their own, to rehearse on."""


@lab.command()
@_folder
@click.option("--nodes", default=3, show_default=True, help="How many.")
@click.option(
    "--kinds",
    callback=lambda _context, _option, names: tuple(names.split(",")),
    default=APT.name,
    show_default=True,
    help=f"Their package managers, dealt out in turn: {','.join(KINDS)}.",
)
@click.option("--memory", default=DEFAULT_MEMORY, show_default=True, help="MiB a node.")
@click.option("--network", default="127.77.0", show_default=True, help="Loopback /24 they are in.")
@click.option("--kube-proxy", is_flag=True, help="Put a real kube-proxy 1.20.2 on each.")
@click.option("--cluster", is_flag=True, help="Start a real control plane, with services.")
@click.option("--kubeadm", is_flag=True, help="The same, and kube-proxy is kubeadm's DaemonSet.")
def up(folder: Path, **wishes: Any) -> None:
    """Start the nodes and wait until they answer."""
    from nodeprep.lab import lifecycle

    settings = Settings(folder=folder, cache=default_cache(), **wishes)
    started = lifecycle.up(settings, _tell)
    where = "" if folder == default_folder() else f" --dir {folder}"
    click.echo(f"\nThe inventory is {started.inventory}. Next:\n")
    click.echo(f"  nodeprep facts -i {started.inventory}")
    click.echo(f"  nodeprep lab ssh{where} node1")
    click.echo(f"  nodeprep lab down{where}")


@lab.command()
@_folder
def status(folder: Path) -> None:
    """Show each node, and the cluster if there is one: where it is and whether it answers."""
    from nodeprep.lab import lifecycle, overview

    click.echo(overview.table(lifecycle.load(folder)))


@lab.command(context_settings={"ignore_unknown_options": True})
@_folder
@click.option("--user", default="root", show_default=True, help="root, operator or guarded.")
@click.argument("node")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(folder: Path, user: str, node: str, command: tuple[str, ...]) -> None:
    """Log in on a node, or run a command there."""
    from nodeprep.lab import lifecycle, readiness

    found = lifecycle.load(folder)
    words = readiness.ssh_command(found, found.node(node), command, user=user)
    sys.stdout.flush()
    os.execvp(words[0], words)  # noqa: S606 - ssh takes this process's place


@lab.command()
@_folder
@click.option("--hard", is_flag=True, help="Press the reset button instead of asking.")
@click.argument("node")
def reboot(folder: Path, node: str, *, hard: bool) -> None:
    """Reboot a node and wait until it answers again."""
    from nodeprep.lab import lifecycle

    boot = lifecycle.reboot(lifecycle.load(folder), node, hard=hard)
    click.echo(f"{node} is up again, boot {boot}")


@lab.command()
@_folder
@click.option("--all", "everything", is_flag=True, help="All nodes.")
@click.argument("nodes", nargs=-1)
def reset(folder: Path, nodes: tuple[str, ...], *, everything: bool) -> None:
    """Give nodes a fresh disk; their host keys stay."""
    from nodeprep.lab import lifecycle

    if everything == bool(nodes):
        raise click.UsageError("name nodes, or say --all")
    found = lifecycle.load(folder)
    names = nodes or tuple(node.name for node in found.nodes)
    lifecycle.reset(found, names)
    click.echo(f"as new: {' '.join(names)}")


@lab.command()
@_folder
def down(folder: Path) -> None:
    """End all nodes and remove the lab's files; the cache stays."""
    from nodeprep.lab import lifecycle

    ended = lifecycle.down(folder)
    click.echo(f"the lab in {folder} is down" if ended else f"no lab in {folder}")


def _tell(line: str) -> None:
    """Say on stderr what is going on; stdout is for results."""
    click.echo(line, err=True)
