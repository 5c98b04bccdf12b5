"""NetworkManager stays, and leaves the devices of ipvs mode alone.

It takes a dummy device that it meets for one of its own, and sets it down (kubespray#6950). What a
file of ours asks of it, a file that is read later may take back: then that file is named. A device
that exists is asked for: what NetworkManager says of it counts, not what files say.
"""

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from nodeprep import files
from nodeprep.ipvs import DEVICES
from nodeprep.model import APPLY, Change, Fact, Facts, Finding, Node, Status
from nodeprep.render import render
from nodeprep.sharing import EACH_LINE, LAST_LINE, Search, Share, Unit
from nodeprep.shell import Script, words

NAME = "network_manager"
TITLE = "NetworkManager"

DROP_IN = "/etc/NetworkManager/conf.d/nodeprep.conf"
_FOLDER, _, _NAME = DROP_IN.rpartition("/")
_KEY = "unmanaged-devices"


# --- facts ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A line about devices in a file of NetworkManager, its key with the ``+`` or ``-`` it has."""

    file: str
    line: int
    key: str
    value: str


@dataclass(frozen=True, kw_only=True)
class Manager:
    """What there is of NetworkManager.

    ``settings`` are in the order in which they are read. ``devices`` maps those of
    :data:`DEVICES` that exist to their states in nmcli's words, such as ``unmanaged``.
    """

    installed: bool = False
    active: bool = False
    settings: tuple[Setting, ...] = ()
    devices: Mapping[str, str] = field(default_factory=dict)


_SEARCH = Search(
    name="NetworkManager",
    pattern=rf"^[[:space:]]*(\[|{_KEY}[+-]?[[:space:]]*=)",
    files=(
        *("/usr/lib/NetworkManager/conf.d/*.conf", "/run/NetworkManager/conf.d/*.conf"),
        *("/etc/NetworkManager/NetworkManager.conf", "/etc/NetworkManager/conf.d/*.conf"),
        "/var/lib/NetworkManager/NetworkManager-intern.conf",
    ),
)
_UNIT = Unit(
    name="NetworkManager.service",
    condition="{ [ -x /usr/sbin/NetworkManager ] || [ -x /usr/bin/NetworkManager ]; }",
)

# Where it is not installed, no program is started.
_PROBE = f"""\
for path in /usr/sbin/NetworkManager /usr/bin/NetworkManager; do
  [ -x "$path" ] || continue
  echo installed
  unit_shown {_UNIT.name}
  printf '%s\\n' "$shown"
  for device in {words(*DEVICES)}; do
    [ -e "/sys/class/net/$device" ] || continue
    timeout 10 nmcli -t -f DEVICE,STATE device | sed -nE 's/^({"|".join(DEVICES)}):/device \\1 /p'
    break
  done
  {_SEARCH.script}{EACH_LINE}    case $line in */NetworkManager/*:*) printf '%s\\n' "$line" ;; esac
  {LAST_LINE}  break
done
:"""


def parse(text: str) -> Manager:
    """Read ``installed``, ``device NAME STATE``, and grep's ``FILE:LINE:KEY=VALUE`` lines."""
    lines = text.splitlines()
    states = (line.split(" ", 2)[1:] for line in lines if line.startswith("device "))
    active = "ActiveState=active" in lines
    return Manager(
        installed="installed" in lines,
        active=active,
        settings=tuple(_in_order(_settings(lines))),
        devices=dict(pair for pair in states if active and len(pair) == 2),  # noqa: PLR2004
    )


def _settings(lines: Iterable[str]) -> Iterable[Setting]:
    section: dict[str, str] = {}
    for match in filter(None, (re.match(r"(/[^:]+):(\d{1,9}):\s*(.*)", line) for line in lines)):
        file, number, said = match.groups()
        if said.startswith("["):
            section[file] = said
        elif section.get(file, "").startswith("[keyfile]"):
            key, _, value = said.partition("=")
            if key.strip().rstrip("+-") == _KEY:
                yield Setting(file=file, line=int(number), key=key.strip(), value=value.strip())


# NetworkManager.conf(5): the folders of /usr/lib and /run, the main file, that of /etc, and last
# what NetworkManager notes down itself. A file hides those of its name in the folders before.
_PLACES = ("/usr/lib/NetworkManager/conf.d", "/run/NetworkManager/conf.d")
_ORDER = (*_PLACES, "/etc/NetworkManager", _FOLDER, "/var/lib/NetworkManager")
_HIDES = (*_PLACES, _FOLDER)


def _in_order(settings: Iterable[Setting]) -> list[Setting]:
    known = [each for each in settings if _place(each.file) in _ORDER]
    known.sort(key=lambda each: (_ORDER.index(_place(each.file)), _name(each.file), each.line))
    last = {_name(each.file): each.file for each in known if _place(each.file) in _HIDES}
    return [
        each
        for each in known
        if _place(each.file) not in _HIDES or last[_name(each.file)] == each.file
    ]


def _place(file: str) -> str:
    return file.rpartition("/")[0]


def _name(file: str) -> str:
    return file.rpartition("/")[2]


MANAGER = Fact(name="network_manager", script=lambda _: _PROBE, parse=parse)
FACTS = (MANAGER,)


def share(_: Node) -> Share:
    """Return what is asked together with other topics."""
    return Share(searches=(_SEARCH,), units=(_UNIT,))


# --- comparing ------------------------------------------------------------------------------


