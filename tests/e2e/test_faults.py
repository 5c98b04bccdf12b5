"""What goes wrong on real machines, one thing after the other, on one node."""

import random
import shlex
import subprocess
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Inventories
from tests.e2e.cutting_proxy import cutting_proxy
from tests.e2e.operator_of import OURS, Operator

pytestmark = pytest.mark.lab
MINUTES = 7

NETWORK, KUBE_PROXY = "127.79.2", False

LOAD, DROP_IN, UNIT, CONFIG = OURS[0], OURS[2], OURS[3], OURS[5]
SYSCTL = ("--topic", "sysctl")
WRITTEN = (LOAD, DROP_IN, UNIT, CONFIG)


@pytest.fixture
def bare(node: Operator) -> Operator:
    """The node without any file of ours, so that an apply has all of them to write."""
    node.ask(
        f"rm -f {' '.join(WRITTEN)}; sysctl -q net.ipv4.ip_forward=0; "
        "systemctl disable -q kube-proxy 2>/dev/null; rm -f /etc/modprobe.d/theirs.conf; true"
    )
    return node


@pytest.fixture
def unset(node: Operator) -> Operator:
    """The node without our sysctl file; the rest of it does not matter."""
    node.ask(f"rm -rf {DROP_IN}; sysctl -q net.ipv4.ip_forward=0")
    return node


def whole_files(node: Operator) -> dict[str, str]:
    """Return the digest of each of our files that is there, and assert that none is a part."""
    said = node.ask(f"sha256sum {' '.join(WRITTEN)} 2>/dev/null; true")
    return {path: digest for digest, path in (line.split() for line in said.splitlines())}


# --- a way that breaks ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def right(node: Operator) -> dict[str, str]:
    """What the files are once an undisturbed apply has written them."""
    node.nodeprep("apply").check(0)
    return whole_files(node)


# The first session's answer is about 4 kB and the login as much: these cut the second session, at
# its beginning, in the middle of its steps, and shortly before its end.
@pytest.mark.parametrize("after", [8_000, 9_400])
def test_a_connection_cut_in_the_middle_of_apply_leaves_every_file_old_or_new(
    bare: Operator, right: dict[str, str], inventory: Inventories, tmp_path: Path, after: int
) -> None:
    address = bare.lab.node(bare.name).address
    known = tmp_path / "known_hosts"
    with cutting_proxy(address, 2222, after=after) as port:
        line = next(x for x in bare.lab.known_hosts.read_text().splitlines() if address in x)
        known.write_text(f"[127.0.0.1]:{port} {line.split(None, 1)[1]}\n")
        path = inventory(
            ("port: 2222", f"port: {port}"),
            (str(bare.lab.known_hosts), str(known)),
            (f"address: {address}", "address: 127.0.0.1"),
        )
        lost = bare.nodeprep("apply", inventory=path)
    assert lost.code in (0, 4)
    _is_done(bare)
    assert whole_files(bare).items() <= right.items()

    bare.nodeprep("apply").check(0)
    assert whole_files(bare) == right
    assert bare.ask("find / -xdev -name '.nodeprep-*'") == ""


def test_an_apply_killed_on_the_node_leaves_every_file_old_or_new(
    bare: Operator, right: dict[str, str]
) -> None:
    chance = random.Random(7)
    for _ in range(3):
        holder = "/run/nodeprep/holder"
        bare.ask(f"rm -f {' '.join(WRITTEN)} {holder}; sysctl -q net.ipv4.ip_forward=0")
        # The shell that holds the lock dies some time after it took it.
        killer = (
            f"until [ -s {holder} ]; do sleep 0.05; done; sleep {chance.uniform(0, 3):.2f}; "
            f"kill -KILL $(sed 's/.*pid //' {holder})"
        )
        bare.ask(f"setsid sh -c {shlex.quote(killer)} >/dev/null 2>&1 </dev/null &")
        bare.nodeprep("apply")
        assert whole_files(bare).items() <= right.items()
        _is_done(bare)
        bare.nodeprep("apply").check(0)
        assert whole_files(bare) == right
        assert bare.ask("find / -xdev -name '.nodeprep-*'") == ""


def _is_done(node: Operator) -> None:
    free = "[ ! -e /run/nodeprep/lock ] || flock -n /run/nodeprep/lock true"
    for _ in range(60):
        if node.tried(free).code == 0:
            return
        time.sleep(1)
    pytest.fail("the node did not come to an end by itself")


