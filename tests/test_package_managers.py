"""Package managers: how each is found, asked and told, in the shells that nodes have."""

import contextlib
import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeprep import package_managers
from nodeprep.package_managers import AT_NEXT_BOOT, MANAGERS, NONE, Manager, manager
from nodeprep.shell import Script, function
from tests.namespaces import Namespace
from tests.shells import NEEDS_ROOT, Machine, complaints

NAMES = ("ipset", "ipvsadm")
EVERY = [pytest.param(each, id=each.name) for each in MANAGERS]


def stand_in(folder: Path, name: str, body: str) -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)


@pytest.fixture
def bin_(tmp_path: Path) -> Path:
    """Give a folder for programs that come first."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def with_programs(bin_: Path, shell: str = "dash") -> Machine:
    return Machine(folder=bin_.parent, shell=shell, path=f"{bin_}:/usr/sbin:/usr/bin:/sbin:/bin")


# --- reading --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "installed"),
    [
        ("ii  ipset 7.17-1", True),
        ("hi  ipset 7.17-1", True),
        ("rc  ipset 7.17-1", False),
        ("un  ipset ", False),
        ("iU  ipset 7.17-1", False),
        ("iF  ipset 7.17-1", False),
        ("iiR ipset 7.17-1", False),
    ],
)
def test_dpkg_calls_installed_what_is_unpacked_and_configured(
    line: str, *, installed: bool
) -> None:
    assert ("ipset" in package_managers.parse_dpkg(f"{line}\n")) is installed


def test_apk_puts_name_and_version_into_one_word() -> None:
    text = "ipset-7.21-r0\nlinux-lts-6.6.8-r0\nso-named-1\n"
    assert package_managers.parse_apk(text) == {"ipset": "7.21-r0", "linux-lts": "6.6.8-r0"}


def test_pacman_and_rpm_print_two_words_and_say_more_of_what_is_missing() -> None:
    text = "ipset 7.22-1\npackage ipvsadm is not installed\nerror: package 'x' was not found\n"
    assert package_managers.parse_versions(text) == {"ipset": "7.22-1"}


# --- finding --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ((), "none"),
        (("dnf", "yum"), "dnf"),
        (("yum",), "yum"),
        (("tdnf", "dnf"), "tdnf"),
        (("zypper",), "zypper"),
        (("zypper", "dnf"), "dnf"),
        (("apk",), "apk"),
        (("pacman",), "pacman"),
        (("apt-get", "dpkg-query", "dnf", "zypper"), "apt"),
        (("rpm-ostree", "dnf"), "dnf"),
        (("transactional-update", "zypper"), "zypper"),
    ],
)
def test_the_systems_own_manager_is_found(
    shell: str, bin_: Path, there: tuple[str, ...], found: str
) -> None:
    for name in (*there, "rpm", "timeout"):
        stand_in(bin_, name, "exit 1")
    (bin_ / "grep").symlink_to("/usr/bin/grep")
    machine = Machine(folder=bin_.parent, shell=shell, path=str(bin_))
    said = machine.run(Script(package_managers.asking(NAMES))).decode().splitlines()
    assert said[0] == f"manager {found}"


def test_without_one_the_programs_are_looked_for(shell: str, bin_: Path) -> None:
    stand_in(bin_, "ipset", "exit 1")
    machine = Machine(folder=bin_.parent, shell=shell, path=str(bin_))
    said = machine.run(Script(package_managers.asking(NAMES))).decode()
    assert said == "manager none\nipset there\n"


def test_a_manager_that_nobody_knows_is_refused() -> None:
    assert manager("none") is NONE
    with pytest.raises(LookupError):
        manager("emerge")


# --- installing -----------------------------------------------------------------------------


def installing(of: Manager, directory: str = "") -> Script:
    assert of.install
    return function("step", of.install(NAMES, directory))


@pytest.mark.parametrize("directory", ["", "/srv/packages", "/srv/some packages"])
@pytest.mark.parametrize("each", EVERY)
def test_shellcheck_has_nothing_to_say(each: Manager, directory: str) -> None:
    script = f"{installing(each, directory)}step\n"
    assert complaints(f"#!/bin/sh\n{script}") == ""


@pytest.mark.parametrize("each", EVERY)
def test_nothing_that_is_there_is_upgraded(each: Manager) -> None:
    said = str(installing(each))
    assert "upgrade" not in said.replace("--no-upgrade", "")
    assert " update" not in said.replace("apt-get -q update", "").replace("-update", "")
    assert "-Sy" not in said


@pytest.mark.parametrize(
    ("lists", "asked"),
    [("", ["update", "install"]), ("deb_dists_x_main_binary-amd64_Packages.lz4", ["install"])],
)
def test_apt_fetches_its_lists_first_where_it_has_none(
    inside_each: Namespace, bin_: Path, lists: str, asked: list[str]
) -> None:
    stand_in(
        bin_, "apt-get", f'for word; do case $word in [iu]*) echo "$word"; esac; done >>{bin_}/said'
    )
    stand_in(bin_, "dpkg", ":")
    inside_each.ask(
        f"mount -t tmpfs tmpfs /var/lib/apt/lists; touch /var/lib/apt/lists/{lists or 'lock'}"
    )
    step = Script(f"PATH={bin_}:$PATH\n") + installing(manager("apt")) + "step\n"
    inside_each.run(step)
    said = (bin_ / "said").read_text().split()
    assert [word for word in said if word not in NAMES] == asked


@pytest.mark.parametrize("name", ["dnf", "yum", "tdnf", "rpm-ostree", "transactional-update"])
def test_loose_packages_are_installed_where_the_node_lacks_them(
    shell: str, bin_: Path, name: str
) -> None:
    directory = bin_.parent / "packages"
    directory.mkdir()
    for package in ("ipset", "libipset", "bash", "kernel-modules-extra"):
        (directory / f"{package}-1.rpm").touch()
    stand_in(
        bin_,
        "rpm",
        """case $1 in
  -qp) for file; do name=${file##*/}; done; name=${name%.rpm}; printf "${name%-1} $name.el9" ;;
  -q) case $2 in bash | kernel-modules-extra | kernel-modules-extra-0.el9) ;; *) exit 1 ;; esac ;;
