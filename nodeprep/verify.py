"""The difference between facts and wish, told as findings."""

from collections.abc import Iterable, Sequence

from nodeprep.model import Facts, Finding, Node, Status
from nodeprep.story import Topic


def findings(node: Node, facts: Facts, topics: Sequence[Topic]) -> tuple[Finding, ...]:
    """Return the verdict on everything that ``node`` should have, in the order of the story."""
    return tuple(finding for topic in topics for finding in topic.findings(node, facts))


def ready(verdicts: Iterable[Finding]) -> bool:
    """Tell whether nothing failed; warnings and skipped checks do not count against a node."""
    return not any(finding.status is Status.FAIL for finding in verdicts)
