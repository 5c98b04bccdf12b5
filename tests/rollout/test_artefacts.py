"""What kube-proxy left in the kernel is counted on the node, told from others', and judged."""

import dataclasses
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.model import MODES, Finding, Mode, Node, Status
from nodeprep.rollout import artefacts
from nodeprep.rollout.artefacts import ARTEFACTS, Artefacts, Rules
from nodeprep.shell import Script
from tests import facts
from tests.shells import PATH, command, complaints, output

SAMPLES = Path(__file__).parent / "samples"
NODE = Node(name="node-1", address="192.0.2.1")
ADDRESSES = """\
1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever
2: eth0    inet 192.0.2.1/24 brd 192.0.2.255 scope global eth0\\       valid_lft forever
2: eth0    inet6 2001:db8::1/64 scope global \\       valid_lft forever preferred_lft forever
"""
ON_DEVICE = """\
3: kube-ipvs0    inet 10.96.0.1/32 scope global kube-ipvs0\\       valid_lft forever
3: kube-ipvs0    inet 10.96.7.7/32 scope global kube-ipvs0\\       valid_lft forever
3: kube-ipvs0    inet6 fd00:10:96::1/128 scope global \\       valid_lft forever
"""
SERVERS = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  0A600001:01BB rr  persistent 2700000 FFFFFFFF
  -> C000020A:192B      Masq    1      0          0
TCP  0A600707:0050 rr
UDP  C0000201:7580 rr
TCP  C0000201:7580 rr
TCP  C0000201:20FB wrr
TCP  [fd00:0010:0096:0000:0000:0000:0000:0001]:01BB rr
TCP  [2001:0db8:0000:0000:0000:0000:0000:0007]:0050 rr
SCTP C000024D:0050 wlc
FWM  00000010 rr
"""
CONNECTIONS = """\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP C0000263 C58C 0A600707 0050 0AF40004 1F90 ESTABLISHED     899
TCP C0000263 C58D 0A600707 0050 0AF40004 1F90 TIME_WAIT       110
TCP C0000263 C58E C0000201 20FB 0AF40004 1F90 ESTABLISHED     899
TCP 20010db8000000000000000000000002 C58F fd000010009600000000000000000001 01BB \
fd00000000000000000000000000000a 192B ESTABLISHED     899
TCP 0A600707 0000 0A600707 0050 0AF40004 1F90 NONE            899
"""
# The second is the first of CONNECTIONS seen from its client, and the last ones go elsewhere.
SOCKETS = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0707600A:9C40 0707600A:0050 01 00000000:00000000 00:00000000 00000000     0        0 1
   1: 630200C0:C58C 0707600A:0050 01 00000000:00000000 00:00000000 00000000     0        0 2
   2: 0707600A:9C41 0707600A:0050 02 00000000:00000000 00:00000000 00000000     0        0 3
   3: 0707600A:9C42 0707600A:0050 06 00000000:00000000 00:00000000 00000000     0        0 4
   4: 010200C0:9C43 0707600A:0050 01 00000000:00000000 00:00000000 00000000     0        0 5
"""
SOCKETS_6 = """\
   0: 100000FD000096000000000001000000:9C44 100000FD000096000000000001000000:01BB 01 0:0 0
   1: 0000000000000000FFFF00000707600A:9C45 0000000000000000FFFF00000707600A:0050 01 0:0 0
"""


@dataclass(kw_only=True)
class Kernel:
    """A node whose kernel is files: what its programs print, and what /proc says.

    ``said`` are the outputs of programs, by their words; a program that is not named prints
    nothing. ``calls`` tells which were run.
    """

    folder: Path
    shell: str = "dash"
    said: dict[str, str] = field(default_factory=dict)
    proc: dict[str, str] = field(default_factory=dict)

    @property
    def calls(self) -> Sequence[str]:
        """The programs that were run with their words, in order."""
        log = self.folder / "calls"
        return log.read_text().splitlines() if log.exists() else []

    def run(self, script: str) -> str:
        """Return what ``script`` prints here."""
        self._place()
        moved = script.replace("/proc/", f"{self.folder}/proc/").replace(
            "/lib/modules", f"{self.folder}/lib"
        )
        path = f"{self.folder}/bin:{PATH}"
        if self.shell == "busybox":
            path = f"{self.folder}/bin:{self._applets()}"
        return output(self.shell, Script(moved), path).decode()

    def _place(self) -> None:
        for name, text in {"net/dev": "", "modules": "", **self.proc}.items():
            path = self.folder / "proc" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        programs = {words.split()[0] for words in self.said}
        every = {*programs, "ip", "ipset", "nft", "ipvsadm", *RULE_PROGRAMS}
        (self.folder / "bin").mkdir(exist_ok=True)
        for program in every:
            self._program(program)

    def _program(self, name: str) -> None:
        cases = []
        for number, (words, text) in enumerate(self.said.items()):
            if words.split()[0] == name:
                answer = self.folder / f"answer{number}"
                answer.write_text(text)
                cases.append(f"'{words}') exec cat '{answer}' ;;\n")
        path = self.folder / "bin" / name
        path.write_text(
            f"#!/bin/sh\necho \"{name} $*\" >>'{self.folder}/calls'\n"
            f'case "{name}${{*:+ $*}}" in\n{"".join(cases)}esac\n'
        )
        path.chmod(0o755)

    def _applets(self) -> str:
        folder = self.folder / "applets"
        if not folder.exists():
            folder.mkdir()
            subprocess.run((command("busybox")[0], "--install", "-s", str(folder)), check=True)
        return str(folder)


