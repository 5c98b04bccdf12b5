"""The door to the nodes, against a real sshd: strict, bounded, and one session for one script."""

import contextlib
import dataclasses
import getpass
import os
import random
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nodeprep import apply, frames, known_hosts, probe, transport, visits
from nodeprep.errors import (
    DeadlinePassed,
    FactError,
    HostKeyRefused,
    LoginRefused,
    NodeprepError,
    Unreachable,
)
from nodeprep.model import Node, Ssh, Sudo
from nodeprep.shell import Script, Secret, quote, whole
from nodeprep.topics import kernel_modules, packages, sysctl, system
from nodeprep.transport import Limits, host_keys
from nodeprep.transport import session as session_
from tests.sample_topic import SampleTopic, step
from tests.shells import NEEDS_ROOT, Machine
from tests.sshd import NEEDS_SSHD, Sshd, key, public, running
from tests.wire import Way, Wire, wire

pytestmark = NEEDS_SSHD

NONCE = "0123456789abcdef"
LIMITS = Limits(connect=5, login=5, probe=10, apply=20)
HASTY = Limits(connect=1, login=1, probe=1, apply=1)
QUESTION = whole(frames.open_frames(NONCE) + str(frames.framed("a", "echo answer")) + "total\n")


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    end = time.monotonic() + 5
    while left := set(threading.enumerate()) - before:
        assert time.monotonic() < end, left
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def every_test_is_a_process_of_its_own() -> None:
    host_keys.store.cache_clear()  # a process reads each file once


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name, kind in (("user", "ed25519"), ("host", "ed25519"), ("ecdsa", "ecdsa")):
        key(folder, name, kind)
    for name in ("other_user", "other_host"):
        key(folder, name)
    return folder


