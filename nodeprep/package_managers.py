"""Package managers: how each is recognised, asked, and told to install without upgrading anything.

A package manager is one :class:`Manager` value; adding one is adding a value. Each waits for a
busy lock, but not for ever: docs/topics.md tells how long. With a directory of packages on the
node, no repository is asked.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from nodeprep.sharing import LAST_LINE, each_of
from nodeprep.shell import words

LOCK_SECONDS = 300
"""How long an install waits for another one on the node, such as an unattended upgrade."""

AT_NEXT_BOOT = "/run/nodeprep/packages-at-next-boot"
"""On the node: what was installed into a system that a reboot brings; gone after that reboot."""


@dataclass(frozen=True, kw_only=True)
class Manager:
    """One package manager.

    ``found`` is a shell condition that tells that the system has it. ``names`` maps our names to
    the family's, of which the first is installed and any counts. ``query`` prints what is
    installed, ``parse`` reads that into versions by name. ``install`` returns the shell statements
    that install names, from a directory on the node unless that is empty; ``None`` where nothing
    can be installed. ``at_next_boot`` says that a reboot brings what was installed.
    """

    name: str
    found: str
    query: str
    parse: Callable[[str], Mapping[str, str]]
    install: Callable[[tuple[str, ...], str], str] | None
    names: Mapping[str, tuple[str, ...]]
    at_next_boot: bool = False

    def family_names(self, name: str) -> tuple[str, ...]:
        """Return what the family calls a package of ours: the first is the one to install."""
        return self.names.get(name, (name,))


def _has(program: str) -> str:
    return f"command -v {program} >/dev/null"


# --- apt ------------------------------------------------------------------------------------


def parse_dpkg(text: str) -> Mapping[str, str]:
    """Read ``ii  NAME VERSION`` lines; a package whose files are gone (``rc``) is not installed."""
    rows = (line.split() for line in text.splitlines())
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0].endswith("i")}  # noqa: PLR2004


# needrestart would restart services that are none of our business. The lists are fetched only where
# there are none, or where the install fails with those that are; their lock is the one that apt
# itself does not wait for.
_APT_GET = f"""\
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
set -- -q -y -o DPkg::Lock::Timeout={LOCK_SECONDS} -o Dpkg::Use-Pty=0 \\
  -o Dpkg::Options::=--force-confold"""
_APT_INSTALL = 'apt-get "$@" install --no-install-recommends --no-upgrade --no-remove %s'


def _with_apt(names: tuple[str, ...], directory: str) -> str:
    if directory:
        return _with_apt_from(directory, names)
    install = _APT_INSTALL % words(*names)
    return f"""\
{_APT_GET}
for list in /var/lib/apt/lists/*_Packages*; do
  [ ! -e "$list" ] || {{ {install} && return; }}
  break
done
dpkg --configure -a
tries=0
until said=$(apt-get -q update 2>&1); do
  case $tries-$said in
    [0-9]-*lists/lock* | [12][0-9]-*lists/lock*) sleep {LOCK_SECONDS // 30}; tries=$((tries + 1)) ;;
    *) break ;;
  esac
done
printf '%s\\n' "$said"
{install}"""


# apt finds what a package needs in a repository only: the directory is made one, beside it.
def _with_apt_from(directory: str, names: tuple[str, ...]) -> str:
    return f"""\
{_APT_GET}
apt=/run/nodeprep/apt
rm -rf "$apt" && mkdir -p "$apt/lists/partial" || return
for file in {words(directory)}/*.deb; do
  [ -f "$file" ] || {{ printf 'no *.deb is in %s\\n' {words(directory)} >&2; return 1; }}
  sum=$(sha256sum "$file") && ln -s "$file" "$apt/" &&
    dpkg-deb -f "$file" && printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' \\
      "${{file##*/}}" "$(stat -c %s "$file")" "${{sum%% *}}" || return
done >"$apt/Packages"
printf 'deb [trusted=yes] file:%s ./\\n' "$apt" >"$apt/sources.list"
set -- "$@" -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \\
  -o Dir::State::Lists="$apt/lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
apt-get "$@" update && {_APT_INSTALL % words(*names)}
status=$?
rm -rf "$apt"
return "$status\""""