def test_a_changed_host_key_is_refused_before_any_login(
    bare: Operator, inventory: Inventories, tmp_path: Path
) -> None:
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True)
    known = tmp_path / "known_hosts"
    known.write_text(f"[{NETWORK}.11]:2222 {(tmp_path / 'other.pub').read_text()}")
    for policy in ("strict", "accept-new"):
        path = inventory(
            (str(bare.lab.known_hosts), str(known)),
            ("port: 2222", f"port: 2222, host_keys: {policy}"),
        )
        # Each question of ours is one login; whatever else tried to log in would count too.
        logins = "journalctl -b -u ssh -o cat | grep -c '^Accepted pub\\|^Failed\\|ating user'"
        before = int(bare.ask(logins))
        refused = bare.nodeprep("apply", inventory=path).check(4)
        assert "HAS CHANGED" in refused.out
        assert "ssh-keygen -R '[127.79.2.11]:2222'" in refused.out
        assert int(bare.ask(logins)) - before == 1


# --- somebody else was here -----------------------------------------------------------------


def test_a_second_operator_is_told_who_holds_the_node_and_changes_nothing(unset: Operator) -> None:
    unset.ask("mkdir -m 700 -p /run/nodeprep; echo 'run r0 by them' >/run/nodeprep/holder")
    unset.ask("setsid flock -o /run/nodeprep/lock sleep 120 >/dev/null 2>&1 </dev/null & sleep 1")
    before = unset.tree()
    held = unset.nodeprep("apply").check(3)
    assert "run r0 by them" in held.out
    assert unset.tree() == before
    unset.ask("pkill -f 'flock -o /run/nodeprep/lock'")
    unset.nodeprep("apply", *SYSCTL).check(0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        ("echo theirs >{path}", "another hand wrote it"),
        ("ln -s /etc/shadow {path}", "a symbolic link stands there"),
        ("echo '# Managed by nodeprep' >{path}; ln {path} /etc/second", "2 hard links"),
        ("echo '# Managed by nodeprep' >{path}; chattr +i {path}", "cannot be written"),
    ],
    ids=["foreign", "link", "hard link", "immutable"],
)
def test_what_stands_in_the_way_is_named_and_left_as_it_is(
    unset: Operator, make: str, said: str
) -> None:
    look = f"stat -c '%F %a %h %s' {DROP_IN}; sha256sum /etc/shadow; ls -l {DROP_IN}"
    unset.ask(make.format(path=DROP_IN))
    before = unset.ask(look)
    refused = unset.nodeprep("apply", *SYSCTL).check(1)
    assert said in refused.out
    assert unset.ask(look) == before
    unset.ask(f"chattr -i {DROP_IN}; rm -rf {DROP_IN} /etc/second")


def test_a_folder_that_is_a_link_is_refused(unset: Operator) -> None:
    unset.ask("mv /etc/sysctl.d /etc/real.d && ln -s /etc/real.d /etc/sysctl.d")
    refused = unset.nodeprep("apply", *SYSCTL).check(1)
    assert "its folder is a link to /etc/real.d" in refused.out
    assert unset.tried("ls /etc/real.d/99-nodeprep.conf").code != 0
    unset.ask("rm /etc/sysctl.d && mv /etc/real.d /etc/sysctl.d")


def test_a_foreign_file_is_taken_over_when_told_to_and_the_old_one_is_kept(
    unset: Operator, inventory: Inventories
) -> None:
    unset.ask(f"echo theirs >{DROP_IN}; chmod 640 {DROP_IN}")
    adopting = inventory(("  sudo: none", "  sudo: none\n  adopt: true"))
    unset.nodeprep("apply", *SYSCTL, inventory=adopting).check(0)
    assert unset.ask(f"cat /var/lib/nodeprep/previous{DROP_IN}.original") == "theirs\n"
    unset.nodeprep("verify", *SYSCTL).check(0)


def test_a_file_edited_between_plan_and_apply_is_not_overwritten(
    unset: Operator, tmp_path: Path
) -> None:
    unset.nodeprep("apply", *SYSCTL).check(0)
    unset.ask(f"sed -i 's/= 1/= 0/' {DROP_IN}")
    saved = str(tmp_path / "plan.json")
    unset.nodeprep("plan", *SYSCTL, "--out", saved).check(1)
    unset.ask(f"echo '# mine' >>{DROP_IN}")
    before = unset.tree()
    unset.nodeprep("apply", saved).check(3)
    assert unset.tree() == before


def test_a_blacklisted_module_is_named_with_the_file_that_blocks_it(unset: Operator) -> None:
    unset.ask("echo 'install ip_vs_sh /bin/true' >/etc/modprobe.d/theirs.conf")
    finding = unset.findings()["ip_vs_sh"]
    assert finding["status"] == "fail"
    assert "/etc/modprobe.d/theirs.conf: install ip_vs_sh /bin/true" in finding["hint"]
    unset.ask("rm /etc/modprobe.d/theirs.conf")


LEAST_LOADED = ("    mode: ipvs", "    mode: ipvs\n    scheduler: lblcr")
TREE = "/lib/modules/$(uname -r)"


