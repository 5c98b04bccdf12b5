"""The difference between facts and wish, told as changes; and a plan kept in a file.

A saved plan holds no way to act: ``apply FILE`` makes the plan anew from the inventory and fresh
facts, and goes on only where both are the same. So an edited plan, another inventory, or a node
that has changed since can never be acted on. No secret is in it.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from nodeprep import __version__
from nodeprep.errors import StalePlan, UsageError
from nodeprep.model import APPLY, Change, Facts, Finding, Inventory, Node, Outcome, Status
from nodeprep.story import Topic

FORMAT = "nodeprep plan 1"


def changes(node: Node, facts: Facts, topics: Sequence[Topic]) -> tuple[Change, ...]:
    """Return the steps from ``facts`` to what ``node`` should be, in the order of the story."""
    return tuple(
        change
        for at, topic in enumerate(topics)
        for change in topic.changes(node, facts)
        if not (change.disruptive and _is_broken(node, facts, topics[:at]))
    )


def _is_broken(node: Node, facts: Facts, topics: Sequence[Topic]) -> bool:
    return any(beyond_mending(found) for topic in topics for found in topic.findings(node, facts))


def withheld(
    node: Node, facts: Facts, told: Iterable[tuple[Topic, Sequence[Finding]]]
) -> tuple[Change, ...]:
    """Return the steps that wait for something that is beyond mending here.

    A running kube-proxy is not restarted into a mode that its node cannot run, and what it would
    be restarted for is not written either. ``told`` are the topics of the story in its order, each
    with its findings.
    """
    steps, broken = [], False
    for topic, findings in told:
        # Most nodes lack nothing, and their steps need not be known to say so.
        steps += [c for c in topic.changes(node, facts) if c.disruptive] if broken else []
        broken = broken or any(map(beyond_mending, findings))
    return tuple(steps)


def beyond_mending(finding: Finding) -> bool:
    """Tell whether a finding is a failure that no change of ours will end."""
    return finding.status is Status.FAIL and finding.hint != APPLY


def document(
    outcomes: Iterable[Outcome], inventory: Inventory, topics: Sequence[Topic]
) -> Mapping[str, Any]:
    """Return a plan for a file: what was seen and what would be done, for nodes that answered."""
    outcomes = sorted(outcomes, key=lambda outcome: outcome.node.name)
    body: dict[str, Any] = {
        "format": FORMAT,
        "nodeprep": __version__,
        "inventory": {"path": inventory.path, "sha256": inventory.digest},
        "topics": [topic.NAME for topic in topics],
        "nodes": {
            outcome.node.name: [entry(change) for change in outcome.changes]
            for outcome in outcomes
            if outcome.facts is not None
        },
        "unanswered": [o.node.name for o in outcomes if o.facts is None],
    }
    return {**body, "sha256": _digest(body)}


def entry(change: Change) -> Mapping[str, Any]:
    """Return a change as it is shown and kept; a secret's text is not in it."""
    return {
        "topic": change.topic,
        "subject": change.subject,
        "summary": change.summary,
        "diff": change.diff,
        "seen": change.guard.seen if change.guard else None,
        "action": hashlib.sha256(str(change.action).encode()).hexdigest(),
    }


def read(text: str, name: str, inventory: Inventory) -> Mapping[str, Any]:
    """Return the document of a saved plan.

    Raises UsageError where it is no plan or was edited, StalePlan where it belongs to another
    inventory or release of nodeprep.
    """
    try:
        plan = json.loads(text)
        body = {key: value for key, value in plan.items() if key != "sha256"}
        intact = plan["format"] == FORMAT and plan["sha256"] == _digest(body)
    except (ValueError, AttributeError, KeyError, RecursionError) as error:
        raise UsageError(f"{name} is no plan", hint=f"nodeprep plan --out {name}") from error
    if not intact:
        raise UsageError(f"{name} was edited after it was made", hint=f"nodeprep plan --out {name}")
    if plan["nodeprep"] != __version__ or plan["inventory"]["sha256"] != inventory.digest:
        raise StalePlan(
            f"{name} was made from another inventory or by another release of nodeprep",
            hint=f"nodeprep plan --out {name}",
        )
    return plan  # type: ignore[no-any-return]


def expect(plan: Mapping[str, Any], node: Node, fresh: Sequence[Change]) -> None:
    """Raise StalePlan unless the saved plan says for ``node`` just what a fresh one does."""
    if [entry(change) for change in fresh] != plan["nodes"][node.name]:
        raise StalePlan(
            "the node has changed since the plan was made; nothing was written",
            hint=f"nodeprep plan --limit {node.name} shows what is to do now",
        )


def knows(plan: Mapping[str, Any], node: Node) -> bool:
    """Tell whether ``node`` gave an answer when the plan was made."""
    return node.name in plan["nodes"]


def not_in_it(node: Node) -> StalePlan:
    """Return the error of a node that a saved plan does not know."""
    return StalePlan(
        "it is not in the plan: it did not answer when the plan was made",
        hint=f"nodeprep plan --limit {node.name}",
    )


def narrowed(plan: Mapping[str, Any], names: Collection[str]) -> Mapping[str, Any]:
    """Return what ``expect`` needs of a plan for these nodes alone."""
    return {"nodes": {name: plan["nodes"][name] for name in names if name in plan["nodes"]}}


def _digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
