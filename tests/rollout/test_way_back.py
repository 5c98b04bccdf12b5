"""The way back in real shells, on a node whose systemd and kube-proxy are small scripts.

They keep what they are in files: which units run, which process kube-proxy is, what mode it serves.
What the other rooms bring, the bridge and the removal of leftovers, is only written down here.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from nodeprep import files
from nodeprep.model import MODES, Desired, KubeProxy, Mode, Node
from nodeprep.rollout import way_back
from nodeprep.rollout.way_back import KEPT, PROBE_UNIT, UNIT, Record, Trip
from nodeprep.shell import Script
from tests.shells import NEEDS_ROOT, PATH, Machine, complaints

pytestmark = NEEDS_ROOT

RUN = "20261123T070000Z-0a1b2c"
OTHER = "20261123T080000Z-9f9f9f"
OLD, NEW = "mode: iptables\n", "mode: ipvs\n"

_SYSTEMCTL = """\
cd {fakes} || exit
echo "systemctl $*" >>calls
case $1 in
  show)
    case $* in
      *MainPID*) echo "MainPID=$(cat pid)" ;;
      *) cat active ;;
    esac
    ;;
  is-active) for unit; do :; done; [ -e "units/$unit" ] ;;
  stop) shift; for unit; do rm -f "units/$unit"; done ;;
  restart)
    [ ! -e no-restart ] || exit 1
    cat after-restart >pid
    [ -e deaf ] || sed -n 's/^mode: //p' {etc}/config.yaml >mode
    ;;
esac
"""
_SYSTEMD_RUN = """\
cd {fakes} || exit
echo "systemd-run $*" >>calls
for word; do case $word in --unit=*) : >"units/${{word#--unit=}}" ;; esac; done
"""
_CURL = """\
cd {fakes} || exit
for url; do :; done
case $url in
  */proxyMode) cat mode ;;
  */metrics)
    [ -e no-sync ] || echo 'kubeproxy_sync_proxy_rules_last_timestamp_seconds 1.7e+09'
    ;;