def test_a_module_that_is_gone_is_named_with_the_package_of_the_running_kernel(
    unset: Operator, inventory: Inventories
) -> None:
    file = f"{TREE}/kernel/net/netfilter/ipvs/ip_vs_lblcr.ko"
    unset.ask(f"mv {file} /root/ && depmod")
    finding = unset.findings(inventory(LEAST_LOADED))["ip_vs_lblcr"]
    release = unset.ask("uname -r").strip()
    assert finding["actual"] == "missing"
    assert finding["hint"] == f"apt-get install --reinstall linux-image-{release}"
    unset.ask(f"mv /root/ip_vs_lblcr.ko {file} && depmod")


def test_a_node_whose_modules_are_another_kernels_is_told_to_reboot(
    unset: Operator, inventory: Inventories
) -> None:
    release = unset.ask("uname -r").strip()
    unset.ask(f"mv {TREE} /lib/modules/6.99.0-1-amd64")
    finding = unset.findings(inventory(LEAST_LOADED))["ip_vs_lblcr"]
    assert finding["actual"] == "only for another kernel (6.99.0-1-amd64)"
    assert finding["hint"].startswith(f"reboot: {release} runs")
    unset.ask(f"mv /lib/modules/6.99.0-1-amd64 {TREE}")


def test_a_later_file_that_overrides_ours_is_named(unset: Operator) -> None:
    unset.nodeprep("apply", *SYSCTL).check(0)
    unset.ask("echo 'net.ipv4.ip_forward=0' >/etc/sysctl.d/99-zz-theirs.conf")
    finding = unset.findings()["net.ipv4.ip_forward"]
    assert finding["status"] == "fail"
    assert "/etc/sysctl.d/99-zz-theirs.conf, line 1" in finding["hint"]
    unset.ask("rm /etc/sysctl.d/99-zz-theirs.conf")


def test_a_step_that_fails_stops_the_rest_and_says_why(
    bare: Operator, inventory: Inventories
) -> None:
    path = inventory(("  sudo: none", "  sudo: none\n  packages: [no-such-package]"))
    failed = bare.nodeprep("apply", inventory=path).check(1)
    assert "Unable to locate package no-such-package" in failed.out
    assert "not tried" in failed.out
    assert whole_files(bare) == {}
    bare.nodeprep("apply").check(0)


def test_packages_come_from_a_directory_of_the_node_where_there_is_no_repository(
    unset: Operator, inventory: Inventories
) -> None:
    sources = "/etc/apt/sources.list"
    unset.ask(
        "mkdir -p /srv/packages && cd /srv/packages && apt-get -q update && "
        "apt-get -q download ipset libipset13 ipvsadm nftables libnftables1 && "
        f"dpkg --purge ipset libipset13 ipvsadm && mv {sources} /root/ && rm -r /var/lib/apt/lists"
    )
    path = inventory(("  sudo: none", "  sudo: none\n  packages_from: /srv/packages"))
    unset.nodeprep("apply", inventory=path).check(0)
    installed = unset.ask("dpkg-query -W -f='${Package} ${db:Status-Status}\\n'")
    assert "ipset installed" in installed
    assert "ipvsadm installed" in installed
    # What nobody asked for stays where it is, and nothing of ours is left behind.
    assert "nftables installed" not in installed
    assert unset.ask("ls /run/nodeprep; ls /srv/packages | wc -l").split() == [
        "holder",
        "lock",
        "5",
    ]
    unset.ask(f"mv /root/sources.list {sources}")


# --- the article's own way to persist modules -----------------------------------------------

# What EL 7's own does: each executable file is run.
PROGRAM = """\
#!/bin/sh
for file in /etc/sysconfig/modules/*.modules; do
  [ -x "$file" ] && "$file"
done
"""
READER = """\
[Unit]
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target
[Service]
Type=oneshot
ExecStart=/usr/lib/systemd/rhel-loadmodules
[Install]
WantedBy=sysinit.target
"""


def test_where_the_init_reads_it_ipvs_modules_alone_brings_the_modules_back(
    bare: Operator,
) -> None:
    unit = "/etc/systemd/system/rhel-loadmodules.service"
    program = "/usr/lib/systemd/rhel-loadmodules"
    bare.ask(f"cat >{program} <<'END'\n{PROGRAM}END\nchmod 755 {program}")
    bare.ask(f"cat >{unit} <<'END'\n{READER}END\nsystemctl enable -q rhel-loadmodules")
    bare.nodeprep("apply").check(0)
    assert bare.ask("stat -c %a /etc/sysconfig/modules/ipvs.modules") == "755\n"
    bare.ask(f"mv {LOAD} /root/")
    bare.reboot()
    loaded = {line.split()[0] for line in bare.ask("lsmod").splitlines()}
    assert {"ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack"} <= loaded
    assert bare.findings()[LOAD]["status"] == "fail"
    bare.ask(f"mv /root/nodeprep.conf {LOAD}; rm {unit} {program}")
