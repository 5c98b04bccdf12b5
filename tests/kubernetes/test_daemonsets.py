"""The second set is told apart from the original, and each change of that has a way back."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.errors import UsageError
from nodeprep.kubernetes.config_text import Settings, read
from nodeprep.kubernetes.daemonsets import (
    AWAY,
    HERE,
    KEPT,
    LABEL,
    held,
    kept_away,
    restored,
    second_config_map,
    second_daemon_set,
    template_restored,
)
from nodeprep.kubernetes.view import Object
from tests.kubernetes import samples
from tests.kubernetes.samples import RELEASES

RUN = "20260101T000000Z-abcdef"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


# --- the second pair ------------------------------------------------------------------------


@pytest.mark.parametrize("release", RELEASES)
def test_the_second_daemon_set_is_the_original_but_for_its_name_its_nodes_and_its_map(
    release: str,
) -> None:
    original = samples.daemon_set(release)
    second = second_daemon_set(original, RUN)
    assert second["metadata"] == {
        "name": "kube-proxy-nodeprep",
        "namespace": "kube-system",
        "labels": {"k8s-app": "kube-proxy-nodeprep", "app.kubernetes.io/managed-by": "nodeprep"},
        "annotations": {"nodeprep.io/run": RUN},
    }
    assert "status" not in second
    expected = copy.deepcopy(original["spec"])
    expected["selector"] = {"matchLabels": {"k8s-app": "kube-proxy-nodeprep"}}
    expected["updateStrategy"] = {"type": "OnDelete"}
    template = expected["template"]
    del template["metadata"]["creationTimestamp"]
    template["metadata"]["labels"]["k8s-app"] = "kube-proxy-nodeprep"
    template["spec"]["nodeSelector"] = {"kubernetes.io/os": "linux", LABEL: HERE}
    template["spec"]["volumes"][0]["configMap"]["name"] = "kube-proxy-nodeprep"
    assert second["spec"] == expected


def test_neither_selector_takes_the_others_pods() -> None:
    original = samples.daemon_set()
    second = second_daemon_set(original, RUN)

    def takes(one: Object, other: Object) -> bool:
        labels = other["spec"]["template"]["metadata"]["labels"]
        return bool(one["spec"]["selector"]["matchLabels"].items() <= labels.items())

    assert takes(original, original)
    assert takes(second, second)
    assert not takes(original, second)
    assert not takes(second, original)


def test_it_is_made_alike_of_an_original_that_is_kept_away_already() -> None:
    original = samples.daemon_set()
    assert second_daemon_set(kept_away(original, RUN), RUN) == second_daemon_set(original, RUN)


def test_the_second_config_map_has_the_new_mode_and_nothing_else_new() -> None:
    original = samples.config_map()
    second = second_config_map(original, Settings(mode="ipvs", scheduler="lc"), RUN)
    said = read(second["data"]["config.conf"])
    assert (said.mode, said.scheduler) == ("ipvs", "lc")
    assert second["data"]["kubeconfig.conf"] == original["data"]["kubeconfig.conf"]
    assert second["metadata"] == {
        "name": "kube-proxy-nodeprep",
        "namespace": "kube-system",
        "labels": {"app": "kube-proxy", "app.kubernetes.io/managed-by": "nodeprep"},
        "annotations": {"nodeprep.io/run": RUN},
    }


def test_an_unknown_kind_of_original_is_refused() -> None:
    other = samples.daemon_set()
    other["spec"]["selector"] = {"matchLabels": {"component": "kube-proxy"}}
    with pytest.raises(UsageError, match="k8s-app=kube-proxy"):
        second_daemon_set(other, RUN)
    other = samples.daemon_set()
    other["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] = "elsewhere"
    with pytest.raises(UsageError, match="no volume from the ConfigMap"):
        second_daemon_set(other, RUN)
    with pytest.raises(UsageError, match=r"no config\.conf"):
        second_config_map({"metadata": {"name": "kube-proxy"}, "data": {}}, Settings(), RUN)


# --- the original in the meantime -----------------------------------------------------------


def matches(term: Object, labels: dict[str, str]) -> bool:
    """Tell whether a term takes a node, as a scheduler judges it; fields are taken for true."""
    expressions = term.get("matchExpressions") or []
    if not expressions and not term.get("matchFields"):
        return False
    judged = {
        "DoesNotExist": lambda e: e["key"] not in labels,
        "Exists": lambda e: e["key"] in labels,
        "In": lambda e: labels.get(e["key"]) in e["values"],
        "NotIn": lambda e: labels.get(e["key"]) not in e["values"],
    }
    return all(judged[each["operator"]](each) for each in expressions)


def takes_node(daemon_set: Object, labels: dict[str, str]) -> bool:
    affinity = daemon_set["spec"]["template"]["spec"].get("affinity") or {}
    required = (affinity.get("nodeAffinity") or {}).get(REQUIRED)
    return not required or any(
        matches(term, labels) for term in required.get("nodeSelectorTerms") or ()
    )


CONDITIONS = st.sampled_from(
    (
        {"key": "zone", "operator": "Exists"},
        {"key": "zone", "operator": "In", "values": ["a", "b"]},
        {"key": "arch", "operator": "NotIn", "values": ["arm64"]},
    )
)
TERMS = st.fixed_dictionaries(
    {},
    optional={
        "matchExpressions": st.lists(CONDITIONS, max_size=2),
        "matchFields": st.just([{"key": "metadata.name", "operator": "In", "values": ["n"]}]),
    },
)
NODE_AFFINITY = st.fixed_dictionaries(
    {},
    optional={
        REQUIRED: st.fixed_dictionaries({"nodeSelectorTerms": st.lists(TERMS, max_size=3)})
        | st.none(),
        "preferredDuringSchedulingIgnoredDuringExecution": st.just(
            [{"weight": 1, "preference": {"matchExpressions": []}}]
        ),
    },
)
AFFINITIES = st.fixed_dictionaries(
    {},
    optional={"nodeAffinity": NODE_AFFINITY | st.none(), "podAntiAffinity": st.just({"x": [1]})},
)
STRATEGIES = st.sampled_from(
    (
        {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%", "maxSurge": 0}},
        {"type": "OnDelete"},
        {},
        None,
    )
)
ANNOTATIONS = st.none() | st.dictionaries(
    st.sampled_from(("a", "nodeprep.io/run", "deprecated.daemonset.template.generation")), st.text()
)


@st.composite
def originals(draw: st.DrawFn) -> Object:
    """Draw a DaemonSet with whatever affinity, strategy and annotations somebody gave it."""
    original = samples.daemon_set(draw(st.sampled_from(RELEASES)))
    homes: list[tuple[Object, str, st.SearchStrategy[Any]]] = [
        (original["spec"], "updateStrategy", STRATEGIES),
        (original["spec"]["template"]["spec"], "affinity", AFFINITIES | st.none()),
        (original["metadata"], "annotations", ANNOTATIONS),
    ]
    for home, key, values in homes:
        home.pop(key, None)
        if draw(st.booleans()):
            home[key] = copy.deepcopy(draw(values))
    return original


@given(originals())
def test_what_was_changed_is_put_back_exactly(original: Object) -> None:
    before = copy.deepcopy(original)
    for change in (held, kept_away):
        changed = json.loads(json.dumps(change(original, RUN)))
        assert changed["spec"]["updateStrategy"] == {"type": "OnDelete"}
        assert restored(changed) == before
    assert original == before


@given(originals())
def test_a_change_of_a_changed_one_still_leads_back(original: Object) -> None:
    assert restored(kept_away(held(original, RUN), "later")) == original
    assert restored(held(kept_away(original, RUN), "later")) == original
    assert kept_away(kept_away(original, RUN), RUN) == kept_away(original, RUN)
    assert restored(original) == original


@given(originals(), st.dictionaries(st.sampled_from(("zone", "arch")), st.sampled_from("ab")))
def test_it_keeps_away_from_labelled_nodes_and_from_no_other(
    original: Object, labels: dict[str, str]
) -> None:
    away = kept_away(original, RUN)
    assert takes_node(away, labels) == takes_node(original, labels)
    assert not takes_node(away, {**labels, LABEL: HERE})
    assert not takes_node(away, {**labels, LABEL: AWAY})


@given(originals())
def test_the_template_can_be_given_back_while_the_pods_still_stay(original: Object) -> None:
    halfway = template_restored(kept_away(original, RUN))
    assert halfway["spec"]["template"] == original["spec"]["template"]
    assert halfway["spec"]["updateStrategy"] == {"type": "OnDelete"}
    assert restored(halfway) == original


def test_an_annotation_that_cannot_be_read_is_refused() -> None:
    broken = held(samples.daemon_set(), RUN)
    for text in ("", "{}", "[]", '{"fields": 1}'):
        broken["metadata"]["annotations"][KEPT] = text
        with pytest.raises(UsageError, match=r"nodeprep\.io/kept"):
            restored(broken)
