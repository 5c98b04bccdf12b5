"""systemd-networkd stays, and leaves alone what it did not make.

On its start, and when it configures a link anew, it removes routes and routing rules that are in
none of its files, such as a CNI's (systemd#25451, bottlerocket#3437); and a .network file for every
device takes ``kube-ipvs0`` too. Two files of ours forbid both. It is told to read its .network
files, and is never restarted: with a link's last address, which it may set anew when it starts, the
kernel removes each route through that link. That is for the operator, when the node serves nobody.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nodeprep import files, systemd
from nodeprep.ipvs import DEVICES
from nodeprep.model import APPLY, Change, Fact, Facts, Finding, Node, Status
from nodeprep.render import render
from nodeprep.sharing import EACH_LINE, LAST_LINE, Search, Share, Unit
from nodeprep.shell import Script, words

NAME = "networkd"
TITLE = "systemd-networkd"

KEEPING = ("ManageForeignRoutes", "ManageForeignRoutingPolicyRules", "ManageForeignNextHops")
"""Settings that let foreign things be; systemd has them since 246, 249 and 256."""

CONF = "/etc/systemd/networkd.conf.d/nodeprep.conf"
NETWORK = "/etc/systemd/network/00-nodeprep.network"
"""Of the files that match a device, the first by name decides (systemd.network(5))."""

CLOCK_SLACK = 2
"""Seconds by which a process may seem older than a file: the time of boot is in whole ones."""


# --- facts ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One line of networkd.conf or of a drop-in of it."""

    file: str
    line: int
    key: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Link:
    """What networkd makes of a device: ``unmanaged``, ``configured`` ..., and by which file."""

    state: str
    file: str = ""


@dataclass(frozen=True, kw_only=True)
class Networkd:
    """What there is of systemd-networkd.

    ``used`` says that it is enabled, or has run since the boot. ``reloads`` says that it can read
    .network files anew, ``knows`` which of :data:`KEEPING` its program has. ``started`` is in
    seconds of the node's clock. ``links`` are those of :data:`DEVICES` that exist.
    """

    used: bool = False
    active: bool = False
    reloads: bool = False
    knows: tuple[str, ...] = ()
    started: int | None = None
    settings: tuple[Setting, ...] = ()
    links: Mapping[str, Link] = field(default_factory=dict)


_SEARCH = Search(
    name="networkd",
    pattern=rf"{systemd.BOOT.pattern}|^[[:space:]]*(\[|ManageForeign)",
    files=(
        *systemd.BOOT.files,
        "/etc/systemd/networkd.conf",
        *("/lib/systemd/networkd.conf.d/*.conf", "/usr/lib/systemd/networkd.conf.d/*.conf"),
        "/usr/local/lib/systemd/networkd.conf.d/*.conf",
        *("/run/systemd/networkd.conf.d/*.conf", "/etc/systemd/networkd.conf.d/*.conf"),
    ),
)
_UNIT = Unit(
    name="systemd-networkd.service",
    condition="{ [ -e /run/systemd/netif/state ] || \\\n"
    "  [ -L /etc/systemd/system/multi-user.target.wants/systemd-networkd.service ]; }",
)

# Where it is not used, no program is started. /run/systemd/netif/state is there once it has run.
# Its own program tells what it knows; `networkctl reload` came with ReconfigureLink, in 244.
_PROBE = f"""\
for path in /etc/systemd/system/*.wants/systemd-networkd.service /run/systemd/netif/state; do
  [ -e "$path" ] || [ -L "$path" ] || continue
  echo used
  unit_shown {_UNIT.name}
  printf '%s\\n' "$shown"
  {_SEARCH.script}{EACH_LINE}    case $line in
      /proc/stat:*) printf '%s\\n' "${{line#*:*:}}" ;;
      */systemd/networkd.conf*) printf '%s\\n' "$line" ;;
    esac
  {LAST_LINE}\
  for program in /usr/lib/systemd/systemd-networkd /lib/systemd/systemd-networkd; do
    [ -x "$program" ] || continue
    grep -aoE 'Network\\.ManageForeign[A-Za-z]+|ReconfigureLink' "$program"
    break
  done
  for device in {words(*DEVICES)}; do
    [ -e "/sys/class/net/$device/ifindex" ] || continue
    read -r index <"/sys/class/net/$device/ifindex"
    [ -e "/run/systemd/netif/links/$index" ] || continue
    state=
    file=
    while IFS= read -r line; do
      case $line in
        ADMIN_STATE=*) state=${{line#*=}} ;;
        NETWORK_FILE=*) file=${{line#*=}} ;;
      esac
    done <"/run/systemd/netif/links/$index"
    printf 'link %s %s %s\\n' "$device" "$state" "$file"
  done
  break
done
:"""


