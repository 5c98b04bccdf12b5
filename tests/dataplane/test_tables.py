"""kube-proxy's tables of nftables: chains, rules and elements as nft's own JSON has them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodeprep.dataplane import tables
from nodeprep.dataplane.services import Services
from nodeprep.dataplane.tables import Nftables, NftTable
from tests.dataplane.namespaces import NEEDS_NAMESPACES, inside, sample
from tests.rollout.test_artefacts import SAMPLES, Kernel
from tests.shells import complaints

JSON = "\necho json; nft -j list table ip kube-proxy\n"


def loaded(text: str, shell: str = "dash") -> tuple[Nftables, Counter[str]]:
    """Return what is counted where nft has loaded ``text``, and what nft's own JSON says."""
    said = inside('nft -f "$given"', tables.SCRIPT + JSON, shell=shell, given=text)
    ours, _, document = said.partition("json\n")
    return tables.parse(ours), by_nft(json.loads(document)["nftables"])


def by_nft(objects: list[dict[str, Any]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for each in objects:
        ((kind, what),) = each.items()
        counts[kind] += 1
        if kind in ("set", "map"):
            counts[what["name"]] = len(what.get("elem", ()))
    return counts


def only(found: Nftables) -> NftTable:
    return next(table for table in found.tables if table.family == "ip")


# --- counting -------------------------------------------------------------------------------


@NEEDS_NAMESPACES
@pytest.mark.parametrize(
    "text",
    [sample("nftables-k3s.nft"), (SAMPLES / "nftables-1.33.nft").read_text()],
    ids=["k3s", "1.33"],
)
def test_a_table_agrees_with_nfts_own_json(text: str, shell: str) -> None:
    found, truth = loaded(text, shell)
    table = only(found)
    assert (table.chains, table.rules) == (truth["chain"], truth["rule"])
    assert dict(table.elements) == {name: truth[name] for name in table.elements}
    assert len(table.elements) == truth["set"] + truth["map"]


ADDRESSES = st.integers(1, 254).map("10.96.0.{}".format)
PORTS = st.integers(1, 65535)
SERVED = st.dictionaries(
    st.tuples(ADDRESSES, st.sampled_from(["tcp", "udp"]), PORTS), st.integers(0, 5), max_size=12
)


def written(services: dict[tuple[str, str, int], int], clients: list[int]) -> str:
    """Write a table as kube-proxy does; the number of a service is that of its endpoints."""
    lines = [
        "table ip kube-proxy {",
        "map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }",
        "map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; }",
        'set cluster-ips { type ipv4_addr; comment "Active ClusterIPs"; }',
        "set affinity-A { type ipv4_addr; flags dynamic,timeout; timeout 3h; }",
        'chain reject-chain { comment "helper"; reject; }',
    ]
    elements = []
    for number, ((address, protocol, port), endpoints) in enumerate(services.items()):
        key = f"{address} . {protocol} . {port}"
        elements.append(f"add element ip kube-proxy cluster-ips {{ {address} }}")
        if not endpoints:
            more = f'{key} comment "a/b{number}" : goto reject-chain'
            elements.append(f"add element ip kube-proxy no-endpoint-services {{ {more} }}")
            continue
        chosen = ", ".join(f"{n} : goto endpoint-{n}-A/s{number}" for n in range(endpoints))
        lines += [
            f"chain endpoint-{n}-A/s{number} {{"
            f" meta l4proto {protocol} dnat to 10.0.0.{n + 1}:80; }}"
            for n in range(endpoints)
        ]
        lines.append(
            f"chain service-A-a/s{number} {{ numgen random mod {endpoints} vmap {{ {chosen} }}; }}"
        )
        elements.append(
            f"add element ip kube-proxy service-ips {{ {key} : goto service-A-a/s{number} }}"
        )
    elements += [f"add element ip kube-proxy affinity-A {{ 10.1.0.{n} }}" for n in clients]
    return "\n".join([*lines, "}", *elements])


@NEEDS_NAMESPACES
@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(services=SERVED, clients=st.lists(st.integers(1, 250), unique=True, max_size=9))
def test_any_table_that_nft_loads_is_counted_right(
    services: dict[tuple[str, str, int], int], clients: list[int]
) -> None:
    found, truth = loaded(written(services, clients))
    table = only(found)
    assert (table.chains, table.rules) == (truth["chain"], truth["rule"])
    assert (table.affinity_sets, table.affinity_elements) == (1, len(clients))
    assert dict(table.elements) == {name: truth[name] for name in table.elements}
    ports, endpoints = len(services), sum(services.values())
    idle = sum(not count for count in services.values())
    sums = [(one.ports, one.idle, one.endpoints) for one in found.services]
    assert sums == ([(ports, idle, endpoints)] if services else [])


# --- services -------------------------------------------------------------------------------


@NEEDS_NAMESPACES
def test_a_real_nodes_services_are_derived_from_its_table(shell: str) -> None:
    found, _ = loaded(sample("nftables-k3s.nft"), shell)
    assert found.masquerades
    assert found.services == (
        Services(
            family=4,
            ports=11,
            idle=2,
            cluster_ips=7,
            endpoints=17,
            node_ports=1,
            node_port_endpoints=9,
            outside=1,
        ),
    )


def of_listing(folder: Path, shell: str, text: str) -> Nftables:
    """Return what is counted of a listing that nft would give."""
    said = {"nft list tables": "table ip kube-proxy\n", "nft list table ip kube-proxy": text}
    kernel = Kernel(folder=folder, shell=shell, said=said)
    return tables.parse(kernel.run(tables.SCRIPT))


def test_endpoints_are_seen_where_1_36_keeps_them_in_a_map(tmp_path: Path, shell: str) -> None:
    found = of_listing(tmp_path, shell, sample("nftables-1.36.listing"))
    (services,) = found.services
    assert found.masquerades
    assert (services.ports, services.endpoints, services.cluster_ips) == (2, 3, 2)


def test_every_kind_of_way_in_is_known(tmp_path: Path, shell: str) -> None:
    (services,) = of_listing(tmp_path, shell, sample("ways-in.listing")).services
    assert services == Services(
        family=4,
        ports=1,
        cluster_ips=1,
        endpoints=2,
        sticky=1,
        sticky_endpoints=2,
        addresses=3,
        idle_addresses=1,
        address_endpoints=2,
        outside=1,
        local=1,
        local_endpoints=1,
        firewalled=1,
        sources=2,
        from_node=1,
    )


# --- care -----------------------------------------------------------------------------------


def test_a_listing_that_fails_in_the_middle_is_told_as_not_read(tmp_path: Path, shell: str) -> None:
    cut = "\n".join(sample("nftables-k3s.nft").splitlines()[:60])
    said = {"nft list tables": "table ip kube-proxy\n", "nft list table ip kube-proxy": cut}
    kernel = Kernel(folder=tmp_path, shell=shell, said=said)
    script = tables.SCRIPT.replace("kube-proxy 2>/dev/null ||", "kube-proxy; false ||")
    assert script != tables.SCRIPT
    found = tables.parse(kernel.run(script))
    assert found == Nftables(tables=(NftTable(family="ip", read=False),))


def test_other_tables_are_not_listed(tmp_path: Path) -> None:
    kernel = Kernel(folder=tmp_path, said={"nft list tables": "table inet mine\ntable ip nat\n"})
    assert tables.parse(kernel.run(tables.SCRIPT)) == Nftables()
    assert kernel.calls == ["nft list tables"]


def test_the_script_is_clean_shell() -> None:
    assert complaints(tables.SCRIPT + "\n") == ""