# dpkg-query reads all that dpkg knows of all packages, and takes several times as long as one grep
# over the same file. dpkg writes a package's fields in one order, its version at most 13 lines
# behind its name (fieldinfos in dpkg's parse.c), and what an interrupted run has done into files of
# their own: where there is one, dpkg is asked itself, and so it is where no package is found.
_DPKG_QUERY = f"""\
set -- %s
  wanted=" $* " rows=
  for name do shift; set -- "$@" -e "Package: $name"; done
  stanzas=$(grep -A 13 -xF "$@" /var/lib/dpkg/status)
{each_of("stanzas")}    case $line in
      'Package: '*)
        state=
        case $wanted in *" ${{line#*: }} "*) name=${{line#*: }} ;; *) name= ;; esac ;;
      'Status: hold ok installed') state='hi ' ;;
      'Status: '*' ok installed') state='ii ' ;;
      'Version: '*)
        [ ! "$name" ] || [ ! "$state" ] || rows="$rows$state $name ${{line#*: }}
"
        name= ;;
    esac
  {LAST_LINE}\
  for file in /var/lib/dpkg/updates/[0-9]*; do [ ! -e "$file" ] || rows=; done
  # shellcheck disable=SC2086
  if [ "$rows" ]; then
    printf '%%s' "$rows"
  else
    dpkg-query -W -f='${{db:Status-Abbrev}} ${{Package}} ${{Version}}\\n' -- $wanted
  fi"""

APT = Manager(
    name="apt",
    found=f"{_has('apt-get')} && {_has('dpkg-query')}",
    names={},
    query=_DPKG_QUERY,
    parse=parse_dpkg,
    install=_with_apt,
)


# --- families of rpm ------------------------------------------------------------------------


def parse_versions(text: str) -> Mapping[str, str]:
    """Read ``NAME VERSION`` lines; ``package x is not installed`` is no such line."""
    return dict(re.findall(r"^(\S+) (\S+)$", text, re.MULTILINE))


_RPM_QUERY = "timeout 20 rpm -q --qf '%%{NAME} %%{VERSION}-%%{RELEASE}\\n' %s"
_RPM_NAMES = {
    "conntrack": ("conntrack-tools",),
    "iptables": ("iptables", "iptables-nft", "iptables-legacy", "iptables-backend-nft"),
}
_LIMIT = f"timeout {LOCK_SECONDS + 600}"


def _loose(directory: str, pattern: str, name_of: str, is_there: str) -> str:
    """Return statements that put the directory's packages which the node lacks into ``$@``.

    What is installed is not among them: it would be upgraded, or downgraded.
    """
    return f"""\
set --
for file in {words(directory)}/{pattern}; do
  [ -f "$file" ] || {{ printf 'no {pattern} is in %s\\n' {words(directory)}; return 1; }}
  name=$({name_of} "$file") || return
  {is_there} "${{name%% *}}" >/dev/null 2>&1 || set -- "$@" "$file"
done
[ $# -gt 0 ] || {{ printf 'all of %s is installed already\\n' {words(directory)}; return 1; }}"""


# Packages of several kernels stand beside each other: of these the version counts, too.
_RPM_NAME = """\
rpm_name() {
  name=$(rpm -qp --nosignature --qf '%{NAME} %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}' "$1") || return
  case $name in kernel*) echo "${name#* }" ;; *) echo "${name% *}" ;; esac
}
"""


def _loose_rpms(directory: str) -> str:
    return _RPM_NAME + _loose(directory, "*.rpm", "rpm_name", "rpm -q")


# dnf, yum, tdnf and rpm itself wait for a lock for ever, and not all of them say whose it is. A
# file with a process's id is a lock while that process is there. Who has locked any other file, the
# kernel knows by an inode, which a file of another file system may have too.
_HOLDERS = """\
has_open() {
  for file in "/proc/$1/fd/"*; do
    [ "$(readlink "$file")" != "$2" ] || return 0
  done
  return 1
}
holders() {
  for lock in "$(rpm --eval '%{_rpmlock_path}' 2>/dev/null)" /run/zypp.pid /run/yum.pid \
    /var/lib/dnf/*.pid /var/cache/dnf/*.pid /run/.tdnf-instance-lockfile; do
    [ -e "$lock" ] || continue
    case $lock in
      *.pid) cat "$lock" ;;
      *)
        at="[0-9a-f]*:[0-9a-f]*:$(stat -c %i "$lock")"
        sed -n "s/^[0-9]*: [A-Z].* \\([0-9][0-9]*\\) $at .*/\\1/p" /proc/locks
        ;;
    esac | while read -r pid || [ "$pid" ]; do
      [ -e "/proc/$pid/exe" ] || continue
      case $lock in *.pid) ;; *) has_open "$pid" "$(readlink -f "$lock")" || continue ;; esac
      printf 'process %s (%s) holds %s\n' "$pid" "$(cat "/proc/$pid/comm")" "$lock"
    done
  done
}
"""
_TURN = 3


