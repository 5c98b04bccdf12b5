"""What lands on nodes, byte for byte, and that those who read it there understand it.

``NODEPREP_UPDATE_GOLDEN=1 pytest tests/test_golden.py`` writes tests/golden/ anew; the difference
is then for a person to read.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from nodeprep import apply, plan, probe
from nodeprep.model import BypassRule, Facts, FileState, IpSet, Node, Sysctl
from nodeprep.releases import Version
from nodeprep.shell import Secret
from nodeprep.story import STORY
from nodeprep.topics.kernel_modules import KERNEL
from nodeprep.topics.kube_proxy import BINARY, SERVICE, Binary
from nodeprep.topics.network_manager import MANAGER
from nodeprep.topics.networkd import NETWORKD
from nodeprep.topics.packages import INSTALLED
from nodeprep.topics.sysctl import PARAMETERS
from tests import facts
from tests.namespaces import Namespace
from tests.shells import NEEDS_ROOT, complaints
from tests.topics import KUBECONFIG, node, of

GOLDEN = Path(__file__).parent / "golden"
UPDATE = os.environ.get("NODEPREP_UPDATE_GOLDEN") == "1"
CONNTRACK = Sysctl(key="net.netfilter.nf_conntrack_max", value="131072", bound="at_least")
RUN = apply.Run(id="20261123T040000Z-1a2b", operator="anna@control")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A node, and the facts of a fresh system for it."""

    node: Node
    facts: Facts


def fresh(system: str, minor: int, *states: FileState) -> Facts:
    return of(
        {
            KERNEL: facts.read(KERNEL, system),
            PARAMETERS: facts.read(PARAMETERS, "centos7-no-br_netfilter"),
            BINARY: Binary(present=True, version=Version(1, minor)),
            SERVICE: facts.read(SERVICE, "systemd-no-such-unit"),
            INSTALLED: facts.read(INSTALLED, "debian12-container"),
        },
        *states,
    )


def neighbours(system: str, minor: int) -> Facts:
    """Return the facts of a fresh system on which NetworkManager and systemd-networkd run."""
    found = fresh(system, minor, KUBECONFIG)
    services = {
        MANAGER.name: facts.read(MANAGER, "ubuntu-netplan"),
        NETWORKD.name: facts.read(NETWORKD, "flatcar"),
    }
    return Facts({**found.values, **services}, found.files)


CASES: Mapping[str, Case] = {
    "flags-1.20-centos7": Case(
        node=node(style="flags", cluster_cidr="10.254.0.0/16", masquerade_all=True),
        facts=fresh("centos7", 20, KUBECONFIG),
    ),
    "flags-1.34-lc": Case(
        node=node(
            style="flags",
            scheduler="lc",
            strict_arp=True,
            exclude_cidrs=("10.9.0.0/16",),
            node_port_addresses=("192.0.2.0/24", "primary"),
            sync_period="1m",
        ),
        facts=fresh("debian12", 34, KUBECONFIG),
    ),
    "config-1.20-ipvs": Case(
        node=node(
            cluster_cidr="10.244.0.0/16",
            sysctls=(CONNTRACK,),
            conntrack_max_per_core=0,
            verbosity=4,
        ),
        facts=fresh("ubuntu2004", 20, KUBECONFIG),
    ),
    "config-1.34-neighbours": Case(
        node=node(cluster_cidr="10.244.0.0/16"),
        facts=neighbours("debian12", 34),
    ),
    "config-1.33-nftables": Case(
        node=node(
            mode="nftables",
            modules=("xt_set",),
            kubeconfig_content=Secret("kind: Config\n"),
            feature_gates={"NFTablesNetlink": False},
        ),
        facts=fresh("ubuntu2404", 33),
    ),
    "ipsets-and-rules": Case(
        node=node(
            ipsets=(
                IpSet(name="myset", entries=("192.168.1.1", "192.168.2.226")),
                IpSet(
                    name="nets.6",
                    type="hash:net",
                    family="inet6",
                    timeout=300,
                    maxelem=1000,
                    entries=("fd00::/64", "fd01::/16 nomatch"),
                ),
            ),
            bypass_rules=(
                BypassRule(set="myset", comment="myset"),
                BypassRule(set="nets.6", comment="nets.6", family=6, position="last"),
            ),
        ),
        facts=fresh("debian12", 34, KUBECONFIG),
    ),
}
NAMES = sorted(CASES)


def landed(case: Case) -> Iterator[tuple[str, str]]:
    """Give each file that a plan would place, by running its step with a `put` that only prints."""
    for change in plan.changes(case.node, case.facts, STORY):
        if change.guard:
            script = f"put() {{ printf '%s' \"$4\"; }}\n{change.action.reveal()}\n"
            done = subprocess.run(["sh", "-s"], input=script, text=True, stdout=-1, check=True)
            yield change.guard.path, done.stdout


def named(path: str) -> str:
    """Return the name of a golden file; longer where two services share it."""
    place = Path(path)
    shared = place.parent.name in ("conf.d", "networkd.conf.d")
    return f"{place.parent.name}-{place.name}" if shared else place.name