def parse(text: str) -> Networkd:
    """Read what ``systemctl show`` prints, ``link NAME STATE FILE``, and grep's lines of files."""
    lines = text.splitlines()
    links = (re.fullmatch(r"link (\S+) (\S+) (.*)", line) for line in lines)
    return Networkd(
        used="used" in lines,
        active="ActiveState=active" in lines,
        reloads="ReconfigureLink" in lines,
        knows=tuple(key for key in KEEPING if f"Network.{key}" in lines),
        started=_started(text),
        settings=tuple(_in_order(_settings(lines))),
        links={found[1]: Link(state=found[2], file=found[3]) for found in links if found},
    )


def _started(text: str) -> int | None:
    boot = re.search(r"^btime (\d{1,15})$", text, re.MULTILINE)
    since = re.search(r"^ExecMainStartTimestampMonotonic=([1-9]\d{0,18})$", text, re.MULTILINE)
    return int(boot[1]) + int(since[1]) // 1_000_000 if boot and since else None


def _settings(lines: Iterable[str]) -> Iterable[Setting]:
    section: dict[str, str] = {}
    for match in filter(None, (re.match(r"(/[^:]+):(\d{1,9}):\s*(.*)", line) for line in lines)):
        file, number, said = match.groups()
        if said.startswith("["):
            section[file] = said
        elif section.get(file, "").startswith("[Network]"):
            key, _, value = said.partition("=")
            yield Setting(file=file, line=int(number), key=key.strip(), value=value.strip())


_MAIN = "/etc/systemd/networkd.conf"
_FOLDERS = tuple(
    f"{root}/systemd/networkd.conf.d"
    for root in ("/lib", "/usr/lib", "/usr/local/lib", "/run", "/etc")
)


def _in_order(settings: Iterable[Setting]) -> list[Setting]:
    # networkd.conf(5): the main file, then the drop-ins of all folders by name; of one name, that
    # of the last folder counts.
    settings = list(settings)
    by_folder = [s for folder in _FOLDERS for s in settings if _place(s.file) == folder]
    counts = {_name(each.file): each.file for each in by_folder}
    drop_ins = [each for each in by_folder if counts[_name(each.file)] == each.file]
    drop_ins.sort(key=lambda each: (_name(each.file), each.line))
    return [*(each for each in settings if each.file == _MAIN), *drop_ins]


def _place(file: str) -> str:
    return file.rpartition("/")[0]


def _name(file: str) -> str:
    return file.rpartition("/")[2]


NETWORKD = Fact(name="networkd", script=lambda _: _PROBE, parse=parse)
FACTS = (NETWORKD,)


def share(_: Node) -> Share:
    """Return what is asked together with other topics."""
    return Share(searches=(_SEARCH,), units=(_UNIT,))


# --- comparing ------------------------------------------------------------------------------


def retaken(settings: Iterable[Setting], key: str) -> Setting | None:
    """Return the line of a later drop-in that takes a setting of ours back, if any."""
    later = [
        s for s in settings if s.key == key and s.file != _MAIN and _name(s.file) > _name(CONF)
    ]
    return (
        later[-1]
        if later and later[-1].value.lower() in ("yes", "true", "on", "1", "y", "t")
        else None
    )


def _is_ipvs(node: Node) -> bool:
    return node.desired.kube_proxy.mode == "ipvs"


def desired(node: Node, networkd: Networkd) -> tuple[files.ManagedFile, ...]:
    """Return the files this node should have: routes matter in every mode, devices in ipvs."""
    if not networkd.used:
        return ()
    values = {"mark": files.MARK, "keys": networkd.knows, "devices": DEVICES}
    conf = files.ManagedFile(path=CONF, content=render("networkd.conf.j2", values))
    network = files.ManagedFile(path=NETWORK, content=render("unmanaged.network.j2", values))
    return (*((conf,) if networkd.knows else ()), *((network,) if _is_ipvs(node) else ()))


def _taken(node: Node, networkd: Networkd) -> tuple[str, ...]:
    # Before it has decided, it calls a device pending or initialized.
    own = ("configuring", "configured", "failed")
    return tuple(n for n, link in networkd.links.items() if _is_ipvs(node) and link.state in own)


def _first(link: Link) -> bool:
    return "" < _name(link.file) < _name(NETWORK)


def _refused(node: Node, facts: Facts, path: str) -> bool:
    adopt = node.desired.adopt
    return any(
        files.refusal(file, facts.file(path), adopt=adopt)[0]
        for file in desired(node, facts[NETWORKD])
        if file.path == path
    )


