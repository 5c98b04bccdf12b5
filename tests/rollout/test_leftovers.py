"""What one mode left is removed piece by piece; kubelet's, users' and the kept mode's things stay.

The transactions are pinned as golden files, and run for real in network namespaces of their own.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from nodeprep.model import MODES, Mode
from nodeprep.rollout.leftovers import SHELL
from tests.rollout.test_artefacts import Kernel, in_ipvs, sample
from tests.shells import complaints

SAMPLES = Path(__file__).parent / "samples"
UPDATE = os.environ.get("NODEPREP_UPDATE_GOLDEN") == "1"
VERSIONS = ("1.20", "1.30")


def has_namespaces() -> bool:
    """Tell whether rules can be tried in a network namespace of our own."""
    programs = ("unshare", "iptables-nft-save", "iptables-nft-restore", "ipset", "nft")
    if os.geteuid() != 0 or not all(map(shutil.which, programs)):
        return False
    trial = "iptables-nft -t nat -A OUTPUT -m set --match-set a dst -j ACCEPT"
    done = subprocess.run(
        ("unshare", "-n", "sh", "-c", f"ipset create a hash:ip && {trial}"),
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


NEEDS_NAMESPACES = pytest.mark.skipif(not has_namespaces(), reason="no network namespaces here")


def in_namespace(script: str) -> str:
    """Return what a script prints in a network namespace of its own, with the functions known."""
    done = subprocess.run(
        ("unshare", "-n", "dash", "-s"),
        input=SHELL + script,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=120,
    )
    return done.stdout


def transaction(kernel: Kernel, gone: str, kept: str) -> str:
    return kernel.run(f"{SHELL}rules_transaction nft 4 {gone} {kept}\n")


# --- rules ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", ["ipvs", "iptables", "nftables"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("gone", ["iptables", "ipvs"])
def test_one_transaction_takes_away_all_that_the_kept_mode_does_not_use(
    tmp_path: Path, shell: str, gone: Mode, version: str, kept: Mode
) -> None:
    if gone == kept:
        return
    rules = sample(f"{gone}-{version}.rules")
    kernel = Kernel(folder=tmp_path, shell=shell, said={"iptables-nft-save": rules})
    printed = transaction(kernel, gone, kept)
    golden = SAMPLES / f"{gone}-{version}-to-{kept}.golden"
    if UPDATE:
        golden.write_text(printed)
    assert printed == golden.read_text()


@pytest.mark.parametrize("kept", MODES)
@pytest.mark.parametrize("gone", ["iptables", "ipvs"])
def test_rules_of_others_are_never_in_a_transaction(
    tmp_path: Path, shell: str, gone: Mode, kept: Mode
) -> None:
    kernel = Kernel(
        folder=tmp_path, shell=shell, said={"iptables-nft-save": sample("foreign.rules")}
    )
    assert transaction(kernel, gone, kept) == ""


def test_a_table_that_was_not_read_to_its_end_is_left_alone(tmp_path: Path, shell: str) -> None:
    rules = sample("iptables-1.20.rules")
    torn = rules[: rules.rindex("COMMIT")]
    kernel = Kernel(folder=tmp_path, shell=shell, said={"iptables-nft-save": torn})
    printed = transaction(kernel, "iptables", "nftables")
    assert "*nat\n" in printed
    assert "*filter\n" not in printed


def test_a_backend_that_the_kept_mode_does_not_work_in_keeps_nothing_of_it(
    tmp_path: Path, shell: str
) -> None:
    kernel = Kernel(
        folder=tmp_path,
        shell=shell,
        said={
            "iptables-nft-save": sample("ipvs-1.30.rules"),
            "iptables-legacy-save": sample("iptables-1.30.rules"),
        },
        proc={"net/ip_tables_names": "nat\nfilter\n"},
    )
    said = kernel.run(f"{SHELL}kept_in nft ipvs; kept_in legacy ipvs; kept_in legacy nftables\n")
    assert said.split() == ["ipvs", "none", "nftables"]


def test_a_transaction_that_is_refused_is_tried_again_and_then_told(
    tmp_path: Path, shell: str
) -> None:
    kernel = Kernel(
        folder=tmp_path, shell=shell, said={"iptables-nft-save": sample("iptables-1.20.rules")}
    )
    said = kernel.run(f"{SHELL}remove_leftovers iptables ipvs; echo status $?\n")
    assert "IPv4 rules of kube-proxy are still there (nft backend)\n" in said
    assert said.endswith("status 1\n")
    tries = [call for call in kernel.calls if call.startswith("iptables-nft-restore")]
    assert tries == ["iptables-nft-restore --noflush --wait=5"] * 3


def rules_now() -> str:
    # Comments tell the time, and counters what passed.
    return "iptables-nft-save | sed -e '/^#/d' -e 's/\\[[0-9:]*\\]/[0:0]/'"


@NEEDS_NAMESPACES
@pytest.mark.parametrize("kept", ["ipvs", "iptables", "nftables"])
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("gone", ["iptables", "ipvs"])
def test_the_kernel_takes_it_and_others_rules_and_sets_stay_byte_for_byte(
    gone: Mode, version: str, kept: Mode
) -> None:
    if gone == kept:
        return
    said = in_namespace(
        f"""
    cd {SAMPLES}
    ipset create KUBE-FOO hash:ip; ipset create mine hash:ip; ipset add mine 192.0.2.1
    nft add table ip mine; nft add chain ip mine kube-proxy
    iptables-nft-restore <foreign.rules
    # The tables themselves and kubelet's things are there before.
    iptables-nft-restore --noflush <<END