def _unlocked() -> str:
    """Return statements that wait until no other install is at work, and say whose one stays."""
    return f"""\
{_HOLDERS}waited=0
while said=$(holders); [ "$said" ]; do
  [ "$waited" -lt {LOCK_SECONDS} ] || {{ printf '%s after %s s\n' "$said" "$waited"; return 1; }}
  sleep {_TURN}
  waited=$((waited + {_TURN}))
done
"""


# The limit of the program itself is for a lock that is taken at the same moment. A directory that
# createrepo has been over is a repository: what is needed is taken from it.
def _with_dnf(names: tuple[str, ...], directory: str, program: str = "dnf") -> str:
    install = f"{_LIMIT} {program} -q -y"
    if not directory:
        return f"{_unlocked()}{install} install {words(*names)}"
    return f"""\
if [ -d {words(directory)}/repodata ]; then
{_unlocked()}\
  {install} --nogpgcheck --disablerepo='*' --repofrompath={words("nodeprep," + directory)} \\
    --enablerepo=nodeprep install {words(*names)}
  return
fi
{_with_yum((), directory, program)}"""


def _with_yum(names: tuple[str, ...], directory: str, program: str = "yum") -> str:
    install = f"{_LIMIT} {program} -q -y"
    if not directory:
        return f"{_unlocked()}{install} install {words(*names)}"
    return f"{_loose_rpms(directory)}\n{_unlocked()}{install} --disablerepo='*' install \"$@\""


def _rpm_family(
    name: str,
    found: str,
    install: Callable[[tuple[str, ...], str], str],
    *,
    at_next_boot: bool = False,
) -> Manager:
    return Manager(
        name=name,
        found=found,
        names=_RPM_NAMES,
        query=_RPM_QUERY,
        parse=parse_versions,
        install=install,
        at_next_boot=at_next_boot,
    )


TDNF = _rpm_family("tdnf", _has("tdnf"), partial(_with_dnf, program="tdnf"))
DNF = _rpm_family("dnf", _has("dnf"), _with_dnf)
YUM = _rpm_family("yum", _has("yum"), _with_yum)


# openSUSE offers dnf too, and Fedora zypper: each is somebody's second one there.
_SUSE = f"{{ ! {_has('dnf')} || grep -qi suse /etc/os-release; }}"


# A directory without metadata is a repository to zypper as it is (plaindir). Its exit codes of 102,
# 103 and 106 tell of a reboot, a restart, a repository that was skipped: all was installed.
def _with_zypper(names: tuple[str, ...], directory: str) -> str:
    options, unsigned = "--non-interactive --quiet", ""
    if directory:
        options += f" --no-remote --no-gpg-checks --plus-repo {words('dir:' + directory)}"
        unsigned = " --allow-unsigned-rpm"
    return (
        f"{_unlocked()}export ZYPP_LOCK_TIMEOUT={LOCK_SECONDS}\n"
        f"{_LIMIT} zypper {options} install{unsigned} --no-recommends {words(*names)}\n"
        'status=$?\ncase $status in 102 | 103 | 106) return 0 ;; esac\nreturn "$status"'
    )


ZYPPER = _rpm_family("zypper", f"{_has('zypper')} && {_SUSE}", _with_zypper)


# --- systems that a reboot changes ----------------------------------------------------------


def _patiently(command: str, busy: str) -> str:
    """Return statements that run ``command`` again for as long as it says ``busy``."""
    return f"""\
tries=0
while :; do
  said=$({command} 2>&1)
  status=$?
  printf '%s\\n' "$said"
  case $status-$tries-$said in
    0-*) break ;;
    *-[0-9]-*{busy}* | *-[12][0-9]-*{busy}*) sleep {LOCK_SECONDS // 30}; tries=$((tries + 1)) ;;
    *) return "$status" ;;
  esac
done"""


