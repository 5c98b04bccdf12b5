"""Kernel parameters: what counts as right, who else sets them, and what is done about it."""

from pathlib import Path
from typing import Any

import pytest

from nodeprep.model import Change, Facts, Node, Status, Sysctl
from nodeprep.shell import Script
from nodeprep.topics import sysctl as topic
from nodeprep.topics.sysctl import PARAMETERS, Assignment, override, satisfied
from tests import facts
from tests.namespaces import Namespace
from tests.shells import NEEDS_ROOT, output
from tests.topics import SYSCTLS, named, node, of

FORWARD = Sysctl(key="net.ipv4.ip_forward", value="1")
MAXIMUM = Sysctl(key="net.netfilter.nf_conntrack_max", value="131072", bound="at_least")
VALUES = """\
/proc/sys/net/ipv4/ip_forward:1
/proc/sys/net/bridge/bridge-nf-call-iptables:1
/proc/sys/net/bridge/bridge-nf-call-ip6tables:1
"""


def seen(text: str) -> Facts:
    return of({PARAMETERS: PARAMETERS.parse(text)})


NOTHING = PARAMETERS.parse("")


def late(text: str, wanted: Sysctl = FORWARD) -> Assignment | None:
    return override(wanted, PARAMETERS.parse(text))


def test_every_mode_gets_what_kube_proxy_does_not_set_itself() -> None:
    assert [sysctl.key for sysctl in topic.desired(node(mode="nftables"), NOTHING)] == [
        "net.ipv4.ip_forward",
        "net.bridge.bridge-nf-call-iptables",
        "net.bridge.bridge-nf-call-ip6tables",
    ]


def test_the_inventorys_word_counts_over_ours() -> None:
    off = Sysctl(key="net.bridge.bridge-nf-call-iptables", value="0")
    wanted = topic.desired(node(mode="iptables", sysctls=(off,)), NOTHING)
    assert off in wanted
    assert len(wanted) == 3


@pytest.mark.parametrize(
    ("wanted", "actual", "right"),
    [
        ("1", "1", True),
        ("1", "10", False),
        ("10", "1", False),
        ("1", "", False),
        ("1", None, False),
        ("4096 87380  6291456", "4096\t87380 6291456".replace("\t", " "), True),
    ],
)
def test_values_are_compared_exactly(wanted: str, actual: str | None, *, right: bool) -> None:
    assert satisfied(Sysctl(key="x", value=wanted), actual) is right


@pytest.mark.parametrize(
    ("actual", "right"),
    [
        ("131072", True),
        ("262144", True),
        ("99999", False),
        ("-1", False),
        ("--5", False),
        ("²", False),
        ("many", False),
        ("9" * 5000, False),
        (None, False),
    ],
)
def test_a_minimum_is_compared_by_size(actual: str | None, *, right: bool) -> None:
    assert satisfied(MAXIMUM, actual) is right


def test_tabs_and_spaces_in_a_value_are_one_space() -> None:
    parsed = PARAMETERS.parse("/proc/sys/net/ipv4/tcp_rmem:4096\t131072\t6291456\n")
    assert parsed.values == {"/proc/sys/net/ipv4/tcp_rmem": "4096 131072 6291456"}


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.conf.eth0/100.rp_filter", "/proc/sys/net/ipv4/conf/eth0.100/rp_filter"),
        ("net/ipv4/conf/eth0.100/rp_filter", "/proc/sys/net/ipv4/conf/eth0.100/rp_filter"),
    ],
)
def test_the_first_separator_of_a_key_decides_which_one_separates(key: str, path: str) -> None:
    assert topic.proc_path(key) == path


def test_a_parameter_that_is_not_there_is_written_all_the_same() -> None:
    # br_netfilter is loaded by an earlier step of the same run: by then the parameter exists.
    found = of({PARAMETERS: facts.read(PARAMETERS, "centos7-no-br_netfilter")})
    finding = named(topic.findings(node(), found), "net.bridge.bridge-nf-call-iptables")
    assert (finding.status, finding.actual, finding.hint) == (
        Status.FAIL,
        "not there",
        "nodeprep apply",
    )
    summaries = [change.summary for change in topic.changes(node(), found)]
    assert "set net.bridge.bridge-nf-call-iptables = 1 (not there yet)" in summaries


