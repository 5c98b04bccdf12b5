"""One script asks a node everything; its answer becomes facts."""

from collections.abc import Sequence
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
    paths, secrets = _paths(node, topics)
    questions = [
        frames.framed(fact.name, script) for fact in _facts(topics) if (script := fact.script(node))
    ]
    together = Script(sharing.script(sharing.of(topics, node)))
    return join([together, *questions, files.probe(paths, secrets)], "")


def parse(output: bytes, node: Node, topics: Sequence[Topic], nonce: str) -> Facts:
    """Return the facts in a node's answer.

    Raises FactError, naming the fact, where an answer is torn or cannot be read.
    """
    answers = frames.parse(output, nonce)
    values = {
        fact.name: _parse(fact, answers) if fact.script(node) else fact.parse("")
        for fact in _facts(topics)
    }
    return Facts(values, files.parse(answers, _paths(node, topics)[1]))


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


def _facts(topics: Sequence[Topic]) -> list[Fact[Any]]:
    return [fact for topic in topics for fact in topic.FACTS]


def _paths(node: Node, topics: Sequence[Topic]) -> tuple[list[str], list[str]]:
    paths = [path for topic in topics for path in topic.paths(node)]
    secrets = [path for topic in topics for path in topic.secrets(node)]
    return paths, secrets