def retaken(settings: Iterable[Setting], device: str) -> Setting | None:
    """Return the later line by which NetworkManager takes ``device`` all the same, if any.

    ``unmanaged-devices=`` forgets what other files said, ``-=`` takes out of it, and a device that
    an ``except:`` names is managed whatever else does.
    """
    culprit = None
    for setting in filter(_after_ours, settings):
        said = _takes(setting, device)
        if said is not None:
            culprit = setting if said else None
    return culprit


def _takes(setting: Setting, device: str) -> bool | None:
    specs = re.split(r"[;,\s]+", setting.value)
    if setting.key == f"{_KEY}-":
        # Only what is spelled the same is taken out.
        return True if f"interface-name:{device}" in specs else None
    excepted = [spec.removeprefix("except:") for spec in specs if spec.startswith("except:")]
    if any(_matches(spec, device) for spec in excepted):
        return True
    if any(_matches(spec, device) for spec in specs):
        return False
    return True if setting.key == _KEY else None


def _after_ours(setting: Setting) -> bool:
    place = _place(setting.file)
    return place == _ORDER[-1] or (place == _FOLDER and _name(setting.file) > _NAME)


def _matches(spec: str, device: str) -> bool:
    # Of what else can be named (MAC addresses, kinds of s390), a dummy device has nothing.
    name = spec.removeprefix("interface-name:")
    if name.startswith("="):
        return name[1:] == device
    return name in ("type:dummy", "driver:dummy") or fnmatch.fnmatchcase(
        device, name.removeprefix("~")
    )


def _wanted(node: Node, manager: Manager) -> bool:
    return manager.installed and node.desired.kube_proxy.mode == "ipvs"


def _file() -> files.ManagedFile:
    content = render("networkmanager.conf.j2", {"mark": files.MARK, "devices": DEVICES})
    return files.ManagedFile(path=DROP_IN, content=content)


def _refused(node: Node, facts: Facts) -> bool:
    return bool(files.refusal(_file(), facts.file(DROP_IN), adopt=node.desired.adopt)[0])


def _taken(manager: Manager) -> tuple[str, ...]:
    return tuple(name for name, state in manager.devices.items() if state != "unmanaged")


# --- the contract ---------------------------------------------------------------------------


def paths(_: Node) -> tuple[str, ...]:
    """Return our drop-in file."""
    return (DROP_IN,)


def secrets(_: Node) -> tuple[str, ...]:
    """Nothing here is secret."""
    return ()


def changes(node: Node, facts: Facts) -> tuple[Change, ...]:
    """Write our file, and let a NetworkManager that runs read it."""
    manager = facts[MANAGER]
    if not _wanted(node, manager) or _refused(node, facts):
        return ()
    written = files.change(NAME, _file(), facts.file(DROP_IN), adopt=node.desired.adopt)
    mendable = [name for name in _taken(manager) if not retaken(manager.settings, name)]
    read = (_reload(),) if manager.active and (written or mendable) else ()
    return (*filter(None, (written,)), *read)


_BUS_NAME = "org.freedesktop.NetworkManager"

# Only its configuration: SIGHUP would start its DNS plugin anew (NetworkManager(8)). nmcli has no
# word for that before 1.22. A device that it lets go of goes a moment later.
_RELOAD = f"""\
nmcli general reload conf ||
  busctl call {_BUS_NAME} /org/freedesktop/NetworkManager {_BUS_NAME} Reload u 1 || return
tries=0
while [ $tries -lt 5 ] && nmcli -t -f DEVICE,STATE device | grep -E '^({"|".join(DEVICES)}):' |
  grep -qv ':unmanaged$'; do
  sleep 1
  tries=$((tries + 1))
done"""


def _reload() -> Change:
    return Change(
        topic=NAME,
        subject="NetworkManager",
        summary="let NetworkManager read its configuration",
        action=Script(_RELOAD),
    )


def findings(node: Node, facts: Facts) -> tuple[Finding, ...]:
    """Say how our file stands, who takes back what it says, and whose each device is."""
    manager = facts[MANAGER]
    if not _wanted(node, manager):
        return ()
    stands = files.finding(NAME, _file(), facts.file(DROP_IN), adopt=node.desired.adopt)
    devices = (
        _device(node, facts, name, manager.devices.get(name, ""))
        for name in DEVICES
        if name in manager.devices or _will_be_taken(manager, name)
    )
    return (stands, *devices)


def _will_be_taken(manager: Manager, name: str) -> bool:
    # Whether NodeLocal DNSCache will ever run here, nobody knows; kube-proxy will.
    return name == DEVICES[0] and retaken(manager.settings, name) is not None


def _device(node: Node, facts: Facts, name: str, state: str) -> Finding:
    shown = f"{name} (NetworkManager)"
    if state == "unmanaged":
        return Finding(topic=NAME, name=shown, status=Status.OK, actual=state)
    culprit = retaken(facts[MANAGER].settings, name)
    if culprit:
        hint = (
            f"change line {culprit.line} of {culprit.file} (`+=` adds to what other files say), "
            "then: nmcli general reload conf"
        )
        actual = f"{state or 'managed once it is there'} ({culprit.file}:{culprit.line})"
    else:
        hint = f"see {DROP_IN} above first" if _refused(node, facts) else APPLY
        actual = state
    return Finding(
        topic=NAME, name=shown, status=Status.FAIL, actual=actual, wanted="unmanaged", hint=hint
    )
