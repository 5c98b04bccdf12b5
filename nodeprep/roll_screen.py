"""What a person sees of a roll while it goes on, and is asked."""

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TextIO

import click

from nodeprep import console, rolling
from nodeprep.report import roll as report
from nodeprep.report.roll import Row
from nodeprep.rollout import way_back
from nodeprep.rollout.machine import Act, Ended, Event, Roll


def confirmed(question: str) -> bool:
    """Return whether the operator says yes; where nobody can be asked, nobody does."""
    try:
        return click.confirm(question, default=False)
    except click.Abort:
        return False


@dataclass
class Telling:
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
            return confirmed(question)

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
            unreachable=told.unreachable,
        )


@contextmanager
def told_on(path: Path, rows: dict[str, Row]) -> Iterator[Telling]:
    """Yield what tells of a roll, on the screen and in a log beside its journal at ``path``."""
    with path.with_suffix(".log").open("a") as log, console.live() as screen:
        yield Telling(rows=rows, log=log, screen=screen, since={})
