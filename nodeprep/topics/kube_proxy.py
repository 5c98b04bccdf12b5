"""kube-proxy as a systemd unit: its files, its place in the boot, and its process.

Two styles. ``config`` (the default) writes a KubeProxyConfiguration file and a unit with two
flags that every release knows; ``flags`` writes everything into the unit. The installed binary's
own version decides which flags and fields are written.
"""

import re
from dataclasses import dataclass, replace

from nodeprep import files, flags, systemd
from nodeprep.model import APPLY, Change, Fact, Facts, FileState, Finding, Node, Status
from nodeprep.releases import (
    NEWEST,
    Version,
    feature_gates,
    knows_flag,
    knows_mode,
    parse_version,
)
from nodeprep.render import render
from nodeprep.sharing import Share, Unit
from nodeprep.shell import Script, Secret, words
from nodeprep.systemd import Service

NAME = "kube_proxy"
TITLE = "kube-proxy"

CLOCK_SLACK = 2
"""Seconds by which a process may seem older than its files: /proc counts in whole ones."""


# --- facts ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Binary:
    """The installed program: its release, ``None`` where it does not say; mtime in seconds.

    ``built_for`` and ``machine`` are architectures as ``uname -m`` names them, asked for only where
    the program does not run.
    """

    present: bool
    version: Version | None = None
    mtime: int = 0
    built_for: str = ""
    machine: str = ""

    @property
    def foreign(self) -> bool:
        """Whether it was built for another architecture than this machine's."""
        return self.built_for not in ("", self.machine)


KNOWN_VERSION = f"{files.STATE}/kube-proxy-version"
"""On the node: what the program said of its version to the last apply, and which file it was."""

# To start a program of 40 MB takes a small node longer than all other questions together. What an
# apply heard from it is believed while the file is the very same one, by device, inode, size and
# both of its times. A small file may be a script that starts another program: it is always asked,
# and so is one that changed a moment ago, for it may change again within the same second.
# A process's own files in /proc are as old as their look-up: the first line tells the time.
_BINARY = f"""\
seen=$(stat -L -c '%%Y %%s %%Z %%d.%%i.%%s.%%Y.%%Z' -- /proc/self/stat %(binary)s)
clock=${{seen%%%% *}}
if [ -x %(binary)s ] && [ ! -d %(binary)s ]; then
  # shellcheck disable=SC2086
  set -- ${{seen#*
}}
  size=$2 changed=$3 file=$4
  printf 'mtime %%s\\n' "$1"
  known=
  [ ! -r {KNOWN_VERSION} ] || read -r known <{KNOWN_VERSION}
  case $known in
    "Kubernetes v"*" $file") said=${{known%% *}} ;;
    *) said=$(timeout 30 %(binary)s --version 2>&1 | head -n 3) ;;
  esac
  printf '%%s\\n' "$said"
  case $said in
    "Kubernetes v"*)
      if [ "${{remembers:-}}" ] && [ "$known" != "$said $file" ] && [ "$size" -ge 1000000 ] &&
        [ "$changed" -lt $((clock - 2)) ]; then
        printf '%%s %%s\\n' "$said" "$file" >{KNOWN_VERSION}
      fi ;;
    *)
      printf 'elf %%s\\n' "$(od -An -tx1 -j18 -N2 %(binary)s)"
      printf 'machine %%s\\n' "$(uname -m)" ;;
  esac
fi
:"""


def _binary_script(node: Node) -> str:
    return _BINARY % {"binary": words(node.desired.kube_proxy.binary)}


def parse_binary(text: str) -> Binary:
    """Read ``mtime SECONDS`` and the line that ``kube-proxy --version`` prints."""
    mtime = re.search(r"^mtime (\d+)$", text, re.MULTILINE)
    if mtime is None:
        return Binary(present=False)
    elf = re.search(r"^elf (.*)$", text, re.MULTILINE)
    machine = re.search(r"^machine (\S+)$", text, re.MULTILINE)
    said = re.search(r"^Kubernetes (v\S+)", text, re.MULTILINE)
    return Binary(
        present=True,
        version=parse_version(said[1]) if said else None,
        mtime=int(mtime[1]),
        built_for=_ELF_MACHINES.get(" ".join(elf[1].split()), "") if elf else "",
        machine=machine[1] if machine else "",
    )


