"""The data plane as text: a row a node that fits a terminal, all figures of one, the sources."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import jsonschema

from nodeprep.dataplane import (
    conntrack,
    judging,
    process,
    reading,
    rules,
    sets,
    tables,
    virtual_servers,
)
from nodeprep.errors import Unreachable
from nodeprep.model import Fact, Facts, Node, Outcome
from nodeprep.report import dataplane as report
from nodeprep.report import json as documents
from tests import facts as recorded

SCHEMA = json.loads(Path(__file__).with_name("result.schema.json").read_text())
SYNC = "kubeproxy_sync_proxy_rules_"
IPTABLES: Mapping[Fact[Any], str] = {
    rules.FACT: recorded.recording(rules.FACT.name, "kube-proxy-1.26")["output"],
    conntrack.FACT: "640\n65536\n",
    process.FACT: "mode iptables\nnow 1000\n"
    'kubernetes_build_info{git_version="v1.26.1"} 1\n'
    f"{SYNC}last_timestamp_seconds 928\n{SYNC}duration_seconds_sum 4.5\n"
    f'{SYNC}duration_seconds_count 10\n{SYNC}duration_seconds_bucket{{le="0.512"}} 10\n',
    sets.FACT: "sets 2 7 0 0\nset mine 7 100\n",
}
IPVS: Mapping[Fact[Any], str] = {
    virtual_servers.FACT: "ipvs 2000 20000 31 5 1 2 7\n"
    "services 4 ports=2000 cluster_ips=2000 endpoints=20000\naddress 10.0.2.15/24\n",
    sets.FACT: "sets 17 2000 17 2000\nset KUBE-CLUSTER-IP 2000 65536\n",
    conntrack.FACT: "62000\n65536\n",
    process.FACT: "mode ipvs\nnow 1000\n",
}
NFTABLES: Mapping[Fact[Any], str] = {
    tables.FACT: recorded.recording(tables.FACT.name, "k3s-2025")["output"],
}


def outcome(name: str, answers: Mapping[Fact[Any], str]) -> Outcome:
    every = {fact: answers.get(fact, "") for fact in reading.FACTS}
    facts = Facts({fact.name: fact.parse(text) for fact, text in every.items()})
    node = Node(name=name, address="192.0.2.1")
    return Outcome(node=node, facts=facts, findings=judging.findings(node, facts))


def lost(name: str) -> Outcome:
    node = Node(name=name, address="192.0.2.1")
    return Outcome(node=node, error=Unreachable("gone", hint="look"))


def shown(*outcomes: Outcome, verbose: bool = False) -> str:
    return click.unstyle(report.shown(outcomes, verbose=verbose))


FLEET = (
    outcome("a1", IPTABLES),
    outcome("b1", IPVS),
    outcome("c1", NFTABLES),
    outcome("d1", {}),
    outcome("d2", {}),
    lost("e1"),
)


# --- a row a node ---------------------------------------------------------------------------


def test_a_fleet_is_a_table_that_fits_a_terminal() -> None:
    lines = shown(*FLEET).splitlines()
    assert lines[:6] == [
        "NODE    MODE      PORTS  ENDPOINTS  RULES  IPVS  NFT  IPSETS  CONNTRACK   SYNC",
        "a1      iptables      7         11  73/82     -    -      7%         0%  1m12s",
        "b1      ipvs       2000      20000      -  2000    -      3%        94%      -",
        "c1      nftables     11         17      -     -   20       -          -      -",
        "d[1-2]  -             -          -      -     -    -       -          -      -",
        "",
    ]
    assert max(map(len, lines[:8])) <= 100


def test_what_is_full_is_said_below_with_what_to_type() -> None:
    text = shown(*FLEET)
    assert "fail  conntrack: 62000 of 65536 (94%)" in text
    assert "type: sysctl -w net.netfilter.nf_conntrack_max=131072" in text
    assert "e1: Unreachable: gone" in text


def test_a_fleet_without_answers_is_only_their_errors() -> None:
    assert shown(lost("e1"), lost("e2")).splitlines() == [
        "e[1-2]: Unreachable: gone",
        "          type: look",
    ]


# --- all figures ----------------------------------------------------------------------------


def test_a_single_node_shows_all_figures_and_their_sources() -> None:
    text = shown(outcome("a1", IPTABLES))
    for line in (
        "mode         iptables (/proxyMode), kube-proxy 1.26",
        "services     IPv4: 7 service ports, 11 endpoints, 2 node ports",
        "IPv4, nft: filter 15 rules (12 kube-proxy's), nat 67 rules (61 kube-proxy's)",
        "ipvs         ip_vs is not loaded",
        "ipsets       2 with 7 entries; 0 kube-proxy's with 0",
        "mine 7 of 100 (7%)",
        "nftables     no table of kube-proxy",
        "conntrack    640 of 65536 (0%)",
        "last sync    1m12s ago; 10 syncs, 0.450 s on average, 99% within 0.512 s",
        "pkg/proxy/iptables/proxier.go: syncProxyRules",
        "leaves out:",
    ):
        assert line in text
    assert "the same in  iptables, in effect: 73 rules, 61 nat rules, 12 filter rules" in text


def test_verbose_shows_them_for_every_node_and_each_source_once() -> None:
    text = shown(*FLEET, verbose=True)
    assert text.count("pkg/proxy/ipvs/proxier.go") == 1
    assert "2000 virtual servers, 20000 backends, 31 active connections; of others 1" in text
    assert "ip: 43 chains, 77 rules, 20 elements" in text
    assert "service-ips 9" in text


def test_a_mode_that_is_only_seen_says_so() -> None:
    assert "nftables (by what is in the kernel: no answer)" in shown(outcome("c1", NFTABLES))


def test_a_nodes_words_cannot_fake_a_line() -> None:
    nasty = {sets.FACT: "sets 1 9 0 0\nset a\x1b[2Jb 9 10\n"}
    text = shown(outcome("a", nasty))
    assert "\x1b" not in text
    assert "\\x1b" in text


# --- as JSON --------------------------------------------------------------------------------


def test_the_document_is_complete_and_has_the_documented_shape() -> None:
    body = json.loads(documents.document("dataplane", FLEET, 4))
    jsonschema.Draft202012Validator(SCHEMA).validate(body)
    planes = {each["name"]: each["data_plane"] for each in body["nodes"]}
    assert planes["e1"] is None
    assert planes["a1"]["estimates"]["iptables"]["costs"]["nat_rules"] == 61
    assert planes["a1"]["process"]["release"] == "1.26"
    assert planes["b1"]["ipvs"]["other_active"] == 7
    assert planes["c1"]["nftables"]["tables"][0]["elements"]["service-ips"] == 9
    ready = {each["name"]: each["ready"] for each in body["nodes"]}
    assert (ready["a1"], ready["b1"], ready["e1"]) == (True, False, None)
