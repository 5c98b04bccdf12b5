"""A saved plan shows what would be done and holds no way to do it; edited ones are refused."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep import plan
from nodeprep.errors import StalePlan, Unreachable, UsageError
from nodeprep.files import ManagedFile
from nodeprep.model import Change, Facts, FileState, Inventory, Node, Outcome
from nodeprep.shell import Script, Secret, quote
from tests.sample_topic import GREETING, SampleTopic, step

NODES = tuple(Node(name=name, address="192.0.2.1") for name in ("b", "a", "c"))
INVENTORY = Inventory(path="inventory.yaml", digest="d" * 64, nodes=NODES)
TOPIC = SampleTopic(wanted=[ManagedFile(path="/etc/a", content="new\n")], steps=["echo one"])
FACTS = Facts({GREETING.name: "hello"}, {"/etc/a": FileState(path="/etc/a")})
CHANGES = plan.changes(NODES[0], FACTS, (TOPIC,))


def outcome(node: Node, changes: tuple[Change, ...] = CHANGES) -> Outcome:
    return Outcome(node=node, facts=FACTS, changes=changes)


def saved(*outcomes: Outcome) -> dict[str, Any]:
    document = plan.document(outcomes or [outcome(NODES[0])], INVENTORY, (TOPIC,))
    return json.loads(json.dumps(document, indent=2))  # type: ignore[no-any-return]


def read(document: object) -> Any:
    return plan.read(json.dumps(document), "plan.json", INVENTORY)


# --- the document ---------------------------------------------------------------------------


def test_a_plan_is_read_back_as_it_was_saved() -> None:
    assert read(saved()) == saved()


def test_a_plan_names_its_inventory_topics_and_nodes_in_one_order() -> None:
    document = saved(*map(outcome, NODES))
    assert document["inventory"] == {"path": "inventory.yaml", "sha256": "d" * 64}
    assert document["topics"] == ["kube_proxy"]
    assert list(document["nodes"]) == ["a", "b", "c"]
    assert document == saved(*map(outcome, reversed(NODES)))


def test_a_plan_holds_what_is_shown_and_nothing_to_run() -> None:
    (first, second) = saved()["nodes"]["b"]
    assert first["summary"] == "write /etc/a"
    assert first["diff"].endswith("+new")
    assert first["seen"] == "absent"
    assert second["seen"] is None
    assert "echo one" not in json.dumps(saved())


def test_a_node_without_an_answer_is_in_no_plan() -> None:
    lost = Outcome(node=NODES[1], error=Unreachable("gone"))
    assert list(saved(outcome(NODES[0]), lost)["nodes"]) == ["b"]


def test_a_node_with_nothing_to_do_is_in_the_plan_with_nothing() -> None:
    assert saved(outcome(NODES[0], ()))["nodes"] == {"b": []}


def test_a_secret_is_in_no_plan_but_another_secret_is_another_plan() -> None:
    def of(text: str) -> dict[str, Any]:
        file = ManagedFile(path="/etc/key", content=Secret(text), mode=0o600)
        changes = plan.changes(NODES[0], FACTS, (SampleTopic(wanted=[file]),))
        return saved(outcome(NODES[0], changes))

    assert "canary" not in json.dumps(of("canary"))
    assert of("canary") != of("canary2")


# --- what is refused ------------------------------------------------------------------------


def _paths(value: object, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the way to each leaf of a document."""
    if isinstance(value, dict):
        return [found for key, each in value.items() for found in _paths(each, (*path, key))]
    if isinstance(value, list):
        return [found for at, each in enumerate(value) for found in _paths(each, (*path, at))]
    return [path]


@pytest.mark.parametrize("path", _paths(saved()), ids=lambda path: ".".join(map(str, path)))
def test_a_plan_edited_at_any_place_is_refused(path: tuple[Any, ...]) -> None:
    document = saved()
    at: Any = document
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = f"{at[path[-1]]} "
    with pytest.raises(UsageError, match=r"plan\.json was edited|is no plan") as caught:
        read(document)
    assert caught.value.hint == "nodeprep plan --out plan.json"


@pytest.mark.parametrize("change", ["add", "remove", "move"])
def test_a_plan_with_other_steps_is_refused(change: str) -> None:
    document = saved(*map(outcome, NODES))
    if change == "add":
        document["nodes"]["a"].append(document["nodes"]["a"][0])
    elif change == "remove":
        del document["nodes"]["a"]
    else:
        document["nodes"]["a"].reverse()
    with pytest.raises(UsageError, match="edited"):
        read(document)


@given(st.text() | st.binary().map(repr))
def test_any_text_that_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no plan"):
        plan.read(text, "plan.json", INVENTORY)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["format", "nodes", "sha256", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON)
def test_any_json_that_is_no_plan_is_refused(value: object) -> None:
    with pytest.raises(UsageError):
        read(value)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_json_without_a_bottom_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no plan"):
        plan.read(text, "plan.json", INVENTORY)


def resealed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Return a plan that somebody changed and gave a digest that fits."""
    document = {key: value for key, value in saved().items() if key != "sha256"}
    change(document)
    digest = plan._digest(document)  # noqa: SLF001 a forger can do as much
    return {**document, "sha256": digest}


@pytest.mark.parametrize(
    "change",
    [
        lambda plan_: plan_["inventory"].update(sha256="e" * 64),
        lambda plan_: plan_.update(nodeprep="0.0.0"),
    ],
    ids=["inventory", "release"],
)
def test_a_plan_of_another_inventory_or_release_is_stale(
    change: Callable[[dict[str, Any]], object],
) -> None:
    with pytest.raises(StalePlan, match="another inventory") as caught:
        read(resealed(change))
    assert caught.value.exit_code == 3


# --- acting on it ---------------------------------------------------------------------------


def test_the_same_changes_are_expected() -> None:
    plan.expect(saved(), NODES[0], CHANGES)


@pytest.mark.parametrize(
    "fresh",
    [
        (),
        CHANGES[:1],
        CHANGES[::-1],
        (*CHANGES, step(2, "true")),
        (CHANGES[0], dataclasses.replace(CHANGES[1], action=Script("echo two"))),
        (dataclasses.replace(CHANGES[0], diff="other"), CHANGES[1]),
        (dataclasses.replace(CHANGES[0], guard=None), CHANGES[1]),
        (dataclasses.replace(CHANGES[0], action=quote(Secret("x"))), CHANGES[1]),
    ],
    ids=["none", "fewer", "order", "more", "action", "diff", "guard", "secret"],
)
def test_other_changes_make_the_plan_stale(fresh: tuple[Change, ...]) -> None:
    with pytest.raises(StalePlan, match="nothing was written") as caught:
        plan.expect(saved(), NODES[0], fresh)
    assert "--limit b" in caught.value.hint


def test_even_a_forged_plan_cannot_make_a_node_do_what_it_says() -> None:
    forged = resealed(lambda plan_: plan_["nodes"]["b"][0].update(action="0" * 64))
    with pytest.raises(StalePlan):
        plan.expect(read(forged), NODES[0], CHANGES)