_ELF_MACHINES = {
    "3e 00": "x86_64",
    "b7 00": "aarch64",
    "28 00": "armv7l",
    "f3 00": "riscv64",
    "15 00": "ppc64le",
    "00 16": "s390x",
}
"""The two bytes of ``e_machine`` in a program's header (elf(5), linux/elf-em.h)."""


BINARY = Fact(name="kube_proxy.binary", script=_binary_script, parse=parse_binary)
SERVICE = Fact(
    name="kube_proxy.service",
    script=lambda node: systemd.script(node.desired.kube_proxy.unit_name),
    parse=systemd.parse,
)
FACTS = (BINARY, SERVICE)


def share(node: Node) -> Share:
    """Return what is asked together with other topics."""
    return Share(searches=(systemd.BOOT,), units=(Unit(name=node.desired.kube_proxy.unit_name),))


# --- desired --------------------------------------------------------------------------------


def version(node: Node, facts: Facts) -> Version:
    """Return the installed release, else the one the inventory expects, else the newest."""
    expected = parse_version(node.desired.kube_proxy.version or "")
    return facts[BINARY].version or expected or NEWEST


def desired(node: Node, facts: Facts) -> tuple[files.ManagedFile, ...]:
    """Return the files this node should have: the unit, its configuration, its kubeconfig."""
    proxy = node.desired.kube_proxy
    release = version(node, facts)
    values = {
        "mark": files.MARK,
        "proxy": proxy,
        "binary": proxy.binary,
        "working_directory": proxy.working_directory,
        "hostname": proxy.hostname_override or node.name,
        "flags": flags.command_line(node, release),
        "feature_gates": {**feature_gates(proxy.mode, release), **proxy.feature_gates},
        "knows_strict_arp": knows_flag("ipvs-strict-arp", release),
        "knows_nftables": knows_mode("nftables", release),
    }
    wanted = [files.ManagedFile(path=proxy.unit, content=render("kube-proxy.service.j2", values))]
    if proxy.style == "config":
        config = render("kube-proxy-config.yaml.j2", values)
        wanted.append(files.ManagedFile(path=proxy.config, content=config))
    if proxy.kubeconfig_content is not None:
        marked = Secret(f"# {files.MARK}\n{proxy.kubeconfig_content.reveal()}")
        wanted.append(files.ManagedFile(path=proxy.kubeconfig, content=marked, mode=0o600))
    return tuple(wanted)


# --- the contract ---------------------------------------------------------------------------


def paths(node: Node) -> tuple[str, ...]:
    """Return the unit, the configuration and the kubeconfig."""
    proxy = node.desired.kube_proxy
    return () if not proxy.has_unit else (proxy.unit, proxy.config, proxy.kubeconfig)


def secrets(node: Node) -> tuple[str, ...]:
    """Return the kubeconfig, whoever wrote it."""
    proxy = node.desired.kube_proxy
    return () if not proxy.has_unit else (proxy.kubeconfig,)


def changes(node: Node, facts: Facts) -> tuple[Change, ...]:
    """Return the steps to what ``node`` should be; none where that is another mode than it serves.

    A mode is changed with care, node by node: that is what ``nodeprep switch`` is for.
    """
    return () if _to_switch(node, facts) else steps(node, facts)


