"""What services cost in each mode agrees with what kube-proxy really wrote for them."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.dataplane import estimates, rules, tables
from nodeprep.dataplane.costs import Costs, Setting
from nodeprep.dataplane.estimates import LAYOUTS
from nodeprep.dataplane.services import Services
from nodeprep.model import MODES, Desired, KubeProxy, Mode, Node
from nodeprep.releases import NEWEST, Version
from tests import facts

OLD, NEW = Version(1, 20), Version(1, 28)


def setting(release: Version = NEWEST, *, masquerades: bool = True, places: int = 1) -> Setting:
    return Setting(release=release, masquerades=masquerades, node_addresses={4: places, 6: places})


def costs(mode: Mode, services: Services, around: Setting | None = None) -> Costs:
    every = estimates.estimates((services,), around or setting())
    return next(one.costs for one in every if one.mode == mode)


# --- against what was really written --------------------------------------------------------


def test_iptables_rules_and_chains_are_those_of_a_real_node() -> None:
    real = facts.read(rules.FACT, "kube-proxy-1.26")
    own = {table.name: table.own for table in real.tables}
    (services,) = real.services
    found = costs("iptables", services, setting(Version(1, 26)))
    assert (found["nat_rules"], found["filter_rules"]) == (own["nat"], own["filter"])
    # Of the chains one is kubelet's, KUBE-MARK-DROP, and one is not in the recording, filter's
    # KUBE-PROXY-CANARY.
    assert found["chains"] == sum(table.chains for table in real.tables) - 1 + 1


def test_an_nftables_table_is_that_of_a_real_node() -> None:
    real = facts.read(tables.FACT, "k3s-2025")
    (services,), (table,) = real.services, real.tables
    found = costs("nftables", services, setting(Version(1, 33)))
    assert (found["rules"], found["chains"]) == (table.rules, table.chains)
    assert found["elements"] == table.all_elements - table.elements["nodeport-ips"]


@pytest.mark.parametrize("system", facts.systems("dataplane.rules"))
def test_iptables_rules_agree_wherever_the_real_ones_were_recorded(system: str) -> None:
    real = facts.read(rules.FACT, system)
    release = Version(1, 20) if "1.20" in system else Version(1, 26)
    for services in real.services:
        family = [table for table in real.tables if table.family == services.family]
        own = {table.name: table.own for table in family if table.own}
        found = costs("iptables", services, setting(release))
        assert (found["nat_rules"], found["filter_rules"]) == (own["nat"], own["filter"])


# --- the article's example ------------------------------------------------------------------

# https://kubernetes.io/blog/2018/07/09/ipvs-based-in-cluster-load-balancing-deep-dive: 2,000
# services with 10 pods each, "at least 20,000 iptables records on each worker node".
ARTICLE = Services(family=4, ports=2000, cluster_ips=2000, endpoints=20_000)


def test_the_articles_2000_services_come_to_more_than_its_20000_rules() -> None:
    found = costs("iptables", ARTICLE, setting(NEW))
    to_services, masquerading = 2000, 2000
    choosing, in_endpoint_chains = 20_000, 2 * 20_000
    fixed_in_nat, fixed_in_filter = 8, 12
    growing = to_services + masquerading + choosing + in_endpoint_chains
    assert found["nat_rules"] == growing + fixed_in_nat == 64_008
    assert found["rules"] == growing + fixed_in_nat + fixed_in_filter == 64_020
    assert found["chains"] == 2000 + 20_000 + 12


def test_before_1_24_it_was_as_many_but_for_three() -> None:
    assert costs("iptables", ARTICLE, setting(OLD))["rules"] == 64_017


def test_without_a_cluster_cidr_one_rule_a_service_less_is_written() -> None:
    assert costs("iptables", ARTICLE, setting(NEW, masquerades=False))["rules"] == 62_020


def test_in_ipvs_mode_they_are_2000_virtual_servers() -> None:
    assert costs("ipvs", ARTICLE) == {
        "virtual_servers": 2000,
        "backends": 20_000,
        "set_entries": 2000,
    }


def test_in_nftables_mode_endpoints_cost_rules_up_to_1_35_only() -> None:
    before, now = (costs("nftables", ARTICLE, setting(Version(1, n))) for n in (35, 36))
    assert (before["rules"], before["chains"], before["elements"]) == (44_023, 22_016, 4000)
    assert (now["rules"], now["chains"], now["elements"]) == (2022, 2015, 4000)


# --- what each thing costs ------------------------------------------------------------------

ONE = Services(family=4, ports=1, cluster_ips=1, endpoints=2)


def more(mode: Mode, release: Version, **changes: int) -> dict[str, int]:
    """Return what changes about a service of two endpoints cost beyond it."""
    around = setting(release, places=3)
    before = costs(mode, ONE, around)
    after = costs(mode, dataclasses.replace(ONE, **changes), around)
    return {name: after[name] - before[name] for name in before if after[name] != before[name]}


NODE_PORT = {"node_ports": 1, "node_port_endpoints": 2, "outside": 1}
EXTERNAL = {"addresses": 1, "address_endpoints": 2, "outside": 1}
BALANCER = {**NODE_PORT, "balancers": 1, "address_endpoints": 2}
WALL = {**BALANCER, "firewalled": 1, "sources": 2, "from_node": 1}
IDLE = {"endpoints": 0, "idle": 1}


@pytest.mark.parametrize(
    ("changes", "old", "new"),
    [
        (NODE_PORT, 2, 3),
        (EXTERNAL, 3, 3),
        (BALANCER, 6, 4),
        (WALL, 8, 9),
        ({"sticky": 1, "sticky_endpoints": 2}, 2, 2),
    ],
    ids=["node port", "external IP", "balancer", "source ranges", "affinity"],
)
def test_iptables_rules_of_each_way_in(changes: dict[str, int], old: int, new: int) -> None:
    assert more("iptables", OLD, **changes)["rules"] == old
    assert more("iptables", NEW, **changes)["rules"] == new


def test_a_service_without_endpoints_is_one_rule_in_filter() -> None:
    assert more("iptables", NEW, **IDLE) == {
        "rules": -7,
        "nat_rules": -8,
        "filter_rules": 1,
        "chains": -3,
    }


def test_a_node_port_is_a_virtual_server_at_each_address_of_the_node() -> None:
    assert more("ipvs", OLD, **NODE_PORT) == {
        "virtual_servers": 3,
        "backends": 6,
        "set_entries": 1,
    }


def test_a_balancer_with_ranges_is_one_more_virtual_server_and_entries() -> None:
    found = more("ipvs", OLD, **WALL)
    assert (found["virtual_servers"], found["set_entries"]) == (4, 6)


def test_a_node_port_in_nftables_mode_is_an_element_and_a_chain_of_two_rules() -> None:
    for release in (Version(1, 33), Version(1, 36)):
        assert more("nftables", release, **NODE_PORT) == {
            "rules": 2,
            "chains": 1,
            "elements": 1,
        }


def test_affinity_in_nftables_mode_is_a_set_for_each_endpoint() -> None:
    sticky = {"sticky": 1, "sticky_endpoints": 2}
    assert more("nftables", Version(1, 33), **sticky) == {"rules": 4, "affinity_sets": 2}
    assert more("nftables", Version(1, 36), **sticky) == {
        "rules": 6,
        "chains": 2,
        "affinity_sets": 2,
    }


SUMS = st.builds(
    lambda live, idle, per_port, outside: Services(
        family=4,
        ports=live + idle,
        idle=idle,
        cluster_ips=live + idle,
        endpoints=live * per_port,
        node_ports=min(outside, live),
        node_port_endpoints=min(outside, live) * per_port,
        outside=min(outside, live),
    ),
    *(st.integers(0, 500) for _ in range(2)),
    st.integers(1, 20),
    st.integers(0, 300),
)


@given(services=SUMS, minor=st.integers(14, 40))
def test_two_families_cost_what_each_costs(services: Services, minor: int) -> None:
    around = setting(Version(1, minor))
    six = dataclasses.replace(services, family=6)
    for mode in MODES:
        single = costs(mode, services, around)
        both = next(
            one.costs for one in estimates.estimates((services, six), around) if one.mode == mode
        )
        assert both == {name: 2 * count for name, count in single.items()}


@given(services=SUMS, minor=st.integers(14, 40))
def test_more_endpoints_never_cost_less(services: Services, minor: int) -> None:
    around = setting(Version(1, minor))
    grown = dataclasses.replace(services, endpoints=services.endpoints + 1)
    for mode in MODES:
        before, after = costs(mode, services, around), costs(mode, grown, around)
        assert all(after[name] >= count >= 0 for name, count in before.items())


# --- which layout, which setting ------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "release", "since"),
    [
        ("iptables", Version(1, 23), Version(1, 14)),
        ("iptables", Version(1, 24), Version(1, 24)),
        ("nftables", Version(1, 35), Version(1, 29)),
        ("nftables", NEWEST, Version(1, 36)),
        ("nftables", Version(1, 20), Version(1, 36)),
        ("ipvs", Version(1, 20), Version(1, 14)),
    ],
)
def test_a_release_has_the_layout_that_began_last_before_it(
    mode: Mode, release: Version, since: Version
) -> None:
    assert estimates.layout(mode, release).since == since


def test_every_estimate_names_its_source_and_what_it_leaves_out() -> None:
    for layout in LAYOUTS:
        assert "pkg/proxy/" in layout.sources[0]
        assert layout.leaves_out


ADDRESSES = ("127.0.0.1", "10.0.2.15", "172.17.0.1", "::1", "fe80::1", "2001:db8::1")


def around(release: Version | None, *node_port_addresses: str) -> Setting:
    desired = Desired(kube_proxy=KubeProxy(node_port_addresses=node_port_addresses))
    node = Node(name="a", address="192.0.2.1", desired=desired)
    return estimates.setting(node, release, ADDRESSES, masquerades=True)


def test_node_ports_are_served_at_loopback_too_up_to_1_21() -> None:
    assert around(Version(1, 21)).node_addresses == {4: 3, 6: 2}
    assert around(Version(1, 22)).node_addresses == {4: 2, 6: 1}


def test_node_port_addresses_narrow_them() -> None:
    assert around(None, "10.0.0.0/8").node_addresses == {4: 1, 6: 0}


def test_a_node_whose_addresses_are_not_known_has_one() -> None:
    node = Node(name="a", address="192.0.2.1")
    found = estimates.setting(node, None, (), masquerades=True)
    assert found.node_addresses == {4: 1, 6: 1}


def test_an_unknown_release_counts_as_new() -> None:
    assert around(None).release == NEWEST
