"""IPVS is counted from the kernel's own table, kube-proxy's apart, and tells the services."""

import subprocess
from pathlib import Path

import pytest

from nodeprep.dataplane import virtual_servers
from nodeprep.dataplane.services import Services
from nodeprep.dataplane.virtual_servers import ADDRESSES, Ipvs
from tests.rollout.test_artefacts import Kernel, in_ipvs, of_sets
from tests.shells import complaints

ON_NODE = """\
1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever
2: eth0    inet 10.0.2.15/24 brd 10.0.2.255 scope global eth0\\       valid_lft forever
3: kube-ipvs0    inet 10.254.0.1/32 scope global kube-ipvs0\\       valid_lft forever
3: kube-ipvs0    inet 10.254.7.9/32 scope global kube-ipvs0\\       valid_lft forever
3: kube-ipvs0    inet 203.0.113.5/32 scope global kube-ipvs0\\       valid_lft forever
3: kube-ipvs0    inet 203.0.113.6/32 scope global kube-ipvs0\\       valid_lft forever
"""
# kubernetes, a sticky service, one without endpoints; an external IP, a balancer, a node port at
# two addresses, one for SCTP; and others' servers: an address and a mark.
SERVERS = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0AFE0001:01BB rr
  -> 0A00020F:192B      Masq    1      3          1
TCP  0AFE0709:0050 rr  persistent 10800 FFFFFFFF
  -> 0AF4000B:1F90      Masq    1      2          0
  -> 0AF4000C:1F90      Masq    1      0          5
TCP  0AFE0709:0051 rr
TCP  CB007105:0050 rr
  -> 0AF4000B:1F90      Masq    1      0          0
  -> 0AF4000C:1F90      Masq    1      0          0
TCP  CB007106:0050 rr
  -> 0AF4000B:1F90      Masq    1      0          0
TCP  0A00020F:7580 rr
  -> 0AF4000B:1F90      Masq    1      0          0
TCP  7F000001:7580 rr
  -> 0AF4000B:1F90      Masq    1      0          0
SCTP 0A00020F:7581 rr
  -> 0AF4000B:1F90      Masq    1      0          0
TCP  C0000201:0050 rr
  -> C0000209:0050      Masq    1      7          0
FWM  00000010 wrr
  -> C0000209:0050      Route   1      1          0
