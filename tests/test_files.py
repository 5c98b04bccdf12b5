"""Files on a node: seen as they are, judged, and replaced whole or not at all."""

import hashlib
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep import files, frames
from nodeprep.errors import FactError
from nodeprep.files import ManagedFile
from nodeprep.frames import Frame
from nodeprep.model import Change, FileState, Status
from nodeprep.shell import Script, Secret, join, whole
from tests.shells import NEEDS_ROOT, PATH, Machine, programs

NONCE = "0123456789abcdef"
PROBED = ("files.parents", "files.stat", "files.digest", "files.marked", "files.content")
MARKED = f"# {files.MARK}\nnew\n"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def asked(paths: tuple[str, ...], secrets: tuple[str, ...] = ()) -> Script:
    body = Script(frames.open_frames(NONCE)) + files.probe(paths, secrets) + "total\n"
    return whole(body)


def seen(machine: Machine, *paths: Path, secrets: tuple[str, ...] = ()) -> dict[str, FileState]:
    output = machine.run(asked(tuple(map(str, paths)), secrets))
    return dict(files.parse(frames.parse(output, NONCE), secrets))


def put(file: ManagedFile) -> Script:
    change = files.change("topic", file, FileState(path=file.path), adopt=False)
    assert change
    head = Script("run=r1\nstate=", files.STATE, "\n", f"mkdir -p {files.STATE}\n", files.PUT)
    return whole(head + change.action + '\necho "status $?"\n')


def hashes(folder: Path) -> dict[str, str]:
    """Return all that is in a folder: names, and contents or targets."""
    return {
        str(path): str(path.readlink()) if path.is_symlink() else sha256(path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


# --- looking --------------------------------------------------------------------------------


def test_a_regular_file_is_seen_as_it_is(machine: Machine) -> None:
    path = machine.folder / "a.conf"
    path.write_bytes(bytes(range(256)))
    path.chmod(0o4751)
    about = path.stat()
    assert seen(machine, path)[str(path)] == FileState(
        path=str(path),
        kind="regular",
        mode=0o4751,
        owner=f"{about.st_uid}:{about.st_gid}",
        links=1,
        size=256,
        mtime=int(about.st_mtime),
        digest=sha256(path.read_bytes()),
        content=path.read_bytes(),
        real_parent=str(machine.folder),
    )


def odd_targets(folder: Path) -> dict[str, Path]:
    """Put everything that is no plain file into a folder, each beside the victim it leads to."""
    victim = folder / "victim"
    victim.write_text("victim")
    real = folder / "real"
    real.mkdir()
    (real / "inside").write_text("victim")
    places = {
        name: folder / name
        for name in ("symlink", "dangling", "directory", "fifo", "hardlink", "large")
    }
    places["symlink"].symlink_to(victim)
    places["dangling"].symlink_to(folder / "nowhere")
    places["directory"].mkdir()
    os.mkfifo(places["fifo"])
    places["hardlink"].hardlink_to(victim)
    places["large"].write_bytes(b"x" * (files.LIMIT + 1))
    (folder / "linked").symlink_to(real)
    return {**places, "parent": folder / "linked" / "inside"}


def test_what_is_no_plain_file_is_seen_and_refused(machine: Machine) -> None:
    targets = odd_targets(machine.folder)
    states = seen(machine, *targets.values())
    why = {
        name: files.refusal(ManagedFile(path=str(path), content="x"), states[str(path)], adopt=True)
        for name, path in targets.items()
    }
    assert {name: reason for name, (reason, _) in why.items()} == {
        "symlink": "a symbolic link stands there",
        "dangling": "a symbolic link stands there",
        "directory": "a directory stands there",
        "fifo": "a device, socket or pipe stands there",
        "hardlink": "it has 2 hard links",
        "large": f"a file of {files.LIMIT + 1} bytes stands there",
        "parent": f"its folder is a link to {machine.folder / 'real'}",
    }
    assert all(hint for _, hint in why.values())


def test_what_is_refused_is_never_changed(dash: Machine) -> None:
    for path in odd_targets(dash.folder).values():
        file = ManagedFile(path=str(path), content="x")
        state = seen(dash, path)[str(path)]
        assert files.change("topic", file, state, adopt=True) is None
        assert files.finding("topic", file, state, adopt=True).status is Status.FAIL


def test_a_path_without_a_file_is_absent_and_one_without_a_folder_too(machine: Machine) -> None:
    here, nowhere = machine.folder / "absent", machine.folder / "no" / "such"
    states = seen(machine, here, nowhere)
    assert states[str(here)] == FileState(path=str(here), real_parent=str(machine.folder))
    assert states.get(str(nowhere), FileState(path=str(nowhere))).kind == "absent"


def test_many_files_of_any_bytes_are_told_apart(machine: Machine) -> None:
    bodies = (b"", b"\n", b"no newline", b"\0\xff\n\n", b"@ end x 0\n", b"")
    paths = [machine.folder / f"f{n}" for n in range(len(bodies))]
    for path, body in zip(paths, bodies, strict=True):
        path.write_bytes(body)
    states = seen(machine, *paths, machine.folder / "absent")
    assert [states[str(path)].content for path in paths] == list(bodies)


def test_no_path_at_all_is_no_answer(machine: Machine) -> None:
    assert seen(machine) == {}


def test_the_content_of_a_secret_stays_on_the_node(machine: Machine) -> None:
    secret, plain = machine.folder / "secret", machine.folder / "plain"
    secret.write_text("canary")
    plain.write_text("plain")
    paths = (str(secret), str(plain))
    output = machine.run(asked(paths, (str(secret),)))
    states = files.parse(frames.parse(output, NONCE), (str(secret),))
    assert b"canary" not in output
    assert states[str(secret)].content is None
    assert states[str(secret)].digest == sha256(b"canary")
    assert states[str(plain)].content == b"plain"


def test_of_a_large_file_that_is_not_shown_the_digest_is_enough(machine: Machine) -> None:
    content = MARKED + "x" * files.LIMIT
    path = machine.folder / "large"
    path.write_text(content)
    large = ManagedFile(path=str(path), content=content, shown=False)
    state = seen(machine, path, secrets=(str(path),))[str(path)]
    assert (state.digest, state.content, state.ours) == (large.digest, None, True)
    assert files.refusal(large, state, adopt=False) == ("", "")
    assert files.refusal(ManagedFile(path=str(path), content=content), state, adopt=False)[0]


def test_above_a_second_limit_nothing_is_read(dash: Machine) -> None:
    path = dash.folder / "huge"
    with path.open("wb") as file:
        file.truncate(files.LARGE + 1)
    state = seen(dash, path, secrets=(str(path),))[str(path)]
    huge = ManagedFile(path=str(path), content="", shown=False)
    assert state.digest == ""
    why, _ = files.refusal(huge, state, adopt=True)
    assert why == f"a file of {files.LARGE + 1} bytes stands there"


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        (f"# {files.MARK}\n", True),
        (f"#!/bin/sh\n# {files.MARK}", True),
        (f"one\ntwo\n# {files.MARK}\n", False),
        ("", False),
        ("managed by hand\n", False),
    ],
)
def test_a_file_is_ours_by_a_mark_in_its_first_two_lines(
    machine: Machine, text: str, ours: bool
) -> None:
    path = machine.folder / "a.conf"
    path.write_text(text)
    assert seen(machine, path)[str(path)].ours is ours