def test_only_what_differs_is_set() -> None:
    found = of({PARAMETERS: facts.read(PARAMETERS, "debian12-container")})
    _, *changes = topic.changes(node(mode="iptables"), found)
    (change,) = changes
    assert str(change.action) == "printf '%s\\n' '1' >/proc/sys/net/ipv4/ip_forward"


def test_a_later_file_that_takes_it_back_is_named_with_its_line() -> None:
    found = seen(VALUES + "/etc/sysctl.d/99-zz.conf:7:net.ipv4.ip_forward = 0\n")
    finding = named(topic.findings(node(), found), FORWARD.key)
    assert finding.status is Status.FAIL
    assert finding.actual == "1 now, 0 after a reboot (/etc/sysctl.d/99-zz.conf:7)"
    assert finding.hint == "take `net.ipv4.ip_forward` out of /etc/sysctl.d/99-zz.conf, line 7"


@pytest.mark.parametrize(
    "line",
    [
        "/etc/sysctl.d/10-first.conf:1:net.ipv4.ip_forward = 0",
        "/usr/lib/sysctl.d/50-default.conf:1:net.ipv4.ip_forward = 0",
        "/etc/sysctl.d/99-zz.conf:1:net.ipv4.ip_forward = 1",
        "/etc/sysctl.d/99-zz.conf:1:net.ipv4.ip_forward_use_pmtu = 0",
        "/etc/sysctl.d/99-nodeprep.conf:2:net.ipv4.ip_forward = 0",
    ],
)
def test_an_earlier_file_or_the_same_value_takes_nothing_back(line: str) -> None:
    assert late(f"{line}\n") is None


def test_sysctl_conf_is_read_last_and_the_last_line_counts() -> None:
    text = (
        "/etc/sysctl.d/99-zz.conf:1:net.ipv4.ip_forward=0\n"
        "/etc/sysctl.conf:3:net.ipv4.ip_forward=0\n"
        "/etc/sysctl.conf:9:net.ipv4.ip_forward=1\n"
    )
    assert late(text) is None
    assert late(text.replace("=1", "=2")) == Assignment(
        file="/etc/sysctl.conf", line=9, key="net.ipv4.ip_forward", value="2"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/etc/sysctl.d", "/run/sysctl.d"),
        ("/run/sysctl.d", "/usr/local/lib/sysctl.d"),
        ("/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"),
        ("/etc/sysctl.d", "/lib/sysctl.d"),
    ],
)
def test_of_two_files_of_one_name_the_first_folders_counts(first: str, second: str) -> None:
    good, bad = "99-zz.conf:1:net.ipv4.ip_forward=1\n", "99-zz.conf:1:net.ipv4.ip_forward=0\n"
    assert late(f"{first}/{good}{second}/{bad}") is None
    assert late(f"{first}/{bad}{second}/{good}") is not None


def test_the_vendors_file_of_centos_7_is_overridden_by_an_administrators() -> None:
    parsed = facts.read(PARAMETERS, "centos7")
    assert [(a.file.rpartition("/")[2], a.line) for a in parsed.assignments] == [
        ("00-system.conf", 7),
        ("00-system.conf", 8),
        ("k8s.conf", 1),
        ("k8s.conf", 2),
        ("k8s.conf", 3),
    ]


@pytest.mark.parametrize(
    "key", ["net.ipv4.*", "net/ipv4/*", "-net.ipv4.ip_f*", "- net.ipv4.ip_?orward"]
)
def test_an_assignment_with_a_wildcard_counts(key: str) -> None:
    found = late(f"/etc/sysctl.d/99-zz.conf:1:{key} = 0\n")
    assert found is not None
    assert found.key == key.lstrip("- ")


