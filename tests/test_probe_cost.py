"""A probe costs a prepared node little: few processes, and nothing asked twice."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeprep import probe, story
from nodeprep.releases import Version
from nodeprep.topics.kube_proxy import BINARY, KNOWN_VERSION
from nodeprep.topics.proxy_mode import EFFECTIVE
from tests.namespaces import NONCE
from tests.prepared import NODE, Prepared, Processes, counted, prepared
from tests.shells import NEEDS_ROOT, SHELLS, command

pytestmark = NEEDS_ROOT

MOST = 13
"""Processes of a probe. By hand one would start as many: for lines of files, packages, systemd,
iptables, the program, the mode, whose answer it was, virtual servers, and four for our files."""


KEPT = f"""\
printf 'Kubernetes v1.34.0 %s\\n' "$(stat -L -c %d.%i.%s.%Y.%Z /run/kube-proxy)" >{KNOWN_VERSION}
"""
"""Keeps what an apply would keep of the program that is there now."""


@pytest.fixture(scope="module", params=SHELLS)
def ready(request: pytest.FixtureRequest) -> Iterator[Prepared]:
    """Give a prepared node, one for each shell."""
    command(str(request.param))
    with prepared(str(request.param)) as one:
        yield one


def asked(ready: Prepared, folder: Path) -> Processes:
    return ready.processes(probe.script(NODE, story.STORY, NONCE), folder / "trace")


def started(ready: Prepared, folder: Path) -> list[str]:
    return [name for names in asked(ready, folder).programs.values() for name in names]


# --- how many -------------------------------------------------------------------------------


def test_a_probe_of_a_prepared_node_starts_few_processes(ready: Prepared, tmp_path: Path) -> None:
    assert asked(ready, tmp_path).total <= MOST


def test_each_process_becomes_a_program(ready: Prepared, tmp_path: Path) -> None:
    seen = asked(ready, tmp_path)
    assert sum(map(len, seen.programs.values())) == seen.total


def test_systemd_and_the_lines_of_files_are_asked_once(ready: Prepared, tmp_path: Path) -> None:
    names = started(ready, tmp_path)
    assert names.count("systemctl") == 1
    # The other one is for dpkg's file, of which it takes lines beside those it looks for.
    assert names.count("grep") == 2


def test_a_process_that_is_seen_to_answer_needs_no_log(ready: Prepared, tmp_path: Path) -> None:
    assert "journalctl" not in started(ready, tmp_path)
    seen = ready.look()[EFFECTIVE]
    assert (seen.running, seen.mode, seen.logged) == (True, "ipvs", "")


# --- and as true as before ------------------------------------------------------------------


def test_where_another_process_answers_the_log_is_read(ready: Prepared) -> None:
    ready.inside.ask("cp /run/kube-proxy.pid /run/right; echo 1 >/run/kube-proxy.pid")
    try:
        assert ready.look()[EFFECTIVE].logged == "ipvs"
    finally:
        ready.inside.ask("cp /run/right /run/kube-proxy.pid")


def test_a_version_that_an_apply_heard_is_believed_of_the_very_same_file(
    ready: Prepared, tmp_path: Path
) -> None:
    assert "kube-proxy" not in started(ready, tmp_path)
    assert ready.look()[BINARY].version == Version(1, 34)


@pytest.mark.parametrize(
    "change",
    [
        "cp -p /run/kube-proxy /run/new && mv /run/new /run/kube-proxy",
        "touch -d '1 hour ago' /run/kube-proxy",
        # Of the times of a file whole seconds count, and so a change is waited for.
        "sleep 1; chmod 750 /run/kube-proxy",
        "echo >>/run/kube-proxy",
        f"echo Kubernetes v1.33.9 >{KNOWN_VERSION}",
        f": >{KNOWN_VERSION}",
        f"rm {KNOWN_VERSION}",
    ],
)
def test_a_program_that_was_touched_is_asked_again(
    ready: Prepared, tmp_path: Path, change: str
) -> None:
    ready.inside.ask(KEPT)
    assert "kube-proxy" not in started(ready, tmp_path)
    ready.inside.ask(change)
    assert "kube-proxy" in started(ready, tmp_path)
    assert ready.look()[BINARY].version == Version(1, 34)


def test_a_probe_alone_keeps_nothing(ready: Prepared) -> None:
    ready.inside.ask(f"rm -f {KNOWN_VERSION}")
    ready.look()
    assert ready.inside.ask(f"ls {KNOWN_VERSION} || echo none").endswith("none\n")


# --- counting -------------------------------------------------------------------------------


def test_a_thread_is_no_process_and_a_fact_has_what_it_started() -> None:
    record = f"""\
1 execve("/usr/bin/dash", ["dash", "-s"], 0x1 /* 3 vars */) = 0
1 write(1, "\\n@{NONCE} begin a\\n", 20) = 20
1 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD <unfinished ...>
2 execve("/usr/bin/cat", ["cat"], 0x1 /* 3 vars */ <unfinished ...>
1 <... clone resumed>, child_tidptr=0x7) = 2
2 <... execve resumed>) = 0
2 clone3({{flags=CLONE_VM|CLONE_THREAD, exit_signal=0}}, 88) = 3
1 write(1, "\\n@{NONCE} end a 0\\n", 20) = 20
1 vfork() = 4
4 execve("/nowhere", ["x"], 0x1 /* 3 vars */) = -1 ENOENT (No such file or directory)
"""
    seen = counted(record)
    assert (seen.forks, seen.total) == ({"a": 1, "together": 1}, 2)
    assert seen.programs == {"a": ("cat",), "together": ()}
