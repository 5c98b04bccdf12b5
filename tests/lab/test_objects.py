"""What is in the cluster: a service of each kind, and everything in the form 1.20 reads."""

import ipaddress
from typing import Any

import pytest

from nodeprep.lab import objects
from nodeprep.lab.objects import SERVICES, Service

NODES = ("node1", "node2")


def of_kind(collection: str) -> list[dict[str, Any]]:
    return [thing for place, thing in objects.objects(NODES) if place.endswith(collection)]


def by_name(collection: str, name: str) -> dict[str, Any]:
    (found,) = [one for one in of_kind(collection) if one["metadata"]["name"] == name]
    return found


def test_addresses_and_ports_are_each_services_own() -> None:
    assert len({service.name for service in SERVICES}) == len(SERVICES)
    assert len({service.cluster_ip for service in SERVICES}) == len(SERVICES)
    assert {service.node_port for service in SERVICES} == {None, 30080, 30081}


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_services_addresses_are_where_they_belong(service: Service) -> None:
    cluster = ipaddress.ip_network(objects.SERVICE_CIDR)
    assert ipaddress.ip_address(service.cluster_ip) in cluster
    for address in (service.external_ip, service.balancer_ip):
        assert address is None or ipaddress.ip_address(address) in ipaddress.ip_network(
            "203.0.113.0/24"
        )
    for address in service.endpoints:
        assert ipaddress.ip_address(address) in ipaddress.ip_network(objects.CLUSTER_CIDR)


def test_every_kind_that_kube_proxy_treats_in_its_own_way_is_there() -> None:
    assert {service.kind for service in SERVICES} == {"ClusterIP", "NodePort", "LoadBalancer"}
    assert {service.protocol for service in SERVICES} == {"TCP", "UDP"}
    assert any(service.sticky for service in SERVICES)
    assert any(service.sources for service in SERVICES)
    assert any(service.external_ip for service in SERVICES)
    assert any(not service.endpoints for service in SERVICES)


def test_a_node_has_an_address_from_the_start() -> None:
    assert [node["metadata"]["name"] for node in of_kind("/nodes")] == ["node1", "node2"]
    addresses = of_kind("/nodes")[0]["status"]["addresses"]
    assert addresses == [{"type": "InternalIP", "address": "10.0.2.15"}]


def test_a_plain_service_says_no_more_than_it_must() -> None:
    assert by_name("/services", "web")["spec"] == {
        "type": "ClusterIP",
        "clusterIP": "10.254.7.7",
        "ports": [{"port": 80, "protocol": "TCP", "targetPort": 8080}],
    }


def test_a_sticky_service_and_a_balanced_one_say_so() -> None:
    assert by_name("/services", "sticky")["spec"]["sessionAffinity"] == "ClientIP"
    balanced = by_name("/services", "balanced")["spec"]
    assert balanced["loadBalancerSourceRanges"] == ["10.0.2.0/24", "10.244.0.0/16"]
    assert balanced["ports"][0]["nodePort"] == 30081


def test_endpoints_and_slices_lead_to_the_same_places() -> None:
    for service in SERVICES:
        endpoints = by_name("/endpoints", service.name)
        part = by_name("/endpointslices", f"{service.name}-node2")
        assert [one["addresses"][0] for one in part["endpoints"]] == list(service.endpoints)
        assert [
            one["ip"] for subset in endpoints["subsets"] for one in subset["addresses"]
        ] == list(service.endpoints)
        assert part["ports"][0]["protocol"] == service.protocol
        assert part["metadata"]["labels"] == {"kubernetes.io/service-name": service.name}


def test_endpoints_are_local_on_every_node() -> None:
    places = {
        (
            part["metadata"]["labels"]["kubernetes.io/service-name"],
            one["topology"]["kubernetes.io/hostname"],
        )
        for part in of_kind("/endpointslices")
        for one in part["endpoints"]
    }
    serving = [service.name for service in SERVICES if service.endpoints]
    assert places == {(name, node) for name in serving for node in NODES}


def test_slices_are_of_the_version_that_1_20_reads() -> None:
    places = {place for place, _ in objects.objects(NODES)}
    assert "/apis/discovery.k8s.io/v1beta1/namespaces/lab/endpointslices" in places


def test_a_namespace_comes_before_what_is_in_it() -> None:
    places = [place for place, _ in objects.objects(NODES)]
    first = min(index for index, place in enumerate(places) if "/namespaces/" in place)
    assert places.index("/api/v1/namespaces") < first