esac
"""
_STUBS = """
bridge_from() {{
  echo "bridge_from $1" >>{fakes}/calls
  [ ! -e "{fakes}/nothing-of-$1" ] || return 1
  : >{fakes}/bridge
}}
bridged() {{ [ -e {fakes}/bridge ]; }}
unbridge() {{ echo unbridge >>{fakes}/calls; rm -f {fakes}/bridge; }}
remove_leftovers() {{ echo "remove_leftovers $1 $2" >>{fakes}/calls; }}
foreign_servers() {{ :; }}
source_services() {{ echo "source_services $1" >>{fakes}/calls; }}
drain_ipvs() {{ echo drain_ipvs >>{fakes}/calls; }}
await_ipvs() {{ echo await_ipvs >>{fakes}/calls; }}
"""


@dataclass(frozen=True, kw_only=True)
class Home:
    """A node that keeps its old files: its machine, its fakes, and the trip it is on."""

    machine: Machine
    trip: Trip

    @property
    def fakes(self) -> Path:
        return self.machine.folder / "fakes"

    @property
    def etc(self) -> Path:
        return self.machine.folder / "etc"

    @property
    def record(self) -> Path:
        return self.machine.state / "switch" / self.trip.run

    @property
    def deadline(self) -> Path:
        return self.machine.work / "deadline"

    @property
    def node(self) -> Node:
        proxy = KubeProxy(unit=f"{self.etc}/kube-proxy.service", config=f"{self.etc}/config.yaml")
        return Node(name="node-1", address="192.0.2.1", desired=Desired(kube_proxy=proxy))

    @property
    def library(self) -> Script:
        stubs = _STUBS.format(fakes=self.fakes)
        return way_back.library(self.node, self.trip) + stubs

    @property
    def paths(self) -> str:
        return " ".join(self.trip.paths)

    def script(self, text: str) -> Script:
        return self.library + f"{text}\necho status $?\n"

    def run(self, text: str) -> str:
        """Return what the shell said to some statements, and the status of the last one."""
        return self.machine.run(self.script(text)).decode()

    def switched(self) -> None:
        """Keep the old files, arm, and put the new ones in place, as a switch does."""
        assert self.run(f"keep_all {self.paths} && renew").endswith("status 0\n")
        (self.etc / "config.yaml").write_text(NEW)
        assert self.run("restart_proxy").endswith("status 0\n")
        (self.fakes / "calls").write_text("")

    def has(self, name: str) -> bool:
        return (self.fakes / name).exists()

    def put(self, name: str, text: str = "") -> None:
        (self.fakes / name).write_text(text)

    @property
    def calls(self) -> list[str]:
        return (self.fakes / "calls").read_text().splitlines()

    @property
    def state(self) -> str:
        path = self.record / "state"
        return path.read_text().strip() if path.exists() else ""

    @property
    def told(self) -> Record:
        """What the node tells of itself, asked and read as the controller does."""
        question = way_back.record(self.trip.run)
        return question.parse(self.machine.run(Script(question.script(self.node))).decode())


def program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)


def home_of(machine: Machine, old: Mode = "iptables", new: Mode = "ipvs") -> Home:
    fakes, etc = machine.folder / "fakes", machine.folder / "etc"
    for folder in (fakes / "units", etc):
        folder.mkdir(parents=True)
    # Each of the node's folders is made by the lock of an apply.
    for folder in (machine.work, machine.state):
        folder.mkdir(mode=0o700)
    places = {"fakes": fakes, "etc": etc}
    for name, text in {
        "systemctl": _SYSTEMCTL, "systemd-run": _SYSTEMD_RUN, "curl": _CURL
    }.items():  # fmt: skip
        program(fakes / name, text.format(**places))
    program(fakes / "journalctl", "echo no such thing\n")
    program(fakes / "sleep", "exec /bin/sleep 0.02\n")
    (fakes / "calls").touch()
    (fakes / "pid").write_text("1\n")
    (fakes / "after-restart").write_text(f"{os.getpid()}\n")
    (fakes / "active").write_text("ActiveState=active\nSubState=running\n")
    (fakes / "mode").write_text(f"{old}\n")
    (etc / "config.yaml").write_text(f"mode: {old}\n")
    trip = Trip(
        run=RUN,
        gone=old,
        to=new,
        paths=(f"{etc}/kube-proxy.service", f"{etc}/config.yaml"),
        gate_limit=1,
        dead_man=3600,
    )
    return Home(machine=replace(machine, path=f"{fakes}:{PATH}"), trip=trip)


@pytest.fixture
def home(machine: Machine) -> Home:
    """Give a node in iptables mode that is to go to ipvs; it has no unit file of its own yet."""
    return home_of(machine)


@pytest.fixture
def plain(dash: Machine) -> Home:
    """Give the same with dash alone."""
    return home_of(dash)


# --- keeping --------------------------------------------------------------------------------


def test_the_old_files_are_kept_for_root_alone_with_all_that_the_way_back_wants(
    home: Home,
) -> None:
    config = home.etc / "config.yaml"
    config.chmod(0o640)
    assert home.run(f"keep_all {home.paths}") == "status 0\n"
    kept = home.record / f"files{config}"
    assert kept.read_text() == OLD
    assert stat.S_IMODE(kept.stat().st_mode) == 0o640
    assert stat.S_IMODE(home.record.stat().st_mode) == 0o700
    assert (home.record / "paths").read_text().split() == list(home.trip.paths)
    assert not (home.record / f"files{home.etc}/kube-proxy.service").exists()
    assert (home.told.state, home.told.gone, home.told.to) == ("kept", "iptables", "ipvs")
    assert home.told.began_as == home.told.process


def test_a_second_time_nothing_is_kept(home: Home) -> None:
    home.run(f"keep_all {home.paths}")
    (home.etc / "config.yaml").write_text(NEW)
    assert home.run(f"keep_all {home.paths}") == "status 0\n"
    assert (home.record / f"files{home.etc}/config.yaml").read_text() == OLD


def test_what_an_earlier_try_kept_is_set_aside_once_that_went_back(home: Home) -> None:
    home.switched()
    assert home.run("go_back").endswith("status 0\n")
    (home.etc / "config.yaml").write_text("mode: iptables # by hand\n")
    assert home.run(f"keep_all {home.paths}") == "status 0\n"
    before = home.record.with_name(f"{RUN}.before")
    assert (before / f"files{home.etc}/config.yaml").read_text() == OLD
    assert "by hand" in (home.record / f"files{home.etc}/config.yaml").read_text()
    assert home.state == "kept"


@pytest.mark.parametrize("state", ["back-began", "back-failed"])
def test_the_only_old_files_are_not_set_aside_where_the_way_back_did_not_end(
    plain: Home, state: str
) -> None:
    plain.switched()
    (plain.record / "state").write_text(f"{state}\n")
    said = plain.run(f"keep_all {plain.paths}")
    assert said.endswith("status 1\n")
    assert f"sh {plain.record}/way-back go_back" in said
    assert (plain.record / f"files{plain.etc}/config.yaml").read_text() == OLD
    assert plain.state == state


KILLERS = ("cat", "rm", "mkdir", "cp", "sync", "systemctl", "mv")


def killing(home: Home, at: int) -> Home:
    """Return the home with programs of which the ``at``-th call kills the script and itself."""
    folder = home.machine.folder / "killers"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "count").write_text("0\n")
    for name in KILLERS:
        real = home.fakes / name if name == "systemctl" else shutil.which(name, path=PATH)
        program(
            folder / name,
            f"read -r n <{folder}/count\nn=$((n + 1))\necho $n >{folder}/count\n"
            f'[ $n -ne {at} ] || kill -9 0\nexec {real} "$@"\n',
        )
    return replace(home, machine=replace(home.machine, path=f"{folder}:{home.machine.path}"))


@pytest.mark.parametrize("earlier", ["none", "back"])
def test_it_is_kept_whole_or_not_at_all_wherever_it_is_killed(plain: Home, earlier: str) -> None:
    for at in range(1, 40):
        shutil.rmtree(plain.machine.state)
        plain.machine.state.mkdir(mode=0o700)
        if earlier == "back":
            plain.run(f"keep_all {plain.paths}; set_state back")
        cut = killing(plain, at)
        process = cut.machine.start(cut.script(f"keep_all {plain.paths}"))
        said = process.communicate(timeout=20)[0]
        if plain.state == "kept":
            assert (plain.record / f"files{plain.etc}/config.yaml").read_text() == OLD
            assert plain.told.began_as == plain.told.process
            assert (plain.told.gone, plain.told.to) == ("iptables", "ipvs")
        else:
            assert plain.state == ("" if earlier == "none" else plain.state)
        assert plain.run(f"keep_all {plain.paths}").endswith("status 0\n")
        assert plain.state == "kept"
        assert not plain.record.with_name(f"{RUN}.new").exists()
        if b"status 0" in said:
            assert process.returncode == 0
            return
    raise AssertionError("it never came to its end")


def test_the_way_back_is_a_script_that_stands_alone(home: Home) -> None:
    keep = way_back.keep(home.node, home.trip).reveal()
    assert home.run(f"{keep}\n").endswith("status 0\n")
    script = home.record / "way-back"
    assert stat.S_IMODE(script.stat().st_mode) == 0o600
    text = script.read_text()
    assert text == home.machine.at_home(way_back.library(home.node, home.trip)).reveal() + '"$@"\n'
    said = home.machine.run(Script(f"sh {script} in_mode iptables; echo status $?\n"))
    assert said == b"status 0\n"


# --- going back -----------------------------------------------------------------------------


def test_going_back_restores_bytes_mode_and_owner_and_takes_away_what_was_not_there(
    home: Home,
) -> None:
    config, unit = home.etc / "config.yaml", home.etc / "kube-proxy.service"
    config.chmod(0o640)
    os.chown(config, 12, 34)
    home.switched()
    os.chown(config, 0, 0)
    config.chmod(0o644)
    unit.write_text("[Unit]\n")
    assert set(home.told.wrong) == {str(config), str(unit)}
    assert home.run("go_back").endswith("status 0\n")
    now = config.stat()
    assert config.read_text() == OLD
    assert (stat.S_IMODE(now.st_mode), now.st_uid, now.st_gid) == (0o640, 12, 34)
    assert not unit.exists()
    assert home.told.wrong == ()
    assert home.state == "back"


def test_a_pods_node_has_no_files_and_goes_back_without_any(home: Home) -> None:
    home.run("keep_all && renew")
    assert (home.record / "paths").read_text() == ""
    assert home.told.wrong == ()
    assert home.run("go_back").endswith("status 0\n")
    assert home.state == "back"


def test_the_mode_is_restored_even_of_a_file_with_the_same_bytes(home: Home) -> None:
    config = home.etc / "config.yaml"
    config.chmod(0o600)
    home.run(f"keep_all {home.paths}")
    config.chmod(0o644)
    assert home.run("put_all_back").endswith("status 0\n")
    assert stat.S_IMODE(config.stat().st_mode) == 0o600


def test_the_old_mode_is_programmed_before_what_the_new_one_left_goes(home: Home) -> None:
    home.switched()
    home.run("go_back")
    acts = [call for call in home.calls if not call.startswith(("systemctl show", "systemctl is"))]
    assert acts == [
        "bridge_from ipvs",
        "systemctl daemon-reload",
        "systemctl restart kube-proxy.service",
        "source_services node",
        "await_ipvs",
        "unbridge",
        "remove_leftovers iptables iptables",
        "remove_leftovers ipvs iptables",
        "remove_leftovers nftables iptables",
        "unbridge",
    ]


@pytest.mark.parametrize(
    ("old", "new", "left"),
    [
        ("iptables", "nftables", []),
        ("nftables", "ipvs", ["source_services node", "drain_ipvs"]),
    ],
)
def test_the_way_back_is_bridged_too(dash: Machine, old: Mode, new: Mode, left: list[str]) -> None:
    home = home_of(dash, old, new)
    home.switched()
    (home.etc / "config.yaml").write_text(f"mode: {new}\n")
    assert home.run("go_back").endswith("status 0\n")
    acts = [call for call in home.calls if not call.startswith("systemctl")]
    removed = [f"remove_leftovers {mode} {old}" for mode in MODES]
    assert acts == [f"bridge_from {new}", *left, "unbridge", *removed, "unbridge"]


def test_a_new_mode_that_never_served_is_no_way_over(home: Home) -> None:
    home.switched()
    home.put("nothing-of-ipvs")
    assert home.run("go_back").endswith("status 0\n")
    assert [call for call in home.calls if call.startswith("bridge_from")] == [
        "bridge_from ipvs", "bridge_from iptables",
    ]  # fmt: skip


@pytest.mark.parametrize("trouble", ["no-restart", "deaf"])
def test_where_a_way_back_fails_no_bridge_grows_old_over_a_kube_proxy_that_serves(
    home: Home, trouble: str
) -> None:
    home.switched()
    home.put(trouble)
    assert home.run("go_back").endswith("status 1\n")
    assert (home.state, home.has("bridge")) == ("back-failed", False)
    # New connections leave with the service's own address again: kube-proxy knows it by that.
    assert home.calls[-1] == "source_services service"


def test_over_a_kube_proxy_that_does_not_serve_the_bridge_stands_until_it_does(
    home: Home,
) -> None:
    home.switched()
    home.put("no-sync")
    assert home.run("go_back").endswith("status 1\n")
    assert (home.state, home.has("bridge")) == ("back-failed", True)
    (home.fakes / "no-sync").unlink()
    assert home.run("until_it_serves") == "status 0\n"
    assert not home.has("bridge")


def test_a_bridge_that_still_stands_is_the_old_modes_and_is_kept(dash: Machine) -> None:
    home = home_of(dash, "iptables", "nftables")
    home.switched()
    home.put("bridge")
    home.run("go_back")
    assert "bridge_from nftables" not in home.calls


def test_going_back_a_second_time_does_nothing(home: Home) -> None:
    home.switched()
    home.run("go_back")
    home.put("calls")
    assert home.run("go_back") == "status 0\n"
    assert home.calls == []


def test_a_node_that_keeps_nothing_has_nowhere_to_go_back_to(home: Home) -> None:
    assert home.run("go_back") == "status 0\n"
    assert home.calls == []
    assert (home.etc / "config.yaml").read_text() == OLD


def test_a_process_that_was_never_replaced_is_not_restarted(home: Home) -> None:
    home.run(f"keep_all {home.paths}")
    assert home.run("go_back").endswith("status 0\n")
    assert not [call for call in home.calls if "restart" in call]
    assert home.state == "back"


@pytest.mark.parametrize("trouble", ["no-restart", "no-sync", "deaf"])
def test_a_way_back_that_fails_says_so_and_may_be_tried_again(plain: Home, trouble: str) -> None:
    plain.switched()
    plain.put(trouble)
    assert plain.run("go_back").endswith("status 1\n")
    assert plain.state == "back-failed"
    (plain.fakes / trouble).unlink()
    plain.put("after-restart", f"{os.getppid()}\n")
    assert plain.run("go_back").endswith("status 0\n")
    assert (plain.state, plain.told.wrong) == ("back", ())


def test_a_way_back_that_was_cut_short_ends_the_second_time(plain: Home) -> None:
    for at in range(1, 40):
        shutil.rmtree(plain.machine.state)
        plain.machine.state.mkdir(mode=0o700)
        (plain.machine.work / "deadline").unlink(missing_ok=True)
        (plain.etc / "config.yaml").write_text(OLD)
        plain.put("pid", "1\n")
        plain.switched()
        cut = killing(plain, at)
        process = cut.machine.start(cut.script("go_back"))
        said = process.communicate(timeout=20)[0]
        assert (plain.etc / "config.yaml").read_text() in (OLD, NEW)
        assert plain.run("go_back").endswith("status 0\n")
        assert (plain.state, plain.told.wrong) == ("back", ())
        assert (plain.fakes / "mode").read_text() == "iptables\n"
        if b"status 0" in said:
            return
    raise AssertionError("it never came to its end")


def test_a_process_that_does_not_stay_up_is_not_waited_for(plain: Home) -> None:
    plain.put("no-sync")
    plain.put("active", "ActiveState=activating\nSubState=auto-restart\n")
    said = plain.run("gate_limit=60; wait_for_sync")
    assert said == "kube-proxy.service does not stay up\nno such thing\nstatus 1\n"


# --- the dead man's switch ------------------------------------------------------------------


@contextlib.contextmanager
def watching(home: Home) -> Iterator[subprocess.Popen[bytes]]:
    """Have the dead man's watch run, and end it at last."""
    with home.machine.start(home.script("dead_man_watch")) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def overdue(home: Home, owner: str = RUN) -> None:
    home.deadline.write_text(f"1 {owner}\n")