def folder(name: str) -> dict[str, str]:
    """Return the golden files of a case by their names, with the case's own written if asked."""
    place = GOLDEN / name
    if UPDATE:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for path, content in landed(CASES[name]):
            (place / named(path)).write_text(content, encoding="utf-8")
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(place.iterdir())}


@pytest.mark.parametrize("name", NAMES)
def test_what_lands_on_a_node_is_what_was_agreed(name: str) -> None:
    expected = folder(name)
    assert {named(path): text for path, text in landed(CASES[name])} == expected


def document(name: str) -> Any:
    return yaml.safe_load(folder(name)["config.yaml"])


def test_the_ipvs_configuration_of_1_20_reads_as_meant() -> None:
    assert document("config-1.20-ipvs") == {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "bindAddress": "0.0.0.0",  # noqa: S104 kube-proxy's own default
        "hostnameOverride": "node-1",
        "clientConnection": {"kubeconfig": "/etc/kubernetes/kube-proxy.kubeconfig"},
        "clusterCIDR": "10.244.0.0/16",
        "mode": "ipvs",
        "healthzBindAddress": "0.0.0.0:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "conntrack": {"maxPerCore": 0},
        "iptables": {"masqueradeAll": False, "syncPeriod": "30s", "minSyncPeriod": "2s"},
        "ipvs": {
            "scheduler": "rr",
            "strictARP": False,
            "excludeCIDRs": [],
            "syncPeriod": "30s",
            "minSyncPeriod": "2s",
        },
    }


def test_the_nftables_configuration_of_1_33_reads_as_meant() -> None:
    read = document("config-1.33-nftables")
    assert (read["mode"], read["featureGates"]) == ("nftables", {"NFTablesNetlink": False})
    assert read["nftables"] == {
        "masqueradeAll": False,
        "syncPeriod": "30s",
        "minSyncPeriod": "2s",
    }
    assert "clusterCIDR" not in read


def test_what_the_neighbours_read_is_what_their_manuals_know() -> None:
    read = folder("config-1.34-neighbours")
    assert read["conf.d-nodeprep.conf"].splitlines()[1:] == [
        "[keyfile]",
        "unmanaged-devices+=interface-name:kube-ipvs0;interface-name:nodelocaldns",
    ]
    assert read["networkd.conf.d-nodeprep.conf"].splitlines()[1:] == [
        "[Network]",
        "ManageForeignRoutes=no",
        "ManageForeignRoutingPolicyRules=no",
    ]


def test_the_modules_of_centos_7_end_with_the_one_that_newer_kernels_lack() -> None:
    lines = folder("flags-1.20-centos7")["nodeprep.conf"].splitlines()
    assert lines[-1] == "nf_conntrack_ipv4"


UNITS = [(name, file) for name in NAMES for file in folder(name) if file.endswith(".service")]


@pytest.mark.parametrize(("name", "file"), UNITS)
def test_systemd_finds_nothing_wrong_with_a_unit(name: str, file: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed here")
    unit = tmp_path / file
    # The program is not on this machine; systemd wants it to be one that can be executed.
    unit.write_text(folder(name)[file].replace("/usr/local/bin/kube-proxy", "/bin/sh"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
    )
    complaints = [line for line in done.stderr.splitlines() if file in line]
    if not complaints and done.returncode:
        pytest.skip(f"systemd-analyze does not work here: {done.stderr.strip()}")
    assert complaints == []


@NEEDS_ROOT
@pytest.mark.parametrize("file", ["myset", "nets.6"])
def test_ipset_itself_reads_the_file_of_a_set(kernel: Namespace, file: str) -> None:
    text = folder("ipsets-and-rules")[file]
    kernel.ask(f"ipset restore <<'END'\n{text}END\n")
    saved = kernel.ask(f"ipset save {file} | sort").splitlines()
    entries = [line for line in text.splitlines() if line.startswith("add ")]
    assert [line for line in saved if line.startswith("add ")] == sorted(entries)


def scripts() -> Mapping[str, str]:
    """Return every script of every case; the questions are the same in a probe and an apply."""
    first = CASES[NAMES[0]].node
    every = {"probe": probe.script(first, STORY, "n0nce").reveal()}
    for name, case in CASES.items():
        changes = plan.changes(case.node, case.facts, STORY)
        every[f"apply {name}"] = apply.script(case.node, changes, STORY, RUN, "n0nce").reveal()
        shell = ("ipvs.modules", "ipsets.sh", "bypass-rules.sh")
        every.update({file: text for file, text in folder(name).items() if file in shell})
    return every


# Not in POSIX, and known all the same to dash, busybox, bash and ksh: `test -O` (SC3067). What a
# file says is one quoted word, and may be shell or awk itself (SC2016).
def test_shellcheck_finds_nothing_in_any_script() -> None:
    with ThreadPoolExecutor() as pool:
        said = pool.map(
            lambda text: complaints(text, "--exclude=SC3067,SC2016"), scripts().values()
        )
        found = dict(zip(scripts(), said, strict=True))
    assert found == dict.fromkeys(scripts(), "")