def test_a_minimum_is_written_only_where_it_was_needed_and_stays_once_ours() -> None:
    wanted = node(sysctls=(MAXIMUM,))
    enough = VALUES + "/proc/sys/net/netfilter/nf_conntrack_max:262144\n"
    ours = "/etc/sysctl.d/99-nodeprep.conf:5:net.netfilter.nf_conntrack_max = 131072\n"
    too_low = enough.replace("262144", "65536")
    assert "nf_conntrack_max" not in drop_in(wanted, enough)
    assert "nf_conntrack_max = 131072" in drop_in(wanted, enough + ours)
    assert "nf_conntrack_max = 131072" in drop_in(wanted, too_low)


def drop_in(wanted: Node, text: str) -> str:
    (change, *_) = topic.changes(wanted, seen(text))
    assert change.subject == topic.DROP_IN
    return change.diff


def test_a_minimum_that_holds_but_is_lowered_by_a_later_file_fails() -> None:
    text = "/etc/sysctl.conf:1:net.netfilter.nf_conntrack_max = 65536\n"
    assert late(text, MAXIMUM) is not None
    assert late(text.replace("65536", "--5"), MAXIMUM) is not None
    assert late(text.replace("65536", "200000"), MAXIMUM) is None


# --- bounds ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("actual", "right"), [("600", True), ("75", True), ("7200", False)])
def test_a_maximum_is_compared_by_size(actual: str, *, right: bool) -> None:
    assert satisfied(KEEPALIVE, actual) is right


KEEPALIVE = Sysctl(key="net.ipv4.tcp_keepalive_time", value="600", bound="at_most")
OF_IPVS = SYSCTLS.replace("tcp_keepalive_time:600", "tcp_keepalive_time:{}")


def test_a_shorter_keepalive_of_the_machines_own_is_left_alone() -> None:
    theirs = OF_IPVS.format(60) + "/etc/sysctl.d/50-x.conf:1:net.ipv4.tcp_keepalive_time = 60\n"
    assert named(topic.findings(node(), seen(theirs)), KEEPALIVE.key).status is Status.OK
    assert "tcp_keepalive_time" not in drop_in(node(), theirs)


def test_a_keepalive_that_no_file_keeps_is_lost_at_the_next_boot_and_so_written() -> None:
    assert "tcp_keepalive_time = 600" in drop_in(node(), OF_IPVS.format(600))


def test_connections_are_kept_alive_before_ipvs_forgets_them() -> None:
    finding = named(topic.findings(node(), seen(OF_IPVS.format(7200))), KEEPALIVE.key)
    assert (finding.status, finding.wanted) == (Status.FAIL, "at most 600")
    assert "tcp_keepalive_time = 600" in drop_in(node(), OF_IPVS.format(7200))


# --- what the kernel has not ----------------------------------------------------------------


OLD = "net.ipv4.tcp_tw_recycle"


def test_a_parameter_that_no_kernel_of_this_kind_has_is_skipped_and_said() -> None:
    gone = SYSCTLS + "home /proc/sys/net/ipv4/vs\nabsent /proc/sys/net/ipv4/vs/conntrack\n"
    found = seen(gone.replace("/proc/sys/net/ipv4/vs/conntrack:1\n", ""))
    finding = named(topic.findings(node(), found), "net.ipv4.vs.conntrack")
    assert (finding.status, finding.actual) == (Status.SKIP, "not in this kernel")
    assert "net.ipv4.vs.conntrack" not in str(topic.changes(node(), found))


def test_one_of_the_inventorys_that_the_kernel_has_not_may_be_a_slip_of_the_pen() -> None:
    wanted = node(sysctls=(Sysctl(key=OLD, value="0"),))
    found = seen(SYSCTLS + "home /proc/sys/net/ipv4\nabsent /proc/sys/net/ipv4/tcp_tw_recycle\n")
    finding = named(topic.findings(wanted, found), OLD)
    assert finding.status is Status.WARN
    assert finding.hint == f"check the name, or take `{OLD}` out of `sysctls`"
    assert OLD not in str(topic.changes(wanted, found))