*mangle
:KUBE-KUBELET-CANARY - [0:0]
COMMIT
END
    ( {rules_now()}; ipset save; nft list table ip mine ) >"$TMPDIR/before"
    [ {gone} = iptables ] || ipset restore <ipvs-{version}.sets
    grep -v KUBELET <{gone}-{version}.rules | grep -v ' KUBE-FIREWALL$\\|^.A KUBE-FIREWALL .*NEW' |
      sed -e '/^\\*filter/,$ {{ /KUBE-FIREWALL/d; }}' -e 's/^:FORWARD DROP/:FORWARD ACCEPT/' |
      sed -e '/IPTABLES-HINT/d' | iptables-nft-restore --noflush || echo REFUSED
    remove_leftovers {gone} {kept} >"$TMPDIR/said" || cat "$TMPDIR/said"
    # What both modes share goes with the last of them.
    remove_leftovers ipvs nftables >"$TMPDIR/said" || cat "$TMPDIR/said"
    ( {rules_now()}; ipset save; nft list table ip mine ) >"$TMPDIR/after"
    diff "$TMPDIR/before" "$TMPDIR/after" && echo same
    """.replace("$TMPDIR", "$t").replace("\n    cd", "\n    t=$(mktemp -d)\n    cd", 1)
    )
    assert said == "same\n"


@NEEDS_NAMESPACES
def test_what_a_users_rule_refers_to_stays_with_all_it_leads_to() -> None:
    said = in_namespace(f"""
    iptables-nft-restore <{SAMPLES}/iptables-1.20.rules
    iptables-nft -t nat -N MINE
    iptables-nft -t nat -A MINE -j KUBE-SVC-ERIFXISQEP7F7OF4
    remove_leftovers iptables nftables
    echo "status $?"
    iptables-nft-save -t nat | grep -c -e '-A KUBE-SEP-IT2ZTR26TO4XFPTO'
    """)
    assert "kept nat KUBE-SVC-ERIFXISQEP7F7OF4, another's rule refers to it" in said
    assert "kept nat KUBE-SEP-IT2ZTR26TO4XFPTO, another's rule refers to it" in said
    assert said.endswith("status 0\n2\n")


# --- virtual servers, the device, sets ------------------------------------------------------


def doomed(kernel: Kernel) -> Sequence[str]:
    """Return the commands that ipvsadm is given; a fake one keeps what it reads."""
    kernel.run(f"{SHELL}remove_virtual_servers\n")
    assert "ipvsadm -R" in kernel.calls
    return kernel.run(f"{SHELL}named_servers\n").splitlines()


def test_only_kube_proxys_virtual_servers_go(tmp_path: Path, shell: str) -> None:
    assert doomed(in_ipvs(tmp_path, shell)) == [
        "-D -t 10.96.0.1:443",
        "-D -t 10.96.7.7:80",
        "-D -t 192.0.2.1:30080",
        "-D -t [fd00:0010:0096:0000:0000:0000:0000:0001]:443",
    ]


def test_while_a_virtual_server_is_still_there_so_is_what_proves_it_kube_proxys(
    tmp_path: Path, shell: str
) -> None:
    kernel = in_ipvs(tmp_path, shell)
    said = kernel.run(f"{SHELL}remove_leftovers ipvs iptables; echo status $?\n")
    assert said == "virtual servers of kube-proxy are still there\nstatus 1\n"
    assert "ip link del kube-ipvs0" not in kernel.calls
    assert not [call for call in kernel.calls if call.startswith("ipset destroy")]


def test_a_table_of_virtual_servers_that_cannot_be_read_stops_the_removal(tmp_path: Path) -> None:
    kernel = in_ipvs(tmp_path)
    said = kernel.run(f"awk() {{ return 2; }}\n{SHELL}remove_leftovers ipvs iptables; echo $?\n")
    assert said == "2\n"
    assert "ip link del kube-ipvs0" not in kernel.calls


def test_the_device_goes_after_the_virtual_servers_and_the_sets_last(
    tmp_path: Path, shell: str
) -> None:
    kernel = in_ipvs(tmp_path, shell)
    kernel.said["iptables-nft-save"] = sample("foreign.rules")
    kernel.proc["net/ip_vs"] = ""
    kernel.said["ip link del kube-ipvs0"] = ""
    said = kernel.run(f"{SHELL}remove_leftovers ipvs iptables; echo status $?\n")
    order = [call for call in kernel.calls if call.startswith(("ip link", "ipset destroy"))]
    assert order[0] == "ip link del kube-ipvs0"
    assert "ipset destroy KUBE-6-LOAD-BALANCER-SOURCE-CID" in order
    # The fake ipset destroys nothing, and that is seen.
    assert said.endswith("set KUBE-6-NODE-PORT-LOCAL-SCTP-HAS is still there\nstatus 1\n")


def test_nothing_to_remove_is_no_failure_and_needs_no_program(tmp_path: Path, shell: str) -> None:
    kernel = Kernel(folder=tmp_path, shell=shell)
    for gone in MODES:
        for kept in MODES:
            assert kernel.run(f"{SHELL}remove_leftovers {gone} {kept}; echo $?\n") == "0\n"


# --- nftables -------------------------------------------------------------------------------


@NEEDS_NAMESPACES
def test_of_nftables_only_kube_proxys_two_tables_go() -> None:
    said = in_namespace(f"""
    nft add table ip mine; nft add table inet kube-proxy; nft add table ip kube-proxy-of-mine
    nft list ruleset >"${{t:=$(mktemp)}}"
    nft -f {SAMPLES}/nftables-1.33.nft
    remove_leftovers nftables ipvs; echo "status $?"
    remove_leftovers nftables ipvs; echo "again $?"
    nft list ruleset | diff "$t" - && echo same
    """)
    assert said.splitlines() == [
        "removed table ip kube-proxy",
        "removed table ip6 kube-proxy",
        "status 0",
        "again 0",
        "same",
    ]


def test_the_functions_are_clean_shell() -> None:
    assert complaints(f'{SHELL}remove_leftovers "$1" "$2"\n') == ""