"""
SETS = """\
create KUBE-LOOP-BACK hash:ip,port,ip
add KUBE-LOOP-BACK 10.244.0.11,tcp:8080,10.244.0.11
create KUBE-CLUSTER-IP hash:ip,port
add KUBE-CLUSTER-IP 10.254.0.1,tcp:443
add KUBE-CLUSTER-IP 10.254.7.9,tcp:80
add KUBE-CLUSTER-IP 10.254.7.9,tcp:81
create KUBE-EXTERNAL-IP hash:ip,port
add KUBE-EXTERNAL-IP 203.0.113.5,tcp:80
create KUBE-LOAD-BALANCER hash:ip,port
add KUBE-LOAD-BALANCER 203.0.113.6,tcp:80
create KUBE-LOAD-BALANCER-LOCAL hash:ip,port
add KUBE-LOAD-BALANCER-LOCAL 203.0.113.6,tcp:80
create KUBE-LOAD-BALANCER-FW hash:ip,port
add KUBE-LOAD-BALANCER-FW 203.0.113.6,tcp:80
create KUBE-LOAD-BALANCER-SOURCE-CIDR hash:ip,port,net
add KUBE-LOAD-BALANCER-SOURCE-CIDR 203.0.113.6,tcp:80,10.0.2.0/24
add KUBE-LOAD-BALANCER-SOURCE-CIDR 203.0.113.6,tcp:80,10.244.0.0/16
create KUBE-LOAD-BALANCER-SOURCE-IP hash:ip,port,ip
add KUBE-LOAD-BALANCER-SOURCE-IP 203.0.113.6,tcp:80,203.0.113.6
create KUBE-NODE-PORT-TCP bitmap:port
add KUBE-NODE-PORT-TCP 30080
create KUBE-NODE-PORT-LOCAL-TCP bitmap:port
add KUBE-NODE-PORT-LOCAL-TCP 30080
create KUBE-NODE-PORT-SCTP-HASH hash:ip,port
add KUBE-NODE-PORT-SCTP-HASH 10.0.2.15,sctp:30081
create KUBE-EXTERNAL-IP-LOCAL hash:ip,port
"""


def terse(text: str) -> str:
    """Return what ``ipset list -t`` says of these sets."""
    names = [line.split()[1] for line in text.splitlines() if line.startswith("create ")]
    counts = {name: text.count(f"add {name} ") for name in names}
    return "".join(
        f"Name: {name}\nType: t\nHeader: h\nNumber of entries: {count}\n\n"
        for name, count in counts.items()
    )


def node(folder: Path, shell: str = "dash") -> Kernel:
    return Kernel(
        folder=folder,
        shell=shell,
        said={"ip -o addr": ON_NODE, "ipset list -t": terse(SETS), **of_sets(SETS)},
        proc={"net/ip_vs": SERVERS},
    )


def seen(kernel: Kernel) -> Ipvs:
    return virtual_servers.parse(kernel.run(virtual_servers.SCRIPT))


def test_servers_backends_and_connections_are_counted_and_others_apart(
    tmp_path: Path, shell: str
) -> None:
    found = seen(node(tmp_path, shell))
    assert (found.servers, found.backends, found.active, found.inactive) == (8, 9, 5, 6)
    assert (found.other_servers, found.other_backends, found.other_active) == (2, 2, 8)


def test_each_kind_of_service_is_told_by_its_set(tmp_path: Path, shell: str) -> None:
    assert seen(node(tmp_path, shell)).services == (
        Services(
            family=4,
            ports=3,
            idle=1,
            cluster_ips=2,
            endpoints=3,
            sticky=1,
            sticky_endpoints=2,
            addresses=1,
            balancers=1,
            address_endpoints=3,
            node_ports=2,
            node_port_endpoints=2,
            outside=3,
            local=1,
            local_endpoints=1,
            firewalled=1,
            sources=2,
            from_node=1,
        ),
    )


def test_the_nodes_own_addresses_are_those_that_are_not_kube_proxys(
    tmp_path: Path, shell: str
) -> None:
    assert seen(node(tmp_path, shell)).addresses == ("127.0.0.1", "10.0.2.15")


def test_a_node_with_many_addresses_does_not_bring_all_home(tmp_path: Path, shell: str) -> None:
    kernel = node(tmp_path, shell)
    kernel.said["ip -o addr"] = "".join(
        f"2: eth0    inet 10.{n // 256}.{n % 256}.1/24 scope global eth0\n" for n in range(2000)
    )
    assert len(seen(kernel).addresses) == ADDRESSES
    kernel.proc = {}
    (tmp_path / "proc" / "net" / "ip_vs").unlink()
    assert len(seen(kernel).addresses) == ADDRESSES


def test_both_families_are_summed_apart(tmp_path: Path, shell: str) -> None:
    kernel = in_ipvs(tmp_path, shell)
    said = "".join(line for words, line in kernel.said.items() if words.startswith("ipset save"))
    kernel.said["ipset list -t"] = terse(
        "".join(f"create {name} x\n" for name in kernel.said["ipset list -n"].split()) + said
    )
    families = {one.family: one.ports for one in seen(kernel).services}
    assert families == {4: 2, 6: 1}


def test_only_sets_with_entries_are_read(tmp_path: Path, shell: str) -> None:
    kernel = node(tmp_path, shell)
    seen(kernel)
    saved = [call.split()[-1] for call in kernel.calls if call.startswith("ipset save")]
    assert "KUBE-EXTERNAL-IP-LOCAL" not in saved
    assert "KUBE-LOOP-BACK" not in saved
    assert len(saved) == 9


def test_an_ipset_that_does_not_count_is_read_all_the_same(tmp_path: Path, shell: str) -> None:
    kernel = node(tmp_path, shell)
    kept = (x for x in terse(SETS).splitlines() if not x.startswith("Number"))
    kernel.said["ipset list -t"] = "\n".join(kept) + "\n"
    (services,) = seen(kernel).services
    assert services.ports == 3


def test_without_the_kernels_table_no_set_is_asked(tmp_path: Path, shell: str) -> None:
    kernel = Kernel(folder=tmp_path, shell=shell, said={"ip -o addr": ON_NODE})
    assert seen(kernel) == Ipvs(addresses=("127.0.0.1", "10.0.2.15"))
    assert kernel.calls == ["ip -o addr"]


def test_ipset_is_not_run_where_it_would_load_a_module(tmp_path: Path) -> None:
    kernel = node(tmp_path)
    modules = tmp_path / "lib" / subprocess.check_output(("uname", "-r"), text=True).strip()
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text("kernel/net/netfilter/ipset/ip_set.ko:\n")
    found = seen(kernel)
    assert found.servers == 5
    assert kernel.calls == ["ip -o addr"]


def test_twenty_thousand_virtual_servers_come_home_as_one_line(tmp_path: Path) -> None:
    kernel = node(tmp_path)
    one = "TCP  0AFE{0:04X}:0050 rr\n  -> 0AF4000B:1F90      Masq    1      1          0\n"
    kernel.proc["net/ip_vs"] = "".join(map(one.format, range(20_000)))
    text = kernel.run(virtual_servers.SCRIPT)
    found = virtual_servers.parse(text)
    assert found.servers + found.other_servers == 20_000
    assert len(text) < 1000


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        virtual_servers.parse("address nonsense\n")


def test_the_script_is_clean_shell() -> None:
    assert complaints(virtual_servers.SCRIPT + "\n") == ""
