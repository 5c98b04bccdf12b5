"""The rules of iptables are counted on the node, kube-proxy's apart, and lead to its services."""

import base64
import hashlib
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodeprep.dataplane import estimates, rules
from nodeprep.dataplane.costs import Setting
from nodeprep.dataplane.rules import Iptables, Table
from nodeprep.dataplane.services import Services
from nodeprep.releases import Version
from tests.dataplane.namespaces import NEEDS_NAMESPACES, inside, sample
from tests.rollout.test_artefacts import Kernel
from tests.rollout.test_artefacts import sample as older_sample
from tests.shells import complaints

BACKENDS = ("nft", "legacy")


def loaded(text: str, backend: str, *, shell: str = "dash", six: str = "") -> Iptables:
    """Return what is counted where the real iptables-restore of a backend has loaded ``text``."""
    restore = f'ip{six}tables-{backend}-restore <"$given"'
    return rules.parse(inside(restore, rules.SCRIPT, shell=shell, given=text))


def by_hand(text: str) -> dict[str, int]:
    """Count the rules of each table in what iptables-save wrote."""
    counts: Counter[str] = Counter()
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:]
        counts[table] += line.startswith("-A ")
    return {table: count for table, count in counts.items() if count}


def counted(found: Iptables) -> dict[str, int]:
    return {table.name: table.rules for table in found.tables if table.rules}


# --- counting -------------------------------------------------------------------------------


@NEEDS_NAMESPACES
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_real_nodes_rules_agree_with_counting_by_hand(backend: str, shell: str) -> None:
    text = sample("iptables-1.26.rules")
    found = loaded(text, backend, shell=shell)
    assert counted(found) == by_hand(text)
    assert {table.backend for table in found.tables} == {backend}
    own = {table.name: table.own for table in found.tables}
    # Of 67 in nat, 6 are flannel's; of 15 in filter, 3.
    assert own == {"nat": 61, "filter": 12, "mangle": 0}
    assert (found.rules, found.own) == (82, 73)


@NEEDS_NAMESPACES
def test_both_families_and_both_backends_are_told_apart() -> None:
    setup = (
        "iptables-nft -A INPUT -j ACCEPT; ip6tables-nft -A INPUT -j ACCEPT\n"
        "ip6tables-nft -A OUTPUT -j DROP; iptables-legacy -t nat -A PREROUTING -j ACCEPT\n"
        "ip6tables-legacy -t mangle -A INPUT -j ACCEPT\n"
    )
    found = rules.parse(inside(setup, rules.SCRIPT))
    counts = {(t.backend, t.family, t.name): t.rules for t in found.tables if t.rules}
    assert counts == {
        ("nft", 4, "filter"): 1,
        ("nft", 6, "filter"): 2,
        ("legacy", 4, "nat"): 1,
        ("legacy", 6, "mangle"): 1,
    }
    assert found.own == 0


NAMES = st.sampled_from(
    [
        "KUBE-SERVICES",
        "KUBE-SVC-ERIFXISQEP7F7OF4",
        "KUBE-SEP-IT2ZTR26TO4XFPTO",
        "KUBE-SVC-too-short",
        "KUBE-FOO",
        "KUBE-FIREWALL",
        "MINE",
    ]
)
# In nat KUBE-FIREWALL is of ipvs mode; in filter it is kubelet's.
OWN = {
    "KUBE-SERVICES",
    "KUBE-SVC-ERIFXISQEP7F7OF4",
    "KUBE-SEP-IT2ZTR26TO4XFPTO",
    "KUBE-FIREWALL",
}
BODIES = st.sampled_from(
    [
        "-j ACCEPT",
        "-d 10.96.0.1/32 -j RETURN",
        '-m comment --comment "-A KUBE-SERVICES -j KUBE-SVC-ERIFXISQEP7F7OF4" -j ACCEPT',
        '-m comment --comment "COMMIT" -j ACCEPT',
        "-p tcp -m tcp --dport 80 -j MARK --set-xmark 0x4000/0x4000",
    ]
)
CHAINS = st.dictionaries(NAMES, st.lists(BODIES, max_size=6), max_size=5)


@NEEDS_NAMESPACES
@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(chains=CHAINS, foreign=st.integers(0, 5), entered=st.booleans())
def test_any_rules_that_the_real_tool_loads_are_counted_right(
    backend: str, chains: dict[str, list[str]], foreign: int, *, entered: bool
) -> None:
    enters = entered and "KUBE-SERVICES" in chains
    lines = [f":{name} - [0:0]" for name in chains]
    lines += [f"-A {name} {body}" for name, bodies in chains.items() for body in bodies]
    lines += ["-A OUTPUT -d 192.0.2.1/32 -j ACCEPT"] * foreign
    if enters:
        hook = '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
        lines += [f"-A PREROUTING {hook}"]
    found = loaded("\n".join(["*nat", *lines, "COMMIT"]), backend)
    # iptables-nft prints no table that nobody has written to.
    empty = Table(backend=backend, family=4, name="nat", rules=0, own=0, chains=0)
    nat = next((table for table in found.tables if table.name == "nat"), empty)
    assert nat.rules == sum(line.startswith("-A ") for line in lines)
    assert nat.own == enters + sum(len(bodies) for name, bodies in chains.items() if name in OWN)
    assert nat.chains == len(OWN & chains.keys())


