"""systemd-networkd: what it is told to leave alone, when it knows it, and whose a device is."""

import dataclasses
import shutil
import subprocess
from pathlib import Path

import pytest

from nodeprep.model import APPLY, Facts, FileState, Finding, Node, Status
from nodeprep.sharing import UNIT_SHOWN
from nodeprep.topics import networkd as topic
from nodeprep.topics.networkd import CONF, KEEPING, NETWORK, NETWORKD, Link, Networkd, retaken
from tests import facts
from tests.shells import NEEDS_ROOT, PATH, in_root, stand_ins
from tests.topics import NOW, named, node, of, placed

ON = Networkd(used=True, active=True, reloads=True, knows=KEEPING[:2], started=NOW - 100)
IPVS = node(mode="ipvs")
OURS = placed(*topic.desired(IPVS, ON))


def seen(networkd: Networkd, *states: FileState) -> Facts:
    return of({NETWORKD: networkd}, *states)


def with_link(state: str, file: str = "") -> Networkd:
    return dataclasses.replace(ON, links={"kube-ipvs0": Link(state=state, file=file)})


def subjects(wanted: Node, found: Facts) -> list[str]:
    return [change.subject for change in topic.changes(wanted, found)]


def device(networkd: Networkd, *states: FileState) -> Finding:
    return named(topic.findings(IPVS, seen(networkd, *states)), "kube-ipvs0 (networkd)")


# --- what is done ---------------------------------------------------------------------------


def test_where_it_is_not_used_there_is_nothing_to_do_or_to_say() -> None:
    found = seen(facts.read(NETWORKD, "debian12-container"))
    assert topic.changes(IPVS, found) == ()
    assert topic.findings(IPVS, found) == ()


def test_it_is_told_to_keep_the_routes_and_rules_of_others_and_to_leave_the_devices() -> None:
    conf, network, read = topic.changes(IPVS, seen(ON))
    assert "+ManageForeignRoutes=no" in conf.diff.splitlines()
    assert "+ManageForeignRoutingPolicyRules=no" in conf.diff.splitlines()
    assert "+Name=kube-ipvs0 nodelocaldns" in network.diff.splitlines()
    assert "+Unmanaged=yes" in network.diff.splitlines()
    assert str(read.action).startswith("networkctl reload || return\n")


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_in_another_mode_routes_matter_and_devices_do_not(mode: str) -> None:
    assert subjects(node(mode=mode), seen(ON)) == [CONF]
    taken = with_link("configured", "/etc/systemd/network/50-all.network")
    findings = topic.findings(node(mode=mode), seen(taken, *OURS[:1]))
    assert [finding.name for finding in findings] == [CONF]


def test_it_is_never_restarted() -> None:
    for started in (None, NOW - 100, NOW - 9000):
        changes = topic.changes(IPVS, seen(dataclasses.replace(ON, started=started)))
        assert not any("restart" in str(change.action) for change in changes)


def test_only_what_its_program_knows_is_written() -> None:
    (conf, *_) = topic.changes(IPVS, seen(dataclasses.replace(ON, knows=KEEPING[:1])))
    assert "+ManageForeignRoutes=no" in conf.diff.splitlines()
    assert KEEPING[1] not in conf.diff


def test_one_that_knows_none_of_it_is_a_warning() -> None:
    old = dataclasses.replace(ON, knows=(), reloads=False)
    assert subjects(IPVS, seen(old)) == [NETWORK]
    finding = named(topic.findings(IPVS, seen(old)), "foreign routes")
    assert (finding.status, finding.wanted) == (Status.WARN, "systemd 246 or newer")


@pytest.mark.parametrize(
    "networkd", [dataclasses.replace(ON, active=False), dataclasses.replace(ON, reloads=False)]
)
def test_one_that_does_not_run_or_cannot_reload_is_not_told_to(networkd: Networkd) -> None:
    assert "systemd-networkd" not in subjects(IPVS, seen(networkd))


def test_a_second_time_there_is_nothing_to_do() -> None:
    assert topic.changes(IPVS, seen(with_link("unmanaged"), *OURS)) == ()


# --- how it is asked ------------------------------------------------------------------------