def stays(process: subprocess.Popen[bytes], seconds: float = 0.4) -> bool:
    time.sleep(seconds)
    return process.poll() is None


def test_arming_sets_a_deadline_and_starts_the_watch_once(home: Home) -> None:
    home.run(f"keep_all {home.paths}")
    assert home.run("renew && renew").endswith("status 0\n")
    started = [call for call in home.calls if call.startswith("systemd-run")]
    way = f"/bin/sh {home.record}/way-back dead_man_watch"
    described = f"--description=nodeprep: the way back of {RUN}"
    assert started == [f"systemd-run --quiet --unit={UNIT} {described} {way}"]
    number, owner = home.deadline.read_text().split()
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    assert (abs(int(number) - uptime - 3600) < 60, owner) == (True, RUN)
    told = home.told
    assert (told.state, told.armed_by, told.watching) == ("armed", RUN, True)


def test_it_fires_when_its_deadline_has_passed(home: Home) -> None:
    home.switched()
    overdue(home)
    with watching(home) as process:
        process.wait(timeout=20)
    assert home.state == "back"
    assert (home.etc / "config.yaml").read_text() == OLD
    assert not home.deadline.exists()
    assert f"the way back of run {RUN}" in (home.machine.work / "holder").read_text()


def test_it_does_not_fire_before_its_deadline_and_ends_when_disarmed(home: Home) -> None:
    home.switched()
    with watching(home) as process:
        assert stays(process)
        assert home.state == "armed"
        assert home.run("settle").endswith("status 0\n")
        process.wait(timeout=20)
    assert home.state == "settled"
    assert (home.etc / "config.yaml").read_text() == NEW
    assert not home.has(f"units/{UNIT}")