def crowded(services: int, pods: int) -> Iterator[str]:
    """Yield the nat rules that kube-proxy 1.28 writes for so many services of so many pods."""
    yield "*nat"
    for name in ("SERVICES", "NODEPORTS", "POSTROUTING", "MARK-MASQ", "PROXY-CANARY"):
        yield f":KUBE-{name} - [0:0]"
    for name, to in (("PREROUTING", "SERVICES"), ("OUTPUT", "SERVICES")):
        yield f'-A {name} -m comment --comment "kubernetes service portals" -j KUBE-{to}'
    hook = '-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING'
    yield f"-A POSTROUTING {hook}"
    yield "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000"
    yield "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN"
    yield "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0"
    yield "-A KUBE-POSTROUTING -j MASQUERADE"
    for service in range(services):
        yield from _crowd(service, pods)
    yield "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"
    yield "COMMIT"


def _crowd(service: int, pods: int) -> Iterator[str]:
    chain = f"KUBE-SVC-{_hash(service)}"
    there = f"-d 10.96.{service // 256}.{service % 256}/32 -p tcp"
    named = f'-m comment --comment "a/s{service} cluster IP" -m tcp --dport 80'
    yield f":{chain} - [0:0]"
    yield f"-A KUBE-SERVICES {there} {named} -j {chain}"
    yield f"-A {chain} ! -s 10.244.0.0/16 {there} {named} -j KUBE-MARK-MASQ"
    for pod in range(pods):
        endpoint = f"KUBE-SEP-{_hash(1_000_000 + service * pods + pod)}"
        chance = f"-m statistic --mode random --probability {1 / (pods - pod):.11f}"
        yield f":{endpoint} - [0:0]"
        yield f"-A {chain} {chance if pod < pods - 1 else ''} -j {endpoint}"
        yield f"-A {endpoint} -s 10.244.0.{pod + 1}/32 -j KUBE-MARK-MASQ"
        yield f"-A {endpoint} -p tcp -m tcp -j DNAT --to-destination 10.244.0.{pod + 1}:80"


def _hash(number: int) -> str:
    return base64.b32encode(hashlib.sha256(str(number).encode()).digest())[:16].decode()


@NEEDS_NAMESPACES
def test_2000_services_of_10_pods_are_counted_and_come_home_as_sums() -> None:
    text = "\n".join(crowded(2000, 10))
    said = inside('iptables-nft-restore <"$given"', rules.SCRIPT, given=text)
    found = rules.parse(said)
    (services,) = found.services
    assert (services.ports, services.endpoints) == (2000, 20_000)
    around = Setting(
        release=Version(1, 28), masquerades=found.masquerades, node_addresses={4: 1, 6: 1}
    )
    estimated = next(one for one in estimates.estimates([services], around))
    assert found.own == estimated.costs["nat_rules"] == 64_008
    assert len(said) < 500


def test_what_cannot_be_read_is_named(tmp_path: Path, shell: str) -> None:
    told = "# Table `nat' is incompatible, use 'nft' tool.\n"
    kernel = Kernel(folder=tmp_path, shell=shell, said={"iptables-nft-save": told})
    assert rules.parse(kernel.run(rules.SCRIPT)).unreadable == ("nat (IPv4, nft backend)",)


def test_rules_that_stop_in_the_middle_serve_nothing(tmp_path: Path, shell: str) -> None:
    cut = "\n".join(older_sample("iptables-1.30.rules").splitlines()[:70])
    kernel = Kernel(folder=tmp_path, shell=shell, said={"iptables-nft-save": f"{cut}\n# unread\n"})
    found = rules.parse(kernel.run(rules.SCRIPT))
    assert (found.services, found.unreadable) == ((), ("all (IPv4, nft backend)",))


def test_looking_runs_no_program_whose_module_it_would_load(tmp_path: Path, shell: str) -> None:
    kernel = Kernel(folder=tmp_path, shell=shell)
    modules = tmp_path / "lib" / subprocess.check_output(("uname", "-r"), text=True).strip()
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text("kernel/net/netfilter/nf_tables.ko: x.ko\n")
    assert rules.parse(kernel.run(rules.SCRIPT)) == Iptables()
    assert kernel.calls == []


def test_few_programs_run_however_many_rules_there_are(tmp_path: Path) -> None:
    many = "*nat\n" + "-A OUTPUT -j ACCEPT\n" * 20_000 + "COMMIT\n"
    kernel = Kernel(folder=tmp_path, said={"iptables-nft-save": many})
    text = kernel.run(rules.SCRIPT)
    assert rules.parse(text).rules == 20_000
    assert len(kernel.calls) == 2
    assert len(text) < 100


# --- services -------------------------------------------------------------------------------


