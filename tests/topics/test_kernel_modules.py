"""Kernel modules: which ones, what can be said of each, and what is done about it."""

import dataclasses

import pytest

from nodeprep.kernel import State, Verdict
from nodeprep.model import Facts, Status
from nodeprep.topics import kernel_modules as topic
from nodeprep.topics.kernel_modules import KERNEL
from tests import facts
from tests.test_kernel import RELEASE, answer, dep, verdict
from tests.topics import named, node, of


def seen(system: str) -> Facts:
    return of({KERNEL: facts.read(KERNEL, system)})


def test_ipvs_stands_on_the_modules_that_old_releases_insist_on() -> None:
    assert topic.modules("ipvs", "rr") == (
        "br_netfilter",
        "nf_conntrack",
        "ip_vs",
        "ip_vs_rr",
        "ip_vs_wrr",
        "ip_vs_sh",
    )


@pytest.mark.parametrize("scheduler", ["lc", "dh", "nq", "mh"])
def test_ipvs_stands_on_the_module_of_its_scheduler_too(scheduler: str) -> None:
    assert topic.modules("ipvs", scheduler)[-1] == f"ip_vs_{scheduler}"


def test_iptables_and_nftables_stand_on_no_ipvs_module() -> None:
    assert topic.modules("iptables", "rr") == ("br_netfilter", "nf_conntrack")
    assert topic.modules("nftables", "rr") == ("br_netfilter", "nf_conntrack", "nf_tables")


def test_the_users_own_modules_come_last_once_and_with_underscores() -> None:
    kernel = facts.read(KERNEL, "debian12")
    wanted = topic.desired(node(mode="iptables", modules=("xt-set", "nf_conntrack")), kernel)
    assert wanted == ("br_netfilter", "nf_conntrack", "xt_set")


@pytest.mark.parametrize(
    ("system", "has"),
    [("centos7", True), ("centos7-blacklisted", True), ("el8-early", True)]
    + [(name, False) for name in ("el8", "el9", "el10", "debian11", "ubuntu2004", "ubuntu2404")],
)
def test_nf_conntrack_ipv4_is_wanted_exactly_where_the_kernel_has_it(
    system: str, *, has: bool
) -> None:
    kernel = facts.read(KERNEL, system)
    assert (topic.OLD_CONNTRACK in topic.desired(node(), kernel)) is has


@pytest.mark.parametrize(
    "text",
    [answer(lists=dep("br_netfilter", kind="builtin")), answer(sys="br_netfilter\n")],
    ids=["in modules.builtin", "in sysfs alone"],
)
def test_a_module_in_the_kernel_itself_is_built_in_and_fine(text: str) -> None:
    assert verdict("br_netfilter", text).state is State.BUILT_IN
    found = named(topic.findings(node(), of({KERNEL: KERNEL.parse(text)})), "br_netfilter")
    assert found.status is Status.OK


def test_loadable_modules_are_loaded_by_one_modprobe() -> None:
    (change,) = [c for c in topic.changes(node(), seen("debian12")) if c.subject == "modprobe"]
    names = "br_netfilter nf_conntrack ip_vs ip_vs_rr ip_vs_wrr ip_vs_sh"
    assert str(change.action) == f"modprobe -a -- {names}"
    found = named(topic.findings(node(), seen("debian12")), "ip_vs")
    assert (found.status, found.hint) == (Status.FAIL, "nodeprep apply")


def test_files_are_written_before_modules_are_loaded() -> None:
    subjects = [change.subject for change in topic.changes(node(), seen("debian12"))]
    assert subjects == [topic.MODULES_LOAD, "modprobe"]


def test_a_module_of_an_updated_kernel_waits_for_a_reboot() -> None:
    text = answer(lists=dep("ip_vs", "5.15.0-205-generic") + dep("ip_vs", "5.15.0-206-generic"))
    assert verdict("ip_vs", text) == Verdict(
        name="ip_vs", state=State.OTHER_KERNEL, reason="5.15.0-205-generic, 5.15.0-206-generic"
    )
    found = named(topic.findings(node(), of({KERNEL: KERNEL.parse(text)})), "ip_vs")
    assert found.hint.startswith(f"reboot: {RELEASE} runs")


ORIGIN_OF_EL_10 = (
    "origin:\nmanager dnf\n"
    "owner kernel-modules-core 6.12.0-124.8.1.el10_1.x86_64\n"
    "beside kernel-modules-core 6.12.0-124.8.1.el10_1.x86_64\n"
    "beside kernel-modules 6.12.0-124.8.1.el10_1.x86_64\n"
)
EXTRA = "kernel-modules-extra-6.12.0-124.8.1.el10_1.x86_64"


def lacking(origin: str = ORIGIN_OF_EL_10) -> Facts:
    text = answer().replace("rules:\n", f"{origin}rules:\n")
    return of({KERNEL: KERNEL.parse(text)})


def test_a_module_that_no_kernel_has_is_named_with_the_package_that_has_it() -> None:
    found = named(topic.findings(node(), lacking()), "ip_vs")
    assert found.actual == "missing"
    assert found.hint == f"dnf install {EXTRA}; or set `module_packages: install`"
    assert [change.subject for change in topic.changes(node(), lacking())] == [topic.MODULES_LOAD]


