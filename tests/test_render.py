"""Templates: what is a value stays a value, and what is missing is an error."""

import jinja2
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.model import KubeProxy
from nodeprep.render import render, systemd_word, template_folder


def test_a_value_is_never_read_as_a_template() -> None:
    text = render("modules-load.conf.j2", {"mark": "x", "modules": ["{{ 7 * 7 }}"]})
    assert "{{ 7 * 7 }}" in text


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="modules"):
        render("modules-load.conf.j2", {"mark": "x"})


def test_every_template_is_found_where_the_package_looks() -> None:
    assert {path.name for path in template_folder().iterdir()} == {
        "bypass-rules.j2",
        "bypass-rules.sh.j2",
        "ipset.j2",
        "ipsets.sh.j2",
        "ipvs.modules.j2",
        "kube-proxy-config.yaml.j2",
        "kube-proxy.service.j2",
        "modules-load.conf.j2",
        "nodeprep-bypass-order.service.j2",
        "nodeprep-bypass-rules.service.j2",
        "nodeprep-ipsets.service.j2",
        "networkd.conf.j2",
        "networkmanager.conf.j2",
        "rbac.yaml",
        "sysctl.conf.j2",
        "unmanaged.network.j2",
    }


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("/usr/local/bin/kube-proxy", "/usr/local/bin/kube-proxy"),
        ("--bind-address=[::]", "--bind-address=[::]"),
        ("100%", "100%%"),
        ("$HOME", "$$HOME"),
        ("a b", '"a b"'),
        ('a"b', '"a\\"b"'),
        ("a\\b", '"a\\\\b"'),
        ("a;b", '"a;b"'),
        ("", '""'),
        (7, "7"),
    ],
)
def test_a_word_of_systemd_is_one_word(value: object, word: str) -> None:
    assert systemd_word(value) == word


# Control characters and separators of lines never get here: the inventory refuses them.
PRINTABLE = st.characters(exclude_categories=("C", "Zl", "Zp"))


@given(st.text(PRINTABLE, max_size=40))
def test_any_printable_text_comes_back_from_yaml_as_it_was(value: str) -> None:
    values = {"mark": "x", "hostname": value, "proxy": KubeProxy(), "feature_gates": {}}
    text = render(
        "kube-proxy-config.yaml.j2", {**values, "knows_strict_arp": True, "knows_nftables": True}
    )
    assert yaml.safe_load(text)["hostnameOverride"] == value
