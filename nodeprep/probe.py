"""One script asks a node everything; its answer becomes facts."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from nodeprep import files, frames, sharing
from nodeprep.errors import FactError
from nodeprep.model import Fact, Facts, Node
from nodeprep.sharing import UNIT_SHOWN
from nodeprep.shell import HTTP_GET, TCP_OPEN, Script, join, whole
from nodeprep.story import Topic


def script(node: Node, topics: Sequence[Topic], nonce: str) -> Script:
    """Return the script that reads all facts of ``topics`` in one session; it changes nothing."""
    return whole(join([opening(nonce), body(node, topics), TOTAL], ""))


def opening(nonce: str) -> Script:
    """Return what the questions stand on: functions, and nothing that is run."""
    # On the operator's own machine the environment may have variables of any name.
    unset = "unset remembers clock\n"
    return Script(frames.open_frames(nonce), HTTP_GET, TCP_OPEN, UNIT_SHOWN, unset)


TOTAL = Script("total\n")


def body(node: Node, topics: Sequence[Topic]) -> Script:
    """Return the questions alone, for a script that has opened the frames already."""
    return _form(_Asker(node, topics)).body


def parse(output: bytes, node: Node, topics: Sequence[Topic], nonce: str) -> Facts:
    """Return the facts in a node's answer.

    Raises FactError, naming the fact, where an answer is torn or cannot be read.
    """
    answers, form = frames.parse(output, nonce), _form(_Asker(node, topics))
    values = {
        fact.name: _parse(fact, answers) if asked else fact.parse("") for fact, asked in form.facts
    }
    return Facts(values, files.parse(answers, form.secrets))


def _parse(fact: Fact[Any], answers: frames.Answers) -> object:
    if fact.name not in answers:
        raise FactError(f"no answer to {fact.name}")
    try:
        return fact.parse(answers[fact.name].text)
    except (ValueError, LookupError) as error:
        raise FactError(
            f"the answer to {fact.name} cannot be read: {error}",
            hint="nodeprep facts shows what can be read; please report this one",
        ) from error


# --- what is the same for many nodes --------------------------------------------------------


class _Asker:
    """Topics that ask a node: alike where they are the very same and so is what is wanted of it.

    What is asked of a node depends on its desired state alone, which a fleet's nodes share.
    """

    def __init__(self, node: Node, topics: Sequence[Topic]) -> None:
        self.node, self.topics = node, topics
        self._same = (id(node.desired), *map(id, topics))

    def __hash__(self) -> int:
        return hash(self._same)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asker) and self._same == other._same


@dataclass(frozen=True, kw_only=True)
class _Form:
    """All questions, each fact with whether it is asked at all, and the files that stay secret."""

    body: Script
    facts: tuple[tuple[Fact[Any], bool], ...]
    secrets: tuple[str, ...]


# What it keeps alive are the askers too: no other value can come to have their identity.
@lru_cache(maxsize=64)
def _form(asker: _Asker) -> _Form:
    node, topics = asker.node, asker.topics
    facts = [(fact, fact.script(node)) for topic in topics for fact in topic.FACTS]
    secrets = tuple(path for topic in topics for path in topic.secrets(node))
    paths = [path for topic in topics for path in topic.paths(node)]
    questions = [frames.framed(fact.name, script) for fact, script in facts if script]
    together = Script(sharing.script(sharing.of(topics, node)))
    return _Form(
        body=Script(str(join([together, *questions, files.probe(paths, secrets)], ""))),
        facts=tuple((fact, bool(script)) for fact, script in facts),
        secrets=secrets,
    )
