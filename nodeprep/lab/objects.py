"""What is in the lab's cluster: its nodes, and one service of each kind that kube-proxy knows.

All services lead to the same two endpoints, and every node has these two to itself: nodes do not
see each other. The external addresses are of TEST-NET-3, and packets to them never leave a node.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nodeprep.lab.api import Api

Object = dict[str, Any]

NAMESPACE = "lab"
CLUSTER_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.254.0.0/16"
# guest/files/usr/lib/nodeprep-lab/endpoints sets them up, with these ports.
ENDPOINTS = ("10.244.0.11", "10.244.0.12")
TARGET_PORTS = {"TCP": 8080, "UDP": 5353}
# Every node has this address, inside a network of its own.
NODE_ADDRESS = "10.0.2.15"
_POD_CIDR = "10.244.0.0/24"
NODES = "/api/v1/nodes"
_NAMESPACES = "/api/v1/namespaces"
_SERVICES = f"{_NAMESPACES}/{NAMESPACE}/services"
_ENDPOINTS = f"{_NAMESPACES}/{NAMESPACE}/endpoints"
# kube-proxy 1.20 reads slices, and their first version only.
_SLICE_VERSION = "discovery.k8s.io/v1beta1"
_SLICES = f"/apis/{_SLICE_VERSION}/namespaces/{NAMESPACE}/endpointslices"


@dataclass(frozen=True, kw_only=True)
class Service:
    """One service: its addresses and ports, and where its connections go."""

    name: str
    cluster_ip: str
    port: int = 80
    protocol: str = "TCP"
    sticky: bool = False
    node_port: int | None = None
    external_ip: str | None = None
    balancer_ip: str | None = None
    sources: tuple[str, ...] = ()
    endpoints: tuple[str, ...] = ENDPOINTS

    @property
    def kind(self) -> str:
        """What Kubernetes calls its type."""
        if self.balancer_ip:
            return "LoadBalancer"
        return "NodePort" if self.node_port else "ClusterIP"


SERVICES = (
    Service(name="web", cluster_ip="10.254.7.7"),
    Service(name="dns", cluster_ip="10.254.7.8", port=53, protocol="UDP"),
    Service(name="sticky", cluster_ip="10.254.7.9", sticky=True),
    Service(name="empty", cluster_ip="10.254.7.10", endpoints=()),
    Service(name="node-port", cluster_ip="10.254.7.11", node_port=30080),
    Service(name="external", cluster_ip="10.254.7.12", external_ip="203.0.113.5"),
    Service(
        name="balanced",
        cluster_ip="10.254.7.13",
        node_port=30081,
        balancer_ip="203.0.113.6",
        sources=("10.0.2.0/24", CLUSTER_CIDR),
    ),
)


def create(api: Api, nodes: tuple[str, ...]) -> None:
    """Make all objects of a cluster with these nodes. Raises LabError with the server's words."""
    for collection, thing in objects(nodes):
        api.create(collection, thing)
    for service in SERVICES:
        if service.balancer_ip:
            api.patch(f"{_SERVICES}/{service.name}/status", balancer_status(service))


def objects(nodes: tuple[str, ...]) -> Iterator[tuple[str, Object]]:
    """Yield each object behind the collection it belongs to, in the order to make them in."""
    for name in nodes:
        yield NODES, node(name)
    yield _NAMESPACES, {"metadata": {"name": NAMESPACE}}
    for service in SERVICES:
        yield _SERVICES, service_object(service)
        yield _ENDPOINTS, endpoints_object(service)
        for name in nodes:
            yield _SLICES, slice_object(service, name)


def node(name: str) -> Object:
    """Return a Node: kube-proxy waits until it has an address."""
    return {
        "metadata": {"name": name},
        "spec": {"podCIDR": _POD_CIDR, "podCIDRs": [_POD_CIDR]},
        "status": {"addresses": [{"type": "InternalIP", "address": NODE_ADDRESS}]},
    }


def service_object(service: Service) -> Object:
    """Return a Service; what is not set is left to the API server's defaults."""
    port = {
        "port": service.port,
        "protocol": service.protocol,
        "targetPort": TARGET_PORTS[service.protocol],
        "nodePort": service.node_port,
    }
    wishes: Object = {
        "externalIPs": [service.external_ip] if service.external_ip else [],
        "loadBalancerSourceRanges": list(service.sources),
        "sessionAffinity": "ClientIP" if service.sticky else "",
    }
    return {
        "metadata": {"name": service.name},
        "spec": {
            "type": service.kind,
            "clusterIP": service.cluster_ip,
            "ports": [_without_blanks(port)],
            **_without_blanks(wishes),
        },
    }


def _without_blanks(fields: Object) -> Object:
    return {name: value for name, value in fields.items() if value}


def endpoints_object(service: Service) -> Object:
    """Return its Endpoints, as kube-proxy before 1.19 reads them."""
    addresses = [{"ip": address} for address in service.endpoints]
    subset = {"addresses": addresses, "ports": [_target(service)]}
    return {"metadata": {"name": service.name}, "subsets": [subset] if addresses else []}


def slice_object(service: Service, node: str) -> Object:
    """Return its EndpointSlice for one node, as kube-proxy from 1.19 on reads them.

    The slices of all nodes have the same addresses. kube-proxy takes each address once, and as
    one of its own node where any slice says so: so the endpoints are local on every node.
    """
    return {
        "metadata": {
            "name": f"{service.name}-{node}",
            "labels": {"kubernetes.io/service-name": service.name},
        },
        "addressType": "IPv4",
        "endpoints": [
            {
                "addresses": [address],
                "conditions": {"ready": True},
                "topology": {"kubernetes.io/hostname": node},
            }
            for address in service.endpoints
        ],
        "ports": [{"name": "", **_target(service)}],
    }


def _target(service: Service) -> Object:
    return {"port": TARGET_PORTS[service.protocol], "protocol": service.protocol}


def balancer_status(service: Service) -> Object:
    """Return what a cloud's controller would report once its balancer is up."""
    return {"status": {"loadBalancer": {"ingress": [{"ip": service.balancer_ip}]}}}