def test_a_node_with_only_busybox_is_read_alike(tmp_path: Path) -> None:
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed")
    applets = tmp_path / "bin"
    applets.mkdir()
    subprocess.run((busybox, "--install", "-s", str(applets)), check=True)
    targets = tmp_path / "targets"
    targets.mkdir()
    paths = odd_targets(targets).values()
    small = Machine(folder=tmp_path, shell="busybox", path=str(applets))  # noqa: S604 a name
    assert seen(small, *paths) == seen(Machine(folder=tmp_path), *paths)


@given(st.lists(st.binary(max_size=80), min_size=5, max_size=5))
def test_any_answer_about_files_is_a_value_or_a_fact_error(bodies: list[bytes]) -> None:
    answers = {
        name: Frame(body=body, exit_status=0) for name, body in zip(PROBED, bodies, strict=True)
    }
    try:
        states = files.parse(answers, ())
    except FactError:
        return
    assert all(path == state.path for path, state in states.items())


@pytest.mark.parametrize("name", PROBED)
def test_a_missing_answer_about_files_is_a_fact_error(name: str) -> None:
    answers = {other: Frame(body=b"", exit_status=0) for other in PROBED if other != name}
    with pytest.raises(FactError):
        files.parse(answers, ())


def test_content_that_is_not_what_its_digest_says_is_a_fact_error(dash: Machine) -> None:
    path = dash.folder / "a.conf"
    path.write_text("one")
    answers = dict(frames.parse(dash.run(asked((str(path),))), NONCE))
    answers["files.content"] = Frame(body=b"two", exit_status=0)
    with pytest.raises(FactError, match="changed while it was read"):
        files.parse(answers, ())


# --- judging --------------------------------------------------------------------------------

FILE = ManagedFile(path="/etc/a.conf", content=MARKED)
RIGHT = FileState(
    path=FILE.path, kind="regular", mode=0o644, digest=FILE.digest, real_parent="/etc", ours=True
)


