"""From where nodes are visited, as options of the command line: threads, processes, or workers."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from nodeprep.errors import UsageError

FROM_WHERE = (
    click.option(
        "--executor",
        type=click.Choice(["threads", "processes", "dask"]),
        default="threads",
        show_default=True,
        help="What visits the nodes: docs/fleet.md.",
    ),
    click.option(
        "--processes",
        type=click.IntRange(1, 256),
        help="How many processes.  [default: one for each core]",
    ),
    click.option("--scheduler", metavar="tls://HOST:PORT", help="Dask's scheduler."),
    click.option("--tls-ca-file", type=click.Path(), help="Who vouches for it.  [Dask's config]"),
    click.option("--tls-cert", type=click.Path(), help="Our certificate.  [Dask's config]"),
    click.option("--tls-key", type=click.Path(), help="The key to it.  [Dask's config]"),
    click.option(
        "--site-label",
        default="site",
        show_default=True,
        help="The label that names a node's site, and a worker's resource.",
    ),
)


@contextmanager
def chosen(given: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Give the fields of a run's options that say from where nodes are visited.

    Raises UsageError where no scheduler is named, or none answers.
    """
    import os

    from nodeprep import runner

    match given.get("executor", "threads"):
        case "processes":
            yield {"spread": runner.in_processes(given["processes"] or os.cpu_count() or 1)}
        case "dask":
            from nodeprep import fleet

            if not given["scheduler"]:
                raise UsageError("no scheduler is named", hint="--scheduler tls://HOST:PORT")
            scheduler = fleet.Scheduler(
                address=given["scheduler"],
                ca_file=given["tls_ca_file"],
                cert=given["tls_cert"],
                key=given["tls_key"],
                label=given["site_label"],
            )
            with fleet.joined(scheduler) as workers:
                yield {"spread": workers.spread, "connect": workers.connect}
        case _:
            yield {}