esac""",
    )
    stand_in(bin_, name, f'echo "{name} $*"')
    machine = with_programs(bin_, shell)
    machine.work.mkdir()
    said = machine.run(installing(manager(name), str(directory)) + "step\n").decode()
    files = [f"{directory}/{each}-1.rpm" for each in ("ipset", "kernel-modules-extra", "libipset")]
    assert said.strip().startswith(f"{name} ")
    assert said.strip().endswith(" ".join(files))


def test_an_empty_directory_is_said_to_be_one(shell: str, bin_: Path) -> None:
    machine = with_programs(bin_, shell)
    said = machine.run(installing(manager("dnf"), str(bin_)) + "step || echo failed\n").decode()
    assert said == f"no *.rpm is in {bin_}\nfailed\n"


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_a_busy_system_is_asked_again_and_not_for_ever(shell: str, bin_: Path) -> None:
    count = bin_.parent / "count"
    stand_in(bin_, "sleep", f'echo "slept $1" >>{count}')
    stand_in(
        bin_,
        "pacman",
        f"""[ "$(wc -l <{count})" -ge "$LOCKED" ] || {{
  echo 'error: failed to init transaction (unable to lock database)'; exit 1; }}
echo installed""",
    )
    for locked, last, sleeps in (("2", "installed", 2), ("99", "failed", 30)):
        count.write_text("")
        script = Script(f"export LOCKED={locked}\n") + installing(manager("pacman"))
        said = with_programs(bin_, shell).run(script + "step || echo failed\n").decode()
        assert said.splitlines()[-1] == last
        assert count.read_text() == "slept 10\n" * sleeps


# --- the locks of rpm's families, in a system of their own ------------------------------------

HOLD = {
    "/run/lib/.rpm.lock": "file = open(path, 'w'); fcntl.lockf(file, fcntl.LOCK_EX)",
    "/run/.tdnf-instance-lockfile": "file = open(path, 'w'); fcntl.flock(file, fcntl.LOCK_EX)",
    "/run/zypp.pid": "open(path, 'w').write(f'{os.getpid()}\\n')",
    "/var/cache/dnf/metadata_lock.pid": "open(path, 'w').write(str(os.getpid()))",
}
PROGRAMS = {
    "rpm": "echo /run/link/.rpm.lock",
    "sleep": "exec /bin/sleep 0.1",
    "dnf": "if [ -e /run/held ]; then echo too early; else echo installed; fi",
}


@pytest.fixture
def fedora(inside: Namespace) -> Namespace:
    """A system whose package manager only says whether it came in time."""
    inside.ask("mkdir -p /run/bin /run/lib /var/cache/dnf; ln -s lib /run/link")
    for name, body in PROGRAMS.items():
        inside.ask(f"printf '#!/bin/sh\\n{body}\\n' >/run/bin/{name}; chmod +x /run/bin/{name}")
    inside.ask("touch /run/lib/.rpm.lock /run/.tdnf-instance-lockfile; echo 4194304 >/run/yum.pid")
    return inside


@contextlib.contextmanager
def hold(system: Namespace, path: str, seconds: int) -> Iterator[int]:
    """Hold a lock as its program does; yields the holder's process."""
    said = (
        f"import fcntl, os, time; path = '{path}'; {HOLD[path]}; open('/run/held', 'w'); "
        f"time.sleep({seconds}); os.remove('/run/held')"
    )
    holder = subprocess.Popen((*system.enter, "python3", "-c", said))
    try:
        system.ask("until [ -e /run/held ]; do /bin/sleep 0.05; done")
        yield holder.pid
    finally:
        holder.kill()
        holder.wait()


