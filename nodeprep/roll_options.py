"""What a roll is asked to be, as options of the command line, and the aim they come to."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from nodeprep.errors import UsageError
from nodeprep.rollout.batches import ORDERS, Portion, parse_batches, parse_portion
from nodeprep.rollout.operator import Gate, parse_gate, parse_target
from nodeprep.rollout.switching import Aim
from nodeprep.rollout.windows import parse_window


def _seconds(_: click.Context, __: click.Parameter, text: str) -> int:
    units = {"s": 1, "m": 60, "h": 3600}
    number, unit = (text[:-1], text[-1:]) if text[-1:] in units else (text, "s")
    if not number.isdecimal():
        raise UsageError(f"{text!r} is no time", hint="write 90, 90s, 5m or 1h")
    return int(number) * units[unit]


def _portion(name: str, *, zero: bool = False) -> Callable[..., Portion | None]:
    return lambda _, __, text: None if text is None else parse_portion(text, name, zero=zero)


RULES = (
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
    click.option("--strategy", type=click.Choice(("canary", "recreate")), default="canary",
                 show_default=True, help="In a kubeadm cluster: a second DaemonSet that takes over "
                 "node by node, or one ConfigMap and each node's pod deleted."),
    click.option("--drain", callback=lambda c, p, text: _seconds(c, p, text) if text else 0,
                 metavar="TIME", help="In a kubeadm cluster: cordon each node and evict its pods "
                 "first, within this time."),
    click.option("--ignore", "ignored", multiple=True, metavar="CHECK",
                 help="Turn this failed check of the preflight into a warning."),
)  # fmt: skip
"""By what rules a roll goes, and where a node's gates are."""

ANSWERS = (
    click.option("-y", "--yes", is_flag=True, help="Do not ask."),
    click.option("--dry-run", is_flag=True, help="Show what would be done; touch nothing."),
)
"""Whether it is done at all."""


def with_options(*options: Callable[..., Any]) -> Callable[..., Any]:
    """Return a decorator that gives a command all of these options, in their order."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def aim_of(run: str, to: str | None, given: Mapping[str, Any]) -> Aim:
    """Return the aim that the options come to. Raises UsageError where they contradict."""
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
        lock=run,
        to=to,  # type: ignore[arg-type]
        strategy=given["strategy"],
        drain=given["drain"],
        gate_limit=given["gate_limit"],
        dead_man=given["dead_man"],
        linger=given["linger"],
        soak=given["soak"],
        gates=gates,
        probe=given["probe"],
        restore_foreign_ipvs=given["restore_foreign_ipvs"],
    )