def steps(node: Node, facts: Facts) -> tuple[Change, ...]:
    """Write what differs; then, only where it is needed, reload, enable and restart."""
    if not node.desired.kube_proxy.has_unit or not _knows_mode(node, facts):
        return ()
    wanted, adopt = desired(node, facts), node.desired.adopt
    written = tuple(
        change
        for file in wanted
        if (change := files.change(NAME, file, facts.file(file.path), adopt=adopt))
    )
    steps = () if _refused(node, facts) else _service_changes(node, facts, written)
    serving = facts[SERVICE].active == "active"
    return tuple(replace(change, disruptive=serving) for change in (*written, *steps))


def _to_switch(node: Node, facts: Facts) -> bool:
    on_disk = mode_on_disk(node, facts)
    return facts[SERVICE].active == "active" and on_disk not in ("", node.desired.kube_proxy.mode)


def mode_on_disk(node: Node, facts: Facts) -> str:
    """Return the mode that kube-proxy's files ask for, empty where they cannot be read."""
    proxy = node.desired.kube_proxy
    unit, config = (_text(facts.file(path)) for path in (proxy.unit, proxy.config))
    if "--config" not in unit:
        config = ""
    asked = re.search(r"--proxy-mode[= ]\"?(\w+)", unit) or re.search(
        r"^mode: *[\"']?(\w*)", config, re.MULTILINE
    )
    return asked[1] or "iptables" if asked else ""


def _text(state: FileState) -> str:
    return (state.content or b"").decode("utf-8", "replace")


def _knows_mode(node: Node, facts: Facts) -> bool:
    # A release that does not know the mode would exit with it: what runs now is left running.
    installed = facts[BINARY].version
    return installed is None or knows_mode(node.desired.kube_proxy.mode, installed)


def _refused(node: Node, facts: Facts) -> str:
    if not _knows_mode(node, facts):
        return node.desired.kube_proxy.binary
    adopt = node.desired.adopt
    refusals = (
        file.path
        for file in desired(node, facts)
        if files.refusal(file, facts.file(file.path), adopt=adopt)[0]
    )
    return next(refusals, "")


def _service_changes(node: Node, facts: Facts, written: tuple[Change, ...]) -> tuple[Change, ...]:
    service, proxy = facts[SERVICE], node.desired.kube_proxy
    unit = proxy.unit_name
    if service.load == "masked" or not (service.load or service.offline):
        return ()
    unit_written = any(change.subject == proxy.unit for change in written)
    steps = []
    if not service.offline and (
        unit_written or service.needs_reload or service.load == "not-found"
    ):
        steps.append(("daemon-reload", "reload systemd", "systemctl daemon-reload"))
    if service.enabled != "enabled":
        steps.append(("enable", f"enable {unit}", f"systemctl enable {unit}"))
    if service.load and _can_run(node, facts) and (written or _start_reason(node, facts)):
        reason = _start_reason(node, facts) or "its files change"
        steps.append(("restart", f"restart {unit} ({reason})", _restart_script(node)))
    return tuple(
        Change(topic=NAME, subject=subject, summary=summary, action=Script(action))
        for subject, summary, action in steps
    )


def _can_run(node: Node, facts: Facts) -> bool:
    proxy = node.desired.kube_proxy
    has_kubeconfig = proxy.kubeconfig_content or facts.file(proxy.kubeconfig).kind != "absent"
    return proxy.run != "never" and _usable(facts[BINARY]) and bool(has_kubeconfig)


def _usable(binary: Binary) -> bool:
    return binary.present and not binary.foreign


def _start_reason(node: Node, facts: Facts) -> str:
    service = facts[SERVICE]
    if service.active != "active":
        return f"it is {service.active or 'not there'}"
    newer = _newer_than_process(node, facts)
    return f"{newer} is newer than its process" if newer else ""


def _newer_than_process(node: Node, facts: Facts) -> str:
    service = facts[SERVICE]
    if service.started is None:
        return ""
    proxy = node.desired.kube_proxy
    # In the style of flags, a file at the config's path is none that the process read.
    unread = proxy.config if proxy.style == "flags" else ""
    used = {path: facts.file(path).mtime for path in paths(node) if path != unread}
    used = {**used, proxy.binary: facts[BINARY].mtime}
    # A time that is still to come tells of a clock that was set back, not of a newer file.
    limit = service.started + CLOCK_SLACK
    return next((path for path, mtime in used.items() if limit < mtime <= service.now), "")


