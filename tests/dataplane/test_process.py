"""kube-proxy's own word, asked of a real HTTP server by the real clients of a node."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nodeprep.dataplane import process
from nodeprep.dataplane.process import Process
from nodeprep.model import Desired, KubeProxy, Node
from nodeprep.releases import Version
from nodeprep.shell import HTTP_GET, Script
from tests.shells import complaints, output

# As pkg/proxy/metrics/metrics.go of 1.33 and later names them: a label for each family.
FAMILIES = """\
# HELP kubeproxy_sync_proxy_rules_duration_seconds [ALPHA] SyncProxyRules latency in seconds
# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram
kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.001"} 0
kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.128"} 90
kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.256"} 99
kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="+Inf"} 100
kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family="IPv4"} 9.5
kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 100
kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv6",le="0.001"} 50
kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv6",le="0.128"} 100
kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv6",le="0.256"} 100
kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv6",le="+Inf"} 100
kubeproxy_sync_proxy_rules_duration_seconds_sum{ip_family="IPv6"} 0.5
kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv6"} 100
kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"} 1.7e+09
kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv6"} 1.700000005e+09
kubernetes_build_info{build_date="2025-06-01T00:00:00Z",git_version="v1.33.1",major="1"} 1
process_start_time_seconds 1.6e+09
"""


class Server(http.server.BaseHTTPRequestHandler):
    """Answers as kube-proxy's metrics server does."""

    mode = "nftables"

    def do_GET(self) -> None:
        body = self.mode if self.path == "/proxyMode" else FAMILIES
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def answering() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def script(port: int) -> str:
    proxy = KubeProxy(metrics_bind_address=f"127.0.0.1:{port}")
    node = Node(name="a", address="192.0.2.1", desired=Desired(kube_proxy=proxy))
    return HTTP_GET + process.FACT.script(node)


def asked(port: int, shell: str) -> Process:
    return process.parse(output(shell, Script(script(port))).decode())


def test_mode_release_and_syncs_are_kube_proxys_own_word(shell: str) -> None:
    with answering() as port:
        found = asked(port, shell)
    assert (found.mode, found.release) == ("nftables", Version(1, 33))
    assert found.synced == {"IPv4": 1.7e9, "IPv6": 1.700000005e9}
    assert (found.syncs, found.seconds, found.mean) == (200, 10.0, 0.05)
    assert found.within == {"0.001": 50, "0.128": 190, "0.256": 199, "+Inf": 200}


def test_where_nothing_answers_there_is_nothing_to_know(shell: str) -> None:
    with answering() as port:
        pass
    found = asked(port, shell)
    assert found.now > 1.7e9
    assert found == Process(now=found.now)
    assert (found.age, found.mean, found.bound(0.99)) == (None, None, None)


def test_the_age_is_that_of_the_family_that_waits_longest() -> None:
    assert Process(now=100, synced={"IPv4": 90, "IPv6": 40}).age == 60
    assert Process(now=100, synced={"IPv4": 90, "IPv6": 0}).age is None
    assert Process(now=100, synced={"": 103}).age == 0


@pytest.mark.parametrize(("share", "bound"), [(0.2, 0.001), (0.95, 0.128), (0.99, 0.256)])
def test_a_share_of_the_syncs_is_within_the_least_bound_that_holds_it(
    share: float, bound: float
) -> None:
    found = process.parse(f"mode iptables\nnow 1\n{FAMILIES}")
    assert found.bound(share) == bound
    assert found.bound(1) is None


def test_a_release_before_1_17_names_its_version_in_camel_case() -> None:
    text = 'mode ipvs\nnow 1\nkubernetes_build_info{gitVersion="v1.14.3"} 1\n'
    assert process.parse(text).release == Version(1, 14)


def test_an_answer_that_is_no_mode_is_none() -> None:
    assert process.parse("mode <html>404</html>\nnow 1\n").mode == ""
    assert not process.parse("mode no-http-client\nnow 1\n").can_ask


@pytest.mark.parametrize("value", ["Inf", "NaN", "x"])
def test_a_count_that_is_none_is_refused(value: str) -> None:
    name = "kubeproxy_sync_proxy_rules_duration_seconds_count"
    with pytest.raises(ValueError, match=r"counts nothing|could not convert"):
        process.parse(f"mode ipvs\nnow 1\n{name} {value}\n")


def test_the_script_is_clean_shell() -> None:
    assert complaints(script(10249) + "\n") == ""
