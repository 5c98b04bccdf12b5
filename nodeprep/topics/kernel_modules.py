"""Kernel modules: loaded now, and again at every boot.

Which ones follows from the proxy mode. ``nf_conntrack_ipv4`` was merged into ``nf_conntrack`` in
Linux 4.19, and earlier in some vendors' kernels, so it is wanted exactly where the running kernel
has it: a look at the kernel's own lists decides, never its version.

A module that the running kernel lacks is named with the package that has it, and installed where
``module_packages: install`` asks for it.

>>> modules("ipvs", "lc")
('br_netfilter', 'nf_conntrack', 'ip_vs', 'ip_vs_rr', 'ip_vs_wrr', 'ip_vs_sh', 'ip_vs_lc')
"""

from collections.abc import Iterator, Mapping, Sequence

from nodeprep import files
from nodeprep.kernel import Kernel, State, Verdict, asking, module_name, parse, search, verdict
from nodeprep.model import APPLY, Change, Fact, Facts, Finding, Mode, Node, Status
from nodeprep.module_packages import Remedy, remedy
from nodeprep.package_managers import manager
from nodeprep.render import render
from nodeprep.sharing import Share
from nodeprep.shell import Script, words

NAME = "kernel_modules"
TITLE = "Kernel modules"

MODULES_LOAD = "/etc/modules-load.d/nodeprep.conf"
RC_MODULES = "/etc/sysconfig/modules/ipvs.modules"
"""Read at boot by rc.sysinit of EL 6, rhel-loadmodules.service of EL 7 and loadmodules.service of
EL 8 and openEuler, if it is executable."""

OLD_CONNTRACK = "nf_conntrack_ipv4"

ON_DEMAND: Mapping[Mode, tuple[str, ...]] = {
    "iptables": ("xt_comment", "xt_addrtype"),
    "ipvs": ("xt_comment", "xt_addrtype", "ip_set", "dummy"),
    "nftables": (),
}
"""What the kernel loads by itself once kube-proxy asks for it, but which must be there.

EL 10 has them in a package that its images lack (kubernetes/kops#18724); ``dummy`` is the kind of
device that ``kube-ipvs0`` is.
"""


def modules(mode: Mode, scheduler: str) -> tuple[str, ...]:
    """Return the modules that a proxy mode stands on, in the order in which they are loaded.

    ``ip_vs_rr``, ``ip_vs_wrr`` and ``ip_vs_sh`` are what kube-proxy up to 1.26 insists on
    (pkg/util/ipvs GetRequiredIPVSModules), whatever the scheduler.
    """
    common = ("br_netfilter", "nf_conntrack")
    if mode == "nftables":
        return (*common, "nf_tables")
    if mode == "iptables":
        return common
    schedulers = dict.fromkeys(("rr", "wrr", "sh", scheduler))
    return (*common, "ip_vs", *(f"ip_vs_{name}" for name in schedulers))


# --- facts and what is desired ---------------------------------------------------------------


def _wanted(node: Node) -> tuple[str, ...]:
    proxy = node.desired.kube_proxy
    own = (module_name(module) for module in node.desired.modules)
    sets = ("ip_set", "xt_set") if node.desired.ipsets else ()
    names = (*modules(proxy.mode, proxy.scheduler), OLD_CONNTRACK, *sets, *own)
    return tuple(dict.fromkeys(names))


def _on_demand(node: Node) -> tuple[str, ...]:
    return tuple(n for n in ON_DEMAND[node.desired.kube_proxy.mode] if n not in _wanted(node))


def _script(node: Node) -> str:
    return asking((*_wanted(node), *_on_demand(node)), optional=OLD_CONNTRACK)


def share(node: Node) -> Share:
    """Return what is asked together with other topics."""
    return Share(searches=(search((*_wanted(node), *_on_demand(node))),))


KERNEL = Fact(name="kernel_modules", script=_script, parse=parse)
FACTS = (KERNEL,)


def desired(node: Node, kernel: Kernel) -> tuple[str, ...]:
    """Return the modules this node should have; the merged one only where its kernel has it."""
    has_old = verdict(OLD_CONNTRACK, kernel).state in (
        State.LOADED,
        State.BUILT_IN,
        State.LOADABLE,
        State.BLOCKED,
    )
    return tuple(name for name in _wanted(node) if name != OLD_CONNTRACK or has_old)


def _files(node: Node, kernel: Kernel) -> tuple[files.ManagedFile, ...]:
    values = {"mark": files.MARK, "modules": desired(node, kernel)}
    load = files.ManagedFile(path=MODULES_LOAD, content=render("modules-load.conf.j2", values))
    if not kernel.reads_rc_modules:
        return (load,)
    script = render("ipvs.modules.j2", values)
    return load, files.ManagedFile(path=RC_MODULES, content=script, mode=0o755)


# --- the contract ---------------------------------------------------------------------------


def paths(_: Node) -> tuple[str, ...]:
    """Return both files; the second is written only where the system's init reads it."""
    return MODULES_LOAD, RC_MODULES