def _restart_script(node: Node) -> str:
    # It counts as started once its own address answers, or as failed once systemd says so.
    proxy = node.desired.kube_proxy
    host, port = proxy.metrics_endpoint
    return f"""\
mkdir -p -- {words(proxy.working_directory)}
systemctl restart {proxy.unit_name} || return
tries=0
until [ "$(http_get {host} {port} /healthz)" ] || [ $tries -ge 30 ]; do
  sleep 1
  systemctl is-active --quiet {proxy.unit_name} || break
  tries=$((tries + 1))
done
systemctl is-active {proxy.unit_name}"""


# --- findings -------------------------------------------------------------------------------


def findings(node: Node, facts: Facts) -> tuple[Finding, ...]:
    """Say how the binary, each file, the unit and the process stand."""
    if node.desired.kube_proxy.is_pod:
        return _beside(node, facts)
    if not node.desired.kube_proxy.has_unit:
        return ()
    return (
        _binary(node, facts),
        *_files(node, facts),
        *_kubeconfig(node, facts),
        *_unit(node, facts),
        *_process(node, facts),
    )


def _beside(node: Node, facts: Facts) -> tuple[Finding, ...]:
    """Say whether a unit still runs, or would run after a boot, beside the DaemonSet's pod."""
    service, unit = facts[SERVICE], node.desired.kube_proxy.unit_name
    left = [
        *(["active"] if service.active in ("active", "activating", "reloading") else []),
        *(["enabled"] if service.enabled == "enabled" else []),
    ]
    if not left:
        return (_finding("unit", Status.OK, "none runs beside the DaemonSet's pod"),)
    return (
        _finding(
            "unit",
            Status.FAIL,
            f"{unit} is {' and '.join(left)}, beside the DaemonSet's pod",
            "only one kube-proxy",
            f"systemctl disable --now {unit}",
        ),
    )


def _files(node: Node, facts: Facts) -> tuple[Finding, ...]:
    if not _knows_mode(node, facts):
        return ()
    adopt = node.desired.adopt
    found = tuple(
        files.finding(NAME, file, facts.file(file.path), adopt=adopt)
        for file in desired(node, facts)
    )
    return tuple(replace(f, hint=_remedy(node, facts)) if f.hint == APPLY else f for f in found)


def _binary(node: Node, facts: Facts) -> Finding:
    proxy, binary = node.desired.kube_proxy, facts[BINARY]
    if not binary.present:
        return _finding(
            "binary",
            Status.FAIL if proxy.run == "required" else Status.SKIP,
            f"{proxy.binary} is not there",
            "an executable",
            f"put kube-proxy at {proxy.binary}, then: nodeprep apply",
        )
    if binary.foreign:
        return _finding(
            "binary",
            Status.FAIL,
            f"built for {binary.built_for}, and this machine is {binary.machine}",
            f"built for {binary.machine}",
            f"put the release for {binary.machine} at {proxy.binary}",
        )
    if binary.version is None:
        return _finding("binary", Status.WARN, "does not say its version", "", proxy.binary)
    if not _knows_mode(node, facts):
        return _finding(
            "binary",
            Status.FAIL,
            f"kube-proxy {binary.version} does not know {proxy.mode}",
            f"a release that knows {proxy.mode}",
            f"put another release at {proxy.binary}, or choose another `mode`",
        )
    return _finding("binary", Status.OK, f"{proxy.binary}, {binary.version}")


