"""A real kube-proxy 1.20: restarted only when it must be, and believed only when it is asked."""

import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Inventories
from tests.e2e.operator_of import OURS, Operator

pytestmark = pytest.mark.lab
MINUTES = 4

NETWORK, KUBE_PROXY = "127.79.3", True

KUBECONFIG, CONFIG, UNIT = OURS[4], OURS[5], OURS[3]
CANARY = "c4n4ry-0f-the-t0ken"
# Nothing listens there: what kube-proxy does with its own node needs no API server.
SECRET = f"""\
apiVersion: v1
kind: Config
clusters: [{{name: lab, cluster: {{server: "http://127.0.0.1:1"}}}}]
users: [{{name: proxy, user: {{token: {CANARY}}}}}]
contexts: [{{name: lab, context: {{cluster: lab, user: proxy}}}}]
current-context: lab
"""
ADDED = "cluster_cidr: 10.254.0.0/16"


@pytest.fixture
def with_secret(inventory: Inventories, tmp_path: Path) -> Path:
    """An inventory that brings a kubeconfig from the controller."""
    secret = tmp_path / "kubeconfig"
    secret.write_text(SECRET)
    more = f"\n    kubeconfig_from: {secret}\n    bind_address: 10.0.2.15"
    return inventory((ADDED, ADDED + more))


def test_a_kube_proxy_that_fell_back_to_iptables_is_found_out(
    node: Operator, with_secret: Path
) -> None:
    topics = [w for t in ("kernel_modules", "sysctl", "kube_proxy") for w in ("--topic", t)]
    node.nodeprep("apply", *topics, inventory=with_secret).check(0)
    assert node.tried("ipset --version").code == 127
    assert node.ask("systemctl is-active kube-proxy") == "active\n"
    finding = node.findings(with_secret)["mode"]
    assert finding["status"] == "fail"
    assert finding["actual"].startswith("iptables (/proxyMode)")
    assert "ipset" in finding["actual"]


def test_with_the_packages_there_it_is_in_the_wanted_mode(
    node: Operator, with_secret: Path
) -> None:
    node.nodeprep("apply", "--topic", "packages", inventory=with_secret).check(0)
    node.ask("systemctl restart kube-proxy; sleep 10")
    findings = node.findings(with_secret)
    assert findings["mode"]["status"] == "ok"
    assert findings["mode"]["actual"] == "ipvs (/proxyMode)"
    assert findings["binary"]["actual"] == "/usr/local/bin/kube-proxy, 1.20"
    node.nodeprep("verify", inventory=with_secret).check(0)


def test_a_second_apply_does_not_restart_it(node: Operator, with_secret: Path) -> None:
    pid = node.ask("systemctl show -p MainPID kube-proxy")
    assert "0 changes made" in node.nodeprep("apply", inventory=with_secret).check(0).out
    assert node.ask("systemctl show -p MainPID kube-proxy") == pid


def test_it_is_restarted_when_a_file_is_newer_than_its_process(
    node: Operator, with_secret: Path
) -> None:
    pid = node.ask("systemctl show -p MainPID kube-proxy")
    time.sleep(3)
    node.ask(f"touch {CONFIG}")
    said = node.nodeprep("apply", inventory=with_secret).check(0).out
    assert f"restart kube-proxy.service ({CONFIG} is newer than its process)" in said
    assert node.ask("systemctl show -p MainPID kube-proxy") != pid


def test_the_secret_is_on_the_node_and_nowhere_else(node: Operator, with_secret: Path) -> None:
    assert node.ask(f"stat -c '%a %u' {KUBECONFIG}") == "600 0\n"
    assert CANARY in node.ask(f"cat {KUBECONFIG}")
    node.ask(f"sed -i s/{CANARY}/another/ {KUBECONFIG}")
    saved = with_secret.parent / "plan.json"
    for command in (
        ["plan", "--out", str(saved)],
        ["facts", "--output", "json"],
        ["verify", "--output", "json"],
        ["apply", "--output", "json"],
    ):
        run = node.nodeprep(*command, inventory=with_secret)
        assert CANARY not in run.out + run.err
        assert "another" not in run.out + run.err
    assert CANARY not in saved.read_text()
    assert CANARY in node.ask(f"cat {KUBECONFIG}")
    traces = "journalctl -o cat; cat /var/lib/nodeprep/log* /var/lib/nodeprep/last"
    assert CANARY not in node.ask(traces)


def test_the_kernels_table_is_read_and_foreign_servers_stay(
    node: Operator, with_secret: Path
) -> None:
    # In a range that is not the cluster's: kube-proxy's own resync would take others away.
    node.ask("systemctl stop kube-proxy")
    node.ask(
        "ipvsadm -A -t 192.0.2.10:443 -s wrr;"
        "ipvsadm -a -t 192.0.2.10:443 -r 10.0.2.15:6443 -m -w 3;"
        "ipset create theirs hash:ip; ipset add theirs 192.0.2.7"
    )
    table, sets = node.ask("ipvsadm-save -n"), node.ask("ipset save theirs")
    said = node.nodeprep("facts", "--topic", "proxy_mode", "--output", "json").check(0).json()
    (server,) = said["nodes"][0]["facts"]["proxy_mode"]["virtual_servers"]
    assert (server["address"], server["scheduler"]) == ("192.0.2.10:443", "wrr")
    assert server["real_servers"][0]["weight"] == 3
    node.ask("sysctl -q net.ipv4.ip_forward=0")
    topics = ("--topic", "packages", "--topic", "kernel_modules", "--topic", "sysctl")
    node.nodeprep("apply", *topics, inventory=with_secret).check(0)
    assert node.ask("ipvsadm-save -n") == table
    assert node.ask("ipset save theirs") == sets
    node.ask("ipvsadm -D -t 192.0.2.10:443; ipset destroy theirs")


def test_the_articles_unit_runs_with_every_flag_of_the_article(
    node: Operator, with_secret: Path
) -> None:
    text = with_secret.read_text().replace("mode: ipvs", "mode: ipvs\n    style: flags")
    text = text.replace(ADDED, ADDED + "\n    masquerade_all: true")
    with_secret.write_text(text)
    node.nodeprep("apply", inventory=with_secret).check(0)
    running = node.ask(
        "tr '\\0' ' ' </proc/$(systemctl show -p MainPID --value kube-proxy)/cmdline"
    )
    for flag in (
        "--bind-address=10.0.2.15",
        "--hostname-override=node1",
        "--cluster-cidr=10.254.0.0/16",
        f"--kubeconfig={KUBECONFIG}",
        "--logtostderr=true",
        "--proxy-mode=ipvs",
        "--masquerade-all=true",
        "--v=2",
    ):
        assert flag in running
    assert node.findings(with_secret)["mode"]["actual"] == "ipvs (/proxyMode)"


def test_after_a_reboot_it_runs_again_in_the_wanted_mode(node: Operator, with_secret: Path) -> None:
    text = with_secret.read_text().replace("mode: ipvs", "mode: ipvs\n    style: flags")
    with_secret.write_text(text.replace(ADDED, ADDED + "\n    masquerade_all: true"))
    node.reboot()
    for _ in range(20):
        if node.findings(with_secret)["mode"]["status"] == "ok":
            break
        time.sleep(3)
    node.nodeprep("verify", inventory=with_secret).check(0)