def secrets(_: Node) -> tuple[str, ...]:
    """Nothing here is secret."""
    return ()


def changes(node: Node, facts: Facts) -> tuple[Change, ...]:
    """Persist first, then load: a node that loses power in between still boots as wanted."""
    kernel = facts[KERNEL]
    written = (
        files.change(NAME, file, facts.file(file.path), adopt=node.desired.adopt)
        for file in _files(node, kernel)
    )
    return (*filter(None, written), *_load(node, kernel))


def _load(node: Node, kernel: Kernel) -> tuple[Change, ...]:
    states = {name: verdict(name, kernel).state for name in desired(node, kernel)}
    brought = _brought(node, kernel)
    names = [
        name
        for name, state in states.items()
        if state is State.LOADABLE or (brought and state is State.MISSING)
    ]
    return (*_install(node, kernel), *_modprobe(names))


def _missing(node: Node, kernel: Kernel) -> tuple[str, ...]:
    every = (*desired(node, kernel), *_on_demand(node))
    return tuple(n for n in every if verdict(n, kernel).state is State.MISSING)


def _brought(node: Node, kernel: Kernel) -> tuple[str, ...]:
    """Return the packages that are installed here for what is missing, where that was asked for."""
    asked = node.desired.module_packages == "install" and _missing(node, kernel)
    return _remedy(kernel).packages if asked else ()


def _remedy(kernel: Kernel) -> Remedy:
    return remedy(kernel.release, kernel.origin)


def _install(node: Node, kernel: Kernel) -> tuple[Change, ...]:
    packages = _brought(node, kernel)
    family, directory = manager(kernel.origin.manager or "none"), node.desired.packages_from or ""
    if not packages or family.install is None:
        return ()
    return (
        Change(
            topic=NAME,
            subject="module packages",
            summary=f"install {', '.join(packages)} for {', '.join(_missing(node, kernel))}",
            action=Script(family.install(packages, directory)),
        ),
    )


def _modprobe(names: Sequence[str]) -> tuple[Change, ...]:
    if not names:
        return ()
    return (
        Change(
            topic=NAME,
            subject="modprobe",
            summary=f"load {', '.join(names)}",
            # Without -a, modprobe takes every name but the first for a parameter of the first.
            action=Script(f"modprobe -a -- {words(*names)}"),
        ),
    )


def findings(node: Node, facts: Facts) -> tuple[Finding, ...]:
    """Say how each module stands, and each file that persists them."""
    kernel = facts[KERNEL]
    modules_ = (_finding(verdict(name, kernel), node, kernel) for name in desired(node, kernel))
    adopt = node.desired.adopt
    persisted = (
        files.finding(NAME, file, facts.file(file.path), adopt=adopt)
        for file in _files(node, kernel)
    )
    return (*modules_, *_loaded_on_demand(node, kernel), *persisted, *_signed(kernel))


def _loaded_on_demand(node: Node, kernel: Kernel) -> Iterator[Finding]:
    # What is loadable is as it should be. Where all modules are missing, those above say so.
    for verdict_ in (verdict(name, kernel) for name in _on_demand(node)):
        lacking = verdict_.state is State.MISSING and kernel.origin.manager
        if lacking or verdict_.state in (State.OTHER_KERNEL, State.BLOCKED):
            yield _finding(verdict_, node, kernel)


def _signed(kernel: Kernel) -> Iterator[Finding]:
    if kernel.lockdown:
        told = f"{kernel.lockdown}: only modules with a signature that this machine knows load"
        yield Finding(topic=NAME, name="lockdown", status=Status.OK, actual=told)


def _finding(verdict_: Verdict, node: Node, kernel: Kernel) -> Finding:
    ready = verdict_.state in (State.LOADED, State.BUILT_IN)
    reason = f" ({verdict_.reason})" if verdict_.reason else ""
    return Finding(
        topic=NAME,
        name=verdict_.name,
        status=Status.OK if ready else Status.FAIL,
        actual=f"{verdict_.state}{reason}",
        wanted="" if ready else "loaded or built in",
        hint="" if ready else _hint(verdict_, node, kernel),
    )


def _hint(verdict_: Verdict, node: Node, kernel: Kernel) -> str:
    match verdict_.state:
        case State.LOADABLE:
            return APPLY
        case State.BLOCKED if verdict_.reason.startswith("kernel."):
            return "reboot: module loading was switched off for as long as this kernel runs"
        case State.BLOCKED:
            return f"take out what blocks it: {verdict_.reason}"
        case State.OTHER_KERNEL:
            return f"reboot: {kernel.release} runs, the module is installed for {verdict_.reason}"
        case State.MISSING if not kernel.has_tree:
            return f"reboot into an installed kernel: ls /lib/modules (running {kernel.release})"
        case State.IMPOSSIBLE:
            return f"load it on the host: modprobe {verdict_.name}"
        case _ if _brought(node, kernel):
            return APPLY
        case _:
            return _remedy(kernel).hint
