"""Kernel modules: loaded now, and again at every boot.

Which ones follows from the proxy mode. ``nf_conntrack_ipv4`` was merged into ``nf_conntrack`` in
Linux 4.19, and earlier in some vendors' kernels, so it is wanted exactly where the running kernel
has it: a look at the kernel's own lists decides, never its version.

>>> modules("ipvs", "lc")
('br_netfilter', 'nf_conntrack', 'ip_vs', 'ip_vs_rr', 'ip_vs_wrr', 'ip_vs_sh', 'ip_vs_lc')
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from nodeprep import files
from nodeprep.model import APPLY, Change, Fact, Facts, Finding, Mode, Node, Status
from nodeprep.render import render
from nodeprep.shell import Script, words

NAME = "kernel_modules"
TITLE = "Kernel modules"

MODULES_LOAD = "/etc/modules-load.d/nodeprep.conf"
RC_MODULES = "/etc/sysconfig/modules/ipvs.modules"
"""Read at boot by rc.sysinit of EL 6, rhel-loadmodules.service of EL 7 and loadmodules.service of
EL 8 and openEuler, if it is executable."""

OLD_CONNTRACK = "nf_conntrack_ipv4"


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


# --- facts ----------------------------------------------------------------------------------


class State(StrEnum):
    """What can be said of a module on a running kernel."""

    LOADED = "loaded"
    BUILT_IN = "built in"
    LOADABLE = "loadable"
    OTHER_KERNEL = "only for another kernel"
    MISSING = "missing"
    BLOCKED = "blocked"
    IMPOSSIBLE = "not possible here"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The state of one module, and why: a file that blocks it, the kernels that have it."""

    name: str
    state: State
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """What the node says of its kernel and of the modules that were asked for.

    ``blocks`` maps a module to ``file: line`` of what keeps it from loading, ``other_kernels`` to
    the releases under /lib/modules that have it. All names have underscores.
    """

    release: str
    container: str
    loading_disabled: bool
    has_tree: bool
    loaded: frozenset[str]
    built_in: frozenset[str]
    loadable: frozenset[str]
    blocks: Mapping[str, str]
    other_kernels: Mapping[str, tuple[str, ...]]
    reads_rc_modules: bool


def _wanted(node: Node) -> tuple[str, ...]:
    proxy = node.desired.kube_proxy
    own = (_name(module) for module in node.desired.modules)
    sets = ("ip_set", "xt_set") if node.desired.ipsets else ()
    names = (*modules(proxy.mode, proxy.scheduler), OLD_CONNTRACK, *sets, *own)
    return tuple(dict.fromkeys(names))


# A built-in module has no line in /proc/modules, and without parameters no folder in /sys/module:
# only modules.builtin tells. A container is told by what its manager leaves in it.
_PROBE = """\
read -r release </proc/sys/kernel/osrelease
printf 'release %%s\\n' "$release"
if [ -d "/lib/modules/$release" ]; then echo tree; fi
for sign in /run/systemd/container /.dockerenv /run/.containerenv /proc/vz/veinfo; do
  [ -e "$sign" ] && [ ! -e /proc/vz/version ] && printf 'container %%s\\n' "$sign"
done
# In dash, `read` gets the one digit and no end of line, and so fails.
disabled=
read -r disabled </proc/sys/kernel/modules_disabled
printf 'disabled %%s\\n' "${disabled:-0}"
for reader in /usr/lib/systemd/*loadmodules /lib/systemd/*loadmodules /usr/libexec/loadmodules \\
  /etc/rc.d/rc.sysinit; do
  [ -f "$reader" ] && printf 'rc %%s\\n' "$reader"
done
read -r parameters </proc/cmdline
for parameter in $parameters; do
  case $parameter in *module?blacklist=* | modprobe.blacklist=*)
    printf 'cmdline %%s\\n' "$parameter" ;;
  esac
done
echo loaded:; grep -E '^(%(names)s) ' /proc/modules
echo sys:; for module in %(words)s; do [ -d "/sys/module/$module" ] && echo "$module"; done
echo lists:
grep -HoE '/(%(files)s)\\.ko(\\.[a-z0-9]+)?(:|$)' \\
  /lib/modules/*/modules.dep /lib/modules/*/modules.builtin
echo rules:
grep -HE '^[[:space:]]*(blacklist|install)[[:space:]]+(%(files)s)([[:space:]]|$)' \\
  /etc/modprobe.d/*.conf /run/modprobe.d/*.conf /usr/local/lib/modprobe.d/*.conf \\
  /usr/lib/modprobe.d/*.conf /lib/modprobe.d/*.conf
:"""


def _script(node: Node) -> str:
    names = _wanted(node)
    return _PROBE % {
        "names": "|".join(names),
        "words": words(*names),
        "files": "|".join(name.replace("_", "[-_]") for name in names),
    }