def test_any_shell_finds_what_its_program_knows_and_whose_a_device_is(
    shell: str, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    taken = "# This is private data.\nADMIN_STATE=configured\nNETWORK_FILE=/etc/x/50-all.network\n"
    for path, text in {
        "run/systemd/netif/state": "OPER_STATE=routable\n",
        "run/systemd/netif/links/7": taken,
        "sys/class/net/kube-ipvs0/ifindex": "7\n",
        "proc/stat": "cpu 1\nbtime 1795400000\n",
        "lib/systemd/systemd-networkd": "\0Network.ManageForeignRoutes\0ReconfigureLink\0",
        "etc/systemd/networkd.conf": "[Network]\n#SpeedMeter=no\nManageForeignRoutes=yes\n",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    (root / "lib/systemd/systemd-networkd").chmod(0o755)
    unit = "ActiveState=active\nExecMainStartTimestampMonotonic=4210000"
    path = stand_ins(tmp_path, {"systemctl": unit})
    found = NETWORKD.parse(in_root(shell, UNIT_SHOWN + NETWORKD.script(IPVS), root, path))
    assert (found.used, found.active, found.reloads) == (True, True, True)
    assert found.knows == ("ManageForeignRoutes",)
    assert found.started == 1_795_400_004
    assert found.links == {"kube-ipvs0": Link(state="configured", file="/etc/x/50-all.network")}
    assert [setting.line for setting in found.settings] == [3]


# --- what it knows of it --------------------------------------------------------------------


def foreign(started: int | None, mtime: int, *, active: bool = True) -> list[Finding]:
    networkd = dataclasses.replace(ON, started=started, active=active)
    ours = placed(*topic.desired(IPVS, ON), mtime=mtime)
    findings = topic.findings(IPVS, seen(networkd, *ours))
    return [finding for finding in findings if finding.name == "foreign routes"]


def test_one_that_began_before_the_file_reads_it_at_its_next_start() -> None:
    (finding,) = foreign(NOW - 100, NOW - 50)
    assert finding.status is Status.WARN
    assert "systemctl restart systemd-networkd" in finding.hint


@pytest.mark.parametrize(
    ("started", "mtime", "active"),
    [
        (NOW - 50, NOW - 100, True),
        (NOW - 100, NOW - 99, True),
        (NOW - 100, NOW - 50, False),
        (None, NOW - 50, True),
    ],
    ids=["a later start", "the same second", "not running", "no time known"],
)
def test_otherwise_nothing_is_said(started: int | None, mtime: int, *, active: bool) -> None:
    assert foreign(started, mtime, active=active) == []


LATER = "/etc/systemd/networkd.conf.d/zz-site.conf"


def conf(file: str, value: str, section: str = "[Network]") -> Networkd:
    return NETWORKD.parse(f"{file}:1:{section}\n{file}:3:ManageForeignRoutes={value}\n")


def test_a_later_drop_in_that_takes_it_back_is_named_with_its_line() -> None:
    found = dataclasses.replace(ON, settings=conf(LATER, "yes").settings)
    finding = named(topic.findings(IPVS, seen(found, *OURS)), "ManageForeignRoutes")
    assert (finding.status, finding.actual) == (Status.FAIL, f"yes ({LATER}:3)")
    assert finding.hint == f"take `ManageForeignRoutes` out of {LATER}, line 3"


@pytest.mark.parametrize(
    ("file", "value", "section"),
    [
        (LATER, "no", "[Network]"),
        (LATER, "yes", "[DHCPv4]"),
        ("/etc/systemd/networkd.conf", "yes", "[Network]"),
        ("/usr/lib/systemd/networkd.conf.d/10-vendor.conf", "yes", "[Network]"),
        ("/usr/lib/systemd/networkd.conf.d/nodeprep.conf", "yes", "[Network]"),
        (CONF, "yes", "[Network]"),
    ],
)
def test_an_earlier_file_or_the_same_word_takes_nothing_back(
    file: str, value: str, section: str
) -> None:
    assert retaken(conf(file, value, section).settings, "ManageForeignRoutes") is None


def test_a_vendors_later_drop_in_counts_too_unless_one_of_its_name_is_in_etc() -> None:
    vendor = f"/usr/lib{LATER[4:]}"
    assert retaken(conf(vendor, "true").settings, "ManageForeignRoutes") is not None
    both = f"{vendor}:1:[Network]\n{vendor}:2:ManageForeignRoutes=yes\n"
    both += f"{LATER}:1:[Network]\n{LATER}:2:ManageForeignRoutes=no\n"
    assert retaken(NETWORKD.parse(both).settings, "ManageForeignRoutes") is None


# --- whose a device is ----------------------------------------------------------------------


@pytest.mark.parametrize("state", ["unmanaged", "pending", "initialized"])
def test_a_device_it_has_not_taken_is_well(state: str) -> None:
    assert device(with_link(state), *OURS).status is Status.OK


def test_a_device_that_a_file_for_all_has_taken_is_let_go_by_a_reload() -> None:
    taken = with_link("configured", "/etc/systemd/network/50-all.network")
    finding = device(taken, *OURS)
    assert (finding.status, finding.hint) == (Status.FAIL, APPLY)
    assert finding.actual == "configured by /etc/systemd/network/50-all.network"
    assert subjects(IPVS, seen(taken, *OURS)) == ["systemd-networkd"]


def test_a_file_that_comes_before_ours_is_named_and_no_reload_is_tried() -> None:
    taken = with_link("configured", "/etc/systemd/network/00-all.network")
    assert "let /etc/systemd/network/00-all.network match fewer" in device(taken, *OURS).hint
    assert subjects(IPVS, seen(taken, *OURS)) == []


def test_beside_somebody_elses_file_nothing_is_reloaded() -> None:
    conf_file, network = OURS
    theirs = dataclasses.replace(network, ours=False, digest="0" * 64)
    taken = with_link("configured", "/etc/systemd/network/50-all.network")
    assert device(taken, conf_file, theirs).hint == f"see {NETWORK} above first"
    assert subjects(IPVS, seen(taken, conf_file, theirs)) == []


def test_an_old_one_that_has_taken_it_wants_a_restart_by_the_operator() -> None:
    taken = with_link("configured", "/etc/systemd/network/50-all.network")
    old = dataclasses.replace(taken, reloads=False)
    assert "systemctl restart systemd-networkd" in device(old, *OURS).hint


# --- the real one ---------------------------------------------------------------------------

PROGRAM = shutil.which("systemd-networkd", path="/usr/lib/systemd:/lib/systemd")
FOREIGN = ("10.200.0.0/24 via 10.99.0.9 dev cni0", "from 10.200.0.7 lookup 200")
# Names of its own for everything: its state and its files are in folders that only it sees. A link
# counts as seen by udev where udev has a file for it.
RESTARTED = """\
mount -t tmpfs none /run && mount -t tmpfs none /etc/systemd && mount -t sysfs none /sys || exit 77
mkdir -p /run/systemd/netif /run/udev/data /etc/systemd/network /etc/systemd/networkd.conf.d
chown -R systemd-network /run/systemd/netif
ip link set lo up
ip link add cni0 type veth peer name far0
ip link set far0 up
for link in lo cni0 far0; do : >/run/udev/data/n$(cat /sys/class/net/$link/ifindex); done
printf '[Match]\\nName=cni0\\n[Network]\\nLinkLocalAddressing=no\\nAddress=10.99.0.1/24\\n%s' \\
  KeepConfiguration=static >/etc/systemd/network/40-cni.network
is_configured() {
  tries=0
  until grep -qs ADMIN_STATE=configured /run/systemd/netif/links/*; do
    [ $tries -lt 100 ] || exit 77
    tries=$((tries + 1))
    sleep 0.1
  done
}
"$PROGRAM" 2>/dev/null &
is_configured
ip route add 10.200.0.0/24 via 10.99.0.9 dev cni0 proto 80
ip rule add from 10.200.0.7 lookup 200
kill $! && wait $!
rm -f /run/systemd/netif/links/*
cat >/etc/systemd/networkd.conf.d/nodeprep.conf
"$PROGRAM" 2>/dev/null &
is_configured
sleep 0.5
ip route
ip rule
kill $! && wait $!
"""


def after_a_restart(drop_in: str) -> str:
    """Return the routes and rules that a restart of systemd-networkd leaves of others."""
    done = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "sh", "-c", RESTARTED],
        input=drop_in,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": PATH, "PROGRAM": str(PROGRAM)},
    )
    if done.returncode == 77 or "unshare:" in done.stderr:
        pytest.skip(f"systemd-networkd does not run by itself here: {done.stderr}")
    return done.stdout


@NEEDS_ROOT
@pytest.mark.skipif(PROGRAM is None, reason="there is no systemd-networkd here")
def test_a_restart_takes_what_a_cni_made_unless_our_file_is_there() -> None:
    content = topic.desired(IPVS, ON)[0].text
    lost, kept = after_a_restart(""), after_a_restart(content)
    assert [what in lost for what in FOREIGN] == [False, False]
    assert [what in kept for what in FOREIGN] == [True, True]