def judged(**changed: object) -> tuple[Status, str]:
    state = FileState(**{**vars(RIGHT), **changed})
    verdict = files.finding("topic", FILE, state, adopt=False)
    return verdict.status, verdict.actual


def test_each_way_to_differ_has_its_words() -> None:
    fail = Status.FAIL
    assert judged() == (Status.OK, "as it should be")
    assert judged(kind="absent", digest="") == (fail, "not there")
    assert judged(digest="0" * 64) == (fail, "other content")
    assert judged(mode=0o600) == (fail, "mode 0600, owner 0:0")
    assert judged(owner="1:0") == (fail, "mode 0644, owner 1:0")
    assert judged(digest="0" * 64, ours=False) == (fail, "another hand wrote it")
    assert judged(writable=False, digest="0") == (fail, "it cannot be written")


def test_what_is_right_is_not_changed() -> None:
    assert files.change("topic", FILE, RIGHT, adopt=False) is None


def test_the_file_of_another_hand_is_taken_over_only_with_adopt() -> None:
    other = FileState(**{**vars(RIGHT), "digest": "0" * 64, "ours": False, "content": b"theirs\n"})
    assert files.change("topic", FILE, other, adopt=False) is None
    taken = files.change("topic", FILE, other, adopt=True)
    assert taken
    assert taken.guard
    assert taken.guard.seen == "0" * 64
    assert "-theirs" in taken.diff
    assert "+new" in taken.diff


def test_a_file_that_is_not_shown_has_no_diff() -> None:
    file = ManagedFile(path="/etc/a.conf", content=MARKED, shown=False)
    for state in (FileState(path=file.path), FileState(**{**vars(RIGHT), "digest": "0"})):
        change = files.change("topic", file, state, adopt=False)
        assert change
        assert change.diff == ""


def test_a_secret_is_in_no_diff_and_no_summary() -> None:
    file = ManagedFile(path="/etc/key", content=Secret("canary"), mode=0o600)
    change = files.change("topic", file, FileState(path="/etc/key"), adopt=False)
    assert change
    assert "canary" not in f"{change} {change.diff} {change.summary} {file}"
    assert "canary" in change.action.reveal()


# --- changing -------------------------------------------------------------------------------


@NEEDS_ROOT
@pytest.mark.parametrize("mode", [0o644, 0o600, 0o755])
def test_a_file_is_put_with_its_mode_and_owner(machine: Machine, mode: int) -> None:
    path = machine.folder / "new" / "folder" / "a.conf"
    file = ManagedFile(path=str(path), content="it's\n $(new) \\n\n\n", mode=mode)
    assert machine.run(put(file)) == b"status 0\n"
    about = path.stat()
    assert path.read_text() == file.text
    assert (stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid) == (mode, 0, 0)
    assert list(path.parent.iterdir()) == [path]


@NEEDS_ROOT
def test_what_was_put_is_seen_as_right(machine: Machine) -> None:
    file = ManagedFile(path=str(machine.folder / "a.conf"), content=MARKED)
    machine.run(put(file))
    state = seen(machine, Path(file.path))[file.path]
    assert files.is_right(file, state)
    assert state.ours


@NEEDS_ROOT
def test_somebodys_file_is_kept_for_good_with_its_mode_and_owner(machine: Machine) -> None:
    path = machine.folder / "a.conf"
    path.write_text("old")
    path.chmod(0o640)
    os.chown(path, 12, 34)
    for text in (f"# {files.MARK} once\n", f"# {files.MARK} twice\n"):
        machine.run(put(ManagedFile(path=str(path), content=text)))
    kept = Path(f"{machine.state}/previous{path}.original")
    about = kept.stat()
    assert Path(f"{machine.state}/previous{path}").read_text() == f"# {files.MARK} once\n"
    assert path.read_text() == f"# {files.MARK} twice\n"
    assert kept.read_text() == "old"
    assert (stat.S_IMODE(about.st_mode), about.st_uid, about.st_gid) == (0o640, 12, 34)


def test_content_that_does_not_match_its_digest_is_not_put(machine: Machine) -> None:
    path = machine.folder / "a.conf"
    path.write_text("old")
    script = put(ManagedFile(path=str(path), content="new"))
    torn = Script(script.reveal().replace("'new'", "'ne'"))
    assert machine.run(torn) == f"{path} could not be written\nstatus 1\n".encode()
    assert path.read_text() == "old"
    assert not list(machine.folder.glob(files.TEMPORARY))