def parse(text: str) -> Kernel:
    """Read what the probe prints: single facts first, then sections, each below its title."""
    head, loaded, sys, lists, rules = _sections(text)
    single = dict(line.partition(" ")[::2] for line in reversed(head))
    release = single.get("release", "")
    here, elsewhere, built_in = _lists(lists, release)
    in_proc = frozenset(line.split(" ")[0] for line in loaded)
    return Kernel(
        release=release,
        container=single.get("container", ""),
        loading_disabled=single.get("disabled") == "1",
        has_tree="tree" in single,
        loaded=in_proc,
        built_in=built_in | (frozenset(sys) - in_proc - here),
        loadable=here,
        blocks=_blocks(rules, head),
        other_kernels=elsewhere,
        reads_rc_modules="rc" in single,
    )


def _sections(text: str) -> list[list[str]]:
    parts = re.split(r"^(?:loaded|sys|lists|rules):$", text, flags=re.MULTILINE)
    sections = [[line for line in part.splitlines() if line] for part in parts]
    return sections + [[]] * (5 - len(sections))


def _lists(
    lines: list[str], release: str
) -> tuple[frozenset[str], Mapping[str, tuple[str, ...]], frozenset[str]]:
    here, built_in = set(), set()
    elsewhere: dict[str, tuple[str, ...]] = {}
    for line in lines:
        match = re.match(r"/lib/modules/([^/]+)/modules\.(dep|builtin):/(.+?)\.ko", line)
        if match is None:
            continue
        kernel, kind, name = match[1], match[2], _name(match[3])
        if kernel != release:
            elsewhere[name] = (*elsewhere.get(name, ()), kernel)
        elif kind == "dep":
            here.add(name)
        else:
            built_in.add(name)
    return frozenset(here), elsewhere, frozenset(built_in)


def _blocks(rules: list[str], head: list[str]) -> Mapping[str, str]:
    blocks: dict[str, str] = {}
    for line in rules:
        place, _, rule = line.partition(":")
        kind, name, *command = rule.split(None, 2)
        # `install` with a command that loads the module after all blocks nothing.
        if kind == "blacklist" or "modprobe" not in "".join(command):
            blocks.setdefault(_name(name), f"{place}: {' '.join(rule.split())}")
    for line in head:
        if line.startswith("cmdline "):
            parameter = line.removeprefix("cmdline ")
            for name in parameter.partition("=")[2].split(","):
                blocks.setdefault(_name(name), f"kernel command line: {parameter}")
    return blocks


def _name(module: str) -> str:
    return module.replace("-", "_")


KERNEL = Fact(name="kernel_modules", script=_script, parse=parse)
FACTS = (KERNEL,)


# --- desired --------------------------------------------------------------------------------


def desired(node: Node, kernel: Kernel) -> tuple[str, ...]:
    """Return the modules this node should have; the merged one only where its kernel has it."""
    has_old = verdict(OLD_CONNTRACK, kernel).state in (
        State.LOADED,
        State.BUILT_IN,
        State.LOADABLE,
        State.BLOCKED,
    )
    return tuple(name for name in _wanted(node) if name != OLD_CONNTRACK or has_old)


def verdict(name: str, kernel: Kernel) -> Verdict:
    """Say what the module's state is on this kernel, and why."""
    if name in kernel.loaded:
        # Loaded by hand today, and kept from loading at the next boot: that is not "ready".
        blocked = kernel.blocks.get(name, "")
        return Verdict(name=name, state=State.BLOCKED if blocked else State.LOADED, reason=blocked)
    if name in kernel.built_in:
        return Verdict(name=name, state=State.BUILT_IN)
    if kernel.container:
        return Verdict(name=name, state=State.IMPOSSIBLE, reason=f"container: {kernel.container}")
    if name in kernel.loadable:
        return _loadable(name, kernel)
    others = ", ".join(kernel.other_kernels.get(name, ()))
    if others:
        return Verdict(name=name, state=State.OTHER_KERNEL, reason=others)
    reason = "" if kernel.has_tree else f"/lib/modules/{kernel.release} is not there"
    return Verdict(name=name, state=State.MISSING, reason=reason)


def _loadable(name: str, kernel: Kernel) -> Verdict:
    if kernel.loading_disabled:
        return Verdict(name=name, state=State.BLOCKED, reason="kernel.modules_disabled = 1")
    if name in kernel.blocks:
        return Verdict(name=name, state=State.BLOCKED, reason=kernel.blocks[name])
    return Verdict(name=name, state=State.LOADABLE)


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
    names = [n for n in desired(node, kernel) if verdict(n, kernel).state is State.LOADABLE]
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
    modules_ = (_finding(verdict(name, kernel), kernel) for name in desired(node, kernel))
    adopt = node.desired.adopt
    persisted = (
        files.finding(NAME, file, facts.file(file.path), adopt=adopt)
        for file in _files(node, kernel)
    )
    return (*modules_, *persisted)


def _finding(verdict_: Verdict, kernel: Kernel) -> Finding:
    ready = verdict_.state in (State.LOADED, State.BUILT_IN)
    reason = f" ({verdict_.reason})" if verdict_.reason else ""
    return Finding(
        topic=NAME,
        name=verdict_.name,
        status=Status.OK if ready else Status.FAIL,
        actual=f"{verdict_.state}{reason}",
        wanted="" if ready else "loaded or built in",
        hint="" if ready else _hint(verdict_, kernel),
    )


def _hint(verdict_: Verdict, kernel: Kernel) -> str:
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
        case _:
            return f"install the modules of {kernel.release}: modinfo {verdict_.name}"