RULE_PROGRAMS = tuple(
    f"ip{six}tables-{backend}-{verb}"
    for six in ("", "6")
    for backend in ("nft", "legacy")
    for verb in ("save", "restore")
)


def sample(name: str) -> str:
    return (SAMPLES / name).read_text()


def of_sets(text: str) -> Mapping[str, str]:
    """Return what ipset answers where these sets are."""
    lines = text.splitlines()
    names = [line.split()[1] for line in lines if line.startswith("create ")]
    saved = {
        f"ipset save {name}": "".join(f"{line}\n" for line in lines if line.split()[1] == name)
        for name in names
    }
    return {"ipset list -n": "".join(f"{name}\n" for name in names), **saved}


def in_ipvs(folder: Path, shell: str = "dash") -> Kernel:
    """Give a node in ipvs mode, with virtual servers of others."""
    return Kernel(
        folder=folder,
        shell=shell,
        said={
            "iptables-nft-save": sample("ipvs-1.30.rules"),
            "ip -o addr": ADDRESSES + ON_DEVICE,
            **of_sets(sample("ipvs-1.30.sets")),
        },
        proc={
            "net/ip_vs": SERVERS,
            "net/ip_vs_conn": CONNECTIONS,
            "net/dev": "kube-ipvs0: 0 0\n",
        },
    )


def seen(kernel: Kernel) -> Artefacts:
    return ARTEFACTS.parse(kernel.run(ARTEFACTS.script(NODE)))


# --- looking --------------------------------------------------------------------------------


def test_virtual_servers_are_kube_proxys_by_their_address_or_their_port_on_the_node(
    tmp_path: Path, shell: str
) -> None:
    found = seen(in_ipvs(tmp_path, shell))
    assert found.device
    assert found.addresses == 3
    assert found.virtual_servers == 4
    assert found.foreign_servers == (
        "UDP 192.0.2.1:30080",
        "TCP 192.0.2.1:8443",
        "TCP [2001:db8::7]:80",
        "SCTP 192.0.2.77:80",
        "FWM 16",
    )
    assert found.foreign_count == 5
    assert found.node_ports == 2


def test_only_open_connections_through_its_own_virtual_servers_count(
    tmp_path: Path, shell: str
) -> None:
    found = seen(in_ipvs(tmp_path, shell))
    assert (found.established, found.udp) == (2, 0)


def test_the_nodes_own_connections_from_an_address_on_the_device_count_once(
    tmp_path: Path, shell: str
) -> None:
    kernel = in_ipvs(tmp_path, shell)
    kernel.proc |= {"net/tcp": SOCKETS, "net/tcp6": SOCKETS_6}
    assert seen(kernel).established == 2 + 4
    kernel.proc["net/ip_vs_conn"] += (
        "TCP 0A600707 9C40 0A600707 0050 0AF40004 1F90 ESTABLISHED     899\n"
    )
    assert seen(kernel).established == 2 + 4
    assert kernel.run(f"{artefacts.LIBRARY}established\n") == "6\n"


def test_the_kubernetes_service_is_the_lowest_cluster_address_with_port_443(
    tmp_path: Path, shell: str
) -> None:
    assert seen(in_ipvs(tmp_path, shell)).kubernetes == {"ipvs": "10.96.0.1:443"}


def test_without_the_device_the_sets_still_tell_which_virtual_servers_are_its_own(
    tmp_path: Path, shell: str
) -> None:
    kernel = in_ipvs(tmp_path, shell)
    kernel.said["ip -o addr"] = ADDRESSES
    kernel.proc["net/dev"] = ""
    found = seen(kernel)
    assert not found.device
    assert found.virtual_servers == 4