def test_a_parameter_whose_module_is_not_loaded_yet_is_set_after_it() -> None:
    found = seen(SYSCTLS + "absent /proc/sys/net/netfilter/nf_conntrack_max\n")
    wanted = node(sysctls=(MAXIMUM,))
    assert "set net.netfilter.nf_conntrack_max = 131072 (not there yet)" in [
        change.summary for change in topic.changes(wanted, found)
    ]


def test_the_trackers_own_parameters_come_with_the_tracker_not_with_their_folder() -> None:
    script = PARAMETERS.script(node(sysctls=(MAXIMUM,)))
    assert "/proc/sys/net/netfilter/nf_conntrack_max; do" in script


# --- what kube-proxy sets itself ------------------------------------------------------------


def test_what_kube_proxy_sets_at_its_start_is_not_fought_over() -> None:
    more = Sysctl(key=MAXIMUM.key, value="1048576", bound="at_least")
    found = seen(SYSCTLS + "/proc/sys/net/netfilter/nf_conntrack_max:262144\n")
    finding = named(topic.findings(node(sysctls=(more,)), found), MAXIMUM.key)
    assert finding.status is Status.WARN
    assert finding.actual == "262144, and kube-proxy sets it at each start"
    assert finding.hint.startswith("set `kube_proxy: {conntrack_max_per_core: 0}`")
    assert MAXIMUM.key not in str(topic.changes(node(sysctls=(more,)), found))


def test_where_kube_proxy_leaves_it_alone_the_inventorys_word_counts() -> None:
    more = Sysctl(key=MAXIMUM.key, value="1048576", bound="at_least")
    wanted = node(sysctls=(more,), conntrack_max_per_core=0)
    found = seen(SYSCTLS + "/proc/sys/net/netfilter/nf_conntrack_max:262144\n")
    assert named(topic.findings(wanted, found), MAXIMUM.key).hint == "nodeprep apply"


# --- forwarding IPv6 ------------------------------------------------------------------------


ROUTE = (
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
    "fe800000000000005054fffffe123456 00000400 00000002 00000000 00450003     eth0\n"
)
"""A default route in /proc/net/ipv6_route: RTF_UP, RTF_GATEWAY, RTF_DEFAULT, RTF_ADDRCONF."""
ACCEPT_RA = "net.ipv6.conf.eth0.accept_ra"
"""The parameter of an interface that has such a route."""
AT_1, AT_2 = "accept_ra eth0 1\n", "accept_ra eth0 2\n"


def dual(**given: Any) -> Node:
    return node(cluster_cidr="10.244.0.0/16,fd00:10:244::/56", **given)


FORWARD6 = "net.ipv6.conf.all.forwarding"
OFF = f"{SYSCTLS}/proc/sys/net/ipv6/conf/all/forwarding:0\n"


def test_dual_stack_forwards_ipv6_and_one_stack_does_not() -> None:
    changes = [change.summary for change in topic.changes(dual(), seen(OFF))]
    assert f"set {FORWARD6} = 1 (was 0)" in changes
    assert FORWARD6 not in str(topic.changes(node(), seen(OFF)))


def test_a_node_keeps_the_default_route_that_a_router_advertised() -> None:
    found = seen(OFF + AT_1)
    finding = named(topic.findings(dual(), found), FORWARD6)
    assert finding.status is Status.FAIL
    assert finding.actual == "0: with 1 eth0 would lose the default route it was advertised"
    assert finding.hint.startswith("add `sysctls: {net.ipv6.conf.eth0.accept_ra: 2}`")
    assert FORWARD6 not in str(topic.changes(dual(), found))


def test_what_is_accepted_from_routers_is_settled_before_ipv6_is_forwarded() -> None:
    accept = Sysctl(key=ACCEPT_RA, value="2")
    changes = topic.changes(dual(sysctls=(accept,)), seen(OFF + AT_1))
    subjects = [change.subject for change in changes]
    assert subjects[-2:] == [accept.key, FORWARD6]


def line_of(file: str, key: str, value: int = 2) -> str:
    return f"{file}:3:{key} = {value}\n"


