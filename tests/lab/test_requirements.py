"""Where a lab cannot run, everything that is missing is said at once."""

import socket
from pathlib import Path

import pytest

from nodeprep.errors import LabError, UsageError
from nodeprep.lab import requirements
from nodeprep.lab.settings import NODE_PORT, Settings, default_cache, default_folder


def settings(tmp_path: Path, **wishes: object) -> Settings:
    fields = {"folder": tmp_path / "lab", "cache": tmp_path / "cache", "network": "127.77.7"}
    return Settings(**(fields | wishes))  # type: ignore[arg-type]


def test_programs_become_packages_each_named_once() -> None:
    assert requirements.missing_packages(requirements.PROGRAMS, lambda _: None) == (
        "apt-utils",
        "e2fsprogs",
        "mmdebstrap",
        "openssh-client",
        "qemu-system-x86",
        "qemu-utils",
        "tar",
    )


def test_what_is_there_is_not_asked_for() -> None:
    def look(program: str) -> str | None:
        return None if program == "mmdebstrap" else f"/usr/bin/{program}"

    assert requirements.missing_packages(requirements.PROGRAMS, look) == ("mmdebstrap",)


def test_all_problems_come_at_once_with_the_line_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "find", lambda _: None)
    monkeypatch.setattr(requirements, "available_memory", lambda _: 0)
    with pytest.raises(LabError) as caught:
        requirements.check(settings(tmp_path))
    assert "not installed: apt-utils" in caught.value.message
    assert "this needs Debian" in caught.value.message
    assert "too little memory for 3 nodes: 1662 MiB wanted, 0 MiB free" in caught.value.message
    assert caught.value.hint.startswith("apt-get install apt-utils e2fsprogs mmdebstrap")


@pytest.mark.parametrize("wish", ["kube_proxy", "cluster"])
def test_what_is_built_from_source_needs_what_unpacks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wish: str
) -> None:
    monkeypatch.setattr(requirements, "find", lambda _: None)
    for wishes, needed in (({}, False), ({wish: True}, True)):
        with pytest.raises(LabError) as caught:
            requirements.check(settings(tmp_path, **wishes))
        assert ("dpkg-dev" in caught.value.hint) == needed


@pytest.mark.parametrize(
    ("kinds", "needed"), [(("apt",), False), (("dnf",), True), (("apt", "zypper"), True)]
)
def test_only_kinds_with_rpm_need_what_makes_its_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, ...], *, needed: bool
) -> None:
    monkeypatch.setattr(requirements, "find", lambda _: None)
    with pytest.raises(LabError) as caught:
        requirements.check(settings(tmp_path, kinds=kinds))
    packages = caught.value.hint.split()
    assert ("rpm" in packages, "createrepo-c" in packages) == (needed, needed)


def test_each_kind_is_an_image_that_needs_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = type("Usage", (), {"free": 0})
    monkeypatch.setattr("shutil.disk_usage", lambda _: nothing)
    (tmp_path / "cache" / "image-apt-0123").mkdir(parents=True)
    with pytest.raises(LabError, match="for what is built once: 6144 MiB wanted"):
        requirements.check(settings(tmp_path, kinds=("apt", "dnf", "zypper")))


def test_a_control_plane_needs_memory_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "available_memory", lambda _: 0)
    with pytest.raises(LabError, match="for 1 nodes and the control plane: 954 MiB wanted"):
        requirements.check(settings(tmp_path, nodes=1, cluster=True))


def test_memory_is_read_in_bytes() -> None:
    assert requirements.available_memory("MemTotal: 9 kB\nMemAvailable:   2 kB\n") == 2048
    assert requirements.available_memory("") == 0


def test_an_address_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.77.7.12", NODE_PORT)):
        (problem,) = requirements.taken(settings(tmp_path, nodes=2))
    assert problem.startswith("127.77.7.12:2222 is taken")
    assert requirements.taken(settings(tmp_path, nodes=2)) == []


@pytest.mark.parametrize(
    "wish",
    [
        {"nodes": 0},
        {"nodes": 201},
        {"memory": 64},
        {"network": "10.0.0"},
        {"network": "127.77"},
        {"network": "127.77.0.1"},
        {"network": "127.77.0,guestfwd=x"},
        {"kinds": ("pacman",)},
        {"kinds": ("",)},
        {"kinds": ()},
        {"kinds": ("apt", "dnf"), "nodes": 1},
    ],
)
def test_a_lab_that_cannot_be_is_refused(tmp_path: Path, wish: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        settings(tmp_path, **wish)


def test_nodes_count_from_eleven(tmp_path: Path) -> None:
    assert settings(tmp_path, nodes=2).addresses == ("127.77.7.11", "127.77.7.12")


def test_kinds_are_dealt_out_to_the_nodes_in_turn(tmp_path: Path) -> None:
    assert settings(tmp_path, nodes=3).kind_of_each == ("apt", "apt", "apt")
    mixed = settings(tmp_path, nodes=5, kinds=("apt", "dnf", "zypper"))
    assert mixed.kind_of_each == ("apt", "dnf", "zypper", "apt", "dnf")


def test_an_unknown_kind_is_answered_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'pacman'") as caught:
        settings(tmp_path, kinds=("apt", "pacman"))
    assert caught.value.hint == "--kinds apt,dnf,zypper"


def test_folders_follow_the_xdg_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", "/home/me")
    assert default_folder() == Path("/state/nodeprep/lab")
    assert default_cache() == Path("/home/me/.cache/nodeprep/lab")
