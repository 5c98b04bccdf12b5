"""Kubernetes' own programs: what they are told while they are compiled."""

from pathlib import Path

import pytest

from nodeprep.lab import kubernetes


@pytest.mark.parametrize("name", ["gitVersion=v1.20.2", "gitMajor=1", "gitMinor=20"])
def test_a_program_knows_its_version(name: str) -> None:
    package = "k8s.io/kubernetes/vendor/k8s.io/component-base/version"
    assert f"-X {package}.{name}" in kubernetes.linker_flags()


def test_what_asks_for_a_description_is_found_by_its_place_in_the_vendor_folder(
    tmp_path: Path,
) -> None:
    asks, asks_not = "// +k8s:openapi-gen=true\npackage p\n", "// k8s:openapi-gen\npackage p\n"
    for place, text in {
        "pkg/apis/abac/v0/doc.go": "//+k8s:openapi-gen=false\n",
        "pkg/proxy/proxier.go": asks_not,
        "staging/src/k8s.io/api/core/v1/doc.go": asks,
        "staging/src/k8s.io/api/core/v1/types.go": asks,
        "staging/src/k8s.io/sample-apiserver/pkg/apis/wardle/v1/doc.go": asks,
        "staging/src/k8s.io/code-generator/_examples/apiserver/doc.go": asks,
    }.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_text(text)
    assert kubernetes.described(tmp_path) == ["pkg/apis/abac/v0", "vendor/k8s.io/api/core/v1"]