@pytest.mark.parametrize("version", ["1.20", "1.30"])
def test_rules_to_services_are_counted_and_fixed_chains_named(
    tmp_path: Path, shell: str, version: str
) -> None:
    rules = sample(f"iptables-{version}.rules")
    found = seen(Kernel(folder=tmp_path, shell=shell, said={"iptables-nft-save": rules}))
    (only,) = found.rules
    assert (only.backend, only.family) == ("nft", 4)
    assert only.service_jumps == rules.count("-j KUBE-SVC-")
    assert only.service_chains == sum(
        line.startswith((":KUBE-S", ":KUBE-FW-", ":KUBE-XLB-", ":KUBE-EXT-C"))
        and not line.startswith(":KUBE-SERVICES")
        for line in rules.splitlines()
    )
    assert "filter KUBE-SERVICES" in only.chains
    assert "filter KUBE-FIREWALL" not in only.chains
    assert only.kubelet
    assert found.kubernetes == {"iptables": "10.96.0.1:443"}
    assert (found.node_ports, found.forward_policy) == (2, "DROP")


def test_a_chain_that_only_looks_like_kube_proxys_is_none_of_its(
    tmp_path: Path, shell: str
) -> None:
    said = {"iptables-nft-save": sample("foreign.rules")}
    (only,) = seen(Kernel(folder=tmp_path, shell=shell, said=said)).rules
    assert only == Rules(backend="nft", family=4, forward="ACCEPT")


def test_all_that_anothers_rule_leads_to_is_held(tmp_path: Path, shell: str) -> None:
    rules = sample("iptables-1.20.rules").replace(
        "-A KUBE-FW-", "-A PREROUTING -i eth7 -j KUBE-SVC-ERIFXISQEP7F7OF4\n-A KUBE-FW-", 1
    )
    (only,) = seen(Kernel(folder=tmp_path, shell=shell, said={"iptables-nft-save": rules})).rules
    assert set(only.held) == {
        "nat KUBE-SVC-ERIFXISQEP7F7OF4",
        "nat KUBE-SEP-IT2ZTR26TO4XFPTO",
        "nat KUBE-MARK-MASQ",
    }


def test_looking_runs_no_program_whose_module_it_would_load(tmp_path: Path, shell: str) -> None:
    kernel = Kernel(folder=tmp_path, shell=shell)
    modules = tmp_path / "lib" / subprocess.check_output(("uname", "-r"), text=True).strip()
    modules.mkdir(parents=True)
    (modules / "modules.dep").write_text(
        "kernel/net/netfilter/nf_tables.ko.xz: x.ko\nkernel/net/netfilter/ipset/ip_set.ko:\n"
    )
    assert seen(kernel) == Artefacts()
    assert [call for call in kernel.calls if not call.startswith("ip ")] == []


def test_the_legacy_backend_is_looked_at_where_it_has_tables(tmp_path: Path, shell: str) -> None:
    kernel = Kernel(
        folder=tmp_path,
        shell=shell,
        said={"iptables-legacy-save": sample("iptables-1.20.rules")},
        proc={"net/ip_tables_names": "nat\nfilter\n"},
    )
    assert [(rules.backend, rules.service_jumps) for rules in seen(kernel).rules] == [("legacy", 7)]


def test_rules_that_were_cut_off_within_a_line_are_told_as_unread(
    tmp_path: Path, shell: str
) -> None:
    cut = "may_look_at_rules() { :; }\nrules_program() { echo cut; }\n"
    cut += "cut() { printf '%s' '-A KUBE-SERV'; return 1; }\nsaved_rules nft 4\n"
    said = Kernel(folder=tmp_path, shell=shell).run(artefacts.LOOKING + cut)
    assert said.splitlines()[-1] == "# unread"


def test_many_virtual_servers_of_others_are_counted_and_fifty_named(tmp_path: Path) -> None:
    kernel = in_ipvs(tmp_path)
    kernel.proc["net/ip_vs"] = "".join(f"TCP  C6336401:{n:04X} rr\n" for n in range(1, 301))
    found = seen(kernel)
    assert (found.foreign_count, len(found.foreign_servers)) == (300, 50)


# --- others ---------------------------------------------------------------------------------


def test_a_network_covers_the_virtual_servers_in_it_and_no_mark() -> None:
    servers = ("TCP 192.0.2.1:80", "UDP [2001:db8::7]:53", "FWM 7")
    assert artefacts.outside(servers, ()) == servers
    assert artefacts.outside(servers, ("192.0.2.0/24",)) == servers[1:]
    assert artefacts.outside(servers, ("192.0.2.0/24", "2001:db8::/32")) == ("FWM 7",)