@NEEDS_NAMESPACES
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_real_nodes_services_are_derived_from_its_rules(backend: str) -> None:
    (services,) = loaded(sample("iptables-1.26.rules"), backend).services
    assert services == Services(
        family=4,
        ports=7,
        cluster_ips=5,
        endpoints=11,
        node_ports=2,
        node_port_endpoints=3,
        outside=2,
    )


def served(folder: Path, shell: str, text: str) -> Services:
    kernel = Kernel(folder=folder, shell=shell, said={"iptables-nft-save": text})
    (services,) = rules.parse(kernel.run(rules.SCRIPT)).services
    return services


def test_every_kind_of_service_is_known_as_1_20_writes_it(tmp_path: Path, shell: str) -> None:
    assert served(tmp_path, shell, older_sample("iptables-1.20.rules")) == Services(
        family=4,
        ports=5,
        idle=1,
        cluster_ips=4,
        endpoints=5,
        sticky=1,
        sticky_endpoints=1,
        balancers=1,
        address_endpoints=1,
        node_ports=3,
        idle_node_ports=1,
        node_port_endpoints=2,
        outside=2,
        local=1,
        local_endpoints=1,
        firewalled=1,
        sources=1,
        health=1,
    )


def test_every_kind_of_service_is_known_as_1_30_writes_it(tmp_path: Path, shell: str) -> None:
    found = served(tmp_path, shell, older_sample("iptables-1.30.rules"))
    assert (found.ports, found.idle, found.endpoints) == (5, 1, 5)
    assert (found.local, found.local_endpoints, found.health) == (1, 1, 1)
    assert (found.balancers, found.node_ports, found.idle_node_ports) == (1, 3, 1)


FIREWALLED = """\
*nat
:KUBE-SERVICES - [0:0]
:KUBE-FW-ERIFXISQEP7F7OF4 - [0:0]
:KUBE-EXT-ERIFXISQEP7F7OF4 - [0:0]
:KUBE-SVC-ERIFXISQEP7F7OF4 - [0:0]
-A KUBE-FW-ERIFXISQEP7F7OF4 -s 10.0.2.0/24 -m comment --comment "a/b loadbalancer IP" -j \
KUBE-EXT-ERIFXISQEP7F7OF4
-A KUBE-FW-ERIFXISQEP7F7OF4 -s 10.244.0.0/16 -m comment --comment "a/b loadbalancer IP" -j \
KUBE-EXT-ERIFXISQEP7F7OF4
-A KUBE-FW-ERIFXISQEP7F7OF4 -s 203.0.113.6/32 -m comment --comment "a/b loadbalancer IP" -j \
KUBE-EXT-ERIFXISQEP7F7OF4
-A KUBE-FW-ERIFXISQEP7F7OF4 -m comment --comment "other traffic to a/b will be dropped by \
KUBE-PROXY-FIREWALL"
-A KUBE-SERVICES -d 10.96.0.9/32 -p tcp -m comment --comment "a/b cluster IP" -m tcp --dport 80 \
-j KUBE-SVC-ERIFXISQEP7F7OF4
-A KUBE-SERVICES -d 203.0.113.6/32 -p tcp -m comment --comment "a/b loadbalancer IP" -m tcp \
--dport 80 -j KUBE-FW-ERIFXISQEP7F7OF4
COMMIT
"""


def test_source_ranges_are_told_from_what_lets_the_node_itself_in(
    tmp_path: Path, shell: str
) -> None:
    found = served(tmp_path, shell, FIREWALLED)
    assert (found.balancers, found.firewalled, found.sources, found.from_node) == (1, 1, 2, 1)


@pytest.mark.parametrize(
    ("name", "masquerades"),
    [
        ("iptables-1.20.rules", True),
        ("iptables-1.30.rules", True),
        ("ipvs-1.20.rules", True),
        ("ipvs-1.30.rules", True),
        ("foreign.rules", False),
    ],
)
def test_it_is_seen_whether_traffic_from_outside_is_masqueraded(
    tmp_path: Path, shell: str, name: str, *, masquerades: bool
) -> None:
    kernel = Kernel(folder=tmp_path, shell=shell, said={"iptables-nft-save": older_sample(name)})
    assert rules.parse(kernel.run(rules.SCRIPT)).masquerades is masquerades


def test_without_the_clusters_addresses_ipvs_mode_masquerades_only_what_it_must(
    tmp_path: Path,
) -> None:
    text = older_sample("ipvs-1.20.rules").replace(
        "KUBE-CLUSTER-IP dst,dst", "KUBE-CLUSTER-IP src,dst"
    )
    kernel = Kernel(folder=tmp_path, said={"iptables-nft-save": text})
    assert not rules.parse(kernel.run(rules.SCRIPT)).masquerades


def test_rules_without_services_serve_none() -> None:
    assert rules.parse("table nft 4 nat 3 0 0\n").services == ()


def test_of_two_backends_the_one_that_serves_more_is_believed() -> None:
    text = "services legacy 4 ports=2\nservices nft 4 ports=9\nservices nft 6 ports=1\n"
    assert [one.ports for one in rules.parse(text).services] == [9, 1]


def test_the_script_is_clean_shell() -> None:
    assert complaints(rules.SCRIPT + "\n") == ""
