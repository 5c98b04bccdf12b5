"""The rights in the manifest cover what kubectl is asked to do, and no more than that."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from nodeprep import cli
from nodeprep.render import template_folder

VERIFY, SWITCH, DRAIN = "nodeprep-verify", "nodeprep-switch", "nodeprep-drain"
NAMES = ("kube-proxy", "kube-proxy-nodeprep")


def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((template_folder() / "rbac.yaml").read_text()))


def rules(*roles: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for document in documents():
        if document["kind"] in ("Role", "ClusterRole") and document["metadata"]["name"] in roles:
            yield from ((document["kind"], rule) for rule in document["rules"])


def may(roles: tuple[str, ...], verb: str, resource: str, name: str = "", where: str = "") -> bool:
    """Tell whether roles let one do it; ``where`` is a namespace, and empty for the cluster."""
    return any(
        verb in rule["verbs"]
        and resource in rule["resources"]
        and (not rule.get("resourceNames") or name in rule["resourceNames"])
        and (kind == "ClusterRole" or where == "kube-system")
        for kind, rule in rules(*roles)
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["configmaps", "daemonsets"])
def test_verify_may_read_kube_proxys_objects_by_name_and_change_none(kind: str, name: str) -> None:
    assert may((VERIFY,), "get", kind, name, "kube-system")
    assert not may((VERIFY,), "get", kind, "another", "kube-system")
    assert not may((VERIFY,), "list", kind, "", "kube-system")
    for verb in ("create", "update", "patch", "delete"):
        assert not may((VERIFY,), verb, kind, name, "kube-system")


def test_verify_may_list_nodes_and_kube_systems_pods() -> None:
    assert may((VERIFY,), "list", "nodes")
    assert may((VERIFY,), "list", "pods", "", "kube-system")
    assert not may((VERIFY,), "list", "pods", "", "default")
    assert may((VERIFY,), "get", "leases", "nodeprep-switch", "kube-system")


def test_a_switch_may_not_delete_the_original() -> None:
    for kind in ("configmaps", "daemonsets"):
        assert may((SWITCH,), "update", kind, "kube-proxy", "kube-system")
        assert not may((SWITCH,), "delete", kind, "kube-proxy", "kube-system")
        assert may((SWITCH,), "delete", kind, "kube-proxy-nodeprep", "kube-system")
        assert may((SWITCH,), "create", kind, "", "kube-system")
        assert not may((SWITCH,), "create", kind, "", "default")


def test_no_role_reads_a_secret_or_has_a_right_to_everything() -> None:
    for _, rule in rules(VERIFY, SWITCH, DRAIN):
        assert "secrets" not in rule["resources"]
        assert "*" not in (*rule["resources"], *rule["verbs"], *rule["apiGroups"])


def test_only_the_reading_role_is_bound_already() -> None:
    bound = {d["roleRef"]["name"] for d in documents() if d["kind"].endswith("Binding")}
    assert bound == {VERIFY}


def test_a_command_prints_it() -> None:
    printed = CliRunner().invoke(cli.nodeprep, ["rbac"])
    assert printed.exit_code == 0
    assert printed.output == (template_folder() / "rbac.yaml").read_text()
