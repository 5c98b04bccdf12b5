"""Two tellings of a node's data plane: what `dataplane` says, and what the node's own tools say."""

import json
import re
from collections import Counter
from typing import Any

from nodeprep import ipvs
from tests.dataplane.test_rules import by_hand
from tests.dataplane.test_tables import by_nft
from tests.e2e.operator_of import Operator
from tests.e2e.serving import foreign, held

# kubernetes and the seven of nodeprep.lab.objects, all but kubernetes with two endpoints.
SERVED = {
    "family": 4,
    "ports": 8,
    "idle": 1,
    "endpoints": 13,
    "sticky": 1,
    "sticky_endpoints": 2,
    "node_ports": 2,
    "node_port_endpoints": 4,
    "address_endpoints": 4,
    "outside": 3,
    "local": 0,
    "firewalled": 1,
    "sources": 2,
    "from_node": 1,
}
SYNC = "kubeproxy_sync_proxy_rules_last_timestamp_seconds"


def weighed(node: Operator) -> Any:
    said = node.nodeprep("dataplane", "--output", "json").check(0).json()
    return said["nodes"][0]["data_plane"]


def served(plane: Any) -> dict[str, int]:
    (services,) = plane["services"]
    return {name: services[name] for name in SERVED}


def own_by_hand(text: str) -> Counter[str]:
    """Count kube-proxy's rules by table: no kubelet is here, and no rule that only looks so."""
    counts: Counter[str] = Counter()
    table = ""
    for line in text.splitlines():
        table = line[1:] if line.startswith("*") else table
        counts[table] += bool(re.match(r"-A KUBE-|-A [A-Z]+ .* -j KUBE-[A-Z-]+$", line))
    return counts


def own(plane: Any) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for table in plane["iptables"]["tables"]:
        counts[table["name"]] += table["own"]
    return dict(counts)


def costs(plane: Any, mode: str) -> dict[str, int]:
    return dict(plane["estimates"][mode]["costs"])


def synced(node: Operator) -> float:
    text = node.ask(f"curl -s http://127.0.0.1:10249/metrics | grep '^{SYNC}'")
    return float(text.split()[1])


def sets_by_hand(node: Operator) -> tuple[int, int, int]:
    """Return how many sets there are, their entries, and those that no estimate covers."""
    text = node.ask("ipset save")
    lines = [line.split()[:2] for line in text.splitlines()]
    beyond = sum(verb == "add" and name in ("KUBE-LOOP-BACK", "MINE") for verb, name in lines)
    verbs = Counter(verb for verb, _ in lines)
    return verbs["create"], verbs["add"], beyond


def looking_changes_nothing(serving: Operator) -> None:
    before = foreign(serving), serving.tree()
    # Asked last, and first: the observer's own look at the legacy backend loads its tables.
    modules = serving.ask("lsmod | cut -d' ' -f1 | sort")
    weighed(serving)
    assert serving.ask("lsmod | cut -d' ' -f1 | sort") == modules
    assert (foreign(serving), serving.tree()) == before


def agrees_with_iptables_save(serving: Operator, in_iptables: Any) -> None:
    assert (in_iptables["mode"], in_iptables["mode_said"]) == ("iptables", True)
    assert in_iptables["process"]["release"] == "1.20"
    for backend in ("nft", "legacy"):
        text = serving.ask(f"iptables-{backend}-save")
        tables = [t for t in in_iptables["iptables"]["tables"] if t["family"] == 4]
        counted = {t["name"]: t["rules"] for t in tables if t["backend"] == backend and t["rules"]}
        assert counted == by_hand(text)
    text = serving.ask("iptables-nft-save")
    assert Counter(own(in_iptables)) == own_by_hand(text)
    assert served(in_iptables) == SERVED


