"""Virtual servers of others: written down before kube-proxy's flush, and put back after it.

The kernel's table is a file here, and ``ipvsadm`` a script that prints it and adds to it.
"""

from dataclasses import replace

import pytest

from nodeprep.rollout import artefacts
from nodeprep.rollout.foreign_ipvs import SHELL, UNIT
from nodeprep.shell import Script
from tests.shells import PATH, Machine

TABLE = """\
-A -t 10.254.0.1:443 -s rr
-a -t 10.254.0.1:443 -r 192.0.2.9:6443 -m -w 1
-A -t 192.0.2.1:80 -s wlc -p 300
-a -t 192.0.2.1:80 -r 192.0.2.7:8080 -m -w 2
-A -f 7 -s rr
-a -f 7 -r 192.0.2.8:0 -g -w 1
-A -u [2001:db8::1]:53 -s rr
-A -u 192.0.2.1:80 -s rr
"""
FOREIGN = """\
-A -t 192.0.2.1:80 -s wlc -p 300
-a -t 192.0.2.1:80 -r 192.0.2.7:8080 -m -w 2
-A -f 7 -s rr
-a -f 7 -r 192.0.2.8:0 -g -w 1
-A -u [2001:db8::1]:53 -s rr
"""
_NAMED = (
    'virtual_servers() { printf "@ %s\\n" "TCP 192.0.2.1:80" "FWM 7" "UDP [2001:db8::1]:53"; }\n'
)
_IPVSADM = """\
#!/bin/sh
cd {home} || exit
case $1 in
  -Sn) cat table ;;
  -R) cat >added; cat added >>table ;;
esac
"""


@pytest.fixture
def node(machine: Machine) -> Machine:
    """Give a machine with a table of virtual servers, three of them of others."""
    home = machine.folder
    (home / "bin").mkdir()
    (home / "table").write_text(TABLE)
    program = home / "bin" / "ipvsadm"
    program.write_text(_IPVSADM.format(home=home))
    program.chmod(0o755)
    return replace(machine, path=f"{home}/bin:{PATH}")


def run(node: Machine, text: str) -> str:
    settings = f"record={node.folder}\nwork={node.folder}\n"
    # Whether this machine's own kernel has a table is none of the question.
    shell = SHELL.replace("/proc/net/ip_vs", str(node.folder / "table"))
    return node.run(Script(settings, artefacts.LIBRARY, shell, _NAMED, text, "\n")).decode()


def test_only_the_virtual_servers_of_others_are_written_down(node: Machine) -> None:
    assert run(node, "foreign_servers") == FOREIGN


def test_where_there_is_no_table_there_is_nothing_to_write_down(node: Machine) -> None:
    (node.folder / "table").unlink()
    assert run(node, "foreign_servers; echo $?") == "0\n"


def test_what_was_flushed_is_put_back_and_nothing_else(node: Machine) -> None:
    (node.folder / "foreign-ipvs").write_text(FOREIGN)
    table = node.folder / "table"
    table.write_text("-A -t 10.254.0.9:80 -s rr\n-A -f 7 -s rr\n")
    run(node, "put_foreign_back")
    kept = "-A -f 7 -s rr\n"
    assert (node.folder / "added").read_text() == FOREIGN.replace(kept, "")
    assert sorted(table.read_text().splitlines()) == sorted(
        ["-A -t 10.254.0.9:80 -s rr", *FOREIGN.splitlines()]
    )
    run(node, "put_foreign_back")
    assert (node.folder / "added").read_text() == ""


def test_an_empty_table_gets_all_of_them_back(node: Machine) -> None:
    (node.folder / "foreign-ipvs").write_text(FOREIGN)
    (node.folder / "table").write_text("")
    run(node, "put_foreign_back")
    assert (node.folder / "table").read_text() == FOREIGN


def test_the_guard_ends_with_the_deadline(node: Machine) -> None:
    (node.folder / "foreign-ipvs").write_text(FOREIGN)
    (node.folder / "table").write_text("")
    (node.folder / "deadline").write_text("1 r\n")
    turns = "sleep() { rm -f $work/deadline; }"
    assert run(node, f"{turns}; guard_foreign; echo ended") == "ended\n"
    assert (node.folder / "table").read_text() == FOREIGN


def test_without_servers_of_others_no_guard_is_started(node: Machine) -> None:
    fakes = "systemctl() { false; }; systemd_run() { :; }"
    (node.folder / "foreign-ipvs").write_text("")
    assert run(node, f"{fakes}; start_guard_of_foreign; echo $?") == "0\n"


def test_the_guard_is_a_unit_of_a_name_of_ours() -> None:
    assert UNIT.startswith("nodeprep-")
    assert f"--unit={UNIT}" in SHELL