def test_no_set_has_a_name_that_the_kernel_would_not_take() -> None:
    assert max(map(len, artefacts.SETS)) == 31
    assert len(set(artefacts.SETS)) == len(artefacts.SETS)


# --- judging --------------------------------------------------------------------------------

IPTABLES = facts.read(ARTEFACTS, "iptables-1.20")
IPVS = facts.read(ARTEFACTS, "ipvs-1.20")
NFTABLES = facts.read(ARTEFACTS, "nftables-1.33")
IN_MODE: Mapping[Mode, Artefacts] = {"iptables": IPTABLES, "ipvs": IPVS, "nftables": NFTABLES}


def verdicts(found: tuple[Finding, ...]) -> dict[str, Status]:
    return {finding.name: finding.status for finding in found}


@pytest.mark.parametrize("mode", MODES)
def test_a_node_in_a_mode_has_that_modes_things_and_nothing_of_another(mode: Mode) -> None:
    found = artefacts.findings(IN_MODE[mode], mode, cleaned=True)
    assert {finding.status for finding in found} == {Status.OK}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("other", MODES)
def test_a_node_in_another_mode_lacks_things_and_has_the_others_left(
    mode: Mode, other: Mode
) -> None:
    if mode == other:
        return
    found = verdicts(artefacts.findings(IN_MODE[other], mode, cleaned=True))
    assert found[f"left of {other}"] is Status.FAIL
    present = verdicts(artefacts.findings(IN_MODE[other], mode, cleaned=False))
    assert set(present.values()) == {Status.FAIL}


def test_before_the_clean_up_the_old_modes_things_are_told_and_not_judged() -> None:
    both = dataclasses.replace(IPTABLES, device=True, sets=IPVS.sets, virtual_servers=8)
    found = artefacts.findings(both, "ipvs", old="iptables", cleaned=False)
    assert Status.FAIL not in verdicts(found).values()
    assert verdicts(found)["left of iptables"] is Status.SKIP


def kubelets(*chains: str) -> Artefacts:
    rules = Rules(backend="nft", family=4, kubelet=True, chains=chains)
    return dataclasses.replace(NFTABLES, rules=(rules,))


def test_what_kubelet_makes_again_is_no_leftover() -> None:
    old = kubelets("nat KUBE-MARK-DROP", "nat KUBE-MARK-MASQ", "nat KUBE-POSTROUTING")
    assert artefacts.leftovers(old, "iptables", "nftables") == ()


def test_a_kubelet_of_1_28_makes_none_of_them() -> None:
    new = kubelets("nat KUBE-MARK-MASQ", "nat KUBE-POSTROUTING")
    assert artefacts.leftovers(new, "iptables", "nftables") == (
        "nat KUBE-MARK-MASQ, nat KUBE-POSTROUTING (IPv4, nft backend)",
    )


def test_what_another_holds_is_a_warning_and_the_bridge_a_failure() -> None:
    found = facts.read(ARTEFACTS, "held-and-bridged")
    assert verdicts(artefacts.findings(found, "nftables", cleaned=True))["bridge"] is Status.FAIL
    (rules,) = found.rules
    held = dataclasses.replace(
        rules,
        service_chains=4,
        chains=("nat KUBE-MARK-MASQ",),
        kubelet=False,
    )
    left = dataclasses.replace(found, rules=(held,))
    status = verdicts(artefacts.findings(left, "nftables", cleaned=True))
    assert status["left of iptables"] is Status.WARN
    assert status["left of ipvs"] is Status.WARN


def test_rules_that_cannot_be_read_are_no_proof_that_nothing_is_left() -> None:
    text = "unreadable nft 4 all\nrules nft 4 0 0 0 0 0 \n"
    found = ARTEFACTS.parse(text)
    assert Status.FAIL in verdicts(artefacts.findings(found, "nftables", cleaned=True)).values()
    assert (
        verdicts(artefacts.findings(found, "nftables", cleaned=True))["rules (IPv4, nft backend)"]
        is Status.FAIL
    )


@given(
    st.sampled_from(MODES),
    st.booleans(),
    st.sampled_from((IPTABLES, IPVS, NFTABLES, Artefacts())),
)
def test_every_failure_says_what_to_type(mode: Mode, cleaned: bool, found: Artefacts) -> None:
    for finding in artefacts.findings(found, mode, cleaned=cleaned):
        assert finding.topic == "artefacts"
        assert bool(finding.hint) == (finding.status in (Status.FAIL, Status.WARN))


def test_the_script_is_clean_shell() -> None:
    assert complaints(f"{ARTEFACTS.script(NODE)}\nestablished\n") == ""
