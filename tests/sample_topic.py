"""A topic of a few files and steps, for tests of what all topics go through."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nodeprep import files
from nodeprep.files import ManagedFile
from nodeprep.model import Change, Fact, Facts, Finding, Node, Status
from nodeprep.shell import Script, Secret
from nodeprep.topics import system

GREETING = Fact(name="greeting", script=lambda _: "echo hello", parse=str.strip)


@dataclass(frozen=True, kw_only=True)
class SampleTopic:
    """Wants ``wanted`` files; ``steps`` are shell statements that are always to be done."""

    wanted: Sequence[ManagedFile] = ()
    steps: Sequence[Script | str] = ()
    adopt: bool = True
    NAME: str = "kube_proxy"
    TITLE: str = "Sample"
    FACTS: tuple[Fact[Any], ...] = (GREETING, system.LAST_RUN)

    def paths(self, _: Node, /) -> tuple[str, ...]:
        return tuple(file.path for file in self.wanted)

    def secrets(self, _: Node, /) -> tuple[str, ...]:
        return tuple(file.path for file in self.wanted if isinstance(file.content, Secret))

    def changes(self, _: Node, facts: Facts, /) -> tuple[Change, ...]:
        put = (
            files.change(self.NAME, file, facts.file(file.path), adopt=self.adopt)
            for file in self.wanted
        )
        return (*filter(None, put), *(step(n, text) for n, text in enumerate(self.steps)))

    def findings(self, _: Node, facts: Facts, /) -> tuple[Finding, ...]:
        greeting = Finding(
            topic=self.NAME, name="greeting", status=Status.OK, actual=facts[GREETING]
        )
        verdicts = (
            files.finding(self.NAME, file, facts.file(file.path), adopt=self.adopt)
            for file in self.wanted
        )
        return (greeting, *verdicts)


def step(number: int, text: Script | str) -> Change:
    """Return a change that is a few shell statements."""
    return Change(
        topic="kube_proxy",
        subject=f"step {number}",
        summary=f"do step {number}",
        action=Script("") + text,
    )