# --- the contract ---------------------------------------------------------------------------


def paths(_: Node) -> tuple[str, ...]:
    """Return both files."""
    return CONF, NETWORK


def secrets(_: Node) -> tuple[str, ...]:
    """Nothing here is secret."""
    return ()


def changes(node: Node, facts: Facts) -> tuple[Change, ...]:
    """Write what differs, and let a networkd that runs read its .network files."""
    networkd, adopt = facts[NETWORKD], node.desired.adopt
    written = tuple(
        change
        for file in desired(node, networkd)
        if (change := files.change(NAME, file, facts.file(file.path), adopt=adopt))
    )
    unread = any(change.subject == NETWORK for change in written) or _mendable(node, facts)
    can_read = networkd.active and networkd.reloads
    return (*written, *((_reload(),) if unread and can_read else ()))


def _mendable(node: Node, facts: Facts) -> bool:
    networkd = facts[NETWORKD]
    taken = [name for name in _taken(node, networkd) if not _first(networkd.links[name])]
    return bool(taken) and not _refused(node, facts, NETWORK)


# It configures anew only the links whose file has changed: of ours, the devices that it lets go of.
# That it does a moment later.
_RELOAD = f"""\
networkctl reload || return
for device in {words(*DEVICES)}; do
  [ -e "/sys/class/net/$device" ] || continue
  tries=0
  until [ $tries -ge 5 ] || networkctl --no-legend list "$device" | grep -q ' unmanaged'; do
    sleep 1
    tries=$((tries + 1))
  done
done"""


def _reload() -> Change:
    return Change(
        topic=NAME,
        subject="systemd-networkd",
        summary="let systemd-networkd read its .network files",
        action=Script(_RELOAD),
    )


def findings(node: Node, facts: Facts) -> tuple[Finding, ...]:
    """Say how each file stands, who takes back what it says, and whose each device is."""
    networkd, adopt = facts[NETWORKD], node.desired.adopt
    if not networkd.used:
        return ()
    wanted = desired(node, networkd)
    return (
        *(files.finding(NAME, file, facts.file(file.path), adopt=adopt) for file in wanted),
        *(
            _retaken(setting)
            for key in networkd.knows
            if (setting := retaken(networkd.settings, key))
        ),
        *_old(networkd),
        *_in_memory(networkd, facts),
        *(_device(node, facts, name) for name in networkd.links if _is_ipvs(node)),
    )


def _retaken(setting: Setting) -> Finding:
    actual = f"{setting.value} ({setting.file}:{setting.line})"
    hint = f"take `{setting.key}` out of {setting.file}, line {setting.line}"
    return _finding(setting.key, Status.FAIL, actual, "no", hint)


def _old(networkd: Networkd) -> tuple[Finding, ...]:
    if networkd.knows:
        return ()
    actual = "this systemd-networkd cannot be told to keep routes that are not its own"
    hint = "`KeepConfiguration=static` in the .network file of a link keeps static ones"
    return (_finding("foreign routes", Status.WARN, actual, "systemd 246 or newer", hint),)


def _in_memory(networkd: Networkd, facts: Facts) -> tuple[Finding, ...]:
    written, started = facts.file(CONF), networkd.started
    unread = started is not None and started + CLOCK_SLACK < written.mtime
    if not (networkd.active and networkd.knows and written.ours and unread):
        return ()
    actual = "it began before nodeprep's file was there, and reads it at its next start"
    hint = "when the node serves nobody: systemctl restart systemd-networkd; a reboot does as well"
    return (_finding("foreign routes", Status.WARN, actual, "kept", hint),)


def _device(node: Node, facts: Facts, name: str) -> Finding:
    networkd = facts[NETWORKD]
    link, shown = networkd.links[name], f"{name} (networkd)"
    if name not in _taken(node, networkd):
        return _finding(shown, Status.OK, link.state)
    actual = f"{link.state} by {link.file or 'systemd-networkd'}"
    return _finding(shown, Status.FAIL, actual, "unmanaged", _remedy(node, facts, link))


def _remedy(node: Node, facts: Facts, link: Link) -> str:
    networkd = facts[NETWORKD]
    if _first(link):
        return f"let {link.file} match fewer devices, then: networkctl reload"
    if _refused(node, facts, NETWORK):
        return f"see {NETWORK} above first"
    if networkd.active and networkd.reloads:
        return APPLY
    return "when the node serves nobody: systemctl restart systemd-networkd"


def _finding(name: str, status: Status, actual: str, wanted: str = "", hint: str = "") -> Finding:
    return Finding(topic=NAME, name=name, status=status, actual=actual, wanted=wanted, hint=hint)