@pytest.fixture(scope="module")
def shared(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running(
        tmp_path_factory.mktemp("sshd"), host_keys=[keys / "host"], user_key=keys / "user"
    ) as sshd:
        yield sshd


@pytest.fixture
def sshd(shared: Sshd) -> Sshd:
    """Give a running sshd with an empty log."""
    os.truncate(shared.folder / "log", 0)
    return shared


@pytest.fixture
def known(tmp_path: Path, sshd: Sshd) -> Path:
    """Give a file of known hosts that has the right key of the sshd."""
    file = tmp_path / "known_hosts"
    file.write_text(sshd.line)
    return file


def ask(node: Node, script: Script = QUESTION, limits: Limits = LIMITS) -> bytes:
    with transport.connect(node, limits, {}) as session:
        return session.run(script, limits.probe)


def answer(node: Node, limits: Limits = LIMITS) -> str:
    return frames.parse(ask(node, limits=limits), NONCE)["a"].text


def refused(node: Node) -> HostKeyRefused:
    with pytest.raises(HostKeyRefused) as caught:
        ask(node)
    assert caught.value.exit_code == 4
    return caught.value


def fingerprint(private: Path) -> str:
    return known_hosts.fingerprint(public(private).split()[1])


def until(happened: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


# --- host keys ------------------------------------------------------------------------------


def test_a_known_host_answers(sshd: Sshd, known: Path) -> None:
    assert answer(sshd.node(known)) == "answer\n"


def test_an_unknown_host_is_refused_before_any_login(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "a file"
    error = refused(sshd.node(known))
    assert fingerprint(sshd.host_key) in error.message
    assert error.hint.endswith(f"ssh-keyscan -p {sshd.port} 127.0.0.1 >>'{known}'")
    assert sshd.counted("Connection from") == 1
    assert sshd.logins == []
    assert not known.exists()


def test_the_command_that_the_refusal_names_makes_the_host_known(
    sshd: Sshd, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    command = refused(sshd.node(known)).hint.partition("then: ")[2]
    subprocess.run(("sh", "-c", command), check=True, capture_output=True)
    host_keys.store.cache_clear()  # as another process would begin
    assert answer(sshd.node(known)) == "answer\n"


@pytest.mark.parametrize("host_keys", ["strict", "accept-new"])
@pytest.mark.parametrize("recorded", ["other_host", "ecdsa"])
def test_a_changed_key_is_refused_before_any_login_in_every_mode(
    sshd: Sshd, keys: Path, tmp_path: Path, host_keys: str, recorded: str
) -> None:
    known = tmp_path / "known hosts"
    known.write_text(f"[127.0.0.1]:{sshd.port} {public(keys / recorded)}\n")
    before = known.read_bytes()
    error = refused(sshd.node(known, host_keys=host_keys))
    assert "HAS CHANGED" in error.message
    assert fingerprint(sshd.host_key) in error.message
    assert fingerprint(keys / recorded) in error.message
    assert error.hint.endswith(f"ssh-keygen -R '[127.0.0.1]:{sshd.port}' -f '{known}'")
    assert sshd.logins == []
    assert known.read_bytes() == before


def test_a_revoked_key_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text(f"@revoked * {public(sshd.host_key)}\n{sshd.line}")
    assert "revoked" in refused(sshd.node(known, host_keys="accept-new")).message
    assert sshd.logins == []


def test_a_host_with_several_keys_must_show_the_one_on_record(keys: Path, tmp_path: Path) -> None:
    both = [keys / "host", keys / "ecdsa"]
    with running(tmp_path / "sshd", host_keys=both, user_key=keys / "user") as sshd:
        for mine in both:
            known = tmp_path / mine.name
            known.write_text(f"[127.0.0.1]:{sshd.port} {public(mine)}\n")
            assert answer(sshd.node(known)) == "answer\n"


def test_accept_new_records_a_key_once_and_for_its_owner_alone(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "new" / "known_hosts"
    before = os.umask(0)
    try:
        for _ in range(3):
            assert answer(sshd.node(known, host_keys="accept-new")) == "answer\n"
    finally:
        os.umask(before)
    assert known.read_text() == sshd.line
    assert stat.S_IMODE(known.stat().st_mode) == 0o600
    assert stat.S_IMODE(known.parent.stat().st_mode) == 0o700
    host_keys.store.cache_clear()  # as another process would begin
    assert answer(sshd.node(known)) == "answer\n"


def test_a_key_that_changes_after_it_was_accepted_is_refused(
    keys: Path, sshd: Sshd, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    with running(tmp_path / "1", host_keys=[keys / "host"], user_key=keys / "user") as first:
        node = first.node(known, host_keys="accept-new")
        assert answer(node) == "answer\n"
    with running(
        tmp_path / "2",
        host_keys=[keys / "other_host"],
        user_key=keys / "user",
        port=first.port,
    ) as second:
        assert "HAS CHANGED" in refused(node).message
        assert second.logins == []
    assert len(known.read_text().splitlines()) == 1
    del sshd


def test_a_key_is_recorded_on_a_line_of_its_own(sshd: Sshd, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.write_text("node9 ssh-ed25519 AAAA a comment without newline")
    assert answer(sshd.node(known, host_keys="accept-new")) == "answer\n"
    assert known.read_text().splitlines()[1:] == sshd.line.splitlines()


# --- key exchange ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offered", "warned"),
    [("curve25519-sha256@libssh.org", False), ("diffie-hellman-group14-sha256", True)],
)
def test_a_node_that_exchanges_keys_slowly_is_named(
    keys: Path, tmp_path: Path, offered: str, warned: bool
) -> None:
    settings = (f"KexAlgorithms {offered}",)
    with running(
        tmp_path / "s", *settings, host_keys=[keys / "host"], user_key=keys / "user"
    ) as sshd:
        known = tmp_path / "known"
        known.write_text(sshd.line)
        task = visits.Verify(inquiry=visits.Inquiry(topics=("system",)))
        visit = visits.Visitor(task=task, connect=transport.connect, limits=LIMITS)
        outcome = visit(sshd.node(known))
    assert outcome.error is None
    told = [f.actual for f in outcome.findings if f.name == "ssh key exchange"]
    assert told == ([offered] if warned else [])


# --- jump hosts -----------------------------------------------------------------------------


@pytest.fixture
def bastion(keys: Path, tmp_path: Path) -> Iterator[Sshd]:
    with running(tmp_path / "b", host_keys=[keys / "ecdsa"], user_key=keys / "user") as sshd:
        yield sshd


def hop(bastion: Sshd) -> str:
    return f"{getpass.getuser()}@127.0.0.1:{bastion.port}"


def test_a_node_behind_a_jump_host_answers(sshd: Sshd, bastion: Sshd, known: Path) -> None:
    known.write_text(sshd.line + bastion.line)
    assert answer(sshd.node(known, jump=(hop(bastion),))) == "answer\n"
    assert bastion.counted("Accepted publickey") == 1
    assert sshd.counted("Accepted publickey") == 1


def test_a_node_behind_two_jump_hosts_answers(sshd: Sshd, bastion: Sshd, known: Path) -> None:
    known.write_text(sshd.line + bastion.line)
    user = getpass.getuser()
    way = (hop(bastion), f"{user}@127.0.0.1:{sshd.port}")
    node = dataclasses.replace(bastion.node(known, jump=way), name="behind")
    assert answer(node) == "answer\n"
    assert bastion.counted("Accepted publickey") == 2


def test_nodes_that_are_visited_at_once_share_the_connection_to_their_jump_host(
    sshd: Sshd, bastion: Sshd, known: Path
) -> None:
    known.write_text(sshd.line + bastion.line)
    node, all_in = sshd.node(known, jump=(hop(bastion),)), threading.Barrier(4)

    def visit(_: int) -> bytes:
        with transport.connect(node, LIMITS, {}) as session:
            all_in.wait(20)
            return session.run(QUESTION, LIMITS.probe)

    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(visit, range(4)))
    assert [frames.parse(each, NONCE)["a"].text for each in answers] == ["answer\n"] * 4
    assert sshd.counted("Accepted publickey") == 4
    assert bastion.counted("Accepted publickey") == 1
    until(lambda: not bastion.sessions)


def test_a_jump_host_that_was_cut_off_is_connected_to_anew(
    sshd: Sshd, bastion: Sshd, known: Path
) -> None:
    known.write_text(sshd.line + bastion.line)
    node = sshd.node(known, jump=(hop(bastion),))
    with transport.connect(node, LIMITS, {}) as session:
        bastion.cut_off()
        with pytest.raises(Unreachable, match="the session was lost"):
            session.run(Script("sleep 20"), LIMITS.probe)
        assert answer(node) == "answer\n"
    assert bastion.counted("Accepted publickey") == 2


@pytest.mark.parametrize("host_keys", ["strict", "accept-new"])
def test_a_jump_host_with_a_changed_key_is_refused_before_any_login(
    sshd: Sshd, bastion: Sshd, known: Path, host_keys: str
) -> None:
    known.write_text(sshd.line + f"[127.0.0.1]:{bastion.port} {public(sshd.host_key)}\n")
    error = refused(sshd.node(known, jump=(hop(bastion),), host_keys=host_keys))
    assert f"[127.0.0.1]:{bastion.port} HAS CHANGED" in error.message
    assert bastion.logins == []
    assert sshd.counted("Connection from") == 0


def test_an_unknown_jump_host_is_refused_and_an_accepted_one_is_recorded(
    sshd: Sshd, bastion: Sshd, known: Path
) -> None:
    node = sshd.node(known, jump=(hop(bastion),))
    assert "not on record" in refused(node).message
    assert bastion.logins == []
    assert answer(sshd.node(known, jump=node.ssh.jump, host_keys="accept-new")) == "answer\n"
    assert known.read_text() == sshd.line + bastion.line


def test_the_ssh_config_that_is_named_counts_with_what_it_includes(
    sshd: Sshd, bastion: Sshd, tmp_path: Path
) -> None:
    known, config = tmp_path / "known", tmp_path / "config"
    known.write_text(sshd.line + bastion.line)
    user = getpass.getuser()
    config.write_text(f"Host other\n User nobody\nInclude {tmp_path}/more.*\n")
    (tmp_path / "more.conf").write_text(
        f"Host inside\n HostName 127.0.0.1\n User {user}\n Port {sshd.port}\n ProxyJump outside\n"
        f"Host outside\n HostName 127.0.0.1\n User {user}\n Port {bastion.port}\n"
    )
    ssh = Ssh(identity_file=str(sshd.user_key), known_hosts=(str(known),), config=str(config))
    assert answer(Node(name="n", address="inside", ssh=ssh)) == "answer\n"
    assert bastion.counted("Accepted publickey") == 1


def test_a_jump_host_for_all_hosts_is_not_jumped_to_through_itself(
    sshd: Sshd, bastion: Sshd, tmp_path: Path
) -> None:
    known, config = tmp_path / "known", tmp_path / "config"
    known.write_text(sshd.line + bastion.line)
    user = getpass.getuser()
    config.write_text(
        f"Host outside\n HostName 127.0.0.1\n Port {bastion.port}\n"
        f"Host *\n User {user}\n ProxyJump outside\n"
    )
    ssh = sshd.node(known, config=str(config)).ssh
    assert answer(Node(name="n", address="127.0.0.1", ssh=ssh)) == "answer\n"


# --- what is left behind --------------------------------------------------------------------


def test_no_thread_and_no_descriptor_outlives_its_way(
    sshd: Sshd, known: Path, tmp_path: Path
) -> None:
    unknown = tmp_path / "unknown"
    nodes = [sshd.node(known), sshd.node(known, port=1), sshd.node(unknown)]
    ask(nodes[0])

    def visit(node: Node) -> None:
        with contextlib.suppress(Unreachable):
            ask(node)

    def held() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))  # noqa: PTH208 a count

    until(lambda: threading.active_count() == len(threading.enumerate()))
    before = held()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(visit, nodes * 40))
    until(lambda: held() == before)


# --- logging in -----------------------------------------------------------------------------


def test_a_named_key_is_the_only_one_that_is_tried(
    sshd: Sshd, keys: Path, known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    shutil.copy(keys / "user", home / "id_ed25519")
    monkeypatch.setenv("HOME", str(home.parent))
    with pytest.raises(LoginRefused, match="accepts none of our keys"):
        ask(sshd.node(known, identity_file=str(keys / "other_user")))
    assert sshd.counted("Failed publickey") == 1
    assert sshd.counted("Accepted") == 0


def test_without_a_named_key_the_usual_ones_are_tried(
    sshd: Sshd, keys: Path, known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    shutil.copy(keys / "user", home / "id_ed25519")
    monkeypatch.setenv("HOME", str(home.parent))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    assert answer(sshd.node(known, identity_file=None)) == "answer\n"


def test_no_key_at_all_is_a_refused_login(
    sshd: Sshd, known: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(LoginRefused):
        ask(sshd.node(known, identity_file=None))


@pytest.mark.parametrize("content", [None, "no key"])
def test_a_key_file_that_is_none_is_told(
    sshd: Sshd, known: Path, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "id"
    if content:
        path.write_text(content)
    with pytest.raises(LoginRefused, match=str(path)):
        ask(sshd.node(known, identity_file=str(path)))
    assert sshd.counted("Connection from") == 0


def test_a_key_with_a_passphrase_is_told(sshd: Sshd, known: Path, tmp_path: Path) -> None:
    path = key(tmp_path, "locked")
    subprocess.run(("ssh-keygen", "-q", "-p", "-N", "secret words", "-f", path), check=True)
    with pytest.raises(LoginRefused, match="has a passphrase") as caught:
        ask(sshd.node(known, identity_file=str(path)))
    assert "ssh-add" in caught.value.hint


def test_nothing_is_forwarded_and_only_keys_are_tried(sshd: Sshd, known: Path) -> None:
    shown = ask(sshd.node(known), whole('echo; echo @; echo "[$SSH_AUTH_SOCK$DISPLAY]"\n'))
    assert b"[]" in shown
    assert "password" not in sshd.log.replace("for root", "")


def test_a_port_where_nobody_listens_is_unreachable(sshd: Sshd, known: Path) -> None:
    with wire(target=sshd.port) as (_, port):
        pass
    with pytest.raises(Unreachable) as caught:
        ask(sshd.node(known, port=port))
    assert f"ssh -p {port}" in caught.value.hint


# --- one connection, one session ------------------------------------------------------------


def test_a_probe_is_one_connection_and_one_session(sshd: Sshd, known: Path) -> None:
    topics = (system, sysctl, packages, kernel_modules)
    node = sshd.node(known)
    facts = probe.parse(ask(node, probe.script(node, topics, NONCE)), node, topics, NONCE)
    assert facts[system.SYSTEM].uid == os.geteuid()
    assert sshd.counted("Connection from") == 1
    assert sshd.counted("Starting session") == 1


def test_an_apply_is_one_more_session_of_the_same_connection(
    sshd: Sshd, known: Path, dash: Machine
) -> None:
    node, topic = sshd.node(known), SampleTopic(steps=["echo one"])
    changes = (step(0, "echo one"),)
    who = apply.Run(id="r1", operator="ann@desk")
    script = dash.at_home(apply.script(node, changes, (topic,), who, NONCE))
    with transport.connect(node, LIMITS, {}) as session:
        session.run(dash.at_home(probe.script(node, (topic,), NONCE)), LIMITS.probe)
        output = session.run(script, LIMITS.apply)
    assert apply.parse(output, changes, NONCE)[0][0].exit_status == 0
    assert sshd.counted("Connection from") == 1
    assert sshd.counted("Starting session") == 2


def test_a_large_script_arrives_whole(sshd: Sshd, known: Path, tmp_path: Path) -> None:
    text = 'it\'s\n $x `y` \\ "z" ' * (1 << 17)
    copy = tmp_path / "copy"
    script = whole(Script("printf %s ") + quote(text) + f" >{copy}\n") + QUESTION
    assert b"answer" in ask(sshd.node(known), script)
    assert copy.read_text() == text


# --- limits ---------------------------------------------------------------------------------


def in_time(seconds: float, call: Callable[[], object]) -> NodeprepError:
    began = time.monotonic()
    with pytest.raises(NodeprepError) as caught:
        call()
    assert time.monotonic() - began < seconds + 2
    return caught.value


def test_a_frozen_machine_passes_the_deadline_at_connect(sshd: Sshd, known: Path) -> None:
    with sshd.frozen():
        error = in_time(HASTY.connect + HASTY.login, lambda: ask(sshd.node(known), limits=HASTY))
    assert isinstance(error, DeadlinePassed)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_wire_that_goes_dead_passes_the_deadline(
    sshd: Sshd, known: Path, tmp_path: Path, share: float
) -> None:
    total = carried(sshd, known, "down")
    with wire(target=sshd.port, limit=int(total * share), dead=True) as (_, port):
        node = wired(sshd, tmp_path, port)
        worst = HASTY.connect + 2 * HASTY.login + HASTY.probe
        error = in_time(worst, lambda: ask(node, limits=HASTY))
    assert isinstance(error, DeadlinePassed)


def test_a_machine_that_freezes_passes_the_deadline_when_a_session_is_opened(
    sshd: Sshd, known: Path
) -> None:
    with transport.connect(sshd.node(known), HASTY, {}) as session, sshd.frozen():
        error = in_time(HASTY.login, lambda: session.run(QUESTION, HASTY.probe))
    assert isinstance(error, DeadlinePassed)


def test_a_machine_that_freezes_passes_the_deadline_when_a_shell_is_started(
    sshd: Sshd, known: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        contextlib.ExitStack() as frozen,
        transport.connect(sshd.node(known), HASTY, {}) as session,
    ):

        def freeze(*_: object) -> str:
            frozen.enter_context(sshd.frozen())
            return "sh -s"

        monkeypatch.setattr(session_, "command_line", freeze)
        error = in_time(HASTY.probe, lambda: session.run(QUESTION, HASTY.probe))
    assert isinstance(error, DeadlinePassed)


def test_a_machine_that_freezes_passes_the_deadline_when_it_is_read(
    sshd: Sshd, known: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    script = whole(f": >{marker}\nsleep 2\necho late\n")
    errors: list[NodeprepError] = []

    def run() -> None:
        with transport.connect(sshd.node(known), HASTY, {}) as session:
            errors.append(in_time(1, lambda: session.run(script, 1)))

    thread = threading.Thread(target=run)
    thread.start()
    until(marker.exists)
    with sshd.frozen():
        thread.join()
    assert [type(error) for error in errors] == [DeadlinePassed]


def test_a_command_that_hangs_is_killed_on_the_node(
    sshd: Sshd, known: Path, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    hangs = f"sleep 61 & echo $! >{pids}; echo $$ >>{pids}; wait; sleep 62\n"
    with transport.connect(sshd.node(known), LIMITS, {}) as session:
        error = in_time(1, lambda: session.run(whole(hangs), 1))
    assert isinstance(error, DeadlinePassed)
    processes = [Path(f"/proc/{pid}") for pid in pids.read_text().split()]
    assert len(processes) == 2
    until(lambda: not any(process.exists() for process in processes), 6)


@pytest.mark.parametrize("where", ["", " >&2"], ids=["stdout", "stderr"])
def test_an_endless_answer_is_cut_off_at_the_cap(sshd: Sshd, known: Path, where: str) -> None:
    with pytest.raises(FactError, match=str(frames.CAP)):
        ask(sshd.node(known), whole(f"yes{where}\n"))


def test_an_answer_of_just_the_cap_is_read(sshd: Sshd, known: Path) -> None:
    output = ask(sshd.node(known), whole(f"echo; echo @; head -c {frames.CAP - 3} /dev/zero\n"))
    assert len(output) == frames.CAP


# --- noise ----------------------------------------------------------------------------------

NOISE = r"""
printf 'Welcome!\n\033]0;title\007\033[2J\xff\xfe\xc3(\n@0123 begin a\n\n@ total 1\n'
echo 'on stderr' >&2
printf 'no newline at its end'
"""
POISON = {
    "noise": "",
    "environment": """
        export PATH=/nonexistent HOME=/nonexistent ENV="$FOLDER/evil.sh" BASH_ENV="$FOLDER/evil.sh"
        export LC_ALL=tr_TR.UTF-8 LANG=de_DE.UTF-8 LANGUAGE=de TZ=Asia/Tokyo IFS=abc/
        export POSIXLY_CORRECT=1 GREP_OPTIONS=-v CDPATH=/tmp COLUMNS=1""",
    "programs": 'export PATH="$FOLDER/evil:$PATH"',
    "functions": """
        cat() { echo evil; }; env() { echo evil; }; uname() { echo evil; }; printf() { :; }
        export -f cat env uname printf""",
    "limits": "umask 777; cd /; ulimit -c 0 -n 64",
}
"""What a start-up file may set, on top of the noise that it makes."""


def wrapped(folder: Path, noise: str) -> str:
    """Return a line for sshd that puts a start-up file before every command."""
    evil = folder / "evil"
    evil.mkdir()
    for name in ("cat", "sh", "env", "timeout", "uname", "id", "stat"):
        (evil / name).write_text("#!/bin/sh\necho evil\n")
        (evil / name).chmod(0o755)
    (folder / "evil.sh").write_text("echo evil\nexit 3\n")
    wrapper = folder / "wrapper"
    wrapper.write_text(
        f'#!/bin/bash\nFOLDER={folder}\n{noise}\nexec /bin/bash -c "$SSH_ORIGINAL_COMMAND"\n'
    )
    wrapper.chmod(0o755)
    return f"ForceCommand {wrapper}"


@pytest.fixture(scope="module")
def plain(shared: Sshd, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give the facts of this machine without any noise."""
    known = tmp_path_factory.mktemp("plain") / "known_hosts"
    known.write_text(shared.line)
    return learned(shared.node(known))


def learned(node: Node) -> Any:
    topics = (system, sysctl, packages, kernel_modules)
    return probe.parse(ask(node, probe.script(node, topics, NONCE)), node, topics, NONCE)


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize("name", POISON)
def test_a_hostile_start_up_file_changes_no_fact(
    keys: Path, tmp_path: Path, plain: Any, name: str
) -> None:
    line = wrapped(tmp_path, NOISE + POISON[name])
    with running(
        tmp_path / "sshd", line, host_keys=[keys / "host"], user_key=keys / "user"
    ) as sshd:
        known = tmp_path / "known_hosts"
        known.write_text(sshd.line)
        assert learned(sshd.node(known)) == plain


def test_a_long_and_hostile_banner_changes_nothing(keys: Path, tmp_path: Path) -> None:
    banner = tmp_path / "banner"
    banner.write_bytes(b"\x1b]0;x\x07\xff\n@0123456789abcdef total 9\n" * 900)
    with running(
        tmp_path / "sshd", f"Banner {banner}", host_keys=[keys / "host"], user_key=keys / "user"
    ) as sshd:
        known = tmp_path / "known_hosts"
        known.write_text(sshd.line)
        assert answer(sshd.node(known)) == "answer\n"


def test_a_login_without_a_shell_says_what_the_node_said(keys: Path, tmp_path: Path) -> None:
    said = "ForceCommand echo 'This account is not available.'; exit 1"
    with running(tmp_path / "s", said, host_keys=[keys / "host"], user_key=keys / "user") as sshd:
        known = tmp_path / "known_hosts"
        known.write_text(sshd.line)
        node = sshd.node(known)
        with pytest.raises(Unreachable, match="This account is not available"):
            ask(node)
        large = QUESTION + quote("x" * (5 << 20))
        with pytest.raises(Unreachable, match="This account is not available"):
            ask(node, large)
        with pytest.raises(LoginRefused, match="This account is not available"):
            ask(dataclasses.replace(node, sudo=Sudo(method="passwordless")), large)


# --- sudo -----------------------------------------------------------------------------------

SUDOERS = {
    "asks": "ALL=(ALL) ALL",
    "free": "ALL=(ALL) NOPASSWD: ALL",
    "never": "ALL=(nobody) /bin/true",
}
PASSWORD = "canary: it's $(id) \\ ü"


@pytest.fixture(scope="module", params=[None], ids=["sudo"])
def sudoers(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """Run an sshd with an /etc of its own, in which there are users who may use sudo."""
    if os.geteuid() != 0 or shutil.which("sudo") is None or shutil.which("unshare") is None:
        pytest.skip("needs root, sudo and unshare")
    folder = tmp_path_factory.mktemp("sudo")
    folder.parent.chmod(0o755)
    script = folder / "in_a_room_of_its_own"
    script.write_text(_room(folder))
    if subprocess.run(("unshare", "-m", "true"), check=False, capture_output=True).returncode:
        pytest.skip("no mount namespace may be made here")
    wrapper = ("unshare", "-m", "--propagation", "private", "sh", str(script))
    with running(
        folder / "sshd",
        "AuthorizedKeysFile /etc/ssh/keys_of_everybody",
        host_keys=[keys / "host"],
        user_key=keys / "user",
        wrapper=wrapper,
    ) as sshd:
        yield sshd


def _room(folder: Path) -> str:
    lines = [
        "set -e",
        f"cp -a /etc {folder}/etc",
        f"mkdir {folder}/run {folder}/run/sshd {folder}/log",
        f"mount --bind {folder}/etc /etc",
        f"mount --bind {folder}/run /run",
        f"mount --bind {folder}/log /var/log",
        "printf '%s\\n' 'auth required pam_unix.so nodelay' >/etc/pam.d/sudo",
        "printf '%s\\n' 'account required pam_unix.so' >>/etc/pam.d/sudo",
        "printf 'root ALL=(ALL) ALL\\n' >/etc/sudoers",
        "rm -rf /etc/sudoers.d",
        f"cp {folder}/sshd/authorized_keys /etc/ssh/keys_of_everybody",
    ]
    for name, rule in SUDOERS.items():
        lines += [
            f"useradd -M -d / -s /bin/sh {name}",
            f"printf '%s:%s\\n' {name} {quote(PASSWORD)} | chpasswd",
            f"printf '{name} {rule}\\n' >>/etc/sudoers",
        ]
    return "\n".join([*lines, 'exec "$@"', ""])


def as_user(sshd: Sshd, folder: Path, user: str, sudo: Sudo) -> Node:
    known = folder / "known_hosts"
    known.write_text(sshd.line)
    return dataclasses.replace(sshd.node(known, user=user), sudo=sudo)


def uid_of(node: Node, password: Secret | None = None) -> str:
    script = whole(frames.open_frames(NONCE) + str(frames.framed("a", "id -u")) + "total\n")
    passwords = {"ask": password} if password else {}
    with transport.connect(node, LIMITS, passwords) as session:
        return frames.parse(session.run(script, LIMITS.probe), NONCE)["a"].text.strip()


WITH_PASSWORD = Sudo(method="password", password="ask")


def test_sudo_with_a_password_gives_a_root_shell(sudoers: Sshd, tmp_path: Path) -> None:
    assert uid_of(as_user(sudoers, tmp_path, "asks", WITH_PASSWORD), Secret(PASSWORD)) == "0"


def test_sudo_that_asks_for_nothing_gives_a_root_shell(sudoers: Sshd, tmp_path: Path) -> None:
    assert uid_of(as_user(sudoers, tmp_path, "free", Sudo(method="passwordless"))) == "0"
    assert uid_of(as_user(sudoers, tmp_path, "free", WITH_PASSWORD), Secret(PASSWORD)) == "0"


def test_a_wrong_sudo_password_is_tried_once_and_never_told(sudoers: Sshd, tmp_path: Path) -> None:
    node = as_user(sudoers, tmp_path, "asks", WITH_PASSWORD)
    began = time.monotonic()
    with pytest.raises(LoginRefused, match="sudo refused") as caught:
        uid_of(node, Secret("wrong canary"))
    assert "canary" not in str(caught.value)
    assert time.monotonic() - began < LIMITS.probe


def test_no_sudo_password_is_told_without_a_try(sudoers: Sshd, tmp_path: Path) -> None:
    with pytest.raises(LoginRefused, match="none was given"):
        uid_of(as_user(sudoers, tmp_path, "asks", WITH_PASSWORD))


@pytest.mark.parametrize("user", ["asks", "never"])
def test_sudo_that_says_no_is_told_in_its_words(sudoers: Sshd, tmp_path: Path, user: str) -> None:
    node = as_user(sudoers, tmp_path, user, Sudo(method="passwordless"))
    with pytest.raises(LoginRefused, match="sudo: a password is required") as caught:
        uid_of(node)
    assert "sudo -l" in caught.value.hint


# --- wires that are cut ---------------------------------------------------------------------


def wired(sshd: Sshd, folder: Path, port: int) -> Node:
    known = folder / f"known_{port}"
    known.write_text(f"[127.0.0.1]:{port} {public(sshd.host_key)}\n")
    return sshd.node(known, port=port)


def steps(canary: Path) -> Script:
    """Return a script of ten steps that answers at its end."""
    lines = "".join(f"echo {n} >>{canary}\n" for n in range(10))
    return whole(
        frames.open_frames(NONCE) + str(frames.framed("a", lines + "echo end")) + "total\n"
    )


def carried(sshd: Sshd, known: Path, way: Way) -> int:
    """Return how many bytes an undisturbed run takes."""
    with wire(target=sshd.port) as (line, port):
        ask(wired(sshd, known.parent, port), steps(known.parent / "undisturbed"))
    return line.carried[way]


def cut(sshd: Sshd, folder: Path, way: Way, limit: int) -> None:
    """Cut the wire after so many bytes, and see that all or nothing was run."""
    canary = folder / f"canary_{way}_{limit}"
    with wire(target=sshd.port, way=way, limit=limit) as (_, port):
        node = wired(sshd, folder, port)
        try:
            output = ask(node, steps(canary))
        except Unreachable:
            output = b""
    assert not output or frames.parse(output, NONCE)["a"].text == "end\n"
    if canary.exists():
        until(lambda: canary.read_text().split() == [str(n) for n in range(10)])


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_wire_cut_at_any_byte_is_a_typed_error_and_half_a_script_runs_nothing(
    sshd: Sshd, known: Path, tmp_path: Path, way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeprep.transport.connection.random.uniform", lambda *_: 0.0)
    total = carried(sshd, known, way)
    chosen = random.Random(5).sample(range(total), 20)
    for limit in (0, 1, total // 2, total - 1, *chosen):
        cut(sshd, tmp_path, way, limit)


def test_a_connection_that_sshd_drops_among_many_is_tried_again(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeprep.transport.connection.random.uniform", lambda *_: 0.01)
    with wire(target=sshd.port, drop=2) as (line, port):
        assert answer(wired(sshd, tmp_path, port)) == "answer\n"
    assert line.accepted == 3
    with wire(target=sshd.port, drop=9) as (line, port), pytest.raises(Unreachable):
        ask(wired(sshd, tmp_path, port))
    assert line.accepted == 3


@pytest.mark.parametrize("said", [":", "echo; echo @ half an answer"], ids=["nothing", "half"])
def test_a_cut_in_the_middle_of_an_answer_is_a_lost_session_even_with_sudo(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    monkeypatch.setattr(session_, "command_line", lambda *_: "timeout 9 sh -s")
    marker = tmp_path / "marker"

    def cut_when_it_runs(line: Wire) -> None:
        until(marker.exists)
        line.limit = 0

    with wire(target=sshd.port) as (line, port):
        node = dataclasses.replace(wired(sshd, tmp_path, port), sudo=Sudo(method="passwordless"))
        with transport.connect(node, LIMITS, {}) as session:
            thread = threading.Thread(target=cut_when_it_runs, args=(line,))
            thread.start()
            with pytest.raises(Unreachable, match="session was lost") as caught:
                session.run(whole(f"{said}\n: >{marker}\nsleep 8\n"), 5)
            thread.join()
    assert type(caught.value) is Unreachable


# --- this machine ---------------------------------------------------------------------------

LOCAL = Node(name="here", address="local")


def test_this_machine_is_reached_without_ssh() -> None:
    assert answer(LOCAL) == "answer\n"


def test_a_command_that_hangs_here_is_killed() -> None:
    began = time.monotonic()
    with contextlib.suppress(NodeprepError):
        ask(LOCAL, whole("sleep 63\n"), HASTY)
    assert time.monotonic() - began < 8
    assert "sleep 63" not in processes()


def processes() -> str:
    found = (path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
    return b"\n".join(found).replace(b"\0", b" ").decode(errors="replace")


def test_an_endless_answer_of_this_machine_is_cut_off_at_the_cap() -> None:
    with pytest.raises(FactError):
        ask(LOCAL, whole("yes | head -c 30000000\n"), LIMITS)


def test_the_words_that_start_a_shell_hold_no_password() -> None:
    methods: Sequence[str] = ("none", "passwordless", "password")
    lines = [session_.command_line(method, "prompt", 9.5) for method in methods]
    assert all("timeout -k 5 9 sh -s" in line for line in lines)
    assert [line.startswith("sudo") for line in lines] == [False, True, True]
    assert "timeout -k 5 1 sh -s" in session_.command_line("none", "p", 0.2)


@NEEDS_ROOT
def test_a_session_here_runs_as_root() -> None:
    assert uid_of(LOCAL) == "0"
