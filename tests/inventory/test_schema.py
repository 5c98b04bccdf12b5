"""The JSON Schema agrees with the reader, with the model, with the docs and with the example."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from nodeprep.inventory import json_schema, load
from nodeprep.inventory.schema import Block, FirewallBlock, KubeProxyBlock, SshBlock
from nodeprep.model import Firewall, KubeProxy, Ssh

TOP = Path(__file__).parents[2]
EXAMPLE = TOP / "inventory.example.yaml"
DOCS = TOP / "docs" / "inventory.md"


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(json_schema())


def properties() -> list[tuple[str, dict[str, Any]]]:
    schema = json_schema()
    blocks = [schema, *schema["$defs"].values()]
    return [pair for block in blocks for pair in block.get("properties", {}).items()]


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_the_example_conforms_and_loads() -> None:
    validator().validate(yaml.safe_load(EXAMPLE.read_text()))
    assert len(load(EXAMPLE).nodes) == 42


@pytest.mark.parametrize("key", sorted({key for key, _ in properties()}))
def test_every_setting_is_in_the_example(key: str) -> None:
    assert f"{key}:" in EXAMPLE.read_text()


@pytest.mark.parametrize(("key", "schema"), properties())
def test_every_setting_is_described_in_the_docs_word_by_word(
    key: str, schema: dict[str, Any]
) -> None:
    assert schema["description"] in DOCS.read_text()
    assert f"| `{key}` |" in DOCS.read_text()


@pytest.mark.parametrize(
    "text",
    [
        "nodes: []",
        "nodes: [{}]",
        "nodes: [{name: a, nam: b}]",
        "nodes: [{name: -a}]",
        "nodes: [{name: 5}]",
        "nodes: [{name: a, sudo: root}]",
        "nodes: [{name: a, sudo: {password: x}}]",
        "nodes: [{name: a, sudo: {password: {}}}]",
        "nodes: [{name: a, ssh: {port: 0}}]",
        "nodes: [{name: a, ssh: {user: -x}}]",
        "nodes: [{name: a, labels: {r: a b}}]",
        "nodes: [{name: a, labels: {-r: a}}]",
        "nodes: [{name: a, sysctls: {net: 1}}]",
        "nodes: [{name: a, sysctls: {a.b: {}}}]",
        "nodes: [{name: a, kube_proxy: {mode: ivps}}]",
        "nodes: [{name: a, kube_proxy: {unit: /etc/x}}]",
        "nodes: [{name: a}]\ngroups: {g: 5}",
        "{nodes: [{name: a}], node: 1}",
    ],
)
def test_an_editor_sees_what_is_wrong(text: str) -> None:
    assert not validator().is_valid(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("block", "model"), [(KubeProxyBlock, KubeProxy), (SshBlock, Ssh), (FirewallBlock, Firewall)]
)
def test_blocks_and_model_have_the_same_fields(
    block: type[Block], model: type[KubeProxy | Ssh | Firewall]
) -> None:
    not_written = {"kubeconfig_content"}  # read by the runner from kubeconfig_from
    assert set(block.model_fields) == {field.name for field in fields(model)} - not_written
