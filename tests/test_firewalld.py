"""firewalld's zones: what is read of them, what they let through, and what is to be typed."""

from typing import Any

import pytest

from nodeprep import firewalld
from nodeprep.firewalld import TRUSTED, Firewalld, Missing, Opening, Zone

PODS = Opening(purpose="pods", zone=TRUSTED, kind="source", value="10.244.0.0/16")
PORTS = Opening(purpose="node ports", zone="public", kind="port", value="30000-32767/tcp")
CHECK = Opening(purpose="health check", zone="public", kind="port", value="10256/tcp")
EMPTY = (Zone(name="public", target="default"), Zone(name=TRUSTED, target="ACCEPT"))

FEDORA = """\
FedoraWorkstation (default, active)
  target: default
  ingress-priority: 0
  egress-priority: 0
  icmp-block-inversion: no
  interfaces: enp4s0
  sources: 
  services: dhcpv6-client http https samba samba-client ssh
  ports: 80/tcp 443/tcp 81/tcp
  rich rules: 
\trule family="ipv4" source address="192.0.2.7/32" port port="10256" protocol="tcp" accept

work
  target: default
  interfaces: 
  sources: 
"""  # noqa: W291 firewall-cmd's own spaces


def zone(name: str = "public", **has: Any) -> Zone:
    return Zone(name=name, **{"target": "default", **has})


def is_open(opening: Opening, *zones: Zone, default: str = "public") -> bool:
    return firewalld.is_open(opening, zones, default)


# --- reading --------------------------------------------------------------------------------


def test_a_zone_is_read_with_what_it_has_and_one_that_nothing_is_bound_to_is_left_out() -> None:
    (only,) = firewalld.zones(FEDORA, "FedoraWorkstation")
    assert (only.name, only.target, only.interfaces) == (
        "FedoraWorkstation",
        "default",
        ("enp4s0",),
    )
    assert only.ports == ("80/tcp", "443/tcp", "81/tcp")
    assert len(only.rich_rules) == 1


def test_the_default_zone_and_the_trusted_one_are_kept_in_any_case() -> None:
    text = "home\n  target: default\n\npublic\n  target: default\n\ntrusted\n  target: ACCEPT\n"
    assert [zone.name for zone in firewalld.zones(text, "public")] == ["public", TRUSTED]


def test_others_come_by_the_zone_of_the_default_route_or_by_the_default_zone() -> None:
    bound = (zone("internal", interfaces=("eth1",)), zone("public", interfaces=("eth0",)))
    of: dict[str, Any] = {"active": True, "runtime": bound}
    assert firewalld.outward(Firewalld(**of, uplinks=("eth1",))) == ("internal",)
    assert firewalld.outward(Firewalld(**of, uplinks=("eth1", "eth0"))) == ("internal", "public")
    assert firewalld.outward(Firewalld(**of, uplinks=("eth9",))) == ("public",)
    assert firewalld.outward(Firewalld(**of, default_zone="dmz")) == ("dmz",)


# --- pods -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "accepting",
    [
        zone(TRUSTED, target="ACCEPT", sources=("10.244.0.0/16",)),
        zone(TRUSTED, target="ACCEPT", sources=("192.0.2.7", "10.0.0.0/8")),
        zone(TRUSTED, target="", sources=("10.244.0.0/16",)),
        zone("kube", target="ACCEPT", sources=("10.244.0.0/16",)),
        zone("public", target="ACCEPT"),
        zone(TRUSTED, target="ACCEPT", interfaces=("cali+", "tunl0")),
        zone(TRUSTED, target="ACCEPT", interfaces=("cni0",)),
    ],
    ids=[
        "exactly",
        "a wider network",
        "no target told",
        "another zone",
        "the default",
        "calico",
        "flannel",
    ],
)
def test_pods_get_through_where_an_accepting_zone_has_them(accepting: Zone) -> None:
    assert is_open(PODS, accepting)