NOW, BOOT = "with 1 eth0 would", "after a reboot eth0 would"
THEIRS, EARLY, LATE = (f"/etc/sysctl.d/{n}.conf" for n in ("60-theirs", "50-early", "99-zz"))
WILD = "net.ipv6.conf.*.accept_ra"
KEPT = line_of(THEIRS, ACCEPT_RA)


@pytest.mark.parametrize(
    ("text", "when"),
    [
        (OFF + AT_2 + KEPT, ""),
        (OFF + AT_2 + line_of(THEIRS, WILD), ""),
        (OFF + AT_2 + line_of("/etc/sysctl.conf", "net/ipv6/conf/eth0/accept_ra"), ""),
        (OFF + AT_1 + KEPT, NOW),
        (OFF + AT_2, BOOT),
        (OFF + AT_2 + line_of(EARLY, ACCEPT_RA) + line_of(THEIRS, ACCEPT_RA, 1), BOOT),
        (OFF + AT_2 + line_of(EARLY, ACCEPT_RA) + line_of(THEIRS, WILD, 1), BOOT),
        (OFF + AT_2 + line_of(EARLY, ACCEPT_RA, 1) + line_of(THEIRS, WILD), BOOT),
        # That of `all` counts for no interface, that of `default` for those to come; see
        # ip-sysctl.rst of the kernel, and ipv6_accept_ra() in include/net/ipv6.h.
        (OFF + AT_2 + line_of(THEIRS, "net.ipv6.conf.all.accept_ra"), BOOT),
        (OFF + AT_2 + line_of(THEIRS, "net.ipv6.conf.default.accept_ra"), BOOT),
        (OFF + AT_2 + line_of(THEIRS, "net.ipv6.conf.eth1.accept_ra"), BOOT),
        # Our own file is written anew: what it had counts for nothing.
        (OFF + AT_2 + line_of(topic.DROP_IN, ACCEPT_RA), BOOT),
        (OFF + AT_2 + KEPT + "accept_ra wan0 1\n", "with 1 wan0 would"),
    ],
)
def test_what_anybodys_file_sets_at_boot_counts_as_much_as_what_is_in_force(
    text: str, when: str
) -> None:
    found = seen(text)
    finding = named(topic.findings(dual(), found), FORWARD6)
    assert (f"set {FORWARD6} = 1 (was 0)" in map(summary, topic.changes(dual(), found))) is (
        not when
    )
    assert (f"{FORWARD6} = 1" in drop_in(dual(), text)) is (not when)
    assert finding.status is Status.FAIL
    assert finding.actual.startswith(f"0: {when}" if when else "0")
    assert (finding.hint == "nodeprep apply") is (not when)


def summary(change: Change) -> str:
    return change.summary


ON = OFF.replace("forwarding:0", "forwarding:1")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (ON + AT_2 + KEPT, Status.OK),
        (ON + AT_2, Status.FAIL),
        # Somebody else forwards at the next boot, whatever we write.
        (ON + AT_2 + line_of(THEIRS, FORWARD6, 1), Status.OK),
        (ON + AT_2 + line_of(topic.DROP_IN, FORWARD6, 1), Status.FAIL),
    ],
)
def test_a_node_that_forwards_already_is_not_cut_off_by_its_next_boot(
    text: str, status: Status
) -> None:
    assert named(topic.findings(dual(), seen(text)), FORWARD6).status is status
    assert (f"{FORWARD6} = 1" in drop_in(dual(), text)) is (status is Status.OK)


def test_where_a_later_file_takes_the_inventorys_word_back_it_is_named() -> None:
    wanted = dual(sysctls=(Sysctl(key=ACCEPT_RA, value="2"),))
    found = seen(OFF + AT_2 + line_of(LATE, ACCEPT_RA, 1))
    finding = named(topic.findings(wanted, found), FORWARD6)
    assert finding.actual.startswith(f"0: {BOOT}")
    assert finding.hint == f"take `{ACCEPT_RA}` out of {LATE}, line 3"
    assert FORWARD6 not in str(topic.changes(wanted, found))


