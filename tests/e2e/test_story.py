"""Three bare machines, one file: one command makes them ready, another proves it.

The tests of this file follow each other on one node, as its operator's day does.
"""

from pathlib import Path

import pytest

from tests.e2e.conftest import Inventories
from tests.e2e.operator_of import OURS, Operator, run

pytestmark = pytest.mark.lab
MINUTES = 3

NETWORK, KUBE_PROXY = "127.79.1", False

STATE = "/var/lib/nodeprep/"
MODULES = ("br_netfilter", "nf_conntrack", "ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh")
BRIDGE = "/proc/sys/net/bridge/bridge-nf-call-ip"

FOREIGN = {
    "/etc/sysctl.d/50-theirs.conf": "net.core.somaxconn = 2048\n",
    "/etc/modules-load.d/theirs.conf": "dummy\n",
    "/etc/systemd/system/theirs.service": "[Service]\nExecStart=/bin/true\n",
    "/etc/sysctl.conf": "# theirs\nvm.swappiness = 10\n",
}


def test_an_unprepared_node_fails_with_each_thing_and_what_to_type(node: Operator) -> None:
    run = node.nodeprep("verify", "--output", "json").check(1)
    findings = {f["name"]: f for f in run.json()["nodes"][0]["findings"]}
    wrong = {name for name, finding in findings.items() if finding["status"] == "fail"}
    assert wrong >= {*MODULES, "ipset", "ipvsadm", "net.ipv4.ip_forward", *OURS[::2][:1]}
    assert all(findings[name]["hint"] and findings[name]["wanted"] for name in wrong)
    assert findings["binary"]["status"] == "skip"


def test_a_plan_shows_every_diff_and_touches_nothing(node: Operator) -> None:
    before = node.tree()
    said = node.nodeprep("plan").check(1).out
    assert "+net.bridge.bridge-nf-call-iptables = 1" in said
    assert '+mode: "ipvs"' in said
    assert node.tree() == before


def test_apply_makes_it_ready_and_leaves_everything_foreign_as_it_was(node: Operator) -> None:
    for path, text in FOREIGN.items():
        node.ask(f"cat >{path} <<'END'\n{text}END")
    node.ask("iptables -t nat -N THEIRS; iptables -t nat -A THEIRS -d 192.0.2.1 -j RETURN")
    rules = "iptables-save | grep -v '^#'"
    before, rules_before = node.tree(), node.ask(rules)

    node.nodeprep("apply").check(0)

    after = node.tree()
    changed = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    of_packages = set(node.ask("cat /var/lib/dpkg/info/*.list").splitlines())
    assert {path for path in changed - of_packages if not path.startswith(STATE)} <= {*OURS}
    assert set(FOREIGN) & changed == set()
    assert node.ask(rules) == rules_before


def test_what_nodeprep_says_is_what_the_node_says(node: Operator) -> None:
    _agrees(node)


def test_a_second_apply_writes_nothing_and_restarts_nothing(node: Operator) -> None:
    units = "kube-proxy ssh systemd-modules-load systemd-sysctl"
    starts = f"systemctl show -p ActiveEnterTimestamp -p InactiveEnterTimestamp {units}"
    before, started = node.tree(), node.ask(starts)
    said = node.nodeprep("apply").check(0).out
    assert "0 changes made" in said
    assert node.tree() == before
    assert node.ask(starts) == started


@pytest.mark.parametrize(
    ("command", "disturb", "connections", "sessions"),
    [
        ("verify", "true", 1, 1),
        ("apply", "true", 1, 1),
        ("apply", "sysctl -q net.ipv4.ip_forward=0", 1, 2),
    ],
    ids=["verify", "apply without a change", "apply with a change"],
)
def test_a_visit_is_one_connection(
    node: Operator, command: str, disturb: str, connections: int, sessions: int
) -> None:
    node.ask(disturb)
    before = node.sshd_counts()
    node.nodeprep(command).check(0)
    after = node.sshd_counts()
    assert (after[0] - before[0] - 1, after[1] - before[1] - 1) == (connections, sessions)


def test_a_saved_plan_is_carried_out_once_and_refused_after_that(
    node: Operator, tmp_path: Path
) -> None:
    node.ask("sysctl -q net.ipv4.ip_forward=0")
    saved = str(tmp_path / "plan.json")
    node.nodeprep("plan", "--out", saved).check(1)
    node.nodeprep("apply", saved).check(0)
    refused = node.nodeprep("apply", saved).check(3)
    assert "has changed since the plan was made" in refused.out


def test_a_node_that_does_not_answer_hides_no_other(node: Operator, inventory: Inventories) -> None:
    path = inventory(nodes="  - {name: gone, address: 127.79.1.99}\n")
    said = run("verify", "-i", str(path), "--limit", f"{node.name},gone", "-o", "json").check(4)
    told = {each["name"]: each for each in said.json()["nodes"]}
    assert told[node.name]["ready"] is True
    assert told["gone"]["error"]["kind"] == "Unreachable"


@pytest.mark.parametrize("user", ["operator", "guarded"])
def test_sudo_does_as_well_as_root(node: Operator, inventory: Inventories, user: str) -> None:
    password = node.lab.guarded_password
    sudo = "passwordless" if user == "operator" else f'{{password: {{file: "{password}"}}}}'
    path = inventory(("user: root", f"user: {user}"), ("sudo: none", f"sudo: {sudo}"))
    node.ask("sysctl -q net.ipv4.ip_forward=0")
    node.nodeprep("apply", inventory=path).check(0)
    assert node.ask("cat /proc/sys/net/ipv4/ip_forward") == "1\n"


def test_a_wrong_sudo_password_is_tried_once(
    node: Operator, inventory: Inventories, tmp_path: Path
) -> None:
    (tmp_path / "wrong").write_text("not-the-password\n")
    sudo = f'{{password: {{file: "{tmp_path / "wrong"}"}}}}'
    path = inventory(("user: root", "user: guarded"), ("sudo: none", f"sudo: {sudo}"))
    count = "journalctl -b -o cat | grep -c 'guarded : .*incorrect password' || true"
    before = int(node.ask(count))
    refused = node.nodeprep("verify", inventory=path).check(4)
    assert "sudo refused" in refused.out
    assert "not-the-password" not in refused.out + refused.err
    assert int(node.ask(count)) - before <= 1
    tried = node.ask("journalctl -b -o cat | grep 'guarded : .*incorrect password' | tail -n 1")
    assert "1 incorrect password attempt" in tried


def test_a_reboot_loses_nothing(node: Operator) -> None:
    node.reboot()
    node.nodeprep("verify").check(0)
    _agrees(node)


def _agrees(node: Operator) -> None:
    findings = node.findings()
    assert {f["status"] for f in findings.values()} <= {"ok", "skip"}
    loaded = {line.split()[0] for line in node.ask("lsmod").splitlines()}
    assert {*MODULES} <= loaded
    assert node.ask(f"cat {BRIDGE}tables {BRIDGE}6tables") == "1\n1\n"
    assert node.ask("cat /proc/sys/net/ipv4/ip_forward") == "1\n"
    for package in ("ipset", "ipvsadm"):
        assert "Status: install ok installed" in node.ask(f"dpkg -s {package}")
        assert findings[package]["actual"] in node.ask(f"dpkg -s {package}")
    assert node.ask("systemctl is-enabled kube-proxy").strip() == findings["enabled"]["actual"]
    assert node.tried("systemctl is-active kube-proxy").out.strip() in findings["active"]["actual"]