def _kubeconfig(node: Node, facts: Facts) -> tuple[Finding, ...]:
    proxy = node.desired.kube_proxy
    if proxy.kubeconfig_content is not None:
        return ()
    state: FileState = facts.file(proxy.kubeconfig)
    if state.kind != "absent":
        return (_finding(proxy.kubeconfig, Status.OK, "there; not nodeprep's to write"),)
    needed = facts[BINARY].present and proxy.run != "never"
    return (
        _finding(
            proxy.kubeconfig,
            Status.FAIL if needed or proxy.run == "required" else Status.SKIP,
            "not there",
            "a kubeconfig for kube-proxy",
            "put it there, or name a file of the controller as `kubeconfig_from`",
        ),
    )


def _unit(node: Node, facts: Facts) -> tuple[Finding, ...]:
    service, image = facts[SERVICE], node.desired.kube_proxy.run == "never"
    if not service.load:
        missing = _finding(
            "systemd",
            Status.SKIP if service.offline and image else Status.FAIL,
            "not running here",
            "systemd",
            "`run: never` for an image, `style: unmanaged` where something else runs kube-proxy",
        )
        return (missing, _enabled(node, facts)) if service.offline else (missing,)
    return (
        _enabled(node, facts),
        *_in_memory(node, facts),
        *_shadowed(node, facts[SERVICE]),
    )


def _enabled(node: Node, facts: Facts) -> Finding:
    enabled = facts[SERVICE].enabled
    if enabled == "enabled":
        return _finding("enabled", Status.OK, "enabled")
    remedy = _remedy(node, facts)
    return _finding("enabled", Status.FAIL, enabled or "no such unit", "enabled", remedy)


def _in_memory(node: Node, facts: Facts) -> tuple[Finding, ...]:
    if not facts[SERVICE].needs_reload:
        return ()
    actual, wanted = "systemd has an older one in memory", "systemctl daemon-reload"
    return (_finding("unit in memory", Status.FAIL, actual, wanted, _remedy(node, facts)),)


def _remedy(node: Node, facts: Facts) -> str:
    # A masked unit is somebody's decision, and beside a refused file nothing is started.
    if facts[SERVICE].load == "masked":
        return f"systemctl unmask {node.desired.kube_proxy.unit_name}"
    if _to_switch(node, facts):
        return f"nodeprep switch --to {node.desired.kube_proxy.mode}"
    refused = _refused(node, facts)
    return f"see {refused} above first" if refused else APPLY


def _shadowed(node: Node, service: Service) -> tuple[Finding, ...]:
    proxy = node.desired.kube_proxy
    found = []
    if service.fragment not in ("", proxy.unit):
        found.append(
            _finding(
                "unit",
                Status.FAIL,
                f"systemd reads {service.fragment}",
                proxy.unit,
                f"systemctl daemon-reload; move {service.fragment} away, or name it as `unit`",
            )
        )
    if service.drop_ins:
        others = ", ".join(service.drop_ins)
        found.append(
            _finding("drop-ins", Status.WARN, others, "", f"systemctl cat {proxy.unit_name}")
        )
    return tuple(found)


def _process(node: Node, facts: Facts) -> tuple[Finding, ...]:
    service = facts[SERVICE]
    return (_active(node, facts, service),) if service.load else ()


def _active(node: Node, facts: Facts, service: Service) -> Finding:
    if node.desired.kube_proxy.run == "never":
        return _finding("active", Status.SKIP, f"{service.active}; the inventory says `run: never`")
    if not _can_run(node, facts):
        return _finding("active", Status.SKIP, f"{service.active}: it cannot run yet (see above)")
    reason = _start_reason(node, facts)
    if not reason:
        return _finding("active", Status.OK, "active")
    log = f"journalctl -u {node.desired.kube_proxy.unit_name} -n 50"
    hint = log if service.active == "failed" else _remedy(node, facts)
    return _finding("active", Status.FAIL, reason, "active, newer than its files", hint)


def _finding(name: str, status: Status, actual: str, wanted: str = "", hint: str = "") -> Finding:
    return Finding(topic=NAME, name=name, status=status, actual=actual, wanted=wanted, hint=hint)
