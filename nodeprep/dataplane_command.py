"""``nodeprep dataplane``: a few lines from the command line to the runner and back.

What it needs is imported where it is used, as in ``cli``: its help costs nothing.
"""

from collections.abc import Callable
from typing import Any

import click

from nodeprep import cli
from nodeprep.executor_options import FROM_WHERE

_HOW = (
    click.option("-v", "--verbose", is_flag=True, help="All figures of each node."),
    click.option(
        "-o",
        "--output",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="json is documented in docs/output.md.",
    ),
)


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed((*cli.WHICH_NODES, *_HOW, *FROM_WHERE)):
        command = option(command)
    return command


@click.command()
@_with_options
def dataplane(*, verbose: bool, output: str, **given: Any) -> None:
    """Show how much the data plane of each node carries; change nothing.

    Rules, virtual servers, ipsets and their fill, conntrack, the last sync, and what the same
    services would cost in the other modes. One row a node; all figures for a single one.
    """
    from nodeprep import runner
    from nodeprep.report import dataplane as report
    from nodeprep.report import json

    with cli.session(given) as (_, nodes, options):
        outcomes = cli.collect(runner.weigh_nodes(nodes, options), nodes, "dataplane")
        code = runner.exit_code(outcomes, wanted=runner.is_ready)
        if output == "json":
            click.echo(json.document("dataplane", outcomes, code))
        else:
            click.echo(report.shown(outcomes, verbose=verbose))
    if code:
        raise SystemExit(code)