def installed(system: Namespace) -> str:
    script = Script("PATH=/run/bin:$PATH\n") + installing(manager("dnf"))
    return system.run(script + "step || echo failed\n").decode()


@NEEDS_ROOT
def test_a_lock_that_nobody_holds_is_not_waited_for(fedora: Namespace) -> None:
    fedora.ask("printf '#!/bin/sh\\necho slept\\n' >/run/bin/sleep")
    assert installed(fedora) == "installed\n"


@NEEDS_ROOT
@pytest.mark.parametrize("path", HOLD)
def test_a_lock_is_waited_for_until_it_is_let_go(fedora: Namespace, path: str) -> None:
    with hold(fedora, path, 1):
        assert installed(fedora) == "installed\n"


@NEEDS_ROOT
@pytest.mark.parametrize("path", HOLD)
def test_a_lock_that_is_not_let_go_is_told_with_its_holder(
    fedora: Namespace, path: str, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package_managers, "LOCK_SECONDS", 6)
    with hold(fedora, path, 60) as process:
        said = installed(dataclasses.replace(fedora, shell=shell))
    told = path.replace("/run/lib/", "/run/link/")
    assert said == f"process {process} (python3) holds {told} after 6 s\nfailed\n"


def test_any_other_failure_is_told_at_once(shell: str, bin_: Path) -> None:
    stand_in(bin_, "pacman", "echo 'error: target not found: ipset'; exit 1")
    script = installing(manager("pacman")) + "step || echo failed\n"
    said = with_programs(bin_, shell).run(script).decode()
    assert said == "error: target not found: ipset\nfailed\n"


@pytest.mark.parametrize("name", ["rpm-ostree", "transactional-update"])
def test_what_a_reboot_brings_is_noted_until_that_reboot(shell: str, bin_: Path, name: str) -> None:
    stand_in(bin_, name, "echo staged")
    machine = with_programs(bin_, shell)
    machine.work.mkdir()
    machine.run(installing(manager(name)) + "step\n")
    noted = machine.work / AT_NEXT_BOOT.rpartition("/")[2]
    assert noted.read_text() == "ipset\nipvsadm\n"


def test_what_could_not_be_staged_is_not_noted(shell: str, bin_: Path) -> None:
    stand_in(bin_, "rpm-ostree", "echo 'error: Packages not found: ipvsadm'; exit 1")
    machine = with_programs(bin_, shell)
    machine.work.mkdir()
    said = machine.run(installing(manager("rpm-ostree")) + "step || echo failed\n").decode()
    assert said.splitlines()[-1] == "failed"
    assert list(machine.work.iterdir()) == []


@pytest.mark.parametrize(("code", "ends"), [(0, 0), (4, 4), (102, 0), (106, 0), (104, 104)])
def test_what_zypper_adds_to_a_success_is_no_failure(
    shell: str, bin_: Path, code: int, ends: int
) -> None:
    stand_in(bin_, "zypper", f"exit {code}")
    script = installing(manager("zypper")) + "step; echo $?\n"
    assert with_programs(bin_, shell).run(script).decode() == f"{ends}\n"
