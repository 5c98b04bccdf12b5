"""A cluster of one node, from up to down: what is there before any kube-proxy is started."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeprep.lab import control_plane, lifecycle
from nodeprep.lab.objects import ENDPOINTS, SERVICES
from nodeprep.lab.process import running
from nodeprep.lab.readiness import ssh_command
from nodeprep.lab.settings import Settings, default_cache
from nodeprep.lab.state import Lab

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster") / "lab"


@pytest.fixture(scope="module")
def lab(folder: Path) -> Iterator[Lab]:
    settings = Settings(
        folder=folder, cache=default_cache(), nodes=1, network="127.77.10", cluster=True
    )
    yield lifecycle.up(settings)
    lifecycle.down(folder)


def on_node(lab: Lab, command: str) -> str:
    words = ssh_command(lab, lab.nodes[0], [command])
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def test_the_api_server_knows_all_that_is_to_be_known(lab: Lab) -> None:
    api = control_plane.api(lab)
    nodes = json.loads(api.request("GET", "/api/v1/nodes"))["items"]
    assert [node["metadata"]["name"] for node in nodes] == ["node1"]
    services = json.loads(api.request("GET", "/api/v1/namespaces/lab/services"))["items"]
    assert {one["metadata"]["name"]: one["spec"]["clusterIP"] for one in services} == {
        one.name: one.cluster_ip for one in SERVICES
    }
    (balanced,) = [one for one in services if one["status"]["loadBalancer"]]
    assert balanced["status"]["loadBalancer"]["ingress"] == [{"ip": "203.0.113.6"}]


def test_the_kubernetes_service_leads_to_where_nodes_reach_it(lab: Lab) -> None:
    path = "/api/v1/namespaces/default/endpoints/kubernetes"
    (subset,) = json.loads(control_plane.api(lab).request("GET", path))["subsets"]
    assert subset["addresses"] == [{"ip": "10.0.2.2"}]
    assert lab.control_plane is not None
    assert subset["ports"][0]["port"] == lab.control_plane.port
    assert "10.0.2.2" in on_node(
        lab, f"bash -c 'echo < /dev/tcp/10.0.2.2/{lab.control_plane.port} && echo 10.0.2.2'"
    )


@pytest.mark.parametrize("address", ENDPOINTS)
def test_endpoints_answer_and_do_so_again_after_a_reboot(lab: Lab, address: str) -> None:
    greet = f"bash -c 'exec 3<>/dev/tcp/{address}/8080; head -n 1 <&3'"
    patience = f"until {greet}; do sleep 1; done"
    assert on_node(lab, f"timeout 30 sh -c {json.dumps(patience)}").startswith("hello from")
    if address == ENDPOINTS[-1]:
        lifecycle.reboot(lab, "node1")
        assert on_node(lab, f"timeout 60 sh -c {json.dumps(patience)}").startswith("hello from")


@pytest.mark.parametrize(
    ("program", "version"),
    [("kube-proxy", "Kubernetes v1.20.2"), ("kube-proxy-stand-in", "stand-in")],
)
def test_programs_are_there(lab: Lab, program: str, version: str) -> None:
    assert version in on_node(lab, f"{program} --version")


@pytest.mark.usefixtures("lab")
def test_down_leaves_no_process_and_no_file(folder: Path) -> None:
    started = lifecycle.load(folder)
    assert all(running(process) for _, process in started.control_processes)
    assert lifecycle.down(folder)
    assert not folder.exists()
    assert not any(running(process) for _, process in started.control_processes)