@pytest.mark.parametrize("name", ["symlink", "dangling", "directory", "fifo", "parent"])
def test_what_became_no_plain_file_since_the_plan_is_refused(machine: Machine, name: str) -> None:
    folder = machine.folder / "targets"
    folder.mkdir()
    path = odd_targets(folder)[name]
    before = hashes(folder)
    output = machine.run(put(ManagedFile(path=str(path), content="x")))
    assert output.endswith(b"status 1\n")
    assert hashes(folder) == before


def test_nothing_is_made_behind_a_link_in_the_path(machine: Machine) -> None:
    victim = machine.folder / "victim"
    victim.mkdir()
    (machine.folder / "link").symlink_to(victim)
    path = machine.folder / "link" / "new" / "folder" / "a.conf"
    output = machine.run(put(ManagedFile(path=str(path), content="x")))
    assert output.endswith(b"status 1\n")
    assert not list(victim.iterdir())


def test_a_name_of_a_temporary_file_that_is_taken_is_not_followed(machine: Machine) -> None:
    victim = machine.folder / "victim"
    victim.write_text("victim")
    (machine.folder / ".nodeprep-r1.tmp").symlink_to(victim)
    path = machine.folder / "a.conf"
    output = machine.run(put(ManagedFile(path=str(path), content="x")))
    assert output.endswith(b"status 1\n")
    assert victim.read_text() == "victim"
    assert not path.exists()


def test_a_full_disk_leaves_the_old_file_and_no_other(machine: Machine) -> None:
    path = machine.folder / "a.conf"
    path.write_text("old")
    script = put(ManagedFile(path=str(path), content="x" * 8192))
    limited = Script("trap '' XFSZ; ulimit -f 1\n") + script.reveal()
    assert machine.run(limited).endswith(b"status 1\n")
    assert path.read_text() == "old"
    assert not list(machine.folder.glob(files.TEMPORARY))


@NEEDS_ROOT
def test_file_and_folder_are_on_the_disk_before_and_after_the_rename(tmp_path: Path) -> None:
    names = ("mkdir", "sha256sum", "chmod", "chown", "mv", "cp")
    path = programs(tmp_path / "bin", names)
    log = tmp_path / "log"
    for name in ("sync", "mv"):
        told = tmp_path / "bin" / name
        told.unlink(missing_ok=True)
        told.write_text(f'#!/bin/sh\necho {name} "$@" >>{log}\nPATH={PATH} exec {name} "$@"\n')
        told.chmod(0o755)
    file = ManagedFile(path=str(tmp_path / "etc" / "a.conf"), content="x")
    Machine(folder=tmp_path, path=path).run(put(file))
    temp = f"{tmp_path}/etc/.nodeprep-r1.tmp"
    assert log.read_text().splitlines() == [
        f"sync {temp}",
        f"mv -f -- {temp} {file.path}",
        f"sync {tmp_path}/etc",
    ]


@NEEDS_ROOT
def test_half_a_file_is_for_root_alone_whatever_its_mode_will_be(tmp_path: Path) -> None:
    names = ("mkdir", "sha256sum", "chown", "sync", "mv", "cp")
    path = programs(tmp_path / "bin", names)
    seen_mode, chmod = tmp_path / "mode", tmp_path / "bin" / "chmod"
    chmod.write_text(f'#!/bin/sh\nPATH={PATH}; stat -c %a "$2" >{seen_mode}; chmod "$@"\n')
    chmod.chmod(0o755)
    file = ManagedFile(path=str(tmp_path / "etc" / "a.conf"), content="x", mode=0o644)
    script = Script("umask 000\n") + put(file)
    assert Machine(folder=tmp_path, path=path).run(script) == b"status 0\n"
    assert seen_mode.read_text() == "600\n"


def test_the_change_of_a_file_is_one_shell_word_for_each_of_its_parts() -> None:
    change = files.change("topic", FILE, FileState(path=FILE.path), adopt=False)
    assert isinstance(change, Change)
    assert str(change.action) == f"put /etc/a.conf 0644 {FILE.digest} '{MARKED}'"
    assert join([change.action], "") == change.action


@NEEDS_ROOT
def test_file_and_folders_that_are_made_get_the_label_that_the_policy_has(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    restorecon = Path(programs(tmp_path / "bin", ("cat",))) / "restorecon"
    log = tmp_path / "log"
    restorecon.write_text(f'#!/bin/sh\necho "$@" >>{log}\n')
    restorecon.chmod(0o755)
    file = ManagedFile(path=f"{tmp_path}/etc/new/conf.d/a.conf", content="x")
    machine = Machine(folder=tmp_path, path=f"{tmp_path}/bin:{PATH}")
    machine.run(put(file))
    machine.run(put(file))
    folder = f"{tmp_path}/etc/new"
    first = [f"{folder}/conf.d", folder, file.path]
    assert log.read_text().splitlines() == [*first, file.path]