@pytest.mark.parametrize(
    "closed",
    [
        zone(TRUSTED, target="ACCEPT"),
        zone(TRUSTED, target="ACCEPT", sources=("10.244.0.0/24",)),
        zone(TRUSTED, target="ACCEPT", sources=("fd00::/8", "00:11:22:33:44:55", "ipset:pods")),
        zone(TRUSTED, target="default", sources=("10.244.0.0/16",)),
        zone("internal", sources=("10.244.0.0/16",)),
        zone("public", interfaces=("cni0",)),
        zone(TRUSTED, target="ACCEPT", interfaces=("docker0",)),
    ],
    ids=[
        "nothing",
        "a part",
        "other things",
        "a changed target",
        "no accepting zone",
        "a closed zone's device",
        "a device of something else",
    ],
)
def test_pods_do_not_get_through_otherwise(closed: Zone) -> None:
    assert not is_open(PODS, closed)


# --- ports ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "letting",
    [
        zone(ports=("22/tcp", "30000-32767/tcp")),
        zone(ports=("1024-65535/tcp",)),
        zone(services=("kube-nodeport-services",)),
        zone(services=("ssh", "kube-worker")),
        zone(target="ACCEPT"),
    ],
)
def test_node_ports_get_through(letting: Zone) -> None:
    assert is_open(PORTS, letting)


@pytest.mark.parametrize(
    "closed",
    [
        zone(),
        zone(ports=("30000-32767/udp",)),
        zone(ports=("30000-31000/tcp",)),
        zone(services=("kubelet",)),
        zone("internal", ports=("30000-32767/tcp",)),
        zone("internal", target="ACCEPT"),
    ],
)
def test_node_ports_do_not_get_through(closed: Zone) -> None:
    assert not is_open(PORTS, closed)


def test_the_services_of_firewalld_open_no_udp() -> None:
    udp = Opening(purpose="node ports", zone="public", kind="port", value="30000-32767/udp")
    assert not is_open(udp, zone(services=("kube-nodeport-services",)))


def test_a_rule_for_the_load_balancer_alone_will_do() -> None:
    rule = 'rule family="ipv4" source address="192.0.2.7" port port="10256" protocol="tcp" '
    assert is_open(CHECK, zone(rich_rules=(rule + "accept",)))
    assert not is_open(CHECK, zone(rich_rules=(rule + "drop",)))
    assert not is_open(CHECK, zone(rich_rules=(rule.replace("10256", "102") + "accept",)))


# --- opening --------------------------------------------------------------------------------


def missing(*openings: Opening, **of: Any) -> tuple[Missing, ...]:
    found = Firewalld(**{"active": True, "runtime": EMPTY, "permanent": EMPTY, **of})
    return firewalld.missing(found, openings)


def test_each_zone_gets_one_command_for_what_is_kept_and_one_for_what_runs() -> None:
    assert firewalld.commands(missing(PODS, PORTS, CHECK)) == (
        "firewall-cmd --permanent --zone=trusted --add-source=10.244.0.0/16",
        "firewall-cmd --zone=trusted --add-source=10.244.0.0/16",
        "firewall-cmd --permanent --zone=public --add-port=30000-32767/tcp --add-port=10256/tcp",
        "firewall-cmd --zone=public --add-port=30000-32767/tcp --add-port=10256/tcp",
    )


def test_what_is_open_in_one_of_the_two_is_opened_in_the_other_only() -> None:
    has = (zone(TRUSTED, target="ACCEPT", sources=("10.244.0.0/16",)),)
    assert firewalld.commands(missing(PODS, runtime=has)) == (
        "firewall-cmd --permanent --zone=trusted --add-source=10.244.0.0/16",
    )
    assert firewalld.commands(missing(PODS, permanent=has)) == (
        "firewall-cmd --zone=trusted --add-source=10.244.0.0/16",
    )
    assert missing(PODS, runtime=has, permanent=has) == ()


def test_no_command_reloads_or_writes_direct_rules() -> None:
    typed = " ".join(firewalld.commands(missing(PODS, PORTS, CHECK)))
    assert "reload" not in typed
    assert "direct" not in typed


def test_what_firewalld_would_refuse_is_an_obstacle() -> None:
    internal = (zone("internal", sources=("10.244.0.0/16",)), *EMPTY)
    found = Firewalld(active=True, runtime=internal, permanent=EMPTY)
    assert firewalld.obstacle(PODS, found) == "10.244.0.0/16 belongs to zone internal"
    assert firewalld.obstacle(PORTS, found) == ""


def test_a_trusted_zone_that_does_not_accept_is_an_obstacle() -> None:
    found = Firewalld(active=True, runtime=(zone(TRUSTED, target="DROP"),))
    assert firewalld.obstacle(PODS, found) == "zone trusted has been given the target DROP"
