"""The difference between facts and wish, told as findings."""

from collections.abc import Iterable, Sequence

from nodeprep import plan
from nodeprep.model import Change, Facts, Finding, Node, Status
from nodeprep.story import Topic


def findings(node: Node, facts: Facts, topics: Sequence[Topic]) -> tuple[Finding, ...]:
    """Return the verdict on everything that ``node`` should have, in the order of the story."""
    told = [(topic, topic.findings(node, facts)) for topic in topics]
    waiting = plan.withheld(node, facts, told)
    return (*(finding for _, found in told for finding in found), *_withheld(waiting))


def _withheld(changes: tuple[Change, ...]) -> tuple[Finding, ...]:
    if not changes:
        return ()
    return (
        Finding(
            topic=changes[0].topic,
            name="withheld",
            status=Status.FAIL,
            actual="; ".join(change.summary for change in changes),
            wanted="done, once the node has what the mode needs",
            hint="mend first what failed above and is not for `nodeprep apply`",
        ),
    )


def ready(verdicts: Iterable[Finding]) -> bool:
    """Tell whether nothing failed; warnings and skipped checks do not count against a node."""
    return not any(finding.status is Status.FAIL for finding in verdicts)