def conntrack_and_sync_are_the_nodes_own(serving: Operator) -> None:
    before = synced(serving)
    plane = weighed(serving)
    assert plane["process"]["synced"][""] in (before, synced(serving))
    assert plane["process"]["syncs"] > 0
    maximum = serving.ask("cat /proc/sys/net/netfilter/nf_conntrack_max")
    assert plane["conntrack"]["maximum"] == int(maximum)
    assert plane["conntrack"]["used"] > 0


def estimates_what_is_there(in_iptables: Any) -> None:
    found = costs(in_iptables, "iptables")
    assert {"nat": found["nat_rules"], "filter": found["filter_rules"]} == {
        name: count for name, count in own(in_iptables).items() if count
    }


def agrees_with_ipvsadm_and_ipset(serving: Operator, in_iptables: Any) -> None:
    with held(serving):
        plane = weighed(serving)
        table = ipvs.parse(serving.ask("ipvsadm -Ln"))
    assert plane["mode"] == "ipvs"
    theirs = [server for server in table if server.address.startswith("192.0.2.")]
    ours = [server for server in table if server not in theirs]
    seen = plane["ipvs"]
    assert (seen["servers"], seen["other_servers"]) == (len(ours), len(theirs)) == (len(ours), 1)
    backends = [real for server in ours for real in server.real_servers]
    assert (seen["backends"], seen["active"]) == (len(backends), sum(b.active for b in backends))
    assert seen["active"] >= 1
    sets, entries, beyond = sets_by_hand(serving)
    assert (plane["sets"]["sets"], plane["sets"]["entries"]) == (sets, entries)
    assert served(plane) == SERVED
    # What was estimated before is what came, and what was there before is what is estimated now.
    for earlier in (plane, in_iptables):
        found = costs(earlier, "ipvs")
        assert (found["virtual_servers"], found["backends"]) == (len(ours), len(backends))
        assert found["set_entries"] == entries - beyond
    found = costs(plane, "iptables")
    assert (found["nat_rules"], found["filter_rules"]) == (
        own(in_iptables)["nat"],
        own(in_iptables)["filter"],
    )


def fails_where_conntrack_or_a_set_is_full(serving: Operator) -> None:
    kept = serving.ask("cat /proc/sys/net/netfilter/nf_conntrack_max").strip()
    serving.ask("ipset create FULL hash:ip maxelem 1; ipset add FULL 192.0.2.3")
    # Datagrams that nobody answers fill the table; 7% stay free for this test's own sessions.
    serving.ask(
        "sysctl -q -w net.netfilter.nf_conntrack_udp_timeout=600; bash -c '"
        "for port in $(seq 20000 20999); do echo x >/dev/udp/192.0.2.4/$port; done'; "
        "read -r used </proc/sys/net/netfilter/nf_conntrack_count; "
        "sysctl -q -w net.netfilter.nf_conntrack_max=$((used * 100 / 93))"
    )
    try:
        run = serving.nodeprep("dataplane").check(1)
    finally:
        serving.ask(f"sysctl -q -w net.netfilter.nf_conntrack_max={kept}; ipset destroy FULL")
        serving.ask("sysctl -q -w net.netfilter.nf_conntrack_udp_timeout=30; conntrack -D -p udp")
    assert "fail  conntrack" in run.out
    assert "fail  ipset FULL: 1 of 1 (100%)" in run.out
    serving.nodeprep("dataplane").check(0)


def agrees_with_nfts_own_json(serving: Operator) -> None:
    plane = weighed(serving)
    assert plane["mode"] == "nftables"
    truth = by_nft(json.loads(serving.ask("nft -j list table ip kube-proxy"))["nftables"])
    (table,) = [each for each in plane["nftables"]["tables"] if each["family"] == "ip"]
    assert (table["chains"], table["rules"]) == (truth["chain"], truth["rule"])
    assert table["elements"] == {name: truth[name] for name in table["elements"]}
    assert table["affinity_sets"] == 2
    found = served(plane)
    assert {name: found[name] for name in ("ports", "idle", "endpoints")} == {
        "ports": 8,
        "idle": 1,
        "endpoints": 13,
    }
