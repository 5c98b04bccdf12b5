"""The running kernel and its modules: what is loaded, what could be, and what stands in the way.

Which kernel has a module is decided by a look at its own lists, never by its version.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from nodeprep.module_packages import ASK_ORIGIN, Origin, parse_origin
from nodeprep.sharing import EACH_LINE, LAST_LINE, Search
from nodeprep.shell import words


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
    the releases under /lib/modules that have it. ``lockdown`` is the kernel's own word where it
    loads signed modules only. ``origin`` is asked for only where a module is missing. All names
    have underscores.
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
    lockdown: str = ""
    origin: Origin = field(default_factory=Origin)


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
signed=
read -r signed </sys/kernel/security/lockdown
printf 'lockdown %%s\\n' "$signed"
read -r parameters </proc/cmdline
for parameter in $parameters; do
  case $parameter in *module?blacklist=* | modprobe.blacklist=*)
    printf 'cmdline %%s\\n' "$parameter" ;;
  esac
done
%(search)sloaded=
lists=
rules=
%(each)s  file=${line%%%%:*}
  text=${line#*:*:}
  case $file in
    /proc/modules) loaded="$loaded$text
" ;;
    /lib/modules/*)
      text=${text%%%%:*}
      lists="$lists$file:/${text##*/}
" ;;
    */modprobe.d/*) rules="$rules$file:$text
" ;;
  esac
%(last)sprintf 'loaded:\n%%s' "$loaded"
echo sys:; for module in %(words)s; do [ -d "/sys/module/$module" ] && echo "$module"; done
printf 'lists:\\n%%s' "$lists"
missing=
for pattern in %(patterns)s; do
  # shellcheck disable=SC2254
  case $lists in */$pattern.ko*) ;; *) missing=yes ;; esac
done
if [ "$missing" ] && [ -d "/lib/modules/$release" ]; then
  echo origin:
  %(origin)s
fi
printf 'rules:\\n%%s' "$rules"
:"""

_FILES = (
    "/proc/modules",
    *("/lib/modules/*/modules.dep", "/lib/modules/*/modules.builtin"),
    *("/etc/modprobe.d/*.conf", "/run/modprobe.d/*.conf", "/usr/local/lib/modprobe.d/*.conf"),
    *("/usr/lib/modprobe.d/*.conf", "/lib/modprobe.d/*.conf"),
)


def search(names: Sequence[str]) -> Search:
    """Return the search for modules in the kernel's lists, and in what keeps some from loading."""
    files = "|".join(map(_either, names))
    patterns = (
        f"^({'|'.join(names)}) ",
        rf"^[^:]*/({files})\.ko(\.[a-z0-9]+)?(:|$)",
        f"^[[:space:]]*(blacklist|install)[[:space:]]+({files})([[:space:]]|$)",
    )
    return Search(name="modules", pattern="|".join(patterns), files=_FILES)


def _either(name: str) -> str:
    return name.replace("_", "[-_]")


def asking(names: Sequence[str], optional: str) -> str:
    """Return statements that print what :func:`parse` reads of the modules ``names``.

    Where one of them is missing, ``optional`` apart, it is asked where the kernel is from.
    """
    return _PROBE % {
        "search": search(names).script,
        "each": EACH_LINE,
        "last": LAST_LINE,
        "words": words(*names),
        "patterns": " ".join(f"'{_either(name)}'" for name in names if name != optional),
        "origin": ASK_ORIGIN,
    }


def parse(text: str) -> Kernel:
    """Read what the probe prints: single facts first, then sections, each below its title."""
    sections = _sections(text)
    head, loaded, sys, lists, origin, rules = (sections.get(name, []) for name in _TITLES)
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
        lockdown=_lockdown(single.get("lockdown", "")),
        origin=parse_origin(origin),
    )


_TITLES = ("", "loaded", "sys", "lists", "origin", "rules")


def _sections(text: str) -> Mapping[str, list[str]]:
    head, *titled = re.split(r"^(loaded|sys|lists|origin|rules):$", text, flags=re.MULTILINE)
    parts = {"": head, **dict(zip(titled[::2], titled[1::2], strict=True))}
    return {title: [line for line in part.splitlines() if line] for title, part in parts.items()}


def _lockdown(text: str) -> str:
    """Return the one of ``none [integrity] confidentiality`` that is on, unless it is none."""
    chosen = re.search(r"\[(\w+)\]", text)
    return chosen[1] if chosen and chosen[1] != "none" else ""


def _lists(
    lines: list[str], release: str
) -> tuple[frozenset[str], Mapping[str, tuple[str, ...]], frozenset[str]]:
    here, built_in = set(), set()
    elsewhere: dict[str, tuple[str, ...]] = {}
    for line in lines:
        match = re.match(r"/lib/modules/([^/]+)/modules\.(dep|builtin):/(.+?)\.ko", line)
        if match is None:
            continue
        kernel, kind, name = match[1], match[2], module_name(match[3])
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
        kind, name, *command = (*rule.split(None, 2), "", "")
        if kind not in ("blacklist", "install"):
            continue
        # `install` with a command that loads the module after all blocks nothing.
        if kind == "blacklist" or "modprobe" not in "".join(command):
            blocks.setdefault(module_name(name), f"{place}: {' '.join(rule.split())}")
    for line in head:
        if line.startswith("cmdline "):
            parameter = line.removeprefix("cmdline ")
            for name in parameter.partition("=")[2].split(","):
                blocks.setdefault(module_name(name), f"kernel command line: {parameter}")
    return blocks


def module_name(module: str) -> str:
    """Return a module's name as the kernel writes it: its file may be called with dashes."""
    return module.replace("-", "_")


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
