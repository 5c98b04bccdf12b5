"""The running kernel: what its answer says of each module."""

import pytest

from nodeprep import kernel
from nodeprep.kernel import State, Verdict

RELEASE = "5.15.0-204-generic"
PROBE = kernel.asking(("ip_vs", "nf_conntrack_ipv4"), optional="nf_conntrack_ipv4")


def answer(
    *, head: str = "", loaded: str = "", sys: str = "", lists: str = "", rules: str = ""
) -> str:
    head = f"release {RELEASE}\ntree\n{head}"
    return f"{head}loaded:\n{loaded}sys:\n{sys}lists:\n{lists}rules:\n{rules}"


def dep(name: str, release: str = RELEASE, kind: str = "dep") -> str:
    return f"/lib/modules/{release}/modules.{kind}:/{name}.ko.xz:\n"


def verdict(name: str, text: str) -> Verdict:
    return kernel.verdict(name, kernel.parse(text))


def test_a_module_in_proc_modules_is_loaded() -> None:
    text = answer(loaded="ip_vs 155648 22 - Live 0x0\n", lists=dep("ip_vs"))
    assert verdict("ip_vs", text).state is State.LOADED


@pytest.mark.parametrize("suffix", ["", ".xz", ".gz", ".zst"])
def test_a_module_in_modules_dep_is_loadable_however_it_is_compressed(suffix: str) -> None:
    text = answer(lists=f"/lib/modules/{RELEASE}/modules.dep:/ip_vs.ko{suffix}:\n")
    assert verdict("ip_vs", text).state is State.LOADABLE


def test_a_file_name_with_dashes_is_the_same_module() -> None:
    assert verdict("xt_set", answer(lists=dep("xt-set"))).state is State.LOADABLE


def test_an_install_rule_that_loads_the_module_after_all_blocks_nothing() -> None:
    rule = "install ip_vs /sbin/modprobe --ignore-install ip_vs && logger ip_vs"
    text = answer(lists=dep("ip_vs"), rules=f"/etc/modprobe.d/x.conf:{rule}\n")
    assert verdict("ip_vs", text).state is State.LOADABLE


@pytest.mark.parametrize("parameter", ["module_blacklist=x,ip_vs", "modprobe.blacklist=ip-vs"])
def test_the_kernel_command_line_blocks(parameter: str) -> None:
    text = answer(head=f"cmdline {parameter}\n", lists=dep("ip_vs"))
    assert verdict("ip_vs", text).reason == f"kernel command line: {parameter}"


def test_the_probe_finds_the_rc_reader_of_el_8_where_initscripts_10_has_it() -> None:
    assert "/usr/libexec/loadmodules" in PROBE


def test_the_probe_reads_only_rules_that_modprobe_reads() -> None:
    assert "/etc/modprobe.d/*.conf" in PROBE
    assert "grep -r" not in PROBE


@pytest.mark.parametrize(
    ("line", "lockdown"),
    [
        ("none [integrity] confidentiality", "integrity"),
        ("[none] integrity confidentiality", ""),
        ("", ""),
    ],
)
def test_lockdown_is_what_stands_in_brackets(line: str, lockdown: str) -> None:
    assert kernel.parse(answer(head=f"lockdown {line}\n")).lockdown == lockdown


def test_where_the_kernel_is_from_is_asked_only_where_a_module_is_missing() -> None:
    before, asked = PROBE.split("echo origin:")
    assert "rpm -qf" not in before
    assert "rpm -qf" in asked
    assert "'ip[-_]vs'" in before
    assert "'nf[-_]conntrack[-_]ipv4'" not in before