def test_where_the_inventory_wants_another_value_it_would_be_lost_at_once() -> None:
    wanted = dual(sysctls=(Sysctl(key=ACCEPT_RA, value="1"),))
    finding = named(topic.findings(wanted, seen(OFF + AT_2 + KEPT)), FORWARD6)
    assert finding.actual.startswith(f"0: {NOW}")


def test_the_route_is_found_in_the_kernels_own_table(shell: str) -> None:
    script = PARAMETERS.script(dual()).replace("/proc/net/ipv6_route |", "-")
    grep = next(line for line in script.splitlines() if "0{32}" in line)
    plain = ROUTE.replace("00450003", "00000003")
    for table, found in ((ROUTE, True), (plain, False), (plain + ROUTE, True)):
        said = output(shell, Script(f"{grep} <<END\n{table}END\n")).decode()
        assert (said == ROUTE) is found


def test_a_value_that_is_no_row_of_numbers_is_read_as_well(shell: str) -> None:
    keys = ("kernel.ostype", "net.ipv4.ip_local_port_range", "net.ipv4.ip_local_reserved_ports")
    wanted = node(sysctls=tuple(Sysctl(key=key, value="x") for key in keys))
    found = PARAMETERS.parse(output(shell, Script(PARAMETERS.script(wanted))).decode()).values
    real = [Path(topic.proc_path(key)).read_text() for key in keys]
    assert [found[topic.proc_path(key)] for key in keys] == [" ".join(t.split()) for t in real]


# --- on a real kernel -----------------------------------------------------------------------

# A router at the other end of a wire: it advertises itself for half an hour, once.
WIRE = """\
ip link add eth0 type veth peer name router
for end in eth0 router; do
  echo 0 >/proc/sys/net/ipv6/conf/$end/accept_dad
  ip link set $end up
done
"""
ADVERTISE = """\
import socket
said = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
said.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
# RFC 4861, 4.2: type 134, then hop limit, flags, and the router's lifetime in seconds.
router = socket.if_nametoindex("router")
said.sendto(bytes([134, 0, 0, 0, 64, 0, 7, 8, *[0] * 8]), ("ff02::1", 0, 0, router))
"""
ROUTES = "ip -6 route show default dev eth0"


@pytest.fixture
def advertised(inside: Namespace) -> Namespace:
    """A node whose kernel took its default route from a router's advertisement."""
    inside.ask(WIRE)
    inside.ask(
        f"for try in 1 2 3 4 5 6 7 8 9 10; do\npython3 - <<'END'\n{ADVERTISE}END\n"
        f"sleep 0.3\n{ROUTES} | grep -q . && exit\ndone"
    )
    assert "via fe80" in inside.ask(ROUTES)
    return inside


def forwarding(node_: Namespace) -> list[Change]:
    """Return what would be done about forwarding IPv6."""
    changes = topic.changes(dual(), node_.look(dual(), (topic,)))
    return [change for change in changes if change.subject == FORWARD6]


@NEEDS_ROOT
def test_forwarding_takes_an_advertised_route_away_and_so_is_not_begun(
    advertised: Namespace,
) -> None:
    assert forwarding(advertised) == []
    advertised.ask("echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
    assert advertised.ask(ROUTES) == ""


@NEEDS_ROOT
def test_with_somebodys_own_file_the_route_outlives_the_forwarding(
    advertised: Namespace,
) -> None:
    advertised.ask(f"echo '{ACCEPT_RA}=2' >{THEIRS}")
    assert forwarding(advertised) == []
    advertised.ask(f"sysctl -q -p {THEIRS}")
    (change,) = forwarding(advertised)
    advertised.run(change.action)
    assert advertised.ask("cat /proc/sys/net/ipv6/conf/all/forwarding") == "1\n"
    assert "via fe80" in advertised.ask(ROUTES)
    advertised.ask(f"rm {THEIRS}")
    found = topic.findings(dual(), advertised.look(dual(), (topic,)))
    assert named(found, FORWARD6).actual.startswith(f"1: {BOOT}")
