"""A firewall that stays: what it must let through, who opens it, and what would wipe all rules."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from nodeprep.firewalld import TRUSTED, Firewalld, Zone
from nodeprep.model import APPLY, Facts, Finding, Firewall, Node, Status
from nodeprep.sharing import UNIT_SHOWN
from nodeprep.topics import firewall as topic
from nodeprep.topics.firewall import FIREWALLS, Firewalls, Ufw
from tests import facts
from tests.shells import in_root, stand_ins
from tests.topics import named, node, of

PUBLIC = Zone(name="public", target="default", interfaces=("eth0",), services=("ssh",))
ZONES = (PUBLIC, Zone(name=TRUSTED, target="ACCEPT"))
OPEN = (PUBLIC, Zone(name=TRUSTED, target="ACCEPT", sources=("10.244.0.0/16",)))
PODS: dict[str, Any] = {"cluster_cidr": "10.244.0.0/16"}
SAYING = node(**PODS)
OPENING = node(opens=Firewall(open=True), **PODS)


def on(**has: Any) -> Facts:
    """Return the facts of a node on which firewalld runs, with nothing opened but ``has``."""
    usual = {"active": True, "backend": "nftables", "uplinks": ("eth0",), "spares": True}
    zones = {"runtime": ZONES, "permanent": ZONES}
    return of({FIREWALLS: Firewalls(firewalld=Firewalld(**{**usual, **zones, **has}))})


def verdict(wanted: Node, found: Facts, name: str) -> Finding:
    return named(topic.findings(wanted, found), name)


def typed(wanted: Node, found: Facts) -> list[str]:
    return [line for c in topic.changes(wanted, found) for line in str(c.action).splitlines()]


# --- none, or one that is off ---------------------------------------------------------------


def test_a_node_without_a_firewall_yields_one_line() -> None:
    found = of({FIREWALLS: facts.read(FIREWALLS, "debian12-container")})
    (finding,) = topic.findings(SAYING, found)
    assert finding.status is Status.OK
    assert topic.changes(OPENING, found) == ()


def test_a_firewalld_that_does_not_run_is_left_alone() -> None:
    found = of({FIREWALLS: Firewalls(firewalld=Firewalld(active=False))})
    assert [finding.status for finding in topic.findings(OPENING, found)] == [Status.OK]
    assert topic.changes(OPENING, found) == ()


def test_one_that_does_not_answer_is_a_warning_and_nothing_is_opened() -> None:
    found = on(runtime=(), permanent=())
    assert verdict(OPENING, found, "firewalld").status is Status.WARN
    assert topic.changes(OPENING, found) == ()


# --- how it is asked ------------------------------------------------------------------------

ROUTES = """\
Iface	Destination	Gateway	Flags	RefCnt	Use	Metric	Mask	MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
eth0	000200C0	00000000	0001	0	0	0	00FFFFFF	0	0	0
"""
NONE, SOME = "0" * 32, "fd" + "0" * 30
ROUTES6 = f"""\
{SOME} 40 {NONE} 00 {NONE} 00000100 00000001 00000000 00000001     eth0
{NONE} 00 {NONE} 00 {SOME} 00000400 00000002 00000000 00000003     eth1
{NONE} 00 {NONE} 00 {NONE} ffffffff 00000001 00000000 00200200       lo
"""


def test_any_shell_finds_zones_uplinks_and_what_flushes_all(shell: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for path, text in {
        "proc/net/route": ROUTES,
        "proc/net/ipv6_route": ROUTES6,
        "etc/firewalld/firewalld.conf": "#DefaultZone=x\nDefaultZone=dmz\nFirewallBackend=nft\n",
        "etc/firewalld/direct.xml": '<direct>\n  <rule ipv="ipv4"/>\n</direct>\n',
        "usr/lib/python3/dist-packages/firewall/core/fw.py": "may_skip_flush_direct_backends",
        "etc/nftables.conf": "#!/usr/sbin/nft -f\n# flush ruleset\nflush  ruleset\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    wants = root / "etc/systemd/system/sysinit.target.wants"
    wants.mkdir(parents=True)
    (wants / "nftables.service").symlink_to("/nowhere")
    says = {"systemctl": "ActiveState=active", "firewall-cmd": "dmz (active)\n  interfaces: eth0"}
    found = FIREWALLS.parse(
        in_root(shell, UNIT_SHOWN + FIREWALLS.script(SAYING), root, stand_ins(tmp_path, says))
    )
    assert found.flushes == ("/etc/nftables.conf:3",)
    firewalld = found.firewalld
    assert firewalld
    assert (firewalld.default_zone, firewalld.backend) == ("dmz", "nft")
    assert (firewalld.spares, firewalld.direct) == (True, True)
    assert firewalld.uplinks == ("eth0", "eth1")
    assert firewalld.runtime == firewalld.permanent == (Zone(name="dmz", interfaces=("eth0",)),)


# --- saying ---------------------------------------------------------------------------------


def test_by_default_it_is_only_said_what_to_type() -> None:
    finding = verdict(SAYING, on(), "pods")
    assert (finding.status, finding.actual) == (Status.WARN, "not let through: 10.244.0.0/16")
    assert finding.hint.startswith(
        "firewall-cmd --permanent --zone=trusted --add-source=10.244.0.0/16 && "
        "firewall-cmd --zone=trusted --add-source=10.244.0.0/16; or set `firewall: {open: true}`"
    )
    assert topic.changes(SAYING, on()) == ()


def test_what_is_let_through_is_well() -> None:
    found = on(runtime=OPEN, permanent=OPEN)
    assert verdict(SAYING, found, "pods").status is Status.OK
    assert {finding.status for finding in topic.findings(SAYING, found)} == {Status.OK}


def test_what_ends_with_the_next_start_of_firewalld_is_told_apart() -> None:
    finding = verdict(SAYING, on(runtime=OPEN), "pods")
    assert finding.actual == "let through until firewalld starts anew: 10.244.0.0/16"


def test_both_networks_of_a_dual_stack_cluster_must_get_through() -> None:
    dual = node(cluster_cidr="10.244.0.0/16,fd00:10:244::/56")
    finding = verdict(dual, on(runtime=OPEN, permanent=OPEN), "pods")
    assert finding.actual == "not let through: fd00:10:244::/56"


def test_without_a_cluster_cidr_nobody_knows_the_pods() -> None:
    assert verdict(node(), on(), "pods").status is Status.SKIP


def test_ports_are_spoken_of_only_where_the_inventory_says_they_are_used() -> None:
    names = {finding.name for finding in topic.findings(SAYING, on())}
    assert names == {"firewalld", "pods"}
    used = node(opens=Firewall(node_ports="30000-32767", health_check=True), **PODS)
    assert verdict(used, on(), "node ports").actual == (
        "not let through: 30000-32767/tcp, 30000-32767/udp"
    )
    assert verdict(used, on(), "health check").actual == "not let through: 10256/tcp"


def test_the_health_checks_port_is_kube_proxys_own() -> None:
    used = node(opens=Firewall(health_check=True), healthz_bind_address="[::]:11000", **PODS)
    assert verdict(used, on(), "health check").actual == "not let through: 11000/tcp"


# --- opening --------------------------------------------------------------------------------


def test_where_asked_exactly_what_is_missing_is_opened_in_both_configurations() -> None:
    assert typed(OPENING, on()) == [
        "firewall-cmd --permanent --zone=trusted --add-source=10.244.0.0/16 &&",
        "firewall-cmd --zone=trusted --add-source=10.244.0.0/16",
    ]
    finding = verdict(OPENING, on(), "pods")
    assert (finding.status, finding.hint) == (Status.FAIL, APPLY)


def test_a_second_time_there_is_nothing_to_do() -> None:
    assert topic.changes(OPENING, on(runtime=OPEN, permanent=OPEN)) == ()


def test_ports_are_opened_in_the_zone_by_which_others_come() -> None:
    asked = Firewall(open=True, node_ports="30000-32767")
    bound = (Zone(name="dmz", target="default", interfaces=("eth0",)), *OPEN[1:])
    opened = typed(node(opens=asked, **PODS), on(runtime=bound, permanent=OPEN))
    ports = "--add-port=30000-32767/tcp --add-port=30000-32767/udp"
    assert opened == [
        f"firewall-cmd --permanent --zone=dmz {ports} &&",
        f"firewall-cmd --zone=dmz {ports}",
    ]


def test_what_firewalld_would_refuse_is_not_tried_and_hinders_nothing_else() -> None:
    internal = Zone(name="internal", target="default", sources=("10.244.0.0/16",))
    asked = node(opens=Firewall(open=True, health_check=True), **PODS)
    found = on(runtime=(internal, *ZONES))
    assert [change.subject for change in topic.changes(asked, found)] == ["health check"]
    finding = verdict(asked, found, "pods")
    assert (finding.status, finding.actual) == (
        Status.FAIL,
        "not let through: 10.244.0.0/16; 10.244.0.0/16 belongs to zone internal",
    )
    assert finding.hint != APPLY


def test_nothing_is_ever_reloaded_and_no_step_waits_for_kube_proxy() -> None:
    asked = node(opens=Firewall(open=True, node_ports="1-2", health_check=True), **PODS)
    changes = topic.changes(asked, on(spares=False, direct=True))
    assert changes
    assert not any("reload" in str(change.action) for change in changes)
    assert not any(change.disruptive for change in changes)


# --- what would wipe all rules --------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "has", "warned"),
    [
        ("ipvs", {"spares": False}, True),
        ("iptables", {"spares": False}, True),
        ("iptables", {"direct": True}, True),
        ("iptables", {"backend": "iptables"}, True),
        ("iptables", {}, False),
        ("nftables", {"spares": False}, False),
    ],
)
def test_a_reload_that_would_remove_kube_proxys_rules_is_warned_of(
    mode: str, has: dict[str, Any], *, warned: bool
) -> None:
    found = topic.findings(node(mode=mode, **PODS), on(runtime=OPEN, permanent=OPEN, **has))
    assert [f.status for f in found if f.name == "reload"] == [Status.WARN] * warned


def test_an_nftables_service_that_flushes_everything_is_warned_of_with_the_line() -> None:
    found = of({FIREWALLS: facts.read(FIREWALLS, "debian12-nftables-service")})
    finding = verdict(SAYING, found, "nftables.service")
    assert finding.status is Status.WARN
    assert "(/etc/nftables.conf:3)" in finding.actual


# --- ufw ------------------------------------------------------------------------------------


def ufw(**has: Any) -> Facts:
    return of({FIREWALLS: Firewalls(ufw=dataclasses.replace(Ufw(forward="DROP"), **has))})


def test_ufw_drops_what_is_forwarded_unless_told_and_what_to_type_is_said() -> None:
    finding = verdict(SAYING, ufw(), "ufw")
    assert finding.status is Status.WARN
    assert finding.hint == (
        "ufw route allow from 10.244.0.0/16 && ufw route allow to 10.244.0.0/16 && "
        "ufw allow from 10.244.0.0/16"
    )


@pytest.mark.parametrize(
    "has",
    [
        {"forward": "ACCEPT"},
        {"routes": ("route:allow any any 0.0.0.0/0 any 10.244.0.0/16 in",)},
        {"routes": ("route:allow any any 0.0.0.0/0 any 0.0.0.0/0 in_cni0",)},
    ],
)
def test_ufw_that_forwards_pods_traffic_is_well(has: dict[str, Any]) -> None:
    assert verdict(SAYING, ufw(**has), "ufw").status is Status.OK


def test_ufw_is_never_changed() -> None:
    assert topic.changes(OPENING, ufw()) == ()