def test_it_does_not_fire_while_the_lock_is_held_nor_when_renewed_meanwhile(home: Home) -> None:
    home.switched()
    overdue(home)
    with (home.machine.work / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with watching(home) as process:
            assert stays(process)
            assert home.state == "armed"
            assert home.run("renew").endswith("status 0\n")
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert stays(process)
    assert home.state == "armed"
    assert (home.etc / "config.yaml").read_text() == NEW


def test_another_runs_deadline_is_none_of_its_business(home: Home) -> None:
    home.switched()
    overdue(home, OTHER)
    with watching(home) as process:
        assert stays(process)
    assert home.state == "armed"


def test_a_node_in_another_rolls_hands_is_neither_kept_nor_armed_nor_taken_back(
    home: Home,
) -> None:
    overdue(home, OTHER)
    said = home.run(f"keep_all {home.paths}")
    assert said == f"the roll {OTHER} has this node in hand\nstatus 1\n"
    assert home.state == ""
    home.deadline.unlink()
    home.switched()
    overdue(home, OTHER)
    for step in ("renew", "go_back"):
        assert home.run(step) == f"the roll {OTHER} has this node in hand\nstatus 1\n"
    home.put(f"units/{UNIT}")
    home.run("disarm back")
    assert home.deadline.read_text() == f"1 {OTHER}\n"
    assert home.has(f"units/{UNIT}")
    assert (home.etc / "config.yaml").read_text() == NEW


@pytest.mark.parametrize("state", ["back", "back-began", "back-failed"])
def test_a_node_that_went_back_is_not_armed_again(plain: Home, state: str) -> None:
    plain.run(f"keep_all {plain.paths}; set_state {state}")
    for step in ("renew", "settle"):
        assert plain.run(step) == "the node went back by itself\nstatus 1\n"
    assert plain.state == state
    assert not plain.deadline.exists()


def test_disarming_ends_all_that_a_roll_started(home: Home) -> None:
    home.switched()
    home.run("start_probe 192.0.2.1 80")
    assert home.has(f"units/{PROBE_UNIT}")
    home.run("disarm settled")
    assert list((home.fakes / "units").iterdir()) == []
    assert (home.told.state, home.told.armed_by, home.told.watching) == ("settled", "", False)


def test_the_probe_counts_until_it_is_disarmed(home: Home) -> None:
    home.switched()
    probing = "n=0; tcp_open() { n=$((n + 1)); [ $n -ne 3 ] || rm $work/deadline; [ $n -ne 2 ]; }"
    home.run(f"{probing}; probe 192.0.2.1 80")
    assert (home.told.probed, home.told.lost) == (3, 1)


# --- what a node says of it -----------------------------------------------------------------


def test_a_node_without_a_record_says_only_which_process_runs(home: Home) -> None:
    told = home.told
    assert told == Record(process=told.process)
    assert told.process.split()[1] == "1"


def test_a_node_whose_kube_proxy_does_not_run_has_no_process(home: Home) -> None:
    home.put("pid", "0\n")
    assert home.told.process.endswith(" 0 none")


def test_a_new_process_is_told_from_the_old_one(home: Home) -> None:
    home.switched()
    assert home.told.process != home.told.began_as


def test_every_kind_of_line_is_read() -> None:
    text = (
        "process b 2 200\narmed_by r1\nwatching yes\nstate armed\nfrom ipvs\nto nftables\n"
        "began_as b 1 100\nwrong /etc/a b\nwrong /etc/c\nprobe 40 2\n"
    )
    assert way_back.parse_record(text) == Record(
        state="armed",
        gone="ipvs",
        to="nftables",
        began_as="b 1 100",
        process="b 2 200",
        wrong=("/etc/a b", "/etc/c"),
        armed_by="r1",
        watching=True,
        probed=40,
        lost=2,
    )
    assert way_back.parse_record("") == Record()


def test_shellcheck_finds_nothing_in_the_library_and_the_question() -> None:
    node = Node(name="node-1", address="192.0.2.1")
    trip = Trip(run=RUN, gone="ipvs", to="nftables", paths=("/a",), gate_limit=9, dead_man=9)
    question = way_back.record(RUN).script(node)
    for text in (way_back.library(node, trip).reveal() + '"$@"\n', question):
        assert complaints(text, "--exclude=SC3067") == ""


def test_the_old_files_are_kept_below_nodepreps_own_folder() -> None:
    assert f"{files.STATE}/switch" == KEPT
