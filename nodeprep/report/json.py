"""Outcomes as JSON. The shape is documented in docs/output.md, and changes only with its number."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from nodeprep import __version__, plan, ruleset
from nodeprep.dataplane.reading import data_plane
from nodeprep.errors import NodeprepError
from nodeprep.iptables import Rule
from nodeprep.model import FileState, Finding, Outcome, Status


def document(verb: str, outcomes: Sequence[Outcome], exit_code: int) -> str:
    """Return the whole result of ``verb`` as one JSON document."""
    nodes = [node(verb, outcome) for outcome in outcomes]
    return json.dumps({**_head(verb), "exit_code": exit_code, "nodes": nodes}, indent=2)


def line(verb: str, outcome: Outcome) -> str:
    """Return one node's part of the document on a line of its own."""
    return json.dumps(node(verb, outcome))


def last_line(verb: str, nodes: int, exit_code: int) -> str:
    """Return the line that ends a result of lines, after those of so many nodes."""
    return json.dumps({**_head(verb), "exit_code": exit_code, "nodes": nodes})


def _head(verb: str) -> Mapping[str, Any]:
    return {"format": "nodeprep result 1", "nodeprep": __version__, "command": verb}


def node(verb: str, outcome: Outcome) -> Mapping[str, Any]:
    """Return one node's part of the document."""
    shown: dict[str, Any] = {
        "name": outcome.node.name,
        "address": outcome.node.address,
        "ready": None if verb in ("facts", "rules") else _is_ready(outcome),
        "seconds": round(outcome.seconds, 3),
        "error": _error(outcome.error),
    }
    if verb == "facts":
        shown["facts"] = facts(outcome)
        return shown
    if verb == "rules":
        return {**shown, **_rules(outcome)}
    if verb in ("plan", "apply", "rules remove"):
        shown["changes"] = [plan.entry(change) for change in outcome.changes]
    if verb in ("apply", "rules remove"):
        shown["steps"] = [
            {"summary": s.change.summary, "exit_status": s.exit_status} for s in outcome.steps
        ]
    if verb == "dataplane":
        shown["data_plane"] = _data_plane(outcome)
    shown["findings"] = [_finding(finding) for finding in outcome.findings]
    return shown


def _rules(outcome: Outcome) -> Mapping[str, Any]:
    if outcome.facts is None:
        return {"rules": None, "cut": False}
    told = ruleset.found(outcome.facts)
    return {"rules": [_rule(rule) for rule in told.rules], "cut": told.cut}


def _rule(rule: Rule) -> Mapping[str, Any]:
    return {**asdict(rule), "comment": rule.comment, "target": rule.target}


def facts(outcome: Outcome) -> Mapping[str, Any] | None:
    """Return a node's facts by name, as plain values; files without their content."""
    if outcome.facts is None:
        return None
    files = {path: _file(state) for path, state in outcome.facts.files.items()}
    values = {name: _plain(value) for name, value in outcome.facts.values.items()}
    return {**values, "files": files}


def _data_plane(outcome: Outcome) -> Mapping[str, Any] | None:
    if outcome.facts is None:
        return None
    seen = data_plane(outcome.node, outcome.facts)
    estimates = {
        estimate.mode: {
            "costs": dict(estimate.costs),
            "since": str(estimate.layout.since),
            "sources": list(estimate.layout.sources),
            "leaves_out": list(estimate.layout.leaves_out),
        }
        for estimate in seen.estimates
    }
    return {**_plain(seen), "estimates": estimates}


def _file(state: FileState) -> Mapping[str, Any]:
    shown = {key: value for key, value in asdict(state).items() if key not in ("content", "path")}
    return {**shown, "mode": f"{state.mode:04o}"}


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {key: _plain(each) for key, each in vars(value).items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return str(value) if hasattr(value, "_fields") else [_plain(each) for each in value]
    return value


def _is_ready(outcome: Outcome) -> bool | None:
    if outcome.facts is None:
        return None
    return outcome.error is None and all(f.status is not Status.FAIL for f in outcome.findings)


def _error(error: NodeprepError | None) -> Mapping[str, Any] | None:
    if error is None:
        return None
    return {
        "kind": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
    }


def _finding(finding: Finding) -> Mapping[str, str]:
    return {**asdict(finding), "status": str(finding.status)}