def test_where_it_is_asked_for_the_package_is_installed_and_then_the_modules_are_loaded() -> None:
    wanted = node(module_packages="install")
    _, install, load = topic.changes(wanted, lacking())
    assert install.summary.startswith(f"install {EXTRA} for br_netfilter, nf_conntrack, ip_vs")
    assert str(install.action).endswith(f"dnf -q -y install {EXTRA}")
    assert "modprobe -a -- br_netfilter nf_conntrack ip_vs" in str(load.action)
    assert named(topic.findings(wanted, lacking()), "ip_vs").hint == "nodeprep apply"


def test_from_a_directory_where_packages_come_from_one() -> None:
    wanted = node(module_packages="install", packages_from="/srv/packages")
    _, install, _ = topic.changes(wanted, lacking())
    assert "/srv/packages/*.rpm" in str(install.action)


def test_where_nobody_knows_the_kernels_package_a_person_has_to() -> None:
    found = named(topic.findings(node(module_packages="install"), lacking("")), "ip_vs")
    assert found.hint == f"install the modules of {RELEASE}: no package here owns its folder"


def test_what_the_kernel_loads_by_itself_must_be_there() -> None:
    assert named(topic.findings(node(mode="iptables"), lacking()), "xt_comment").actual == "missing"
    names = [finding.name for finding in topic.findings(node(), seen("debian12"))]
    assert "xt_comment" not in names


def test_a_locked_down_kernel_is_said_to_want_signatures() -> None:
    text = answer(head="lockdown none [integrity] confidentiality\n")
    found = named(topic.findings(node(), of({KERNEL: KERNEL.parse(text)})), "lockdown")
    assert found.status is Status.OK
    assert found.actual.startswith("integrity: only modules with a signature")


def test_a_kernel_whose_folder_is_gone_says_so() -> None:
    text = answer().replace("tree\n", "")
    assert verdict("ip_vs", text).reason == f"/lib/modules/{RELEASE} is not there"
    found = named(topic.findings(node(), of({KERNEL: KERNEL.parse(text)})), "ip_vs")
    assert found.hint.startswith("reboot into an installed kernel")


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("blacklist ip_vs", "/etc/modprobe.d/x.conf: blacklist ip_vs"),
        ("blacklist ip-vs", "/etc/modprobe.d/x.conf: blacklist ip-vs"),
        ("\tinstall ip_vs  /bin/true", "/etc/modprobe.d/x.conf: install ip_vs /bin/true"),
        ("install ip_vs /bin/false", "/etc/modprobe.d/x.conf: install ip_vs /bin/false"),
    ],
)
def test_a_rule_in_modprobe_d_blocks_and_is_named_with_its_file(rule: str, reason: str) -> None:
    text = answer(lists=dep("ip_vs"), rules=f"/etc/modprobe.d/x.conf:{rule}\n")
    assert verdict("ip_vs", text) == Verdict(name="ip_vs", state=State.BLOCKED, reason=reason)
    changes = topic.changes(node(), of({KERNEL: KERNEL.parse(text)}))
    assert not any(change.subject == "modprobe" for change in changes)


def test_modules_disabled_blocks_until_a_reboot() -> None:
    text = answer(head="disabled 1\n", lists=dep("ip_vs"))
    assert verdict("ip_vs", text).reason == "kernel.modules_disabled = 1"
    found = named(topic.findings(node(), of({KERNEL: KERNEL.parse(text)})), "ip_vs")
    assert found.hint.startswith("reboot: module loading was switched off")


def test_a_module_that_is_loaded_and_blacklisted_is_lost_at_the_next_boot() -> None:
    found = named(topic.findings(node(), seen("centos7-blacklisted")), "nf_conntrack")
    assert found.status is Status.FAIL
    assert found.hint == (
        "take out what blocks it: /etc/modprobe.d/blacklist_lvs.conf: blacklist nf_conntrack"
    )


def test_a_hardened_system_is_told_each_rule() -> None:
    findings = topic.findings(node(), seen("ubuntu2204-hardened"))
    hints = [finding.hint for finding in findings if finding.name != topic.MODULES_LOAD]
    assert all(hint.startswith("take out what blocks it: /etc/modprobe.d/") for hint in hints)
    assert len(hints) == 6


def test_in_a_container_modules_are_loaded_on_the_host() -> None:
    findings = topic.findings(node(), seen("debian12-container"))
    assert named(findings, "ip_vs").actual == "not possible here (container: /.dockerenv)"
    assert named(findings, "ip_vs").hint == "load it on the host: modprobe ip_vs"
    assert named(findings, "nf_conntrack").status is Status.OK


@pytest.mark.parametrize(
    ("system", "reads"), [("centos7", True), ("el8", True), ("el9", False), ("debian12", False)]
)
def test_the_rc_script_is_written_only_where_the_init_reads_it(system: str, *, reads: bool) -> None:
    subjects = [change.subject for change in topic.changes(node(), seen(system))]
    names = [finding.name for finding in topic.findings(node(), seen(system))]
    assert (topic.RC_MODULES in subjects) is reads
    assert (topic.RC_MODULES in names) is reads


def test_a_node_that_has_it_all_is_left_alone() -> None:
    kernel = dataclasses.replace(facts.read(KERNEL, "centos7"))
    changes = topic.changes(node(), of({KERNEL: kernel}))
    assert {change.subject for change in changes} == {topic.MODULES_LOAD, topic.RC_MODULES}