def _for_next_boot(command: str, busy: str) -> Callable[[tuple[str, ...], str], str]:
    def statements(names: tuple[str, ...], directory: str) -> str:
        found = f"{_loose_rpms(directory)}\n" if directory else ""
        what = '"$@"' if directory else words(*names)
        noted = f"printf '%s\\n' {words(*names)} >>{AT_NEXT_BOOT}"
        return f"{found}{_patiently(f'{command} {what}', busy)}\n{noted}"

    return statements


RPM_OSTREE = _rpm_family(
    "rpm-ostree",
    f"[ -e /run/ostree-booted ] && {_has('rpm-ostree')}",
    _for_next_boot(
        f"{_LIMIT} rpm-ostree install --idempotent --allow-inactive", "'Transaction in progress'"
    ),
    at_next_boot=True,
)
# --continue: a snapshot that waits for its reboot already is built on, not thrown away.
TRANSACTIONAL_UPDATE = _rpm_family(
    "transactional-update",
    f"{_has('transactional-update')} && [ ! -w /usr ]",
    _for_next_boot(
        f"{_LIMIT} transactional-update --non-interactive --continue pkg install", "lock"
    ),
    at_next_boot=True,
)


# --- apk and pacman -------------------------------------------------------------------------


def parse_apk(text: str) -> Mapping[str, str]:
    """Read ``NAME-VERSION-rN`` lines."""
    return dict(re.findall(r"^(\S+)-(\d[^\s-]*-r\d+)$", text, re.MULTILINE))


_OTHER_NAMES = {"conntrack": ("conntrack-tools",)}


def _with_apk(names: tuple[str, ...], directory: str) -> str:
    add = f"apk add --quiet --wait {LOCK_SECONDS}"
    if not directory:
        return f"{add} {words(*names)}"
    return f"""\
apk_name() {{ tar -xzOf "$1" .PKGINFO 2>/dev/null | sed -n 's/^pkgname = //p'; }}
{_loose(directory, "*.apk", "apk_name", "apk info -e")}
{add} --no-network --allow-untrusted "$@\""""


APK = Manager(
    name="apk",
    found=_has("apk"),
    names=_OTHER_NAMES,
    query="apk info -e -v %s",
    parse=parse_apk,
    install=_with_apk,
)


# pacman does not wait. A package alone is not fetched anew with lists of another day: -Sy without
# an upgrade is what its own manual warns of.
def _with_pacman(names: tuple[str, ...], directory: str) -> str:
    if directory:
        found = _loose(directory, "*.pkg.tar.*[!g]", "pacman -Qp", "pacman -Q")
        install = 'pacman -U --noconfirm --needed "$@"'
        return f"{found}\n{_patiently(install, 'lock')}"
    return _patiently(f"pacman -S --noconfirm --needed {words(*names)}", "lock")


PACMAN = Manager(
    name="pacman",
    found=_has("pacman"),
    names={**_OTHER_NAMES, "iptables": ("iptables", "iptables-nft", "iptables-legacy")},
    query="pacman -Q %s",
    parse=parse_versions,
    install=_with_pacman,
)


# --- none -----------------------------------------------------------------------------------

NONE = Manager(
    name="none",
    found="true",
    names={"nftables": ("nft",)},
    query="""\
for name in %s; do
    command -v "$name" >/dev/null && printf '%%s there\\n' "$name"
  done""",
    parse=parse_versions,
    install=None,
)
"""A system without any, such as Flatcar: the programs themselves are looked for."""

MANAGERS = (RPM_OSTREE, TRANSACTIONAL_UPDATE, APT, TDNF, ZYPPER, DNF, YUM, APK, PACMAN)
"""In the order in which they are looked for: where there is dnf, yum is another name for it."""


def manager(name: str) -> Manager:
    """Return the manager of this name. Raises LookupError for any other."""
    return {each.name: each for each in (*MANAGERS, NONE)}[name]


def asking(wanted: tuple[str, ...]) -> str:
    """Return statements that print ``manager NAME`` and what its query says of ``wanted``."""

    def question(each: Manager) -> str:
        names = [name for ours in wanted for name in each.family_names(ours)]
        return f"echo manager {each.name}\n  {each.query % words(*names)}"

    return _one_of(question)


def _one_of(branch: Callable[[Manager], str]) -> str:
    branches = "\nel".join(f"if {each.found}; then\n  {branch(each)}" for each in MANAGERS)
    return f"{branches}\nelse\n  {branch(NONE)}\nfi"


WHICH = _one_of(lambda each: f"echo manager {each.name}")
"""Statements that print ``manager NAME``."""
