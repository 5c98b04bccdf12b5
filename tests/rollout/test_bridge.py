"""The bridge: a snapshot that stands on nothing of kube-proxy's, and of which nothing stays.

``NODEPREP_UPDATE_GOLDEN=1 pytest tests/rollout/test_bridge.py`` writes the golden files anew. The
samples are what the programs printed on Debian 12 for services of every kind.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodeprep.model import MODES
from nodeprep.rollout.bridge import CANNOT_CARRY, SHELL
from nodeprep.shell import Script, words
from tests.shells import NEEDS_ROOT, PATH, command, complaints, output

SAMPLES = Path(__file__).parent / "bridge_samples"
UPDATE = os.environ.get("NODEPREP_UPDATE_GOLDEN") == "1"
FILTERS = {
    "iptables": ("bridge_copied_chains", "iptables.save"),
    "ipvs-4-sets": ("bridge_copied_servers sets 4", "ipvs-4.state"),
    "ipvs-4-rules": ("bridge_copied_servers rules 4", "ipvs-4.state"),
    "ipvs-6-sets": ("bridge_copied_servers sets 6", "ipvs-6.state"),
    "ipvs-6-rules": ("bridge_copied_servers rules 6", "ipvs-6.state"),
    "nftables": ("bridge_copied_table", "nftables.list"),
    "away": ("bridge_taken_away", "bridged.save"),
}
AWKS = ("mawk", "gawk", "busybox")


def run(shell: str, statements: str, path: str = PATH) -> str:
    return output(shell, Script(SHELL, statements, "\n"), path).decode()


def filtered(name: str, shell: str = "dash", path: str = PATH) -> str:
    what, sample = FILTERS[name]
    return run(shell, f"{what} <{words(str(SAMPLES / sample))}", path)


# --- what is copied -------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILTERS)
def test_a_sample_becomes_what_a_person_has_read(name: str, shell: str) -> None:
    golden = SAMPLES / f"{name}.golden"
    if UPDATE:
        golden.write_text(filtered(name))
    assert filtered(name, shell) == golden.read_text()


@pytest.mark.parametrize("awk", AWKS)
@pytest.mark.parametrize("name", FILTERS)
def test_every_awk_says_the_same(name: str, awk: str, tmp_path: Path) -> None:
    where = shutil.which(awk, path=PATH)
    if where is None:
        pytest.skip(f"{awk} is not installed")
    (tmp_path / "awk").symlink_to(where)
    assert filtered(name, path=f"{tmp_path}:{PATH}") == (SAMPLES / f"{name}.golden").read_text()


@pytest.mark.parametrize("name", ["iptables", "ipvs-4-rules", "ipvs-6-rules"])
def test_a_copy_stands_on_nothing_of_kube_proxys(name: str) -> None:
    text = filtered(name)
    syntax = re.sub(r'--comment "[^"]*"|--name KUBE-SEP-\w+', "", text)
    assert "KUBE-" not in syntax
    assert set(re.findall(r"-j (NPREP-\S+)", text)) <= set(
        re.findall(r"^:(\S+)", text, re.MULTILINE)
    )


@pytest.mark.parametrize("name", FILTERS)
def test_no_name_is_longer_than_the_kernel_takes(name: str) -> None:
    chains = re.findall(r"^:(NPREP-\S+)", filtered(name), re.MULTILINE)
    sets = re.findall(r"^create (\S+)", filtered(name), re.MULTILINE)
    assert all(len(chain) <= 28 for chain in chains)
    assert all(len(copied) <= 31 for copied in sets)
    assert len(set(sets)) == len(sets)


def test_the_copy_goes_on_with_the_clients_that_the_original_has_seen() -> None:
    assert "--name KUBE-SEP-AFFINITYENDPOINA --mask" in filtered("iptables")
    assert "elements = { 192.0.2.2 expires" in filtered("nftables")


def test_the_chains_of_others_are_not_copied() -> None:
    text = filtered("iptables")
    assert not re.search("OPERATOR|NPREP-(ROUTER|FIREWALL|KUBELET|IPTABLES)", text)
    assert "203.0.113.6" not in text


def test_the_nodes_own_packets_hear_answers_whatever_their_source() -> None:
    chain = re.findall(r"^-A NPREP-POSTROUTING (.*)$", filtered("iptables"), re.MULTILINE)
    assert chain[0] == "-m conntrack --ctstate DNAT -m addrtype --src-type LOCAL -j MASQUERADE"


def test_what_a_comment_says_is_no_jump() -> None:
    rule = '-A INPUT -m comment --comment "see -j KUBE-SERVICES" -j DROP\n'
    other = '-A INPUT -m comment --comment "see -j KUBE-SERVICES"\n'
    services = "-A KUBE-SERVICES -j KUBE-SVC-ONE\n"
    nat = f"*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-SVC-ONE - [0:0]\n{services}COMMIT\n"
    save = f"*filter\n:KUBE-SERVICES - [0:0]\n{rule}{other}COMMIT\n{nat}"
    copied = run("dash", f"printf %s {words(save)} | bridge_copied_chains")
    assert "INPUT" not in copied
    assert "-A NPREP-SERVICES -j NPREP-SVC-ONE" in copied


def test_a_jump_comes_right_behind_the_one_it_copies() -> None:
    built_in = re.findall(r"^-I (\S+ \d+) .*-j NPREP-(\S+)$", filtered("iptables"), re.MULTILINE)
    # The operator's rule is the first of INPUT, and each of ours shifts what follows by one.
    assert built_in[:3] == [
        ("INPUT 3", "PROXY-FIREWALL"),
        ("INPUT 5", "NODEPORTS"),
        ("INPUT 7", "EXTERNAL-SERVICES"),
    ]


def test_without_service_chains_there_is_nothing_to_copy() -> None:
    save = "*nat\n:KUBE-POSTROUTING - [0:0]\n:KUBE-MARK-MASQ - [0:0]\nCOMMIT\n"
    assert run("dash", f"printf %s {words(save)} | bridge_copied_chains") == ""
    assert run("dash", f"printf %s {words(save)} | bridge_copied_servers rules 4") == ""
    # In ipvs mode chains of the same names send nothing anywhere.
    of_ipvs = (SAMPLES / "ipvs-4.state").read_text().partition("@rules\n")[2]
    assert ":KUBE-SERVICES " in of_ipvs
    assert run("dash", f"printf %s {words(of_ipvs)} | bridge_copied_chains") == ""


# --- virtual servers ------------------------------------------------------------------------


def test_virtual_servers_of_others_are_not_copied() -> None:
    text = filtered("ipvs-4-rules") + filtered("ipvs-4-sets")
    assert not re.search(r"8888|203\.0\.113\.200|fd00|OPERATORS", text)


def test_a_service_without_endpoints_is_refused() -> None:
    assert "add NPREP-EMPTY 10.254.9.9,tcp:80\n" in filtered("ipvs-4-sets")
    assert "10.254.9.9" not in filtered("ipvs-4-rules")
    assert "-m set --match-set NPREP-EMPTY dst,dst -j REJECT\n" in filtered("ipvs-4-rules")


def test_no_rule_of_the_copy_ends_before_the_translation() -> None:
    nat = filtered("ipvs-4-rules").partition("*nat")[2]
    assert "ACCEPT" not in nat


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(weights=st.lists(st.integers(0, 50), max_size=12))
def test_each_endpoint_gets_its_share(weights: list[int]) -> None:
    text = run("dash", f"printf %s {words(_state(weights))} | bridge_copied_servers rules 4")
    shares, left = {}, 1.0
    for rule in re.findall(r"^-A NPREP-VS-1 .*$", text, re.MULTILINE):
        found = re.search(r"--probability (\S+)", rule)
        share = left * (float(found[1]) if found else 1)
        shares[rule.rpartition(":")[2]] = share
        left -= share
    wanted = {str(n): weight / sum(weights) for n, weight in enumerate(weights) if weight}
    assert shares == pytest.approx(wanted, abs=1e-6)


def _state(weights: list[int]) -> str:
    real = [f"-a -t 10.0.0.1:80 -r 10.1.0.1:{n} -m -w {w}\n" for n, w in enumerate(weights)]
    return "".join(
        (
            "@addresses\n6: kube-ipvs0    inet 10.0.0.1/32 scope global kube-ipvs0\n",
            "@sets\n@servers\n-A -t 10.0.0.1:80 -s rr\n",
            *real,
            "@rules\n*nat\n:KUBE-SERVICES - [0:0]\nCOMMIT\n",
        )
    )


# --- on a node without any of it ------------------------------------------------------------


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """Give a folder for a PATH with the tools of a shell alone."""
    for name in ("awk", "sed", "grep", "sleep", "readlink"):
        where = shutil.which(name, path=PATH)
        assert where
        (tmp_path / name).symlink_to(where)
    return tmp_path


def fake(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def fake_iptables(folder: Path, sample: str, restored: str) -> None:
    """Put an iptables there which always shows a sample, and notes what it should restore."""
    cat = shutil.which("cat", path=PATH)
    fake(folder, "iptables-save", f"exec {cat} {SAMPLES / sample}")
    fake(folder, "iptables-restore", f"{cat} >>{folder / 'restored'}; exit {restored}")


@pytest.mark.parametrize("mode", MODES)
def test_where_there_is_nothing_nothing_is_bridged(mode: str, shell: str, bare: Path) -> None:
    said = run(
        shell, f"bridge_from {mode}; echo $?; unbridge; echo $?; bridged; echo $?", str(bare)
    )
    statuses = [line for line in said.splitlines() if line.isdigit()]
    assert statuses == ["1", "0", "1"]
    assert "nothing to bridge" in said


def test_a_bridge_that_stands_is_kept(shell: str, bare: Path) -> None:
    fake_iptables(bare, "bridged.save", "0")
    said = run(shell, "bridge_from iptables; echo $?; bridged; echo $?", str(bare))
    assert said == "the bridge stands already in iptables\n0\n0\n"
    assert not (bare / "restored").exists()


@pytest.mark.parametrize("status", ["0", "1"])
def test_a_bridge_that_is_not_seen_afterwards_is_none(status: str, shell: str, bare: Path) -> None:
    fake_iptables(bare, "iptables.save", status)
    assert run(shell, "bridge_from iptables; echo $?", str(bare)) == "1\n"
    assert (bare / "restored").read_text().count("*nat") == 1


# --- in a kernel ----------------------------------------------------------------------------


def in_a_network_of_its_own(shell: str, statements: str) -> list[str]:
    """Run statements in a network namespace that ends with them; skips where none may be made."""
    unshare = shutil.which("unshare", path=PATH)
    if unshare is None or subprocess.run((unshare, "-n", "true"), check=False).returncode:
        pytest.skip("no network namespace can be made here")
    done = subprocess.run(
        (unshare, "-n", *command(shell), "-c", SHELL + statements),
        capture_output=True,
        check=False,
        env={"PATH": PATH, "LC_ALL": "C"},
        timeout=60,
    )
    return done.stdout.decode().split("-----\n")


@NEEDS_ROOT
@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_rules_are_as_before_when_the_bridge_is_gone(backend: str, shell: str) -> None:
    if shutil.which(f"iptables-{backend}-restore", path=PATH) is None:
        pytest.skip("no iptables here")
    seen = f"iptables-{backend}-save | sed '/^#/d; s/\\[.*//'; echo -----"
    before, bridge, bridged, _, after = in_a_network_of_its_own(
        shell,
        f"iptables-{backend}-restore <{SAMPLES}/iptables.save || exit\n{seen}\n"
        f"bridge_from iptables && bridged || exit\necho -----\n{seen}\n"
        f"unbridge && ! bridged || exit\necho -----\n{seen}",
    )[:5]
    assert bridge.startswith("bridged in iptables")
    assert bridged.count("NPREP-") > 50
    assert after == before


# A service with one endpoint, and what ipvs mode writes over it before that has been told to it.
OLD_RULES = """\
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SVC-ONE - [0:0]
:KUBE-SEP-ONE - [0:0]
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.254.7.7/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-ONE
-A KUBE-SVC-ONE -j KUBE-SEP-ONE
-A KUBE-SEP-ONE -p tcp -m tcp -j DNAT --to-destination 127.0.0.1:8080
COMMIT
"""
NEW_RULES = """\
*nat
:KUBE-SERVICES - [0:0]
-A KUBE-SERVICES -d 10.254.7.7/32 -j ACCEPT
COMMIT
"""
SERVING = f"""\
ip link set lo up && ip addr add 10.254.7.7/32 dev lo || exit
{sys.executable} -m http.server --bind 127.0.0.1 8080 >/dev/null 2>&1 &
trap "kill $!" EXIT
ask() {{
  {sys.executable} -c '
import socket
try:
    socket.create_connection(("10.254.7.7", 80), 1)
    print("answered")
except OSError as error:
    print(error.strerror or error)
'
}}
"""


@NEEDS_ROOT
@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_it_carries_what_a_first_sync_is_not_whole_for(backend: str, shell: str) -> None:
    if shutil.which(f"iptables-{backend}-restore", path=PATH) is None:
        pytest.skip("no iptables here")
    restore = f"iptables-{backend}-restore --noflush"
    (said,) = in_a_network_of_its_own(
        shell,
        f"{SERVING}"
        f"{restore} <<'END'\n{OLD_RULES}END\n"
        "until ask | grep -q answered; do sleep 0.2; done; ask\n"
        "bridge_from iptables >/dev/null && ask\n"
        f"{restore} <<'END'\n{NEW_RULES}END\nask\n"
        "unbridge && ask\n",
    )
    assert said.splitlines() == ["answered"] * 3 + ["Connection refused"]


@NEEDS_ROOT
def test_tables_are_as_before_when_the_bridge_is_gone(shell: str) -> None:
    if shutil.which("nft", path=PATH) is None:
        pytest.skip("no nft here")
    seen = "nft -s list ruleset; echo -----"
    before, bridge, bridged, _, after = in_a_network_of_its_own(
        shell,
        f"nft -f {SAMPLES}/nftables.list || exit\n{seen}\n"
        f"bridge_from nftables && bridged || exit\necho -----\n{seen}\n"
        f"unbridge && ! bridged || exit\necho -----\n{seen}",
    )[:5]
    assert bridge == "bridged in nft\n"
    ours = re.sub(r"(?m)^(table ip6?) kube-proxy", r"\1 nodeprep-bridge", before)
    assert sorted(bridged.splitlines()) == sorted((before + ours).splitlines())
    assert after == before


# --- and besides ----------------------------------------------------------------------------


def test_every_mode_says_what_it_cannot_carry() -> None:
    assert set(CANNOT_CARRY) == set(MODES)
    assert all(CANNOT_CARRY.values())


def test_the_shell_is_clean_for_shellcheck() -> None:
    assert complaints(SHELL) == ""
